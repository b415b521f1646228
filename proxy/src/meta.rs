//! What the service account reads of a table: columns, keys, and what makes it impossible to undo.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atone_sql::Charset;
use atone_undo::{Column, Kind, Table, UniqueKey};
use dashmap::DashMap;
use mysql_async::Conn;

use crate::rights::Rights;
use crate::rounds::Rounds;
use crate::service::ServicePool;
use crate::typed::Typed;

mod facts;
mod foreign_keys;
mod logs;
mod many;
mod mirror;
mod triggers;

pub(crate) use facts::without_next_number;
pub use facts::{Facts, Stale};
pub use foreign_keys::{ForeignKey, References, Rule};
pub use logs::LogTable;
pub(crate) use many::{by_place, chunks, read_all, union};
pub use mirror::{Mirror, but_for_tools, passes};
pub use triggers::{
    Trigger, Write, are_quiet, first_noticed, logs_of, mirror_of, refusal, replaces, undo_refusal,
};

/// A table as the proxy knows it.
#[derive(Debug)]
pub struct TableInfo {
    /// Columns and keys.
    pub table: Arc<Table>,
    /// It is no table, but a view.
    pub is_view: bool,
    /// Why no statement on this table can be undone exactly.
    pub refuse_any: Option<String>,
    /// What has to be so still when a branch that has written it commits.
    pub facts: Facts,
    /// The foreign keys that point at it.
    pub references: References,
    /// The columns that are in any index, as indices into its columns: only to these a foreign key can point.
    pub indexed: Vec<usize>,
    /// The columns that an UPDATE of others may change: generated ones, those with ON UPDATE, and those that a trigger sets.
    pub implied: Vec<usize>,
    /// The server changes the key of a row that is updated: a TIMESTAMP or DATETIME with ON UPDATE.
    pub key_follows_update: bool,
    /// For each column what a row has that does not give it a value.
    pub defaults: Vec<ColumnDefault>,
    /// The columns that an INSERT without a column list leaves out: invisible ones.
    pub hidden: Vec<usize>,
}

impl TableInfo {
    /// The key, where a statement may ask for rows by it: not one that optimizers are told to look away from (MySQL's
    /// INVISIBLE, MariaDB's IGNORED), which the servers refuse in an index hint, nor one whose name the session's charset cannot
    /// say.
    pub fn usable<'a>(&self, key: &'a UniqueKey, charset: Charset) -> Option<&'a UniqueKey> {
        if !charset.can_say(&key.name) {
            return None;
        }
        let name = format!("KEY {} (", atone_undo::quote_identifier(&key.name));
        let line = self.facts.definition.lines().find(|line| line.contains(&name));
        let hidden = line.is_some_and(|line| line.contains("INVISIBLE") || line.contains("IGNORED"));
        (!hidden).then_some(key)
    }
}

/// What a column has where a row gives it no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnDefault {
    /// NULL
    Null,
    /// A constant, which `DEFAULT(column)` gives.
    Constant,
    /// An expression: its text, which any session reads alike.
    Expression(String),
    /// Nothing: a row must give a value.
    Missing,
    /// An expression whose text cannot be told from what the server gives.
    Unknown,
}

impl ColumnDefault {
    /// Reads `COLUMN_DEFAULT` and `EXTRA` of `information_schema.COLUMNS`. MySQL gives a constant as its bare text and
    /// marks what it computes; MariaDB gives an expression, a text in quotes.
    fn parse(default: Option<&str>, extra: &str, nullable: bool, mariadb: bool) -> ColumnDefault {
        let Some(text) = default else {
            return if nullable { ColumnDefault::Null } else { ColumnDefault::Missing };
        };
        let constant = if mariadb {
            let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
            text.starts_with('\'') || (!text.is_empty() && text.chars().all(number))
        } else {
            !extra.contains("DEFAULT_GENERATED")
        };
        match text {
            "NULL" if mariadb => ColumnDefault::Null,
            _ if constant => ColumnDefault::Constant,
            _ => expression(text, mariadb).map_or(ColumnDefault::Unknown, ColumnDefault::Expression),
        }
    }
}

