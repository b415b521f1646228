//! Assignments: `a = 1, t.b = DEFAULT`.

use std::ops::Range;

use super::{expression, functions};
use crate::{
    lex::Text,
    types::{Assignment, Refusal},
};

/// The tokens of the column's name and of the value in an assignment; `None` if it is no assignment.
pub(crate) fn split(text: &Text<'_>, part: Range<usize>) -> Option<(Range<usize>, Range<usize>)> {
    let mut last = part.start;
    for _ in 0..2 {
        if text.punct(last + 1, b'.') {
            last += 2;
        }
    }
    let value = last + 2..part.end;
    (text.assigns(last + 1) && !value.is_empty()).then_some((part.start..last + 1, value))
}

/// `a = 1, t.b = DEFAULT, …`.
pub(crate) fn read(text: &Text<'_>, range: Range<usize>) -> Result<Vec<Assignment>, Refusal> {
    let mut assignments = Vec::new();
    for part in text.split_commas(range) {
        let not_understood = || Refusal::new("an assignment is not understood");
        let (name, value) = split(text, part.clone()).ok_or_else(not_understood)?;
        let (qualifiers, column) = assigned(text, name).ok_or_else(not_understood)?;
        check_value(text, value.clone(), not_understood)?;
        assignments.push(Assignment { qualifiers, column, span: text.span(part), value: text.span(value) });
    }
    Ok(assignments)
}

/// The name and qualifiers of an assigned column.
fn assigned(text: &Text<'_>, name: Range<usize>) -> Option<(Vec<String>, String)> {
    let mut names: Vec<String> = name.step_by(2).map(|at| text.name(at)).collect::<Option<_>>()?;
    let column = names.pop()?;
    Some((names, column))
}

/// Refuses a value that is neither an expression nor DEFAULT.
fn check_value(
    text: &Text<'_>,
    value: Range<usize>,
    not_understood: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    functions::check_diagnostics(text, value.clone())?;
    if value.len() == 1 && text.is_any(value.start, &["DEFAULT", "IGNORE"]) {
        if text.is(value.start, "IGNORE") {
            return Err(not_understood());
        }
        return Ok(());
    }
    expression::is_expression(text, value).map_err(|why| why.refusal(not_understood()))
}
