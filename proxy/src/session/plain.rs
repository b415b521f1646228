//! Commands that hold no statement.

use atone_wire::caps;
use atone_wire::command;
use atone_wire::reply::Expect;
use bytes::Bytes;

use super::Session;
use super::expect::{expected, of_execution};
use super::link::gate::{Harmless, OwnCommand};
use atone_capture::error::{End, SqlError};
use atone_capture::flight::Reply;
use atone_capture::outcome::Halt;

impl Session {
    /// Any other command of a bound session.
    pub(super) async fn bound_command(&mut self, byte: u8, payload: Bytes) -> Result<(), Halt> {
        if let Some(kind) = Harmless::of(byte) {
            self.link.send_harmless(kind, &payload).await?;
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

    /// Relays the reply to a command that was forwarded as it came, and notes what it changed.
    pub(super) async fn finish_plain(&mut self, byte: u8, payload: &[u8]) -> Result<(), End> {
        match byte {
            // The server closes; the client is gone or waits for that
            command::QUIT => return self.relay_until_closed().await,
            command::STMT_CLOSE => {
                let Some(id) = payload.get(1..5).and_then(|b| b.try_into().ok()) else {
                    return self.answer_to_malformed().await;
                };
                self.prepared.close(u32::from_le_bytes(id));
                return Ok(());
            }
            command::STMT_SEND_LONG_DATA => return Ok(()),
            _ => {}
        }
        if byte == command::PING && !self.link.mariadb && self.state.diagnostics.is_some() {
            return self.finish_ping().await;
        }
        let expect = if byte == command::STMT_EXECUTE { of_execution(payload) } else { expected(byte) };
        let tracker = self.relay_reply(expect).await?;
        if let Some(code) = tracker.failed().filter(|_| self.link.binding.is_some()) {
            self.capture().after_error(code).await?;
        }
        self.note_command(byte, tracker.failed().is_some()).await?;
        match byte {
            command::RESET_CONNECTION if tracker.failed().is_none() => self.forget_session(),
            command::STMT_RESET => {
                let id = payload.get(1..5).and_then(|id| id.try_into().ok()).map(u32::from_le_bytes);
                if let Some(statement) = id.and_then(|id| self.prepared.get_mut(id)) {
                    statement.reset();
                }
            }
            command::SET_OPTION if tracker.failed().is_none() => self.note_option(payload),
            command::INIT_DB if tracker.failed().is_none() => self.read_anew(),
            _ => {}
        }
        Ok(())
    }

    /// MySQL counts the warnings of the statement before in its answer to a ping; it has others in its list than are
    /// kept.
    async fn finish_ping(&mut self) -> Result<(), End> {
        match self.link.read_reply(None, false).await?.0 {
            Reply::Ok(mut ok) => {
                let kept = self.state.diagnostics.get().map_or(0, |kept| kept.warning_count);
                ok.warnings = u16::try_from(kept).unwrap_or(u16::MAX);
                self.note_command(command::PING, false).await?;
                self.send_ok(ok).await
            }
            Reply::Err(e) => self.statement_failed(e).await,
            _ => Err(End::Broken("a ping answered with rows".into())),
        }
    }

    /// The application has set, by `COM_SET_OPTION`, whether it sends several statements in a packet.
    fn note_option(&mut self, payload: &[u8]) {
        // MariaDB reads a missing byte as 0
        let option = [1, 2].map(|at| payload.get(at).copied().unwrap_or_default());
        let on = option == command::OPTION_MULTI_STATEMENTS_ON.to_le_bytes();
        if on {
            self.link.capabilities |= caps::client::MULTI_STATEMENTS;
        } else {
            self.link.capabilities &= !caps::client::MULTI_STATEMENTS;
        }
        self.link.multi_statements = on;
    }

    /// `COM_STMT_SEND_LONG_DATA`: no reply.
    pub(super) async fn long_data(&mut self, payload: Bytes) -> Result<(), End> {
        if let Some(id) = payload.get(1..5).and_then(|id| id.try_into().ok()) {
            self.drop_stale_data(u32::from_le_bytes(id)).await?;
        }
        let Some(kind) = Harmless::of(command::STMT_SEND_LONG_DATA) else { return Ok(()) };
        self.link.send_harmless(kind, &payload).await?;
        let (Some(id), Some(param), Some(data)) = (payload.get(1..5), payload.get(5..7), payload.get(7..))
        else {
            return self.answer_to_malformed().await;
        };
        let id = u32::from_le_bytes(id.try_into().unwrap_or_default());
        let param = usize::from(u16::from_le_bytes(param.try_into().unwrap_or_default()));
        let bound = self.link.binding.is_some();
        let limit = self.link.backend.limits.max_statement_bytes;
        let id = self.statement_id(id);
        match self.prepared.get_mut(id) {
            Some(statement) if bound => statement.add_long_data(param, data, limit),
            Some(statement) => statement.lose_long_data(),
            None => {}
        }
        Ok(())
    }

    /// The id of the statement that a command names.
    pub(super) fn statement_id(&self, id: u32) -> u32 {
        self.prepared.id(id, self.link.mariadb)
    }

    /// The application's statement has long data on the server that belongs to an execution which was not sent there:
    /// it goes before the next one.
    pub(super) async fn drop_stale_data(&mut self, id: u32) -> Result<(), End> {
        let id = self.statement_id(id);
        let stale =
            self.prepared.get_mut(id).is_some_and(|statement| std::mem::take(&mut statement.stale_data));
        if stale {
            self.link.send_own(OwnCommand::Reset(id)).await?;
            let (reply, _) = self.link.read_reply(None, false).await?;
            if !matches!(reply, Reply::Ok(_)) {
                return Err(End::Broken("the server refuses COM_STMT_RESET".into()));
            }
        }
        Ok(())
    }

    /// A command that has no reply was too short: MySQL says so, MariaDB does not.
    pub(super) async fn answer_to_malformed(&mut self) -> Result<(), End> {
        if !self.link.mariadb {
            self.relay_reply(Expect::Single).await?;
        }
        Ok(())
    }
}
