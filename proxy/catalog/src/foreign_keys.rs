//! What the service account reads of the foreign keys that point at a table.

use atone_facts::{References, Rights, RuleRow, UsageRow, are_all_keys_seen};
use atone_undo::Table;
use atone_wire::error_code::ER_LOCK_WAIT_TIMEOUT;
use mysql_async::{Conn, Error};

use crate::rows::Typed;

type Five = (String, String, String, String, String);

/// Reads the foreign keys that point at a table.
pub(crate) async fn read_references(
    conn: &mut Conn,
    table: &Table,
    rights: &Rights,
    mariadb: bool,
) -> Result<References, Error> {
    let id = (table.schema.as_str(), table.name.as_str());
    let rules: Vec<Five> = conn
        .rows(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE \
             FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE UNIQUE_CONSTRAINT_SCHEMA = ? AND REFERENCED_TABLE_NAME = ?",
            id,
        )
        .await?;
    let mut skipped = skips_a_table(conn).await?;
    let mut usage: Vec<Five> = Vec::new();
    if !rules.is_empty() {
        usage = conn
            .rows(
                "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_COLUMN_NAME \
                 FROM information_schema.KEY_COLUMN_USAGE \
                 WHERE REFERENCED_TABLE_SCHEMA = ? AND REFERENCED_TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
                id,
            )
            .await?;
        skipped |= skips_a_table(conn).await?;
    }
    if skipped {
        let why = "tables that others are altering keep foreign keys from being seen";
        return Err(Error::Other(why.into()));
    }
    let unproven = unproven(conn, table, rules.len(), rights, mariadb).await?;
    let rule =
        |(schema, table, name, on_delete, on_update)| RuleRow { schema, table, name, on_delete, on_update };
    let pair =
        |(schema, table, name, column, referenced)| UsageRow { schema, table, name, column, referenced };
    let (rules, usage) = (rules.into_iter().map(rule).collect(), usage.into_iter().map(pair).collect());
    Ok(References::assemble(table, rules, usage, unproven))
}

/// Whether the last query has left out tables that could not be opened in time: MariaDB looks into every table, and
/// only warns of those.
async fn skips_a_table(conn: &mut Conn) -> Result<bool, Error> {
    let count = usize::from(conn.get_warnings());
    if count == 0 {
        return Ok(false);
    }
    let warnings: Vec<(String, u16, String)> = conn.text_rows("SHOW WARNINGS").await?;
    // A server keeps `max_error_count` of them
    Ok(warnings.len() < count || warnings.iter().any(|(_, code, _)| *code == ER_LOCK_WAIT_TIMEOUT))
}

/// Why there may be foreign keys beside the `seen` ones that the account does not see. Either its rights prove that
/// there are none, or InnoDB's own list, which shows all of them.
async fn unproven(
    conn: &mut Conn,
    table: &Table,
    seen: usize,
    rights: &Rights,
    mariadb: bool,
) -> Result<Option<String>, Error> {
    if are_all_keys_seen(rights) {
        return Ok(None);
    }
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if rights.on_server("PROCESS") && plain(&table.schema) && plain(&table.name) {
        let list = if mariadb { "INNODB_SYS_FOREIGN" } else { "INNODB_FOREIGN" };
        let all: Option<u64> = conn
            .first_row(
                format!("SELECT COUNT(*) FROM information_schema.{list} WHERE REF_NAME = ?"),
                (format!("{}/{}", table.schema, table.name),),
            )
            .await?;
        if all == Some(seen as u64) {
            return Ok(None);
        }
    }
    Ok(Some(References::why_unproven(table)))
}
