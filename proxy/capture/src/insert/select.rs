//! INSERT … SELECT in a bound session: the SELECT is read first, and its rows take the way of literal ones.

use atone_sql::{Insert, InsertValue, Marks, OnConflict, SourceQuery, Statement};
use atone_wire::column::ColumnKind;
use atone_wire::response::ErrPacket;

use crate::Capture;
use crate::error::End;
use crate::flight::{Flight, Reply, Rows};
use crate::insert::Target;
use crate::insert::conflicts::conditions;
use crate::insert::keys::{places, width};
use crate::insert::values::{BINARY, exact_literal, text_literal};
use crate::outcome::{Done, Halt, Written};
use crate::outcome::{last, with_context};
use crate::own_error::OwnError;
use crate::text::same_name;
use atone_facts::{ColumnDefault, TableInfo};

impl Capture<'_> {
    /// INSERT … SELECT, and REPLACE … SELECT.
    pub(crate) async fn insert_select(
        &mut self,
        target: Target<'_>,
        query: &SourceQuery,
    ) -> Result<Done, Halt> {
        if let (OnConflict::Fail, Some(column)) =
            (&target.insert.on_conflict, generated_column(target.insert, target.info))
        {
            return self.insert_generated(target, column).await;
        }
        let vars = self.session_vars().await?;
        let written = query.random || takes_computed_default(target.insert, target.info);
        // Texts as they are, where the values are written; else in a charset that holds them all
        let charset = if written { "NULL" } else { "utf8mb4" };
        let rows = match self.run_under_results(charset, vec![query.read.clone()], &vars).await?.pop() {
            Some(Reply::Rows(rows)) => rows,
            Some(Reply::Err(e)) => return Err(self.source_failed(target, e).await?),
            Some(Reply::TooLarge) => return Err(self.above_bytes("the rows of the SELECT are").into()),
            Some(Reply::Ok(_)) | None => return Err(Halt::broken("SELECT without rows")),
        };
        if rows.rows.is_empty() || rows.width != width(target.insert, target.info) {
            return self.insert_nothing(target).await;
        }
        if written {
            return self.insert_written(target, &rows).await;
        }
        let count = rows.rows.len();
        let (text, insert) = self.heavy.run(count, || literal_rows(target, &rows, self.capabilities))?;
        let conditions = self.heavy.run(count, || conditions(&text, &insert, target.info, &vars));
        let conditions = self.capturable(conditions)?;
        self.upsert(Target { insert: &insert, ..target }, &conditions).await
    }

    /// What ends an INSERT whose SELECT fails when it is read by itself.
    async fn source_failed(&mut self, target: Target<'_>, error: ErrPacket) -> Result<Halt, End> {
        let kept = self.state.diagnostics.take();
        let ignore = target.insert.ignore;
        let harmless = self.plan_of(target.text);
        // The server may have more to say against the view
        let always = ignore || target.view.is_some();
        let whole = (!ignore).then_some(target.text);
        let how = OwnError { harmless: &harmless, always, whole };
        if let Some(own) = Box::pin(self.own_error(&error, how)).await? {
            return Ok(Halt::Failed(own));
        }
        if ignore {
            // It may be but a warning there
            let why = with_context("the SELECT of an INSERT IGNORE cannot be read by itself", &error);
            return Ok(Halt::stop(why));
        }
        Ok(Halt::FailedBefore(error, kept))
    }

    /// Runs an INSERT that meets no other row, and of whose rows nobody knows which numbers the server generates in
    /// this column: those that others get may lie between them.
    pub(crate) async fn insert_generated(&mut self, target: Target<'_>, column: usize) -> Result<Done, Halt> {
        let ok = self.run_insert(target, true).await?;
        self.look_for_generated(ok, &target.info.table, column, None, target.trigger_targets).await
    }

    /// Inserts the rows that the SELECT had, as it would have others when it is read again.
    async fn insert_written(&mut self, target: Target<'_>, rows: &Rows) -> Result<Done, Halt> {
        let vars = self.session_vars().await?;
        let count = rows.rows.len();
        let text = self.heavy.run(count, || written_out(target, rows, self.capabilities, self.marks))?;
        if text.len() >= vars.max_allowed_packet {
            let why = "the statement with the rows of its SELECT is longer than max_allowed_packet";
            return Err(Halt::stop(why));
        }
        let analysis = self.heavy.run_text(text.len(), || atone_sql::analyze(&text, vars.mode));
        let Statement::Insert(insert) = analysis.statement else {
            return Err(Halt::stop("the statement with the rows of its SELECT is not understood"));
        };
        let mapped = target.mapped(&insert)?;
        let named = insert.columns.as_ref();
        let target = Target { text: &text, insert: &mapped, named, as_select: true, ..target };
        Box::pin(self.insert_rows(target)).await
    }

    /// The SELECT has no rows, or ones that do not fit: the statement must insert none.
    async fn insert_nothing(&mut self, target: Target<'_>) -> Result<Done, Halt> {
        let mut flight = Flight::default();
        flight.push_savepoint();
        flight.push_write(target.text);
        let ok = last(self.run_flight(flight).await?)?.written()?;
        if ok.affected_rows > 0 {
            let why = "the SELECT of the INSERT has other rows or columns when it is read before it";
            return Err(Halt::take_back(why));
        }
        if target.trigger_targets.is_empty() {
            return Ok(ok.into());
        }
        // A row that came meanwhile and was left out has fired triggers all the same
        let diagnostics = self.keep_diagnostics(&ok).await?;
        let trigger_rows = self.find_trigger_rows(target.trigger_targets).await?;
        self.touch_trigger_rows(trigger_rows);
        Ok(Written { ok, diagnostics }.into())
    }
}

