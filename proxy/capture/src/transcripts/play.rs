//! What a bound session asks the capture for a statement, and what comes of it.

use atone_sql::{AutocommitValue, Prepare, Refusal, Statement, StatementText};
use atone_wire::execute::Param;
use bytes::Bytes;

use crate::Capture;
use crate::commit::COMMIT;
use crate::error::End;
use crate::outcome::{Done, Halt, Reason};
use crate::params::substitute;

/// Runs a statement, and says what it came to.
pub(super) async fn one(capture: &mut Capture<'_>, run: &str, params: &[Param]) -> String {
    let Some(sql) = run.strip_prefix("run ") else { return committed(capture, COMMIT).await };
    let mode = capture.assumed_mode();
    let mut sql = sql.as_bytes().to_vec();
    let mut analysis = atone_sql::analyze(&sql, mode);
    if !params.is_empty() && !analysis.placeholders.is_empty() {
        sql = substitute(&sql, &analysis.placeholders, params, mode).unwrap();
        analysis = atone_sql::analyze(&sql, mode);
    } else if !analysis.is_of_atone() {
        // The text of an execution has been prepared
        capture.command.text = Some(Bytes::from(sql.clone()));
    }
    if let Statement::Refused(refusal) = &analysis.statement {
        return refused(capture, refusal).await;
    }
    match capture.check_reads(&sql, &analysis.statement).await {
        Ok(()) => {}
        Err(Halt::Stopped(Reason::Error(error))) => {
            return format!("refused {} {}", error.code, error.message);
        }
        Err(halt) => return halted(halt),
    }
    let outcome = match &analysis.statement {
        Statement::Dml(dml) => capture.change(&sql, dml, &analysis).await,
        Statement::Joined(joined) => capture.change_joined(&sql, joined, &analysis).await,
        Statement::Insert(insert) => capture.insert(&sql, insert, &analysis).await,
        Statement::Load(load) => capture.load(&sql, load, &analysis).await,
        other => return not_captured(capture, &sql, other).await,
    };
    match outcome {
        Ok(Done::Temporary) => "done temporary".to_owned(),
        Ok(Done::Written(written)) => format!("done {} affected", written.ok.affected_rows),
        Err(halt) => halted(halt),
    }
}

/// A statement that writes no rows. The session forwards it, and where it ends a local transaction that has written,
/// or moves within it, the branch follows.
async fn not_captured(capture: &mut Capture<'_>, sql: &[u8], statement: &Statement) -> String {
    let dirty = !capture.state.branch.is_clean();
    let becomes = match statement {
        Statement::Begin { .. } | Statement::Commit { .. } if dirty => return committed(capture, sql).await,
        Statement::SetAutocommit(AutocommitValue::On) if dirty => return committed(capture, sql).await,
        Statement::CommitGlobal if dirty => return committed(capture, COMMIT).await,
        Statement::StartGlobal { .. }
        | Statement::JoinGlobal(_)
        | Statement::CommitGlobal
        | Statement::RollbackGlobal
        | Statement::SetXid(_) => "binding",
        Statement::Rollback { .. } => {
            capture.state.branch.clear();
            "transaction"
        }
        Statement::Savepoint(name) => {
            capture.state.branch.savepoint(name);
            "transaction"
        }
        Statement::RollbackTo(name) => {
            capture.state.branch.rollback_to(name);
            "transaction"
        }
        Statement::ReleaseSavepoint(name) => {
            capture.state.branch.release(name);
            "transaction"
        }
        Statement::Begin { .. } | Statement::Commit { .. } | Statement::SetAutocommit(_) => "transaction",
        Statement::Prepare(prepare) => return prepared(capture, prepare).await,
        Statement::Execute(_) | Statement::Deallocate(_) => "followed",
        Statement::TouchesXid | Statement::SelectsDiagnostics { .. } => "watched",
        Statement::Empty | Statement::Set | Statement::Use(_) | Statement::Read | Statement::Diagnostics => {
            "passed"
        }
        Statement::Insert(_) | Statement::Dml(_) | Statement::Joined(_) | Statement::Load(_) => "captured",
        Statement::Refused(_) => "refused",
    };
    format!("done {becomes}")
}

/// PREPARE of a text that is known.
async fn prepared(capture: &mut Capture<'_>, prepare: &Prepare) -> String {
    let StatementText::Literal(text) = &prepare.source else { return "done followed".to_owned() };
    let inner = atone_sql::analyze(text, capture.assumed_mode());
    match capture.check_prepare(text, &inner.statement).await {
        Ok(()) => "done followed".to_owned(),
        Err(Halt::Failed(error)) => {
            format!("refused {} {}", error.code, String::from_utf8_lossy(&error.message))
        }
        Err(halt) => halted(halt),
    }
}

/// A statement that is refused for its text: with the server's error, where that has one.
async fn refused(capture: &mut Capture<'_>, refusal: &Refusal) -> String {
    match capture.own_error_of_refusal(refusal).await {
        Ok(Some(own)) => halted(Halt::Failed(own)),
        Ok(None) => format!("refused {}", refusal.reason),
        Err(end) => ended(end),
    }
}

async fn committed(capture: &mut Capture<'_>, commit: &[u8]) -> String {
    match capture.commit_branch(commit).await {
        Ok(_) => "done committed".to_owned(),
        Err(halt) => halted(halt),
    }
}

fn ended(end: End) -> String {
    halted(Halt::End(end))
}

fn halted(halt: Halt) -> String {
    let reason = |reason| match reason {
        Reason::Refused(why) => format!("1235 {why}"),
        Reason::Error(error) => format!("{} {}", error.code, error.message),
    };
    let error = |error: atone_wire::response::ErrPacket| {
        format!("{} {}", error.code, String::from_utf8_lossy(&error.message))
    };
    match halt {
        Halt::Stopped(why) => format!("halt stopped: {}", reason(why)),
        Halt::TakenBack(why) => format!("halt taken back: {}", reason(why)),
        Halt::RolledBack(why) => format!("halt rolled back: {why}"),
        Halt::Unresolved(e) => format!("halt unresolved: {}", error(e)),
        Halt::Failed(e) | Halt::FailedBefore(e, _) => format!("halt failed: {}", error(e)),
        Halt::Uncommitted(e) => format!("halt uncommitted: {}", error(e)),
        Halt::End(end) => format!("halt ended: {end}"),
    }
}
