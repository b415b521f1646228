//! Modifiers after the verb of a statement that writes.

use crate::{lex::Text, types::Refusal};

/// The index after LOW_PRIORITY and the like, which do not change what is written.
pub(crate) fn modifiers(text: &Text<'_>, mut at: usize, harmless: &[&str]) -> Result<usize, Refusal> {
    while text.is_any(at, harmless) {
        at += 1;
    }
    if text.is(at, "DELAYED") {
        return Err(Refusal::new("DELAYED writes outside of the transaction"));
    }
    Ok(at)
}
