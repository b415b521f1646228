//! Phase two: what the coordinator asks to be done with branches that have committed locally.
//!
//! Everything here can be done twice: the transaction that restores the rows marks the undo row as restored. A branch
//! without an undo row gets a marker that makes a late local COMMIT fail. What is concluded from a row that is
//! missing or marked stands in docs/undo-format.md.

mod adapt;
mod audit_rows;
mod foreign_keys;
mod keep;
mod purge;
mod restore;
mod target;
mod undo_rows;

use std::sync::Arc;

use atone_api::proto::{BranchRef, Work, WorkKind, WorkOutcome, WorkResult};
use atone_catalog::service_error;
use atone_facts::ServiceError;
use atone_undo::{BranchRows, ConflictReport, UNDO_LOG_TABLE, quote_identifier};
use atone_wire::error_code::{
    ER_ACCESS_DENIED_ERROR, ER_BAD_DB_ERROR, ER_BAD_FIELD_ERROR, ER_BAD_NULL_ERROR, ER_CANT_CREATE_TABLE,
    ER_CANT_UPDATE_USED_TABLE_IN_SF_OR_TRG, ER_CHECK_CONSTRAINT_VIOLATED, ER_COLUMNACCESS_DENIED_ERROR,
    ER_CONSTRAINT_FAILED, ER_DATA_TOO_LONG, ER_DBACCESS_DENIED_ERROR, ER_DUP_ENTRY, ER_NET_PACKET_TOO_LARGE,
    ER_NO_DEFAULT_FOR_FIELD, ER_NO_PARTITION_FOR_GIVEN_VALUE, ER_NO_REFERENCED_ROW_2, ER_NO_SUCH_TABLE,
    ER_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN, ER_NOT_SUPPORTED_YET, ER_PARSE_ERROR, ER_ROW_IS_REFERENCED_2,
    ER_SIGNAL_EXCEPTION, ER_SPECIFIC_ACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR,
    ER_TRUNCATED_WRONG_VALUE, ER_TRUNCATED_WRONG_VALUE_FOR_FIELD, ER_WARN_ALLOWED_PACKET_OVERFLOWED,
    ER_WARN_DATA_OUT_OF_RANGE, WARN_DATA_TRUNCATED,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::backend::Backend;

/// Why a job could not be done.
#[derive(Debug)]
enum Failure {
    /// Later perhaps.
    Retry(String),
    /// Not without an operator.
    Stuck(ConflictReport),
    /// A row was changed by an outsider.
    Conflict(ConflictReport),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        service_error(error).into()
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Failure {
        match error.server() {
            Some((code, message)) if is_for_an_operator(code) => {
                Failure::Stuck(ConflictReport::new(format!("the server says: {code} {message}")))
            }
            _ => Failure::Retry(error.to_string()),
        }
    }
}

/// What an operator has to mend: a table, column or privilege that is missing, a value that does not fit or is taken, a
/// trigger's SIGNAL.
fn is_for_an_operator(code: u16) -> bool {
    matches!(
        code,
        ER_CANT_CREATE_TABLE
            | ER_DBACCESS_DENIED_ERROR
            | ER_ACCESS_DENIED_ERROR
            | ER_BAD_NULL_ERROR
            | ER_BAD_DB_ERROR
            | ER_BAD_FIELD_ERROR
            | ER_DUP_ENTRY
            | ER_PARSE_ERROR
            | ER_TABLEACCESS_DENIED_ERROR
            | ER_COLUMNACCESS_DENIED_ERROR
            | ER_NO_SUCH_TABLE
            | ER_NET_PACKET_TOO_LARGE
            | ER_SPECIFIC_ACCESS_DENIED_ERROR
            | ER_NOT_SUPPORTED_YET
            | ER_WARN_DATA_OUT_OF_RANGE
            | WARN_DATA_TRUNCATED
            | ER_TRUNCATED_WRONG_VALUE
            | ER_WARN_ALLOWED_PACKET_OVERFLOWED
            | ER_NO_DEFAULT_FOR_FIELD
            | ER_TRUNCATED_WRONG_VALUE_FOR_FIELD
            | ER_DATA_TOO_LONG
            | ER_CANT_UPDATE_USED_TABLE_IN_SF_OR_TRG
            | ER_ROW_IS_REFERENCED_2
            | ER_NO_REFERENCED_ROW_2
            | ER_NO_PARTITION_FOR_GIVEN_VALUE
            | ER_SIGNAL_EXCEPTION
            | ER_NON_DEFAULT_VALUE_FOR_GENERATED_COLUMN
            | ER_CHECK_CONSTRAINT_VIOLATED
            | ER_CONSTRAINT_FAILED
    )
}

fn stuck(reason: impl Into<String>) -> Failure {
    Failure::Stuck(ConflictReport::new(reason))
}

/// Does one piece of work and tells the coordinator.
pub async fn run(backend: Arc<Backend>, work: Work) {
    let Ok(_permit) = backend.phase_two.acquire().await else { return };
    let (outcome, detail) = match perform(&backend, &work).await {
        Ok(outcome) => (outcome, String::new()),
        Err(Failure::Retry(why)) => (WorkOutcome::Retry, why),
        Err(Failure::Stuck(report)) => (WorkOutcome::Stuck, report.to_json()),
        Err(Failure::Conflict(report)) => (WorkOutcome::Conflict, report.to_json()),
    };
    if outcome != WorkOutcome::Done {
        tracing::info!(backend = backend.name, work = work.work_id, kind = ?work.kind(), ?outcome, detail, "phase two");
    }
    metrics::counter!("atone_phase_two_total", "resource" => backend.name.clone(), "outcome" => outcome.as_str_name())
        .increment(1);
    backend.coordinator.work_result(WorkResult { work_id: work.work_id, outcome: outcome.into(), detail });
}

async fn perform(backend: &Backend, work: &Work) -> Result<WorkOutcome, Failure> {
    let undo_log = format!("{}.{}", quote_identifier(&work.schema), quote_identifier(UNDO_LOG_TABLE));
    match (work.kind(), work.branches.as_slice()) {
        (WorkKind::Purge, branches) => purge::purge(backend, &undo_log, branches).await,
        (WorkKind::Check, [branch]) => {
            let mut conn = backend.catalog.pool().get_conn().await?;
            match undo_rows::find(&mut conn, work, &undo_log, branch).await? {
                BranchRows::Record => Ok(WorkOutcome::Committed),
                // Nobody restores a branch while its transaction may still be committed
                BranchRows::Restored => Err(stuck("the branch was rolled back before that was decided")),
                BranchRows::Marker | BranchRows::None => Ok(WorkOutcome::Absent),
            }
        }
        (WorkKind::Keep, [branch]) => keep::keep(backend, work, &undo_log, branch).await,
        (WorkKind::Rollback, [branch]) => rollback(backend, work, &undo_log, branch).await,
        _ => Err(stuck("work of unknown kind, or for another number of branches than one")),
    }
}

async fn rollback(
    backend: &Backend,
    work: &Work,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<WorkOutcome, Failure> {
    let (mut conn, mut reader) = backend.catalog.pool().pair().await?;
    let mariadb = backend.catalog.is_mariadb(&mut reader).await?;
    match undo_rows::find(&mut conn, work, undo_log, branch).await? {
        BranchRows::Record => {}
        BranchRows::Restored => return Ok(WorkOutcome::Done),
        BranchRows::Marker | BranchRows::None => return Ok(WorkOutcome::Absent),
    }
    conn.query_drop("START TRANSACTION").await?;
    let restored = restore::restore(backend, &mut conn, reader, mariadb, undo_log, branch).await;
    let ended = conn.query_drop(if restored.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    if let Err(e) = ended {
        give_up(conn).await;
        return Err(restored.err().unwrap_or_else(|| e.into()));
    }
    restored.map(|()| WorkOutcome::Done)
}

/// Closes a connection whose transaction may still be open: it must not wait with its locks for the next use.
async fn give_up(conn: Conn) {
    if let Err(error) = conn.disconnect().await {
        tracing::debug!(%error, "a connection of the service account is given up");
    }
}
