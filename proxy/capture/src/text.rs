//! Texts of statements in the client's charset. Pure.

use std::borrow::Cow;

use atone_sql::{Charset, Mode};
use memchr::memmem;

/// A text that was read, in the client's charset again. `None` where that does not have all of its letters.
pub fn written(text: &[u8], charset: Charset) -> Option<Cow<'_, [u8]>> {
    charset.encode(text)
}

/// How many bytes of a text have to be converted: none of what is read as it comes.
pub fn converted_bytes(text: &[u8], charset: Charset) -> usize {
    if charset.is_unicode() { 0 } else { text.len() }
}

/// Whether a text is certainly no more than one statement, what executable comments hold included.
pub fn is_one_statement(sql: &[u8], mode: Mode) -> bool {
    let whole = |text: Cow<'_, [u8]>| {
        let executes = [&b"/*!"[..], b"/*M!"].iter().any(|comment| memmem::find(&text, comment).is_some());
        !executes && atone_sql::next_statement(&text, mode).is_none()
    };
    !atone_sql::may_have_several_statements(sql) || mode.decode(sql).is_ok_and(whole)
}
