//! A tokenized statement and questions about it.

use std::ops::Range;

use super::{
    mode::Mode,
    quoting::identifier,
    token::{Kind, Lexed, Token},
};
use crate::types::{Refusal, Span};

/// How deep parentheses may be nested.
pub(crate) const MAX_DEPTH: usize = 1000;

/// One statement: its text and its tokens, without `;`.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) sql: &'a [u8],
    pub(crate) mode: Mode,
    pub(crate) tokens: &'a [Token],
}

impl<'a> Text<'a> {
    /// The whole of a text.
    pub(crate) fn new(sql: &'a [u8], mode: Mode, lexed: &'a Lexed) -> Self {
        Self { sql, mode, tokens: &lexed.tokens }
    }

    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(crate) fn kind(&self, at: usize) -> Option<Kind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The text of a token, without its mark; empty after the last one.
    pub(crate) fn bytes(&self, at: usize) -> &'a [u8] {
        self.tokens.get(at).and_then(|token| self.sql.get(token.bare_span())).unwrap_or_default()
    }

    /// The text from the first token of the range to its last; the empty span at 0 where the range is empty.
    pub(crate) fn span(&self, tokens: Range<usize>) -> Span {
        match self.tokens.get(tokens) {
            Some([first, .., last]) => first.start()..last.end(),
            Some([only]) => only.span(),
            _ => 0..0,
        }
    }

    /// Whether the token is this word, unquoted and not a part of a qualified name.
    pub(crate) fn is(&self, at: usize, word: &str) -> bool {
        self.kind(at) == Some(Kind::Word)
            && self.bytes(at).eq_ignore_ascii_case(word.as_bytes())
            && !self.after_dot(at)
    }

    /// Whether these words are here, one after the other.
    pub(crate) fn are(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.is(at + ahead, word))
    }

    pub(crate) fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    pub(crate) fn punct(&self, at: usize, byte: u8) -> bool {
        self.kind(at) == Some(Kind::Punct(byte))
    }

    /// Whether `=` or `:=` is here. The servers take either where a column or a variable is assigned.
    pub(crate) fn assigns(&self, at: usize) -> bool {
        self.punct(at, b'=') || self.kind(at) == Some(Kind::Assign)
    }

    pub(crate) fn after_dot(&self, at: usize) -> bool {
        at > 0 && self.punct(at - 1, b'.')
    }

    /// The name that an identifier gives: quoted, or any word. Reserved words count as well.
    pub(crate) fn name(&self, at: usize) -> Option<String> {
        match self.kind(at)? {
            Kind::Word | Kind::Quoted => Some(identifier(self.bytes(at))),
            _ => None,
        }
    }

    /// The index after the parenthesis that closes the one at `open`.
    pub(crate) fn skip_parens(&self, open: usize) -> Option<usize> {
        if !self.punct(open, b'(') {
            return None;
        }
        let mut depth = 0usize;
        for at in open..self.len() {
            match self.kind(at) {
                Some(Kind::Punct(b'(')) => depth += 1,
                Some(Kind::Punct(b')')) => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// The first token of `range` outside of parentheses for which `found` holds.
    pub(crate) fn find(&self, range: Range<usize>, found: impl Fn(usize) -> bool) -> Option<usize> {
        let mut depth = 0usize;
        for at in range {
            match self.kind(at) {
                Some(Kind::Punct(b'(')) => depth += 1,
                Some(Kind::Punct(b')')) => depth = depth.saturating_sub(1),
                _ if depth == 0 && found(at) => return Some(at),
                _ => {}
            }
        }
        None
    }

    /// The parts between the commas outside of parentheses; at least one, perhaps empty.
    pub(crate) fn split_commas(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut start = range.start;
        while let Some(comma) = self.find(start..range.end, |at| self.punct(at, b',')) {
            parts.push(start..comma);
            start = comma + 1;
        }
        parts.push(start..range.end);
        parts
    }

    /// Refuses a `;` between statements, parentheses that do not match, and those nested too deep.
    pub(crate) fn check_structure(&self) -> Result<(), Refusal> {
        let mut depth = 0usize;
        for token in self.tokens {
            match token.kind {
                Kind::Punct(b'(') => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Refusal::new(format!(
                            "the statement nests parentheses deeper than {MAX_DEPTH}"
                        )));
                    }
                }
                Kind::Punct(b')') => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or_else(|| Refusal::new("the statement has parentheses that do not match"))?;
                }
                Kind::Punct(b';') => return Err(Refusal::new("several statements in one packet")),
                _ => {}
            }
        }
        if depth > 0 {
            return Err(Refusal::new("the statement has parentheses that do not match"));
        }
        Ok(())
    }
}
