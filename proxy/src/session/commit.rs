//! The local COMMIT of a branch: after images, global locks, the undo record, and then the COMMIT itself.

use std::sync::Arc;

use atone_api::proto::{BranchOutcome, Register, TableLocks};
use atone_undo::{Key, Row, Table, insert_undo_sql, quote_identifier};
use atone_wire::caps::status;
use atone_wire::response::OkPacket;

use super::Session;
use super::bound::told;
use super::dml::decode;
use super::inject::{Flight, Reply};
use crate::branch::Changes;
use crate::error::{End, SqlError};

/// How many keys one SELECT of after images names.
const KEYS_PER_SELECT: usize = 500;
/// How long a flight of such SELECTs gets, in bytes, before another begins.
const FLIGHT_BYTES: usize = 512 << 10;
/// How much more a client may send, in bytes, while its COMMIT waits for locks.
const MAX_PIPELINED_BYTES: usize = 64 << 10;

impl Session {
    /// Commits the local transaction by `commit`, a statement that commits, as a branch of the global transaction.
    ///
    /// The inner error is for the client: the local transaction was rolled back then, but for 1205, after which it is
    /// still open.
    pub(super) async fn commit_branch(&mut self, commit: &[u8]) -> Result<Result<OkPacket, SqlError>, End> {
        let xid = self.xid();
        if self.branch.is_empty() {
            return self.commit_as_is(commit).await;
        }
        let after = match self.after_images().await? {
            Ok(after) => after,
            Err(why) => return self.give_up(SqlError::refused(&xid, &why)).await,
        };
        let changes = match self.branch.changes(after) {
            Ok(changes) => changes,
            Err(why) => return self.give_up(SqlError::refused(&xid, &why)).await,
        };
        if changes.tables.is_empty() {
            return self.commit_as_is(commit).await;
        }
        let Some(schema) = self.branch.schema().map(str::to_string) else {
            return Err(End::Broken("a branch without a schema".into()));
        };
        let branch_id = match self.register(&xid, &schema, &changes).await? {
            Ok(branch_id) => branch_id,
            Err(error) if error.code == 1205 => return Ok(Err(error)),
            Err(error) => return self.give_up(error).await,
        };
        self.write_and_commit(&xid, &schema, branch_id, changes, commit).await
    }

    /// A local transaction that has changed nothing needs no branch.
    async fn commit_as_is(&mut self, commit: &[u8]) -> Result<Result<OkPacket, SqlError>, End> {
        match self.run_one(commit).await? {
            Reply::Ok(ok) => {
                self.branch.clear();
                Ok(Ok(ok))
            }
            Reply::Err(e) => {
                let error = SqlError {
                    code: e.code,
                    state: b"HY000",
                    message: String::from_utf8_lossy(&e.message).into_owned(),
                };
                self.give_up(error).await
            }
            _ => Err(End::Broken("COMMIT answered with rows".into())),
        }
    }

    async fn give_up(&mut self, error: SqlError) -> Result<Result<OkPacket, SqlError>, End> {
        self.rollback_local().await?;
        Ok(Err(error))
    }

    /// Reads all touched rows as they are now.
    async fn after_images(&mut self) -> Result<Result<Vec<(Arc<Table>, Vec<Row>)>, String>, End> {
        let mut out: Vec<(Arc<Table>, Vec<Row>)> = Vec::new();
        let mut flight = Flight::default();
        let mut tables: Vec<Arc<Table>> = Vec::new();
        let mut selects = after_selects(self.branch.keys()).into_iter().peekable();
        while let Some((table, select)) = selects.next() {
            flight.push(select);
            tables.push(table);
            if selects.peek().is_some() && flight.len() < FLIGHT_BYTES {
                continue;
            }
            let replies = self.run_flight(std::mem::take(&mut flight)).await?;
            for (reply, table) in replies.into_iter().zip(tables.drain(..)) {
                match reply {
                    Reply::Rows(rows) => out.push((table.clone(), decode(&table, &rows)?)),
                    Reply::Err(e) => return Ok(Err(told("the after images cannot be read", &e))),
                    Reply::TooLarge => {
                        let limit = self.backend.limits.max_branch_bytes;
                        return Ok(Err(format!("the after images are above max_branch_bytes = {limit}")));
                    }
                    Reply::Ok(_) => return Err(End::Broken("an after image without rows".into())),
                }
            }
        }
        Ok(Ok(out))
    }

