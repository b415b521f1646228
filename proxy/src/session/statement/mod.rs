//! A statement that was looked at: what it asks of Atone, and what becomes of it as one of the application's.

mod bound;

use atone_sql::{Statement, XidValue};
use bytes::Bytes;

use super::Session;
use super::analysed::Analysed;
use super::reading::depends_on_mode;
use atone_capture::error::{End, SqlError};
use atone_capture::fault::Progress;
use atone_capture::outcome::Halt;

impl Session {
    /// A statement of a bound session, or one that may concern Atone.
    pub(in crate::session) async fn looked_at_query(&mut self, sql: Bytes) -> Result<(), Halt> {
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

    /// A statement, analyzed, of a bound session or with something for Atone in it.
    pub(in crate::session) async fn looked_at_statement(&mut self, statement: Analysed) -> Result<(), End> {
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
        self.bound_statement(statement).await
    }
}
