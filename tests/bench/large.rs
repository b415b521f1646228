//! The workload of large statements: one table, and statements that change a given number of its rows.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use atone_tests::{Bank, Cluster, sql};
use bytes::Bytes;
use mysql_async::Conn;

/// The table has at least so many rows.
const MIN_TABLE_ROWS: u64 = 200_000;
/// A sample is at least so many changed rows: small statements are run several times, each on rows of its own.
const MIN_SAMPLE_ROWS: u64 = 10_000;

/// STATS_AUTO_RECALC is off so that the server has the same plans in each round.
const COLUMNS: &str = "(id INT NOT NULL PRIMARY KEY, code VARCHAR(20) NOT NULL, quantity INT NOT NULL, price DECIMAL(10,2) \
                       NOT NULL, note VARCHAR(60) NOT NULL, changed DATETIME NOT NULL, UNIQUE KEY code (code)) \
                       ENGINE=InnoDB STATS_PERSISTENT=1 STATS_AUTO_RECALC=0";
const SUMS: &str =
    "SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|', id, code, quantity, price, note, changed))) FROM item";

/// A kind of statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// UPDATE of a range of keys.
    UpdateRange,
    /// UPDATE of a list of keys.
    UpdateIn,
    /// DELETE of a range of keys.
    Delete,
    /// INSERT of many rows.
    Insert,
    /// The same with IGNORE; a half of the rows is there already.
    InsertIgnore,
    /// INSERT … ON DUPLICATE KEY UPDATE; a half of the rows is there already.
    Upsert,
    /// REPLACE; a half of the rows is there already.
    Replace,
    /// INSERT … SELECT of new rows.
    InsertSelect,
    /// LOAD DATA LOCAL INFILE of new rows.
    LoadData,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Kind; 9] = [
        Kind::UpdateRange,
        Kind::UpdateIn,
        Kind::Delete,
        Kind::Insert,
        Kind::InsertIgnore,
        Kind::Upsert,
        Kind::Replace,
        Kind::InsertSelect,
        Kind::LoadData,
    ];

    /// Its name on the command line and in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::UpdateRange => "update-range",
            Kind::UpdateIn => "update-in",
            Kind::Delete => "delete",
            Kind::Insert => "insert",
            Kind::InsertIgnore => "insert-ignore",
            Kind::Upsert => "upsert",
            Kind::Replace => "replace",
            Kind::InsertSelect => "insert-select",
            Kind::LoadData => "load-data",
        }
    }

    /// Its name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::UpdateRange => "UPDATE, range",
            Kind::UpdateIn => "UPDATE, IN list",
            Kind::Delete => "DELETE",
            Kind::Insert => "INSERT",
            Kind::InsertIgnore => "INSERT IGNORE",
            Kind::Upsert => "ON DUPLICATE KEY UPDATE",
            Kind::Replace => "REPLACE",
            Kind::InsertSelect => "INSERT … SELECT",
            Kind::LoadData => "LOAD DATA LOCAL",
        }
    }
}

/// A statement, and what it does to the table.
#[derive(Debug)]
pub(crate) struct Statement {
    /// The text.
    pub(crate) sql: String,
    /// The file that a LOAD DATA asks for.
    pub(crate) file: Option<Bytes>,
    /// What the server has to count.
    pub(crate) affected_rows: u64,
    /// Rows that were there before, and may be changed or gone afterwards.
    former_ids: Option<RangeInclusive<u64>>,
}

/// How many transactions make one sample of this many rows.
pub(crate) fn transactions(rows: u64) -> u64 {
    (MIN_SAMPLE_ROWS / rows).max(1)
}

/// The table `item` in a schema of its own, on the first server. `item_before` is what it is like before each sample,
/// `item_new` has rows that are not in it.
#[derive(Debug)]
pub(crate) struct Table {
    /// The schema.
    pub(crate) schema: String,
    rows: u64,
    sums: String,
    /// Refills the table; its work is never measured.
    refill: Conn,
}

impl Table {
    /// Makes the tables, for statements of `max_rows` rows at most.
    pub(crate) async fn create(cluster: &Cluster, max_rows: u64) -> Result<Self> {
        let schema = cluster.schema("bench").await?;
        // Keys of an IN list are every second one
        let rows = MIN_TABLE_ROWS.max(2 * max_rows);
        let mut conn = cluster.direct(Bank::One, &schema).await?;
        sql::create_numbers(&mut conn, 1..rows + 1).await?;
        for (table, first, count) in [("item_before", 1, rows), ("item_new", rows + 1, rows / 2)] {
            sql::run(&mut conn, format!("CREATE TABLE {table} {COLUMNS}")).await?;
            let offset = first - 1;
            let fill = format!(
                "INSERT INTO {table} SELECT n + {offset}, CONCAT('code-', LPAD(n + {offset}, 9, '0')), n % 100, n % 1000 / 8, \
                 CONCAT('what is to be known of item ', n), '2026-01-01 12:00:00' FROM numbers WHERE n <= {count}"
            );
            sql::run(&mut conn, fill).await?;
        }
        sql::run(&mut conn, format!("CREATE TABLE item {COLUMNS}")).await?;
        sql::run(&mut conn, "INSERT INTO item SELECT * FROM item_before").await?;
        let mut admin = cluster.server(Bank::One).connect(atone_tests::server::ADMIN, Some(&schema)).await?;
        sql::run(&mut admin, "ANALYZE TABLE item, item_before, item_new").await?;
        admin.disconnect().await?;
        let sums = sql::cell(&mut conn, SUMS).await?;
        Ok(Self { schema, rows, sums, refill: conn })
    }