    /// Registers the branch and takes all its locks. A client that goes away meanwhile gives up its wait.
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
        let client = &mut self.client;
        let gone = client.gone(MAX_PIPELINED_BYTES);
        tokio::select! {
            registered = coordinator.register(request) => Ok(registered.map_err(|e| SqlError::from_client(xid, &e))),
            e = gone => Err(End::Client(e)),
        }
    }

    /// Writes the undo record and commits, in one packet: where the record cannot be written the COMMIT does not run.
    async fn write_and_commit(
        &mut self,
        xid: &str,
        schema: &str,
        branch_id: u64,
        changes: Changes,
        commit: &[u8],
    ) -> Result<Result<OkPacket, SqlError>, End> {
        let coordinator = self.backend.coordinator.clone();
        let limit = self.session_vars().await?.max_allowed_packet;
        let record = changes.into_record(xid, branch_id, &self.backend.name);
        let insert = match record.encode() {
            Ok(encoded) => insert_undo_sql(schema, xid, branch_id, &encoded),
            Err(e) => {
                let given_up = self.give_up(SqlError::refused(xid, &format!("the undo record: {e}"))).await?;
                coordinator.report(xid, branch_id, BranchOutcome::Aborted);
                return Ok(given_up);
            }
        };
        if insert.len() + commit.len() + 2 >= limit {
            let why =
                format!("an undo record of {} bytes is above max_allowed_packet = {limit}", insert.len());
            let given_up = self.give_up(SqlError::refused(xid, &why)).await?;
            coordinator.report(xid, branch_id, BranchOutcome::Aborted);
            return Ok(given_up);
        }
        let mut flight = Flight::default();
        flight.push(&insert);
        flight.push(commit);
        let mut replies = self.run_flight(flight).await?.into_iter();
        if let Some(Reply::Err(e)) = replies.next() {
            if e.code == 1146 {
                self.backend.forget_undo_log(schema);
            }
            let error = if e.code == 1062 {
                // The marker of phase two: this branch was given up meanwhile
                SqlError::rolled_back(xid)
            } else {
                SqlError {
                    code: e.code,
                    state: b"HY000",
                    message: format!("atone: {} (xid {xid})", told("the undo record cannot be written", &e)),
                }
            };
            let given_up = self.give_up(error).await?;
            coordinator.report(xid, branch_id, BranchOutcome::Aborted);
            return Ok(given_up);
        }
        match replies.next() {
            Some(Reply::Ok(mut ok)) => {
                coordinator.report(xid, branch_id, BranchOutcome::Committed);
                self.branch.clear();
                ok.status &= !status::MORE_RESULTS_EXISTS;
                Ok(Ok(ok))
            }
            Some(Reply::Err(e)) => {
                // Whether it committed all the same is for the undo record to say: no report
                let error = SqlError {
                    code: e.code,
                    state: b"HY000",
                    message: format!("atone: {} (xid {xid})", told("COMMIT failed", &e)),
                };
                self.give_up(error).await
            }
            _ => Err(End::Broken("COMMIT without an answer".into())),
        }
    }
}

/// The locking reads of these rows, each of a bounded number.
fn after_selects(keys: Vec<(Arc<Table>, Vec<Key>)>) -> Vec<(Arc<Table>, String)> {
    let mut out = Vec::new();
    for (table, keys) in keys {
        let qualifier = quote_identifier(&table.name);
        let list = table.image_select_list(&qualifier);
        for chunk in keys.chunks(KEYS_PER_SELECT) {
            let select = format!(
                "SELECT {list} FROM {} WHERE {} LIMIT 18446744073709551615 FOR UPDATE",
                table.quoted(),
                table.keys_predicate(&qualifier, chunk)
            );
            out.push((table.clone(), select));
        }
    }
    out
}
