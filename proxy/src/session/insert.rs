//! INSERT in a bound session: the rows' keys, found before or right after the statement.

use std::sync::Arc;

use atone_sql::{Analysis, Insert, OnConflict};
use atone_undo::{Key, Row, Table};
use atone_wire::response::OkPacket;

use super::Session;
use super::bound::Origin;
use super::diagnostics::Diagnostics;
use super::dml::{MAX_TRIES, ROLLBACK, decode, locking_read_by_key};
use super::inject::{Flight, Reply, Vars};
use super::keys::{InsertKeys, generated_keys, insert_keys, literal_predicate};
use super::tables::{Resolved, digest, probe_sql};
use crate::branch::Presence;
use crate::error::{End, SqlError};

/// The savepoint around an INSERT whose keys are only known behind it.
pub(super) const SAVEPOINT: &str = "`atone:insert`";

impl Session {
    /// INSERT … VALUES and INSERT … SET.
    pub(super) async fn insert(
        &mut self,
        sql: &[u8],
        insert: &Insert,
        analysis: &Analysis,
        origin: Origin,
    ) -> Result<(), End> {
        if let Some(query) = &insert.query {
            return self.insert_select(sql, insert, query, analysis, origin).await;
        }
        if insert.on_conflict != OnConflict::Fail && self.upsert(sql, insert, analysis, &origin).await? {
            return Ok(());
        }
        for attempt in 1.. {
            if self.try_insert(sql, insert, analysis, &origin, attempt == MAX_TRIES).await? {
                break;
            }
        }
        Ok(())
    }

    /// One try; false where the table was altered since its metadata was read, and nothing was done.
    async fn try_insert(
        &mut self,
        sql: &[u8],
        insert: &Insert,
        analysis: &Analysis,
        origin: &Origin,
        last: bool,
    ) -> Result<bool, End> {
        let vars = self.session_vars().await?;
        let (table, probe) = match self.resolve(&insert.table, &vars).await? {
            Resolved::Table(info, probe) => (info.table.clone(), probe),
            Resolved::Temporary => {
                self.pass_temporary(origin.clone()).await?;
                return Ok(true);
            }
            Resolved::Answer(e) => {
                self.statement_failed(e, false).await?;
                return Ok(true);
            }
        };
        let keys = match insert_keys(sql, insert, &table, &vars) {
            Ok(keys) => keys,
            Err(why) => {
                self.send_error(&SqlError::refused(&self.xid(), &why)).await?;
                return Ok(true);
            }
        };
        let limits = &self.backend.limits;
        if self.branch.rows() + insert.rows.len() > limits.max_branch_rows {
            let why = format!("more than max_branch_rows = {} rows in one branch", limits.max_branch_rows);
            self.send_error(&SqlError::refused(&self.xid(), &why)).await?;
            return Ok(true);
        }
        let text = &sql[..analysis.terminator];
        let alone = self.stands_alone();
        let mut flight = Flight::default();
        if alone {
            flight.push("START TRANSACTION");
        }
        flight.push(probe_sql(&table));
        if matches!(keys, InsertKeys::Literals(_)) {
            flight.push(format!("SAVEPOINT {SAVEPOINT}"));
        }
        let replies = self.run_ending_with(flight, text, insert.returning).await?;
        let seen = replies.iter().find_map(|reply| match reply {
            Reply::Rows(rows) => Some(digest(&vars, rows)),
            _ => None,
        });
        let ok = match replies.into_iter().next_back() {
            Some(Reply::Ok(ok)) => ok,
            Some(Reply::Err(e)) => {
                self.statement_failed(e, alone).await?;
                return Ok(true);
            }
            _ => return Err(End::Broken("a statement that writes answered with rows".into())),
        };
        if seen != Some(probe) {
            return self.altered_meanwhile(&table, alone && !last).await;
        }
        match keys {
            InsertKeys::Known(rows) => {
                let keys = generated_keys(rows, ok.last_insert_id, vars.auto_increment_increment);
                self.inserted(ok, &table, keys, alone).await?;
            }
            InsertKeys::Literals(rows) => self.look_at_inserted(ok, &table, &rows, &vars, alone).await?,
        }
        Ok(true)
    }

    /// Runs a flight with the application's INSERT at its end, which is left out where something before it fails.
    pub(super) async fn run_ending_with(
        &mut self,
        mut flight: Flight,
        text: &[u8],
        returning: bool,
    ) -> Result<Vec<Reply>, End> {
        if !returning {
            flight.push(text);
            return self.run_flight(flight).await;
        }
        let mut replies = self.run_flight(flight).await?;
        if !matches!(replies.last(), Some(Reply::Err(_))) {
            let returned = self.returning(text).await?;
            replies.push(returned);
        }
        Ok(replies)
    }

    /// The statement has met the table in another form than its metadata; all of the local transaction goes. Whether that
    /// is the end of the statement, or it is tried `again`.
    pub(super) async fn altered_meanwhile(&mut self, table: &Table, again: bool) -> Result<bool, End> {
        self.forget_table(table);
        self.rollback_local().await?;
        if again {
            return Ok(false);
        }
        let error = SqlError::deadlock(&self.xid(), "the table was altered meanwhile");
        self.send_error(&error).await?;
        Ok(true)
    }

