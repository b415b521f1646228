//! Operands: constants, parameters, columns.

use crate::lex::{Kind, Text};

/// How many tokens the constant or parameter at `at` has.
pub(crate) fn constant(text: &Text<'_>, at: usize, end: usize) -> Option<usize> {
    let signs = usize::from(text.punct(at, b'-') || text.punct(at, b'+'));
    let at = at + signs;
    if at >= end {
        return None;
    }
    let len = match text.kind(at)? {
        Kind::Number => 1,
        _ if signs > 0 => return None,
        Kind::Placeholder => 1,
        Kind::Bits => 1,
        Kind::Str => strings(text, at, end),
        Kind::Word => {
            if text.is_any(at, &["TRUE", "FALSE", "NULL"]) {
                1
            } else if at + 1 < end && is_introducer(text, at) {
                1 + if text.kind(at + 1) == Some(Kind::Str) { strings(text, at + 1, end) } else { 1 }
            } else if at + 1 < end
                && text.is_any(at, &["DATE", "TIME", "TIMESTAMP"])
                && text.kind(at + 1) == Some(Kind::Str)
            {
                2
            } else {
                return None;
            }
        }
        _ => return None,
    };
    Some(signs + len)
}

/// How many adjacent strings, which are one literal, begin at `at`.
pub(crate) fn strings(text: &Text<'_>, at: usize, end: usize) -> usize {
    (at..end).take_while(|&at| text.kind(at) == Some(Kind::Str)).count()
}

/// `_utf8mb4` before a string, hexadecimal or bit literal.
pub(crate) fn is_introducer(text: &Text<'_>, at: usize) -> bool {
    text.kind(at) == Some(Kind::Word)
        && text.bytes(at).first() == Some(&b'_')
        && matches!(text.kind(at + 1), Some(Kind::Str | Kind::Bits))
}

/// How many tokens the column at `at` has: `a`, `t.a`, `s.t.a`. Words that begin an expression are no columns.
pub(crate) fn column(text: &Text<'_>, at: usize, end: usize) -> Option<usize> {
    const NOT_COLUMNS: &[&str] = &[
        "NOT", "NULL", "TRUE", "FALSE", "CASE", "EXISTS", "INTERVAL", "BINARY", "DEFAULT", "SELECT",
        "DISTINCT", "ALL", "MATCH", "IF", "END", "WHEN", "THEN", "ELSE", "AND", "OR", "XOR", "DIV", "MOD",
        "IN", "IS", "LIKE", "BETWEEN", "REGEXP", "RLIKE", "SET", "WHERE", "ORDER", "LIMIT", "GROUP", "BY",
        "FROM",
    ];
    let mut len = 0;
    loop {
        let here = at + len;
        if here >= end || !matches!(text.kind(here), Some(Kind::Word | Kind::Quoted)) {
            return None;
        }
        if text.is_any(here, NOT_COLUMNS) {
            return None;
        }
        len += 1;
        if at + len < end && text.punct(at + len, b'.') && len < 5 {
            len += 1;
        } else {
            return Some(len);
        }
    }
}
