//! Audit tables: tables to which triggers add rows that can be found.
//!
//! Each such row gets a number of the table's AUTO_INCREMENT, from one on that is read before the statement.

use atone_sql::{ColumnInput, TriggerInsert};
use atone_undo::{UNDO_LOG_TABLE, quote_identifier};

use crate::definition::next_number;
use crate::names::TableId;
use crate::rights::Rights;
use crate::rows::{IndexRow, TableRow};
use crate::trigger::Trigger;

/// The largest `auto_increment_increment`. The last generated number lies at most so far below the largest number of
/// the column's type.
const MAX_INCREMENT: i128 = 65_535;

/// A table to which a trigger adds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its primary key: one column, whose value is generated for each row that a trigger adds.
    pub column: String,
    /// The largest number of that column's type.
    largest: i128,
}

impl AuditTable {
    /// The table's name with its schema, quoted.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// A number below which none is generated any more, by the table's `SHOW CREATE TABLE`. It holds as long as nobody
    /// can alter the table.
    pub fn first_number(&self, definition: Option<&str>) -> i128 {
        // A definition without the option is that of a counter at its beginning
        let next = definition.and_then(next_number).unwrap_or(1);
        // At the end of the type's range the server cuts numbers down to the last one
        next.min(self.largest - MAX_INCREMENT)
    }
}

/// The largest number of an integer type, as `COLUMN_TYPE` shows it.
pub(crate) fn largest(column_type: &str) -> Option<i128> {
    let name = column_type.split([' ', '(']).next().unwrap_or_default();
    let bits = match name.to_ascii_lowercase().as_str() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" | "integer" => 32,
        "bigint" => 64,
        _ => return None,
    };
    let unsigned = column_type.to_ascii_lowercase().contains("unsigned");
    Some((1i128 << if unsigned { bits } else { bits - 1 }) - 1)
}

/// A table that a trigger writes.
#[derive(Debug)]
pub struct WrittenTable {
    table: AuditTable,
    /// The place of its generated column among those that are visible.
    place: Option<usize>,
}

/// A column of a table that a trigger writes.
#[derive(Clone, Debug)]
pub struct WrittenColumn {
    /// `COLUMN_NAME`
    pub name: String,
    /// `COLUMN_TYPE`
    pub column_type: String,
    /// `EXTRA`
    pub extra: String,
}

/// Refusals are the end of a sentence about the table. They stand in the order in which a server is asked.
impl WrittenTable {
    /// Whether rows of a table of this kind can be found; `options` is its `CREATE_OPTIONS`.
    ///
    /// # Errors
    /// Why not.
    pub fn check_kind(row: &TableRow, options: Option<&str>) -> Result<(), String> {
        if !row.is_base_table() || !row.is_innodb() {
            return Err("is no base table of InnoDB".into());
        }
        if options.is_some_and(|options| options.to_ascii_lowercase().contains("partitioned")) {
            return Err("is partitioned".into());
        }
        if row.name.eq_ignore_ascii_case(UNDO_LOG_TABLE) {
            return Err("is written by Atone only".into());
        }
        Ok(())
    }

    /// The column that is the primary key, by the parts of the unique indexes.
    ///
    /// # Errors
    /// The table has other unique keys: rows that the rollback's own triggers add might collide there with others.
    pub fn key_column(unique: &[IndexRow]) -> Result<&str, String> {
        match unique {
            [IndexRow { index, column: Some(column), .. }] if index == "PRIMARY" => Ok(column),
            _ => Err("has other unique keys than a primary key of one column".into()),
        }
    }

    /// The table with this key, which an account with these rights sees.
    ///
    /// # Errors
    /// Why rows that a trigger adds could not be found.
    pub fn new(
        row: TableRow,
        key: &str,
        columns: &[WrittenColumn],
        rights: &Rights,
    ) -> Result<WrittenTable, String> {
        let Some(column) = columns.iter().find(|column| column.name == key) else {
            return Err("has no primary key that is seen".into());
        };
        let is_generated = column.extra.to_ascii_uppercase().contains("AUTO_INCREMENT");
        let Some(largest) = largest(&column.column_type).filter(|_| is_generated) else {
            return Err(format!("has the primary key {key}, which is no AUTO_INCREMENT of an integer type"));
        };
        let mut visible =
            columns.iter().filter(|column| !column.extra.to_ascii_uppercase().contains("INVISIBLE"));
        let place = visible.position(|visible| visible.name == key);
        let TableRow { schema, name, .. } = row;
        if !rights.on_table("SELECT", &schema, &name) {
            return Err("the service account may not SELECT from".into());
        }
        if !rights.on_table("TRIGGER", &schema, &name) {
            return Err("may have triggers: the service account lacks the TRIGGER privilege on it".into());
        }
        Ok(WrittenTable { table: AuditTable { schema, name, column: key.to_owned(), largest }, place })
    }

    /// The table's schema and name, as the server spells them.
    pub fn id(&self) -> TableId<'_> {
        (&self.table.schema, &self.table.name)
    }

    /// Whether the table's own triggers let its rows be found.
    ///
    /// # Errors
    /// One of them has an effect.
    pub fn check_triggers(self, triggers: &[Trigger]) -> Result<WrittenTable, String> {
        match triggers.iter().find(|trigger| !trigger.has_no_effect()) {
            Some(trigger) => Err(format!("has the trigger {} itself", trigger.name)),
            None => Ok(self),
        }
    }
}

