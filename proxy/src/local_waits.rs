//! Who waits for whose row lock at the server: the coordinator gets reports of long waits, since a deadlock may go on
//! there.
//!
//! One timer a backend looks whether a bound session has waited for long ([`Waits`](crate::waits::Waits)); only then
//! is the server asked, by the service account, once for all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use atone_api::proto::{LocalWait, LocalWaits, LookAtWaits};
use atone_catalog::Typed;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::backend::Backend;
use crate::waits::{Long, MAX_REPORTED, Pair, reported};

/// How many pairs of who waits and who is waited for are read at once: where many want one row each waits for all
/// ahead of it.
const MAX_PAIRS: usize = 10_000;
/// How long the servers go on with what they have put together for `innodb_trx`, and a little more.
const CACHED: Duration = Duration::from_millis(110);
/// How often a look is taken where such is all that was to be seen.
const MAX_LOOKS: usize = 4;
/// How long a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// The pause after a look that has failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

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
