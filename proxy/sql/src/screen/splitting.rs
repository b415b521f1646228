//! Several statements in one text: where one ends and the next begins.

use memchr::memchr;

use crate::lex::{Executable, Kind, Lexer, Mode, Text, Token, is_blank};

/// Where the first of several statements ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextStatement {
    /// The offset of the `;`.
    pub end: usize,
    /// Where the next statement begins.
    pub following: usize,
}

/// Whether a text may contain several statements: a `;` with more after it. Never says false wrongly.
pub fn may_have_several_statements(sql: &[u8]) -> bool {
    memchr(b';', sql).is_some_and(|at| sql[at..].iter().any(|&byte| byte != b';' && !is_blank(byte)))
}

/// Where the first statement ends and the next begins. `None` if the text is one statement or cannot be lexed. A text
/// that begins like a statement which may contain others (CREATE PROCEDURE, BEGIN NOT ATOMIC …) is taken for one.
pub fn next_statement(sql: &[u8], mode: Mode) -> Option<NextStatement> {
    let mut lexer = Lexer::new(sql, mode, Executable::Skip);
    let (mut tokens, mut comments): (Vec<Token>, _) = (Vec::new(), Vec::new());
    let end = loop {
        let token = lexer.next(tokens.len(), &mut comments).ok()??;
        if token.kind == Kind::Punct(b';') {
            break token;
        }
        // The first tokens decide
        if tokens.len() < MAX_HEAD_TOKENS {
            tokens.push(token);
        }
    };
    lexer.next(tokens.len(), &mut comments).ok()??;
    if may_contain_others(&Text { sql, mode, tokens: &tokens }) {
        return None;
    }
    Some(NextStatement { end: end.start(), following: end.end() })
}

/// How many tokens of a statement are read: a DEFINER clause, OR REPLACE and the like come before the word that says
/// what is created.
const MAX_HEAD_TOKENS: usize = 32;

/// Whether a statement begins like one that may contain `;`.
fn may_contain_others(text: &Text<'_>) -> bool {
    let bodies = ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"];
    if text.is_any(0, &["CREATE", "ALTER"]) {
        return (1..text.len()).any(|at| text.is_any(at, &bodies));
    }
    if text.is(0, "BEGIN") {
        return text.len() > 1 && !text.is(1, "WORK");
    }
    text.is_any(0, &["IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR", "DECLARE"]) || text.punct(1, b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(sql: &str) -> Vec<&str> {
        let (mut rest, mut out) = (sql, Vec::new());
        while let Some(next) = next_statement(rest.as_bytes(), Mode::default()) {
            out.push(&rest[..next.end]);
            rest = &rest[next.following..];
        }
        out.push(rest);
        out
    }

    #[test]
    fn statements_end_at_semicolons() {
        assert_eq!(split("SELECT 1; SELECT ';' ;SELECT `;`"), ["SELECT 1", " SELECT ';' ", "SELECT `;`"]);
        assert_eq!(split("SELECT 1;"), ["SELECT 1;"]);
        assert_eq!(split("SELECT 1; ; -- ;\n"), ["SELECT 1", " ; -- ;\n"]);
        assert_eq!(split("SELECT 1 /* ; */; SELECT 2 # ;"), ["SELECT 1 /* ; */", " SELECT 2 # ;"]);
        assert_eq!(split("BEGIN; UPDATE t SET a = 1; COMMIT"), ["BEGIN", " UPDATE t SET a = 1", " COMMIT"]);
        // The server reads the next statement after it has run the one before
        assert_eq!(split("SELECT 1; SELECT 'x"), ["SELECT 1", " SELECT 'x"]);
    }

    #[test]
    fn bodies_are_not_cut() {
        for whole in [
            "CREATE DEFINER = a@b PROCEDURE p() BEGIN SELECT 1; SELECT 2; END",
            "create or replace function f() returns int begin return 1; end",
            "BEGIN NOT ATOMIC SELECT 1; SELECT 2; END",
            "IF 1 THEN SELECT 1; END IF",
            "l: LOOP SELECT 1; END LOOP",
        ] {
            assert_eq!(split(whole), [whole]);
        }
        assert_eq!(split("CREATE TABLE t (a INT); SELECT 1").len(), 2);
    }

    #[test]
    fn a_semicolon_at_the_end_makes_no_second_statement() {
        assert!(!may_have_several_statements(b"SELECT 1; ;\n"));
        assert!(!may_have_several_statements(b"SELECT 1"));
        assert!(may_have_several_statements(b"SELECT 1; SELECT 2"));
        assert!(may_have_several_statements(b"SELECT ';' FROM t"));
    }
}
