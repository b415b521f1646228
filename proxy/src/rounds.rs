//! Looks at something that may change at any time, shared by all who ask at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Looks at one thing, one after the other; each serves all who asked before it began.
#[derive(Debug)]
pub struct Rounds<T> {
    started: AtomicU64,
    /// The last look's number, and what it saw.
    last: Mutex<Option<(u64, T)>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self { started: AtomicU64::new(0), last: Mutex::new(None) }
    }
}

impl<T: Clone> Rounds<T> {
    /// What a look sees that begins now, or later; `look` is taken where there is no other.
    pub async fn see(&self, look: impl Future<Output = T>) -> T {
        let wanted = self.started.load(Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await;
        if let Some((round, seen)) = &*last
            && *round >= wanted
        {
            return seen.clone();
        }
        let round = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let seen = look.await;
        *last = Some((round, seen.clone()));
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_look_serves_those_who_asked_before_it_began() {
        let rounds = Arc::new(Rounds::default());
        let (go, wait) = oneshot::channel::<()>();
        let (began, begins) = oneshot::channel::<()>();
        let first = tokio::spawn({
            let rounds = rounds.clone();
            async move {
                rounds
                    .see(async {
                        let _ = began.send(());
                        let _ = wait.await;
                        1
                    })
                    .await
            }
        });
        begins.await.unwrap();
        // Both have asked behind the first look's beginning, and share the second
        let asks = |n: u32| {
            let rounds = rounds.clone();
            async move { rounds.see(async { n }).await }
        };
        let both = tokio::spawn(futures::future::join(asks(2), asks(3)));
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 1);
        assert_eq!(both.await.unwrap(), (2, 2));
        assert_eq!(rounds.see(async { 4 }).await, 4);
    }
}
