//! Bounded waiting for a state that gives no event.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long it waits before it asks for the second time; then twice as long each time.
const FIRST_POLL: Duration = Duration::from_millis(1);
/// How long it waits before it asks again at most.
const POLL: Duration = Duration::from_millis(20);

/// Asks until the answer is there; fails after `limit`, naming `what` was waited for. An error ends the wait at once.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    let mut poll = FIRST_POLL;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain: {what}");
        }
        tokio::time::sleep(poll).await;
        poll = (poll * 2).min(POLL);
    }
}
