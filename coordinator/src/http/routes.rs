//! The handlers.

use std::time::Duration;

use atone_core::{
    Action, BranchId, Event, LockCursor, LockFilter, MAX_ROLLBACK_WAIT_MS, Reply, ReplyTo, Slice, Status,
    TransactionFilter,
};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::answer::{LocksJson, Problem, ResolvedJson, TransactionJson, TransactionsJson};
use super::{MAX_BODY_BYTES, OPENAPI, Shared};

/// How many items a list has if no limit is given, and at most.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// How many entries one slice of a list looks at. Everything else has to wait meanwhile.
const SLICE_STEPS: usize = 2_000;
/// How long a decision's answer waits until a proxy has carried it out.
const RESOLVE_WAIT: Duration = Duration::from_secs(10);

type Body = Result<Bytes, BytesRejection>;
type XidPath = Result<Path<String>, PathRejection>;

/// The body of a begin; may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginBody {
    name: Option<String>,
    timeout_ms: Option<u64>,
}

/// The body of a commit or rollback: there is nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

/// The body of a resolve.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    action: Option<String>,
    rows: Option<serde_json::Value>,
    #[serde(default)]
    dry_run: bool,
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackQuery {
    wait: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransactionsQuery {
    status: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LocksQuery {
    xid: Option<String>,
    resource: Option<String>,
    table: Option<String>,
    limit: Option<usize>,
    after: Option<String>,
}

pub(super) async fn begin(State(shared): State<Shared>, body: Body) -> Result<Response, Problem> {
    let BeginBody { name, timeout_ms } = parse_body(body)?;
    if timeout_ms == Some(0) {
        return Err(Problem::invalid("timeout_ms has to be at least 1"));
    }
    let (name, timeout_ms) = (name.unwrap_or_default(), timeout_ms.unwrap_or(0));
    let transaction = call(&shared, |to| Event::Begin { to, name, timeout_ms }).await?;
    Ok((StatusCode::CREATED, Json(transaction)).into_response())
}

pub(super) async fn commit(
    State(shared): State<Shared>,
    path: XidPath,
    body: Body,
) -> Result<Json<TransactionJson>, Problem> {
    let (xid, EmptyBody {}) = (xid(path)?, parse_body(body)?);
    call(&shared, |to| Event::Commit { to, xid }).await.map(Json)
}

pub(super) async fn rollback(
    State(shared): State<Shared>,
    path: XidPath,
    query: Result<Query<RollbackQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<TransactionJson>, Problem> {
    let Query(RollbackQuery { wait }) = query.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let (xid, EmptyBody {}) = (xid(path)?, parse_body(body)?);
    let wait_ms = wait.as_deref().map(parse_wait).transpose()?;
    call(&shared, |to| Event::Rollback { to, xid, wait_ms }).await.map(Json)
}

pub(super) async fn resolve(
    State(shared): State<Shared>,
    path: Result<Path<(String, u64)>, PathRejection>,
    body: Body,
) -> Result<Json<ResolvedJson>, Problem> {
    let Path((xid, branch_id)) = path.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let ResolveBody { action, rows, dry_run, by } = parse_body(body)?;
    let action = match action.as_deref() {
        Some("keep_current") => Action::KeepCurrent,
        Some("force_before") => {
            return Err(Problem::not_supported(
                "force_before is not built: put the rows to their values before by hand (`atone undo sql` prints the \
                 statements) and roll back again",
            ));
        }
        Some(other) => return Err(Problem::invalid(format!("action {other:?} is not known"))),
        None => return Err(Problem::invalid("action is missing")),
    };
    if rows.is_some() {
        return Err(Problem::not_supported(
            "a decision about some rows is not built: it is about the branch",
        ));
    }
    let (branch, by) = (BranchId(branch_id), by.unwrap_or_default());
    let coordinator = shared.coordinator()?;
    if !dry_run {
        tracing::warn!(
            xid,
            branch = branch_id,
            by,
            "an operator asks to keep the rows of a branch as they are"
        );
    }
    let ask =
        coordinator.call(|to| Event::KeepCurrent { to, xid: xid.clone(), branch, by: by.clone(), dry_run });
    let view = match tokio::time::timeout(RESOLVE_WAIT, ask).await {
        Ok(answer) => match answer?? {
            Reply::Branch(view) => *view,
            Reply::Transaction(_) | Reply::Registered(_) => return Err(Problem::other_answer()),
        },
        // It is decided, and no proxy of the server has carried it out yet.
        Err(_) => {
            let detail = coordinator.read(|core| core.transaction(&xid)).await?;
            let found = detail.and_then(|d| d.branches.into_iter().find(|found| found.branch_id == branch));
            found.ok_or_else(|| Problem::unknown_xid(format!("there is no transaction {xid:?}")))?
        }
    };
    Ok(Json(ResolvedJson::new(xid, action.as_str(), dry_run, view)))
}

pub(super) async fn transaction(
    State(shared): State<Shared>,
    path: XidPath,
) -> Result<Json<TransactionJson>, Problem> {
    let xid = xid(path)?;
    let detail = shared.coordinator()?.read(|core| core.transaction(&xid)).await?;
    let detail = detail.ok_or_else(|| Problem::unknown_xid(format!("there is no transaction {xid:?}")))?;
    Ok(Json(detail.into()))
}

pub(super) async fn transactions(
    State(shared): State<Shared>,
    query: Result<Query<TransactionsQuery>, QueryRejection>,
) -> Result<Json<TransactionsJson>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let status = match query.status {
        None => None,
        Some(name) => Some(Status::parse(&name).ok_or_else(|| {
            let all = Status::ALL.map(Status::as_str).join(", ");
            Problem::invalid(format!("status {name:?} is not known; there are {all}"))
        })?),
    };
    let filter =
        TransactionFilter { status, name: query.name, after: query.after, limit: limit(query.limit)? };
    let coordinator = shared.coordinator()?;
    let (mut filter, mut found) = (filter, Vec::new());
    let page = loop {
        match coordinator.read(|core| core.transactions_slice(&filter, found, SLICE_STEPS)).await?? {
            Slice::Page(page) => break page,
            Slice::Unfinished(so_far, after) => (found, filter.after) = (so_far, Some(after.to_string())),
        }
    };
    Ok(Json(TransactionsJson {
        transactions: page.items.into_iter().map(TransactionJson::from).collect(),
        next: page.next.map(|xid| xid.to_string()),
    }))
}

pub(super) async fn locks(
    State(shared): State<Shared>,
    query: Result<Query<LocksQuery>, QueryRejection>,
) -> Result<Json<LocksJson>, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let after = match &query.after {
        None => None,
        Some(text) => Some(parse_cursor(text).ok_or_else(|| {
            Problem::invalid(format!("after {text:?} is not what `next` of an earlier answer said"))
        })?),
    };
    let filter = LockFilter {
        xid: query.xid,
        resource: query.resource,
        table: query.table,
        after,
        limit: limit(query.limit)?,
    };
    let coordinator = shared.coordinator()?;
    let (mut filter, mut found) = (filter, Vec::new());
    let page = loop {
        match coordinator.read(|core| core.locks_slice(&filter, found, SLICE_STEPS)).await? {
            Slice::Page(page) => break page,
            Slice::Unfinished(so_far, after) => (found, filter.after) = (so_far, Some(after)),
        }
    };
    Ok(Json(LocksJson {
        locks: page.items.into_iter().map(Into::into).collect(),
        next: page.next.map(|LockCursor(seq, branch, index)| format!("{seq}.{branch}.{index}")),
    }))
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(super) async fn livez() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(shared): State<Shared>) -> Result<&'static str, Problem> {
    shared.coordinator().map(|_| "ok\n")
}

