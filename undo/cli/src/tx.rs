//! `atone tx`.

use atone_undo::ConflictReport;
use serde_json::{Map, Value, json};

use crate::args::Tx;
use crate::render::{self, Grid, Palette, Style, field};
use crate::rest::Coordinator;
use crate::{Failure, Report};

pub(crate) async fn run(
    coordinator: &Coordinator,
    command: Tx,
    json: bool,
    palette: Palette,
) -> Result<Report, Failure> {
    let (xid, action) = match command {
        Tx::Ls { status, name, limit } => {
            let filters = [("status", status.as_deref()), ("name", name.as_deref())];
            let (transactions, more) = coordinator.list("transactions", &filters, limit).await?;
            if json {
                return Report::json(&json!({ "transactions": transactions, "more": more }));
            }
            return Ok(Report { text: list(&transactions, more, palette), failure: None });
        }
        Tx::Show { xid } => (xid, None),
        Tx::Commit { xid } => (xid, Some("commit")),
        Tx::Rollback { xid } => (xid, Some("rollback")),
        Tx::Resolve { xid, branch, keep_current: _, dry_run, by } => {
            let by = by.or_else(|| std::env::var("USER").ok()).unwrap_or_default();
            let answer = coordinator.keep_current(&xid, branch, dry_run, &by).await?;
            if json {
                return Report::json(&answer);
            }
            return Ok(Report { text: resolved(&answer, palette), failure: None });
        }
    };
    let transaction = coordinator.transaction(&xid, action).await?;
    if json {
        return Report::json(&transaction);
    }
    let text = match action {
        None => show(&transaction, palette),
        Some(_) => format!("{} {}\n", field(&transaction, "xid"), status(&transaction)),
    };
    Ok(Report { text, failure: None })
}

/// `rolled_back (timeout)`.
fn status(transaction: &Value) -> String {
    match field(transaction, "reason").as_str() {
        "-" => field(transaction, "status"),
        reason => format!("{} ({reason})", field(transaction, "status")),
    }
}

fn status_style(status: &str) -> Style {
    if status.starts_with("rollback_failed") { Style::Alert } else { Style::Normal }
}

fn list(transactions: &[Value], more: bool, palette: Palette) -> String {
    let mut grid = Grid::new(&["XID", "STATUS", "NAME", "CREATED", "ENDED"]);
    for transaction in transactions {
        let status = status(transaction);
        let mut cells = vec![
            (Style::Normal, field(transaction, "xid")),
            (status_style(&status), status),
            (Style::Normal, field(transaction, "name")),
            (Style::Normal, field(transaction, "created_at")),
        ];
        cells.push((Style::Normal, field(transaction, "ended_at")));
        grid.styled(cells);
    }
    let mut text = grid.render(palette, "");
    if more {
        text.push_str("… and more: raise --limit\n");
    }
    text
}

/// A transaction in full.
fn show(transaction: &Value, palette: Palette) -> String {
    let mut head = Grid::default();
    let state = status(transaction);
    let timeout = match transaction.get("timeout_ms").and_then(Value::as_u64) {
        Some(ms) if ms % 1000 == 0 => format!("{} s", ms / 1000),
        Some(ms) => format!("{ms} ms"),
        None => "-".to_owned(),
    };
    for (name, style, text) in [
        ("xid", Style::Normal, field(transaction, "xid")),
        ("name", Style::Normal, field(transaction, "name")),
        ("status", status_style(&state), state),
        ("timeout", Style::Normal, timeout),
        ("created", Style::Normal, field(transaction, "created_at")),
        ("decided", Style::Normal, field(transaction, "decided_at")),
        ("ended", Style::Normal, field(transaction, "ended_at")),
    ] {
        head.styled(vec![(Style::Heading, name.to_owned()), (style, text)]);
    }
    let mut text = head.render(palette, "");
    let branches = transaction.get("branches").and_then(Value::as_array).cloned().unwrap_or_default();
    text.push('\n');
    if branches.is_empty() {
        text.push_str("no branches\n");
        return text;
    }
    let mut grid = Grid::new(&["BRANCH", "RESOURCE", "SCHEMA", "STATUS", "LOCKS", "REGISTERED"]);
    for branch in &branches {
        let status = field(branch, "status");
        grid.styled(vec![
            (Style::Normal, field(branch, "branch_id")),
            (Style::Normal, field(branch, "resource")),
            (Style::Normal, field(branch, "schema")),
            (status_style(&status), status),
            (Style::Normal, field(branch, "locks")),
            (Style::Normal, field(branch, "registered_at")),
        ]);
    }
    text.push_str(&grid.render(palette, ""));
    for branch in &branches {
        if let Some(detail) = branch.get("detail").filter(|d| !d.is_null()) {
            let title = format!("branch {} on {}", field(branch, "branch_id"), field(branch, "resource"));
            text.push_str(&format!(
                "\n{}: {}",
                palette.paint(Style::Heading, &title),
                reported(detail, palette)
            ));
        }
        if let Some(resolution) = branch.get("resolution").filter(|r| !r.is_null()) {
            let title = format!("branch {} on {}", field(branch, "branch_id"), field(branch, "resource"));
            text.push_str(&format!(
                "\n{}: {} by {} at {}\n",
                palette.paint(Style::Heading, &title),
                field(resolution, "action"),
                field(resolution, "by"),
                field(resolution, "decided_at")
            ));
            if let Some(given_up) = resolution.get("given_up").filter(|g| !g.is_null()) {
                text.push_str(&format!("given up: {}", reported(given_up, palette)));
            }
        }
    }
    text
}

