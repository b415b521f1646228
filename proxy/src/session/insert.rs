//! INSERT in a bound session: the rows' keys, found before or right after the statement.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use atone_sql::{Analysis, Insert, OnConflict, Statement};
use atone_undo::{Key, Row, Table, Value};
use atone_wire::response::OkPacket;

use super::Session;
use super::bound::Origin;
use super::conflicts::conditions;
use super::diagnostics::Diagnostics;
use super::dml::{MAX_TRIES, ROLLBACK, decode, locking_read_by_key};
use super::evaluated::slots;
use super::inject::{Flight, Reply, Vars, flights};
use super::keys::{InsertKeys, finds_no_others, generated_keys, insert_keys, literal_predicates, width};
use super::logged::{Log, Logged};
use super::tables::{Resolved, digest, probe_sql};
use super::views::View;
use crate::branch::Presence;
use crate::error::{End, SqlError};
use crate::meta::{TableInfo, Write, refusal};

/// The savepoint around an INSERT whose keys are only known behind it.
pub(super) const SAVEPOINT: &str = "`atone:insert`";

/// What came of the statement.
pub(super) enum Ran {
    Ok(OkPacket),
    /// It failed, and the application knows.
    Answered,
    /// The table was altered since its metadata was read; nothing was done.
    Altered,
}

/// How an INSERT is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    /// The local transaction is begun with it.
    pub(super) begin: bool,
    /// It stands alone: the local transaction ends behind it.
    pub(super) alone: bool,
    /// Not again, where the table was altered.
    pub(super) last: bool,
    /// It stands for an INSERT … SELECT, and has the info of one.
    pub(super) as_select: bool,
}

/// The text of an INSERT and what it writes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The statement, without what follows it; the literals of `insert` are in it.
    pub(super) text: &'a [u8],
    /// What is sent instead, where the literals only tell what it does.
    pub(super) run: Option<&'a [u8]>,
    pub(super) insert: &'a Insert,
    pub(super) info: &'a Arc<TableInfo>,
    /// The column definitions that the session sees.
    pub(super) probe: &'a [u8],
    /// The columns that the statement names.
    pub(super) named: Option<&'a Vec<String>>,
    /// The view that the statement names; the table is that behind it, and the columns of `insert` are its.
    pub(super) view: Option<&'a View>,
    /// The tables to which its triggers add rows.
    pub(super) logs: &'a [Log],
}

impl Target<'_> {
    /// An INSERT that stands for this one, in terms of the table.
    pub(super) fn mapped<'i>(&self, insert: &'i Insert) -> Result<Cow<'i, Insert>, String> {
        self.view.map_or(Ok(Cow::Borrowed(insert)), |view| view.mapped(insert).map(Cow::Owned))
    }

    /// The text to run: one row that stands for a SELECT is given by one, so that the server tells its info.
    pub(super) fn run_text(&self, try_: Try) -> Cow<'_, [u8]> {
        if let Some(run) = self.run {
            return Cow::Borrowed(run);
        }
        let values = self.insert.values.as_ref().filter(|_| try_.as_select && self.insert.rows.len() == 1);
        let select = values.and_then(|values| {
            let head = self.text.get(..values.start)?.strip_suffix(b"VALUES ")?;
            let row = self.text.get(values.clone())?.strip_prefix(b"(")?.strip_suffix(b")")?;
            Some([head, b"SELECT ", row, self.text.get(values.end..)?].concat())
        });
        select.map_or(Cow::Borrowed(self.text), Cow::Owned)
    }
}

