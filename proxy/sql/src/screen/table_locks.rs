//! LOCK TABLES and what releases the locks: a transaction of Atone's own would release them without a warning.

use memchr::memchr2_iter;

use super::splitting::{may_have_several_statements, next_statement};
use crate::lex::{Executable, Lexer, Mode, Text, Token};

/// What a packet does to the table locks that its session holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableLocks {
    /// It takes some: LOCK TABLES, FLUSH TABLES … WITH READ LOCK or FOR EXPORT.
    Taken,
    /// It releases them: UNLOCK TABLES, and what begins a transaction.
    Released,
    /// It runs a statement that was prepared by SQL, which may do either.
    Unknown,
}

/// How many tokens of a statement are read: in a FLUSH, the names of tables come before what decides.
const MAX_TOKENS: usize = 4096;

/// What the last statement of a packet that concerns table locks does to them, if there is one. Takes well under a
/// microsecond for a usual statement.
pub fn table_locks(sql: &[u8], mode: Mode) -> Option<TableLocks> {
    let first = sql.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = sql.get(..first).unwrap_or_default();
    let plain = first > 0 && !may_have_several_statements(sql);
    let known = |verb: &[u8]| if plain { word.eq_ignore_ascii_case(verb) } else { contains(sql, verb) };
    VERBS.iter().find(|verb| known(verb.as_bytes()))?;
    let (mut rest, mut last) = (sql, None);
    loop {
        let next = next_statement(rest, mode);
        last = of_statement(next.map_or(rest, |next| &rest[..next.end]), mode).or(last);
        match next {
            Some(next) => rest = &rest[next.following..],
            None => return last,
        }
    }
}

const VERBS: [&str; 6] = ["LOCK", "FLUSH", "UNLOCK", "BEGIN", "START", "EXECUTE"];

/// Whether a text contains a word, in upper or lower case.
fn contains(sql: &[u8], word: &[u8]) -> bool {
    let Some(&first) = word.first() else { return true };
    memchr2_iter(first, first.to_ascii_lowercase(), sql)
        .any(|at| sql.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
}

fn of_statement(sql: &[u8], mode: Mode) -> Option<TableLocks> {
    // A server either runs the code in an executable comment or skips it
    let found = [Executable::Skip, Executable::Inline].map(|executable| {
        let mut lexer = Lexer::new(sql, mode, executable);
        let (mut tokens, mut comments): (Vec<Token>, _) = (Vec::new(), Vec::new());
        while tokens.len() < MAX_TOKENS
            && let Ok(Some(token)) = lexer.next(tokens.len(), &mut comments)
        {
            tokens.push(token);
        }
        of_tokens(&Text { sql, mode, tokens: &tokens })
    });
    match found {
        [a, b] if a == b => a,
        [a, b] if a == Some(TableLocks::Taken) || b == Some(TableLocks::Taken) => Some(TableLocks::Taken),
        _ => Some(TableLocks::Unknown),
    }
}

fn of_tokens(text: &Text<'_>) -> Option<TableLocks> {
    let tables = |at| text.is_any(at, &["TABLE", "TABLES"]);
    if text.is(0, "LOCK") && tables(1) {
        return Some(TableLocks::Taken);
    }
    if text.is(0, "UNLOCK") && tables(1) || text.is(0, "BEGIN") || text.are(0, &["START", "TRANSACTION"]) {
        return Some(TableLocks::Released);
    }
    if text.is(0, "FLUSH") {
        let local = usize::from(text.is_any(1, &["LOCAL", "NO_WRITE_TO_BINLOG"]));
        let locks = |at| text.are(at, &["READ", "LOCK"]) || text.are(at, &["FOR", "EXPORT"]);
        let long = text.len() >= MAX_TOKENS;
        return (tables(1 + local) && (long || (2..text.len()).any(locks))).then_some(TableLocks::Taken);
    }
    text.is(0, "EXECUTE").then_some(TableLocks::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_and_releases_table_locks() {
        use TableLocks::{Released, Taken, Unknown};
        let locks = |sql: &str| table_locks(sql.as_bytes(), Mode::default());
        for sql in [
            "LOCK TABLES t WRITE",
            "lock table `a;b` read, u write",
            "/* x */ LOCK TABLES t READ;",
            "FLUSH TABLES WITH READ LOCK",
            "flush local tables t, u for export",
            "SELECT 1; LOCK TABLES t WRITE; SELECT 2",
            "/*!40000 LOCK TABLES t WRITE */",
        ] {
            assert_eq!(locks(sql), Some(Taken), "{sql}");
        }
        for sql in
            ["UNLOCK TABLES", "begin", "START TRANSACTION READ ONLY", "LOCK TABLES t READ; UNLOCK TABLES"]
        {
            assert_eq!(locks(sql), Some(Released), "{sql}");
        }
        assert_eq!(locks("EXECUTE s USING @a"), Some(Unknown));
        for sql in [
            "SELECT 'LOCK TABLES t'",
            "UPDATE t SET a = 'LOCK TABLES; LOCK TABLES'",
            "SELECT 1; SELECT 2",
            "LOCK INSTANCE FOR BACKUP",
            "FLUSH TABLES",
            "START SLAVE",
            "",
            "' LOCK TABLES",
        ] {
            assert_eq!(locks(sql), None, "{sql}");
        }
    }
}
