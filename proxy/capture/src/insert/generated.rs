//! Rows whose keys the server generates and nobody can tell beforehand: found after the statement.
//!
//! The statement says how many rows it has inserted. The rows that have one of the numbers that may be theirs are
//! read twice. First come those that this transaction can lock: its own, and ones that others have committed. Then
//! come those that a session beside it sees, which are committed; none of them can have gone meanwhile, for they are
//! locked. What is in the first and not in the second is the transaction's own; when these are as many as the
//! statement has inserted, and none of them was left there by a statement before it, they are its rows.

use std::sync::Arc;

use atone_undo::{Row, Table};
use atone_wire::response::OkPacket;

use crate::Capture;
use crate::effects::audit::TriggerTarget;
use crate::images::KEYS_PER_SELECT;
use crate::journal::Presence;
use crate::outcome::{Done, Halt, Written};
use crate::own_rows::{MAX_FOREIGN_ROWS, numbered};
use crate::settings::Numbering;

/// The numbers that rows get: the first one generated, then one step after the other. A number that a row gives by
/// itself moves what follows it.
fn expected(first: u64, given: &[Option<i128>], numbering: Numbering) -> Vec<i128> {
    let mut next = first;
    given
        .iter()
        .map(|given| match given {
            Some(id) => {
                if let Ok(id) = u64::try_from(*id)
                    && id >= next
                {
                    next = numbering.after(id);
                }
                *id
            }
            None => {
                let id = next;
                next = numbering.after(id);
                id.into()
            }
        })
        .collect()
}

impl Capture<'_> {
    /// Finds the rows of an INSERT under a savepoint that has generated numbers in this column of the key. `given`
    /// says for each row which number it gave, if it did; none for rows that all take a generated one.
    pub(crate) async fn look_for_generated(
        &mut self,
        ok: OkPacket,
        table: &Arc<Table>,
        column: usize,
        given: Option<Vec<Option<i128>>>,
        trigger_targets: &[TriggerTarget],
    ) -> Result<Done, Halt> {
        let diagnostics = self.keep_diagnostics(&ok).await?;
        let rows = self.generated_rows(&ok, table, column, given).await.map_err(Halt::after_savepoint)?;
        let trigger_rows = self.find_trigger_rows(trigger_targets).await?;
        for row in rows {
            self.state.branch.touch(table, row.key(table), None, Presence::Present);
        }
        self.touch_trigger_rows(trigger_rows);
        Ok(Written { ok, diagnostics }.into())
    }

    async fn generated_rows(
        &mut self,
        ok: &OkPacket,
        table: &Arc<Table>,
        column: usize,
        given: Option<Vec<Option<i128>>>,
    ) -> Result<Vec<Row>, Halt> {
        let count = usize::try_from(ok.affected_rows).unwrap_or(usize::MAX);
        if let Some(why) = self.too_many_new(count) {
            return Err(why.into());
        }
        let given = given.unwrap_or_else(|| vec![None; count]);
        if given.len() != count {
            return Err(Halt::stop("the server counts another number of rows than the statement has"));
        }
        let first = i128::from(ok.last_insert_id);
        let vars = self.session_vars().await?;
        let mut ids = expected(ok.last_insert_id, &given, vars.numbering);
        for last in [false, true] {
            let rows = self.own_rows(table, column, &ids, KEYS_PER_SELECT).await?;
            if rows.len() == count {
                return Ok(rows);
            }
            if last {
                break;
            }
            // Others have inserted meanwhile
            let Some(numbered) = numbered(table, column) else { break };
            let limit = count + MAX_FOREIGN_ROWS;
            let seen = match self.catalog.uncommitted(&numbered, first, limit).await {
                Ok(seen) => seen,
                Err(e) => return Err(format!("the service account cannot read {}: {e}", table.name).into()),
            };
            ids = given.iter().flatten().copied().chain(seen.ids).collect();
            ids.sort_unstable();
            ids.dedup();
        }
        Err(Halt::stop("the rows that were inserted cannot be told from those of others"))
    }
}

#[cfg(test)]
mod tests {
    use crate::insert::generated::{Numbering, expected};

    fn by(increment: u64, offset: u64) -> Numbering {
        Numbering { increment, offset }
    }

    #[test]
    fn numbers_that_are_given_move_those_that_follow() {
        assert_eq!(expected(5, &[None, None], by(1, 1)), [5, 6]);
        assert_eq!(expected(5, &[None, Some(7), None, None], by(1, 7)), [5, 7, 8, 9]);
        assert_eq!(expected(5, &[Some(2), None, Some(-1), None], by(1, 1)), [2, 5, -1, 6]);
        assert_eq!(expected(5, &[None, Some(14), None], by(5, 5)), [5, 14, 15]);
        assert_eq!(expected(5, &[None, Some(15), None], by(5, 5)), [5, 15, 20]);
    }

    #[test]
    fn numbers_behind_one_that_was_set() {
        let four = |first, numbering: Numbering| numbering.from(first).take(4).collect::<Vec<_>>();
        assert_eq!(four(30, by(3, 1)), [30, 31, 34, 37]);
        assert_eq!(four(30, by(3, 2)), [30, 32, 35, 38]);
        assert_eq!(four(31, by(3, 1)), [31, 34, 37, 40]);
        // As the servers do, whose arithmetic wraps around
        assert_eq!(four(30, by(3, 7)), [30, 31, 34, 37]);
        assert_eq!(four(1, by(5, 12)), [1, 6, 11, 12]);
    }
}
