//! UPDATE and DELETE in a bound session: before image, the statement on the rows imaged, and what follows.

use std::sync::Arc;

use atone_sql::{Analysis, Delete, Span, TableRef, Update};
use atone_undo::{Kind, Row, Table, quote_identifier};
use atone_wire::caps::status;
use atone_wire::response::{ErrPacket, OkPacket};

use super::Session;
use super::bound::Origin;
use super::inject::{Flight, Reply, Rows, Vars};
use super::keys::{pins_one_row, same_name};
use super::tables::{Resolved, digest, probe_sql};
use crate::branch::Presence;
use crate::error::{End, SqlError};
use crate::meta::TableInfo;

/// What `completion_type` does not turn into more than a COMMIT.
pub(super) const COMMIT: &[u8] = b"COMMIT AND NO CHAIN NO RELEASE";
/// The same of ROLLBACK.
pub(super) const ROLLBACK: &[u8] = b"ROLLBACK AND NO CHAIN NO RELEASE";

/// How often a statement is tried again because the table was altered meanwhile.
pub(super) const MAX_TRIES: usize = 3;

/// An UPDATE or a DELETE.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    Update(&'a Update),
    Delete(&'a Delete),
}

impl<'a> Change<'a> {
    fn table(self) -> &'a TableRef {
        match self {
            Change::Update(u) => &u.table,
            Change::Delete(d) => &d.table,
        }
    }
    fn where_clause(self) -> Option<&'a Span> {
        match self {
            Change::Update(u) => u.where_clause.as_ref(),
            Change::Delete(d) => d.where_clause.as_ref(),
        }
    }
    fn order_by(self) -> Option<&'a Span> {
        match self {
            Change::Update(u) => u.order_by.as_ref(),
            Change::Delete(d) => d.order_by.as_ref(),
        }
    }
    fn limit(self) -> Option<&'a Span> {
        match self {
            Change::Update(u) => u.limit.as_ref(),
            Change::Delete(d) => d.limit.as_ref(),
        }
    }
    fn volatile(self) -> bool {
        match self {
            Change::Update(u) => u.volatile,
            Change::Delete(d) => d.volatile,
        }
    }
    fn subquery(self) -> bool {
        match self {
            Change::Update(u) => u.subquery,
            Change::Delete(d) => d.subquery,
        }
    }
    fn pinned(self) -> Option<&'a [(String, Span)]> {
        match self {
            Change::Update(u) => u.pinned.as_deref(),
            Change::Delete(d) => d.pinned.as_deref(),
        }
    }
}

impl Session {
    /// Whether a statement stands alone and must be wrapped in a local transaction.
    pub(super) fn stands_alone(&self) -> bool {
        self.autocommit() && !self.in_transaction()
    }

