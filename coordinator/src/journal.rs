//! The writer: one thread that makes steps durable, many at once, and lets their effects out afterwards.
//!
//! Steps come in the order in which the core made them. While one batch is being synced to disk the next one gathers,
//! so under load one sync serves many steps, and an idle coordinator adds no delay.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;

use atone_core::{Change, Effect};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::hub::Hub;
use crate::metrics;
use crate::store::{Store, StoreError};

/// How many steps are made durable at once. More would only delay the first of them.
const MAX_BATCH: usize = 4_096;

/// A step on its way to the disk.
pub(crate) struct Entry {
    pub(crate) changes: Vec<Change>,
    pub(crate) effects: Vec<Effect>,
    /// Sent to when this and everything before it is durable.
    pub(crate) durable: Option<oneshot::Sender<()>>,
    /// Its place in the queue, given back with the entry.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

/// Starts the thread. It ends when all senders are gone, or with the store's first error, after calling `failed`: what
/// the core believes is then ahead of what is durable, so nothing may be answered any more.
pub(crate) fn start(
    mut store: Box<dyn Store>,
    hub: Arc<Hub>,
    failed: impl FnOnce(&StoreError) + Send + 'static,
) -> std::io::Result<(mpsc::Sender<Entry>, JoinHandle<()>)> {
    let (sender, receiver) = mpsc::channel::<Entry>();
    let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        while let Ok(first) = receiver.recv() {
            let mut batch = vec![first];
            batch.extend(receiver.try_iter().take(MAX_BATCH - 1));
            if let Err(error) = write(store.as_mut(), &mut batch) {
                failed(&error);
                return;
            }
            for entry in batch {
                for effect in entry.effects {
                    hub.deliver(effect);
                }
                if let Some(durable) = entry.durable {
                    // The reader may have gone.
                    let _ = durable.send(());
                }
                drop(entry.permit);
            }
        }
    })?;
    Ok((sender, thread))
}

fn write(store: &mut dyn Store, batch: &mut [Entry]) -> Result<(), StoreError> {
    let steps = batch.iter().filter(|entry| !entry.changes.is_empty()).count();
    if steps == 0 {
        return Ok(());
    }
    let changes: Vec<Change> =
        batch.iter_mut().flat_map(|entry| std::mem::take(&mut entry.changes)).collect();
    let began = Instant::now();
    store.apply(&changes)?;
    ::metrics::histogram!(metrics::STORE_COMMIT_SECONDS).record(began.elapsed());
    #[allow(clippy::cast_precision_loss)]
    ::metrics::histogram!(metrics::STORE_BATCH_STEPS).record(steps as f64);
    Ok(())
}
