//! Confirms that a run of tokens is one expression.
//!
//! Clauses are cut from the text by keywords; this is the check that what lies between them is nothing but an
//! expression. The usual short forms are recognized here, all others are given to sqlparser. Its tree is not used:
//! it is wrong for some of MySQL's expressions, and only whether there is one matters.

use std::ops::Range;

use sqlparser::{dialect::MySqlDialect, parser::Parser, tokenizer::Token};

use crate::{functions, lexer::Kind, text::Text, translate};

/// How deep the parser may recurse.
const MAX_RECURSION: usize = 60;

/// Whether the tokens are one expression, as far as could be understood.
pub(crate) fn is_expression(text: &Text<'_>, range: Range<usize>) -> bool {
    // Conditions are taken apart at AND and OR, so that long ones stay cheap.
    let mut pieces = vec![range];
    while let Some(piece) = pieces.pop() {
        if piece.is_empty() {
            return false;
        }
        if text.is(piece.start, "NOT") {
            pieces.push(piece.start + 1..piece.end);
            continue;
        }
        let mut start = piece.start;
        for at in connectives(text, piece.clone()) {
            pieces.push(start..at);
            start = at + 1;
        }
        if start > piece.start {
            pieces.push(start..piece.end);
        } else if let Some(inner) = parenthesized(text, piece.clone()) {
            pieces.push(inner);
        } else if !is_simple(text, piece.clone()) && !parses(text, piece) {
            return false;
        }
    }
    true
}

/// The AND, OR, XOR, && and || outside of parentheses and CASE, but for the AND of BETWEEN.
fn connectives(text: &Text<'_>, range: Range<usize>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut depth = 0usize;
    let mut between = 0usize;
    for at in range {
        match text.kind(at) {
            Some(Kind::Punct(b'(')) => depth += 1,
            Some(Kind::Punct(b')')) => depth = depth.saturating_sub(1),
            Some(Kind::AndAnd | Kind::OrOr) if depth == 0 => found.push(at),
            Some(Kind::Word) => {
                if text.is(at, "CASE") {
                    depth += 1;
                } else if text.is(at, "END") {
                    depth = depth.saturating_sub(1);
                } else if depth > 0 {
                } else if text.is(at, "BETWEEN") {
                    between += 1;
                } else if text.is(at, "AND") && between > 0 {
                    between -= 1;
                } else if text.is_any(at, &["AND", "OR", "XOR"]) {
                    found.push(at);
                }
            }
            _ => {}
        }
    }
    found
}

/// The inside of `( … )`, where it is an expression and not a list or a subquery.
fn parenthesized(text: &Text<'_>, piece: Range<usize>) -> Option<Range<usize>> {
    let inner = piece.start + 1..piece.end.checked_sub(1)?;
    let whole = text.skip_parens(piece.start)? == piece.end;
    let plain = whole
        && !inner.is_empty()
        && !functions::is_subquery(text, inner.start)
        && text.find(inner.clone(), |at| text.punct(at, b',')).is_none();
    plain.then_some(inner)
}

/// A constant or a parameter: how many tokens it has.
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

/// `a`, `t.a`, `s.t.a`: how many tokens it has. Words that begin an expression are no columns.
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

/// The commonest forms, without the cost of a parser: an operand, `operand op operand`, `column IS [NOT] NULL`,
/// `column [NOT] IN (constants)`.
fn is_simple(text: &Text<'_>, piece: Range<usize>) -> bool {
    let end = piece.end;
    let operand = |at| constant(text, at, end).or_else(|| column(text, at, end));
    let Some(len) = operand(piece.start) else { return false };
    let at = piece.start + len;
    if at == end {
        return true;
    }
    match text.kind(at) {
        Some(Kind::Punct(b'=' | b'<' | b'>' | b'+' | b'*' | b'/' | b'-')) => {
            operand(at + 1).is_some_and(|len| at + 1 + len == end)
        }
        Some(Kind::Op) if !text.bytes(at).starts_with(b"->") => {
            operand(at + 1).is_some_and(|len| at + 1 + len == end)
        }
        Some(Kind::Word) => {
            let negated = |at: usize| at + usize::from(text.is(at, "NOT"));
            if text.is(at, "IS") {
                let null = negated(at + 1);
                return text.is(null, "NULL") && null + 1 == end;
            }
            let open = negated(at) + 1;
            if !text.is(open - 1, "IN") || !text.punct(open, b'(') {
                return false;
            }
            let mut at = open + 1;
            while let Some(len) = constant(text, at, end) {
                at += len;
                if text.punct(at, b')') {
                    return at + 1 == end;
                }
                if !text.punct(at, b',') {
                    return false;
                }
                at += 1;
            }
            false
        }
        _ => false,
    }
}

/// Whether sqlparser takes the tokens as one expression.
fn parses(text: &Text<'_>, piece: Range<usize>) -> bool {
    let Some(tokens) = translate::translate(text, piece) else { return false };
    let dialect = MySqlDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_RECURSION).with_tokens(tokens);
    parser.parse_expr().is_ok() && parser.peek_token_ref().token == Token::EOF
}
