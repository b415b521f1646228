//! LOAD DATA LOCAL in a bound session: does what it does straight, and a rollback restores the former rows.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use atone_tests::cluster::SOON;
use atone_tests::{Bank, Cluster, sql};
use futures::StreamExt as _;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(loaded, in_a_local_transaction, refused);

const T: &str = "CREATE TABLE t (id INT PRIMARY KEY, mail VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL, n DECIMAL(9,2) DEFAULT 7, \
                 UNIQUE KEY (mail))";
const A: &str = "CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))";
const ROWS: &str = "INSERT INTO t VALUES (1, 'ann', 1), (2, 'bob', 2), (3, 'Zoë', NULL)";
const A_ROWS: &str = "INSERT INTO a VALUES (5, 'five')";
const DUMPS: [&str; 2] = ["SELECT id, HEX(mail), n FROM t ORDER BY id", "SELECT * FROM a ORDER BY id"];

/// Rows, generated number, warnings and info of an OK.
type Counts = (u64, Option<u64>, u16, String);

/// What a client sees of a LOAD DATA.
#[derive(Debug, PartialEq)]
struct Seen {
    result: Result<Counts, (u16, String)>,
    warnings: Vec<String>,
}

async fn load(conn: &mut Conn, schema: &str, statement: &str, file: &'static str) -> Result<Seen> {
    conn.set_infile_handler(async move {
        let pieces = file.as_bytes().chunks(7).map(|piece| Ok(piece.into()));
        Ok(futures::stream::iter(pieces).boxed())
    });
    let result = match conn.query_drop(statement).await {
        Ok(()) => {
            Ok((conn.affected_rows(), conn.last_insert_id(), conn.get_warnings(), conn.info().into_owned()))
        }
        Err(mysql_async::Error::Server(e)) => Err((e.code, e.message.replace(schema, "schema"))),
        Err(other) => return Err(other).context(statement.to_owned()),
    };
    let warnings = sql::rows(conn, "SHOW WARNINGS").await?;
    Ok(Seen { result, warnings: warnings.into_iter().map(|text| text.replace(schema, "schema")).collect() })
}

async fn dumps(c: &Cluster, schema: &str) -> Result<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for dump in DUMPS {
        all.push(c.rows(Bank::One, schema, dump).await?);
    }
    Ok(all)
}

async fn fresh(c: &Cluster) -> Result<String> {
    let schema = c.schema("load_data").await?;
    sql::run_all(&mut c.direct(Bank::One, &schema).await?, &[T, A, ROWS, A_ROWS]).await?;
    Ok(schema)
}

/// The statement straight; bound and committed; bound and rolled back.
async fn check(c: &Cluster, statement: &str, file: &'static str) -> Result<()> {
    let what = || format!("{statement} of {file:?}");
    let plain = fresh(c).await?;
    let straight = load(&mut c.direct(Bank::One, &plain).await?, &plain, statement, file).await?;
    for commit in [true, false] {
        let schema = fresh(c).await?;
        let before = dumps(c, &schema).await?;
        let mut conn = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut conn).await?;
        let bound = load(&mut conn, &schema, statement, file).await.with_context(what)?;
        assert_eq!(bound, straight, "{}", what());
        assert_eq!(dumps(c, &schema).await?, dumps(c, &plain).await?, "{}", what());
        if commit {
            sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
            assert_eq!(dumps(c, &schema).await?, dumps(c, &plain).await?, "{}", what());
        } else {
            sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
            c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
            assert_eq!(dumps(c, &schema).await?, before, "{}", what());
        }
    }
    Ok(())
}

