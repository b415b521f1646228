//! The bound sessions of a backend, and which of them wait for the server: a session says of itself when it begins to
//! wait, which costs it two stores in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atone_api::proto::{BoundConnection, LocalWait};

/// How many waits are reported at once.
pub(crate) const MAX_REPORTED: usize = 1_000;

/// The bound sessions of a backend.
#[derive(Debug)]
pub struct Waits {
    listed: Mutex<HashMap<u64, Arc<Listed>>>,
    began: Instant,
    /// How often the server was looked at.
    pub(crate) looks: AtomicU64,
}

impl Default for Waits {
    fn default() -> Waits {
        Waits { listed: Mutex::default(), began: Instant::now(), looks: AtomicU64::new(0) }
    }
}

#[derive(Debug)]
struct Listed {
    xid: String,
    activity: Arc<Activity>,
}

/// Whether a session waits for its server.
#[derive(Debug)]
pub(crate) struct Activity {
    /// The connection, as the server numbers them.
    connection_id: u64,
    /// When the clock of [`Activity::since_ms`] began.
    began: Instant,
    /// Rises when a wait begins, and when it ends: odd while it waits.
    turn: AtomicU64,
    since_ms: AtomicU64,
}

impl Activity {
    /// Takes note that a wait begins; it ends with what is returned.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.since_ms.store(millis(self.began.elapsed()), Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::AcqRel);
        Waiting(self)
    }

    /// The wait of now, if it has been one for so long.
    fn turn_since(&self, limit: Duration) -> Option<u64> {
        let turn = self.turn.load(Ordering::Acquire);
        let waited_ms = millis(self.began.elapsed()).saturating_sub(self.since_ms.load(Ordering::Relaxed));
        (turn % 2 == 1 && waited_ms >= millis(limit)).then_some(turn)
    }

    fn is_in(&self, turn: u64) -> bool {
        self.turn.load(Ordering::Acquire) == turn
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A wait that goes on.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Activity);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.turn.fetch_add(1, Ordering::AcqRel);
    }
}

/// Keeps a session in the list of those that are bound.
#[derive(Debug)]
pub(crate) struct Bound {
    waits: Arc<Waits>,
    listed: Arc<Listed>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let mut all = self.waits.listed();
        let id = self.listed.activity.connection_id;
        // It may be bound anew by now
        if all.get(&id).is_some_and(|listed| Arc::ptr_eq(listed, &self.listed)) {
            all.remove(&id);
        }
    }
}

impl Waits {
    fn listed(&self) -> MutexGuard<'_, HashMap<u64, Arc<Listed>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a session with this connection to the server.
    pub(crate) fn activity(&self, connection_id: u32) -> Arc<Activity> {
        Arc::new(Activity {
            connection_id: connection_id.into(),
            began: self.began,
            turn: AtomicU64::new(0),
            since_ms: AtomicU64::new(0),
        })
    }

    /// Lists a session as bound, as long as what is returned is there.
    pub(crate) fn list_bound(self: &Arc<Self>, activity: &Arc<Activity>, xid: &str) -> Arc<Bound> {
        let listed = Arc::new(Listed { xid: xid.to_owned(), activity: activity.clone() });
        self.listed().insert(activity.connection_id, listed.clone());
        Arc::new(Bound { waits: self.clone(), listed })
    }

    /// Those which have waited for so long.
    pub(crate) fn long(&self, limit: Duration) -> HashMap<u64, Long> {
        let all = self.listed();
        let long = all.iter().filter_map(|(id, listed)| {
            let turn = listed.activity.turn_since(limit)?;
            Some((*id, Long { turn, listed: listed.clone() }))
        });
        long.collect()
    }

    /// Whose these connections are, as far as they are bound sessions of this proxy.
    pub(crate) fn bindings(&self, connection_ids: impl Iterator<Item = u64>) -> Vec<BoundConnection> {
        let all = self.listed();
        let bound = connection_ids.filter_map(|connection_id| {
            let xid = all.get(&connection_id)?.xid.clone();
            Some(BoundConnection { connection_id, xid })
        });
        bound.collect()
    }
}

/// A session that has waited for long.
#[derive(Debug)]
pub(crate) struct Long {
    turn: u64,
    listed: Arc<Listed>,
}

/// A connection that waits, the lock that it wants, the connection that has it, and that one's local transaction.
pub(crate) type Pair = (u64, String, u64, u64);

/// The waits among these, of sessions that are still in the wait for which they were looked at.
pub(crate) fn reported(pairs: Vec<Pair>, long: &HashMap<u64, Long>) -> Vec<LocalWait> {
    let mut waits: Vec<LocalWait> = Vec::new();
    for (connection_id, lock, blocker_id, transaction) in pairs {
        let Some(Long { turn, listed }) = long.get(&connection_id) else { continue };
        if listed.activity.is_in(*turn) && waits.len() < MAX_REPORTED {
            let wait = format!("{turn} {lock} {transaction}");
            waits.push(LocalWait { xid: listed.xid.clone(), connection_id, blocker_id, wait });
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_one_from_its_beginning_to_its_end() {
        let waits = Waits::default();
        let activity = waits.activity(7);
        assert_eq!(activity.turn_since(Duration::ZERO), None);
        let waiting = activity.wait();
        let turn = activity.turn_since(Duration::ZERO).unwrap();
        assert!(activity.is_in(turn));
        assert_eq!(activity.turn_since(Duration::from_secs(60)), None, "it has not waited for so long");
        drop(waiting);
        assert!(!activity.is_in(turn) && activity.turn_since(Duration::ZERO).is_none());
        let _waiting = activity.wait();
        assert!(!activity.is_in(turn), "another wait");
    }

    #[test]
    fn only_waits_that_go_on_are_reported() {
        let waits = Waits::default();
        let listed = |id| Arc::new(Listed { xid: format!("x{id}"), activity: waits.activity(id) });
        let (one, two) = (listed(1), listed(2));
        let waiting = one.activity.wait();
        let _other = two.activity.wait();
        let long: HashMap<u64, Long> = [(1, &one), (2, &two)]
            .map(|(id, listed)| {
                let turn = listed.activity.turn_since(Duration::ZERO).unwrap();
                (id, Long { turn, listed: listed.clone() })
            })
            .into();
        let pairs = vec![(1, "l".to_owned(), 2, 5), (2, "m".to_owned(), 9, 6), (3, "n".to_owned(), 1, 7)];
        let ids =
            |waits: Vec<LocalWait>| -> Vec<u64> { waits.iter().map(|wait| wait.connection_id).collect() };
        assert_eq!(ids(reported(pairs.clone(), &long)), [1, 2]);
        drop(waiting);
        assert_eq!(ids(reported(pairs, &long)), [2]);
    }
}
