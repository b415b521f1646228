//! Rows that triggers of a statement add to other tables: found behind the statement, by their numbers.
//!
//! Before the statement the local transaction takes the metadata lock of each such table, and the service account reads
//! its AUTO_INCREMENT counter: all numbers that are generated from then on are as large or larger. Behind the statement those rows
//! among them that this transaction has inserted, and nobody else sees, are the triggers'. How many there are nobody knows
//! beforehand; a trigger's IF may have left some out.

use std::sync::Arc;

use atone_sql::TableRef;
use atone_undo::{Key, Table};

use super::Session;
use super::bound::told;
use super::cascade::key_only;
use super::generated::MAX_FOREIGN_ROWS;
use super::inject::{Flight, Reply, Vars};
use super::tables::{Resolved, digest, probe_sql};
use crate::branch::Presence;
use crate::error::{End, SqlError};
use crate::meta::{LogTable, Stale, TableInfo, Write, logs_of, mirror_of};
use crate::numbered::{Numbered, ROWS_PER_LOOK};

/// A table that triggers of a statement write.
#[derive(Debug)]
pub(super) struct Log {
    /// What is known of it where they add rows to it. Else they keep its rows equal to those of their own table, and nothing of it
    /// is captured.
    known: Option<LogTable>,
    info: Arc<TableInfo>,
    table: Arc<Table>,
    /// The table with the column of its key only.
    keyed: Table,
    /// The column definitions that the session sees.
    probe: Vec<u8>,
    /// No number below is generated while the statement runs.
    first: i128,
}

/// The rows that triggers have added, by their tables.
#[derive(Debug, Default)]
pub(super) struct Logged(Vec<(Arc<Table>, Vec<Key>)>);

impl Session {
    /// The tables that triggers of this one write when it is written; the inner error answers a statement that is refused.
    pub(super) async fn logs_of(
        &mut self,
        info: &Arc<TableInfo>,
        writes: &[Write],
        vars: &Vars,
    ) -> Result<Result<Vec<Log>, SqlError>, End> {
        let xid = self.xid();
        let events: Vec<&str> = writes.iter().map(|write| write.event()).collect();
        let mut out = Vec::new();
        for known in logs_of(&info.facts.triggers, &events) {
            let says = |why: &str| {
                let (table, log) = (&info.table, format!("{}.{}", known.schema, known.name));
                let why = format!("a trigger of {}.{} writes {log}: {why}", table.schema, table.name);
                SqlError::refused(&xid, &why)
            };
            let name = TableRef::named(Some(known.schema.clone()), known.name.clone());
            let (log, probe) = match self.resolve_name(&name, vars).await? {
                Resolved::Table(log, probe) => (log, probe),
                Resolved::Temporary => return Ok(Err(says("a temporary table hides it"))),
                Resolved::View(..) => return Ok(Err(says("it is a view now"))),
                Resolved::Answer(e) => return Ok(Err(says(&told("it cannot be looked at", &e)))),
            };
            self.branch.meet(&log, false);
            let (keyed, table) = (key_only(&log.table), log.table.clone());
            if keyed.columns.len() != 1 || keyed.columns.iter().any(|column| column.name != known.column) {
                return Ok(Err(says("its key was altered meanwhile")));
            }
            out.push(Log { known: Some(known.clone()), info: log, table, keyed, probe, first: 0 });
        }
        match self.mirror_of(info, &events, vars).await? {
            Ok(mirror) => out.extend(mirror),
            Err(why) => return Ok(Err(SqlError::being_altered(&xid, &why))),
        }
        Ok(Ok(out))
    }

    /// The table that triggers of this one keep equal to it; the inner error is why its rows would not follow.
    async fn mirror_of(
        &mut self,
        info: &Arc<TableInfo>,
        events: &[&str],
        vars: &Vars,
    ) -> Result<Result<Option<Log>, String>, End> {
        let Some(mirror) = mirror_of(&info.facts.triggers, events) else { return Ok(Ok(None)) };
        let says = |why: &str| {
            let (table, mirror) = (&info.table, mirror.quoted());
            format!("triggers of {}.{} keep the rows of {mirror}: {why}", table.schema, table.name)
        };
        let name = TableRef::named(Some(mirror.schema.clone()), mirror.name.clone());
        let (copy, probe) = match self.resolve_name(&name, vars).await? {
            Resolved::Table(copy, probe) => (copy, probe),
            Resolved::Temporary => return Ok(Err(says("a temporary table hides it"))),
            Resolved::View(..) => return Ok(Err(says("it is a view"))),
            Resolved::Answer(e) => return Ok(Err(says(&told("it cannot be looked at", &e)))),
        };
        if let Some(why) = mirror.unfit(info, &copy) {
            return Ok(Err(says(&why)));
        }
        self.branch.meet(&copy, true);
        let (keyed, table) = (key_only(&copy.table), copy.table.clone());
        Ok(Ok(Some(Log { known: None, info: copy, table, keyed, probe, first: 0 })))
    }

