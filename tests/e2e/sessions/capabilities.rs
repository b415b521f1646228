//! What clients with more capabilities send to bound sessions: query attributes, bulk executions, long data.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::server::APP;
use atone_tests::wire::payload::{self, Execute, Param, types};
use atone_tests::wire::{Login, Session, caps};
use atone_tests::{Bank, Cluster, Flavor};

atone_tests::shared_tests!(
    an_attribute_binds_its_statement,
    attributes_of_prepared_statements,
    attributes_reach_the_statement,
    other_attributes_bind_nothing,
    bulk_statements,
    a_bulk_that_fails_changes_nothing,
    long_data_from_before_binding,
    results_without_definitions,
    metadata_that_the_client_keeps,
);

/// A raw session through the proxy, or around it.
async fn session(c: &Cluster, schema: &str, proxied: bool) -> Result<Session> {
    let port = if proxied { c.proxy_port(Bank::One) } else { c.server(Bank::One).port() };
    let mut login = Login::new(port, APP).schema(schema);
    if c.flavor() == Flavor::MariaDb {
        login.capabilities |= caps::MARIADB & !caps::MARIADB_COM_MULTI;
        login.capabilities &= !caps::LONG_PASSWORD;
    } else {
        login.capabilities |= caps::QUERY_ATTRIBUTES | caps::OPTIONAL_RESULTSET_METADATA;
    }
    Session::open(&login).await
}

/// The whole reply, a line a packet.
async fn answer(s: &mut Session, command: &[u8]) -> Result<Vec<String>> {
    s.send(command).await?;
    Ok(s.receive(command, None).await?.into_iter().map(|(_, packet)| packet.to_string()).collect())
}

async fn query(s: &mut Session, sql: &str, attributes: &[Param]) -> Result<Vec<String>> {
    let command = payload::query(s.capabilities, sql.as_bytes(), attributes);
    answer(s, &command).await
}

/// Runs a statement that must succeed.
async fn run(s: &mut Session, sql: &str) -> Result<()> {
    let seen = query(s, sql, &[]).await?;
    ensure!(!seen.iter().any(|packet| packet.starts_with("ERR")), "{sql}: {seen:?}");
    Ok(())
}

async fn prepare(s: &mut Session, sql: &str) -> Result<u32> {
    let seen = answer(s, &payload::text(payload::STMT_PREPARE, sql.as_bytes())).await?;
    ensure!(!seen.iter().any(|packet| packet.starts_with("ERR")), "{sql}: {seen:?}");
    Ok(s.last_prepared)
}

fn error_code(seen: &[String]) -> Option<u16> {
    let packet = seen.iter().find(|packet| packet.starts_with("ERR"))?;
    packet.split("code=").nth(1)?.split(' ').next()?.parse().ok()
}

async fn an_attribute_binds_its_statement(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(()); // MariaDB has no query attributes
    }
    let schema = c.bank_schema("attribute").await?;
    let xid = c.rest().begin(serde_json::json!({})).await?;
    let mut s = session(&c, &schema, true).await?;
    let attribute = [Param::text("7").named("other"), Param::text(&xid).named("ATONE_XID")];
    for sql in [
        "UPDATE account SET balance = 1 WHERE id = 1",
        "UPDATE account SET balance = 2 WHERE id = 2; DELETE FROM account WHERE id = 3",
    ] {
        let seen = query(&mut s, sql, &attribute).await?;
        ensure!(error_code(&seen).is_none(), "{seen:?}");
    }
    run(&mut s, "INSERT INTO account VALUES (4, 'unbound', 4)").await?;
    ensure!(error_code(&query(&mut s, "TRUNCATE TABLE account", &attribute).await?) == Some(1235));
    ensure!(error_code(&query(&mut s, "START GLOBAL TRANSACTION", &attribute).await?) == Some(1235));
    let unknown = [Param::text("nobody:1").named("atone_xid")];
    ensure!(error_code(&query(&mut s, "DELETE FROM account", &unknown).await?) == Some(1397));
    let number = [Param::int(7).named("atone_xid")];
    ensure!(error_code(&query(&mut s, "DELETE FROM account", &number).await?) == Some(1235));
    // A type that no attribute has
    let strange = [Param::raw(16, b"\x01x").named("n"), Param::text(&xid).named("atone_xid")];
    ensure!(error_code(&query(&mut s, "DELETE FROM account", &strange).await?) == Some(1835));
    let clash = format!("UPDATE /*+ XID('{xid}x') */ account SET balance = 0");
    ensure!(error_code(&query(&mut s, &clash, &attribute).await?) == Some(1400));
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|1", "2|bob|2", "4|unbound|4"]);
    c.rest().rollback(&xid).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(
        c.accounts(Bank::One, &schema).await?,
        ["1|ann|100", "2|bob|100", "3|NULL|100", "4|unbound|4"]
    );
    Ok(())
}

