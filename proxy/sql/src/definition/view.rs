//! Views, from their definitions as the servers return them.

use crate::{
    clause::table,
    lex::{Executable, Mode, Text, lex},
};

/// A view of one table that selects rows and columns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleTableView {
    /// The table's schema.
    pub schema: String,
    /// The table, or another view.
    pub table: String,
    /// For each column of the view the column of the table; `None` if it is computed.
    pub columns: Vec<Option<String>>,
}

/// Reads `VIEW_DEFINITION` of `information_schema.VIEWS`, a SELECT with qualified names. `None` if the view is more
/// than columns and rows of one table, or the definition is not understood.
pub fn single_table_view(definition: &[u8], mode: Mode) -> Option<SingleTableView> {
    let lexed = lex(definition, mode, Executable::Skip).ok()?;
    let text = Text::new(definition, mode, &lexed);
    text.check_structure().ok()?;
    if !text.is(0, "SELECT") || text.is_any(1, &["DISTINCT", "DISTINCTROW"]) {
        return None;
    }
    let end = text.len();
    let from = text.find(1..end, |at| text.is(at, "FROM"))?;
    let (schema, table, mut at) = table::name(&text, from + 1..end)?;
    if at < end && !text.is(at, "WHERE") {
        text.name(at)?;
        at += 1;
    }
    if at < end && !text.is(at, "WHERE") {
        return None;
    }
    let clause = |at: usize| {
        let clauses =
            ["GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "UNION", "EXCEPT", "INTERSECT", "FOR", "LOCK"];
        text.is_any(at, &clauses)
    };
    if text.find(at..end, clause).is_some() {
        return None;
    }
    let column = |item: std::ops::Range<usize>| {
        let item =
            if item.len() > 2 && text.is(item.end - 2, "AS") { item.start..item.end - 2 } else { item };
        let dots = (item.start + 1..item.end).step_by(2).all(|at| text.punct(at, b'.'));
        if dots && matches!(item.len(), 3 | 5) { text.name(item.end - 1) } else { None }
    };
    let columns = text.split_commas(1..from).into_iter().map(column).collect();
    Some(SingleTableView { schema: schema?, table, columns })
}

/// The SELECT in the result of SHOW CREATE VIEW; `None` for another text.
pub fn select_of_view(shown: &[u8], mode: Mode) -> Option<&[u8]> {
    let lexed = lex(shown, mode, Executable::Skip).ok()?;
    let text = Text::new(shown, mode, &lexed);
    let view = text.find(0..text.len(), |at| text.is(at, "VIEW"))?;
    let (_, _, after) = table::name(&text, view + 1..text.len())?;
    let at = if text.punct(after, b'(') { text.skip_parens(after)? } else { after };
    // WITH CASCADED CHECK OPTION
    let checks = |with: &usize| {
        text.is_any(with + 1, &["CASCADED", "LOCAL"]) && text.are(with + 2, &["CHECK", "OPTION"])
    };
    let end = text.len().checked_sub(4).filter(checks).unwrap_or(text.len());
    if !text.is(at, "AS") || at + 1 >= end {
        return None;
    }
    shown.get(text.span(at + 1..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_select_of_a_view() {
        let select = |shown: &str| select_of_view(shown.as_bytes(), Mode::default()).map(<[u8]>::to_vec);
        let head = "CREATE ALGORITHM=UNDEFINED DEFINER=`view`@`%` SQL SECURITY DEFINER VIEW `s`.`v`";
        for columns in ["", " (`a`,`b as (`)"] {
            for check in ["", " WITH CASCADED CHECK OPTION", " WITH LOCAL CHECK OPTION"] {
                let shown = format!("{head}{columns} AS select 1 AS `with`{check}");
                assert_eq!(select(&shown).as_deref(), Some(&b"select 1 AS `with`"[..]), "{shown}");
            }
        }
        for other in [head.to_owned(), format!("{head} AS "), "CREATE TABLE `view` (a INT)".to_owned()] {
            assert_eq!(select(&other), None, "{other}");
        }
    }

    #[test]
    fn definitions_as_the_servers_tell_them() {
        let read = |definition: &str| single_table_view(definition.as_bytes(), Mode::default());
        let one = |columns: &[Option<&str>]| {
            let columns = columns.iter().map(|c| c.map(str::to_owned)).collect();
            Some(SingleTableView { schema: "x".into(), table: "t".into(), columns })
        };
        let plain = "select `x`.`t`.`id` AS `id`,`x`.`t`.`v` AS `val` from `x`.`t`";
        assert_eq!(read(plain), one(&[Some("id"), Some("v")]));
        assert_eq!(
            read(&format!("{plain} where (`x`.`t`.`v` > (select 3 limit 1))")),
            one(&[Some("id"), Some("v")])
        );
        let aliased =
            "select `a`.`id` AS `a`,`a`.`v` + 1 AS `c`,-`a`.`v` AS `d`,count(0) AS `e` from `x`.`t` `a`";
        assert_eq!(read(aliased), one(&[Some("id"), None, None, None]));
        for other in [
            "select distinct `x`.`t`.`id` AS `id` from `x`.`t`",
            "select `x`.`t`.`id` AS `id` from `x`.`t` group by `x`.`t`.`id`",
            "select `x`.`t`.`id` AS `id` from `x`.`t` where 1 limit 3",
            "select `x`.`t`.`id` AS `id` from (`x`.`t` join `x`.`u`)",
            "select `x`.`t`.`id` AS `id` from `x`.`t` join `x`.`u`",
            "select `d`.`id` AS `id` from (select 1 AS `id`) `d`",
            "select 1 AS `1`",
            "select `x`.`t`.`id` AS `id` from `x`.`t` union select 1",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
