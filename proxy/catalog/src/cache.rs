//! Tables that were read before, and whether they still are what they were.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atone_facts::{Facts, References, ServiceError, Stale, TableError, TableId, TableInfo};
use dashmap::DashMap;
use mysql_async::Error;

use crate::error::service_error;
use crate::foreign_keys::read_references;
use crate::pool::ServicePool;
use crate::rights::retry;
use crate::single_flight::SingleFlights;
use crate::table::{read_facts, read_table};

/// How many tables are remembered. Beyond it all are forgotten, which costs each of them one read.
const MAX_TABLES: usize = 10_000;

/// Schema, name, and a digest of the column definitions that the application's session sees.
type SeenAs = (String, String, Vec<u8>);

/// Schema, name, and whether the foreign keys that point at the table are read as well.
type Verified = (String, String, bool);

/// Tables that were read before, each with the time.
#[derive(Debug, Default)]
pub(crate) struct TableCache {
    tables: DashMap<SeenAs, (Instant, Arc<TableInfo>)>,
    current: SingleFlights<Verified, Result<Arc<Current>, ServiceError>>,
}

/// What is verified of a table, as it is now.
#[derive(Debug)]
struct Current {
    facts: Facts,
    /// Where they were asked for.
    references: Option<References>,
}

impl TableCache {
    /// See [`crate::Catalog::table`].
    pub(crate) async fn table(
        &self,
        pool: &ServicePool,
        id: TableId<'_>,
        digest: &[u8],
        ttl: Duration,
        mariadb: bool,
    ) -> Result<Arc<TableInfo>, TableError> {
        let (schema, name) = id;
        let key = (schema.to_owned(), name.to_owned(), digest.to_vec());
        if let Some(hit) = self.tables.get(&key)
            && hit.0.elapsed() < ttl
        {
            return Ok(hit.1.clone());
        }
        let read_at = Instant::now();
        let read = || async { read_table(&mut pool.reader().await?, id, mariadb).await };
        let info = retry(read).await.map_err(service_error)?;
        let info = Arc::new(info.ok_or_else(|| TableError::NoTable(format!("{schema}.{name}")))?);
        if info.refuse_any.is_some() {
            // What refuses it may change at any time
            self.forget(schema, name);
            return Ok(info);
        }
        if self.tables.len() >= MAX_TABLES {
            self.tables.clear();
        }
        self.tables.insert(key, (read_at, info.clone()));
        Ok(info)
    }

    /// See [`crate::Catalog::verify`].
    pub(crate) async fn verify(
        &self,
        pool: &ServicePool,
        info: &TableInfo,
        with_references: bool,
        mariadb: bool,
    ) -> Result<(), Stale> {
        let table = &info.table;
        let key = (table.schema.clone(), table.name.clone(), with_references);
        let read = || read_current(pool, info, with_references, mariadb);
        let read = async { retry(read).await.map(Arc::new).map_err(service_error) };
        let now = self.current.run(key, read).await.map_err(Stale::Unread)?;
        let same_references = now.references.as_ref().is_none_or(|now| *now == info.references);
        let what = match info.facts.difference(&now.facts) {
            Some(what) => what,
            None if same_references => return Ok(()),
            None => "a foreign key that points at the table",
        };
        self.forget(&table.schema, &table.name);
        for child in now.references.iter().flat_map(|references| &references.keys) {
            // Its definition names the foreign key
            self.forget(&child.schema, &child.table);
        }
        Err(Stale::Changed(format!("{what} {}.{} was altered meanwhile", table.schema, table.name)))
    }

    /// Forgets a table under all digests.
    fn forget(&self, schema: &str, name: &str) {
        self.tables.retain(|(s, n, _), _| s != schema || n != name);
    }
}

async fn read_current(
    pool: &ServicePool,
    info: &TableInfo,
    with_references: bool,
    mariadb: bool,
) -> Result<Current, Error> {
    let table = &info.table;
    let id = (table.schema.as_str(), table.name.as_str());
    let read = |mut conn| async move {
        let facts = read_facts(&mut conn, id, mariadb).await;
        (conn, facts)
    };
    let (facts, rights) = pool.read_only(read).await?;
    let references = match with_references {
        true => Some(read_references(&mut pool.get_conn().await?, table, &rights, mariadb).await?),
        false => None,
    };
    Ok(Current { facts, references })
}
