//! Malformed packets, unknown commands, oversized statements: a clear error, and no harm to anybody else.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use atone_tests::cluster::SOON;
use atone_tests::wire::{RawConn, error_packet};
use atone_tests::{Bank, Cluster, sql};
use mysql_async::prelude::Queryable as _;

atone_tests::shared_tests!(
    before_the_login,
    unknown_commands_unbound,
    unknown_commands_bound,
    malformed_commands_bound,
    wrong_sequence_numbers,
    half_packets,
    oversized_statements_bound,
);

const COM_QUERY: u8 = 3;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;

/// What has to be true after every attack: the proxy lives, serves others, and bound work goes on.
async fn assert_unharmed(c: &Cluster, schema: &str, bystander: &mut mysql_async::Conn) -> Result<()> {
    ensure!(sql::cell(bystander, "SELECT 42").await? == "42", "the bystander is harmed");
    let mut fresh = c.app(Bank::One, schema).await?;
    let xid = sql::start_global(&mut fresh).await?;
    sql::run_all(
        &mut fresh,
        &["UPDATE account SET balance = balance + 1 WHERE id = 3", "ROLLBACK GLOBAL TRANSACTION"],
    )
    .await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    c.proxy.rest().get("/readyz").await?.expect(200)?;
    Ok(())
}

async fn before_the_login(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("before_login").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    let port = c.proxy_port(Bank::One);
    let attacks: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0xff; 64],
        &[0, 0, 0, 1],
        &[1, 0, 0, 1, 0],
        // A length that never comes.
        &[0xff, 0xff, 0xff, 1, 0, 0, 0],
        &[0xff, 0xff, 0x00, 1],
        // A handshake response cut short, and one whose name never ends.
        &[4, 0, 0, 1, 0x85, 0xa6, 0x3f, 0x20],
        &[
            33, 0, 0, 1, 0x85, 0xa6, 0x0f, 0, 0, 0, 0, 1, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, b'x',
        ],
        // A request for TLS, offered or not, with nothing after it.
        &[
            32, 0, 0, 1, 0x85, 0xae, 0x0f, 0, 0, 0, 0, 1, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0,
        ],
        b"",
    ];
    for attack in attacks {
        let mut raw = RawConn::connect(port).await?;
        raw.read().await?.context("no greeting")?;
        raw.send_bytes(attack).await?;
        raw.finish().await?;
        // An error packet or the end, in bounded time; never an OK.
        while let Some((_, packet)) = raw.read().await? {
            ensure!(packet.first() != Some(&0), "{attack:?} logged in");
        }
    }
    assert_unharmed(&c, &schema, &mut bystander).await
}

/// Commands that the server does not know, or that are malformed.
const COMMANDS: &[&[u8]] =
    &[&[0xee], &[0x7f, 1, 2, 3], &[0x00], &[0x0e], &[0x1a, 9, 0], &[0x05, b'x'], &[0x19, 1]];

async fn unknown_commands_unbound(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unknown_cmd").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    for command in COMMANDS {
        let mut through = RawConn::login(c.proxy_port(Bank::One), &schema).await?;
        let mut straight = RawConn::login(c.server(Bank::One).port(), &schema).await?;
        if command.first() == Some(&0x19) {
            // COM_STMT_CLOSE has no answer.
            through.send(0, command).await?;
            straight.send(0, command).await?;
        } else {
            let (one, other) = (through.command(command).await?, straight.command(command).await?);
            assert_eq!(one, other, "{command:?}");
        }
        let (one, other) = (through.command(&[0x0e]).await?, straight.command(&[0x0e]).await?);
        assert_eq!(one, other, "a ping after {command:?}");
    }
    assert_unharmed(&c, &schema, &mut bystander).await
}

async fn bound(c: &Cluster, schema: &str) -> Result<(RawConn, String)> {
    let xid = c.rest().begin(serde_json::json!({})).await?;
    let mut raw = RawConn::login(c.proxy_port(Bank::One), schema).await?;
    let answer = query(&mut raw, &format!("SET @atone_xid = '{xid}'")).await?;
    ensure!(answer.first() == Some(&0), "not bound: {answer:?}");
    Ok((raw, xid))
}

