//! The local COMMIT of a branch: after images, global locks, the undo record, and then the COMMIT itself.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atone_api::proto::{BranchOutcome, Register, TableLocks};
use atone_undo::{
    Encoded, Image, Key, Layout, RecordError, Row, Table, UndoRecord, insert_part_sql, part_bytes,
    says_nothing_of_rows,
};
use atone_wire::caps::status;
use atone_wire::response::{ErrPacket, OkPacket};

use super::dml::{Unread, decode, locking_reads};
use super::fault::{Class, class, ended_a_wait, of_rolled_back};
use super::fresh::Fresh;
use super::inject::{Flight, Reply, flights};
use super::restorable::stops;
use super::{Extent, Fault, Session};
use crate::branch::{Changes, NotCommitted};
use crate::error::{End, SqlError};
use crate::heavy::{heavy, heavy_text};

/// The most bytes of an undo record in one row: what a packet holds may be much more, but would stand in memory at once.
const MAX_PART_BYTES: usize = 4 << 20;
/// What a packet has around the statements, in bytes.
const SLACK_BYTES: usize = 64;
/// Records of more rows, or with a value of more bytes, are encoded where they hold nobody up.
const MANY_ROWS: usize = 200;
const LARGE_VALUE_BYTES: usize = 64 << 10;
/// How long a wait for locks is before it is one on the server too, where it can be seen and killed.
const SILENT_WAIT: Duration = Duration::from_millis(50);
/// How it is so: a moment at a time, for which a lock that comes meanwhile has to wait.
const WAIT_SQL: &str = "SELECT /* atone: waits for a global row lock */ SLEEP(0.05) LIMIT 1";
/// `ER_NO_SUCH_TABLE`
const NO_SUCH_TABLE: u16 = 1146;
/// `ER_DUP_ENTRY`
const DUPLICATE_KEY: u16 = 1062;
/// How much more a client may send, in bytes, while its COMMIT waits for locks.
const MAX_PIPELINED_BYTES: usize = 64 << 10;

/// Why rows cannot be read as they are now, in a sentence.
#[derive(Debug)]
pub(super) enum NotRead {
    /// A value is above `max_allowed_packet`.
    Lost(String),
    /// Something else.
    Because(String),
}

impl From<NotRead> for String {
    fn from(not_read: NotRead) -> String {
        match not_read {
            NotRead::Lost(why) | NotRead::Because(why) => why,
        }
    }
}

impl Session {
    /// Commits the local transaction by `commit`, a statement that commits, as a branch of the global transaction.
    ///
    /// The inner error is for the client: the local transaction was rolled back then, but where only a wait has ended (1205,
    /// 1317, 1969, 3024), after which it is still open and can be committed again.
    pub(super) async fn commit_branch(&mut self, commit: &[u8]) -> Result<Result<OkPacket, ErrPacket>, End> {
        self.commits = true;
        let writes = !self.branch.is_clean();
        let done = self.try_commit(commit).await;
        self.commits = false;
        if let (true, Ok(Ok(_)), Some(binding)) = (writes, &done, &mut self.binding) {
            binding.lost_local = false;
        }
        let fault = match done {
            Err(End::Fault(fault)) => fault,
            done => return done,
        };
        match fault.extent {
            Extent::Connection => Err(End::Fault(fault)),
            Extent::Statement if ended_a_wait(fault.error.code) => Ok(Err(fault.error)),
            Extent::Statement | Extent::Transaction => self.give_up(fault.error).await,
        }
    }

