//! The coordinator's REST interface.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::wait::until;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A client of one coordinator.
#[derive(Clone, Debug)]
pub struct Rest {
    client: reqwest::Client,
    base: String,
}

/// A status and a body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: String,
    /// The body; `Null` where it is not JSON.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    /// The body, if the status is this one.
    pub fn expect(self, status: u16) -> Result<Value> {
        if self.status != status {
            bail!("expected HTTP {status}, got {}: {}", self.status, self.text);
        }
        Ok(self.body)
    }

    /// Fails unless it is a problem document (RFC 9457) of this status.
    pub fn expect_problem(self, status: u16) -> Result<Value> {
        if !self.content_type.starts_with("application/problem+json") {
            bail!("not a problem document: {} {}: {}", self.status, self.content_type, self.text);
        }
        let body = self.expect(status)?;
        if body["status"] != json!(status) || !body["title"].is_string() {
            bail!("a problem document without its status or title: {body}");
        }
        Ok(body)
    }
}

impl Rest {
    /// A client for `http://127.0.0.1:port`.
    pub fn new(port: u16) -> Result<Self> {
        Ok(Self {
            // A connection for each call: after a body that it does not take, the server closes, and a call that takes
            // the connection over meanwhile would break
            client: reqwest::Client::builder()
                .timeout(CALL_LIMIT)
                .no_proxy()
                .pool_max_idle_per_host(0)
                .build()?,
            base: format!("http://127.0.0.1:{port}"),
        })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, content_type, body, text })
    }

    /// GET of a path such as `/v1/locks?xid=…`.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        Self::answer(self.client.get(format!("{}{path}", self.base)))
            .await
            .with_context(|| format!("GET {path}"))
    }

    /// POST without a body.
    pub async fn post(&self, path: &str) -> Result<Answer> {
        Self::answer(self.client.post(format!("{}{path}", self.base)))
            .await
            .with_context(|| format!("POST {path}"))
    }

    /// POST of this text as JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<String>) -> Result<Answer> {
        let request =
            self.client.post(format!("{}{path}", self.base)).header("content-type", "application/json");
        Self::answer(request.body(body.into())).await.with_context(|| format!("POST {path}"))
    }

    /// Begins a global transaction; returns its XID.
    pub async fn begin(&self, body: Value) -> Result<String> {
        let answer = self.post_text("/v1/transactions", body.to_string()).await?.expect(201)?;
        answer["xid"].as_str().map(str::to_owned).with_context(|| format!("no xid in {answer}"))
    }

    /// Commits; whatever the answer is.
    pub async fn commit(&self, xid: &str) -> Result<Answer> {
        self.post(&format!("/v1/transactions/{xid}/commit")).await
    }

    /// Rolls back; whatever the answer is.
    pub async fn rollback(&self, xid: &str) -> Result<Answer> {
        self.post(&format!("/v1/transactions/{xid}/rollback")).await
    }

    /// The same, answered when it is decided.
    pub async fn decide_rollback(&self, xid: &str) -> Result<Answer> {
        self.post(&format!("/v1/transactions/{xid}/rollback?wait=0s")).await
    }

    /// The transaction with its branches.
    pub async fn transaction(&self, xid: &str) -> Result<Value> {
        self.get(&format!("/v1/transactions/{xid}")).await?.expect(200)
    }

    /// The locks that a transaction holds.
    pub async fn locks(&self, xid: &str) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/v1/locks?limit=1000&xid={xid}")).await?.expect(200)?;
        Ok(answer["locks"].as_array().with_context(|| format!("no locks in {answer}"))?.clone())
    }

    /// Waits until the transaction has this status.
    pub async fn wait_for_status(&self, xid: &str, status: &str, limit: Duration) -> Result<Value> {
        let last = std::sync::Mutex::new(Value::Null);
        let result = until(&format!("{xid} is {status}"), limit, || async {
            let transaction = self.transaction(xid).await?;
            let reached = transaction["status"] == json!(status);
            if let Ok(mut last) = last.lock() {
                *last = transaction.clone();
            }
            Ok(reached.then_some(transaction))
        })
        .await;
        result
            .with_context(|| format!("last seen: {}", last.lock().map(|v| v.to_string()).unwrap_or_default()))
    }
}
