//! Logging in through the proxy with the server's own accounts and plugins.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::cluster::SOON;
use atone_tests::server::{ADMIN, APP, RAW};
use atone_tests::wire::{Greeting, Login, RawConn, Session, caps, error_packet};
use atone_tests::{Bank, Cluster, Flavor, cli, paths, sql, wait};

atone_tests::shared_tests!(
    own_accounts,
    refusals_are_the_servers,
    native_password,
    caching_sha2_password,
    change_user,
    default_schema_and_charset,
    expired_password,
    change_user_that_fails,
    second_factor,
    commands_behind_a_login,
    the_protocol_before_4_1,
);

async fn own_accounts(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("login").await?;
    for account in [APP, ADMIN] {
        let mut conn = sql::connect(c.proxy_port(Bank::One), account, Some(&schema)).await?;
        assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, format!("{}@%", account.0));
        assert_eq!(sql::cell(&mut conn, "SELECT DATABASE()").await?, schema);
    }
    let mut conn = sql::connect(c.proxy_port(Bank::One), APP, None).await?;
    assert_eq!(sql::cell(&mut conn, "SELECT DATABASE()").await?, "NULL");
    Ok(())
}

async fn refusals_are_the_servers(c: Arc<Cluster>) -> Result<()> {
    let (proxy, server) = (c.proxy_port(Bank::One), c.server(Bank::One).port());
    for (account, schema) in [
        ((APP.0, "wrong"), None),
        ((APP.0, ""), None),
        (("nobody", "x"), None),
        ((APP.0, APP.1), Some("no_such_schema")),
    ] {
        if account.0 == "nobody" && c.flavor() == Flavor::MySql {
            // MySQL pretends that an unknown account uses any one of its plugins, which the driver may not know.
            continue;
        }
        let through = sql::refused_login(sql::options(proxy, account, schema)).await?;
        let straight = sql::refused_login(sql::options(server, account, schema)).await?;
        assert_eq!(through, straight, "{account:?} {schema:?}");
        assert!([1045, 1049].contains(&through.0), "{through:?}");
    }
    // A refusal harms nobody.
    sql::connect(proxy, APP, None).await?.disconnect().await?;
    Ok(())
}

async fn native_password(c: Arc<Cluster>) -> Result<()> {
    let mut admin = c.server(Bank::One).admin().await?;
    if sql::rows(
        &mut admin,
        "SELECT PLUGIN_STATUS FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'mysql_native_password'",
    )
    .await?
        != ["ACTIVE"]
    {
        // Since 9.0 MySQL does not have it any more.
        assert_eq!(c.flavor(), Flavor::MySql, "MariaDB has mysql_native_password");
        return Ok(());
    }
    let create = match c.flavor() {
        Flavor::MariaDb => {
            "CREATE USER native@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('n-pw')"
        }
        Flavor::MySql => "CREATE USER native@'%' IDENTIFIED WITH mysql_native_password BY 'n-pw'",
    };
    sql::run(&mut admin, create).await?;
    let mut conn = sql::connect(c.proxy_port(Bank::One), ("native", "n-pw"), None).await?;
    assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, "native@%");
    let (code, _) =
        sql::refused_login(sql::options(c.proxy_port(Bank::One), ("native", "n-pW"), None)).await?;
    assert_eq!(code, 1045);
    Ok(())
}

/// Logs in with the server's own client program.
async fn login_by_client(c: &Cluster, user: &str, password: &str, fetch_key: bool) -> Result<cli::Output> {
    let port = c.proxy_port(Bank::One).to_string();
    let password = format!("-p{password}");
    let mut args = vec!["--no-defaults", "-h", "127.0.0.1", "-P", &port, "-u", user, &password];
    // By TLS MySQL's password would go in the clear.
    args.push(c.flavor().without_tls());
    if fetch_key {
        args.push("--get-server-public-key");
    }
    args.extend_from_slice(&["-N", "-e", "SELECT CURRENT_USER()"]);
    cli::run(&c.flavor().client_program("mysql")?, &args, &[], &[]).await
}

