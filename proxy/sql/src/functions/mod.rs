//! Which functions a statement calls: every one of them must be known to write nothing.

mod lists;

use std::ops::Range;

use crate::{
    lexer::{self, Executable, Kind},
    mode::Mode,
    text::Text,
    types::Refusal,
};

/// The longest name in the lists.
const MAX_NAME: usize = 40;

/// Looks a word up in one of the sorted lists.
fn contains(list: &[&str], word: &[u8]) -> bool {
    let mut upper = [0u8; MAX_NAME];
    let Some(upper) = upper.get_mut(..word.len()) else { return false };
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    list.binary_search_by(|entry| entry.as_bytes().cmp(upper)).is_ok()
}

/// Whether the servers resolve an unqualified call of this name to a function of their own.
fn is_built_in(name: &[u8], mariadb: bool) -> bool {
    contains(lists::COMMON, name) || contains(if mariadb { lists::MARIADB } else { lists::MYSQL }, name)
}

/// What stands at `at` and is followed by a parenthesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    /// No call.
    None,
    /// A built-in function.
    BuiltIn,
    /// A function that may be a stored one.
    Unknown,
}

/// Whether a function is called at `at`.
pub(crate) fn callee(text: &Text<'_>, at: usize) -> Callee {
    if !text.punct(at + 1, b'(') {
        return Callee::None;
    }
    let word = text.bytes(at);
    match text.kind(at) {
        Some(Kind::Word) if !text.after_dot(at) => {
            if is_built_in(word, text.mode.mariadb) {
                let adjacent =
                    text.tokens.get(at).map(|t| t.end()) == text.tokens.get(at + 1).map(|t| t.start());
                if !adjacent && !text.mode.ignore_space && contains(lists::ADJACENT, word) {
                    return Callee::Unknown;
                }
                return Callee::BuiltIn;
            }
            let keyword = contains(lists::KEYWORDS, word)
                || (!text.mode.mariadb && contains(lists::KEYWORDS_MYSQL, word));
            if keyword || names_columns(text, at) { Callee::None } else { Callee::Unknown }
        }
        Some(Kind::Quoted) if !text.after_dot(at) => {
            let name = text.name(at).unwrap_or_default();
            if names_columns(text, at) {
                Callee::None
            } else if is_built_in(name.as_bytes(), text.mode.mariadb) {
                Callee::BuiltIn
            } else {
                Callee::Unknown
            }
        }
        Some(Kind::Word | Kind::Quoted) => Callee::Unknown,
        _ => Callee::None,
    }
}

/// Whether the parenthesis after the name at `at` holds column names: `x (a, b) AS (` of a CTE, and `) AS x (a, b)`
/// of a derived table.
fn names_columns(text: &Text<'_>, at: usize) -> bool {
    if at == 0 {
        return false;
    }
    let derived = text.punct(at - 1, b')') || (at > 1 && text.is(at - 1, "AS") && text.punct(at - 2, b')'));
    if derived {
        return true;
    }
    let introduced = text.is(at - 1, "WITH") || text.is(at - 1, "RECURSIVE") || text.punct(at - 1, b',');
    introduced
        && text.skip_parens(at + 1).is_some_and(|after| text.is(after, "AS") && text.punct(after + 1, b'('))
}

/// The statement that does no more than to call, with nothing, what is named at `at`.
pub(crate) fn call_of(text: &Text<'_>, at: usize, verb: &str) -> Option<String> {
    text.name(at)?;
    let start = if at > 1 && text.after_dot(at) && text.name(at - 2).is_some() { at - 2 } else { at };
    let name = std::str::from_utf8(text.sql.get(text.span(start..at + 1))?).ok()?;
    // With the blank it is none of the server's own functions that begins with its parenthesis
    Some(format!("{verb} {name} ()"))
}

/// Words in front of a table whose columns are listed behind it.
const BEFORE_COLUMNS: [&str; 6] = ["INTO", "TABLE", "INSERT", "REPLACE", "IGNORE", "VIEW"];

/// Whether the name at `at` is that of a table in front of a list of its columns.
fn lists_columns(text: &Text<'_>, at: usize) -> bool {
    let start = if at > 1 && text.after_dot(at) { at - 2 } else { at };
    start > 0 && text.is_any(start - 1, &BEFORE_COLUMNS)
}

