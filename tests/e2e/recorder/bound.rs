//! Bound sessions under every setting: each statement is answered as on a server without Atone; a global rollback
//! leaves the tables as they were, a global commit as the server without Atone has them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::wire::caps;
use atone_tests::wire::payload::{Execute, Param, lenenc_bytes, statement, types};
use atone_tests::{Bank, Flavor, sql};

use crate::compare;
use crate::play::{Place, play};
use crate::script::{
    LAST, Matrix, May, Script, Setting, Step, execute, executed, global, made, ping, prepare, q, qa, raw,
    receive, script, stmt,
};
use crate::setup::{self, Admin, Setup};

/// The tables that a script may write.
const TABLES: &[&str] = &["account", "every"];

const SETUP: &[&str] = &[
    "CREATE TABLE account (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40), balance INT NOT NULL DEFAULT 7)",
    "INSERT INTO account VALUES (1, 'ann', 100), (2, 'bob', 200), (3, NULL, 300), (4, 'dan', 400)",
    "CREATE TABLE every (id INT PRIMARY KEY, a TINYINT, b SMALLINT UNSIGNED, c BIGINT, d FLOAT, e DOUBLE, \
     f DECIMAL(30,10), g BIT(12), h YEAR, i DATE, j DATETIME(6), k TIMESTAMP(6) NULL, l TIME(6), m VARCHAR(200), \
     n VARBINARY(200), o LONGTEXT, p LONGBLOB, q ENUM('x','y'), r SET('x','y'), s JSON)",
    "INSERT INTO every VALUES (101, -5, 65535, -9223372036854775808, 0.1, 1e300, -1.0000000001, b'101', 1999, \
     '2026-01-01', '2026-01-01 01:02:03.000004', '2026-01-01 01:02:03.000004', '-100:00:00.5', 'm\u{fc}', '\\0\\xff', \
     'text', 'blob', 'x', 'x,y', '{\"a\": 1}'), (102, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
];

