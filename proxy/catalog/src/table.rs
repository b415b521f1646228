//! What the service account reads of one table.

use std::sync::Arc;

use atone_facts::{ColumnRow, Facts, IndexRow, Rights, TableId, TableInfo, TableRow, without_auto_increment};
use atone_undo::quote_identifier;
use mysql_async::{Error, Row};

use crate::audit::resolve_written;
use crate::foreign_keys::read_references;
use crate::reader::Reader;
use crate::rights::RIGHTS_SQL;
use crate::rows::{Typed, typed_rows};
use crate::triggers::{parse_triggers, read_bodies, triggers_sql};

/// `TABLE_SCHEMA`, `TABLE_NAME`, `ENGINE` and `TABLE_TYPE`.
pub(crate) type Head = (String, String, Option<String>, String);
/// `COLUMN_NAME`, `DATA_TYPE`, `COLUMN_TYPE`, `CHARACTER_SET_NAME`, `COLLATION_NAME`, `IS_NULLABLE`, `EXTRA` and
/// `COLUMN_DEFAULT`.
pub(crate) type Column =
    (String, String, String, Option<String>, Option<String>, String, String, Option<String>);
/// `INDEX_NAME`, `COLUMN_NAME`, `SUB_PART` and `NON_UNIQUE`.
pub(crate) type Index = (String, Option<String>, Option<u64>, bool);

pub(crate) fn table_row((schema, name, engine, table_type): Head) -> TableRow {
    TableRow { schema, name, engine, table_type }
}

pub(crate) fn column_row(column: Column) -> ColumnRow {
    let (name, data_type, column_type, charset, collation, is_nullable, extra, default) = column;
    ColumnRow { name, data_type, column_type, charset, collation, is_nullable, extra, default }
}

pub(crate) fn index_row((index, column, prefix, non_unique): Index) -> IndexRow {
    IndexRow { index, column, prefix, non_unique }
}

/// Reads a table with the foreign keys that point at it; `None` where the server has none of this name.
pub(crate) async fn read_table(
    conn: &mut Reader,
    id: TableId<'_>,
    mariadb: bool,
) -> Result<Option<TableInfo>, Error> {
    let head: Option<Head> = conn
        .first_row(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            id,
        )
        .await?;
    let Some(row) = head.map(table_row) else { return Ok(None) };
    let id = (row.schema.as_str(), row.name.as_str());
    // Before all else, so that a change meanwhile is noticed
    let (mut facts, mut rights) = (Facts::default(), Arc::default());
    if row.is_base_table() {
        (facts, rights) = read_facts(conn, id, mariadb).await?;
    }
    let columns: Vec<Column> = conn
        .rows(
            "SELECT COLUMN_NAME, DATA_TYPE, CAST(COLUMN_TYPE AS CHAR), CHARACTER_SET_NAME, COLLATION_NAME, \
             IS_NULLABLE, EXTRA, CAST(COLUMN_DEFAULT AS CHAR) FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            id,
        )
        .await?;
    let indexes: Vec<Index> = conn
        .rows(
            "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, NON_UNIQUE FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX",
            id,
        )
        .await?;
    let columns = columns.into_iter().map(column_row).collect();
    let indexes = indexes.into_iter().map(index_row).collect();
    let mut info = TableInfo::assemble(row, facts, columns, indexes, mariadb);
    info.references = read_references(conn, &info.table, &rights, mariadb).await?;
    Ok(Some(info))
}

/// Reads the facts of a base table, and the rights of the account.
pub(crate) async fn read_facts(
    conn: &mut Reader,
    (schema, name): TableId<'_>,
    mariadb: bool,
) -> Result<(Facts, Arc<Rights>), Error> {
    let [show_grants, literal] = RIGHTS_SQL;
    // The rights come after what depends on them
    let queries = [&show_table_sql(schema, name), &triggers_sql(schema, name), show_grants, literal];
    let [shown, triggers, grants, literal] = conn.results(queries).await?;
    let rights = conn.rights(grants, literal)?;
    let definition = parse_definition(shown)?;
    let triggers = read_bodies(conn, schema, parse_triggers(triggers, mariadb)?, mariadb).await?;
    let triggers = resolve_written(conn, (schema, name), triggers, &rights, mariadb).await?;
    Ok((Facts::new(definition, triggers, &rights, (schema, name)), rights))
}

/// The query for the definition of a table or view.
pub(crate) fn show_table_sql(schema: &str, name: &str) -> String {
    format!("SHOW CREATE TABLE {}.{}", quote_identifier(schema), quote_identifier(name))
}

/// The definition in the rows of [`show_table_sql`]; empty where it is that of a view, which came in the place of the
/// table.
pub(crate) fn parse_definition(shown: Vec<Row>) -> Result<String, Error> {
    /// Of a view, there are more.
    const TABLE_COLUMNS: usize = 2;
    let is_table = |row: &Row| row.len() == TABLE_COLUMNS;
    let shown: Vec<(String, String)> = typed_rows(shown.into_iter().filter(is_table).collect())?;
    Ok(without_auto_increment(&shown.into_iter().next().map(|(_, text)| text).unwrap_or_default()))
}
