//! Binding a session to a global transaction, and ending it.

use std::sync::Arc;

use atone_api::proto::{ErrorCode, Status};
use atone_api::{ClientError, Xid};
use atone_sql::{Mode, Statement, XidValue};
use atone_wire::error_code::{ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE};
use atone_wire::reply::Expect;
use atone_wire::response::OkPacket;
use bytes::Bytes;

use super::Session;
use super::analysed::{Analysed, Origin};
use super::rollback::Decision;
use crate::coordinator_error::of_coordinator;
use crate::session::HeldLocks;
use crate::waits::Bound;
use atone_capture::commit::COMMIT;
use atone_capture::error::{End, SqlError};
use atone_capture::fault::Progress;
use atone_capture::flight::Reply;
use atone_capture::outcome::Halt;
use atone_capture::settings::{WIDE, is_wide, unhex};

/// What a server says of a table that there is not; under table locks it says that the table was not locked.
const NO_SUCH_TABLE: [u16; 2] = [ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE];

/// The global transaction that statements of this session belong to.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) xid: String,
    /// Bound by a hint: ends with the local transaction.
    pub(super) local_only: bool,
    /// A COMMIT GLOBAL TRANSACTION has lost the local transaction that it was to commit first, and none that has
    /// written has been committed since: sent again, it would commit the rest.
    pub(super) lost_local: bool,
    /// So long the session is listed as bound.
    _listed: Arc<Bound>,
}

/// Whether something in the text means different things in different settings of the session.
pub(super) fn depends_on_mode(sql: &[u8]) -> bool {
    sql.iter().any(|b| b"'\"\\`".contains(b))
}

impl Session {
    /// A statement of a bound session, or one that may concern Atone.
    pub(super) async fn looked_at_query(&mut self, sql: Bytes) -> Result<(), Halt> {
        if self.link.binding.is_some() && self.state.vars.is_none() && !depends_on_mode(&sql) {
            // Reading the variables would replace the diagnostics
            let analysed = Analysed::query(sql.clone(), self.capture().assumed_mode());
            let statement = &analysed.analysis.statement;
            if matches!(statement, Statement::Diagnostics | Statement::SelectsDiagnostics { .. }) {
                return Ok(self.looked_at_statement(analysed).await?);
            }
        }
        let mode = self.reading_mode(&sql).await?;
        Ok(self.looked_at_statement(Analysed::query(sql, mode)).await?)
    }

    /// How a statement is read.
    ///
    /// # Errors
    /// It cannot be read under the settings of the bound session. Nothing passes under such ones but what certainly
    /// is no write, and leads out of them.
    pub(super) async fn reading_mode(&mut self, sql: &[u8]) -> Result<Mode, Halt> {
        if self.link.binding.is_none() {
            let mode = self.unbound_mode(sql).await?;
            let unreadable = self.state.vars.as_ref().and_then(|vars| vars.refuse.as_deref());
            return match unreadable {
                // It may ask to be bound where that cannot be read
                Some(why) if !sql.is_ascii() && atone_sql::may_name_xid(sql) => {
                    Err(SqlError::refused("", why).into())
                }
                _ => Ok(mode),
            };
        }
        let vars = self.capture().session_vars().await?;
        let Some(why) = &vars.refuse else { return Ok(vars.mode) };
        let leads_out = matches!(
            atone_sql::analyze(sql, vars.mode).statement,
            Statement::Set
                | Statement::SetXid(_)
                | Statement::CommitGlobal
                | Statement::RollbackGlobal
                | Statement::Rollback { .. }
        );
        let passes = leads_out && sql.is_ascii();
        if passes { Ok(vars.mode) } else { Err(SqlError::refused(&self.xid(), why).into()) }
    }

    /// How a statement of an unbound session is read: as the session's settings say, where it may bind itself, or may
    /// set `@atone_xid` in a text that is another one under other settings.
    pub(super) async fn unbound_mode(&mut self, sql: &[u8]) -> Result<Mode, End> {
        let binds = self.link.attribute_xid.is_some() || atone_sql::may_have_hint(sql);
        let ambiguous = || {
            let quotes = memchr::memchr2(b'"', b'\\', sql).is_some();
            (quotes || !sql.is_ascii()) && atone_sql::may_concern_atone(sql)
        };
        Ok(if binds || ambiguous() {
            self.capture().session_vars().await?.mode
        } else {
            self.capture().assumed_mode()
        })
    }

