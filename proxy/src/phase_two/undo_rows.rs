//! A branch's rows in undo_log: its record in one part or several, or what stands for it.

use atone_api::proto::{BranchRef, Work};
use atone_catalog::Typed;
use atone_undo::{
    BranchRows, Encoded, LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, RowHead,
    UndoRecord, branch_condition, insert_marker_sql, judge_rows, part_xid,
};
use atone_wire::error_code::{ER_BAD_DB_ERROR, ER_DUP_ENTRY, ER_NO_SUCH_TABLE};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::{Failure, stuck};
use crate::memory::{Memory, Reservation};

/// Records of more bytes are decoded where they hold nobody up.
const LARGE_RECORD_BYTES: usize = 256 << 10;

/// Looks for the undo row of a branch. Where there is none, a marker is left, after which there never will be.
pub(super) async fn find(
    conn: &mut Conn,
    work: &Work,
    undo_log: &str,
    branch: &BranchRef,
) -> Result<BranchRows, Failure> {
    // Twice: the branch may commit between the look and the marker, which then collides
    for _ in 0..2 {
        match look(conn, undo_log, branch).await?.judged.map_err(stuck)? {
            BranchRows::None => {}
            found => return Ok(found),
        }
        if insert_marker(conn, work, branch).await? {
            return Ok(BranchRows::Marker);
        }
    }
    Err(Failure::Retry("the undo row appears and disappears".into()))
}

/// Inserts a marker; false where a row is there already.
pub(super) async fn insert_marker(conn: &mut Conn, work: &Work, branch: &BranchRef) -> Result<bool, Failure> {
    match conn.query_drop(insert_marker_sql(&work.schema, &branch.xid, branch.branch_id)).await {
        Ok(()) => Ok(true),
        Err(Error::Server(e)) if e.code == ER_DUP_ENTRY => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// What a branch's rows say, or how they contradict each other, and the column `xid` of all of them.
pub(super) struct Seen {
    pub(super) judged: Result<BranchRows, String>,
    pub(super) xids: Vec<String>,
}

/// Looks at the rows of a branch without what they hold.
pub(super) async fn look(conn: &mut Conn, undo_log: &str, branch: &BranchRef) -> Result<Seen, Failure> {
    let select = format!(
        "SELECT xid, log_status, LENGTH(context) FROM {undo_log} WHERE {}",
        branch_condition("?", "?")
    );
    let found: Vec<(Vec<u8>, i32, u64)> = match conn.rows(select, (branch.branch_id, &branch.xid)).await {
        Ok(found) => found,
        // It was there when the branch was registered. An empty one in its place would say that no branch ever
        // committed
        Err(Error::Server(e)) if matches!(e.code, ER_BAD_DB_ERROR | ER_NO_SUCH_TABLE) => {
            return Err(stuck(format!(
                "{undo_log} is gone: whether the branch committed, and what it changed, cannot be told"
            )));
        }
        Err(e) => return Err(e.into()),
    };
    let mut rows = Vec::with_capacity(found.len());
    for (xid, status, context_bytes) in found {
        let xid = String::from_utf8_lossy(&xid).into_owned();
        let mut has_content = context_bytes > 0;
        if !has_content && matches!(status, LOG_STATUS_MARKER | LOG_STATUS_RESTORED) {
            let info_bytes: Option<u64> = conn
                .first_row(
                    format!("SELECT LENGTH(rollback_info) FROM {undo_log} WHERE branch_id = ? AND xid = ?"),
                    (branch.branch_id, &xid),
                )
                .await?;
            has_content = info_bytes.ok_or_else(|| Failure::Retry("the undo row went away".into()))? > 0;
        }
        rows.push(RowHead { xid, status, has_content });
    }
    let judged = judge_rows(&branch.xid, &rows);
    Ok(Seen { judged, xids: rows.into_iter().map(|row| row.xid).collect() })
}

/// Locks the undo row of a branch, and reads its record.
pub(super) async fn load(
    conn: &mut Conn,
    undo_log: &str,
    branch: &BranchRef,
    memory: &Memory,
) -> Result<Loaded, Failure> {
    let lock = format!("SELECT log_status FROM {undo_log} WHERE branch_id = ? AND xid = ? FOR UPDATE");
    let status: Option<i32> = conn.first_row(lock, (branch.branch_id, &branch.xid)).await?;
    if status != Some(LOG_STATUS_UNDO) {
        return Err(Failure::Retry("the undo row went away".into()));
    }
    // The lock on the first part protects the others: a locking read of them would lock the gap after them too, where
    // later branches write
    read(conn, undo_log, branch, Some(memory)).await
}

/// Reads all parts of a branch's record without locks, and decodes them. `memory`: what they take of it is waited for.
pub(super) async fn read(
    conn: &mut Conn,
    undo_log: &str,
    branch: &BranchRef,
    memory: Option<&Memory>,
) -> Result<Loaded, Failure> {
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
    let json_bytes = contexts.first().map_or(Ok(0), |context| UndoRecord::json_bytes(context));
    let json_bytes = json_bytes.map_err(|e| broken(e.to_string()))?;
    let reserved = match memory {
        Some(memory) => Some(memory.for_rollback(json_bytes).await),
        None => None,
    };
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
    Ok(Loaded { record, other_parts: names, _reserved: reserved })
}

/// A record as it was read.
pub(super) struct Loaded {
    pub(super) record: UndoRecord,
    /// The column `xid` of its parts but the first.
    other_parts: Vec<String>,
    _reserved: Option<Reservation>,
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
