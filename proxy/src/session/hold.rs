//! What a statement takes its tables to be is so, and stays so until the local transaction ends: made sure of before it
//! runs.
//!
//! A table that a transaction has read is not altered by others before it ends, and no trigger of it comes or goes: that is
//! the server's metadata lock. So the local transaction reads no row of each table first, and what the service account sees of
//! the table then is what the statement meets. It could not be undone behind the statement: an engine without transactions
//! keeps its rows.

use std::sync::Arc;

use atone_sql::TableRef;

use super::Session;
use super::dml::MAX_TRIES;
use super::inject::{Flight, Reply};
use super::tables::{Resolved, UNREAD, digest, probe_sql};
use super::views::View;
use crate::error::{End, SqlError};
use crate::meta::{Stale, TableInfo};

/// A table as a statement takes it to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken<'a> {
    pub(super) info: &'a Arc<TableInfo>,
    /// The column definitions that the session has seen.
    pub(super) probe: &'a [u8],
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// The tables are held, and are what the statement takes them to be.
    Held,
    /// One was altered since its metadata was read; nothing was done.
    Altered,
    /// The statement was answered.
    Answered,
}

/// What a statement's table stands for.
#[derive(Debug)]
pub(super) enum Reached {
    /// A table, which is held, and the view by which it is named.
    Table { info: Arc<TableInfo>, view: Option<View>, alone: bool },
    /// A temporary table: needs no undo.
    Temporary,
    /// The statement was answered.
    Answered,
}

impl Session {
    /// Finds out what a table's name stands for, and holds it for a statement that writes it. The local transaction of one that
    /// stands alone is begun then.
    pub(super) async fn reach(&mut self, table: &TableRef) -> Result<Reached, End> {
        let vars = self.session_vars().await?;
        for attempt in 1..=MAX_TRIES {
            let (info, probe, view) = match self.resolve(table, &vars).await? {
                Resolved::Table(info, probe) => (info, probe, None),
                Resolved::Temporary => return Ok(Reached::Temporary),
                Resolved::View(schema, name) => {
                    let view = match self.calls_of_view((schema.clone(), name.clone())).await? {
                        None => self.resolve_view(schema, name, &vars).await?,
                        Some(error) => {
                            // The server might call it when it is asked about the statement
                            self.text = None;
                            Err(error)
                        }
                    };
                    match view {
                        Ok(view) => (view.info.clone(), view.probe.clone(), Some(view)),
                        Err(error) => {
                            Box::pin(self.refuse_as(error)).await?;
                            break;
                        }
                    }
                }
                Resolved::Answer(e) => {
                    Box::pin(self.look_failed(e)).await?;
                    break;
                }
            };
            let (alone, last) = (self.stands_alone(), attempt == MAX_TRIES);
            match self.hold(&[Taken { info: &info, probe: &probe }], view.as_ref(), alone, last).await? {
                Hold::Held => return Ok(Reached::Table { info, view, alone }),
                Hold::Altered => {}
                Hold::Answered => break,
            }
        }
        Ok(Reached::Answered)
    }

    /// Holds the tables of a statement, and the view that it names. Begins the local transaction of one that stands `alone`;
    /// where there is no other try (`last`), the statement is answered instead of tried again.
    pub(super) async fn hold(
        &mut self,
        tables: &[Taken<'_>],
        view: Option<&View>,
        alone: bool,
        last: bool,
    ) -> Result<Hold, End> {
        let open: Vec<Taken<'_>> =
            tables.iter().filter(|taken| !self.branch.holds(taken.info)).copied().collect();
        let Some(mut same) = self.lock(&open, view, alone).await? else { return Ok(Hold::Answered) };
        if same {
            let undo_logs = self.ensure_undo_logs(&open);
            let (vouched, undo_logs) = tokio::join!(self.vouch_for_all(&open), undo_logs);
            match vouched {
                Ok(()) => {}
                Err(Stale::Changed(_)) => same = false,
                Err(stale) => {
                    self.refuse_stale(stale, alone).await?;
                    return Ok(Hold::Answered);
                }
            }
            if let Err((schema, error)) = undo_logs {
                self.refuse_with(&self.no_undo_log(&schema, &error), alone).await?;
                return Ok(Hold::Answered);
            }
        }
        if let Some(view) = view.filter(|_| same) {
            same = self.still_is(view).await?;
        }
        if same {
            return Ok(Hold::Held);
        }
        for taken in &open {
            self.branch.unmeet(taken.info);
        }
        if last {
            self.rolled_back("a table of the statement is being altered").await?;
            return Ok(Hold::Answered);
        }
        self.abandon(alone).await?;
        Ok(Hold::Altered)
    }

    /// Takes the metadata locks. Whether the session sees the columns that it has seen before; nothing where the statement was
    /// answered.
    async fn lock(
        &mut self,
        open: &[Taken<'_>],
        view: Option<&View>,
        alone: bool,
    ) -> Result<Option<bool>, End> {
        let vars = self.session_vars().await?;
        let mut flight = Flight::default();
        if alone {
            flight.push("START TRANSACTION");
            self.progress.alone = true;
        }
        for taken in open {
            flight.push(probe_sql(&taken.info.table));
        }
        if let Some(view) = view {
            flight.push(format!("SELECT * FROM {} LIMIT 0", view.quoted()));
        }
        let mut replies = self.try_flight(flight).await?.into_iter();
        if alone && let Some(Reply::Err(e)) = replies.next() {
            self.statement_failed(e).await?;
            return Ok(None);
        }
        let mut same = true;
        for taken in open.iter().map(Some).chain(view.map(|_| None)) {
            match (replies.next(), taken) {
                (Some(Reply::Rows(rows)), Some(taken)) if digest(&vars, &rows) != taken.probe => {
                    self.forget_table(&taken.info.table);
                    same = false;
                }
                (Some(Reply::Rows(_)), _) => {}
                (Some(Reply::Err(e)), _) => {
                    self.statement_failed(e).await?;
                    return Ok(None);
                }
                _ => return Err(End::Broken("the probe of a table has no columns".into())),
            }
        }
        Ok(Some(same))
    }

    async fn vouch_for_all(&mut self, tables: &[Taken<'_>]) -> Result<(), Stale> {
        for taken in tables {
            self.vouch_for(taken.info).await?;
        }
        Ok(())
    }

    /// Looks whether a table, whose metadata lock the local transaction has, is what it is taken for.
    pub(super) async fn vouch_for(&mut self, info: &Arc<TableInfo>) -> Result<(), Stale> {
        if self.branch.holds(info) {
            return Ok(());
        }
        let backend = self.backend.clone();
        let seen = backend.catalog.verify(info, false, self.mariadb).await;
        match &seen {
            Ok(()) => self.branch.hold(info),
            Err(_) => self.forget_table(&info.table),
        }
        seen
    }

    /// Answers a statement that has not run with what is wrong with what was known.
    pub(super) async fn refuse_stale(&mut self, stale: Stale, alone: bool) -> Result<(), End> {
        self.abandon(alone).await?;
        let error = self.stale(stale);
        self.send_error(&error).await
    }

    /// What the application is told of it.
    pub(super) fn stale(&self, stale: Stale) -> SqlError {
        match stale {
            Stale::Changed(why) => SqlError::deadlock(&self.xid(), &why),
            Stale::Unread(why) => SqlError::of_service(&self.xid(), UNREAD, &why),
        }
    }
}
