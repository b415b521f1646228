//! Work that takes more than a millisecond of CPU: it is kept off the workers, on which all sessions take turns.

use tokio::runtime::{Handle, RuntimeFlavor};

/// So many rows, keys or values are light work in whatever form.
const LIGHT: usize = 200;
/// So many bytes of a statement weigh as much as one row.
const BYTES_PER_ROW: usize = 256;

/// Runs what looks at so many rows, keys or values. Where those are many, the other tasks of this worker go on elsewhere.
pub(crate) fn heavy<T>(rows: usize, work: impl FnOnce() -> T) -> T {
    let workers = || Handle::try_current().is_ok_and(|h| h.runtime_flavor() == RuntimeFlavor::MultiThread);
    if rows > LIGHT && workers() { tokio::task::block_in_place(work) } else { work() }
}

/// The same of what reads a text of so many bytes.
pub(crate) fn heavy_text<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    heavy(bytes / BYTES_PER_ROW, work)
}

/// Runs heavy work, for the capture.
pub(crate) fn aside(work: &mut dyn FnMut()) {
    heavy(LIGHT + 1, work);
}

#[cfg(test)]
mod tests {
    use super::*;

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
