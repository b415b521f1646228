//! The functions that a statement calls: each must be known to write nothing.

mod lists;

use std::ops::Range;

use crate::{
    lex::{Kind, Text},
    types::Refusal,
};

/// Functions that have an effect each time that they are called.
pub(crate) const CALLED_ONCE: &[&str] =
    &["SLEEP", "BENCHMARK", "GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS", "LAST_INSERT_ID", "LOAD_FILE"];

/// Functions that have another value each time that they are called.
pub(crate) const RANDOM: &[&str] =
    &["RAND", "RANDOM_BYTES", "SYS_GUID", "UUID", "UUID_SHORT", "UUID_V4", "UUID_V7"];

/// The longest name in the lists.
const MAX_NAME: usize = 40;

/// Looks up a word in one of the sorted lists.
fn contains(list: &[&str], word: &[u8]) -> bool {
    let mut upper = [0u8; MAX_NAME];
    let Some(upper) = upper.get_mut(..word.len()) else { return false };
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    list.binary_search_by(|entry| entry.as_bytes().cmp(upper)).is_ok()
}

/// Whether an unqualified call of this name is one of a built-in function.
fn is_built_in(name: &[u8], mariadb: bool) -> bool {
    contains(lists::COMMON, name) || contains(if mariadb { lists::MARIADB } else { lists::MYSQL }, name)
}

/// What a parenthesis follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    /// No function.
    None,
    /// A built-in function.
    BuiltIn,
    /// A function that may be a stored one.
    Unknown,
}

/// What is called at `at`.
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

/// Whether the parenthesis after the name at `at` has column names: `x (a, b) AS (` of a CTE, `) AS x (a, b)` of a
/// derived table.
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

/// A statement that only calls what is named at `at`, without arguments.
pub(crate) fn call_of(text: &Text<'_>, at: usize, verb: &str) -> Option<String> {
    text.name(at)?;
    let start = if at > 1 && text.after_dot(at) && text.name(at - 2).is_some() { at - 2 } else { at };
    let name = std::str::from_utf8(text.sql.get(text.span(start..at + 1))?).ok()?;
    // After the blank, no built-in function is called that needs its parenthesis at once
    Some(format!("{verb} {name} ()"))
}

/// Refuses calls of functions that are not built in, and `NEXT VALUE FOR`.
pub(crate) fn check_calls(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    for at in range {
        if callee(text, at) == Callee::Unknown {
            let name = text.name(at).unwrap_or_default();
            let why = format!("the statement calls the function {}, which may write", shorten(&name));
            // It may be something else: f(*), an alias with its columns, a type, PROCEDURE ANALYSE
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

/// Where in the range the built-in function `name` is called first.
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

/// Whether the range may give another result when it is evaluated again: clock, random and session functions, user and
/// system variables.
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

/// Refuses functions whose value a read before the statement would change.
pub(crate) fn check_diagnostics(text: &Text<'_>, range: Range<usize>) -> Result<(), Refusal> {
    for name in ["ROW_COUNT", "FOUND_ROWS"] {
        if find_call(text, range.clone(), name).is_some() {
            return Err(Refusal::new(format!("{name}() can be used in a SELECT only")));
        }
    }
    Ok(())
}

/// Whether values change the session: they assign a user variable, or set LAST_INSERT_ID().
pub(crate) fn has_side_effects(text: &Text<'_>, range: Range<usize>) -> bool {
    range.into_iter().any(|at| {
        text.kind(at) == Some(Kind::Assign)
            || (is_call_of(text, at, "LAST_INSERT_ID") && !text.punct(at + 2, b')'))
    })
}

/// A name, cut to the length that a message may have.
pub(crate) fn shorten(name: &str) -> String {
    const MAX: usize = 64;
    if name.chars().count() > MAX { name.chars().take(MAX).chain(['…']).collect() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
