//! The diagnostics of a statement after which the proxy ran others: what is kept of them, and for how long.

use atone_wire::column::text_row;
use atone_wire::read::put_lenenc_bytes;
use atone_wire::response::ErrPacket;
use bytes::Bytes;

use crate::error::{End, SqlError};
use crate::flight::Rows;

/// The diagnostics of the application's last statement.
#[derive(Debug)]
pub struct Diagnostics {
    /// What `ROW_COUNT()` is.
    pub row_count: i128,
    /// The rows that `SHOW WARNINGS` answers with, in text.
    pub conditions: Vec<Bytes>,
    /// What `@@warning_count` is: more than there are conditions where `max_error_count` is small.
    pub warning_count: usize,
    /// What `@@error_count` is.
    pub error_count: usize,
    /// The number and the SQLSTATE of the error that the statement failed of.
    pub failed: Option<(u16, [u8; 5])>,
}

impl Diagnostics {
    /// Of a statement without warnings.
    pub fn without_warnings(row_count: i128) -> Self {
        Self { row_count, conditions: Vec::new(), warning_count: 0, error_count: 0, failed: None }
    }

    /// Of a statement that failed.
    pub(crate) fn of_error(error: &ErrPacket) -> Self {
        let mut kept = Self::without_warnings(-1);
        kept.add_error(error.code, &error.message);
        kept.failed = Some((error.code, error.sql_state));
        kept
    }

    /// Adds an error, which is the last condition then.
    pub fn add_error(&mut self, code: u16, message: &[u8]) {
        let mut row = Vec::new();
        put_lenenc_bytes(&mut row, b"Error");
        put_lenenc_bytes(&mut row, code.to_string().as_bytes());
        put_lenenc_bytes(&mut row, message);
        self.conditions.push(row.into());
        self.warning_count += 1;
        self.error_count += 1;
        self.row_count = -1;
    }

    /// These, and after them the last one of those.
    pub fn and_last_of(mut self, now: Diagnostics) -> Self {
        self.conditions.extend(now.conditions.last().cloned());
        self.warning_count += 1;
        self.error_count += 1;
        Diagnostics { row_count: now.row_count, failed: now.failed, ..self }
    }

    /// Whether the statement that they belong to has failed of this error.
    pub(crate) fn tells_of(&self, error: &ErrPacket) -> bool {
        let listed = |row: &Bytes| is_error(row) && Condition::read(row).is_ok_and(|c| c.code == error.code);
        // A max_error_count of 0 keeps all out of the list, but counts it
        let hidden = self.conditions.is_empty() && self.error_count > 0;
        hidden
            || self.failed.is_some_and(|(code, _)| code == error.code)
            || self.conditions.iter().any(listed)
    }

    /// Those of a statement whose condition, evaluated before it, has had these.
    pub(crate) fn after_condition(mut self, condition: &Diagnostics) -> Self {
        self.conditions.splice(..0, condition.conditions.iter().cloned());
        self.warning_count += condition.warning_count;
        self.error_count += condition.error_count;
        self
    }
}

/// The diagnostics of the application's last statement, where those that the server has are of another one. Where
/// nothing is kept the server knows them itself. All that becomes of them in a session goes through here.
#[derive(Debug, Default)]
pub struct Kept(Option<Diagnostics>);

impl Kept {
    /// Whether the server's own are of another statement.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the server knows them itself.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// What is kept.
    pub fn get(&self) -> Option<&Diagnostics> {
        self.0.as_ref()
    }

    /// The server's own are those of the application's last statement, or will be.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// These are those of the application's last statement.
    pub fn keep(&mut self, diagnostics: Diagnostics) {
        self.0 = Some(diagnostics);
    }

    /// What was taken is put back.
    pub fn restore(&mut self, taken: Option<Diagnostics>) {
        self.0 = taken;
    }

    /// Takes what is kept out, around a statement that may leave it alone or replace it.
    pub fn take(&mut self) -> Option<Diagnostics> {
        self.0.take()
    }

    /// A statement or command that leaves the list as it is has set what `ROW_COUNT()` is.
    pub fn set_row_count(&mut self, row_count: i128) {
        if let Some(kept) = &mut self.0 {
            kept.row_count = row_count;
        }
    }

    /// A statement of which only `ROW_COUNT()` is known to be as it was.
    pub fn keep_row_count(&mut self, row_count: i128) {
        self.0.get_or_insert_with(|| Diagnostics::without_warnings(row_count)).row_count = row_count;
    }

    /// A statement of Atone's own making adds an error to the list.
    pub fn add_error(&mut self, code: u16, message: &[u8]) {
        if let Some(kept) = &mut self.0 {
            kept.add_error(code, message);
        }
    }

    /// The application's statement was answered with this error: what is kept is of it, or of nothing that counts any
    /// more.
    pub fn answered_with(&mut self, error: &ErrPacket) {
        match &mut self.0 {
            kept if SqlError::made(error) => *kept = Some(Diagnostics::of_error(error)),
            Some(kept) if kept.tells_of(error) => kept.failed = Some((error.code, error.sql_state)),
            Some(kept) => *kept = Diagnostics::of_error(error),
            // The server's own list is of it
            None => {}
        }
    }
}

/// The diagnostics of what was evaluated before the current statement, and belongs to it.
#[derive(Debug)]
pub struct EarlierDiagnostics {
    /// What they are.
    pub diagnostics: Diagnostics,
    /// The statement's info string counts them.
    pub in_info: bool,
}

/// A row of `SHOW WARNINGS`.
pub struct Condition<'a> {
    /// `Error`, `Warning` or `Note`
    pub level: &'a [u8],
    /// The server's number.
    pub code: u16,
    /// The text.
    pub message: &'a [u8],
}

impl Condition<'_> {
    /// Reads a row of three columns.
    ///
    /// # Errors
    /// It is none.
    pub fn read(row: &Bytes) -> Result<Condition<'_>, End> {
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

/// The number that a result consists of.
pub fn only_number(rows: &Rows) -> Option<usize> {
    let cells = rows.cells(0).ok()?;
    std::str::from_utf8(cells.first().copied().flatten()?).ok()?.parse().ok()
}

/// Whether a row of `SHOW WARNINGS` is an error.
pub fn is_error(row: &Bytes) -> bool {
    row.starts_with(b"\x05Error")
}

/// How many rows of `SHOW WARNINGS` are errors.
pub(crate) fn errors(warnings: &Rows) -> usize {
    warnings.rows.iter().filter(|row| is_error(row)).count()
}