    async fn try_commit(&mut self, commit: &[u8]) -> Result<Result<OkPacket, ErrPacket>, End> {
        let xid = self.xid();
        if self.branch.is_clean() {
            return match self.reads_are_kept().await {
                Ok(()) => self.commit_as_is(commit).await,
                Err(error) => self.give_up(error.err()).await,
            };
        }
        let fresh = Fresh::look(self);
        let keys = heavy(self.branch.rows(), || self.branch.keys());
        let after = match self.rows_now(keys).await? {
            Ok(after) => after,
            Err(NotRead::Lost(why)) => {
                return self.give_up(SqlError::not_restorable(&xid, &why).err()).await;
            }
            Err(NotRead::Because(why)) => return self.give_up(SqlError::refused(&xid, &why).err()).await,
        };
        let packet_bytes = self.restoring_packet_bytes(self.branch.bytes()).await?;
        let changes = match heavy(self.branch.rows(), || self.branch.changes(after, packet_bytes)) {
            Ok(changes) => changes,
            Err(NotCommitted::Because(why)) => {
                return self.give_up(SqlError::refused(&xid, &why).err()).await;
            }
            Err(NotCommitted::Obstacle(table, obstacle)) => {
                let error = stops(&xid, &table, &obstacle, packet_bytes);
                return self.give_up(error.err()).await;
            }
        };
        if changes.tables.is_empty() {
            return match self.fresh(fresh).await? {
                Ok(()) => self.commit_as_is(commit).await,
                Err(error) => self.give_up(error.err()).await,
            };
        }
        let Some(schema) = self.branch.schema().map(str::to_string) else {
            return Err(End::Broken("a branch without a schema".into()));
        };
        let branch_id = match self.register(&xid, &schema, &changes).await? {
            Ok(branch_id) => branch_id,
            Err(error) if ended_a_wait(error.code) => return Ok(Err(error.err())),
            Err(error) => return self.give_up(error.err()).await,
        };
        if let Err(error) = self.fresh(fresh).await? {
            return self.give_up_branch(&xid, branch_id, error.err()).await;
        }
        self.write_and_commit(&xid, &schema, branch_id, changes, commit).await
    }

    /// A local transaction that has changed nothing needs no branch.
    async fn commit_as_is(&mut self, commit: &[u8]) -> Result<Result<OkPacket, ErrPacket>, End> {
        match self.fly_one(commit).await? {
            Reply::Ok(ok) => {
                self.branch.clear();
                Ok(Ok(ok))
            }
            Reply::Err(e) => self.not_committed(e).await,
            _ => Err(End::Broken("COMMIT answered with rows".into())),
        }
    }

    async fn give_up(&mut self, error: ErrPacket) -> Result<Result<OkPacket, ErrPacket>, End> {
        self.rollback_local().await?;
        Ok(Err(error))
    }

    /// The COMMIT itself failed: nothing of it can be kept open.
    async fn not_committed(&mut self, error: ErrPacket) -> Result<Result<OkPacket, ErrPacket>, End> {
        if class(error.code, self.mariadb) == Class::Connection {
            return Err(End::Fault(Fault { error, extent: Extent::Connection }));
        }
        self.give_up(of_rolled_back(error, &self.xid(), self.progress.alone)).await
    }

    /// Reads rows as they are now; the inner error is why they cannot be read.
    pub(super) async fn rows_now(
        &mut self,
        keys: Vec<(Arc<Table>, Vec<Key>)>,
    ) -> Result<Result<Vec<(Arc<Table>, Vec<Row>)>, NotRead>, End> {
        let mut out: Vec<(Arc<Table>, Vec<Row>)> = Vec::new();
        let count = keys.iter().map(|(_, keys)| keys.len()).sum();
        let selects = heavy(count, || after_selects(keys));
        let mut sent = selects.iter();
        for flight in flights(selects.iter().map(|(_, select)| select)) {
            for (reply, (table, select)) in self.run_flight(flight).await?.into_iter().zip(&mut sent) {
                match reply {
                    Reply::Rows(rows) => match decode(table, &rows) {
                        Ok(_)
                            if rows.warnings(self.capabilities)? > 0
                                && let Some(what) = self.warning_of(table, select).await? =>
                        {
                            let name = format!("{}.{}", table.schema, table.name);
                            let why = format!("the server warns of what it has read of {name}: {what}");
                            return Ok(Err(NotRead::Because(why)));
                        }
                        Ok(rows) => out.push((table.clone(), rows)),
                        Err(Unread::Lost(why)) => return Ok(Err(NotRead::Lost(why))),
                        Err(Unread::End(end)) => return Err(end),
                    },
                    Reply::TooLarge => {
                        return Ok(Err(NotRead::Because(self.above_bytes("the after images are"))));
                    }
                    Reply::Err(_) | Reply::Ok(_) => {
                        return Err(End::Broken("an after image without rows".into()));
                    }
                }
            }
        }
        Ok(Ok(out))
    }

    /// What the server warns of that bears on the rows of a read, which are locked. It does not where something is going out of
    /// use, a charset for example, as MySQL says for the weight of a key.
    async fn warning_of(&mut self, table: &Table, select: &[u8]) -> Result<Option<String>, End> {
        let mut flight = Flight::default();
        flight.push(select);
        flight.push("SHOW WARNINGS");
        let replies = self.run_flight(flight).await?;
        let [Reply::Rows(read), Reply::Rows(list)] = replies.as_slice() else {
            return Err(End::Broken("warnings without rows".into()));
        };
        for at in 0..list.rows.len() {
            let cells = list.cells(at)?;
            let text = |i: usize| {
                String::from_utf8_lossy(cells.get(i).copied().flatten().unwrap_or_default()).into_owned()
            };
            if !says_nothing_of_rows(text(1).parse().unwrap_or_default()) {
                return Ok(Some(format!("{} {}", text(1), text(2))));
            }
        }
        // A small max_error_count cuts the list
        let whole = list.rows.len() >= usize::from(read.warnings(self.capabilities)?);
        let known = whole || (!self.mariadb && table.has_deprecated_charset());
        Ok((!known).then(|| "a warning that max_error_count hides".to_owned()))
    }

