//! The read of the rows that an UPDATE or a DELETE will change. Pure.

use atone_sql::{Dml, NO_LIMIT, Span, TableRef};
use atone_undo::{Table, quote_identifier};

use crate::update_delete::moves::Moves;

/// The name by which a statement's clauses refer to its table.
pub(crate) fn qualifier(table: &TableRef) -> String {
    quote_identifier(table.alias.as_deref().unwrap_or(&table.name))
}

/// The LIMIT that says which rows are imaged. A DELETE IGNORE does not count the rows that it has to leave, which only
/// the server can tell: all that its condition holds for are imaged, and it keeps its LIMIT.
pub(crate) fn image_limit(change: &Dml) -> Option<&Span> {
    change.limit.as_ref().filter(|_| !(change.deletes() && change.ignore))
}

/// The locking read of the rows that a statement will change, and of their new keys beside them.
pub(crate) fn image_sql(sql: &[u8], change: &Dml, table: &Table, moves: Option<&Moves>) -> Vec<u8> {
    let reference = &change.table;
    let mut out = Vec::new();
    if let Some(with) = &change.with {
        out.extend_from_slice(&sql[with.clone()]);
        out.push(b' ');
    }
    out.extend_from_slice(b"SELECT ");
    out.extend_from_slice(table.image_select_list(&qualifier(reference)).as_bytes());
    for expression in moves.into_iter().flat_map(Moves::expressions) {
        out.push(b',');
        out.extend_from_slice(expression.as_bytes());
    }
    out.extend_from_slice(b" FROM ");
    out.extend_from_slice(&sql[reference.span.clone()]);
    if let Some(span) = &change.where_clause {
        out.extend_from_slice(b" WHERE ");
        out.extend_from_slice(&sql[span.clone()]);
    }
    if let Some(span) = &change.order_by {
        out.push(b' ');
        out.extend_from_slice(&sql[span.clone()]);
    }
    match image_limit(change) {
        Some(span) => {
            out.push(b' ');
            out.extend_from_slice(&sql[span.clone()]);
        }
        None => out.extend_from_slice(NO_LIMIT),
    }
    out.extend_from_slice(b" FOR UPDATE");
    out
}