async fn caching_sha2_password(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        // MariaDB 10.11 does not have it; its clients do, for MySQL's sake.
        return Ok(());
    }
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run(&mut admin, "CREATE USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY 's-pw'").await?;
    // The server has not seen the password yet: without TLS the client needs the server's RSA key, and says so.
    let refused = login_by_client(&c, "sha2", "s-pw", false).await?;
    assert!(refused.code != 0 && refused.stderr.contains("2061"), "{refused:?}");
    let full = login_by_client(&c, "sha2", "s-pw", true).await?.success().context("full authentication")?;
    assert_eq!(full.trim(), "sha2@%");
    // Now it has: the fast path does without the key.
    let fast = login_by_client(&c, "sha2", "s-pw", false).await?.success().context("the fast path")?;
    assert_eq!(fast.trim(), "sha2@%");
    let wrong = login_by_client(&c, "sha2", "s-pW", true).await?;
    assert!(wrong.code != 0 && wrong.stderr.contains("1045"), "{wrong:?}");
    // A driver in pure Rust, full and fast.
    sql::run(&mut admin, "ALTER USER sha2@'%' IDENTIFIED WITH caching_sha2_password BY 'other'").await?;
    for _ in 0..2 {
        let mut conn = sql::connect(c.proxy_port(Bank::One), ("sha2", "other"), None).await?;
        assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, "sha2@%");
    }
    Ok(())
}

async fn change_user(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("change_user").await?;
    let mut conn = sql::connect(c.proxy_port(Bank::One), APP, None).await?;
    let opts = |password: &str| {
        mysql_async::ChangeUserOpts::new()
            .with_user(Some(ADMIN.0.to_owned()))
            .with_pass(Some(password.to_owned()))
            .with_db_name(Some(schema.clone()))
    };
    conn.change_user(opts(ADMIN.1)).await?;
    assert_eq!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await?, format!("{}@%", ADMIN.0));
    assert_eq!(sql::cell(&mut conn, "SELECT DATABASE()").await?, schema);
    assert!(conn.change_user(opts("wrong")).await.is_err());
    Ok(())
}

async fn default_schema_and_charset(c: Arc<Cluster>) -> Result<()> {
    let schema = c.schema("defaults").await?;
    let query = "SELECT @@character_set_client, @@collation_connection, @@sql_mode, @@time_zone, @@autocommit, \
                 @@transaction_isolation, @@innodb_lock_wait_timeout";
    let query = match c.flavor() {
        Flavor::MariaDb => query.replace("transaction_isolation", "tx_isolation"),
        Flavor::MySql => query.to_owned(),
    };
    let through = sql::rows(&mut c.app(Bank::One, &schema).await?, &query).await?;
    let straight = sql::rows(&mut c.direct(Bank::One, &schema).await?, &query).await?;
    assert_eq!(through, straight);
    Ok(())
}

/// Where a session with an expired password can bind, and its next statement then ends the connection instead of giving
/// the server's error 1820.
const KNOWN_UNBINDABLE: Flavor = Flavor::MariaDb;

/// A session whose password has expired may do nothing but set it: neither may it bind.
async fn expired_password(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("expired").await?;
    let account = ("late", "l-pw");
    let mut admin = c.server(Bank::One).admin().await?;
    sql::run_all(
        &mut admin,
        &["CREATE USER late@'%' IDENTIFIED BY 'l-pw' PASSWORD EXPIRE", "GRANT ALL ON *.* TO late@'%'"],
    )
    .await?;
    let mut login = Login::new(c.proxy_port(Bank::One), account).schema(&schema).minimal();
    // With a client that cannot handle it the server does as it is set up to.
    let port = c.server(Bank::One).port();
    let mut seen = Vec::new();
    for port in [port, c.proxy_port(Bank::One)] {
        login.port = port;
        let (session, said) = Session::attempt(&login).await?;
        seen.push((session.is_some(), said.last().map(|(_, packet)| packet.to_string())));
    }
    ensure!(seen[0] == seen[1], "{seen:?}");
    // One that can is let in to set it.
    login.capabilities |= caps::CAN_HANDLE_EXPIRED_PASSWORDS;
    let mut conn = Session::open(&login).await?.into_conn();
    let mut query = async |text: &str| -> Result<Option<(u16, String)>> {
        let answer = conn.command(&[&[3], text.as_bytes()].concat()).await?.context(text.to_owned())?;
        Ok(error_packet(&answer))
    };
    let code = |error: Option<(u16, String)>| error.map(|(code, _)| code);
    ensure!(code(query("SELECT 1").await?) == Some(1820));
    // MariaDB lets it set variables, and so bind: a known difference, see KNOWN_UNBINDABLE.
    if c.flavor() != KNOWN_UNBINDABLE {
        ensure!(code(query("START GLOBAL TRANSACTION").await?) == Some(1820));
    }
    let set = match c.flavor() {
        Flavor::MariaDb => "SET PASSWORD = PASSWORD('new')",
        Flavor::MySql => "SET PASSWORD = 'new'",
    };
    ensure!(query(set).await?.is_none());
    ensure!(query("START GLOBAL TRANSACTION").await?.is_none());
    ensure!(query("UPDATE account SET balance = 0").await?.is_none());
    ensure!(query("ROLLBACK GLOBAL TRANSACTION").await?.is_none());
    Ok(())
}

