//! Marks before literals that replace parameters.
//!
//! A statement with parameters is read as if its parameters were literals, and new statements are made of its parts. A
//! mark is a comment before such a literal: it has the parameter's index and the literal's length. A part that has
//! the literal has its mark as well. Before a text goes to a server, [`Marks::with_placeholders`] replaces each marked
//! literal by a placeholder.

use std::borrow::Cow;

use memchr::memmem;

/// Length of the word that distinguishes marks from other comments, in bytes.
const WORD: usize = 16;

/// The word that distinguishes marks from other comments. It is secret: no client can write a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    word: [u8; WORD],
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameterized {
    /// The text.
    pub sql: Vec<u8>,
    /// The index of each placeholder's parameter, in order.
    pub params: Vec<usize>,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    /// Length of the mark itself.
    len: usize,
    param: usize,
    /// Length of the literal after it.
    literal: usize,
}

impl Marks {
    /// Marks with this secret, which must be a random number.
    pub fn new(secret: u64) -> Marks {
        let mut word = [0; WORD];
        for (place, byte) in word.iter_mut().enumerate() {
            let digit = (secret >> (4 * place)) & 0xf;
            *byte = b"0123456789abcdef"[usize::try_from(digit).unwrap_or_default()];
        }
        Marks { word }
    }

    /// Appends the mark of a parameter, and the literal that replaces it.
    pub fn put(&self, out: &mut Vec<u8>, param: usize, literal: &[u8]) {
        out.extend_from_slice(b"/*");
        out.extend_from_slice(&self.word);
        out.extend_from_slice(format!(" {param} {}*/", literal.len()).as_bytes());
        out.extend_from_slice(literal);
    }

    /// The mark at the beginning of a text.
    fn at(&self, text: &[u8]) -> Option<Mark> {
        let rest = text.strip_prefix(b"/*")?.strip_prefix(&self.word)?.strip_prefix(b" ")?;
        let (param, rest) = number(rest)?;
        let (literal, rest) = number(rest.strip_prefix(b" ")?)?;
        let rest = rest.strip_prefix(b"*/")?;
        Some(Mark { len: text.len() - rest.len(), param, literal })
    }

    /// The length of the mark at the beginning of a text.
    pub(crate) fn len_at(&self, text: &[u8]) -> Option<usize> {
        self.at(text).map(|mark| mark.len)
    }

    /// Whether a text may contain a mark.
    pub fn may_be_in(&self, text: &[u8]) -> bool {
        memmem::find(text, &self.word).is_some()
    }

    /// The text with its marked literals replaced; `None` if one of them was split.
    fn replaced(&self, text: &[u8], mut replace: impl FnMut(&mut Vec<u8>, usize, &[u8])) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(word) = memmem::find(rest, &self.word) {
            let begin = word.checked_sub(2)?;
            let mark = self.at(rest.get(begin..)?)?;
            out.extend_from_slice(rest.get(..begin)?);
            let literal = begin + mark.len;
            replace(&mut out, mark.param, rest.get(literal..literal + mark.literal)?);
            rest = rest.get(literal + mark.literal..)?;
        }
        out.extend_from_slice(rest);
        Some(out)
    }

    /// The text with placeholders for its marked literals; `None` if one of them was split.
    pub fn with_placeholders(&self, text: &[u8]) -> Option<Parameterized> {
        let mut params = Vec::new();
        let sql = self.replaced(text, |out, param, _| {
            params.push(param);
            out.push(b'?');
        })?;
        Some(Parameterized { sql, params })
    }

    /// The text with its literals, without marks; `None` if one of them was split.
    pub fn with_literals<'a>(&self, text: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        if !self.may_be_in(text) {
            return Some(Cow::Borrowed(text));
        }
        self.replaced(text, |out, _, literal| out.extend_from_slice(literal)).map(Cow::Owned)
    }
}

