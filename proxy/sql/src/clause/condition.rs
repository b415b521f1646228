//! WHERE, ORDER BY and LIMIT of an UPDATE or DELETE.

use std::ops::Range;

use super::{
    expression::{self, operand},
    functions,
};
use crate::{
    lex::{Kind, Text},
    types::{Refusal, Span, TableRef},
};

/// The clauses, as they are in a [`crate::Dml`].
pub(crate) struct Condition {
    pub(crate) where_clause: Option<Span>,
    pub(crate) order_by: Option<Span>,
    pub(crate) limit: Option<Span>,
    pub(crate) volatile: bool,
    pub(crate) subquery: bool,
    pub(crate) equalities: Option<Vec<(String, Span)>>,
    /// The tokens of WHERE and ORDER BY.
    tokens: Range<usize>,
}

/// The first token of the range outside of parentheses that begins one of the clauses, or its end.
pub(crate) fn clauses_begin(text: &Text<'_>, range: Range<usize>) -> usize {
    let end = range.end;
    text.find(range, |at| text.is_any(at, &["WHERE", "ORDER", "LIMIT"])).unwrap_or(end)
}

/// Reads the clauses, which must be the whole range.
pub(crate) fn read(text: &Text<'_>, range: Range<usize>, table: &TableRef) -> Result<Condition, Refusal> {
    let Range { start: at, end } = range;
    let limit_at = text.find(at..end, |at| text.is(at, "LIMIT")).unwrap_or(end);
    let order_at = text.find(at..limit_at, |at| text.is(at, "ORDER")).unwrap_or(limit_at);
    let subquery = (at..limit_at).any(|at| functions::is_subquery(text, at));
    let mut condition = Condition {
        where_clause: None,
        order_by: None,
        limit: None,
        volatile: functions::is_volatile(text, at..limit_at)
            || (subquery && (at..limit_at).any(|at| text.is(at, "LIMIT"))),
        subquery,
        equalities: None,
        tokens: at..limit_at,
    };
    check_effects(text, at..limit_at)?;

    if at < order_at {
        let clause = at + 1..order_at;
        if !text.is(at, "WHERE") {
            return Err(Refusal::new("the statement is not understood"));
        }
        functions::check_calls(text, clause.clone())?;
        condition.equalities = equalities(text, clause.clone(), table);
        if condition.equalities.is_none() {
            let not_understood = || Refusal::new("the WHERE clause is not understood");
            expression::is_expression(text, clause.clone()).map_err(|why| why.refusal(not_understood()))?;
        }
        condition.where_clause = Some(text.span(clause));
    }
    if order_at < limit_at {
        check_order(text, order_at..limit_at)?;
        condition.order_by = Some(text.span(order_at..limit_at));
    }
    if limit_at < end {
        let simple =
            limit_at + 2 == end && matches!(text.kind(limit_at + 1), Some(Kind::Number | Kind::Placeholder));
        if !simple {
            return Err(Refusal::new("the LIMIT clause is not understood"));
        }
        condition.limit = Some(text.span(limit_at..end));
        condition.equalities = None;
    }
    Ok(condition)
}

/// Refuses what a read before the statement must not evaluate: assignments, and functions that read the diagnostics.
pub(crate) fn check_effects(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    for at in range {
        if text.kind(at) == Some(Kind::Assign) {
            return Err(Refusal::new("WHERE or ORDER BY assigns a user variable"));
        }
        functions::check_diagnostics(text, at..at + 1)?;
    }
    Ok(())
}

fn check_order(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    let not_understood = || Refusal::new("the ORDER BY clause is not understood");
    functions::check_calls(text, range.clone())?;
    if !text.is(range.start + 1, "BY") {
        return Err(not_understood());
    }
    for item in text.split_commas(range.start + 2..range.end) {
        let mut item = item;
        if item.len() > 1 && text.is_any(item.end - 1, &["ASC", "DESC"]) {
            item.end -= 1;
        }
        expression::is_expression(text, item).map_err(|why| why.refusal(not_understood()))?;
    }
    Ok(())
}

impl Condition {
    /// Refuses a condition that reads a variable which the assignments of the statement set: before the statement it
    /// would choose other rows.
    pub(crate) fn check_independent(
        &self,
        text: &Text<'_>,
        assignments: Range<usize>,
    ) -> Result<(), Refusal> {
        check_independent(text, self.tokens.clone(), assignments)
    }
}