/// What a change of user that fails leaves: on MySQL nothing, on MariaDB a session of the former user that is bound
/// no more.
async fn change_user_that_fails(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("failed_change").await?;
    let mut conn = c.app(Bank::One, &schema).await?;
    let xid = sql::start_global(&mut conn).await?;
    sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 0 WHERE id = 1"]).await?;
    let wrong = mysql_async::ChangeUserOpts::new()
        .with_user(Some(ADMIN.0.to_owned()))
        .with_pass(Some("wrong".to_owned()))
        .with_db_name(Some(schema.clone()));
    let error = sql::server_error(conn.change_user(wrong).await, "a wrong password")?;
    ensure!(error.code == 1045 && !error.message.contains("atone"), "{error:?}");
    match c.flavor() {
        Flavor::MySql => ensure!(sql::cell(&mut conn, "SELECT 1").await.is_err()),
        Flavor::MariaDb => {
            ensure!(sql::cell(&mut conn, "SELECT CURRENT_USER()").await? == format!("{}@%", APP.0));
            ensure!(sql::xid(&mut conn).await?.is_none());
            let error = sql::refused(&mut conn, "COMMIT GLOBAL TRANSACTION").await?;
            ensure!(error.message.starts_with("atone: "), "{error:?}");
            sql::run(&mut conn, format!("UPDATE `{schema}`.account SET balance = 7 WHERE id = 2")).await?;
        }
    }
    // The local transaction is gone with it, and has taken no lock along.
    let balances = c.rows(Bank::One, &schema, "SELECT balance FROM account ORDER BY id").await?;
    let second = if c.flavor() == Flavor::MariaDb { "7" } else { "100" };
    ensure!(balances == ["100", second, "100"], "{balances:?}");
    c.rest().rollback(&xid).await?;
    Ok(())
}

/// A second factor. None of the plugins that MySQL comes with asks for more over the wire, so this server is made up.
async fn second_factor(c: Arc<Cluster>) -> Result<()> {
    if c.flavor() == Flavor::MariaDb {
        // It has none.
        return Ok(());
    }
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let line = format!("address = '127.0.0.1:{}'", server.local_addr()?.port());
    let dir = paths::fresh_dir("factors-")?;
    // Nobody logs in but the client
    let (mut proxy, ports) = c.prepare_proxy(dir.path(), &[line], "[limits]\nmin_service_connections = 0")?;
    proxy.launch()?;
    let made_up = tokio::spawn(serve_two_factors(server));
    wait::until("the listener is open", SOON, || async {
        Ok(tokio::net::TcpStream::connect(("127.0.0.1", ports[0])).await.ok())
    })
    .await?;
    let mut login = Login::new(ports[0], ("two", "first"));
    login.capabilities |= caps::MULTI_FACTOR;
    login.more_passwords = vec!["second".to_owned()];
    let (session, seen) = Session::attempt(&login).await?;
    ensure!(session.is_some(), "{seen:?}");
    let kinds: Vec<(u8, &str)> = seen.iter().map(|(number, packet)| (*number, packet.kind)).collect();
    ensure!(kinds == [(0, "greeting"), (2, "more"), (3, "next factor"), (5, "OK")], "{kinds:?}");
    drop(session);
    let proofs = made_up.await??;
    // Each is a scramble of its own
    ensure!(proofs.iter().all(|proof| proof.len() == 32) && proofs[0] != proofs[1], "{proofs:?}");
    Ok(())
}

