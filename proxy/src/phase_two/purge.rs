//! Undo rows that are of no more use.

use std::collections::{HashMap, HashSet};

use atone_api::proto::{BranchRef, ErrorCode, Leftover, Status, WorkOutcome};
use atone_api::{ClientError, Xid};
use atone_catalog::Typed;
use atone_undo::{LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, PART_SEPARATOR};
use atone_wire::error_code::{ER_BAD_DB_ERROR, ER_BINLOG_STMT_MODE_AND_ROW_ENGINE, ER_NO_SUCH_TABLE};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::{Failure, stuck};
use crate::backend::Backend;

/// How many branches one DELETE names.
const BRANCHES_PER_DELETE: usize = 1000;
/// What is true of a further part of a record.
const IS_PART: &str = "log_status = 3";
/// How many rows of each sort a sweep deletes.
const ROWS_PER_SWEEP: usize = 1000;

/// Deletes what is left of branches whose global transaction has committed, or which were restored.
pub(super) async fn purge(
    backend: &Backend,
    undo_log: &str,
    branches: &[BranchRef],
) -> Result<WorkOutcome, Failure> {
    if let Some(wrong) = branches.iter().find(|branch| Xid::new(&branch.xid).is_err()) {
        return Err(stuck(format!("{:?} is no XID", wrong.xid)));
    }
    let mut conn = backend.catalog.pool().get_conn().await?;
    for chunk in branches.chunks(BRANCHES_PER_DELETE) {
        match purge_some(&mut conn, undo_log, chunk).await {
            Ok(()) => {}
            // The schema or the table is gone, and its rows with it
            Err(Error::Server(e)) if matches!(e.code, ER_NO_SUCH_TABLE | ER_BAD_DB_ERROR) => {
                return Ok(WorkOutcome::Done);
            }
            Err(e) => return Err(e.into()),
        }
    }
    if backend.is_sweep_due(undo_log) {
        sweep(backend, &mut conn, undo_log).await?;
    }
    Ok(WorkOutcome::Done)
}

async fn purge_some(conn: &mut Conn, undo_log: &str, branches: &[BranchRef]) -> Result<(), Error> {
    let ids: Vec<String> = branches.iter().map(|b| b.branch_id.to_string()).collect();
    let rows: Vec<(u64, String, i32)> = conn
        .text_rows(format!(
            "SELECT branch_id, xid, log_status FROM {undo_log} WHERE branch_id IN ({})",
            ids.join(",")
        ))
        .await?;
    let Sorted { firsts, parts, odd } = sort(branches, rows);
    for (branch_id, xid, status) in odd {
        // The server has lost what it had acknowledged, or somebody changed the row: it may be all that is left
        tracing::error!(
            undo_log,
            branch_id,
            xid,
            status,
            "an undo row is not what the coordinator knows of its branch; it is kept"
        );
    }
    for status in [LOG_STATUS_UNDO, LOG_STATUS_RESTORED] {
        let of: Vec<&(u64, String)> =
            firsts.iter().filter(|(_, found)| *found == status).map(|(row, _)| row).collect();
        delete_rows(conn, undo_log, &of, &format!("log_status = {status}")).await?;
    }
    // After the first parts: a record of which only these are left is found again when the purge is repeated
    delete_rows(conn, undo_log, &parts.iter().collect::<Vec<_>>(), IS_PART).await?;
    Ok(())
}

/// The rows of branches that are to be purged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// First rows to delete, with their status.
    firsts: Vec<((u64, String), i32)>,
    /// Further parts to delete.
    parts: Vec<(u64, String)>,
    /// What must not be there.
    odd: Vec<(u64, String, i32)>,
}

/// Sorts rows by what there should be of their branches. Rows of others are left out.
fn sort(branches: &[BranchRef], rows: Vec<(u64, String, i32)>) -> Sorted {
    let wanted: HashMap<(u64, &str), Leftover> =
        branches.iter().map(|b| ((b.branch_id, b.xid.as_str()), b.leftover())).collect();
    let mut sorted = Sorted::default();
    for (branch_id, row_xid, status) in rows {
        let xid = row_xid.split_once(PART_SEPARATOR).map_or(row_xid.as_str(), |(xid, _)| xid);
        let Some(leftover) = wanted.get(&(branch_id, xid)) else { continue };
        let is_first = xid == row_xid;
        match (leftover, status) {
            // It holds nothing, and stops what may still be on its way
            (_, LOG_STATUS_MARKER) if is_first => {}
            (Leftover::Record | Leftover::Unspecified, LOG_STATUS_UNDO)
            | (Leftover::Restored | Leftover::Unspecified, LOG_STATUS_RESTORED)
                if is_first =>
            {
                sorted.firsts.push(((branch_id, row_xid), status));
            }
            (Leftover::Record | Leftover::Unspecified, LOG_STATUS_PART) if !is_first => {
                sorted.parts.push((branch_id, row_xid));
            }
            _ => sorted.odd.push((branch_id, row_xid, status)),
        }
    }
    sorted
}

