//! `COM_QUERY`: its query attributes, and its statements one after the other.

use atone_sql::{Mode, NextStatement};
use atone_wire::Malformed;
use atone_wire::attributes::{Attributes, parse_query};
use atone_wire::caps::client;
use atone_wire::execute::Param;
use bytes::Bytes;

use super::Session;
use super::bind::depends_on_mode;
use atone_capture::error::SqlError;
use atone_capture::outcome::{Halt, Reason};

/// The query attribute that binds its statement.
const XID_ATTRIBUTE: &str = "atone_xid";

impl Session {
    /// `COM_QUERY`
    pub(super) async fn query(&mut self, payload: Bytes) -> Result<(), Halt> {
        let (attributes, at) = match parse_query(&payload, self.link.capabilities) {
            Ok(parsed) => parsed,
            // The server says so
            Err(_)
                if self.link.binding.is_none()
                    && !atone_sql::may_concern_atone(&payload)
                    && !names_xid(&payload) =>
            {
                return self.unbound_query(&payload, b"").await;
            }
            Err(_) => return Err(SqlError::malformed_packet().into()),
        };
        let sql = payload.slice(at..);
        let xid = named_xid(&attributes)?;
        // After a statement that a hint has bound its diagnostics may be asked for
        let kept = self.keeps_diagnostics() && !atone_sql::may_have_several_statements(&sql);
        if self.link.binding.is_none() && xid.is_none() && !kept && !atone_sql::may_concern_atone(&sql) {
            return self.unbound_query(&payload, &sql).await;
        }
        self.with_attributes(&attributes, xid);
        let done = self.statements(sql).await;
        self.without_attributes();
        done
    }

    /// From here on the command's query attributes go with each statement to the server.
    pub(super) fn with_attributes(&mut self, attributes: &Attributes, xid: Option<String>) {
        if !attributes.is_empty() {
            self.link.query_prefix = attributes.query_prefix(self.link.capabilities);
        }
        self.link.attribute_xid = xid;
    }

    /// The command is done.
    pub(super) fn without_attributes(&mut self) {
        self.link.query_prefix = Attributes::default().query_prefix(self.link.capabilities);
        self.link.attribute_xid = None;
    }

    /// Each statement of a packet on its own, up to the first that fails.
    async fn statements(&mut self, mut sql: Bytes) -> Result<(), Halt> {
        if !atone_sql::may_have_several_statements(&sql) {
            return self.looked_at_query(sql).await;
        }
        let mode = self.splitting_mode(&sql).await?;
        // What cannot be read is refused as one statement
        let Ok(text) = mode.decode(&sql) else { return self.looked_at_query(sql).await };
        if self.link.binding.is_none()
            && self.link.attribute_xid.is_none()
            && !atone_sql::concerns_atone(&text, mode)
        {
            return self.unbound_statement(&sql).await;
        }
        if self.link.capabilities & client::MULTI_STATEMENTS == 0 {
            // The server leaves out what stands at the end of a packet
            let end = sql.iter().rposition(|b| *b != b';' && !b.is_ascii_whitespace()).map_or(0, |at| at + 1);
            return match next_statement(&sql[..end], mode) {
                None => self.looked_at_query(sql).await,
                Some(_) => self.refuse_several(&sql).await,
            };
        }
        loop {
            // One statement may change how the next one is read
            let mode = self.splitting_mode(&sql).await?;
            let next = next_statement(&sql, mode);
            if next.as_ref().is_some_and(|next| sql[..next.end].trim_ascii().is_empty()) {
                // No statement stands here, and another one follows: the server says so of the packet as a whole
                self.link.reply.more = false;
                return self.refuse_several(&sql).await;
            }
            self.link.reply.more = next.is_some();
            let statement = next.map_or(sql.clone(), |next| sql.slice(..next.end));
            self.command.with_rest = next.as_ref().map(|_| sql.clone());
            let done = self.looked_at_query(statement).await;
            self.command.with_rest = None;
            done?;
            let Some(next) = next.filter(|_| !self.link.reply.failed) else { return Ok(()) };
            self.after_command();
            sql = sql.slice(next.following..);
        }
    }

    /// Of a client that did not ask for several statements in a packet the server refuses them, in its own words:
    /// those that it has when it is asked to prepare them, which runs nothing.
    async fn refuse_several(&mut self, sql: &[u8]) -> Result<(), Halt> {
        Err(match self.capture().error_of(sql).await? {
            Some(error) => Halt::Failed(error),
            None => Halt::stop("several statements from a client without CLIENT_MULTI_STATEMENTS"),
        })
    }

    /// How a packet is cut into statements.
    async fn splitting_mode(&mut self, sql: &[u8]) -> Result<Mode, Halt> {
        if !depends_on_mode(sql) {
            return Ok(self.capture().assumed_mode());
        }
        let vars = self.capture().session_vars().await?;
        match &vars.refuse {
            Some(why) => Err(SqlError::refused(&self.xid(), why).into()),
            None => Ok(vars.mode),
        }
    }
}

/// Where the first statement of a packet ends, and another one follows.
fn next_statement(sql: &[u8], mode: Mode) -> Option<NextStatement> {
    let text = mode.decode(sql).ok()?;
    let next = atone_sql::next_statement(&text, mode)?;
    let length = |end: usize| mode.charset.encode(text.get(..end)?).map(|sql| sql.len());
    Some(NextStatement { end: length(next.end)?, following: length(next.following)? })
}

/// Whether attributes that do not decode could hold [`XID_ATTRIBUTE`].
pub(super) fn names_xid(payload: &[u8]) -> bool {
    let name = XID_ATTRIBUTE.as_bytes();
    payload.windows(name.len()).any(|window| window.eq_ignore_ascii_case(name))
}

/// The XID that the query attribute names; an empty one, or NULL, names none.
pub(super) fn named_xid(attributes: &Attributes) -> Result<Option<String>, Reason> {
    let none = || Reason::from("the query attribute atone_xid is no string");
    match attributes.get(XID_ATTRIBUTE) {
        Ok(None | Some(Param::Null)) => Ok(None),
        Ok(Some(Param::Text(text) | Param::Blob(text))) if text.is_empty() => Ok(None),
        Ok(Some(Param::Text(text) | Param::Blob(text))) => {
            String::from_utf8(text).map(Some).map_err(|_| none())
        }
        Ok(Some(_)) | Err(Malformed(_)) => Err(none()),
    }
}
