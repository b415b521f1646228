//! Locking reads in the place of what a statement reads: the query of an INSERT … SELECT, and expressions that give the
//! keys of its rows. Each query block that reads a table does so under shared locks, as in a statement that writes.

use std::ops::Range;

use crate::{lex::Text, types::Refusal};

const LOCK: &[u8] = b" LOCK IN SHARE MODE";
/// A LIMIT of all rows, which overrides `sql_select_limit`.
pub const NO_LIMIT: &[u8] = b" LIMIT 18446744073709551615";

/// Refuses locking clauses, and INTO.
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

/// The text that reads a query before its statement.
pub(crate) fn locked_query(text: &Text<'_>, range: Range<usize>) -> Result<Vec<u8>, Refusal> {
    check_locks(text, range.clone())?;
    let mut writer = Writer::new(text, text.span(range.clone()).start);
    writer.query(range, true)?;
    Ok(writer.out)
}

/// The text of an expression whose subqueries are locking reads.
pub(super) fn locked_expression(text: &Text<'_>) -> Result<Vec<u8>, Refusal> {
    let all = 0..text.len();
    check_locks(text, all.clone())?;
    let mut writer = Writer::new(text, 0);
    writer.subqueries(all.clone())?;
    writer.copy_to(text.span(all).end);
    Ok(writer.out)
}

/// Copies text, and adds locking clauses.
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

    /// Copies tokens that are no query, and adds locking clauses to the subqueries in them.
    fn subqueries(&mut self, range: Range<usize>) -> Result<(), Refusal> {
        let text = self.text;
        let mut at = range.start;
        while at < range.end {
            if text.punct(at, b'(') && text.is_any(at + 1, &["SELECT", "WITH", "TABLE"]) {
                let after = text.skip_parens(at).ok_or_else(not_understood)?;
                self.query(at + 1..after - 1, false)?;
                at = after;
            } else {
                at += 1;
            }
        }
        Ok(())
    }

    /// Copies a whole query. `sql_select_limit` does not limit the outermost one.
    fn query(&mut self, range: Range<usize>, outermost: bool) -> Result<(), Refusal> {
        let text = self.text;
        let mut start = range.start;
        if text.is(start, "WITH") {
            let begins = |at: usize| text.is_any(at, &["SELECT", "TABLE", "VALUES"]);
            let main = text.find(start..range.end, begins).ok_or_else(not_understood)?;
            // The query blocks of a recursive CTE cannot be locked
            if !text.is(start + 1, "RECURSIVE") {
                self.subqueries(start..main)?;
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
            let lock: &[u8] = if self.query_block(start..range.end)? { LOCK } else { b"" };
            self.copy_to(end_byte);
            self.out.extend_from_slice(limit);
            self.out.extend_from_slice(lock);
            return Ok(());
        }
        loop {
            let next = text.find(start..range.end, operator);
            let mut part = start..next.unwrap_or(range.end);
            if next.is_none() && !text.punct(start, b'(') {
                // These clauses belong to the whole union
                let clause = |at: usize| text.is_any(at, &["ORDER", "LIMIT"]);
                part.end = text.find(part.clone(), clause).unwrap_or(part.end);
            }
            let span = text.span(part.clone());
            let parenthesis = self.text.punct(part.start, b'(') || text.is(part.start, "VALUES");
            self.copy_to(span.start);
            if parenthesis {
                self.subqueries(part)?;
                self.copy_to(span.end);
            } else {
                self.out.push(b'(');
                self.query_block(part)?;
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

    /// Copies a query block up to its last token, and says whether a locking clause can follow.
    fn query_block(&mut self, range: Range<usize>) -> Result<bool, Refusal> {
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
        self.subqueries(range)?;
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