    /// Registers the branch and takes all its locks. A client that goes away meanwhile gives up its wait. So does a KILL of the
    /// session on the server, or of its statement, which is one that waits as well for that.
    async fn register(
        &mut self,
        xid: &str,
        schema: &str,
        changes: &Changes,
    ) -> Result<Result<u64, SqlError>, End> {
        let vars = self.session_vars().await?;
        let request = Register {
            xid: xid.into(),
            resource: self.backend.name.clone(),
            schema: schema.into(),
            locks: changes
                .locks
                .iter()
                .map(|(table, keys)| TableLocks { table: table.clone(), keys: keys.clone() })
                .collect(),
            wait_timeout_ms: vars.lock_wait_timeout_ms,
        };
        let coordinator = self.backend.coordinator.clone();
        let limit = vars.max_statement_time;
        let (began, mut silent) = (Instant::now(), SILENT_WAIT);
        let mut registered = pin!(coordinator.register(request));
        loop {
            tokio::select! {
                biased;
                // First: nobody would hear of a lock that has come meanwhile
                e = self.client.gone(MAX_PIPELINED_BYTES) => return Err(End::Client(e)),
                registered = &mut registered => {
                    return Ok(registered.map_err(|e| SqlError::from_client(xid, &e)));
                }
                () = tokio::time::sleep(silent) => {}
            }
            if limit.is_some_and(|limit| began.elapsed() >= limit) {
                return Ok(Err(SqlError::statement_time()));
            }
            if self.wait_on_server().await? {
                return Ok(Err(SqlError::interrupted()));
            }
            silent = Duration::ZERO;
        }
    }

    /// Waits a moment in a statement on the server; whether it was killed meanwhile.
    async fn wait_on_server(&mut self) -> Result<bool, End> {
        let Reply::Rows(rows) = self.run_one(WAIT_SQL).await? else {
            return Err(End::Broken("SLEEP() without a row".into()));
        };
        Ok(rows.cells(0)?.first() != Some(&Some(b"0".as_slice())))
    }

    /// Writes the undo record and commits: the last packet holds the last part of the record and the COMMIT, which does not
    /// run where the part cannot be written.
    async fn write_and_commit(
        &mut self,
        xid: &str,
        schema: &str,
        branch_id: u64,
        changes: Changes,
        commit: &[u8],
    ) -> Result<Result<OkPacket, ErrPacket>, End> {
        let packet_bytes = self.session_vars().await?.max_allowed_packet;
        let layout = Layout {
            compress_bytes: self.backend.limits.undo_compress_bytes,
            part_bytes: part_bytes(packet_bytes, commit.len() + self.query_prefix.len() + SLACK_BYTES)
                .min(MAX_PART_BYTES),
        };
        // What was imaged is now in `changes`
        heavy(self.branch.rows(), || self.branch.clear());
        let record = changes.into_record(xid, branch_id, &self.backend.name);
        let rows = match encoded(record, layout).await? {
            Ok(rows) => rows,
            Err(e) => {
                let error = SqlError::refused(xid, &format!("the undo record: {e}"));
                return self.give_up_branch(xid, branch_id, error.err()).await;
            }
        };
        let mut parts = (1..).zip(rows).peekable();
        while let Some((part, row)) = parts.next() {
            let last = parts.peek().is_none();
            let insert = |row: &Encoded| {
                let mut flight = Flight::default();
                heavy_text(row.rollback_info.len(), || {
                    flight.push(insert_part_sql(schema, xid, branch_id, part, row));
                });
                if last {
                    flight.push(commit);
                }
                flight
            };
            let flight = insert(&row);
            // Only the first can meet no table: behind it the transaction keeps the table from being dropped
            let first = (part == 1).then_some(row);
            let mut replies = self.fly(flight).await?.into_iter();
            let mut written = replies.next();
            let failed = match &written {
                Some(Reply::Err(e)) if asks_for_table(e.code, self.mariadb) => Some(e.code),
                _ => None,
            };
            if let (Some(code), Some(row)) = (failed, first) {
                // Of the packet nothing has run: the server stops at the first statement that fails
                match self.backend.catalog.ensure_undo_log(schema).await {
                    Ok(()) if code == NO_SUCH_TABLE => {
                        replies = self.fly(insert(&row)).await?.into_iter();
                        written = replies.next();
                    }
                    Ok(()) => {}
                    Err(error) => {
                        let error = self.no_undo_log(schema, &error).err();
                        return self.give_up_branch(xid, branch_id, error).await;
                    }
                }
            }
            match written {
                Some(Reply::Ok(_)) => {}
                Some(Reply::Err(e)) => {
                    if class(e.code, self.mariadb) == Class::Connection {
                        // The coordinator asks what became of it
                        return Err(End::Fault(Fault { error: e, extent: Extent::Connection }));
                    }
                    let error = not_written(xid, part, e, self.progress.alone);
                    return self.give_up_branch(xid, branch_id, error).await;
                }
                _ => return Err(End::Broken("an INSERT answered with rows".into())),
            }
            if last {
                return self.committed(xid, schema, branch_id, replies.next()).await;
            }
        }
        Err(End::Broken("an undo record without rows".into()))
    }