impl Session {
    /// INSERT and REPLACE.
    pub(super) async fn insert(
        &mut self,
        sql: &[u8],
        insert: &Insert,
        analysis: &Analysis,
        origin: Origin,
    ) -> Result<(), End> {
        let text = sql.get(..analysis.terminator).unwrap_or(sql);
        for attempt in 1.. {
            let vars = self.session_vars().await?;
            let (info, probe, view) = match self.resolve_any(&insert.table, &vars).await? {
                Resolved::Table(info, probe) => (info, probe, None),
                Resolved::Temporary => return self.pass_temporary(origin).await,
                Resolved::View(schema, name) => match self.resolve_view(schema, name, &vars).await? {
                    Ok(view) => (view.info.clone(), view.probe.clone(), Some(view)),
                    Err(error) => return self.send_error(&error).await,
                },
                Resolved::Answer(e) => return self.statement_failed(e, false).await,
            };
            if let Some(why) = self.odd_in_insert(text, insert, &vars).await? {
                return self.refuse(why).await;
            }
            self.branch.fired();
            let mapped = match view.as_ref().map(|view| view.mapped(insert)).transpose() {
                Ok(mapped) => mapped,
                Err(why) => return self.refuse(&why).await,
            };
            let (named, insert) = (insert.columns.as_ref(), mapped.as_ref().unwrap_or(insert));
            let behind = super::upsert::effect(insert, &info).map(|effect| effect.write(&info));
            let writes: Vec<Write> = [Some(Write::Insert), behind].into_iter().flatten().collect();
            let refused = |write: &Write| refusal(&info.table, &info.facts.triggers, *write);
            if let Some(why) = writes.iter().find_map(refused) {
                return self.refuse(&why).await;
            }
            let mut logs = match self.logs_of(&info, &writes, &vars).await? {
                Ok(logs) => logs,
                Err(why) => return self.refuse(&why).await,
            };
            let alone = self.stands_alone();
            let mut try_ = Try { begin: alone, alone, last: attempt == MAX_TRIES, as_select: false };
            if !logs.is_empty() {
                if alone && let Reply::Err(e) = self.run_one("START TRANSACTION").await? {
                    return self.statement_failed(e, false).await;
                }
                if !self.probe_logs(&mut logs, &vars, alone).await? {
                    return Ok(());
                }
                try_ = Try { begin: false, last: true, ..try_ };
            }
            let target = Target {
                text,
                run: None,
                insert,
                info: &info,
                probe: &probe,
                named,
                view: view.as_ref(),
                logs: &logs,
            };
            let done = match &insert.query {
                Some(query) => self.insert_select(target, query, try_).await?,
                None => self.insert_rows(target, try_).await?,
            };
            if done {
                break;
            }
        }
        Ok(())
    }

    /// INSERT … VALUES and INSERT … SET. False where the table was altered since its metadata was read, and nothing was
    /// done.
    pub(super) async fn insert_rows(&mut self, target: Target<'_>, try_: Try) -> Result<bool, End> {
        let vars = self.session_vars().await?;
        let Target { text, insert, info, .. } = target;
        let width = width(insert, info);
        if insert.rows.iter().any(|row| !row.is_empty() && row.len() != width) {
            // The server says so
            return match self.run_one(self.plan_of(text)).await? {
                Reply::Err(e) => {
                    self.statement_failed(e, try_.alone && !try_.begin).await?;
                    Ok(true)
                }
                _ => self.refuse_insert("rows of another length than the column list", try_).await,
            };
        }
        let slots = match slots(text, insert, info, vars.mode) {
            Ok(slots) => slots,
            Err(why) => return self.refuse_insert(&why, try_).await,
        };
        if slots.is_empty() {
            return self.insert_known(target, try_).await;
        }
        if try_.begin
            && let Reply::Err(e) = self.run_one("START TRANSACTION").await?
        {
            self.statement_failed(e, false).await?;
            return Ok(true);
        }
        let try_ = Try { begin: false, last: true, ..try_ };
        let Some(text) = self.with_values(target, &slots, try_.alone).await? else {
            return Ok(true);
        };
        match atone_sql::analyze(&text, vars.mode).statement {
            Statement::Insert(insert) => match target.mapped(&insert) {
                Ok(mapped) => {
                    self.insert_known(Target { text: &text, insert: &mapped, ..target }, try_).await
                }
                Err(why) => self.refuse_insert(&why, try_).await,
            },
            _ => self.refuse_insert("the statement with its keys' values is not understood", try_).await,
        }
    }

    /// An INSERT of which all is known that can be known beforehand.
    pub(super) async fn insert_known(&mut self, target: Target<'_>, try_: Try) -> Result<bool, End> {
        if target.insert.on_conflict != OnConflict::Fail {
            let vars = self.session_vars().await?;
            let conditions = conditions(target.text, target.insert, target.info, &vars);
            // Else no row of it can meet another one by a unique key
            if conditions.as_ref().map_or(true, |all| all.iter().any(|row| !row.is_empty())) {
                return match self.capturable(target.insert, conditions) {
                    Ok(conditions) => self.try_upsert(target, &conditions, try_).await,
                    Err(why) => self.refuse_insert(&why, try_).await,
                };
            }
        }
        self.try_insert(target, try_).await
    }

