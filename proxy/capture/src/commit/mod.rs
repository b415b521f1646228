//! The local COMMIT of a branch: after images, global locks, the undo record, and then the COMMIT itself.

pub mod fresh;

use atone_undo::{Encoded, Image, Layout, UndoRecord, insert_part_sql, part_bytes};
use atone_wire::caps::status;
use atone_wire::error_code::{ER_DUP_ENTRY, ER_NO_SUCH_TABLE};
use atone_wire::response::{ErrPacket, OkPacket};

use crate::Capture;
use crate::commit::fresh::Fresh;
use crate::error::{End, SqlError};
use crate::fault::{Class, class, ended_a_wait, of_rolled_back};
use crate::fault::{Extent, Fault};
use crate::flight::{Flight, Reply};
use crate::journal::{Changes, NotCommitted};
use crate::outcome::{Halt, Reason};
use crate::port::{NotRegistered, Registration};
use crate::restorable::stops;

/// What `completion_type` does not turn into more than a COMMIT.
pub const COMMIT: &[u8] = b"COMMIT AND NO CHAIN NO RELEASE";
/// The most bytes of an undo record in one row: what a packet holds may be much more, but would stand in memory at
/// once.
const MAX_PART_BYTES: usize = 4 << 20;
/// What a packet has around the statements, in bytes.
const SLACK_BYTES: usize = 64;
/// Records of more rows, or with a value of more bytes, are encoded where they hold nobody up.
const MANY_ROWS: usize = 200;
const LARGE_VALUE_BYTES: usize = 64 << 10;
impl Capture<'_> {
    /// Commits the local transaction by `commit`, a statement that commits, as a branch of the global transaction.
    ///
    /// # Errors
    /// [`Halt::Uncommitted`]: the local transaction was rolled back then, but where only a wait has ended (1205,
    /// 1317, 1969, 3024), after which it is still open and can be committed again. [`Halt::End`].
    pub async fn commit_branch(&mut self, commit: &[u8]) -> Result<OkPacket, Halt> {
        self.command.commits = true;
        let done = self.try_commit(commit).await;
        self.command.commits = false;
        let fault = match done {
            Err(Halt::Stopped(why)) => return Err(self.give_up(why).await?),
            Err(Halt::End(End::Fault(fault))) => fault,
            done => return done,
        };
        match fault.extent {
            Extent::Connection => Err(End::Fault(fault).into()),
            Extent::Statement if ended_a_wait(fault.error.code) => Err(Halt::Uncommitted(fault.error)),
            Extent::Statement | Extent::Transaction => {
                self.rollback_local().await?;
                Err(Halt::Uncommitted(fault.error))
            }
        }
    }

    /// # Errors
    /// [`Halt::Stopped`]: the local transaction has still to be rolled back.
    async fn try_commit(&mut self, commit: &[u8]) -> Result<OkPacket, Halt> {
        if self.state.branch.is_clean() {
            self.reads_are_kept().await?;
            return self.commit_as_is(commit).await;
        }
        let xid = self.xid();
        let fresh = Fresh::look(self);
        let keys = self.heavy.run(self.state.branch.rows(), || self.state.branch.keys());
        let after = self.rows_now(keys).await?;
        let packet_bytes = self.restoring_packet_bytes(self.state.branch.bytes()).await?;
        let changes =
            self.heavy.run(self.state.branch.rows(), || self.state.branch.changes(after, packet_bytes));
        let changes = changes.map_err(|not_committed| match not_committed {
            NotCommitted::Because(why) => Halt::stop(why),
            NotCommitted::Obstacle(table, obstacle) => stops(&xid, &table, &obstacle, packet_bytes).into(),
        })?;
        if changes.tables.is_empty() {
            self.fresh(fresh).await?;
            return self.commit_as_is(commit).await;
        }
        let Some(schema) = self.state.branch.schema().map(str::to_string) else {
            return Err(Halt::broken("a branch without a schema"));
        };
        let branch_id = self.register(&schema, &changes).await?;
        if let Err(halt) = self.fresh(fresh).await {
            return Err(match halt {
                Halt::Stopped(why) => self.give_up_branch(&xid, branch_id, why.error(&xid).err()).await?,
                other => other,
            });
        }
        self.write_and_commit(&xid, &schema, branch_id, changes, commit).await
    }

    /// A local transaction that has changed nothing needs no branch.
    async fn commit_as_is(&mut self, commit: &[u8]) -> Result<OkPacket, Halt> {
        match self.fly_one(commit).await? {
            Reply::Ok(ok) => {
                self.state.branch.clear();
                Ok(ok)
            }
            Reply::Err(e) => Err(self.not_committed(e).await?),
            _ => Err(Halt::broken("COMMIT answered with rows")),
        }
    }

    /// Rolls back what is not committed.
    async fn give_up(&mut self, why: Reason) -> Result<Halt, End> {
        self.rollback_local().await?;
        Ok(Halt::Uncommitted(why.error(&self.xid()).err()))
    }

    /// The COMMIT itself failed: nothing of it can be kept open.
    async fn not_committed(&mut self, error: ErrPacket) -> Result<Halt, End> {
        if class(error.code, self.mariadb) == Class::Connection {
            return Err(End::Fault(Fault { error, extent: Extent::Connection }));
        }
        let error = of_rolled_back(error, &self.xid(), self.command.progress.alone);
        self.rollback_local().await?;
        Ok(Halt::Uncommitted(error))
    }

    /// Registers the branch and takes all its locks.
    async fn register(&mut self, schema: &str, changes: &Changes) -> Result<u64, Halt> {
        let vars = self.session_vars().await?;
        let branch = Registration {
            schema: schema.into(),
            locks: changes.locks.clone(),
            wait_timeout_ms: vars.lock_wait_timeout_ms,
            max_statement_time: vars.max_statement_time,
        };
        match self.server.register(branch).await {
            Ok(branch_id) => Ok(branch_id),
            // Where only the wait has ended the local transaction stays open
            Err(NotRegistered::Refused(error)) if ended_a_wait(error.code) => {
                Err(Halt::Uncommitted(error.err()))
            }
            Err(NotRegistered::Refused(error)) => Err(error.into()),
            Err(NotRegistered::Failed(error)) => Err(End::Fault(self.fault(error).await?).into()),
            Err(NotRegistered::End(end)) => Err(end.into()),
        }
    }

    /// Writes the undo record and commits: the last packet holds the last part of the record and the COMMIT, which
    /// does not run where the part cannot be written.
    async fn write_and_commit(
        &mut self,
        xid: &str,
        schema: &str,
        branch_id: u64,
        changes: Changes,
        commit: &[u8],
    ) -> Result<OkPacket, Halt> {
        let packet_bytes = self.session_vars().await?.max_allowed_packet;
        let layout = Layout {
            compress_bytes: self.limits.undo_compress_bytes,
            part_bytes: part_bytes(packet_bytes, commit.len() + self.server.prefix_bytes() + SLACK_BYTES)
                .min(MAX_PART_BYTES),
        };
        // What was imaged is now in `changes`
        self.heavy.run(self.state.branch.rows(), || self.state.branch.clear());
        let record = changes.into_record(xid, branch_id, self.catalog.resource());
        let weight = if is_large(&record) { usize::MAX } else { 0 };
        let rows = match self.heavy.run(weight, || record.encode_rows(layout)) {
            Ok(rows) => rows,
            Err(e) => {
                let error = SqlError::refused(xid, &format!("the undo record: {e}"));
                return Err(self.give_up_branch(xid, branch_id, error.err()).await?);
            }
        };
        let mut parts = (1..).zip(rows).peekable();
        while let Some((part, row)) = parts.next() {
            let last = parts.peek().is_none();
            let heavy = self.heavy;
            let insert = |row: &Encoded| {
                let mut flight = Flight::default();
                heavy.run_text(row.rollback_info.len(), || {
                    flight.push(insert_part_sql(schema, xid, branch_id, part, row));
                });
                if last {
                    flight.push(commit);
                }
                flight
            };
            let flight = insert(&row);
            // Only the first can meet no table: after it the transaction keeps the table from being dropped
            let first = (part == 1).then_some(row);
            let mut replies = self.fly(flight).await?.into_iter();
            let mut written = replies.next();
            let failed = match &written {
                Some(Reply::Err(e)) if asks_for_table(e.code, self.mariadb) => Some(e.code),
                _ => None,
            };
            if let (Some(code), Some(row)) = (failed, first) {
                // Of the packet nothing has run: the server stops at the first statement that fails
                match self.catalog.ensure_undo_log(schema).await {
                    Ok(()) if code == ER_NO_SUCH_TABLE => {
                        replies = self.fly(insert(&row)).await?.into_iter();
                        written = replies.next();
                    }
                    Ok(()) => {}
                    Err(error) => {
                        let error = self.no_undo_log(schema, &error).err();
                        return Err(self.give_up_branch(xid, branch_id, error).await?);
                    }
                }
            }
            match written {
                Some(Reply::Ok(_)) => {}
                Some(Reply::Err(e)) => {
                    if class(e.code, self.mariadb) == Class::Connection {
                        // The coordinator asks what became of it
                        return Err(End::Fault(Fault { error: e, extent: Extent::Connection }).into());
                    }
                    let error = not_written(xid, part, e, self.command.progress.alone);
                    return Err(self.give_up_branch(xid, branch_id, error).await?);
                }
                _ => return Err(Halt::broken("an INSERT answered with rows")),
            }
            if last {
                return self.committed(xid, schema, branch_id, replies.next()).await;
            }
        }
        Err(Halt::broken("an undo record without rows"))
    }

    /// What came of the COMMIT after the undo record.
    async fn committed(
        &mut self,
        xid: &str,
        schema: &str,
        branch_id: u64,
        reply: Option<Reply>,
    ) -> Result<OkPacket, Halt> {
        match reply {
            Some(Reply::Ok(mut ok)) => {
                self.server.report(branch_id, true);
                ok.status &= !status::MORE_RESULTS_EXISTS;
                Ok(ok)
            }
            Some(Reply::Err(e)) => {
                let halt = self.not_committed(e).await?;
                // Whether it committed all the same is for the undo record to say, and that for ever: after the
                // ROLLBACK nothing of it is open. Where it cannot be read the coordinator asks
                match self.catalog.has_undo_row(schema, xid, branch_id).await {
                    Ok(there) => self.server.report(branch_id, there),
                    Err(error) => tracing::warn!(xid, branch_id, %error, "a branch's outcome is not known"),
                }
                Err(halt)
            }
            _ => Err(Halt::broken("COMMIT without an answer")),
        }
    }

    /// Gives up a registered branch before its COMMIT was sent.
    async fn give_up_branch(&mut self, _xid: &str, branch_id: u64, error: ErrPacket) -> Result<Halt, End> {
        self.rollback_local().await?;
        self.server.report(branch_id, false);
        Ok(Halt::Uncommitted(error))
    }
}

