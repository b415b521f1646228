//! Views that call functions: a SELECT from one may write, without a word of it in the statement.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use atone_sql::{Mode, Statement, TableName, analyze, table_names};
use dashmap::DashMap;
use mysql_async::Conn;

use crate::service::ServicePool;
use crate::typed::Typed;

/// How many names are remembered; beyond it all are forgotten, which costs a look each.
const MAX_NAMES: usize = 10_000;
/// How many names one query asks for.
const NAMES_PER_QUERY: usize = 50;
/// How many views are looked into for one statement: each may name others.
const MAX_VIEWS: usize = 1000;
/// Schemas of the server's own: nothing in them is captured, and their views call nothing that writes.
const OWN_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];

/// What is known of names: whether they are views, and what those call.
#[derive(Debug, Default)]
pub struct Views {
    seen: DashMap<Qualified, (Instant, Found)>,
}

type Qualified = (String, String);

#[derive(Clone, Debug)]
enum Found {
    /// Not a view.
    NoView,
    /// A view over these, which calls built-in functions only.
    Over(Vec<Qualified>),
    /// A view that may write, and why.
    Writes(String),
}

impl Views {
    /// Why a statement that names these tables and views may write behind its text; `None` where it can't. What was a table
    /// less than `ttl` ago is not looked at again; views always are.
    ///
    /// # Errors
    /// What the server says to the service account.
    pub async fn refusal(
        &self,
        pool: &ServicePool,
        names: Vec<TableName>,
        database: Option<&str>,
        ttl: Duration,
        mariadb: bool,
    ) -> Result<Option<String>, mysql_async::Error> {
        let mut todo = qualified(names, database);
        let mut done: HashSet<Qualified> = HashSet::new();
        let mut conn = None;
        while !todo.is_empty() {
            todo.retain(|name| done.insert(name.clone()));
            if done.len() > MAX_VIEWS {
                return Ok(Some(format!("the statement reads more than {MAX_VIEWS} tables and views")));
            }
            let unknown: Vec<Qualified> =
                todo.iter().filter(|name| !self.is_table(name, ttl)).cloned().collect();
            if !unknown.is_empty() {
                let conn = match &mut conn {
                    Some(conn) => conn,
                    none => none.insert(pool.get_conn().await?),
                };
                self.look(conn, unknown, mariadb).await?;
            }
            let mut next = Vec::new();
            for name in &todo {
                match self.seen.get(name).map(|seen| seen.1.clone()) {
                    Some(Found::Writes(why)) => return Ok(Some(why)),
                    Some(Found::Over(names)) => next.extend(names),
                    Some(Found::NoView) => {}
                    // Forgotten meanwhile, since there were too many
                    None => {
                        return Ok(Some("the views that the statement reads could not be looked at".into()));
                    }
                }
            }
            todo = next;
        }
        Ok(None)
    }

    fn is_table(&self, name: &Qualified, ttl: Duration) -> bool {
        self.seen.get(name).is_some_and(|seen| matches!(seen.1, Found::NoView) && seen.0.elapsed() < ttl)
    }

    async fn look(
        &self,
        conn: &mut Conn,
        names: Vec<Qualified>,
        mariadb: bool,
    ) -> Result<(), mysql_async::Error> {
        if self.seen.len() + names.len() > MAX_NAMES {
            self.seen.clear();
        }
        for names in names.chunks(NAMES_PER_QUERY) {
            let read_at = Instant::now();
            let one = "SELECT ? + 0, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?";
            let sql = vec![one; names.len()].join(" UNION ALL ");
            let params: Vec<mysql_async::Value> = (0u64..)
                .zip(names)
                .flat_map(|(n, (schema, name))| [n.into(), schema.as_str().into(), name.as_str().into()])
                .collect();
            let views: Vec<(u64, Option<String>)> = conn.rows(sql, params).await?;
            let unseen = views.iter().any(|(_, definition)| definition.as_deref().is_none_or(str::is_empty));
            let none_to_call = unseen && !has_functions(conn).await?;
            for (n, name) in (0u64..).zip(names) {
                let view = views.iter().find(|(of, _)| *of == n);
                let found = view.map_or(Found::NoView, |(_, definition)| match definition.as_deref() {
                    None | Some("") if none_to_call => Found::Over(Vec::new()),
                    definition => look_into(name, definition, mariadb),
                });
                self.seen.insert(name.clone(), (read_at, found));
            }
        }
        Ok(())
    }
}

/// Whether the server may have functions of its users' making.
async fn has_functions(conn: &mut Conn) -> Result<bool, mysql_async::Error> {
    // Who may read all tables sees all routines
    let sees: Option<u64> = conn
        .first_text_row(
            "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'SELECT'",
        )
        .await?;
    if sees.unwrap_or(0) == 0 {
        return Ok(true);
    }
    let own = OWN_SCHEMAS.map(|schema| format!("'{schema}'")).join(", ");
    let functions: Result<Option<u64>, _> = conn
        .first_text_row(format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_TYPE <> 'PROCEDURE' \
             AND ROUTINE_SCHEMA NOT IN ({own})) + (SELECT COUNT(*) FROM mysql.func)"
        ))
        .await;
    match functions {
        Ok(functions) => Ok(functions != Some(0)),
        // Not allowed to see all of it
        Err(mysql_async::Error::Server(_)) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Whether a schema is the server's own.
pub(crate) fn is_own_schema(schema: &str) -> bool {
    OWN_SCHEMAS.iter().any(|own| schema.eq_ignore_ascii_case(own))
}

fn qualified(names: Vec<TableName>, database: Option<&str>) -> Vec<Qualified> {
    names
        .into_iter()
        .filter_map(|TableName { schema, name }| {
            Some((schema.or_else(|| database.map(str::to_owned))?, name))
        })
        .filter(|(schema, _)| !is_own_schema(schema))
        .collect()
}

/// What a view's definition says, as the server tells it: a SELECT with qualified names.
fn look_into((schema, name): &Qualified, definition: Option<&str>, mariadb: bool) -> Found {
    let Some(definition) = definition.filter(|text| !text.is_empty()) else {
        return Found::Writes(format!(
            "the service account cannot see the definition of the view {schema}.{name}"
        ));
    };
    let mode = Mode { mariadb, ..Mode::default() };
    let calls = match analyze(definition.as_bytes(), mode).statement {
        Statement::Refused(refusal) => Some(refusal.reason),
        Statement::Read | Statement::Diagnostics | Statement::SelectsDiagnostics { .. } => None,
        _ => Some("it is no SELECT".to_owned()),
    };
    match (calls, table_names(definition.as_bytes(), mode)) {
        (None, Some(names)) => Found::Over(qualified(names, None)),
        (why, _) => Found::Writes(format!(
            "the view {schema}.{name}: {}",
            why.unwrap_or_else(|| "it is not understood".into())
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(definition: Option<&str>) -> Found {
        look_into(&("s".into(), "v".into()), definition, true)
    }

    #[test]
    fn what_definitions_say() {
        let over =
            found(Some("select `s`.`t`.`id` AS `id`,count(0) AS `n` from (`s`.`t` join `s`.`w` on(1))"));
        assert!(
            matches!(over, Found::Over(names) if names == [("s".into(), "t".into()), ("s".into(), "w".into())])
        );
        for definition in [None, Some(""), Some("select `s`.`f`(1) AS `f`"), Some("select nextval(`s`.`q`)")]
        {
            assert!(matches!(found(definition), Found::Writes(_)), "{definition:?}");
        }
    }
}
