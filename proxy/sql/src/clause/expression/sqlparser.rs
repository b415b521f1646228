//! Asks sqlparser whether tokens are one expression.

use std::ops::Range;

use ::sqlparser::{dialect::MySqlDialect, parser::Parser, tokenizer::Token};

use super::operand::{is_introducer, strings};
use crate::{
    lex::{Kind, Text},
    types::Refusal,
};

/// How deep the parser may recurse.
const MAX_RECURSION: usize = 60;

/// How many operators, names and parentheses a piece of an expression may have. The parser's tree is as deep as a chain
/// of operators is long.
const MAX_PIECE: usize = 1000;

/// Why tokens were not confirmed to be one expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unconfirmed {
    /// They are no expression, or none that is understood.
    NotUnderstood,
    /// A piece that cannot be split has more than [`MAX_PIECE`] operators, names and parentheses.
    TooLong,
}

impl Unconfirmed {
    /// The refusal: `not_understood`, or that a piece is too long.
    pub(crate) fn refusal(self, not_understood: Refusal) -> Refusal {
        match self {
            Unconfirmed::NotUnderstood => not_understood,
            Unconfirmed::TooLong => Refusal::new(format!(
                "the statement has a part of an expression with more than {MAX_PIECE} operators and names in a row"
            )),
        }
    }
}

/// Names whose arguments have a special syntax, which the parser knows.
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

/// Confirms that sqlparser takes the tokens as one expression.
pub(crate) fn parse(text: &Text<'_>, piece: Range<usize>) -> Result<(), Unconfirmed> {
    let tokens = translate(text, piece)?;
    let dialect = MySqlDialect {};
    let mut parser = Parser::new(&dialect).with_recursion_limit(MAX_RECURSION).with_tokens(tokens);
    let whole = parser.parse_expr().is_ok() && parser.peek_token_ref().token == Token::EOF;
    if whole { Ok(()) } else { Err(Unconfirmed::NotUnderstood) }
}

/// The tokens as sqlparser's, without their values. Forms of MySQL that it does not know become others of the same
/// shape.
fn translate(text: &Text<'_>, piece: Range<usize>) -> Result<Vec<Token>, Unconfirmed> {
    let mut tokens: Vec<Token> = Vec::with_capacity(piece.len());
    let mut weight = 0usize;
    // The open parentheses
    let mut opened: Vec<usize> = Vec::new();
    let mut at = piece.start;
    while at < piece.end {
        let mut taken = 1;
        let token = match text.kind(at).ok_or(Unconfirmed::NotUnderstood)? {
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
            Kind::Op => operator(text.bytes(at)).ok_or(Unconfirmed::NotUnderstood)?,
            Kind::Punct(byte) => punctuation(byte).ok_or(Unconfirmed::NotUnderstood)?,
            Kind::Word if at + 1 < piece.end && is_introducer(text, at) => {
                at += 1;
                continue;
            }
            Kind::Word if text.are(at, &["LOCK", "IN", "SHARE", "MODE"]) => {
                at += 4;
                continue;
            }
            // The charset of a type or of CHAR()
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
            Kind::Word => word(text, at).ok_or(Unconfirmed::NotUnderstood)?,
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
                return Err(Unconfirmed::TooLong);
            }
        }
        tokens.push(token);
        at += taken;
    }
    Ok(tokens)
}

/// Whether the arguments of a name have a special syntax.
pub(crate) fn is_special(text: &Text<'_>, at: usize) -> bool {
    text.is_any(at, SPECIAL_FORMS)
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
            // Before a unit it is the keyword, with an argument in parentheses; else a function
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

/// A unit that the parser knows, in the place of one that it may not know.
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
        // ! is a prefix operator as well
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