/// The text of a default that is computed. MySQL gives it escaped as within quotes. Where it holds a backslash, or
/// more than ASCII, how it reads depends on the session.
fn expression(text: &str, mariadb: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if mariadb => return None,
            '\\' => match chars.next() {
                Some('\'') => out.push('\''),
                _ => return None,
            },
            c if c.is_ascii() => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

/// Tables already seen, keyed by what the application's session calls them and sees of them.
#[derive(Debug, Default)]
pub struct Metadata {
    tables: DashMap<SeenAs, (Instant, Arc<TableInfo>)>,
    /// Looks at tables, with or without the foreign keys that point at them.
    rounds: DashMap<(String, String, bool), Arc<Rounds<facts::Seen>>>,
}

/// Schema, name, and the column definitions that a session sees.
type SeenAs = (String, String, Vec<u8>);

/// How many tables are remembered; beyond it all are forgotten, which costs a look each.
const MAX_TABLES: usize = 10_000;

/// Why metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The server has no such table.
    #[error("there is no table {0}")]
    NoTable(String),
    /// The service account could not read it.
    #[error("the service account cannot read table metadata: {0}")]
    Server(#[from] mysql_async::Error),
}

impl Metadata {
    /// The table of a server that is MariaDB or not, where it was read less than `ttl` ago and `digest` (the column definitions that the session sees) is
    /// what it was then; read again otherwise.
    ///
    /// # Errors
    /// [`MetaError`]
    pub async fn table(
        &self,
        pool: &ServicePool,
        schema: &str,
        name: &str,
        digest: &[u8],
        ttl: Duration,
        mariadb: bool,
    ) -> Result<Arc<TableInfo>, MetaError> {
        let key = (schema.to_string(), name.to_string(), digest.to_vec());
        if let Some(hit) = self.tables.get(&key)
            && hit.0.elapsed() < ttl
        {
            return Ok(hit.1.clone());
        }
        let read_at = Instant::now();
        let info = ServicePool::again(|| async {
            let (mut conn, begun) = begun(pool).await?;
            let (mut info, rights) = load(&mut conn, (pool, begun), (schema, name), mariadb).await?;
            info.references = foreign_keys::load(&mut conn, &info.table, &rights, mariadb).await?;
            Ok::<_, MetaError>(Arc::new(info))
        })
        .await?;
        if info.facts.lacking.is_some() {
            // The right may be granted at any time
            return Ok(info);
        }
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
        }
        self.tables.insert(key, (read_at, info.clone()));
        Ok(info)
    }
}

/// `COLUMN_NAME`, `DATA_TYPE`, `COLUMN_TYPE`, `CHARACTER_SET_NAME`, `COLLATION_NAME`, `IS_NULLABLE`, `EXTRA` and `COLUMN_DEFAULT`.
type ColumnRow = (String, String, String, Option<String>, Option<String>, String, String, Option<String>);
/// `INDEX_NAME`, `COLUMN_NAME`, `SUB_PART` and `NON_UNIQUE`.
type IndexRow = (String, Option<String>, Option<u64>, bool);
/// `TABLE_SCHEMA`, `TABLE_NAME`, `ENGINE` and `TABLE_TYPE`.
type Head = (String, String, Option<String>, String);

/// A connection, and when it was got.
async fn begun(pool: &ServicePool) -> Result<(Conn, u64), MetaError> {
    let begun = pool.begin();
    Ok((pool.get_conn().await?, begun))
}

async fn load(
    conn: &mut Conn,
    begun: (&ServicePool, u64),
    id: (&str, &str),
    mariadb: bool,
) -> Result<(TableInfo, Arc<Rights>), MetaError> {
    let (schema, name) = id;
    let head: Option<Head> = conn
        .first_row(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_TYPE FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            id,
        )
        .await?;
    let Some(head) = head else {
        return Err(MetaError::NoTable(format!("{schema}.{name}")));
    };
    let id = (head.0.as_str(), head.1.as_str());
    // Before all else: what changes meanwhile will be noticed
    let (mut facts, mut rights) = (Facts::default(), Arc::default());
    if head.3 == BASE_TABLE {
        (facts, rights) = facts::read(conn, begun, id, mariadb).await?;
    }
    let columns: Vec<ColumnRow> = conn
        .rows(
            "SELECT COLUMN_NAME, DATA_TYPE, CAST(COLUMN_TYPE AS CHAR), CHARACTER_SET_NAME, COLLATION_NAME, \
             IS_NULLABLE, EXTRA, CAST(COLUMN_DEFAULT AS CHAR) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             ORDER BY ORDINAL_POSITION",
            id,
        )
        .await?;
    let indexes: Vec<IndexRow> = conn
        .rows(
            "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, NON_UNIQUE FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX",
            id,
        )
        .await?;
    Ok((assemble(head, facts, columns, indexes, mariadb), rights))
}

/// What makes a table a base table.
const BASE_TABLE: &str = "BASE TABLE";
/// What makes it a view.
const VIEW: &str = "VIEW";

