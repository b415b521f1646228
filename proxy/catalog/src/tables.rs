//! What a statement's capture relies on beyond the column definitions that its session sees: the table's whole definition
//! and its triggers.

use std::sync::Arc;

use atone_undo::quote_identifier;
use mysql_async::{Conn, Row};

use super::foreign_keys::{self, References};
use super::triggers::{self, Trigger};
use super::{MAX_TABLES, Metadata, TableInfo};
use crate::rights::{RESTORING_RIGHTS, RIGHTS_SQL, Rights};
use crate::service::{ServiceError, ServicePool};
use crate::typed::{Typed, typed_rows};

/// What only the service account can tell whether it is still so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `SHOW CREATE TABLE`, without the next number of its AUTO_INCREMENT: columns, indexes, engine, checks, partitions.
    pub definition: String,
    /// The triggers that are seen, in the order in which they fire.
    pub triggers: Vec<Trigger>,
    /// A privilege without which the service account does not see all of the table, or could not restore its rows.
    pub lacking: Option<&'static str>,
}

/// Reads the facts of a base table, and what the account that reads them may do.
pub(super) async fn read(
    conn: &mut Conn,
    (pool, begun): (&ServicePool, u64),
    (schema, name): (&str, &str),
    mariadb: bool,
) -> Result<(Facts, Arc<Rights>), mysql_async::Error> {
    let show = format!("SHOW CREATE TABLE {}.{}", quote_identifier(schema), quote_identifier(name));
    let [show_grants, literal] = RIGHTS_SQL;
    // The rights behind what depends on them
    let queries = [show.as_str(), &triggers::select(schema, name), show_grants, literal];
    let [shown, triggers, grants, literal] = conn.results(queries).await?;
    let rights = pool.judged(begun, Rights::of(grants, literal)?)?;
    let definition = definition_of(shown)?;
    let triggers = triggers::parse(typed_rows(triggers)?, mariadb);
    let triggers = triggers::as_written(conn, schema, triggers, mariadb).await?;
    let triggers = triggers::with_logs(conn, schema, name, triggers, &rights, mariadb).await?;
    let lacking = lacking(&rights, schema, name);
    Ok((Facts { definition, triggers, lacking }, rights))
}

/// The definition in the rows of a SHOW CREATE TABLE: none where it shows a view, which came in the place of the table.
pub(super) fn definition_of(shown: Vec<Row>) -> Result<String, mysql_async::Error> {
    let is_table = |row: &Row| row.len() == TABLE_COLUMNS;
    let shown: Vec<(String, String)> = typed_rows(shown.into_iter().filter(is_table).collect())?;
    Ok(without_next_number(&shown.into_iter().next().map(|(_, text)| text).unwrap_or_default()))
}

/// So many columns SHOW CREATE TABLE has of a table; of a view it has more.
const TABLE_COLUMNS: usize = 2;

/// A privilege that the account needs on a table and does not have.
pub(super) fn lacking(rights: &Rights, schema: &str, name: &str) -> Option<&'static str> {
    let lacks = |right: &&str| !rights.on_table(right, schema, name);
    RESTORING_RIGHTS.into_iter().chain(["TRIGGER"]).find(lacks)
}

/// Leaves out ` AUTO_INCREMENT=7`, which every INSERT changes.
pub(crate) fn without_next_number(definition: &str) -> String {
    const NEXT: &str = " AUTO_INCREMENT=";
    let mut out = String::with_capacity(definition.len());
    let mut rest = definition;
    while let Some((head, tail)) = rest.split_once(NEXT) {
        out.push_str(head);
        rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    out
}

/// A table as it is now.
#[derive(Debug)]
pub(super) struct Now {
    facts: Facts,
    /// Where they were asked for.
    references: Option<References>,
}

/// A look at a table, or why there was none.
pub(super) type Seen = Result<Arc<Now>, ServiceError>;

/// Why a table cannot be vouched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stale {
    /// It is not what it was taken for.
    Changed(String),
    /// The service account cannot look.
    Unread(ServiceError),
}

impl Metadata {
    /// Whether the table still is what `info` says, with the foreign keys that point at it where the statements have
    /// `deleted` rows or updated indexed columns.
    ///
    /// A transaction that has written a table keeps it from being altered, and triggers and foreign keys from coming and
    /// going, until it ends. So what is read before its COMMIT is what its statements have met.
    ///
    /// # Errors
    /// [`Stale`]
    pub async fn verify(
        &self,
        pool: &ServicePool,
        info: &TableInfo,
        with_references: bool,
        mariadb: bool,
    ) -> Result<(), Stale> {
        let table = &info.table;
        let now = self.now(pool, info, with_references, mariadb).await.map_err(Stale::Unread)?;
        let same_references = now.references.as_ref().is_none_or(|now| *now == info.references);
        if now.facts == info.facts && same_references {
            return Ok(());
        }
        self.forget(&table.schema, &table.name);
        for child in now.references.iter().flat_map(|references| &references.keys) {
            // Its definition names the foreign key
            self.forget(&child.schema, &child.table);
        }
        let what = if now.facts.lacking != info.facts.lacking {
            "what the service account may see of the table"
        } else if now.facts.definition != info.facts.definition {
            "the table"
        } else if now.facts.triggers != info.facts.triggers {
            "a trigger of the table"
        } else {
            "a foreign key that points at the table"
        };
        Err(Stale::Changed(format!("{what} {}.{} was altered meanwhile", table.schema, table.name)))
    }

    async fn now(
        &self,
        pool: &ServicePool,
        info: &TableInfo,
        with_references: bool,
        mariadb: bool,
    ) -> Result<Arc<Now>, ServiceError> {
        let table = &info.table;
        if self.rounds.len() >= MAX_TABLES {
            self.rounds.clear();
        }
        let key = (table.schema.clone(), table.name.clone(), with_references);
        let rounds = self.rounds.entry(key).or_default().clone();
        let (schema, name) = (table.schema.as_str(), table.name.as_str());
        let look = || async {
            let begun = pool.begin();
            let facts = |mut conn: Conn| async move {
                let facts = read(&mut conn, (pool, begun), (schema, name), mariadb).await;
                (conn, facts)
            };
            let (facts, rights) = pool.look(facts).await?;
            let references = match with_references {
                true => Some(foreign_keys::load(&mut pool.get_conn().await?, table, &rights, mariadb).await?),
                false => None,
            };
            Ok(Arc::new(Now { facts, references }))
        };
        let look = ServicePool::again(look);
        rounds.see(async { look.await.map_err(|e: mysql_async::Error| e.into()) }).await
    }

    /// What is known of a table counts no more.
    pub fn forget(&self, schema: &str, name: &str) {
        self.tables.retain(|(s, n, _), _| s != schema || n != name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_no_part_of_a_definition() {
        let one = "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT\n) ENGINE=InnoDB AUTO_INCREMENT=17 DEFAULT";
        let other = one.replace("17", "4000000000");
        assert_eq!(without_next_number(one), without_next_number(&other));
        assert_eq!(without_next_number(one), one.replace(" AUTO_INCREMENT=17", ""));
    }
}
