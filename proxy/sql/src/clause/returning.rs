//! MariaDB's RETURNING.

use std::ops::Range;

use super::{expression, functions};
use crate::{lex::Text, types::Refusal};

/// Refuses items that are neither expressions, with or without `AS name`, nor `*`.
pub(crate) fn check(text: &Text<'_>, list: Range<usize>) -> Result<(), Refusal> {
    if !text.mode.mariadb {
        return Err(Refusal::new("RETURNING is not supported"));
    }
    functions::check_calls(text, list.clone())?;
    functions::check_diagnostics(text, list.clone())?;
    for item in text.split_commas(list) {
        let star = item.len() == 1 && text.punct(item.start, b'*');
        let aliased = item.len() > 2 && text.is(item.end - 2, "AS") && text.name(item.end - 1).is_some();
        let expression = if aliased { item.start..item.end - 2 } else { item };
        if !star {
            let not_understood = || Refusal::new("the RETURNING clause is not understood");
            expression::is_expression(text, expression).map_err(|why| why.refusal(not_understood()))?;
        }
    }
    Ok(())
}
