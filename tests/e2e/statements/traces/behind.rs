//! The diagnostics of a statement, packet by packet: in both protocols, after one that a hint has bound, after
//! statements that leave the list of warnings alone, and the status flags after statements that fail.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::server::APP;
use atone_tests::wire::payload::{self, Execute, STMT_PREPARE};
use atone_tests::wire::{Decoded, Login, Session, caps};
use atone_tests::{Bank, Cluster, Flavor, sql};

use super::{N, T, T_ROWS};

atone_tests::shared_tests!(
    behind_a_hint,
    behind_a_hint_by_prepared_statements,
    behind_a_hint_in_one_packet,
    get_diagnostics_of_a_committed_statement,
    sql_states,
    a_list_that_is_left_alone,
    a_list_that_is_left_alone_behind_a_hint,
    commands_between,
    types_of_the_numbers,
    transactions_that_a_failed_statement_begins,
    behind_a_refusal,
);

/// How a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Text,
    Prepared,
    /// In text, bound by a hint where it goes through the proxy.
    Hinted,
    HintedPrepared,
}

type Step = (Sent, String);

fn text(sql: &str) -> Step {
    (Sent::Text, sql.to_owned())
}

fn prepared(sql: &str) -> Step {
    (Sent::Prepared, sql.to_owned())
}

fn hinted(sql: &str) -> Step {
    (Sent::Hinted, sql.to_owned())
}

/// A bound session, or one that hints bind, and one straight to the other server.
struct Pair {
    bound: Session,
    plain: Session,
    xid: String,
}

impl Pair {
    async fn open(c: &Cluster, binds: bool) -> Result<Pair> {
        let schema = c.schema("behind").await?;
        for bank in [Bank::One, Bank::Two] {
            sql::run_all(&mut c.direct(bank, &schema).await?, &[T, T_ROWS, N]).await?;
        }
        let xid = c.rest().begin(serde_json::json!({})).await?;
        let login = |port| {
            let mut login = Login::new(port, APP).schema(&schema);
            // Atone gives definitions once more that MariaDB leaves out
            login.capabilities &= !caps::MARIADB_CACHE_METADATA;
            login
        };
        let mut bound = Session::open(&login(c.proxy_port(Bank::One))).await?;
        let plain = Session::open(&login(c.server(Bank::Two).port())).await?;
        if binds {
            answer(&mut bound, Sent::Text, &format!("SET @atone_xid = '{xid}'")).await?;
        }
        Ok(Pair { bound, plain, xid })
    }

    /// Each step is answered alike, packet by packet.
    async fn same(&mut self, steps: &[Step]) -> Result<()> {
        for (sent, sql) in steps {
            let hint = match sent {
                Sent::Text | Sent::Prepared => String::new(),
                Sent::Hinted | Sent::HintedPrepared => format!(" /* xid='{}' */", self.xid),
            };
            let a = answer(&mut self.bound, *sent, &format!("{sql}{hint}")).await?;
            let b = answer(&mut self.plain, *sent, sql).await?;
            ensure!(a == b, "{sent:?} {sql}\nbound:    {a:#?}\nstraight: {b:#?}");
        }
        Ok(())
    }

    async fn end(self, c: &Cluster) -> Result<()> {
        c.rest().rollback(&self.xid).await?;
        Ok(())
    }
}

/// The packets of a reply, a line each.
async fn answer(s: &mut Session, sent: Sent, sql: &str) -> Result<Vec<String>> {
    if matches!(sent, Sent::Text | Sent::Hinted) {
        return Ok(lines(exchange(s, payload::query(s.capabilities, sql.as_bytes(), &[])).await?));
    }
    let mut prepared = exchange(s, payload::text(STMT_PREPARE, sql.as_bytes())).await?;
    if prepared.first().is_none_or(|first| first.kind == "ERR") {
        return Ok(lines(prepared));
    }
    for packet in &mut prepared {
        packet.fields.retain(|(name, _)| name != "statement");
    }
    let execute = Execute { id: s.last_prepared, ..Execute::default() };
    let executed = exchange(s, execute.payload(s.capabilities)).await?;
    Ok(lines(prepared.into_iter().chain(executed).collect()))
}

