//! The list of warnings of a session: what is kept of it while other statements run, and for how long.

use atone_wire::caps::{client, status};
use atone_wire::command;
use atone_wire::error_code::ER_WARNING_NOT_COMPLETE_ROLLBACK;
use atone_wire::frame::put_packet;
use atone_wire::read::put_lenenc;
use atone_wire::response::{OkPacket, parse_eof};
use bytes::Bytes;

use super::{Answer, Session};
use atone_capture::diagnostics::{Condition, Diagnostics, only_number};
use atone_capture::error::End;
use atone_capture::flight::{Reply, Rows};

/// What a statement of the proxy's own warns of, to see later whether the list was left alone.
const MARK: &[u8] = b"atone: the list of warnings is that of a statement before";
impl Session {
    /// Before a statement that may leave the server's list of warnings alone, as MariaDB does where no table is used
    /// and nothing is warned of: takes what is kept, and puts a mark in the server's list in its place.
    pub(super) async fn mark_list(&mut self) -> Result<Option<Diagnostics>, End> {
        let Some(kept) = self.state.diagnostics.take().filter(|_| self.link.mariadb) else { return Ok(None) };
        if kept.warning_count > 0 {
            let text = String::from_utf8_lossy(MARK);
            let sql = format!(
                "SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = '{text}', MYSQL_ERRNO = {ER_WARNING_NOT_COMPLETE_ROLLBACK}"
            );
            self.capture().run_one(sql).await?;
        }
        Ok(Some(kept))
    }

    /// The same in a session that is not bound, where only warnings are kept for longer than the next statement.
    pub(super) async fn mark_unbound_list(&mut self) -> Result<Option<Diagnostics>, End> {
        if self.state.diagnostics.get().is_none_or(|kept| kept.warning_count == 0) {
            return Ok(None);
        }
        self.mark_list().await
    }

    /// Whether what the server says of the last statement is not what it was.
    pub(super) fn keeps_diagnostics(&self) -> bool {
        self.state.diagnostics.is_some()
    }

    /// After such a statement, which was answered: keeps what was taken where the server would still list it.
    pub(super) async fn follow_list(&mut self, taken: Option<Diagnostics>) -> Result<(), End> {
        let (Some(mut kept), Some(answer)) = (taken, self.link.reply.answer) else { return Ok(()) };
        if answer.warnings > 0 || self.state.diagnostics.is_some() {
            return Ok(());
        }
        if kept.warning_count > 0 {
            match self.is_marked(&kept).await {
                Ok(true) => {}
                Ok(false) => kept = Diagnostics::without_warnings(0),
                // The client has its answer
                Err(End::Fault(fault)) => return self.capture().fault_after_answer(&fault),
                Err(end) => return Err(end),
            }
        }
        kept.row_count = answer.row_count();
        self.state.diagnostics.keep(kept);
        Ok(())
    }

    /// What `ROW_COUNT()` is, where that was kept.
    pub(super) fn kept_row_count(&self) -> Option<i128> {
        self.state.diagnostics.get().map(|kept| kept.row_count)
    }

    /// After the preparation of a statement: it leaves `ROW_COUNT()` as it was, but the list of warnings on MariaDB
    /// only, where the statement uses no table.
    pub(super) async fn follow_prepared(
        &mut self,
        row_count: Option<i128>,
        taken: Option<Diagnostics>,
    ) -> Result<(), End> {
        let Some(row_count) = row_count else { return Ok(()) };
        self.follow_list(taken).await?;
        self.state.diagnostics.keep_row_count(row_count);
        Ok(())
    }

    /// After a command without a statement, which leaves the list of warnings alone, but for MySQL's `COM_STMT_RESET`.
    pub(super) async fn note_command(&mut self, byte: u8, failed: bool) -> Result<(), End> {
        if byte == command::STMT_RESET && !self.link.mariadb {
            // MySQL empties its list first; an error is in it by itself then
            let row_count = self.state.diagnostics.take().filter(|_| !failed).map(|kept| kept.row_count);
            self.state.diagnostics.restore(row_count.map(Diagnostics::without_warnings));
            return Ok(());
        }
        if failed {
            return self.note_failed_command().await;
        }
        let row_count = match byte {
            command::PING | command::INIT_DB => 0,
            command::SET_OPTION => -1,
            _ => return Ok(()),
        };
        self.state.diagnostics.set_row_count(row_count);
        Ok(())
    }

