//! Confirms that a run of tokens is one expression.
//!
//! Clauses are cut from the text by keywords; this is the check that what lies between them is nothing but an
//! expression. The usual short forms are recognized here, all others are given to sqlparser. Its tree is not used:
//! it is wrong for some of MySQL's expressions, and only whether there is one matters.

use std::ops::Range;

use sqlparser::{dialect::MySqlDialect, parser::Parser, tokenizer::Token};

use crate::{functions, lexer::Kind, text::Text};

/// How many operators, names and parentheses one operand of a condition may have. (The parser's tree is as deep as a
/// chain of operators is long.)
const MAX_PIECE: usize = 1000;

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
fn strings(text: &Text<'_>, at: usize, end: usize) -> usize {
    (at..end).take_while(|&at| text.kind(at) == Some(Kind::Str)).count()
}

/// `_utf8mb4` before a string, hexadecimal or bit literal.
fn is_introducer(text: &Text<'_>, at: usize) -> bool {
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
    let Some(tokens) = translate(text, piece) else { return false };
    let dialect = MySqlDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_RECURSION).with_tokens(tokens);
    parser.parse_expr().is_ok() && parser.peek_token_ref().token == Token::EOF
}

/// Names whose arguments have a syntax of their own, which the parser knows.
const SPECIAL_FORMS: &[&str] = &[
    "CAST",
    "CONVERT",
    "EXTRACT",
    "POSITION",
    "TRIM",
    "SUBSTRING",
    "SUBSTR",
    "MATCH",
    "AGAINST",
    "IN",
    "ANY",
    "SOME",
    "ALL",
    "EXISTS",
    "NOT",
    "OF",
    "OVER",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "CHAR",
    "DECIMAL",
    "DATETIME",
    "TIME",
    "BINARY",
    "DIV",
    "LIKE",
    "AND",
    "OR",
    "XOR",
    "SELECT",
    "FROM",
    "WHERE",
    "ON",
    "USING",
    "AS",
    "BY",
    "HAVING",
    "JOIN",
    "UNION",
    "BETWEEN",
    "REGEXP",
    "RLIKE",
    "INTERVAL",
    "VALUES",
    "DISTINCT",
    "LIMIT",
];

/// The tokens as sqlparser's, without their values, and with those of MySQL's forms that it does not know turned into
/// others of the same shape.
fn translate(text: &Text<'_>, piece: Range<usize>) -> Option<Vec<Token>> {
    let mut tokens: Vec<Token> = Vec::with_capacity(piece.len());
    let mut weight = 0usize;
    // The parentheses that are open.
    let mut opened: Vec<usize> = Vec::new();
    let mut at = piece.start;
    while at < piece.end {
        let mut taken = 1;
        let token = match text.kind(at)? {
            Kind::Quoted | Kind::UserVar | Kind::SysVar => name(),
            Kind::Str => {
                taken = strings(text, at, piece.end);
                Token::SingleQuotedString("s".to_owned())
            }
            Kind::Bits | Kind::Number => Token::Number("1".to_owned(), false),
            Kind::Placeholder => Token::Placeholder("?".to_owned()),
            Kind::Assign => Token::Assignment,
            Kind::AndAnd => Token::make_keyword("AND"),
            Kind::OrOr => Token::make_keyword("OR"),
            Kind::Op => operator(text.bytes(at))?,
            Kind::Punct(byte) => punctuation(byte)?,
            Kind::Word if at + 1 < piece.end && is_introducer(text, at) => {
                at += 1;
                continue;
            }
            Kind::Word if text.are(at, &["LOCK", "IN", "SHARE", "MODE"]) => {
                at += 4;
                continue;
            }
            // The charset of a type or of CHAR().
            Kind::Word if text.are(at, &["CHARACTER", "SET"]) => {
                at += 3;
                continue;
            }
            Kind::Word if text.is(at, "CHARSET") && text.kind(at + 1) == Some(Kind::Word) => {
                at += 2;
                continue;
            }
            Kind::Word
                if text.is(at, "USING")
                    && opened.last().is_some_and(|&open| open > 0 && text.is(open - 1, "CHAR")) =>
            {
                at += 2;
                continue;
            }
            Kind::Word => word(text, at)?,
        };
        match token {
            Token::LParen => opened.push(at),
            Token::RParen => {
                opened.pop();
            }
            _ => {}
        }
        if !matches!(
            token,
            Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_)
        ) {
            weight += 1;
            if weight > MAX_PIECE {
                return None;
            }
        }
        tokens.push(token);
        at += taken;
    }
    Some(tokens)
}

