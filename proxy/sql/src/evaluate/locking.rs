//! What is read of a statement before it runs: the query of an INSERT … SELECT, and the expressions that the keys of its
//! rows come from. Every part of them that reads a table does so under shared locks, as it does in a statement that
//! writes.

use std::ops::Range;

use crate::{lex::Text, types::Refusal};

const LOCK: &[u8] = b" LOCK IN SHARE MODE";
/// A LIMIT that `sql_select_limit` does not undercut.
pub const NO_LIMIT: &[u8] = b" LIMIT 18446744073709551615";

/// Refuses locking clauses, and what stores its result.
fn check_locks(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    for at in range {
        let locks = text.are(at, &["LOCK", "IN"])
            || (text.is(at, "FOR") && text.is_any(at + 1, &["UPDATE", "SHARE"]))
            || text.is(at, "PROCEDURE");
        if locks {
            return Err(Refusal::new("a locking clause in the SELECT of an INSERT is not supported"));
        }
        if text.is(at, "INTO") {
            return Err(Refusal::new("the SELECT of an INSERT assigns a variable"));
        }
    }
    Ok(())
}

/// The text by which a query is read before the statement that it is a part of.
pub(crate) fn locked_query(text: &Text<'_>, range: Range<usize>) -> Result<Vec<u8>, Refusal> {
    check_locks(text, range.clone())?;
    let mut writer = Writer::new(text, text.span(range.clone()).start);
    writer.query(range, true)?;
    Ok(writer.out)
}

/// The text of an expression with its subqueries read so.
pub(super) fn locked_expression(text: &Text<'_>) -> Result<Vec<u8>, Refusal> {
    let all = 0..text.len();
    check_locks(text, all.clone())?;
    let mut writer = Writer::new(text, 0);
    writer.plain(all.clone())?;
    writer.copy_to(text.span(all).end);
    Ok(writer.out)
}

/// Copies text, and puts locking clauses in.
struct Writer<'t, 'a> {
    text: &'t Text<'a>,
    /// Copied up to this byte.
    copied: usize,
    out: Vec<u8>,
}

impl<'t, 'a> Writer<'t, 'a> {
    fn new(text: &'t Text<'a>, from: usize) -> Self {
        Self { text, copied: from, out: Vec::new() }
    }

    fn copy_to(&mut self, byte: usize) {
        self.out.extend_from_slice(self.text.sql.get(self.copied..byte).unwrap_or_default());
        self.copied = self.copied.max(byte);
    }

