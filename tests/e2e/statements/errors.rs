//! What a bound session says of a statement that cannot run: the server's own error, in code and text.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use atone_tests::cluster::SOON;
use atone_tests::effects::{Step, e, q};
use atone_tests::server::APP;
use atone_tests::wire::{Login, Session, payload};
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    of_refused_statements,
    of_values,
    of_defaults,
    of_prepared,
    preparing_runs_nothing,
    asking_runs_nothing,
    hinted,
    of_the_first_of_several,
    settings_of_the_server_prepared
);

const SETUP: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20), d DATE, dt DATETIME, ti TIME)",
    "INSERT INTO t VALUES (1, 1, 'one', '2020-01-01', '2020-01-01', '10:00:00'), (2, 2, 'two', '2020-01-02', '2020-01-02', NULL)",
    "CREATE TABLE u (id INT PRIMARY KEY, a INT, d DATE)",
    "INSERT INTO u VALUES (1, 1, '2020-01-01'), (2, 2, '2020-01-02')",
    "CREATE TABLE by_date (d DATE PRIMARY KEY, a INT)",
    "CREATE TABLE by_time (dt DATETIME PRIMARY KEY, a INT)",
    "INSERT INTO by_date VALUES ('2020-01-01', 1)",
    "INSERT INTO by_time VALUES ('2020-01-01', 1)",
    "CREATE TABLE numbered (id INT AUTO_INCREMENT PRIMARY KEY, a INT)",
    "CREATE TABLE nokey (a INT)",
    "CREATE TABLE given (k INT PRIMARY KEY, a INT NOT NULL, b VARCHAR(20))",
    "INSERT INTO given VALUES (1, 1, 'one'), (2, 2, 'two')",
    "CREATE VIEW v AS SELECT id, a, d FROM u",
];

/// Of which the analysis, the table or a read before them says no.
const REFUSED: &[&str] = &[
    "FROBNICATE t",
    "SELEC 1",
    "SELECT nofn(1)",
    "SELECT a, nos.nofn(1) FROM t",
    "UPDATE t SET a = nofn(1)",
    "DELETE FROM t WHERE nofn(a)",
    "INSERT INTO t (id) VALUES (nofn(1))",
    "SELECT COUNT (*) FROM t",
    "DO `no``fn`(1)",
    "SELECT `no fn`.nofn(1)",
    "XA START",
    "SET a b",
    "SET GLOBAL nope = 1",
    "INSERT INTO t VALUES",
    "INSERT INTO u VALUES (1, 2",
    "INSERT INTO u VALUES (1, 2,, 3)",
    "INSERT INTO u (id, a) VALUES (5, 1 1) ON DUPLICATE KEY UPDATE a = 1",
    "REPLACE INTO u (id, a) VALUES (5, (SELECT))",
    "UPDATE t SET",
    "UPDATE t SET a = 1 WHERE a = 1 1",
    "UPDATE t SET a = 1 ORDER BY",
    "UPDATE t SET a = 1 LIMIT 1, 2",
    "UPDATE t SET a = 'unterminated",
    "UPDATE t SET a = 1 /* unterminated",
    "DELETE FROM t WHERE id IN ()",
    "DELETE t FROM t JOIN u ON WHERE u.a = 1",
    "UPDATE t, u SET t.a = 1 WHERE",
    "UPDATE v SET a = 1 WHERE",
    "UPDATE nokey SET nope = 1",
    "DELETE FROM nokey WHERE nope",
    "INSERT INTO nokey VALUES (1, 2)",
    "INSERT INTO nothere SELECT nope FROM t",
    "UPDATE t, nothere SET t.a = 1",
    "UPDATE t, (SELECT 1 1 FROM u) x SET a = 1",
    "SELECT * FROM nothere INTO OUTFILE '/nonexistent/x'",
    // These are read first, or run in other words
    "DELETE FROM t WHERE CAST('x' AS FROG) = 1",
    "UPDATE t SET a = 1 WHERE CAST('x' AS FROG) = 1 -- behind it",
    "UPDATE t SET a = CAST('x' AS FROG)",
    "UPDATE t SET id = CAST('x' AS FROG) WHERE id = 1",
    "UPDATE t JOIN u USING (id) SET t.a = 1 WHERE CAST('x' AS FROG) = 1",
    "UPDATE v SET a = 1 WHERE CAST('x' AS FROG) = 1",
    "DELETE FROM v WHERE CAST('x' AS FROG) = 1 LIMIT 1",
    "INSERT INTO u (id, a) SELECT CAST('x' AS FROG), 1 FROM t",
    "INSERT IGNORE INTO u (id, a) SELECT CAST('x' AS FROG), 1 FROM t",
    "REPLACE INTO u (id, a) SELECT id, 1 FROM t WHERE CAST('x' AS FROG) = 1",
    "INSERT INTO u (id, a) VALUES (CAST('x' AS FROG), 1)",
    "INSERT INTO u (id, a) VALUES (1, 1) ON DUPLICATE KEY UPDATE a = CAST('x' AS FROG)",
];

