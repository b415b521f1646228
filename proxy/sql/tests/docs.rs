//! Every row of the tables in docs/sql-support.md holds.

mod common;

use atone_sql::{Mode, Statement, analyze};

/// The cells of a table's row.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(row.split('|').map(str::trim).collect())
}

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
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sql-support.md");
    let text = std::fs::read_to_string(path).expect("docs/sql-support.md");
    let mut wrong = String::new();
    let mut rows = 0;
    for line in text.lines() {
        let Some(cells) = cells(line) else { continue };
        let [statement, server, expected, reason] = cells.as_slice() else { continue };
        let Some(sql) = statement.strip_prefix('`').and_then(|sql| sql.strip_suffix('`')) else { continue };
        rows += 1;
        let servers: &[bool] = match *server {
            "any" => &[false, true],
            "MySQL" => &[false],
            "MariaDB" => &[true],
            other => panic!("{line}: there is no server {other}"),
        };
        for &mariadb in servers {
            let statement = analyze(sql.as_bytes(), Mode { mariadb, ..Mode::default() }).statement;
            let found = match &statement {
                Statement::Refused(refusal) => refusal.reason.as_str(),
                _ => "",
            };
            if becomes(&statement) != *expected || found != *reason {
                wrong += &format!("{line}\n    is {}\n", common::show_statement(sql.as_bytes(), &statement));
            }
        }
    }
    assert!(rows > 100, "only {rows} rows were found");
    assert!(wrong.is_empty(), "\n{wrong}");
}
