//! Settings of the session that the statements of Atone's own must not fall under, and must not lose.

use std::sync::Arc;

use anyhow::Result;
use atone_tests::{Bank, Cluster, Flavor, sql};

use super::{T, T_ROWS, on_tables};

atone_tests::shared_tests!(sql_select_limit, sql_safe_updates, statement_time_limits, profiling);

async fn sql_select_limit(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SET sql_select_limit = 1",
            "UPDATE t SET a = 1 WHERE id > 2",
            "DELETE FROM t WHERE a = 1 AND id > 4",
            "INSERT INTO n (a) SELECT id FROM t",
            "SELECT id FROM t",
            "BEGIN",
            "UPDATE t SET b = 'x'",
            "COMMIT",
            "SELECT @@sql_select_limit",
            "SET sql_select_limit = 0",
            "UPDATE t SET b = 'y'",
            "SELECT id FROM t",
            "SET sql_mode = ''",
            "UPDATE t SET b = 'z' WHERE id = 2",
            "SET sql_select_limit = DEFAULT",
        ],
    )
    .await
}

async fn sql_safe_updates(c: Arc<Cluster>) -> Result<()> {
    on_tables(
        &c,
        &[
            "SET sql_safe_updates = 1",
            "UPDATE t SET b = 'x' WHERE id = 5",
            "DELETE FROM t WHERE id = 77",
            // The server finds these unsafe
            "UPDATE t SET b = 'x'",
            "DELETE FROM t WHERE a = 20",
            "BEGIN",
            "UPDATE t SET b = 'v' WHERE id = 5",
            "DELETE FROM t WHERE id = 4",
            "INSERT INTO n (a) VALUES (1)",
            "COMMIT",
            "SELECT @@sql_safe_updates",
            "SET sql_safe_updates = 0",
            "UPDATE t SET b = 'q'",
        ],
    )
    .await?;
    // Restricted to keys these would be safe: refused, whatever the server would say
    let schema = c.schema("safe").await?;
    let setup = [T, T_ROWS, "CREATE VIEW v AS SELECT * FROM t"];
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &setup).await?;
    let mut app = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut app).await?;
    sql::run(&mut app, "SET sql_safe_updates = 1").await?;
    for statement in ["UPDATE t AS x JOIN t AS y ON x.id = y.id SET x.b = 'x'", "UPDATE v SET b = 'x'"] {
        sql::refused(&mut app, statement).await?.expect(1235, "42000")?;
    }
    sql::run(&mut app, "ROLLBACK GLOBAL TRANSACTION").await
}

async fn statement_time_limits(c: Arc<Cluster>) -> Result<()> {
    // Far away: none of the statements may end by it, and the setting stays
    let (set, ask) = match c.flavor() {
        Flavor::MariaDb => ("SET max_statement_time = 30", "SELECT @@max_statement_time"),
        Flavor::MySql => ("SET max_execution_time = 30000", "SELECT @@max_execution_time"),
    };
    on_tables(
        &c,
        &[
            set,
            "UPDATE t SET a = 1 WHERE id > 2",
            ask,
            "BEGIN",
            "DELETE FROM t WHERE c > 4",
            "INSERT INTO n (a) SELECT id FROM t",
            "COMMIT",
            ask,
        ],
    )
    .await
}

async fn profiling(c: Arc<Cluster>) -> Result<()> {
    // The durations differ, and the injected statements are there: what must be the same is that the session has
    // profiling, and what its statements say
    on_tables(
        &c,
        &[
            "SET profiling = 1",
            "UPDATE t SET a = 1 WHERE id > 2",
            "SELECT ROW_COUNT()",
            "SELECT @@profiling",
            "SET profiling = 0",
            "UPDATE t SET a = 2 WHERE id > 2",
            "SELECT @@profiling",
        ],
    )
    .await
}