async fn exchange(s: &mut Session, command: Vec<u8>) -> Result<Vec<Decoded>> {
    s.send(&command).await?;
    Ok(s.receive(&command, None).await?.into_iter().map(|(_, packet)| packet).collect())
}

fn lines(packets: Vec<Decoded>) -> Vec<String> {
    packets.iter().map(Decoded::to_string).collect()
}

/// `COM_SET_OPTION`
const SET_OPTION: u8 = 0x1b;

/// A statement that warns twice.
const WARNS: &str = "UPDATE t SET a = 'x', c = c + 1 WHERE id IN (1, 2)";
const CHANGES: &str = "UPDATE t SET a = a + 100, c = c + 1 WHERE id IN (1, 2)";

/// What reads the diagnostics in both protocols; MySQL prepares few of them.
const READS: [&str; 9] = [
    "SHOW WARNINGS",
    "SHOW WARNINGS LIMIT 1, 1",
    "SHOW ERRORS",
    "SHOW COUNT(*) WARNINGS",
    "SHOW COUNT(*) ERRORS",
    "SELECT ROW_COUNT()",
    "SELECT @@warning_count, @@error_count, ROW_COUNT() + 1",
    "GET DIAGNOSTICS @n = NUMBER, @r = ROW_COUNT",
    "GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE, @m = MESSAGE_TEXT, @e = MYSQL_ERRNO",
];
const READ_VARIABLES: &str = "SELECT @n, @r, @s, @m, @e, CHARSET(@m), COLLATION(@s), COERCIBILITY(@m)";

async fn behind_a_hint(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, false).await?;
    pair.same(&[text("SET sql_mode = ''")]).await?;
    let writes = [
        CHANGES,
        WARNS,
        "UPDATE t SET nothing = 1 WHERE id = 1",
        "INSERT INTO t (id) VALUES (1)",
        "INSERT IGNORE INTO t (id, a) VALUES (1, 99999999999)",
        "INSERT INTO n (a) VALUES (1) ON DUPLICATE KEY UPDATE b = 'too long'",
        "DELETE FROM t WHERE id = 77",
        "SELECT 'x' + 1",
    ];
    for write in writes {
        for read in READS {
            let steps = [hinted(write), text(read), text("SELECT ROW_COUNT()")];
            pair.same(&steps).await.context(write)?;
            pair.same(&[text(READ_VARIABLES)]).await.with_context(|| format!("{write}; {read}"))?;
        }
    }
    // In a local transaction, and after its COMMIT
    pair.same(&[
        text("BEGIN"),
        hinted(WARNS),
        text("SHOW WARNINGS"),
        text("SELECT ROW_COUNT()"),
        text("COMMIT"),
        text("SHOW WARNINGS"),
        text("SELECT ROW_COUNT()"),
        hinted("INSERT INTO n (a) VALUES (7), (8)"),
        text("SELECT LAST_INSERT_ID() > 0, ROW_COUNT()"),
        text("SELECT ROW_COUNT()"),
        // Bound twice in a row, the second one to ask
        hinted(WARNS),
        hinted("SELECT ROW_COUNT()"),
        hinted(WARNS),
        hinted("SHOW WARNINGS"),
        text("SELECT id FROM t WHERE id = 1"),
        text("SHOW WARNINGS"),
        text("SELECT FOUND_ROWS()"),
    ])
    .await?;
    // After statements of Atone's own the number is not known: no other one is given
    pair.same(&[text("SELECT id FROM t WHERE id < 4"), hinted(CHANGES)]).await?;
    let refused = answer(&mut pair.bound, Sent::Text, "SELECT FOUND_ROWS()").await?;
    ensure!(refused.iter().any(|line| line.starts_with("ERR code=1235")), "{refused:?}");
    answer(&mut pair.plain, Sent::Text, "SELECT 1").await?;
    pair.same(&[text("SELECT id FROM t WHERE id < 3"), text("SELECT FOUND_ROWS()")]).await?;
    pair.end(&c).await
}

