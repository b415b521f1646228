//! What an error of the server's in a statement of the proxy's own means: for the local transaction, for the statement that it
//! served, for the connection. Decided here and nowhere else.
//!
//! Such an error unwinds as [`End::Fault`] up to the command that met it, past everything that would have followed: nothing is
//! read again, taken for something else, or run behind it. Only errors of a statement's text come back to who asked for them,
//! since they cannot have ended anything.

use atone_wire::response::ErrPacket;

use crate::Capture;
use crate::error::{End, SqlError};
use crate::flight::Reply;
use crate::outcome::told;

/// The savepoint to which a statement is taken back.
pub(crate) const SAVEPOINT: &str = "`atone:insert`";

/// What `completion_type` does not turn into more than a ROLLBACK.
const ROLLBACK: &[u8] = b"ROLLBACK AND NO CHAIN NO RELEASE";

/// How much has ended with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The statement only.
    Statement,
    /// The local transaction: the server has rolled it back.
    Transaction,
    /// The connection: what is open on it is rolled back with it.
    Connection,
}

/// An error of the server's in a statement of the proxy's own, and how much has ended with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the server said.
    pub error: ErrPacket,
    /// What has ended.
    pub extent: Extent,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.error.code, String::from_utf8_lossy(&self.error.message))
    }
}

/// What an error's code says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Something is wrong with the statement's text, or with what its user may do. Nothing has ended but the statement, which
    /// has done nothing.
    Text,
    /// The local transaction has ended.
    Transaction,
    /// The connection ends.
    Connection,
    /// It may have ended the local transaction: the server's status flags tell.
    Asks,
}

/// What an error's code says by itself.
pub fn class(code: u16, mariadb: bool) -> Class {
    match code {
        // Deadlock; the lock table is full; XA: rolled back
        1206 | 1213 | 1613 | 1614 => Class::Transaction,
        // Changed since the snapshot was taken, under innodb_snapshot_isolation; MySQL means a row of another engine
        1020 if mariadb => Class::Transaction,
        // Shutdown, KILL, aborted or broken connections, disconnected for inactivity
        1053 | 1077..=1080 | 1152 | 1158..=1161 | 1184 | 1927 | 2006 | 2013 | 2055 | 3169 | 4031 => {
            Class::Connection
        }
        // Rights
        1044 | 1045 | 1142 | 1143 | 1227 | 1345 | 1356 | 1370 => Class::Text,
        // Names
        1046 | 1049 | 1051 | 1052 | 1054 | 1060 | 1066 | 1072 | 1100 | 1109 | 1115 | 1146 | 1193 | 1273
        | 1305 => Class::Text,
        // Syntax, and what is not allowed where it stands
        1064 | 1065 | 1093 | 1110 | 1111 | 1136 | 1140 | 1221 | 1222 | 1235 | 1239..=1242 | 1247 | 1248 => {
            Class::Text
        }
        // Types, collations, values that do not compare or convert
        4078 | 4079 if mariadb => Class::Text,
        1210 | 1253 | 1260 | 1264 | 1267 | 1270 | 1271 | 1292 | 1300 | 1365 | 1366 | 1367 | 1411 | 1525
        | 1582 | 1583 | 1690 => Class::Text,
        3037 | 3140 | 3141 | 3143 | 3144 | 3685 | 3854 | 3988 => Class::Text,
        _ => Class::Asks,
    }
}

/// What has ended with an error of this class, by whether a local transaction was open before and is open now.
pub fn extent(class: Class, was_open: bool, is_open: bool) -> Extent {
    match class {
        Class::Text => Extent::Statement,
        Class::Connection => Extent::Connection,
        Class::Transaction => Extent::Transaction,
        Class::Asks if was_open && !is_open => Extent::Transaction,
        Class::Asks => Extent::Statement,
    }
}

/// Whether an error says of itself that only a wait has ended, or the time for it: what was waited for can be asked for again.
pub fn ended_a_wait(code: u16) -> bool {
    matches!(code, 1205 | 1317 | 1969 | 3024 | 3572)
}

/// How often a statement of ours is sent that clients kill.
const MAX_TRIES: usize = 20;

/// Whether a client takes the local transaction to be still open behind this error, and runs only the statement again.
fn implies_open(code: u16) -> bool {
    matches!(code, 1205 | 3572)
}

/// How far the application's current statement has got.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// The local transaction was begun for it.
    pub alone: bool,
    /// It has run, and what it has changed is not in the journal yet.
    pub wrote: bool,
    /// It has run behind the savepoint of ours.
    pub savepoint: bool,
}

