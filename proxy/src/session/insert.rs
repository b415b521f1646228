//! INSERT in a bound session: the rows' keys, found before or right after the statement.

use std::sync::Arc;

use atone_sql::{Analysis, Insert, OnConflict};
use atone_undo::{Key, Row, Table, quote_identifier};
use atone_wire::response::{ErrPacket, OkPacket};

use super::Session;
use super::bound::Origin;
use super::diagnostics::Diagnostics;
use super::dml::{MAX_TRIES, decode};
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
        if insert.on_conflict != OnConflict::Fail && self.may_conflict(sql, insert).await? {
            return self.upsert(sql, insert, analysis, origin).await;
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
        if !insert.returning {
            flight.push(text);
        }
        let mut replies = self.run_flight(flight).await?;
        if insert.returning && !matches!(replies.last(), Some(Reply::Err(_))) {
            let returned = self.returning(text).await?;
            replies.push(returned);
        }
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
            self.forget_table(&table);
            self.rollback_local().await?;
            if alone && !last {
                return Ok(false);
            }
            let error = SqlError::deadlock(&self.xid(), "the table was altered meanwhile");
            self.send_error(&error).await?;
            return Ok(true);
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

    /// Runs a statement that answers with the rows it has inserted, which are kept; its OK as far as that can be told.
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

    /// Runs statements of which only the last one's reply matters.
    pub(super) async fn last_of(&mut self, flight: Flight) -> Result<Result<OkPacket, ErrPacket>, End> {
        match self.run_flight(flight).await?.pop() {
            Some(Reply::Ok(ok)) => Ok(Ok(ok)),
            Some(Reply::Err(e)) => Ok(Err(e)),
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
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
        if self.returned.is_none() {
            self.keep_warnings(i128::from(ok.affected_rows)).await?;
        }
        let kept: Option<Diagnostics> = self.diagnostics.take();
        let mut look = format!(
            "SELECT {} FROM {} WHERE ",
            table.image_select_list(&quote_identifier(&table.name)),
            table.quoted()
        )
        .into_bytes();
        look.extend_from_slice(&literal_predicate(table, literals, vars.auto_increment_increment));
        look.extend_from_slice(b" LIMIT 18446744073709551615 FOR UPDATE");
        let found: Option<Vec<Row>> = match self.run_one(look).await? {
            Reply::Rows(rows) => Some(decode(table, &rows)?).filter(|rows| rows.len() == literals.len()),
            Reply::Err(_) | Reply::TooLarge => None,
            _ => return Err(End::Broken("an image without rows".into())),
        };
        let Some(found) = found.filter(|_| ok.affected_rows == literals.len() as u64) else {
            let mut undo = Flight::default();
            undo.push(format!("ROLLBACK TO {SAVEPOINT}"));
            if alone {
                undo.push(super::dml::ROLLBACK);
            }
            if self.last_of(undo).await?.is_err() {
                return Err(End::Broken("the server refuses ROLLBACK TO".into()));
            }
            let error =
                SqlError::refused(&self.xid(), "the server stores the rows' keys as other values than given");
            return self.send_error(&error).await;
        };
        if !alone
            && self
                .run_one(format!("RELEASE SAVEPOINT {SAVEPOINT}"))
                .await
                .is_ok_and(|r| matches!(r, Reply::Err(_)))
        {
            return Err(End::Broken("the server refuses RELEASE SAVEPOINT".into()));
        }
        let keys = found.iter().map(|row| row.key(table)).collect();
        self.inserted(ok, table, keys, alone).await?;
        if !alone {
            self.diagnostics = kept;
        } else if let (Some(kept), Some(now)) = (kept, self.diagnostics.as_mut()) {
            now.warnings = kept.warnings;
        }
        Ok(())
    }
}