async fn behind_a_hint_by_prepared_statements(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, false).await?;
    pair.same(&[text("SET sql_mode = ''")]).await?;
    for write in [CHANGES, WARNS, "INSERT INTO t (id) VALUES (1)"] {
        for read in READS {
            let write = (Sent::HintedPrepared, write.to_owned());
            pair.same(&[write, prepared(read), prepared("SELECT ROW_COUNT()")]).await?;
        }
    }
    pair.end(&c).await
}

async fn behind_a_hint_in_one_packet(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, false).await?;
    pair.same(&[text("SET sql_mode = ''")]).await?;
    for read in READS {
        let packet = |hint: &str| format!("{}; {read}; SELECT ROW_COUNT()", WARNS.replacen(' ', hint, 1));
        let bound = packet(&format!(" /*+ XID('{}') */ ", pair.xid));
        let a = answer(&mut pair.bound, Sent::Text, &bound).await?;
        let b = answer(&mut pair.plain, Sent::Text, &packet(" ")).await?;
        ensure!(a == b, "{read}\nbound:    {a:#?}\nstraight: {b:#?}");
    }
    pair.end(&c).await
}

async fn get_diagnostics_of_a_committed_statement(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    let items = [
        "@v = NUMBER",
        "@v = ROW_COUNT",
        "@v = NUMBER, @`w w` = ROW_COUNT",
        "CONDITION 1 @v = MYSQL_ERRNO",
        "CONDITION 1 @v = MESSAGE_TEXT",
        "CONDITION 1 @v = RETURNED_SQLSTATE, @w = CLASS_ORIGIN",
        "CONDITION 1 @v = SUBCLASS_ORIGIN, @w = CONSTRAINT_NAME",
        "CONDITION 2 @v = MYSQL_ERRNO",
        "CONDITION 0 @v = MYSQL_ERRNO",
        "CONDITION 3 @v = MYSQL_ERRNO",
        "CONDITION 1 @v = TABLE_NAME, @w = CURSOR_NAME",
        "CONDITION 1 @v = CATALOG_NAME, @w = CONSTRAINT_CATALOG",
    ];
    pair.same(&[text("SET sql_mode = ''")]).await?;
    for write in [CHANGES, WARNS, "INSERT INTO t (id) VALUES (1)", "DELETE FROM t WHERE id = 77"] {
        for item in items {
            let steps = [
                text("SET @v = NULL, @w = NULL"),
                text(write),
                text(&format!("GET DIAGNOSTICS {item}")),
                text("SHOW WARNINGS"),
                text("SELECT @v, @w, @`w w`, CHARSET(@v), COLLATION(@v), COERCIBILITY(@v), ROW_COUNT()"),
                text(write),
                text(&format!("GET CURRENT DIAGNOSTICS {item}")),
                text("SELECT ROW_COUNT(), @@warning_count, @@error_count"),
            ];
            pair.same(&steps).await.with_context(|| format!("{write}; {item}"))?;
        }
    }
    // MySQL does not prepare it
    pair.same(&[text(WARNS), prepared("GET DIAGNOSTICS @v = NUMBER, @w = ROW_COUNT"), text("SELECT @v, @w")])
        .await?;
    pair.end(&c).await
}

