//! Keeps the diagnostics of the application's statement, before statements of ours run after it.

use atone_wire::response::{ErrPacket, OkPacket};

use crate::Capture;
use crate::diagnostics::{Diagnostics, errors, only_number};
use crate::error::End;
use crate::flight::{Flight, Reply};
use atone_facts::TableInfo;

impl Capture<'_> {
    /// Notes that a statement with IGNORE writes this table. MySQL takes an error of the assignments around a BEFORE
    /// trigger for a warning then, ends the statement, and does not count the warning in its OK packet.
    pub(crate) fn ignores(&mut self, info: &TableInfo) {
        self.command.uncounted_warnings |= !self.mariadb && !info.facts.triggers.is_empty();
    }

    /// Keeps the diagnostics of a statement that has answered with this OK packet, before others run.
    pub async fn keep_of(&mut self, ok: &OkPacket, row_count: i128) -> Result<(), End> {
        self.keep_of_server(ok, row_count).await?;
        if let Some(earlier) = &self.command.earlier {
            let kept = self.state.diagnostics.take().map(|kept| kept.after_condition(&earlier.diagnostics));
            self.state.diagnostics.restore(kept);
        }
        Ok(())
    }

    async fn keep_of_server(&mut self, ok: &OkPacket, row_count: i128) -> Result<(), End> {
        if ok.warnings == 0 && !self.command.uncounted_warnings {
            // What the server has in its list may be of a read before it
            self.state.diagnostics.keep(Diagnostics::without_warnings(row_count));
            return Ok(());
        }
        self.keep_warnings(row_count).await?;
        if ok.warnings == 0 && self.state.diagnostics.get().is_some_and(|kept| kept.warning_count > 0) {
            // As of one that failed
            self.state.diagnostics.set_row_count(-1);
        }
        Ok(())
    }

    /// Reads the warnings of the statement that ran last, before others run and before the client has its answer.
    pub async fn keep_warnings(&mut self, row_count: i128) -> Result<(), End> {
        match self.read_warnings(row_count).await? {
            None => Ok(()),
            Some(error) => Err(End::Fault(self.fault(error).await?)),
        }
    }

    /// The same of a statement whose answer the client has.
    ///
    /// # Errors
    /// The connection broke, or has ended with an error of the server's.
    pub async fn keep_warnings_after_answer(&mut self, row_count: i128) -> Result<(), End> {
        match self.read_warnings(row_count).await? {
            None => Ok(()),
            Some(error) => {
                self.state.diagnostics.forget();
                self.after_error(error.code).await
            }
        }
    }

    /// Reads the warnings of the statement that ran last; the error where the server does not give them.
    pub async fn read_warnings(&mut self, row_count: i128) -> Result<Option<ErrPacket>, End> {
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
        self.state.diagnostics.keep(Diagnostics {
            row_count,
            conditions: warnings.map(|list| list.rows).unwrap_or_default(),
            warning_count: warning_count.unwrap_or(shown).max(shown),
            error_count: error_count.unwrap_or(shown_errors).max(shown_errors),
            failed: None,
        });
        Ok(None)
    }

    /// Keeps the diagnostics of a statement that is answered with this error, which the server does not have in its
    /// list.
    pub fn keep_error(&mut self, error: &ErrPacket) {
        self.state.diagnostics.keep(Diagnostics::of_error(error));
    }

    /// Keeps the diagnostics of an INSERT after which its rows are looked at.
    pub(crate) async fn keep_diagnostics(&mut self, ok: &OkPacket) -> Result<Option<Diagnostics>, End> {
        let row_count = i128::from(ok.affected_rows);
        if self.command.returned.is_none() {
            self.keep_of(ok, row_count).await?;
        }
        Ok(self.state.diagnostics.take())
    }
}
