//! Queries, and other statements that write no rows.

use std::ops::Range;

use crate::{
    clause::{
        ctes,
        functions::{check_calls, is_call_of},
    },
    lex::{Kind, Text, identifier},
    types::{DiagnosticNumber, DiagnosticRead, Refusal, Statement},
};

/// Refuses what a query may do besides reading: calls of unknown functions, INTO a file.
fn check_query(text: &Text<'_>) -> Result<(), Refusal> {
    check_calls(text, 0..text.len())?;
    for at in 0..text.len() {
        if !text.is(at, "INTO") {
            continue;
        }
        if text.is_any(at + 1, &["OUTFILE", "DUMPFILE"]) {
            return Err(Refusal::new("INTO OUTFILE and INTO DUMPFILE write a file"));
        }
        if text.kind(at + 1) != Some(Kind::UserVar) {
            return Err(Refusal::new("INTO is not understood"));
        }
    }
    Ok(())
}

/// `SELECT …`, `TABLE …`, `VALUES …`, `(SELECT …)`, `WITH … SELECT`. `touches_xid`: it assigns `@atone_xid`.
pub(crate) fn query(text: &Text<'_>, touches_xid: bool) -> Result<Statement, Refusal> {
    let body = query_body(text, 0)?;
    check_query(text)?;
    if touches_xid {
        return Ok(Statement::TouchesXid);
    }
    let reads: Vec<(usize, usize, DiagnosticNumber)> =
        (0..text.len()).filter_map(|at| diagnostic_number(text, at)).collect();
    let Some((_, _, first)) = reads.first() else { return Ok(Statement::Read) };
    if body == 0 && text.is(0, "SELECT") {
        return selects_diagnostics(text, &reads);
    }
    if *first == DiagnosticNumber::RowCount {
        return Err(Refusal::new("ROW_COUNT() can be used in a plain SELECT only"));
    }
    Ok(Statement::Diagnostics)
}

/// The number from the diagnostics that is read at `at`: its first token, its end, and which it is.
fn diagnostic_number(text: &Text<'_>, at: usize) -> Option<(usize, usize, DiagnosticNumber)> {
    if is_call_of(text, at, "ROW_COUNT") {
        return Some((at, at + 3, DiagnosticNumber::RowCount));
    }
    if text.kind(at) != Some(Kind::SysVar) {
        return None;
    }
    let scoped = text.punct(at + 1, b'.');
    let name = if scoped { text.bytes(at + 2) } else { text.bytes(at).get(2..).unwrap_or_default() };
    let number = match identifier(name).to_ascii_lowercase().as_str() {
        "warning_count" => DiagnosticNumber::WarningCount,
        "error_count" => DiagnosticNumber::ErrorCount,
        _ => return None,
    };
    Some((at, if scoped { at + 3 } else { at + 1 }, number))
}

/// Where the query itself begins, after parentheses and CTEs.
fn query_body(text: &Text<'_>, mut at: usize) -> Result<usize, Refusal> {
    while text.punct(at, b'(') {
        at += 1;
    }
    if text.is(at, "WITH") {
        at = ctes::after(text, at)?;
        while text.punct(at, b'(') {
            at += 1;
        }
    }
    if text.is_any(at, &["SELECT", "TABLE", "VALUES"]) {
        return Ok(at);
    }
    let word = text.bytes(at).to_ascii_uppercase();
    Err(Refusal::new(match word.as_slice() {
        b"INSERT" | b"UPDATE" | b"DELETE" | b"REPLACE" => {
            "WITH before a statement that writes is not supported"
        }
        _ => "the statement is not understood",
    }))
}

