//! Whether the tables of a branch are what its statements took them to be.

use tokio::task::JoinHandle;

use super::Session;
use super::outcome::Halt;
use crate::error::End;
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
                backend.metadata.verify(&backend.pool, &met.info, met.as_parent, mariadb).await?;
            }
            backend.views.verify(&backend.pool, reads, mariadb).await
        }))
    }
}

impl Session {
    /// Waits for the look's end: where it finds anything else the local transaction must not commit.
    pub(super) async fn fresh(&mut self, look: Fresh) -> Result<(), Halt> {
        let seen =
            look.0.await.map_err(|e| End::Broken(format!("the tables could not be looked at: {e}")))?;
        if let Err(Stale::Changed(_)) = &seen {
            self.forget_digests();
        }
        seen.map_err(|stale| self.stale(stale).into())
    }
}
