//! What the service account reads of many tables at once: as many queries as of one, but for SHOW CREATE TABLE.

use atone_undo::quote_identifier;
use mysql_async::{Conn, Row};

use super::facts;
use super::triggers::{self, TriggerRow};
use super::{BASE_TABLE, ColumnRow, Facts, Head, IndexRow, MetaError, TableInfo, assemble};
use crate::rights::{RIGHTS_SQL, Rights};
use crate::service::ServicePool;
use crate::typed::{Typed, literal, typed_rows};

/// How many tables one query asks for.
const TABLES_PER_QUERY: usize = 100;
/// About how many bytes are asked for one table, without its names.
const BYTES_PER_TABLE: usize = 1_200;

/// A table's schema and name.
pub(crate) type Id<'a> = (&'a str, &'a str);

/// Tables as they are now, in the order in which they are asked for, without the foreign keys that point at them. A packet may
/// be so many bytes long. The connection was got behind `begun`, a beginning of the pool's.
///
/// # Errors
/// [`MetaError`]
pub(crate) async fn read_all(
    conn: &mut Conn,
    begun: (&ServicePool, u64),
    ids: &[Id<'_>],
    packet_bytes: usize,
    mariadb: bool,
) -> Result<Vec<TableInfo>, MetaError> {
    let mut out = Vec::with_capacity(ids.len());
    for ids in chunks(ids, packet_bytes) {
        out.extend(read_some(conn, begun, ids, mariadb).await?);
    }
    Ok(out)
}

/// Cuts tables into lists of bounded numbers of tables and bytes, at least one each.
pub(crate) fn chunks<'a, 'b>(
    mut ids: &'b [Id<'a>],
    packet_bytes: usize,
) -> impl Iterator<Item = &'b [Id<'a>]> {
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

/// A query of which each row begins with the place of its table among `ids`. Each table has a SELECT of its own: only by names
/// that are equal to something does MariaDB find tables without a look at all there are.
pub(crate) fn union(ids: &[Id<'_>], select: impl Fn(&str, &str) -> String, order: &str) -> String {
    let parts: Vec<String> = (0..)
        .zip(ids)
        .map(|(place, (schema, name)): (usize, _)| {
            format!("SELECT {place} AS place, {}", select(&literal(schema), &literal(name)))
        })
        .collect();
    format!("{} ORDER BY {order}", parts.join(" UNION ALL "))
}

/// The rows of each table, without their places.
pub(crate) fn by_place<T>(
    count: usize,
    rows: impl IntoIterator<Item = (usize, T)>,
) -> Result<Vec<Vec<T>>, mysql_async::Error> {
    let mut out: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    for (place, row) in rows {
        let of_table = out.get_mut(place);
        of_table
            .ok_or_else(|| mysql_async::Error::Other("a row of no table that was asked for".into()))?
            .push(row);
    }
    Ok(out)
}

type PlacedHead = (usize, String, String, Option<String>, String);
type PlacedTrigger = (usize, String, String, String, Option<String>, String, u64);
type PlacedColumn =
    (usize, String, String, String, Option<String>, Option<String>, String, String, Option<String>, u64);
type PlacedIndex = (usize, String, Option<String>, Option<u64>, bool, u64);

async fn read_some(
    conn: &mut Conn,
    (pool, begun): (&ServicePool, u64),
    ids: &[Id<'_>],
    mariadb: bool,
) -> Result<Vec<TableInfo>, MetaError> {
    let heads = union(
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
        by_place(ids.len(), heads)?.into_iter().map(|mut rows| rows.pop()).collect();
    let missing = heads.iter().zip(ids).find(|(head, _)| head.is_none());
    if let Some((_, (schema, name))) = missing {
        return Err(MetaError::NoTable(format!("{schema}.{name}")));
    }
    let heads: Vec<Head> = heads.into_iter().flatten().collect();
    // As the server spells them
    let ids: Vec<Id<'_>> = heads.iter().map(|head| (head.0.as_str(), head.1.as_str())).collect();
    let is_base = |head: &&Head| head.3 == BASE_TABLE;
    let show = |head: &Head| {
        format!("SHOW CREATE TABLE {}.{}", quote_identifier(&head.0), quote_identifier(&head.1))
    };
    let mut queries: Vec<String> = heads.iter().filter(is_base).map(show).collect();
    queries.push(union(
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
    queries.push(union(
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
    queries.push(union(
        &ids,
        |schema, name| {
            format!(
                "INDEX_NAME AS a, COLUMN_NAME AS b, SUB_PART AS c, NON_UNIQUE AS d, SEQ_IN_INDEX AS e \
                 FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = {schema} AND TABLE_NAME = {name}"
            )
        },
        "place, a, e",
    ));
    // The rights behind what depends on them
    queries.extend(RIGHTS_SQL.map(str::to_owned));
    let mut results = conn.all_results(&queries).await?.into_iter();
    let mut next = || results.next().unwrap_or_default();
    let mut definitions = Vec::with_capacity(ids.len());
    for head in &heads {
        definitions.push(if is_base(&head) { facts::definition_of(next())? } else { String::new() });
    }
    let (triggers, columns, indexes) = (next(), next(), next());
    let rights = pool.judged(begun, Rights::of(next(), next())?)?;
    let (triggers, columns, indexes) =
        (triggers_of(ids.len(), triggers)?, columns_of(ids.len(), columns)?, indexes_of(ids.len(), indexes)?);
    let mut out = Vec::with_capacity(ids.len());
    let parts = definitions.into_iter().zip(triggers).zip(columns.into_iter().zip(indexes));
    for (((definition, triggers), (columns, indexes)), (schema, name)) in parts.zip(&ids) {
        let triggers = triggers::parse(triggers, mariadb);
        let triggers = triggers::as_written(conn, schema, triggers, mariadb).await?;
        let triggers = triggers::with_logs(conn, schema, name, triggers, &rights, mariadb).await?;
        let lacking = facts::lacking(&rights, schema, name);
        out.push((Facts { definition, triggers, lacking }, columns, indexes));
    }
    let tables = heads.clone().into_iter().zip(out);
    Ok(tables
        .map(|(head, (facts, columns, indexes))| assemble(head, facts, columns, indexes, mariadb))
        .collect())
}

fn triggers_of(count: usize, rows: Vec<Row>) -> Result<Vec<Vec<TriggerRow>>, mysql_async::Error> {
    let rows: Vec<PlacedTrigger> = typed_rows(rows)?;
    by_place(count, rows.into_iter().map(|(place, a, b, c, d, e, _)| (place, (a, b, c, d, e))))
}

fn columns_of(count: usize, rows: Vec<Row>) -> Result<Vec<Vec<ColumnRow>>, mysql_async::Error> {
    let rows: Vec<PlacedColumn> = typed_rows(rows)?;
    by_place(
        count,
        rows.into_iter().map(|(place, a, b, c, d, e, f, g, h, _)| (place, (a, b, c, d, e, f, g, h))),
    )
}

fn indexes_of(count: usize, rows: Vec<Row>) -> Result<Vec<Vec<IndexRow>>, mysql_async::Error> {
    let rows: Vec<PlacedIndex> = typed_rows(rows)?;
    by_place(count, rows.into_iter().map(|(place, a, b, c, d, _)| (place, (a, b, c, d))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_all_tables_in_order() {
        let names: Vec<String> = (0..250).map(|n| format!("t{n}")).collect();
        let ids: Vec<Id<'_>> = names.iter().map(|name| ("s", name.as_str())).collect();
        for (packet_bytes, count) in [(usize::MAX, 3), (1, 250)] {
            let chunks: Vec<&[Id<'_>]> = chunks(&ids, packet_bytes).collect();
            assert_eq!(chunks.len(), count);
            assert_eq!(chunks.concat(), ids);
        }
        assert_eq!(chunks(&[], 1).count(), 0);
    }

    #[test]
    fn rows_go_to_their_tables() {
        assert_eq!(by_place(3, [(2, 'a'), (0, 'b'), (2, 'c')]).unwrap(), [vec!['b'], vec![], vec!['a', 'c']]);
        assert!(by_place(1, [(1, 'a')]).is_err());
        let sql = union(&[("a'b", "c\\d"), ("e", "f")], |s, n| format!("{s}, {n}"), "place");
        assert_eq!(
            sql,
            "SELECT 0 AS place, 'a''b', 'c\\\\d' UNION ALL SELECT 1 AS place, 'e', 'f' ORDER BY place"
        );
    }
}