/// Deletes these rows, found by a read before that locks nothing, where they still are of this sort.
///
/// The primary key begins with the branch id, which the DELETE goes by. A second list of values would be multiplied
/// with the first by the optimizer, which reads all rows of the table where that becomes too much. Under REPEATABLE
/// READ the gaps beside the rows would be locked, where every local COMMIT inserts.
async fn delete_rows(
    conn: &mut Conn,
    undo_log: &str,
    rows: &[&(u64, String)],
    condition: &str,
) -> Result<(), Error> {
    for chunk in rows.chunks(BRANCHES_PER_DELETE) {
        let Some(sql) = delete_sql(undo_log, chunk, condition) else { continue };
        conn.query_drop("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        match conn.query_drop(sql.as_str()).await {
            // Under the binary log's format STATEMENT such a transaction may not write
            Err(Error::Server(e)) if e.code == ER_BINLOG_STMT_MODE_AND_ROW_ENGINE => {
                conn.query_drop(sql.as_str()).await?;
            }
            done => done?,
        }
    }
    Ok(())
}

/// The DELETE of these rows; nothing where there is none. Another coordinator may have given out the same numbers, so
/// each row is compared as a whole.
fn delete_sql(undo_log: &str, rows: &[&(u64, String)], condition: &str) -> Option<String> {
    let plain = |xid: &str| xid.bytes().all(|b| b.is_ascii_alphanumeric() || b".:_-#".contains(&b));
    let rows: Vec<_> = rows.iter().filter(|(_, xid)| plain(xid)).collect();
    if rows.is_empty() {
        return None;
    }
    let ids: Vec<String> = rows.iter().map(|(id, _)| id.to_string()).collect();
    let whole: Vec<String> = rows.iter().map(|(id, xid)| format!("'{id} {xid}'")).collect();
    Some(format!(
        "DELETE FROM {undo_log} WHERE branch_id IN ({}) AND CONCAT(branch_id, ' ', xid) IN ({}) AND {condition}",
        ids.join(","),
        whole.join(",")
    ))
}

/// Deletes what a purge would have deleted and did not, some at a time: markers of more than a day, and of restored
/// branches and of parts without their first row what the coordinator has no more use for.
async fn sweep(backend: &Backend, conn: &mut Conn, undo_log: &str) -> Result<(), Error> {
    // A local COMMIT that a marker has to stop needs a connection, which the server ends when it is silent for this
    // long
    let markers: Vec<(u64, String)> = conn
        .text_rows(format!(
            "SELECT branch_id, xid FROM {undo_log} WHERE log_status = {LOG_STATUS_MARKER} AND log_modified < \
             UTC_TIMESTAMP(6) - INTERVAL (86400 + GREATEST(@@GLOBAL.wait_timeout, @@GLOBAL.interactive_timeout)) SECOND \
             LIMIT {ROWS_PER_SWEEP}"
        ))
        .await?;
    let is_marker = format!("log_status = {LOG_STATUS_MARKER}");
    delete_rows(conn, undo_log, &markers.iter().collect::<Vec<_>>(), &is_marker).await?;
    let Some(coordinator) = backend.coordinator.coordinator_id() else { return Ok(()) };
    let own = format!("{coordinator}:");
    let restored: Vec<(u64, String)> = conn
        .rows(
            format!(
                "SELECT branch_id, xid FROM {undo_log} WHERE log_status = {LOG_STATUS_RESTORED} \
                 AND log_modified < UTC_TIMESTAMP(6) - INTERVAL 1 DAY AND LEFT(xid, LENGTH(?)) = ? \
                 LIMIT {ROWS_PER_SWEEP}"
            ),
            (&own, &own),
        )
        .await?;
    // What a version left that knew no parts
    let orphans: Vec<(u64, String)> = conn
        .rows(
            format!(
                "SELECT p.branch_id, p.xid FROM {undo_log} p LEFT JOIN {undo_log} f ON f.branch_id = p.branch_id \
                 AND f.xid = SUBSTRING_INDEX(p.xid, '{PART_SEPARATOR}', 1) \
                 WHERE p.log_status = {LOG_STATUS_PART} AND p.log_modified < UTC_TIMESTAMP(6) - INTERVAL 1 DAY \
                 AND f.branch_id IS NULL AND LEFT(p.xid, LENGTH(?)) = ? LIMIT {ROWS_PER_SWEEP}"
            ),
            (&own, &own),
        )
        .await?;
    let ended = ended(backend, restored.iter().chain(&orphans).map(|(_, xid)| xid.as_str())).await;
    let restored: Vec<_> = restored.iter().filter(|(_, xid)| ended.contains(xid.as_str())).collect();
    let is_restored = format!("log_status = {LOG_STATUS_RESTORED} AND context = '' AND rollback_info = ''");
    delete_rows(conn, undo_log, &restored, &is_restored).await?;
    let of_ended = |part: &str| part.split_once(PART_SEPARATOR).is_some_and(|(xid, _)| ended.contains(xid));
    let orphans: Vec<_> = orphans.iter().filter(|(_, part)| of_ended(part)).collect();
    delete_rows(conn, undo_log, &orphans, IS_PART).await?;
    Ok(())
}

