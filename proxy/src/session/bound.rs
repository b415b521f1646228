//! Commands of a bound session, other than those that write rows.

use atone_sql::{AutocommitValue, Statement};
use atone_wire::caps::status;
use atone_wire::command;
use atone_wire::error_code::ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION;
use atone_wire::reply::Expect;
use bytes::Bytes;

use super::Session;
use super::analysed::{Analysed, Origin, Uncaptured};
use super::gate::Harmless;
use atone_capture::diagnostics::Diagnostics;
use atone_capture::error::{End, SqlError};
use atone_capture::fault::{Class, class, ended_a_wait};
use atone_capture::flight::{Flight, Reply};

/// A statement for which a local transaction may begin.
#[derive(Debug)]
struct Opening {
    text: Vec<u8>,
    /// The settings of the application for that transaction.
    settings: Vec<Vec<u8>>,
}

/// Whether a statement writes rows.
fn writes(statement: &Statement) -> bool {
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

    /// A statement of a bound session.
    pub(super) async fn bound_statement(&mut self, statement: Analysed) -> Result<(), End> {
        let Some(opening) = self.may_open(&statement) else { return self.run_bound(statement).await };
        match self.run_bound(statement).await {
            Err(End::Fault(fault)) => self.answer_fault(fault).await?,
            done => done?,
        }
        self.close_again(opening).await
    }

    /// What to know of a statement that writes, if it is the first one of a local transaction that nothing else begins.
    fn may_open(&self, statement: &Analysed) -> Option<Opening> {
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

    /// Behind such a statement that failed before the server would have begun a transaction for it: ends the one that statements
    /// of ours have begun.
    async fn close_again(&mut self, opening: Opening) -> Result<(), End> {
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
            self.capture().keep_warnings_behind(-1).await?;
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

    async fn run_bound(&mut self, statement: Analysed) -> Result<(), End> {
        let Analysed { sql, analysis, origin } = statement;
        if let Some(error) = self.asks_lost_rows(&sql) {
            return self.send_error(&error).await;
        }
        self.command.uncounted_warnings = false;
        self.command.heard = None;
        let mut taken = None;
        match &analysis.statement {
            Statement::Diagnostics => {
                if self.answer_diagnostics(&sql, &origin).await? {
                    return Ok(());
                }
                self.forward(origin, Expect::Results).await?;
                return Ok(());
            }
            Statement::SelectsDiagnostics { reads } => {
                self.heard_result(&sql);
                if self.select_diagnostics(&sql, reads, &origin).await? {
                    return Ok(());
                }
                return self.pass(origin).await;
            }
            Statement::Empty
            | Statement::Read
            | Statement::Set
            | Statement::Use(_)
            | Statement::Prepare(_)
            | Statement::Deallocate(_) => taken = self.mark_list().await?,
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
                if let Some(kept) = &mut self.state.diagnostics {
                    kept.row_count = 0;
                }
            }
            _ => self.state.diagnostics = None,
        }
        if writes(&analysis.statement) && self.link.status & status::IN_TRANS_READONLY != 0 {
            self.forward_uncaptured(origin, Expect::Results, Uncaptured::ReadOnly).await?;
            return Ok(());
        }
        match analysis.statement {
            Statement::Empty => {
                self.forward(origin, Expect::Results).await?;
                return self.follow_list(taken).await;
            }
            Statement::Read => {
                let mode = self.capture().session_vars().await?.mode;
                self.heard_read(&sql, mode);
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.heard_result(&sql);
                }
                return self.follow_list(taken).await;
            }
            Statement::Set => {
                if analysis.session_variables.iter().any(|name| bears_on_vars(name)) {
                    self.state.vars = None;
                    self.link.readings += 1;
                }
                let set = self.forward_setting(origin, taken).await?;
                if set && analysis.session_variables == ["transaction"] {
                    self.heard_set_transaction(sql.get(..analysis.terminator).unwrap_or(&sql));
                }
            }
            Statement::Use(_) => {
                self.state.vars = None;
                self.link.readings += 1;
                self.forward_setting(origin, taken).await?;
            }
            Statement::SetAutocommit(value) => {
                self.state.vars = None;
                self.link.readings += 1;
                // It commits only where autocommit was off: set on once more it leaves the transaction open
                let ends = value != AutocommitValue::Off && !self.autocommit() && self.in_transaction();
                let commits = ends && !self.state.branch.is_clean();
                if commits && value == AutocommitValue::Unknown {
                    let why = "SET autocommit to a value that is not 0 or 1, in a local transaction that has written";
                    return self.refuse(why).await;
                }
                let done = if commits {
                    self.heard_end();
                    self.commit_with(&sql, analysis.terminator).await
                } else if ends && self.reads_have_written().await? {
                    Ok(())
                } else {
                    self.forward_setting(origin, None).await.map(|_| ())
                };
                // What goes in front of the statement may have read them
                self.state.vars = None;
                return done;
            }
            Statement::Begin { .. } | Statement::Commit { .. } => {
                self.heard_end();
                if !self.state.branch.is_clean() {
                    return self.commit_with(&sql, analysis.terminator).await;
                }
                if self.in_transaction() && self.reads_have_written().await? {
                    return Ok(());
                }
                // The next transaction may begin with it, and holds nothing yet
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.state.branch.clear();
                }
            }
            Statement::Rollback { .. } => {
                self.heard_end();
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.state.branch.clear();
                }
            }
            Statement::Savepoint(name) => {
                // Under autocommit = 0 it may come before the first statement of its transaction
                let done = self.forward(origin, Expect::Results).await?.failed().is_none();
                if done && (self.in_transaction() || !self.autocommit()) {
                    self.state.branch.savepoint(&name);
                }
            }
            Statement::RollbackTo(name) => {
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.state.branch.rollback_to(&name);
                }
            }
            Statement::ReleaseSavepoint(name) => {
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.state.branch.release(&name);
                }
            }
            // Each in a place of its own: together they would be a part of every session
            Statement::Load(ref load) => {
                let outcome = Box::pin(self.capture().load(&sql, load, &analysis)).await;
                return self.conclude(outcome, origin).await;
            }
            Statement::Prepare(ref prepare) => {
                Box::pin(self.prepare_named(&sql, prepare, origin)).await?;
                return self.follow_list(taken).await;
            }
            Statement::Execute(ref execute) => {
                return Box::pin(self.execute_named(&sql, execute, origin)).await;
            }
            Statement::Deallocate(ref name) => {
                self.deallocate_named(name, origin).await?;
                return self.follow_list(taken).await;
            }
            Statement::Insert(ref insert) => {
                let outcome = Box::pin(self.capture().insert(&sql, insert, &analysis)).await;
                return self.conclude(outcome, origin).await;
            }
            Statement::Dml(ref dml) => {
                let outcome = Box::pin(self.capture().change(&sql, dml, &analysis)).await;
                return self.conclude(outcome, origin).await;
            }
            Statement::Joined(ref joined) => {
                let outcome = Box::pin(self.capture().change_joined(&sql, joined, &analysis)).await;
                return self.conclude(outcome, origin).await;
            }
            other => {
                let error = SqlError::refused(&self.xid(), "the statement is not understood");
                tracing::debug!(?other, "statement without a handler in a bound session");
                return self.send_error(&error).await;
            }
        }
        Ok(())
    }

    /// Forwards a statement that sets something; whether it could.
    async fn forward_setting(&mut self, origin: Origin, taken: Option<Diagnostics>) -> Result<bool, End> {
        let failed = self.forward(origin, Expect::Results).await?.failed().is_some();
        self.follow_list(taken).await?;
        if self.state.vars.is_none() && self.state.diagnostics.is_none() {
            // Reading them again would replace the diagnostics
            self.capture().keep_warnings_behind(if failed { -1 } else { 0 }).await?;
        }
        Ok(!failed)
    }

    /// Forwards a statement that commits nothing of ours.
    async fn pass(&mut self, origin: Origin) -> Result<(), End> {
        self.forward(origin, Expect::Results).await?;
        Ok(())
    }

    /// Sends another statement than the application's, as its own came, and relays the reply.
    pub(super) async fn pass_instead(&mut self, sql: &[u8], origin: &Origin) -> Result<(), End> {
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

    /// Commits the branch by a statement of the application's.
    async fn commit_with(&mut self, sql: &[u8], end: usize) -> Result<(), End> {
        if self.link.mariadb && self.state.diagnostics.is_none() {
            self.capture().keep_warnings(0).await?;
        }
        match self.commit_branch(sql.get(..end).unwrap_or(sql)).await {
            Ok(ok) => self.send_ok(ok).await,
            Err(halt) => self.halted(halt).await,
        }
    }

    /// Any other command of a bound session.
    pub(super) async fn bound_command(&mut self, byte: u8, payload: Bytes) -> Result<(), End> {
        if let Some(kind) = Harmless::of(byte) {
            self.forward_harmless(kind, &payload).await?;
            return self.finish_plain(byte, &payload).await;
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
            | command::CLONE => self.refuse(&format!("command 0x{byte:02x} is not captured")).await,
            _ => self.send_error(&SqlError::unknown_command()).await,
        }
    }
}
