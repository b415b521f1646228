//! `atone undo`.

mod compensation;
mod live;
mod log;
mod view;

use atone_undo::connection_setup;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error};
use serde_json::Value;

use crate::args::{Source, Undo};
use crate::render::Palette;
use crate::{Failure, Report, config};
use live::{Judged, Overlay};
use log::{Content, Filter, LogRow};
use view::ShownTable;

/// How long a login may take.
const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_secs(15);
/// The most undo rows of one transaction that are shown.
const MAX_BRANCHES: u64 = 10_000;

pub(crate) async fn run(command: Undo, json: bool, palette: Palette) -> Result<Report, Failure> {
    match command {
        Undo::Ls { source, xid, limit } => list(&source, xid.as_deref(), limit, json, palette).await,
        Undo::Show { source, xid, branch, rows } => {
            let rows = usize::try_from(rows).unwrap_or(usize::MAX);
            show(&source, &xid, branch, rows, json, palette).await
        }
        Undo::Sql { source, xid, branch } => sql(&source, &xid, branch, json).await,
    }
}

async fn connect(source: &Source) -> Result<Conn, Failure> {
    let server = config::server(source)?;
    let set_up = async {
        let mut conn = match (Conn::new(server.opts).await, server.plain) {
            (Err(Error::Driver(DriverError::NoClientSslFlagFromServer)), Some(plain)) => {
                Conn::new(plain).await
            }
            (made, _) => made,
        }?;
        for statement in connection_setup() {
            conn.query_drop(statement).await?;
        }
        Ok::<_, mysql_async::Error>(conn)
    };
    match tokio::time::timeout(CONNECT_LIMIT, set_up).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(error)) => Err(Failure::Failed(format!("the server does not let us in: {error}"))),
        Err(_) => Err(Failure::Failed(format!("the server did not answer in {} s", CONNECT_LIMIT.as_secs()))),
    }
}

/// The sentence for standard error where rows did not decode.
fn undecodable(count: usize) -> Option<String> {
    (count > 0).then(|| format!("{count} undo row(s) do not decode"))
}

async fn list(
    source: &Source,
    xid: Option<&str>,
    limit: u64,
    json: bool,
    palette: Palette,
) -> Result<Report, Failure> {
    let mut conn = connect(source).await?;
    let mut rows: Vec<view::Summary> = Vec::new();
    let mut more = false;
    for schema in log::schemas(&mut conn, source.schema.as_deref()).await? {
        let left = limit.saturating_sub(rows.len() as u64);
        // One more than is shown tells whether there are more.
        let filter = Filter { xid, limit: left.saturating_add(1) };
        let mut found: Vec<view::Summary> = Vec::new();
        log::read(&mut conn, &schema, &filter, |row| found.push(view::Summary::of(&row))).await?;
        found.sort_by_key(|row| row.branch_id);
        more |= found.len() as u64 > left;
        rows.extend(found.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)));
    }
    rows.sort_by_key(|row| row.branch_id);
    let failure = undecodable(rows.iter().filter(|row| row.error.is_some()).count());
    let mut report = if json {
        Report::json(&view::list_json(&rows, more))?
    } else {
        Report { text: view::list(&rows, more, palette), failure: None }
    };
    report.failure = failure;
    Ok(report)
}

/// All undo rows of a transaction on this server, the last branch first: the order in which they are undone. Fails
/// where the branch that was asked for is not among them.
async fn find(
    conn: &mut Conn,
    source: &Source,
    xid: &str,
    branch_id: Option<u64>,
) -> Result<Vec<LogRow>, Failure> {
    let mut rows = Vec::new();
    for schema in log::schemas(conn, source.schema.as_deref()).await? {
        let filter = Filter { xid: Some(xid), limit: MAX_BRANCHES };
        log::read(conn, &schema, &filter, |row| rows.push(row)).await?;
    }
    if !rows.iter().any(|row| is_wanted(row, branch_id)) {
        let which = branch_id.map(|id| format!("branch {id} of ")).unwrap_or_default();
        return Err(Failure::Failed(format!("this server has no undo row of {which}{xid}")));
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.branch_id));
    Ok(rows)
}

fn is_wanted(row: &LogRow, branch_id: Option<u64>) -> bool {
    branch_id.is_none_or(|id| u64::try_from(row.branch_id) == Ok(id))
}

/// Each table of a branch, judged; or why it could not be.
type JudgedTables<'a> = Vec<(&'a atone_undo::TableChanges, Result<Vec<Judged<'a>>, String>)>;

async fn judge_all<'a>(conn: &mut Conn, rows: &'a [LogRow]) -> Vec<(&'a LogRow, JudgedTables<'a>)> {
    let mut overlay = Overlay::default();
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let mut tables = Vec::new();
        if let Content::Undo(record) = &row.content {
            for changes in &record.tables {
                tables.push((changes, live::judged(conn, &changes.table, &changes.rows, &mut overlay).await));
            }
        }
        all.push((row, tables));
    }
    all
}

/// The failure that these rows are: some that do not decode, or tables that cannot be read.
fn failure(rows: &[(&LogRow, JudgedTables<'_>)]) -> Option<String> {
    let bad = rows.iter().filter(|(row, _)| matches!(row.content, Content::Bad { .. })).count();
    undecodable(bad).or_else(|| {
        rows.iter().flat_map(|(_, tables)| tables).find_map(|(changes, judged)| {
            let why = judged.as_ref().err()?;
            Some(format!("{} can't be read as it was recorded: {why}", changes.table.quoted()))
        })
    })
}

async fn show(
    source: &Source,
    xid: &str,
    branch: Option<u64>,
    max_rows: usize,
    json: bool,
    palette: Palette,
) -> Result<Report, Failure> {
    let mut conn = connect(source).await?;
    let rows = find(&mut conn, source, xid, branch).await?;
    let mut judged = judge_all(&mut conn, &rows).await;
    judged.retain(|(row, _)| is_wanted(row, branch));
    judged.reverse();
    let failure = failure(&judged);
    let shown: Vec<view::ShownRow<'_>> = judged
        .into_iter()
        .map(|(row, tables)| view::ShownRow {
            row,
            tables: tables
                .into_iter()
                .map(|(changes, judged)| ShownTable::of(changes, judged, max_rows))
                .collect(),
        })
        .collect();
    let mut report = if json {
        Report::json(&Value::Array(shown.iter().map(view::ShownRow::json).collect()))?
    } else {
        let texts: Vec<String> = shown.iter().map(|row| row.text(palette)).collect();
        Report { text: texts.join("\n"), failure: None }
    };
    report.failure = failure;
    Ok(report)
}

async fn sql(source: &Source, xid: &str, branch: Option<u64>, json: bool) -> Result<Report, Failure> {
    let mut conn = connect(source).await?;
    let rows = find(&mut conn, source, xid, branch).await?;
    let settings = live::settings(&mut conn).await?;
    let mut judged = judge_all(&mut conn, &rows).await;
    judged.retain(|(row, _)| is_wanted(row, branch));
    let failure = failure(&judged);
    let branches: Vec<compensation::CompensatedBranch<'_>> = judged
        .into_iter()
        .map(|(row, tables)| compensation::CompensatedBranch {
            row,
            tables: tables
                .into_iter()
                .map(|(changes, judged)| compensation::Compensated::of(changes, judged))
                .collect(),
        })
        .collect();
    let mut report = if json {
        Report::json(&compensation::sql_json(&settings, &branches))?
    } else {
        Report { text: compensation::sql(&settings, &branches), failure: None }
    };
    report.failure = failure;
    Ok(report)
}