/// Whether a text, whatever it is, calls no stored function, and changes no variable, when a server evaluates a part of it: some
/// do so with constants of a statement that is prepared only. Views are not looked at.
pub fn evaluates_quietly(sql: &[u8], mode: Mode) -> bool {
    let lexed = match lexer::lex(sql, mode, Executable::Inline) {
        Ok(lexed) => lexed,
        // No server goes on from there; and nothing is called without parentheses
        Err(why) => return why.ends_with("not closed") && !sql.contains(&b'('),
    };
    let text = Text { sql, mode, tokens: &lexed.tokens };
    (0..text.len()).all(|at| {
        // No server parses f(*) but of functions of its own
        let calls =
            callee(&text, at) == Callee::Unknown && !lists_columns(&text, at) && !text.punct(at + 2, b'*');
        let assigns = text.kind(at) == Some(Kind::Assign) || is_call_of(&text, at, "LAST_INSERT_ID");
        !calls && !assigns && !text.are(at, &["NEXT", "VALUE", "FOR"])
    })
}

/// Refuses calls of functions that are not built in, and `NEXT VALUE FOR`.
pub(crate) fn check_calls(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    for at in range {
        if callee(text, at) == Callee::Unknown {
            let name = text.name(at).unwrap_or_default();
            let why = format!("the statement calls the function {}, which may write", shorten(&name));
            // What else than a call it may be: f(*), an alias with its columns, a type, PROCEDURE ANALYSE
            let other = text.punct(at + 2, b'*') || (at > 0 && text.is_any(at - 1, &["AS", "PROCEDURE"]));
            let call = call_of(text, at, "DO").filter(|_| !other);
            return Err(Refusal { call, ..Refusal::new(why) });
        }
        if text.are(at, &["NEXT", "VALUE", "FOR"]) {
            return Err(Refusal::new("NEXT VALUE FOR changes a sequence, which is not captured"));
        }
    }
    Ok(())
}

/// Whether the built-in function `name` is called in the range, and where.
pub(crate) fn find_call(text: &Text<'_>, range: Range<usize>, name: &str) -> Option<usize> {
    range.into_iter().find(|&at| is_call_of(text, at, name))
}

/// Whether the built-in function `name` is called at `at`, its name quoted or not.
pub(crate) fn is_call_of(text: &Text<'_>, at: usize, name: &str) -> bool {
    text.punct(at + 1, b'(')
        && !text.after_dot(at)
        && match text.kind(at) {
            Some(Kind::Word) => text.bytes(at).eq_ignore_ascii_case(name.as_bytes()),
            Some(Kind::Quoted) => text.name(at).is_some_and(|found| found.eq_ignore_ascii_case(name)),
            _ => false,
        }
}

/// Whether the range may give another result when it is evaluated once more: clock, random and session functions,
/// user and system variables, subqueries.
pub(crate) fn is_volatile(text: &Text<'_>, range: Range<usize>) -> bool {
    range.into_iter().any(|at| match text.kind(at) {
        Some(Kind::UserVar | Kind::SysVar) => true,
        Some(Kind::Word) if !text.after_dot(at) => {
            let word = text.bytes(at);
            contains(lists::VOLATILE_WORDS, word)
                || (text.punct(at + 1, b'(') && contains(lists::VOLATILE, word))
        }
        Some(Kind::Quoted) => {
            text.punct(at + 1, b'(')
                && text.name(at).is_some_and(|name| contains(lists::VOLATILE, name.as_bytes()))
        }
        _ => false,
    })
}

/// Whether a subquery begins at `at`.
pub(crate) fn is_subquery(text: &Text<'_>, at: usize) -> bool {
    text.is(at, "SELECT")
        || (at > 0 && text.punct(at - 1, b'(') && text.is_any(at, &["TABLE", "VALUES", "WITH"]))
}

/// A name for a message.
pub(crate) fn shorten(name: &str) -> String {
    const MAX: usize = 64;
    if name.chars().count() > MAX { name.chars().take(MAX).chain(['…']).collect() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_may_evaluate_of_a_text() {
        for mariadb in [false, true] {
            let quietly = |sql: &str| evaluates_quietly(sql.as_bytes(), Mode { mariadb, ..Mode::default() });
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

    #[test]
    fn lists_are_sorted_and_fit() {
        for list in [
            lists::COMMON,
            lists::MYSQL,
            lists::MARIADB,
            lists::KEYWORDS,
            lists::KEYWORDS_MYSQL,
            lists::ADJACENT,
            lists::VOLATILE,
            lists::VOLATILE_WORDS,
        ] {
            assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
            assert!(list.iter().all(|name| name.len() <= MAX_NAME && contains(list, name.as_bytes())));
        }
        for name in lists::VOLATILE.iter().chain(lists::ADJACENT) {
            assert!(
                is_built_in(name.as_bytes(), true) || is_built_in(name.as_bytes(), false),
                "{name} is in no list of functions"
            );
        }
        for name in lists::KEYWORDS {
            assert!(!is_built_in(name.as_bytes(), true) && !is_built_in(name.as_bytes(), false), "{name}");
        }
    }
}
