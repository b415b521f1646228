//! UPDATE and DELETE of one table, and what they share with INSERT.

use std::ops::Range;

use crate::{
    condition::{self, split_commas},
    confirm,
    functions::{self, check_calls},
    lexer::Kind,
    text::Text,
    types::{Assignment, Delete, Refusal, Statement, TableRef, Update},
};

/// Passes over LOW_PRIORITY and its like, which don't change what is written, and over IGNORE: whether it is there.
fn modifiers_and_ignore(text: &Text<'_>, at: usize, harmless: &[&str]) -> Result<(usize, bool), Refusal> {
    let at = modifiers(text, at, harmless)?;
    Ok(if text.is(at, "IGNORE") { (at + 1, true) } else { (at, false) })
}

/// Passes over LOW_PRIORITY and its like, which don't change what is written.
pub(crate) fn modifiers(text: &Text<'_>, mut at: usize, harmless: &[&str]) -> Result<usize, Refusal> {
    while text.is_any(at, harmless) {
        at += 1;
    }
    if text.is(at, "DELAYED") {
        return Err(Refusal::new("DELAYED writes outside of the transaction"));
    }
    Ok(at)
}

/// `UPDATE …`.
pub(crate) fn update(text: &Text<'_>) -> Result<Statement, Refusal> {
    let (at, ignore) = modifiers_and_ignore(text, 1, &["LOW_PRIORITY"])?;
    if text.find(at..text.len(), |at| text.is(at, "RETURNING")).is_some() {
        return Err(Refusal::new("RETURNING is not supported"));
    }
    let set = text
        .find(at..text.len(), |at| text.is(at, "SET"))
        .ok_or_else(|| Refusal::new("the UPDATE has no SET"))?;
    let table = table(text, at..set)?;
    let clauses = condition::clauses_begin(text, set + 1..text.len());
    let list = set + 1..clauses;
    check_calls(text, list.clone())?;
    let assignments = assignments(text, list.clone())?;
    let condition = condition::parse(text, clauses..text.len(), &table)?;
    condition.check_against(text, list)?;
    Ok(Statement::Update(Update {
        table,
        assignments,
        ignore,
        where_clause: condition.where_clause,
        order_by: condition.order_by,
        limit: condition.limit,
        volatile: condition.volatile,
        subquery: condition.subquery,
        pinned: condition.pinned,
    }))
}

/// `DELETE …`.
pub(crate) fn delete(text: &Text<'_>) -> Result<Statement, Refusal> {
    let (at, ignore) = modifiers_and_ignore(text, 1, &["LOW_PRIORITY", "QUICK"])?;
    if text.is(at, "HISTORY") && text.is(at + 1, "FROM") {
        return Err(Refusal::new("DELETE HISTORY can't be undone"));
    }
    if !text.is(at, "FROM") {
        return Err(Refusal::new("DELETE from several tables is not supported"));
    }
    let end = text.find(at..text.len(), |at| text.is(at, "RETURNING")).unwrap_or(text.len());
    if end < text.len() {
        check_returning(text, end + 1..text.len())?;
    }
    let clauses = condition::clauses_begin(text, at + 1..end);
    if text.find(at..clauses, |at| text.is(at, "USING")).is_some() {
        return Err(Refusal::new("DELETE from several tables is not supported"));
    }
    let table = table(text, at + 1..clauses)?;
    let condition = condition::parse(text, clauses..end, &table)?;
    condition.check_against(text, end..text.len())?;
    Ok(Statement::Delete(Delete {
        table,
        ignore,
        returning: (end < text.len()).then(|| text.span(end..text.len())),
        where_clause: condition.where_clause,
        order_by: condition.order_by,
        limit: condition.limit,
        volatile: condition.volatile,
        subquery: condition.subquery,
        pinned: condition.pinned,
    }))
}

/// `[schema.]name`: the parts and the index behind.
pub(crate) fn table_name(text: &Text<'_>, range: Range<usize>) -> Option<(Option<String>, String, usize)> {
    let at = range.start;
    if at >= range.end {
        return None;
    }
    let first = text.name(at)?;
    if !text.punct(at + 1, b'.') || at + 1 >= range.end {
        return Some((None, first, at + 1));
    }
    if at + 2 >= range.end {
        return None;
    }
    Some((Some(first), text.name(at + 2)?, at + 3))
}

/// Passes over `PARTITION (p, …)`: the index behind it.
pub(crate) fn partitions(text: &Text<'_>, at: usize) -> Result<usize, Refusal> {
    if !text.is(at, "PARTITION") {
        return Ok(at);
    }
    let misread = || Refusal::new("the PARTITION clause is not understood");
    let end = text.skip_parens(at + 1).ok_or_else(misread)?;
    let names = split_commas(text, at + 2..end - 1);
    if names.iter().all(|name| name.len() == 1 && text.name(name.start).is_some()) {
        Ok(end)
    } else {
        Err(misread())
    }
}

