//! What has ended with an error of the server's in a statement of ours, and going back: to the savepoint, or to
//! before the local transaction.

use atone_wire::error_code::*;
use atone_wire::response::ErrPacket;

use crate::Capture;
use crate::error::End;
use crate::fault::{Class, Extent, Fault, Progress, class, ended_a_wait, extent};
use crate::flight::{Reply, SAVEPOINT};

/// What `completion_type` does not turn into more than a ROLLBACK.
const ROLLBACK: &[u8] = b"ROLLBACK AND NO CHAIN NO RELEASE";

/// How often a statement of ours is sent that clients kill.
const MAX_TRIES: usize = 20;

impl Capture<'_> {
    /// Finds out what an error has ended, and keeps its diagnostics where others have to run after it.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn fault(&mut self, error: ErrPacket) -> Result<Fault, End> {
        let extent = self.extent_of(error.code).await?;
        Ok(Fault { error, extent })
    }

    async fn extent_of(&mut self, code: u16) -> Result<Extent, End> {
        // What the server had opened may be free again
        self.state.branch.forget_holds();
        let (class, was_open) = (class(code, self.mariadb), self.in_transaction());
        // Known to have ended nothing, so that the server's own list can stay as it is
        let harmless = matches!(
            code,
            ER_NO_DB_ERROR
                | ER_BAD_DB_ERROR
                | ER_BAD_FIELD_ERROR
                | ER_PARSE_ERROR
                | ER_NO_SUCH_TABLE
                | ER_DUP_ENTRY
                | ER_SP_DOES_NOT_EXIST
        );
        let looks = (was_open && !harmless) || self.command.progress.alone;
        if class != Class::Connection && looks && !self.look().await? {
            return Ok(Extent::Connection);
        }
        Ok(extent(class, was_open, self.in_transaction()))
    }

    /// Reads the diagnostics of a statement that failed, and with them whether a local transaction is open. False
    /// where the server does not answer.
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
    pub fn fault_after_answer(&mut self, fault: &Fault) -> Result<(), End> {
        self.state.diagnostics.forget();
        self.ended_after_answer(fault.extent)
    }

    fn ended_after_answer(&mut self, extent: Extent) -> Result<(), End> {
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
        self.ended_after_answer(extent)
    }

    /// Takes back what ran after the savepoint of ours; false where there is none any more.
    pub async fn back_to_savepoint(&mut self) -> Result<bool, End> {
        Ok(matches!(self.fly_one(format!("ROLLBACK TO {SAVEPOINT}")).await?, Reply::Ok(_)))
    }

    /// Takes the current statement back to our savepoint, to be run otherwise or answered; false where the server
    /// does not.
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
