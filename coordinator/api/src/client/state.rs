//! What the calls and the background task share: the stream of the moment, the requests on it, and the reports that
//! no answer has confirmed yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::ClientError;
use crate::proto::{
    CancelRegister, CoordinatorMessage, HelloReply, LocalWaits, LookAtWaits, ProxyMessage, Report, Work,
    WorkOutcome, WorkResult, coordinator_message, proxy_message,
};

/// How many messages may wait to be written to the stream. Beyond that the coordinator does not keep up: the stream
/// is dropped, so that callers get an error instead of growing memory.
pub(super) const MAX_QUEUE: isize = 65_536;

/// Looks at local waits that were asked for, by resource.
pub type WaitLooks = BTreeMap<String, LookAtWaits>;

type Answer = Result<coordinator_message::Body, ClientError>;

pub(super) struct State {
    inner: Mutex<Inner>,
    pub(super) connected: watch::Sender<bool>,
    pub(super) looks: watch::Sender<WaitLooks>,
    /// Some reports were confirmed.
    confirmed: Notify,
}

struct Inner {
    link: Option<Link>,
    /// That of the last stream.
    coordinator_id: Option<String>,
    /// How long that coordinator has the answer to a rollback wait.
    rollback_wait_ms: u64,
    /// Of the next request. Ids rise over all streams of this client.
    next_id: u64,
    pending: HashMap<u64, oneshot::Sender<Answer>>,
    /// By branch: the outcome, and the id that the next request had when it was last sent.
    reports: BTreeMap<u64, (Report, u64)>,
    down_reason: String,
}

struct Link {
    sender: mpsc::UnboundedSender<ProxyMessage>,
    /// Messages in `sender`'s channel, but for those which the stream began with.
    queued: Arc<AtomicIsize>,
    /// Work that this stream brought and that is not answered. Work ids mean nothing on another stream.
    work: HashSet<u64>,
    /// The coordinator says by itself which reports are durable; one that does not confirms by each answer that it has
    /// read all that was sent before.
    confirms_reports: bool,
    /// The coordinator knows what to do with local waits.
    takes_local_waits: bool,
}

impl Link {
    /// False if the message could not be queued: the link has to be dropped.
    fn send(&self, id: u64, body: proxy_message::Body) -> bool {
        if self.queued.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUE {
            return false;
        }
        self.sender.send(ProxyMessage { id, body: Some(body) }).is_ok()
    }
}

