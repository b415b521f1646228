//! Binding a session to a global transaction, and ending it.

use atone_api::proto::{ErrorCode, Status};
use atone_api::{ClientError, Xid};
use atone_sql::Statement;
use atone_wire::error_code::{
    ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE, ER_XA_RBROLLBACK, ER_XA_RBTIMEOUT, ER_XAER_NOTA, ER_XAER_RMFAIL,
};
use atone_wire::reply::Expect;
use atone_wire::response::OkPacket;

use super::Session;
use super::analysed::{Analysed, Origin};
use super::link::binding::Binding;
use super::rollback::Decision;
use super::unbound::HeldLocks;
use crate::coordinator_error::of_coordinator;
use atone_capture::commit::COMMIT;
use atone_capture::error::{End, SqlError};
use atone_capture::flight::Reply;
use atone_capture::outcome::Halt;
use atone_capture::settings::{WIDE, is_wide, unhex};

/// What a server says of a table that there is not; under table locks it says that the table was not locked.
const NO_SUCH_TABLE: [u16; 2] = [ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE];

impl Session {
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
    pub(super) async fn start_global(
        &mut self,
        name: Option<String>,
        timeout_s: Option<u64>,
    ) -> Result<(), Halt> {
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
    pub(super) async fn join_global(&mut self, xid: &str) -> Result<(), Halt> {
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
    pub(super) async fn bind_to(&mut self, xid: String, origin: Origin) -> Result<(), Halt> {
        self.check_join(&xid).await?;
        if self.forward(origin, Expect::Results).await?.failed().is_none() {
            self.bind(xid, false);
        }
        Ok(())
    }

    /// `SET @atone_xid = NULL`
    pub(super) async fn unbind(&mut self, origin: Origin) -> Result<(), Halt> {
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
    /// behind (Flyway before and after each migration), and do not mean to leave the global transaction.
    pub(super) fn sweeps_variables(&mut self, statement: &Analysed) -> bool {
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
    pub(super) async fn touches_xid(&mut self, origin: Origin, sweeps: bool) -> Result<(), Halt> {
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
    pub(super) async fn bind_by_hint(&mut self, xid: &str) -> Result<(), Halt> {
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

    /// `COMMIT GLOBAL TRANSACTION` and `ROLLBACK GLOBAL TRANSACTION`
    pub(super) async fn end_global(&mut self, commit: bool) -> Result<(), Halt> {
        let Some(binding) = self.link.binding.clone() else {
            return Err(SqlError::ended("", "this session is bound to no global transaction").into());
        };
        let xid = binding.xid;
        if self.in_transaction() || !self.state.branch.is_empty() {
            if commit {
                let committed = self.commit_branch(COMMIT).await;
                if let Err(Halt::Uncommitted(error)) = &committed {
                    // One that has ended says so the next time, too
                    let ended = matches!(
                        error.code,
                        ER_XAER_NOTA | ER_XAER_RMFAIL | ER_XA_RBROLLBACK | ER_XA_RBTIMEOUT
                    );
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