pub(super) async fn metrics(State(shared): State<Shared>) -> Result<Response, Problem> {
    if let Some(coordinator) = shared.coordinator.get() {
        let stats = coordinator.read(|core| core.stats()).await?;
        crate::metrics::record(&stats);
    }
    shared.metrics.run_upkeep();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], shared.metrics.render()).into_response())
}

async fn call(shared: &Shared, event: impl FnOnce(ReplyTo) -> Event) -> Result<TransactionJson, Problem> {
    match shared.coordinator()?.call(event).await?? {
        Reply::Transaction(view) => Ok(view.into()),
        Reply::Registered(_) | Reply::Branch(_) => Err(Problem::other_answer()),
    }
}

fn xid(path: XidPath) -> Result<String, Problem> {
    path.map(|Path(xid)| xid).map_err(|rejection| Problem::invalid(rejection.body_text()))
}

fn parse_body<T: Default + for<'de> Deserialize<'de>>(body: Body) -> Result<T, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::too_large(format!("the body may have {MAX_BODY_BYTES} bytes at most"))
        }
        _ => Problem::invalid(rejection.body_text()),
    })?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

/// How long a rollback's answer waits, in milliseconds.
fn parse_wait(text: &str) -> Result<u64, Problem> {
    let duration = humantime::parse_duration(text).map_err(|error| {
        Problem::invalid(format!("wait {text:?} is no duration such as 2s or 500ms: {error}"))
    })?;
    match u64::try_from(duration.as_millis()) {
        Ok(ms) if ms <= MAX_ROLLBACK_WAIT_MS => Ok(ms),
        _ => Err(Problem::invalid(format!("wait {text:?} is longer than {MAX_ROLLBACK_WAIT_MS} ms"))),
    }
}

fn limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        limit => Err(Problem::invalid(format!("limit {limit} is not between 1 and {MAX_LIMIT}"))),
    }
}

fn parse_cursor(text: &str) -> Option<LockCursor> {
    let mut parts = text.split('.').map(|part| part.parse::<u64>().ok());
    let cursor = LockCursor(parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(cursor)
}