/// A table with partitions, alias and index hints, which must be all there is in the range.
fn table(text: &Text<'_>, range: Range<usize>) -> Result<TableRef, Refusal> {
    // Commas may stand between index hints too, so this is asked only once something does not fit.
    let misread = || {
        let joins = &["JOIN", "INNER", "LEFT", "RIGHT", "CROSS", "NATURAL", "STRAIGHT_JOIN"];
        let several = |at: usize| text.punct(at, b',') || text.is_any(at, joins);
        Refusal::new(if text.find(range.clone(), several).is_some() {
            "a statement that writes must name one table, without joins"
        } else {
            "the table is not understood"
        })
    };
    let (schema, name, mut at) = table_name(text, range.clone()).ok_or_else(misread)?;
    let hint =
        |at: usize| text.is_any(at, &["USE", "FORCE", "IGNORE"]) && text.is_any(at + 1, &["INDEX", "KEY"]);
    if at < range.end {
        at = partitions(text, at)?.min(range.end);
    }
    if at < range.end && text.are(at, &["FOR", "PORTION"]) {
        return Err(Refusal::new("FOR PORTION OF writes rows that are not captured"));
    }
    let mut alias = None;
    if at < range.end && text.is(at, "AS") {
        at += 1;
        alias = Some(at);
    } else if at < range.end && !hint(at) {
        alias = Some(at);
    }
    let alias = match alias {
        Some(at_alias) if at_alias < range.end => {
            at = at_alias + 1;
            // A string, as the server allows it for other aliases, is none here.
            Some(text.name(at_alias).ok_or_else(misread)?)
        }
        Some(_) => return Err(misread()),
        None => None,
    };
    while at < range.end && hint(at) {
        at += 2;
        if text.is(at, "FOR") {
            at += if text.is(at + 1, "JOIN") { 2 } else { 3 };
        }
        at = text.skip_parens(at).ok_or_else(misread)?;
        if text.punct(at, b',') {
            at += 1;
        }
    }
    if at != range.end {
        return Err(misread());
    }
    Ok(TableRef { schema, name, alias, span: text.span(range) })
}

/// `a = 1, t.b = DEFAULT, …`.
pub(crate) fn assignments(text: &Text<'_>, range: Range<usize>) -> Result<Vec<Assignment>, Refusal> {
    let mut assignments = Vec::new();
    for part in split_commas(text, range) {
        let misread = || Refusal::new("an assignment is not understood");
        let mut name = part.start;
        for _ in 0..2 {
            if text.punct(name + 1, b'.') {
                name += 2;
            }
        }
        let equals = name + 1;
        // Either sign: the server takes := for = here.
        let assigns = text.punct(equals, b'=') || text.kind(equals) == Some(Kind::Assign);
        if equals >= part.end || !assigns {
            return Err(misread());
        }
        let value = equals + 1..part.end;
        check_value(text, value.clone(), misread)?;
        assignments.push(Assignment {
            column: text.name(name).ok_or_else(misread)?,
            span: text.span(part),
            value: text.span(value),
        });
    }
    Ok(assignments)
}

/// Refuses what is no expression and not DEFAULT.
fn check_value(
    text: &Text<'_>,
    value: Range<usize>,
    misread: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    check_diagnostics(text, value.clone())?;
    if value.len() == 1 && text.is_any(value.start, &["DEFAULT", "IGNORE"]) {
        if text.is(value.start, "IGNORE") {
            return Err(misread());
        }
        return Ok(());
    }
    if confirm::is_expression(text, value) { Ok(()) } else { Err(misread()) }
}

/// Refuses functions whose value the image query, which runs before the statement, would change.
pub(crate) fn check_diagnostics(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    for name in ["ROW_COUNT", "FOUND_ROWS"] {
        if functions::find_call(text, range.clone(), name).is_some() {
            return Err(Refusal::new(format!("{name}() can be used in a SELECT only")));
        }
    }
    Ok(())
}

/// The items of RETURNING: expressions with or without `AS name`, and `*`.
pub(crate) fn check_returning(text: &Text<'_>, list: Range<usize>) -> Result<(), Refusal> {
    if !text.mode.mariadb {
        return Err(Refusal::new("RETURNING is not supported"));
    }
    check_calls(text, list.clone())?;
    check_diagnostics(text, list.clone())?;
    for item in split_commas(text, list) {
        let star = item.len() == 1 && text.punct(item.start, b'*');
        let aliased = item.len() > 2 && text.is(item.end - 2, "AS") && text.name(item.end - 1).is_some();
        let expression = if aliased { item.start..item.end - 2 } else { item };
        if !star && !confirm::is_expression(text, expression) {
            return Err(Refusal::new("the RETURNING clause is not understood"));
        }
    }
    Ok(())
}