    /// Tokens that are no query, but may hold some in parentheses.
    fn plain(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let text = self.text;
        let mut at = range.start;
        while at < range.end {
            if text.punct(at, b'(') && text.is_any(at + 1, &["SELECT", "WITH", "TABLE"]) {
                let behind = text.skip_parens(at).ok_or_else(not_understood)?;
                self.query(at + 1..behind - 1, false)?;
                at = behind;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// A whole query; the outermost one is not limited by `sql_select_limit`.
    fn query(&mut self, range: Range<usize>, outermost: bool) -> Result<(), Refusal> {
        let text = self.text;
        let mut start = range.start;
        if text.is(start, "WITH") {
            let begins = |at: usize| text.is_any(at, &["SELECT", "TABLE", "VALUES"]);
            let main = text.find(start..range.end, begins).ok_or_else(not_understood)?;
            // The parts of a recursive one cannot be locked
            if !text.is(start + 1, "RECURSIVE") {
                self.plain(start..main)?;
            }
            start = main;
        }
        let limit: &[u8] = if !outermost || text.find(range.clone(), |at| text.is(at, "LIMIT")).is_some() {
            b""
        } else {
            NO_LIMIT
        };
        let operator = |at: usize| text.is_any(at, &["UNION", "EXCEPT", "INTERSECT", "MINUS"]);
        let end_byte = text.span(range.clone()).end;
        if text.find(start..range.end, operator).is_none() {
            let lock: &[u8] = if self.block(start..range.end)? { LOCK } else { b"" };
            self.copy_to(end_byte);
            self.out.extend_from_slice(limit);
            self.out.extend_from_slice(lock);
            return Ok(());
        }
        loop {
            let next = text.find(start..range.end, operator);
            let mut part = start..next.unwrap_or(range.end);
            if next.is_none() && !text.punct(start, b'(') {
                // These are the whole union's
                let clause = |at: usize| text.is_any(at, &["ORDER", "LIMIT"]);
                part.end = text.find(part.clone(), clause).unwrap_or(part.end);
            }
            let span = text.span(part.clone());
            let parenthesis = self.text.punct(part.start, b'(') || text.is(part.start, "VALUES");
            self.copy_to(span.start);
            if parenthesis {
                self.plain(part)?;
                self.copy_to(span.end);
            } else {
                self.out.push(b'(');
                self.block(part)?;
                self.copy_to(span.end);
                self.out.extend_from_slice(LOCK);
                self.out.push(b')');
            }
            let Some(at) = next else { break };
            start = at + 1 + usize::from(text.is_any(at + 1, &["ALL", "DISTINCT"]));
        }
        self.copy_to(end_byte);
        self.out.extend_from_slice(limit);
        Ok(())
    }

    /// A query without set operators, but for its end; whether a locking clause can follow.
    fn block(&mut self, range: Range<usize>) -> Result<bool, Refusal> {
        let text = self.text;
        if text.is(range.start, "TABLE") {
            let word = text.span(range.start..range.start + 1);
            self.copy_to(word.start);
            self.out.extend_from_slice(b"SELECT * FROM");
            self.copied = word.end;
        } else if !text.is_any(range.start, &["SELECT", "VALUES"]) && !text.punct(range.start, b'(') {
            return Err(not_understood());
        }
        let lockable = text.is_any(range.start, &["SELECT", "TABLE"]);
        self.plain(range)?;
        Ok(lockable)
    }
}

fn not_understood() -> Refusal {
    Refusal::new("the query is not understood")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::{Executable, Mode, lex};

    fn locked(sql: &str) -> String {
        let lexed = lex(sql.as_bytes(), Mode::default(), Executable::Skip).unwrap();
        let text = Text::new(sql.as_bytes(), Mode::default(), &lexed);
        String::from_utf8(locked_query(&text, 0..text.len()).unwrap())
            .unwrap()
            .replace("LOCK IN SHARE MODE", "#")
            .replace("LIMIT 18446744073709551615", "*")
    }

    #[test]
    fn every_block_of_a_query_is_locked() {
        for (query, want) in [
            ("SELECT a FROM t", "SELECT a FROM t * #"),
            ("SELECT a FROM t LIMIT 3", "SELECT a FROM t LIMIT 3 #"),
            ("(SELECT a FROM t)", "(SELECT a FROM t #) *"),
            ("TABLE t", "SELECT * FROM t * #"),
            ("VALUES ROW(1), ROW(2)", "VALUES ROW(1), ROW(2) *"),
            ("SELECT 1 UNION SELECT 2", "(SELECT 1 #) UNION (SELECT 2 #) *"),
            (
                "SELECT a FROM t UNION ALL (SELECT 2) UNION DISTINCT TABLE u ORDER BY 1 LIMIT 2",
                "(SELECT a FROM t #) UNION ALL (SELECT 2 #) UNION DISTINCT (SELECT * FROM u #) ORDER BY 1 LIMIT 2",
            ),
            (
                "SELECT * FROM (SELECT a FROM t) x WHERE EXISTS (SELECT 1 FROM u WHERE u.a IN (SELECT 2))",
                "SELECT * FROM (SELECT a FROM t #) x WHERE EXISTS (SELECT 1 FROM u WHERE u.a IN (SELECT 2 #) #) * #",
            ),
            (
                "WITH c AS (SELECT a FROM t) SELECT * FROM c",
                "WITH c AS (SELECT a FROM t #) SELECT * FROM c * #",
            ),
            (
                "WITH RECURSIVE c AS (SELECT 1 UNION ALL SELECT 2 FROM c) SELECT * FROM c",
                "WITH RECURSIVE c AS (SELECT 1 UNION ALL SELECT 2 FROM c) SELECT * FROM c * #",
            ),
        ] {
            assert_eq!(locked(query), want, "{query}");
        }
    }
}
