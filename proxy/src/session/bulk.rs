//! MariaDB's `COM_STMT_BULK_EXECUTE` in a bound session: an INSERT becomes one of several rows, an UPDATE or a DELETE
//! runs once for each row of parameters, all of them or none. So does an INSERT that may meet other rows and is to
//! tell of each row what became of it.

use atone_sql::{Insert, InsertValue, Mode, OnConflict, Statement as Sql, without_mark};
use atone_wire::caps::client;
use atone_wire::execute::{BulkParam, BulkRows, bulk_statement_id, unit_results};
use atone_wire::response::OkPacket;
use bytes::Bytes;

use super::Session;
use super::analysed::Analysed;
use atone_capture::binding::tables::Resolved;
use atone_capture::error::{End, SqlError};
use atone_capture::flight::{Reply, Rows};
use atone_capture::insert::keys::places;
use atone_capture::outcome::{Halt, Written};
use atone_capture::params::substitute_bulk;
use atone_capture::settings::Vars;

/// The savepoint around the executions for each row.
const SAVEPOINT: &str = "`atone:bulk`";

impl Session {
    /// `COM_STMT_BULK_EXECUTE`
    pub(super) async fn bulk_execute(&mut self, payload: Bytes) -> Result<(), Halt> {
        let bound = self.link.binding.is_some();
        let id = bulk_statement_id(&payload).map(|id| self.statement_id(id));
        let statement = id.ok().and_then(|id| self.prepared.get_mut(id));
        let Some(statement) = statement else {
            if bound {
                return Err(SqlError::unknown_statement(id.unwrap_or_default(), self.link.mariadb).into());
            }
            return Ok(self.unbound_execute(&payload, b"").await?);
        };
        let (sql, may_concern_atone) = (statement.sql.clone(), statement.may_concern_atone);
        let reading = statement.reading.clone();
        let rows = BulkRows::parse(&payload, statement.params, &mut statement.types);
        if !bound && !may_concern_atone {
            return Ok(self.unbound_execute(&payload, &sql).await?);
        }
        let rows = rows.map_err(|e| SqlError::bad_parameters(&e.to_string()))?;
        let mode = self.reading_mode(&sql).await?;
        let Analysed { sql, analysis, .. } = Analysed::query(sql, mode);
        self.check_reading(&reading, &analysis.statement).await?;
        match &analysis.statement {
            Sql::Insert(insert) if rows.unit_results => {
                if insert.returning {
                    return Err(Halt::stop("a bulk execution with unit results of an INSERT with RETURNING"));
                }
                if insert.on_conflict != OnConflict::Fail || insert.query.is_some() {
                    return Ok(self.bulk_change(&sql, &analysis, rows, mode).await?);
                }
                self.bulk_insert_units(&sql, insert, &analysis, rows, mode).await
            }
            Sql::Insert(insert) => {
                let text = bulk_insert(&sql, insert, &analysis, rows, mode, self.statement_limit())
                    .map_err(|why| self.bulk_refusal(why))?;
                Ok(self.answered_in_binary(Analysed::instead(text.into(), mode, None)).await?)
            }
            Sql::Dml(dml) if dml.returning().is_some() => {
                Err(Halt::stop("a bulk execution of a DELETE with RETURNING"))
            }
            Sql::Dml(_) if analysis.xid_hint.is_none() => {
                Ok(self.bulk_change(&sql, &analysis, rows, mode).await?)
            }
            _ => {
                let why =
                    "a bulk execution of another statement than INSERT, UPDATE or DELETE, or with a hint";
                Err(Halt::stop(why))
            }
        }
    }

    fn statement_limit(&self) -> usize {
        self.link.backend.limits.max_statement_bytes
    }

    fn bulk_refusal(&self, why: Unbuilt) -> SqlError {
        match why {
            Unbuilt::Refused(why) => SqlError::refused(&self.xid(), &why),
            Unbuilt::Malformed(why) => SqlError::bad_parameters(why),
            Unbuilt::TooLarge(limit) => SqlError::too_large(&self.xid(), limit),
        }
    }

