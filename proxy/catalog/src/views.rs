//! What the service account reads of views. A SELECT from one that calls a function may write.

use std::collections::HashSet;
use std::sync::Arc;

use atone_facts::{Qualified, SYSTEM_SCHEMAS, ServiceError, ViewDefinition, ViewEffect, effect_of_view};
use atone_undo::quote_identifier;
use atone_wire::error_code::{
    ER_BAD_DB_ERROR, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, ER_NO_SUCH_TABLE, ER_TABLEACCESS_DENIED_ERROR,
    ER_TOO_LONG_IDENT, ER_VIEW_INVALID, ER_WRONG_DB_NAME, ER_WRONG_OBJECT, ER_WRONG_TABLE_NAME,
};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row};

use crate::error::service_error;
use crate::pool::ServicePool;
use crate::reader::Reader;
use crate::rights::retry;
use crate::rows::Typed;
use crate::single_flight::SingleFlights;

/// How many views are looked into for one statement: each may name others.
const MAX_VIEWS: usize = 1000;
/// The name is that of a table, or nothing has it.
const NO_VIEW: [u16; 6] = [
    ER_WRONG_OBJECT,
    ER_BAD_DB_ERROR,
    ER_TOO_LONG_IDENT,
    ER_WRONG_DB_NAME,
    ER_WRONG_TABLE_NAME,
    ER_NO_SUCH_TABLE,
];
/// The information schema may show more.
const HIDDEN: [u16; 2] = [ER_TABLEACCESS_DENIED_ERROR, ER_VIEW_INVALID];

/// A view as the server shows it.
#[derive(Clone, Debug)]
enum View {
    /// By this text.
    Defined(Arc<str>),
    /// The server does not show it: this may be a table as well.
    Hidden,
    /// It calls a function that writes, so that a read-only transaction may not even look at it.
    Writes,
}

/// Reads of names. A name is read each time: any client may have put a view in the place of a table meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// The view, if the name is that of one.
    shown: SingleFlights<Qualified, Result<Option<View>, ServiceError>>,
}

impl Views {
    /// See [`crate::Catalog::read_refusal`].
    pub(crate) async fn refusal(
        &self,
        pool: &ServicePool,
        names: Vec<Qualified>,
        mariadb: bool,
    ) -> Result<Option<String>, ServiceError> {
        let mut done: HashSet<Qualified> = HashSet::new();
        let mut todo = names;
        let mut writes = None;
        while let Some(name) = todo.pop() {
            if done.contains(&name) {
                continue;
            }
            if done.len() == MAX_VIEWS {
                return Ok(Some(format!("the statement reads more than {MAX_VIEWS} tables and views")));
            }
            if let Some(view) = self.shown.run(name.clone(), show(pool, &name)).await? {
                let effect = match view {
                    View::Defined(text) => Ok(effect_of_view(&name, &text, mariadb)),
                    View::Hidden => retry(|| effect_of_hidden(pool, &name)).await,
                    View::Writes => {
                        // One of those that it reads may say why
                        writes = Some(format!("the view {}.{} writes when it is looked at", name.0, name.1));
                        retry(|| effect_of_writing(pool, &name, mariadb)).await
                    }
                };
                match effect.map_err(service_error)? {
                    ViewEffect::Writes(why) => return Ok(Some(why)),
                    ViewEffect::Reads(names) => todo.extend(names),
                }
            }
            done.insert(name);
        }
        Ok(writes)
    }
}

/// Asks the server for a view. It tells a table from a view without a look at the information schema, which costs much
/// more.
async fn show(pool: &ServicePool, (schema, name): &Qualified) -> Result<Option<View>, ServiceError> {
    let show = format!("SHOW CREATE VIEW {}.{}", quote_identifier(schema), quote_identifier(name));
    let read = |mut conn: Reader| async {
        let row = conn.query_first(&show).await;
        (conn, row)
    };
    match pool.read_only(read).await {
        Ok(row) => {
            let row: Option<Row> = row;
            let text = row.and_then(|row| row.get_opt::<String, _>(1)).and_then(Result::ok);
            Ok(Some(match text {
                Some(text) if !text.is_empty() => View::Defined(text.into()),
                _ => View::Hidden,
            }))
        }
        Err(Error::Server(e)) if NO_VIEW.contains(&e.code) => Ok(None),
        Err(Error::Server(e)) if e.code == ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION => Ok(Some(View::Writes)),
        Err(Error::Server(e)) if HIDDEN.contains(&e.code) => Ok(Some(View::Hidden)),
        Err(e) => Err(service_error(e)),
    }
}

