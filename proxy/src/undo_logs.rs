//! The table undo_log of each schema: made where it is missing, and looked at before a statement relies on it.
//!
//! Somebody may drop it, or put another table in its place, at any time. So each local transaction looks before its first
//! statement on a table runs; what is behind that look is noticed by the INSERT of the undo record, which then fails.

use std::sync::Arc;

use atone_undo::{UNDO_LOG_TABLE, quote_identifier, undo_log_ddl};
use dashmap::DashMap;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row};

use crate::meta::without_next_number;
use crate::rights::{RESTORING_RIGHTS, Rights};
use crate::rounds::Rounds;
use crate::service::{ServiceError, ServicePool};
use crate::typed::Typed;

/// `ER_NO_SUCH_TABLE`
const NO_SUCH_TABLE: u16 = 1146;
/// How many schemas are remembered; beyond it all are forgotten, which costs a look each.
const MAX_SCHEMAS: usize = 10_000;
/// How often a table is looked at that others are altering.
const MAX_TRIES: usize = 3;
/// The length of the columns `xid` and `context`.
const TEXT_CHARS: u64 = 128;

/// Why a schema's undo_log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UndoLogError {
    /// The service account could not look at it, or make it.
    #[error(transparent)]
    Unread(#[from] ServiceError),
    /// What is there is not fit for undo records: what it is or has, as the end of a sentence.
    #[error("what is there {0}")]
    Unfit(String),
}

impl From<Error> for UndoLogError {
    fn from(error: Error) -> UndoLogError {
        UndoLogError::Unread(error.into())
    }
}

type Looked = Result<(), UndoLogError>;

/// The tables that were found fit.
#[derive(Debug, Default)]
pub struct UndoLogs {
    /// By schema, what the server showed of each.
    fit: DashMap<String, String>,
    looks: DashMap<String, Arc<Rounds<Looked>>>,
}

impl UndoLogs {
    /// Looks whether the undo_log of a schema is fit for undo records, and makes it where it is missing.
    ///
    /// # Errors
    /// [`UndoLogError`]
    pub async fn ensure(&self, pool: &ServicePool, schema: &str) -> Looked {
        if self.looks.len() >= MAX_SCHEMAS {
            self.looks.clear();
            self.fit.clear();
        }
        let looks = self.looks.entry(schema.to_owned()).or_default().clone();
        looks.see(self.look(pool, schema)).await
    }

