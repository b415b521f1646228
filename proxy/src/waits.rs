//! Sessions that wait at the server for a row lock, and for whom. The coordinator gets reports of that, since a deadlock
//! may go on there.
//!
//! A bound session says of itself when it begins to wait for its server, which costs it two stores in memory. One timer
//! a backend looks whether somebody has waited for long; only then is the server asked, by the service account, once
//! for all of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atone_api::proto::{BoundConnection, LocalWait, LocalWaits, LookAtWaits};
use atone_catalog::Typed;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::backend::Backend;

/// How many waits are reported at once.
const MAX_REPORTED: usize = 1_000;
/// How many pairs of who waits and who is waited for are read at once: where many want one row each waits for all ahead
/// of it.
const MAX_PAIRS: usize = 10_000;
/// How long the servers go on with what they have put together for `innodb_trx`, and a little more.
const CACHED: Duration = Duration::from_millis(110);
/// How often a look is taken where such is all that was to be seen.
const MAX_LOOKS: usize = 4;
/// How long a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// The pause after a look that has failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// The bound sessions of a backend.
#[derive(Debug)]
pub struct Waits {
    listed: Mutex<HashMap<u64, Arc<Listed>>>,
    began: Instant,
    /// How often the server was looked at.
    looks: AtomicU64,
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
    backend: Arc<Backend>,
    listed: Arc<Listed>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        let mut all = self.backend.waits.listed();
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

    /// Those which have waited for so long.
    fn long(&self, limit: Duration) -> HashMap<u64, Long> {
        let all = self.listed();
        let long = all.iter().filter_map(|(id, listed)| {
            let turn = listed.activity.turn_since(limit)?;
            Some((*id, Long { turn, listed: listed.clone() }))
        });
        long.collect()
    }

