//! Invariants that do not hold.

use std::fmt;

/// An invariant of the core does not hold: a bug of the coordinator. What depends on it is left undone; the core goes
/// on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

/// A result that fails only if the core contradicts itself.
pub(crate) type Checked<T = ()> = Result<T, Violation>;

impl Violation {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