    /// An INSERT of new rows, answered with the number that was generated for each.
    async fn bulk_insert_units(
        &mut self,
        sql: &[u8],
        insert: &Insert,
        analysis: &atone_sql::Analysis,
        rows: BulkRows<'_>,
        mode: Mode,
    ) -> Result<(), Halt> {
        let text = bulk_insert(sql, insert, analysis, rows, mode, self.statement_limit())
            .map_err(|why| self.bulk_refusal(why))?;
        let vars = self.capture().session_vars().await?;
        let place = self.place_of_number(insert, &vars).await?;
        let statement = Analysed::instead(text.into(), mode, None);
        let given = match &statement.analysis.statement {
            Sql::Insert(all) => given_numbers(&statement.sql, all, place, &vars),
            _ => Vec::new(),
        };
        self.held = Some(Vec::new());
        let ran = self.answered_in_binary(statement).await;
        let held = self.held.take().unwrap_or_default();
        ran?;
        let (false, Some(ok)) = (self.link.reply.failed, held.first()) else { return Ok(()) };
        let mut numbers = vars.numbering.from(ok.last_insert_id);
        let mut unit = |given: &bool| {
            let id = if *given || ok.last_insert_id == 0 { 0 } else { numbers.next().unwrap_or_default() };
            (id, 1)
        };
        let units: Vec<(u64, u64)> = given.iter().map(&mut unit).collect();
        let rows = self.unit_rows(&units, ok);
        Ok(self.send_rows(&rows, rows.rows.iter().map(|row| row.to_vec())).await?)
    }

    /// The result of a bulk execution with unit results.
    fn unit_rows(&self, units: &[(u64, u64)], ok: &OkPacket) -> Rows {
        let (columns, rows) = unit_results(units, self.link.capabilities);
        let end = if self.link.capabilities & client::DEPRECATE_EOF != 0 {
            let mut end = OkPacket { warnings: ok.warnings, ..OkPacket::default() }.encode();
            if let Some(first) = end.first_mut() {
                *first = 0xfe;
            }
            end
        } else {
            let [low, high] = ok.warnings.to_le_bytes();
            vec![0xfe, low, high, 0, 0]
        };
        Rows {
            width: columns.len(),
            columns: columns.into_iter().map(Bytes::from).collect(),
            rows: rows.into_iter().map(Bytes::from).collect(),
            end: end.into(),
        }
    }

    /// Where in its rows an INSERT gives the number that the server generates otherwise.
    async fn place_of_number(&mut self, insert: &Insert, vars: &Vars) -> Result<Option<usize>, End> {
        let Resolved::Table(info, _) = self.capture().resolve_name(&insert.table, vars).await? else {
            return Ok(None);
        };
        let Some(column) = info.table.columns.iter().position(|column| column.auto_increment) else {
            return Ok(None);
        };
        Ok(places(insert, &info).ok().and_then(|places| places.get(column).copied().flatten()))
    }

    /// A statement once for each row.
    async fn bulk_change(
        &mut self,
        sql: &[u8],
        analysis: &atone_sql::Analysis,
        rows: BulkRows<'_>,
        mode: Mode,
    ) -> Result<(), End> {
        let alone = self.capture().stands_alone();
        let unit_results = rows.unit_results;
        self.state.diagnostics.forget();
        let begin = if alone { "START TRANSACTION".to_string() } else { format!("SAVEPOINT {SAVEPOINT}") };
        self.command.progress.alone = alone;
        self.capture().run_one(begin).await?;
        self.state.branch.savepoint(SAVEPOINT);
        self.held = Some(Vec::new());
        self.command.in_bulk = true;
        let ran = self.changes(sql, analysis, rows, mode).await;
        // Still one of several: what the rows before it have done is taken back below
        let answered = self.settle(ran).await;
        self.command.in_bulk = false;
        let held = self.held.take().unwrap_or_default();
        answered?;
        if self.link.reply.failed {
            return self.undo_bulk(alone).await;
        }
        let update = matches!(&analysis.statement, Sql::Dml(dml) if !dml.deletes());
        let ok = sum(&held, update);
        if unit_results {
            let units: Vec<(u64, u64)> =
                held.iter().map(|ok| (ok.last_insert_id, ok.affected_rows)).collect();
            self.command.returned = Some(self.unit_rows(&units, &ok));
        }
        self.state.branch.release(SAVEPOINT);
        self.written(Written { ok, diagnostics: None }).await
    }