async fn query(raw: &mut RawConn, sql: &str) -> Result<Vec<u8>> {
    let mut packet = vec![COM_QUERY];
    packet.extend_from_slice(sql.as_bytes());
    raw.command(&packet).await?.context("the connection was closed")
}

/// In a bound session, `command` gives an error packet, or ends this session; what was written before is not lost or
/// half done.
async fn refused_when_bound(c: &Cluster, schema: &str, command: &[u8]) -> Result<()> {
    let before = c.accounts(Bank::One, schema).await?;
    let (mut raw, xid) = bound(c, schema).await?;
    query(&mut raw, "BEGIN").await?;
    query(&mut raw, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    if let Some(answer) = raw.command(command).await? {
        let Some((code, message)) = error_packet(&answer) else {
            bail!("{command:?} was answered by {answer:?}")
        };
        ensure!(code != 0 && !message.is_empty(), "{command:?}: {code} {message}");
        let answer = query(&mut raw, "ROLLBACK").await?;
        ensure!(answer.first() == Some(&0), "{command:?}: the session does not go on: {answer:?}");
    }
    assert_eq!(c.accounts(Bank::One, schema).await?, before, "{command:?}");
    c.rest().rollback(&xid).await?.expect(200)?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, schema).await?, before, "{command:?}");
    Ok(())
}

async fn unknown_commands_bound(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("unknown_bound").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    for command in [
        &[0xee][..],
        &[0x7f, 1, 2, 3],
        &[0x00],
        &[0x05, b'x'],
        &[0x06, b'x'],
        &[0x07, 1],
        // COM_BINLOG_DUMP, COM_TABLE_DUMP, COM_REGISTER_SLAVE, MariaDB's COM_STMT_BULK_EXECUTE.
        &[0x12, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0x13, 1, b'a', 1, b'b'],
        &[0x15, 0, 0, 0, 0],
        &[0xfa, 1, 0, 0, 0, 0, 0],
    ] {
        refused_when_bound(&c, &schema, command).await?;
    }
    assert_unharmed(&c, &schema, &mut bystander).await
}

async fn malformed_commands_bound(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("malformed").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    for command in [
        &[][..],
        &[COM_STMT_EXECUTE],
        &[COM_STMT_EXECUTE, 1, 0],
        &[COM_STMT_EXECUTE, 0xff, 0xff, 0xff, 0x7f, 0, 1, 0, 0, 0],
        &[COM_STMT_PREPARE],
        &[0x1a, 1],
        &[0x1c, 1, 0],
        b"\x03UPDATE account SET balance = 5 WHERE id = 1 AND name = 'unterminated",
        b"\x03UPDATE account SET balance = 5 /* unterminated",
        b"\x03UPDATE account SET balance = 5 WHERE \0",
        b"\x03\xff\xfe\xfd",
        b"\x03UPDATE account SET balance = \xc3\x28 WHERE id = 1",
    ] {
        refused_when_bound(&c, &schema, command).await?;
    }
    // Parameters that end in the middle, in a statement that exists.
    let before = c.accounts(Bank::One, &schema).await?;
    let (mut raw, xid) = bound(&c, &schema).await?;
    let mut prepare = vec![COM_STMT_PREPARE];
    prepare.extend_from_slice(b"UPDATE account SET name = ? WHERE id = ?");
    let answer = raw.command(&prepare).await?.context("closed")?;
    ensure!(answer.first() == Some(&0) && answer.len() >= 12, "not prepared: {answer:?}");
    let id = [answer[1], answer[2], answer[3], answer[4]];
    // Two parameter definitions and, without DEPRECATE_EOF, the end of them.
    for _ in 0..3 {
        raw.read().await?.context("closed")?;
    }
    for tail in [
        &[0, 1, 0, 0, 0][..],
        &[0, 1, 0, 0, 0, 0],
        &[0, 1, 0, 0, 0, 0, 1, 0xfd, 0],
        &[0, 1, 0, 0, 0, 0, 1, 0xfd, 0, 3, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0, 1, 0, 0, 0, 0, 1, 0xfd, 0, 3, 0, 5, b'a'],
        &[0, 1, 0, 0, 0, 0, 1, 0x77, 0, 3, 0, 1, b'a', 1, 0, 0, 0],
        &[0, 1, 0, 0, 0, 0, 0],
    ] {
        let mut execute = vec![COM_STMT_EXECUTE];
        execute.extend_from_slice(&id);
        execute.extend_from_slice(tail);
        match raw.command(&execute).await? {
            Some(answer) => ensure!(error_packet(&answer).is_some(), "{tail:?} was answered by {answer:?}"),
            None => {
                bail!("{tail:?} closed the session");
            }
        }
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, before);
    c.rest().rollback(&xid).await?.expect(200)?;
    assert_unharmed(&c, &schema, &mut bystander).await
}

