//! Prepared statements in SQL: PREPARE, EXECUTE, EXECUTE IMMEDIATE, DEALLOCATE PREPARE.

use crate::{
    lex::{Kind, Text, unquote_string},
    types::{Execute, ExecuteWhat, Prepare, Refusal, Span, Statement, StatementText},
};

fn not_understood(verb: &str) -> Refusal {
    Refusal::new(format!("the {verb} is not understood"))
}

/// `PREPARE name FROM 'text' | @variable`
pub(crate) fn prepare(text: &Text<'_>) -> Result<Statement, Refusal> {
    let name = name(text, 1)?;
    if !text.is(2, "FROM") || text.len() != 4 {
        return Err(Refusal::new("PREPARE is understood with one text or user variable"));
    }
    Ok(Statement::Prepare(Prepare { name, source: source(text, 3)? }))
}

/// `EXECUTE name [USING @a, …]`, `EXECUTE IMMEDIATE 'text' | @variable [USING @a, …]`
pub(crate) fn execute(text: &Text<'_>) -> Result<Statement, Refusal> {
    let immediate = text.mode.mariadb && text.is(1, "IMMEDIATE") && text.len() > 2 && !text.is(2, "USING");
    let (what, at) = if immediate {
        (ExecuteWhat::Immediate(source(text, 2)?), 3)
    } else {
        (ExecuteWhat::Named(name(text, 1)?), 2)
    };
    if at == text.len() {
        return Ok(Statement::Execute(Execute { what, using: Vec::new() }));
    }
    if !text.is(at, "USING") {
        return Err(not_understood("EXECUTE"));
    }
    let mut using: Vec<Span> = Vec::new();
    let mut at = at + 1;
    loop {
        let ends = at + 1 == text.len();
        if text.kind(at) != Some(Kind::UserVar) || !(ends || text.punct(at + 1, b',')) {
            return Err(Refusal::new("EXECUTE is understood with user variables behind USING"));
        }
        using.push(text.span(at..at + 1));
        if ends {
            return Ok(Statement::Execute(Execute { what, using }));
        }
        at += 2;
    }
}

/// `DEALLOCATE PREPARE name`, `DROP PREPARE name`
pub(crate) fn deallocate(text: &Text<'_>) -> Result<Statement, Refusal> {
    if !text.is(1, "PREPARE") || text.len() != 3 {
        return Err(not_understood("DEALLOCATE PREPARE"));
    }
    Ok(Statement::Deallocate(name(text, 2)?))
}

/// A statement's name, in lower case. The server compares names by a collation, so only names are accepted that equal
/// no other.
fn name(text: &Text<'_>, at: usize) -> Result<String, Refusal> {
    let name = text.name(at).ok_or_else(|| not_understood("name of a prepared statement"))?;
    let plain =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'));
    if !plain {
        return Err(Refusal::new(
            "the name of a prepared statement must be of ASCII letters, digits, _ and $",
        ));
    }
    Ok(name.to_ascii_lowercase())
}

fn source(text: &Text<'_>, at: usize) -> Result<StatementText, Refusal> {
    let from = || Refusal::new("a statement is prepared from one text or user variable only");
    match text.kind(at).ok_or_else(from)? {
        Kind::Str => unquote_string(text.bytes(at), text.mode).map(StatementText::Literal).ok_or_else(from),
        Kind::UserVar => Ok(StatementText::Variable(text.span(at..at + 1))),
        _ => Err(from()),
    }
}
