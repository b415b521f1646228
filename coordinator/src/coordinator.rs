//! The core with its journal and its clock: what the servers talk to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use atone_core::{Core, Event, ReplyTo, Step, StreamId, Violation};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::hub::{Answer, Hub, Outgoing};
use crate::journal::{self, Entry};
use crate::store::{Store, StoreError};

/// How many steps may wait to be made durable. The next event waits for a place in the queue.
const MAX_QUEUE: usize = 16_384;

/// Nothing can be answered: the store failed, or the coordinator is ending.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the coordinator cannot answer: {0}")]
pub(crate) struct Unavailable(pub(crate) &'static str);

const STORE_FAILED: Unavailable = Unavailable("its store failed");
const ENDING: Unavailable = Unavailable("it is ending");

/// The coordinator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error("the store")]
    Store(#[from] StoreError),
    /// What the store holds.
    #[error("the store contradicts itself")]
    Recover(#[from] atone_core::RecoverError),
    /// The writer's thread.
    #[error("the writer's thread")]
    Thread(#[from] std::io::Error),
}

pub(crate) struct Coordinator {
    id: String,
    rollback_wait_ms: u64,
    inner: Mutex<Inner>,
    hub: Arc<Hub>,
    queue_places: Arc<Semaphore>,
    clock: Clock,
    /// When the timer task will wake by itself, in milliseconds since 1970.
    armed_ms: AtomicU64,
    rearm: Notify,
    /// The store failed.
    failed: CancellationToken,
    /// The daemon is ending.
    ending: CancellationToken,
}

struct Inner {
    core: Core,
    /// Gone when the coordinator was closed.
    journal: Option<mpsc::Sender<Entry>>,
}

/// Wall time that never jumps while the process runs.
struct Clock {
    start: Instant,
    start_ms: u64,
}

impl Clock {
    fn new() -> Self {
        // A clock before 1970 counts as 1970: times are then wrong, but nothing else.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start: Instant::now(), start_ms: millis(since_1970) }
    }

    fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(millis(self.start.elapsed()))
    }

    fn instant_of(&self, at_ms: u64) -> Instant {
        // Far enough to be never, near enough not to overflow.
        const FAR_MS: u64 = 365 * 24 * 3_600_000;
        self.start + Duration::from_millis(at_ms.saturating_sub(self.start_ms).min(FAR_MS))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Coordinator {
    /// Reads the store and rebuilds everything from it, all locks included. Blocks. The thread ends, and closes the
    /// store, after [`Coordinator::close`].
    pub(crate) fn open(
        mut store: Box<dyn Store>,
        config: atone_core::Config,
        ending: CancellationToken,
    ) -> Result<(Arc<Self>, JoinHandle<()>), StartError> {
        let began = Instant::now();
        let contents = store.load()?;
        let clock = Clock::new();
        let rollback_wait_ms = config.rollback_wait_ms;
        let (core, step) = Core::recover(config, &contents.id, contents.records, clock.now_ms())?;
        log(&step.violations);
        store.apply(&step.persist)?;
        let stats = core.stats();
        tracing::info!(
            id = contents.id,
            transactions = stats.transactions.values().sum::<usize>(),
            locks = stats.locks,
            took_ms = began.elapsed().as_millis(),
            "recovered"
        );
        let hub = Arc::new(Hub::default());
        let failed = CancellationToken::new();
        let (journal, thread) = journal::start(store, hub.clone(), {
            let (hub, failed) = (hub.clone(), failed.clone());
            move |error| {
                tracing::error!(%error, "the store failed; the coordinator ends, so that it starts from what is durable");
                failed.cancel();
                hub.fail_all();
            }
        })?;
        let coordinator = Arc::new(Self {
            id: contents.id,
            rollback_wait_ms,
            inner: Mutex::new(Inner { core, journal: Some(journal) }),
            hub,
            queue_places: Arc::new(Semaphore::new(MAX_QUEUE)),
            clock,
            armed_ms: AtomicU64::new(u64::MAX),
            rearm: Notify::new(),
            failed,
            ending,
        });
        Ok((coordinator, thread))
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How long the answer to a rollback waits if the call does not say.
    pub(crate) fn rollback_wait_ms(&self) -> u64 {
        self.rollback_wait_ms
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Ends when the store has failed.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    pub(crate) fn ending(&self) -> &CancellationToken {
        &self.ending
    }

    /// Takes an event, as soon as there is a place in the queue.
    pub(crate) async fn handle(&self, event: Event) -> Result<(), Unavailable> {
        let place = self.queue_places.clone().acquire_owned().await.map_err(|_| ENDING)?;
        self.submit(event, Some(place))
    }

    fn submit(&self, event: Event, permit: Option<OwnedSemaphorePermit>) -> Result<(), Unavailable> {
        // A poisoned lock means that the core stopped half-way: nothing it says can be trusted any more.
        let mut inner = self.inner.lock().map_err(|_| self.fail())?;
        let Step { persist, effects, violations } = inner.core.handle(self.clock.now_ms(), event);
        log(&violations);
        let next_ms = inner.core.next_at_ms().unwrap_or(u64::MAX);
        let is_empty = persist.is_empty() && effects.is_empty();
        if !is_empty {
            // Under the lock: the steps have to be in the order in which they were made.
            let entry = Entry { changes: persist, effects, durable: None, permit };
            inner.journal.as_ref().ok_or(ENDING)?.send(entry).map_err(|_| STORE_FAILED)?;
        }
        drop(inner);
        if next_ms < self.armed_ms.load(Ordering::Acquire) {
            self.rearm.notify_one();
        }
        Ok(())
    }

    /// Ends the coordinator: nothing is answered any more.
    fn fail(&self) -> Unavailable {
        self.failed.cancel();
        self.hub.fail_all();
        Unavailable("it failed internally")
    }

    /// Makes a request and waits for its answer.
    pub(crate) async fn call(&self, event: impl FnOnce(ReplyTo) -> Event) -> Result<Answer, Unavailable> {
        let (call, answer) = self.hub.add_call();
        let _guard = CallGuard { coordinator: self, call };
        self.handle(event(ReplyTo::Call(call))).await?;
        tokio::select! {
            answer = answer => answer.map_err(|_| STORE_FAILED),
            () = self.failed.cancelled() => Err(STORE_FAILED),
            () = self.ending.cancelled() => Err(ENDING),
        }
    }

    /// Reads the state, and answers once all that was read is durable.
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&Core) -> T) -> Result<T, Unavailable> {
        let place = self.queue_places.clone().acquire_owned().await.map_err(|_| ENDING)?;
        let (durable, is_durable) = oneshot::channel();
        let value = {
            let inner = self.inner.lock().map_err(|_| self.fail())?;
            let value = read(&inner.core);
            let entry = Entry {
                changes: Vec::new(),
                effects: Vec::new(),
                durable: Some(durable),
                permit: Some(place),
            };
            inner.journal.as_ref().ok_or(ENDING)?.send(entry).map_err(|_| STORE_FAILED)?;
            value
        };
        is_durable.await.map_err(|_| STORE_FAILED)?;
        Ok(value)
    }

    /// A proxy connected.
    pub(crate) async fn stream_up(
        &self,
        outgoing: Outgoing,
        resources: Vec<String>,
    ) -> Result<StreamId, Unavailable> {
        let stream = self.hub.add_stream(outgoing);
        match self.handle(Event::StreamUp { stream, resources }).await {
            Ok(()) => Ok(stream),
            Err(error) => {
                self.hub.remove_stream(stream);
                Err(error)
            }
        }
    }

    /// A stream ended.
    pub(crate) async fn stream_down(&self, stream: StreamId) {
        self.hub.remove_stream(stream);
        // If the store failed the process ends anyway.
        let _ = self.handle(Event::StreamDown { stream }).await;
    }

    /// Takes nothing more: the journal's thread writes what it has and closes the store.
    pub(crate) fn close(&self) {
        if let Ok(mut inner) = self.inner.lock() {
            inner.journal = None;
        }
    }

    /// When the next tick is due. The timer task wakes then by itself.
    fn arm(&self) -> Option<u64> {
        let Ok(inner) = self.inner.lock() else {
            self.fail();
            return None;
        };
        let next_ms = inner.core.next_at_ms().unwrap_or(u64::MAX);
        // Under the lock, or an event in between could be missed.
        self.armed_ms.store(next_ms, Ordering::Release);
        Some(next_ms)
    }

    /// Lets time pass in the core, until the daemon ends.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            let Some(next_ms) = self.arm() else { return };
            if next_ms <= self.clock.now_ms() {
                if self.submit(Event::Tick, None).is_err() {
                    return;
                }
                // A core that is always busy must not starve this thread's other tasks.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.clock.instant_of(next_ms).into()) => {}
                () = self.rearm.notified() => {}
                () = self.ending.cancelled() => return,
                () = self.failed.cancelled() => return,
            }
        }
    }
}

/// A violation is a bug. The core goes on without what depends on it, so this is all that shows it.
fn log(violations: &[Violation]) {
    for violation in violations {
        tracing::error!(%violation, "an invariant of the coordinator does not hold: please report it");
    }
}

/// Forgets a call whose caller has gone.
struct CallGuard<'a> {
    coordinator: &'a Coordinator,
    call: u64,
}

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        if self.coordinator.hub.remove_call(self.call) {
            // It was not answered: if it waits for a rollback, that wait ends. If the store failed nothing matters.
            let _ = self.coordinator.submit(Event::CancelRollbackWait { to: ReplyTo::Call(self.call) }, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Contents;
    use atone_core::{Change, Records, Reply};

    /// A store in memory that fails once so many batches were written.
    struct Failing {
        left: usize,
    }

    impl Store for Failing {
        fn load(&mut self) -> Result<Contents, StoreError> {
            Ok(Contents { id: "test".to_owned(), records: Records::default() })
        }

        fn apply(&mut self, _: &[Change]) -> Result<(), StoreError> {
            match self.left.checked_sub(1) {
                Some(left) => {
                    self.left = left;
                    Ok(())
                }
                None => Err(StoreError::Io("no space left on device".to_owned())),
            }
        }
    }

    fn open(left: usize) -> Result<(Arc<Coordinator>, JoinHandle<()>), StartError> {
        Coordinator::open(Box::new(Failing { left }), atone_core::Config::default(), CancellationToken::new())
    }

    async fn begin(coordinator: &Coordinator) -> Result<Answer, Unavailable> {
        coordinator.call(|to| Event::Begin { to, name: String::new(), timeout_ms: 0 }).await
    }

    #[test]
    fn a_store_that_cannot_be_written_is_no_start() {
        assert!(matches!(open(0), Err(StartError::Store(_))));
    }

    /// What was not made durable is not answered, and nothing is answered from then on.
    #[tokio::test]
    async fn nothing_is_answered_after_the_store_failed() {
        // One batch for the start, one for the first transaction.
        let (coordinator, journal) = open(2).unwrap();
        let Ok(Ok(Reply::Transaction(begun))) = begin(&coordinator).await else {
            panic!("the first was refused")
        };
        let xid = begun.xid.to_string();
        let commit = coordinator.call(|to| Event::Commit { to, xid: xid.clone() }).await;
        assert!(commit.is_err(), "{commit:?}");
        assert!(coordinator.failed().is_cancelled());
        assert!(begin(&coordinator).await.is_err());
        // The core believes in a commit that nobody must hear of.
        assert!(coordinator.call(|to| Event::Get { to, xid: xid.clone() }).await.is_err());
        assert!(coordinator.read(|core| core.transaction(&xid)).await.is_err());
        journal.join().unwrap();
    }

    #[tokio::test]
    async fn a_closed_coordinator_answers_nothing_and_its_journal_ends() {
        let (coordinator, journal) = open(100).unwrap();
        assert!(begin(&coordinator).await.is_ok());
        coordinator.close();
        assert!(begin(&coordinator).await.is_err());
        journal.join().unwrap();
    }
}
