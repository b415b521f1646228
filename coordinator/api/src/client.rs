//! The client of the coordinator: one `Session` stream, kept up by a background task.

mod link;
mod state;

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Endpoint;

use crate::proto::{
    self, Begin, BranchOutcome, CancelRegister, Commit, ErrorCode, Get, LocalWaits, Ping, Register, Report,
    Rollback, Transaction, Work, WorkResult, coordinator_message, proxy_message,
};
use state::State;
pub use state::WaitLooks;

/// How long a call waits for the stream to come up, when it is down, before it fails with [`ClientError::Unavailable`].
const CONNECT_GRACE: Duration = Duration::from_secs(1);
/// The deadline of begin, get, rollback and flush.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The deadline of commit, which may wait for branches whose outcome the coordinator has to find out first.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// What a registration may take on top of its wait for locks.
const REGISTER_EXTRA: Duration = Duration::from_secs(5);
/// The largest registration, in locks, that the calling task encodes by itself: a fraction of a millisecond.
const MAX_INLINE_LOCKS: usize = 1_000;
/// The longest wait for locks, so that deadlines can't overflow.
const MAX_WAIT_MS: u64 = 7 * 24 * 3600 * 1000;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// There is no stream to a coordinator, or it broke before the answer, or the deadline passed. What became of the
    /// request is not known: it may have been done. The text says which.
    #[error("the coordinator cannot be reached: {0}")]
    Unavailable(String),
    /// The coordinator answered that it will not do this; nothing was done.
    #[error("{}", .0.message)]
    Refused(proto::Error),
}

/// A handle to the connection with the coordinator. Clones share it; it ends with the last of them.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

struct Handle {
    state: Arc<State>,
    task: tokio::task::AbortHandle,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
        self.state.link_down("the client was closed");
    }
}

impl Client {
    /// Starts the background task that keeps one stream to one of `endpoints` (`http://host:port`), tried in turn, with
    /// a growing pause between failed rounds. Never blocks. Phase-two work that the coordinator pushes goes to `work`;
    /// if that channel is full, the coordinator gets the answer to retry later.
    ///
    /// Has to be called inside a tokio runtime. Fails if `endpoints` is empty or one is malformed.
    pub fn connect(
        endpoints: Vec<String>,
        proxy_id: String,
        resources: Vec<String>,
        work: mpsc::Sender<Work>,
    ) -> Result<Client, ClientError> {
        if endpoints.is_empty() {
            return Err(invalid("no coordinator endpoint is given".to_owned()));
        }
        let endpoints = endpoints.iter().map(|text| parse_endpoint(text)).collect::<Result<Vec<_>, _>>()?;
        let (connected, _) = watch::channel(false);
        let state = Arc::new(State::new(connected));
        let hello = proto::Hello { proxy_id, resources, confirm_reports: true, looks_at_waits: true };
        let task = tokio::spawn(link::run(state.clone(), endpoints, hello, work)).abort_handle();
        Ok(Client { handle: Arc::new(Handle { state, task }) })
    }

    /// Begins a global transaction. `timeout_ms` 0 stands for the coordinator's default.
    pub async fn begin(&self, name: &str, timeout_ms: u64) -> Result<Transaction, ClientError> {
        self.transaction(
            proxy_message::Body::Begin(Begin { name: name.to_owned(), timeout_ms }),
            CALL_TIMEOUT,
        )
        .await
    }

    /// The state of a global transaction.
    pub async fn get(&self, xid: &str) -> Result<Transaction, ClientError> {
        self.transaction(proxy_message::Body::Get(Get { xid: xid.to_owned() }), CALL_TIMEOUT).await
    }

    /// Commits a global transaction; answered once the decision is durable.
    pub async fn commit(&self, xid: &str) -> Result<Transaction, ClientError> {
        self.transaction(proxy_message::Body::Commit(Commit { xid: xid.to_owned() }), COMMIT_TIMEOUT).await
    }

