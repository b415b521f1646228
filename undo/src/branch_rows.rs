//! What a branch's rows in `undo_log` say together, before any of them is believed.
//!
//! The table in `docs/undo-format.md`, "What a missing or marked row says", is built on this.

use crate::undo_log::{LOG_STATUS_MARKER, LOG_STATUS_PART, LOG_STATUS_RESTORED, LOG_STATUS_UNDO, part_xid};

/// A row of a branch without what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowHead {
    /// The column `xid`.
    pub xid: String,
    /// The column `log_status`.
    pub status: i32,
    /// Whether `context` or `rollback_info` hold anything; of a record `context` alone counts.
    pub has_content: bool,
}

/// What there is of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchRows {
    /// Nothing.
    None,
    /// Its record: it committed.
    Record,
    /// It committed, and its rows were restored.
    Restored,
    /// It never committed and never will, or is not to be undone.
    Marker,
}

/// Tells what the rows of the branch of this XID say (whether a record's parts are whole is for its decoder to find
/// out); `Err` says how they contradict each other, or what no proxy writes.
///
/// # Errors
/// A sentence for the operator. Such rows were changed by others: nothing is concluded from them.
pub fn judge_rows(xid: &str, rows: &[RowHead]) -> Result<BranchRows, String> {
    if rows.is_empty() {
        return Ok(BranchRows::None);
    }
    let (firsts, parts): (Vec<&RowHead>, Vec<&RowHead>) = rows.iter().partition(|row| row.xid == xid);
    let first = match firsts.as_slice() {
        [] => {
            return Err(format!(
                "the first row of the undo record is gone, {} of its parts are there",
                parts.len()
            ));
        }
        [first] => first,
        more => return Err(format!("there are {} undo rows of the branch", more.len())),
    };
    let (says, found) = match (first.status, first.has_content) {
        (LOG_STATUS_UNDO, true) => return Ok(BranchRows::Record),
        (LOG_STATUS_UNDO, false) => return Err("the undo row holds no record".to_owned()),
        (LOG_STATUS_RESTORED, _) => ("that the branch was restored", BranchRows::Restored),
        (LOG_STATUS_MARKER, _) => ("that the branch never committed", BranchRows::Marker),
        (LOG_STATUS_PART, _) => {
            return Err(format!("the undo row {} has the log_status of a further part", part_xid(xid, 1)));
        }
        (other, _) => return Err(format!("the undo row has the unknown log_status {other}")),
    };
    if first.has_content || !parts.is_empty() {
        let what = if first.has_content { "its record is" } else { "further parts of its record are" };
        return Err(format!("the undo row says {says}, and {what} still there"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(xid: &str, status: i32, has_content: bool) -> RowHead {
        RowHead { xid: xid.to_owned(), status, has_content }
    }

    #[test]
    fn what_proxies_write_is_understood() {
        let part = |n| row(&part_xid("x:1", n), LOG_STATUS_PART, true);
        for (rows, expected) in [
            (vec![], BranchRows::None),
            (vec![row("x:1", 0, true)], BranchRows::Record),
            (vec![row("x:1", 0, true), part(2), part(3)], BranchRows::Record),
            (vec![row("x:1", 2, false)], BranchRows::Restored),
            (vec![row("x:1", 1, false)], BranchRows::Marker),
        ] {
            assert_eq!(judge_rows("x:1", &rows), Ok(expected), "{rows:?}");
        }
    }

    #[test]
    fn nothing_is_concluded_from_what_contradicts_itself() {
        let part = |n| row(&part_xid("x:1", n), LOG_STATUS_PART, true);
        for (rows, why) in [
            (vec![row("x:1", 2, true)], "restored, and its record is still there"),
            (vec![row("x:1", 2, false), part(2)], "restored, and further parts"),
            (vec![row("x:1", 1, true)], "never committed, and its record is still there"),
            (vec![row("x:1", 1, false), part(2)], "never committed, and further parts"),
            (vec![row("x:1", 0, false)], "holds no record"),
            (vec![row("x:1", 3, true)], "log_status of a further part"),
            (vec![row("x:1", 7, true)], "unknown log_status 7"),
            (vec![row("x:1", -1, false)], "unknown log_status -1"),
            (vec![part(2), part(3)], "the first row of the undo record is gone, 2 of its parts"),
            (vec![row("x:1", 0, true), row("x:1", 1, false)], "there are 2 undo rows"),
        ] {
            let said = judge_rows("x:1", &rows).unwrap_err();
            assert!(said.contains(why), "{rows:?}: {said}");
        }
    }
}