async fn attributes_of_prepared_statements(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(()); // MariaDB has no query attributes
    }
    let schema = c.bank_schema("executed").await?;
    let xid = c.rest().begin(serde_json::json!({})).await?;
    let mut s = session(&c, &schema, true).await?;
    let id = prepare(&mut s, "UPDATE account SET balance = ? WHERE id = ?").await?;
    let plain = prepare(&mut s, "UPDATE account SET name = 'all'").await?;
    for (execute, attributes) in [
        (Execute { id, params: vec![Param::int(1), Param::int(1)], ..Execute::default() }, true),
        (Execute { id, params: vec![Param::int(2), Param::int(2)], ..Execute::default() }, false),
        (Execute { id: plain, ..Execute::default() }, true),
    ] {
        let attributes = if attributes { vec![Param::text(&xid).named("atone_xid")] } else { vec![] };
        let command = Execute { attributes, ..execute }.payload(s.capabilities);
        let seen = answer(&mut s, &command).await?;
        ensure!(error_code(&seen).is_none(), "{seen:?}");
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|all|1", "2|all|2", "3|all|100"]);
    c.rest().rollback(&xid).await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|2", "3|NULL|100"]);
    Ok(())
}

async fn attributes_reach_the_statement(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(()); // MariaDB has no query attributes
    }
    let schema = c.bank_schema("reaching").await?;
    let mut admin = c.server(Bank::One).admin().await?;
    atone_tests::sql::run(&mut admin, "INSTALL COMPONENT 'file://component_query_attributes'").await?;
    let mut s = session(&c, &schema, true).await?;
    let xid = c.rest().begin(serde_json::json!({})).await?;
    for bind in [false, true] {
        if bind {
            run(&mut s, &format!("SET @atone_xid = '{xid}'")).await?;
        }
        let sql = "UPDATE account SET name = mysql_query_attribute_string('who') WHERE balance = 100; \
                   SELECT mysql_query_attribute_string('who')";
        let seen = query(&mut s, sql, &[Param::text("sue").named("who")]).await?;
        ensure!(seen.iter().any(|packet| packet.contains("sue")), "{seen:?}");
        let id =
            prepare(&mut s, "UPDATE account SET name = CONCAT(name, mysql_query_attribute_string('who'), ?)")
                .await?;
        let attributes = vec![Param::text("+").named("who")];
        let execute = Execute { id, params: vec![Param::text("-")], attributes, ..Execute::default() };
        let command = execute.payload(s.capabilities);
        let seen = answer(&mut s, &command).await?;
        ensure!(error_code(&seen).is_none(), "{seen:?}");
        assert_eq!(c.accounts(Bank::One, &schema).await?[2], "3|sue+-|100");
    }
    run(&mut s, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
    atone_tests::sql::run(&mut admin, "UNINSTALL COMPONENT 'file://component_query_attributes'").await
}

async fn other_attributes_bind_nothing(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("others").await?;
    let mut s = session(&c, &schema, true).await?;
    for attribute in [Param::text("").named("atone_xid"), Param::null(types::VAR_STRING).named("atone_xid")] {
        let seen = query(&mut s, "UPDATE account SET balance = balance + 1", &[attribute]).await?;
        ensure!(error_code(&seen).is_none(), "{seen:?}");
    }
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|102");
    assert_eq!(c.undo_rows(Bank::One, &schema).await?, 0);
    Ok(())
}

