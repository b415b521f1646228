//! INSERT … SELECT in a bound session: the SELECT is read first, and its rows take the way of literal ones.

use atone_sql::{Analysis, Insert, InsertValue, SourceQuery};
use atone_wire::column::ColumnKind;

use super::Session;
use super::bound::Origin;
use super::conflicts::conditions;
use super::dml::NO_LIMIT;
use super::inject::{Reply, Rows, Vars};
use super::tables::Resolved;
use super::upsert::Try;
use crate::error::{End, SqlError};

/// The collation of bytes.
const BINARY: u16 = 63;

impl Session {
    /// INSERT … SELECT, and REPLACE … SELECT.
    pub(super) async fn insert_select(
        &mut self,
        sql: &[u8],
        insert: &Insert,
        query: &SourceQuery,
        analysis: &Analysis,
        origin: Origin,
    ) -> Result<(), End> {
        let vars = self.session_vars().await?;
        let (info, probe) = match self.resolve(&insert.table, &vars).await? {
            Resolved::Table(info, probe) => (info, probe),
            Resolved::Temporary => return self.pass_temporary(origin).await,
            Resolved::Answer(e) => return self.statement_failed(e, false).await,
        };
        let alone = self.stands_alone();
        if alone && let Reply::Err(e) = self.run_one("START TRANSACTION").await? {
            return self.statement_failed(e, false).await;
        }
        // Locked as the INSERT locks them, so that it reads the same rows
        let mut read = sql[query.span.clone()].to_vec();
        if !query.limited {
            read.extend_from_slice(NO_LIMIT);
        }
        read.extend_from_slice(b" LOCK IN SHARE MODE");
        let rows = match self.run_one(read).await? {
            Reply::Rows(rows) => rows,
            Reply::Err(e) => return self.statement_failed(e, alone).await,
            Reply::TooLarge => {
                let limit = self.backend.limits.max_branch_bytes;
                let why = format!("the rows of the SELECT are above max_branch_bytes = {limit}");
                return self.refuse_select(&why, alone).await;
            }
            Reply::Ok(_) => return Err(End::Broken("SELECT without rows".into())),
        };
        let text = &sql[..analysis.terminator];
        if rows.rows.is_empty() {
            return self.insert_nothing(text, alone).await;
        }
        let written = match written_out(sql, insert, &rows, &vars, self.capabilities) {
            Ok(written) => written,
            Err(why) => return self.refuse_select(&why, alone).await,
        };
        let conditions = match self.capturable(&written.1, conditions(&written.0, &written.1, &info)) {
            Ok(conditions) => conditions,
            Err(why) => return self.refuse_select(&why, alone).await,
        };
        let try_ = Try { begin: false, alone, last: true };
        self.try_upsert(text, &written.1, &info, &probe, &conditions, try_).await?;
        Ok(())
    }

    /// The SELECT has no rows: the statement must find none either.
    async fn insert_nothing(&mut self, text: &[u8], alone: bool) -> Result<(), End> {
        if let Reply::Err(e) = self.run_one(format!("SAVEPOINT {}", super::insert::SAVEPOINT)).await? {
            return self.statement_failed(e, alone).await;
        }
        match self.run_one(text).await? {
            Reply::Ok(ok) if ok.affected_rows == 0 => self.statement_done(ok, alone).await,
            Reply::Ok(_) => {
                let why = "the SELECT of the INSERT has other rows when it is read twice";
                self.take_insert_back(why, alone).await
            }
            Reply::Err(e) => self.statement_failed(e, alone).await,
            _ => Err(End::Broken("a statement that writes answered with rows".into())),
        }
    }

    async fn refuse_select(&mut self, why: &str, alone: bool) -> Result<(), End> {
        self.abandon(alone).await?;
        self.send_error(&SqlError::refused(&self.xid(), why)).await
    }
}

/// The rows of a query as an INSERT of literals: its text, which is the statement's with the literals behind it, and where
/// its values are in that.
fn written_out(
    sql: &[u8],
    insert: &Insert,
    rows: &Rows,
    vars: &Vars,
    capabilities: u64,
) -> Result<(Vec<u8>, Insert), String> {
    let unread = |e: atone_wire::Malformed| format!("the rows of the SELECT: {e}");
    let kinds: Vec<ColumnKind> = rows
        .columns
        .iter()
        .map(|definition| ColumnKind::parse(definition, capabilities).map_err(unread))
        .collect::<Result<_, _>>()?;
    let mut text = sql.to_vec();
    let mut out = Vec::with_capacity(rows.rows.len());
    for i in 0..rows.rows.len() {
        let mut row = Vec::with_capacity(kinds.len());
        for (cell, kind) in rows.cells(i).map_err(unread)?.into_iter().zip(&kinds) {
            let Some(cell) = cell else {
                row.push(InsertValue::Null);
                continue;
            };
            let begin = text.len();
            literal(&mut text, cell, *kind, vars)?;
            row.push(InsertValue::Literal(begin..text.len()));
        }
        out.push(row);
    }
    let written = Insert { rows: out, values: None, query: None, ..insert.clone() };
    Ok((text, written))
}

/// A value of the text protocol as a literal.
fn literal(out: &mut Vec<u8>, cell: &[u8], kind: ColumnKind, vars: &Vars) -> Result<(), String> {
    let digits = cell.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')) && !cell.is_empty();
    if kind.is_exact_number() && digits {
        out.extend_from_slice(cell);
        return Ok(());
    }
    // Dates and times, which are compared as such
    if matches!(kind.kind, 7 | 10..=12)
        && cell.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b' '))
    {
        out.push(b'\'');
        out.extend_from_slice(cell);
        out.push(b'\'');
        return Ok(());
    }
    if kind.collation != BINARY {
        let charset = vars.charset_results.as_str();
        if charset == "NULL" || charset == "binary" || !charset.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(format!(
                "the SELECT's texts come as they are stored: character_set_results {charset}"
            ));
        }
        out.push(b'_');
        out.extend_from_slice(charset.as_bytes());
        out.push(b' ');
    }
    if cell.is_empty() {
        out.extend_from_slice(b"''");
        return Ok(());
    }
    out.extend_from_slice(b"0x");
    out.extend_from_slice(hex::encode(cell).as_bytes());
    Ok(())
}