    async fn look(&self, pool: &ServicePool, schema: &str) -> Looked {
        let show = show_sql(schema);
        let shown = pool.look(|mut conn| {
            let show = &show;
            async move {
                let shown = shown(&mut conn, show).await;
                (conn, shown)
            }
        });
        match shown.await {
            Ok(now) if self.fit.get(schema).is_some_and(|fit| *fit == now) => Ok(()),
            Ok(_) | Err(Error::Server(_)) => {
                self.fit.remove(schema);
                let fit = ServicePool::again(|| make(pool, schema)).await?;
                self.fit.insert(schema.to_owned(), fit);
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }
}

fn show_sql(schema: &str) -> String {
    format!("SHOW CREATE TABLE {}.{}", quote_identifier(schema), quote_identifier(UNDO_LOG_TABLE))
}

/// What the server shows of a table or view.
async fn shown(conn: &mut Conn, show: &str) -> Result<String, Error> {
    let row: Option<Row> = conn.query_first(show).await?;
    let text = row.and_then(|row| row.get_opt::<String, _>(1)).and_then(Result::ok);
    Ok(without_next_number(&text.unwrap_or_default()))
}

/// Makes the table where it is missing, and looks at all of one that is there; what the server shows of it.
///
/// The application's connection must not do it: a CREATE TABLE commits.
async fn make(pool: &ServicePool, schema: &str) -> Result<String, UndoLogError> {
    let show = show_sql(schema);
    let mut conn = pool.get_conn().await?;
    for _ in 0..MAX_TRIES {
        let before = match shown(&mut conn, &show).await {
            Ok(text) => text,
            Err(Error::Server(e)) if e.code == NO_SUCH_TABLE => {
                conn.query_drop(undo_log_ddl(schema)).await?;
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        if let Some(why) = unfit(&mut conn, schema).await? {
            return Err(UndoLogError::Unfit(why));
        }
        if shown(&mut conn, &show).await? == before {
            return Ok(before);
        }
    }
    Err(UndoLogError::Unfit("is being altered".into()))
}

/// `COLUMN_NAME`, `DATA_TYPE`, `COLUMN_TYPE`, `CHARACTER_MAXIMUM_LENGTH`, `IS_NULLABLE`, `COLUMN_DEFAULT` and `EXTRA`.
type ColumnRow = (String, String, String, Option<u64>, String, Option<String>, String);

/// Why the table that is there cannot hold undo records.
async fn unfit(conn: &mut Conn, schema: &str) -> Result<Option<String>, Error> {
    let id = (schema, UNDO_LOG_TABLE);
    let head: Option<(String, Option<String>)> = conn
        .first_row(
            "SELECT TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            id,
        )
        .await?;
    let Some((table_type, engine)) = head else {
        return Ok(Some("is not shown to the service account".into()));
    };
    if table_type != "BASE TABLE" {
        return Ok(Some(format!("is no base table but a {table_type}")));
    }
    if !engine.as_deref().is_some_and(|e| e.eq_ignore_ascii_case("InnoDB")) {
        return Ok(Some(format!("is of the engine {}, not InnoDB", engine.unwrap_or_default())));
    }
    let columns: Vec<ColumnRow> = conn
        .rows(
            "SELECT COLUMN_NAME, DATA_TYPE, CAST(COLUMN_TYPE AS CHAR), CHARACTER_MAXIMUM_LENGTH, IS_NULLABLE, \
             CAST(COLUMN_DEFAULT AS CHAR), EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            id,
        )
        .await?;
    let columns: Vec<Column> = columns
        .into_iter()
        .map(|(name, data_type, column_type, chars, nullable, default, extra)| Column {
            name,
            data_type,
            column_type,
            chars: chars.unwrap_or_default(),
            has_default: nullable == "YES" || default.is_some(),
            extra: extra.to_ascii_uppercase(),
        })
        .collect();
    if let Some(why) = unfit_columns(&columns) {
        return Ok(Some(why));
    }
    let parts: Vec<(String, Option<String>, Option<u64>)> = conn
        .rows(
            "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX",
            id,
        )
        .await?;
    if let Some(why) = unfit_keys(&columns, &parts) {
        return Ok(Some(why));
    }
    let trigger: Option<String> = conn
        .first_row(
            "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS \
             WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? LIMIT 1",
            id,
        )
        .await?;
    if let Some(trigger) = trigger {
        return Ok(Some(format!("has the trigger {trigger}")));
    }
    let rights = Rights::read(conn).await?;
    let lacking = RESTORING_RIGHTS.iter().find(|right| !rights.on_table(right, schema, UNDO_LOG_TABLE));
    Ok(lacking.map(|right| format!("is one on which the service account lacks {right}")))
}

/// A column, as `information_schema.COLUMNS` shows it.
#[derive(Clone, Debug)]
struct Column {
    name: String,
    data_type: String,
    column_type: String,
    chars: u64,
    /// A row need not give it a value.
    has_default: bool,
    extra: String,
}

impl Column {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn is_computed(&self) -> bool {
        ["VIRTUAL", "STORED", "PERSISTENT", "INVISIBLE ROW"].iter().any(|word| self.extra.contains(word))
    }

    fn counts(&self) -> bool {
        self.extra.contains("AUTO_INCREMENT")
    }
}

/// What a column has to be.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Of one of these types.
    Type(&'static [&'static str]),
    /// A VARCHAR of the length of `xid` and `context`.
    Text,
}

impl Wanted {
    fn fits(self, column: &Column) -> bool {
        match self {
            Wanted::Type(types) => types.iter().any(|t| column.data_type.eq_ignore_ascii_case(t)),
            Wanted::Text => column.data_type.eq_ignore_ascii_case("varchar") && column.chars >= TEXT_CHARS,
        }
    }

    fn name(self) -> String {
        match self {
            Wanted::Type(types) => types.first().copied().unwrap_or_default().to_owned(),
            Wanted::Text => format!("varchar({TEXT_CHARS})"),
        }
    }
}

const INTEGERS: &[&str] = &["int", "bigint", "mediumint", "smallint", "tinyint"];
/// What an undo record is written into. A TIMESTAMP would depend on the session's time zone.
const COLUMNS: [(&str, Wanted); 7] = [
    ("branch_id", Wanted::Type(&["bigint"])),
    ("xid", Wanted::Text),
    ("context", Wanted::Text),
    ("rollback_info", Wanted::Type(&["longblob", "mediumblob"])),
    ("log_status", Wanted::Type(INTEGERS)),
    ("log_created", Wanted::Type(&["datetime"])),
    ("log_modified", Wanted::Type(&["datetime"])),
];

/// What is wrong with the columns.
fn unfit_columns(columns: &[Column]) -> Option<String> {
    for (name, wanted) in COLUMNS {
        let Some(column) = columns.iter().find(|c| c.is(name)) else {
            return Some(format!("has no column {name}"));
        };
        if !wanted.fits(column) {
            return Some(format!(
                "has the column {name} as {}, not as {}",
                column.column_type,
                wanted.name()
            ));
        }
        if column.is_computed() {
            return Some(format!("computes the column {name}"));
        }
    }
    let given = |c: &Column| COLUMNS.iter().any(|(name, _)| c.is(name));
    let unfilled = columns.iter().find(|c| !given(c) && !c.has_default && !c.counts() && !c.is_computed());
    unfilled.map(|c| format!("has the column {}, which needs a value that undo records do not have", c.name))
}

/// What is wrong with the unique keys, which are given part by part with the length where a part is indexed only in part.
fn unfit_keys(columns: &[Column], parts: &[(String, Option<String>, Option<u64>)]) -> Option<String> {
    let mut keys: Vec<(&str, Vec<Option<&str>>)> = Vec::new();
    for (index, column, prefix) in parts {
        let column = column.as_deref().filter(|_| prefix.is_none());
        match keys.last_mut() {
            Some((last, key)) if *last == index.as_str() => key.push(column),
            _ => keys.push((index.as_str(), vec![column])),
        }
    }
    let is = |part: &Option<&str>, name: &str| part.is_some_and(|part| part.eq_ignore_ascii_case(name));
    let has = |key: &[Option<&str>], name: &str| key.iter().any(|part| is(part, name));
    let stops_late_commits = |key: &[Option<&str>]| {
        key.iter().all(|part| is(part, "branch_id") || is(part, "xid")) && has(key, "branch_id")
    };
    if !keys.iter().any(|(_, key)| stops_late_commits(key)) {
        // Without it a marker could not stop a late local COMMIT
        return Some("has no unique key on (branch_id, xid)".into());
    }
    let counted = |key: &[Option<&str>]| columns.iter().filter(|c| c.counts()).any(|c| has(key, &c.name));
    let in_the_way = keys.iter().find(|(_, key)| !has(key, "branch_id") && !counted(key));
    in_the_way.map(|(index, _)| format!("has the unique key {index}, in which branches may collide"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str) -> Column {
        Column {
            name: name.into(),
            data_type: data_type.into(),
            column_type: data_type.into(),
            chars: if data_type == "varchar" { 128 } else { 0 },
            has_default: false,
            extra: String::new(),
        }
    }

    fn columns() -> Vec<Column> {
        COLUMNS.iter().map(|(name, wanted)| column(name, wanted.name().split('(').next().unwrap())).collect()
    }

    #[test]
    fn columns_that_undo_records_need() {
        assert_eq!(unfit_columns(&columns()), None);
        for at in 0..COLUMNS.len() {
            let mut missing = columns();
            let gone = missing.remove(at);
            assert_eq!(unfit_columns(&missing), Some(format!("has no column {}", gone.name)));
            let mut other = columns();
            other[at] = column(&gone.name, "text");
            assert!(unfit_columns(&other).unwrap().contains("as text, not as"), "{gone:?}");
            let mut computed = columns();
            computed[at].extra = "STORED GENERATED".into();
            assert!(unfit_columns(&computed).is_some(), "{gone:?}");
        }
        let mut short = columns();
        short[1].chars = 100;
        assert!(unfit_columns(&short).is_some());
        // As Seata makes it
        let mut more = columns();
        more.insert(0, Column { extra: "AUTO_INCREMENT".into(), ..column("id", "bigint") });
        more.push(Column { has_default: true, ..column("ext", "varchar") });
        assert_eq!(unfit_columns(&more), None);
        more.push(column("app", "int"));
        assert!(unfit_columns(&more).unwrap().contains("app"));
    }

    #[test]
    fn keys_that_undo_records_need() {
        let check = |keys: &[(&str, &[&str])]| {
            let mut columns = columns();
            columns.push(Column { extra: "AUTO_INCREMENT".into(), ..column("id", "bigint") });
            let parts: Vec<_> = keys
                .iter()
                .flat_map(|(index, key)| key.iter().map(|c| (index.to_string(), Some(c.to_string()), None)))
                .collect();
            unfit_keys(&columns, &parts)
        };
        assert_eq!(check(&[("PRIMARY", &["branch_id", "xid"])]), None);
        assert_eq!(check(&[("PRIMARY", &["branch_id"])]), None);
        assert_eq!(check(&[("PRIMARY", &["id"]), ("ux", &["XID", "branch_id"])]), None);
        assert!(check(&[]).is_some() && check(&[("PRIMARY", &["id"])]).is_some());
        assert!(check(&[("PRIMARY", &["branch_id", "xid", "log_status"])]).is_some());
        assert!(check(&[("PRIMARY", &["branch_id", "xid"]), ("u", &["xid"])]).unwrap().contains("collide"));
        let prefix = [
            ("u".to_owned(), Some("branch_id".to_owned()), None),
            ("u".to_owned(), Some("xid".to_owned()), Some(10)),
        ];
        assert!(unfit_keys(&columns(), &prefix).is_some());
    }
}