/// The effect of a view that only the information schema shows: SHOW CREATE VIEW opens the tables that its functions
/// write.
async fn effect_of_writing(pool: &ServicePool, name: &Qualified, mariadb: bool) -> Result<ViewEffect, Error> {
    let read = |mut conn: Reader| async {
        let text = definition(&mut conn, &name.0, &name.1).await;
        (conn, text)
    };
    let text = pool.read_only(read).await?;
    let create = format!("CREATE VIEW v AS {}", text.unwrap_or_default());
    Ok(effect_of_view(name, &create, mariadb))
}

/// The effect of what the server does not show. The information schema tells whether it is a view only to who may read
/// it; and a view calls nothing where there are no functions.
async fn effect_of_hidden(pool: &ServicePool, (schema, name): &Qualified) -> Result<ViewEffect, Error> {
    let mut conn = pool.reader().await?;
    let views: Option<u64> = conn
        .first_row(
            "SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (schema, name),
        )
        .await?;
    let functions = count_functions(&mut conn).await?;
    let rights = conn.read_rights().await?;
    let is_no_view = views == Some(0) && rights.on_table("SELECT", schema, name);
    // Who may read all tables sees all routines
    let no_functions = functions == Some(0) && rights.on_all_tables("SELECT");
    if is_no_view || no_functions {
        return Ok(ViewEffect::Reads(Vec::new()));
    }
    // Without a right on it, it may be a table as well
    Ok(ViewEffect::Writes(format!(
        "the service account cannot see the definition of the view {schema}.{name}: it lacks SELECT or SHOW VIEW on it"
    )))
}

/// How many functions that users have made the server shows; `None` where it does not show all of them.
async fn count_functions(conn: &mut Conn) -> Result<Option<u64>, Error> {
    let own = SYSTEM_SCHEMAS.map(|schema| format!("'{schema}'")).join(", ");
    let functions: Result<Option<u64>, _> = conn
        .first_text_row(format!(
            "SELECT (SELECT COUNT(*) FROM information_schema.ROUTINES WHERE ROUTINE_TYPE <> 'PROCEDURE' \
             AND ROUTINE_SCHEMA NOT IN ({own})) + (SELECT COUNT(*) FROM mysql.func)"
        ))
        .await;
    match functions {
        Err(Error::Server(_)) => Ok(None),
        functions => functions,
    }
}

/// See [`crate::Catalog::view`].
pub(crate) async fn view(
    pool: &ServicePool,
    schema: &str,
    name: &str,
) -> Result<Option<ViewDefinition>, Error> {
    pool.read_only(|mut conn| async {
        let view = read_view(&mut conn, schema, name).await;
        (conn, view)
    })
    .await
}

async fn read_view(conn: &mut Conn, schema: &str, name: &str) -> Result<Option<ViewDefinition>, Error> {
    let Some(text) = definition(conn, schema, name).await? else { return Ok(None) };
    let columns = conn
        .rows(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             ORDER BY ORDINAL_POSITION",
            (schema, name),
        )
        .await?;
    Ok(Some(ViewDefinition { text, columns }))
}

/// The SELECT that a view is; `None` where the server does not show it.
async fn definition(conn: &mut Conn, schema: &str, name: &str) -> Result<Option<String>, Error> {
    let text: Option<Option<String>> = conn
        .first_row(
            "SELECT VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (schema, name),
        )
        .await?;
    Ok(text.flatten().filter(|text| !text.is_empty()))
}
