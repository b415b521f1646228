//! Runs a test against a flavor of servers.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::{Cluster, ClusterOptions, Flavor};

/// A test that takes longer than this hangs.
const TEST_LIMIT: Duration = Duration::from_secs(180);

/// One runtime for all tests of a program: what they share must not end with the test that came first.
static RUNTIME: LazyLock<std::io::Result<Runtime>> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build());

/// Runs a future to its end on the program's runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    match &*RUNTIME {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => anyhow::bail!("there is no runtime: {error}"),
    }
}

/// Runs a test against the cluster of this flavor that is shared so, unless the flavor is left out; fails with the
/// logs' ends.
pub fn run<S, F, Fut>(flavor: Flavor, shared: S, test: F)
where
    S: Future<Output = Result<Arc<Cluster>>>,
    F: FnOnce(Arc<Cluster>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    if left_out(flavor) {
        return;
    }
    let cluster = report(block_on(shared), String::new);
    let tails = Arc::clone(&cluster);
    guarded(limited(test(cluster)), || tails.log_tails());
}

/// Runs a test against a cluster of its own, which it may harm.
pub fn run_owned<F, Fut>(flavor: Flavor, options: ClusterOptions, test: F)
where
    F: FnOnce(Harmable) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    if left_out(flavor) {
        return;
    }
    let cluster = Arc::new(tokio::sync::Mutex::new(report(
        block_on(Cluster::start_with(flavor, options)),
        String::new,
    )));
    let tails = Arc::clone(&cluster);
    guarded(limited(test(cluster)), || match tails.try_lock() {
        Ok(cluster) => cluster.log_tails(),
        Err(_) => "(the cluster is still in use: no logs)".to_owned(),
    });
}

/// A cluster that one test owns.
pub type Harmable = Arc<tokio::sync::Mutex<Cluster>>;

/// Runs a test that needs no cluster.
pub fn run_alone(flavor: Flavor, test: impl Future<Output = Result<()>>) {
    if !left_out(flavor) {
        guarded(limited(test), String::new);
    }
}

fn left_out(flavor: Flavor) -> bool {
    if flavor.skipped() {
        // The word is what a reader of the output looks for.
        eprintln!("SKIPPED: {} leaves out the tests on {flavor}", flavor.skip_variable());
        return true;
    }
    false
}

async fn limited(test: impl Future<Output = Result<()>>) -> Result<()> {
    // For runs that are meant to be long
    let seconds = std::env::var("ATONE_TEST_LIMIT_SECONDS").ok().and_then(|text| text.parse().ok());
    let limit = seconds.map_or(TEST_LIMIT, Duration::from_secs);
    match tokio::time::timeout(limit, test).await {
        Ok(result) => result,
        Err(_) => anyhow::bail!("the test did not end in {limit:?}"),
    }
}

fn guarded(test: impl Future<Output = Result<()>>, logs: impl Fn() -> String) {
    // Logs of tests that fail at the same time must not be mixed.
    static PRINTING: Mutex<()> = Mutex::new(());
    match catch_unwind(AssertUnwindSafe(|| block_on(test))) {
        Ok(result) => {
            report(result, logs);
        }
        Err(panic) => {
            let _guard = PRINTING.lock();
            eprintln!("{}", logs());
            resume_unwind(panic);
        }
    }
}

#[allow(clippy::panic, reason = "a test fails by a panic")]
fn report<T>(result: Result<T>, logs: impl Fn() -> String) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:#}\n{}", logs()),
    }
}

/// Makes of each function `async fn(Arc<Cluster>) -> Result<()>` two tests, one a flavor, on the shared clusters; or
/// on those that a function `async fn(Flavor) -> Result<Arc<Cluster>>` gives.
#[macro_export]
macro_rules! shared_tests {
    ($shared:path => $($name:ident),+ $(,)?) => { $(
        mod $name {
            #[allow(unused_imports, reason = "the function may be the file's own")]
            use super::*;
            #[test]
            fn mariadb() {
                $crate::run::run($crate::Flavor::MariaDb, $shared($crate::Flavor::MariaDb), super::$name);
            }
            #[test]
            fn mysql() {
                $crate::run::run($crate::Flavor::MySql, $shared($crate::Flavor::MySql), super::$name);
            }
        }
    )+ };
    ($($name:ident),+ $(,)?) => { $crate::shared_tests!($crate::Cluster::shared => $($name),+); };
}

/// Makes of each function `async fn(Harmable) -> Result<()>` two tests, each on a cluster of its own with these
/// options.
#[macro_export]
macro_rules! owned_tests {
    ($options:expr => $($name:ident),+ $(,)?) => { $(
        mod $name {
            #[allow(unused_imports, reason = "the options may name what the file has imported")]
            use super::*;
            #[test]
            fn mariadb() {
                $crate::run::run_owned($crate::Flavor::MariaDb, $options, super::$name);
            }
            #[test]
            fn mysql() {
                $crate::run::run_owned($crate::Flavor::MySql, $options, super::$name);
            }
        }
    )+ };
}
