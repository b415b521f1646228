//! The diagnostics of a statement behind which the proxy ran others: what is kept of them, and for how long.

use atone_wire::caps::{client, status};
use atone_wire::column::text_row;
use atone_wire::command;
use atone_wire::frame::put_packet;
use atone_wire::read::{put_lenenc, put_lenenc_bytes};
use atone_wire::response::{ErrPacket, OkPacket, parse_eof};
use bytes::Bytes;

use super::inject::{Flight, Reply, Rows};
use super::{Answer, Session};
use crate::error::{End, SqlError};
use crate::meta::TableInfo;

/// The diagnostics of the application's last statement.
#[derive(Debug)]
pub(super) struct Diagnostics {
    /// What `ROW_COUNT()` is.
    pub(super) row_count: i128,
    /// The rows that `SHOW WARNINGS` answers with, in text.
    pub(super) conditions: Vec<Bytes>,
    /// What `@@warning_count` is: more than there are conditions where `max_error_count` is small.
    pub(super) warning_count: usize,
    /// What `@@error_count` is.
    pub(super) error_count: usize,
    /// The number and the SQLSTATE of the error that the statement failed of.
    pub(super) failed: Option<(u16, [u8; 5])>,
}

impl Diagnostics {
    /// Of a statement without warnings.
    pub(super) fn without_warnings(row_count: i128) -> Self {
        Self { row_count, conditions: Vec::new(), warning_count: 0, error_count: 0, failed: None }
    }

    /// Of a statement that failed.
    fn of_error(error: &ErrPacket) -> Self {
        let mut kept = Self::without_warnings(-1);
        kept.add_error(error.code, &error.message);
        kept.failed = Some((error.code, error.sql_state));
        kept
    }

    /// Adds an error, which is the last condition then.
    pub(super) fn add_error(&mut self, code: u16, message: &[u8]) {
        let mut row = Vec::new();
        put_lenenc_bytes(&mut row, b"Error");
        put_lenenc_bytes(&mut row, code.to_string().as_bytes());
        put_lenenc_bytes(&mut row, message);
        self.conditions.push(row.into());
        self.warning_count += 1;
        self.error_count += 1;
        self.row_count = -1;
    }

    /// These, and behind them the last one of those.
    fn and_last_of(mut self, now: Diagnostics) -> Self {
        self.conditions.extend(now.conditions.last().cloned());
        self.warning_count += 1;
        self.error_count += 1;
        Diagnostics { row_count: now.row_count, failed: now.failed, ..self }
    }

    /// Whether the statement that they belong to has failed of this error.
    fn tells_of(&self, error: &ErrPacket) -> bool {
        let listed = |row: &Bytes| is_error(row) && Condition::read(row).is_ok_and(|c| c.code == error.code);
        // A max_error_count of 0 keeps all out of the list, but counts it
        let hidden = self.conditions.is_empty() && self.error_count > 0;
        hidden
            || self.failed.is_some_and(|(code, _)| code == error.code)
            || self.conditions.iter().any(listed)
    }

    /// Those of a statement whose condition, evaluated before it, has had these.
    fn behind(mut self, condition: &Diagnostics) -> Self {
        self.conditions.splice(..0, condition.conditions.iter().cloned());
        self.warning_count += condition.warning_count;
        self.error_count += condition.error_count;
        self
    }
}

/// The diagnostics of what was evaluated before the current statement, and belongs to it.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) diagnostics: Diagnostics,
    /// The statement's info string counts them.
    pub(super) in_info: bool,
}

/// A row of `SHOW WARNINGS`.
pub(super) struct Condition<'a> {
    pub(super) level: &'a [u8],
    pub(super) code: u16,
    pub(super) message: &'a [u8],
}