/// MySQL takes it for the value that would be inserted.
const MARIADB_REFUSED: &[&str] = &["UPDATE t SET a = VALUES(a)"];
/// MariaDB looks for a procedure when it is called, not when that is prepared.
const MYSQL_REFUSED: &[&str] = &["CALL nop()", "CALL nos.nop()"];

/// In which a SELECT says 1525, MySQL's, of a text that is no date.
const VALUES: &[&str] = &[
    "UPDATE t SET a = 9 WHERE d = 'bad'",
    "UPDATE t SET a = 9 WHERE d = '2020-02-30'",
    "UPDATE t SET a = 9 WHERE dt > 'bad'",
    "UPDATE t SET a = 9 WHERE ti = 'bad'",
    "UPDATE t SET a = 9 WHERE d IN ('bad', '2020-01-01')",
    "UPDATE t SET a = 9 WHERE id = 77 AND d = 'bad'",
    "UPDATE t SET a = 9 WHERE d = 'bad' ORDER BY id LIMIT 1",
    "UPDATE t SET id = id + 10 WHERE d = 'bad'",
    "UPDATE t SET a = 9 WHERE id IN (SELECT id FROM u WHERE d = 'bad')",
    "DELETE FROM t WHERE d = 'bad'",
    "DELETE FROM t WHERE dt = 'bad' LIMIT 1",
    "DELETE FROM by_date WHERE d = 'bad'",
    "DELETE FROM by_time WHERE dt = 'bad'",
    "UPDATE t JOIN u USING (id) SET t.a = 9 WHERE u.d = 'bad'",
    "DELETE t, u FROM t JOIN u USING (id) WHERE t.dt = 'bad'",
    "UPDATE v SET a = 9 WHERE d = 'bad'",
    "DELETE FROM v WHERE d = 'bad'",
    "INSERT INTO u (id, a) SELECT id + 10, 1 FROM t WHERE d = 'bad'",
    "INSERT INTO u (id, a) SELECT id + 10, d = 'bad' FROM t",
    "INSERT INTO numbered (a) SELECT 1 FROM t WHERE d = 'bad'",
    "REPLACE INTO u (id, a) SELECT id, 1 FROM t WHERE dt = 'bad'",
    "INSERT INTO u (id, a) SELECT id, 1 FROM t WHERE d = 'bad' ON DUPLICATE KEY UPDATE a = 1",
    "INSERT INTO by_date VALUES ('bad', 1)",
    "INSERT INTO by_date VALUES ('bad', 1) ON DUPLICATE KEY UPDATE a = 2",
    "INSERT INTO by_time VALUES ('2020-01-01', 1), ('bad', 1) ON DUPLICATE KEY UPDATE a = 2",
    "REPLACE INTO by_date VALUES ('2020-01-01', 3), ('2020-02-30', 1)",
    "REPLACE INTO by_time VALUES ('bad', 1)",
    // A sum that is out of range after a text that is no number
    "UPDATE t SET a = 9 WHERE b + 1 > 0 AND a * 9223372036854775807 * 2 > 1",
    "DELETE FROM t WHERE b + 1 > 0 OR a * 9223372036854775807 * 2 > 1",
    "INSERT INTO u (id, a) SELECT id + 10, b + a * 9223372036854775807 * 2 FROM t",
];

