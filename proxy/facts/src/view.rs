//! Views that call functions: a SELECT from one may write, without a word of it in the statement.

use atone_sql::{Mode, Statement, analyze, select_of_view, table_names};

use crate::names::{NameCase, Qualified, qualified};

/// A view by the information schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewDefinition {
    /// Its SELECT.
    pub text: String,
    /// The names of its columns, in their order.
    pub columns: Vec<String>,
}

/// What a SELECT from a view does.
#[derive(Debug)]
pub enum ViewEffect {
    /// It reads these tables and views, and calls built-in functions only.
    Reads(Vec<Qualified>),
    /// It may write, and why.
    Writes(String),
}

/// The effect of a view by its CREATE VIEW statement, a SELECT with qualified names.
pub fn effect_of_view((schema, name): &Qualified, create: &str, mariadb: bool) -> ViewEffect {
    let mode = Mode { mariadb, ..Mode::default() };
    let not_understood = || ViewEffect::Writes(format!("the view {schema}.{name}: it is not understood"));
    let Some(select) = select_of_view(create.as_bytes(), mode) else { return not_understood() };
    match (analyze(select, mode).statement, table_names(select, mode)) {
        (Statement::Read | Statement::Diagnostics | Statement::SelectsDiagnostics { .. }, Some(names)) => {
            ViewEffect::Reads(qualified(names, None, NameCase::AsWritten).unwrap_or_default())
        }
        (Statement::Refused(refusal), _) => {
            ViewEffect::Writes(format!("the view {schema}.{name}: {}", refusal.reason))
        }
        _ => not_understood(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(select: &str) -> ViewEffect {
        let shown = format!(
            "CREATE ALGORITHM=UNDEFINED DEFINER=`a as b`@`localhost` SQL SECURITY DEFINER VIEW `s`.`v` AS {select}"
        );
        effect_of_view(&("s".into(), "v".into()), &shown, true)
    }

    #[test]
    fn what_definitions_say() {
        for end in ["", " WITH CASCADED CHECK OPTION"] {
            let over = found(&format!(
                "select `s`.`t`.`id` AS `id`,count(0) AS `n` from (`s`.`t` join `s`.`w` on(1)){end}"
            ));
            let ViewEffect::Reads(names) = over else { panic!("{over:?}") };
            assert_eq!(names, [("s".to_owned(), "t".to_owned()), ("s".to_owned(), "w".to_owned())]);
        }
        for select in ["", "select `s`.`f`(1) AS `f`", "select nextval(`s`.`q`)"] {
            assert!(matches!(found(select), ViewEffect::Writes(_)), "{select:?}");
        }
    }
}