    /// Keeps the diagnostics of an INSERT behind which its rows are looked at.
    pub(super) async fn keep_diagnostics(&mut self, ok: &OkPacket) -> Result<Option<Diagnostics>, End> {
        if self.returned.is_none() {
            self.keep_warnings(i128::from(ok.affected_rows)).await?;
        }
        Ok(self.diagnostics.take())
    }

    /// Puts them back, once the statement is done.
    pub(super) fn restore_diagnostics(&mut self, kept: Option<Diagnostics>, alone: bool) {
        if !alone {
            self.diagnostics = kept;
        } else if let (Some(kept), Some(now)) = (kept, self.diagnostics.as_mut()) {
            now.warnings = kept.warnings;
        }
    }

    /// The rows of an INSERT are what they have to be: its savepoint is not needed any more.
    pub(super) async fn release_insert(&mut self, alone: bool) -> Result<(), End> {
        if !alone && let Reply::Err(_) = self.run_one(format!("RELEASE SAVEPOINT {SAVEPOINT}")).await? {
            return Err(End::Broken("the server refuses RELEASE SAVEPOINT".into()));
        }
        Ok(())
    }

    /// Takes an INSERT back to its savepoint, and refuses it.
    pub(super) async fn take_insert_back(&mut self, why: &str, alone: bool) -> Result<(), End> {
        let mut undo = Flight::default();
        undo.push(format!("ROLLBACK TO {SAVEPOINT}"));
        if alone {
            undo.push(ROLLBACK);
        }
        if !matches!(self.run_flight(undo).await?.pop(), Some(Reply::Ok(_))) {
            return Err(End::Broken("the server refuses ROLLBACK TO".into()));
        }
        self.send_error(&SqlError::refused(&self.xid(), why)).await
    }

    /// Runs a statement that answers with the rows it has written, which are kept; its OK as far as that can be told.
    pub(super) async fn returning(&mut self, text: &[u8]) -> Result<Reply, End> {
        let rows = match self.run_for_rows(text).await? {
            Reply::Rows(rows) => rows,
            Reply::TooLarge => {
                self.rollback_local().await?;
                let limit = self.backend.limits.max_branch_bytes;
                let why = format!("the rows returned are above max_branch_bytes = {limit}");
                return Ok(Reply::Err(SqlError::refused(&self.xid(), &why).err()));
            }
            reply => return Ok(reply),
        };
        let mut ok = OkPacket { affected_rows: rows.rows.len() as u64, ..OkPacket::default() };
        ok.warnings = rows.warnings(self.capabilities)?;
        ok.status = self.status;
        self.keep_warnings(-1).await?;
        ok.last_insert_id = match self.run_one("SELECT LAST_INSERT_ID()").await? {
            Reply::Rows(id) => {
                let cells = id.cells(0)?;
                let text = cells.first().copied().flatten().unwrap_or_default();
                std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).unwrap_or_default()
            }
            _ => return Err(End::Broken("LAST_INSERT_ID() without a row".into())),
        };
        self.returned = Some(rows);
        Ok(Reply::Ok(ok))
    }

    async fn inserted(
        &mut self,
        ok: OkPacket,
        table: &Arc<Table>,
        keys: Vec<Key>,
        alone: bool,
    ) -> Result<(), End> {
        if ok.affected_rows != keys.len() as u64 {
            self.rollback_local().await?;
            let error =
                SqlError::deadlock(&self.xid(), "the INSERT wrote another number of rows than it has");
            return self.send_error(&error).await;
        }
        for key in keys {
            self.branch.touch(table, key, None, Presence::Present);
        }
        self.statement_done(ok, alone).await
    }

    /// Looks at once which rows an INSERT under a savepoint made; where they are not found, nothing stays.
    async fn look_at_inserted(
        &mut self,
        ok: OkPacket,
        table: &Arc<Table>,
        literals: &[Vec<Option<Vec<u8>>>],
        vars: &Vars,
        alone: bool,
    ) -> Result<(), End> {
        let kept = self.keep_diagnostics(&ok).await?;
        let look =
            locking_read_by_key(table, &literal_predicate(table, literals, vars.auto_increment_increment));
        let found: Option<Vec<Row>> = match self.run_one(look).await? {
            Reply::Rows(rows) => Some(decode(table, &rows)?).filter(|rows| rows.len() == literals.len()),
            Reply::Err(_) | Reply::TooLarge => None,
            _ => return Err(End::Broken("an image without rows".into())),
        };
        let Some(found) = found.filter(|_| ok.affected_rows == literals.len() as u64) else {
            let why = "the server stores the rows' keys as other values than given";
            return self.take_insert_back(why, alone).await;
        };
        self.release_insert(alone).await?;
        let keys = found.iter().map(|row| row.key(table)).collect();
        self.inserted(ok, table, keys, alone).await?;
        self.restore_diagnostics(kept, alone);
        Ok(())
    }
}