    /// Whose these connections are, as far as they are bound sessions of this proxy.
    fn bindings(&self, connection_ids: impl Iterator<Item = u64>) -> Vec<BoundConnection> {
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
struct Long {
    turn: u64,
    listed: Arc<Listed>,
}

impl Backend {
    /// Lists a session as bound, as long as what is returned is there.
    pub(crate) fn list_bound(self: &Arc<Self>, activity: &Arc<Activity>, xid: &str) -> Arc<Bound> {
        let listed = Arc::new(Listed { xid: xid.to_owned(), activity: activity.clone() });
        self.waits.listed().insert(activity.connection_id, listed.clone());
        Arc::new(Bound { backend: self.clone(), listed })
    }
}

/// A connection that waits, the lock that it wants, the connection that has it, and that one's local transaction.
type Pair = (u64, String, u64, u64);

/// Why nothing was seen.
#[derive(Debug, thiserror::Error)]
enum NotSeen {
    #[error(transparent)]
    Server(#[from] Error),
    #[error("performance_schema is OFF")]
    NoPerformanceSchema,
    #[error("others look at innodb_trx all the time")]
    Cached,
    #[error("no answer in {} ms", LOOK_LIMIT.as_millis())]
    TooLong,
}

/// Tells the coordinator of long waits at the server, for ever.
pub async fn watch(backend: Arc<Backend>) {
    let limit = backend.limits.timeouts.deadlock_timeout;
    let mut asked = backend.coordinator.wait_looks();
    let mut ticks = interval(limit.map_or(FAILED_PAUSE, |limit| limit / 2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch {
        backend: &backend,
        has_reported_waits: false,
        failed_at: None,
        logs_failures: true,
        answered: 0,
    };
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = asked.changed() => if changed.is_err() { return },
        }
        let question = asked.borrow_and_update().get(&backend.name).cloned();
        watch.look(limit, question).await;
    }
}

struct Watch<'a> {
    backend: &'a Backend,
    /// The last report to the coordinator had waits in it.
    has_reported_waits: bool,
    /// When a look has failed, if the last one has.
    failed_at: Option<Instant>,
    /// A failure is still to be logged.
    logs_failures: bool,
    /// The number of the last question that was answered.
    answered: u64,
}

impl Watch<'_> {
    /// Looks, where somebody has waited for long, and reports what there is to report.
    async fn look(&mut self, limit: Option<Duration>, question: Option<LookAtWaits>) {
        let look = question.as_ref().map_or(0, |question| question.number);
        let is_asked = look != self.answered;
        let pauses = self.failed_at.is_some_and(|at| at.elapsed() < FAILED_PAUSE);
        let long = match limit {
            Some(limit) if !pauses => self.backend.waits.long(limit),
            _ => HashMap::new(),
        };
        if long.is_empty() && !is_asked && !self.has_reported_waits {
            return;
        }
        let waits = if long.is_empty() { Vec::new() } else { self.waits_of(&long).await };
        self.has_reported_waits = !waits.is_empty();
        self.answered = look;
        let wanted =
            question.filter(|_| is_asked).map(|question| question.connection_ids).unwrap_or_default();
        let mut ids: Vec<u64> = waits.iter().map(|wait| wait.blocker_id).chain(wanted).collect();
        ids.sort_unstable();
        ids.dedup();
        let bound = self.backend.waits.bindings(ids.into_iter().take(MAX_REPORTED));
        let resource = self.backend.name.clone();
        self.backend.coordinator.local_waits(LocalWaits { resource, look, waits, bound });
    }

    /// What these wait for. Where that is not to be seen they are none.
    async fn waits_of(&mut self, long: &HashMap<u64, Long>) -> Vec<LocalWait> {
        let seen = timeout(LOOK_LIMIT, fresh_pairs(self.backend)).await.unwrap_or(Err(NotSeen::TooLong));
        match seen {
            Ok(pairs) => {
                (self.failed_at, self.logs_failures) = (None, true);
                reported(pairs, long)
            }
            // The next look may be lucky
            Err(NotSeen::Cached) => Vec::new(),
            Err(why) => {
                self.failed_at = Some(Instant::now());
                if std::mem::take(&mut self.logs_failures) {
                    tracing::warn!(
                        backend = self.backend.name,
                        %why,
                        "who waits for whose row lock at the server is not to be seen: a deadlock between a row lock there and a \
                         global lock ends by innodb_lock_wait_timeout only"
                    );
                }
                Vec::new()
            }
        }
    }
}

/// The waits among these, of sessions that are still in the wait for which they were looked at.
fn reported(pairs: Vec<Pair>, long: &HashMap<u64, Long>) -> Vec<LocalWait> {
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

/// Who waits for whom at the server.
async fn fresh_pairs(backend: &Backend) -> Result<Vec<Pair>, NotSeen> {
    for number in 0..MAX_LOOKS {
        if number > 0 {
            sleep(CACHED).await;
        }
        let looked = backend.catalog.pool().read_only(|mut conn| async move {
            let looked = pairs(backend, &mut conn).await;
            (conn, looked)
        });
        match looked.await? {
            Seen::Pairs(pairs) => return Ok(pairs),
            Seen::NoPerformanceSchema => return Err(NotSeen::NoPerformanceSchema),
            Seen::Cached => {}
        }
    }
    Err(NotSeen::Cached)
}

enum Seen {
    Pairs(Vec<Pair>),
    /// What was put together for a look before this one.
    Cached,
    NoPerformanceSchema,
}

/// A row of the look: whether it is of now, and a pair.
type SeenRow = (u64, Option<u64>, Option<String>, Option<u64>, Option<u64>);

async fn pairs(backend: &Backend, conn: &mut Conn) -> Result<Seen, Error> {
    let mariadb = backend.catalog.is_mariadb(conn).await?;
    if !mariadb {
        let on: Option<u8> = conn.first_text_row("SELECT @@performance_schema").await?;
        if on != Some(1) {
            return Ok(Seen::NoPerformanceSchema);
        }
    }
    // So that the look is in innodb_trx itself, with its own text: what was put together before does not have it
    conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
    let rows: Result<Vec<SeenRow>, Error> =
        conn.text_rows(look_sql(mariadb, backend.waits.looks.fetch_add(1, Ordering::Relaxed))).await;
    conn.query_drop("ROLLBACK").await?;
    let rows = rows?;
    if rows.first().is_none_or(|(of_now, ..)| *of_now == 0) {
        return Ok(Seen::Cached);
    }
    let pair = |(_, waiter, lock, blocker, transaction)| Some((waiter?, lock?, blocker?, transaction?));
    Ok(Seen::Pairs(rows.into_iter().filter_map(pair).collect()))
}

/// The pairs go by transactions: MySQL's own thread of a lock is the one that has made it, which may have done so for
/// another.
fn look_sql(mariadb: bool, number: u64) -> String {
    let (waits, requesting, lock, blocking) = if mariadb {
        ("information_schema.INNODB_LOCK_WAITS", "requesting_trx_id", "requested_lock_id", "blocking_trx_id")
    } else {
        (
            "performance_schema.data_lock_waits",
            "REQUESTING_ENGINE_TRANSACTION_ID",
            "REQUESTING_ENGINE_LOCK_ID",
            "BLOCKING_ENGINE_TRANSACTION_ID",
        )
    };
    format!(
        "SELECT own.of_now, pairs.waiter, pairs.lock_id, pairs.blocker, pairs.transaction FROM \
         (SELECT COUNT(*) AS of_now FROM information_schema.INNODB_TRX \
         WHERE trx_mysql_thread_id = CONNECTION_ID() AND trx_query LIKE '%of_now%look {number};%') own \
         LEFT JOIN (SELECT r.trx_mysql_thread_id AS waiter, w.{lock} AS lock_id, b.trx_mysql_thread_id AS blocker, \
         b.trx_id AS transaction FROM {waits} w \
         JOIN information_schema.INNODB_TRX r ON r.trx_id = w.{requesting} \
         JOIN information_schema.INNODB_TRX b ON b.trx_id = w.{blocking} \
         WHERE r.trx_id <> 0 AND b.trx_id <> 0 LIMIT {MAX_PAIRS}) pairs ON TRUE"
    )
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
