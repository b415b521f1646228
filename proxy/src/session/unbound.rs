//! What a session sends that is not bound: passed on as it came, and noted where it bears on whether it can be bound.

use atone_sql::TableLocks;
use atone_wire::command;
use atone_wire::frame::{HEADER, Header, MAX_PAYLOAD};
use atone_wire::reply::Expect;

use super::Session;
use super::expect::of_execution;
use super::link::gate::Frame;
use atone_capture::error::{End, SqlError};
use atone_capture::outcome::Halt;

/// Length of what stands before the data of `COM_STMT_SEND_LONG_DATA`, in bytes.
const LONG_DATA_HEAD: usize = 7;

/// Length of what stands before the parameters of `COM_STMT_EXECUTE`, in bytes.
const EXECUTE_HEAD: usize = 10;

/// Whether a session holds table locks (LOCK TABLES).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeldLocks {
    No,
    Yes,
    /// A statement may have taken or released some that was not read as far.
    Unknown,
}

impl Session {
    /// Passes a command of an unbound session on while it comes in, and relays the reply.
    pub(super) async fn forward_unlooked(&mut self, byte: u8) -> Result<(), End> {
        if byte == command::STMT_SEND_LONG_DATA {
            self.link.client.fill_to(HEADER + LONG_DATA_HEAD).await.map_err(End::Client)?;
            let head = &self.link.client.rbuf[HEADER..HEADER + LONG_DATA_HEAD];
            if let Some(id) = head.get(1..5).and_then(|id| id.try_into().ok()) {
                let id = u32::from_le_bytes(id);
                self.drop_stale_data(id).await?;
                let id = self.statement_id(id);
                if let Some(statement) = self.prepared.get_mut(id) {
                    statement.lose_long_data();
                }
            }
        }
        let mut head = Vec::new();
        if byte == command::STMT_EXECUTE {
            self.link.client.fill_to(HEADER).await.map_err(End::Client)?;
            let len = Header::peek(&self.link.client.rbuf).map_or(0, |header| header.len.min(EXECUTE_HEAD));
            self.link.client.fill_to(HEADER + len).await.map_err(End::Client)?;
            head.extend_from_slice(&self.link.client.rbuf[HEADER..HEADER + len]);
            if let Some(id) = head.get(1..5).and_then(|id| id.try_into().ok()) {
                self.drop_stale_data(u32::from_le_bytes(id)).await?;
            }
        }
        while self.link.client_frame(Frame::Command).await? == MAX_PAYLOAD {}
        if matches!(byte, command::QUERY | command::STMT_EXECUTE | command::STMT_BULK_EXECUTE) {
            // Not looked at, so it may have done anything
            self.wrote_unbound = true;
            self.table_locks = HeldLocks::Unknown;
            self.unbound_activity();
            self.note_reading(None);
        }
        self.finish_plain(byte, &head).await
    }

    /// Passes a command on whose sequence number is not 0, and what the server says to that until it closes.
    /// A bound session's goes nowhere: under compression a server may run it.
    pub(super) async fn forward_out_of_order(&mut self) -> Result<(), End> {
        if self.link.binding.is_some() {
            self.send_error(&SqlError::out_of_order()).await?;
            return Err(End::Done);
        }
        while self.link.client_frame(Frame::Command).await? == MAX_PAYLOAD {}
        self.relay_until_closed().await
    }

    /// Forwards a query of an unbound session, as it came, and notes whether it may have written.
    pub(super) async fn unbound_query(&mut self, payload: &[u8], sql: &[u8]) -> Result<(), Halt> {
        if !atone_sql::may_have_several_statements(sql) {
            self.link.check_found_rows(sql)?;
        }
        self.link.restore_multi_statements(sql).await?;
        self.link.send_unbound(payload).await?;
        Ok(self.after_unbound_query(sql).await?)
    }

    /// The same of one statement, with the query attributes of the command that it came in.
    pub(super) async fn unbound_statement(&mut self, sql: &[u8]) -> Result<(), Halt> {
        self.link.check_found_rows(sql)?;
        let taken = self.mark_unbound_list().await?;
        self.link.restore_multi_statements(sql).await?;
        self.link.send_unbound_statement(sql).await?;
        self.after_unbound_query(sql).await?;
        Ok(self.follow_list(taken).await?)
    }

    async fn after_unbound_query(&mut self, sql: &[u8]) -> Result<(), End> {
        self.unbound_activity();
        self.note_reading(Some(sql));
        let failed = self.relay_reply(Expect::Results).await?.failed().is_some();
        if !failed {
            self.link.preserved.note_result(sql);
        }
        self.note_unbound(sql, failed);
        Ok(())
    }

    /// An execution in an unbound session.
    pub(super) async fn unbound_execute(&mut self, payload: &[u8], sql: &[u8]) -> Result<(), End> {
        let taken = self.mark_unbound_list().await?;
        self.link.send_unbound(payload).await?;
        self.unbound_activity();
        self.note_reading(Some(sql));
        let bulk = payload.first() == Some(&command::STMT_BULK_EXECUTE);
        let expect = if bulk { Expect::Results } else { of_execution(payload) };
        let failed = self.relay_reply(expect).await?.failed().is_some();
        if !failed {
            self.link.preserved.note_result(sql);
        }
        self.note_unbound(sql, failed);
        self.follow_list(taken).await
    }

    /// Notes what a statement of an unbound session has done that bears on whether it can be bound.
    fn note_unbound(&mut self, sql: &[u8], failed: bool) {
        self.note_unbound_write(sql);
        let mode = self.capture().assumed_mode();
        match (atone_sql::table_locks(&mode.charset.decode_value(sql), mode), failed) {
            (Some(TableLocks::Taken), false) => self.table_locks = HeldLocks::Yes,
            (Some(TableLocks::Released), false) => self.table_locks = HeldLocks::No,
            // Of several statements the first ones may have run
            (Some(_), _) => self.table_locks = HeldLocks::Unknown,
            (None, _) => {}
        }
    }

    fn note_unbound_write(&mut self, sql: &[u8]) {
        if self.in_transaction() && !self.wrote_unbound {
            let mode = self.capture().assumed_mode();
            self.wrote_unbound = atone_sql::may_write(&mode.charset.decode_value(sql), mode);
        }
    }

    /// Something ran unbound that may have changed what we know of the session.
    fn unbound_activity(&mut self) {
        self.state.vars = None;
        self.state.tables.clear();
        self.state.undo_logs.clear();
        self.state.diagnostics.forget();
    }
}