async fn loaded(c: Arc<Cluster>) -> Result<()> {
    let csv = "FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' LINES TERMINATED BY '\\r\\n'";
    for (options, file) in [
        ("INTO TABLE t", "10\tnew\t1.5\n11\tné\\tw\t\\N\n"),
        ("INTO TABLE t CHARACTER SET utf8mb4", "10\t😀\t1\n11\tx\\\\y\t2"),
        // Rows that are there already, by either key
        ("INTO TABLE t", "1\tother\t9\n10\tBOB\t9\n12\tcy\t9\n"),
        ("IGNORE INTO TABLE t", "1\tother\t9\n12\tcy\t9\n12\tagain\t9\n"),
        ("REPLACE INTO TABLE t", "1\tother\t9\n12\tcy\t9\n"),
        ("REPLACE INTO TABLE t", "1\tbob\t9\n"),
        // Values that are bent
        ("INTO TABLE t", "10\tlonger than twenty characters\tx\n"),
        ("INTO TABLE t (mail, id)", "ten\t10\neleven\t11\n"),
        ("INTO TABLE a (v)", "x\ny\nz\n"),
        ("INTO TABLE t", ""),
        ("INTO TABLE nowhere", "1\n"),
        ("INTO TABLE t IGNORE 1 LINES (id, mail)", "id\tmail\n10\tx\n"),
    ] {
        check(&c, &format!("LOAD DATA LOCAL INFILE 'file' {options}"), file).await?;
    }
    check(
        &c,
        &format!("LOAD DATA LOCAL INFILE 'f' INTO TABLE t {csv}"),
        "10,\"a,\"\"b\",1\r\n11,\"NULL\",NULL\r\n",
    )
    .await?;
    check(
        &c,
        &format!("LOAD DATA LOW_PRIORITY LOCAL INFILE 'f' INTO TABLE t {csv} IGNORE 1 ROWS"),
        "a,b,c\r\n10,\"x\r\ny\",1",
    )
    .await
}

async fn in_a_local_transaction(c: Arc<Cluster>) -> Result<()> {
    let schema = fresh(&c).await?;
    let before = dumps(&c, &schema).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["BEGIN", "DELETE FROM t WHERE id = 1", "SAVEPOINT s"]).await?;
    let statement = "LOAD DATA LOCAL INFILE 'f' INTO TABLE t";
    assert_eq!(
        load(&mut conn, &schema, statement, "1\tann\t5\n20\tx\t5\n").await?.result.map(|r| r.0),
        Ok(2)
    );
    sql::run(&mut conn, "ROLLBACK TO s").await?;
    assert_eq!(
        load(&mut conn, &schema, statement, "2\tbob\t5\n21\ty\t5\n").await?.result.map(|r| r.0),
        Ok(1)
    );
    sql::run_all(&mut conn, &["UPDATE t SET n = n + 1", "COMMIT"]).await?;
    let now = c.rows(Bank::One, &schema, "SELECT id, mail, n FROM t ORDER BY id").await?;
    assert_eq!(now, ["2|bob|3.00", "3|Zoë|NULL", "21|y|6.00"]);
    sql::run(&mut conn, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(dumps(&c, &schema).await?, before);
    Ok(())
}

/// Files whose rows cannot be told, and statements that hide them: the table stays as it is, and the session goes on.
async fn refused(c: Arc<Cluster>) -> Result<()> {
    let schema = fresh(&c).await?;
    let before = dumps(&c, &schema).await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    sql::start_global(&mut conn).await?;
    for (options, file) in [
        ("INTO TABLE t", "10\tfew\n"),
        ("INTO TABLE t", "10\tmany\t1\t2\n"),
        ("INTO TABLE t FIELDS ENCLOSED BY '\"'", "\"10\topen\n"),
        ("INTO TABLE t (id, @a)", "10\tx\n"),
        ("INTO TABLE t SET n = 5", "10\tx\t1\n"),
        ("INTO TABLE t CHARACTER SET gbk", "10\tx\t1\n"),
        ("INTO TABLE t FIELDS TERMINATED BY '' ENCLOSED BY ''", "10\tx\t1\n"),
        ("REPLACE INTO TABLE t", "10\tx\t1\n10\ty\t1\n"),
        ("INTO TABLE a", "\\N\tx\n7\ty\n"),
    ] {
        let seen =
            load(&mut conn, &schema, &format!("LOAD DATA LOCAL INFILE 'file' {options}"), file).await?;
        assert_eq!(seen.result.as_ref().map_err(|e| e.0), Err(1235), "{options} {file:?}: {seen:?}");
    }
    sql::refused(&mut conn, "LOAD DATA INFILE '/etc/hostname' INTO TABLE a (v)")
        .await?
        .expect(1235, "42000")?;
    sql::run(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(dumps(&c, &schema).await?, before);
    Ok(())
}
