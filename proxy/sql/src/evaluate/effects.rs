//! Texts of which a server evaluates parts when it only prepares them.

use crate::{
    clause::functions::{Callee, callee, is_call_of},
    lex::{Executable, Kind, Mode, Text, lex},
};

/// Words before a table that a list of its columns may follow.
const BEFORE_COLUMNS: [&str; 6] = ["INTO", "TABLE", "INSERT", "REPLACE", "IGNORE", "VIEW"];

/// Whether the name at `at` is that of a table before a list of its columns.
fn lists_columns(text: &Text<'_>, at: usize) -> bool {
    let start = if at > 1 && text.after_dot(at) { at - 2 } else { at };
    start > 0 && text.is_any(start - 1, &BEFORE_COLUMNS)
}

/// Whether a text calls no stored function and changes no variable, whichever part of it a server evaluates. Some
/// servers evaluate constants of a statement when it is only prepared. Views are not read.
pub fn evaluates_without_effects(sql: &[u8], mode: Mode) -> bool {
    let lexed = match lex(sql, mode, Executable::Inline) {
        Ok(lexed) => lexed,
        // No server reads on from there, and without parentheses nothing is called
        Err(why) => return why.ends_with("not closed") && !sql.contains(&b'('),
    };
    let text = Text::new(sql, mode, &lexed);
    (0..text.len()).all(|at| {
        // Servers parse f(*) for built-in functions only
        let calls =
            callee(&text, at) == Callee::Unknown && !lists_columns(&text, at) && !text.punct(at + 2, b'*');
        let assigns = text.kind(at) == Some(Kind::Assign) || is_call_of(&text, at, "LAST_INSERT_ID");
        !calls && !assigns && !text.are(at, &["NEXT", "VALUE", "FOR"])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_may_evaluate_of_a_text() {
        for mariadb in [false, true] {
            let quietly =
                |sql: &str| evaluates_without_effects(sql.as_bytes(), Mode { mariadb, ..Mode::default() });
            for sql in [
                "FROBNICATE t",
                "UPDATE t SET a = 'unterminated",
                "UPDATE t SET a = ROUND(1.2, 1 1)",
                "INSERT INTO s.t (a, b) VALUES (1, (2))",
                "REPLACE t (a) VALUES (1",
                "SELECT LAST_INSERT_ID",
                "SELECT COUNT (*) FROM t",
            ] {
                assert!(quietly(sql), "{sql}");
            }
            for sql in [
                "FROBNICATE f(1)",
                "UPDATE t SET a = s.f(1",
                "UPDATE t SET a = `f` ()",
                "INSERT INTO t (a) VALUES (f(1))",
                "SELECT * FROM t JOIN u ON f(1)",
                "SELECT 'unterminated, f(1)",
                "SELECT ROUND(1, @a := 2)",
                "SELECT ROUND(1, LAST_INSERT_ID(2))",
                "SELECT ROUND(1, NEXT VALUE FOR s)",
                "SELECT 1 /*!99999 + f() */",
            ] {
                assert!(!quietly(sql), "{sql}");
            }
        }
    }
}
