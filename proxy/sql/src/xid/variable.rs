//! `@atone_xid`: where a statement assigns it, and what.

use std::ops::Range;

use crate::{
    lex::{Kind, Text, decode, identifier, unquote_string},
    types::XidValue,
};

/// The variable's name. The server ignores case, and blanks at the end.
const NAME: &str = "atone_xid";

/// Whether the token is `@atone_xid`, with or without quotes.
pub(crate) fn is_xid_variable(text: &Text<'_>, at: usize) -> bool {
    if text.kind(at) != Some(Kind::UserVar) {
        return false;
    }
    let written = text.bytes(at).get(1..).unwrap_or_default();
    let name = match written.first() {
        Some(b'\'') => unquote_string(written, text.mode).map(|name| decode(&name)).unwrap_or_default(),
        Some(b'"') if !text.mode.ansi_quotes => {
            unquote_string(written, text.mode).map(|name| decode(&name)).unwrap_or_default()
        }
        Some(b'`' | b'"') => identifier(written),
        _ => return written.eq_ignore_ascii_case(NAME.as_bytes()),
    };
    name.trim_end_matches(' ').eq_ignore_ascii_case(NAME)
}

/// Whether a text assigns `@atone_xid`, or may do so.
///
/// Statements of known forms assign it by `:=`, by INTO, or by SET. In all others, every mention counts.
pub(crate) fn touches_xid(text: &Text<'_>) -> bool {
    let reads = text.punct(0, b'(')
        || text.is_any(
            0,
            &[
                "SELECT", "WITH", "TABLE", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE", "DO", "SHOW",
                "SET", "EXPLAIN", "DESCRIBE", "DESC",
            ],
        );
    let several = text.tokens.iter().any(|token| token.kind == Kind::Punct(b';'));
    (0..text.len()).filter(|&at| is_xid_variable(text, at)).any(|at| {
        !reads
            || several
            || text.kind(at + 1) == Some(Kind::Assign)
            || (text.is(0, "SET") && is_set_target(text, at))
            || is_into_target(text, at)
    })
}

fn is_set_target(text: &Text<'_>, at: usize) -> bool {
    // `SET @a = @atone_xid = 'x'` compares: taken for an assignment, it costs one read of the variable
    text.punct(at + 1, b'=')
}

/// `INTO @a, @atone_xid`.
fn is_into_target(text: &Text<'_>, at: usize) -> bool {
    let mut at = at;
    while at >= 2 && text.punct(at - 1, b',') && text.kind(at - 2) == Some(Kind::UserVar) {
        at -= 2;
    }
    at >= 1 && text.is(at - 1, "INTO")
}

/// The value of `@atone_xid`, if it is a literal, NULL or a parameter.
pub(crate) fn value(text: &Text<'_>, value: Range<usize>, placeholders: &[usize]) -> Option<XidValue> {
    if value.len() != 1 {
        return None;
    }
    let at = value.start;
    match text.kind(at)? {
        Kind::Placeholder => {
            let offset = text.span(at..at + 1).start;
            placeholders.iter().position(|&known| known == offset).map(XidValue::Placeholder)
        }
        Kind::Str => {
            let value = unquote_string(text.bytes(at), text.mode)?;
            String::from_utf8(value).ok().map(XidValue::Literal)
        }
        Kind::Word if text.is(at, "NULL") => Some(XidValue::Null),
        _ => None,
    }
}