/// What an operator's decision did, or would do.
fn resolved(answer: &Value, palette: Palette) -> String {
    let dry_run = answer.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
    let mut text = format!(
        "branch {} of {}: {}{}\n",
        field(answer, "branch_id"),
        field(answer, "xid"),
        field(answer, "status"),
        if dry_run { " (dry run: nothing was done)" } else { "" }
    );
    if let Some(given_up) = answer.get("given_up").filter(|given_up| !given_up.is_null()) {
        let what = if dry_run { "would be given up" } else { "given up" };
        text.push_str(&format!("{what}: {}", reported(given_up, palette)));
    }
    text
}

/// Why a branch stopped.
fn reported(detail: &Value, palette: Palette) -> String {
    let report = match detail {
        Value::String(text) => serde_json::from_str::<ConflictReport>(text).ok(),
        other => serde_json::from_value::<ConflictReport>(other.clone()).ok(),
    };
    let Some(report) = report else {
        return match detail {
            Value::String(text) => format!("{}\n", render::one_line(text)),
            other => format!("{other}\n"),
        };
    };
    conflict(&report, palette)
}

/// A conflict report in full: each row's key, the columns that differ, and its images.
pub(crate) fn conflict(report: &ConflictReport, palette: Palette) -> String {
    let mut text = format!("{}\n", render::one_line(&report.reason));
    for row in &report.rows {
        let what = match (&row.after, &row.current) {
            (_, None) => "the row is gone".to_owned(),
            (None, Some(_)) => "the row is there again".to_owned(),
            (Some(_), Some(_)) => format!("changed since: {}", render::one_line(&row.columns.join(", "))),
        };
        let table = render::cell(&format!("{}.{}", row.schema, row.table));
        text.push_str(&format!(
            "\n{} {}  {}\n",
            palette.paint(Style::Heading, &table),
            render::key(&row.key),
            palette.paint(Style::Alert, &what)
        ));
        let columns = columns(&[row.before.as_ref(), row.after.as_ref(), row.current.as_ref()]);
        let current = Some(row.current.as_ref());
        text.push_str(&render::images(
            &columns,
            row.before.as_ref(),
            row.after.as_ref(),
            current,
            true,
            palette,
        ));
    }
    if report.more_rows > 0 {
        text.push_str(&format!("\n… and {} more rows\n", report.more_rows));
    }
    text
}

/// All columns of these images, in order.
fn columns(images: &[Option<&Map<String, Value>>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in images.iter().flatten().flat_map(|image| image.keys()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Value {
        json!({
            "xid": "x:1", "name": "purchase", "status": "rollback_failed", "reason": "timeout", "timeout_ms": 1500,
            "created_at": "2026-11-22T00:00:00.000Z",
            "branches": [
                {"branch_id": 1, "resource": "bank1", "schema": "bank", "status": "rollback_failed", "locks": 2,
                 "registered_at": "2026-11-22T00:00:01.000Z",
                 "detail": {"reason": "a row was changed by somebody else", "rows": [
                    {"schema": "bank", "table": "account", "key": {"id": 1}, "columns": ["balance"],
                     "before": {"id": 1, "balance": "100.00"}, "after": {"id": 1, "balance": "90.00"},
                     "current": {"id": 1, "balance": "95.00"}},
                    {"schema": "bank", "table": "account", "key": {"id": 2}, "columns": [],
                     "before": null, "after": {"id": 2, "balance": null}, "current": null}]}},
                {"branch_id": 2, "resource": "bank2", "schema": "bank", "status": "rolled_back", "locks": 0,
                 "detail": "a sentence"}
            ]
        })
    }

    #[test]
    fn a_failed_rollback_tells_everything() {
        let text = show(&failed(), Palette::Plain);
        for line in [
            "status   rollback_failed (timeout)",
            "timeout  1500 ms",
            "1       bank1     bank    rollback_failed  2      2026-11-22T00:00:01.000Z",
            "branch 1 on bank1: a row was changed by somebody else",
            "bank.account id=1  changed since: balance",
            "  *  balance  100.00  90.00  95.00",
            "bank.account id=2  the row is gone",
            "branch 2 on bank2: a sentence",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_decision_is_shown() {
        let given_up = json!({"problem": "undo_missing", "reason": "its row is gone"});
        let mut transaction = failed();
        transaction["branches"] = json!([{"branch_id": 7, "resource": "bank1", "schema": "bank", "status": "resolved",
            "locks": 2, "resolution": {"action": "keep_current", "by": "ann", "decided_at": "2026-11-22T00:00:02.000Z",
            "given_up": given_up}}]);
        let text = show(&transaction, Palette::Plain);
        for line in [
            "branch 7 on bank1: keep_current by ann at 2026-11-22T00:00:02.000Z",
            "given up: its row is gone",
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
        }
        let answer = json!({"xid": "x:1", "branch_id": 7, "action": "keep_current", "dry_run": true,
            "status": "rollback_failed", "given_up": given_up});
        assert_eq!(
            resolved(&answer, Palette::Plain),
            "branch 7 of x:1: rollback_failed (dry run: nothing was done)\nwould be given up: its row is gone\n"
        );
    }

    #[test]
    fn a_report_in_a_string_is_read_too() {
        let text = reported(&json!(failed()["branches"][0]["detail"].to_string()), Palette::Plain);
        assert!(text.contains("changed since: balance"), "{text}");
        assert_eq!(reported(&json!({"other": 1}), Palette::Plain), "{\"other\":1}\n");
    }

    #[test]
    fn transactions_are_listed() {
        let text = list(&[failed()], true, Palette::Plain);
        assert_eq!(
            text,
            "XID  STATUS                     NAME      CREATED                   ENDED\n\
             x:1  rollback_failed (timeout)  purchase  2026-11-22T00:00:00.000Z  -\n\
             … and more: raise --limit\n"
        );
    }
}
