//! What the service account reads of many tables at once: as many queries as for one, except SHOW CREATE TABLE.

use atone_facts::{ColumnRow, Facts, IndexRow, TableError, TableId, TableInfo, TableRow, Trigger};
use mysql_async::{Error, Row};

use crate::audit::resolve_written;
use crate::reader::Reader;
use crate::rights::RIGHTS_SQL;
use crate::rows::{Typed, literal, typed_rows};
use crate::table::{Head, column_row, index_row, parse_definition, show_table_sql, table_row};
use crate::triggers::{read_bodies, trigger_row};

/// How many tables one query asks for.
const TABLES_PER_QUERY: usize = 100;
/// About how many bytes a query has for one table, without its names.
const BYTES_PER_TABLE: usize = 1_200;

/// Tables as they are now, in the order in which they are asked for, without the foreign keys that point at them. A
/// packet may be so many bytes long.
///
/// The outer error may be a change of the account's rights: see [`retry`](crate::rights::retry). The inner error
/// is that there is no such table.
pub(crate) async fn read_all(
    conn: &mut Reader,
    ids: &[TableId<'_>],
    packet_bytes: usize,
    mariadb: bool,
) -> Result<Result<Vec<TableInfo>, TableError>, Error> {
    let mut out = Vec::with_capacity(ids.len());
    for ids in table_chunks(ids, packet_bytes) {
        match read_some(conn, ids, mariadb).await? {
            Ok(tables) => out.extend(tables),
            Err(missing) => return Ok(Err(missing)),
        }
    }
    Ok(Ok(out))
}

/// Cuts tables into lists for one query each: of bounded numbers of tables and bytes, and of one table at least.
pub fn table_chunks<'a, 'b>(
    mut ids: &'b [TableId<'a>],
    packet_bytes: usize,
) -> impl Iterator<Item = &'b [TableId<'a>]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut count = 0;
        for (schema, name) in ids.iter().take(TABLES_PER_QUERY) {
            // Each name is in each of five queries, its special characters doubled
            bytes += BYTES_PER_TABLE + 10 * (schema.len() + name.len());
            if count > 0 && bytes > packet_bytes / 2 {
                break;
            }
            count += 1;
        }
        let (some, others) = ids.split_at(count);
        ids = others;
        (!some.is_empty()).then_some(some)
    })
}

