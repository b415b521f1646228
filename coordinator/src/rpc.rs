//! The gRPC service: streams of proxies, and single calls of native clients.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atone_api::proto::coordinator_server::{Coordinator as Service, CoordinatorServer};
use atone_api::proto::{
    self, CoordinatorMessage, ErrorCode, HelloReply, Pong, ProxyMessage, coordinator_message, proxy_message,
};
use atone_core::{BranchId, Event, Reply, ReplyTo, StreamId};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::convert;
use crate::coordinator::{Coordinator, Unavailable};
use crate::hub::{MAX_STREAM_QUEUE, Outgoing};
use crate::registrations::Registrations;

/// How long a proxy may take to say Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How many resources a proxy may serve, and how long their names and its id may be, in bytes.
const MAX_RESOURCES: usize = 1_000;
const MAX_NAME_BYTES: usize = 1_024;

/// The gRPC service for this coordinator.
pub(crate) fn service(coordinator: Arc<Coordinator>) -> CoordinatorServer<Rpc> {
    CoordinatorServer::new(Rpc { coordinator })
        .max_decoding_message_size(atone_api::MAX_MESSAGE_BYTES)
        .max_encoding_message_size(atone_api::MAX_MESSAGE_BYTES)
}

pub(crate) struct Rpc {
    coordinator: Arc<Coordinator>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Service for Rpc {
    type SessionStream = Messages;

    async fn session(&self, request: Request<Streaming<ProxyMessage>>) -> Result<Response<Messages>, Status> {
        let peer = request.remote_addr().map(|address| address.to_string()).unwrap_or_default();
        let (sender, receiver) = mpsc::channel(MAX_STREAM_QUEUE);
        let incoming = request.into_inner();
        let coordinator = self.coordinator.clone();
        tokio::spawn(async move {
            if let Err(status) = session(&coordinator, incoming, &sender, &peer).await {
                tracing::warn!(peer, reason = status.message(), "a proxy's stream is ended");
                // If its queue is full the proxy learns nothing more than that the stream ended.
                let _ = sender.try_send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn begin_transaction(
        &self,
        r: Request<proto::Begin>,
    ) -> Result<Response<proto::Transaction>, Status> {
        let proto::Begin { name, timeout_ms } = r.into_inner();
        self.call(|to| Event::Begin { to, name, timeout_ms }).await
    }

    async fn get_transaction(&self, r: Request<proto::Get>) -> Result<Response<proto::Transaction>, Status> {
        let proto::Get { xid } = r.into_inner();
        self.call(|to| Event::Get { to, xid }).await
    }

    async fn commit_transaction(
        &self,
        r: Request<proto::Commit>,
    ) -> Result<Response<proto::Transaction>, Status> {
        let proto::Commit { xid } = r.into_inner();
        self.call(|to| Event::Commit { to, xid }).await
    }

    async fn rollback_transaction(
        &self,
        r: Request<proto::Rollback>,
    ) -> Result<Response<proto::Transaction>, Status> {
        let proto::Rollback { xid, wait_ms } = r.into_inner();
        self.call(|to| Event::Rollback { to, xid, wait_ms }).await
    }
}

impl Rpc {
    /// A single call. Its errors are gRPC statuses that carry the protocol's own error as details.
    async fn call(
        &self,
        event: impl FnOnce(ReplyTo) -> Event,
    ) -> Result<Response<proto::Transaction>, Status> {
        match self.coordinator.call(event).await.map_err(|e| unavailable(&e))? {
            Ok(Reply::Transaction(view)) => Ok(Response::new(convert::transaction_to_proto(&view))),
            Ok(Reply::Registered(_) | Reply::Branch(_)) => {
                Err(Status::internal("the answer to another question was given to this call"))
            }
            Err(refusal) => {
                let error = convert::refusal_to_proto(refusal);
                let code = match error.code() {
                    ErrorCode::UnknownXid => tonic::Code::NotFound,
                    ErrorCode::Invalid => tonic::Code::InvalidArgument,
                    ErrorCode::LimitReached => tonic::Code::ResourceExhausted,
                    _ => tonic::Code::FailedPrecondition,
                };
                let message = error.message.clone();
                Err(Status::with_details(code, message, prost::Message::encode_to_vec(&error).into()))
            }
        }
    }
}

/// A stream from its Hello to its end.
async fn session(
    coordinator: &Coordinator,
    mut incoming: Streaming<ProxyMessage>,
    sender: &mpsc::Sender<Result<CoordinatorMessage, Status>>,
    peer: &str,
) -> Result<(), Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no Hello came in time"))??;
    let Some(ProxyMessage { id, body: Some(proxy_message::Body::Hello(hello)) }) = first else {
        return Err(Status::invalid_argument("the first message of a stream has to be Hello"));
    };
    check_hello(&hello)?;
    let end = CancellationToken::new();
    let reply = HelloReply {
        coordinator_id: coordinator.id().to_owned(),
        confirms_reports: true,
        rollback_wait_ms: coordinator.rollback_wait_ms(),
        takes_local_waits: true,
    };
    let reply = CoordinatorMessage { id, body: Some(coordinator_message::Body::Hello(reply)) };
    // Before the stream is known to the core, so that it comes before any work.
    let _ = sender.try_send(Ok(reply));
    tracing::info!(peer, proxy = hello.proxy_id, resources = ?hello.resources, "a proxy connected");
    let outgoing = Outgoing {
        sender: sender.clone(),
        end: end.clone(),
        confirms_reports: hello.confirm_reports,
        looks_at_waits: hello.looks_at_waits,
    };
    let stream = coordinator.stream_up(outgoing, hello.resources).await.map_err(|e| unavailable(&e))?;
    let result = receive(coordinator, &mut incoming, stream, &end).await;
    coordinator.stream_down(stream).await;
    tracing::info!(peer, proxy = hello.proxy_id, "a proxy disconnected");
    result
}

async fn receive(
    coordinator: &Coordinator,
    incoming: &mut Streaming<ProxyMessage>,
    stream: StreamId,
    end: &CancellationToken,
) -> Result<(), Status> {
    let mut registrations = Registrations::default();
    loop {
        let message = tokio::select! {
            message = incoming.message(), if registrations.has_room() => message,
            decoded = registrations.next() => {
                let (id, request) = decoded?;
                let event = Event::Register { stream, id, request };
                coordinator.handle(event).await.map_err(|e| unavailable(&e))?;
                continue;
            }
            () = end.cancelled() => return Err(Status::unavailable("the coordinator ended the stream")),
            () = coordinator.ending().cancelled() => return Err(Status::unavailable("the coordinator is ending")),
        };
        // A connection that breaks ends the stream like any other end.
        let Ok(Some(message)) = message else { return Ok(()) };
        handle(coordinator, stream, &mut registrations, message).await?;
    }
}

/// Makes an event of a message, or answers it.
async fn handle(
    coordinator: &Coordinator,
    stream: StreamId,
    registrations: &mut Registrations,
    message: ProxyMessage,
) -> Result<(), Status> {
    let ProxyMessage { id, body } = message;
    let to = ReplyTo::Stream(stream, id);
    let body =
        body.ok_or_else(|| Status::invalid_argument("a message without a body that this version knows"))?;
    let needs_id = !matches!(
        body,
        proxy_message::Body::Report(_)
            | proxy_message::Body::WorkResult(_)
            | proxy_message::Body::Cancel(_)
            | proxy_message::Body::LocalWaits(_)
    );
    if needs_id && id == 0 {
        return Err(Status::invalid_argument("a request needs an id other than 0"));
    }
    let event = match body {
        proxy_message::Body::Hello(_) => return Err(Status::invalid_argument("a second Hello on a stream")),
        proxy_message::Body::Ping(_) => {
            let body = Some(coordinator_message::Body::Pong(Pong {}));
            coordinator.hub().send(stream, CoordinatorMessage { id, body });
            return Ok(());
        }
        proxy_message::Body::Begin(proto::Begin { name, timeout_ms }) => {
            Event::Begin { to, name, timeout_ms }
        }
        proxy_message::Body::Get(proto::Get { xid }) => Event::Get { to, xid },
        proxy_message::Body::Commit(proto::Commit { xid }) => Event::Commit { to, xid },
        proxy_message::Body::Rollback(proto::Rollback { xid, wait_ms }) => {
            Event::Rollback { to, xid, wait_ms }
        }
        proxy_message::Body::Register(request) => {
            coordinator.hub().registration_began(stream, id);
            match registrations.take(id, request)? {
                Some(request) => Event::Register { stream, id, request },
                None => return Ok(()),
            }
        }
        proxy_message::Body::Cancel(cancel) => {
            coordinator.hub().registration_cancelled(stream, cancel.register_id);
            if registrations.cancel(cancel.register_id) {
                return Ok(());
            }
            Event::Cancel { stream, id: cancel.register_id }
        }
        proxy_message::Body::Report(report) => {
            let outcome = convert::branch_outcome(report.outcome())
                .ok_or_else(|| Status::invalid_argument("a report with an outcome that is not known"))?;
            Event::Report { stream, xid: report.xid, branch: BranchId(report.branch_id), outcome }
        }
        proxy_message::Body::LocalWaits(report) => {
            Event::LocalWaits { stream, report: convert::local_waits(report) }
        }
        proxy_message::Body::WorkResult(result) => Event::WorkResult {
            stream,
            work_id: result.work_id,
            outcome: convert::work_outcome(result.outcome()),
            detail: result.detail,
        },
    };
    coordinator.handle(event).await.map_err(|e| unavailable(&e))
}

fn check_hello(hello: &proto::Hello) -> Result<(), Status> {
    let too_long = |text: &String| text.is_empty() || text.len() > MAX_NAME_BYTES;
    if hello.resources.len() > MAX_RESOURCES {
        return Err(Status::invalid_argument(format!("a proxy may serve {MAX_RESOURCES} resources at most")));
    }
    if too_long(&hello.proxy_id) || hello.resources.iter().any(too_long) {
        let message = format!("the names in Hello need 1 to {MAX_NAME_BYTES} bytes");
        return Err(Status::invalid_argument(message));
    }
    Ok(())
}

fn unavailable(error: &Unavailable) -> Status {
    Status::unavailable(error.to_string())
}
