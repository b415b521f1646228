//! Branches over many tables: what a rollback sends to the server beside the rows themselves does not grow with the
//! tables.

use anyhow::{Result, ensure};
use atone_tests::run::Harmable;
use atone_tests::server::SERVICE;
use atone_tests::{Bank, Cluster, ClusterOptions, sql};
use mysql_async::Conn;

atone_tests::owned_tests!(ClusterOptions::default() => metadata_of_all_tables_is_read_at_once);

/// A branch that has changed one row of each of so many tables, each a parent and a child of others.
async fn rolled_back(c: &Cluster, admin: &mut Conn, tables: usize) -> Result<Vec<String>> {
    let schema = c.schema("many").await?;
    let mut direct = c.direct(Bank::One, &schema).await?;
    for n in 0..tables {
        let parent =
            if n == 0 { String::new() } else { format!(", FOREIGN KEY (p) REFERENCES t{} (id)", n - 1) };
        sql::run(&mut direct, format!("CREATE TABLE t{n} (id INT PRIMARY KEY, p INT, v INT UNIQUE{parent})"))
            .await?;
        sql::run(&mut direct, format!("INSERT INTO t{n} VALUES (1, 1, 1), (2, NULL, 2)")).await?;
    }
    let sum = |table: usize| format!("SELECT id, p, v FROM t{table} ORDER BY id");
    let mut app = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut app).await?;
    sql::run(&mut app, "BEGIN").await?;
    for n in 0..tables {
        sql::run(&mut app, format!("UPDATE t{n} SET p = 2, v = 3 WHERE id = 1")).await?;
    }
    sql::run(&mut app, "COMMIT").await?;
    sql::run(admin, "TRUNCATE TABLE mysql.general_log").await?;
    sql::run(admin, "SET GLOBAL general_log = 1").await?;
    c.roll_back_global(&mut app, &xid).await?;
    sql::run(admin, "SET GLOBAL general_log = 0").await?;
    for n in 0..tables {
        assert_eq!(c.rows(Bank::One, &schema, &sum(n)).await?, ["1|1|1", "2|NULL|2"], "t{n}");
    }
    let sent = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
                WHERE command_type IN ('Query', 'Prepare', 'Execute') AND user_host LIKE";
    let sent = sql::rows(admin, format!("{sent} '{}[%'", SERVICE.0)).await?;
    // Without what makes a connection that happens to be opened meanwhile
    Ok(sent.into_iter().filter(|text| text.contains(&schema)).collect())
}

/// Counted in the server's own log. What is sent for each table is what holds, reads, changes and reads again its row.
async fn metadata_of_all_tables_is_read_at_once(c: Harmable) -> Result<()> {
    const FEW: usize = 10;
    const MANY: usize = 60;
    let c = &*c.lock().await;
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run(&mut admin, "SET GLOBAL log_output = 'TABLE'").await?;
    let of_metadata = |sent: &[String]| {
        sent.iter().filter(|text| text.contains("information_schema.")).cloned().collect::<Vec<_>>()
    };
    let few = rolled_back(c, &mut admin, FEW).await?;
    let many = rolled_back(c, &mut admin, MANY).await?;
    eprintln!("{} statements for {FEW} tables, {} for {MANY}", few.len(), many.len());
    let (few_reads, many_reads) = (of_metadata(&few), of_metadata(&many));
    ensure!(!few_reads.is_empty(), "the log holds nothing: {few:?}");
    ensure!(few_reads.len() == many_reads.len(), "{FEW} tables: {few_reads:#?}\n{MANY}: {many_reads:#?}");
    // SHOW CREATE TABLE, what holds, reads, changes and reads again, and a look for the parent of a row that is back
    let per_table = (many.len() - few.len()).div_ceil(MANY - FEW);
    ensure!(per_table <= 6, "{per_table} statements a table: {many:#?}");
    Ok(())
}