impl State {
    pub(super) fn new(connected: watch::Sender<bool>) -> Self {
        let inner = Inner {
            link: None,
            coordinator_id: None,
            rollback_wait_ms: 0,
            next_id: 1,
            pending: HashMap::new(),
            reports: BTreeMap::new(),
            down_reason: "not connected yet".to_owned(),
        };
        let looks = watch::Sender::new(WaitLooks::new());
        Self { inner: Mutex::new(inner), connected, looks, confirmed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under this lock can panic half-way through a change, so a poisoned one is still consistent.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn down_reason(&self) -> String {
        self.lock().down_reason.clone()
    }

    /// Takes a stream into use, after its Hello was answered: the unconfirmed reports go first.
    pub(super) fn link_up(
        &self,
        sender: mpsc::UnboundedSender<ProxyMessage>,
        queued: Arc<AtomicIsize>,
        hello: HelloReply,
    ) {
        let mut inner = self.lock();
        let next_id = inner.next_id;
        for (report, sent_before) in inner.reports.values_mut() {
            *sent_before = next_id;
            // Not counted against the queue's bound: the reports are in memory anyway.
            // It fails only when the stream broke already, which the background task notices by itself.
            let _ =
                sender.send(ProxyMessage { id: 0, body: Some(proxy_message::Body::Report(report.clone())) });
        }
        let HelloReply { coordinator_id, confirms_reports, rollback_wait_ms, takes_local_waits } = hello;
        inner.rollback_wait_ms = rollback_wait_ms;
        inner.coordinator_id = Some(coordinator_id);
        inner.link = Some(Link { sender, queued, work: HashSet::new(), confirms_reports, takes_local_waits });
        self.connected.send_replace(true);
    }

    pub(super) fn coordinator_id(&self) -> Option<String> {
        self.lock().coordinator_id.clone()
    }

    pub(super) fn rollback_wait_ms(&self) -> u64 {
        self.lock().rollback_wait_ms
    }

    /// Waits until no report is unconfirmed.
    pub(super) async fn reports_kept(&self) {
        loop {
            let confirmed = self.confirmed.notified();
            if self.lock().reports.is_empty() {
                return;
            }
            confirmed.await;
        }
    }

    /// Ends the use of the stream: what waits for an answer fails.
    pub(super) fn link_down(&self, reason: &str) {
        self.drop_link(&mut self.lock(), reason);
    }

    /// Sends a request: its id, and the receiver of its answer.
    pub(super) fn request(
        &self,
        body: proxy_message::Body,
    ) -> Result<(u64, oneshot::Receiver<Answer>), ClientError> {
        let mut inner = self.lock();
        let id = inner.next_id;
        let Some(link) = &inner.link else {
            return Err(ClientError::Unavailable(inner.down_reason.clone()));
        };
        if !link.send(id, body) {
            let error = "the coordinator does not keep up with the requests".to_owned();
            self.drop_link(&mut inner, &error);
            return Err(ClientError::Unavailable(error));
        }
        inner.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        inner.pending.insert(id, sender);
        Ok((id, receiver))
    }

    /// Forgets a request. A registration, or a wait for a rollback, whose stream is still there is cancelled.
    pub(super) fn forget(&self, id: u64, cancel: Option<CancelRegister>) {
        let mut inner = self.lock();
        inner.pending.remove(&id);
        // Ids rise over all streams, and the coordinator ignores a cancellation of an id that it has not seen on this
        // stream: that of a broken stream it has cancelled by itself.
        if let (Some(cancel), Some(link)) = (cancel, &inner.link)
            && !link.send(0, proxy_message::Body::Cancel(cancel))
        {
            self.drop_link(&mut inner, "the coordinator does not keep up with the requests");
        }
    }

    pub(super) fn report(&self, report: Report) {
        let mut inner = self.lock();
        let sent_before = inner.next_id;
        inner.reports.insert(report.branch_id, (report.clone(), sent_before));
        if let Some(link) = &inner.link
            && !link.send(0, proxy_message::Body::Report(report))
        {
            self.drop_link(&mut inner, "the coordinator does not keep up with the reports");
        }
    }

    pub(super) fn work_result(&self, result: WorkResult) {
        let mut inner = self.lock();
        if let Some(link) = &mut inner.link
            && link.work.remove(&result.work_id)
            && !link.send(0, proxy_message::Body::WorkResult(result))
        {
            self.drop_link(&mut inner, "the coordinator does not keep up with the work results");
        }
    }

    pub(super) fn local_waits(&self, report: LocalWaits) {
        let mut inner = self.lock();
        if let Some(link) = inner.link.as_ref().filter(|link| link.takes_local_waits)
            && !link.send(0, proxy_message::Body::LocalWaits(report))
        {
            self.drop_link(&mut inner, "the coordinator does not keep up with the local waits");
        }
    }

    /// Takes a message that came on the stream in use. An error text means that the stream has to be dropped.
    pub(super) fn received(
        &self,
        message: CoordinatorMessage,
        work: &mpsc::Sender<Work>,
    ) -> Result<(), String> {
        let mut inner = self.lock();
        match message.body {
            Some(coordinator_message::Body::Work(item)) => {
                let work_id = item.work_id;
                let Some(link) = &mut inner.link else { return Err("the stream was given up".to_owned()) };
                link.work.insert(work_id);
                if work.try_send(item).is_err() {
                    link.work.remove(&work_id);
                    let detail = "this proxy has no room for more work".to_owned();
                    let outcome = WorkOutcome::Retry.into();
                    let sent = link
                        .send(0, proxy_message::Body::WorkResult(WorkResult { work_id, outcome, detail }));
                    if !sent {
                        return Err("the coordinator does not keep up with the work results".to_owned());
                    }
                }
                Ok(())
            }
            Some(coordinator_message::Body::LookAtWaits(look)) => {
                self.looks.send_modify(|looks| {
                    looks.insert(look.resource.clone(), look);
                });
                Ok(())
            }
            Some(coordinator_message::Body::ReportsKept(kept)) => {
                for branch in kept.branch_ids {
                    inner.reports.remove(&branch);
                }
                self.confirmed.notify_waiters();
                Ok(())
            }
            Some(body) if message.id != 0 => {
                if inner.link.as_ref().is_some_and(|link| !link.confirms_reports) {
                    // It reads a stream in order, so an answer says that all that was sent before its request was read.
                    inner.reports.retain(|_, (_, sent_before)| *sent_before > message.id);
                    self.confirmed.notify_waiters();
                }
                if let Some(waiting) = inner.pending.remove(&message.id) {
                    // The caller may have gone: its guard cancels what has to be cancelled.
                    let _ = waiting.send(Ok(body));
                }
                Ok(())
            }
            _ => Err("the coordinator sent a message that is not understood".to_owned()),
        }
    }

    fn drop_link(&self, inner: &mut Inner, reason: &str) {
        inner.link = None;
        inner.down_reason = reason.to_owned();
        for (_, waiting) in inner.pending.drain() {
            let _ = waiting.send(Err(ClientError::Unavailable(reason.to_owned())));
        }
        self.connected.send_replace(false);
    }
}