    /// A statement, analyzed, of a bound session or with something for Atone in it.
    pub(super) async fn looked_at_statement(&mut self, statement: Analysed) -> Result<(), End> {
        self.command.text = self.text_to_ask(&statement);
        let done = match self.run_statement(statement).await {
            // Its own future is large. Boxed, it leaves the future of each statement small
            Err(halt) => Box::pin(self.halted(halt)).await,
            Ok(()) => Ok(()),
        };
        self.command.text = None;
        done
    }

    async fn run_statement(&mut self, statement: Analysed) -> Result<(), Halt> {
        self.command.returned = None;
        self.command.progress = Progress::default();
        let Analysed { sql, analysis, .. } = &statement;
        let bound = self.link.binding.is_some() || self.link.attribute_xid.is_some();
        if analysis.statement.binds()
            && let Some(xid) = &self.link.attribute_xid
        {
            let why = "the statement binds and has the query attribute atone_xid";
            return Err(SqlError::refused(xid, why).into());
        }
        let sweeps = self.sweeps_variables(&statement);
        match &analysis.statement {
            Statement::Refused(refusal) if bound || refusal.for_atone => {
                return Ok(Box::pin(self.refuse_text(refusal)).await?);
            }
            Statement::StartGlobal { name, timeout_s } => {
                return self.start_global(name.clone(), *timeout_s).await;
            }
            Statement::JoinGlobal(XidValue::Literal(xid)) => return self.join_global(xid).await,
            Statement::JoinGlobal(XidValue::Placeholder(_) | XidValue::Null) => {
                let why = "a parameter of START GLOBAL TRANSACTION JOIN outside of a prepared statement";
                return Err(Halt::stop(why));
            }
            Statement::CommitGlobal => return self.end_global(true).await,
            Statement::RollbackGlobal => return self.end_global(false).await,
            Statement::SetXid(XidValue::Literal(xid)) if !xid.is_empty() => {
                return self.bind_to(xid.clone(), statement.origin).await;
            }
            Statement::SetXid(XidValue::Null) if sweeps => {
                return self.touches_xid(statement.origin, true).await;
            }
            Statement::SetXid(XidValue::Literal(_) | XidValue::Null) => {
                return self.unbind(statement.origin).await;
            }
            Statement::SetXid(XidValue::Placeholder(_)) => {
                return Err(Halt::stop("a parameter of SET @atone_xid outside of a prepared statement"));
            }
            Statement::TouchesXid => {
                if self.link.binding.is_some() {
                    self.capture().check_reads(sql, &analysis.statement).await?;
                }
                return self.touches_xid(statement.origin, sweeps).await;
            }
            Statement::Refused(_) if analysis.touches_xid => {
                let why = "@atone_xid is set in a way that is not followed: use SET @atone_xid = '…'";
                return Err(Halt::stop(why));
            }
            _ => {}
        }
        let hint = match (&analysis.xid_hint, self.link.attribute_xid.clone()) {
            (Some(hint), Some(xid)) if hint.xid != xid => {
                let text = "the statement's hint names another XID than its query attribute";
                return Err(SqlError::outside(&xid, text).into());
            }
            (Some(hint), _) => Some(hint.xid.clone()),
            (None, xid) => xid,
        };
        if let Some(xid) = hint
            && self.link.binding.as_ref().is_none_or(|b| b.xid != xid)
        {
            self.bind_by_hint(&xid).await?;
        }
        if self.link.binding.is_none() {
            if self.answer_kept(&statement).await? {
                return Ok(());
            }
            match statement.origin.execution() {
                None => self.unbound_statement(statement.origin.sql()).await?,
                Some(payload) => self.unbound_execute(payload, sql).await?,
            }
            return Ok(());
        }
        let statement = statement.without_hint(self.capture().assumed_mode());
        let Analysed { sql, analysis, .. } = &statement;
        if !matches!(analysis.statement, Statement::Refused(_)) {
            self.capture().check_reads(sql, &analysis.statement).await?;
        }
        Ok(self.bound_statement(statement).await?)
    }

