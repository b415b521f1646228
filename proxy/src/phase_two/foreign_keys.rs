//! Foreign keys that a rollback might leave dangling.
//!
//! Compensation runs with `foreign_key_checks` off: the order of rows inside of one branch must not matter, and no
//! CASCADE may fire. What the server would have checked is checked here, once all rows are back: an outsider may have
//! inserted a child of a row that this branch had inserted, or deleted the parent of a row that it had deleted. What
//! other branches of the transaction will still mend is not held against this one ([`super::target`]).

use std::collections::BTreeMap;

use atone_catalog::{Typed, group_by_place, literal, table_chunks, union_of_tables};
use atone_undo::{Key, RowChange, Table, UniqueKey, Value, quote_identifier};
use mysql_async::Conn;

use super::Failure;
use super::target::Target;

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

/// `CONSTRAINT_NAME`, the other side's schema, table and column, and the column on this side.
type UsageRow = (String, String, String, String, String);

/// The foreign keys of a table: those in which it is the parent, and those in which it is the child.
#[derive(Default)]
struct Sides {
    as_parent: Vec<UsageRow>,
    as_child: Vec<UsageRow>,
}

/// The foreign keys of tables, in their order.
async fn sides(conn: &mut Conn, tables: &[&Table], packet_bytes: usize) -> Result<Vec<Sides>, Failure> {
    let ids: Vec<(&str, &str)> = tables.iter().map(|t| (t.schema.as_str(), t.name.as_str())).collect();
    let mut out: Vec<Sides> = Vec::with_capacity(ids.len());
    for ids in table_chunks(&ids, packet_bytes) {
        let as_parent = referring(conn, ids).await?;
        let as_child = referred(conn, ids).await?;
        let both = as_parent.into_iter().zip(as_child);
        out.extend(both.map(|(as_parent, as_child)| Sides { as_parent, as_child }));
    }
    Ok(out)
}

/// The foreign keys that point at each table. To find them MariaDB looks at all tables there are, so it is asked once
/// for all.
async fn referring(conn: &mut Conn, ids: &[(&str, &str)]) -> Result<Vec<Vec<UsageRow>>, Failure> {
    let names: Vec<String> =
        ids.iter().map(|(schema, name)| format!("({}, {})", literal(schema), literal(name))).collect();
    let rows: Vec<(String, String, UsageRow)> = conn
        .text_rows::<(String, String, String, String, String, String, String)>(format!(
            "SELECT REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, CONSTRAINT_NAME, TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, \
             REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE \
             WHERE (REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME) IN ({}) \
             ORDER BY TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
            names.join(", ")
        ))
        .await?
        .into_iter()
        .map(|(schema, name, key, other_schema, other, other_column, own_column)| {
            (schema, name, (key, other_schema, other, other_column, own_column))
        })
        .collect();
    let mut out: Vec<Vec<UsageRow>> = ids.iter().map(|_| Vec::new()).collect();
    for (schema, name, row) in rows {
        let places = places(ids, &schema, &name);
        if places.is_empty() {
            return Err(super::stuck(format!(
                "foreign key {} points at {schema}.{name}, which was not asked for",
                row.0
            )));
        }
        for place in places {
            out.get_mut(place).into_iter().for_each(|of_table| of_table.push(row.clone()));
        }
    }
    Ok(out)
}

/// Which of the tables has this name: as it is spelled, else as servers compare names that do not tell upper case from
/// lower.
fn places(ids: &[(&str, &str)], schema: &str, name: &str) -> Vec<usize> {
    let all = |is: &dyn Fn(&str, &str) -> bool| -> Vec<usize> {
        let found = ids.iter().enumerate().filter(|(_, id)| is(id.0, schema) && is(id.1, name));
        found.map(|(place, _)| place).collect()
    };
    let exactly = all(&|a, b| a == b);
    if exactly.is_empty() { all(&|a, b| a.to_lowercase() == b.to_lowercase()) } else { exactly }
}

