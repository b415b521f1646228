//! The coordinator's REST API.

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::Failure;

/// How long one call may take. A commit waits for the reports of its branches.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long a rollback is waited for until it is said how far it is: well below the limit of a call.
const ROLLBACK_WAIT: &str = "10s";
/// The most that is asked for at once.
const PAGE: u64 = 1000;

/// A coordinator, by its address.
#[derive(Debug)]
pub(crate) struct Coordinator {
    base: Url,
    client: reqwest::Client,
}

impl Coordinator {
    pub(crate) fn new(url: &str) -> Result<Self, Failure> {
        let bad = |why: &str| Failure::Usage(format!("--coordinator {url}: {why}"));
        let base = Url::parse(url).map_err(|e| bad(&e.to_string()))?;
        if base.scheme() != "http" || base.cannot_be_a_base() {
            return Err(bad("it must begin with http://"));
        }
        // A proxy of the environment is no way to a coordinator.
        let client = reqwest::Client::builder()
            .timeout(CALL_LIMIT)
            .no_proxy()
            .build()
            .map_err(|e| Failure::Failed(format!("no HTTP client: {e}")))?;
        Ok(Coordinator { base, client })
    }

    fn url(&self, segments: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::Usage("--coordinator has no path".to_owned()))?
            .pop_if_empty()
            .extend(segments);
        Ok(url)
    }

    async fn call(&self, method: Method, url: Url) -> Result<Value, Failure> {
        self.call_with(self.client.request(method, url)).await
    }

    async fn call_with(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let unreachable = |e: reqwest::Error| {
            Failure::Failed(format!("the coordinator at {} does not answer: {}", self.base, cause(&e)))
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unreachable)?;
        if !status.is_success() {
            return Err(Failure::Failed(problem(status.as_u16(), &body)));
        }
        serde_json::from_slice(&body)
            .map_err(|e| Failure::Failed(format!("{} answers what is no JSON: {e}", self.base)))
    }

    /// One transaction, after the action where one is given.
    pub(crate) async fn transaction(&self, xid: &str, action: Option<&str>) -> Result<Value, Failure> {
        check_xid(xid)?;
        let mut segments = vec!["v1", "transactions", xid];
        segments.extend(action);
        let method = if action.is_some() { Method::POST } else { Method::GET };
        let mut url = self.url(&segments)?;
        if action == Some("rollback") {
            url.query_pairs_mut().append_pair("wait", ROLLBACK_WAIT);
        }
        self.call(method, url).await
    }

    /// Leaves the rows of a branch that can't be rolled back as they are; what was done, or would be.
    pub(crate) async fn keep_current(
        &self,
        xid: &str,
        branch: u64,
        dry_run: bool,
        by: &str,
    ) -> Result<Value, Failure> {
        check_xid(xid)?;
        let url = self.url(&["v1", "transactions", xid, "branches", &branch.to_string(), "resolve"])?;
        let body = json!({ "action": "keep_current", "dry_run": dry_run, "by": by });
        let request = self.client.post(url).header("content-type", "application/json").body(body.to_string());
        self.call_with(request).await
    }

    /// A list, followed over its pages up to `limit` items; and whether there are more.
    pub(crate) async fn list(
        &self,
        what: &str,
        filters: &[(&str, Option<&str>)],
        limit: u64,
    ) -> Result<(Vec<Value>, bool), Failure> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let wanted = limit.saturating_sub(items.len() as u64);
            let mut url = self.url(&["v1", what])?;
            {
                let mut query = url.query_pairs_mut();
                for (name, value) in filters {
                    if let Some(value) = value {
                        query.append_pair(name, value);
                    }
                }
                query.append_pair("limit", &wanted.min(PAGE).to_string());
                if let Some(after) = &after {
                    query.append_pair("after", after);
                }
            }
            let mut page = self.call(Method::GET, url).await?;
            let Some(Value::Array(found)) = page.get_mut(what).map(Value::take) else {
                return Err(Failure::Failed(format!("{} answers without {what:?}", self.base)));
            };
            let nothing = found.is_empty();
            items.extend(found);
            let next = match page.get("next") {
                None | Some(Value::Null) => None,
                Some(Value::String(next)) => Some(next.clone()),
                Some(other) => Some(other.to_string()),
            };
            let full = items.len() as u64 >= limit;
            match next {
                Some(next) if !full && !nothing && after.as_ref() != Some(&next) => after = Some(next),
                next => {
                    let cut = items.len() as u64 > limit;
                    items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                    return Ok((items, cut || next.is_some()));
                }
            }
        }
    }
}

fn check_xid(xid: &str) -> Result<(), Failure> {
    if xid.is_empty() || xid.chars().all(|c| c == '.') {
        // Path segments that a URL would swallow.
        return Err(Failure::Usage(format!("{xid:?} is no XID")));
    }
    Ok(())
}

/// The innermost reason: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// One line of an RFC 9457 problem.
fn problem(status: u16, body: &[u8]) -> String {
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |name: &str| json.get(name).and_then(Value::as_str).filter(|t| !t.is_empty());
    let what = match (text("title"), text("detail")) {
        (Some(title), Some(detail)) => format!("{title}: {detail}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "the coordinator refused".to_owned(),
    };
    match text("code") {
        Some(code) => format!("{what} (HTTP {status}, {code})"),
        None => format!("{what} (HTTP {status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_one_line() {
        let body = br#"{"type":"about:blank","title":"Conflict","status":409,"detail":"x:1 was rolled back","code":"rolled_back"}"#;
        assert_eq!(problem(409, body), "Conflict: x:1 was rolled back (HTTP 409, rolled_back)");
        assert_eq!(problem(502, b"<html>"), "the coordinator refused (HTTP 502)");
    }

    #[test]
    fn urls_are_escaped() {
        let coordinator = Coordinator::new("http://h:1/base/").unwrap();
        let url = coordinator.url(&["v1", "transactions", "a/b?c"]).unwrap();
        assert_eq!(url.as_str(), "http://h:1/base/v1/transactions/a%2Fb%3Fc");
        for bad in ["", "h:1", "https://h", "mailto:x"] {
            assert!(matches!(Coordinator::new(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }
}
