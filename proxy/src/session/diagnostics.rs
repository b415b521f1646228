//! What `SHOW WARNINGS` and `ROW_COUNT()` say after a statement behind which the proxy ran others.

use atone_sql::{DiagnosticNumber, DiagnosticRead};
use atone_wire::caps::{client, status};
use atone_wire::column::text_row;
use atone_wire::frame::put_packet;
use atone_wire::read::{put_lenenc, put_lenenc_bytes};
use atone_wire::response::{ErrPacket, OkPacket, parse_eof};
use bytes::Bytes;

use super::Session;
use super::analysed::Origin;
use super::inject::{Flight, Reply, Rows};
use crate::error::End;
use crate::meta::TableInfo;

/// The diagnostics of the application's last statement.
#[derive(Debug)]
pub(super) struct Diagnostics {
    /// What `ROW_COUNT()` is.
    pub(super) row_count: i128,
    /// What `SHOW WARNINGS` answers; `None` where it answers with no row, as the server does by itself.
    pub(super) warnings: Option<Rows>,
    /// What `@@warning_count` is: more than there are rows where `max_error_count` is small.
    pub(super) warning_count: usize,
    /// What `@@error_count` is.
    pub(super) error_count: usize,
}

impl Diagnostics {
    /// Of a statement without warnings.
    fn without_warnings(row_count: i128) -> Self {
        Self { row_count, warnings: None, warning_count: 0, error_count: 0 }
    }

    /// Those of a statement whose condition, evaluated before it, has had these.
    fn behind(mut self, condition: &Diagnostics) -> Self {
        let earlier = condition.warnings.as_ref().map(|list| list.rows.clone()).unwrap_or_default();
        match (&mut self.warnings, &condition.warnings) {
            (Some(own), _) => drop(own.rows.splice(..0, earlier)),
            (None, Some(list)) => self.warnings = Some(list.clone()),
            (None, None) => {}
        }
        self.warning_count += condition.warning_count;
        self.error_count += condition.error_count;
        self
    }
}

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
            self.diagnostics = self.diagnostics.take().map(|kept| kept.behind(heard));
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
        let warning_count = warning_count.unwrap_or(shown).max(shown);
        self.diagnostics = Some(Diagnostics {
            row_count,
            warnings: warnings.filter(|_| warning_count > 0),
            warning_count,
            error_count: error_count.unwrap_or(shown_errors).max(shown_errors),
        });
        Ok(None)
    }

    /// Answers `SHOW WARNINGS` and its like from what was kept; whether it could.
    pub(super) async fn answer_diagnostics(&mut self, sql: &[u8], origin: &Origin) -> Result<bool, End> {
        let Some(Diagnostics { warnings, warning_count, error_count, .. }) = &self.diagnostics else {
            if sql.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"SHOW")) {
                self.answered_with_rows();
            }
            return Ok(false);
        };
        let (has_rows, warning_count, error_count) = (warnings.is_some(), *warning_count, *error_count);
        let words = String::from_utf8_lossy(sql).trim_end_matches([';', ' ']).to_ascii_uppercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        let only_errors = match words.as_slice() {
            ["SHOW", "WARNINGS", ..] => false,
            ["SHOW", "ERRORS", ..] => true,
            ["SHOW", "COUNT(*)", what @ ("WARNINGS" | "ERRORS")] => {
                let (number, name) = if *what == "WARNINGS" {
                    (warning_count, "warning_count")
                } else {
                    (error_count, "error_count")
                };
                let count = format!("SELECT {} AS `@@session.{name}`", count_sql(number));
                self.pass_instead(count.as_bytes(), origin).await?;
                self.answered_with_rows();
                return Ok(true);
            }
            _ if !has_rows => {
                if words.first() == Some(&"SHOW") {
                    self.answered_with_rows();
                }
                return Ok(false);
            }
            _ => return self.refuse_diagnostics().await,
        };
        let limit = match limit_of(words.get(2..).unwrap_or_default()) {
            Some(limit) => limit,
            None if !has_rows => return Ok(false),
            None => return self.refuse_diagnostics().await,
        };
        if !has_rows {
            // The server's list may be that of a read of ours
            self.pass_instead(b"SHOW WARNINGS LIMIT 0", origin).await?;
            self.answered_with_rows();
            return Ok(true);
        }
        let Some(kept) = self.diagnostics.take() else { return Ok(false) };
        let Some(warnings) = &kept.warnings else { return Ok(false) };
        let rows = warnings.rows.iter().filter(|row| !only_errors || is_error(row));
        let rows = rows.skip(limit.0).take(limit.1);
        if origin.execution().is_some() {
            let rows: Vec<_> = rows.map(binary_row).collect::<Result<_, _>>()?;
            self.send_rows(warnings, rows.into_iter()).await?;
        } else {
            self.send_rows(warnings, rows.map(|row| row.to_vec())).await?;
        }
        self.diagnostics = Some(kept);
        self.answered_with_rows();
        Ok(true)
    }

    /// Behind a result `ROW_COUNT()` is -1.
    fn answered_with_rows(&mut self) {
        if let Some(kept) = &mut self.diagnostics {
            kept.row_count = -1;
        }
    }

    async fn refuse_diagnostics(&mut self) -> Result<bool, End> {
        let why =
            "diagnostics in another form than SHOW WARNINGS, behind a statement that was committed by itself";
        self.refuse(why).await?;
        Ok(true)
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
        self.client.write_all(&out).await.map_err(End::Client)
    }

    /// The statement with the numbers of the diagnostics put in; `None` where the server knows them itself.
    pub(super) fn with_diagnostics(&self, sql: &[u8], reads: &[DiagnosticRead]) -> Option<Vec<u8>> {
        let kept = self.diagnostics.as_ref()?;
        let mut out = Vec::with_capacity(sql.len() + 64);
        let mut at = 0;
        for (i, read) in reads.iter().enumerate() {
            out.extend_from_slice(sql.get(at..read.span.start)?);
            let value = match read.number {
                DiagnosticNumber::RowCount => row_count_sql(kept.row_count),
                DiagnosticNumber::WarningCount => count_sql(kept.warning_count),
                DiagnosticNumber::ErrorCount => count_sql(kept.error_count),
            };
            out.extend_from_slice(value.as_bytes());
            at = read.span.end;
            let last_of_item = reads.get(i + 1).is_none_or(|next| next.unaliased_item != read.unaliased_item);
            if let Some(item) = read.unaliased_item.as_ref().filter(|_| last_of_item) {
                out.extend_from_slice(sql.get(at..item.end)?);
                out.extend_from_slice(b" AS `");
                for &byte in sql.get(item.clone())? {
                    if byte == b'`' {
                        out.push(b'`');
                    }
                    out.push(byte);
                }
                out.push(b'`');
                at = item.end;
            }
        }
        out.extend_from_slice(sql.get(at..)?);
        Some(out)
    }
}