async fn wrong_sequence_numbers(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("sequence").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    let before = c.accounts(Bank::One, &schema).await?;
    let (mut raw, xid) = bound(&c, &schema).await?;
    raw.send(7, b"\x03UPDATE account SET balance = 5").await?;
    if let Some((_, answer)) = raw.read().await? {
        ensure!(error_packet(&answer).is_some(), "{answer:?}");
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, before);
    c.rest().rollback(&xid).await?.expect(200)?;
    assert_unharmed(&c, &schema, &mut bystander).await
}

async fn half_packets(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("half").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    let before = c.accounts(Bank::One, &schema).await?;
    for is_bound in [false, true] {
        let mut raw = if is_bound {
            bound(&c, &schema).await?.0
        } else {
            RawConn::login(c.proxy_port(Bank::One), &schema).await?
        };
        query(&mut raw, "BEGIN").await?;
        query(&mut raw, "UPDATE account SET balance = 5").await?;
        // COMMIT, announced with one byte more than ever comes.
        raw.send_bytes(&[8, 0, 0, 0, COM_QUERY]).await?;
        raw.send_bytes(b"COMMIT").await?;
        raw.finish().await?;
        while raw.read().await?.is_some() {}
        assert_eq!(c.accounts(Bank::One, &schema).await?, before);
        // Its locks are free.
        sql::run(&mut bystander, "UPDATE account SET balance = balance").await?;
    }
    assert_unharmed(&c, &schema, &mut bystander).await
}

async fn oversized_statements_bound(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("oversized").await?;
    let mut bystander = c.app(Bank::One, &schema).await?;
    sql::run(&mut bystander, "CREATE TABLE b (id INT PRIMARY KEY, v LONGBLOB)").await?;
    for (megabytes, id) in [(1, 1), (15, 2), (17, 3), (40, 4), (70, 5)] {
        let value = vec![b'x'; megabytes << 20];
        let mut conn = c.app(Bank::One, &schema).await?;
        let xid = sql::start_global(&mut conn).await?;
        let statement = [format!("INSERT INTO b VALUES ({id}, '").as_bytes(), &value, b"')"].concat();
        match conn.query_drop(statement).await {
            Ok(()) => ensure!(c.rest().locks(&xid).await?.len() == 1, "{megabytes} MB: not captured"),
            // By a limit that has a name, the proxy's or the server's, but never by a broken answer.
            Err(mysql_async::Error::Server(error)) => {
                ensure!(megabytes > 1, "{megabytes} MB must work: {error}");
                ensure!(!error.message.is_empty(), "{error:?}");
            }
            Err(mysql_async::Error::Io(error)) => {
                ensure!(megabytes > 15, "{megabytes} MB: the connection was closed: {error}");
            }
            Err(other) => return Err(other).with_context(|| format!("{megabytes} MB")),
        }
        c.rest().rollback(&xid).await?.expect(200)?;
        c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        assert_eq!(c.rows(Bank::One, &schema, "SELECT COUNT(*) FROM b").await?, ["0"], "{megabytes} MB");
    }
    assert_unharmed(&c, &schema, &mut bystander).await
}