/// A table by what was read of it.
fn assemble(
    (schema, name, engine, table_type): Head,
    facts: Facts,
    columns: Vec<ColumnRow>,
    indexes: Vec<IndexRow>,
    mariadb: bool,
) -> TableInfo {
    let mut refuse_any = None;
    let is_view = table_type == VIEW;
    if is_view {
        refuse_any = Some(format!("{schema}.{name} is a view now, and no table"));
    } else if table_type != BASE_TABLE {
        refuse_any = Some(format!("{schema}.{name} is not a base table ({table_type})"));
    } else if !engine.as_deref().is_some_and(|e| e.eq_ignore_ascii_case("InnoDB")) {
        let engine = engine.unwrap_or_default();
        refuse_any =
            Some(format!("{schema}.{name} is of engine {engine}, which cannot roll back with InnoDB"));
    }
    let mut parsed = Vec::with_capacity(columns.len());
    let mut defaults = Vec::with_capacity(columns.len());
    let mut hidden = Vec::new();
    let mut follows_update = Vec::with_capacity(columns.len());
    for (column, data_type, column_type, charset, collation, nullable, extra, default) in columns {
        let extra = extra.to_ascii_uppercase();
        follows_update.push(extra.contains("ON UPDATE"));
        if extra.contains("INVISIBLE") {
            hidden.push(defaults.len());
        }
        defaults.push(ColumnDefault::parse(default.as_deref(), &extra, nullable == "YES", mariadb));
        let kind = Kind::from_data_type(&data_type, &column_type).unwrap_or_else(|| {
            refuse_any = Some(format!("column {column} of {schema}.{name} has the type {column_type}"));
            Kind::Other
        });
        let generated = ["VIRTUAL GENERATED", "STORED GENERATED", "PERSISTENT", "INVISIBLE ROW"]
            .iter()
            .any(|g| extra.contains(g));
        parsed.push(Column {
            name: column,
            kind,
            column_type,
            charset,
            collation,
            nullable: nullable == "YES",
            generated,
            auto_increment: extra.contains("AUTO_INCREMENT"),
        });
    }
    let place = |name: &String| parsed.iter().position(|c| c.name == *name);
    let mut indexed: Vec<usize> = indexes.iter().filter_map(|index| place(index.1.as_ref()?)).collect();
    indexed.sort_unstable();
    indexed.dedup();
    let on_update = facts.triggers.iter().filter(|t| t.event == "UPDATE");
    let set_on_update: Vec<&String> = on_update.flat_map(|t| t.effect.iter().flat_map(|e| &e.sets)).collect();
    let is_set = |c: &Column| set_on_update.iter().any(|set| set.eq_ignore_ascii_case(&c.name));
    let is_implied = |&c: &usize| parsed[c].generated || follows_update[c] || is_set(&parsed[c]);
    let implied = (0..parsed.len()).filter(is_implied).collect();
    let unique =
        indexes.into_iter().filter(|index| !index.3).map(|(name, column, part, _)| (name, column, part));
    let keys = unique_keys(&parsed, &follows_update, unique.collect())
        .map_err(|why| format!("{schema}.{name} {why}"));
    let keys = keys.unwrap_or_else(|why| {
        refuse_any.get_or_insert(why);
        Vec::new()
    });
    if refuse_any.is_none() && facts.definition.contains("WITHOUT OVERLAPS") {
        refuse_any = Some(format!("{schema}.{name} has a unique key WITHOUT OVERLAPS"));
    }
    if refuse_any.is_none()
        && let Some(right) = facts.lacking
    {
        refuse_any = Some(format!("the service account lacks the {right} privilege on {schema}.{name}"));
    }
    let key_follows_update = keys.first().is_some_and(|key| key.columns.iter().any(|&c| follows_update[c]));
    let table = Arc::new(Table { schema, name, columns: parsed, keys });
    let references = References::default();
    TableInfo {
        table,
        is_view,
        refuse_any,
        facts,
        references,
        indexed,
        implied,
        key_follows_update,
        defaults,
        hidden,
    }
}