/// Those of these transactions of this coordinator that have ended: it says so, or has forgotten them, which it does
/// only when nothing is left to do.
async fn ended<'a>(backend: &Backend, xids: impl Iterator<Item = &'a str>) -> HashSet<&'a str> {
    let xids: HashSet<&str> =
        xids.map(|xid| xid.split_once(PART_SEPARATOR).map_or(xid, |(xid, _)| xid)).collect();
    let mut ended = HashSet::new();
    for xid in xids {
        let is_ended = match backend.coordinator.get(xid).await {
            Ok(transaction) => matches!(transaction.status(), Status::Committed | Status::RolledBack),
            Err(ClientError::Refused(refusal)) => refusal.code() == ErrorCode::UnknownXid,
            // Another time
            Err(ClientError::Unavailable(_)) => return HashSet::new(),
        };
        if is_ended {
            ended.insert(xid);
        }
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(branch_id: u64, leftover: Leftover) -> BranchRef {
        BranchRef { xid: "x:1".to_owned(), branch_id, leftover: leftover.into() }
    }

    fn row(branch_id: u64, xid: &str, status: i32) -> (u64, String, i32) {
        (branch_id, xid.to_owned(), status)
    }

    #[test]
    fn only_what_should_be_there_is_deleted() {
        let branches =
            [branch(1, Leftover::Record), branch(2, Leftover::Restored), branch(3, Leftover::Unspecified)];
        let sorted = sort(
            &branches,
            vec![
                row(1, "x:1", 0),
                row(1, "x:1#2", 3),
                row(2, "x:1", 2),
                row(3, "x:1", 2),
                row(2, "y:1", 0),
                row(9, "x:1", 0),
            ],
        );
        let first = |id| (id, "x:1".to_owned());
        assert_eq!(sorted.firsts, [(first(1), 0), (first(2), 2), (first(3), 2)]);
        assert_eq!(sorted.parts, [(1, "x:1#2".to_owned())]);
        assert_eq!(sorted.odd, []);
    }

    #[test]
    fn a_delete_goes_by_the_branch_id_and_compares_whole_rows() {
        let rows = [(1, "x:1".to_owned()), (2, "x:2#3".to_owned()), (3, "it's".to_owned())];
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(
            delete_sql("`s`.`undo_log`", &rows, IS_PART).as_deref(),
            Some(
                "DELETE FROM `s`.`undo_log` WHERE branch_id IN (1,2) \
                 AND CONCAT(branch_id, ' ', xid) IN ('1 x:1','2 x:2#3') AND log_status = 3"
            )
        );
        assert_eq!(delete_sql("`s`.`undo_log`", &rows[2..], IS_PART), None);
        assert_eq!(IS_PART, format!("log_status = {LOG_STATUS_PART}"));
    }

    #[test]
    fn what_contradicts_the_coordinator_is_kept() {
        let branches = [branch(1, Leftover::Record), branch(2, Leftover::Restored)];
        let odd = [
            row(1, "x:1", 2),
            row(1, "x:1", 3),
            row(1, "x:1#2", 0),
            row(2, "x:1", 0),
            row(2, "x:1#2", 3),
            row(2, "x:1", 9),
        ];
        let sorted = sort(&branches, odd.to_vec());
        assert_eq!(sorted, Sorted { odd: odd.to_vec(), ..Sorted::default() });
        assert_eq!(sort(&branches, vec![row(1, "x:1", 1), row(2, "x:1", 1)]), Sorted::default());
    }
}
