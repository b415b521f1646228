//! Values that a read before the statement evaluates as well.

use crate::{
    clause::functions,
    lex::{Executable, Kind, Mode, Text, identifier, lex},
    types::{Assignment, Refusal},
};

/// The value of an assignment that is evaluated again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeated {
    /// The keyword DEFAULT.
    Default,
    /// An expression that has the same value in a read before the statement.
    Expression {
        /// All names in it, in lower case: the columns that it reads, and more.
        names: Vec<String>,
    },
}

/// Whether a read before the statement can evaluate the value of an assignment. `assignments` are all of the
/// statement's.
///
/// # Errors
/// Why it cannot: it may have another value, or an effect, each time that it is evaluated.
pub fn repeatable(
    sql: &[u8],
    assignment: &Assignment,
    assignments: &[Assignment],
    mode: Mode,
) -> Result<Repeated, Refusal> {
    let not_understood = || Refusal::new("an assignment is not understood");
    let column = &assignment.column;
    let value = sql.get(assignment.value.clone()).ok_or_else(not_understood)?;
    let lexed = lex(value, mode, Executable::Skip).map_err(|_| not_understood())?;
    let text = Text::new(value, mode, &lexed);
    if text.len() == 1 && text.is(0, "DEFAULT") {
        return Ok(Repeated::Default);
    }
    let mut names = Vec::new();
    for at in 0..text.len() {
        match text.kind(at) {
            Some(Kind::UserVar) if assigns_variable(sql, assignments, mode) => {
                return Err(Refusal::new(format!(
                    "{column} is assigned from a user variable, and the statement assigns one"
                )));
            }
            Some(Kind::UserVar) => continue,
            Some(Kind::Word | Kind::Quoted) => names.push(identifier(text.bytes(at)).to_lowercase()),
            _ => {}
        }
        if text.kind(at) == Some(Kind::Assign) || functions::is_volatile(&text, at..at + 1) {
            return Err(Refusal::new(format!("{column} is assigned a value that may differ each time")));
        }
    }
    Ok(Repeated::Expression { names })
}

/// Whether one of the values contains `:=`.
fn assigns_variable(sql: &[u8], assignments: &[Assignment], mode: Mode) -> bool {
    assignments.iter().any(|assignment| {
        let value = sql.get(assignment.value.clone()).unwrap_or_default();
        lex(value, mode, Executable::Skip)
            .is_ok_and(|lexed| lexed.tokens.iter().any(|token| token.kind == Kind::Assign))
    })
}
