//! UPDATE and DELETE of several tables.

use std::ops::Range;

use crate::{
    clause::{
        assignments,
        condition::{self, Condition},
        functions::{self, CALLED_ONCE, check_calls},
        references::{self, References},
        table,
    },
    lex::{Kind, Text},
    types::{Joined, JoinedAction, Refusal, Statement, TableRef},
};

/// The parts of such a statement, as ranges of tokens.
pub(crate) struct Parts {
    /// The verb. All tokens before it are CTEs.
    pub(crate) verb: usize,
    pub(crate) references: Range<usize>,
    /// WHERE and what follows it.
    pub(crate) clauses: Range<usize>,
    pub(crate) ignore: bool,
}

/// `UPDATE references SET assignments …`.
pub(crate) fn update(text: &Text<'_>, parts: Parts, set: Range<usize>) -> Result<Statement, Refusal> {
    check_calls(text, set.clone())?;
    let assignments = assignments::read(text, set.clone())?;
    if functions::find_call(text, set.clone(), "LAST_INSERT_ID").is_some_and(|at| !text.punct(at + 2, b')')) {
        // It has the value of the last row, and the plan decides which row is last
        return Err(Refusal::new("an UPDATE of several tables sets LAST_INSERT_ID()"));
    }
    let (references, condition) = read(text, &parts)?;
    condition.check_independent(text, set.clone())?;
    for range in [&(0..parts.verb), &parts.references] {
        condition::check_independent(text, range.clone(), set.clone())?;
    }
    finish(text, parts, references, condition, JoinedAction::Update(assignments))
}

/// `DELETE targets FROM references …`, `DELETE FROM targets USING references …`.
pub(crate) fn delete(text: &Text<'_>, parts: Parts, targets: Range<usize>) -> Result<Statement, Refusal> {
    let (references, condition) = read(text, &parts)?;
    let targets = text
        .split_commas(targets)
        .into_iter()
        .map(|target| target_of(text, target, &references.tables))
        .collect::<Result<Vec<usize>, _>>()?;
    finish(text, parts, references, condition, JoinedAction::Delete(targets))
}

fn read(text: &Text<'_>, parts: &Parts) -> Result<(References, Condition), Refusal> {
    for range in [&(0..parts.verb), &parts.references] {
        check_calls(text, range.clone())?;
        condition::check_effects(text, range.clone())?;
    }
    let references = references::read(text, parts.references.clone())?;
    let first = references.tables.first().ok_or_else(|| Refusal::new("no table is written"))?;
    let condition = condition::read(text, parts.clauses.clone(), first)?;
    if condition.order_by.is_some() || condition.limit.is_some() {
        return Err(Refusal::new("ORDER BY and LIMIT with several tables are not supported"));
    }
    Ok((references, condition))
}

fn finish(
    text: &Text<'_>,
    parts: Parts,
    references: References,
    condition: Condition,
    action: JoinedAction,
) -> Result<Statement, Refusal> {
    let with = 0..parts.verb;
    let mut volatile = false;
    for range in [&with, &parts.references, &parts.clauses] {
        let called = |name: &&&str| functions::find_call(text, range.clone(), name).is_some();
        if let Some(name) = CALLED_ONCE.iter().find(called) {
            let why = format!("a condition over several tables calls {name}(), and is evaluated twice");
            return Err(Refusal::new(why));
        }
        // User variables are constant: the statement assigns none that it reads
        let mut tokens = range.clone().filter(|at| text.kind(*at) != Some(Kind::UserVar));
        let subquery = || range.clone().any(|at| functions::is_subquery(text, at));
        let limited = || range.clone().any(|at| text.is(at, "LIMIT")) && subquery();
        volatile |= tokens.any(|at| functions::is_volatile(text, at..at + 1)) || limited();
    }
    Ok(Statement::Joined(Joined {
        verb: text.span(parts.verb..parts.verb + 1),
        with: (parts.verb > 0).then(|| text.span(with)),
        references: text.span(parts.references),
        tables: references.tables,
        outer: references.outer,
        action,
        where_clause: condition.where_clause,
        ignore: parts.ignore,
        volatile,
    }))
}

/// The index of the reference that `t`, `s.t` or `t.*` means.
fn target_of(text: &Text<'_>, mut target: Range<usize>, tables: &[TableRef]) -> Result<usize, Refusal> {
    let not_understood = || Refusal::new("which tables the DELETE means is not understood");
    if target.len() > 2 && text.punct(target.end - 1, b'*') && text.punct(target.end - 2, b'.') {
        target.end -= 2;
    }
    let (schema, name, end) = table::name(text, target.clone()).ok_or_else(not_understood)?;
    if end != target.end {
        return Err(not_understood());
    }
    let mut found = tables
        .iter()
        .enumerate()
        .filter(|(_, table)| table.matches_qualifier(schema.as_deref(), &name))
        .map(|(i, _)| i);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(not_understood()),
    }
}
