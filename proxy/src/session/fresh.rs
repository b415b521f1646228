//! Whether the tables of a branch are what its statements took them to be.

use tokio::task::JoinHandle;

use super::Session;
use crate::error::{End, SqlError};
use crate::meta::Stale;

/// A look at the tables of a branch that is under way, all of whose statements have run.
#[derive(Debug)]
pub(super) struct Fresh(JoinHandle<Result<(), Stale>>);

impl Fresh {
    /// Begins to look, while the session does other things.
    pub(super) fn look(session: &Session) -> Fresh {
        let backend = session.backend.clone();
        let (met, reads) = (session.branch.met().to_vec(), session.branch.reads());
        let mariadb = session.mariadb;
        Fresh(tokio::spawn(async move {
            // Of one that is held, new foreign keys can point at it all the same
            for met in met.into_iter().filter(|met| met.as_parent || !met.held) {
                backend.catalog.verify(&met.info, met.as_parent, mariadb).await?;
            }
            backend.catalog.verify_reads(reads, mariadb).await
        }))
    }
}

impl Session {
    /// Waits for the look's end; the inner error is why the local transaction must not commit.
    pub(super) async fn fresh(&mut self, look: Fresh) -> Result<Result<(), SqlError>, End> {
        let seen =
            look.0.await.map_err(|e| End::Broken(format!("the tables could not be looked at: {e}")))?;
        if let Err(Stale::Changed(_)) = &seen {
            self.forget_digests();
        }
        Ok(seen.map_err(|stale| self.stale(stale)))
    }
}