impl Condition<'_> {
    pub(super) fn read(row: &Bytes) -> Result<Condition<'_>, End> {
        let cells = text_row(row, 3)?;
        let [Some(level), Some(code), Some(message)] = cells.as_slice() else {
            return Err(End::Broken("a warning with a NULL".into()));
        };
        let code = std::str::from_utf8(code)
            .ok()
            .and_then(|c| c.parse().ok())
            .ok_or_else(|| End::Broken("a warning whose code is no number".into()))?;
        Ok(Condition { level, code, message })
    }
}

/// What a statement of the proxy's own warns of, to see later whether the list was left alone.
const MARK: &[u8] = b"atone: the list of warnings is that of a statement before";
/// `ER_WARNING_NOT_COMPLETE_ROLLBACK`
const MARK_CODE: u16 = 1196;

impl Session {
    /// Notes that a statement with IGNORE writes this table. MySQL takes an error of the assignments around a BEFORE trigger for a
    /// warning then, ends the statement, and does not count the warning in its OK packet.
    pub(super) fn ignores(&mut self, info: &TableInfo) {
        self.uncounted_warnings |= !self.mariadb && !info.facts.triggers.is_empty();
    }

    /// Keeps the diagnostics of a statement that has answered with this OK packet, before others run.
    pub(super) async fn keep_of(&mut self, ok: &OkPacket, row_count: i128) -> Result<(), End> {
        self.keep_of_server(ok, row_count).await?;
        if let Some(heard) = &self.heard {
            self.diagnostics = self.diagnostics.take().map(|kept| kept.behind(&heard.diagnostics));
        }
        Ok(())
    }

    async fn keep_of_server(&mut self, ok: &OkPacket, row_count: i128) -> Result<(), End> {
        if ok.warnings == 0 && !self.uncounted_warnings {
            // What the server has in its list may be of a read before it
            self.diagnostics = Some(Diagnostics::without_warnings(row_count));
            return Ok(());
        }
        self.keep_warnings(row_count).await?;
        if let Some(kept) =
            self.diagnostics.as_mut().filter(|kept| ok.warnings == 0 && kept.warning_count > 0)
        {
            // As of one that failed
            kept.row_count = -1;
        }
        Ok(())
    }

    /// Reads the warnings of the statement that ran last, before others run and before the client has its answer.
    pub(super) async fn keep_warnings(&mut self, row_count: i128) -> Result<(), End> {
        match self.read_warnings(row_count).await? {
            None => Ok(()),
            Some(error) => Err(End::Fault(self.fault(error).await?)),
        }
    }

    /// The same of a statement whose answer the client has.
    pub(super) async fn keep_warnings_behind(&mut self, row_count: i128) -> Result<(), End> {
        match self.read_warnings(row_count).await? {
            None => Ok(()),
            Some(error) => {
                self.diagnostics = None;
                self.after_error(error.code).await
            }
        }
    }

    /// Reads the warnings of the statement that ran last; the error where the server does not give them.
    pub(super) async fn read_warnings(&mut self, row_count: i128) -> Result<Option<ErrPacket>, End> {
        let mut flight = Flight::default();
        for sql in ["SHOW COUNT(*) WARNINGS", "SHOW COUNT(*) ERRORS", "SHOW WARNINGS"] {
            flight.push(sql);
        }
        let replies = self.fly(flight).await?;
        if let Some(Reply::Err(error)) = replies.last() {
            return Ok(Some(error.clone()));
        }
        let mut replies = replies.into_iter();
        let mut count = || match replies.next() {
            Some(Reply::Rows(rows)) => only_number(&rows),
            _ => None,
        };
        let (warning_count, error_count) = (count(), count());
        let warnings = match replies.next() {
            Some(Reply::Rows(rows)) => Some(rows),
            _ => None,
        };
        let shown = warnings.as_ref().map_or(0, |rows| rows.rows.len());
        let shown_errors = warnings.as_ref().map_or(0, errors);
        self.diagnostics = Some(Diagnostics {
            row_count,
            conditions: warnings.map(|list| list.rows).unwrap_or_default(),
            warning_count: warning_count.unwrap_or(shown).max(shown),
            error_count: error_count.unwrap_or(shown_errors).max(shown_errors),
            failed: None,
        });
        Ok(None)
    }

