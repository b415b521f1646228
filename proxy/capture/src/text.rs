//! Texts of statements. Pure.

use std::borrow::Cow;

use atone_sql::Mode;
use memchr::memmem;

/// Whether a text is certainly no more than one statement, what executable comments hold included.
pub fn is_one_statement(sql: &[u8], mode: Mode) -> bool {
    let whole = |text: Cow<'_, [u8]>| {
        let executes = [&b"/*!"[..], b"/*M!"].iter().any(|comment| memmem::find(&text, comment).is_some());
        !executes && atone_sql::next_statement(&text, mode).is_none()
    };
    !atone_sql::may_have_several_statements(sql) || mode.decode(sql).is_ok_and(whole)
}

/// Column names are compared without case; those with other than ASCII letters must be spelled alike.
pub(crate) fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}
