//! The global transaction that a session is bound to.

use std::sync::Arc;

use crate::waits::Bound;

/// The global transaction that statements of this session belong to.
#[derive(Clone, Debug)]
pub(in crate::session) struct Binding {
    pub(in crate::session) xid: String,
    /// Bound by a hint: ends with the local transaction.
    pub(in crate::session) local_only: bool,
    /// A COMMIT GLOBAL TRANSACTION has lost the local transaction that it was to commit first, and none that has
    /// written has been committed since: sent again, it would commit the rest.
    pub(in crate::session) lost_local: bool,
    /// So long the session is listed as bound.
    pub(in crate::session) _listed: Arc<Bound>,
}