    /// Keeps these tables from being altered until the local transaction ends, and reads their counters. False where that
    /// cannot be: the statement was answered then.
    pub(super) async fn probe_logs(
        &mut self,
        logs: &mut [Log],
        vars: &Vars,
        alone: bool,
    ) -> Result<bool, End> {
        if logs.is_empty() {
            return Ok(true);
        }
        let mut flight = Flight::default();
        flight.push("SELECT @@insert_id");
        for log in &*logs {
            // As the rows are read behind the statement: whoever may not do that is told before it runs
            let locks = if log.known.is_some() { " FOR UPDATE" } else { "" };
            flight.push(format!("{}{locks}", probe_sql(&log.table)));
        }
        let mut why = None;
        let mut replies = self.try_flight(flight).await?.into_iter();
        match replies.next() {
            Some(Reply::Rows(rows)) if rows.cells(0)?.first() == Some(&Some(b"0".as_slice())) => {}
            Some(Reply::Rows(_)) if logs.iter().any(|log| log.known.is_some()) => {
                why = Some("insert_id is set, and a trigger adds rows to another table".to_owned());
            }
            Some(Reply::Rows(_)) => {}
            Some(Reply::Err(e)) => {
                self.statement_failed(e).await?;
                return Ok(false);
            }
            _ => return Err(End::Broken("a variable without a row".into())),
        }
        for log in logs {
            match replies.next() {
                Some(Reply::Rows(rows)) if digest(vars, &rows) == log.probe => {}
                Some(Reply::Rows(_)) => {
                    let table = log.table.clone();
                    self.forget_table(&table);
                    self.rolled_back("a table that a trigger writes was altered meanwhile").await?;
                    return Ok(false);
                }
                Some(Reply::Err(e)) if matches!(e.code, 1044 | 1142 | 1143) => {
                    let context =
                        format!("the rows that a trigger writes in {} cannot be read", log.table.name);
                    why.get_or_insert(told(&context, &e));
                    break;
                }
                Some(Reply::Err(e)) => {
                    self.statement_failed(e).await?;
                    return Ok(false);
                }
                _ => return Err(End::Broken("the probe of a table has no columns".into())),
            }
            match self.vouch_for(&log.info).await {
                Ok(()) => {}
                Err(Stale::Changed(why)) => {
                    self.rolled_back(&why).await?;
                    return Ok(false);
                }
                Err(stale) => {
                    self.refuse_stale(stale, alone).await?;
                    return Ok(false);
                }
            }
            let Some(known) = &log.known else { continue };
            match self.backend.catalog.first_number(known).await {
                Ok(first) => log.first = first,
                Err(e) => {
                    why.get_or_insert(format!("the service account cannot read {}: {e}", log.table.name));
                }
            }
        }
        let Some(why) = why else { return Ok(true) };
        self.abandon(alone).await?;
        self.refuse(&why).await?;
        Ok(false)
    }

    /// Finds the rows that triggers of a statement under the savepoint have added, and releases the savepoint. Nothing where
    /// the rows cannot be told: the statement is taken back then, and answered.
    pub(super) async fn settle(&mut self, logs: &[Log], alone: bool) -> Result<Option<Logged>, End> {
        let mut logged = Logged::default();
        let mut count = 0;
        for log in logs {
            let Some(known) = &log.known else { continue };
            match self.rows_of(log, known, count).await? {
                Ok(keys) => {
                    count += keys.len();
                    logged.0.push((log.table.clone(), keys));
                }
                Err(why) => {
                    self.take_insert_back(&why, alone).await?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(logged))
    }

    /// The keys of the rows that triggers have added to a table; the inner error is why they cannot be told. `others` is how
    /// many rows of the statement the branch will have besides.
    async fn rows_of(
        &mut self,
        log: &Log,
        known: &LogTable,
        others: usize,
    ) -> Result<Result<Vec<Key>, String>, End> {
        let limit = self.backend.limits.max_branch_rows;
        let (mut keys, mut seen) = (Vec::new(), 0usize);
        let numbered = Numbered::new(log.table.quoted(), &known.column);
        let mut next = Some(log.first);
        while let Some(first) = next {
            let page = match self.backend.catalog.uncommitted(&numbered, first, ROWS_PER_LOOK).await {
                Ok(page) => page,
                Err(e) => {
                    return Ok(Err(format!("the service account cannot read {}: {e}", log.table.name)));
                }
            };
            next = page.next;
            seen += if next.is_some() { ROWS_PER_LOOK } else { 0 };
            if !page.ids.is_empty() {
                match self.own_rows(&log.keyed, 0, &page.ids, 1).await? {
                    Ok(rows) => keys.extend(rows.iter().map(|row| row.key(&log.keyed))),
                    Err(why) => return Ok(Err(why)),
                }
            }
            if self.branch.rows().saturating_add(others + keys.len()) > limit {
                return Ok(Err(format!(
                    "with the rows that triggers add more than max_branch_rows = {limit} rows in one branch"
                )));
            }
            if seen > limit.saturating_add(MAX_FOREIGN_ROWS) {
                let why =
                    "has too many rows beyond its AUTO_INCREMENT counter for those of a trigger to be found";
                return Ok(Err(format!("{} {why}", log.table.name)));
            }
        }
        Ok(Ok(keys))
    }

    /// Notes the rows that triggers have added.
    pub(super) fn touch_logged(&mut self, logged: Logged) {
        for (table, keys) in logged.0 {
            for key in keys {
                self.branch.touch(&table, key, None, Presence::Present);
            }
        }
    }
}