    /// Rolls a global transaction back; answered once the decision is durable.
    pub async fn rollback(&self, xid: &str) -> Result<Transaction, ClientError> {
        let request = Rollback { xid: xid.to_owned(), wait_ms: Some(0) };
        self.transaction(proxy_message::Body::Rollback(request), CALL_TIMEOUT).await
    }

    /// The same, answered once every branch is undone, one of them can't be, or the wait is over: the coordinator's
    /// `rollback_wait` if none is given. Dropping the future cancels the wait, not the rollback.
    pub async fn rollback_done(&self, xid: &str, wait_ms: Option<u64>) -> Result<Transaction, ClientError> {
        let longest_ms = wait_ms.unwrap_or_else(|| self.handle.state.rollback_wait_ms()).min(MAX_WAIT_MS);
        let request = Rollback { xid: xid.to_owned(), wait_ms };
        let deadline = CALL_TIMEOUT + Duration::from_millis(longest_ms);
        self.transaction(proxy_message::Body::Rollback(request), deadline).await
    }

    /// Registers a branch and takes its locks, waiting up to `wait_timeout_ms` for them; answers its branch id once
    /// that is durable. Dropping the future cancels the registration, and so does its deadline: the coordinator aborts
    /// a branch that had been registered meanwhile.
    pub async fn register(&self, request: Register) -> Result<u64, ClientError> {
        let deadline = Duration::from_millis(request.wait_timeout_ms.min(MAX_WAIT_MS)) + REGISTER_EXTRA;
        let body = self.call(proxy_message::Body::Register(encode(request).await?), deadline).await?;
        match body {
            coordinator_message::Body::Registered(registered) => Ok(registered.branch_id),
            other => Err(unexpected(&other)),
        }
    }

    /// Reports what became of a registered branch. Not lost while the process lives: it is sent again on a new stream
    /// until the coordinator says that it is durable. The coordinator reads it before any later call of this client.
    pub fn report(&self, xid: &str, branch_id: u64, outcome: BranchOutcome) {
        self.handle.state.report(Report { xid: xid.to_owned(), branch_id, outcome: outcome.into() });
    }

    /// Answers a piece of work. If the stream that brought the work is gone, the answer is dropped: the coordinator
    /// gives the work out again.
    pub fn work_result(&self, result: WorkResult) {
        self.handle.state.work_result(result);
    }

    /// Reports which sessions wait at a server. The report is dropped if no stream is up, or its coordinator takes
    /// none.
    pub fn local_waits(&self, report: LocalWaits) {
        self.handle.state.local_waits(report);
    }

    /// The looks at local waits that the coordinator has asked for, by resource: of each the last one.
    pub fn wait_looks(&self) -> watch::Receiver<WaitLooks> {
        self.handle.state.looks.subscribe()
    }

    /// Waits until the coordinator has read all that was sent before, and what was reported is durable there: for an
    /// orderly end.
    pub async fn flush(&self) -> Result<(), ClientError> {
        match self.call(proxy_message::Body::Ping(Ping {}), CALL_TIMEOUT).await? {
            coordinator_message::Body::Pong(_) => {}
            other => return Err(unexpected(&other)),
        }
        tokio::time::timeout(CALL_TIMEOUT, self.handle.state.reports_kept()).await.map_err(|_| {
            let limit_ms = CALL_TIMEOUT.as_millis();
            ClientError::Unavailable(format!("reports were not confirmed within {limit_ms} ms"))
        })
    }

    /// The id of the coordinator that the stream is with, or was last: what its XIDs begin with. Nothing before the
    /// first stream.
    pub fn coordinator_id(&self) -> Option<String> {
        self.handle.state.coordinator_id()
    }

    /// Whether the stream is up.
    pub fn is_connected(&self) -> bool {
        *self.handle.state.connected.borrow()
    }

    /// Waits until the stream is up.
    pub async fn wait_connected(&self) {
        let mut connected = self.handle.state.connected.subscribe();
        // It fails only when the sender is gone, and `self` holds it.
        let _ = connected.wait_for(|up| *up).await;
    }

