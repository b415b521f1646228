//! Prepared statements of the binary protocol.

use atone_sql::{Statement as Sql, XidValue};
use atone_wire::caps::client;
use atone_wire::execute::{ExecuteHead, Execution, parse_execution};
use atone_wire::reply::Expect;
use bytes::Bytes;

use super::Session;
use super::analysed::Analysed;
use super::link::own::Carried;
use super::packet::{named_xid, names_xid};
use super::statements::{Reading, Statement};
use atone_capture::error::{End, SqlError};
use atone_capture::odd::odd_kinds;
use atone_capture::outcome::Halt;
use atone_capture::params::substitute;

/// What the server prepares in place of statements that only Atone knows.
const PLACEHOLDER_SQL: &[u8] = b"DO 0";
/// The same of one with a parameter.
const JOINING_SQL: &[u8] = b"SET @atone_xid = ?";

impl Session {
    /// `COM_STMT_PREPARE`
    pub(super) async fn prepare(&mut self, payload: Bytes) -> Result<(), Halt> {
        let sql = payload.slice(1..);
        let limit = self.link.backend.limits.max_prepared_statements;
        if self.prepared.len() >= limit {
            return Err(SqlError::too_many_statements(limit).into());
        }
        let may_concern_atone = atone_sql::may_concern_atone(&sql);
        let mut forwarded = sql.clone();
        if may_concern_atone {
            let mode = self.unbound_mode(&sql).await?;
            let analysed = Analysed::query(sql.clone(), mode);
            match &analysed.analysis.statement {
                Sql::StartGlobal { .. } | Sql::CommitGlobal | Sql::RollbackGlobal => {
                    forwarded = Bytes::from_static(PLACEHOLDER_SQL);
                }
                Sql::JoinGlobal(value) => {
                    let instead = match value {
                        XidValue::Placeholder(_) => JOINING_SQL,
                        XidValue::Literal(_) | XidValue::Null => PLACEHOLDER_SQL,
                    };
                    forwarded = Bytes::from_static(instead);
                }
                Sql::Refused(refusal) if refusal.for_atone => {
                    return Err(SqlError::refused(&self.xid(), &refusal.reason).into());
                }
                _ => forwarded = analysed.without_hint(mode).origin.sql().clone(),
            }
        }
        if self.link.mariadb && self.link.binding.is_some() {
            let mode = self.reading_mode(&forwarded).await?;
            let analysed = Analysed::query(forwarded.clone(), mode);
            Box::pin(self.capture().check_prepare(&analysed.sql, &analysed.analysis.statement)).await?;
        }
        let row_count = self.kept_row_count();
        let taken = self.mark_list().await?;
        self.link.send_prepare(&forwarded).await?;
        let tracker = self.relay_reply(Expect::Prepare).await?;
        if tracker.failed().is_none() {
            self.follow_prepared(row_count, taken).await?;
        }
        if let Some(code) = tracker.failed() {
            self.capture().prepare_failed().await?;
            if self.link.binding.is_some() {
                self.capture().after_error(code).await?;
            }
            self.prepared.none_was_last();
        }
        self.link.own.was_last = false;
        if let Some(prepared) = tracker.prepared() {
            let statement =
                Statement::new(sql, usize::from(prepared.params), may_concern_atone, self.reading());
            self.prepared.insert(prepared.statement_id, statement);
        }
        Ok(())
    }