/// The SQLSTATEs of what a statement that was committed warns of.
async fn sql_states(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    pair.same(&[text("SET sql_mode = 'ERROR_FOR_DIVISION_BY_ZERO'")]).await?;
    for write in [
        "UPDATE t SET a = 99999999999 WHERE id = 3",
        "UPDATE t SET a = '7x' WHERE id = 3",
        "UPDATE t SET a = 7 / 0 WHERE id = 3",
        "UPDATE t SET a = 7 + '3y' WHERE id = 3",
        "UPDATE t SET b = REPEAT('z', 70) WHERE id = 3",
        "UPDATE t SET b = REPEAT('z', 99999999999) WHERE id = 3",
        "UPDATE t SET id = NULL WHERE id = 77 OR id = -1",
        "INSERT IGNORE INTO t (id) VALUES (3)",
        "INSERT IGNORE INTO t (id, a) VALUES (9, 'q')",
        "UPDATE t SET b = STR_TO_DATE('q', '%Y') WHERE id = 3",
        "UPDATE t SET b = DATE_ADD('9999-12-31', INTERVAL 1 DAY) WHERE id = 3",
    ] {
        let steps = [
            text(write),
            text(
                "GET DIAGNOSTICS CONDITION 1 @s = RETURNED_SQLSTATE, @m = MESSAGE_TEXT, @e = MYSQL_ERRNO, @c = CLASS_ORIGIN",
            ),
            text("SELECT @s, @m, @e, @c"),
        ];
        pair.same(&steps).await.context(write)?;
    }
    pair.end(&c).await
}

/// MariaDB leaves its list alone in statements that use no table, unless they warn of something themselves.
const MAY_LEAVE: [&str; 31] = [
    "SELECT 1",
    "SELECT 1 FROM DUAL",
    "SELECT 1 FROM (SELECT 1) d",
    "SELECT id FROM t WHERE id = 1",
    "SELECT 'a' + 1",
    "SELECT 1 INTO @a",
    "(SELECT 1)",
    "SELECT 1 LIMIT 0",
    "SELECT nothing",
    "SELECT ROW_COUNT()",
    "SELECT @@warning_count",
    "SELECT ROW_COUNT() FROM t WHERE id = 1",
    "SHOW WARNINGS",
    "SHOW COUNT(*) ERRORS",
    "SHOW VARIABLES LIKE 'autocommit'",
    "EXPLAIN SELECT 1",
    "SET @a = 1",
    "SET @a = 'a' + 1",
    "SET @a = (SELECT MAX(id) FROM t WHERE id = 1)",
    "SET NAMES utf8mb4",
    "SET sql_mode = ''",
    "SET nothing = 1",
    "SET autocommit = 1",
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "DO 1",
    "DO (SELECT MAX(id) FROM t WHERE id = 1)",
    "PREPARE p FROM 'SELECT 1'",
    "PREPARE p FROM 'SELECT id FROM t WHERE id = 1'",
    "SAVEPOINT s",
    "ROLLBACK TO nowhere",
    "COMMIT",
];

fn left_alone(write: fn(&str) -> Step) -> Vec<Step> {
    let mut steps = vec![text("SET sql_mode = ''")];
    for (at, sql) in MAY_LEAVE.iter().enumerate() {
        for sent in [text, prepared] {
            if sent(sql).0 == Sent::Prepared && at % 3 > 0 {
                continue;
            }
            for read in ["SHOW WARNINGS", "SELECT ROW_COUNT(), @@warning_count"] {
                steps.extend([write(WARNS), sent(sql), text(read), text("SHOW WARNINGS")]);
            }
            steps.extend([write(CHANGES), sent(sql), text("SELECT ROW_COUNT(), @@warning_count")]);
        }
    }
    steps.extend([
        text("PREPARE p FROM 'SELECT 1'"),
        write(WARNS),
        text("EXECUTE p"),
        text("SHOW WARNINGS"),
        write(WARNS),
        text("DEALLOCATE PREPARE p"),
        text("SHOW WARNINGS"),
        write(WARNS),
        text("DO 1"),
        text("SET @a = 2"),
        text("SELECT @a"),
        text("SHOW WARNINGS LIMIT 1"),
    ]);
    steps
}