/// The unique keys, the one that identifies rows first.
fn unique_keys(
    columns: &[Column],
    follows_update: &[bool],
    rows: Vec<(String, Option<String>, Option<u64>)>,
) -> Result<Vec<UniqueKey>, String> {
    let mut keys: Vec<UniqueKey> = Vec::new();
    for (index, column, prefix) in rows {
        let at = column.as_ref().and_then(|name| columns.iter().position(|c| c.name == *name));
        let Some(at) = at else {
            return Err(format!("has the unique key {index} over an expression"));
        };
        let prefix = prefix.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        match keys.last_mut() {
            Some(key) if key.name == index => {
                key.columns.push(at);
                key.prefixes.push(prefix);
            }
            _ => keys.push(UniqueKey { name: index, columns: vec![at], prefixes: vec![prefix] }),
        }
    }
    let identifies = |key: &UniqueKey| {
        key.prefixes.iter().all(Option::is_none)
            && key.columns.iter().all(|&c| !columns[c].nullable && !columns[c].generated)
    };
    let first = keys
        .iter()
        .position(|k| k.name == "PRIMARY" && identifies(k))
        .or_else(|| {
            // One that the server does not change by itself, if there is one
            let stays = |key: &UniqueKey| !key.columns.iter().any(|&c| follows_update[c]);
            keys.iter().position(|k| identifies(k) && stays(k)).or_else(|| keys.iter().position(identifies))
        })
        .ok_or("has no primary key and no NOT NULL unique key over whole columns")?;
    keys.swap(0, first);
    let head = keys.remove(0);
    keys.sort_by(|a, b| a.name.cmp(&b.name));
    keys.insert(0, head);
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn column(name: &str, nullable: bool) -> Column {
        Column { nullable, ..samples::column(name) }
    }

    fn rows(list: &[(&str, &str)]) -> Vec<(String, Option<String>, Option<u64>)> {
        list.iter().map(|(i, c)| (i.to_string(), Some(c.to_string()), None)).collect()
    }

    #[test]
    fn defaults_as_either_server_tells_them() {
        use ColumnDefault::{Constant, Missing, Null, Unknown};
        let expression = |text: &str| ColumnDefault::Expression(text.to_owned());
        let mysql = |text, extra, nullable| ColumnDefault::parse(text, extra, nullable, false);
        assert_eq!(mysql(None, "", true), Null);
        assert_eq!(mysql(None, "", false), Missing);
        assert_eq!(mysql(Some("NULL"), "", true), Constant);
        assert_eq!(mysql(Some("5"), "", false), Constant);
        assert_eq!(mysql(Some("uuid()"), "DEFAULT_GENERATED", false), expression("uuid()"));
        assert_eq!(
            mysql(Some(r"concat(_utf8mb4\'a\',1)"), "DEFAULT_GENERATED", false),
            expression("concat(_utf8mb4'a',1)")
        );
        assert_eq!(mysql(Some(r"concat(_utf8mb4\'a\\\'b\')"), "DEFAULT_GENERATED", false), Unknown);
        assert_eq!(mysql(Some(r"concat(_utf8mb4\'é\')"), "DEFAULT_GENERATED", false), Unknown);
        let mariadb = |text, nullable| ColumnDefault::parse(text, "", nullable, true);
        assert_eq!(mariadb(Some("NULL"), true), Null);
        assert_eq!(mariadb(None, false), Missing);
        assert_eq!(mariadb(Some("'NULL'"), true), Constant);
        assert_eq!(mariadb(Some("-1.5"), true), Constant);
        assert_eq!(mariadb(Some("uuid()"), true), expression("uuid()"));
        assert_eq!(mariadb(Some("concat('a')"), true), expression("concat('a')"));
        assert_eq!(mariadb(Some(r"concat('a\'b')"), true), Unknown);
    }

    #[test]
    fn the_primary_key_comes_first_else_a_not_null_unique_one() {
        let columns = [column("a", false), column("b", false), column("c", true)];
        let unique_keys = |columns: &[Column], rows| super::unique_keys(columns, &[false; 3], rows);
        let keys = unique_keys(&columns, rows(&[("A", "c"), ("PRIMARY", "a"), ("PRIMARY", "b"), ("Z", "b")]))
            .unwrap();
        assert_eq!(keys.iter().map(|k| k.name.as_str()).collect::<Vec<_>>(), ["PRIMARY", "A", "Z"]);
        assert_eq!(keys[0].columns, [0, 1]);
        let keys = unique_keys(&columns, rows(&[("A", "c"), ("Z", "b")])).unwrap();
        assert_eq!(keys[0].name, "Z");
        let keys =
            super::unique_keys(&columns, &[true, false, false], rows(&[("A", "a"), ("Z", "b")])).unwrap();
        assert_eq!(keys[0].name, "Z");
        let keys = super::unique_keys(&columns, &[true, false, false], rows(&[("A", "a")])).unwrap();
        assert_eq!(keys[0].name, "A");
        assert!(unique_keys(&columns, rows(&[("A", "c")])).is_err());
        assert!(unique_keys(&columns, vec![("A".into(), Some("a".into()), Some(3))]).is_err());
        assert!(unique_keys(&columns, vec![("A".into(), None, None)]).is_err());
    }
}