    /// The `n`th statement of a sample. Those of one sample change different rows.
    pub(crate) fn statement(&self, kind: Kind, rows: u64, n: u64) -> Result<Statement> {
        let range = |count: u64| n * count + 1..=(n + 1) * count;
        let new = self.rows + n * rows + 1..=self.rows + (n + 1) * rows;
        let duplicates = rows / 2;
        let mixed = || range(duplicates).chain(new.clone().skip(duplicates as usize));
        let (sql, affected_rows, former_ids) = match kind {
            Kind::UpdateRange => {
                let ids = range(rows);
                let sql = format!(
                    "UPDATE item SET quantity = quantity + 1, note = 'changed' WHERE id BETWEEN {} AND {}",
                    ids.start(),
                    ids.end()
                );
                (sql, rows, Some(ids))
            }
            Kind::UpdateIn => {
                let keys: Vec<String> = range(rows).map(|id| (2 * id).to_string()).collect();
                let sql = format!("UPDATE item SET quantity = quantity + 1 WHERE id IN ({})", keys.join(","));
                let ids = range(2 * rows);
                (sql, rows, Some(ids))
            }
            Kind::Delete => {
                let ids = range(rows);
                let sql = format!("DELETE FROM item WHERE id BETWEEN {} AND {}", ids.start(), ids.end());
                (sql, rows, Some(ids))
            }
            Kind::Insert => (format!("INSERT INTO item VALUES {}", values(new)?), rows, None),
            Kind::InsertIgnore => {
                let sql = format!("INSERT IGNORE INTO item VALUES {}", values(mixed())?);
                (sql, rows - duplicates, Some(range(duplicates)))
            }
            Kind::Upsert => {
                let sql = format!(
                    "INSERT INTO item VALUES {} ON DUPLICATE KEY UPDATE quantity = quantity + 1",
                    values(mixed())?
                );
                (sql, rows + duplicates, Some(range(duplicates)))
            }
            Kind::Replace => {
                let sql = format!("REPLACE INTO item VALUES {}", values(mixed())?);
                (sql, rows + duplicates, Some(range(duplicates)))
            }
            Kind::InsertSelect => {
                let (first, last) = (new.start(), new.end());
                let select = format!("SELECT * FROM item_new WHERE id BETWEEN {first} AND {last}");
                (format!("INSERT INTO item {select}"), rows, None)
            }
            Kind::LoadData => {
                let sql = "LOAD DATA LOCAL INFILE 'new rows' INTO TABLE item".to_owned();
                let file = Some(lines(new)?.into());
                return Ok(Statement { sql, file, affected_rows: rows, former_ids: None });
            }
        };
        Ok(Statement { sql, file: None, affected_rows, former_ids })
    }

    /// Makes the table what it was before these statements were committed.
    pub(crate) async fn restore(&mut self, statements: &[Statement]) -> Result<()> {
        let last = self.rows;
        sql::run(&mut self.refill, format!("DELETE FROM item WHERE id > {last}")).await?;
        for ids in statements.iter().filter_map(|statement| statement.former_ids.as_ref()) {
            let between = format!("id BETWEEN {} AND {}", ids.start(), ids.end());
            let delete = format!("DELETE FROM item WHERE {between}");
            let insert = format!("INSERT INTO item SELECT * FROM item_before WHERE {between}");
            sql::run_all(&mut self.refill, &["BEGIN", &delete, &insert, "COMMIT"]).await?;
        }
        Ok(())
    }

    /// Fails where the table is not what it is to be before a sample, or undo rows are left.
    pub(crate) async fn check(&mut self) -> Result<()> {
        let sums = sql::cell(&mut self.refill, SUMS).await?;
        ensure!(sums == self.sums, "the table is not what it was: {sums}, not {}", self.sums);
        let undo_rows = sql::cell(&mut self.refill, "SELECT COUNT(*) FROM undo_log").await?;
        ensure!(undo_rows == "0", "{undo_rows} undo rows are left");
        Ok(())
    }
}

/// Rows as a list of VALUES. They differ from those in the table in a column that is no key.
fn values(ids: impl Iterator<Item = u64>) -> Result<String> {
    let mut text = String::new();
    for id in ids {
        let comma = if text.is_empty() { "" } else { "," };
        let cents = id % 100;
        write!(
            text,
            "{comma}({id},'code-{id:09}',{cents},7.{cents:02},'what is new of item {id}','2026-02-01 12:00:00')"
        )?;
    }
    Ok(text)
}

/// Rows as lines of a file.
fn lines(ids: impl Iterator<Item = u64>) -> Result<String> {
    let mut text = String::new();
    for id in ids {
        let cents = id % 100;
        writeln!(
            text,
            "{id}\tcode-{id:09}\t{cents}\t7.{cents:02}\twhat is new of item {id}\t2026-02-01 12:00:00"
        )?;
    }
    Ok(text)
}
