//! Commands of a bound session, other than those that write rows.

use atone_sql::{AutocommitValue, Statement};
use atone_wire::caps::status;
use atone_wire::reply::Expect;
use atone_wire::{command, response::ErrPacket};
use bytes::Bytes;

use super::Session;
use super::analysed::{Analysed, Origin, Uncaptured};
use super::gate::Harmless;
use super::inject::{Flight, Reply};
use crate::error::{End, SqlError};

/// Session variables that [`super::inject::Vars`] holds, or that change what it holds.
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
        match self.run_theirs(origin.text()).await? {
            Reply::Ok(ok) => self.send_ok(ok).await,
            Reply::Err(e) => self.statement_failed(e).await,
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
    }

    /// A statement of a bound session.
    pub(super) async fn bound_statement(&mut self, statement: Analysed) -> Result<(), End> {
        let Analysed { sql, analysis, origin } = statement;
        if let Some(error) = self.asks_lost_rows(&sql) {
            return self.send_error(&error).await;
        }
        self.uncounted_warnings = false;
        self.heard = None;
        match &analysis.statement {
            Statement::Diagnostics => {
                if self.answer_diagnostics(&sql, &origin).await? {
                    return Ok(());
                }
                self.forward(origin, Expect::Results).await?;
                return Ok(());
            }
            Statement::SelectsDiagnostics { reads } => {
                let rewritten = self.with_diagnostics(&sql, reads);
                self.diagnostics = None;
                self.heard_result(&sql);
                return match rewritten {
                    Some(sql) => self.pass_instead(&sql, &origin).await,
                    None => self.pass(origin).await,
                };
            }
            // MariaDB leaves the list of warnings alone where no table is used
            Statement::Begin { .. }
            | Statement::Commit { .. }
            | Statement::Rollback { .. }
            | Statement::Savepoint(_)
            | Statement::RollbackTo(_)
            | Statement::ReleaseSavepoint(_)
                if self.mariadb =>
            {
                if let Some(kept) = &mut self.diagnostics {
                    kept.row_count = 0;
                }
            }
            _ => self.diagnostics = None,
        }
        let writes = matches!(
            analysis.statement,
            Statement::Insert(_) | Statement::Update(_) | Statement::Delete(_) | Statement::Joined(_)
        );
        if writes && self.status & status::IN_TRANS_READONLY != 0 {
            self.forward_uncaptured(origin, Expect::Results, Uncaptured::ReadOnly).await?;
            return Ok(());
        }
        match analysis.statement {
            Statement::Empty => {
                self.forward(origin, Expect::Results).await?;
            }
            Statement::Read => {
                let mode = self.session_vars().await?.mode;
                self.heard_read(&sql, mode);
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.heard_result(&sql);
                }
            }
            Statement::Set => {
                if analysis.session_variables.iter().any(|name| bears_on_vars(name)) {
                    self.vars = None;
                    self.readings += 1;
                }
                let set = self.forward_setting(origin).await?;
                if set && analysis.session_variables == ["transaction"] {
                    self.heard_set_transaction(sql.get(..analysis.terminator).unwrap_or(&sql));
                }
            }
            Statement::Use(_) => {
                self.vars = None;
                self.readings += 1;
                self.forward_setting(origin).await?;
            }
            Statement::SetAutocommit(value) => {
                self.vars = None;
                self.readings += 1;
                // It commits only where autocommit was off: set on once more it leaves the transaction open
                let ends = value != AutocommitValue::Off && !self.autocommit() && self.in_transaction();
                let commits = ends && !self.branch.is_clean();
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
                    self.forward_setting(origin).await.map(|_| ())
                };
                // What goes in front of the statement may have read them
                self.vars = None;
                return done;
            }
            Statement::Begin { .. } | Statement::Commit { .. } => {
                self.heard_end();
                if !self.branch.is_clean() {
                    return self.commit_with(&sql, analysis.terminator).await;
                }
                if self.in_transaction() && self.reads_have_written().await? {
                    return Ok(());
                }
                // The next transaction may begin with it, and holds nothing yet
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.branch.clear();
                }
            }
            Statement::Rollback { .. } => {
                self.heard_end();
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.branch.clear();
                }
            }
            Statement::Savepoint(name) => {
                // Under autocommit = 0 it may come before the first statement of its transaction
                let done = self.forward(origin, Expect::Results).await?.failed().is_none();
                if done && (self.in_transaction() || !self.autocommit()) {
                    self.branch.savepoint(&name);
                }
            }
            Statement::RollbackTo(name) => {
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.branch.rollback_to(&name);
                }
            }
            Statement::ReleaseSavepoint(name) => {
                if self.forward(origin, Expect::Results).await?.failed().is_none() {
                    self.branch.release(&name);
                }
            }
            Statement::Load(ref load) => return self.load(&sql, load, &analysis, origin).await,
            Statement::Prepare(ref prepare) => return self.prepare_named(&sql, prepare, origin).await,
            Statement::Execute(ref execute) => return self.execute_named(&sql, execute, origin).await,
            Statement::Deallocate(ref name) => return self.deallocate_named(name, origin).await,
            Statement::Insert(ref insert) => return self.insert(&sql, insert, &analysis, origin).await,
            Statement::Update(ref update) => {
                return self.change(&sql, super::change::Change::Update(update), &analysis, origin).await;
            }
            Statement::Delete(ref delete) => {
                return self.change(&sql, super::change::Change::Delete(delete), &analysis, origin).await;
            }
            Statement::Joined(ref joined) => {
                return self.change_joined(&sql, joined, &analysis).await;
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
    async fn forward_setting(&mut self, origin: Origin) -> Result<bool, End> {
        let failed = self.forward(origin, Expect::Results).await?.failed().is_some();
        if self.vars.is_none() {
            // Reading them again would replace the diagnostics
            self.keep_warnings_behind(if failed { -1 } else { 0 }).await?;
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
        self.send_flight(&flight).await?;
        if let Some(code) = self.relay_reply(Expect::Results).await?.failed() {
            self.after_error(code).await?;
        }
        Ok(())
    }

    /// Commits the branch by a statement of the application's.
    async fn commit_with(&mut self, sql: &[u8], end: usize) -> Result<(), End> {
        if self.mariadb && self.diagnostics.is_none() {
            self.keep_warnings(0).await?;
        }
        match self.commit_branch(sql.get(..end).unwrap_or(sql)).await? {
            Ok(ok) => self.send_ok(ok).await,
            Err(error) => self.send_err(&error).await,
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

/// The server's error, said to come while Atone wrote its record.
pub(super) fn told(context: &str, error: &ErrPacket) -> String {
    format!("{context}: {} {}", error.code, String::from_utf8_lossy(&error.message))
}