    /// Keeps the diagnostics of a statement that is answered with this error, which the server does not have in its list.
    pub(super) fn keep_error(&mut self, error: &ErrPacket) {
        self.diagnostics = Some(Diagnostics::of_error(error));
    }

    /// A statement is answered with this error: what is kept is of it, or of nothing that counts any more.
    pub(super) fn heard_error(&mut self, error: &ErrPacket) {
        match &mut self.diagnostics {
            _ if SqlError::made(error) => self.keep_error(error),
            Some(kept) if kept.tells_of(error) => kept.failed = Some((error.code, error.sql_state)),
            Some(kept) => *kept = Diagnostics::of_error(error),
            // The server's own list is of it
            None => {}
        }
    }

    /// Before a statement that may leave the server's list of warnings alone, as MariaDB does where no table is used and nothing
    /// is warned of: takes what is kept, and puts a mark in the server's list in its place.
    pub(super) async fn mark_list(&mut self) -> Result<Option<Diagnostics>, End> {
        let Some(kept) = self.diagnostics.take().filter(|_| self.mariadb) else { return Ok(None) };
        if kept.warning_count > 0 {
            let text = String::from_utf8_lossy(MARK);
            let sql =
                format!("SIGNAL SQLSTATE '01000' SET MESSAGE_TEXT = '{text}', MYSQL_ERRNO = {MARK_CODE}");
            self.run_one(sql).await?;
        }
        Ok(Some(kept))
    }

    /// The same in a session that is not bound, where only warnings are kept for longer than the next statement.
    pub(super) async fn mark_unbound_list(&mut self) -> Result<Option<Diagnostics>, End> {
        if self.diagnostics.as_ref().is_none_or(|kept| kept.warning_count == 0) {
            return Ok(None);
        }
        self.mark_list().await
    }

    /// Whether what the server says of the last statement is not what it was.
    pub(super) fn keeps_diagnostics(&self) -> bool {
        self.diagnostics.is_some()
    }

    /// Behind such a statement, which was answered: keeps what was taken where the server would still list it.
    pub(super) async fn follow_list(&mut self, taken: Option<Diagnostics>) -> Result<(), End> {
        let (Some(mut kept), Some(answer)) = (taken, self.reply.answer) else { return Ok(()) };
        if answer.warnings > 0 || self.diagnostics.is_some() {
            return Ok(());
        }
        if kept.warning_count > 0 {
            match self.is_marked(&kept).await {
                Ok(true) => {}
                Ok(false) => kept = Diagnostics::without_warnings(0),
                // The client has its answer
                Err(End::Fault(fault)) => return self.fault_behind(&fault),
                Err(end) => return Err(end),
            }
        }
        kept.row_count = answer.row_count();
        self.diagnostics = Some(kept);
        Ok(())
    }

    /// What `ROW_COUNT()` is, where that was kept.
    pub(super) fn kept_row_count(&self) -> Option<i128> {
        self.diagnostics.as_ref().map(|kept| kept.row_count)
    }

    /// Behind the preparation of a statement: it leaves `ROW_COUNT()` as it was, but the list of warnings on MariaDB only, where the
    /// statement uses no table.
    pub(super) async fn follow_prepared(
        &mut self,
        row_count: Option<i128>,
        taken: Option<Diagnostics>,
    ) -> Result<(), End> {
        let Some(row_count) = row_count else { return Ok(()) };
        self.follow_list(taken).await?;
        let kept = self.diagnostics.get_or_insert_with(|| Diagnostics::without_warnings(row_count));
        kept.row_count = row_count;
        Ok(())
    }

