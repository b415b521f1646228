//! The statement, restricted to the rows that were imaged. Pure.

use atone_sql::Analysis;
use atone_undo::{Row, Table, quote_identifier};

use super::Change;

/// A condition that holds for no row.
pub(super) fn no_row(table: &Table, qualified: &str) -> String {
    let column = table.keys.first().and_then(|key| table.columns.get(*key.columns.first()?));
    column.map_or_else(
        || "1=0".to_string(),
        |column| {
            let name = quote_identifier(&column.name);
            format!("NULLIF({qualified}.{name}, {qualified}.{name}) IS NOT NULL")
        },
    )
}

/// The statement restricted to the rows imaged. A condition that could choose other rows the second time is replaced.
pub(super) fn restricted_sql(
    sql: &[u8],
    change: Change<'_>,
    analysis: &Analysis,
    table: &Table,
    images: &[Row],
) -> Vec<u8> {
    let keys: Vec<_> = images.iter().map(|row| row.key(table)).collect();
    let reference = change.table();
    // DELETE without an alias knows its table by its full name only
    let qualified = match (&reference.alias, change) {
        (Some(alias), _) => quote_identifier(alias),
        (None, Change::Update(_)) => quote_identifier(&reference.name),
        (None, Change::Delete(_)) => table.quoted(),
    };
    let predicate = if !keys.is_empty() {
        table.keys_predicate(&qualified, &keys)
    } else if change.volatile() {
        "1=0".to_string()
    } else {
        // As false as 1=0, but not known beforehand: the server evaluates the condition and answers as it always does
        no_row(table, &qualified)
    };
    let where_end = change.where_clause().map(|span| span.end);
    let head_end = change
        .where_clause()
        .or(change.order_by())
        .or(change.limit())
        .or(change.returning())
        .map_or(analysis.terminator, |first| first.start);
    let mut out = sql[..head_end].to_vec();
    if change.where_clause().is_none() {
        out.extend_from_slice(b" WHERE ");
    }
    if let (Some(span), false) = (change.where_clause(), change.volatile()) {
        out.push(b'(');
        out.extend_from_slice(&sql[span.clone()]);
        out.extend_from_slice(b") AND ");
    }
    out.push(b'(');
    out.extend_from_slice(predicate.as_bytes());
    out.extend_from_slice(b") ");
    let tail_start = where_end.unwrap_or(head_end);
    let clauses_end = change.returning().map_or(analysis.terminator, |span| span.start);
    let tail_end = match change.limit() {
        // It has done its work; a second time it could choose fewer
        Some(limit) if !images.is_empty() => limit.start,
        _ => clauses_end,
    };
    out.extend_from_slice(sql.get(tail_start..tail_end).unwrap_or_default());
    out.push(b' ');
    out.extend_from_slice(sql.get(clauses_end..analysis.terminator).unwrap_or_default());
    out
}