/// A server that wants two scrambles of caching_sha2_password; what it got.
async fn serve_two_factors(listener: tokio::net::TcpListener) -> Result<[Vec<u8>; 2]> {
    const SALT: &[u8] = b"01234567890123456789";
    let mut greeting = b"\x0a9.7.0-made-up\0\x07\0\0\0".to_vec();
    greeting.extend_from_slice(&SALT[..8]);
    let offered = (caps::FULL | caps::MULTI_FACTOR | caps::LONG_PASSWORD).to_le_bytes();
    greeting.extend_from_slice(&[0, offered[0], offered[1], 255, 2, 0, offered[2], offered[3], 21]);
    greeting.extend_from_slice(&[0; 10]);
    greeting.extend_from_slice(&SALT[8..]);
    greeting.extend_from_slice(b"\0caching_sha2_password\0");
    loop {
        let (stream, _) = listener.accept().await?;
        let mut conn = RawConn::over(stream)?;
        conn.send(0, &greeting).await?;
        // Who only looks whether the listener is open says nothing
        let Some((_, answer)) = conn.read().await? else { continue };
        let name = answer.get(32..).context("no name")?;
        let at = name.iter().position(|b| *b == 0).context("no end of the name")? + 2;
        let first = name.get(at..at + 32).context("no scramble")?.to_vec();
        conn.send(2, &[1, 3]).await?;
        conn.send(3, &[b"\x02caching_sha2_password\0", SALT, b"\0"].concat()).await?;
        let (number, second) = conn.read().await?.context("no second factor")?;
        ensure!(number == 4, "{number}");
        conn.send(5, &[0, 0, 0, 2, 0, 0, 0]).await?;
        // Until the client has gone
        conn.read().await?;
        return Ok([first, second]);
    }
}

/// What a client sends ahead, without waiting until the server has let it in, is the new session's: a binding is seen.
async fn commands_behind_a_login(c: Arc<Cluster>) -> Result<()> {
    let schema = c.bank_schema("ahead").await?;
    for change_user in [false, true] {
        let xid = c.rest().begin(serde_json::json!({})).await?;
        let login = Login::new(c.proxy_port(Bank::One), (RAW, "")).schema(&schema).minimal();
        let bind = format!("\x03SET @atone_xid = '{xid}'");
        let commands = [bind.as_bytes(), b"\x03UPDATE account SET balance = 0", b"\x03SELECT 42"];
        let (mut conn, answer) = if change_user {
            let session = Session::open(&login).await?;
            let plugin = session.greeting.plugin.clone();
            let mut conn = session.into_conn();
            let names = [RAW.as_bytes(), b"\0\0", schema.as_bytes(), b"\0\x2d\0", plugin.as_bytes(), b"\0"];
            let switch = conn.command(&[&[0x11], &names.concat()[..]].concat()).await?.context("closed")?;
            ensure!(switch.first() == Some(&0xfe), "{switch:?}");
            // The empty password
            (conn, (2, Vec::new()))
        } else {
            let mut conn = RawConn::connect(c.proxy_port(Bank::One)).await?;
            let (_, greeting) = conn.read().await?.context("closed")?;
            let plugin = Greeting::parse(&greeting)?.plugin;
            let mut response = caps::MINIMAL.to_le_bytes()[..4].to_vec();
            response.resize(32, 0);
            let names = [RAW.as_bytes(), b"\0\0", schema.as_bytes(), b"\0", plugin.as_bytes(), b"\0"];
            response.extend_from_slice(&names.concat());
            (conn, (1, response))
        };
        conn.send(answer.0, &answer.1).await?;
        for command in commands {
            conn.send(0, command).await?;
        }
        for _ in 0..3 {
            let (_, packet) = conn.read().await?.context("closed")?;
            ensure!(packet.first() == Some(&0), "{change_user}: {packet:?}");
        }
        c.rest().rollback(&xid).await?;
        let ended = c.rest().wait_for_status(&xid, "rolled_back", SOON).await?;
        ensure!(ended["branches"].as_array().map(Vec::len) == Some(1), "{ended}");
        let balances = c.rows(Bank::One, &schema, "SELECT balance FROM account").await?;
        ensure!(balances == ["100", "100", "100"], "{change_user}: {balances:?}");
    }
    Ok(())
}

