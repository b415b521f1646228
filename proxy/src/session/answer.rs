//! How a captured statement is answered: the one place that answers the client by what a statement has come to. It
//! takes back what has run, and ends a local transaction that was begun for the statement.

use atone_sql::Refusal;
use atone_wire::caps::status;
use atone_wire::reply::Expect;
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Bytes;

use super::Session;
use super::analysed::written;
use super::analysed::{Analysed, Origin, Uncaptured, blanked};
use atone_capture::commit::COMMIT;
use atone_capture::diagnostics::Diagnostics;
use atone_capture::error::{End, SqlError};
use atone_capture::fault::{Class, Extent, Fault, Progress, class};
use atone_capture::flight::Reply;
use atone_capture::outcome::{Done, Halt, Reason, Written, with_context};
use atone_wire::error_code::ER_PARSE_ERROR;

impl Session {
    /// Ends the current statement: answers the client by what it has come to.
    pub(super) async fn conclude(&mut self, outcome: Result<Done, Halt>, origin: Origin) -> Result<(), End> {
        match outcome {
            Ok(Done::Temporary) => self.pass_temporary(origin).await,
            Ok(Done::Written(written)) => self.written(written).await,
            Err(halt) => self.halted(halt).await,
        }
    }

    /// Runs a statement on a temporary table, of which nothing is captured.
    async fn pass_temporary(&mut self, origin: Origin) -> Result<(), End> {
        if self.held.is_none() {
            self.forward_uncaptured(origin, Expect::Results, Uncaptured::Temporary).await?;
            return Ok(());
        }
        match self.capture().run_theirs(origin.text()).await? {
            Reply::Ok(ok) => self.send_ok(ok).await,
            Reply::Err(e) => self.statement_failed(e).await,
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
    }

    /// The statement succeeded: where it stands alone its branch commits.
    pub(super) async fn written(&mut self, written: Written) -> Result<(), End> {
        let Written { ok, diagnostics } = written;
        let alone = self.capture().is_alone();
        let mut ok = ok.without_session_state(self.link.capabilities);
        if self.command.earlier.is_some() && !alone {
            self.capture().keep_of(&ok, i128::from(ok.affected_rows)).await?;
        }
        // What it has changed is in the journal
        self.command.progress = Progress { alone: self.command.progress.alone, ..Progress::default() };
        let returned = self.command.returned.take();
        if alone {
            // After a statement that answers with rows it is -1
            let row_count = returned.as_ref().map_or(i128::from(ok.affected_rows), |_| -1);
            if returned.is_some() && self.state.diagnostics.is_some() {
                // Kept right after the statement
            } else {
                self.capture().keep_of(&ok, row_count).await?;
            }
            match self.commit_branch(COMMIT).await {
                Ok(_) => {}
                Err(Halt::Uncommitted(error)) => {
                    if self.in_transaction() {
                        self.capture().rollback_local().await?;
                    }
                    return self.halted(Halt::Uncommitted(error)).await;
                }
                Err(halt) => return self.halted(halt).await,
            }
        }
        if let Some(earlier) = self.command.earlier.take() {
            ok = ok.with_more_warnings(earlier.diagnostics.warning_count, earlier.in_info);
        }
        match returned {
            Some(rows) => self.send_rows(&rows, rows.rows.iter().map(|row| row.to_vec())).await?,
            None => {
                ok.status = self.link.status & !status::SESSION_STATE_CHANGED;
                self.send_ok(ok).await?;
            }
        }
        // A COMMIT has left its own
        if let Some(kept) = diagnostics.filter(|_| !alone || self.state.diagnostics.is_some()) {
            self.state.diagnostics.keep(kept);
        }
        Ok(())
    }

    /// Commits the local transaction by `commit`, a statement that commits, as a branch of the global transaction.
    ///
    /// # Errors
    /// See [`atone_capture::Capture::commit_branch`].
    pub(super) async fn commit_branch(&mut self, commit: &[u8]) -> Result<OkPacket, Halt> {
        let writes = !self.state.branch.is_clean();
        let done = self.capture().commit_branch(commit).await;
        if let (true, Ok(_), Some(binding)) = (writes, &done, &mut self.link.binding) {
            binding.lost_local = false;
        }
        done
    }

    /// Answers what a command has come to, where it was not answered yet.
    ///
    /// # Errors
    /// The connection broke, or ends with the answer.
    pub(super) async fn settle(&mut self, done: Result<(), Halt>) -> Result<(), End> {
        let answered = match done {
            Ok(()) => return Ok(()),
            Err(halt) => Box::pin(self.halted(halt)).await,
        };
        match answered {
            Err(End::Fault(fault)) => Box::pin(self.answer_fault(fault)).await,
            answered => answered,
        }
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
                self.state.diagnostics.restore(diagnostics);
                Ok(())
            }
            Halt::TakenBack(why) => self.take_back(why).await,
            Halt::RolledBack(why) => self.roll_back(&why).await,
            Halt::Uncommitted(error) => {
                self.capture().keep_error(&error);
                self.send_err(&error).await
            }
            Halt::End(end) => Err(end),
        }
    }

    /// Ends a local transaction that was begun for one statement, which has not run.
    async fn abandon(&mut self) -> Result<(), End> {
        if self.capture().is_alone() { self.capture().rollback_local().await } else { Ok(()) }
    }

    /// Takes a statement back to its savepoint. The savepoint itself stays: the next one of that name takes its place.
    async fn take_back(&mut self, why: Reason) -> Result<(), End> {
        let error = why.error(&self.xid());
        if self.capture().is_alone() {
            self.capture().rollback_local().await?;
        } else if !self.capture().back_to_savepoint().await? {
            return self.roll_back(&error.message).await;
        }
        self.command.progress = Progress::default();
        self.send_error(&error).await
    }

    /// Rolls the local transaction back, in which a statement met what was not imaged.
    async fn roll_back(&mut self, why: &str) -> Result<(), End> {
        self.capture().rollback_local().await?;
        self.send_error(&SqlError::deadlock(&self.xid(), why)).await
    }

    /// The statement failed: the server has undone what it did; one that stands alone ends its local transaction.
    pub(super) async fn statement_failed(&mut self, mut error: ErrPacket) -> Result<(), End> {
        if error.code == ER_PARSE_ERROR
            && let Some(own) = Box::pin(self.capture().own_error_of_text()).await?
        {
            // It quotes the statement as it was written, and not as it ran
            error = own;
        }
        let fault = self.capture().fault(error).await?;
        self.answer_fault(fault).await
    }

    /// Answers that a statement is refused; nothing of it has run, or stays.
    pub(super) async fn refuse(&mut self, why: &str) -> Result<(), End> {
        // Rare, and its own future is large. Boxed, it leaves the futures of all who may refuse small
        Box::pin(self.refuse_as(SqlError::refused(&self.xid(), why))).await
    }

    /// Refuses the current statement for its text.
    pub(super) async fn refuse_text(&mut self, refusal: &Refusal) -> Result<(), End> {
        let asks = self.command.text.is_some();
        let own = Box::pin(self.capture().own_error_of_refusal(refusal)).await?;
        let error = SqlError::refused(&self.xid(), &refusal.reason);
        self.refuse_but_for(own, asks, &error).await
    }

    async fn refused_unasked(&mut self, error: &SqlError) -> Result<(), End> {
        // What the server says of what it was asked is nothing that the application has asked for
        self.state.diagnostics.keep(Diagnostics::without_warnings(-1));
        self.send_error(error).await
    }

    /// Refuses the current statement, of which nothing has run, or stays: with the server's error where it would not
    /// run it either.
    pub(super) async fn refuse_as(&mut self, error: SqlError) -> Result<(), End> {
        let asks = self.command.text.is_some();
        let own = Box::pin(self.capture().own_error_of_text()).await?;
        self.refuse_but_for(own, asks, &error).await
    }

    /// Answers with the server's own error, else with ours; `asks`: the server may have been asked.
    async fn refuse_but_for(
        &mut self,
        own: Option<ErrPacket>,
        asks: bool,
        error: &SqlError,
    ) -> Result<(), End> {
        match own {
            Some(own) => self.statement_failed(own).await,
            None if asks => self.refused_unasked(error).await,
            None => self.send_error(error).await,
        }
    }

    /// The same where a look at its tables has ended in an error, the server's or ours.
    pub(super) async fn look_failed(&mut self, error: ErrPacket) -> Result<(), End> {
        let of_text = class(error.code, self.link.mariadb) == Class::Text;
        if !of_text || self.command.text.is_none() {
            return self.statement_failed(error).await;
        }
        let mut kept = Some(Diagnostics::without_warnings(-1));
        if !error.message.starts_with(b"atone:") {
            self.capture().read_warnings(-1).await?;
            kept = self.state.diagnostics.take();
        }
        if let Some(own) = Box::pin(self.capture().own_error_of_text()).await? {
            return self.statement_failed(own).await;
        }
        self.statement_failed(error).await?;
        self.state.diagnostics.restore(kept);
        Ok(())
    }

    /// The text of a statement by which the server can be asked what it has against it.
    pub(super) fn text_to_ask(&self, statement: &Analysed) -> Option<Bytes> {
        let analysis = &statement.analysis;
        // The text of an execution has been prepared
        if analysis.is_of_atone() || statement.origin.execution().is_some() {
            return None;
        }
        let Some(hint) = &analysis.xid_hint else { return Some(statement.origin.sql().clone()) };
        let text = blanked(statement.origin.text(), &hint.span);
        written(&text, self.assumed_mode().charset).map(|sql| sql.into_owned().into())
    }

    /// Ends the current statement with an error of the server's.
    ///
    /// # Errors
    /// The connection broke, or ends with the error.
    pub(super) async fn answer_fault(&mut self, fault: Fault) -> Result<(), End> {
        let Fault { mut error, mut extent } = fault;
        let progress = std::mem::take(&mut self.command.progress);
        self.command.returned = None;
        if extent == Extent::Statement && !progress.alone && progress.wrote {
            let savepoint = progress.savepoint && self.capture().back_to_savepoint().await?;
            if !savepoint {
                // Only with the whole local transaction goes what it has changed
                let xid = self.xid();
                error = SqlError::deadlock(&xid, &with_context("behind the statement", &error)).err();
                extent = Extent::Transaction;
            }
        }
        match extent {
            Extent::Statement if progress.alone => self.capture().rollback_local().await?,
            Extent::Statement => {}
            Extent::Transaction => {
                if self.in_transaction() || progress.wrote {
                    self.capture().rollback_local().await?;
                }
                self.state.branch.clear();
            }
            Extent::Connection => {
                self.state.branch.clear();
                self.send_err(&error).await?;
                return Err(End::Done);
            }
        }
        self.send_err(&error).await
    }

    /// Ends a local transaction that has only read, where what it has read may have written; whether it was ended and
    /// the statement, which commits, answered.
    pub(super) async fn reads_have_written(&mut self) -> Result<bool, End> {
        let Err(error) = self.capture().reads_are_kept().await else { return Ok(false) };
        self.capture().rollback_local().await?;
        self.send_error(&error).await?;
        Ok(true)
    }
}
