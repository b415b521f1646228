//! The cheap tests that every packet of an unbound session passes.
//!
//! All of them may say true wrongly, and none says false wrongly, except where its comment says so.

use memchr::{memchr, memchr_iter, memchr2_iter, memmem};

use crate::lex::{Executable, Lexer, Mode};

/// Whether a packet may concern Atone: it begins with START, COMMIT or ROLLBACK GLOBAL, has GLOBAL after a `;`,
/// mentions `@atone_xid`, or has what may be an XID hint. Takes well under a microsecond for a usual statement.
pub fn may_concern_atone(sql: &[u8]) -> bool {
    mentions_variable(sql)
        || may_have_hint(sql)
        || begins_with_global_verb(sql)
        || has_global_after_semicolon(sql)
}

/// Whether a packet may change how the text of a statement that was prepared earlier is read: the default schema,
/// `sql_mode`, the charset and collation of literals. Says false wrongly for a stored procedure that the text does not
/// call by name.
pub fn may_change_parsing(sql: &[u8]) -> bool {
    const WORDS: [&str; 13] = [
        "use",
        "sql_mode",
        "names",
        "character",
        "charset",
        "character_set_client",
        "character_set_connection",
        "character_set_database",
        "collation_connection",
        "collation_database",
        "collate",
        "call",
        "execute",
    ];
    has_word(sql, &WORDS)
}

/// Whether a packet may PREPARE a statement under a name, or deallocate one.
pub fn may_prepare(sql: &[u8]) -> bool {
    has_word(sql, &["prepare", "call", "execute"])
}

fn has_word(sql: &[u8], words: &[&str]) -> bool {
    let between = |b: &u8| !(b.is_ascii_alphanumeric() || *b == b'_');
    sql.split(between).any(|found| words.iter().any(|known| found.eq_ignore_ascii_case(known.as_bytes())))
}

/// `@atone_xid`, or a variable whose name is quoted.
fn mentions_variable(sql: &[u8]) -> bool {
    const NAME: &[u8] = b"atone_xid";
    memchr_iter(b'@', sql).any(|at| {
        let rest = sql.get(at + 1..).unwrap_or_default();
        matches!(rest.first(), Some(b'\'' | b'"' | b'`'))
            || rest.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })
}

/// Whether a statement may have an XID hint: it has a block comment, and `xid` somewhere after the comment's beginning.
pub fn may_have_hint(sql: &[u8]) -> bool {
    // Comments are rare, and slashes are, too
    if memchr(b'/', sql).is_none() {
        return false;
    }
    let Some(comment) = memmem::find(sql, b"/*") else { return false };
    let rest = sql.get(comment..).unwrap_or_default();
    memchr2_iter(b'x', b'X', rest)
        .any(|at| rest.get(at + 1..at + 3).is_some_and(|end| end.eq_ignore_ascii_case(b"id")))
}

/// Whether a statement may read the list of the session's user variables: MySQL has it in
/// `performance_schema.user_variables_by_thread`, MariaDB in `information_schema.USER_VARIABLES` and
/// `SHOW USER_VARIABLES`.
pub fn may_list_user_variables(sql: &[u8]) -> bool {
    const LIST: &[u8] = b"user_variables";
    memchr2_iter(b'u', b'U', sql)
        .any(|at| sql.get(at..at + LIST.len()).is_some_and(|word| word.eq_ignore_ascii_case(LIST)))
}

/// Whether a text that cannot be read seems to name an XID: in `@atone_xid`, or in a comment (`XID(…)`, `xid=…`).
pub fn may_name_xid(sql: &[u8]) -> bool {
    let word = |word: &'static [u8]| {
        memchr2_iter(b'x', b'X', sql).filter(move |at| {
            let found = sql.get((at + 3).saturating_sub(word.len())..at + 3);
            found.is_some_and(|found| found.eq_ignore_ascii_case(word))
        })
    };
    let named = |at: usize| {
        let after = sql.get(at + 3..).unwrap_or_default().trim_ascii_start();
        matches!(after.first(), Some(b'(' | b'='))
    };
    word(b"atone_xid").next().is_some() || (memmem::find(sql, b"/*").is_some() && word(b"xid").any(named))
}

/// Whether a text that cannot be read may be for Atone: it seems to name an XID or a global transaction, or a quoted
/// variable whose name has escapes. Routines in other languages, and what else only the server understands, are not.
pub(crate) fn may_be_for_atone(sql: &[u8]) -> bool {
    let escaped = || {
        memchr_iter(b'@', sql).any(|at| {
            let rest = sql.get(at + 1..).unwrap_or_default();
            let Some((&quote @ (b'\'' | b'"' | b'`'), name)) = rest.split_first() else { return false };
            memchr(b'\\', &name[..memchr(quote, name).unwrap_or(name.len())]).is_some()
        })
    };
    let global = || {
        begins_with_global_verb(sql) || (has_global_after_semicolon(sql) && has_word(sql, &["transaction"]))
    };
    may_concern_atone(sql) && (may_name_xid(sql) || escaped() || global())
}

/// START, COMMIT or ROLLBACK, then GLOBAL.
fn begins_with_global_verb(sql: &[u8]) -> bool {
    // Most statements are excluded by their first letter. Those that begin with blanks or a comment are lexed
    if let Some(first) = sql.first()
        && first.is_ascii_alphabetic()
        && !matches!(first.to_ascii_uppercase(), b'S' | b'C' | b'R')
    {
        return false;
    }
    let mut lexer = Lexer::new(sql, Mode::default(), Executable::Skip);
    let mut comments = Vec::new();
    let mut word = |tokens| match lexer.next(tokens, &mut comments) {
        Ok(Some(token)) => Some(sql.get(token.span()).unwrap_or_default()),
        // A text that cannot be read is no statement for Atone: `analyze` refuses it as well
        _ => None,
    };
    let Some(verb) = word(0) else { return false };
    if ![b"START".as_slice(), b"COMMIT", b"ROLLBACK"].iter().any(|known| verb.eq_ignore_ascii_case(known)) {
        return false;
    }
    word(1).is_some_and(|second| second.eq_ignore_ascii_case(b"GLOBAL"))
}

/// GLOBAL after a `;`.
fn has_global_after_semicolon(sql: &[u8]) -> bool {
    const WORD: &[u8] = b"GLOBAL";
    let Some(at) = memchr(b';', sql) else { return false };
    let rest = sql.get(at..).unwrap_or_default();
    memchr2_iter(b'g', b'G', rest)
        .any(|at| rest.get(at..at + WORD.len()).is_some_and(|word| word.eq_ignore_ascii_case(WORD)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_seem_to_name_a_xid() {
        for sql in
            ["SET @Atone_XID = 'x'", "UPDATE /*+ xid ('a') */ t SET a = 1", "SELECT 1 /*a='b',xid='c'*/"]
        {
            assert!(may_name_xid(sql.as_bytes()), "{sql}");
        }
        for sql in ["SELECT xid FROM t /* x */", "SELECT XID(1)", "SELECT 1", "xi", "x"] {
            assert!(!may_name_xid(sql.as_bytes()), "{sql}");
        }
    }
}
