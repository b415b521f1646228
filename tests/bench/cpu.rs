//! CPU time of the processes under test, user and system together.
//!
//! It is read from each process's CPU clock. `/proc/PID/stat` has the same sum in steps of 10 ms, which is more than
//! a small transaction takes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use atone_tests::Cluster;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The processes count as idle once they have taken less than `IDLE` in each of `QUIET_WINDOWS` windows. Together these
/// windows are longer than the coordinator's `transaction.purge_delay`, so that undo rows have been deleted by then.
const WINDOW: Duration = Duration::from_millis(100);
const QUIET_WINDOWS: usize = 3;
const IDLE: Duration = Duration::from_millis(3);
/// How long background work of a transaction may go on.
const QUIET_LIMIT: Duration = Duration::from_secs(120);

/// CPU time of each process, since its start or between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// The database server, or all of them together.
    pub(crate) server: Duration,
    /// The proxy.
    pub(crate) proxy: Duration,
    /// The coordinator.
    pub(crate) coordinator: Duration,
}

impl Used {
    /// All processes together.
    pub(crate) fn total(&self) -> Duration {
        self.server + self.proxy + self.coordinator
    }

    /// What was taken from `earlier` until this moment.
    pub(crate) fn since(&self, earlier: &Used) -> Used {
        Used {
            server: self.server.saturating_sub(earlier.server),
            proxy: self.proxy.saturating_sub(earlier.proxy),
            coordinator: self.coordinator.saturating_sub(earlier.coordinator),
        }
    }
}

/// The CPU clocks of the processes that a transaction runs through.
#[derive(Debug)]
pub(crate) struct Clocks {
    servers: Vec<ClockId>,
    proxies: Vec<ClockId>,
    coordinators: Vec<ClockId>,
}

impl Clocks {
    /// Those of the first server, the proxy and the coordinator.
    pub(crate) fn of(cluster: &Cluster) -> Result<Self> {
        Self::over(&[cluster.bank1.id()], &[cluster.proxy.id()], &[cluster.coordinator.id()])
    }

    /// Those of these processes, by their ids.
    pub(crate) fn over(
        servers: &[Option<u32>],
        proxies: &[Option<u32>],
        coordinators: &[Option<u32>],
    ) -> Result<Self> {
        let clocks = |pids: &[Option<u32>]| pids.iter().map(|&pid| clock(pid)).collect::<Result<Vec<_>>>();
        Ok(Self { servers: clocks(servers)?, proxies: clocks(proxies)?, coordinators: clocks(coordinators)? })
    }

    /// What they show now.
    pub(crate) fn now(&self) -> Result<Used> {
        Ok(Used {
            server: sum(&self.servers)?,
            proxy: sum(&self.proxies)?,
            coordinator: sum(&self.coordinators)?,
        })
    }

    /// Waits until all processes are idle, and returns what they had taken when they became so. Background work, such
    /// as InnoDB's purge, is part of what a transaction costs.
    pub(crate) async fn until_quiet(&self) -> Result<Used> {
        let deadline = Instant::now() + QUIET_LIMIT;
        let mut became_quiet = self.now()?;
        let mut last = became_quiet;
        let mut quiet_windows = 0;
        while quiet_windows < QUIET_WINDOWS {
            if Instant::now() >= deadline {
                bail!("the processes were not idle within {QUIET_LIMIT:?}");
            }
            tokio::time::sleep(WINDOW).await;
            let now = self.now()?;
            if now.since(&last).total() < IDLE {
                quiet_windows += 1;
            } else {
                quiet_windows = 0;
                became_quiet = now;
            }
            last = now;
        }
        Ok(became_quiet)
    }
}

fn sum(clocks: &[ClockId]) -> Result<Duration> {
    clocks.iter().map(|&clock| read(clock)).sum()
}

fn read(clock: ClockId) -> Result<Duration> {
    Ok(clock_gettime(clock)?.into())
}

/// What this process itself has taken: the load generator.
pub(crate) fn own() -> Result<Duration> {
    read(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(pid: Option<u32>) -> Result<ClockId> {
    let pid = i32::try_from(pid.context("a process does not run")?)?;
    clock_getcpuclockid(Pid::from_raw(pid)).context("no CPU clock of the process")
}
