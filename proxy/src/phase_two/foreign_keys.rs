//! Foreign keys that a rollback might leave dangling.
//!
//! Compensation runs with `foreign_key_checks` off: the order of rows inside of one branch must not matter, and no CASCADE
//! may fire. What the server would have checked is checked here, once all rows are back: an outsider may have inserted a
//! child of a row that this branch had inserted, or deleted the parent of a row that it had deleted.

use std::collections::BTreeMap;

use atone_undo::{Key, RowChange, Table, TableChanges, UniqueKey, Value, quote_identifier};
use mysql_async::Conn;

use super::Failure;
use crate::typed::Typed;

/// How many keys one SELECT names.
const KEYS_PER_SELECT: usize = 500;

/// The columns on one side of a foreign key, as a table whose key they are.
struct Side {
    table: Table,
    /// The columns on the side of the record's table, as indices into its columns.
    own: Vec<usize>,
    name: String,
}

impl Side {
    /// The side of the record's table, likewise.
    fn own_side(&self, table: &Table) -> Table {
        Table {
            schema: table.schema.clone(),
            name: table.name.clone(),
            columns: self.own.iter().filter_map(|&c| table.columns.get(c).cloned()).collect(),
            keys: self.table.keys.clone(),
        }
    }
}

type UsageRow = (String, String, String, String, String);

/// Which end of a foreign key the record's table is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Parent,
    Child,
}

/// The foreign keys in which `table` is the given end, seen from it.
async fn sides(conn: &mut Conn, table: &Table, end: End) -> Result<Vec<Side>, Failure> {
    let sql = match end {
        End::Parent => {
            "SELECT CONSTRAINT_NAME, TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_COLUMN_NAME \
             FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_SCHEMA = ? AND REFERENCED_TABLE_NAME = ? \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION"
        }
        End::Child => {
            "SELECT CONSTRAINT_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME, COLUMN_NAME \
             FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             AND REFERENCED_TABLE_NAME IS NOT NULL ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION"
        }
    };
    let rows: Vec<UsageRow> = conn.rows(sql, (&table.schema, &table.name)).await?;
    let mut out: BTreeMap<(String, String, String), Side> = BTreeMap::new();
    for (name, schema, other, other_column, own_column) in rows {
        let own =
            table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(&own_column)).ok_or_else(|| {
                super::stuck(format!("foreign key {name} is over the unknown column {own_column}"))
            })?;
        let side = out.entry((schema.clone(), other.clone(), name.clone())).or_insert_with(|| Side {
            table: Table { schema, name: other, columns: Vec::new(), keys: Vec::new() },
            own: Vec::new(),
            name,
        });
        // Both ends have the same type, so that values of ours are literals of theirs
        let mut column = table.columns[own].clone();
        column.name = other_column;
        side.table.columns.push(column);
        side.own.push(own);
    }
    Ok(out
        .into_values()
        .map(|mut side| {
            let columns = (0..side.own.len()).collect();
            side.table.keys = vec![UniqueKey { name: side.name.clone(), columns, prefixes: Vec::new() }];
            side
        })
        .collect())
}

/// The values of these columns, where none is NULL.
fn values_at(columns: &[usize], values: Option<&Vec<Value>>) -> Option<Key> {
    let key: Vec<Value> = columns.iter().map(|&c| values?.get(c).cloned()).collect::<Option<_>>()?;
    (!key.contains(&Value::Null)).then_some(Key(key))
}

/// Values that `from` has and `to` has not, over all rows, each once.
fn lost(
    columns: &[usize],
    rows: &[&RowChange],
    from: fn(&RowChange) -> Option<&Vec<Value>>,
    to: fn(&RowChange) -> Option<&Vec<Value>>,
) -> Vec<Key> {
    let mut keys: Vec<Key> = rows
        .iter()
        .filter_map(|row| {
            let key = values_at(columns, from(row))?;
            (values_at(columns, to(row)).as_ref() != Some(&key)).then_some(key)
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Checks the foreign keys of a table whose `rows` have been restored: of the children that have a value which is gone
/// from the parent, or that are back, each must find a parent, as the server compares them.
pub(super) async fn check(
    conn: &mut Conn,
    changes: &TableChanges,
    rows: &[&RowChange],
) -> Result<(), Failure> {
    let table = &changes.table;
    for side in sides(conn, table, End::Parent).await? {
        let gone = lost(&side.own, rows, |r| r.after.as_ref(), |r| r.before.as_ref());
        let own = side.own_side(table);
        for chunk in gone.chunks(KEYS_PER_SELECT) {
            let orphan: Option<u8> = conn.first_text_row(orphans(&side.table, &own, chunk)).await?;
            if orphan.is_some() {
                return Err(super::stuck(format!(
                    "rows of {}.{} refer by foreign key {} to rows of {}.{} that the rollback takes away",
                    side.table.schema, side.table.name, side.name, table.schema, table.name
                )));
            }
        }
    }
    for side in sides(conn, table, End::Child).await? {
        let back = lost(&side.own, rows, |r| r.before.as_ref(), |r| r.after.as_ref());
        let own = side.own_side(table);
        for chunk in back.chunks(KEYS_PER_SELECT) {
            let orphan: Option<u8> = conn.first_text_row(orphans(&own, &side.table, chunk)).await?;
            if orphan.is_some() {
                return Err(super::stuck(format!(
                    "the rollback brings rows of {}.{} back whose parent in {}.{} (foreign key {}) is gone",
                    table.schema, table.name, side.table.schema, side.table.name, side.name
                )));
            }
        }
    }
    Ok(())
}

/// Whether rows of the child with these values have no parent. Each side is a table whose key are the columns of the
/// foreign key.
fn orphans(child: &Table, parent: &Table, values: &[Key]) -> String {
    let pairs: Vec<String> = parent
        .columns
        .iter()
        .zip(&child.columns)
        .map(|(p, c)| {
            let [of_parent, of_child] = [&p.name, &c.name].map(|name| quote_identifier(name));
            p.same(&format!("`p`.{of_parent}"), &format!("`c`.{of_child}"))
        })
        .collect();
    format!(
        "SELECT 1 FROM {} AS `c` WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS `p` WHERE {} LOCK IN SHARE MODE) \
         LIMIT 1 LOCK IN SHARE MODE",
        child.quoted(),
        child.keys_predicate("`c`", values),
        parent.quoted(),
        pairs.join(" AND ")
    )
}
