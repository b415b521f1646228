//! Table references: a table, joins, derived tables.

use std::ops::Range;

use super::{
    expression, functions,
    table::{self, SEPARATORS},
};
use crate::{
    lex::Text,
    types::{Refusal, TableRef},
};

/// How deep joins may be nested in parentheses.
const MAX_DEPTH: usize = 32;

/// The table references of a statement.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The tables that are named outside of derived tables: base tables, views, CTEs.
    pub(crate) tables: Vec<TableRef>,
    /// There is a LEFT or RIGHT JOIN, which gives rows without a match.
    pub(crate) outer: bool,
}

/// Reads table references, which must be the whole range.
pub(crate) fn read(text: &Text<'_>, range: Range<usize>) -> Result<References, Refusal> {
    let mut found = References::default();
    list(text, range, &mut found, MAX_DEPTH)?;
    Ok(found)
}

fn not_understood() -> Refusal {
    Refusal::new("the table references are not understood")
}

/// Reads table factors and their joins. No table may be overlooked; whether the words are valid SQL, the server
/// decides.
fn list(text: &Text<'_>, range: Range<usize>, found: &mut References, depth: usize) -> Result<(), Refusal> {
    let depth = depth.checked_sub(1).ok_or_else(not_understood)?;
    let end = range.end;
    let mut at = factor(text, range, found, depth)?;
    while at < end {
        if text.is(at, "ON") {
            let next = text.find(at + 1..end, |at| joins(text, at)).unwrap_or(end);
            expression::is_expression(text, at + 1..next).map_err(|why| why.refusal(not_understood()))?;
            at = next;
        } else if text.is(at, "USING") {
            let next = text.skip_parens(at + 1).filter(|next| *next <= end).ok_or_else(not_understood)?;
            let names = (at + 2..next - 1).all(|at| text.name(at).is_some() || text.punct(at, b','));
            if !names {
                return Err(not_understood());
            }
            at = next;
        } else if text.punct(at, b',') {
            at = factor(text, at + 1..end, found, depth)?;
        } else {
            let words = &["NATURAL", "INNER", "CROSS", "LEFT", "RIGHT", "OUTER"];
            while at < end && text.is_any(at, words) {
                found.outer |= text.is_any(at, &["LEFT", "RIGHT"]);
                at += 1;
            }
            if !text.is_any(at, &["JOIN", "STRAIGHT_JOIN"]) {
                return Err(not_understood());
            }
            at = factor(text, at + 1..end, found, depth)?;
        }
    }
    Ok(())
}

/// Whether a comma or a join begins here.
fn joins(text: &Text<'_>, at: usize) -> bool {
    text.punct(at, b',')
        || text.is_any(at, &["JOIN", "STRAIGHT_JOIN", "NATURAL"])
        || (text.is_any(at, &["INNER", "CROSS"]) && text.is(at + 1, "JOIN"))
        || (text.is_any(at, &["LEFT", "RIGHT"]) && text.is_any(at + 1, &["JOIN", "OUTER"]))
        || text.is(at, "ON")
        || text.is(at, "USING")
}

/// Reads a table, a derived table, or references in parentheses: the index after it.
fn factor(
    text: &Text<'_>,
    range: Range<usize>,
    found: &mut References,
    depth: usize,
) -> Result<usize, Refusal> {
    let mut at = range.start;
    let lateral = text.is(at, "LATERAL");
    at += usize::from(lateral);
    if at >= range.end {
        return Err(not_understood());
    }
    if !text.punct(at, b'(') {
        if lateral || text.punct(at + 1, b'(') {
            return Err(not_understood());
        }
        let (table, after) = table::read(text, at..range.end)?;
        found.tables.push(table);
        return Ok(after);
    }
    let after = text.skip_parens(at).filter(|after| *after <= range.end).ok_or_else(not_understood)?;
    let mut first = at + 1;
    while text.punct(first, b'(') {
        first += 1;
    }
    if !lateral && !functions::is_subquery(text, first) {
        list(text, at + 1..after - 1, found, depth)?;
        return Ok(after);
    }
    // A derived table has a name, and perhaps a list of column names
    at = after + usize::from(text.is(after, "AS"));
    if at >= range.end || text.name(at).is_none() || text.is_any(at, SEPARATORS) {
        return Err(not_understood());
    }
    at += 1;
    if text.punct(at, b'(') {
        at = text.skip_parens(at).filter(|after| *after <= range.end).ok_or_else(not_understood)?;
    }
    Ok(at)
}