    /// Each row's statement, up to the first that fails.
    async fn changes(
        &mut self,
        sql: &[u8],
        analysis: &atone_sql::Analysis,
        mut rows: BulkRows<'_>,
        mode: Mode,
    ) -> Result<(), Halt> {
        while !self.link.reply.failed {
            let row = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(e) => return Err(SqlError::bad_parameters(&e.to_string()).into()),
            };
            let text = one_row(sql, &analysis.placeholders, &row, mode, self.statement_limit())
                .map_err(|why| self.bulk_refusal(why))?;
            let Analysed { sql: text, analysis, origin } = Analysed::instead(text.into(), mode, None);
            let outcome = match &analysis.statement {
                Sql::Dml(dml) => self.capture().change(&text, dml, &analysis).await,
                Sql::Insert(insert) => self.capture().insert(&text, insert, &analysis).await,
                _ => Err(Halt::broken("a statement that its parameters have changed")),
            };
            self.conclude(outcome, origin).await?;
        }
        Ok(())
    }

    /// A row failed, and the client was told so: those before it go as well.
    async fn undo_bulk(&mut self, alone: bool) -> Result<(), End> {
        if !self.in_transaction() {
            return Ok(());
        }
        if alone {
            return self.capture().rollback_local().await;
        }
        for _ in 0..2 {
            if let Reply::Ok(_) = self.capture().fly_one(format!("ROLLBACK TO {SAVEPOINT}")).await? {
                self.state.branch.rollback_to(SAVEPOINT);
                self.state.branch.release(SAVEPOINT);
                return Ok(());
            }
        }
        Err(End::Broken("the server refuses ROLLBACK TO".into()))
    }
}

/// Why no statement could be made of a row of parameters.
enum Unbuilt {
    Refused(String),
    Malformed(&'static str),
    TooLarge(usize),
}

/// The INSERT with all rows of parameters.
fn bulk_insert(
    sql: &[u8],
    insert: &Insert,
    analysis: &atone_sql::Analysis,
    mut rows: BulkRows<'_>,
    mode: Mode,
    limit: usize,
) -> Result<Vec<u8>, Unbuilt> {
    let single = insert.values.as_ref().filter(|_| insert.rows.len() == 1);
    let Some(values) = single.filter(|v| analysis.placeholders.iter().all(|p| v.contains(p))) else {
        return Err(Unbuilt::Refused("a bulk execution of an INSERT in another form than VALUES (…)".into()));
    };
    let (tuple, head) = (&sql[values.clone()], &sql[..values.start]);
    let placeholders: Vec<usize> = analysis.placeholders.iter().map(|p| p - values.start).collect();
    let mut out = head.to_vec();
    let mut first = true;
    while let Some(row) = rows.next_row().map_err(|e| Unbuilt::Malformed(e.0))? {
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(&one_row(tuple, &placeholders, &row, mode, limit)?);
        if out.len() > limit {
            return Err(Unbuilt::TooLarge(limit));
        }
    }
    if first {
        return Err(Unbuilt::Malformed("a bulk execution without rows"));
    }
    out.extend_from_slice(&sql[values.end..analysis.terminator.max(values.end)]);
    Ok(out)
}

fn one_row(
    text: &[u8],
    placeholders: &[usize],
    row: &[BulkParam],
    mode: Mode,
    limit: usize,
) -> Result<Vec<u8>, Unbuilt> {
    let text = substitute_bulk(text, placeholders, row, mode).map_err(Unbuilt::Refused)?;
    if text.len() > limit { Err(Unbuilt::TooLarge(limit)) } else { Ok(text) }
}

/// For each row of an INSERT whether it gives a number itself, which stands at this place.
fn given_numbers(sql: &[u8], insert: &Insert, place: Option<usize>, vars: &Vars) -> Vec<bool> {
    let gives = |row: &Vec<InsertValue>| match place.and_then(|place| row.get(place)) {
        Some(InsertValue::Literal(span)) => {
            let text = without_mark(sql.get(span.clone()).unwrap_or_default(), vars.mode.marks);
            vars.zero_is_no_default() || text != b"0"
        }
        _ => false,
    };
    insert.rows.iter().map(gives).collect()
}

/// What the server would have said to all of them at once.
fn sum(held: &[OkPacket], update: bool) -> OkPacket {
    let mut total = OkPacket::default();
    for ok in held {
        total.affected_rows = total.affected_rows.saturating_add(ok.affected_rows);
        total.warnings = total.warnings.saturating_add(ok.warnings);
        total.status = ok.status;
    }
    if !update {
        return total;
    }
    // For a bulk execution MariaDB gives the affected rows twice
    let OkPacket { affected_rows, warnings, .. } = total;
    let info = format!("Rows matched: {affected_rows}  Changed: {affected_rows}  Warnings: {warnings}");
    total.with_info(info.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_warnings_are_added_up() {
        let ok = |affected_rows, warnings| OkPacket { affected_rows, warnings, ..OkPacket::default() };
        let total = sum(&[ok(1, 0), ok(0, 1), ok(2, 0)], true);
        assert_eq!((total.affected_rows, total.warnings), (3, 1));
        assert_eq!(total.info(), b"Rows matched: 3  Changed: 3  Warnings: 1");
        assert_eq!(sum(&[ok(2, 0)], false).tail, b"");
    }
}
