//! Sessions that wait too long for their client's next command.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use atone_tests::own::Own;
use atone_tests::server::APP;
use atone_tests::wire::{Compression, Login, Packet, RawConn, Session, error_packet};
use atone_tests::{Bank, Flavor, paths, sql};

const COM_QUERY: u8 = 3;

async fn open(port: u16, compression: Compression) -> Result<RawConn> {
    let mut login = Login::new(port, APP).minimal();
    login.compression = compression;
    Ok(Session::open(&login).await?.into_conn())
}

async fn query(conn: &mut RawConn, text: &str) -> Result<()> {
    let answer = conn.command(&[&[COM_QUERY], text.as_bytes()].concat()).await?;
    ensure!(answer.as_ref().and_then(|packet| packet.first()) == Some(&0), "{answer:?}");
    Ok(())
}

/// What comes unasked, up to the end of the connection.
async fn farewell(conn: &mut RawConn) -> Result<Vec<Packet>> {
    // What is unasked is numbered as a new command's
    conn.restart(0);
    let mut packets = Vec::new();
    while let Some(packet) = conn.read().await? {
        packets.push(packet);
    }
    Ok(packets)
}

/// `timeouts.idle_timeout` ends a session as the server's own `wait_timeout` does.
pub(crate) async fn sessions_end_as_by_the_server(s: Arc<Own>) -> Result<()> {
    let flavor = s.cluster.flavor();
    let dir = paths::fresh_dir("idle-")?;
    let listener = ["server_compression = 'client'"];
    let (mut proxy, ports) =
        s.cluster.prepare_proxy(dir.path(), &listener, "[timeouts]\nidle_timeout = \"1s\"")?;
    proxy.restart().await?;
    let ways = match flavor {
        Flavor::MariaDb => &[Compression::None, Compression::Zlib][..],
        Flavor::MySql => &[Compression::None, Compression::Zlib, Compression::Zstd(3)],
    };
    for &way in ways {
        let mut of_server = Vec::new();
        for port in [s.cluster.server(Bank::One).port(), s.ports[5]] {
            let mut conn = open(port, way).await?;
            query(&mut conn, "SET wait_timeout = 1").await?;
            of_server.push(farewell(&mut conn).await?);
        }
        ensure!(of_server[0] == of_server[1], "{way:?}: {of_server:?}");
        let mut conn = open(ports[0], way).await?;
        // What takes longer is not idle
        query(&mut conn, "DO SLEEP(1.2)").await?;
        let said = farewell(&mut conn).await?;
        match (flavor, said.as_slice()) {
            (Flavor::MariaDb, []) => {}
            (Flavor::MySql, [(0, packet)]) => {
                let (code, message) = error_packet(packet).context("no error packet")?;
                let servers = of_server[0].first().and_then(|(_, packet)| error_packet(packet));
                ensure!(servers.is_some_and(|(servers, _)| servers == code && code == 4031));
                ensure!(
                    message.starts_with("atone: ") && message.contains("timeouts.idle_timeout = 1s"),
                    "{message}"
                );
            }
            _ => anyhow::bail!("{way:?}: {said:?}"),
        }
    }
    // Its local transaction is rolled back
    let schema = s.cluster.bank_schema("idle").await?;
    let mut conn = sql::connect(ports[0], APP, Some(&schema)).await?;
    sql::run_all(&mut conn, &["BEGIN", "UPDATE account SET balance = 0"]).await?;
    let mut other = s.cluster.direct(Bank::One, &schema).await?;
    sql::run(&mut other, "UPDATE account SET balance = balance + 1").await?;
    let balances = sql::rows(&mut other, "SELECT balance FROM account").await?;
    ensure!(balances == ["101", "101", "101"], "{balances:?}");
    Ok(())
}
