//! Local transactions of a bound session: what begins one, ends it, and moves within it.

use atone_sql::AutocommitValue;
use atone_wire::error_code::ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION;
use atone_wire::reply::Expect;

use super::Session;
use super::analysed::{Analysed, Origin};
use super::bound::writes;
use atone_capture::error::End;
use atone_capture::fault::{Class, class, ended_a_wait};
use atone_capture::flight::Reply;
use atone_capture::outcome::Halt;

/// A statement for which a local transaction may begin.
#[derive(Debug)]
pub(super) struct Opening {
    text: Vec<u8>,
    /// The settings of the application for that transaction.
    settings: Vec<Vec<u8>>,
}

impl Session {
    /// What to know of a statement that writes, if it is the first one of a local transaction that nothing else begins.
    pub(super) fn may_open(&self, statement: &Analysed) -> Option<Opening> {
        let Analysed { sql, analysis, .. } = statement;
        let open = self.autocommit()
            || self.in_transaction()
            || self.held.is_some()
            || !self.state.branch.is_clean()
            || !self.state.branch.is_untouched();
        (!open && writes(&analysis.statement)).then(|| Opening {
            text: sql.get(..analysis.terminator).unwrap_or(sql).to_vec(),
            settings: self.of_next_transaction(),
        })
    }

    /// After such a statement that failed before the server would have begun a transaction for it: ends the one that
    /// statements of ours have begun.
    pub(super) async fn close_again(&mut self, opening: Opening) -> Result<(), End> {
        let Some(error) = self.link.reply.error.filter(|_| self.link.reply.failed) else { return Ok(()) };
        // What comes before anything else is said before there is a transaction
        let first = error.own || error.code == ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION;
        let ran = match first {
            true => ended_a_wait(error.code),
            false => class(error.code, self.link.mariadb) != Class::Text,
        };
        if ran || !self.in_transaction() || !self.state.branch.is_untouched() {
            return Ok(());
        }
        if self.state.diagnostics.is_none() {
            self.capture().keep_warnings_after_answer(-1).await?;
        }
        // They were used up by the transaction that ends here
        self.set_of_next_transaction(opening.settings);
        self.capture().rollback_local().await?;
        if !first {
            // Which errors come before the server begins a transaction depends on the server, and on the statement
            let explained =
                self.capture().run_theirs([b"EXPLAIN ", opening.text.as_slice()].concat()).await?;
            if matches!(explained, Reply::Err(_)) {
                // Its answer has no status flags
                self.capture().fly_one("DO 0").await?;
            }
        }
        Ok(())
    }

    /// `SET autocommit`
    pub(super) async fn bound_autocommit(
        &mut self,
        text: &[u8],
        value: AutocommitValue,
        origin: Origin,
    ) -> Result<(), Halt> {
        self.read_anew();
        // It commits only where autocommit was off: set on once more it leaves the transaction open
        let ends = value != AutocommitValue::Off && !self.autocommit() && self.in_transaction();
        let commits = ends && !self.state.branch.is_clean();
        if commits && value == AutocommitValue::Unknown {
            let why = "SET autocommit to a value that is not 0 or 1, in a local transaction that has written";
            return Err(Halt::stop(why));
        }
        let done = if commits {
            self.note_end();
            self.commit_with(text).await
        } else if ends && self.reads_have_written().await? {
            Ok(())
        } else {
            self.forward_setting(origin, None).await.map(|_| ()).map_err(Halt::from)
        };
        // What goes before the statement may have read them
        self.state.vars = None;
        done
    }

    /// BEGIN and COMMIT
    pub(super) async fn bound_commit(&mut self, text: &[u8], origin: Origin) -> Result<(), Halt> {
        self.note_end();
        if !self.state.branch.is_clean() {
            return self.commit_with(text).await;
        }
        if self.in_transaction() && self.reads_have_written().await? {
            return Ok(());
        }
        // The next transaction may begin with it, and holds nothing yet
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.state.branch.clear();
        }
        Ok(())
    }

    /// ROLLBACK
    pub(super) async fn bound_rollback(&mut self, origin: Origin) -> Result<(), Halt> {
        self.note_end();
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.state.branch.clear();
        }
        Ok(())
    }

    /// SAVEPOINT
    pub(super) async fn bound_savepoint(&mut self, name: &str, origin: Origin) -> Result<(), Halt> {
        // Under autocommit = 0 it may come before the first statement of its transaction
        let done = self.forward(origin, Expect::Results).await?.failed().is_none();
        if done && (self.in_transaction() || !self.autocommit()) {
            self.state.branch.savepoint(name);
        }
        Ok(())
    }

    /// ROLLBACK TO SAVEPOINT
    pub(super) async fn bound_rollback_to(&mut self, name: &str, origin: Origin) -> Result<(), Halt> {
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.state.branch.rollback_to(name);
        }
        Ok(())
    }

    /// RELEASE SAVEPOINT
    pub(super) async fn bound_release(&mut self, name: &str, origin: Origin) -> Result<(), Halt> {
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.state.branch.release(name);
        }
        Ok(())
    }

    /// Commits the branch by a statement of the application's.
    async fn commit_with(&mut self, text: &[u8]) -> Result<(), Halt> {
        if self.link.mariadb && self.state.diagnostics.is_none() {
            self.capture().keep_warnings(0).await?;
        }
        let ok = self.commit_branch(text).await?;
        Ok(self.send_ok(ok).await?)
    }
}
