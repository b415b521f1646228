//! How a captured statement ends: what it comes to is one value, and one place answers the client by it, takes back what has
//! run, and ends a local transaction that was begun for the statement.

use atone_wire::Malformed;
use atone_wire::caps::status;
use atone_wire::response::{ErrPacket, OkPacket};

use super::Session;
use super::analysed::Origin;
use super::diagnostics::Diagnostics;
use super::dml::COMMIT;
use super::fault::Progress;
use crate::error::{End, SqlError};

/// A captured statement that has succeeded.
#[derive(Debug)]
pub(super) enum Done {
    /// It has run, and the journal has the rows that it has changed.
    Written(Written),
    /// It writes a temporary table only, and has not run yet: nothing of it is captured.
    Temporary,
}

/// What a statement that has run is answered with.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) ok: OkPacket,
    /// Its diagnostics, where other statements have run since.
    pub(super) diagnostics: Option<Diagnostics>,
}

impl From<Written> for Done {
    fn from(written: Written) -> Done {
        Done::Written(written)
    }
}

impl From<OkPacket> for Done {
    fn from(ok: OkPacket) -> Done {
        Done::Written(Written { ok, diagnostics: None })
    }
}

/// Why a statement is not run, or does not stay.
#[derive(Debug)]
pub(super) enum Reason {
    /// It cannot be undone exactly, in a sentence: 1235.
    Refused(String),
    /// This error says why.
    Error(SqlError),
}

impl Reason {
    /// What the client is told.
    pub(super) fn error(self, xid: &str) -> SqlError {
        match self {
            Reason::Refused(why) => SqlError::refused(xid, &why),
            Reason::Error(error) => error,
        }
    }
}

impl From<String> for Reason {
    fn from(why: String) -> Reason {
        Reason::Refused(why)
    }
}

impl From<&str> for Reason {
    fn from(why: &str) -> Reason {
        Reason::Refused(why.to_owned())
    }
}

impl From<SqlError> for Reason {
    fn from(error: SqlError) -> Reason {
        Reason::Error(error)
    }
}

/// Why a captured statement ends before it is done, and so what has to go with it.
#[derive(Debug)]
pub(super) enum Halt {
    /// Nothing of it has run.
    Stopped(Reason),
    /// The server's error in a look at its tables, or Atone's; nothing of it has run.
    Unresolved(ErrPacket),
    /// The server's error in the statement itself, of which nothing stays.
    Failed(ErrPacket),
    /// The same, where its diagnostics were read before other statements ran.
    FailedBefore(ErrPacket, Option<Diagnostics>),
    /// It has run after the savepoint, to which it is taken back.
    TakenBack(Reason),
    /// It has met what was not imaged, so that the local transaction is rolled back: 1213.
    RolledBack(String),
    /// Its COMMIT has failed with this error. What had to be rolled back is rolled back.
    Uncommitted(ErrPacket),
    /// The connection, or the session, has ended.
    End(End),
}

impl Halt {
    /// Stops a statement of which nothing has run.
    pub(super) fn stop(why: impl Into<Reason>) -> Halt {
        Halt::Stopped(why.into())
    }

    /// Takes a statement back to its savepoint.
    pub(super) fn take_back(why: impl Into<Reason>) -> Halt {
        Halt::TakenBack(why.into())
    }

    /// Rolls the local transaction back.
    pub(super) fn roll_back(why: impl Into<String>) -> Halt {
        Halt::RolledBack(why.into())
    }

    /// Something that must not be.
    pub(super) fn broken(what: impl Into<String>) -> Halt {
        Halt::End(End::Broken(what.into()))
    }

    /// The same halt of a statement that has its savepoint.
    pub(super) fn after_savepoint(self) -> Halt {
        match self {
            Halt::Stopped(why) => Halt::TakenBack(why),
            other => other,
        }
    }
}

impl From<End> for Halt {
    fn from(end: End) -> Halt {
        Halt::End(end)
    }
}

impl From<Malformed> for Halt {
    fn from(malformed: Malformed) -> Halt {
        Halt::End(malformed.into())
    }
}

/// A sentence is a reason to refuse the statement.
impl From<String> for Halt {
    fn from(why: String) -> Halt {
        Halt::stop(why)
    }
}

impl From<SqlError> for Halt {
    fn from(error: SqlError) -> Halt {
        Halt::stop(error)
    }
}

