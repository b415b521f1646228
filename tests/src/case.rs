//! Statements run three ways: bound through the proxy against plain on another server (same effects, same rows), and
//! the rows after a global rollback against those before.

use anyhow::{Context as _, Result, ensure};
use mysql_async::Conn;

use crate::cluster::SOON;
use crate::effects::Step;
use crate::{Bank, Cluster, sql};

/// A named list of statements.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// Shown on failure.
    pub name: &'a str,
    /// What is there before.
    pub setup: &'a [&'a str],
    /// The tables that the statements write, or queries that show them to the bit.
    pub tables: &'a [&'a str],
    /// The statements.
    pub steps: Vec<Step>,
}

/// A case of statements in the text protocol.
pub async fn check_queries(c: &Cluster, setup: &[&str], tables: &[&str], statements: &[&str]) -> Result<()> {
    let name = statements.join("; ");
    let steps = statements.iter().map(|s| crate::effects::q(s)).collect();
    check(c, Case { name: &name, setup, tables, steps }).await
}

/// Runs the case: once ended by a rollback and compared with the plain server, once more ended by a commit.
pub async fn check(c: &Cluster, case: Case<'_>) -> Result<()> {
    check_inner(c, &case).await.with_context(|| format!("case `{}`", case.name))
}

async fn table_rows(looker: &mut Conn, tables: &[&str]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for table in tables {
        all.push(format!("-- {table}"));
        // A whole query where `SELECT *` would not show every bit.
        let query =
            if table.starts_with("SELECT ") { (*table).to_owned() } else { format!("SELECT * FROM {table}") };
        all.extend(sql::rows(looker, query).await?);
    }
    Ok(all)
}

async fn check_inner(c: &Cluster, case: &Case<'_>) -> Result<()> {
    let schema = c.schema("case").await?;
    for bank in [Bank::One, Bank::Two] {
        sql::run_all(&mut c.direct(bank, &schema).await?, case.setup).await?;
    }
    let mut lookers = [c.direct(Bank::One, &schema).await?, c.direct(Bank::Two, &schema).await?];
    for looker in &mut lookers {
        // Each of its reads is to see what is there, whatever the servers' globals are
        sql::run(looker, "SET autocommit = 1").await?;
    }
    let [at_one, at_two] = &mut lookers;
    let before = table_rows(at_one, case.tables).await?;
    let mut bound = c.app(Bank::One, &schema).await?;
    let mut plain = c.direct(Bank::Two, &schema).await?;

    let xid = sql::start_global(&mut bound).await?;
    for step in &case.steps {
        let (one, other) = (step.run(&mut bound).await?, step.run(&mut plain).await?);
        ensure!(one == other, "{}\nbound:    {one:?}\nstraight: {other:?}", step.sql());
    }
    let one = table_rows(at_one, case.tables).await?;
    let other = table_rows(at_two, case.tables).await?;
    ensure!(one == other, "the rows differ\nbound:    {one:?}\nstraight: {other:?}");
    end(c, &mut bound, &schema, &xid, "ROLLBACK", "rolled_back").await?;
    let after = table_rows(at_one, case.tables).await?;
    ensure!(after == before, "after the rollback\nexpected: {before:?}\nfound:    {after:?}");

    // Again, from the same rows (but generated keys go on), and committed.
    let xid = sql::start_global(&mut bound).await?;
    for step in &case.steps {
        step.run(&mut bound).await?;
    }
    let changed = table_rows(at_one, case.tables).await?;
    end(c, &mut bound, &schema, &xid, "COMMIT", "committed").await?;
    let after = table_rows(at_one, case.tables).await?;
    ensure!(after == changed, "after the commit\nexpected: {changed:?}\nfound:    {after:?}");
    for conn in lookers.into_iter().chain([bound, plain]) {
        conn.disconnect().await?;
    }
    c.drop_schema(&schema).await
}

async fn end(c: &Cluster, conn: &mut Conn, schema: &str, xid: &str, end: &str, status: &str) -> Result<()> {
    sql::run(conn, format!("{end} GLOBAL TRANSACTION")).await?;
    c.rest().wait_for_status(xid, status, SOON).await?;
    c.wait_for_purge(Bank::One, schema).await?;
    let locks = c.rest().locks(xid).await?;
    ensure!(locks.is_empty(), "locks are left after the end: {locks:?}");
    Ok(())
}
