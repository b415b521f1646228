//! What is answered: JSON, and problem details (RFC 9457) for errors.

use atone_core::{
    BranchStatus, BranchView, LockView, Refusal, RefusalCode, Resolution, TransactionDetail, TransactionView,
};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::coordinator::Unavailable;

/// The `code` of an error that passes when others have ended.
const LIMIT_REACHED: &str = "limit_reached";
/// When to try again what met a limit, in seconds.
const RETRY_AFTER_S: u64 = 1;

/// An error.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: String,
    code: &'static str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:atone:error:{code}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            code,
        }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", "The request is not valid", detail)
    }

    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is too large", detail)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here", detail)
    }

    pub(crate) fn unknown_xid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown_xid", "The transaction is not known", detail)
    }

    pub(crate) fn not_supported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_supported", "This version can't do that", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path does not have that method; see /openapi.json";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "The method is not allowed", detail)
    }

    /// Must not be; said rather than taken for an answer.
    pub(crate) fn other_answer() -> Self {
        Self::unavailable("the coordinator gave the answer to another question")
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "The coordinator does not serve now",
            detail,
        )
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let conflict = StatusCode::CONFLICT;
        match refusal.code {
            RefusalCode::UnknownXid => Self::unknown_xid(refusal.message),
            RefusalCode::Ended => Self::new(conflict, "ended", "The transaction has ended", refusal.message),
            RefusalCode::RolledBack => {
                Self::new(conflict, "rolled_back", "The transaction was rolled back", refusal.message)
            }
            RefusalCode::TimedOut => Self::new(
                conflict,
                "timed_out",
                "The transaction was rolled back by its timeout",
                refusal.message,
            ),
            RefusalCode::Stopped => {
                Self::new(conflict, "rollback_failed", "The rollback has stopped", refusal.message)
            }
            RefusalCode::NotStopped => {
                Self::new(conflict, "not_stopped", "There is nothing to resolve", refusal.message)
            }
            RefusalCode::UnknownBranch => {
                Self::new(StatusCode::NOT_FOUND, "unknown_branch", "The branch is not known", refusal.message)
            }
            RefusalCode::LimitReached => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                LIMIT_REACHED,
                "A limit of the coordinator is reached",
                refusal.message,
            ),
            // Locks are not taken over REST.
            RefusalCode::LockTimeout | RefusalCode::LockDeadlock | RefusalCode::Invalid => {
                Self::invalid(refusal.message)
            }
        }
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::unavailable(error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if self.code == LIMIT_REACHED {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        response
    }
}

/// A transaction.
#[derive(Debug, Serialize)]
pub(crate) struct TransactionJson {
    xid: String,
    name: String,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    timeout_ms: u64,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branches: Option<Vec<BranchJson>>,
}

/// A branch.
#[derive(Debug, Serialize)]
pub(crate) struct BranchJson {
    branch_id: u64,
    resource: String,
    schema: String,
    status: &'static str,
    locks: usize,
    registered_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution: Option<ResolutionJson>,
}

/// What an operator decided about a branch.
#[derive(Debug, Serialize)]
pub(crate) struct ResolutionJson {
    action: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    by: String,
    decided_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_up: Option<Value>,
}

/// The answer to an operator's decision.
#[derive(Debug, Serialize)]
pub(crate) struct ResolvedJson {
    xid: String,
    branch_id: u64,
    action: &'static str,
    dry_run: bool,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_up: Option<Value>,
}

impl ResolvedJson {
    /// What was done, or would be done in a dry run.
    pub(crate) fn new(xid: String, action: &'static str, dry_run: bool, view: BranchView) -> Self {
        let given_up = match (&view.resolution, view.status) {
            (Some(resolution), _) => parsed(&resolution.given_up),
            (None, BranchStatus::RollbackFailed) => parsed(&view.detail),
            // A try that was under way has restored it.
            (None, _) => None,
        };
        let (branch_id, status) = (view.branch_id.0, view.status.as_str());
        Self { xid, branch_id, action, dry_run, status, given_up }
    }
}

/// What a proxy reports of a conflict is JSON; anything else is a sentence.
fn parsed(detail: &str) -> Option<Value> {
    match serde_json::from_str(detail) {
        Ok(object @ Value::Object(_)) => Some(object),
        _ if detail.is_empty() => None,
        _ => Some(Value::String(detail.to_owned())),
    }
}

/// A lock.
#[derive(Debug, Serialize)]
pub(crate) struct LockJson {
    resource: String,
    table: String,
    key: String,
    xid: String,
    branch_id: u64,
}

/// A part of a list of transactions.
#[derive(Debug, Serialize)]
pub(crate) struct TransactionsJson {
    pub(crate) transactions: Vec<TransactionJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// A part of the list of locks.
#[derive(Debug, Serialize)]
pub(crate) struct LocksJson {
    pub(crate) locks: Vec<LockJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl From<TransactionView> for TransactionJson {
    fn from(view: TransactionView) -> Self {
        Self {
            xid: view.xid.to_string(),
            name: view.name,
            status: view.status.as_str(),
            reason: view.reason,
            timeout_ms: view.timeout_ms,
            created_at: rfc3339(view.created_at_ms),
            decided_at: view.decided_at_ms.map(rfc3339),
            ended_at: view.ended_at_ms.map(rfc3339),
            branches: None,
        }
    }
}

impl From<TransactionDetail> for TransactionJson {
    fn from(detail: TransactionDetail) -> Self {
        let branches = detail.branches.into_iter().map(BranchJson::from).collect();
        Self { branches: Some(branches), ..Self::from(detail.transaction) }
    }
}

impl From<BranchView> for BranchJson {
    fn from(view: BranchView) -> Self {
        Self {
            branch_id: view.branch_id.0,
            resource: view.resource.to_string(),
            schema: view.schema.to_string(),
            status: view.status.as_str(),
            locks: view.lock_count,
            registered_at: rfc3339(view.registered_at_ms),
            detail: parsed(&view.detail),
            resolution: view.resolution.map(ResolutionJson::from),
        }
    }
}

impl From<Resolution> for ResolutionJson {
    fn from(resolution: Resolution) -> Self {
        Self {
            action: resolution.action.as_str(),
            by: resolution.by,
            decided_at: rfc3339(resolution.at_ms),
            given_up: parsed(&resolution.given_up),
        }
    }
}

impl From<LockView> for LockJson {
    fn from(view: LockView) -> Self {
        Self {
            resource: view.resource.to_string(),
            table: view.table.to_string(),
            key: view.key.to_string(),
            xid: view.xid.to_string(),
            branch_id: view.branch_id.0,
        }
    }
}

/// A time in RFC 3339, in UTC with milliseconds.
pub(crate) fn rfc3339(at_ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(format).ok())
        // Beyond the year 9999: a stored time that can't be written so is shown as it is.
        .unwrap_or_else(|| at_ms.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(rfc3339(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(u64::MAX), u64::MAX.to_string());
    }
}