impl Session {
    /// Ends the current statement: answers the client by what it has come to.
    pub(super) async fn conclude(&mut self, outcome: Result<Done, Halt>, origin: Origin) -> Result<(), End> {
        match outcome {
            Ok(Done::Temporary) => self.pass_temporary(origin).await,
            Ok(Done::Written(written)) => self.written(written).await,
            Err(halt) => self.halted(halt).await,
        }
    }

    /// The statement succeeded: where it stands alone its branch commits.
    pub(super) async fn written(&mut self, written: Written) -> Result<(), End> {
        let Written { ok, diagnostics } = written;
        let alone = self.is_alone();
        let mut ok = ok.without_session_state(self.capabilities);
        if self.heard.is_some() && !alone {
            self.keep_of(&ok, i128::from(ok.affected_rows)).await?;
        }
        // What it has changed is in the journal
        self.progress = Progress { alone: self.progress.alone, ..Progress::default() };
        let returned = self.returned.take();
        if alone {
            // After a statement that answers with rows it is -1
            let row_count = returned.as_ref().map_or(i128::from(ok.affected_rows), |_| -1);
            if returned.is_some() && self.diagnostics.is_some() {
                // Kept right after the statement
            } else {
                self.keep_of(&ok, row_count).await?;
            }
            match self.commit_branch(COMMIT).await {
                Ok(_) => {}
                Err(Halt::Uncommitted(error)) => {
                    if self.in_transaction() {
                        self.rollback_local().await?;
                    }
                    return self.halted(Halt::Uncommitted(error)).await;
                }
                Err(halt) => return self.halted(halt).await,
            }
        }
        if let Some(heard) = self.heard.take() {
            ok = ok.with_more_warnings(heard.diagnostics.warning_count, heard.in_info);
        }
        match returned {
            Some(rows) => self.send_rows(&rows, rows.rows.iter().map(|row| row.to_vec())).await?,
            None => {
                ok.status = self.status & !status::SESSION_STATE_CHANGED;
                self.send_ok(ok).await?;
            }
        }
        // A COMMIT has left its own
        if let Some(kept) = diagnostics.filter(|_| !alone || self.diagnostics.is_some()) {
            self.diagnostics = Some(kept);
        }
        Ok(())
    }

    /// Ends a statement that was not done: the one place that answers for it.
    pub(super) async fn halted(&mut self, halt: Halt) -> Result<(), End> {
        match halt {
            Halt::Stopped(Reason::Refused(why)) => {
                self.abandon().await?;
                self.refuse(&why).await
            }
            Halt::Stopped(Reason::Error(error)) => {
                self.abandon().await?;
                self.send_error(&error).await
            }
            Halt::Unresolved(error) => Box::pin(self.look_failed(error)).await,
            Halt::Failed(error) => self.statement_failed(error).await,
            Halt::FailedBefore(error, diagnostics) => {
                self.statement_failed(error).await?;
                self.diagnostics = diagnostics;
                Ok(())
            }
            Halt::TakenBack(why) => self.take_back(why).await,
            Halt::RolledBack(why) => self.roll_back(&why).await,
            Halt::Uncommitted(error) => {
                self.keep_error(&error);
                self.send_err(&error).await
            }
            Halt::End(end) => Err(end),
        }
    }

    /// Whether the local transaction was begun for the current statement, and ends with it.
    pub(super) fn is_alone(&self) -> bool {
        self.progress.alone && !self.in_bulk
    }

    /// Ends a local transaction that was begun for one statement, which has not run.
    async fn abandon(&mut self) -> Result<(), End> {
        if self.is_alone() { self.rollback_local().await } else { Ok(()) }
    }

    /// Takes a statement back to its savepoint. The savepoint itself stays: the next one of that name takes its place.
    async fn take_back(&mut self, why: Reason) -> Result<(), End> {
        let error = why.error(&self.xid());
        if self.is_alone() {
            self.rollback_local().await?;
        } else if !self.back_to_savepoint().await? {
            return self.roll_back(&error.message).await;
        }
        self.progress = Progress::default();
        self.send_error(&error).await
    }

    /// Rolls the local transaction back, in which a statement met what was not imaged.
    async fn roll_back(&mut self, why: &str) -> Result<(), End> {
        self.rollback_local().await?;
        self.send_error(&SqlError::deadlock(&self.xid(), why)).await
    }
}
