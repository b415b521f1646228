//! A table: its columns and keys, and what keeps its rows from being undone exactly.

use std::sync::Arc;

use atone_sql::Charset;
use atone_undo::{Column, Kind, Table, UniqueKey, quote_identifier};

use crate::column_default::ColumnDefault;
use crate::foreign_key::References;
use crate::names::TableId;
use crate::rights::{RESTORING_RIGHTS, Rights};
use crate::rows::{ColumnRow, IndexRow, TableRow};
use crate::trigger::Trigger;

/// What `EXTRA` shows of a column that the server computes.
const GENERATED: [&str; 4] = ["VIRTUAL GENERATED", "STORED GENERATED", "PERSISTENT", "INVISIBLE ROW"];

/// A table, with what a statement's capture has to know of it.
#[derive(Debug)]
pub struct TableInfo {
    /// Columns and keys.
    pub table: Arc<Table>,
    /// It is a view, not a table.
    pub is_view: bool,
    /// Why no statement on this table can be undone exactly.
    pub refuse_any: Option<String>,
    /// What must still hold when a branch that has written the table commits.
    pub facts: Facts,
    /// The foreign keys that point at it.
    pub references: References,
    /// The columns that are part of any index, as indices into its columns. A foreign key can point only at these.
    pub indexed: Vec<usize>,
    /// The columns that an UPDATE of other columns may change: generated ones, those with ON UPDATE, and those that a
    /// trigger sets.
    pub implied: Vec<usize>,
    /// An UPDATE may change the key by itself: a TIMESTAMP or DATETIME with ON UPDATE is part of it.
    pub key_follows_update: bool,
    /// The default of each column.
    pub defaults: Vec<ColumnDefault>,
    /// The columns that an INSERT without a column list leaves out: invisible ones.
    pub hidden: Vec<usize>,
}

/// What only the service account can verify: the session itself sees column definitions only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `SHOW CREATE TABLE`, without the next number of its AUTO_INCREMENT: columns, indexes, engine, checks,
    /// partitions.
    pub definition: String,
    /// The triggers that the account sees, in the order in which they fire.
    pub triggers: Vec<Trigger>,
    /// A privilege without which the service account does not see all of the table, or could not restore its rows.
    pub lacking: Option<&'static str>,
}

impl Facts {
    /// The facts of a table that an account with these rights sees.
    pub fn new(
        definition: String,
        triggers: Vec<Trigger>,
        rights: &Rights,
        (schema, name): TableId<'_>,
    ) -> Facts {
        let lacks = |right: &&str| !rights.on_table(right, schema, name);
        let lacking = RESTORING_RIGHTS.into_iter().chain(["TRIGGER"]).find(lacks);
        Facts { definition, triggers, lacking }
    }

    /// What differs in the present facts, as the beginning of a phrase that ends with the table's name.
    pub fn difference(&self, now: &Facts) -> Option<&'static str> {
        if now.lacking != self.lacking {
            Some("what the service account may see of the table")
        } else if now.definition != self.definition {
            Some("the table")
        } else if now.triggers != self.triggers {
            Some("a trigger of the table")
        } else {
            None
        }
    }
}

impl TableInfo {
    /// Puts a table together from the rows that a server shows of it. Columns and index parts are in their order; the
    /// foreign keys that point at it are left empty.
    pub fn assemble(
        row: TableRow,
        facts: Facts,
        columns: Vec<ColumnRow>,
        indexes: Vec<IndexRow>,
        mariadb: bool,
    ) -> TableInfo {
        let mut refuse_any = row.refusal();
        let is_view = row.is_view();
        let TableRow { schema, name, .. } = row;
        let mut parsed = Vec::with_capacity(columns.len());
        let mut defaults = Vec::with_capacity(columns.len());
        let mut hidden = Vec::new();
        let mut follows_update = Vec::with_capacity(columns.len());
        for (at, row) in columns.into_iter().enumerate() {
            let extra = row.extra.to_ascii_uppercase();
            let nullable = row.is_nullable == "YES";
            follows_update.push(extra.contains("ON UPDATE"));
            if extra.contains("INVISIBLE") {
                hidden.push(at);
            }
            defaults.push(ColumnDefault::parse(row.default.as_deref(), &extra, nullable, mariadb));
            let kind = Kind::from_data_type(&row.data_type, &row.column_type).unwrap_or_else(|| {
                refuse_any =
                    Some(format!("column {} of {schema}.{name} has the type {}", row.name, row.column_type));
                Kind::Other
            });
            parsed.push(Column {
                name: row.name,
                kind,
                column_type: row.column_type,
                charset: row.charset,
                collation: row.collation,
                nullable,
                generated: GENERATED.iter().any(|generated| extra.contains(generated)),
                auto_increment: extra.contains("AUTO_INCREMENT"),
            });
        }
        let indexed = indexed(&parsed, &indexes);
        let implied = implied(&parsed, &follows_update, &facts.triggers);
        let unique = indexes.into_iter().filter(|part| !part.non_unique).collect();
        let keys = unique_keys(&parsed, &follows_update, unique).unwrap_or_else(|why| {
            refuse_any.get_or_insert(format!("{schema}.{name} {why}"));
            Vec::new()
        });
        if refuse_any.is_none() && facts.definition.contains("WITHOUT OVERLAPS") {
            refuse_any = Some(format!("{schema}.{name} has a unique key WITHOUT OVERLAPS"));
        }
        if refuse_any.is_none()
            && let Some(right) = facts.lacking
        {
            refuse_any = Some(format!("the service account lacks the {right} privilege on {schema}.{name}"));
        }
        let key_follows_update =
            keys.first().is_some_and(|key| key.columns.iter().any(|&c| follows_update[c]));
        TableInfo {
            table: Arc::new(Table { schema, name, columns: parsed, keys }),
            is_view,
            refuse_any,
            facts,
            references: References::default(),
            indexed,
            implied,
            key_follows_update,
            defaults,
            hidden,
        }
    }

