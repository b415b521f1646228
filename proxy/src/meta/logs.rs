//! The tables that triggers add rows to, where it can be told which rows these are: each gets a number of the table's
//! AUTO_INCREMENT, from one on that is read before the statement.

use atone_sql::{Given, TriggerInsert};
use atone_undo::quote_identifier;
use mysql_async::Conn;

use super::triggers;
use crate::rights::Rights;
use crate::typed::Typed;

/// The largest `auto_increment_increment`: so far below the largest number of a column's type lies the last one that is
/// generated.
const MAX_INCREMENT: i128 = 65_535;

/// A table to which a trigger adds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The column that is its primary key, and is generated for each row that a trigger adds.
    pub column: String,
    /// The largest number of that column's type.
    largest: i128,
}

impl LogTable {
    /// The table's name with its schema, quoted.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// A number below which none is generated from now on, as long as nobody can alter the table.
    ///
    /// # Errors
    /// What the server says.
    pub async fn first_number(&self, conn: &mut Conn) -> Result<i128, mysql_async::Error> {
        let shown: Option<(String, String)> =
            conn.first_text_row(format!("SHOW CREATE TABLE {}", self.quoted())).await?;
        // Without one the counter is where it begins
        let next = shown.and_then(|(_, definition)| next_number(&definition)).unwrap_or(1);
        // At the end of the type's range a number is cut down to the last one that there is
        Ok(next.min(self.largest - MAX_INCREMENT))
    }
}