/// In which a value cannot be had: of a column without a default, or by a regular expression that is none. Some have
/// another fault that the server may find first.
const NO_VALUES: &[&str] = &[
    "UPDATE given SET k = DEFAULT(k)",
    "UPDATE given SET k = DEFAULT(a)",
    "UPDATE given SET k = 5 WHERE DEFAULT(a) = 1",
    "UPDATE given SET k = DEFAULT(a), nope = 1",
    "UPDATE given SET k = DEFAULT(a), a = nope",
    "UPDATE given SET a = 5 WHERE DEFAULT(a) = 1 AND nope = 1",
    "UPDATE given SET nope = 5 WHERE DEFAULT(a) = 1",
    "UPDATE given SET k = DEFAULT(a), a = 1, a = 2",
    "UPDATE given SET k = 5, k = DEFAULT(k)",
    "UPDATE given SET k = 5, k = DEFAULT(a) WHERE k = 77",
    "UPDATE given SET a = 5, a = DEFAULT(a)",
    "UPDATE given SET k = 5, k = nope",
    "UPDATE given JOIN u ON given.k = u.id SET given.a = 5 WHERE DEFAULT(given.a) = 1",
    "UPDATE given JOIN u ON given.k = u.id SET given.a = 5, given.nope = 1 WHERE DEFAULT(given.a) = 1",
    "UPDATE given JOIN u ON given.k = u.id SET given.a = 5, given.a = DEFAULT(given.a)",
    "DELETE FROM given WHERE DEFAULT(a) = 1",
    "DELETE given FROM given JOIN u ON given.k = u.id WHERE DEFAULT(given.a) = 1",
    "INSERT INTO given (k, a) VALUES (DEFAULT, 1)",
    "INSERT INTO given (k, a) VALUES (DEFAULT(a), 1)",
    "INSERT INTO given (k, k) VALUES (DEFAULT(a), 1)",
    "INSERT INTO given (k, a) VALUES (1, DEFAULT(a)) ON DUPLICATE KEY UPDATE a = 5",
    "INSERT INTO given (k, a) VALUES (1, 5) ON DUPLICATE KEY UPDATE b = 'x', a = DEFAULT(a)",
    "INSERT INTO given (k, a) SELECT DEFAULT(a), 1 FROM u",
    "INSERT INTO given (k, nope) SELECT DEFAULT(given.a), 1 FROM given",
    "REPLACE INTO given (k, a) VALUES (DEFAULT(a), 1)",
    "UPDATE given SET a = 5 WHERE b REGEXP '('",
    "UPDATE given SET nope = 5 WHERE b REGEXP '('",
    "UPDATE given SET k = b REGEXP '(', a = 1, a = 2",
    "UPDATE given SET k = b REGEXP '(', nope = 1",
    "DELETE FROM given WHERE b REGEXP '['",
    "UPDATE given JOIN u ON given.k = u.id SET given.a = 5, given.nope = 1 WHERE b REGEXP '('",
    "INSERT INTO given (k, nope) SELECT id, 1 FROM t WHERE b REGEXP '('",
    "INSERT INTO given (k, a) SELECT id, 1 FROM t WHERE b REGEXP '('",
];

/// Of such values MariaDB says when it prepares a statement.
const NO_KEYS: &[&str] = &[
    "UPDATE given SET k = DEFAULT",
    "UPDATE given SET k = 5, k = DEFAULT",
    "UPDATE given SET k = DEFAULT, k = 5",
    "/* twice */ UPDATE given AS g SET g.k = 5, K = DEFAULT ORDER BY k LIMIT 1",
];

/// MariaDB's, under SIMULTANEOUS_ASSIGNMENT.
const TWICE: &[&str] = &[
    "UPDATE given SET k = 5, k = 6",
    "UPDATE given SET a = 5, a = 6",
    "UPDATE given SET a = 5, a = 6 WHERE k = 77",
    "UPDATE given SET a = 5, a = 6 WHERE DEFAULT(a) = 1",
    "UPDATE given SET k = 5, k = k + 1, a = 7 WHERE k = 1",
    "UPDATE given JOIN u ON given.k = u.id SET given.k = 5, given.k = DEFAULT",
];

/// A bound session, and one straight to the other server with the same rows.
struct Pair {
    bound: Conn,
    plain: Conn,
    xid: String,
    schema: String,
}

impl Pair {
    async fn open(c: &Cluster, name: &str) -> Result<Pair> {
        let schema = c.schema(name).await?;
        for bank in [Bank::One, Bank::Two] {
            sql::run_all(&mut c.direct(bank, &schema).await?, SETUP).await?;
        }
        let mut bound = c.app(Bank::One, &schema).await?;
        let plain = c.direct(Bank::Two, &schema).await?;
        let xid = sql::start_global(&mut bound).await?;
        Ok(Pair { bound, plain, xid, schema })
    }

    async fn both(&mut self, statement: &str) -> Result<()> {
        sql::run(&mut self.bound, statement).await?;
        sql::run(&mut self.plain, statement).await
    }

