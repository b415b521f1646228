//! What a statement takes its tables to be is so, and stays so until the local transaction ends: made sure of before it
//! runs.
//!
//! A table that a transaction has read is not altered by others before it ends, and no trigger of it comes or goes:
//! that is the server's metadata lock. So the local transaction reads no row of each table first, and what the
//! service account sees of the table then is what the statement meets. It could not be undone after the statement:
//! an engine without transactions keeps its rows.

use std::sync::Arc;

use atone_sql::TableRef;
use futures::future::join;

use crate::Capture;
use crate::binding::tables::{Resolved, UNREAD, digest, probe_sql};
use crate::binding::views::View;
use crate::error::SqlError;
use crate::flight::{Flight, Reply};
use crate::images::MAX_TRIES;
use crate::outcome::Halt;
use atone_facts::{Stale, TableInfo};

/// A table as a statement takes it to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) info: &'a Arc<TableInfo>,
    /// The column definitions that the session has seen.
    pub(crate) probe: &'a [u8],
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The tables are held, and are what the statement takes them to be.
    Held,
    /// One was altered since its metadata was read; nothing was done.
    Altered,
}

/// What a statement's table stands for.
#[derive(Debug)]
pub(crate) enum Reached {
    /// A table, which is held, and the view by which it is named.
    Table { info: Arc<TableInfo>, view: Option<View> },
    /// A temporary table: needs no undo.
    Temporary,
}

impl Capture<'_> {
    /// Finds out what a table's name stands for, and holds it for a statement that writes it. The local transaction
    /// of one that stands alone is begun then.
    pub(crate) async fn reach(&mut self, table: &TableRef) -> Result<Reached, Halt> {
        let vars = self.session_vars().await?;
        for attempt in 1..=MAX_TRIES {
            let (info, probe, view) = match self.resolve(table, &vars).await? {
                Resolved::Table(info, probe) => (info, probe, None),
                Resolved::Temporary => return Ok(Reached::Temporary),
                Resolved::View(schema, name) => {
                    self.check_calls_of_view((schema.clone(), name.clone())).await?;
                    let view = self.resolve_view(schema, name, &vars).await?;
                    (view.info.clone(), view.probe.clone(), Some(view))
                }
                Resolved::Answer(e) => return Err(Halt::Unresolved(e)),
            };
            let last = attempt == MAX_TRIES;
            if self.hold(&[Taken { info: &info, probe: &probe }], view.as_ref(), last).await? == Hold::Held {
                return Ok(Reached::Table { info, view });
            }
        }
        Err(Halt::broken("a table was tried more often than it is"))
    }

    /// Holds the tables of a statement, and the view that it names. Begins the local transaction of one that stands
    /// alone; where there is no other try (`last`), the statement ends instead of being tried again.
    pub(crate) async fn hold(
        &mut self,
        tables: &[Taken<'_>],
        view: Option<&View>,
        last: bool,
    ) -> Result<Hold, Halt> {
        let open: Vec<Taken<'_>> =
            tables.iter().filter(|taken| !self.state.branch.holds(taken.info)).copied().collect();
        let mut same = self.lock(&open, view).await?;
        if same {
            let (verified, undo_logs) = join(self.verify_all(&open), self.ensure_undo_logs(&open)).await;
            for (taken, seen) in &verified {
                match seen {
                    Ok(()) => self.state.branch.hold(taken.info),
                    Err(_) => self.forget_table(&taken.info.table),
                }
            }
            match verified.into_iter().find_map(|(_, seen)| seen.err()).map_or(Ok(()), Err) {
                Ok(()) => {}
                Err(Stale::Changed(_)) => same = false,
                Err(stale) => return Err(self.stale(stale).into()),
            }
            if let Err((schema, error)) = undo_logs {
                return Err(self.no_undo_log(&schema, &error).into());
            }
        }
        if let Some(view) = view.filter(|_| same) {
            same = self.still_is(view).await?;
        }
        if same {
            return Ok(Hold::Held);
        }
        for taken in &open {
            self.state.branch.drop_assumption(taken.info);
        }
        if last {
            return Err(Halt::roll_back("a table of the statement is being altered"));
        }
        if self.is_alone() {
            self.rollback_local().await?;
        }
        Ok(Hold::Altered)
    }

    /// Takes the metadata locks. Whether the session sees the columns that it has seen before.
    async fn lock(&mut self, open: &[Taken<'_>], view: Option<&View>) -> Result<bool, Halt> {
        let vars = self.session_vars().await?;
        let alone = self.stands_alone();
        let mut flight = Flight::default();
        if alone {
            flight.push("START TRANSACTION");
            self.command.progress.alone = true;
        }
        for taken in open {
            flight.push(probe_sql(&taken.info.table));
        }
        if let Some(view) = view {
            flight.push(format!("SELECT * FROM {} LIMIT 0", view.quoted()));
        }
        let mut replies = self.try_flight(flight).await?.into_iter();
        if alone && let Some(Reply::Err(e)) = replies.next() {
            return Err(Halt::Failed(e));
        }
        let mut same = true;
        for taken in open.iter().map(Some).chain(view.map(|_| None)) {
            match (replies.next(), taken) {
                (Some(Reply::Rows(rows)), Some(taken)) if digest(&vars, &rows) != taken.probe => {
                    self.forget_table(&taken.info.table);
                    same = false;
                }
                (Some(Reply::Rows(_)), _) => {}
                (Some(Reply::Err(e)), _) => return Err(Halt::Failed(e)),
                _ => return Err(Halt::broken("the probe of a table has no columns")),
            }
        }
        Ok(same)
    }

    /// Looks at these tables, up to the first that is not what it is taken for.
    async fn verify_all<'t>(&self, tables: &[Taken<'t>]) -> Vec<(Taken<'t>, Result<(), Stale>)> {
        let mut out = Vec::with_capacity(tables.len());
        for taken in tables {
            let seen = self.catalog.verify(taken.info, false).await;
            let ends = seen.is_err();
            out.push((*taken, seen));
            if ends {
                break;
            }
        }
        out
    }

    /// Looks whether a table, whose metadata lock the local transaction has, is what it is taken for.
    pub(crate) async fn verify_held(&mut self, info: &Arc<TableInfo>) -> Result<(), Stale> {
        if self.state.branch.holds(info) {
            return Ok(());
        }
        let seen = self.catalog.verify(info, false).await;
        match &seen {
            Ok(()) => self.state.branch.hold(info),
            Err(_) => self.forget_table(&info.table),
        }
        seen
    }

    /// What the application is told of it.
    pub(crate) fn stale(&self, stale: Stale) -> SqlError {
        match stale {
            Stale::Changed(why) => SqlError::deadlock(&self.xid(), &why),
            Stale::Unread(why) => SqlError::of_service(&self.xid(), UNREAD, &why),
        }
    }
}