async fn a_list_that_is_left_alone(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    pair.same(&left_alone(text)).await?;
    pair.same(&[
        text("PREPARE p FROM 'SELECT ROW_COUNT(), 7'"),
        text(WARNS),
        text("EXECUTE p"),
        text("SHOW WARNINGS"),
    ])
    .await?;
    if c.flavor() == Flavor::MariaDb {
        pair.same(&[
            text(WARNS),
            text("SET max_error_count = 0"),
            text(WARNS),
            text("DO 1"),
            text("SELECT @@warning_count"),
            text("SHOW WARNINGS"),
            text("SELECT id FROM t WHERE id = 1"),
            text("SELECT @@warning_count"),
        ])
        .await?;
    }
    pair.end(&c).await
}

async fn a_list_that_is_left_alone_behind_a_hint(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, false).await?;
    pair.same(&left_alone(hinted)).await?;
    pair.end(&c).await
}

/// Commands that hold no statement, and preparations of statements, between a statement and what asks for its
/// diagnostics.
async fn commands_between(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    pair.same(&[text("SET sql_mode = ''")]).await?;
    let prepare = |sql: &str| payload::text(STMT_PREPARE, sql.as_bytes());
    let schema = sql_cell(&mut pair.plain, "SELECT DATABASE()").await?;
    for command in [
        vec![payload::PING],
        payload::text(payload::INIT_DB, schema.as_bytes()),
        payload::text(payload::INIT_DB, b"nowhere"),
        vec![SET_OPTION, 1, 0],
        prepare("SELECT 1"),
        prepare("SELECT id FROM t WHERE id = ?"),
        prepare("UPDATE t SET a = ?"),
        prepare("SELECT nothing FROM t"),
        prepare("SELECT ROW_COUNT()"),
    ] {
        for read in ["SHOW WARNINGS", "SELECT ROW_COUNT(), @@warning_count, @@error_count"] {
            pair.same(&[text(WARNS)]).await?;
            for session in [&mut pair.bound, &mut pair.plain] {
                exchange(session, command.clone()).await?;
            }
            pair.same(&[text(read)]).await.with_context(|| format!("{command:?}"))?;
        }
    }
    pair.end(&c).await
}

/// The only cell of a result.
async fn sql_cell(s: &mut Session, sql: &str) -> Result<String> {
    let packets = exchange(s, payload::query(s.capabilities, sql.as_bytes(), &[])).await?;
    let cell = packets.iter().find_map(|packet| packet.get("0")).context("no row")?;
    Ok(cell.trim_matches('\'').to_owned())
}

async fn types_of_the_numbers(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    pair.same(&[text("SET sql_mode = ''")]).await?;
    let selects = [
        "@@warning_count",
        "@@error_count AS e, ROW_COUNT() AS r",
        "@@session.warning_count + 1, -@@local.error_count",
        "@@warning_count / 2, ROW_COUNT() + 0, -ROW_COUNT()",
        "CONCAT(@@warning_count), CONCAT(ROW_COUNT()), HEX(@@error_count)",
        "IFNULL(@@warning_count, 0), COALESCE(ROW_COUNT(), 1), GREATEST(@@warning_count, 1)",
        "IF(1, @@warning_count, ROW_COUNT()), ROW_COUNT() DIV 2",
        "MAX(@@warning_count), SUM(ROW_COUNT())",
        "@@warning_count UNION SELECT 300",
        "ROW_COUNT() INTO @a",
    ];
    for select in selects {
        let select = format!("SELECT {select}");
        let alone = [text(CHANGES), text(WARNS), text(&select), text(WARNS), prepared(&select)];
        pair.same(&alone).await?;
    }
    for count in ["SHOW COUNT(*) WARNINGS", "SHOW COUNT(*) ERRORS"] {
        pair.same(&[text(WARNS), text(count), text(WARNS), prepared(count), text("SELECT @a")]).await?;
    }
    pair.end(&c).await
}

