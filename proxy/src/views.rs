//! Views that call functions: a SELECT from one may write, without a word of it in the statement.

use std::collections::HashSet;

use atone_sql::{Mode, Statement, TableName, analyze, table_names};
use atone_undo::quote_identifier;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::meta::Stale;
use crate::service::{BRIEF_LOCK_WAIT_S, ServicePool};
use crate::typed::Typed;

/// How many views are looked into for one statement: each may name others.
pub(crate) const MAX_VIEWS: usize = 1000;
/// Schemas of the server's own: nothing in them is captured, and their views call nothing that writes.
const OWN_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];
/// `ER_WRONG_OBJECT`: a table is no view.
const NO_VIEW: u16 = 1347;
/// `ER_BAD_DB_ERROR`, `ER_TOO_LONG_IDENT`, `ER_WRONG_DB_NAME`, `ER_WRONG_TABLE_NAME`, `ER_NO_SUCH_TABLE`: nothing has the name.
const NOTHING: [u16; 5] = [1049, 1059, 1102, 1103, 1146];
/// `ER_TABLEACCESS_DENIED_ERROR`, `ER_VIEW_INVALID`: the information schema may tell more.
const UNSEEN: [u16; 2] = [1142, 1356];

/// The schema and the name of a table or view.
pub(crate) type Qualified = (String, String);

/// What a view is.
#[derive(Debug)]
enum Found {
    /// One over these, which calls built-in functions only.
    Over(Vec<Qualified>),
    /// One that may write, and why.
    Writes(String),
}

/// Why a statement that names these tables and views may write behind its text; `None` where it can't. Nothing is remembered:
/// any client may have put a view in the place of a table meanwhile.
///
/// # Errors
/// What the server says to the service account.
pub(crate) async fn refusal(
    pool: &ServicePool,
    names: Vec<Qualified>,
    mariadb: bool,
) -> Result<Option<String>, Error> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut conn = pool.get_conn().await?;
    let mut done: HashSet<Qualified> = HashSet::new();
    let mut todo = names;
    while let Some(name) = todo.pop() {
        if done.contains(&name) {
            continue;
        }
        if done.len() == MAX_VIEWS {
            return Ok(Some(format!("the statement reads more than {MAX_VIEWS} tables and views")));
        }
        if may_be_view(&mut conn, &name).await? {
            match look(&mut conn, &name, mariadb).await? {
                Some(Found::Writes(why)) => return Ok(Some(why)),
                Some(Found::Over(names)) => todo.extend(names),
                None => {}
            }
        }
        done.insert(name);
    }
    Ok(None)
}

/// Whether what a local transaction has read, and keeps, are tables, and views that write nothing.
///
/// # Errors
/// [`Stale`]
pub(crate) async fn verify(pool: &ServicePool, names: Vec<Qualified>, mariadb: bool) -> Result<(), Stale> {
    match refusal(pool, names, mariadb).await {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(Stale::Changed(format!("what was read was altered meanwhile: {why}"))),
        Err(e) => Err(Stale::Unread(e.to_string())),
    }
}

/// Whether the name is not one of a table, or of nothing at all. A server knows its tables without a look at the
/// information schema, which costs it much more.
async fn may_be_view(conn: &mut Conn, (schema, name): &Qualified) -> Result<bool, Error> {
    let name = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
    // A table that another client is altering is not waited for longer, since that client may wait for the session that asks
    let show = format!("SET lock_wait_timeout = {BRIEF_LOCK_WAIT_S}; SHOW CREATE VIEW {name}");
    match conn.query_drop(show).await {
        Ok(()) => Ok(true),
        Err(Error::Server(e)) if e.code == NO_VIEW || NOTHING.contains(&e.code) => Ok(false),
        Err(Error::Server(e)) if UNSEEN.contains(&e.code) => Ok(true),
        Err(e) => Err(e),
    }
}

async fn look(conn: &mut Conn, name: &Qualified, mariadb: bool) -> Result<Option<Found>, Error> {
    let definition: Option<Option<String>> = conn
        .first_row(
            "SELECT VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (&name.0, &name.1),
        )
        .await?;
    let Some(definition) = definition else { return Ok(None) };
    let definition = definition.filter(|text| !text.is_empty());
    Ok(Some(match definition {
        None if !has_functions(conn).await? => Found::Over(Vec::new()),
        definition => look_into(name, definition.as_deref(), mariadb),
    }))
}

/// Whether the server may have functions of its users' making.
async fn has_functions(conn: &mut Conn) -> Result<bool, Error> {
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
        Err(Error::Server(_)) => Ok(true),
        Err(e) => Err(e),
    }
}

/// Whether a schema is the server's own.
pub(crate) fn is_own_schema(schema: &str) -> bool {
    OWN_SCHEMAS.iter().any(|own| schema.eq_ignore_ascii_case(own))
}

/// The names with their schemas, without those that have none and those of the server's own.
pub(crate) fn qualified(names: Vec<TableName>, database: Option<&str>) -> Vec<Qualified> {
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
    let Some(definition) = definition else {
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
        for definition in [None, Some("select `s`.`f`(1) AS `f`"), Some("select nextval(`s`.`q`)")] {
            assert!(matches!(found(definition), Found::Writes(_)), "{definition:?}");
        }
    }
}