/// The foreign keys of each table that point at others.
async fn referred(conn: &mut Conn, ids: &[(&str, &str)]) -> Result<Vec<Vec<UsageRow>>, Failure> {
    let query = union_of_tables(
        ids,
        |schema, name| {
            format!(
                "CONSTRAINT_NAME AS a, REFERENCED_TABLE_SCHEMA AS b, REFERENCED_TABLE_NAME AS c, \
                 REFERENCED_COLUMN_NAME AS d, COLUMN_NAME AS e, ORDINAL_POSITION AS f \
                 FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name} \
                 AND REFERENCED_TABLE_NAME IS NOT NULL"
            )
        },
        "place, a, f",
    );
    let rows: Vec<(usize, String, String, String, String, String, u64)> = conn.text_rows(query).await?;
    Ok(group_by_place(ids.len(), rows.into_iter().map(|(place, a, b, c, d, e, _)| (place, (a, b, c, d, e))))?)
}

/// These foreign keys, seen from their table.
fn seen_from(table: &Table, rows: Vec<UsageRow>) -> Result<Vec<Side>, Failure> {
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

/// Checks the foreign keys of tables whose rows have been restored.
pub(super) async fn check(
    conn: &mut Conn,
    restored: &[(&Table, &[&RowChange])],
    mut target: Target<'_>,
    packet_bytes: usize,
) -> Result<(), Failure> {
    let tables: Vec<&Table> = restored.iter().map(|(table, _)| *table).collect();
    let sides = sides(conn, &tables, packet_bytes).await?;
    for ((table, rows), sides) in restored.iter().zip(sides) {
        check_table(conn, table, rows, sides, &mut target).await?;
    }
    Ok(())
}

/// Of the children that have a value which is gone from the parent, or that are back, each must find a parent, as the
/// server compares them.
async fn check_table(
    conn: &mut Conn,
    table: &Table,
    rows: &[&RowChange],
    sides: Sides,
    target: &mut Target<'_>,
) -> Result<(), Failure> {
    for side in seen_from(table, sides.as_parent)? {
        let gone = lost(&side.own, rows, |r| r.after.as_ref(), |r| r.before.as_ref());
        let own = side.own_side(table);
        for chunk in gone.chunks(KEYS_PER_SELECT) {
            if dangles(conn, (&side.table, &own), chunk, target).await? {
                return Err(super::stuck(format!(
                    "rows of {}.{} refer by foreign key {} to rows of {}.{} that the rollback takes away",
                    side.table.schema, side.table.name, side.name, table.schema, table.name
                )));
            }
        }
    }
    for side in seen_from(table, sides.as_child)? {
        let back = lost(&side.own, rows, |r| r.before.as_ref(), |r| r.after.as_ref());
        let own = side.own_side(table);
        for chunk in back.chunks(KEYS_PER_SELECT) {
            if dangles(conn, (&own, &side.table), chunk, target).await? {
                return Err(super::stuck(format!(
                    "the rollback brings rows of {}.{} back whose parent in {}.{} (foreign key {}) is gone",
                    table.schema, table.name, side.table.schema, side.table.name, side.name
                )));
            }
        }
    }
    Ok(())
}

/// Whether rows of the child with these values have no parent, and will have none once the whole transaction is undone.
/// Each side is a table whose key are the columns of the foreign key.
async fn dangles(
    conn: &mut Conn,
    (child, parent): (&Table, &Table),
    values: &[Key],
    target: &mut Target<'_>,
) -> Result<bool, Failure> {
    let orphan: Option<u8> = conn.first_text_row(orphans(child, parent, values, "1", 1)).await?;
    if orphan.is_none() {
        return Ok(false);
    }
    let all = |list: &str, limit: usize| orphans(child, parent, values, list, limit);
    Ok(!target.resolves_orphans(conn, child, parent, all).await?)
}

/// Reads so many rows of the child with these values that have no parent.
fn orphans(child: &Table, parent: &Table, values: &[Key], list: &str, limit: usize) -> String {
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
        "SELECT {list} FROM {} AS `c` WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS `p` WHERE {} LOCK IN SHARE MODE) \
         LIMIT {limit} LOCK IN SHARE MODE",
        child.quoted(),
        child.keys_predicate("`c`", values),
        parent.quoted(),
        pairs.join(" AND ")
    )
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn a_table_is_found_as_it_is_spelled() {
        let ids = [("s", "t"), ("s", "T"), ("s", "u")];
        assert_eq!(places(&ids, "s", "T"), [1]);
        assert_eq!(places(&ids, "S", "U"), [2]);
        assert!(places(&ids, "s", "v").is_empty());
    }
}