    /// Checks that the session can be bound or unbound now.
    fn check_rebind(&self, wanted: &str) -> Result<(), SqlError> {
        if let Some(binding) = &self.link.binding
            && binding.xid != wanted
            && self.in_transaction()
            && !self.state.branch.is_empty()
        {
            let text = "a local transaction is open that has written in this global transaction: commit it or roll it back first";
            return Err(SqlError::outside(&binding.xid, text));
        }
        if self.link.binding.is_none() && self.in_transaction() && self.wrote_unbound {
            let text = "a local transaction is open that has already written unbound: commit it or roll it back first";
            return Err(SqlError::outside(wanted, text));
        }
        Ok(())
    }

    /// Checks that the session can be bound as it is.
    async fn check_bindable(&mut self, xid: &str) -> Result<(), Halt> {
        self.check_rebind(xid)?;
        if self.link.out_of_step {
            let why = "the server's last reply to the session could not be followed";
            return Err(SqlError::refused(xid, why).into());
        }
        if self.link.binding.is_none() && self.holds_table_locks().await? {
            return Err(SqlError::locked_tables(xid).into());
        }
        let vars = self.capture().session_vars().await?;
        let unreplicated = vars.unreplicated.or_else(|| is_wide(&vars.charset_results).then_some(WIDE));
        match unreplicated {
            Some(why) => Err(SqlError::refused(xid, why).into()),
            None => Ok(()),
        }
    }

    /// Whether the session holds table locks; the server is asked where its statements do not tell.
    async fn holds_table_locks(&mut self) -> Result<bool, End> {
        if self.table_locks == HeldLocks::Unknown {
            let held = match self.capture().try_one("SELECT 1 FROM `atone:locks` LIMIT 0").await? {
                Reply::Err(e) if NO_SUCH_TABLE.contains(&e.code) => HeldLocks::No,
                _ => HeldLocks::Yes,
            };
            self.table_locks = held;
        }
        Ok(self.table_locks == HeldLocks::Yes)
    }

    /// Checks that the session can be bound to this global transaction.
    async fn check_join(&mut self, xid: &str) -> Result<(), Halt> {
        self.check_bindable(xid).await?;
        Ok(self.check_active(xid).await?)
    }

    /// Asks the coordinator whether statements may still run under `xid`.
    async fn check_active(&self, xid: &str) -> Result<(), SqlError> {
        if Xid::new(xid).is_err() {
            return Err(SqlError::unknown_xid(&xid.chars().take(128).collect::<String>()));
        }
        let transaction =
            self.link.backend.coordinator.get(xid).await.map_err(|e| of_coordinator(xid, &e))?;
        match transaction.status() {
            Status::Active => Ok(()),
            Status::RollingBack | Status::RolledBack if transaction.reason == "timeout" => {
                Err(SqlError::timed_out(xid))
            }
            Status::RollingBack | Status::RolledBack => Err(SqlError::rolled_back(xid)),
            // Changes of it are still there, and may stay
            Status::RollbackFailed => Err(SqlError::ended(
                xid,
                "the rollback of the global transaction has stopped (rollback_failed)",
            )),
            _ => Err(SqlError::ended(xid, "the global transaction has ended or is ending")),
        }
    }

    /// `START GLOBAL TRANSACTION`
    async fn start_global(&mut self, name: Option<String>, timeout_s: Option<u64>) -> Result<(), Halt> {
        if let Some(binding) = self.link.binding.clone()
            && self.check_active(&binding.xid).await.is_ok()
        {
            let text = "this session is bound already: end that global transaction or unbind first";
            return Err(SqlError::outside(&binding.xid, text).into());
        }
        self.check_bindable("").await?;
        if timeout_s == Some(0) {
            return Err(SqlError::refused("", "TIMEOUT 0: a timeout is at least one second").into());
        }
        let timeout_ms = timeout_s.unwrap_or(0).saturating_mul(1000);
        let begun = self.link.backend.coordinator.begin(name.as_deref().unwrap_or(""), timeout_ms).await;
        let xid = match begun {
            Ok(transaction) => transaction.xid,
            Err(e) => return Err(of_coordinator("", &e).into()),
        };
        match self.capture().run_one(format!("SET @atone_xid = '{xid}'")).await {
            Ok(Reply::Ok(ok)) => {
                self.bind(xid, false);
                Ok(self.send_ok(ok).await?)
            }
            failed => {
                let _ = self.link.backend.coordinator.rollback(&xid).await;
                failed?;
                Err(Halt::broken("SET answered with rows"))
            }
        }
    }