/// `COM_STMT_BULK_EXECUTE`: types, and rows whose values have an indicator in front.
fn bulk(id: u32, kinds: &[u8], rows: &[&[u8]]) -> Vec<u8> {
    let mut rest = 128u16.to_le_bytes().to_vec();
    for kind in kinds {
        rest.extend_from_slice(&[*kind, 0]);
    }
    rest.extend_from_slice(&rows.concat());
    payload::statement(0xfa, id, &rest)
}

const INT_TEXT: [u8; 2] = [types::LONG, types::VAR_STRING];

async fn bulk_statements(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MySql {
        return Ok(()); // MySQL has no bulk execution
    }
    for (name, around) in [("bulk", false), ("bulk_around", true)] {
        let (plain, bound) = (c.bank_schema(&format!("{name}_plain")).await?, c.bank_schema(name).await?);
        let mut straight = session(&c, &plain, false).await?;
        let mut proxied = session(&c, &bound, true).await?;
        run(&mut proxied, "START GLOBAL TRANSACTION").await?;
        let mut seen = Vec::new();
        for s in [&mut straight, &mut proxied] {
            let mut all = Vec::new();
            if around {
                run(s, "BEGIN").await?;
            }
            let insert = prepare(s, "INSERT INTO account (id, name, balance) VALUES (?, ?, 7)").await?;
            let update = prepare(s, "UPDATE account SET name = ? WHERE id = ?").await?;
            let delete = prepare(s, "DELETE FROM account WHERE id = ? AND name = ?").await?;
            for command in [
                bulk(
                    insert,
                    &INT_TEXT,
                    &[b"\0\x0b\0\0\0\0\x03o'x", b"\0\x0c\0\0\0\x01", b"\0\x0d\0\0\0\x02"],
                ),
                bulk(
                    update,
                    &[types::VAR_STRING, types::LONG],
                    &[b"\0\x02UU\0\x01\0\0\0", b"\0\x03bob\0\x02\0\0\0", b"\0\x01x\0\x63\0\0\0"],
                ),
                bulk(delete, &INT_TEXT, &[b"\0\x01\0\0\0\0\x02UU", b"\0\x03\0\0\0\0\x01?"]),
            ] {
                all.push(answer(s, &command).await?);
            }
            if around {
                run(s, "COMMIT").await?;
            }
            seen.push(all);
        }
        assert_eq!(seen[0], seen[1]);
        let after = c.accounts(Bank::One, &bound).await?;
        assert_eq!(after, c.accounts(Bank::One, &plain).await?);
        assert_eq!(after, ["2|bob|100", "3|NULL|100", "11|o'x|7", "12|NULL|7", "13|NULL|7"]);
        run(&mut proxied, "ROLLBACK GLOBAL TRANSACTION").await?;
        c.wait_for_purge(Bank::One, &bound).await?;
        assert_eq!(c.accounts(Bank::One, &bound).await?, ["1|ann|100", "2|bob|100", "3|NULL|100"]);
    }
    Ok(())
}

async fn a_bulk_that_fails_changes_nothing(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MySql {
        return Ok(()); // MySQL has no bulk execution
    }
    let schema = c.bank_schema("bulk_fails").await?;
    let mut s = session(&c, &schema, true).await?;
    let insert = prepare(&mut s, "INSERT INTO account VALUES (?, ?, 7)").await?;
    let update = prepare(&mut s, "UPDATE account SET balance = ? WHERE id = ?").await?;
    run(&mut s, "START GLOBAL TRANSACTION").await?;
    for around in [false, true] {
        if around {
            run(&mut s, "BEGIN").await?;
            run(&mut s, "UPDATE account SET balance = 5 WHERE id = 3").await?;
        }
        let twice = bulk(insert, &INT_TEXT, &[b"\0\x15\0\0\0\x01", b"\0\x01\0\0\0\x01"]);
        ensure!(error_code(&answer(&mut s, &twice).await?) == Some(1062));
        let null =
            bulk(update, &[types::LONG, types::LONG], &[b"\0\x09\0\0\0\0\x01\0\0\0", b"\x01\0\x02\0\0\0"]);
        ensure!(error_code(&answer(&mut s, &null).await?) == Some(1048));
        let ignored = bulk(update, &[types::LONG, types::LONG], &[b"\x03\0\x01\0\0\0"]);
        ensure!(error_code(&answer(&mut s, &ignored).await?) == Some(1235));
        let broken = bulk(update, &[types::LONG, types::LONG], &[b"\0\x09\0\0\0\0\x01\0\0"]);
        ensure!(error_code(&answer(&mut s, &broken).await?) == Some(1210));
    }
    run(&mut s, "COMMIT").await?;
    run(&mut s, "COMMIT GLOBAL TRANSACTION").await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?, ["1|ann|100", "2|bob|100", "3|NULL|5"]);
    Ok(())
}