    /// Behind a command without a statement, which leaves the list of warnings alone, but for MySQL's `COM_STMT_RESET`.
    pub(super) async fn heard_command(&mut self, byte: u8, failed: bool) -> Result<(), End> {
        if byte == command::STMT_RESET && !self.mariadb {
            // MySQL empties its list first; an error is in it by itself then
            let row_count = self.diagnostics.take().filter(|_| !failed).map(|kept| kept.row_count);
            self.diagnostics = row_count.map(Diagnostics::without_warnings);
            return Ok(());
        }
        if failed {
            return self.heard_failed_command().await;
        }
        let row_count = match byte {
            command::PING | command::INIT_DB => 0,
            command::SET_OPTION => -1,
            _ => return Ok(()),
        };
        if let Some(kept) = &mut self.diagnostics {
            kept.row_count = row_count;
        }
        Ok(())
    }

    /// The server has the error in its own list: MariaDB alone, MySQL behind what was there.
    async fn heard_failed_command(&mut self) -> Result<(), End> {
        let Some(earlier) = self.diagnostics.take().filter(|kept| kept.warning_count > 0) else {
            return Ok(());
        };
        if !self.mariadb {
            self.keep_warnings_behind(-1).await?;
            // What stands before it there may be of statements before the one whose diagnostics are kept
            self.diagnostics = self.diagnostics.take().map(|now| earlier.and_last_of(now));
        }
        Ok(())
    }

    /// Whether the mark is still in the server's list. `kept`: what it stands for.
    async fn is_marked(&mut self, kept: &Diagnostics) -> Result<bool, End> {
        if kept.conditions.is_empty() {
            // A max_error_count of 0 keeps all out of the list, but counts it
            let Reply::Rows(count) = self.run_one("SHOW COUNT(*) WARNINGS").await? else { return Ok(false) };
            return Ok(only_number(&count) == Some(1));
        }
        let list = self.list("SHOW WARNINGS LIMIT 1").await?;
        Ok(list.rows.first().is_some_and(|row| Condition::read(row).is_ok_and(|first| first.message == MARK)))
    }

    /// Runs a SHOW WARNINGS, which leaves `FOUND_ROWS()` as it is.
    pub(super) async fn list(&mut self, sql: &str) -> Result<Rows, End> {
        let known = self.found_rows_known();
        let reply = self.run_one(sql).await?;
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
        let deprecate_eof = self.capabilities & client::DEPRECATE_EOF != 0;
        let mut out = Vec::new();
        let mut head = Vec::new();
        put_lenenc(&mut head, kept.columns.len() as u64);
        if self.capabilities & client::OPTIONAL_DEFINITIONS != 0 {
            head.push(1); // definitions follow
        }
        let mut seq = put_packet(&mut out, self.reply.seq, &head);
        for column in &kept.columns {
            seq = put_packet(&mut out, seq, column);
        }
        let end = patched_end(&kept.end, self.reply_status(self.status), deprecate_eof)?;
        if !deprecate_eof {
            seq = put_packet(&mut out, seq, &end);
        }
        for row in rows {
            seq = put_packet(&mut out, seq, &row);
        }
        self.reply.seq = put_packet(&mut out, seq, &end);
        self.reply.answer = Some(Answer { affected_rows: None, warnings: kept.warnings(self.capabilities)? });
        self.client.write_all(&out).await.map_err(End::Client)
    }
}

/// The number that a result consists of.
fn only_number(rows: &Rows) -> Option<usize> {
    let cells = rows.cells(0).ok()?;
    std::str::from_utf8(cells.first().copied().flatten()?).ok()?.parse().ok()
}

/// Whether a row of `SHOW WARNINGS` is an error.
pub(super) fn is_error(row: &Bytes) -> bool {
    row.starts_with(b"\x05Error")
}

fn errors(warnings: &Rows) -> usize {
    warnings.rows.iter().filter(|row| is_error(row)).count()
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
