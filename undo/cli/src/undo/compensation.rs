//! The SQL that a rollback would run now.

use atone_undo::{
    RowChange, Statement, TableChanges, UNDO_LOG_TABLE, Verdict, branch_condition, inverse, quote_identifier,
};
use serde_json::{Value, json};

use super::live::Judged;
use super::log::{Content, LogRow, xid_literal};
use super::view::{conflict_columns, key_object};
use crate::render::{self, one_line};

/// What a rollback would run for one table now.
pub(crate) struct Compensated {
    table: String,
    statements: Vec<Statement>,
    already_restored: usize,
    conflicts: Vec<String>,
    error: Option<String>,
}

impl Compensated {
    pub(crate) fn of(changes: &TableChanges, judged: Result<Vec<Judged<'_>>, String>) -> Self {
        let table = &changes.table;
        let (judged, error) = match judged {
            Ok(judged) => (judged, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let restore: Vec<&RowChange> =
            judged.iter().filter(|j| j.verdict == Verdict::Restore).map(|j| j.change).collect();
        let conflicts = judged
            .iter()
            .filter(|j| matches!(j.verdict, Verdict::Conflict { .. }))
            .map(|j| {
                let columns = conflict_columns(table, &j.verdict);
                let what = match (&j.current, columns.is_empty()) {
                    (None, _) => "is gone".to_owned(),
                    (Some(_), true) => "is there again".to_owned(),
                    (Some(_), false) => format!("was changed since: {}", columns.join(", ")),
                };
                format!("{} {what}", render::key(&key_object(table, j.change)))
            })
            .collect();
        Compensated {
            table: table.quoted(),
            statements: inverse(table, &restore),
            already_restored: judged.iter().filter(|j| j.verdict == Verdict::AlreadyRestored).count(),
            conflicts,
            error,
        }
    }
}

/// What a rollback would run for one branch now.
pub(crate) struct CompensatedBranch<'a> {
    pub(crate) row: &'a LogRow,
    pub(crate) tables: Vec<Compensated>,
}

impl CompensatedBranch<'_> {
    /// Why the branch would stop, if it would.
    fn obstacle(&self) -> Option<String> {
        if let Content::Bad { reason, .. } = &self.row.content {
            return Some(reason.clone());
        }
        self.tables.iter().find_map(|table| match (&table.error, table.conflicts.len()) {
            (Some(error), _) => Some(format!("{}: {error}", table.table)),
            (None, 0) => None,
            (None, rows) => Some(format!("{rows} row(s) of {} are in conflict", table.table)),
        })
    }

    /// Takes the undo row away, in the same transaction: a second rollback must find nothing to do.
    fn end(&self) -> String {
        let (branch_id, xid) = (self.row.branch_id.to_string(), xid_literal(&self.row.xid));
        let condition = match self.row.parts {
            1 => format!("branch_id = {branch_id} AND xid = {xid}"),
            _ => branch_condition(&branch_id, &xid),
        };
        format!(
            "DELETE FROM {}.{} WHERE {condition}",
            quote_identifier(&self.row.schema),
            quote_identifier(UNDO_LOG_TABLE)
        )
    }

    fn text(&self) -> String {
        let mut text = format!(
            "\n-- branch {} of {}, undo row in {}\n",
            self.row.branch_id,
            one_line(&self.row.xid),
            quote_identifier(&one_line(&self.row.schema))
        );
        if matches!(self.row.content, Content::Marker | Content::Restored) {
            text.push_str("-- there is nothing to undo\n");
            return text;
        }
        text.push_str("START TRANSACTION;\n");
        for table in &self.tables {
            for line in &table.conflicts {
                text.push_str(&format!("-- CONFLICT {}: {}\n", one_line(&table.table), one_line(line)));
            }
            if table.already_restored > 0 {
                text.push_str(&format!(
                    "-- {}: {} row(s) are restored already\n",
                    one_line(&table.table),
                    table.already_restored
                ));
            }
            for statement in &table.statements {
                text.push_str(&format!("{}; -- {} row(s)\n", statement.sql, statement.rows));
            }
        }
        match self.obstacle() {
            // A daemon would stop here; so does the text when it is piped into a client.
            Some(why) => text.push_str(&format!("ROLLBACK; -- it would stop here: {}\n", one_line(&why))),
            None => text.push_str(&format!("{}; -- {} row(s)\nCOMMIT;\n", self.end(), self.row.parts)),
        }
        text
    }

    fn json(&self) -> Value {
        let tables: Vec<Value> = self
            .tables
            .iter()
            .map(|table| {
                let statements: Vec<Value> =
                    table.statements.iter().map(|s| json!({ "sql": s.sql, "rows": s.rows })).collect();
                json!({
                    "table": table.table, "statements": statements, "already_restored": table.already_restored,
                    "conflicts": table.conflicts, "error": table.error,
                })
            })
            .collect();
        json!({
            "xid": self.row.xid, "branch_id": self.row.branch_id, "schema": self.row.schema,
            "status": self.row.status(), "tables": tables, "end": self.end(), "obstacle": self.obstacle(),
        })
    }
}

pub(crate) fn sql(settings: &[String], branches: &[CompensatedBranch<'_>]) -> String {
    let mut text = String::from(
        "-- What a rollback would run now. The daemons do this themselves; by hand only where the transaction is in\n\
         -- rollback_failed (atone tx show), never while it may still commit.\n",
    );
    for setting in settings {
        text.push_str(&format!("{setting};\n"));
    }
    for branch in branches {
        text.push_str(&branch.text());
    }
    text
}

pub(crate) fn sql_json(settings: &[String], branches: &[CompensatedBranch<'_>]) -> Value {
    json!({ "session": settings, "branches": branches.iter().map(CompensatedBranch::json).collect::<Vec<_>>() })
}
