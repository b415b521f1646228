//! The PROXY protocol on both legs.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use atone_tests::own::Own;
use atone_tests::server::APP;
use atone_tests::wire::{RawConn, error_packet};
use atone_tests::{Flavor, paths, sql, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Passes connections on to this port, with a header before each; its own port.
async fn balancer(to: u16, header: Vec<u8>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let header = header.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
                // In pieces, as a network may do
                for piece in header.chunks(7) {
                    server.write_all(piece).await?;
                    server.flush().await?;
                }
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(port)
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = (rest.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family, len[0], len[1]], rest].concat()
}

/// The host that the server shows for a connection.
async fn host(port: u16) -> Result<String> {
    let mut conn = sql::connect(port, APP, None).await?;
    let host =
        sql::cell(&mut conn, "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()")
            .await?;
    conn.disconnect().await?;
    Ok(host)
}

pub(crate) async fn the_server_sees_the_client(s: Arc<Own>) -> Result<()> {
    let tcp4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x0c, 0xea];
    let with_more = [&tcp4[..], &[0x04, 0, 3, 1, 2, 3, 0x20, 0, 1, 9]].concat();
    let mut tcp6 = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    tcp6.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    tcp6.extend_from_slice(&[0x1f, 0x90, 0x0c, 0xea]);
    for listener in [3, 4] {
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 3306\r\n".to_vec(), "192.0.2.7:8080"),
            (b"PROXY TCP6 2001:db8::7 ::1 8080 3306\r\n".to_vec(), "2001:db8::7:8080"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
            (v2(0x21, 0x11, &tcp4), "192.0.2.7:8080"),
            (v2(0x21, 0x11, &with_more), "192.0.2.7:8080"),
            (v2(0x21, 0x21, &tcp6), "2001:db8::7:8080"),
            (v2(0x20, 0x00, &[]), "127.0.0.1"),
        ] {
            let seen = host(balancer(s.ports[listener], header.clone()).await?).await?;
            // MySQL knows nothing of these headers
            let expected = if s.cluster.flavor() == Flavor::MySql { "127.0.0.1" } else { expected };
            let good = seen == expected || seen.starts_with(&format!("{expected}:"));
            ensure!(good, "{listener} {}: {seen}", String::from_utf8_lossy(&header));
        }
    }
    // From elsewhere it is not looked for
    ensure!(host(s.ports[5]).await?.starts_with("127.0.0.1:"));
    Ok(())
}

pub(crate) async fn what_is_no_header(s: Arc<Own>) -> Result<()> {
    for bad in [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 8080\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 3306\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        v2(0x21, 0x11, &[1, 2, 3]),
        v2(0x23, 0x11, &[0; 12]),
        v2(0x20, 0x00, &[0; 5000]),
    ] {
        let warnings = s.proxy.log_tail(1000).matches("the connection is closed").count();
        let mut conn = RawConn::connect(s.ports[3]).await?;
        conn.send_bytes(&bad).await?;
        let said = conn.read().await?;
        ensure!(said.is_none(), "{said:?} to {}", String::from_utf8_lossy(&bad));
        wait::until("a warning is logged", Duration::from_secs(20), || async {
            let now = s.proxy.log_tail(1000).matches("the connection is closed").count();
            Ok((now > warnings).then_some(()))
        })
        .await?;
    }
    // No header at all: the time to log in ends it
    let dir = paths::fresh_dir("silent-")?;
    let listener = ["listen_proxy_protocol = ['127.0.0.1']"];
    let (mut proxy, ports) =
        s.cluster.prepare_proxy(dir.path(), &listener, "[timeouts]\nhandshake_timeout = \"300ms\"")?;
    proxy.restart().await?;
    let mut conn = RawConn::connect(ports[0]).await?;
    ensure!(conn.read().await?.is_none());
    Ok(())
}

/// The header that a server gets, byte for byte.
pub(crate) async fn what_the_server_gets(s: Arc<Own>) -> Result<()> {
    let dir = paths::fresh_dir("headers-")?;
    let server = TcpListener::bind("127.0.0.1:0").await?;
    let to = server.local_addr()?.port();
    for version in ["v1", "v2"] {
        for origin in ["listen_proxy_protocol = ['127.0.0.1']", "listen_proxy_protocol = ['unix']"] {
            let lines = format!("{origin}\nserver_proxy_protocol = '{version}'\naddress = '127.0.0.1:{to}'");
            // The first who connects is the client
            let limits = "[limits]\nmin_service_connections = 0";
            let (mut proxy, ports) = s.cluster.prepare_proxy(dir.path(), &[lines], limits)?;
            // It will not be ready: nobody answers the service account
            proxy.launch()?;
            let mut client = wait::until("the listener is open", Duration::from_secs(20), || async {
                Ok(TcpStream::connect(("127.0.0.1", ports[0])).await.ok())
            })
            .await?;
            let given = origin.contains("127.0.0.1");
            if given {
                client.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 3306\r\n").await?;
            }
            let own = client.local_addr()?.port();
            let expected = match (version, given) {
                ("v1", true) => b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 3306\r\n".to_vec(),
                ("v1", false) => {
                    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {own} {}\r\n", ports[0]).into_bytes()
                }
                (_, true) => v2(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x0c, 0xea]),
                (_, false) => {
                    let (from, to) = (own.to_be_bytes(), ports[0].to_be_bytes());
                    v2(0x21, 0x11, &[127, 0, 0, 1, 127, 0, 0, 1, from[0], from[1], to[0], to[1]])
                }
            };
            let (mut stream, _) = server.accept().await?;
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).await?;
            ensure!(got == expected, "{version}: {}", String::from_utf8_lossy(&got));
            stream.write_all(b"\x17\0\0\0\xff\x10\x04Too many connections").await?;
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await?;
            let error = error_packet(answer.get(4..).context("no answer")?).context("no error")?;
            ensure!(error.0 == 1040, "{error:?}");
        }
    }
    Ok(())
}
