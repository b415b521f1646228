//! Commands of a bound session: what becomes of each statement.

use atone_sql::{DiagnosticRead, Statement};
use atone_wire::caps::status;
use atone_wire::reply::Expect;

use crate::session::Session;
use crate::session::analysed::{Analysed, Origin, Uncaptured};
use crate::session::local::writes;
use atone_capture::diagnostics::Diagnostics;
use atone_capture::error::{End, SqlError};
use atone_capture::outcome::Halt;

impl Session {
    /// A statement of a bound session.
    pub(super) async fn bound_statement(&mut self, statement: Analysed) -> Result<(), Halt> {
        let opening = self.may_open(&statement);
        let done = self.run_bound(statement).await;
        let Some(opening) = opening else { return done };
        self.settle(done).await?;
        Ok(self.close_again(opening).await?)
    }

    async fn run_bound(&mut self, statement: Analysed) -> Result<(), Halt> {
        let Analysed { sql, analysis, origin } = statement;
        self.link.check_found_rows(&sql)?;
        self.command.uncounted_warnings = false;
        self.command.earlier = None;
        let taken = self.turn_diagnostics(&analysis.statement).await?;
        if writes(&analysis.statement) && self.link.status & status::IN_TRANS_READONLY != 0 {
            self.forward_uncaptured(origin, Expect::Results, Uncaptured::ReadOnly).await?;
            return Ok(());
        }
        let text = sql.get(..analysis.terminator).unwrap_or(&sql);
        // Those that capture each in a place of its own: together they would be a part of every session
        match &analysis.statement {
            Statement::Diagnostics => self.bound_diagnostics(&sql, origin).await,
            Statement::SelectsDiagnostics { reads } => self.bound_numbers(&sql, reads, origin).await,
            Statement::Empty => self.bound_empty(origin, taken).await,
            Statement::Read => self.bound_read(&sql, origin, taken).await,
            Statement::Set => self.bound_set(text, &analysis.session_variables, origin, taken).await,
            Statement::Use(_) => self.bound_use(origin, taken).await,
            Statement::SetAutocommit(value) => self.bound_autocommit(text, *value, origin).await,
            Statement::Begin { .. } | Statement::Commit { .. } => self.bound_commit(text, origin).await,
            Statement::Rollback { .. } => self.bound_rollback(origin).await,
            Statement::Savepoint(name) => self.bound_savepoint(name, origin).await,
            Statement::RollbackTo(name) => self.bound_rollback_to(name, origin).await,
            Statement::ReleaseSavepoint(name) => self.bound_release(name, origin).await,
            Statement::Prepare(prepare) => {
                Box::pin(self.prepare_named(&sql, prepare, origin)).await?;
                Ok(self.follow_list(taken).await?)
            }
            Statement::Execute(execute) => {
                let running = Box::pin(self.execute_named(&sql, execute, origin)).await?;
                let Some(running) = running else { return Ok(()) };
                let done = Box::pin(self.looked_at_statement(running)).await;
                self.drop_params();
                Ok(done?)
            }
            Statement::Deallocate(name) => {
                self.deallocate_named(name, origin).await?;
                Ok(self.follow_list(taken).await?)
            }
            Statement::Load(load) => {
                let outcome = Box::pin(self.capture().load(&sql, load, &analysis)).await;
                Ok(self.conclude(outcome, origin).await?)
            }
            Statement::Insert(insert) => {
                let outcome = Box::pin(self.capture().insert(&sql, insert, &analysis)).await;
                Ok(self.conclude(outcome, origin).await?)
            }
            Statement::Dml(dml) => {
                let outcome = Box::pin(self.capture().change(&sql, dml, &analysis)).await;
                Ok(self.conclude(outcome, origin).await?)
            }
            Statement::Joined(joined) => {
                let outcome = Box::pin(self.capture().change_joined(&sql, joined, &analysis)).await;
                Ok(self.conclude(outcome, origin).await?)
            }
            other => {
                tracing::debug!(?other, "statement without a handler in a bound session");
                Err(SqlError::refused(&self.xid(), "the statement is not understood").into())
            }
        }
    }

    /// What is kept of the diagnostics of the statement before, as this one leaves it. What is taken of it is for
    /// [`Session::follow_list`], once the statement is answered.
    async fn turn_diagnostics(&mut self, statement: &Statement) -> Result<Option<Diagnostics>, End> {
        match statement {
            Statement::Diagnostics | Statement::SelectsDiagnostics { .. } => {}
            Statement::Empty
            | Statement::Read
            | Statement::Set
            | Statement::Use(_)
            | Statement::Prepare(_)
            | Statement::Deallocate(_) => return self.mark_list().await,
            // What it runs counts
            Statement::Execute(_) => {}
            // MariaDB leaves the list of warnings alone where no table is used
            Statement::SetAutocommit(_)
            | Statement::Begin { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::RollbackTo(_)
            | Statement::ReleaseSavepoint(_)
                if self.link.mariadb =>
            {
                self.state.diagnostics.set_row_count(0);
            }
            _ => self.state.diagnostics.forget(),
        }
        Ok(None)
    }

    /// `SHOW WARNINGS` and its like.
    async fn bound_diagnostics(&mut self, sql: &[u8], origin: Origin) -> Result<(), Halt> {
        if !self.answer_diagnostics(sql, &origin).await? {
            self.forward(origin, Expect::Results).await?;
        }
        Ok(())
    }

    /// A SELECT of the numbers of the diagnostics.
    async fn bound_numbers(
        &mut self,
        sql: &[u8],
        reads: &[DiagnosticRead],
        origin: Origin,
    ) -> Result<(), Halt> {
        self.link.preserved.note_result(sql);
        if !self.select_diagnostics(sql, reads, &origin).await? {
            self.forward(origin, Expect::Results).await?;
        }
        Ok(())
    }

    async fn bound_empty(&mut self, origin: Origin, taken: Option<Diagnostics>) -> Result<(), Halt> {
        self.forward(origin, Expect::Results).await?;
        Ok(self.follow_list(taken).await?)
    }

    async fn bound_read(
        &mut self,
        sql: &[u8],
        origin: Origin,
        taken: Option<Diagnostics>,
    ) -> Result<(), Halt> {
        let mode = self.capture().session_vars().await?.mode;
        self.link.preserved.note_read(sql, mode);
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.link.preserved.note_result(sql);
        }
        Ok(self.follow_list(taken).await?)
    }
}
