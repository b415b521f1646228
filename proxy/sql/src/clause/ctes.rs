//! WITH: the CTEs before a statement.

use super::{condition, functions};
use crate::{
    lex::Text,
    types::{Refusal, Span},
};

/// The index after the CTEs of the WITH at `at`.
pub(crate) fn after(text: &Text<'_>, mut at: usize) -> Result<usize, Refusal> {
    let not_understood = || Refusal::new("the WITH clause is not understood");
    at += 1 + usize::from(text.is(at + 1, "RECURSIVE"));
    loop {
        text.name(at).ok_or_else(not_understood)?;
        at += 1;
        if text.punct(at, b'(') {
            at = text.skip_parens(at).ok_or_else(not_understood)?;
        }
        if !text.is(at, "AS") {
            return Err(not_understood());
        }
        at = text.skip_parens(at + 1).ok_or_else(not_understood)?;
        if !text.punct(at, b',') {
            return Ok(at);
        }
        at += 1;
    }
}

/// The CTEs before a statement.
pub(crate) struct Ctes {
    pub(crate) span: Option<Span>,
    /// They may give other rows when they are evaluated again.
    pub(crate) volatile: bool,
}

/// The CTEs before the verb; all tokens there are theirs.
pub(crate) fn before(text: &Text<'_>, verb: usize) -> Result<Ctes, Refusal> {
    let range = 0..verb;
    functions::check_calls(text, range.clone())?;
    condition::check_effects(text, range.clone())?;
    let volatile =
        functions::is_volatile(text, range.clone()) || range.clone().any(|at| text.is(at, "LIMIT"));
    Ok(Ctes { span: (verb > 0).then(|| text.span(range)), volatile })
}
