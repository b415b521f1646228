//! Metrics in the Prometheus text format.

use atone_core::Stats;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub(crate) const REGISTER_SECONDS: &str = "atone_register_seconds";
pub(crate) const STORE_COMMIT_SECONDS: &str = "atone_store_commit_seconds";
pub(crate) const STORE_BATCH_STEPS: &str = "atone_store_batch_steps";

const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0, 60.0];
const STEPS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0, 4096.0];

/// Makes the process's metrics available. Once for each process.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full(STORE_BATCH_STEPS.to_owned()), &STEPS)?
        .build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder)?;
    describe_gauge!(
        "atone_transactions",
        "Transactions by status; ended ones as long as they are remembered"
    );
    describe_gauge!("atone_locks", "Global row locks that are held, once for each branch");
    describe_gauge!("atone_lock_waiters", "Registrations that wait for row locks");
    describe_gauge!("atone_rollback_waiters", "Calls that wait until a rollback is done");
    describe_gauge!("atone_proxies", "Connected proxies");
    describe_gauge!("atone_work_waiting", "Phase-two work that waits to be given out");
    describe_gauge!("atone_work_outstanding", "Phase-two work that proxies have");
    describe_gauge!("atone_purge_waiting", "Undo rows of committed branches that wait to be deleted");
    describe_counter!("atone_transactions_begun_total", "Transactions begun");
    describe_counter!("atone_transactions_committed_total", "Decisions to commit");
    describe_counter!("atone_transactions_rolled_back_total", "Decisions to roll back, timeouts included");
    describe_counter!("atone_transactions_timed_out_total", "Decisions to roll back that a timeout made");
    describe_counter!("atone_branches_registered_total", "Branches registered");
    describe_counter!(
        "atone_lock_timeouts_total",
        "Registrations refused since a lock could not be taken in time"
    );
    describe_counter!(
        "atone_lock_deadlocks_total",
        "Registrations refused since waiting would have deadlocked or the holder was being rolled back"
    );
    describe_counter!(
        "atone_invariant_violations_total",
        "Invariants of the coordinator that did not hold: bugs"
    );
    describe_histogram!(REGISTER_SECONDS, "From a registration to its answer, waits for locks included");
    describe_histogram!(STORE_COMMIT_SECONDS, "Making one batch durable");
    describe_histogram!(STORE_BATCH_STEPS, "Steps made durable together");
    Ok(handle)
}

/// Sets the metrics to the figures of the moment.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn record(stats: &Stats) {
    for (status, count) in &stats.transactions {
        gauge!("atone_transactions", "status" => status.as_str()).set(*count as f64);
    }
    gauge!("atone_locks").set(stats.locks as f64);
    gauge!("atone_lock_waiters").set(stats.waiters as f64);
    gauge!("atone_rollback_waiters").set(stats.rollback_waiters as f64);
    gauge!("atone_proxies").set(stats.streams as f64);
    gauge!("atone_work_waiting").set(stats.work_waiting as f64);
    gauge!("atone_work_outstanding").set(stats.work_outstanding as f64);
    gauge!("atone_purge_waiting").set(stats.purge_waiting as f64);
    let totals = stats.totals;
    counter!("atone_transactions_begun_total").absolute(totals.begun);
    counter!("atone_transactions_committed_total").absolute(totals.committed);
    counter!("atone_transactions_rolled_back_total").absolute(totals.rolled_back);
    counter!("atone_transactions_timed_out_total").absolute(totals.timed_out);
    counter!("atone_branches_registered_total").absolute(totals.registered);
    counter!("atone_lock_timeouts_total").absolute(totals.lock_timeouts);
    counter!("atone_lock_deadlocks_total").absolute(totals.lock_deadlocks);
    counter!("atone_invariant_violations_total").absolute(totals.invariant_violations);
}
