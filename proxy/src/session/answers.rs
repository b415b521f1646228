//! What `SHOW WARNINGS`, `ROW_COUNT()` and GET DIAGNOSTICS say after a statement that statements of the proxy's own
//! have followed.

use atone_sql::{DiagnosticNumber, DiagnosticRead, GetDiagnostics, Statement, get_diagnostics};
use atone_wire::caps::status;
use atone_wire::error_code::ER_DA_INVALID_CONDITION_NUMBER;
use atone_wire::read::put_lenenc_bytes;
use atone_wire::response::OkPacket;
use bytes::Bytes;

use super::Session;
use super::analysed::{Analysed, Origin};
use super::sql_state::{of_warning, origin as origin_of};
use atone_capture::diagnostics::{Condition, Diagnostics, is_error};
use atone_capture::error::End;
use atone_capture::flight::Reply;
use atone_capture::outcome::Halt;

impl Session {
    /// Answers a statement of a session that is not bound any more from what was kept; whether it could.
    pub(super) async fn answer_kept(&mut self, statement: &Analysed) -> Result<bool, Halt> {
        if self.state.diagnostics.is_none() {
            return Ok(false);
        }
        match &statement.analysis.statement {
            Statement::Diagnostics => self.answer_diagnostics(&statement.sql, &statement.origin).await,
            Statement::SelectsDiagnostics { reads } => {
                self.select_diagnostics(&statement.sql, reads, &statement.origin).await
            }
            _ => Ok(false),
        }
    }

    /// Answers a SELECT with the numbers that were kept; false where the server knows them itself.
    pub(super) async fn select_diagnostics(
        &mut self,
        sql: &[u8],
        reads: &[DiagnosticRead],
        origin: &Origin,
    ) -> Result<bool, Halt> {
        let Some(rewritten) = self.with_diagnostics(sql, reads) else { return Ok(false) };
        let taken = self.mark_list().await?;
        self.pass_instead(&rewritten, origin).await?;
        self.follow_list(taken).await?;
        Ok(true)
    }

    /// Answers `SHOW WARNINGS` and its like from what was kept; whether it could.
    pub(super) async fn answer_diagnostics(&mut self, sql: &[u8], origin: &Origin) -> Result<bool, Halt> {
        let Some(Diagnostics { warning_count, error_count, .. }) = self.state.diagnostics.get() else {
            return Ok(false);
        };
        let (warning_count, error_count) = (*warning_count, *error_count);
        let listed = warning_count > 0;
        let words = String::from_utf8_lossy(sql).trim_end_matches([';', ' ']).to_ascii_uppercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        let only_errors = match words.as_slice() {
            ["SHOW", "WARNINGS", ..] => false,
            ["SHOW", "ERRORS", ..] => true,
            ["SHOW", "COUNT(*)", what @ ("WARNINGS" | "ERRORS")] => {
                let (number, name) = if *what == "WARNINGS" {
                    (warning_count, "@@session.warning_count")
                } else {
                    (error_count, "@@session.error_count")
                };
                let count = format!("SELECT {} AS `{name}`", count_sql(name, number));
                self.pass_instead(count.as_bytes(), origin).await?;
                self.answered_with_rows();
                return Ok(true);
            }
            ["GET", ..] => match get_diagnostics(sql, self.capture().assumed_mode()) {
                Some(get) => return self.answer_get(sql, &get).await,
                None if words.get(1) == Some(&"STACKED") => return Ok(false),
                None => return Err(unanswerable()),
            },
            _ if !listed => {
                if words.first() == Some(&"SHOW") {
                    self.answered_with_rows();
                }
                return Ok(false);
            }
            _ => return Err(unanswerable()),
        };
        let limit = match limit_of(words.get(2..).unwrap_or_default()) {
            Some(limit) => limit,
            None if !listed => return Ok(false),
            None => return Err(unanswerable()),
        };
        if !listed {
            // The server's list may be that of a read of ours
            self.pass_instead(b"SHOW WARNINGS LIMIT 0", origin).await?;
            self.answered_with_rows();
            return Ok(true);
        }
        let defined = self.list("SHOW WARNINGS LIMIT 0").await?;
        let Some(kept) = self.state.diagnostics.take() else { return Ok(false) };
        let rows = kept.conditions.iter().filter(|row| !only_errors || is_error(row));
        let rows = rows.skip(limit.0).take(limit.1);
        if origin.execution().is_some() {
            let rows: Vec<_> = rows.map(binary_row).collect::<Result<_, _>>()?;
            self.send_rows(&defined, rows.into_iter()).await?;
        } else {
            self.send_rows(&defined, rows.map(|row| row.to_vec())).await?;
        }
        self.state.diagnostics.keep(kept);
        self.answered_with_rows();
        Ok(true)
    }