    /// `COM_STMT_EXECUTE`
    pub(super) async fn execute(&mut self, payload: Bytes) -> Result<(), Halt> {
        let bound = self.link.binding.is_some();
        let id = match ExecuteHead::parse(&payload) {
            Ok(head) => self.statement_id(head.statement_id),
            Err(_) if !bound => return Ok(self.unbound_execute(&payload, b"").await?),
            Err(e) => return Err(SqlError::bad_parameters(&e.to_string()).into()),
        };
        self.drop_stale_data(id).await?;
        let Some(statement) = self.prepared.get_mut(id) else {
            if bound {
                return Err(SqlError::unknown_statement(id, self.link.mariadb).into());
            }
            return Ok(self.unbound_execute(&payload, b"").await?);
        };
        let (long_data, lost) = statement.take_long_data();
        let (params, capabilities) = (statement.params, self.link.capabilities);
        let execution = parse_execution(&payload, params, capabilities, &mut statement.types, |i| {
            long_data.get(&i).cloned()
        });
        let (sql, may_concern_atone) = (statement.sql.clone(), statement.may_concern_atone);
        let reading = statement.reading.clone();
        let named = execution.as_ref().map_or(Ok(None), |execution| named_xid(&execution.attributes));
        let xid = named?;
        let undecoded =
            execution.is_err() && capabilities & client::QUERY_ATTRIBUTES != 0 && names_xid(&payload);
        if !bound && !may_concern_atone && xid.is_none() && !undecoded {
            self.link.check_found_rows(&sql)?;
            if self.keeps_diagnostics() {
                let analysed =
                    Analysed::execution(sql.clone(), self.capture().assumed_mode(), payload.clone());
                if self.answer_kept(&analysed).await? {
                    return Ok(());
                }
            }
            return Ok(self.unbound_execute(&payload, &sql).await?);
        }
        if undecoded {
            return Err(SqlError::malformed_packet().into());
        }
        if let Ok(execution) = &execution {
            self.with_attributes(&execution.attributes, xid);
        }
        let execution = execution.map_err(|e| SqlError::bad_parameters(&e.to_string()));
        let has_long_data = lost || !long_data.is_empty();
        self.link.executed = false;
        let done = self.looked_at_execution(sql, &reading, execution, lost, payload).await;
        if has_long_data
            && !std::mem::take(&mut self.link.executed)
            && let Some(statement) = self.prepared.get_mut(id)
        {
            statement.stale_data = true;
        }
        self.without_attributes();
        done
    }

    /// An execution in a bound session, or one that may concern Atone.
    async fn looked_at_execution(
        &mut self,
        sql: Bytes,
        reading: &Reading,
        execution: Result<Execution, SqlError>,
        long_data_lost: bool,
        payload: Bytes,
    ) -> Result<(), Halt> {
        let mode = self.reading_mode(&sql).await?;
        let analysed = Analysed::execution(sql, mode, payload.clone());
        let (sql, analysis) = (&analysed.sql, &analysed.analysis);
        if self.link.binding.is_some() || analysis.xid_hint.is_some() || self.link.attribute_xid.is_some() {
            self.check_reading(reading, &analysis.statement).await?;
        }
        let written_by_params = matches!(
            analysis.statement,
            Sql::Insert(_)
                | Sql::Dml(_)
                | Sql::Joined(_)
                | Sql::SetXid(_)
                | Sql::JoinGlobal(_)
                | Sql::TouchesXid
        );
        if !written_by_params {
            return Ok(self.looked_at_statement(analysed).await?);
        }
        if analysis.placeholders.is_empty() {
            return Ok(self.answered_in_binary(Analysed::instead(sql.clone(), mode, None)).await?);
        }
        if long_data_lost {
            let why =
                "parameters were sent in pieces before the session was bound, or above max_statement_bytes";
            return Err(Halt::stop(why));
        }
        let Execution { params, raw, attributes } = execution?;
        let text = Bytes::from(substitute(sql, &analysis.placeholders, &params, mode)?);
        let limit = self.link.backend.limits.max_statement_bytes;
        if text.len() > limit {
            return Err(SqlError::too_large(&self.xid(), limit).into());
        }
        if !self.link.mariadb {
            self.command.odd = odd_kinds(analysis, &params);
        }
        self.link.carried = Carried::Execution { params: raw, attributes };
        let done = self.answered_in_binary(Analysed::instead(text, mode, Some(payload))).await;
        self.drop_params();
        Ok(done?)
    }

    /// The text that stands for an execution: rows that it answers with go in the binary protocol.
    pub(super) async fn answered_in_binary(&mut self, statement: Analysed) -> Result<(), End> {
        self.link.binary = true;
        let done = self.looked_at_statement(statement).await;
        self.link.binary = false;
        done
    }
}
