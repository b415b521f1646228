//! What the service account reads of the triggers of a table.

use atone_facts::{TableId, Trigger, TriggerRow};
use atone_undo::quote_identifier;
use atone_wire::error_code::ER_TRG_DOES_NOT_EXIST;
use mysql_async::{Conn, Error, Row};

use crate::rows::{Typed, literal, typed_rows};

/// The columns of [`triggers_sql`].
type Columns = (String, String, String, Option<String>, String);

/// The columns of a SHOW CREATE TRIGGER: name, `sql_mode`, the statement, charsets and collations, the time of its
/// making.
type Shown = (String, String, String, String, String, String, Option<String>);

/// The triggers of a table. The tables that they write are not resolved.
pub(crate) async fn read_triggers(
    conn: &mut Conn,
    (schema, name): TableId<'_>,
    mariadb: bool,
) -> Result<Vec<Trigger>, Error> {
    let rows = conn.text_rows::<Columns>(triggers_sql(schema, name)).await?;
    read_bodies(conn, schema, parsed(rows, mariadb), mariadb).await
}

/// The query for the triggers of a table, under a `sql_mode` with backslash escapes.
pub(crate) fn triggers_sql(schema: &str, name: &str) -> String {
    format!(
        "SELECT TRIGGER_NAME, EVENT_MANIPULATION, ACTION_TIMING, ACTION_STATEMENT, CAST(SQL_MODE AS CHAR) \
         FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = {} AND EVENT_OBJECT_TABLE = {} \
         ORDER BY EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER, TRIGGER_NAME",
        literal(schema),
        literal(name)
    )
}

/// The triggers in the rows of [`triggers_sql`].
pub(crate) fn parse_triggers(rows: Vec<Row>, mariadb: bool) -> Result<Vec<Trigger>, Error> {
    Ok(parsed(typed_rows(rows)?, mariadb))
}

fn parsed(rows: Vec<Columns>, mariadb: bool) -> Vec<Trigger> {
    rows.into_iter().map(|row| Trigger::parse(trigger_row(row), mariadb)).collect()
}

/// A row of [`triggers_sql`].
pub(crate) fn trigger_row((name, event, timing, body, sql_mode): Columns) -> TriggerRow {
    TriggerRow { name, event, timing, body, sql_mode }
}

/// Reads the bodies of triggers as they were written. In information_schema, MySQL shows the quotes in a quoted name no
/// longer doubled, so that another name, or another statement, may be read there.
pub(crate) async fn read_bodies(
    conn: &mut Conn,
    schema: &str,
    mut triggers: Vec<Trigger>,
    mariadb: bool,
) -> Result<Vec<Trigger>, Error> {
    let quotes = |t: &&mut Trigger| t.body.contains(['`', '"']);
    let mut quoted: Vec<&mut Trigger> = triggers.iter_mut().filter(|_| !mariadb).filter(quotes).collect();
    if quoted.is_empty() {
        return Ok(triggers);
    }
    let schema = quote_identifier(schema);
    let show = |t: &&mut Trigger| format!("SHOW CREATE TRIGGER {schema}.{}", quote_identifier(&t.name));
    let shown: Vec<String> = quoted.iter().map(show).collect();
    let shown: Vec<Vec<Row>> = match conn.all_results(&shown).await {
        // One of them was there a moment ago
        Err(Error::Server(e)) if e.code == ER_TRG_DOES_NOT_EXIST => Vec::new(),
        shown => shown?,
    };
    let mut shown = shown.into_iter();
    for trigger in &mut quoted {
        let row: Option<Shown> = typed_rows(shown.next().unwrap_or_default())?.pop();
        let (sql_mode, create) = row.map(|row| (row.1, row.2)).unwrap_or_default();
        trigger.parse_create(&create, &sql_mode, mariadb);
    }
    Ok(triggers)
}