    /// The server has the error in its own list: MariaDB alone, MySQL after what was there.
    async fn note_failed_command(&mut self) -> Result<(), End> {
        let Some(earlier) = self.state.diagnostics.take().filter(|kept| kept.warning_count > 0) else {
            return Ok(());
        };
        if !self.link.mariadb {
            self.capture().keep_warnings_after_answer(-1).await?;
            // What stands before it there may be of statements before the one whose diagnostics are kept
            let now = self.state.diagnostics.take().map(|now| earlier.and_last_of(now));
            self.state.diagnostics.restore(now);
        }
        Ok(())
    }

    /// Whether the mark is still in the server's list. `kept`: what it stands for.
    async fn is_marked(&mut self, kept: &Diagnostics) -> Result<bool, End> {
        if kept.conditions.is_empty() {
            // A max_error_count of 0 keeps all out of the list, but counts it
            let Reply::Rows(count) = self.capture().run_one("SHOW COUNT(*) WARNINGS").await? else {
                return Ok(false);
            };
            return Ok(only_number(&count) == Some(1));
        }
        let list = self.list("SHOW WARNINGS LIMIT 1").await?;
        Ok(list.rows.first().is_some_and(|row| Condition::read(row).is_ok_and(|first| first.message == MARK)))
    }

    /// Runs a SHOW WARNINGS, which leaves `FOUND_ROWS()` as it is.
    pub(super) async fn list(&mut self, sql: &str) -> Result<Rows, End> {
        let known = self.found_rows_known();
        let reply = self.capture().run_one(sql).await?;
        self.set_found_rows_known(known);
        match reply {
            Reply::Rows(rows) => Ok(rows),
            _ => Err(End::Broken("SHOW WARNINGS without rows".into())),
        }
    }

    /// Answers the current statement with a result set that was kept: its definitions, and these rows.
    pub(super) async fn send_rows(
        &mut self,
        kept: &Rows,
        rows: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), End> {
        let deprecate_eof = self.link.capabilities & client::DEPRECATE_EOF != 0;
        let mut out = Vec::new();
        let mut head = Vec::new();
        put_lenenc(&mut head, kept.columns.len() as u64);
        if self.link.capabilities & client::OPTIONAL_DEFINITIONS != 0 {
            head.push(1); // definitions follow
        }
        let mut seq = put_packet(&mut out, self.link.reply.seq, &head);
        for column in &kept.columns {
            seq = put_packet(&mut out, seq, column);
        }
        let end = patched_end(&kept.end, self.reply_status(self.link.status), deprecate_eof)?;
        if !deprecate_eof {
            seq = put_packet(&mut out, seq, &end);
        }
        for row in rows {
            seq = put_packet(&mut out, seq, &row);
        }
        self.link.reply.seq = put_packet(&mut out, seq, &end);
        self.link.reply.answer =
            Some(Answer { affected_rows: None, warnings: kept.warnings(self.link.capabilities)? });
        self.link.client.write_all(&out).await.map_err(End::Client)
    }
}

/// The packet that ends a result, with the status flags of now.
fn patched_end(end: &Bytes, now: u16, deprecate_eof: bool) -> Result<Vec<u8>, End> {
    // What has changed in the session was told with another packet
    let now = now & !status::SESSION_STATE_CHANGED;
    if deprecate_eof {
        let mut ok = OkPacket::parse(end)?;
        ok.status = now;
        ok.tail.clear();
        let mut out = ok.encode();
        out[0] = 0xfe;
        return Ok(out);
    }
    let (_, warnings) = parse_eof(end)?;
    let mut out = vec![0xfe];
    out.extend_from_slice(&warnings.to_le_bytes());
    out.extend_from_slice(&now.to_le_bytes());
    Ok(out)
}