/// A login in the protocol before 4.1, as HAProxy's `option mysql-check user … pre-41` makes it, and what is sent
/// after it at once.
async fn before_4_1(port: u16, user: &str, behind: &[u8]) -> Result<(RawConn, (u8, Vec<u8>))> {
    let mut conn = RawConn::connect(port).await?;
    conn.read().await?.context("no greeting")?;
    let answer = [&[0x00, 0x80, 0x00, 0x00, 0x01], user.as_bytes(), &[0, 0]].concat();
    let head = [u8::try_from(answer.len())?, 0, 0, 1];
    conn.send_bytes(&[&head, &answer[..], behind].concat()).await?;
    let said = conn.read().await?.context("closed without a word")?;
    Ok((conn, said))
}

/// All that comes until the connection is closed.
async fn rest(conn: &mut RawConn) -> Result<Vec<(u8, Vec<u8>)>> {
    let mut packets = Vec::new();
    while let Some(packet) = conn.read().await? {
        packets.push(packet);
    }
    Ok(packets)
}

/// Who lets such a client in is the server. It is served unbound, and can never be bound.
async fn the_protocol_before_4_1(c: Arc<Cluster>) -> Result<()> {
    const QUIT: &[u8] = &[1, 0, 0, 0, 1];
    let (straight, through) = (c.server(Bank::One).port(), c.proxy_port(Bank::One));
    let lets_in = c.flavor() == Flavor::MariaDb;
    for (user, known) in [(RAW, true), ("nobody", false)] {
        let (mut one, said) = before_4_1(straight, user, QUIT).await?;
        let (mut other, same) = before_4_1(through, user, QUIT).await?;
        ensure!(said == same, "{user}: {said:?} {same:?}");
        ensure!((said.1.first() == Some(&0)) == (lets_in && known), "{user}: {said:?}");
        let (after, same) = (rest(&mut one).await?, rest(&mut other).await?);
        ensure!(after.is_empty() && same.is_empty(), "{user}: {after:?} {same:?}");
    }
    if !lets_in {
        return Ok(());
    }
    let schema = c.bank_schema("before_4_1").await?;
    let mut seen = Vec::new();
    for port in [straight, through] {
        let (mut conn, _) = before_4_1(port, RAW, b"").await?;
        let texts = [
            format!("USE `{schema}`"),
            "SELECT id, name FROM account ORDER BY id".to_owned(),
            "SELECT * FROM nowhere".to_owned(),
            "UPDATE account SET balance = balance + 1".to_owned(),
            format!("SELECT '{}'", "x".repeat(100_000)),
        ];
        // In pieces, then all at once; the end of it by the client's end
        for text in texts.iter().take(2) {
            let command = [&[3], text.as_bytes()].concat();
            let head = [u8::try_from(command.len())?, 0, 0, 0];
            for piece in [&head, &command[..]].concat().chunks(5) {
                conn.send_bytes(piece).await?;
            }
        }
        for text in &texts[2..] {
            conn.send(0, &[&[3], text.as_bytes()].concat()).await?;
        }
        conn.finish().await?;
        seen.push(rest(&mut conn).await?);
    }
    ensure!(seen[0] == seen[1] && seen[0].len() > 10, "{seen:?}");
    let balances = c.rows(Bank::One, &schema, "SELECT balance FROM account").await?;
    ensure!(balances == ["102", "102", "102"], "{balances:?}");

    let xid = c.rest().begin(serde_json::json!({})).await?;
    for text in [
        "START GLOBAL TRANSACTION".to_owned(),
        format!("SET @atone_xid = '{xid}'"),
        format!("UPDATE `{schema}`.account SET balance = 0 /* xid='{xid}' */"),
    ] {
        let (mut conn, _) = before_4_1(through, RAW, b"").await?;
        conn.send(0, &[&[3], text.as_bytes()].concat()).await?;
        let packets = rest(&mut conn).await?;
        let [(1, packet)] = packets.as_slice() else { anyhow::bail!("{text}: {packets:?}") };
        // An error of that protocol has no state
        ensure!(packet.starts_with(&[0xff, 0xd3, 0x04]) && packet[3..].starts_with(b"atone: "), "{packet:?}");
    }
    ensure!(c.rows(Bank::One, &schema, "SELECT balance FROM account").await? == balances);
    c.rest().rollback(&xid).await?;
    Ok(())
}
