//! SET.

use std::ops::Range;

use crate::{
    clause::functions::{check_calls, find_call},
    lex::{Kind, Text, identifier, unquote_string},
    types::{AutocommitValue, Refusal, Statement},
    xid::variable,
};

/// What a SET is, and the session's system variables that it assigns.
pub(crate) struct Set {
    pub(crate) statement: Statement,
    pub(crate) session_variables: Vec<String>,
}

/// What one item assigns.
enum Target {
    /// `@x`: whether it is `@atone_xid`.
    User { xid: bool },
    /// A system variable of the session.
    System(String),
}

/// `SET …`. `touches_xid`: `@atone_xid` is assigned somewhere in it.
pub(crate) fn set(text: &Text<'_>, placeholders: &[usize], touches_xid: bool) -> Result<Set, Refusal> {
    let end = text.len();
    if end == 1 {
        return Err(not_understood());
    }
    check_calls(text, 1..end)?;
    if find_call(text, 1..end, "ROW_COUNT").is_some() {
        return Err(Refusal::new("ROW_COUNT() can be used in a SELECT only"));
    }
    let scope = usize::from(text.is_any(1, &["SESSION", "LOCAL"]));
    if text.is(1 + scope, "TRANSACTION") {
        return Ok(Set { statement: Statement::Set, session_variables: vec!["transaction".to_owned()] });
    }
    let mut items = Vec::new();
    for part in text.split_commas(1..end) {
        items.push(item(text, part)?);
    }
    let session_variables: Vec<String> = items
        .iter()
        .filter_map(|(target, _)| match target {
            Target::System(name) => Some(name.clone()),
            Target::User { .. } => None,
        })
        .collect();

    let autocommit: Vec<&Range<usize>> = items
        .iter()
        .filter(|(target, _)| matches!(target, Target::System(name) if name == "autocommit"))
        .map(|(_, value)| value)
        .collect();
    let statement = match (autocommit.as_slice(), items.as_slice()) {
        ([_, ..], _) if touches_xid => {
            return Err(Refusal::for_atone("one SET can't assign both autocommit and @atone_xid"));
        }
        ([value], _) => Statement::SetAutocommit(autocommit_value(text, (*value).clone())),
        ([_, _, ..], _) => Statement::SetAutocommit(AutocommitValue::Unknown),
        (_, [(Target::User { xid: true }, value)]) => variable::value(text, value.clone(), placeholders)
            .map_or(Statement::TouchesXid, Statement::SetXid),
        _ if touches_xid => Statement::TouchesXid,
        _ => Statement::Set,
    };
    Ok(Set { statement, session_variables })
}

fn not_understood() -> Refusal {
    Refusal::new("the SET is not understood")
}

/// One item: its target and the tokens of its value.
fn item(text: &Text<'_>, part: Range<usize>) -> Result<(Target, Range<usize>), Refusal> {
    let mut at = part.start;
    if text.kind(at) == Some(Kind::UserVar) {
        return assigned(text, at + 1, &part)
            .map(|value| (Target::User { xid: variable::is_xid_variable(text, at) }, value));
    }
    if text.kind(at) == Some(Kind::SysVar) {
        let scope = text.bytes(at).get(2..).unwrap_or_default().to_ascii_lowercase();
        let mut name = identifier(&scope);
        if text.punct(at + 1, b'.') {
            check_scope(&name)?;
            at += 2;
            name = text.name(at).ok_or_else(not_understood)?;
        }
        return system(text, &name, at + 1, &part);
    }
    if text.is_any(at, &["NAMES", "CHARSET"]) || text.are(at, &["CHARACTER", "SET"]) {
        let target = Target::System("names".to_owned());
        return Ok((target, part.end..part.end));
    }
    if text.is_any(
        at,
        &["PASSWORD", "ROLE", "DEFAULT", "RESOURCE", "STATEMENT", "GLOBAL", "PERSIST", "PERSIST_ONLY"],
    ) {
        let word = String::from_utf8_lossy(text.bytes(at)).to_ascii_uppercase();
        return Err(Refusal::new(match word.as_str() {
            "GLOBAL" | "PERSIST" | "PERSIST_ONLY" => format!("SET {word} changes the server"),
            "STATEMENT" => "SET STATEMENT is not supported".to_owned(),
            _ => format!("SET {word} commits or changes accounts"),
        }));
    }
    if text.is_any(at, &["SESSION", "LOCAL"]) {
        at += 1;
    }
    let name = text.name(at).ok_or_else(not_understood)?;
    system(text, &name, at + 1, &part)
}

