//! Rows that triggers of a statement add to other tables: found after the statement, by their numbers.
//!
//! Before the statement the local transaction takes the metadata lock of each such table, and the service account
//! reads its AUTO_INCREMENT counter: all numbers that are generated from then on are as large or larger. After the
//! statement those rows among them that this transaction has inserted, and nobody else sees, are the triggers'. How
//! many there are nobody knows beforehand; a trigger's IF may have left some out.

use std::sync::Arc;

use atone_sql::TableRef;
use atone_undo::{Key, Table};

use crate::Capture;
use crate::binding::tables::{Resolved, digest, probe_sql};
use crate::error::SqlError;
use crate::flight::{Flight, Reply};
use crate::images::key_only;
use crate::journal::Presence;
use crate::outcome::Halt;
use crate::outcome::with_context;
use crate::own_rows::MAX_FOREIGN_ROWS;
use crate::settings::Vars;
use atone_facts::{AuditTable, Stale, TableInfo, Write, audit_tables_of, mirror_of};
use atone_facts::{NUMBERS_PER_READ, NumberedTable};

/// A table that triggers of a statement write.
#[derive(Debug)]
pub(crate) struct TriggerTarget {
    /// What is known of it where they add rows to it. Else they keep its rows equal to those of their own table, and
    /// nothing of it is captured.
    known: Option<AuditTable>,
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
pub(crate) struct TriggerRows(Vec<(Arc<Table>, Vec<Key>)>);

impl Capture<'_> {
    /// The tables that triggers of this one write when it is written.
    pub(crate) async fn trigger_targets(
        &mut self,
        info: &Arc<TableInfo>,
        writes: &[Write],
        vars: &Vars,
    ) -> Result<Vec<TriggerTarget>, Halt> {
        let xid = self.xid();
        let events: Vec<&str> = writes.iter().map(|write| write.event()).collect();
        let mut out = Vec::new();
        for known in audit_tables_of(&info.facts.triggers, &events) {
            let says = |why: &str| {
                let (table, target) = (&info.table, format!("{}.{}", known.schema, known.name));
                let why = format!("a trigger of {}.{} writes {target}: {why}", table.schema, table.name);
                // The server is not asked: it would run the statement
                Halt::stop(SqlError::refused(&xid, &why))
            };
            let name = TableRef::named(Some(known.schema.clone()), known.name.clone());
            let (target, probe) = match self.resolve_name(&name, vars).await? {
                Resolved::Table(target, probe) => (target, probe),
                Resolved::Temporary => return Err(says("a temporary table hides it")),
                Resolved::View(..) => return Err(says("it is a view now")),
                Resolved::Answer(e) => return Err(says(&with_context("it cannot be looked at", &e))),
            };
            self.state.branch.assume(&target, false);
            let (keyed, table) = (key_only(&target.table), target.table.clone());
            if keyed.columns.len() != 1 || keyed.columns.iter().any(|column| column.name != known.column) {
                return Err(says("its key was altered meanwhile"));
            }
            out.push(TriggerTarget {
                known: Some(known.clone()),
                info: target,
                table,
                keyed,
                probe,
                first: 0,
            });
        }
        out.extend(self.mirror_of(info, &events, vars).await?);
        Ok(out)
    }

    /// The table that triggers of this one keep equal to it, where its rows would follow.
    async fn mirror_of(
        &mut self,
        info: &Arc<TableInfo>,
        events: &[&str],
        vars: &Vars,
    ) -> Result<Option<TriggerTarget>, Halt> {
        let Some(mirror) = mirror_of(&info.facts.triggers, events) else { return Ok(None) };
        let xid = self.xid();
        let says = |why: &str| {
            let (table, mirror) = (&info.table, mirror.quoted());
            let why = format!("triggers of {}.{} keep the rows of {mirror}: {why}", table.schema, table.name);
            Halt::stop(SqlError::being_altered(&xid, &why))
        };
        let name = TableRef::named(Some(mirror.schema.clone()), mirror.name.clone());
        let (copy, probe) = match self.resolve_name(&name, vars).await? {
            Resolved::Table(copy, probe) => (copy, probe),
            Resolved::Temporary => return Err(says("a temporary table hides it")),
            Resolved::View(..) => return Err(says("it is a view")),
            Resolved::Answer(e) => return Err(says(&with_context("it cannot be looked at", &e))),
        };
        if let Some(why) = mirror.unfit(info, &copy) {
            return Err(says(&why));
        }
        self.state.branch.assume(&copy, true);
        let (keyed, table) = (key_only(&copy.table), copy.table.clone());
        Ok(Some(TriggerTarget { known: None, info: copy, table, keyed, probe, first: 0 }))
    }

