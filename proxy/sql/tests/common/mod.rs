//! Analyses as one line of text.

#![allow(
    dead_code,
    clippy::expect_used,
    reason = "shared by several tests, each using a part; clippy knows test functions only"
)]

use atone_sql::{
    Analysis, Assignment, AutocommitValue, DmlAction, InsertValue, JoinedAction, Mode, OnConflict, Span,
    Statement, TableRef, XidValue, analyze,
};

/// The slice of a statement.
fn cut(sql: &[u8], span: &Span) -> String {
    String::from_utf8_lossy(&sql[span.clone()]).into_owned()
}

fn table(sql: &[u8], table: &TableRef) -> String {
    let mut shown = match &table.schema {
        Some(schema) => format!("{schema}/{}", table.name),
        None => table.name.clone(),
    };
    if let Some(alias) = &table.alias {
        shown += &format!(" alias {alias}");
    }
    let written = cut(sql, &table.span);
    if written != shown {
        shown += &format!(" <{written}>");
    }
    shown
}

fn clause(sql: &[u8], name: &str, span: Option<&Span>) -> String {
    span.map(|span| format!(" {name}<{}>", cut(sql, span))).unwrap_or_default()
}

fn flags(volatile: bool, subquery: bool) -> String {
    format!("{}{}", if volatile { " volatile" } else { "" }, if subquery { " subquery" } else { "" })
}

fn show_equalities(sql: &[u8], equalities: Option<&Vec<(String, Span)>>) -> String {
    let Some(equalities) = equalities else { return String::new() };
    let pairs: Vec<String> =
        equalities.iter().map(|(column, value)| format!("{column}={}", cut(sql, value))).collect();
    format!(" equalities[{}]", pairs.join(", "))
}

fn value(sql: &[u8], value: &InsertValue) -> String {
    match value {
        InsertValue::Default => "DEFAULT".into(),
        InsertValue::Null => "NULL".into(),
        InsertValue::Literal(span) => cut(sql, span),
        InsertValue::Placeholder(index) => format!("?{index}"),
        InsertValue::Expression(span) => format!("expr<{}>", cut(sql, span)),
    }
}