/// A query whose rows begin with the place of their table among `ids`. Each table has a SELECT of its own: MariaDB
/// finds a table without a look at all tables only by names that are equal to a constant.
pub fn union_of_tables(ids: &[TableId<'_>], select: impl Fn(&str, &str) -> String, order: &str) -> String {
    let parts: Vec<String> = (0..)
        .zip(ids)
        .map(|(place, (schema, name)): (usize, _)| {
            format!("SELECT {place} AS place, {}", select(&literal(schema), &literal(name)))
        })
        .collect();
    format!("{} ORDER BY {order}", parts.join(" UNION ALL "))
}

/// The rows of such a query, by table and without their places.
///
/// # Errors
/// A place that was not asked for.
pub fn group_by_place<T>(
    count: usize,
    rows: impl IntoIterator<Item = (usize, T)>,
) -> Result<Vec<Vec<T>>, Error> {
    let mut out: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for (place, row) in rows {
        let of_table = out.get_mut(place);
        of_table.ok_or_else(|| Error::Other("a row of no table that was asked for".into()))?.push(row);
    }
    Ok(out)
}

type PlacedHead = (usize, String, String, Option<String>, String);
type PlacedTrigger = (usize, String, String, String, Option<String>, String, u64);
type PlacedColumn =
    (usize, String, String, String, Option<String>, Option<String>, String, String, Option<String>, u64);
type PlacedIndex = (usize, String, Option<String>, Option<u64>, bool, u64);

async fn read_some(
    conn: &mut Reader,
    ids: &[TableId<'_>],
    mariadb: bool,
) -> Result<Result<Vec<TableInfo>, TableError>, Error> {
    let heads = union_of_tables(
        ids,
        |schema, name| {
            format!(
                "TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE FROM information_schema.TABLES \
                 WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name}"
            )
        },
        "place",
    );
    let heads: Vec<PlacedHead> = conn.text_rows(heads).await?;
    let heads =
        heads.into_iter().map(|(place, schema, name, engine, kind)| (place, (schema, name, engine, kind)));
    let heads: Vec<Option<Head>> =
        group_by_place(ids.len(), heads)?.into_iter().map(|mut rows| rows.pop()).collect();
    let missing = heads.iter().zip(ids).find(|(head, _)| head.is_none());
    if let Some((_, (schema, name))) = missing {
        return Ok(Err(TableError::NoTable(format!("{schema}.{name}"))));
    }
    let heads: Vec<TableRow> = heads.into_iter().flatten().map(table_row).collect();
    // As the server spells them
    let ids: Vec<TableId<'_>> = heads.iter().map(|row| (row.schema.as_str(), row.name.as_str())).collect();
    let bases = heads.iter().filter(|row| row.is_base_table());
    let mut queries: Vec<String> = bases.map(|row| show_table_sql(&row.schema, &row.name)).collect();
    queries.push(union_of_tables(
        &ids,
        |schema, name| {
            format!(
                "TRIGGER_NAME AS a, EVENT_MANIPULATION AS b, ACTION_TIMING AS c, ACTION_STATEMENT AS d, \
                 CAST(SQL_MODE AS CHAR) AS e, ACTION_ORDER AS f FROM information_schema.TRIGGERS \
                 WHERE EVENT_OBJECT_SCHEMA = {schema} AND EVENT_OBJECT_TABLE = {name}"
            )
        },
        "place, b, c, f, a",
    ));
    queries.push(union_of_tables(
        &ids,
        |schema, name| {
            format!(
                "COLUMN_NAME AS a, DATA_TYPE AS b, CAST(COLUMN_TYPE AS CHAR) AS c, CHARACTER_SET_NAME AS d, \
                 COLLATION_NAME AS e, IS_NULLABLE AS f, EXTRA AS g, CAST(COLUMN_DEFAULT AS CHAR) AS h, \
                 ORDINAL_POSITION AS i FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name}"
            )
        },
        "place, i",
    ));
    queries.push(union_of_tables(
        &ids,
        |schema, name| {
            format!(
                "INDEX_NAME AS a, COLUMN_NAME AS b, SUB_PART AS c, NON_UNIQUE AS d, SEQ_IN_INDEX AS e \
                 FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name}"
            )
        },
        "place, a, e",
    ));
    // The rights come after what depends on them
    queries.extend(RIGHTS_SQL.map(str::to_owned));
    let mut results = conn.all_results(&queries).await?.into_iter();
    let mut next = || results.next().unwrap_or_default();
    let mut definitions = Vec::with_capacity(ids.len());
    for row in &heads {
        definitions.push(if row.is_base_table() { parse_definition(next())? } else { String::new() });
    }
    let (triggers, columns, indexes) = (next(), next(), next());
    let rights = conn.rights(next(), next())?;
    let triggers = triggers_of(ids.len(), triggers, mariadb)?;
    let (columns, indexes) = (columns_of(ids.len(), columns)?, indexes_of(ids.len(), indexes)?);
    let mut facts = Vec::with_capacity(ids.len());
    for ((definition, triggers), id) in definitions.into_iter().zip(triggers).zip(&ids) {
        let triggers = read_bodies(conn, id.0, triggers, mariadb).await?;
        let triggers = resolve_written(conn, *id, triggers, &rights, mariadb).await?;
        facts.push(Facts::new(definition, triggers, &rights, *id));
    }
    let parts = facts.into_iter().zip(columns.into_iter().zip(indexes));
    let tables = heads.into_iter().zip(parts);
    Ok(Ok(tables
        .map(|(row, (facts, (columns, indexes)))| TableInfo::assemble(row, facts, columns, indexes, mariadb))
        .collect()))
}

fn triggers_of(count: usize, rows: Vec<Row>, mariadb: bool) -> Result<Vec<Vec<Trigger>>, Error> {
    let rows: Vec<PlacedTrigger> = typed_rows(rows)?;
    let trigger = |(place, a, b, c, d, e, _)| (place, Trigger::parse(trigger_row((a, b, c, d, e)), mariadb));
    group_by_place(count, rows.into_iter().map(trigger))
}

fn columns_of(count: usize, rows: Vec<Row>) -> Result<Vec<Vec<ColumnRow>>, Error> {
    let rows: Vec<PlacedColumn> = typed_rows(rows)?;
    let column = |(place, a, b, c, d, e, f, g, h, _)| (place, column_row((a, b, c, d, e, f, g, h)));
    group_by_place(count, rows.into_iter().map(column))
}

fn indexes_of(count: usize, rows: Vec<Row>) -> Result<Vec<Vec<IndexRow>>, Error> {
    let rows: Vec<PlacedIndex> = typed_rows(rows)?;
    let index = |(place, a, b, c, d, _)| (place, index_row((a, b, c, d)));
    group_by_place(count, rows.into_iter().map(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_all_tables_in_order() {
        let names: Vec<String> = (0..250).map(|n| format!("t{n}")).collect();
        let ids: Vec<TableId<'_>> = names.iter().map(|name| ("s", name.as_str())).collect();
        for (packet_bytes, count) in [(usize::MAX, 3), (1, 250)] {
            let chunks: Vec<&[TableId<'_>]> = table_chunks(&ids, packet_bytes).collect();
            assert_eq!(chunks.len(), count);
            assert_eq!(chunks.concat(), ids);
        }
        assert_eq!(table_chunks(&[], 1).count(), 0);
    }

    #[test]
    fn rows_go_to_their_tables() {
        assert_eq!(
            group_by_place(3, [(2, 'a'), (0, 'b'), (2, 'c')]).unwrap(),
            [vec!['b'], vec![], vec!['a', 'c']]
        );
        assert!(group_by_place(1, [(1, 'a')]).is_err());
        let sql = union_of_tables(&[("a'b", "c\\d"), ("e", "f")], |s, n| format!("{s}, {n}"), "place");
        assert_eq!(
            sql,
            "SELECT 0 AS place, 'a''b', 'c\\\\d' UNION ALL SELECT 1 AS place, 'e', 'f' ORDER BY place"
        );
    }
}
