//! Single flight: reads of something that may change at any time, shared by all who ask at the same time.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::Mutex;

/// Reads one thing, one run after the other. Each run serves all who asked before it began, and nobody who asked later:
/// a result is never older than its request.
#[derive(Debug)]
pub(crate) struct SingleFlight<T> {
    started: AtomicU64,
    /// The last run's number, and its result.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self { started: AtomicU64::new(0), last: Mutex::new(None) }
    }
}

impl<T: Clone> SingleFlight<T> {
    /// The result of a run that begins now, or later. `read` is such a run, where nobody else has begun one.
    pub(crate) async fn run(&self, read: impl Future<Output = T>) -> T {
        let wanted = self.started.load(Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let Some((run, result)) = &*last
            && *run >= wanted
        {
            return result.clone();
        }
        let run = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let result = read.await;
        *last = Some((run, result.clone()));
        result
    }
}

/// How many keys are remembered. Beyond it all are forgotten, which costs each of them one run more.
const MAX_KEYS: usize = 10_000;

/// A single flight for each key.
#[derive(Debug)]
pub(crate) struct SingleFlights<K: Eq + Hash, T>(DashMap<K, Arc<SingleFlight<T>>>);

impl<K: Eq + Hash, T> Default for SingleFlights<K, T> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

impl<K: Eq + Hash, T: Clone> SingleFlights<K, T> {
    /// [`SingleFlight::run`] for this key.
    pub(crate) async fn run(&self, key: K, read: impl Future<Output = T>) -> T {
        if self.0.len() >= MAX_KEYS {
            self.0.clear();
        }
        let flight = self.0.entry(key).or_default().clone();
        flight.run(read).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_run_serves_those_who_asked_before_it_began() {
        let flight = Arc::new(SingleFlight::default());
        let (go, wait) = oneshot::channel::<()>();
        let (began, begins) = oneshot::channel::<()>();
        let first = tokio::spawn({
            let flight = flight.clone();
            async move {
                flight
                    .run(async {
                        let _ = began.send(());
                        let _ = wait.await;
                        1
                    })
                    .await
            }
        });
        begins.await.unwrap();
        // Both have asked after the first run has begun, and share the second
        let asks = |n: u32| {
            let flight = flight.clone();
            async move { flight.run(async { n }).await }
        };
        let both = tokio::spawn(futures::future::join(asks(2), asks(3)));
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 1);
        assert_eq!(both.await.unwrap(), (2, 2));
        assert_eq!(flight.run(async { 4 }).await, 4);
    }
}
