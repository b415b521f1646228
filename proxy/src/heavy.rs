//! Work that takes more than a millisecond of CPU: it is kept off the workers, on which all sessions take turns.

use atone_capture::heavy::Heavy;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Off this worker, whose other tasks go on elsewhere meanwhile.
pub(crate) const ASIDE: Heavy = Heavy(aside);

fn aside(work: &mut dyn FnMut()) {
    let workers = Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if workers { tokio::task::block_in_place(work) } else { work() }
}

/// Runs what looks at so many rows, keys or values; many of them [`ASIDE`].
pub(crate) fn heavy<T>(rows: usize, work: impl FnOnce() -> T) -> T {
    ASIDE.run(rows, work)
}

/// The same of what reads a text of so many bytes.
pub(crate) fn heavy_text<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    ASIDE.run_text(bytes, work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atone_capture::heavy::LIGHT;

    /// The only worker has another task to run meanwhile.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on() {
        let (go, went) = std::sync::mpsc::channel();
        let worker = tokio::spawn(async move {
            tokio::spawn(async move { go.send(()) });
            heavy(LIGHT + 1, || went.recv())
        });
        assert_eq!(worker.await.unwrap(), Ok(()));
    }

    #[test]
    fn without_a_runtime_it_runs_where_it_is() {
        assert_eq!(heavy(usize::MAX, || 1), 1);
    }
}