    /// Runs the step on both sides; nothing where they say the same of it.
    async fn difference(&mut self, step: &Step) -> Result<Option<String>> {
        let (bound, plain) = (step.run(&mut self.bound).await?, step.run(&mut self.plain).await?);
        let mut listed = Vec::new();
        for conn in [&mut self.bound, &mut self.plain] {
            listed.push(sql::rows(conn, "SHOW WARNINGS").await?);
        }
        let same = bound == plain && (bound.error.is_none() || listed[0] == listed[1]);
        Ok((!same).then(|| format!("{}\n  bound {bound:?}\n  plain {plain:?}\n  {listed:?}", step.sql())))
    }

    /// The steps, each alone and in a transaction that has written and stays open; a statement that succeeds is taken
    /// back.
    async fn compare(&mut self, steps: &[Step], must_fail: bool) -> Result<()> {
        let mut wrong = Vec::new();
        for step in steps {
            for in_transaction in [false, true] {
                if in_transaction || !must_fail {
                    self.both("BEGIN").await?;
                    self.both("UPDATE u SET a = 50 WHERE id = 2").await?;
                }
                wrong.extend(self.difference(step).await?);
                if in_transaction || !must_fail {
                    let open = sql::cell(&mut self.bound, "SELECT a FROM u WHERE id = 2").await?;
                    ensure!(open == "50", "{}: the local transaction is not open", step.sql());
                    self.both("ROLLBACK").await?;
                }
            }
        }
        ensure!(wrong.is_empty(), "\n{}", wrong.join("\n"));
        Ok(())
    }

    /// Ends the global transaction; nothing is left of it.
    async fn end(mut self, c: &Cluster) -> Result<()> {
        sql::run(&mut self.bound, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.rest().wait_for_status(&self.xid, "rolled_back", SOON).await?;
        for table in ["t", "u", "by_date", "by_time", "numbered", "nokey", "given"] {
            let query = format!("SELECT * FROM {table}");
            let (one, two) = (
                c.rows(Bank::One, &self.schema, &query).await?,
                c.rows(Bank::Two, &self.schema, &query).await?,
            );
            ensure!(one == two, "{table}: {one:?} {two:?}");
        }
        Ok(())
    }
}

async fn of_refused_statements(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, "errors").await?;
    let mut all = REFUSED.to_vec();
    all.extend(if c.flavor() == Flavor::MariaDb { MARIADB_REFUSED } else { MYSQL_REFUSED });
    let steps: Vec<Step> = all.iter().map(|statement| q(statement)).collect();
    for step in &steps {
        ensure!(step.run(&mut pair.plain).await?.error.is_some(), "{} runs", step.sql());
    }
    pair.compare(&steps, true).await?;
    // Without a schema
    let mut bound = sql::connect(c.proxy_port(Bank::One), atone_tests::server::APP, None).await?;
    let mut plain = sql::connect(c.server(Bank::Two).port(), atone_tests::server::APP, None).await?;
    sql::start_global(&mut bound).await?;
    for statement in ["UPDATE t SET a = 1", "INSERT INTO t VALUES (1)", "DELETE FROM nos.t"] {
        let (one, other) = (q(statement).run(&mut bound).await?, q(statement).run(&mut plain).await?);
        ensure!(one == other && one.error.is_some(), "{statement}\n  bound {one:?}\n  plain {other:?}");
    }
    sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
    pair.end(&c).await
}

async fn of_values(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, "errors_of_values").await?;
    let steps: Vec<Step> = VALUES.iter().map(|statement| q(statement)).collect();
    pair.compare(&steps, false).await?;
    pair.end(&c).await
}

async fn of_defaults(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, "errors_of_defaults").await?;
    let mut statements = NO_VALUES.to_vec();
    let mut modes = vec![""];
    if c.flavor() == Flavor::MariaDb {
        statements.extend(NO_KEYS);
        modes.push(",SIMULTANEOUS_ASSIGNMENT");
    }
    for mode in modes {
        pair.both(&format!("SET sql_mode = CONCAT(@@sql_mode, '{mode}')")).await?;
        if !mode.is_empty() {
            statements.extend(TWICE);
        }
        let steps: Vec<Step> = statements.iter().map(|statement| q(statement)).collect();
        for step in &steps {
            ensure!(step.run(&mut pair.plain).await?.error.is_some(), "{} runs", step.sql());
        }
        pair.compare(&steps, true).await?;
    }
    pair.end(&c).await
}

