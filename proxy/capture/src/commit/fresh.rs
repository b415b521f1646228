//! Whether the tables of a branch are what its statements took them to be.

use crate::Capture;
use crate::outcome::Halt;
use crate::port::Step;
use atone_facts::Stale;

/// A look at the tables of a branch that is under way, all of whose statements have run.
pub(crate) struct Fresh(Step<'static, Result<(), Stale>>);

impl Fresh {
    /// Begins to look, while the session does other things.
    pub(crate) fn look(capture: &Capture<'_>) -> Fresh {
        let branch = &capture.state.branch;
        // Of one that is held, new foreign keys can point at it all the same
        let assumed = branch
            .assumptions()
            .iter()
            .filter(|assumed| assumed.as_parent || !assumed.held)
            .cloned()
            .collect();
        Fresh(capture.catalog.begin_verify(assumed, branch.reads()))
    }
}

impl Capture<'_> {
    /// Waits for the look's end: where it finds anything else the local transaction must not commit.
    pub(crate) async fn fresh(&mut self, look: Fresh) -> Result<(), Halt> {
        let seen = look.0.await;
        if let Err(Stale::Changed(_)) = &seen {
            self.state.forget_digests();
        }
        seen.map_err(|stale| self.stale(stale).into())
    }
}
