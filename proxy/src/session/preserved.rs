//! What statements of our own would use up or replace on the application's connection, and the application must find
//! as it left it: the characteristics of its next transaction, the number of rows that its SELECT found.

use atone_sql::{Mode, table_names};

use super::Session;
use super::link::Link;
use atone_capture::error::{End, SqlError};
use atone_capture::fault::{Extent, Fault};
use atone_capture::flight::{Flight, Reply};

/// How many SET TRANSACTION are remembered for one transaction: two say all.
const MAX_SETTINGS: usize = 8;

/// What the application has set or read, and our own statements must not disturb.
#[derive(Debug, Default)]
pub(super) struct Preserved {
    /// Each `SET TRANSACTION …` since the last transaction: they hold for the next one only.
    next_transaction: Vec<Vec<u8>>,
    /// A statement of ours has replaced what `FOUND_ROWS()` gives.
    found_rows_lost: bool,
}

impl Link {
    /// After statements of our own: sets again what they have used up.
    pub(super) async fn after_own_statements(&mut self, replies: &[Reply]) -> Result<(), End> {
        self.preserved.found_rows_lost |= replies.iter().any(|reply| matches!(reply, Reply::Rows(_)));
        if self.preserved.next_transaction.is_empty() {
            return Ok(());
        }
        if self.in_transaction() {
            // This is the transaction that they were set for
            self.preserved.next_transaction.clear();
            return Ok(());
        }
        for at in 0..self.preserved.next_transaction.len() {
            let Some(sql) = self.preserved.next_transaction.get(at).cloned() else { break };
            self.send_flight(&Flight::of(sql)).await?;
            if let (Reply::Err(error), _) = self.read_reply(None, false).await? {
                // The next transaction would be another than the application has asked for
                return Err(End::Fault(Fault { error, extent: Extent::Connection }));
            }
        }
        Ok(())
    }
}

impl Session {
    /// The application has set characteristics of its next transaction, or of all that follow.
    pub(super) fn note_set_transaction(&mut self, sql: &[u8]) {
        let of_the_next = String::from_utf8_lossy(sql)
            .split_whitespace()
            .nth(1)
            .is_some_and(|word| word.eq_ignore_ascii_case("TRANSACTION"));
        if !of_the_next || self.in_transaction() {
            return;
        }
        let settings = &mut self.link.preserved.next_transaction;
        settings.retain(|known| known != sql);
        settings.push(sql.to_vec());
        if settings.len() > MAX_SETTINGS {
            settings.remove(0);
        }
    }

    /// The application runs a read, which is a transaction of its own if it looks at a table.
    pub(super) fn note_read(&mut self, sql: &[u8], mode: Mode) {
        if table_names(sql, mode).is_none_or(|names| !names.is_empty()) {
            self.link.preserved.next_transaction.clear();
        }
    }

    /// The application ends a transaction, or what would be one.
    pub(super) fn note_end(&mut self) {
        self.link.preserved.next_transaction.clear();
    }

    /// A result of the application's own has come.
    pub(super) fn note_result(&mut self, sql: &[u8]) {
        let text = sql.trim_ascii_start();
        let selects = text.starts_with(b"(")
            || [&b"SELECT"[..], b"WITH", b"TABLE", b"VALUES"]
                .iter()
                .any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
        if selects {
            self.link.preserved.found_rows_lost = false;
        }
    }

    /// Whether `FOUND_ROWS()` is that of the application's own SELECT.
    pub(super) fn found_rows_known(&self) -> bool {
        !self.link.preserved.found_rows_lost
    }

    /// What ran since did not change that.
    pub(super) fn set_found_rows_known(&mut self, known: bool) {
        self.link.preserved.found_rows_lost = !known;
    }

    /// The settings of the application for its next transaction.
    pub(super) fn of_next_transaction(&self) -> Vec<Vec<u8>> {
        self.link.preserved.next_transaction.clone()
    }

    /// The transaction for which these were is to begin once more.
    pub(super) fn set_of_next_transaction(&mut self, settings: Vec<Vec<u8>>) {
        self.link.preserved.next_transaction = settings;
    }

    /// Checks that a statement does not ask how many rows the application's last SELECT found, where that is not known.
    pub(super) fn check_found_rows(&self, sql: &[u8]) -> Result<(), SqlError> {
        let asks = self.link.preserved.found_rows_lost
            && sql.windows(10).enumerate().any(|(at, window)| {
                let calculates = at >= 5
                    && sql.get(at - 5..at).is_some_and(|before| before.eq_ignore_ascii_case(b"CALC_"));
                window.eq_ignore_ascii_case(b"FOUND_ROWS") && !calculates
            });
        if !asks {
            return Ok(());
        }
        let why = "FOUND_ROWS() is known right behind the SELECT only, in a global transaction";
        Err(SqlError::refused(&self.xid(), why))
    }
}