    /// The key, where a statement may name it in an index hint. The servers refuse a hint with a key that optimizers
    /// ignore (MySQL's INVISIBLE, MariaDB's IGNORED), and some names do not exist in the session's charset.
    pub fn usable<'a>(&self, key: &'a UniqueKey, charset: Charset) -> Option<&'a UniqueKey> {
        if !charset.can_encode(&key.name) {
            return None;
        }
        let name = format!("KEY {} (", quote_identifier(&key.name));
        let line = self.facts.definition.lines().find(|line| line.contains(&name));
        let hidden = line.is_some_and(|line| line.contains("INVISIBLE") || line.contains("IGNORED"));
        (!hidden).then_some(key)
    }
}

/// The columns that are part of any index.
fn indexed(columns: &[Column], indexes: &[IndexRow]) -> Vec<usize> {
    let place = |name: &String| columns.iter().position(|c| c.name == *name);
    let mut indexed: Vec<usize> = indexes.iter().filter_map(|part| place(part.column.as_ref()?)).collect();
    indexed.sort_unstable();
    indexed.dedup();
    indexed
}

/// The columns that an UPDATE of other columns may change.
fn implied(columns: &[Column], follows_update: &[bool], triggers: &[Trigger]) -> Vec<usize> {
    let on_update = triggers.iter().filter(|t| t.event == "UPDATE");
    let set: Vec<&String> = on_update.flat_map(|t| t.effect.iter().flat_map(|e| &e.sets)).collect();
    let is_set = |c: &Column| set.iter().any(|set| set.eq_ignore_ascii_case(&c.name));
    let is_implied = |&c: &usize| columns[c].generated || follows_update[c] || is_set(&columns[c]);
    (0..columns.len()).filter(is_implied).collect()
}