fn is_large(record: &UndoRecord<Image>) -> bool {
    let rows: usize = record.tables.iter().map(|changes| changes.rows.len()).sum();
    let mut images = record.tables.iter().flat_map(|c| &c.rows).flat_map(|r| [&r.before, &r.after]).flatten();
    rows > MANY_ROWS || images.any(|image| image.packed_bytes() > LARGE_VALUE_BYTES)
}

/// Whether an INSERT of the undo record may have failed since undo_log is not what it was: it is looked at again then.
fn asks_for_table(code: u16, mariadb: bool) -> bool {
    match class(code, mariadb) {
        Class::Text => true,
        Class::Uncertain => code != ER_DUP_ENTRY && !ended_a_wait(code),
        Class::Transaction | Class::Connection => false,
    }
}

/// Why a part of the undo record was not written.
fn not_written(xid: &str, part: usize, error: ErrPacket, alone: bool) -> ErrPacket {
    match (error.code, part) {
        // The marker of phase two: this branch was given up meanwhile
        (ER_DUP_ENTRY, 1) => SqlError::rolled_back(xid).err(),
        (ER_DUP_ENTRY, _) => {
            let why = "the undo record needs several rows, which a unique key of undo_log does not allow";
            SqlError::refused(xid, why).err()
        }
        _ => of_rolled_back(error, xid, alone),
    }
}
