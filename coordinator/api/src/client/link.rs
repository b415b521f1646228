//! The background task: connects, says Hello, and feeds what comes in to the shared state.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Endpoint;

use super::state::State;
use crate::MAX_MESSAGE_BYTES;
use crate::proto::coordinator_client::CoordinatorClient;
use crate::proto::{
    CoordinatorMessage, Hello, HelloReply, ProxyMessage, Work, coordinator_message, proxy_message,
};

/// The pause after a round in which no endpoint could be reached; it doubles up to the maximum.
const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// How long a coordinator may take to accept the stream and answer the Hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps a stream up until the task is aborted.
pub(super) async fn run(state: Arc<State>, endpoints: Vec<Endpoint>, hello: Hello, work: mpsc::Sender<Work>) {
    let mut backoff = MIN_BACKOFF;
    loop {
        for endpoint in &endpoints {
            let Err(failure) = session(&state, endpoint, &hello, &work).await;
            state.link_down(&failure.reason);
            if failure.was_up {
                tracing::warn!(endpoint = %endpoint.uri(), reason = failure.reason, "lost the coordinator");
                backoff = MIN_BACKOFF;
            } else {
                tracing::debug!(endpoint = %endpoint.uri(), reason = failure.reason, "no coordinator here");
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

struct Failure {
    reason: String,
    was_up: bool,
}

/// One stream from its beginning to its end.
async fn session(
    state: &State,
    endpoint: &Endpoint,
    hello: &Hello,
    work: &mpsc::Sender<Work>,
) -> Result<Infallible, Failure> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let queued = Arc::new(AtomicIsize::new(0));
    let opened =
        tokio::time::timeout(HELLO_TIMEOUT, open(endpoint, hello, &sender, receiver, queued.clone())).await;
    let (hello_reply, mut incoming) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(reason)) => return Err(Failure { reason, was_up: false }),
        Err(_) => {
            let reason = format!("{}: no answer to Hello within {HELLO_TIMEOUT:?}", endpoint.uri());
            return Err(Failure { reason, was_up: false });
        }
    };
    tracing::info!(endpoint = %endpoint.uri(), "connected to the coordinator");
    state.link_up(sender, queued, hello_reply);
    let mut connected = state.connected.subscribe();
    let reason = loop {
        tokio::select! {
            message = incoming.next() => match message {
                Some(Ok(message)) => {
                    if let Err(reason) = state.received(message, work) {
                        break reason;
                    }
                }
                Some(Err(status)) => break status.message().to_owned(),
                None => break "the coordinator ended the stream".to_owned(),
            },
            // A caller gave the link up.
            _ = connected.wait_for(|up| !up) => break state.down_reason(),
        }
    };
    Err(Failure { reason, was_up: true })
}

async fn open(
    endpoint: &Endpoint,
    hello: &Hello,
    sender: &mpsc::UnboundedSender<ProxyMessage>,
    receiver: mpsc::UnboundedReceiver<ProxyMessage>,
    queued: Arc<AtomicIsize>,
) -> Result<(HelloReply, tonic::Streaming<CoordinatorMessage>), String> {
    let uri = endpoint.uri();
    let channel = endpoint.connect().await.map_err(|e| format!("{uri}: {}", root_cause(&e)))?;
    let mut client = CoordinatorClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    queued.fetch_add(1, Ordering::Relaxed);
    let outgoing = UnboundedReceiverStream::new(receiver).inspect(move |_| {
        queued.fetch_sub(1, Ordering::Relaxed);
    });
    let _ = sender.send(ProxyMessage { id: 0, body: Some(proxy_message::Body::Hello(hello.clone())) });
    let mut incoming =
        client.session(outgoing).await.map_err(|e| format!("{uri}: {}", e.message()))?.into_inner();
    match incoming.next().await {
        Some(Ok(CoordinatorMessage { body: Some(coordinator_message::Body::Hello(reply)), .. })) => {
            Ok((reply, incoming))
        }
        Some(Ok(_)) => Err(format!("{uri}: the answer to Hello is not understood")),
        Some(Err(status)) => Err(format!("{uri}: {}", status.message())),
        None => Err(format!("{uri}: the stream ended before the answer to Hello")),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