/// The unique keys, by the parts of unique indexes; the key that identifies rows comes first.
///
/// # Errors
/// Why there is no such key, as the end of a sentence about the table.
fn unique_keys(
    columns: &[Column],
    follows_update: &[bool],
    parts: Vec<IndexRow>,
) -> Result<Vec<UniqueKey>, String> {
    let mut keys: Vec<UniqueKey> = Vec::new();
    for IndexRow { index, column, prefix, .. } in parts {
        let at = column.as_ref().and_then(|name| columns.iter().position(|c| c.name == *name));
        let Some(at) = at else {
            return Err(format!("has the unique key {index} over an expression"));
        };
        let prefix = prefix.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        match keys.last_mut() {
            Some(key) if key.name == index => {
                key.columns.push(at);
                key.prefixes.push(prefix);
            }
            _ => keys.push(UniqueKey { name: index, columns: vec![at], prefixes: vec![prefix] }),
        }
    }
    let identifies = |key: &UniqueKey| {
        key.prefixes.iter().all(Option::is_none)
            && key.columns.iter().all(|&c| !columns[c].nullable && !columns[c].generated)
    };
    let first = keys
        .iter()
        .position(|k| k.name == "PRIMARY" && identifies(k))
        .or_else(|| {
            // If possible, a key that the server does not change by itself
            let stays = |key: &UniqueKey| !key.columns.iter().any(|&c| follows_update[c]);
            keys.iter().position(|k| identifies(k) && stays(k)).or_else(|| keys.iter().position(identifies))
        })
        .ok_or("has no primary key and no NOT NULL unique key over whole columns")?;
    keys.swap(0, first);
    let head = keys.remove(0);
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    keys.insert(0, head);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::BASE_TABLE;
    use crate::samples;

    fn column(name: &str, nullable: bool) -> Column {
        Column { nullable, ..samples::column(name) }
    }

    fn part(index: &str, column: Option<&str>, prefix: Option<u64>) -> IndexRow {
        IndexRow { index: index.into(), column: column.map(str::to_owned), prefix, non_unique: false }
    }

    fn rows(list: &[(&str, &str)]) -> Vec<IndexRow> {
        list.iter().map(|(index, column)| part(index, Some(column), None)).collect()
    }

    #[test]
    fn the_primary_key_comes_first_else_a_not_null_unique_one() {
        let columns = [column("a", false), column("b", false), column("c", true)];
        let unique_keys = |columns: &[Column], rows| super::unique_keys(columns, &[false; 3], rows);
        let keys = unique_keys(&columns, rows(&[("A", "c"), ("PRIMARY", "a"), ("PRIMARY", "b"), ("Z", "b")]))
            .unwrap();
        assert_eq!(keys.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["PRIMARY", "A", "Z"]);
        assert_eq!(keys[0].columns, [0, 1]);
        let keys = unique_keys(&columns, rows(&[("A", "c"), ("Z", "b")])).unwrap();
        assert_eq!(keys[0].name, "Z");
        let keys =
            super::unique_keys(&columns, &[true, false, false], rows(&[("A", "a"), ("Z", "b")])).unwrap();
        assert_eq!(keys[0].name, "Z");
        let keys = super::unique_keys(&columns, &[true, false, false], rows(&[("A", "a")])).unwrap();
        assert_eq!(keys[0].name, "A");
        assert!(unique_keys(&columns, rows(&[("A", "c")])).is_err());
        assert!(unique_keys(&columns, vec![part("A", Some("a"), Some(3))]).is_err());
        assert!(unique_keys(&columns, vec![part("A", None, None)]).is_err());
    }

    fn row(engine: &str, table_type: &str) -> TableRow {
        TableRow {
            schema: "s".into(),
            name: "t".into(),
            engine: Some(engine.into()),
            table_type: table_type.into(),
        }
    }

    fn column_row(name: &str, data_type: &str, extra: &str) -> ColumnRow {
        ColumnRow {
            name: name.into(),
            data_type: data_type.into(),
            column_type: data_type.into(),
            charset: None,
            collation: None,
            is_nullable: "NO".into(),
            extra: extra.into(),
            default: None,
        }
    }

    fn assembled(row: TableRow, columns: Vec<ColumnRow>, facts: Facts) -> TableInfo {
        TableInfo::assemble(row, facts, columns, vec![part("PRIMARY", Some("id"), None)], false)
    }

    #[test]
    fn columns_that_the_server_gives_values_itself() {
        let columns = vec![
            column_row("id", "int", "auto_increment"),
            column_row("g", "int", "VIRTUAL GENERATED"),
            column_row("at", "timestamp", "on update CURRENT_TIMESTAMP"),
            column_row("x", "int", "INVISIBLE"),
        ];
        let info = assembled(row("InnoDB", BASE_TABLE), columns, Facts::default());
        assert_eq!((info.refuse_any.as_deref(), info.is_view), (None, false));
        assert!(info.table.columns[0].auto_increment && info.table.columns[1].generated);
        assert_eq!((info.implied, info.hidden, info.indexed), (vec![1, 2], vec![3], vec![0]));
        assert!(!info.key_follows_update);
    }

    #[test]
    fn what_no_statement_can_be_undone_on() {
        let why = |row, data_type, facts| {
            assembled(row, vec![column_row("id", data_type, "")], facts).refuse_any.unwrap_or_default()
        };
        let base = || row("innodb", BASE_TABLE);
        assert_eq!(why(base(), "int", Facts::default()), "");
        assert!(why(row("", "VIEW"), "int", Facts::default()).contains("is a view now"));
        assert!(why(row("InnoDB", "SEQUENCE"), "int", Facts::default()).contains("(SEQUENCE)"));
        assert!(why(row("MyISAM", BASE_TABLE), "int", Facts::default()).contains("of engine MyISAM"));
        assert!(why(base(), "unheard_of", Facts::default()).contains("has the type unheard_of"));
        let lacking = Facts::new(String::new(), Vec::new(), &Rights::default(), ("s", "t"));
        assert!(why(base(), "int", lacking).contains("lacks the SELECT privilege"));
        let overlaps =
            Facts { definition: "PRIMARY KEY (`id`,`p` WITHOUT OVERLAPS)".into(), ..Facts::default() };
        assert!(why(base(), "int", overlaps).contains("WITHOUT OVERLAPS"));
    }
}