async fn of_prepared(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, "errors_prepared").await?;
    let steps = [
        e("FROBNICATE t", &[]),
        e("SELECT nofn(?)", &[&1]),
        e("UPDATE t SET a = 1 1 WHERE id = ?", &[&1]),
        e("UPDATE t SET nope = ?", &[&1]),
        q("EXECUTE IMMEDIATE 'FROBNICATE t'"),
        q("EXECUTE IMMEDIATE 'UPDATE t SET a = nofn(1)'"),
        q("EXECUTE IMMEDIATE 'UPDATE t SET a = 1 WHERE CAST(1 AS FROG)'"),
        q("PREPARE p FROM 'UPDATE t SET a = 1 1'"),
    ];
    pair.compare(&steps, true).await?;
    let steps = [
        e("UPDATE t SET a = 9 WHERE d = ?", &[&"bad"]),
        e("DELETE FROM t WHERE dt = ?", &[&"bad"]),
        e("INSERT INTO by_date VALUES (?, 1) ON DUPLICATE KEY UPDATE a = 2", &[&"bad"]),
        e("REPLACE INTO by_time VALUES (?, 1)", &[&"2020-02-30"]),
    ];
    pair.compare(&steps, false).await?;
    pair.end(&c).await
}

/// A syntax error quotes what stands after it in the packet, statements that follow included.
async fn of_the_first_of_several(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, "errors_of_several").await?;
    let mut steps = Vec::new();
    for statement in REFUSED.iter().filter(|statement| !statement.contains("unterminated")) {
        steps.push(q(&format!("{statement}; SELECT 'behind it'")));
        steps.push(q(&format!("SELECT 1; {statement};DELETE FROM t WHERE b = 'it''s;'; SELECT 2")));
    }
    for read in
        ["SELECT 1 FROM", "SELECT a FROM t WHERE", "SELECT CAST(1 AS FROG)", "SELECT 1 1", "SHOW FROGS"]
    {
        steps.push(q(&format!("{read}; DELETE FROM t")));
        steps.push(q(&format!("UPDATE t SET a = 5 WHERE id = 77; {read} ; DELETE FROM t")));
    }
    // Nothing between two of them
    for empty in [
        "; UPDATE t SET a = 5",
        "UPDATE t SET a = 5 WHERE id = 77;;UPDATE t SET b = 'x'",
        "SELECT 1; \n ; SELECT 2",
    ] {
        steps.push(q(empty));
    }
    pair.compare(&steps, true).await?;
    pair.end(&c).await
}

/// MySQL answers the preparing of some that the account may not run with a bare OK.
async fn settings_of_the_server_prepared(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("errors_of_settings").await?;
    let mut sessions = Vec::new();
    for (bank, port) in [(Bank::One, c.proxy_port(Bank::One)), (Bank::Two, c.server(Bank::Two).port())] {
        sql::run_all(&mut c.direct(bank, &schema).await?, SETUP).await?;
        sessions.push(Session::open(&Login::new(port, APP).schema(&schema)).await?);
    }
    let [bound, plain] = sessions.as_mut_slice() else { bail!("two sessions") };
    said(bound, "START GLOBAL TRANSACTION", false).await?;
    for session in [&mut *bound, &mut *plain] {
        said(session, "BEGIN", false).await?;
        said(session, "UPDATE u SET a = 50 WHERE id = 2", false).await?;
    }
    for statement in [
        "SET GLOBAL max_connections = 100",
        "SET PERSIST max_connections = 100",
        "SET PERSIST_ONLY max_connections = 100",
        "SET @@persist.max_connections = 5",
        "SET @@global.sql_mode = ''",
        "SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED",
    ] {
        for (text, prepares) in
            [(statement, true), ("SELECT a, @@max_connections > 100 FROM u WHERE id = 2", false)]
        {
            let (one, two) = (said(bound, text, prepares).await?, said(plain, text, prepares).await?);
            ensure!(
                one == two || c.flavor() == Flavor::MariaDb,
                "{statement}\n  bound {one:?}\n  plain {two:?}"
            );
        }
    }
    said(bound, "ROLLBACK GLOBAL TRANSACTION", false).await?;
    Ok(())
}

/// What the server answers to a text, or to the preparing of it.
async fn said(session: &mut Session, sql: &str, prepares: bool) -> Result<Vec<String>> {
    let command = match prepares {
        true => payload::text(payload::STMT_PREPARE, sql.as_bytes()),
        false => payload::query(session.capabilities, sql.as_bytes(), &[]),
    };
    session.send(&command).await?;
    let packets = session.receive(&command, None).await?;
    Ok(packets.iter().map(|(_, packet)| packet.to_string()).collect())
}