/// The table option `AUTO_INCREMENT=7` of a definition: behind the parenthesis that holds the columns, and not in a text.
fn next_number(definition: &str) -> Option<i128> {
    const NEXT: &str = " AUTO_INCREMENT=";
    let bytes = definition.as_bytes();
    let (mut depth, mut columns_end, mut at) = (0usize, false, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'`' | b'\'' | b'"' => {
                at += 1;
                while let Some(&inner) = bytes.get(at)
                    && inner != byte
                {
                    at += if inner == b'\\' && byte != b'`' { 2 } else { 1 };
                }
            }
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                columns_end |= depth == 0;
            }
            b' ' if columns_end && depth == 0 => {
                if let Some(number) = definition.get(at..).and_then(|rest| rest.strip_prefix(NEXT)) {
                    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
                    return number.get(..digits)?.parse().ok();
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The largest number of an integer type, as `COLUMN_TYPE` tells it.
pub(super) fn largest(column_type: &str) -> Option<i128> {
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

/// A table to which a trigger adds rows, as it is now.
struct Looked {
    table: LogTable,
    /// Where its generated column is among those that are visible.
    place: Option<usize>,
}

/// What triggers of one table write, each table looked at once.
pub(super) struct Logs<'a> {
    schema: &'a str,
    name: &'a str,
    rights: &'a Rights,
    mariadb: bool,
    looked: Vec<((String, String), Result<Looked, String>)>,
}

impl<'a> Logs<'a> {
    /// Of the triggers of this table.
    pub(super) fn new(schema: &'a str, name: &'a str, rights: &'a Rights, mariadb: bool) -> Logs<'a> {
        Logs { schema, name, rights, mariadb, looked: Vec::new() }
    }

    /// The table that an INSERT of a trigger writes; the inner error is why it cannot be told which rows that adds.
    pub(super) async fn table(
        &mut self,
        conn: &mut Conn,
        insert: &TriggerInsert,
        sql_mode: &str,
    ) -> Result<Result<LogTable, String>, mysql_async::Error> {
        let id = (insert.schema.clone().unwrap_or_else(|| self.schema.to_owned()), insert.table.clone());
        let at = match self.looked.iter().position(|(known, _)| *known == id) {
            Some(at) => at,
            None => {
                let looked = look(conn, &id.0, &id.1, self.rights, self.mariadb).await?;
                self.looked.push((id, looked));
                self.looked.len() - 1
            }
        };
        let written = format!("{}.{}", insert.schema.as_deref().unwrap_or(self.schema), insert.table);
        let looked = match self.looked.get(at) {
            Some((_, Ok(looked))) => looked,
            Some((_, Err(why))) => return Ok(Err(format!("it writes {written}, which {why}"))),
            None => return Ok(Err("what it writes is not known".into())),
        };
        let table = &looked.table;
        if table.schema == self.schema && table.name == self.name {
            return Ok(Err("it writes its own table".into()));
        }
        let generated = match insert.gives(&table.column, looked.place) {
            Given::Nothing => true,
            // It stands for 0
            Given::Default => !sql_mode.to_ascii_uppercase().contains("NO_AUTO_VALUE_ON_ZERO"),
            Given::Value => false,
        };
        Ok(if generated {
            Ok(table.clone())
        } else {
            Err(format!("it writes {written} and gives its column {}", table.column))
        })
    }
}

type Head = (String, String, Option<String>, String, Option<String>);

/// Looks at a table that a trigger writes; the inner error is why it cannot be told which rows that adds.
async fn look(
    conn: &mut Conn,
    schema: &str,
    name: &str,
    rights: &Rights,
    mariadb: bool,
) -> Result<Result<Looked, String>, mysql_async::Error> {
    let head: Option<Head> = conn
        .first_row(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE, CREATE_OPTIONS FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (schema, name),
        )
        .await?;
    let Some((schema, name, engine, table_type, options)) = head else {
        return Ok(Err("the service account does not see".into()));
    };
    if table_type != "BASE TABLE" || !engine.is_some_and(|e| e.eq_ignore_ascii_case("InnoDB")) {
        return Ok(Err("is no base table of InnoDB".into()));
    }
    if options.is_some_and(|options| options.to_ascii_lowercase().contains("partitioned")) {
        return Ok(Err("is partitioned".into()));
    }
    if name.eq_ignore_ascii_case(atone_undo::UNDO_LOG_TABLE) {
        return Ok(Err("is written by Atone only".into()));
    }
    let id = (schema.as_str(), name.as_str());
    let unique: Vec<(String, Option<String>)> = conn
        .rows(
            "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0",
            id,
        )
        .await?;
    let key = match unique.as_slice() {
        [(index, Some(column))] if index == "PRIMARY" => column,
        // The rows that the rollback's own triggers add must not collide with others
        _ => return Ok(Err("has other unique keys than a primary key of one column".into())),
    };
    let columns: Vec<(String, String, String)> = conn
        .rows(
            "SELECT COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            id,
        )
        .await?;
    let column = columns.iter().find(|(column, _, _)| column == key);
    let Some((column, column_type, extra)) = column else {
        return Ok(Err("has no primary key that is seen".into()));
    };
    let (true, Some(largest)) = (extra.to_ascii_uppercase().contains("AUTO_INCREMENT"), largest(column_type))
    else {
        return Ok(Err(format!(
            "has the primary key {column}, which is no AUTO_INCREMENT of an integer type"
        )));
    };
    let mut visible =
        columns.iter().filter(|(_, _, extra)| !extra.to_ascii_uppercase().contains("INVISIBLE"));
    let place = visible.position(|(visible, _, _)| visible == column);
    if !rights.on_table("SELECT", &schema, &name) {
        return Ok(Err("the service account may not SELECT from".into()));
    }
    if !rights.on_table("TRIGGER", &schema, &name) {
        return Ok(Err("may have triggers: the service account lacks the TRIGGER privilege on it".into()));
    }
    let own = triggers::bodies(conn, &schema, &name, mariadb).await?;
    if let Some(trigger) = own.iter().find(|trigger| !trigger.is_quiet()) {
        return Ok(Err(format!("has the trigger {} itself", trigger.name)));
    }
    let table = LogTable { schema, name, column: column.clone(), largest };
    Ok(Ok(Looked { table, place }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_an_option_of_the_table() {
        let head = "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT COMMENT 'it''s ) AUTO_INCREMENT=9',\n  \
                    `a) ENGINE=InnoDB AUTO_INCREMENT=8 ``` decimal(5,2) DEFAULT '1.00',\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB";
        assert_eq!(next_number(head), None);
        let options = " DEFAULT CHARSET=utf8mb4 COMMENT='\\' AUTO_INCREMENT=7'";
        assert_eq!(next_number(&format!("{head}{options}")), None);
        assert_eq!(next_number(&format!("{head} AUTO_INCREMENT=17{options}")), Some(17));
        assert_eq!(
            next_number(&format!("{head} AUTO_INCREMENT=18446744073709551615")),
            Some(i128::from(u64::MAX))
        );
    }

    #[test]
    fn the_range_of_a_type() {
        assert_eq!(largest("tinyint(4)"), Some(127));
        assert_eq!(largest("int unsigned"), Some(4_294_967_295));
        assert_eq!(largest("bigint(20) unsigned zerofill"), Some(i128::from(u64::MAX)));
        assert_eq!(largest("float"), None);
    }
}
