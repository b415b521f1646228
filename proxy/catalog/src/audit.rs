//! What the service account reads of the tables to which triggers add rows.

use std::collections::BTreeMap;

use atone_facts::{
    AuditTable, IndexRow, Rights, TableId, TableRow, Trigger, WrittenColumn, WrittenTable, audit_table,
    mirror,
};
use mysql_async::{Conn, Error};

use crate::rows::Typed;
use crate::triggers::read_triggers;

/// A number below which none is generated in the table from now on, as long as nobody can alter it.
///
/// # Errors
/// What the server says.
pub async fn first_number(conn: &mut Conn, log: &AuditTable) -> Result<i128, Error> {
    let shown: Option<(String, String)> =
        conn.first_text_row(format!("SHOW CREATE TABLE {}", log.quoted())).await?;
    Ok(log.first_number(shown.as_ref().map(|(_, definition)| definition.as_str())))
}

/// Resolves the tables that the triggers of the table `owner` write: those to which they add rows, each read once, and
/// the one that they keep equal to their own.
pub(crate) async fn resolve_written(
    conn: &mut Conn,
    owner: TableId<'_>,
    mut triggers: Vec<Trigger>,
    rights: &Rights,
    mariadb: bool,
) -> Result<Vec<Trigger>, Error> {
    let mut read: BTreeMap<(String, String), Result<WrittenTable, String>> = BTreeMap::new();
    let mirror = mirror(owner.0, &triggers);
    for trigger in &mut triggers {
        trigger.resolve_mirror(&mirror);
        let inserts = trigger.effect.as_ref().map(|body| body.inserts.clone()).unwrap_or_default();
        for insert in &inserts {
            let id = (insert.schema.clone().unwrap_or_else(|| owner.0.to_owned()), insert.table.clone());
            let table = match read.get(&id) {
                Some(written) => audit_table(insert, written, owner, &trigger.sql_mode),
                None => {
                    let written = read_written(conn, (&id.0, &id.1), rights, mariadb).await?;
                    let table = audit_table(insert, &written, owner, &trigger.sql_mode);
                    read.insert(id, written);
                    table
                }
            };
            trigger.add_audit_table(table);
            if trigger.effect.is_err() {
                break;
            }
        }
    }
    Ok(triggers)
}

/// `TABLE_SCHEMA`, `TABLE_NAME`, `ENGINE`, `TABLE_TYPE` and `CREATE_OPTIONS`.
type Head = (String, String, Option<String>, String, Option<String>);

/// Reads a table that a trigger writes. The inner error is why the rows that the trigger adds could not be found.
async fn read_written(
    conn: &mut Conn,
    id: TableId<'_>,
    rights: &Rights,
    mariadb: bool,
) -> Result<Result<WrittenTable, String>, Error> {
    let head: Option<Head> = conn
        .first_row(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE, CREATE_OPTIONS FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            id,
        )
        .await?;
    let Some((schema, name, engine, table_type, options)) = head else {
        return Ok(Err("the service account does not see".into()));
    };
    let row = TableRow { schema, name, engine, table_type };
    if let Err(why) = WrittenTable::check_kind(&row, options.as_deref()) {
        return Ok(Err(why));
    }
    let id = (row.schema.as_str(), row.name.as_str());
    let unique: Vec<(String, Option<String>)> = conn
        .rows(
            "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0",
            id,
        )
        .await?;
    let part = |(index, column)| IndexRow { index, column, prefix: None, non_unique: false };
    let unique: Vec<IndexRow> = unique.into_iter().map(part).collect();
    let key = match WrittenTable::key_column(&unique) {
        Ok(key) => key,
        Err(why) => return Ok(Err(why)),
    };
    let columns: Vec<(String, String, String)> = conn
        .rows(
            "SELECT COLUMN_NAME, CAST(COLUMN_TYPE AS CHAR), EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            id,
        )
        .await?;
    let column = |(name, column_type, extra)| WrittenColumn { name, column_type, extra };
    let columns: Vec<WrittenColumn> = columns.into_iter().map(column).collect();
    let written = match WrittenTable::new(row, key, &columns, rights) {
        Ok(written) => written,
        Err(why) => return Ok(Err(why)),
    };
    let triggers = read_triggers(conn, written.id(), mariadb).await?;
    Ok(written.check_triggers(&triggers))
}
