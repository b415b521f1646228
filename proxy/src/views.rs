//! Views that call functions: a SELECT from one may write, without a word of it in the statement.

use std::collections::HashSet;
use std::sync::Arc;

use atone_sql::{Mode, Statement, TableName, analyze, select_of_view, table_names};
use atone_undo::quote_identifier;
use dashmap::DashMap;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row};

use crate::meta::Stale;
use crate::rights::Rights;
use crate::rounds::Rounds;
use crate::service::{ServiceError, ServicePool};
use crate::typed::Typed;

/// How many names are remembered; beyond it all are forgotten.
const MAX_NAMES: usize = 10_000;
/// How many views are looked into for one statement: each may name others.
const MAX_VIEWS: usize = 1000;
/// Schemas of the server's own: nothing in them is captured, and their views call nothing that writes.
const OWN_SCHEMAS: [&str; 4] = ["information_schema", "mysql", "performance_schema", "sys"];
/// `ER_WRONG_OBJECT`: a table is no view.
const NO_VIEW: u16 = 1347;
/// `ER_BAD_DB_ERROR`, `ER_TOO_LONG_IDENT`, `ER_WRONG_DB_NAME`, `ER_WRONG_TABLE_NAME`, `ER_NO_SUCH_TABLE`: nothing has the name.
const NOTHING: [u16; 5] = [1049, 1059, 1102, 1103, 1146];
/// `ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION`: it calls what writes.
const WRITES: u16 = 1792;
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

/// A view as the server shows it.
#[derive(Clone, Debug)]
enum View {
    /// By this text.
    Defined(Arc<str>),
    /// It does not show it: this may be a table as well.
    Hidden,
    /// It calls a function that writes, which a read-only session may not even look at.
    Writes,
}

/// The view, if the name is that of one; or why the server was not asked.
type Shown = Result<Option<View>, ServiceError>;

/// Looks at names, one after the other for each. What a name stands for is asked each time: any client may have put a view in
/// the place of a table meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Views {
    looks: DashMap<Qualified, Arc<Rounds<Shown>>>,
}

impl Views {
    /// Why a statement that names these tables and views may write behind its text; `None` where it can't.
    ///
    /// # Errors
    /// What the server or the system says to the service account.
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
            if let Some(view) = self.shown(pool, &name).await? {
                let found = match view {
                    View::Defined(text) => look_into(&name, &text, mariadb),
                    View::Hidden => ServicePool::again(|| unseen(pool, &name)).await?,
                    View::Writes => {
                        // One of those that it is over may say why
                        writes = Some(format!("the view {}.{} writes when it is looked at", name.0, name.1));
                        ServicePool::again(|| writing(pool, &name, mariadb)).await?
                    }
                };
                match found {
                    Found::Writes(why) => return Ok(Some(why)),
                    Found::Over(names) => todo.extend(names),
                }
            }
            done.insert(name);
        }
        Ok(writes)
    }

    /// Whether what a local transaction has read, and keeps, are tables, and views that write nothing.
    ///
    /// # Errors
    /// [`Stale`]
    pub(crate) async fn verify(
        &self,
        pool: &ServicePool,
        names: Vec<Qualified>,
        mariadb: bool,
    ) -> Result<(), Stale> {
        match self.refusal(pool, names, mariadb).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(Stale::Changed(format!("what was read was altered meanwhile: {why}"))),
            Err(why) => Err(Stale::Unread(why)),
        }
    }

    /// Looks at a name. A server tells a table from a view without a look at the information schema, which costs it much more.
    async fn shown(&self, pool: &ServicePool, name: &Qualified) -> Shown {
        if self.looks.len() >= MAX_NAMES {
            self.looks.clear();
        }
        let looks = self.looks.entry(name.clone()).or_default().clone();
        let show = format!("SHOW CREATE VIEW {}.{}", quote_identifier(&name.0), quote_identifier(&name.1));
        let first = |mut conn: Conn| async {
            let row = conn.query_first(&show).await;
            (conn, row)
        };
        let look = async {
            match pool.look(first).await {
                Ok(row) => {
                    let row: Option<Row> = row;
                    let text = row.and_then(|row| row.get_opt::<String, _>(1)).and_then(Result::ok);
                    Ok(Some(match text {
                        Some(text) if !text.is_empty() => View::Defined(text.into()),
                        _ => View::Hidden,
                    }))
                }
                Err(Error::Server(e)) if e.code == NO_VIEW || NOTHING.contains(&e.code) => Ok(None),
                Err(Error::Server(e)) if e.code == WRITES => Ok(Some(View::Writes)),
                Err(Error::Server(e)) if UNSEEN.contains(&e.code) => Ok(Some(View::Hidden)),
                Err(e) => Err(e.into()),
            }
        };
        looks.see(look).await
    }
}

/// What a view is that only the information schema shows: the server opens the tables there that its functions write.
async fn writing(pool: &ServicePool, name: &Qualified, mariadb: bool) -> Result<Found, Error> {
    let look = |mut conn: Conn| async {
        let text = definition(&mut conn, &name.0, &name.1).await;
        (conn, text)
    };
    let text = pool.look(look).await?;
    let shown = format!("CREATE VIEW v AS {}", text.unwrap_or_default());
    Ok(look_into(name, &shown, mariadb))
}

/// The text of a view, and the names of its columns.
pub(crate) async fn shown(
    conn: &mut Conn,
    schema: &str,
    name: &str,
) -> Result<Option<(String, Vec<String>)>, mysql_async::Error> {
    let Some(text) = definition(conn, schema, name).await? else { return Ok(None) };
    let columns = conn
        .rows(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             ORDER BY ORDINAL_POSITION",
            (schema, name),
        )
        .await?;
    Ok(Some((text, columns)))
}

