//! LOAD DATA LOCAL.

use crate::{
    clause::table,
    lex::{Kind, Text, unquote_string},
    types::{Load, LoadFormat, OnConflict, Refusal, Statement, TableRef},
};

fn not_understood() -> Refusal {
    Refusal::new("the LOAD DATA is not understood")
}

/// `LOAD DATA [LOW_PRIORITY | CONCURRENT] LOCAL INFILE 'file' [REPLACE | IGNORE] INTO TABLE t …`
pub(crate) fn load(text: &Text<'_>) -> Result<Statement, Refusal> {
    if !text.is(1, "DATA") {
        return Err(Refusal::new("LOAD is understood as LOAD DATA LOCAL only"));
    }
    let mut at = 2 + usize::from(text.is_any(2, &["LOW_PRIORITY", "CONCURRENT"]));
    if !text.is(at, "LOCAL") {
        return Err(Refusal::new("LOAD DATA reads a file of the server's, whose rows cannot be seen before"));
    }
    if !text.is(at + 1, "INFILE") || text.kind(at + 2) != Some(Kind::Str) {
        return Err(not_understood());
    }
    at += 3;
    let replaces = text.is(at, "REPLACE");
    // With LOCAL, IGNORE is the default
    let on_conflict = if replaces { OnConflict::Replace } else { OnConflict::Ignore };
    at += usize::from(replaces || text.is(at, "IGNORE"));
    if !text.are(at, &["INTO", "TABLE"]) {
        return Err(not_understood());
    }
    at += 2;
    let (schema, name, after) = table::name(text, at..text.len()).ok_or_else(not_understood)?;
    let table = TableRef { schema, name, alias: None, span: text.span(at..after) };
    at = table::partitions(text, after)?;
    let mut charset = None;
    let set = if text.are(at, &["CHARACTER", "SET"]) { 2 } else { usize::from(text.is(at, "CHARSET")) };
    if set > 0 {
        charset = Some(word(text, at + set)?);
        at += set + 1;
    }
    let mut format = LoadFormat::default();
    // Under NO_BACKSLASH_ESCAPES the default depends on the server
    let mut escape_is_known = !text.mode.no_backslash_escapes;
    if text.is_any(at, &["FIELDS", "COLUMNS"]) {
        at += 1;
        loop {
            if text.are(at, &["TERMINATED", "BY"]) {
                format.field_end = string(text, at + 2)?;
                at += 3;
            } else if text.are(at, &["ENCLOSED", "BY"]) || text.are(at, &["OPTIONALLY", "ENCLOSED", "BY"]) {
                at += 2 + usize::from(text.is(at, "OPTIONALLY"));
                format.enclosed = one_byte(string(text, at)?)?;
                at += 1;
            } else if text.are(at, &["ESCAPED", "BY"]) {
                format.escaped = one_byte(string(text, at + 2)?)?;
                escape_is_known = true;
                at += 3;
            } else {
                break;
            }
        }
    }
    if text.is(at, "LINES") {
        at += 1;
        loop {
            if text.are(at, &["STARTING", "BY"]) {
                format.line_start = string(text, at + 2)?;
            } else if text.are(at, &["TERMINATED", "BY"]) {
                format.line_end = string(text, at + 2)?;
            } else {
                break;
            }
            at += 3;
        }
    }
    if !escape_is_known {
        return Err(Refusal::new("LOAD DATA without ESCAPED BY under NO_BACKSLASH_ESCAPES"));
    }
    check(&format)?;
    if text.is(at, "IGNORE") {
        let lines = std::str::from_utf8(text.bytes(at + 1)).ok().and_then(|text| text.parse().ok());
        if !text.is_any(at + 2, &["LINES", "ROWS"]) {
            return Err(not_understood());
        }
        format.ignored_lines = lines.ok_or_else(not_understood)?;
        at += 3;
    }
    let mut columns = None;
    if text.punct(at, b'(') {
        let end = text.skip_parens(at).ok_or_else(not_understood)?;
        let parts = if end - at > 2 { text.split_commas(at + 1..end - 1) } else { Vec::new() };
        let name = |part: &std::ops::Range<usize>| {
            let plain = (part.len() == 1).then(|| text.name(part.start)).flatten();
            plain.ok_or_else(|| Refusal::new("LOAD DATA into user variables is not supported"))
        };
        let names = parts.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        columns = (!names.is_empty()).then_some(names);
        at = end;
    }
    if text.is(at, "SET") {
        return Err(Refusal::new("LOAD DATA with SET is not supported"));
    }
    if at != text.len() {
        return Err(not_understood());
    }
    Ok(Statement::Load(Load { table, on_conflict, charset, format, columns }))
}

fn word(text: &Text<'_>, at: usize) -> Result<String, Refusal> {
    match text.kind(at) {
        Some(Kind::Word) => text.name(at).map(|name| name.to_ascii_lowercase()).ok_or_else(not_understood),
        Some(Kind::Str) => {
            String::from_utf8(string(text, at)?).map(|s| s.to_ascii_lowercase()).map_err(|_| not_understood())
        }
        _ => Err(not_understood()),
    }
}

fn string(text: &Text<'_>, at: usize) -> Result<Vec<u8>, Refusal> {
    let found =
        (text.kind(at) == Some(Kind::Str)).then(|| unquote_string(text.bytes(at), text.mode)).flatten();
    let found = found.ok_or_else(not_understood)?;
    if !found.is_ascii() {
        return Err(Refusal::new("LOAD DATA with a separator that is not ASCII"));
    }
    Ok(found)
}

fn one_byte(text: Vec<u8>) -> Result<Option<u8>, Refusal> {
    match text.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(not_understood()),
    }
}

/// Refuses separators with which servers split lines differently.
fn check(format: &LoadFormat) -> Result<(), Refusal> {
    let unusual = || Refusal::new("LOAD DATA with these separators is not supported");
    if format.field_end.is_empty() || format.line_end.is_empty() {
        return Err(unusual());
    }
    let special = [format.enclosed, format.escaped];
    let used = |byte: &u8| format.field_end.contains(byte) || format.line_end.contains(byte);
    let begins_alike = format.field_end.first() == format.line_end.first();
    let same = format.enclosed.is_some() && format.enclosed == format.escaped;
    if special.iter().flatten().any(used) || begins_alike || same {
        return Err(unusual());
    }
    Ok(())
}
