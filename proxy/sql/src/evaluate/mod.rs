//! Expressions that are evaluated apart from their statement: before it, again, or by a server that only prepares it.

mod effects;
mod evaluable;
mod locking;
mod repeatable;

pub use effects::evaluates_without_effects;
pub use evaluable::{Evaluable, evaluable};
pub use locking::NO_LIMIT;
pub use repeatable::{Repeated, repeatable};

pub(crate) use locking::locked_query;
