//! Confirms that tokens are one expression.
//!
//! Clauses are found by their keywords; this checks that what is between them is an expression and nothing else. The
//! usual short forms are recognized here, all others by sqlparser. Its tree is not used: it is wrong for some of
//! MySQL's expressions, and only whether there is one matters.

pub(crate) mod operand;
mod sqlparser;

use std::ops::Range;

use self::{
    operand::{column, constant},
    sqlparser::Unconfirmed,
};
use super::functions;
use crate::lex::{Kind, Text};

/// Pieces of more tokens than this are split at operators and arguments, too.
const LONG_PIECE: usize = 200;

/// Confirms that the tokens are one expression.
pub(crate) fn is_expression(text: &Text<'_>, range: Range<usize>) -> Result<(), Unconfirmed> {
    let brackets = Brackets::of(text, range.clone()).ok_or(Unconfirmed::NotUnderstood)?;
    // Expressions are split without recursion, so that long and deep ones stay cheap
    let mut pieces = vec![range];
    while let Some(piece) = pieces.pop() {
        if piece.is_empty() {
            return Err(Unconfirmed::NotUnderstood);
        }
        if text.is(piece.start, "NOT") {
            pieces.push(piece.start + 1..piece.end);
            continue;
        }
        let before = pieces.len();
        let connectives = brackets.connectives(text, piece.clone());
        if !connectives.is_empty() {
            push_between(&mut pieces, piece, &connectives);
        } else if is_simple(text, piece.clone())
            || brackets.split_list(text, piece.clone(), &mut pieces)
            || brackets.split_case(text, piece.clone(), &mut pieces)
            || brackets.split_in(text, piece.clone(), &mut pieces)
        {
        } else if piece.len() <= LONG_PIECE
            || !(brackets.split_call(text, piece.clone(), &mut pieces)
                || brackets.split_chain(text, piece.clone(), &mut pieces))
        {
            pieces.truncate(before);
            sqlparser::parse(text, piece)?;
        }
    }
    Ok(())
}

/// Adds what is between separators.
fn push_between(pieces: &mut Vec<Range<usize>>, piece: Range<usize>, separators: &[usize]) {
    let mut start = piece.start;
    for &at in separators {
        pieces.push(start..at);
        start = at + 1;
    }
    pieces.push(start..piece.end);
}

/// Pairs of parentheses, and of CASE and END.
struct Brackets {
    first: usize,
    /// For each opening token the index of the closing one; for others their own index.
    closing: Vec<usize>,
}

impl Brackets {
    /// Those of a range; `None` if they do not match.
    fn of(text: &Text<'_>, range: Range<usize>) -> Option<Brackets> {
        let first = range.start;
        let mut closing: Vec<usize> = range.clone().collect();
        let mut open: Vec<usize> = Vec::new();
        for at in range {
            // Outside of a CASE, END is a name
            let closes_case = text.is(at, "END") && open.last().is_some_and(|&last| !text.punct(last, b'('));
            if text.punct(at, b'(') || text.is(at, "CASE") {
                open.push(at);
            } else if text.punct(at, b')') || closes_case {
                let last = open.pop()?;
                if text.punct(last, b'(') == closes_case {
                    return None;
                }
                *closing.get_mut(last - first)? = at;
            }
        }
        open.is_empty().then_some(Brackets { first, closing })
    }

    fn closing(&self, at: usize) -> usize {
        at.checked_sub(self.first).and_then(|at| self.closing.get(at)).copied().unwrap_or(at)
    }

    /// The tokens of a piece outside of brackets, and those that open brackets.
    fn outside(&self, piece: Range<usize>) -> impl Iterator<Item = usize> {
        let mut next = piece.start;
        std::iter::from_fn(move || {
            let at = next;
            next = self.closing(at) + 1;
            (at < piece.end).then_some(at)
        })
    }

    fn commas(&self, text: &Text<'_>, inner: Range<usize>) -> Vec<usize> {
        self.outside(inner).filter(|&at| text.punct(at, b',')).collect()
    }

    /// The AND, OR, XOR, && and || outside of brackets, except the AND of BETWEEN.
    fn connectives(&self, text: &Text<'_>, piece: Range<usize>) -> Vec<usize> {
        let mut between = 0usize;
        let connects = |at: &usize| match text.kind(*at) {
            Some(Kind::AndAnd | Kind::OrOr) => true,
            Some(Kind::Word) if text.is(*at, "BETWEEN") => {
                between += 1;
                false
            }
            Some(Kind::Word) if text.is(*at, "AND") && between > 0 => {
                between -= 1;
                false
            }
            Some(Kind::Word) => text.is_any(*at, &["AND", "OR", "XOR"]),
            _ => false,
        };
        self.outside(piece).filter(connects).collect()
    }