/// Under autocommit = 0 the server begins a transaction for a statement once it has opened its tables, or later.
async fn transactions_that_a_failed_statement_begins(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    pair.same(&[text("SET sql_mode = 'STRICT_ALL_TABLES'")]).await?;
    let failing = [
        "UPDATE t SET nothing = 1 WHERE id = 1",
        "UPDATE t SET a = 1 WHERE id = nothing",
        "UPDATE t SET a = 1 WHERE id = (SELECT id FROM missing)",
        "UPDATE t SET a = 'abc' WHERE id = 1",
        "UPDATE t SET id = 2 WHERE id = 1",
        "UPDATE t JOIN n ON n.id = t.id SET t.nothing = 1",
        "UPDATE missing SET a = 1",
        "DELETE FROM t WHERE nothing = 1",
        "DELETE t FROM t JOIN missing ON 1",
        "DELETE t FROM t JOIN n ON n.nothing = t.id",
        "INSERT INTO t (id) VALUES (1)",
        "INSERT INTO t (nothing) VALUES (1)",
        "INSERT INTO t (id, id) VALUES (91, 1)",
        "INSERT INTO t (id, a) SELECT nothing, 1 FROM n",
        "INSERT INTO t SELECT * FROM missing",
        "REPLACE INTO t (nothing) VALUES (1)",
        "INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE nothing = 1",
        "SELECT nothing FROM t",
        "SELECT * FROM missing",
    ];
    for autocommit in ["SET autocommit = 0", "SET autocommit = 1"] {
        for begin in ["DO 1", "BEGIN"] {
            for sql in failing {
                for sent in [text, prepared] {
                    let steps = [
                        text(autocommit),
                        text(begin),
                        sent(sql),
                        text("SHOW WARNINGS"),
                        text("SELECT ROW_COUNT()"),
                        text("DO 1"),
                        text("SELECT 1"),
                        text("ROLLBACK"),
                    ];
                    pair.same(&steps).await.with_context(|| format!("{autocommit}; {begin}; {sql}"))?;
                    if begin != "DO 1" {
                        break;
                    }
                }
            }
        }
    }
    // What was set for the next transaction still is
    pair.same(&[
        text("SET autocommit = 0"),
        text("SET TRANSACTION READ ONLY"),
        text("UPDATE t SET a = 1 WHERE id = 1"),
        text("DO 1"),
        text("INSERT INTO t (id) VALUES (8)"),
        text("DO 1"),
        text("SELECT id FROM t WHERE id = 1"),
        text("ROLLBACK"),
        text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        text("DELETE t FROM t JOIN missing ON 1"),
        text("DO 1"),
        text("ROLLBACK"),
    ])
    .await?;
    pair.end(&c).await
}

/// A statement that is refused has failed, and begins no transaction.
async fn behind_a_refusal(c: Arc<Cluster>) -> Result<()> {
    let mut pair = Pair::open(&c, true).await?;
    let bound = &mut pair.bound;
    answer(bound, Sent::Text, "SET autocommit = 0").await?;
    for refused in ["DROP TABLE t", "INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE id = id"] {
        let error = answer(bound, Sent::Text, refused).await?;
        ensure!(error.len() == 1 && error[0].starts_with("ERR code=1235"), "{error:?}");
        let listed = answer(bound, Sent::Text, "SHOW ERRORS").await?;
        ensure!(listed.iter().any(|line| line.contains("'1235'")), "{refused}: {listed:?}");
        let numbers = answer(bound, Sent::Text, "SELECT ROW_COUNT(), @@error_count").await?;
        let row = numbers.iter().find(|line| line.starts_with("row")).context("no row")?;
        ensure!(row.contains("0='-1'") && row.contains("1='1'"), "{refused}: {row}");
        let done = answer(bound, Sent::Text, "DO 1").await?;
        ensure!(done[0].contains("status=0x0000"), "{refused}: {done:?}");
    }
    pair.end(&c).await
}