/// The table to which an INSERT of a trigger adds rows. The trigger belongs to the table `owner` and runs under
/// `sql_mode`; `written` is what is known of the table that the INSERT names.
///
/// # Errors
/// Why the rows could not be found, as a sentence about the trigger.
pub fn audit_table(
    insert: &TriggerInsert,
    written: &Result<WrittenTable, String>,
    owner: TableId<'_>,
    sql_mode: &str,
) -> Result<AuditTable, String> {
    let name = format!("{}.{}", insert.schema.as_deref().unwrap_or(owner.0), insert.table);
    let written = written.as_ref().map_err(|why| format!("it writes {name}, which {why}"))?;
    if written.id() == owner {
        return Err("it writes its own table".into());
    }
    let column = &written.table.column;
    let generated = match insert.input_of(column, written.place) {
        ColumnInput::Nothing => true,
        // It stands for 0
        ColumnInput::Default => !sql_mode.to_ascii_uppercase().contains("NO_AUTO_VALUE_ON_ZERO"),
        ColumnInput::Value => false,
    };
    if !generated {
        return Err(format!("it writes {name} and gives its column {column}"));
    }
    Ok(written.table.clone())
}

#[cfg(test)]
mod tests {
    use atone_sql::{Mode, trigger_body};

    use super::*;

    #[test]
    fn the_range_of_a_type() {
        assert_eq!(largest("tinyint(4)"), Some(127));
        assert_eq!(largest("int unsigned"), Some(4_294_967_295));
        assert_eq!(largest("bigint(20) unsigned zerofill"), Some(i128::from(u64::MAX)));
        assert_eq!(largest("float"), None);
    }

    fn row(name: &str) -> TableRow {
        let (engine, table_type) = (Some("InnoDB".into()), crate::BASE_TABLE.into());
        TableRow { schema: "s".into(), name: name.into(), engine, table_type }
    }

    fn columns() -> Vec<WrittenColumn> {
        let column = |name: &str, column_type: &str, extra: &str| WrittenColumn {
            name: name.into(),
            column_type: column_type.into(),
            extra: extra.into(),
        };
        vec![column("what", "text", ""), column("id", "int(11)", "auto_increment")]
    }

    fn rights(names: &str) -> Rights {
        Rights::parse(&[format!("GRANT {names} ON *.* TO `a`@`%`")], false)
    }

    #[test]
    fn tables_whose_new_rows_can_be_found() {
        assert_eq!(WrittenTable::check_kind(&row("log"), Some("row_format=DYNAMIC")), Ok(()));
        assert!(WrittenTable::check_kind(&row("log"), Some("partitioned")).is_err());
        assert!(WrittenTable::check_kind(&row("UNDO_LOG"), None).is_err());
        let part = |index: &str, column: &str| IndexRow {
            index: index.into(),
            column: Some(column.into()),
            prefix: None,
            non_unique: false,
        };
        assert_eq!(WrittenTable::key_column(&[part("PRIMARY", "id")]), Ok("id"));
        assert!(WrittenTable::key_column(&[part("PRIMARY", "id"), part("u", "what")]).is_err());
        let new = |key, names| WrittenTable::new(row("log"), key, &columns(), &rights(names));
        assert!(new("id", "SELECT, TRIGGER").is_ok());
        assert!(new("what", "SELECT, TRIGGER").unwrap_err().contains("no AUTO_INCREMENT"));
        assert!(new("id", "SELECT").unwrap_err().contains("TRIGGER privilege"));
        assert!(new("id", "TRIGGER").unwrap_err().contains("may not SELECT"));
    }

    #[test]
    fn inserts_of_triggers_whose_rows_can_be_found() {
        let written = WrittenTable::new(row("log"), "id", &columns(), &rights("ALL PRIVILEGES"));
        let check = |body: &str, owner: &str, sql_mode: &str| {
            let body = trigger_body(body.as_bytes(), Mode::default()).unwrap();
            audit_table(&body.inserts[0], &written, ("s", owner), sql_mode)
        };
        let found = check("INSERT INTO log (what) VALUES (1)", "t", "").unwrap();
        assert_eq!((found.quoted().as_str(), found.column.as_str()), ("`s`.`log`", "id"));
        assert_eq!((found.first_number(None), found.first_number(Some(") AUTO_INCREMENT=7"))), (1, 7));
        assert!(check("INSERT INTO log (id, what) VALUES (DEFAULT, 1)", "t", "").is_ok());
        let zero = check("INSERT INTO log (id, what) VALUES (DEFAULT, 1)", "t", "NO_AUTO_VALUE_ON_ZERO");
        assert!(zero.unwrap_err().contains("gives its column id"));
        assert!(check("INSERT INTO log (id, what) VALUES (NEW.a, 1)", "t", "").is_err());
        assert!(check("INSERT INTO log VALUES (1, NEW.a)", "t", "").is_err());
        assert!(check("INSERT INTO log (what) VALUES (1)", "log", "").unwrap_err().contains("its own table"));
    }
}
