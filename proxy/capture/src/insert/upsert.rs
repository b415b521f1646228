//! INSERT IGNORE, REPLACE and ON DUPLICATE KEY UPDATE in a bound session: the rows that stand in the way are imaged
//! before, and looked at again after the statement.

use std::collections::HashSet;

use atone_sql::{Insert, OnConflict};
use atone_undo::{Key, Row, Table};
use atone_wire::caps::client;
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Bytes;

use crate::Capture;
use crate::effect::Effect;
use crate::effects::cascade::{EffectImages, OwnImages, is_parent, may_fire};
use crate::error::{End, SqlError};
use crate::flight::{FLIGHT_BYTES, Flight, Reply, flights};
use crate::images::{decode, locking_reads};
use crate::insert::Target;
use crate::insert::conflicts::{Conditions, Counted, counts, reads, touched};
use crate::insert::upsert_new::only_key;
use crate::journal::Touched;
use crate::outcome::with_context;
use crate::outcome::{Done, Halt, Written};
use atone_facts::TableInfo;

impl Capture<'_> {
    /// The conditions under which its rows are kept out, where all that the statement may do can be captured.
    pub(crate) fn capturable(&self, conditions: Result<Conditions, String>) -> Result<Conditions, String> {
        let conditions = conditions?;
        if conditions.iter().any(Vec::is_empty) {
            return Err("some rows have no unique key by which they can be found".into());
        }
        Ok(conditions)
    }

    /// Runs an INSERT that may meet other rows.
    pub(crate) async fn upsert(&mut self, target: Target<'_>, conditions: &Conditions) -> Result<Done, Halt> {
        let Target { insert, info, .. } = target;
        let text: &[u8] = &target.run_text();
        let vars = self.session_vars().await?;
        let table = &info.table;
        let effect = effect(insert, info);
        let changes = effect.clone();
        self.state.branch.assume(info, effect.as_ref().is_some_and(|effect| is_parent(info, effect)));
        if let Some(keys) = only_key(target, conditions, effect.as_ref(), &vars)
            && let Some(written) = self.upsert_new(target, conditions, keys).await?
        {
            return Ok(written.into());
        }
        let mut flight = Flight::default();
        let mut found = Found::default();
        let selects = self.heavy.run(conditions.len(), || reads(info, conditions, &vars));
        let in_one = selects.iter().map(Vec::len).sum::<usize>() <= FLIGHT_BYTES;
        let first = if in_one { selects.len() } else { 0 };
        for select in &selects[..first] {
            flight.push(select);
        }
        if let Err(why) = self.find(table, &selects[first..], &mut found).await {
            return Err(self.not_looked(why, target, false).await?);
        }
        flight.push_savepoint();
        let mut cascaded = EffectImages::default();
        let effect = effect.filter(|effect| may_fire(info, effect));
        let mut replies = match &effect {
            None => self.run_ending_with(flight, text, insert.returning).await?,
            // The rows that foreign keys change have to be read before the statement runs
            Some(_) => self.try_flight(flight).await?,
        }
        .into_iter();
        let ran = replies.len() > first;
        for reply in replies.by_ref().take(first) {
            if let Err(why) = self.keep_found(table, reply, &mut found) {
                return Err(self.not_looked(why, target, ran).await?);
            }
        }
        let before = found.rows;
        // The savepoint's, or the statement's where something failed
        let mut statement = replies.last();
        if let (Some(effect), Some(Reply::Ok(_))) = (effect, &statement) {
            let own = OwnImages { info, images: &before, new_keys: &[], effect };
            cascaded = self.image_effects(own, &vars).await.map_err(Halt::after_savepoint)?;
            if cascaded.reaches_own {
                return Err(Halt::take_back("a foreign key changes rows of the table itself"));
            }
            statement = Some(match insert.returning {
                true => self.returning(text).await?,
                false => self.run_write(text).await?,
            });
        }
        let Some(reply) = statement else { return Err(Halt::broken("a statement without a reply")) };
        let ok = reply.written()?;
        let diagnostics = self.keep_diagnostics(&ok).await?;
        let rows = self.rows_met(target, conditions, selects, &ok, before, changes).await;
        let rows = rows.map_err(Halt::after_savepoint)?;
        self.verify_effects(&cascaded).await?;
        let trigger_rows = self.find_trigger_rows(target.trigger_targets).await?;
        self.heavy.run(rows.len(), || {
            for Touched { key, before, presence } in rows {
                self.state.branch.touch(table, key, before, presence);
            }
        });
        self.touch_effects(cascaded, false);
        self.touch_trigger_rows(trigger_rows);
        Ok(Written { ok, diagnostics }.into())
    }

    /// What the statement has done to the rows that it has met: those `before` it, and those that its `selects` find
    /// after it.
    async fn rows_met(
        &mut self,
        target: Target<'_>,
        conditions: &Conditions,
        mut selects: Vec<Vec<u8>>,
        ok: &OkPacket,
        before: Vec<Row>,
        changes: Option<Effect>,
    ) -> Result<Vec<Touched>, Halt> {
        let Target { insert, info, .. } = target;
        let table = &info.table;
        if let Some(changes) = &changes {
            self.check_restorable(info, before.iter(), changes).await?;
        }
        self.heavy.run(before.len(), || {
            let keys: Vec<Key> = before.iter().map(|row| row.key(table)).collect();
            selects.extend(locking_reads(table, &keys));
        });
        let mut after = Found::default();
        if let Err(why) = self.find(table, &selects, &mut after).await {
            return Err(match why {
                Unlooked::Text(_) | Unlooked::TooLarge => {
                    Halt::stop("the rows cannot be read behind the statement")
                }
                Unlooked::Lost(halt) => halt,
            });
        }
        let counted = Counted {
            affected_rows: ok.affected_rows,
            rows: insert.rows.len(),
            found_rows: self.capabilities & client::FOUND_ROWS != 0,
        };
        let rows = self.heavy.run(before.len() + after.rows.len(), || {
            let rows = touched(table, &insert.on_conflict, counted, before, &after.rows)?;
            self.too_many(table, rows.iter().map(|row| &row.key)).map_or(Ok(rows), Err)
        })?;
        let replaced_by_equals = insert.on_conflict == OnConflict::Replace && rows.len() < insert.rows.len();
        if replaced_by_equals && !self.are_there(info, conditions).await? {
            return Err(Halt::stop("a row that REPLACE gives is not found by all of its keys"));
        }
        Ok(rows)
    }

    /// Runs locking reads, and keeps each row that they find once.
    pub(crate) async fn find(
        &mut self,
        table: &Table,
        selects: &[Vec<u8>],
        found: &mut Found,
    ) -> Result<(), Unlooked> {
        for flight in flights(selects.iter()) {
            for reply in self.try_flight(flight).await? {
                self.keep_found(table, reply, found)?;
            }
        }
        Ok(())
    }

    /// Keeps the rows that one of these reads has found.
    fn keep_found(&self, table: &Table, reply: Reply, found: &mut Found) -> Result<(), Unlooked> {
        match reply {
            Reply::Rows(rows) => {
                found.bytes += rows.rows.iter().map(Bytes::len).sum::<usize>();
                if found.bytes > self.limits.max_branch_bytes {
                    return Err(Unlooked::TooLarge);
                }
                match self.heavy.run(rows.rows.len(), || decode(table, &rows)) {
                    Ok(rows) => self.heavy.run(rows.len(), || found.add(table, rows)),
                    Err(unread) => return Err(Unlooked::Lost(self.unread(unread))),
                }
                Ok(())
            }
            Reply::TooLarge => Err(Unlooked::TooLarge),
            Reply::Err(e) => Err(Unlooked::Text(e)),
            Reply::Ok(_) => Err(End::Broken("an image without rows".into()).into()),
        }
    }

    /// What ends a statement of which the rows that are in its way are not known. `ran`: it may have run in the same
    /// packet, and has its savepoint.
    async fn not_looked(&mut self, why: Unlooked, target: Target<'_>, ran: bool) -> Result<Halt, End> {
        let halt = match why {
            // A literal that cannot be compared
            Unlooked::Text(e) => {
                let fails = !ran && target.insert.on_conflict != OnConflict::Ignore;
                if fails && let Some(own) = Box::pin(self.error_of_run(&target.run_text())).await? {
                    return Ok(Halt::Failed(own));
                }
                let why = with_context("the rows that are in the way cannot be looked for", &e);
                SqlError::refused(&self.xid(), &why).into()
            }
            Unlooked::TooLarge => {
                let why = self.above_bytes("the before image of the statement is");
                SqlError::refused(&self.xid(), &why).into()
            }
            Unlooked::Lost(halt) => halt,
        };
        Ok(if ran { halt.after_savepoint() } else { halt })
    }

    /// Whether each row of a REPLACE is found by all of its unique keys at once. The server counts one that takes the
    /// place of its equal as it counts a new one, which then may be another than was looked for.
    async fn are_there(&mut self, info: &TableInfo, conditions: &Conditions) -> Result<bool, End> {
        let vars = self.session_vars().await?;
        let Some(selects) = self.heavy.run(conditions.len(), || counts(info, conditions, &vars)) else {
            return Ok(false);
        };
        let mut there = 0;
        for flight in flights(selects.iter()) {
            for reply in self.run_flight(flight).await? {
                let Reply::Rows(rows) = reply else { return Ok(false) };
                let cells = rows.cells(0)?;
                let count = std::str::from_utf8(cells.first().copied().flatten().unwrap_or_default());
                there += count.ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or_default();
            }
        }
        Ok(there == conditions.len())
    }
}

/// The rows that locking reads have found, each once.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) rows: Vec<Row>,
    keys: HashSet<Key>,
    /// How many bytes have been read.
    bytes: usize,
}

impl Found {
    fn add(&mut self, table: &Table, rows: Vec<Row>) {
        for row in rows {
            if self.keys.insert(row.key(table)) {
                self.rows.push(row);
            }
        }
    }
}

/// Why locking reads do not tell the rows.
#[derive(Debug)]
pub(crate) enum Unlooked {
    /// The server does not take the text.
    Text(ErrPacket),
    /// They are above `max_branch_bytes`.
    TooLarge,
    /// A value cannot be read, or the session has ended.
    Lost(Halt),
}

impl From<End> for Unlooked {
    fn from(end: End) -> Unlooked {
        Unlooked::Lost(end.into())
    }
}

/// What the statement does to the rows that are in its way.
pub(crate) fn effect(insert: &Insert, info: &TableInfo) -> Option<Effect> {
    match &insert.on_conflict {
        OnConflict::Fail | OnConflict::Ignore => None,
        OnConflict::Replace => Some(Effect::Deleted),
        OnConflict::Update(assignments) => {
            Some(Effect::updated(info, assignments.iter().map(|a| a.column.as_str())))
        }
    }
}