/// The number at the beginning of a text, and what follows it.
fn number(text: &[u8]) -> Option<(usize, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// A literal without the mark before it.
pub fn without_mark(text: &[u8], marks: Option<Marks>) -> &[u8] {
    let len = marks.and_then(|marks| marks.len_at(text)).unwrap_or_default();
    text.get(len..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InsertValue, Mode, Statement, analyze};

    const MARKS: Marks = Marks { word: *b"0123456789abcdef" };
    const MODE: Mode = Mode {
        ansi_quotes: false,
        no_backslash_escapes: false,
        ignore_space: false,
        mariadb: false,
        marks: Some(MARKS),
        charset: crate::Charset::PLAIN,
    };

    fn marked(pieces: &[&str], literals: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            out.extend_from_slice(piece.as_bytes());
            if let Some(literal) = literals.get(i) {
                MARKS.put(&mut out, i, literal.as_bytes());
            }
        }
        out
    }

    #[test]
    fn what_is_lifted_is_the_statement_again() {
        let text = marked(
            &["UPDATE t SET v = ", " WHERE id = ", " AND x > ", ""],
            &["'it''s ?'", "-5", "DATE'2020-01-02'"],
        );
        let lifted = MARKS.with_placeholders(&text).unwrap();
        assert_eq!(lifted.sql, b"UPDATE t SET v = ? WHERE id = ? AND x > ?");
        assert_eq!(lifted.params, [0, 1, 2]);
        let plain = b"UPDATE t SET v = 'it''s ?' WHERE id = -5 AND x > DATE'2020-01-02'";
        assert_eq!(MARKS.with_literals(&text).unwrap().as_ref(), plain);
        assert_eq!(MARKS.with_placeholders(plain).unwrap().params, [0; 0]);
    }

    #[test]
    fn pieces_keep_their_marks() {
        let pieces = ["UPDATE t SET v = ", " WHERE ", " = id ORDER BY ", " LIMIT ", ""];
        let text = marked(&pieces, &["'x'", "7", "DATE'2020-01-02'", "3"]);
        let Statement::Dml(update) = analyze(&text, MODE).statement else { panic!() };
        let piece = |span: crate::Span| {
            MARKS
                .with_placeholders(&text[span])
                .map(|l| (String::from_utf8(l.sql).unwrap(), l.params))
                .unwrap()
        };
        assert_eq!(piece(update.assignments().unwrap()[0].value.clone()), ("?".to_owned(), vec![0]));
        assert_eq!(piece(update.where_clause.unwrap()), ("? = id".to_owned(), vec![1]));
        assert_eq!(piece(update.order_by.unwrap()), ("ORDER BY ?".to_owned(), vec![2]));
        assert_eq!(piece(update.limit.unwrap()), ("LIMIT ?".to_owned(), vec![3]));
    }

    #[test]
    fn values_are_literals_as_without_marks() {
        let text = marked(
            &["INSERT INTO t VALUES (", ", ", ", ", ", 1 + ", ")"],
            &["-5", "NULL", "_binary'x'", "2"],
        );
        let Statement::Insert(insert) = analyze(&text, MODE).statement else { panic!() };
        let [row] = insert.rows.as_slice() else { panic!() };
        let bare = |span: &crate::Span| {
            String::from_utf8(without_mark(&text[span.clone()], Some(MARKS)).to_vec()).unwrap()
        };
        assert!(matches!(&row[0], InsertValue::Literal(span) if bare(span) == "-5"));
        assert!(matches!(&row[1], InsertValue::Null));
        assert!(matches!(&row[2], InsertValue::Literal(span) if bare(span) == "_binary'x'"));
        assert!(
            matches!(&row[3], InsertValue::Expression(span) if MARKS.with_placeholders(&text[span.clone()]).unwrap().params == [3])
        );
    }

    #[test]
    fn what_was_taken_apart_is_no_text() {
        let text = marked(&["", ""], &["'abcdef'"]);
        assert_eq!(MARKS.with_placeholders(&text[..text.len() - 2]), None);
        assert_eq!(MARKS.with_placeholders(&text[1..]), None);
        assert_eq!(MARKS.with_literals(&text[..10]), Some(Cow::Borrowed(&text[..10])), "no whole word");
        let other = Marks::new(7);
        assert_eq!(other.with_placeholders(&text).unwrap().sql, text);
        assert_ne!(Marks::new(7), Marks::new(8));
    }
}