/// The SELECT that a view is by the information schema; `None` where it is not shown.
///
/// # Errors
/// What the server or the system says.
pub(crate) async fn definition(conn: &mut Conn, schema: &str, name: &str) -> Result<Option<String>, Error> {
    let text: Option<Option<String>> = conn
        .first_row(
            "SELECT VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (schema, name),
        )
        .await?;
    Ok(text.flatten().filter(|text| !text.is_empty()))
}

/// What a name is that the server does not show. Only to who may read it the information schema tells whether it is a view; and
/// one calls nothing where there are no functions.
async fn unseen(pool: &ServicePool, (schema, name): &Qualified) -> Result<Found, Error> {
    let begun = pool.begin();
    let mut conn = pool.get_conn().await?;
    let views: Option<u64> = conn
        .first_row(
            "SELECT COUNT(*) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (schema, name),
        )
        .await?;
    let functions = count_functions(&mut conn).await?;
    let rights = pool.judged(begun, Rights::read(&mut conn).await?)?;
    let is_no_view = views == Some(0) && rights.on_table("SELECT", schema, name);
    // Who may read all tables sees all routines
    let no_functions = functions == Some(0) && rights.on_all_tables("SELECT");
    if is_no_view || no_functions {
        return Ok(Found::Over(Vec::new()));
    }
    // Without a right on it, it may be a table as well
    Ok(Found::Writes(format!(
        "the service account cannot see the definition of the view {schema}.{name}: it lacks SELECT or SHOW VIEW on it"
    )))
}

/// How many functions of its users' making the server shows; `None` where it does not show all.
async fn count_functions(conn: &mut Conn) -> Result<Option<u64>, Error> {
    let own = OWN_SCHEMAS.map(|schema| format!("'{schema}'")).join(", ");
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

/// Whether a schema is the server's own.
pub(crate) fn is_own_schema(schema: &str) -> bool {
    OWN_SCHEMAS.iter().any(|own| schema.eq_ignore_ascii_case(own))
}

/// How a server stores the names of tables and schemas (`lower_case_table_names`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameCase {
    /// 0: as they are written, and compares them so.
    AsWritten,
    /// 1: in lower case.
    Lower,
    /// 2: as they are written; it compares them in lower case.
    Either,
}

impl NameCase {
    /// By the variable's value.
    pub(crate) fn of(value: u64) -> NameCase {
        match value {
            0 => NameCase::AsWritten,
            1 => NameCase::Lower,
            _ => NameCase::Either,
        }
    }

    /// The one name under which a table is known, whichever way it is written; `None` where that is the server's to say: of other
    /// letters than ASCII, and where it stores what somebody else has written.
    pub(crate) fn stored(self, name: &str) -> Option<String> {
        let folded = name.chars().all(|c| c.is_ascii() || c.to_lowercase().eq([c]));
        match self {
            NameCase::AsWritten => Some(name.to_owned()),
            NameCase::Lower if folded => Some(name.to_ascii_lowercase()),
            NameCase::Either if folded && !name.bytes().any(|b| b.is_ascii_uppercase()) => {
                Some(name.to_owned())
            }
            NameCase::Lower | NameCase::Either => None,
        }
    }
}

/// The names with their schemas, without those that have none and those of the server's own.
pub(crate) fn qualified(
    names: Vec<TableName>,
    database: Option<&str>,
    case: NameCase,
) -> Option<Vec<Qualified>> {
    names
        .into_iter()
        .filter_map(|TableName { schema, name }| {
            Some((schema.or_else(|| database.map(str::to_owned))?, name))
        })
        .filter(|(schema, _)| !is_own_schema(schema))
        .map(|(schema, name)| Some((case.stored(&schema)?, case.stored(&name)?)))
        .collect()
}

/// What a view is by its SHOW CREATE VIEW: a SELECT with qualified names.
fn look_into((schema, name): &Qualified, shown: &str, mariadb: bool) -> Found {
    let mode = Mode { mariadb, ..Mode::default() };
    let not_understood = || Found::Writes(format!("the view {schema}.{name}: it is not understood"));
    let Some(select) = select_of_view(shown.as_bytes(), mode) else { return not_understood() };
    match (analyze(select, mode).statement, table_names(select, mode)) {
        (Statement::Read | Statement::Diagnostics | Statement::SelectsDiagnostics { .. }, Some(names)) => {
            Found::Over(qualified(names, None, NameCase::AsWritten).unwrap_or_default())
        }
        (Statement::Refused(refusal), _) => {
            Found::Writes(format!("the view {schema}.{name}: {}", refusal.reason))
        }
        _ => not_understood(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(select: &str) -> Found {
        let shown = format!(
            "CREATE ALGORITHM=UNDEFINED DEFINER=`a as b`@`localhost` SQL SECURITY DEFINER VIEW `s`.`v` AS {select}"
        );
        look_into(&("s".into(), "v".into()), &shown, true)
    }

    #[test]
    fn what_definitions_say() {
        for end in ["", " WITH CASCADED CHECK OPTION"] {
            let over = found(&format!(
                "select `s`.`t`.`id` AS `id`,count(0) AS `n` from (`s`.`t` join `s`.`w` on(1)){end}"
            ));
            let Found::Over(names) = over else { panic!("{over:?}") };
            assert_eq!(names, [("s".to_owned(), "t".to_owned()), ("s".to_owned(), "w".to_owned())]);
        }
        for select in ["", "select `s`.`f`(1) AS `f`", "select nextval(`s`.`q`)"] {
            assert!(matches!(found(select), Found::Writes(_)), "{select:?}");
        }
    }
}
