//! What images take of this process's memory, of all sessions and all rollbacks together: above `limits.max_memory` a
//! statement is refused, and a rollback waits for others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at a time, in bytes.
const UNIT_BYTES: usize = 1 << 10;
/// A row is held as it came from the server, as an image from before, as one from after, and in the texts that go with
/// them; all of that is counted when it is read, so that a COMMIT does not fail for want of memory.
pub(crate) const RESERVED_PER_IMAGE: usize = 4;
/// The same of a row that a rollback has read, by the bytes of its record: its values, unpacked, and what they are put
/// into.
const RESERVED_PER_RECORD: usize = 8;

/// After so many bytes that were held and are free, free memory goes back to the system.
const GIVEN_BACK_BYTES: usize = 32 << 20;
/// How long that waits for more.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(1);

/// The memory that images may take, for sessions one half, and one for rollbacks: they must not wait for sessions,
/// which may be waiting for them.
#[derive(Clone, Debug)]
pub struct Memory {
    sessions: Arc<Semaphore>,
    rollbacks: Arc<Semaphore>,
    units: u32,
    limit: usize,
    freed: Arc<Freed>,
}

/// What was held and is free, since free memory went back to the system.
#[derive(Debug, Default)]
struct Freed {
    bytes: AtomicUsize,
    /// It is about to go back.
    is_scheduled: AtomicBool,
}

impl Freed {
    fn add(self: &Arc<Self>, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let Ok(runtime) = Handle::try_current() else { return };
        if before + bytes < GIVEN_BACK_BYTES || self.is_scheduled.swap(true, Ordering::Relaxed) {
            return;
        }
        let freed = self.clone();
        runtime.spawn(async move {
            // With what goes right after it
            tokio::time::sleep(GIVEN_BACK_AFTER).await;
            freed.bytes.store(0, Ordering::Relaxed);
            freed.is_scheduled.store(false, Ordering::Relaxed);
            // It takes some milliseconds
            tokio::task::spawn_blocking(atone_trim::give_back);
        });
    }
}

/// What of it is taken; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    pool: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    limit: usize,
    freed: Arc<Freed>,
}

impl Memory {
    /// So many bytes. 0: a half of what the system lets this process have.
    pub fn new(limit: usize) -> Memory {
        let limit = if limit == 0 { available_bytes() / 2 } else { limit };
        let units = units(limit / 2).max(1);
        let pool = || Arc::new(Semaphore::new(units as usize));
        Memory { sessions: pool(), rollbacks: pool(), units, limit, freed: Arc::default() }
    }

    /// Nothing yet, for a session.
    pub fn for_session(&self) -> Reservation {
        self.reservation(&self.sessions, None)
    }

    fn reservation(&self, pool: &Arc<Semaphore>, permit: Option<OwnedSemaphorePermit>) -> Reservation {
        Reservation { pool: pool.clone(), permit, limit: self.limit, freed: self.freed.clone() }
    }

    /// What a rollback takes that reads a record of so many bytes, as soon as others have given back so much. One that
    /// takes more than there is runs by itself.
    pub async fn for_rollback(&self, record_bytes: usize) -> Reservation {
        let units = units(record_bytes.saturating_mul(RESERVED_PER_RECORD)).min(self.units);
        // Nobody closes it
        let permit = self.rollbacks.clone().acquire_many_owned(units).await.ok();
        self.reservation(&self.rollbacks, permit)
    }
}

impl Reservation {
    /// How many bytes are taken.
    pub fn bytes(&self) -> usize {
        self.permit.as_ref().map_or(0, |permit| permit.num_permits() * UNIT_BYTES)
    }

    /// The limit of the process, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Takes so many bytes more; false where that is above the limit.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Ok(more) = self.pool.clone().try_acquire_many_owned(units(bytes)) else { return false };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        true
    }

    /// Gives back all but so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let Some(permit) = &mut self.permit else { return };
        let keep = if bytes == 0 { 0 } else { units(bytes) as usize };
        let surplus = permit.num_permits().saturating_sub(keep);
        drop(permit.split(surplus));
        self.freed.add(surplus * UNIT_BYTES);
        if keep == 0 {
            self.permit = None;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.freed.add(self.bytes());
    }
}

fn units(bytes: usize) -> u32 {
    let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize >> 1);
    u32::try_from(bytes.div_ceil(UNIT_BYTES).min(most)).unwrap_or(u32::MAX >> 1)
}

/// The memory of the machine, or of the control group that this process is in, whichever is less.
fn available_bytes() -> usize {
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let of_groups = group.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    of_groups.chain(of_machine).min().unwrap_or(usize::MAX)
}

/// The total in the text of `/proc/meminfo`, in bytes.
fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_share_what_there_is() {
        let memory = Memory::new(20 << 10);
        let (mut one, mut other) = (memory.for_session(), memory.for_session());
        assert!(one.grow(6 << 10) && other.grow(3 << 10));
        assert!(!other.grow(2 << 10));
        assert_eq!((one.bytes(), other.bytes()), (6 << 10, 3 << 10));
        one.shrink_to(1);
        assert_eq!(one.bytes(), 1 << 10);
        assert!(other.grow(6 << 10) && !one.grow(1));
        drop(other);
        assert!(one.grow(9 << 10));
        one.shrink_to(20 << 10);
        assert_eq!(one.bytes(), 10 << 10);
        one.shrink_to(0);
        assert_eq!(one.bytes(), 0);
    }

    #[tokio::test]
    async fn rollbacks_wait_for_each_other_and_not_for_sessions() {
        let memory = Memory::new(200 << 10);
        assert!(memory.for_session().grow(100 << 10));
        let first = memory.for_rollback(1 << 40).await;
        assert_eq!(first.bytes(), 100 << 10);
        let mut second = std::pin::pin!(memory.for_rollback(1 << 10));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await.bytes(), 8 << 10);
    }

    #[test]
    fn the_total_is_read() {
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal:       24684042 kB\nMemFree: 1 kB"), Some(24_684_042 << 10));
        assert!(available_bytes() > 1 << 20);
    }
}
