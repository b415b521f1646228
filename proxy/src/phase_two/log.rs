//! A branch's rows in undo_log: its record in one part or several, or what stands for it.

use atone_api::proto::{BranchRef, Work};
use atone_undo::{
    Encoded, LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, UndoRecord,
    branch_condition, insert_marker_sql, part_xid,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::{Failure, stuck};
use crate::backend::{Backend, UndoLogError};
use crate::typed::Typed;

/// Records of more bytes are decoded where they hold nobody up.
const LARGE_RECORD_BYTES: usize = 256 << 10;

/// What there is of a branch in undo_log.
pub(super) enum Found {
    /// Its record.
    Record,
    /// Its rows were restored before.
    Restored,
    /// It never committed and never will.
    Marker,
}

/// Looks for the undo row of a branch. Where there is none, a marker is left, after which there never will be. The first
/// part of a record is there exactly when the others are: they were committed together.
pub(super) async fn find(
    backend: &Backend,
    conn: &mut Conn,
    work: &Work,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<Found, Failure> {
    let select = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ?");
    // Twice: the branch may commit between the look and the marker, which then collides
    for _ in 0..2 {
        let status: Option<i32> = match conn.first_row(&select, (branch.branch_id, &branch.xid)).await {
            Ok(status) => status,
            Err(Error::Server(e)) if e.code == 1146 => {
                backend.forget_undo_log(&work.schema);
                backend.ensure_undo_log(&work.schema).await.map_err(|e| match e {
                    UndoLogError::Server(e) => Failure::from(e),
                    unusable => stuck(format!("{}.undo_log: {unusable}", work.schema)),
                })?;
                None
            }
            Err(e) => return Err(e.into()),
        };
        match status {
            Some(LOG_STATUS_UNDO) => return Ok(Found::Record),
            Some(LOG_STATUS_RESTORED) => return Ok(Found::Restored),
            Some(LOG_STATUS_MARKER) => return Ok(Found::Marker),
            Some(other) => {
                return Err(stuck(format!("the undo row has the unknown log_status {other}")));
            }
            None => {}
        }
        let marker = insert_marker_sql(&work.schema, &branch.xid, branch.branch_id);
        match conn.query_drop(marker).await {
            Ok(()) => return Ok(Found::Marker),
            Err(Error::Server(e)) if e.code == 1062 => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::Retry("the undo row appears and disappears".into()))
}

/// Locks the undo row of a branch, reads all parts of its record, and decodes them.
pub(super) async fn load(conn: &mut Conn, undo_log: &str, branch: &BranchRef) -> Result<Loaded, Failure> {
    let lock = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ? FOR UPDATE");
    let held: Option<i32> = conn.first_row(lock, (branch.branch_id, &branch.xid)).await?;
    if held != Some(LOG_STATUS_UNDO) {
        return Err(Failure::Retry("the undo row went away".into()));
    }
    // The lock on the first part protects the others: a locking read of them would lock the gap behind them too, where
    // later branches write
    let select = format!(
        "SELECT xid, log_status, context FROM {undo_log} WHERE {} ORDER BY LENGTH(xid), xid",
        branch_condition("?", "?")
    );
    let found: Vec<(Vec<u8>, i32, Vec<u8>)> = conn.rows(select, (branch.branch_id, &branch.xid)).await?;
    let broken = |why: String| stuck(format!("the undo record does not decode: {why}"));
    let mut names = Vec::with_capacity(found.len());
    let mut contexts = Vec::with_capacity(found.len());
    for (part, (xid, status, context)) in (1..).zip(found) {
        let name = part_xid(&branch.xid, part);
        let expected = if part == 1 { LOG_STATUS_UNDO } else { LOG_STATUS_PART };
        if xid != name.as_bytes() || status != expected {
            let xid = String::from_utf8_lossy(&xid).into_owned();
            return Err(broken(format!("{xid} with log_status {status} is in the place of part {part}")));
        }
        names.push(name);
        contexts.push(String::from_utf8(context).map_err(|e| broken(e.to_string()))?);
    }
    let parts = contexts.first().map_or(Ok(0), |context| UndoRecord::parts(context));
    let parts = parts.map_err(|e| broken(e.to_string()))?;
    if parts != names.len() {
        return Err(broken(format!("it has {} of {parts} parts", names.len())));
    }
    let select = format!("SELECT rollback_info FROM {undo_log} WHERE branch_id = ? AND xid = ?");
    let mut rows = Vec::with_capacity(parts);
    let mut bytes = 0;
    for (name, context) in names.iter().zip(contexts) {
        let info: Option<Vec<u8>> = conn.first_row(&select, (branch.branch_id, name)).await?;
        let rollback_info = info.ok_or_else(|| broken(format!("{name} is gone")))?;
        bytes += rollback_info.len();
        rows.push(Encoded { context, rollback_info });
    }
    let decoded = if bytes <= LARGE_RECORD_BYTES {
        UndoRecord::decode_rows(rows)
    } else {
        tokio::task::spawn_blocking(move || UndoRecord::decode_rows(rows))
            .await
            .map_err(|e| Failure::Retry(format!("the undo record could not be decoded: {e}")))?
    };
    let record = decoded.map_err(|e| broken(e.to_string()))?;
    names.remove(0);
    Ok(Loaded { record, other_parts: names })
}

/// A record as it was read.
pub(super) struct Loaded {
    pub(super) record: UndoRecord,
    /// The column `xid` of its parts but the first.
    other_parts: Vec<String>,
}

impl Loaded {
    /// Empties the undo row and says that the branch's rows are restored; the other parts go.
    pub(super) async fn mark_restored(
        &self,
        conn: &mut Conn,
        undo_log: &str,
        branch: &BranchRef,
    ) -> Result<(), Failure> {
        let done = format!(
            "UPDATE {undo_log} SET log_status = {LOG_STATUS_RESTORED}, context = '', rollback_info = '', \
             log_modified = UTC_TIMESTAMP(6) WHERE branch_id = ? AND xid = ?"
        );
        conn.exec_drop(done, (branch.branch_id, &branch.xid)).await?;
        let gone = format!("DELETE FROM {undo_log} WHERE branch_id = ? AND xid = ?");
        for part in &self.other_parts {
            conn.exec_drop(&gone, (branch.branch_id, part)).await?;
        }
        Ok(())
    }
}