/// The column of the key of which the server generates each row's value, if there is one.
pub(crate) fn generated_column(insert: &Insert, info: &TableInfo) -> Option<usize> {
    let columns = insert.columns.as_ref()?;
    let table = &info.table;
    let given = |name: &str| columns.iter().any(|column| same_name(column, name));
    let key = table.keys.first()?;
    key.columns
        .iter()
        .copied()
        .find(|&c| table.columns.get(c).is_some_and(|column| column.auto_increment && !given(&column.name)))
}

/// Whether a unique key takes a default that has another value for each row.
fn takes_computed_default(insert: &Insert, info: &TableInfo) -> bool {
    let Ok(places) = places(insert, info) else { return false };
    let computed = |c: &usize| {
        places.get(*c).copied().flatten().is_none()
            && matches!(info.defaults.get(*c), Some(ColumnDefault::Expression(_)))
    };
    info.table.keys.iter().any(|key| key.columns.iter().any(computed))
}

fn kinds(rows: &Rows, capabilities: u64) -> Result<Vec<ColumnKind>, String> {
    rows.columns.iter().map(|column| ColumnKind::parse(column, capabilities).map_err(unread)).collect()
}

fn unread(e: atone_wire::Malformed) -> String {
    format!("the rows of the SELECT: {e}")
}

/// The statement with the rows of its SELECT, whose texts are as they are, in the SELECT's place.
fn written_out(target: Target<'_>, rows: &Rows, capabilities: u64, marks: Marks) -> Result<Vec<u8>, String> {
    let Target { text, insert, .. } = target;
    let Some(query) = &insert.query else { return Err("the INSERT has no SELECT".into()) };
    if matches!(insert.on_conflict, OnConflict::Update(_)) {
        return Err("ON DUPLICATE KEY UPDATE with a SELECT that has other values each time".into());
    }
    let source = marks.with_literals(text.get(query.span.clone()).unwrap_or_default()).unwrap_or_default();
    let kinds = kinds(rows, capabilities)?;
    let mut out = text.get(..query.span.start).unwrap_or_default().to_vec();
    out.extend_from_slice(b"VALUES ");
    for i in 0..rows.rows.len() {
        out.extend_from_slice(if i == 0 { b"(" } else { b", (" });
        for (place, (cell, kind)) in rows.cells(i).map_err(unread)?.into_iter().zip(&kinds).enumerate() {
            if place > 0 {
                out.extend_from_slice(b", ");
            }
            out.extend_from_slice(&exact_literal(cell, *kind, &source)?);
        }
        out.push(b')');
    }
    out.extend_from_slice(text.get(query.span.end..).unwrap_or_default());
    Ok(out)
}

/// The rows of a query, whose texts are utf8mb4, as an INSERT of literals that are compared as its values are: its
/// text, which is the statement's with the literals after it, and where its values are in that.
fn literal_rows(target: Target<'_>, rows: &Rows, capabilities: u64) -> Result<(Vec<u8>, Insert), String> {
    let kinds = kinds(rows, capabilities)?;
    let mut text = target.text.to_vec();
    let mut out = Vec::with_capacity(rows.rows.len());
    for i in 0..rows.rows.len() {
        let mut row = Vec::with_capacity(kinds.len());
        for (cell, kind) in rows.cells(i).map_err(unread)?.into_iter().zip(&kinds) {
            let Some(cell) = cell else {
                row.push(InsertValue::Null);
                continue;
            };
            let begin = text.len();
            literal(&mut text, cell, *kind);
            row.push(InsertValue::Literal(begin..text.len()));
        }
        out.push(row);
    }
    let written = Insert { rows: out, values: None, query: None, ..target.insert.clone() };
    Ok((text, written))
}

/// A value of the text protocol as a literal.
fn literal(out: &mut Vec<u8>, cell: &[u8], kind: ColumnKind) {
    let digits = cell.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.')) && !cell.is_empty();
    if kind.is_exact_number() && digits {
        out.extend_from_slice(cell);
        return;
    }
    // Dates and times, which are compared as such
    if matches!(kind.kind, 7 | 10..=12)
        && cell.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b' '))
    {
        out.push(b'\'');
        out.extend_from_slice(cell);
        out.push(b'\'');
        return;
    }
    out.extend_from_slice(&text_literal(cell, if kind.collation == BINARY { "binary" } else { "utf8mb4" }));
}