    /// Keeps these tables from being altered until the local transaction ends, and reads their counters.
    pub(crate) async fn probe_targets(
        &mut self,
        targets: &mut [TriggerTarget],
        vars: &Vars,
    ) -> Result<(), Halt> {
        if targets.is_empty() {
            return Ok(());
        }
        let mut flight = Flight::default();
        flight.push("SELECT @@insert_id");
        for target in &*targets {
            // As the rows are read after the statement: whoever may not do that is told before it runs
            let locks = if target.known.is_some() { " FOR UPDATE" } else { "" };
            flight.push(format!("{}{locks}", probe_sql(&target.table)));
        }
        let mut why = None;
        let mut replies = self.try_flight(flight).await?.into_iter();
        match replies.next() {
            Some(Reply::Rows(rows)) if rows.cells(0)?.first() == Some(&Some(b"0".as_slice())) => {}
            Some(Reply::Rows(_)) if targets.iter().any(|target| target.known.is_some()) => {
                why = Some("insert_id is set, and a trigger adds rows to another table".to_owned());
            }
            Some(Reply::Rows(_)) => {}
            Some(Reply::Err(e)) => return Err(Halt::Failed(e)),
            _ => return Err(Halt::broken("a variable without a row")),
        }
        for target in targets {
            match replies.next() {
                Some(Reply::Rows(rows)) if digest(vars, &rows) == target.probe => {}
                Some(Reply::Rows(_)) => {
                    let table = target.table.clone();
                    self.forget_table(&table);
                    return Err(Halt::roll_back("a table that a trigger writes was altered meanwhile"));
                }
                Some(Reply::Err(e)) if matches!(e.code, 1044 | 1142 | 1143) => {
                    let context =
                        format!("the rows that a trigger writes in {} cannot be read", target.table.name);
                    why.get_or_insert(with_context(&context, &e));
                    break;
                }
                Some(Reply::Err(e)) => return Err(Halt::Failed(e)),
                _ => return Err(Halt::broken("the probe of a table has no columns")),
            }
            match self.verify_held(&target.info).await {
                Ok(()) => {}
                Err(Stale::Changed(why)) => return Err(Halt::RolledBack(why)),
                Err(stale) => return Err(self.stale(stale).into()),
            }
            let Some(known) = &target.known else { continue };
            match self.catalog.first_number(known).await {
                Ok(first) => target.first = first,
                Err(e) => {
                    why.get_or_insert(format!("the service account cannot read {}: {e}", target.table.name));
                }
            }
        }
        why.map_or(Ok(()), |why| Err(Halt::stop(why)))
    }

    /// Finds the rows that triggers of a statement after the savepoint have added. Where they cannot be told the
    /// statement is taken back.
    pub(crate) async fn find_trigger_rows(&mut self, targets: &[TriggerTarget]) -> Result<TriggerRows, Halt> {
        let mut trigger_rows = TriggerRows::default();
        let mut count = 0;
        for target in targets {
            let Some(known) = &target.known else { continue };
            let keys = self.rows_of(target, known, count).await.map_err(Halt::after_savepoint)?;
            count += keys.len();
            trigger_rows.0.push((target.table.clone(), keys));
        }
        Ok(trigger_rows)
    }

    /// The keys of the rows that triggers have added to a table. `others` is how many rows of the statement the
    /// branch will have besides.
    async fn rows_of(
        &mut self,
        target: &TriggerTarget,
        known: &AuditTable,
        others: usize,
    ) -> Result<Vec<Key>, Halt> {
        let limit = self.limits.max_branch_rows;
        let (mut keys, mut seen) = (Vec::new(), 0usize);
        let numbered = NumberedTable::new(target.table.quoted(), &known.column);
        let mut next = Some(target.first);
        while let Some(first) = next {
            let page = match self.catalog.uncommitted(&numbered, first, NUMBERS_PER_READ).await {
                Ok(page) => page,
                Err(e) => {
                    return Err(Halt::stop(format!(
                        "the service account cannot read {}: {e}",
                        target.table.name
                    )));
                }
            };
            next = page.next;
            seen += if next.is_some() { NUMBERS_PER_READ } else { 0 };
            if !page.ids.is_empty() {
                let rows = self.own_rows(&target.keyed, 0, &page.ids, 1).await?;
                keys.extend(rows.iter().map(|row| row.key(&target.keyed)));
            }
            if self.state.branch.rows().saturating_add(others + keys.len()) > limit {
                let why = "with the rows that triggers add more than max_branch_rows";
                return Err(Halt::stop(format!("{why} = {limit} rows in one branch")));
            }
            if seen > limit.saturating_add(MAX_FOREIGN_ROWS) {
                let why =
                    "has too many rows beyond its AUTO_INCREMENT counter for those of a trigger to be found";
                return Err(Halt::stop(format!("{} {why}", target.table.name)));
            }
        }
        Ok(keys)
    }

    /// Notes the rows that triggers have added.
    pub(crate) fn touch_trigger_rows(&mut self, trigger_rows: TriggerRows) {
        for (table, keys) in trigger_rows.0 {
            for key in keys {
                self.state.branch.touch(&table, key, None, Presence::Present);
            }
        }
    }
}
