//! The table undo_log of each schema: made where it is missing, and verified before a statement relies on it.
//!
//! Somebody may drop it, or put another table in its place, at any time. So each local transaction verifies it before
//! its first statement on a table runs. A later change makes the INSERT of the undo record fail.

use atone_facts::{
    IndexRow, UndoLogColumn, UndoLogError, unfit_columns, unfit_keys, unfit_rights, unfit_table,
    without_auto_increment,
};
use atone_undo::{UNDO_LOG_TABLE, undo_log_ddl};
use atone_wire::error_code::ER_NO_SUCH_TABLE;
use dashmap::DashMap;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Row};

use crate::error::service_error;
use crate::pool::ServicePool;
use crate::reader::Reader;
use crate::rights::{read_rights, retry};
use crate::rows::Typed;
use crate::single_flight::SingleFlights;
use crate::table::show_table_sql;

/// How many schemas are remembered. Beyond it all are forgotten, which costs each of them one read.
const MAX_SCHEMAS: usize = 10_000;
/// How often a table that others are altering is read.
const MAX_TRIES: usize = 3;

/// The tables that were found fit.
#[derive(Debug, Default)]
pub(crate) struct UndoLogs {
    /// By schema, what the server showed of each.
    fit: DashMap<String, String>,
    verified: SingleFlights<String, Result<(), UndoLogError>>,
}

impl UndoLogs {
    /// See [`crate::Catalog::ensure_undo_log`].
    pub(crate) async fn ensure(&self, pool: &ServicePool, schema: &str) -> Result<(), UndoLogError> {
        self.verified.run(schema.to_owned(), self.verify(pool, schema)).await
    }

    async fn verify(&self, pool: &ServicePool, schema: &str) -> Result<(), UndoLogError> {
        let show = show_table_sql(schema, UNDO_LOG_TABLE);
        let shown = pool.read_only(|mut conn: Reader| async {
            let shown = shown(&mut conn, &show).await;
            (conn, shown)
        });
        match shown.await {
            Ok(now) if self.fit.get(schema).is_some_and(|fit| *fit == now) => Ok(()),
            Ok(_) | Err(Error::Server(_)) => {
                self.fit.remove(schema);
                let made = retry(|| make(pool, schema)).await.map_err(service_error)?;
                let fit = made.map_err(UndoLogError::Unfit)?;
                if self.fit.len() >= MAX_SCHEMAS {
                    self.fit.clear();
                }
                self.fit.insert(schema.to_owned(), fit);
                Ok(())
            }
            Err(e) => Err(service_error(e).into()),
        }
    }
}

/// What the server shows of a table or view.
async fn shown(conn: &mut Conn, show: &str) -> Result<String, Error> {
    let row: Option<Row> = conn.query_first(show).await?;
    let text = row.and_then(|row| row.get_opt::<String, _>(1)).and_then(Result::ok);
    Ok(without_auto_increment(&text.unwrap_or_default()))
}

/// Makes the table where it is missing, and checks all of one that is there. Returns what the server shows of it; the
/// inner error is what is wrong with it.
///
/// The application's connection must not do it: a CREATE TABLE commits.
async fn make(pool: &ServicePool, schema: &str) -> Result<Result<String, String>, Error> {
    let show = show_table_sql(schema, UNDO_LOG_TABLE);
    let mut conn = pool.get_conn().await?;
    for _ in 0..MAX_TRIES {
        let before = match shown(&mut conn, &show).await {
            Ok(text) => text,
            Err(Error::Server(e)) if e.code == ER_NO_SUCH_TABLE => {
                conn.query_drop(undo_log_ddl(schema)).await?;
                continue;
            }
            Err(e) => return Err(e),
        };
        if let Some(why) = unfit(&mut conn, schema).await? {
            return Ok(Err(why));
        }
        if shown(&mut conn, &show).await? == before {
            return Ok(Ok(before));
        }
    }
    Ok(Err("is being altered".into()))
}

/// `COLUMN_NAME`, `DATA_TYPE`, `COLUMN_TYPE`, `CHARACTER_MAXIMUM_LENGTH`, `IS_NULLABLE`, `COLUMN_DEFAULT` and `EXTRA`.
type Column = (String, String, String, Option<u64>, String, Option<String>, String);

fn undo_log_column(column: Column) -> UndoLogColumn {
    let (name, data_type, column_type, chars, nullable, default, extra) = column;
    UndoLogColumn {
        name,
        data_type,
        column_type,
        chars: chars.unwrap_or_default(),
        has_default: nullable == "YES" || default.is_some(),
        extra: extra.to_ascii_uppercase(),
    }
}

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
    if let Some(why) = unfit_table(&table_type, engine.as_deref()) {
        return Ok(Some(why));
    }
    let columns: Vec<Column> = conn
        .rows(
            "SELECT COLUMN_NAME, DATA_TYPE, CAST(COLUMN_TYPE AS CHAR), CHARACTER_MAXIMUM_LENGTH, IS_NULLABLE, \
             CAST(COLUMN_DEFAULT AS CHAR), EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            id,
        )
        .await?;
    let columns: Vec<UndoLogColumn> = columns.into_iter().map(undo_log_column).collect();
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
    let part = |(index, column, prefix)| IndexRow { index, column, prefix, non_unique: false };
    let parts: Vec<IndexRow> = parts.into_iter().map(part).collect();
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
    Ok(unfit_rights(&read_rights(conn).await?, schema))
}