/// The same check for any part of the statement.
pub(crate) fn check_independent(
    text: &Text<'_>,
    mut tokens: Range<usize>,
    assignments: Range<usize>,
) -> Result<(), Refusal> {
    let assigns_variable = assignments.clone().any(|at| text.kind(at) == Some(Kind::Assign));
    if assigns_variable && tokens.clone().any(|at| text.kind(at) == Some(Kind::UserVar)) {
        return Err(Refusal::new("WHERE or ORDER BY reads a user variable, and the statement assigns one"));
    }
    let sets_insert_id =
        functions::find_call(text, assignments, "LAST_INSERT_ID").is_some_and(|at| !text.punct(at + 2, b')'));
    if sets_insert_id && tokens.any(|at| functions::is_call_of(text, at, "LAST_INSERT_ID")) {
        return Err(Refusal::new("WHERE or ORDER BY reads LAST_INSERT_ID(), and the statement sets it"));
    }
    Ok(())
}

/// See [`crate::Dml::equalities`].
fn equalities(text: &Text<'_>, clause: Range<usize>, table: &TableRef) -> Option<Vec<(String, Span)>> {
    let mut pairs: Vec<(String, Span)> = Vec::new();
    let mut depth = 0usize;
    let mut at = clause.start;
    loop {
        while at < clause.end && text.punct(at, b'(') {
            depth += 1;
            at += 1;
        }
        let (column, value, after) = equality(text, at..clause.end, table)?;
        if pairs.iter().any(|(known, _)| known.to_lowercase() == column.to_lowercase()) {
            return None;
        }
        pairs.push((column, value));
        at = after;
        while at < clause.end && text.punct(at, b')') {
            depth = depth.checked_sub(1)?;
            at += 1;
        }
        if at == clause.end {
            return (depth == 0).then_some(pairs);
        }
        if !(text.is(at, "AND") || text.kind(at) == Some(Kind::AndAnd)) {
            return None;
        }
        at += 1;
        // No key has so many columns, and the search for duplicates is quadratic.
        if pairs.len() > 64 {
            return None;
        }
    }
}

/// `column = constant` or the reverse: the column, the constant's span, and the index after it.
fn equality(text: &Text<'_>, range: Range<usize>, table: &TableRef) -> Option<(String, Span, usize)> {
    let end = range.end;
    if let Some(column) = operand::column(text, range.start, end) {
        let equals = range.start + column;
        let value = compared_constant(text, equals + 1, end)?;
        text.punct(equals, b'=').then_some(())?;
        let name = own_column(text, range.start..equals, table)?;
        let after = equals + 1 + value;
        return Some((name, text.span(equals + 1..after), after));
    }
    let equals = range.start + compared_constant(text, range.start, end)?;
    let column = operand::column(text, equals + 1, end)?;
    text.punct(equals, b'=').then_some(())?;
    let after = equals + 1 + column;
    let name = own_column(text, equals + 1..after, table)?;
    Some((name, text.span(range.start..equals), after))
}

/// A number, a string or a placeholder.
fn compared_constant(text: &Text<'_>, at: usize, end: usize) -> Option<usize> {
    let len = operand::constant(text, at, end)?;
    match text.kind(at + len - 1)? {
        Kind::Number | Kind::Placeholder => Some(len),
        Kind::Str if text.kind(at) == Some(Kind::Str) => Some(len),
        _ => None,
    }
}

/// The name of the column, if its qualifiers mean the table.
fn own_column(text: &Text<'_>, name: Range<usize>, table: &TableRef) -> Option<String> {
    let mut parts = name.step_by(2).map(|at| text.name(at));
    let parts: Vec<String> = parts.by_ref().collect::<Option<_>>()?;
    let is_table =
        |qualifier: &String| qualifier.eq_ignore_ascii_case(table.alias.as_ref().unwrap_or(&table.name));
    match parts.as_slice() {
        [column] => Some(column.clone()),
        [qualifier, column] if is_table(qualifier) => Some(column.clone()),
        [schema, qualifier, column]
            if table.alias.is_none()
                && is_table(qualifier)
                && table.schema.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(schema)) =>
        {
            Some(column.clone())
        }
        _ => None,
    }
}
