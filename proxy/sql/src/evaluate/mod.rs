//! Expressions that are evaluated apart from their statement: before it, again, or by a server that only prepares it.

mod evaluable;
mod locking;
mod quiet;
mod repeatable;

pub use evaluable::{Evaluable, evaluable};
pub use locking::NO_LIMIT;
pub use quiet::evaluates_quietly;
pub use repeatable::{Repeated, repeatable};

pub(crate) use locking::locked_query;