    /// Refuses an INSERT that has not run.
    pub(super) async fn refuse_insert(&mut self, why: &str, try_: Try) -> Result<bool, End> {
        self.abandon(try_.alone && !try_.begin).await?;
        self.refuse(why).await?;
        Ok(true)
    }

    /// Runs an INSERT that meets no other row.
    async fn try_insert(&mut self, target: Target<'_>, try_: Try) -> Result<bool, End> {
        let vars = self.session_vars().await?;
        let Target { text, insert, info, .. } = target;
        let table = &info.table;
        let keys = match insert_keys(text, insert, info, &vars) {
            Ok(keys) => keys,
            Err(why) => return self.refuse_insert(&why, try_).await,
        };
        let limit = self.backend.limits.max_branch_rows;
        if self.branch.rows() + insert.rows.len() > limit {
            let why = format!("more than max_branch_rows = {limit} rows in one branch");
            return self.refuse_insert(&why, try_).await;
        }
        // Of generated keys of rows that may be left out (one that has no parent, for example) nobody knows whose they are
        if let InsertKeys::Known(rows) = &keys
            && insert.ignore
            && let Some(column) = generated_part(table, rows)
        {
            return self.insert_generated(target, column, try_).await;
        }
        let savepoint = !matches!(keys, InsertKeys::Known(_)) || !target.logs.is_empty();
        let ok = match self.run_insert(target, try_, savepoint).await? {
            Ran::Ok(ok) => ok,
            Ran::Answered => return Ok(true),
            Ran::Altered => return Ok(false),
        };
        let alone = try_.alone;
        match keys {
            InsertKeys::Known(rows) => {
                let keys = generated_keys(rows, ok.last_insert_id, vars.auto_increment_increment);
                if target.logs.is_empty() {
                    self.inserted(ok, table, keys, Logged::default(), alone).await?;
                } else {
                    let kept = self.keep_diagnostics(&ok).await?;
                    let Some(logged) = self.settle(target.logs, alone).await? else { return Ok(true) };
                    self.inserted(ok, table, keys, logged, alone).await?;
                    self.restore_diagnostics(kept, alone);
                }
            }
            InsertKeys::Literals(rows) => self.look_at_inserted(ok, target, &rows, &vars, alone).await?,
            InsertKeys::Mixed(column, given) => {
                self.look_for_generated(ok, table, column, Some(given), target.logs, alone).await?;
            }
        }
        Ok(true)
    }

    /// Runs the statement itself.
    pub(super) async fn run_insert(
        &mut self,
        target: Target<'_>,
        try_: Try,
        savepoint: bool,
    ) -> Result<Ran, End> {
        let vars = self.session_vars().await?;
        let table = &target.info.table;
        let mut flight = Flight::default();
        if try_.begin {
            flight.push("START TRANSACTION");
        }
        flight.push(probe_sql(table));
        if savepoint {
            flight.push(format!("SAVEPOINT {SAVEPOINT}"));
        }
        let replies = self.run_ending_with(flight, &target.run_text(try_), target.insert.returning).await?;
        let seen = replies.iter().find_map(|reply| match reply {
            Reply::Rows(rows) => Some(digest(&vars, rows)),
            _ => None,
        });
        let ok = match replies.into_iter().next_back() {
            Some(Reply::Ok(ok)) => ok,
            Some(Reply::Err(e)) => {
                self.statement_failed(e, try_.alone).await?;
                return Ok(Ran::Answered);
            }
            _ => return Err(End::Broken("a statement that writes answered with rows".into())),
        };
        if let Some(view) = target.view
            && !self.still_is(view).await?
        {
            self.altered_meanwhile(table, false).await?;
            return Ok(Ran::Answered);
        }
        if seen.as_deref() != Some(target.probe) {
            let done = self.altered_meanwhile(table, try_.alone && !try_.last).await?;
            return Ok(if done { Ran::Answered } else { Ran::Altered });
        }
        Ok(Ran::Ok(ok))
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
        let row_count = i128::from(ok.affected_rows);
        if self.returned.is_none() && ok.warnings == 0 {
            // What the server has in its list may be of a read before it
            self.diagnostics = Some(Diagnostics::without_warnings(row_count));
        } else if self.returned.is_none() {
            self.keep_warnings(row_count).await?;
        }
        Ok(self.diagnostics.take())
    }