/// An expression of the type of `ROW_COUNT()`, a BIGINT of 21 digits, which is that of the number's text on MariaDB.
fn row_count_sql(row_count: i128) -> String {
    format!("CAST('{row_count:021}' AS SIGNED)")
}

/// An expression of the type of `@@warning_count` and `@@error_count`.
fn count_sql(count: usize) -> String {
    format!("CAST(CAST({count} AS CHAR(21)) AS UNSIGNED)")
}

/// The offset and the number of rows of `LIMIT [offset,] rows`, in upper case; all where there is no LIMIT.
fn limit_of(words: &[&str]) -> Option<(usize, usize)> {
    let numbers = match words {
        [] => return Some((0, usize::MAX)),
        ["LIMIT", numbers @ ..] => numbers.concat(),
        _ => return None,
    };
    match numbers.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>().ok()?.as_slice() {
        [rows] => Some((0, *rows)),
        [offset, rows] => Some((*offset, *rows)),
        _ => None,
    }
}

/// The number that a result consists of.
fn only_number(rows: &Rows) -> Option<usize> {
    let cells = rows.cells(0).ok()?;
    std::str::from_utf8(cells.first().copied().flatten()?).ok()?.parse().ok()
}

/// Whether a row of `SHOW WARNINGS` is an error.
fn is_error(row: &Bytes) -> bool {
    row.starts_with(b"\x05Error")
}

/// A row of `SHOW WARNINGS` (level, code, message) as a `Binary Protocol Resultset Row`.
fn binary_row(row: &Bytes) -> Result<Vec<u8>, End> {
    let cells = text_row(row, 3)?;
    let [Some(level), Some(code), Some(message)] = cells.as_slice() else {
        return Err(End::Broken("a warning with a NULL".into()));
    };
    let code: u32 = std::str::from_utf8(code)
        .ok()
        .and_then(|c| c.parse().ok())
        .ok_or_else(|| End::Broken("a warning whose code is no number".into()))?;
    // The header, and a NULL bitmap of three columns behind two reserved bits
    let mut out = vec![0, 0];
    put_lenenc_bytes(&mut out, level);
    out.extend_from_slice(&code.to_le_bytes());
    put_lenenc_bytes(&mut out, message);
    Ok(out)
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
