//! Commands of a bound session: what becomes of each statement.

use atone_sql::{DiagnosticRead, Statement};
use atone_wire::caps::status;
use atone_wire::command;
use atone_wire::reply::Expect;
use bytes::Bytes;

use super::Session;
use super::analysed::{Analysed, Origin, Uncaptured};
use super::gate::Harmless;
use atone_capture::diagnostics::Diagnostics;
use atone_capture::error::{End, SqlError};
use atone_capture::flight::{Flight, Reply};
use atone_capture::outcome::Halt;

/// Whether a statement writes rows.
pub(super) fn writes(statement: &Statement) -> bool {
    matches!(statement, Statement::Insert(_) | Statement::Dml(_) | Statement::Joined(_))
}

/// Session variables that [`Vars`](atone_capture::settings::Vars) holds, or that change what it holds.
fn bears_on_vars(name: &str) -> bool {
    name == "names"
        || name.starts_with("character_set")
        || name.starts_with("collation")
        || matches!(
            name,
            "sql_mode"
                | "auto_increment_increment"
                | "auto_increment_offset"
                | "innodb_lock_wait_timeout"
                | "max_allowed_packet"
                | "max_statement_time"
                | "resultset_metadata"
                | "sql_safe_updates"
                | "transaction"
        )
}

impl Session {
    /// A statement of a bound session.
    pub(super) async fn bound_statement(&mut self, statement: Analysed) -> Result<(), End> {
        let opening = self.may_open(&statement);
        let done = self.run_bound(statement).await;
        let Some(opening) = opening else {
            return match done {
                Err(halt) => Box::pin(self.halted(halt)).await,
                Ok(()) => Ok(()),
            };
        };
        self.settle(done).await?;
        self.close_again(opening).await
    }

    async fn run_bound(&mut self, statement: Analysed) -> Result<(), Halt> {
        let Analysed { sql, analysis, origin } = statement;
        self.check_found_rows(&sql)?;
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
            Statement::Execute(execute) => Box::pin(self.execute_named(&sql, execute, origin)).await,
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
        self.note_result(sql);
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
        self.note_read(sql, mode);
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.note_result(sql);
        }
        Ok(self.follow_list(taken).await?)
    }

    async fn bound_set(
        &mut self,
        text: &[u8],
        variables: &[String],
        origin: Origin,
        taken: Option<Diagnostics>,
    ) -> Result<(), Halt> {
        if variables.iter().any(|name| bears_on_vars(name)) {
            self.read_anew();
        }
        let set = self.forward_setting(origin, taken).await?;
        if set && variables == ["transaction"] {
            self.note_set_transaction(text);
        }
        Ok(())
    }

    async fn bound_use(&mut self, origin: Origin, taken: Option<Diagnostics>) -> Result<(), Halt> {
        self.read_anew();
        self.forward_setting(origin, taken).await?;
        Ok(())
    }

    /// A setting has changed, or will have, by which statements are read.
    pub(super) fn read_anew(&mut self) {
        self.state.vars = None;
        self.link.readings += 1;
    }

    /// Runs a statement on a temporary table, of which nothing is captured.
    pub(super) async fn pass_temporary(&mut self, origin: Origin) -> Result<(), End> {
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

    /// Forwards a statement that sets something; whether it could.
    pub(super) async fn forward_setting(
        &mut self,
        origin: Origin,
        taken: Option<Diagnostics>,
    ) -> Result<bool, End> {
        let failed = self.forward(origin, Expect::Results).await?.failed().is_some();
        self.follow_list(taken).await?;
        if self.state.vars.is_none() && self.state.diagnostics.is_none() {
            // Reading them again would replace the diagnostics
            self.capture().keep_warnings_after_answer(if failed { -1 } else { 0 }).await?;
        }
        Ok(!failed)
    }

    /// Sends another statement than the application's, as its own came, and relays the reply.
    pub(super) async fn pass_instead(&mut self, sql: &[u8], origin: &Origin) -> Result<(), Halt> {
        if let Some(payload) = origin.execution() {
            return self.execute_instead(sql, payload).await;
        }
        let mut flight = Flight::default();
        flight.push(sql);
        self.link.send_flight(&flight).await?;
        if let Some(code) = self.relay_reply(Expect::Results).await?.failed() {
            self.capture().after_error(code).await?;
        }
        Ok(())
    }

    /// Any other command of a bound session.
    pub(super) async fn bound_command(&mut self, byte: u8, payload: Bytes) -> Result<(), Halt> {
        if let Some(kind) = Harmless::of(byte) {
            self.forward_harmless(kind, &payload).await?;
            return Ok(self.finish_plain(byte, &payload).await?);
        }
        match byte {
            command::CREATE_DB
            | command::DROP_DB
            | command::REFRESH
            | command::SHUTDOWN
            | command::BINLOG_DUMP
            | command::BINLOG_DUMP_GTID
            | command::TABLE_DUMP
            | command::REGISTER_SLAVE
            | command::CLONE => Err(format!("command 0x{byte:02x} is not captured").into()),
            _ => Err(SqlError::unknown_command().into()),
        }
    }
}