/// Variables that decide whether replicas get a session's changes, each with the value that says they do.
const REPLICATED: [(&str, bool); 3] =
    [("sql_log_bin", true), ("skip_replication", false), ("wsrep_on", true)];

/// Whether a value is a literal for on, or for off.
fn is_boolean(text: &Text<'_>, value: Range<usize>, on: bool) -> bool {
    let expected = if on { AutocommitValue::On } else { AutocommitValue::Off };
    autocommit_value(text, value) == expected
}

/// Refuses a scope before a dot that is not the session's.
fn check_scope(scope: &str) -> Result<(), Refusal> {
    match scope.to_ascii_lowercase().as_str() {
        "session" | "local" => Ok(()),
        "global" | "persist" | "persist_only" => {
            Err(Refusal::new(format!("SET {} changes the server", scope.to_ascii_uppercase())))
        }
        _ => Err(not_understood()),
    }
}

/// A system variable of the session; `at` is the index after its name.
fn system(
    text: &Text<'_>,
    name: &str,
    at: usize,
    part: &Range<usize>,
) -> Result<(Target, Range<usize>), Refusal> {
    let name = name.to_ascii_lowercase();
    let value = assigned(text, at, part)?;
    if name == "completion_type" {
        let plain = value.len() == 1
            && (text.is_any(value.start, &["NO_CHAIN", "DEFAULT"])
                || matches!(text.bytes(value.start), b"0" | b"'NO_CHAIN'"));
        if !plain {
            return Err(Refusal::new("completion_type changes what COMMIT and ROLLBACK do"));
        }
    }
    if let Some((_, on)) = REPLICATED.iter().find(|(known, _)| *known == name)
        && !is_boolean(text, value.clone(), *on)
    {
        let why = format!("{name} keeps changes from replicas, which the rollback would reach all the same");
        return Err(Refusal::new(why));
    }
    if name == "sql_mode" {
        for mode in ["ORACLE", "MSSQL"] {
            let span = text.span(value.clone());
            let named = text.sql.get(span).unwrap_or_default().to_ascii_uppercase();
            if memchr::memmem::find(&named, mode.as_bytes()).is_some() {
                return Err(Refusal::new(format!("sql_mode {mode} changes the SQL grammar")));
            }
        }
    }
    Ok((Target::System(name), value))
}

/// The value after `=` or `:=` at `at`.
fn assigned(text: &Text<'_>, at: usize, part: &Range<usize>) -> Result<Range<usize>, Refusal> {
    if text.assigns(at) && at + 1 < part.end { Ok(at + 1..part.end) } else { Err(not_understood()) }
}

fn autocommit_value(text: &Text<'_>, value: Range<usize>) -> AutocommitValue {
    if value.len() != 1 {
        return AutocommitValue::Unknown;
    }
    let written = match text.kind(value.start) {
        Some(Kind::Str) => unquote_string(text.bytes(value.start), text.mode).unwrap_or_default(),
        Some(Kind::Word | Kind::Number) => text.bytes(value.start).to_vec(),
        _ => return AutocommitValue::Unknown,
    };
    let quoted = text.kind(value.start) == Some(Kind::Str);
    match written.to_ascii_uppercase().as_slice() {
        b"ON" => AutocommitValue::On,
        b"OFF" => AutocommitValue::Off,
        b"1" | b"TRUE" if !quoted => AutocommitValue::On,
        b"0" | b"FALSE" if !quoted => AutocommitValue::Off,
        _ => AutocommitValue::Unknown,
    }
}
