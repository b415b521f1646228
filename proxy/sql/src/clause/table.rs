//! One table as a statement names it: schema, partitions, alias, index hints.

use std::ops::Range;

use crate::{
    lex::Text,
    types::{Refusal, TableRef},
};

/// Words after a table that are no alias.
pub(crate) const SEPARATORS: &[&str] = &[
    "ON",
    "USING",
    "JOIN",
    "INNER",
    "LEFT",
    "RIGHT",
    "CROSS",
    "NATURAL",
    "STRAIGHT_JOIN",
    "FOR",
    "PARTITION",
];

/// `[schema.]name`: its parts and the index after it.
pub(crate) fn name(text: &Text<'_>, range: Range<usize>) -> Option<(Option<String>, String, usize)> {
    let at = range.start;
    if at >= range.end {
        return None;
    }
    let first = text.name(at)?;
    if !text.punct(at + 1, b'.') || at + 1 >= range.end {
        return Some((None, first, at + 1));
    }
    if at + 2 >= range.end {
        return None;
    }
    Some((Some(first), text.name(at + 2)?, at + 3))
}

/// The index after `PARTITION (p, …)`, if it is there.
pub(crate) fn partitions(text: &Text<'_>, at: usize) -> Result<usize, Refusal> {
    if !text.is(at, "PARTITION") {
        return Ok(at);
    }
    let not_understood = || Refusal::new("the PARTITION clause is not understood");
    let end = text.skip_parens(at + 1).ok_or_else(not_understood)?;
    let names = text.split_commas(at + 2..end - 1);
    if names.iter().all(|name| name.len() == 1 && text.name(name.start).is_some()) {
        Ok(end)
    } else {
        Err(not_understood())
    }
}

/// A table with partitions, alias and index hints, and the index after it.
pub(crate) fn read(text: &Text<'_>, range: Range<usize>) -> Result<(TableRef, usize), Refusal> {
    let not_understood = || Refusal::new("the table is not understood");
    let (schema, name, mut at) = name(text, range.clone()).ok_or_else(not_understood)?;
    let hint =
        |at: usize| text.is_any(at, &["USE", "FORCE", "IGNORE"]) && text.is_any(at + 1, &["INDEX", "KEY"]);
    if at < range.end {
        at = partitions(text, at)?.min(range.end);
    }
    if at < range.end && text.are(at, &["FOR", "PORTION"]) {
        return Err(Refusal::new("FOR PORTION OF writes rows that are not captured"));
    }
    let mut alias = None;
    if at < range.end && text.is(at, "AS") {
        at += 1;
        alias = Some(at);
    } else if at < range.end && !hint(at) && text.name(at).is_some() && !text.is_any(at, SEPARATORS) {
        alias = Some(at);
    }
    let alias = match alias {
        Some(at_alias) if at_alias < range.end => {
            at = at_alias + 1;
            // A string is no alias of a table
            Some(text.name(at_alias).ok_or_else(not_understood)?)
        }
        Some(_) => return Err(not_understood()),
        None => None,
    };
    while at < range.end && hint(at) {
        at += 2;
        if text.is(at, "FOR") {
            at += if text.is(at + 1, "JOIN") { 2 } else { 3 };
        }
        at = text.skip_parens(at).ok_or_else(not_understood)?;
        // Index hints may have commas between them
        if text.punct(at, b',') && hint(at + 1) {
            at += 1;
        }
    }
    if at > range.end {
        return Err(not_understood());
    }
    Ok((TableRef { schema, name, alias, span: text.span(range.start..at) }, at))
}