async fn long_data_from_before_binding(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("long").await?;
    let mut s = session(&c, &schema, true).await?;
    let id = prepare(&mut s, "UPDATE account SET name = ?, balance = ? WHERE id = 1").await?;
    let piece = |text: &[u8]| payload::statement(0x18, id, &[&[0, 0], text].concat());
    let execute = Execute { id, params: vec![Param::long(types::BLOB), Param::int(6)], ..Execute::default() };
    s.send(&piece(b"early")).await?;
    run(&mut s, "START GLOBAL TRANSACTION").await?;
    s.send(&piece(b" late")).await?;
    let command = execute.payload(s.capabilities);
    ensure!(error_code(&answer(&mut s, &command).await?) == Some(1235));
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    // All of it in the bound session is understood
    run(&mut s, "DO 0").await?;
    answer(&mut s, &payload::statement(0x1a, id, &[])).await?;
    s.send(&piece(b"in ")).await?;
    s.send(&piece(b"two")).await?;
    let seen = answer(&mut s, &command).await?;
    ensure!(error_code(&seen).is_none(), "{seen:?}");
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|in two|6");
    run(&mut s, "ROLLBACK GLOBAL TRANSACTION").await?;
    c.wait_for_purge(Bank::One, &schema).await?;
    assert_eq!(c.accounts(Bank::One, &schema).await?[0], "1|ann|100");
    Ok(())
}

async fn results_without_definitions(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        return Ok(()); // MariaDB has no such variable
    }
    let schema = c.bank_schema("undefined").await?;
    let mut s = session(&c, &schema, true).await?;
    run(&mut s, "START GLOBAL TRANSACTION").await?;
    run(&mut s, "UPDATE account SET balance = 1 WHERE id = 1").await?;
    run(&mut s, "SET resultset_metadata = 'NONE'").await?;
    // Tables are told by their definitions
    ensure!(error_code(&query(&mut s, "UPDATE account SET balance = 2", &[]).await?) == Some(1235));
    run(&mut s, "SET resultset_metadata = 'FULL'").await?;
    run(&mut s, "UPDATE account SET balance = 2 WHERE id = 2").await?;
    run(&mut s, "COMMIT GLOBAL TRANSACTION").await?;
    run(&mut s, "SET resultset_metadata = 'NONE'").await?;
    let seen = query(&mut s, "SELECT balance FROM account ORDER BY id", &[]).await?;
    ensure!(seen.iter().filter(|packet| packet.starts_with("row")).count() == 3, "{seen:?}");
    ensure!(!seen.iter().any(|packet| packet.starts_with("column ")), "{seen:?}");
    Ok(())
}

async fn metadata_that_the_client_keeps(c: Arc<Cluster>) -> Result<()> {
    let (plain, bound) = (c.bank_schema("kept_plain").await?, c.bank_schema("kept").await?);
    let mut straight = session(&c, &plain, false).await?;
    let mut proxied = session(&c, &bound, true).await?;
    run(&mut proxied, "START GLOBAL TRANSACTION").await?;
    let mut rows = Vec::new();
    for s in [&mut straight, &mut proxied] {
        let id = prepare(s, "SELECT ROW_COUNT(), name FROM account WHERE id < ? ORDER BY id").await?;
        let mut seen = Vec::new();
        for _ in 0..3 {
            run(s, "UPDATE account SET balance = balance + 1 WHERE id < 3").await?;
            let command =
                Execute { id, params: vec![Param::int(3)], ..Execute::default() }.payload(s.capabilities);
            let all = answer(s, &command).await.context("execution")?;
            seen.extend(all.into_iter().filter(|packet| packet.starts_with("row")));
        }
        rows.push(seen);
    }
    assert_eq!(rows[0].len(), 6);
    assert_eq!(rows[0], rows[1]);
    run(&mut proxied, "COMMIT GLOBAL TRANSACTION").await
}
