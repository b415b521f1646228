//! Undo rows that are of no more use.

use std::collections::HashSet;

use atone_api::Xid;
use atone_api::proto::{BranchRef, WorkOutcome};
use atone_undo::{LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, PART_SEPARATOR};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::{Failure, stuck};
use crate::backend::Backend;
use crate::typed::Typed;

/// How many branches one DELETE names.
const BRANCHES_PER_DELETE: usize = 1000;
/// How many rows of each sort a sweep deletes.
const ROWS_PER_SWEEP: usize = 1000;

/// Deletes the undo rows of branches whose global transaction has committed.
pub(super) async fn purge(
    backend: &Backend,
    undo_log: &str,
    branches: &[BranchRef],
) -> Result<WorkOutcome, Failure> {
    let mut conn = backend.pool.get_conn().await?;
    for chunk in branches.chunks(BRANCHES_PER_DELETE) {
        let ids: Vec<String> = chunk.iter().map(|b| b.branch_id.to_string()).collect();
        let xids = chunk.iter().map(|b| Xid::new(&b.xid).map(|xid| format!("'{}'", xid.as_str())));
        let xids: Vec<String> = xids.collect::<Result<_, _>>().map_err(|e| stuck(e.to_string()))?;
        match purge_some(&mut conn, undo_log, chunk, &ids.join(","), &xids.join(",")).await {
            Ok(()) => {}
            // The schema or the table is gone, and its rows with it
            Err(Error::Server(e)) if matches!(e.code, 1146 | 1049) => return Ok(WorkOutcome::Done),
            Err(e) => return Err(e.into()),
        }
    }
    if backend.is_sweep_due(undo_log) {
        sweep(&mut conn, undo_log).await?;
    }
    Ok(WorkOutcome::Done)
}

async fn purge_some(
    conn: &mut Conn,
    undo_log: &str,
    branches: &[BranchRef],
    ids: &str,
    xids: &str,
) -> Result<(), Error> {
    let parts: Vec<(u64, String)> = conn
        .text_rows(format!(
            "SELECT branch_id, xid FROM {undo_log} WHERE branch_id IN ({ids}) AND log_status = {LOG_STATUS_PART}"
        ))
        .await?;
    // Another coordinator may have given out the same numbers
    conn.query_drop(format!(
        "DELETE FROM {undo_log} WHERE branch_id IN ({ids}) AND xid IN ({xids}) \
         AND log_status IN ({LOG_STATUS_UNDO}, {LOG_STATUS_RESTORED})"
    ))
    .await?;
    // Behind the first parts: a record of which only these are left is found again when the purge is repeated
    let wanted: HashSet<(u64, &str)> = branches.iter().map(|b| (b.branch_id, b.xid.as_str())).collect();
    for (branch_id, part) in parts {
        let xid = part.split_once(PART_SEPARATOR).map_or(part.as_str(), |(xid, _)| xid);
        if wanted.contains(&(branch_id, xid)) {
            delete_part(conn, undo_log, branch_id, &part).await?;
        }
    }
    Ok(())
}

async fn delete_part(conn: &mut Conn, undo_log: &str, branch_id: u64, part: &str) -> Result<(), Error> {
    let sql =
        format!("DELETE FROM {undo_log} WHERE branch_id = ? AND xid = ? AND log_status = {LOG_STATUS_PART}");
    conn.exec_drop(sql, (branch_id, part)).await
}

/// Deletes markers and leftovers of more than a day, some at a time: no local COMMIT is on its way for that long.
async fn sweep(conn: &mut Conn, undo_log: &str) -> Result<(), Error> {
    conn.query_drop(format!(
        "DELETE FROM {undo_log} WHERE log_status IN ({LOG_STATUS_MARKER}, {LOG_STATUS_RESTORED}) \
         AND log_created < UTC_TIMESTAMP(6) - INTERVAL 1 DAY LIMIT {ROWS_PER_SWEEP}"
    ))
    .await?;
    // What a version left that knew no parts
    let orphans: Vec<(u64, String)> = conn
        .text_rows(format!(
            "SELECT p.branch_id, p.xid FROM {undo_log} p LEFT JOIN {undo_log} f ON f.branch_id = p.branch_id \
             AND f.xid = SUBSTRING_INDEX(p.xid, '{PART_SEPARATOR}', 1) \
             WHERE p.log_status = {LOG_STATUS_PART} AND p.log_created < UTC_TIMESTAMP(6) - INTERVAL 1 DAY \
             AND f.branch_id IS NULL LIMIT {ROWS_PER_SWEEP}"
        ))
        .await?;
    for (branch_id, part) in orphans {
        delete_part(conn, undo_log, branch_id, &part).await?;
    }
    Ok(())
}