/// A script whose first session is bound before its steps and ends the global transaction after them.
fn bound(name: &'static str, covers: &'static [&'static str], steps: Vec<Step>) -> Script {
    let mut script =
        script(name, covers).setup(SETUP).steps(vec![global("START GLOBAL TRANSACTION")]).steps(steps);
    for step in &mut script.steps {
        step.may.push(May::IndexFlags);
    }
    script
}

/// All of them.
pub(crate) fn scripts() -> Vec<Script> {
    vec![
        bound("bound_text", &["bound: COM_QUERY"], text()),
        bound("bound_transactions", &["bound: COM_QUERY"], transactions()),
        bound("bound_prepared", &["bound: COM_STMT_EXECUTE"], prepared()),
        bound("bound_every_parameter_type", &["bound: COM_STMT_EXECUTE"], every_type()),
        bound("bound_long_data", &["bound: COM_STMT_SEND_LONG_DATA"], long_data()),
        bound("bound_cursors", &["bound: cursors"], cursors()),
        bound("bound_pipelined", &["bound: pipelined commands"], pipelined()),
        bound("bound_commands", &["bound: other commands"], commands()),
        bound("bound_multi_statements", &["bound: CLIENT_MULTI_STATEMENTS"], multi())
            .needs(caps::MULTI_STATEMENTS),
        bound("bound_bulk", &["bound: COM_STMT_BULK_EXECUTE"], bulk())
            .mariadb()
            .needs(caps::MARIADB_STMT_BULK),
        bound("bound_execute_direct", &["bound: execute-direct"], direct()).mariadb(),
        bound("bound_attributes", &["bound: CLIENT_QUERY_ATTRIBUTES"], attributes())
            .mysql()
            .needs(caps::QUERY_ATTRIBUTES),
        bound("bound_large", &["bound: values of 17 MiB"], large()).matrix(Matrix::One),
    ]
}

fn text() -> Vec<Step> {
    vec![
        q("SELECT * FROM account ORDER BY id"),
        q("UPDATE account SET balance = balance + 1"),
        q("UPDATE account SET balance = balance WHERE id = 1"),
        q("UPDATE account SET name = 'zed' WHERE balance > 200 ORDER BY id LIMIT 1"),
        q("INSERT INTO account (name) VALUES ('eve'), ('fay')"),
        q("SELECT LAST_INSERT_ID(), ROW_COUNT()"),
        q("INSERT INTO account VALUES (1, 'again', 1)"),
        q("DELETE FROM account WHERE id IN (2, 99)"),
        q("UPDATE account SET name = CONCAT(name, '\u{1f600}') WHERE id = 1"),
        q("UPDATE account SET nosuch = 1"),
        q("INSERT INTO account VALUES (1, 'x', 1) ON DUPLICATE KEY UPDATE balance = balance + 1"),
        q("REPLACE INTO account VALUES (3, 'three', 3)"),
        q("INSERT IGNORE INTO account VALUES (1, 'x', 1), (60, 'sixty', 60)"),
        q("UPDATE account SET balance = 'x' WHERE id = 1"),
        q("SHOW WARNINGS"),
        q(
            "INSERT INTO every (id, d, e, f, k, s) VALUES (103, 1.1, -0.0, 12345678901234567890.5, '2026-03-29 02:30:00', '[]')",
        ),
        q("UPDATE every SET g = b'1', r = '', i = NULL WHERE id = 101"),
        q("SELECT id, d, e, f, g, k, s FROM every ORDER BY id"),
        q("SELECT * FROM account ORDER BY id"),
        ping(),
    ]
}

fn transactions() -> Vec<Step> {
    vec![
        q("BEGIN"),
        q("UPDATE account SET balance = 0 WHERE id = 1"),
        q("SAVEPOINT a"),
        q("DELETE FROM account WHERE id = 2"),
        q("ROLLBACK TO a"),
        q("INSERT INTO account VALUES (10, 'ten', 10)"),
        q("COMMIT"),
        q("BEGIN"),
        q("DELETE FROM account"),
        q("ROLLBACK"),
        q("SET autocommit = 0"),
        q("UPDATE account SET name = 'off' WHERE id = 3"),
        q("COMMIT"),
        q("SET autocommit = 1"),
        q("SELECT * FROM account ORDER BY id"),
        ping(),
    ]
}

fn prepared() -> Vec<Step> {
    vec![
        prepare("UPDATE account SET balance = ?, name = ? WHERE id = ?"),
        execute(1, vec![Param::int(5), Param::text("five"), Param::int(1)]),
        executed(Execute {
            id: 1,
            params: vec![Param::int(6), Param::text("six"), Param::int(2)],
            same_types: true,
            ..Execute::default()
        }),
        execute(1, vec![Param::int(6), Param::null(types::VAR_STRING), Param::int(99)]),
        prepare("INSERT INTO account (name, balance) VALUES (?, ?), (?, ?)"),
        execute(2, vec![Param::text("a"), Param::int(1), Param::text("b"), Param::int(2)]),
        execute(2, vec![Param::text("c"), Param::int(1), Param::null(types::NULL), Param::null(types::LONG)]),
        prepare("DELETE FROM account WHERE id > ? AND id < ?"),
        execute(3, vec![Param::int(2), Param::int(4)]),
        prepare("SELECT *, ? FROM account ORDER BY id"),
        execute(4, vec![Param::text("\u{e9}")]),
        stmt("close", 0x19, 1, &[]),
        execute(1, vec![Param::int(5), Param::text("five"), Param::int(1)]),
        stmt("close", 0x19, 3, &[]),
        execute(4, vec![Param::int(3)]),
        ping(),
    ]
}

fn every_type() -> Vec<Step> {
    use types::*;
    let row = |id: i32, values: Vec<Param>| {
        let mut params = vec![Param::int(id)];
        params.extend(values);
        params
    };
    let values = vec![
        Param::raw(TINY, &[0x85]),
        Param::unsigned(SHORT, &[0xff, 0xff]),
        Param::raw(LONGLONG, &i64::MIN.to_le_bytes()),
        Param::raw(FLOAT, &0.1_f32.to_le_bytes()),
        Param::raw(DOUBLE, &(-1.0e-300_f64).to_le_bytes()),
        Param::bytes(NEWDECIMAL, b"-12345678901234567890.0123456789"),
        Param::raw(SHORT, &[0xff, 0x0f]),
        Param::raw(SHORT, &2026_u16.to_le_bytes()),
        Param::raw(DATE, &[4, 0xea, 7, 2, 3]),
        Param::raw(DATETIME, &[11, 0xea, 7, 2, 3, 4, 5, 6, 0x40, 0xe2, 1, 0]),
        Param::raw(TIMESTAMP, &[11, 0xea, 7, 2, 3, 4, 5, 6, 0x40, 0xe2, 1, 0]),
        Param::raw(TIME, &[12, 1, 2, 0, 0, 0, 4, 5, 6, 0x40, 0xe2, 1, 0]),
        Param::bytes(VARCHAR, "m\u{fc}\u{1f600}".as_bytes()),
        Param::bytes(TINY_BLOB, b"\0\xff'\\"),
        Param::bytes(STRING, b"a 'quote' and a \\"),
        Param::bytes(LONG_BLOB, &(0..=255).collect::<Vec<u8>>()),
        Param::bytes(STRING, b"y"),
        Param::bytes(VARCHAR, b"x,y"),
        Param::bytes(VAR_STRING, br#"{"b": [1, 2]}"#),
    ];
    let others = vec![
        Param::raw(LONG, &(-7_i32).to_le_bytes()),
        Param::raw(SHORT, &[7, 0]),
        Param::bytes(VAR_STRING, b"-1"),
        Param::raw(DOUBLE, &0.5_f64.to_le_bytes()),
        Param::raw(FLOAT, &0.5_f32.to_le_bytes()),
        Param::bytes(DECIMAL, b"1.5"),
        Param::bytes(BLOB, &[0x0f]),
        Param::bytes(VAR_STRING, b"1999"),
        Param::raw(DATETIME, &[7, 0xea, 7, 2, 3, 4, 5, 6]),
        Param::raw(DATE, &[4, 0xea, 7, 2, 3]),
        Param::null(TIMESTAMP),
        Param::raw(TIME, &[0]),
        Param::bytes(BLOB, b"blob"),
        Param::bytes(MEDIUM_BLOB, b"medium"),
        Param::null(types::NULL),
        Param::bytes(BLOB, b"{}"),
        Param::int(1),
        Param::raw(TINY, &[1]),
        Param::bytes(VARCHAR, b"[1]"),
    ];
    let marks = vec!["?"; values.len() + 1].join(", ");
    let columns = "id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s";
    let sets = "a = ?, b = ?, c = ?, d = ?, e = ?, f = ?, g = ?, h = ?, i = ?, j = ?, k = ?, l = ?, m = ?, n = ?, \
                o = ?, p = ?, q = ?, r = ?, s = ?";
    let mut update = values.clone();
    update.push(Param::int(101));
    vec![
        prepare(&format!("INSERT INTO every ({columns}) VALUES ({marks})")),
        execute(1, row(110, values.clone())),
        execute(1, row(111, others)),
        prepare(&format!("UPDATE every SET {sets} WHERE id = ?")),
        execute(2, update),
        prepare("DELETE FROM every WHERE j = ? OR d = ? OR m = ?"),
        execute(
            3,
            vec![
                Param::raw(DATETIME, &[11, 0xea, 7, 2, 3, 4, 5, 6, 0x40, 0xe2, 1, 0]),
                Param::raw(DOUBLE, &0.5_f64.to_le_bytes()),
                Param::bytes(VAR_STRING, b"nothing"),
            ],
        ),
        q("SELECT * FROM every ORDER BY id"),
        ping(),
    ]
}

fn long_data() -> Vec<Step> {
    vec![
        prepare("INSERT INTO every (id, o, p) VALUES (?, ?, ?)"),
        stmt("long data", 0x18, 1, b"\x01\0long "),
        stmt("long data", 0x18, 1, b"\x02\0\0\xff\\'"),
        stmt("long data", 0x18, 1, b"\x01\0text"),
        execute(1, vec![Param::int(120), Param::long(types::VAR_STRING), Param::long(types::LONG_BLOB)]),
        execute(1, vec![Param::int(121), Param::text("short"), Param::bytes(types::BLOB, b"short")]),
        stmt("long data", 0x18, 1, b"\x01\0forgotten"),
        stmt("reset", 0x1a, 1, &[]),
        execute(1, vec![Param::int(122), Param::text("kept"), Param::null(types::BLOB)]),
        prepare("UPDATE every SET p = ? WHERE id = ?"),
        stmt("long data", 0x18, 2, &[&[0, 0], vec![7; 300_000].as_slice()].concat()),
        execute(2, vec![Param::long(types::LONG_BLOB), Param::int(101)]),
        q("SELECT id, o, p FROM every ORDER BY id"),
        ping(),
    ]
}

fn cursors() -> Vec<Step> {
    vec![
        prepare("SELECT id, name, balance FROM account ORDER BY id"),
        executed(Execute { id: 1, cursor: 1, ..Execute::default() }),
        stmt("fetch", 0x1c, 1, &[1, 0, 0, 0]),
        q("UPDATE account SET balance = 0 WHERE id = 4"),
        stmt("fetch", 0x1c, 1, &[1, 0, 0, 0]),
        prepare("DELETE FROM account WHERE id = ?"),
        execute(2, vec![Param::int(2)]),
        q("BEGIN"),
        q("INSERT INTO account VALUES (30, 'thirty', 30)"),
        stmt("fetch", 0x1c, 1, &[100, 0, 0, 0]),
        stmt("fetch behind the end", 0x1c, 1, &[1, 0, 0, 0]),
        q("COMMIT"),
        executed(Execute { id: 1, cursor: 1, ..Execute::default() }),
        stmt("fetch", 0x1c, 1, &[100, 0, 0, 0]),
        stmt("close", 0x19, 1, &[]),
        ping(),
    ]
}

fn pipelined() -> Vec<Step> {
    let mut steps = vec![
        prepare("UPDATE account SET balance = ? WHERE id = ?"),
        q("BEGIN").sent(),
        q("UPDATE account SET name = 'one' WHERE id = 1").sent(),
        execute(1, vec![Param::text("77"), Param::int(2)]).sent(),
        q("SELECT * FROM account ORDER BY id").sent(),
        q("SELECT nosuch FROM account").sent(),
        // MariaDB misreads long data where the parameter was a number before
        stmt("long data", 0x18, 1, b"\0\x0088").sent(),
        execute(1, vec![Param::long(types::VAR_STRING), Param::int(3)]).sent(),
        ping().sent(),
        q("COMMIT").sent(),
        q("INSERT INTO account (name) VALUES ('last')").sent(),
        q("SELECT LAST_INSERT_ID()").sent(),
        stmt("close", 0x19, 1, &[]).sent(),
        q("DELETE FROM account WHERE id = 4").sent(),
    ];
    steps.extend((0..11).map(|_| receive()));
    steps.push(ping());
    steps
}

fn commands() -> Vec<Step> {
    vec![
        q("UPDATE account SET balance = 1 WHERE id = 1"),
        raw("statistics", &[0x09]).may(May::Fields(&["text"])),
        raw("fields", b"\x04account\0"),
        raw("multi statements on", &[0x1b, 0, 0]),
        q("UPDATE account SET balance = 2 WHERE id = 2"),
        raw("multi statements off", &[0x1b, 1, 0]),
        raw("another schema", b"\x02mysql"),
        q("SELECT DATABASE()"),
        raw("an unknown command", &[0x7f]),
        raw("an unknown statement", &[0x17, 99, 0, 0, 0x70, 0, 1, 0, 0, 0]),
        raw("reset of an unknown statement", &[0x1a, 99, 0, 0, 0x70]),
        raw("debug", &[0x0d]),
        ping(),
    ]
}

fn multi() -> Vec<Step> {
    vec![
        q("UPDATE account SET balance = 1 WHERE id = 1; UPDATE account SET balance = 2 WHERE id = 2"),
        q("BEGIN; DELETE FROM account WHERE id = 3; SELECT COUNT(*) FROM account; COMMIT; SELECT 'behind'"),
        q(
            "INSERT INTO account VALUES (40, 'x;y', 1); INSERT INTO account VALUES (40, 'z', 1); SELECT 'not reached'",
        ),
        q("SELECT 1; UPDATE account SET name = 'end' WHERE id = 4;"),
        q("SELECT * FROM account ORDER BY id"),
        ping(),
    ]
}

/// After the statement's id: rows of (INT, VARCHAR).
fn rows(rows: &[(i32, Option<&str>)]) -> Vec<u8> {
    let mut out = vec![128, 0, types::LONG, 0, types::VAR_STRING, 0];
    for (id, name) in rows {
        out.push(0);
        out.extend_from_slice(&id.to_le_bytes());
        match name {
            Some(name) => {
                out.push(0);
                out.extend_from_slice(&lenenc_bytes(name.as_bytes()));
            }
            None => out.push(1),
        }
    }
    out
}

fn bulk() -> Vec<Step> {
    vec![
        prepare("INSERT INTO account (id, name) VALUES (?, ?)"),
        stmt("bulk", 0xfa, 1, &rows(&[(50, Some("fifty")), (51, None), (52, Some(""))])),
        stmt("bulk with an error", 0xfa, 1, &rows(&[(53, Some("x")), (1, Some("again"))])),
        q("SELECT * FROM account ORDER BY id"),
        ping(),
    ]
}

fn direct() -> Vec<Step> {
    vec![
        prepare("UPDATE account SET balance = ? WHERE id = ?").sent(),
        execute(LAST, vec![Param::int(9), Param::int(1)]).sent(),
        receive(),
        receive(),
        prepare("INSERT INTO every (id, o) VALUES (?, ?)"),
        raw("long data for the last", &statement(0x18, LAST, b"\x01\0long")),
        execute(LAST, vec![Param::int(160), Param::long(types::VAR_STRING)]),
        q("SELECT id, o FROM every ORDER BY id"),
        ping(),
    ]
}

fn attributes() -> Vec<Step> {
    let attribute = || vec![Param::text("value").named("a"), Param::int(3).named("b")];
    vec![
        qa("UPDATE account SET balance = 3 WHERE id = 1", attribute()),
        qa("SELECT mysql_query_attribute_string('a') FROM account", attribute()),
        prepare("DELETE FROM account WHERE id = ?"),
        executed(Execute {
            id: 1,
            params: vec![Param::int(2)],
            attributes: attribute(),
            ..Execute::default()
        }),
        qa("INSERT INTO account (name) VALUES ('x')", attribute()),
        q("SELECT * FROM account ORDER BY id"),
        ping(),
    ]
}

fn large() -> Vec<Step> {
    const LENGTH: usize = 17 << 20;
    vec![
        prepare("INSERT INTO every (id, p) VALUES (?, ?)"),
        made("a parameter of 17 MiB", |capabilities, id| {
            let params = vec![Param::int(170), Param::bytes(types::LONG_BLOB, &vec![1; LENGTH])];
            Execute { id, params, ..Execute::default() }.payload(capabilities)
        }),
        q("SELECT id, LENGTH(p), SHA2(p, 256) FROM every ORDER BY id"),
        ping(),
    ]
}

/// How a global transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Rollback,
    Commit,
}

/// Plays all of them under this setting, once ended by a rollback and once by a commit.
pub(crate) async fn check(setup: &Arc<Setup>, setting: &Setting) -> Result<()> {
    let flavor = setup.cluster.flavor();
    let mut wrong = Vec::new();
    for (n, script) in scripts().into_iter().enumerate() {
        if !script.on.contains(&flavor) || !setting.has(&script) || !crate::wanted(&script) {
            continue;
        }
        for end in [End::Rollback, End::Commit] {
            if end == End::Commit && script.matrix == Matrix::One {
                // It takes long, and what a commit leaves is the easier part
                continue;
            }
            let known = crate::known::known(flavor, setting, script.name);
            // The schema stays: the undo rows in it are deleted after the end
            let schema = format!("b_{}_{n}_{end:?}", setting.name).to_lowercase();
            match (check_one(setup, setting, &script, end, &schema).await, known) {
                (Ok(()), None) => {}
                (Ok(()), Some(known)) if known.racy => {}
                (Ok(()), Some(_)) => wrong.push(format!("{}: take it out of known.rs", script.name)),
                (Err(error), Some(known)) if format!("{error:#}").contains(known.step) => {}
                (Err(error), _) => wrong.push(format!("{}, {end:?}: {error:#}", script.name)),
            }
        }
    }
    ensure!(wrong.is_empty(), "{flavor}, {}: {}\n{}", setting.name, wrong.len(), wrong.join("\n"));
    Ok(())
}

async fn check_one(
    setup: &Arc<Setup>,
    setting: &Setting,
    script: &Script,
    end: End,
    schema: &str,
) -> Result<()> {
    let port = setup.through(setting);
    let offered = setup::greeting(port).await?.capabilities;
    let compressed = AtomicBool::new(false);
    let place = |bank| Place {
        port: if bank == Bank::One { port } else { setup.straight(bank) },
        server: setup.cluster.server(bank),
        schema,
        offered,
        proxied: bank == Bank::One,
        seen_compressed: &compressed,
    };
    for bank in [Bank::One, Bank::Two] {
        crate::prepare(&mut Admin::open(setup.straight(bank)).await?, schema, script).await?;
    }
    let before = dump(setup, Bank::One, schema).await?;
    let began = std::time::Instant::now();
    let mut playing = crate::play::start(script, setting, place(Bank::One));
    let (straight, through) = tokio::join!(play(script, setting, place(Bank::Two)), playing.play(script));
    crate::print(script, setting, setup.cluster.flavor(), began.elapsed(), &straight);
    if let Some(difference) = compare::compare(&straight, &through) {
        anyhow::bail!("step `{}`\n{}", difference.step, difference.text);
    }
    let xid = playing.xid().context("there was no global transaction")?.to_owned();
    let (words, status) = match end {
        End::Rollback => ("ROLLBACK GLOBAL TRANSACTION", "rolled_back"),
        End::Commit => ("COMMIT GLOBAL TRANSACTION", "committed"),
    };
    playing.global('a', words).await.context(words)?;
    setup.cluster.rest().wait_for_status(&xid, status, SOON).await?;
    let after = dump(setup, Bank::One, schema).await?;
    let expected = if end == End::Rollback { before } else { dump(setup, Bank::Two, schema).await? };
    ensure!(after == expected, "{words}\nexpected: {expected:?}\nfound:    {after:?}");
    Ok(())
}

/// The tables' rows and the server's own checksums of them.
async fn dump(setup: &Arc<Setup>, bank: Bank, schema: &str) -> Result<Vec<String>> {
    let mut admin = setup.cluster.server(bank).connect(atone_tests::server::ADMIN, Some(schema)).await?;
    let mut all = Vec::new();
    for table in TABLES {
        // MySQL counts what it has read into the checksum of JSON columns, whose bytes it does not keep
        if setup.cluster.flavor() == Flavor::MariaDb || *table == "account" {
            all.extend(sql::rows(&mut admin, format!("CHECKSUM TABLE {table}")).await?);
        }
        for row in sql::rows(&mut admin, format!("SELECT * FROM {table} ORDER BY id")).await? {
            all.push(row.chars().take(400).collect());
        }
    }
    all.extend(
        sql::rows(
            &mut admin,
            "SELECT id, SHA2(o, 256), SHA2(p, 256), HEX(m), HEX(g), LENGTH(p), d + 0E0 FROM every ORDER BY id",
        )
        .await?,
    );
    admin.disconnect().await?;
    Ok(all)
}