    /// What came of the COMMIT behind the undo record.
    async fn committed(
        &mut self,
        xid: &str,
        schema: &str,
        branch_id: u64,
        reply: Option<Reply>,
    ) -> Result<Result<OkPacket, ErrPacket>, End> {
        match reply {
            Some(Reply::Ok(mut ok)) => {
                self.backend.coordinator.report(xid, branch_id, BranchOutcome::Committed);
                ok.status &= !status::MORE_RESULTS_EXISTS;
                Ok(Ok(ok))
            }
            Some(Reply::Err(e)) => {
                let given_up = self.not_committed(e).await?;
                // Whether it committed all the same is for the undo record to say, and that for ever: behind the ROLLBACK nothing
                // of it is open. Where it cannot be read the coordinator asks
                match self.backend.catalog.has_undo_row(schema, xid, branch_id).await {
                    Ok(there) => {
                        let outcome = if there { BranchOutcome::Committed } else { BranchOutcome::Aborted };
                        self.backend.coordinator.report(xid, branch_id, outcome);
                    }
                    Err(error) => tracing::warn!(xid, branch_id, %error, "a branch's outcome is not known"),
                }
                Ok(given_up)
            }
            _ => Err(End::Broken("COMMIT without an answer".into())),
        }
    }

    /// Gives up a registered branch before its COMMIT was sent.
    async fn give_up_branch(
        &mut self,
        xid: &str,
        branch_id: u64,
        error: ErrPacket,
    ) -> Result<Result<OkPacket, ErrPacket>, End> {
        let given_up = self.give_up(error).await?;
        self.backend.coordinator.report(xid, branch_id, BranchOutcome::Aborted);
        Ok(given_up)
    }
}

/// Encodes a record; a large one takes time that other sessions need as well.
async fn encoded(
    record: UndoRecord<Image>,
    layout: Layout,
) -> Result<Result<Vec<Encoded>, RecordError>, End> {
    if !is_large(&record) {
        return Ok(record.encode_rows(layout));
    }
    tokio::task::spawn_blocking(move || record.encode_rows(layout))
        .await
        .map_err(|e| End::Broken(format!("the undo record could not be encoded: {e}")))
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
        Class::Asks => code != DUPLICATE_KEY && !ended_a_wait(code),
        Class::Transaction | Class::Connection => false,
    }
}

/// Why a part of the undo record was not written.
fn not_written(xid: &str, part: usize, error: ErrPacket, alone: bool) -> ErrPacket {
    match (error.code, part) {
        // The marker of phase two: this branch was given up meanwhile
        (DUPLICATE_KEY, 1) => SqlError::rolled_back(xid).err(),
        (DUPLICATE_KEY, _) => {
            let why = "the undo record needs several rows, which a unique key of undo_log does not allow";
            SqlError::refused(xid, why).err()
        }
        _ => of_rolled_back(error, xid, alone),
    }
}

/// The locking reads of these rows, each of a bounded number.
fn after_selects(keys: Vec<(Arc<Table>, Vec<Key>)>) -> Vec<(Arc<Table>, Vec<u8>)> {
    let mut out = Vec::new();
    for (table, keys) in keys {
        out.extend(locking_reads(&table, &keys).map(|select| (table.clone(), select)));
    }
    out
}