    /// The inside of parentheses that reach from `open` to `end`, if it is no subquery.
    fn inside(&self, text: &Text<'_>, open: usize, end: usize) -> Option<Range<usize>> {
        let whole = text.punct(open, b'(') && self.closing(open) + 1 == end && open + 2 < end;
        (whole && !functions::is_subquery(text, open + 1)).then_some(open + 1..end - 1)
    }

    /// `(a)`, `(a, b)`
    fn split_list(&self, text: &Text<'_>, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) -> bool {
        let Some(inner) = self.inside(text, piece.start, piece.end) else { return false };
        push_between(pieces, inner.clone(), &self.commas(text, inner));
        true
    }

    /// `CASE [a] WHEN b THEN c … [ELSE d] END`
    fn split_case(&self, text: &Text<'_>, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) -> bool {
        if !text.is(piece.start, "CASE") || self.closing(piece.start) + 1 != piece.end {
            return false;
        }
        let inner = piece.start + 1..piece.end - 1;
        let words = self.outside(inner.clone()).filter(|&at| text.is_any(at, &["WHEN", "THEN", "ELSE"]));
        let words: Vec<usize> = words.collect();
        let (pairs, last) = match words.split_last() {
            Some((last, pairs)) if text.is(*last, "ELSE") => (pairs, Some(*last)),
            _ => (words.as_slice(), None),
        };
        let in_turn = pairs
            .chunks(2)
            .all(|pair| matches!(pair, [when, then] if text.is(*when, "WHEN") && text.is(*then, "THEN")));
        let Some(&first) = pairs.first().filter(|_| in_turn && last != Some(inner.start)) else {
            return false;
        };
        if first > inner.start {
            pieces.push(inner.start..first);
        }
        for (nth, &at) in words.iter().enumerate() {
            pieces.push(at + 1..words.get(nth + 1).copied().unwrap_or(inner.end));
        }
        true
    }

    /// `a [NOT] IN (b, c)`
    fn split_in(&self, text: &Text<'_>, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) -> bool {
        let Some(at) = self.outside(piece.clone()).find(|&at| text.is(at, "IN")) else { return false };
        let Some(inner) = self.inside(text, at + 1, piece.end) else { return false };
        let negated = at > piece.start && text.is(at - 1, "NOT");
        pieces.push(piece.start..at - usize::from(negated));
        push_between(pieces, inner.clone(), &self.commas(text, inner));
        true
    }

    /// `f(a, b)`
    fn split_call(&self, text: &Text<'_>, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) -> bool {
        let plain = text.kind(piece.start) == Some(Kind::Word) && !sqlparser::is_special(text, piece.start);
        let Some(inner) = self.inside(text, piece.start + 1, piece.end).filter(|_| plain) else {
            return false;
        };
        push_between(pieces, inner.clone(), &self.commas(text, inner));
        true
    }

    /// `a + b * c`
    fn split_chain(&self, text: &Text<'_>, piece: Range<usize>, pieces: &mut Vec<Range<usize>>) -> bool {
        let operator = |at: usize| match text.kind(at) {
            Some(Kind::Punct(b'+' | b'-' | b'*' | b'/' | b'%' | b'&' | b'|' | b'^')) => true,
            Some(Kind::Word) => text.is_any(at, &["DIV", "MOD"]),
            _ => false,
        };
        // After an operand; elsewhere it is a sign
        let operand = |at: usize| match text.kind(at) {
            Some(Kind::Punct(byte)) => byte == b')',
            Some(Kind::Op | Kind::Assign | Kind::AndAnd | Kind::OrOr) | None => false,
            Some(Kind::Word) => {
                const BEFORE_OPERANDS: &[&str] =
                    &["DIV", "MOD", "NOT", "LIKE", "BETWEEN", "REGEXP", "RLIKE", "ESCAPE", "BINARY"];
                text.after_dot(at) || !text.is_any(at, BEFORE_OPERANDS)
            }
            Some(_) => true,
        };
        let binary = |at: &usize| operator(*at) && *at > piece.start && operand(*at - 1);
        // INTERVAL 1 DAY is no expression by itself
        let plain = self.outside(piece.clone()).all(|at| !text.is(at, "INTERVAL"));
        let operators: Vec<usize> = self.outside(piece.clone()).filter(binary).collect();
        if !plain || operators.is_empty() {
            return false;
        }
        push_between(pieces, piece, &operators);
        true
    }
}

/// Whether it is one of the commonest forms, which need no parser: an operand, `operand op operand`,
/// `column IS [NOT] NULL`, `column [NOT] IN (constants)`.
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
