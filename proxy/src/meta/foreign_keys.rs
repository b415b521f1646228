//! The foreign keys that point at a table, and whether the service account sees all of them.

use std::collections::BTreeMap;

use atone_undo::Table;
use mysql_async::Conn;

use crate::rights::Rights;
use crate::typed::Typed;

/// What becomes of the rows that refer to a row which is deleted, or whose referenced columns are updated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The statement fails while there are such rows: RESTRICT and NO ACTION, which InnoDB treats alike, and SET DEFAULT,
    /// which it does not have.
    Restrict,
    /// They are deleted, or get the new values.
    Cascade,
    /// Their columns become NULL.
    SetNull,
}

impl Rule {
    fn parse(text: &str) -> Option<Rule> {
        match text {
            "RESTRICT" | "NO ACTION" | "SET DEFAULT" => Some(Rule::Restrict),
            "CASCADE" => Some(Rule::Cascade),
            "SET NULL" => Some(Rule::SetNull),
            _ => None,
        }
    }
}

/// A foreign key that points at a table, the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name, which is unique in its schema.
    pub name: String,
    /// The child's schema.
    pub schema: String,
    /// The child's name.
    pub table: String,
    /// The child's columns.
    pub columns: Vec<String>,
    /// The columns of the parent to which they refer, as indices into its columns.
    pub referenced: Vec<usize>,
    /// What a DELETE of the parent does.
    pub on_delete: Rule,
    /// What an UPDATE of the referenced columns does.
    pub on_update: Rule,
}

/// The foreign keys that point at a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Those that are seen, by schema, table and name.
    pub keys: Vec<ForeignKey>,
    /// Why there may be others.
    pub unproven: Option<String>,
}

type Id = (String, String, String);

/// Reads the foreign keys that point at a table.
pub(super) async fn load(
    conn: &mut Conn,
    table: &Table,
    rights: &Rights,
    mariadb: bool,
) -> Result<References, mysql_async::Error> {
    let id = (table.schema.as_str(), table.name.as_str());
    let rules: Vec<(String, String, String, String, String)> = conn
        .rows(
            "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, DELETE_RULE, UPDATE_RULE \
             FROM information_schema.REFERENTIAL_CONSTRAINTS \
             WHERE UNIQUE_CONSTRAINT_SCHEMA = ? AND REFERENCED_TABLE_NAME = ?",
            id,
        )
        .await?;
    let mut skipped = skips_a_table(conn).await?;
    let mut columns: BTreeMap<Id, Vec<(String, String)>> = BTreeMap::new();
    if !rules.is_empty() {
        let usage: Vec<(String, String, String, String, String)> = conn
            .rows(
                "SELECT TABLE_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_COLUMN_NAME \
                 FROM information_schema.KEY_COLUMN_USAGE \
                 WHERE REFERENCED_TABLE_SCHEMA = ? AND REFERENCED_TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
                id,
            )
            .await?;
        skipped |= skips_a_table(conn).await?;
        for (schema, child, name, column, referenced) in usage {
            columns.entry((schema, child, name)).or_default().push((column, referenced));
        }
    }
    if skipped {
        let why = "tables that others are altering keep foreign keys from being seen";
        return Err(mysql_async::Error::Other(why.into()));
    }
    let mut out =
        References { keys: Vec::new(), unproven: unproven(conn, table, rules.len(), rights, mariadb).await? };
    for (schema, child, name, on_delete, on_update) in rules {
        let key = columns.remove(&(schema.clone(), child.clone(), name.clone()));
        let key = key.zip(Rule::parse(&on_delete).zip(Rule::parse(&on_update)));
        let key = key.and_then(|(columns, (on_delete, on_update))| {
            let referenced = columns
                .iter()
                .map(|(_, theirs)| table.columns.iter().position(|c| c.name.eq_ignore_ascii_case(theirs)))
                .collect::<Option<Vec<_>>>()?;
            let columns = columns.into_iter().map(|(ours, _)| ours).collect();
            Some(ForeignKey {
                name: name.clone(),
                schema: schema.clone(),
                table: child.clone(),
                columns,
                referenced,
                on_delete,
                on_update,
            })
        });
        match key {
            Some(key) => out.keys.push(key),
            None => {
                let why = format!("the columns of foreign key {name} of {schema}.{child} are not to be seen");
                out.unproven = Some(why);
            }
        }
    }
    out.keys.sort_by(|a, b| (&a.schema, &a.table, &a.name).cmp(&(&b.schema, &b.table, &b.name)));
    Ok(out)
}

/// Whether the last query has left tables out that could not be opened in time: MariaDB looks into every table, and only
/// warns of those.
async fn skips_a_table(conn: &mut Conn) -> Result<bool, mysql_async::Error> {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    let count = usize::from(conn.get_warnings());
    if count == 0 {
        return Ok(false);
    }
    let warnings: Vec<(String, u16, String)> = conn.text_rows("SHOW WARNINGS").await?;
    // A server keeps `max_error_count` of them
    Ok(warnings.len() < count || warnings.iter().any(|(_, code, _)| *code == LOCK_WAIT_TIMEOUT))
}

/// Why there may be foreign keys that the service account does not see beside the `seen` ones. A server shows an account
/// only those of tables on which it has rights: with a right on all schemas that is all of them, and so does InnoDB's own
/// list tell.
async fn unproven(
    conn: &mut Conn,
    table: &Table,
    seen: usize,
    rights: &Rights,
    mariadb: bool,
) -> Result<Option<String>, mysql_async::Error> {
    if rights.on_all_tables("TRIGGER") && rights.on_all_tables("SELECT") {
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
    Ok(Some(format!(
        "the service account may not see all foreign keys that point at {}.{}: it needs SELECT and TRIGGER on *.*",
        table.schema, table.name
    )))
}