    /// `START GLOBAL TRANSACTION JOIN '…'`
    async fn join_global(&mut self, xid: &str) -> Result<(), Halt> {
        self.check_join(xid).await?;
        // What is active is a valid XID
        match self.capture().run_one(format!("SET @atone_xid = '{xid}'")).await? {
            Reply::Ok(ok) => {
                self.bind(xid.to_owned(), false);
                Ok(self.send_ok(ok).await?)
            }
            _ => Err(Halt::broken("SET answered with rows")),
        }
    }

    fn bind(&mut self, xid: String, local_only: bool) {
        // While it was not bound, one transaction may have followed the other
        self.state.branch.forget_holds();
        let listed = self.link.backend.list_bound(self.link.server.activity(), &xid);
        self.link.binding = Some(Binding { xid, local_only, lost_local: false, _listed: listed });
        if !local_only {
            self.state.diagnostics.forget();
        }
    }

    /// `SET @atone_xid = '…'`
    async fn bind_to(&mut self, xid: String, origin: Origin) -> Result<(), Halt> {
        self.check_join(&xid).await?;
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.bind(xid, false);
        }
        Ok(())
    }

    /// `SET @atone_xid = NULL`
    async fn unbind(&mut self, origin: Origin) -> Result<(), Halt> {
        // Writes of an unbound local transaction are no reason not to stay unbound
        if self.link.binding.is_some() {
            self.check_rebind("")?;
        }
        let taken = self.mark_list().await?;
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.link.binding = None;
        }
        Ok(self.follow_list(taken).await?)
    }

    /// Notes what a statement of a bound session has to do with the list of user variables. Whether NULL for
    /// `@atone_xid` is one of many then: tools that find the list set each variable in it to NULL, to leave nothing
    /// behind (Flyway before and after each migration). They do not mean to leave the global transaction.
    fn sweeps_variables(&mut self, statement: &Analysed) -> bool {
        let sweeps = self.listed_variables && self.link.binding.as_ref().is_some_and(|b| !b.local_only);
        let ends = matches!(
            statement.analysis.statement,
            Statement::Insert(_)
                | Statement::Dml(_)
                | Statement::Joined(_)
                | Statement::Load(_)
                | Statement::Begin { .. }
                | Statement::Commit { .. }
                | Statement::Rollback { .. }
                | Statement::SetAutocommit(_)
        );
        self.listed_variables = self.link.binding.is_some()
            && ((self.listed_variables && !ends) || atone_sql::may_list_user_variables(&statement.sql));
        sweeps
    }

    /// A statement that sets `@atone_xid` in a way that only the server can work out: the variable is read before and
    /// afterwards, and put back where the session can't be bound to what it says, or where it `sweeps` all variables.
    async fn touches_xid(&mut self, origin: Origin, sweeps: bool) -> Result<(), Halt> {
        let before = self.read_variable().await?;
        let reply = self.capture().run_theirs(origin.text()).await?;
        let Reply::Ok(ok) = reply else {
            let text = "@atone_xid is set in a statement that answers with rows: use SET @atone_xid = '…'";
            if let Reply::Err(error) = reply {
                return Err(Halt::Failed(error));
            }
            self.restore_variable(&before).await?;
            return Err(Halt::stop(text));
        };
        self.state.vars = None;
        let status = self.link.status;
        let now = match self.read_variable().await {
            Ok(now) => now,
            Err(end) => {
                // Not bound to what it says
                self.restore_variable(&before).await?;
                return Err(end.into());
            }
        };
        let now = if now.is_empty() { None } else { Some(now) };
        let checked = match (&now, &self.link.binding) {
            (Some(xid), Some(binding)) if binding.xid == *xid => Ok(()),
            (None, None) => Ok(()),
            (None, Some(_)) if sweeps => {
                self.restore_variable(&before).await?;
                self.state.diagnostics.forget();
                self.link.status = status;
                return Ok(self.send_ok(ok).await?);
            }
            (Some(xid), _) => self.check_join(xid).await,
            (None, _) => self.check_rebind("").map_err(Halt::from),
        };
        if let Err(halt) = checked {
            if !matches!(halt, Halt::End(_)) {
                self.restore_variable(&before).await?;
            }
            return Err(halt);
        }
        match now {
            Some(xid) => self.bind(xid, false),
            None => self.link.binding = None,
        }
        self.state.diagnostics.forget();
        self.link.status = status;
        Ok(self.send_ok(ok).await?)
    }

    async fn read_variable(&mut self) -> Result<String, End> {
        match self.capture().run_one("SELECT HEX(CAST(@atone_xid AS CHAR(1024)))").await? {
            Reply::Rows(rows) => {
                let cells = rows.cells(0)?;
                let hex = cells.first().copied().flatten().unwrap_or_default();
                Ok(String::from_utf8_lossy(&unhex(hex).unwrap_or_default()).into_owned())
            }
            _ => Err(End::Broken("@atone_xid: no rows".into())),
        }
    }

    async fn restore_variable(&mut self, value: &str) -> Result<(), End> {
        let sql = if Xid::new(value).is_ok() {
            format!("SET @atone_xid = '{value}'")
        } else {
            "SET @atone_xid = NULL".to_string()
        };
        match self.capture().run_one(sql).await? {
            Reply::Ok(_) => Ok(()),
            _ => Err(End::Broken("@atone_xid cannot be put back".into())),
        }
    }

    /// A hint binds its statement, and the local transaction that this runs in.
    async fn bind_by_hint(&mut self, xid: &str) -> Result<(), Halt> {
        if let Some(binding) = &self.link.binding
            && !binding.local_only
        {
            let text = "the statement's XID is another than the session's";
            return Err(SqlError::outside(&binding.xid, text).into());
        }
        self.check_join(xid).await?;
        self.bind(xid.to_string(), true);
        let vars = self.capture().session_vars().await?;
        if let Some(why) = &vars.refuse {
            self.link.binding = None;
            return Err(SqlError::refused(xid, why).into());
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

    /// `COMMIT GLOBAL TRANSACTION` and `ROLLBACK GLOBAL TRANSACTION`
    async fn end_global(&mut self, commit: bool) -> Result<(), Halt> {
        let Some(binding) = self.link.binding.clone() else {
            return Err(SqlError::ended("", "this session is bound to no global transaction").into());
        };
        let xid = binding.xid;
        if self.in_transaction() || !self.state.branch.is_empty() {
            if commit {
                let committed = self.commit_branch(COMMIT).await;
                if let Err(Halt::Uncommitted(error)) = &committed {
                    // One that has ended says so the next time, too
                    let ended = matches!(error.code, 1397 | 1399 | 1402 | 1613);
                    let lost = !self.in_transaction() && !ended;
                    if let Some(binding) = &mut self.link.binding {
                        binding.lost_local |= lost;
                    }
                }
                committed?;
            } else {
                self.capture().rollback_local().await?;
            }
        }
        if commit && self.link.binding.as_ref().is_some_and(|binding| binding.lost_local) {
            return Err(SqlError::lost_local(&xid).into());
        }
        let decided = if commit {
            Decision::from(self.link.backend.coordinator.commit(&xid).await)
        } else {
            self.roll_back_global(&xid).await?
        };
        match &decided {
            // The outcome may be decided or not: still bound, so that the application can ask again
            Decision::Failed(ClientError::Unavailable(why)) if commit => {
                return Err(SqlError::outcome_unknown(&xid, why).into());
            }
            Decision::Failed(error @ ClientError::Unavailable(_)) => {
                return Err(of_coordinator(&xid, error).into());
            }
            // Nothing was decided
            Decision::Failed(error @ ClientError::Refused(refusal))
                if refusal.code() == ErrorCode::LimitReached =>
            {
                return Err(of_coordinator(&xid, error).into());
            }
            _ => {}
        }
        self.link.binding = None;
        self.state.diagnostics.forget();
        // It is decided, whatever becomes of this: the variable is for the application to look at
        let mut reply = self.capture().fly_one("SET @atone_xid = NULL").await?;
        if let Reply::Err(_) = reply {
            reply = self.capture().fly_one("SET @atone_xid = NULL").await?;
        }
        match (decided, reply) {
            (Decision::Failed(error), _) => Err(of_coordinator(&xid, &error).into()),
            (Decision::Made(transaction), reply) => {
                let ok = match reply {
                    Reply::Ok(ok) => ok,
                    _ => OkPacket { status: self.link.status, ..OkPacket::default() },
                };
                match commit {
                    true => self.send_ok(ok).await?,
                    false => self.answer_rollback(&transaction, ok).await?,
                }
                Ok(())
            }
        }
    }
}