/// The places that read the diagnostics, and the items of the select list that contain them.
fn selects_diagnostics(
    text: &Text<'_>,
    reads: &[(usize, usize, DiagnosticNumber)],
) -> Result<Statement, Refusal> {
    const MODIFIERS: &[&str] = &[
        "ALL",
        "DISTINCT",
        "DISTINCTROW",
        "HIGH_PRIORITY",
        "STRAIGHT_JOIN",
        "SQL_SMALL_RESULT",
        "SQL_BIG_RESULT",
        "SQL_BUFFER_RESULT",
        "SQL_NO_CACHE",
        "SQL_CACHE",
        "SQL_CALC_FOUND_ROWS",
    ];
    let mut start = 1;
    while text.is_any(start, MODIFIERS) {
        start += 1;
    }
    let ends = &[
        "FROM",
        "WHERE",
        "GROUP",
        "HAVING",
        "ORDER",
        "LIMIT",
        "INTO",
        "FOR",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "PROCEDURE",
        "WINDOW",
        "LOCK",
    ];
    let end = text.find(start..text.len(), |at| text.is_any(at, ends)).unwrap_or(text.len());
    let items = text.split_commas(start..end);
    let reads = reads
        .iter()
        .map(|&(at, place_end, number)| {
            if number == DiagnosticNumber::RowCount && !text.punct(at + 2, b')') {
                return Err(Refusal::new("ROW_COUNT() takes no argument"));
            }
            let item = items.iter().find(|item| item.contains(&at));
            Ok(DiagnosticRead {
                number,
                span: text.span(at..place_end),
                unaliased_item: item
                    .filter(|item| !has_alias(text, (*item).clone()))
                    .map(|item| text.span(item.clone())),
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Statement::SelectsDiagnostics { reads })
}

/// Whether an item of a select list ends with an alias: `expr AS x`, `expr x`, `expr 'x'`.
fn has_alias(text: &Text<'_>, item: Range<usize>) -> bool {
    if item.len() < 2 {
        return false;
    }
    let (last, before) = (item.end - 1, item.end - 2);
    let name = match text.kind(last) {
        Some(Kind::Quoted | Kind::Str) => true,
        Some(Kind::Word) => !text.after_dot(last) && !text.is(last, "END"),
        _ => false,
    };
    if !name {
        return false;
    }
    text.is(before, "AS")
        || match text.kind(before) {
            Some(Kind::Punct(b')') | Kind::Number | Kind::Quoted | Kind::UserVar | Kind::Placeholder) => true,
            Some(Kind::Word) => text.is(before, "END"),
            _ => false,
        }
}

/// `SHOW …`.
pub(crate) fn show(text: &Text<'_>) -> Result<Statement, Refusal> {
    check_query(text)?;
    let counts = text.is(1, "COUNT") && text.punct(2, b'(');
    let at = if counts { 5 } else { 1 };
    Ok(if text.is_any(at, &["WARNINGS", "ERRORS"]) { Statement::Diagnostics } else { Statement::Read })
}

/// `EXPLAIN …`, `DESCRIBE …`: reads, except those that run the statement.
pub(crate) fn explain(text: &Text<'_>) -> Result<Statement, Refusal> {
    check_query(text)?;
    if text.is(1, "ANALYZE") {
        analyzed_query(text, 2)?;
    } else if (1..text.len()).any(|at| text.is(at, "ANALYZE")) {
        return Err(Refusal::new("the EXPLAIN is not understood"));
    }
    Ok(Statement::Read)
}

/// `ANALYZE SELECT …` (MariaDB); ANALYZE TABLE is refused.
pub(crate) fn analyze(text: &Text<'_>) -> Result<Statement, Refusal> {
    analyzed_query(text, 1)?;
    check_query(text)?;
    Ok(Statement::Read)
}

fn analyzed_query(text: &Text<'_>, mut at: usize) -> Result<(), Refusal> {
    if text.is(at, "FORMAT") && text.punct(at + 1, b'=') {
        at += 3;
    }
    if text.is(1, "TABLE") || text.is_any(1, &["NO_WRITE_TO_BINLOG", "LOCAL"]) {
        return Err(Refusal::new("ANALYZE TABLE commits implicitly"));
    }
    query_body(text, at)
        .map(|_| ())
        .map_err(|_| Refusal::new("ANALYZE runs the statement, whose writes are not captured"))
}

/// Statements that may run if all functions in them are built in.
pub(crate) fn harmless(text: &Text<'_>) -> Result<Statement, Refusal> {
    check_query(text)?;
    Ok(Statement::Read)
}
