//! For whom a connection was made, by the PROXY protocol: read from the client's leg, written to the server's.

use std::io;

use atone_wire::proxy_protocol::{self, Origin};
use bytes::Buf;
use tokio::time::{Instant, timeout_at};

use crate::backend::Backend;
use crate::config::ProxyProtocol;
use crate::net::{Conn, Peer};
use atone_capture::error::End;

use super::Limit;

/// Reads the header that connections from some networks begin with.
pub(in crate::session) async fn read(
    backend: &Backend,
    client: &mut Conn,
    peer: Peer,
    limit: Limit,
) -> Result<Origin, End> {
    let ip = peer.address.map(|address| address.ip());
    if !backend.listen_proxy_protocol.iter().any(|network| network.contains(ip)) {
        return Ok(match (peer.address, peer.local) {
            (Some(source), Some(destination)) => Origin::Client { source, destination },
            _ => Origin::Other,
        });
    }
    let by = Instant::now() + limit.duration();
    loop {
        match proxy_protocol::parse(&client.rbuf) {
            Ok(Some((len, origin))) => {
                client.rbuf.advance(len);
                return Ok(origin);
            }
            Ok(None) => {
                let read = timeout_at(by, client.fill()).await;
                read.map_err(io::Error::from).flatten().map_err(End::Client)?;
            }
            Err(error) => {
                let from = peer.address.map_or("a Unix socket".into(), |address| address.to_string());
                tracing::warn!(backend = backend.name, from, %error, "the connection is closed");
                return Err(error.into());
            }
        }
    }
}

/// Begins the connection to the server with its header, if it wants one.
pub(in crate::session) async fn write(
    backend: &Backend,
    server: &mut Conn,
    origin: Origin,
) -> io::Result<()> {
    match backend.server_proxy_protocol {
        Some(ProxyProtocol::V1) => server.write_all(&proxy_protocol::v1(origin)).await,
        Some(ProxyProtocol::V2) => server.write_all(&proxy_protocol::v2(origin)).await,
        None => Ok(()),
    }
}
