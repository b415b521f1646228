//! UPDATE and DELETE. `multi_table` reads those of several tables.

use std::ops::Range;

use super::multi_table::{self, Parts};
use crate::{
    clause::{
        assignments,
        condition::{self, Condition},
        ctes::{self, Ctes},
        functions::check_calls,
        modifiers::modifiers,
        returning, table,
    },
    lex::Text,
    types::{Dml, DmlAction, Refusal, Statement, TableRef},
};

/// The index after the modifiers, and whether IGNORE is among them.
fn modifiers_and_ignore(text: &Text<'_>, at: usize, harmless: &[&str]) -> Result<(usize, bool), Refusal> {
    let at = modifiers(text, at, harmless)?;
    Ok(if text.is(at, "IGNORE") { (at + 1, true) } else { (at, false) })
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
        return multi_table::update(text, parts, list);
    };
    let with = ctes::before(text, verb)?;
    check_calls(text, list.clone())?;
    let action = DmlAction::Update(assignments::read(text, list.clone())?);
    let condition = condition::read(text, clauses, &table)?;
    condition.check_independent(text, list)?;
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
        returning::check(text, end + 1..text.len())?;
    }
    let clauses = condition::clauses_begin(text, from + 1..end)..end;
    let several = from > at;
    let using = text
        .find(from..clauses.start, |at| text.is(at, "USING"))
        // Not the USING of a join
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
        return multi_table::delete(text, parts, targets);
    }
    let table = only_table(text, from + 1..clauses.start)?
        .ok_or_else(|| Refusal::new("the table is not understood"))?;
    let with = ctes::before(text, verb)?;
    let condition = condition::read(text, clauses, &table)?;
    condition.check_independent(text, end..text.len())?;
    let action = DmlAction::Delete { returning: (end < text.len()).then(|| text.span(end..text.len())) };
    Ok(finish(text, verb, with, table, action, ignore, condition))
}

fn finish(
    text: &Text<'_>,
    verb: usize,
    with: Ctes,
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
        equalities: condition.equalities,
    })
}

/// The table, if the range is one table and nothing else.
fn only_table(text: &Text<'_>, range: Range<usize>) -> Result<Option<TableRef>, Refusal> {
    if text.punct(range.start, b'(') || text.is(range.start, "LATERAL") {
        return Ok(None);
    }
    let (table, after) = table::read(text, range.clone())?;
    Ok((after == range.end).then_some(table))
}