/// A hint binds its statement; what is wrong with that is told by the server all the same.
async fn hinted(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, "errors_hinted").await?;
    let mut hinted = c.app(Bank::One, &pair.schema).await?;
    for (head, tail) in
        [("FROBNICATE", "t"), ("SELECT", "nofn(1)"), ("UPDATE", "t SET a = 1 WHERE CAST(1 AS FROG)")]
    {
        let hint = format!("{head} /*+ XID('{}') */ {tail}", pair.xid);
        let error = sql::refused(&mut hinted, &hint).await?;
        let own = sql::refused(&mut pair.plain, format!("{head} {tail}")).await?;
        ensure!(error.code == own.code && (own.code == 1064 || error == own), "{hint}: {error:?} {own:?}");
    }
    // Words of Atone's own are for Atone to explain
    for statement in ["START GLOBAL TRANSACTION FROBNICATE", "COMMIT GLOBAL nope"] {
        sql::refused(&mut pair.bound, statement).await?.expect_naming(1235, "42000", &pair.xid)?;
    }
    pair.end(&c).await
}

/// Where a function is called in a statement.
const CALLS: &[&str] = &[
    "f()",
    "1 + f()",
    "ROUND(1.234, f())",
    "TRUNCATE(1.234, f())",
    "FORMAT(1.234, f())",
    "REPEAT('x', f())",
    "SPACE(f())",
    "LEFT('abc', f())",
    "RIGHT('abc', f())",
    "SUBSTRING('abc', f(), f())",
    "LPAD('x', f(), 'y')",
    "INSERT('abc', f(), 1, 'x')",
    "ELT(f(), 'a', 'b')",
    "STR_TO_DATE('2020', fs())",
    "DATE_FORMAT('2020-01-01', fs())",
    "TIME_FORMAT('10:00:00', fs())",
    "GET_FORMAT(DATE, fs())",
    "DATE_ADD('2020-01-01', INTERVAL f() DAY)",
    "TIMESTAMP('2020-01-01', fs())",
    "MAKETIME(f(), 1, 1)",
    "ADDTIME('10:00:00', fs())",
    "FROM_UNIXTIME(f(), fs())",
    "'a' LIKE fs()",
    "'a' LIKE 'a' ESCAPE fs()",
    "'a' REGEXP fs()",
    "REGEXP_REPLACE('a', fs(), 'x')",
    "JSON_EXTRACT('{}', fs())",
    "JSON_OBJECT(fs(), f())",
    "1 IN (f(), 2)",
    "f() IN (1, 2, 3)",
    "1 BETWEEN f() AND 3",
    "f() = '2020-01-01'",
    "CURRENT_DATE = fs()",
    "CASE f() WHEN 1 THEN 'a' ELSE 2 END",
    "IF(f(), 1, 'x')",
    "COALESCE(NULL, f())",
    "NULLIF(f(), 1)",
    "GREATEST(f(), '1')",
    "INTERVAL(f(), 1, 2)",
    "FIELD(f(), 1, 2)",
    "CONVERT(fs() USING latin1)",
    "CONV(fs(), 10, f())",
    "WEIGHT_STRING(fs())",
    "AES_ENCRYPT('x', fs())",
    "GET_LOCK(fs(), f())",
    "SLEEP(f())",
    "LAST_INSERT_ID(f())",
    "(SELECT f())",
    "(SELECT f() FROM t LIMIT 1)",
    "EXISTS (SELECT f())",
    "1 IN (SELECT f())",
    "(1, 1) = (SELECT f(), 1)",
    "1 > ALL (SELECT f() UNION SELECT 2)",
    "(SELECT x FROM (SELECT f() AS x) d)",
    "(SELECT COUNT(*) FROM t WHERE id = f())",
    "(@called := f())",
];

