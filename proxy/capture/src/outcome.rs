//! How a captured statement ends: what it comes to is one value. By it, one place answers the client, takes back what
//! has run, and ends a local transaction that was begun for the statement.

use atone_wire::Malformed;
use atone_wire::response::{ErrPacket, OkPacket};

use crate::diagnostics::Diagnostics;
use crate::error::{End, SqlError};
use crate::flight::{Reply, Rows};

/// A captured statement that has succeeded.
#[derive(Debug)]
pub enum Done {
    /// It has run, and the journal has the rows that it has changed.
    Written(Written),
    /// It writes a temporary table only, and has not run yet: nothing of it is captured.
    Temporary,
}

/// What a statement that has run is answered with.
#[derive(Debug)]
pub struct Written {
    /// Its OK packet.
    pub ok: OkPacket,
    /// Its diagnostics, where other statements have run since.
    pub diagnostics: Option<Diagnostics>,
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
pub enum Reason {
    /// It cannot be undone exactly, in a sentence: 1235.
    Refused(String),
    /// This error says why.
    Error(SqlError),
}

impl Reason {
    /// What the client is told.
    pub fn error(self, xid: &str) -> SqlError {
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
pub enum Halt {
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
    pub fn stop(why: impl Into<Reason>) -> Halt {
        Halt::Stopped(why.into())
    }

    /// Takes a statement back to its savepoint.
    pub fn take_back(why: impl Into<Reason>) -> Halt {
        Halt::TakenBack(why.into())
    }

    /// Rolls the local transaction back.
    pub fn roll_back(why: impl Into<String>) -> Halt {
        Halt::RolledBack(why.into())
    }

    /// Something that must not be.
    pub fn broken(what: impl Into<String>) -> Halt {
        Halt::End(End::Broken(what.into()))
    }

    /// The same halt of a statement that has its savepoint.
    pub fn after_savepoint(self) -> Halt {
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

impl From<Reason> for Halt {
    fn from(why: Reason) -> Halt {
        Halt::Stopped(why)
    }
}

impl From<SqlError> for Halt {
    fn from(error: SqlError) -> Halt {
        Halt::stop(error)
    }
}

impl Reply {
    /// The OK of a statement that writes. An error is the statement's own.
    ///
    /// # Errors
    /// [`Halt::Failed`], or rows, which no such statement answers with.
    pub(crate) fn written(self) -> Result<OkPacket, Halt> {
        match self {
            Reply::Ok(ok) => Ok(ok),
            Reply::Err(e) => Err(Halt::Failed(e)),
            Reply::Rows(_) | Reply::TooLarge => {
                Err(Halt::broken("a statement that writes answered with rows"))
            }
        }
    }

    /// The rows of a query of ours, all of whose errors are dealt with.
    ///
    /// # Errors
    /// It was answered otherwise.
    pub(crate) fn rows(self, what: &str) -> Result<Rows, End> {
        match self {
            Reply::Rows(rows) => Ok(rows),
            _ => Err(End::Broken(format!("{what}: not answered with rows"))),
        }
    }
}

/// The last reply of a flight.
///
/// # Errors
/// There is none.
pub(crate) fn last(mut replies: Vec<Reply>) -> Result<Reply, End> {
    replies.pop().ok_or_else(|| End::Broken("a statement without a reply".into()))
}

/// The server's error, said to come while Atone did something.
pub fn with_context(context: &str, error: &ErrPacket) -> String {
    format!("{context}: {} {}", error.code, String::from_utf8_lossy(&error.message))
}
