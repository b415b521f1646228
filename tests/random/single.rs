//! Clients without CLIENT_MULTI_STATEMENTS. The driver always asks for it; on the way the wish is taken out of its
//! login.

use std::collections::BTreeMap;
use std::io;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// CLIENT_MULTI_STATEMENTS in the third byte of the capabilities.
const MULTI_STATEMENTS: u8 = 1;

/// Ports that pass connections on, to be logged in without CLIENT_MULTI_STATEMENTS. They end when it is dropped.
#[derive(Debug)]
pub(crate) struct Single {
    ports: BTreeMap<u16, u16>,
    _listeners: JoinSet<()>,
}

impl Single {
    /// One port for each of these.
    pub(crate) async fn before(targets: impl IntoIterator<Item = u16>) -> Result<Self> {
        let (mut ports, mut listeners) = (BTreeMap::new(), JoinSet::new());
        for target in targets {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            ports.insert(target, listener.local_addr()?.port());
            listeners.spawn(async move {
                let mut clients = JoinSet::new();
                while let Ok((client, _)) = listener.accept().await {
                    while clients.try_join_next().is_some() {}
                    // What goes wrong on one side is the end of the other: the client sees it
                    clients.spawn(async move { pass(client, target).await.ok() });
                }
            });
        }
        Ok(Self { ports, _listeners: listeners })
    }

    /// The port in front of this one.
    pub(crate) fn port(&self, target: u16) -> Result<u16> {
        self.ports.get(&target).copied().context("there is no such port")
    }
}

async fn pass(mut client: TcpStream, target: u16) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // The greeting
    let greeting = packet(&mut server).await?;
    client.write_all(&greeting).await?;
    let mut login = packet(&mut client).await?;
    if let Some(byte) = login.get_mut(4 + 2) {
        *byte &= !MULTI_STATEMENTS;
    }
    server.write_all(&login).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

/// A packet with its header.
async fn packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut out = vec![0; 4];
    stream.read_exact(&mut out).await?;
    let length = usize::from(out[0]) | usize::from(out[1]) << 8 | usize::from(out[2]) << 16;
    out.resize(4 + length, 0);
    stream.read_exact(&mut out[4..]).await?;
    Ok(out)
}