    async fn transaction(
        &self,
        body: proxy_message::Body,
        deadline: Duration,
    ) -> Result<Transaction, ClientError> {
        match self.call(body, deadline).await? {
            coordinator_message::Body::Transaction(transaction) => Ok(transaction),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(
        &self,
        body: proxy_message::Body,
        deadline: Duration,
    ) -> Result<coordinator_message::Body, ClientError> {
        if !self.is_connected() && tokio::time::timeout(CONNECT_GRACE, self.wait_connected()).await.is_err() {
            return Err(ClientError::Unavailable(self.handle.state.down_reason()));
        }
        let waits = matches!(body, proxy_message::Body::Register(_) | proxy_message::Body::Rollback(_));
        let (id, answer) = self.handle.state.request(body)?;
        let mut pending = Pending { state: &self.handle.state, id, waits, done: false };
        let answer = tokio::time::timeout(deadline, answer).await;
        let result = match answer {
            // The deadline passed: dropping `pending` cancels the request.
            Err(_) => {
                return Err(ClientError::Unavailable(format!(
                    "no answer within {} ms",
                    deadline.as_millis()
                )));
            }
            Ok(Err(oneshot::error::RecvError { .. })) => {
                Err(ClientError::Unavailable("the stream broke before the answer".to_owned()))
            }
            Ok(Ok(result)) => result,
        };
        pending.done = true;
        match result? {
            coordinator_message::Body::Error(error) => Err(refused(error)),
            body => Ok(body),
        }
    }
}

/// Encodes a registration. One with many locks gets a blocking thread, so that the tasks on this one need not wait.
async fn encode(request: Register) -> Result<Bytes, ClientError> {
    let locks: usize = request.locks.iter().map(|table| table.keys.len()).sum();
    if locks <= MAX_INLINE_LOCKS {
        return Ok(request.encode_to_vec().into());
    }
    let encoded = tokio::task::spawn_blocking(move || request.encode_to_vec().into()).await;
    encoded.map_err(|error| ClientError::Unavailable(format!("a registration is lost: {error}")))
}

/// Cancels a request when its future is dropped before the end.
struct Pending<'a> {
    state: &'a State,
    id: u64,
    /// It may wait at the coordinator, and then has to be cancelled there.
    waits: bool,
    done: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.done {
            let cancel = self.waits.then_some(CancelRegister { register_id: self.id });
            self.state.forget(self.id, cancel);
        }
    }
}

fn parse_endpoint(text: &str) -> Result<Endpoint, ClientError> {
    let endpoint =
        Endpoint::from_shared(text.to_owned()).map_err(|e| invalid(format!("endpoint {text:?}: {e}")))?;
    let uri = endpoint.uri();
    if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
        return Err(invalid(format!("endpoint {text:?}: http://host:port is expected")));
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true))
}

fn invalid(message: String) -> ClientError {
    ClientError::Refused(proto::Error { code: ErrorCode::Invalid.into(), message, ..Default::default() })
}

/// A coordinator that can't serve now says so by an error of its own; for the caller that is the same as no stream.
fn refused(error: proto::Error) -> ClientError {
    match error.code() {
        ErrorCode::Unavailable => ClientError::Unavailable(error.message),
        _ => ClientError::Refused(error),
    }
}

fn unexpected(body: &coordinator_message::Body) -> ClientError {
    let kind = match body {
        coordinator_message::Body::Hello(_) => "HelloReply",
        coordinator_message::Body::Transaction(_) => "Transaction",
        coordinator_message::Body::Registered(_) => "Registered",
        coordinator_message::Body::Error(_) => "Error",
        coordinator_message::Body::Work(_) => "Work",
        coordinator_message::Body::Pong(_) => "Pong",
        coordinator_message::Body::ReportsKept(_) => "ReportsKept",
        coordinator_message::Body::LookAtWaits(_) => "LookAtWaits",
    };
    ClientError::Unavailable(format!("the coordinator answered with an unexpected {kind}"))
}
