//! A client that ends its sending side, and then reads what it has asked for.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::Bank;
use atone_tests::server::{APP, RAW};
use atone_tests::wire::{Greeting, Login, RawConn, Session, caps, payload};

use super::setup::{Listener, Setup};

/// How a client ends its sending side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As TLS has it, where there is TLS.
    Goodbye,
    /// Without a goodbye.
    Cut,
}

/// What it gets to read then.
async fn answer(port: u16, tls: bool, end: End, sql: &str) -> Result<Vec<String>> {
    let mut login = Login::new(port, APP);
    login.tls = tls;
    let mut session = Session::open(&login).await?;
    let command = payload::query(session.capabilities, sql.as_bytes(), &[]);
    session.send(&command).await?;
    match end {
        End::Goodbye => session.conn().finish().await?,
        End::Cut => session.conn().cut()?,
    }
    let reply = session.receive(&command, None).await?;
    Ok(reply.iter().map(|(number, packet)| format!("{number} {packet}")).collect())
}

/// Ends its sending side before it is let in, after a command.
async fn answer_ahead(port: u16) -> Result<Vec<Vec<u8>>> {
    let mut conn = RawConn::connect(port).await?;
    let (_, greeting) = conn.read().await?.context("no greeting")?;
    let plugin = Greeting::parse(&greeting)?.plugin;
    let mut login = caps::MINIMAL.to_le_bytes()[..4].to_vec();
    login.resize(32, 0);
    login
        .extend_from_slice(&[RAW.as_bytes(), b"\0\0information_schema\0", plugin.as_bytes(), b"\0"].concat());
    conn.send(1, &login).await?;
    conn.send(0, b"\x03DO 0").await?;
    conn.finish().await?;
    // MySQL may then have something to say of the end
    let (_, login) = conn.read().await?.context("no answer to the login")?;
    let (_, command) = conn.read().await?.context("no answer to the command")?;
    Ok(vec![login, command])
}

pub(crate) async fn half_closed_connections(s: Arc<Setup>) -> Result<()> {
    let straight = s.cluster.server(Bank::One).port();
    // MySQL has to have seen the password where the legs differ
    drop(s.cluster.server(Bank::One).connect(APP, None).await?);
    for sql in ["SELECT 42", "DO 0", "SELECT REPEAT('x', 3000000)", "SELECT SLEEP(0.1)"] {
        let expected = answer(straight, false, End::Goodbye, sql).await?;
        ensure!(expected.last().is_some_and(|last| last.contains("OK")), "{sql}: {expected:?}");
        ensure!(answer(straight, true, End::Goodbye, sql).await? == expected, "{sql}: with and without TLS");
        for (listener, tls) in [
            (Listener::Plain, false),
            (Listener::PlainClient, false),
            (Listener::PlainServer, true),
            (Listener::Bank1, true),
            (Listener::Bank1, false),
        ] {
            for end in [End::Goodbye, End::Cut] {
                let about = || format!("{sql}, {listener:?}, TLS {tls}, {end:?}");
                let seen = answer(s.port(listener)?, tls, end, sql).await.with_context(about)?;
                ensure!(seen == expected, "{}: {seen:?}", about());
            }
        }
    }
    let expected = answer_ahead(straight).await?;
    ensure!(expected.iter().all(|packet| packet.first() == Some(&0)), "{expected:?}");
    for listener in [Listener::Plain, Listener::PlainClient] {
        let seen = answer_ahead(s.port(listener)?).await?;
        ensure!(seen == expected, "{listener:?}: {seen:?}");
    }
    Ok(())
}