    /// Puts them back, once the statement is done.
    pub(super) fn restore_diagnostics(&mut self, kept: Option<Diagnostics>, alone: bool) {
        if !alone {
            self.diagnostics = kept;
        } else if let (Some(kept), Some(now)) = (kept, self.diagnostics.as_mut()) {
            *now = Diagnostics { row_count: now.row_count, ..kept };
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
        self.refuse(why).await
    }

    /// Runs a statement that answers with the rows it has written, which are kept; its OK as far as that can be told.
    pub(super) async fn returning(&mut self, text: &[u8]) -> Result<Reply, End> {
        let rows = match self.run_for_rows(text).await? {
            Reply::Rows(rows) => rows,
            Reply::TooLarge => {
                self.rollback_local().await?;
                let why = self.above_bytes("the rows returned are");
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
        logged: Logged,
        alone: bool,
    ) -> Result<(), End> {
        if ok.affected_rows != keys.len() as u64 {
            return self.rolled_back("the INSERT wrote another number of rows than it has").await;
        }
        for key in keys {
            self.branch.touch(table, key, None, Presence::Present);
        }
        self.touch_logged(logged);
        self.statement_done(ok, alone).await
    }

    /// Looks at once which rows an INSERT under a savepoint made; where they are not found, nothing stays.
    async fn look_at_inserted(
        &mut self,
        ok: OkPacket,
        target: Target<'_>,
        literals: &[Vec<Option<Vec<u8>>>],
        vars: &Vars,
        alone: bool,
    ) -> Result<(), End> {
        let table = &target.info.table;
        let kept = self.keep_diagnostics(&ok).await?;
        let predicates = literal_predicates(table, literals, vars.auto_increment_increment);
        let found = self.one_row_each(table, &predicates).await?;
        let mut found = found.filter(|_| ok.affected_rows == literals.len() as u64);
        if let Some(rows) = &found
            && !finds_no_others(table, literals)
            && !self.are_new(table, rows).await
        {
            found = None;
        }
        let Some(found) = found else {
            let why = "the server stores the rows' keys as other values than given";
            return self.take_insert_back(why, alone).await;
        };
        let Some(logged) = self.settle(target.logs, alone).await? else { return Ok(()) };
        let keys = found.iter().map(|row| row.key(table)).collect();
        self.inserted(ok, table, keys, logged, alone).await?;
        self.restore_diagnostics(kept, alone);
        Ok(())
    }

    /// The rows that these conditions find, where each finds one, and each another one.
    async fn one_row_each(
        &mut self,
        table: &Arc<Table>,
        conditions: &[Vec<u8>],
    ) -> Result<Option<Vec<Row>>, End> {
        let mut found: Vec<Row> = Vec::new();
        for flight in flights(conditions.iter().map(|condition| locking_read_by_key(table, condition))) {
            for reply in self.run_flight(flight).await? {
                match reply {
                    Reply::Rows(rows) if rows.rows.len() == 1 => found.extend(decode(table, &rows)?),
                    Reply::Rows(_) | Reply::Err(_) | Reply::TooLarge => return Ok(None),
                    Reply::Ok(_) => return Err(End::Broken("an image without rows".into())),
                }
            }
        }
        let keys: HashSet<Key> = found.iter().map(|row| row.key(table)).collect();
        Ok((keys.len() == conditions.len()).then_some(found))
    }
}

/// The column of the key that is generated for each of these rows, if there is one.
fn generated_part(table: &Table, rows: &[Vec<Option<Value>>]) -> Option<usize> {
    let key = table.keys.first()?;
    let at = rows.first()?.iter().position(Option::is_none)?;
    let all = rows.iter().all(|row| row.get(at).is_some_and(Option::is_none));
    key.columns.get(at).copied().filter(|_| all)
}
