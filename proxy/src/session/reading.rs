//! How the text of statements is read: under which settings, and whether those were others when it was prepared.

use atone_sql::{Mode, Statement};

use super::Session;
use super::statements::Reading;
use atone_capture::error::{End, SqlError};
use atone_capture::outcome::Halt;

/// Whether something in the text means different things in different settings of the session.
pub(super) fn depends_on_mode(sql: &[u8]) -> bool {
    sql.iter().any(|b| b"'\"\\`".contains(b))
}

impl Session {
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

    /// How a packet is cut into statements.
    pub(super) async fn splitting_mode(&mut self, sql: &[u8]) -> Result<Mode, Halt> {
        if !depends_on_mode(sql) {
            return Ok(self.capture().assumed_mode());
        }
        let vars = self.capture().session_vars().await?;
        match &vars.refuse {
            Some(why) => Err(SqlError::refused(&self.xid(), why).into()),
            None => Ok(vars.mode),
        }
    }

    /// How a statement's text is read now.
    pub(super) fn reading(&self) -> Reading {
        Reading { count: self.link.readings, vars: self.state.vars.clone() }
    }

    /// Checks that a prepared statement can be captured by its text.
    ///
    /// # Errors
    /// It may mean another table now, or be another text.
    pub(super) async fn check_reading(
        &mut self,
        reading: &Reading,
        statement: &Statement,
    ) -> Result<(), Halt> {
        let indifferent = matches!(
            statement,
            Statement::StartGlobal { .. }
                | Statement::JoinGlobal(_)
                | Statement::CommitGlobal
                | Statement::RollbackGlobal
                | Statement::SetXid(_)
                | Statement::Begin { .. }
                | Statement::Commit { .. }
                | Statement::Rollback { .. }
        );
        if reading.count == self.link.readings || indifferent {
            return Ok(());
        }
        let now = self.capture().session_vars().await?;
        if reading.vars.as_ref().is_some_and(|then| then.reads_as(&now)) {
            return Ok(());
        }
        let why = "it was prepared when another schema, sql_mode or charset may have held: prepare it again";
        Err(SqlError::refused(&self.xid(), why).into())
    }

    /// Something that ran unbound may have changed how statements prepared before it are read; so it does where it is
    /// not known.
    pub(super) fn note_reading(&mut self, sql: Option<&[u8]>) {
        if self.prepared.is_empty() && self.link.own.is_empty() {
            return;
        }
        if sql.is_none_or(atone_sql::may_change_parsing) {
            self.link.readings += 1;
        }
        if sql.is_none_or(atone_sql::may_prepare) {
            self.prepared.named.clear();
        }
    }

    /// A setting has changed, or will have, by which statements are read.
    pub(super) fn read_anew(&mut self) {
        self.state.vars = None;
        self.link.readings += 1;
    }
}