/// The statements that they stand in.
const AROUND: &[&str] = &[
    "SELECT #",
    "DO #",
    "SELECT a FROM t WHERE #",
    "SELECT a FROM t WHERE id = 1 AND b = #",
    "SELECT a FROM t GROUP BY # HAVING # ORDER BY #",
    "SELECT * FROM (SELECT # AS x FROM t) d WHERE x = 1",
    "SELECT * FROM (SELECT # AS x UNION SELECT 2) d",
    "WITH c AS (SELECT # AS x) SELECT * FROM c",
    "EXPLAIN SELECT * FROM (SELECT # AS x) d",
    "SELECT # INTO OUTFILE '/tmp/atone-errors-never'",
    "SELECT # INTO @called",
    "UPDATE t SET a = #",
    "UPDATE t SET a = 5 WHERE b = # ORDER BY # LIMIT 1",
    "UPDATE t JOIN (SELECT # AS x) d SET a = x",
    "DELETE FROM t WHERE id = #",
    "INSERT INTO t (id, b) VALUES (9, #)",
    "INSERT INTO t (id, b) SELECT 9, #",
    "INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE b = #",
    "REPLACE INTO t (id, b) VALUES (1, #)",
    "SET GLOBAL max_connections = #",
    "CALL p(#)",
    "CREATE TABLE z AS SELECT # AS x",
    "CREATE TABLE z (a VARCHAR(20) DEFAULT (#))",
    "CREATE VIEW z AS SELECT # AS x",
    "ALTER TABLE t PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (#))",
];

/// Of statements that are no expression: each is known to the server, and commits, writes or acts when it runs.
const ACTS: &[&str] = &[
    "TRUNCATE TABLE t",
    "DROP TABLE t",
    "CREATE TABLE z (id INT)",
    "CREATE TABLE z SELECT * FROM t",
    "ALTER TABLE t ADD z INT",
    "CREATE INDEX i ON t (a)",
    "RENAME TABLE t TO z",
    "CREATE DATABASE errors_never",
    "CREATE USER never",
    "GRANT SELECT ON t TO never",
    "FLUSH TABLES",
    "ANALYZE TABLE t",
    "OPTIMIZE TABLE t",
    "CHECK TABLE t",
    "REPAIR TABLE marks",
    "LOCK TABLES t WRITE",
    "HANDLER t OPEN",
    "XA START 'x'",
    "CALL p(1)",
    "LOAD DATA INFILE '/etc/hostname' INTO TABLE t",
    "SELECT * FROM t INTO OUTFILE '/tmp/atone-errors-never'",
    "SELECT 1 INTO DUMPFILE '/tmp/atone-errors-never'",
    "UNLOCK TABLES",
    "RESET PERSIST",
    "SET GLOBAL max_connections = 77",
    "SET GLOBAL max_connections = 77, sql_mode = 'ANSI'",
    "INSERT INTO nokey VALUES (1)",
    "UPDATE marks SET a = 2",
];
const MARIADB_ACTS: &[&str] = &[
    "SELECT NEXTVAL(s)",
    "SELECT SETVAL(s, 100)",
    "SELECT NEXT VALUE FOR s",
    "UPDATE t SET a = NEXTVAL(s)",
    "ANALYZE DELETE FROM t",
    "ANALYZE SELECT f() FROM t",
    "BEGIN NOT ATOMIC DELETE FROM t",
    "SET STATEMENT max_statement_time = 1 FOR SELECT f()",
];

async fn asking_runs_nothing(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("errors_asked").await?;
    let admin = atone_tests::server::ADMIN;
    let mut direct = c.server(Bank::One).connect(admin, Some(&schema)).await?;
    sql::run_all(&mut direct, SETUP).await?;
    // What a function adds here stays, whatever becomes of the statement
    let body = "BEGIN INSERT INTO marks VALUES (1); SET @called = 1; RETURN 1; END";
    let mut more = vec![
        "CREATE TABLE marks (a INT) ENGINE = MyISAM".to_owned(),
        "CREATE PROCEDURE p(x VARCHAR(20)) INSERT INTO marks VALUES (2)".to_owned(),
        format!("CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA {body}"),
        format!("CREATE FUNCTION fs() RETURNS VARCHAR(9) DETERMINISTIC MODIFIES SQL DATA {body}"),
    ];
    let mut acts = ACTS.to_vec();
    if c.flavor() == Flavor::MariaDb {
        more.push("CREATE SEQUENCE s".to_owned());
        acts.extend(MARIADB_ACTS);
    }
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    sql::run_all(&mut direct, &more).await?;
    let mut bound = sql::connect(c.proxy_port(Bank::One), admin, Some(&schema)).await?;
    let xid = sql::start_global(&mut bound).await?;
    let mut statements: Vec<String> =
        AROUND.iter().flat_map(|around| CALLS.iter().map(|call| around.replace('#', call))).collect();
    statements.extend(acts.iter().map(|act| (*act).to_owned()));
    sql::run_all(&mut bound, &["SET @called = NULL", "BEGIN", "UPDATE u SET a = 50 WHERE id = 2"]).await?;
    let mut refused = 0;
    for statement in &statements {
        let error = sql::refused(&mut bound, statement).await?;
        // What does not fit where it stands is for the server to say
        refused += usize::from(error.code == 1235 && error.message.starts_with("atone:"));
        let seen = "SELECT COUNT(*), @called, IFNULL(LAST_INSERT_ID(), 0), (SELECT a FROM u WHERE id = 2), CONNECTION_ID() > 0 FROM marks";
        let marks = sql::cell(&mut bound, seen).await?;
        ensure!(marks == "0|NULL|0|50|1", "{statement} ran: {marks}");
    }
    ensure!(refused * 2 > statements.len(), "only {refused} of {} were understood", statements.len());
    ensure!(!std::path::Path::new("/tmp/atone-errors-never").exists(), "a file was written");
    if c.flavor() == Flavor::MariaDb {
        ensure!(sql::cell(&mut direct, "SELECT NEXTVAL(s)").await? == "1", "the sequence has moved");
    }
    ensure!(sql::cell(&mut direct, "SELECT IFNULL(IS_USED_LOCK('x'), 'free')").await? == "free");
    ensure!(sql::cell(&mut direct, "SELECT @@global.max_connections = 77").await? == "0");
    // Nobody has to wait for a table that was only asked about
    sql::run(&mut direct, "SET lock_wait_timeout = 1").await?;
    sql::run(&mut direct, "ALTER TABLE t ADD z INT").await?;
    sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    let now = c.rows(Bank::One, &schema, "SELECT id, a FROM t UNION ALL SELECT id, a FROM u").await?;
    ensure!(now == ["1|1", "2|2", "1|1", "2|2"], "{now:?}");
    Ok(())
}

