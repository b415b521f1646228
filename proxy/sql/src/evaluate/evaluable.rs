//! Expressions that are evaluated before their statement, under the locks that it takes.

use super::locking;
use crate::{
    clause::functions,
    lex::{Executable, Mode, Text, lex},
    types::Refusal,
};

/// An expression that can be evaluated before its statement, where its value takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluable {
    /// Its text, with locking clauses in its subqueries.
    pub text: Vec<u8>,
    /// It reads tables.
    pub subquery: bool,
    /// It reads the clock.
    pub clock: bool,
}

/// Functions that read the clock, with parentheses or without.
const CLOCKS: &[&str] = &[
    "CURDATE",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURTIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NOW",
    "SYSDATE",
    "UNIX_TIMESTAMP",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
];

/// Whether an expression can be evaluated before its statement. `default`: it is the default of a column, whose
/// functions are built in.
///
/// # Errors
/// Why it cannot.
pub fn evaluable(expression: &[u8], mode: Mode, default: bool) -> Result<Evaluable, Refusal> {
    let lexed = lex(expression, mode, Executable::Skip)
        .map_err(|reason| Refusal::new(format!("the expression {reason}")))?;
    if lexed.has_executable_comments() {
        return Err(Refusal::new("executable comments are supported in plain reads only"));
    }
    let text = Text::new(expression, mode, &lexed);
    text.check_structure()?;
    let all = 0..text.len();
    if !default {
        functions::check_calls(&text, all.clone())?;
    }
    functions::check_diagnostics(&text, all.clone())?;
    if functions::has_side_effects(&text, all.clone()) {
        return Err(Refusal::new("the expression assigns a user variable or LAST_INSERT_ID"));
    }
    Ok(Evaluable {
        text: locking::locked_expression(&text)?,
        subquery: all.clone().any(|at| functions::is_subquery(&text, at)),
        clock: all.into_iter().any(|at| text.is_any(at, CLOCKS)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_evaluated_ahead() {
        let text =
            |sql: &str| evaluable(sql.as_bytes(), Mode::default(), false).map(|e| (e.text, e.subquery));
        assert_eq!(text("UUID()"), Ok((b"UUID()".to_vec(), false)));
        let subquery = b"1 + (SELECT MAX(id) FROM t LOCK IN SHARE MODE)".to_vec();
        assert_eq!(text("1 + (SELECT MAX(id) FROM t)"), Ok((subquery, true)));
        assert_eq!(text("LAST_INSERT_ID()"), Ok((b"LAST_INSERT_ID()".to_vec(), false)));
        for refused in [
            "LAST_INSERT_ID(5)",
            "@n := 1",
            "f(1)",
            "ROW_COUNT()",
            "(SELECT 1 FOR UPDATE)",
            "(SELECT 1 INTO @a)",
        ] {
            assert!(text(refused).is_err(), "{refused}");
        }
    }
}
