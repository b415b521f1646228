//! UPDATE and DELETE, and what they share with INSERT.

use std::ops::Range;

use crate::{
    condition::{self, Condition, split_commas},
    confirm,
    functions::{self, check_calls},
    joined::{self, Parts},
    lexer::Kind,
    references,
    text::Text,
    types::{Assignment, Dml, DmlAction, Refusal, Span, Statement, TableRef},
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

/// `[WITH …] UPDATE …`; the verb is at `verb`.
pub(crate) fn update(text: &Text<'_>, verb: usize) -> Result<Statement, Refusal> {
    let (at, ignore) = modifiers_and_ignore(text, verb + 1, &["LOW_PRIORITY"])?;
    if text.find(at..text.len(), |at| text.is(at, "RETURNING")).is_some() {
        return Err(Refusal::new("RETURNING is not supported"));
    }
    let set = text
        .find(at..text.len(), |at| text.is(at, "SET"))
        .ok_or_else(|| Refusal::new("the UPDATE has no SET"))?;
    let clauses = condition::clauses_begin(text, set + 1..text.len())..text.len();
    let list = set + 1..clauses.start;
    let Some(table) = only_table(text, at..set)? else {
        let parts = Parts { verb, references: at..set, clauses, ignore };
        return joined::update(text, parts, list);
    };
    let with = with(text, verb)?;
    check_calls(text, list.clone())?;
    let action = DmlAction::Update(assignments(text, list.clone())?);
    let condition = condition::parse(text, clauses, &table)?;
    condition.check_against(text, list)?;
    Ok(finish(text, verb, with, table, action, ignore, condition))
}

/// `[WITH …] DELETE …`; the verb is at `verb`.
pub(crate) fn delete(text: &Text<'_>, verb: usize) -> Result<Statement, Refusal> {
    let (at, ignore) = modifiers_and_ignore(text, verb + 1, &["LOW_PRIORITY", "QUICK"])?;
    if text.is(at, "HISTORY") && text.is(at + 1, "FROM") {
        return Err(Refusal::new("DELETE HISTORY can't be undone"));
    }
    let from = text
        .find(at..text.len(), |at| text.is(at, "FROM"))
        .ok_or_else(|| Refusal::new("the DELETE has no FROM"))?;
    let end = text.find(at..text.len(), |at| text.is(at, "RETURNING")).unwrap_or(text.len());
    if end < text.len() {
        check_returning(text, end + 1..text.len())?;
    }
    let clauses = condition::clauses_begin(text, from + 1..end)..end;
    let several = from > at;
    let using = text
        .find(from..clauses.start, |at| text.is(at, "USING"))
        // Not that of a join
        .filter(|using| !several && !text.punct(using + 1, b'('));
    if several || using.is_some() {
        if end < text.len() {
            return Err(Refusal::new("RETURNING with several tables is not supported"));
        }
        let (targets, begins) = match using {
            Some(using) => (from + 1..using, using + 1),
            None => (at..from, from + 1),
        };
        let parts = Parts { verb, references: begins..clauses.start, clauses, ignore };
        return joined::delete(text, parts, targets);
    }
    let table = only_table(text, from + 1..clauses.start)?
        .ok_or_else(|| Refusal::new("the table is not understood"))?;
    let with = with(text, verb)?;
    let condition = condition::parse(text, clauses, &table)?;
    condition.check_against(text, end..text.len())?;
    let action = DmlAction::Delete { returning: (end < text.len()).then(|| text.span(end..text.len())) };
    Ok(finish(text, verb, with, table, action, ignore, condition))
}

fn finish(
    text: &Text<'_>,
    verb: usize,
    with: With,
    table: TableRef,
    action: DmlAction,
    ignore: bool,
    condition: Condition,
) -> Statement {
    Statement::Dml(Dml {
        verb: text.span(verb..verb + 1),
        with: with.span,
        table,
        action,
        ignore,
        volatile: condition.volatile || (condition.subquery && with.volatile),
        where_clause: condition.where_clause,
        order_by: condition.order_by,
        limit: condition.limit,
        subquery: condition.subquery,
        pinned: condition.pinned,
    })
}

/// The table, where the range is nothing but one.
fn only_table(text: &Text<'_>, range: Range<usize>) -> Result<Option<TableRef>, Refusal> {
    if text.punct(range.start, b'(') || text.is(range.start, "LATERAL") {
        return Ok(None);
    }
    let (table, after) = references::table(text, range.clone())?;
    Ok((after == range.end).then_some(table))
}

/// CTEs in front of a statement.
struct With {
    span: Option<Span>,
    /// They may give other rows when they are evaluated again.
    volatile: bool,
}

/// What stands before the verb, which was read as CTEs.
fn with(text: &Text<'_>, verb: usize) -> Result<With, Refusal> {
    let range = 0..verb;
    check_calls(text, range.clone())?;
    condition::check_once(text, range.clone())?;
    let volatile =
        functions::is_volatile(text, range.clone()) || range.clone().any(|at| text.is(at, "LIMIT"));
    Ok(With { span: (verb > 0).then(|| text.span(range)), volatile })
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
        let (qualifiers, column) = joined::assigned(text, part.start..name + 1).ok_or_else(misread)?;
        let equals = name + 1;
        // Either sign: the server takes := for = here.
        let assigns = text.punct(equals, b'=') || text.kind(equals) == Some(Kind::Assign);
        if equals >= part.end || !assigns {
            return Err(misread());
        }
        let value = equals + 1..part.end;
        check_value(text, value.clone(), misread)?;
        assignments.push(Assignment { qualifiers, column, span: text.span(part), value: text.span(value) });
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
    confirm::is_expression(text, value).map_err(|why| why.refusal(misread()))
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
        if !star {
            let misread = || Refusal::new("the RETURNING clause is not understood");
            confirm::is_expression(text, expression).map_err(|why| why.refusal(misread()))?;
        }
    }
    Ok(())
}
