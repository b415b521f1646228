//! The rows of an undo record as they are now.

use std::collections::BTreeMap;

use atone_undo::{Exchanges, Key, Row, RowChange, Table, Verdict, judge, session_setup};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Value};

use crate::Failure;

/// How many rows are read at once.
const BATCH: usize = 200;

/// The settings under which a rollback runs on this server: those that this connection has begun with.
pub(crate) async fn settings(conn: &mut Conn) -> Result<Vec<String>, Failure> {
    let version: Option<String> = conn.query_first("SELECT VERSION()").await.map_err(Failure::failed)?;
    Ok(session_setup(version.is_some_and(|v| v.to_lowercase().contains("mariadb"))))
}

/// What the undo of later branches leaves: rows as they will be when an earlier branch's turn comes. Branches are
/// judged from the last to the first, as they are undone.
#[derive(Debug, Default)]
pub(crate) struct Overlay(BTreeMap<(String, Key), Option<Vec<atone_undo::Value>>>);

/// A changed row, its current values, and what a rollback would do with it.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    pub(crate) change: &'a RowChange,
    pub(crate) current: Option<Vec<atone_undo::Value>>,
    pub(crate) verdict: Verdict,
}

/// Reads the current rows and judges them, in the light of what later branches restore. `Err` where the table cannot be
/// read as it was recorded: it is gone, or its columns are others now.
pub(crate) async fn judged<'a>(
    conn: &mut Conn,
    table: &Table,
    rows: &'a [RowChange],
    overlay: &mut Overlay,
) -> Result<Vec<Judged<'a>>, String> {
    let mut found: Vec<Judged<'a>> = Vec::with_capacity(rows.len());
    for batch in rows.chunks(BATCH) {
        let keys: Vec<Key> = batch.iter().filter_map(|change| key(table, change)).collect();
        let mut by_key: BTreeMap<Key, Row> =
            fetch(conn, table, &keys).await?.into_iter().map(|row| (row.key(table), row)).collect();
        for change in batch {
            let mut current = None;
            if let Some(key) = key(table, change) {
                current = by_key.remove(&key);
                if current.is_none() && spelled_in_several_ways(table) {
                    // The same key for the server may be spelled otherwise now ('a' and 'A').
                    current = fetch(conn, table, std::slice::from_ref(&key)).await?.into_iter().next();
                }
            }
            let current = current.map(|row| row.values.to_values());
            let place = key(table, change).map(|key| (table.quoted(), key));
            let expected = place.as_ref().and_then(|place| overlay.0.get(place));
            let verdict = judge(table, change, expected.unwrap_or(&current).as_deref());
            if let (Verdict::Restore, Some(place)) = (&verdict, place) {
                overlay.0.insert(place, change.before.clone());
            }
            found.push(Judged { change, current, verdict });
        }
    }
    let places = places(conn, table).await?;
    let mut exchanges = Exchanges::new(table, &places);
    for judged in &found {
        exchanges.add_row(judged.change, judged.current.as_deref());
    }
    exchanges.refusal().map_or(Ok(found), Err)
}

/// Where each column stands now, found by its name.
async fn places(conn: &mut Conn, table: &Table) -> Result<Vec<usize>, String> {
    let names: Vec<String> = conn
        .exec(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             ORDER BY ORDINAL_POSITION",
            (&table.schema, &table.name),
        )
        .await
        .map_err(|e| e.to_string())?;
    let place = |name: &str| names.iter().position(|now| now.eq_ignore_ascii_case(name));
    let places = table.columns.iter().map(|column| place(&column.name).ok_or(&column.name));
    places.collect::<Result<_, _>>().map_err(|name| format!("the column {name} is gone"))
}

fn key(table: &Table, change: &RowChange) -> Option<Key> {
    change.after.as_deref().or(change.before.as_deref()).map(|values| table.key_of(values))
}

fn spelled_in_several_ways(table: &Table) -> bool {
    let columns = table.keys.first().map(|key| key.columns.as_slice()).unwrap_or_default();
    columns.iter().filter_map(|&c| table.columns.get(c)).any(|column| column.collation.is_some())
}

async fn fetch(conn: &mut Conn, table: &Table, keys: &[Key]) -> Result<Vec<Row>, String> {
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE {}",
        table.image_select_list("t"),
        table.quoted(),
        table.keys_predicate("t", keys)
    );
    let rows: Vec<mysql_async::Row> = conn.query(sql).await.map_err(|e| e.to_string())?;
    rows.into_iter()
        .map(|row| {
            let cells: Vec<Option<Vec<u8>>> = row
                .unwrap()
                .into_iter()
                .map(|value| match value {
                    Value::NULL => None,
                    Value::Bytes(bytes) => Some(bytes),
                    other => Some(other.as_sql(true).into_bytes()),
                })
                .collect();
            let cells: Vec<Option<&[u8]>> = cells.iter().map(Option::as_deref).collect();
            table.decode_row(&cells).map_err(|e| e.to_string())
        })
        .collect()
}