/// What a statement is, in one line.
pub(crate) fn show_statement(sql: &[u8], statement: &Statement) -> String {
    match statement {
        Statement::JoinGlobal(XidValue::Literal(xid)) => format!("JoinGlobal '{xid}'"),
        Statement::JoinGlobal(XidValue::Placeholder(index)) => format!("JoinGlobal ?{index}"),
        Statement::SetXid(XidValue::Literal(xid)) => format!("SetXid '{xid}'"),
        Statement::SetXid(XidValue::Placeholder(index)) => format!("SetXid ?{index}"),
        Statement::SetXid(XidValue::Null) => "SetXid NULL".into(),
        Statement::SetAutocommit(value) => match value {
            AutocommitValue::On => "SetAutocommit On".into(),
            AutocommitValue::Off => "SetAutocommit Off".into(),
            AutocommitValue::Unknown => "SetAutocommit Unknown".into(),
        },
        Statement::Insert(insert) => {
            let columns = insert
                .columns
                .as_ref()
                .map(|columns| format!(" ({})", columns.join(",")))
                .unwrap_or_default();
            let rows: Vec<String> = insert
                .rows
                .iter()
                .map(|row| format!("({})", row.iter().map(|v| value(sql, v)).collect::<Vec<_>>().join(", ")))
                .collect();
            let conflict = match &insert.on_conflict {
                OnConflict::Fail => String::new(),
                OnConflict::Ignore => " ignoring".to_owned(),
                OnConflict::Replace => " replacing".to_owned(),
                OnConflict::Update(assignments) => {
                    let set = assignments.iter().map(|a| format!("{}:={}", a.column, cut(sql, &a.value)));
                    format!(" updating[{}]", set.collect::<Vec<_>>().join("; "))
                }
            };
            let from = insert
                .query
                .as_ref()
                .map_or(String::new(), |query| format!("from<{}>", cut(sql, &query.span)));
            let returning = if insert.returning { " returning" } else { "" };
            format!(
                "Insert {}{columns} {}{from}{conflict}{returning}",
                table(sql, &insert.table),
                rows.join(" ")
            )
        }
        Statement::Dml(dml) => {
            let action = match &dml.action {
                DmlAction::Update(assignments) => {
                    let set = assignments.iter().map(|Assignment { column, span, value, .. }| {
                        assert!(span.start < value.start && value.end == span.end);
                        format!("{column}:={}", cut(sql, value))
                    });
                    format!(" [{}]", set.collect::<Vec<_>>().join("; "))
                }
                DmlAction::Delete { .. } => String::new(),
            };
            format!(
                "{}{} {}{action}{}{}{}{}{}{}{}",
                if dml.deletes() { "Delete" } else { "Update" },
                if dml.ignore { " ignoring" } else { "" },
                table(sql, &dml.table),
                clause(sql, "where", dml.where_clause.as_ref()),
                clause(sql, "order", dml.order_by.as_ref()),
                clause(sql, "limit", dml.limit.as_ref()),
                flags(dml.volatile, dml.subquery),
                show_equalities(sql, dml.equalities.as_ref()),
                clause(sql, "returning", dml.returning()),
                clause(sql, "with", dml.with.as_ref()),
            )
        }
        Statement::Joined(joined) => {
            let action = match &joined.action {
                JoinedAction::Update(assignments) => {
                    let set = assignments.iter().map(|a| {
                        let mut name = a.qualifiers.clone();
                        name.push(a.column.clone());
                        format!("{}:={}", name.join("."), cut(sql, &a.value))
                    });
                    format!("Update [{}]", set.collect::<Vec<_>>().join("; "))
                }
                JoinedAction::Delete(targets) => format!("Delete {targets:?}"),
            };
            let tables: Vec<String> = joined.tables.iter().map(|t| table(sql, t)).collect();
            format!(
                "{action}{}{} of {}{} <{}>{}{}",
                if joined.ignore { " ignoring" } else { "" },
                if joined.volatile { " volatile" } else { "" },
                tables.join(" and "),
                if joined.outer { " outer" } else { "" },
                cut(sql, &joined.references),
                clause(sql, "where", joined.where_clause.as_ref()),
                clause(sql, "with", joined.with.as_ref()),
            )
        }
        Statement::SelectsDiagnostics { reads } => {
            let reads: Vec<String> = reads
                .iter()
                .map(|read| match &read.unaliased_item {
                    Some(item) => format!("{} of <{}>", cut(sql, &read.span), cut(sql, item)),
                    None => cut(sql, &read.span),
                })
                .collect();
            format!("SelectsDiagnostics {}", reads.join("; "))
        }
        Statement::Refused(refusal) => {
            format!("Refused{}: {}", if refusal.for_atone { " always" } else { "" }, refusal.reason)
        }
        other => format!("{other:?}"),
    }
}

/// The whole analysis in one line.
pub(crate) fn show(sql: &[u8], mode: Mode) -> String {
    let analysis: Analysis = analyze(sql, mode);
    let mut shown = show_statement(sql, &analysis.statement);
    if let Some(hint) = &analysis.xid_hint {
        shown += &format!(" XID {} in <{}>", hint.xid, cut(sql, &hint.span));
    }
    if !analysis.session_variables.is_empty() {
        shown += &format!(" vars[{}]", analysis.session_variables.join(","));
    }
    if analysis.touches_xid && !shown.starts_with("SetXid") && !shown.starts_with("TouchesXid") {
        shown += " touches";
    }
    let rest = String::from_utf8_lossy(&sql[analysis.terminator..]).into_owned();
    if !rest.is_empty() && analysis.terminator > 0 {
        shown += &format!(" rest<{rest}>");
    }
    shown
}

/// Runs a table of `sql => expected` lines; blank lines and `--` lines are passed over.
pub(crate) fn check(mode: Mode, table: &str) {
    let mut wrong = String::new();
    let mut count = 0;
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--")) {
        let (sql, expected) = line.split_once(" => ").expect("a line is `sql => expected`");
        let sql = sql.replace("\\n", "\n");
        let shown = show(sql.as_bytes(), mode).replace('\n', "\\n");
        count += 1;
        if shown != expected.trim() {
            wrong += &format!("{sql}\n    expected {}\n    got      {shown}\n", expected.trim());
        }
    }
    assert!(count > 0, "an empty table");
    assert!(wrong.is_empty(), "\n{wrong}");
}
