//! Statements that begin and end transactions, and USE.

use crate::{
    lex::{Kind, Text, unquote_string},
    types::{Refusal, Statement, XidValue},
    xid::variable,
};

/// `START …`.
pub(crate) fn start(text: &Text<'_>, placeholders: &[usize]) -> Result<Statement, Refusal> {
    if text.is(1, "GLOBAL") {
        return start_global(text, placeholders);
    }
    if !text.is(1, "TRANSACTION") {
        return Err(Refusal::new("START may change the server"));
    }
    let (mut read_only, mut read_write, mut consistent_snapshot) = (false, false, false);
    let mut at = 2;
    while at < text.len() {
        if text.are(at, &["READ", "ONLY"]) {
            read_only = true;
            at += 2;
        } else if text.are(at, &["READ", "WRITE"]) {
            read_write = true;
            at += 2;
        } else if text.are(at, &["WITH", "CONSISTENT", "SNAPSHOT"]) {
            consistent_snapshot = true;
            at += 3;
        } else {
            return Err(not_understood());
        }
        if at < text.len() {
            if !text.punct(at, b',') || at + 1 == text.len() {
                return Err(not_understood());
            }
            at += 1;
        }
    }
    if read_only && read_write {
        return Err(not_understood());
    }
    Ok(Statement::Begin { read_only, consistent_snapshot })
}

fn not_understood() -> Refusal {
    Refusal::new("the statement is not understood")
}

/// `START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds]`, with the options in either order, or
/// `START GLOBAL TRANSACTION JOIN 'xid'`.
fn start_global(text: &Text<'_>, placeholders: &[usize]) -> Result<Statement, Refusal> {
    let not_understood = || {
        Refusal::for_atone("expected START GLOBAL TRANSACTION [NAME 'text'] [TIMEOUT seconds] or JOIN 'xid'")
    };
    if !text.is(2, "TRANSACTION") {
        return Err(not_understood());
    }
    if text.is(3, "JOIN") {
        return match variable::value(text, 4..text.len(), placeholders) {
            Some(XidValue::Literal(xid)) if xid.is_empty() => Err(not_understood()),
            Some(value @ (XidValue::Literal(_) | XidValue::Placeholder(_))) => {
                Ok(Statement::JoinGlobal(value))
            }
            // From a parameter of another type: no transaction has this XID
            None if text.len() == 5 && text.kind(4) == Some(Kind::Number) => {
                let digits = String::from_utf8_lossy(text.bytes(4)).into_owned();
                Ok(Statement::JoinGlobal(XidValue::Literal(digits)))
            }
            Some(XidValue::Null) | None => Err(not_understood()),
        };
    }
    let (mut name, mut timeout_s) = (None, None);
    let mut at = 3;
    while at < text.len() {
        if text.is(at, "NAME") && name.is_none() && text.kind(at + 1) == Some(Kind::Str) {
            let value = unquote_string(text.bytes(at + 1), text.mode).ok_or_else(not_understood)?;
            let value = String::from_utf8(value)
                .map_err(|_| Refusal::for_atone("the NAME of a global transaction must be UTF-8"))?;
            name = Some(value);
        } else if text.is(at, "TIMEOUT") && timeout_s.is_none() && text.kind(at + 1) == Some(Kind::Number) {
            let digits = std::str::from_utf8(text.bytes(at + 1)).map_err(|_| not_understood())?;
            let value = digits.parse::<u64>().map_err(|_| {
                Refusal::for_atone("the TIMEOUT of a global transaction must be a whole number of seconds")
            })?;
            timeout_s = Some(value);
        } else {
            return Err(not_understood());
        }
        at += 2;
    }
    Ok(Statement::StartGlobal { name, timeout_s })
}

/// `BEGIN [WORK]`.
pub(crate) fn begin(text: &Text<'_>) -> Result<Statement, Refusal> {
    match text.len() {
        1 => {}
        2 if text.is(1, "WORK") => {}
        _ => return Err(Refusal::new("compound statements are not supported")),
    }
    Ok(Statement::Begin { read_only: false, consistent_snapshot: false })
}

/// `COMMIT …`.
pub(crate) fn commit(text: &Text<'_>) -> Result<Statement, Refusal> {
    if text.is(1, "GLOBAL") {
        return global(text, "COMMIT", Statement::CommitGlobal);
    }
    let (chain, release) = completion(text, 1)?;
    Ok(Statement::Commit { chain, release })
}

/// `ROLLBACK …`.
pub(crate) fn rollback(text: &Text<'_>) -> Result<Statement, Refusal> {
    if text.is(1, "GLOBAL") {
        return global(text, "ROLLBACK", Statement::RollbackGlobal);
    }
    let at = 1 + usize::from(text.is(1, "WORK"));
    if text.is(at, "TO") {
        // The word SAVEPOINT is optional, and may be the name
        let at = at + 1;
        let at = at + usize::from(text.is(at, "SAVEPOINT") && at + 1 < text.len());
        return Ok(Statement::RollbackTo(savepoint_name(text, at)?));
    }
    let (chain, release) = completion(text, 1)?;
    Ok(Statement::Rollback { chain, release })
}

fn global(text: &Text<'_>, verb: &str, statement: Statement) -> Result<Statement, Refusal> {
    if text.is(2, "TRANSACTION") && text.len() == 3 {
        Ok(statement)
    } else {
        Err(Refusal::for_atone(format!("expected {verb} GLOBAL TRANSACTION")))
    }
}

/// `[WORK] [AND [NO] CHAIN] [[NO] RELEASE]`.
fn completion(text: &Text<'_>, at: usize) -> Result<(bool, bool), Refusal> {
    let mut at = at + usize::from(text.is(at, "WORK"));
    let (mut chain, mut release) = (false, false);
    if text.are(at, &["AND", "CHAIN"]) {
        chain = true;
        at += 2;
    } else if text.are(at, &["AND", "NO", "CHAIN"]) {
        at += 3;
    }
    if text.is(at, "RELEASE") {
        release = true;
        at += 1;
    } else if text.are(at, &["NO", "RELEASE"]) {
        at += 2;
    }
    if at != text.len() || (chain && release) {
        return Err(not_understood());
    }
    Ok((chain, release))
}

/// `SAVEPOINT name`.
pub(crate) fn savepoint(text: &Text<'_>) -> Result<Statement, Refusal> {
    Ok(Statement::Savepoint(savepoint_name(text, 1)?))
}

/// `RELEASE SAVEPOINT name`.
pub(crate) fn release(text: &Text<'_>) -> Result<Statement, Refusal> {
    if !text.is(1, "SAVEPOINT") {
        return Err(not_understood());
    }
    Ok(Statement::ReleaseSavepoint(savepoint_name(text, 2)?))
}

fn savepoint_name(text: &Text<'_>, at: usize) -> Result<String, Refusal> {
    if text.len() != at + 1 {
        return Err(not_understood());
    }
    let name = text.name(at).ok_or_else(not_understood)?;
    // To the server é is e here, so that one name may mean another
    if !name.is_ascii() {
        return Err(Refusal::new("the name of a savepoint must be ASCII"));
    }
    Ok(name.to_ascii_lowercase())
}

/// `USE schema`.
pub(crate) fn use_schema(text: &Text<'_>) -> Result<Statement, Refusal> {
    if text.len() != 2 {
        return Err(not_understood());
    }
    text.name(1).map(Statement::Use).ok_or_else(not_understood)
}