    /// Answers a GET DIAGNOSTICS: sets its variables to what was kept.
    async fn answer_get(&mut self, sql: &[u8], get: &GetDiagnostics) -> Result<bool, Halt> {
        let vars = self.capture().session_vars().await?;
        let charset = match vars.charset_results.as_str() {
            "NULL" | "binary" => "utf8mb4",
            charset => charset,
        };
        let Some(kept) = self.state.diagnostics.get() else { return Ok(false) };
        let condition = match get.condition {
            None => None,
            Some(number) => match number.checked_sub(1).and_then(|at| kept.conditions.get(at)) {
                Some(row) => Some(Condition::read(row)?),
                None => {
                    self.state
                        .diagnostics
                        .add_error(ER_DA_INVALID_CONDITION_NUMBER, b"Invalid condition number");
                    let status = self.link.status & !status::SESSION_STATE_CHANGED;
                    let ok = OkPacket { status, warnings: 1, ..OkPacket::default() };
                    self.send_ok(ok).await?;
                    return Ok(true);
                }
            },
        };
        let mut set = b"SET ".to_vec();
        for (i, (variable, item)) in get.items.iter().enumerate() {
            let Some(value) = item_sql(kept, condition.as_ref(), item, charset, self.link.mariadb) else {
                let why =
                    format!("GET DIAGNOSTICS of {item}, behind a statement that was committed by itself");
                return Err(why.into());
            };
            if i > 0 {
                set.extend_from_slice(b", ");
            }
            set.extend_from_slice(sql.get(variable.clone()).unwrap_or_default());
            set.extend_from_slice(b" = ");
            set.extend_from_slice(value.as_bytes());
        }
        match self.capture().run_theirs(set).await? {
            // It may be warned of the charset that texts of diagnostics have
            Reply::Ok(mut ok) => {
                ok = ok.without_session_state(self.link.capabilities);
                ok.warnings = 0;
                ok.status &= !status::SESSION_STATE_CHANGED;
                self.send_ok(ok).await?;
            }
            Reply::Err(error) => self.send_err(&error).await?,
            _ => return Err(Halt::broken("SET answered with rows")),
        }
        Ok(true)
    }

    /// After a result `ROW_COUNT()` is -1.
    fn answered_with_rows(&mut self) {
        self.state.diagnostics.set_row_count(-1);
    }

    /// The statement with the numbers of the diagnostics put in; `None` where the server knows them itself.
    pub(super) fn with_diagnostics(&self, sql: &[u8], reads: &[DiagnosticRead]) -> Option<Vec<u8>> {
        let kept = self.state.diagnostics.get()?;
        let mut out = Vec::with_capacity(sql.len() + 64);
        let mut at = 0;
        for (i, read) in reads.iter().enumerate() {
            out.extend_from_slice(sql.get(at..read.span.start)?);
            let value = match read.number {
                DiagnosticNumber::RowCount => row_count_sql(kept.row_count),
                DiagnosticNumber::WarningCount => {
                    count_sql(&String::from_utf8_lossy(sql.get(read.span.clone())?), kept.warning_count)
                }
                DiagnosticNumber::ErrorCount => {
                    count_sql(&String::from_utf8_lossy(sql.get(read.span.clone())?), kept.error_count)
                }
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

fn unanswerable() -> Halt {
    Halt::stop(
        "diagnostics in another form than SHOW WARNINGS, behind a statement that was committed by itself",
    )
}

/// An expression of the type of `ROW_COUNT()`: that of an IF is the type of both its values.
fn row_count_sql(row_count: i128) -> String {
    format!("IF(0, ROW_COUNT(), CAST({row_count} AS SIGNED))")
}

/// An expression of the type of this variable, `@@warning_count` or `@@error_count`.
fn count_sql(variable: &str, count: usize) -> String {
    format!("IF(0, {variable}, CAST({count} AS UNSIGNED))")
}

/// An expression of the value and the type of an item of GET DIAGNOSTICS; `None` where it is not known.
fn item_sql(
    kept: &Diagnostics,
    condition: Option<&Condition<'_>>,
    item: &str,
    charset: &str,
    mariadb: bool,
) -> Option<String> {
    let number = |number: usize| Some(format!("CAST({number} AS UNSIGNED)"));
    let text = |bytes: &[u8], charset: &str| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        Some(format!("CONVERT(CONVERT(X'{hex}' USING {charset}) USING utf8mb3)"))
    };
    let Some(condition) = condition else {
        return match item {
            "NUMBER" => number(kept.conditions.len()),
            "ROW_COUNT" => Some(format!("CAST({} AS SIGNED)", kept.row_count)),
            _ => None,
        };
    };
    let failed = kept.failed.filter(|(code, _)| *code == condition.code && condition.level == b"Error");
    let state = failed.map(|(_, state)| state).or_else(|| of_warning(condition.code, mariadb));
    match item {
        "MYSQL_ERRNO" => number(usize::from(condition.code)),
        "MESSAGE_TEXT" => text(condition.message, charset),
        "RETURNED_SQLSTATE" => text(&state?, "utf8mb4"),
        "CLASS_ORIGIN" | "SUBCLASS_ORIGIN" => text(origin_of(state?, mariadb)?, "utf8mb4"),
        // Only a SIGNAL gives them
        "CONSTRAINT_CATALOG" | "CONSTRAINT_SCHEMA" | "CONSTRAINT_NAME" | "CATALOG_NAME" | "SCHEMA_NAME"
        | "TABLE_NAME" | "COLUMN_NAME" | "CURSOR_NAME" => state.and_then(|_| text(b"", "utf8mb4")),
        _ => None,
    }
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

/// A row of `SHOW WARNINGS` (level, code, message) as a `Binary Protocol Resultset Row`.
fn binary_row(row: &Bytes) -> Result<Vec<u8>, End> {
    let Condition { level, code, message } = Condition::read(row)?;
    // The header, and a NULL bitmap of three columns after two reserved bits
    let mut out = vec![0, 0];
    put_lenenc_bytes(&mut out, level);
    out.extend_from_slice(&u32::from(code).to_le_bytes());
    put_lenenc_bytes(&mut out, message);
    Ok(out)
}
