//! Every row of the tables in docs/sql-support.md holds.

mod common;

use atone_sources::documents::statements;
use atone_sql::{Mode, Statement, analyze};

fn becomes(statement: &Statement) -> &'static str {
    match statement {
        Statement::StartGlobal { .. }
        | Statement::JoinGlobal(_)
        | Statement::CommitGlobal
        | Statement::RollbackGlobal
        | Statement::SetXid(_) => "binding",
        Statement::Begin { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint(_)
        | Statement::RollbackTo(_)
        | Statement::ReleaseSavepoint(_)
        | Statement::SetAutocommit(_) => "transaction",
        Statement::Prepare(_) | Statement::Execute(_) | Statement::Deallocate(_) => "followed",
        Statement::Insert(_) | Statement::Dml(_) | Statement::Joined(_) | Statement::Load(_) => "captured",
        Statement::TouchesXid | Statement::SelectsDiagnostics { .. } => "watched",
        Statement::Empty | Statement::Set | Statement::Use(_) | Statement::Read | Statement::Diagnostics => {
            "passed"
        }
        Statement::Refused(_) => "refused",
    }
}

#[test]
fn the_documented_forms_are_treated_as_documented() {
    let mut wrong = String::new();
    let rows = statements();
    for row in &rows {
        for &mariadb in row.servers() {
            let sql = row.sql.as_bytes();
            let statement = analyze(sql, Mode { mariadb, ..Mode::default() }).statement;
            let found = match &statement {
                Statement::Refused(refusal) => refusal.reason.as_str(),
                _ => "",
            };
            if becomes(&statement) != row.becomes || found != row.reason {
                wrong += &format!("{}\n    is {}\n", row.line, common::show_statement(sql, &statement));
            }
        }
    }
    assert!(rows.len() > 100, "only {} rows were found", rows.len());
    assert!(wrong.is_empty(), "\n{wrong}");
}