    /// UPDATE and DELETE.
    pub(super) async fn change(
        &mut self,
        sql: &[u8],
        change: Change<'_>,
        analysis: &Analysis,
        origin: Origin,
    ) -> Result<(), End> {
        let vars = self.session_vars().await?;
        for attempt in 1.. {
            let info = match self.resolve(change.table(), &vars).await? {
                Resolved::Table(info, probe) => (info, probe),
                Resolved::Temporary => return self.pass_temporary(origin).await,
                Resolved::Answer(e) => return self.statement_failed(e, false).await,
            };
            let years = self.small_number_in_condition && !self.mariadb;
            let rewritten = self.mariadb && change.volatile() && change.subquery();
            if let (true, Change::Update(Update { assignments, .. })) = (rewritten, change)
                && assignments.len() > 1
            {
                // There the assignments of an UPDATE with a subquery read the old row, those of one without the new
                let why =
                    "several assignments under a condition with a subquery that cannot be evaluated twice";
                return self.send_error(&SqlError::refused(&self.xid(), why)).await;
            }
            if let Some(why) = refusal(change, &info.0, years) {
                let error = SqlError::refused(&self.xid(), &why);
                return self.send_error(&error).await;
            }
            if self
                .try_change(sql, change, analysis, &vars, &info.0.table, &info.1, attempt == MAX_TRIES)
                .await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// One try; false where the table was altered since its metadata was read, and nothing was done.
    #[allow(clippy::too_many_arguments)]
    async fn try_change(
        &mut self,
        sql: &[u8],
        change: Change<'_>,
        analysis: &Analysis,
        vars: &Vars,
        table: &Arc<Table>,
        probe: &[u8],
        last: bool,
    ) -> Result<bool, End> {
        let alone = self.stands_alone();
        let one_row = change.order_by().is_none()
            && change.limit().is_none()
            && !change.volatile()
            && !change.subquery()
            && change.pinned().is_some_and(|p| pins_one_row(sql, p, table, vars));
        let mut flight = Flight::default();
        if alone {
            flight.push("START TRANSACTION");
        }
        flight.push(probe_sql(table));
        flight.push(image_sql(sql, change, table));
        if one_row {
            flight.push(&sql[..analysis.terminator]);
        }
        let mut replies = self.run_flight(flight).await?.into_iter();
        if alone && let Some(Reply::Err(e)) = replies.next() {
            self.statement_failed(e, false).await?;
            return Ok(true);
        }
        let seen = match replies.next() {
            Some(Reply::Rows(rows)) => digest(vars, &rows),
            Some(Reply::Err(e)) => {
                self.statement_failed(e, alone).await?;
                return Ok(true);
            }
            _ => return Err(End::Broken("the probe of a table has no columns".into())),
        };
        let altered = seen != probe;
        if altered {
            self.forget_table(table);
        }
        let rows = match replies.next() {
            Some(Reply::Rows(rows)) => rows,
            Some(Reply::Err(_)) if altered && !last => {
                self.abandon(alone).await?;
                return Ok(false);
            }
            Some(Reply::Err(e)) => {
                self.statement_failed(e, alone).await?;
                return Ok(true);
            }
            Some(Reply::TooLarge) => {
                let limit = self.backend.limits.max_branch_bytes;
                let why = format!("the before image of the statement is above max_branch_bytes = {limit}");
                let error = SqlError::refused(&self.xid(), &why);
                // A statement that ran in the same flight must go as well
                self.abandon(alone || one_row).await?;
                self.send_error(&error).await?;
                return Ok(true);
            }
            _ => return Err(End::Broken("a before image without rows".into())),
        };
        if altered {
            if one_row && !alone {
                // The statement ran on rows that were not imaged as they are: all must go
                self.rollback_local().await?;
                let error = SqlError::deadlock(&self.xid(), "the table was altered meanwhile");
                self.send_error(&error).await?;
                return Ok(true);
            }
            self.abandon(alone).await?;
            if !last {
                return Ok(false);
            }
            let error = SqlError::deadlock(&self.xid(), "the table is being altered");
            self.rollback_local().await?;
            self.send_error(&error).await?;
            return Ok(true);
        }
        let images = decode(table, &rows)?;
        let limits = &self.backend.limits;
        if !one_row
            && (self.branch.rows() + images.len() > limits.max_branch_rows
                || self.branch.bytes() > limits.max_branch_bytes)
        {
            let why = format!(
                "more than max_branch_rows = {} rows or max_branch_bytes = {} in one branch",
                limits.max_branch_rows, limits.max_branch_bytes
            );
            let error = SqlError::refused(&self.xid(), &why);
            self.abandon(alone).await?;
            self.send_error(&error).await?;
            return Ok(true);
        }
        let reply = match replies.next() {
            Some(reply) => reply,
            None => {
                let restricted = restricted_sql(sql, change, analysis, table, &images);
                if restricted.len() >= vars.max_allowed_packet {
                    let why = "the statement with the keys of its rows is longer than max_allowed_packet";
                    let error = SqlError::refused(&self.xid(), why);
                    self.abandon(alone).await?;
                    self.send_error(&error).await?;
                    return Ok(true);
                }
                self.run_one(restricted).await?
            }
        };
        let ok = match reply {
            Reply::Ok(ok) => ok,
            Reply::Err(e) => {
                self.statement_failed(e, alone).await?;
                return Ok(true);
            }
            _ => return Err(End::Broken("a statement that writes answered with rows".into())),
        };
        if ok.affected_rows > images.len() as u64 {
            self.rollback_local().await?;
            let error = SqlError::deadlock(&self.xid(), "the statement changed more rows than were imaged");
            self.send_error(&error).await?;
            return Ok(true);
        }
        let presence = match change {
            Change::Update(_) => Presence::Present,
            Change::Delete(_) if ok.affected_rows == images.len() as u64 => Presence::Absent,
            Change::Delete(_) => Presence::Unknown,
        };
        for row in images {
            self.branch.touch(table, row.key(table), Some(row), presence);
        }
        self.statement_done(ok, alone).await?;
        Ok(true)
    }

    /// Ends a local transaction that was begun for one statement, before this ran.
    pub(super) async fn abandon(&mut self, alone: bool) -> Result<(), End> {
        if alone { self.rollback_local().await } else { Ok(()) }
    }

    /// The statement succeeded: where it stands alone its branch commits.
    pub(super) async fn statement_done(&mut self, ok: OkPacket, alone: bool) -> Result<(), End> {
        let mut ok = ok.without_session_state(self.capabilities);
        let returned = self.returned.take();
        if alone {
            // Behind a statement that answers with rows it is -1
            let row_count = returned.as_ref().map_or(i128::from(ok.affected_rows), |_| -1);
            if returned.is_some() && self.diagnostics.is_some() {
                // Kept right behind the statement
            } else if ok.warnings > 0 {
                self.keep_warnings(row_count).await?;
            } else {
                self.diagnostics = Some(super::diagnostics::Diagnostics { row_count, warnings: None });
            }
            if let Err(error) = self.commit_branch(COMMIT).await? {
                if self.in_transaction() {
                    self.rollback_local().await?;
                }
                self.diagnostics = None;
                return self.send_error(&error).await;
            }
        }
        if let Some(rows) = returned {
            return self.send_rows(&rows, rows.rows.iter().map(|row| row.to_vec())).await;
        }
        ok.status = self.status & !status::SESSION_STATE_CHANGED;
        self.send_ok(ok).await
    }

    /// The statement failed: the server has undone what it did; one that stands alone ends its local transaction.
    pub(super) async fn statement_failed(&mut self, error: ErrPacket, alone: bool) -> Result<(), End> {
        if alone {
            self.keep_warnings(-1).await?;
            self.rollback_local().await?;
        } else {
            self.after_error(error.code).await?;
        }
        self.send_err(&error).await
    }

    /// Rolls the local transaction back.
    pub(super) async fn rollback_local(&mut self) -> Result<(), End> {
        match self.run_one(ROLLBACK).await? {
            Reply::Ok(_) => {
                self.branch.clear();
                Ok(())
            }
            _ => Err(End::Broken("the server refuses ROLLBACK".into())),
        }
    }
}

/// Why a statement on this table can't be undone exactly.
fn refusal(change: Change<'_>, info: &TableInfo, small_number: bool) -> Option<String> {
    if small_number && info.table.columns.iter().any(|c| c.kind == Kind::Year) {
        // A literal 3 is the year 2003 to MySQL, a parameter 3 is not
        return Some("a parameter below 100 in the condition, on a table with a YEAR column".into());
    }
    if let Some(why) = &info.refuse_parent {
        return Some(why.clone());
    }
    let Change::Update(update) = change else { return None };
    if info.key_follows_update {
        return Some("an UPDATE changes the table's key, which has a column with ON UPDATE".into());
    }
    let key = info.table.keys.first()?;
    for assignment in &update.assignments {
        let Some(at) = info.table.columns.iter().position(|c| same_name(&c.name, &assignment.column)) else {
            continue; // the server will say so
        };
        if key.columns.contains(&at) {
            return Some(format!("the UPDATE assigns the key column {}", assignment.column));
        }
    }
    None
}

/// Decodes the rows of an image.
pub(super) fn decode(table: &Table, rows: &Rows) -> Result<Vec<Row>, End> {
    let width = table.image_width();
    if rows.columns.len() != width {
        return Err(End::Broken("an image of another width".into()));
    }
    (0..rows.rows.len())
        .map(|i| {
            table
                .decode_row(&rows.cells(i)?)
                .map_err(|e| End::Broken(format!("an image does not decode: {e}")))
        })
        .collect()
}

/// The name by which a statement's clauses refer to its table.
fn qualifier(table: &TableRef) -> String {
    quote_identifier(table.alias.as_deref().unwrap_or(&table.name))
}

/// A LIMIT that `sql_select_limit` does not undercut.
pub(super) const NO_LIMIT: &[u8] = b" LIMIT 18446744073709551615";

/// The locking read of the rows of a table for which a condition holds.
pub(super) fn locking_read(table: &Table, condition: &[u8]) -> Vec<u8> {
    let list = table.image_select_list(&quote_identifier(&table.name));
    let mut out = format!("SELECT {list} FROM {} WHERE ", table.quoted()).into_bytes();
    out.extend_from_slice(condition);
    out.extend_from_slice(NO_LIMIT);
    out.extend_from_slice(b" FOR UPDATE");
    out
}

/// The locking read of the rows that a statement will change.
fn image_sql(sql: &[u8], change: Change<'_>, table: &Table) -> Vec<u8> {
    let reference = change.table();
    let mut out = b"SELECT ".to_vec();
    out.extend_from_slice(table.image_select_list(&qualifier(reference)).as_bytes());
    out.extend_from_slice(b" FROM ");
    out.extend_from_slice(&sql[reference.span.clone()]);
    if let Some(span) = change.where_clause() {
        out.extend_from_slice(b" WHERE ");
        out.extend_from_slice(&sql[span.clone()]);
    }
    if let Some(span) = change.order_by() {
        out.push(b' ');
        out.extend_from_slice(&sql[span.clone()]);
    }
    match change.limit() {
        Some(span) => {
            out.push(b' ');
            out.extend_from_slice(&sql[span.clone()]);
        }
        None => out.extend_from_slice(NO_LIMIT),
    }
    out.extend_from_slice(b" FOR UPDATE");
    out
}

/// A condition that holds for no row.
fn no_row(table: &Table, qualified: &str) -> String {
    let column = table.keys.first().and_then(|key| table.columns.get(*key.columns.first()?));
    column.map_or_else(
        || "1=0".to_string(),
        |column| {
            let name = quote_identifier(&column.name);
            format!("{qualified}.{name} <> {qualified}.{name}")
        },
    )
}

/// The statement restricted to the rows imaged. A condition that could choose other rows the second time is replaced.
fn restricted_sql(
    sql: &[u8],
    change: Change<'_>,
    analysis: &Analysis,
    table: &Table,
    images: &[Row],
) -> Vec<u8> {
    let keys: Vec<_> = images.iter().map(|row| row.key(table)).collect();
    let reference = change.table();
    // DELETE without an alias knows its table by its full name only
    let qualified = match (&reference.alias, change) {
        (Some(alias), _) => quote_identifier(alias),
        (None, Change::Update(_)) => quote_identifier(&reference.name),
        (None, Change::Delete(_)) => table.quoted(),
    };
    let predicate = if !keys.is_empty() {
        table.keys_predicate(&qualified, &keys)
    } else if change.volatile() {
        "1=0".to_string()
    } else {
        // As false as 1=0, but not known beforehand: the server evaluates the condition and answers as it always does
        no_row(table, &qualified)
    };
    let clauses_end = |span: Option<&Span>| span.map(|s| s.end);
    let where_end = clauses_end(change.where_clause());
    let head_end = change
        .where_clause()
        .or(change.order_by())
        .or(change.limit())
        .map_or(analysis.terminator, |first| first.start);
    let mut out = sql[..head_end].to_vec();
    if change.where_clause().is_none() {
        out.extend_from_slice(b" WHERE ");
    }
    if let (Some(span), false) = (change.where_clause(), change.volatile()) {
        out.push(b'(');
        out.extend_from_slice(&sql[span.clone()]);
        out.extend_from_slice(b") AND ");
    }
    out.push(b'(');
    out.extend_from_slice(predicate.as_bytes());
    out.extend_from_slice(b") ");
    let tail_start = where_end.unwrap_or(head_end);
    let tail_end = match change.limit() {
        // The LIMIT has done its work; a second time it could choose fewer
        Some(limit) => limit.start,
        None => analysis.terminator,
    };
    out.extend_from_slice(sql.get(tail_start..tail_end).unwrap_or_default());
    out
}
