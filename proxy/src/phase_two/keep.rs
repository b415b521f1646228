//! An operator gave up to undo a branch: whatever there is of it in undo_log becomes a marker, so that no try that is
//! still under way somewhere can undo it.

use atone_api::proto::{BranchRef, Work, WorkOutcome};
use atone_catalog::Typed;
use atone_facts::UndoLogError;
use atone_undo::{BranchRows, LOG_STATUS_MARKER};
use atone_wire::error_code::ER_BAD_DB_ERROR;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Failure, give_up, stuck, undo_rows};
use crate::backend::Backend;

/// Sees to it that the branch is never undone; `Done` where it was undone before.
pub(super) async fn keep(
    backend: &Backend,
    work: &Work,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<WorkOutcome, Failure> {
    // The table may be what is gone
    match backend.catalog.ensure_undo_log(&work.schema).await {
        Ok(()) => {}
        // Nothing can be undone without the schema
        Err(UndoLogError::Unread(e)) if e.code() == Some(ER_BAD_DB_ERROR) => return Ok(WorkOutcome::Absent),
        Err(UndoLogError::Unread(e)) => return Err(e.into()),
        Err(unfit) => return Err(stuck(format!("{}.undo_log: {unfit}", work.schema))),
    }
    let mut conn = backend.catalog.pool().get_conn().await?;
    // Parts without their first row may be left
    undo_rows::insert_marker(&mut conn, work, branch).await?;
    replace(conn, undo_log, branch).await
}

/// Puts a marker in the place of the branch's rows, the first of which is there.
async fn replace(mut conn: Conn, undo_log: &str, branch: &BranchRef) -> Result<WorkOutcome, Failure> {
    conn.query_drop("START TRANSACTION").await?;
    let replaced = replace_in_transaction(&mut conn, undo_log, branch).await;
    let ended = conn.query_drop(if replaced.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    if let Err(e) = ended {
        give_up(conn).await;
        return Err(replaced.err().unwrap_or_else(|| e.into()));
    }
    replaced
}

async fn replace_in_transaction(
    conn: &mut Conn,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<WorkOutcome, Failure> {
    // A rollback that is under way holds this row until it is through
    let lock = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ? FOR UPDATE");
    let status: Option<i32> = conn.first_row(lock, (branch.branch_id, &branch.xid)).await?;
    if status.is_none() {
        return Err(Failure::Retry("the undo row went away".into()));
    }
    let seen = undo_rows::look(conn, undo_log, branch).await?;
    match seen.judged {
        Ok(BranchRows::Restored) => return Ok(WorkOutcome::Done),
        Ok(BranchRows::Marker) => return Ok(WorkOutcome::Absent),
        // What contradicts itself is given up as well: that is what was decided
        Ok(BranchRows::Record | BranchRows::None) | Err(_) => {}
    }
    let marked = format!(
        "UPDATE {undo_log} SET log_status = {LOG_STATUS_MARKER}, context = '', rollback_info = '', \
         log_modified = UTC_TIMESTAMP(6) WHERE branch_id = ? AND xid = ?"
    );
    conn.exec_drop(marked, (branch.branch_id, &branch.xid)).await?;
    let delete = format!("DELETE FROM {undo_log} WHERE branch_id = ? AND xid = ?");
    for part in seen.xids.iter().filter(|xid| **xid != branch.xid) {
        conn.exec_drop(&delete, (branch.branch_id, part)).await?;
    }
    Ok(WorkOutcome::Absent)
}
