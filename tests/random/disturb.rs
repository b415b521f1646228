//! Other clients that get in the way while a case runs bound: they kill its statements, the proxy's own among them, and
//! hold rows that it wants, so that it waits or dies in a deadlock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use atone_tests::{Bank, Cluster, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use tokio::sync::oneshot;

use crate::rng::Rng;
use crate::script::Case;

/// `ER_QUERY_INTERRUPTED`
const INTERRUPTED: u16 = 1317;

/// The sessions of one case that are to be disturbed.
#[derive(Debug)]
pub(crate) struct Disturber {
    rng: Rng,
    /// The connection of each session to its server.
    ids: Vec<(Bank, u64)>,
    /// The session that runs a statement.
    now: Arc<AtomicUsize>,
    killers: [Conn; 2],
    holders: [Conn; 2],
    /// Statements that hold rows, of each server.
    holds: [Vec<String>; 2],
}

impl Disturber {
    /// Learns whom it is to disturb.
    pub(crate) async fn new(
        cluster: &Cluster,
        case: &Case,
        schema: &str,
        sessions: &mut [Conn],
        now: Arc<AtomicUsize>,
    ) -> Result<Self> {
        let mut ids = Vec::new();
        for (conn, &bank) in sessions.iter_mut().zip(&case.sessions) {
            ids.push((bank, sql::cell(conn, "SELECT CONNECTION_ID()").await?.parse()?));
        }
        let killers = [cluster.bank1.admin().await?, cluster.bank2.admin().await?];
        let holders = [cluster.direct(Bank::One, schema).await?, cluster.direct(Bank::Two, schema).await?];
        let holds = [Bank::One, Bank::Two].map(|bank| {
            let own = case.tables.iter().filter(|table| table.bank == bank && !table.view);
            own.map(|table| {
                format!("SELECT 1 FROM {} ORDER BY {} LIMIT 3 FOR UPDATE", table.name, table.order())
            })
            .collect()
        });
        Ok(Self { rng: Rng::new(!case.seed), ids, now, killers, holders, holds })
    }

    /// Disturbs until it is told to stop. The servers have answered all that it sent then, and it holds no rows. Its
    /// own errors (that somebody is gone, a deadlock) are of no matter.
    pub(crate) async fn disturb(mut self, mut stop: oneshot::Receiver<()>) -> Result<()> {
        for holder in &mut self.holders {
            // A global completion_type of RELEASE would end it with its first ROLLBACK
            sql::run(holder, "SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, completion_type = 0")
                .await?;
        }
        loop {
            let pause = Duration::from_millis(self.rng.between(0, 4) as u64);
            if tokio::time::timeout(pause, &mut stop).await.is_ok() {
                return Ok(());
            }
            let Some(&(bank, id)) = self.ids.get(self.now.load(Ordering::Relaxed)) else { continue };
            let at = usize::from(bank == Bank::Two);
            if self.rng.percent(90) || self.holds[at].is_empty() {
                ignored(self.killers[at].query_drop(format!("KILL QUERY {id}")).await)?;
                continue;
            }
            let holder = &mut self.holders[at];
            ignored(holder.query_drop("BEGIN").await)?;
            for _ in 0..2 {
                let hold = self.rng.pick(&self.holds[at]);
                ignored(holder.query_drop(hold).await)?;
            }
            tokio::time::sleep(Duration::from_millis(self.rng.between(1, 20) as u64)).await;
            ignored(holder.query_drop("ROLLBACK").await)?;
        }
    }
}

/// Has a session that was disturbed take a KILL QUERY that came just after its last statement, if one did: a server
/// may keep one that comes before it waits for the next command, and answer that with it.
pub(crate) async fn take_kill(session: &mut Conn) -> Result<()> {
    match session.query_drop("DO 0").await {
        Err(mysql_async::Error::Server(error)) if error.code == INTERRUPTED => Ok(()),
        done => Ok(done?),
    }
}

fn ignored(done: mysql_async::Result<()>) -> Result<()> {
    match done {
        Ok(()) | Err(mysql_async::Error::Server(_)) => Ok(()),
        Err(other) => Err(other.into()),
    }
}
