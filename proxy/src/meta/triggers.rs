//! The triggers of a table.

use crate::typed::Typed;
use mysql_async::Conn;

/// A trigger, as `information_schema.TRIGGERS` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name, which is unique in the table's schema.
    pub name: String,
    /// `INSERT`, `UPDATE` or `DELETE`.
    pub event: String,
    /// `BEFORE` or `AFTER`.
    pub timing: String,
    /// What it runs.
    pub body: String,
    /// The SQL mode under which it is read and run.
    pub sql_mode: String,
}

type TriggerRow = (String, String, String, Option<String>, String);

/// Reads the triggers of a table.
pub(super) async fn read(
    conn: &mut Conn,
    schema: &str,
    name: &str,
) -> Result<Vec<Trigger>, mysql_async::Error> {
    let rows: Vec<TriggerRow> = conn
        .rows(
            "SELECT TRIGGER_NAME, EVENT_MANIPULATION, ACTION_TIMING, ACTION_STATEMENT, CAST(SQL_MODE AS CHAR) \
             FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND EVENT_OBJECT_TABLE = ? \
             ORDER BY EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER, TRIGGER_NAME",
            (schema, name),
        )
        .await?;
    Ok(rows
        .into_iter()
        .map(|(name, event, timing, body, sql_mode)| Trigger {
            name,
            event,
            timing,
            body: body.unwrap_or_default(),
            sql_mode,
        })
        .collect())
}

/// Whether the service account would see a table's triggers.
pub(super) async fn are_seen(conn: &mut Conn, schema: &str, name: &str) -> Result<bool, mysql_async::Error> {
    let rights: Option<u64> = conn
        .first_row(
            "SELECT (SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'TRIGGER') \
             + (SELECT COUNT(*) FROM information_schema.SCHEMA_PRIVILEGES WHERE PRIVILEGE_TYPE = 'TRIGGER' \
                AND ? LIKE TABLE_SCHEMA) \
             + (SELECT COUNT(*) FROM information_schema.TABLE_PRIVILEGES WHERE PRIVILEGE_TYPE = 'TRIGGER' \
                AND TABLE_SCHEMA = ? AND TABLE_NAME = ?)",
            (schema, schema, name),
        )
        .await?;
    Ok(rights.unwrap_or(0) > 0)
}
