//! The connection phase: the server's own handshake, relayed.

use std::sync::Arc;

use atone_wire::caps::{self, client};
use atone_wire::frame::put_packet;
use atone_wire::handshake::{ClientHello, Greeting};
use atone_wire::response::{ErrPacket, OkPacket};

use super::Session;
use crate::backend::Backend;
use crate::error::{End, SqlError};
use crate::net::Conn;

/// The largest packet of the connection phase, in bytes.
const MAX_HANDSHAKE_BYTES: usize = 1 << 20;

/// What the connection phase came to.
pub(super) struct Opened {
    pub(super) backend: Arc<Backend>,
    pub(super) server: Conn,
    pub(super) capabilities: u32,
    pub(super) mariadb: bool,
    pub(super) status: u16,
}

async fn refuse(client: &mut Conn, seq: u8, error: &SqlError) -> Result<(), End> {
    let mut out = Vec::new();
    put_packet(&mut out, seq, &error.packet());
    client.write_all(&out).await.map_err(End::Client)
}

impl Session {
    /// Connects to the server and relays its handshake until it says OK.
    pub(super) async fn open(backend: Arc<Backend>, client: &mut Conn) -> Result<Opened, End> {
        let mut server = match backend.connect().await {
            Ok(stream) => Conn::new(stream),
            Err(e) => {
                let error =
                    SqlError::unavailable("", &format!("backend {} cannot be reached: {e}", backend.name));
                refuse(client, 0, &error).await?;
                return Err(End::Server(e));
            }
        };
        let (greeting, seq) = server.packet(MAX_HANDSHAKE_BYTES).await.map_err(End::Server)?;
        let mut out = Vec::with_capacity(256);
        if greeting.first() == Some(&0xff) {
            // Too many connections, host blocked: the server's own words
            put_packet(&mut out, seq, &greeting);
            client.write_all(&out).await.map_err(End::Client)?;
            return Err(End::Done);
        }
        let offered = Greeting::parse(&greeting)?;
        let mariadb = offered.is_mariadb();
        let mut greeting = greeting.to_vec();
        offered.mask(&mut greeting, caps::MASKED);
        put_packet(&mut out, seq, &greeting);
        client.write_all(&out).await.map_err(End::Client)?;

        let (answer, seq) = match client.packet(MAX_HANDSHAKE_BYTES).await {
            Ok(packet) => packet,
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                refuse(client, 1, &SqlError::bad_handshake(&e.to_string())).await?;
                return Err(End::Client(e));
            }
            Err(e) => return Err(End::Client(e)),
        };
        let hello = match ClientHello::parse(&answer) {
            Ok(hello) if hello.capabilities & client::SSL == 0 => hello,
            Ok(_) => {
                let why = "TLS was not offered: connect without it";
                refuse(client, seq.wrapping_add(1), &SqlError::bad_handshake(why)).await?;
                return Err(End::Done);
            }
            Err(e) => {
                refuse(client, seq.wrapping_add(1), &SqlError::bad_handshake(&e.to_string())).await?;
                return Err(e.into());
            }
        };
        let mut answer = answer.to_vec();
        hello.mask(&mut answer, caps::MASKED);
        out.clear();
        put_packet(&mut out, seq, &answer);
        server.write_all(&out).await.map_err(End::Server)?;
        let status = authenticate(client, &mut server).await?;
        let capabilities = hello.capabilities & offered.capabilities & !caps::MASKED;
        Ok(Opened { backend, server, capabilities, mariadb, status })
    }

    /// The rest of `COM_CHANGE_USER`, which was forwarded.
    pub(super) async fn change_user(&mut self) -> Result<(), End> {
        let status = authenticate(&mut self.client, &mut self.server).await?;
        self.forget_session();
        self.status = status;
        Ok(())
    }
}

/// Relays whatever the two say to each other until the server says OK, and returns its status flags. After ERR the
/// connection is over.
async fn authenticate(client: &mut Conn, server: &mut Conn) -> Result<u16, End> {
    let mut out = Vec::with_capacity(256);
    loop {
        tokio::select! {
            packet = server.packet(MAX_HANDSHAKE_BYTES) => {
                let (payload, seq) = packet.map_err(End::Server)?;
                out.clear();
                put_packet(&mut out, seq, &payload);
                client.write_all(&out).await.map_err(End::Client)?;
                match payload.first() {
                    Some(0x00) => return Ok(OkPacket::parse(&payload)?.status),
                    Some(0xff) => {
                        tracing::debug!(code = ErrPacket::parse(&payload)?.code, "login refused by the server");
                        return Err(End::Done);
                    }
                    _ => {}
                }
            }
            read = client.fill() => {
                read.map_err(End::Client)?;
                if client.rbuf.len() > MAX_HANDSHAKE_BYTES {
                    return Err(End::Broken("a handshake of more than a megabyte".into()));
                }
                let bytes = client.rbuf.split();
                server.write_all(&bytes).await.map_err(End::Server)?;
            }
        }
    }
}