fn name() -> Token {
    Token::make_word("q", Some('`'))
}

fn word(text: &Text<'_>, at: usize) -> Option<Token> {
    let word = std::str::from_utf8(text.bytes(at)).unwrap_or("q");
    if text.after_dot(at) || text.punct(at + 1, b'.') {
        return Some(name());
    }
    if text.punct(at + 1, b'(') {
        if text.is(at, "INTERVAL") {
            // Either a function, or before a unit: then the argument is parenthesized.
            let after = text.skip_parens(at + 1)?;
            let unit = text.kind(after) == Some(Kind::Word) && interval_unit(text, after).is_some();
            return Some(if unit { Token::make_keyword("INTERVAL") } else { name() });
        }
        return Some(if text.is_any(at, SPECIAL_FORMS) { Token::make_keyword(word) } else { name() });
    }
    if text.is(at, "MOD") {
        return Some(Token::Mod);
    }
    if text.are(at, &["SOUNDS", "LIKE"]) {
        // An operator: `a SOUNDS LIKE b` has the shape of `a = NOT b`.
        return Some(Token::Eq);
    }
    if at > 0 && text.are(at - 1, &["SOUNDS", "LIKE"]) {
        return Some(Token::Minus);
    }
    Some(match interval_unit(text, at) {
        Some(unit) => Token::make_keyword(unit),
        None => Token::make_word(word, None),
    })
}

/// A unit that the parser knows, for one that it may not know.
fn interval_unit(text: &Text<'_>, at: usize) -> Option<&'static str> {
    const COMPOUND: &[&str] = &[
        "DAY_HOUR",
        "DAY_MICROSECOND",
        "DAY_MINUTE",
        "DAY_SECOND",
        "HOUR_MICROSECOND",
        "HOUR_MINUTE",
        "HOUR_SECOND",
        "MINUTE_MICROSECOND",
        "MINUTE_SECOND",
        "SECOND_MICROSECOND",
        "YEAR_MONTH",
    ];
    const SIMPLE: &[&str] =
        &["MICROSECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"];
    if text.is_any(at, COMPOUND) {
        return Some("HOUR");
    }
    SIMPLE.iter().find(|unit| text.is(at, unit)).copied()
}

fn operator(text: &[u8]) -> Option<Token> {
    Some(match text {
        b"<=" => Token::LtEq,
        b">=" => Token::GtEq,
        b"<>" | b"!=" => Token::Neq,
        b"<=>" => Token::Spaceship,
        b"<<" => Token::ShiftLeft,
        b">>" => Token::ShiftRight,
        b"->" => Token::Arrow,
        b"->>" => Token::LongArrow,
        _ => return None,
    })
}

fn punctuation(byte: u8) -> Option<Token> {
    Some(match byte {
        b'(' => Token::LParen,
        b')' => Token::RParen,
        b',' => Token::Comma,
        b'.' => Token::Period,
        b'+' => Token::Plus,
        // A prefix operator of the same shape.
        b'-' | b'!' => Token::Minus,
        b'*' => Token::Mul,
        b'/' => Token::Div,
        b'%' => Token::Mod,
        b'=' => Token::Eq,
        b'<' => Token::Lt,
        b'>' => Token::Gt,
        b'&' => Token::Ampersand,
        b'|' => Token::Pipe,
        b'^' => Token::Caret,
        b'~' => Token::Tilde,
        _ => return None,
    })
}