impl Capture<'_> {
    /// Finds out what an error has ended, and keeps its diagnostics where others have to run behind it.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn fault(&mut self, error: ErrPacket) -> Result<Fault, End> {
        let extent = self.extent_of(error.code).await?;
        Ok(Fault { error, extent })
    }

    async fn extent_of(&mut self, code: u16) -> Result<Extent, End> {
        // What the server had opened may be free again
        self.state.branch.lets_go();
        let (class, was_open) = (class(code, self.mariadb), self.in_transaction());
        // Known to have ended nothing, so that the server's own list can stay as it is
        let harmless = matches!(code, 1046 | 1049 | 1054 | 1064 | 1146 | 1062 | 1305);
        let looks = (was_open && !harmless) || self.command.progress.alone;
        if class != Class::Connection && looks && !self.look().await? {
            return Ok(Extent::Connection);
        }
        Ok(extent(class, was_open, self.in_transaction()))
    }

    /// Reads the diagnostics of a statement that failed, and with them whether a local transaction is open. False where the
    /// server does not answer.
    async fn look(&mut self) -> Result<bool, End> {
        if self.read_warnings(-1).await?.is_none() {
            return Ok(true);
        }
        self.state.diagnostics.forget();
        for _ in 0..MAX_TRIES {
            match self.fly_one("DO 0").await? {
                Reply::Ok(_) => return Ok(true),
                // A KILL QUERY may hit it as well
                Reply::Err(e) if ended_a_wait(e.code) => {}
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// After an answer, which no error can follow: what has ended with this one in a statement of ours.
    ///
    /// # Errors
    /// The connection has ended with it.
    pub fn fault_behind(&mut self, fault: &Fault) -> Result<(), End> {
        self.state.diagnostics.forget();
        self.ended_behind(fault.extent)
    }

    fn ended_behind(&mut self, extent: Extent) -> Result<(), End> {
        match extent {
            Extent::Statement => Ok(()),
            Extent::Transaction => {
                self.state.branch.clear();
                Ok(())
            }
            Extent::Connection => Err(End::Done),
        }
    }

    /// After an error that the client has already: whether the server has ended the local transaction with it.
    ///
    /// # Errors
    /// The connection has ended with it.
    pub async fn after_error(&mut self, code: u16) -> Result<(), End> {
        let extent = self.extent_of(code).await?;
        self.ended_behind(extent)
    }

    /// Takes back what ran behind the savepoint of ours; false where there is none any more.
    pub async fn back_to_savepoint(&mut self) -> Result<bool, End> {
        Ok(matches!(self.fly_one(format!("ROLLBACK TO {SAVEPOINT}")).await?, Reply::Ok(_)))
    }

    /// Takes the current statement back to our savepoint, to be run otherwise or answered; false where the server does not.
    pub(crate) async fn statement_taken_back(&mut self) -> Result<bool, End> {
        let done = self.back_to_savepoint().await?;
        if done {
            self.command.progress = Progress { alone: self.command.progress.alone, ..Progress::default() };
        }
        Ok(done)
    }

    /// Rolls the local transaction back.
    pub async fn rollback_local(&mut self) -> Result<(), End> {
        self.command.progress = Progress::default();
        for tries in 1..=MAX_TRIES {
            match self.fly_one(ROLLBACK).await? {
                Reply::Ok(_) => {
                    self.state.branch.clear();
                    return Ok(());
                }
                // A KILL QUERY may hit it, and the next one again
                Reply::Err(e) if tries == 1 || ended_a_wait(e.code) => {}
                _ => break,
            }
        }
        Err(End::Broken("the server refuses ROLLBACK".into()))
    }
}

/// The error for a client whose whole local transaction was rolled back by us behind this one. `alone`: it was that of one
/// statement, of which nothing stays with any error.
pub(crate) fn of_rolled_back(error: ErrPacket, xid: &str, alone: bool) -> ErrPacket {
    if !implies_open(error.code) && (alone || !ended_a_wait(error.code)) {
        return error;
    }
    SqlError::deadlock(xid, &told("the undo record cannot be written", &error)).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_what_a_code_does_not() {
        // innodb_rollback_on_timeout
        for code in [1205, 1317, 1969, 3024, 3572, 1290, 1836, 1104, 1153, 1301, 1040, 1180, 9999] {
            assert_eq!(extent(class(code, true), true, true), Extent::Statement, "{code}");
            assert_eq!(extent(class(code, true), true, false), Extent::Transaction, "{code}");
            assert_eq!(extent(class(code, true), false, false), Extent::Statement, "{code}");
        }
    }

    #[test]
    fn some_codes_tell_by_themselves() {
        for code in [1213, 1020, 1614] {
            assert_eq!(extent(class(code, true), true, true), Extent::Transaction, "{code}");
        }
        assert_eq!(class(1020, false), Class::Asks, "MySQL's is of another engine");
        for code in [1053, 1927, 2013, 3169, 4031] {
            assert_eq!(extent(class(code, false), true, true), Extent::Connection, "{code}");
        }
        for code in [1142, 1146, 1054, 1064, 1267, 1525] {
            assert_eq!(class(code, false), Class::Text, "{code}");
        }
    }

    #[test]
    fn a_client_that_was_rolled_back_does_not_run_one_statement_again() {
        let error = |code| ErrPacket { code, sql_state: *b"HY000", message: Vec::new() };
        for code in [1205, 1317, 1969, 3024, 3572] {
            assert_eq!(
                of_rolled_back(error(code), "x", false).code,
                1213,
                "{code} may be a wait to be repeated"
            );
        }
        assert_eq!(of_rolled_back(error(1205), "x", true).code, 1213);
        assert_eq!(of_rolled_back(error(1317), "x", true).code, 1317);
        assert_eq!(of_rolled_back(error(1290), "x", false).code, 1290);
    }
}
