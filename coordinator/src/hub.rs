//! Where effects go: to the streams of proxies, and to single calls that wait for an answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use atone_api::proto::{self, CoordinatorMessage, coordinator_message};
use atone_core::{Effect, Refusal, Reply, ReplyTo, StreamId};
use dashmap::DashMap;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::convert;

/// How many messages may wait to be written to one stream. A proxy that leaves more unread is cut off.
pub(crate) const MAX_STREAM_QUEUE: usize = 16_384;

/// A single call's answer. It does not come if the store fails before it is durable.
pub(crate) type Answer = Result<Reply, Refusal>;

/// A proxy's stream as the hub sees it.
pub(crate) struct Outgoing {
    pub(crate) sender: mpsc::Sender<Result<CoordinatorMessage, tonic::Status>>,
    /// Ends the stream.
    pub(crate) end: CancellationToken,
    /// Its proxy wants to know which of its reports are durable.
    pub(crate) confirms_reports: bool,
    /// Its proxy answers questions about local waits.
    pub(crate) looks_at_waits: bool,
}

/// Used from many threads at once, hence the concurrent maps.
#[derive(Default)]
pub(crate) struct Hub {
    next: AtomicU64,
    streams: DashMap<StreamId, Outgoing>,
    calls: DashMap<u64, oneshot::Sender<Answer>>,
    /// When registrations came in.
    registering: DashMap<(StreamId, u64), Instant>,
}

impl Hub {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn add_stream(&self, outgoing: Outgoing) -> StreamId {
        let stream = StreamId(self.next());
        self.streams.insert(stream, outgoing);
        stream
    }

    pub(crate) fn remove_stream(&self, stream: StreamId) {
        self.streams.remove(&stream);
        self.registering.retain(|(owner, _), _| *owner != stream);
    }

    pub(crate) fn add_call(&self) -> (u64, oneshot::Receiver<Answer>) {
        let call = self.next();
        let (sender, receiver) = oneshot::channel();
        self.calls.insert(call, sender);
        (call, receiver)
    }

    /// Takes a call out: whether it was still to be answered.
    pub(crate) fn remove_call(&self, call: u64) -> bool {
        self.calls.remove(&call).is_some()
    }

    pub(crate) fn registration_began(&self, stream: StreamId, id: u64) {
        self.registering.insert((stream, id), Instant::now());
    }

    /// A registration was cancelled: no answer comes.
    pub(crate) fn registration_cancelled(&self, stream: StreamId, id: u64) {
        self.registering.remove(&(stream, id));
    }

    /// Sends what may be seen now.
    pub(crate) fn deliver(&self, effect: Effect) {
        match effect {
            Effect::Push(stream, work) => {
                let body = coordinator_message::Body::Work(convert::work_to_proto(work));
                self.send(stream, CoordinatorMessage { id: 0, body: Some(body) });
            }
            Effect::Confirm(stream, branches) => {
                if self.streams.get(&stream).is_some_and(|outgoing| outgoing.confirms_reports) {
                    let branch_ids = branches.into_iter().map(|branch| branch.0).collect();
                    let body = coordinator_message::Body::ReportsKept(proto::ReportsKept { branch_ids });
                    self.send(stream, CoordinatorMessage { id: 0, body: Some(body) });
                }
            }
            Effect::Look(stream, look) => {
                if self.streams.get(&stream).is_some_and(|outgoing| outgoing.looks_at_waits) {
                    let body = coordinator_message::Body::LookAtWaits(convert::look_to_proto(look));
                    self.send(stream, CoordinatorMessage { id: 0, body: Some(body) });
                }
            }
            Effect::Reply(ReplyTo::Call(call), answer) => {
                // The caller may have gone.
                if let Some((_, sender)) = self.calls.remove(&call) {
                    let _ = sender.send(answer);
                }
            }
            Effect::Reply(ReplyTo::Stream(stream, id), answer) => {
                if let Some((_, began)) = self.registering.remove(&(stream, id)) {
                    metrics::histogram!(crate::metrics::REGISTER_SECONDS).record(began.elapsed());
                }
                let body = match answer {
                    Ok(Reply::Transaction(view)) => {
                        coordinator_message::Body::Transaction(convert::transaction_to_proto(&view))
                    }
                    Ok(Reply::Registered(branch)) => {
                        coordinator_message::Body::Registered(proto::Registered { branch_id: branch.0 })
                    }
                    Ok(Reply::Branch(_)) => {
                        tracing::error!(
                            stream = stream.0,
                            id,
                            "a stream is answered as only single calls are"
                        );
                        return;
                    }
                    Err(refusal) => coordinator_message::Body::Error(convert::refusal_to_proto(refusal)),
                };
                self.send(stream, CoordinatorMessage { id, body: Some(body) });
            }
        }
    }

    /// The store failed: no call and no stream gets an answer that may be wrong.
    pub(crate) fn fail_all(&self) {
        self.calls.clear();
        for stream in &self.streams {
            stream.end.cancel();
        }
    }

    /// Ends all streams.
    pub(crate) fn end_streams(&self) {
        for stream in &self.streams {
            stream.end.cancel();
        }
    }

    pub(crate) fn send(&self, stream: StreamId, message: CoordinatorMessage) {
        // A stream that ended needs nothing more.
        let Some(outgoing) = self.streams.get(&stream) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = outgoing.sender.try_send(Ok(message)) {
            tracing::warn!(stream = stream.0, "a proxy does not read its messages; its stream is cut");
            outgoing.end.cancel();
        }
    }
}