/// MariaDB calls some functions when it prepares: a bound session may not even do that.
async fn preparing_runs_nothing(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("errors_preparing").await?;
    let admin = atone_tests::server::ADMIN;
    let mut direct = c.server(Bank::One).connect(admin, Some(&schema)).await?;
    sql::run_all(&mut direct, SETUP).await?;
    let function = "CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE u SET a = a + 1; RETURN 1; END";
    sql::run_all(&mut direct, &[function, "CREATE VIEW calls AS SELECT ROUND(1.25, f()) AS x FROM t"])
        .await?;
    let before = sql::rows(&mut direct, "SELECT * FROM u").await?;
    let mut bound = sql::connect(c.proxy_port(Bank::One), admin, Some(&schema)).await?;
    let xid = sql::start_global(&mut bound).await?;
    for statement in [
        "SELECT * FROM calls",
        "SELECT x FROM (SELECT * FROM calls) d",
        "UPDATE t SET a = (SELECT MAX(x) FROM calls)",
        "DELETE FROM t WHERE id IN (SELECT x FROM calls)",
        "INSERT INTO u (id) SELECT x FROM calls",
        "UPDATE calls SET x = 1",
        "DELETE FROM calls",
        "SHOW CREATE VIEW calls",
        "SHOW CREATE TABLE calls",
        "SHOW COLUMNS FROM calls",
        "DESCRIBE calls",
        "SELECT ROUND(1.25, f())",
        "UPDATE t SET a = ROUND(1.25, f())",
        "CREATE TABLE z AS SELECT ROUND(1.25, f()) AS x",
        "FROBNICATE f(1)",
    ] {
        let prepared = bound.prep(statement).await;
        ensure!(
            sql::rows(&mut direct, "SELECT * FROM u").await? == before,
            "{statement} wrote when it was prepared"
        );
        if c.flavor() == Flavor::MariaDb {
            sql::server_error(prepared, statement)?.expect_naming(1235, "42000", &xid)?;
        }
        for how in
            [format!("PREPARE p FROM '{statement}'"), format!("EXPLAIN {statement}"), statement.to_owned()]
        {
            let run = q(&how).run(&mut bound).await?;
            ensure!(c.flavor() != Flavor::MariaDb || run.error.is_some(), "{how} ran");
            ensure!(sql::rows(&mut direct, "SELECT * FROM u").await? == before, "{how} wrote");
        }
    }
    // All else can be prepared as ever
    bound.prep("UPDATE t SET a = ROUND(1.25, ?)").await?;
    bound.prep("SELECT id FROM v").await?;
    let missing = sql::server_error(bound.prep("SELECT nofn(1)").await, "nofn")?;
    ensure!(missing == sql::server_error(direct.prep("SELECT nofn(1)").await, "nofn")?, "{missing:?}");
    sql::run(&mut bound, "ROLLBACK GLOBAL TRANSACTION").await
}
