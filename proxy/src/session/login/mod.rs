//! The exchange by which a client proves who it is, at the login and in `COM_CHANGE_USER`: relayed, with what differs
//! between the legs put right.

mod auth;
pub(super) mod handshake;
mod origin;
mod pre_41;

use std::io;
use std::time::Duration;

use atone_wire::Malformed;
use atone_wire::frame::put_packet;
use atone_wire::handshake::Proof;
use atone_wire::response::{ErrPacket, OkPacket};
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use crate::backend::Backend;
use crate::net::Conn;
use crate::tls::rsa::{self, OwnKey, RsaError};
use atone_capture::error::{End, SqlError};

use auth::{Answer, Auth, Legs};

/// The largest packet of the connection phase, in bytes.
pub(super) const MAX_HANDSHAKE_BYTES: usize = 1 << 20;

/// How long a client may take to read why its login has come to nothing.
pub(super) const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// How long a client may keep its login waiting, each time that it is its turn. What the server takes is the server's
/// own time: it may delay a login on purpose, or ask somebody else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// `handshake_timeout`
    silence: Duration,
}

impl Limit {
    /// The backend's.
    pub(super) fn of(backend: &Backend) -> Limit {
        Limit { silence: backend.limits.handshake_timeout() }
    }

    /// How long a silence may be.
    pub(super) fn duration(self) -> Duration {
        self.silence
    }

    /// Waits for the client to send or to take something; `TimedOut` where it does not.
    pub(super) async fn wait<T>(self, turn: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        timeout(self.duration(), turn).await.map_err(io::Error::from).flatten()
    }
}

/// Why a login, or a session whose packets are only passed on, goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told so.
    Refused(SqlError),
    /// The connection has ended.
    End(End),
}

impl From<End> for Stop {
    fn from(end: End) -> Stop {
        Stop::End(end)
    }
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Stop {
        Stop::Refused(error)
    }
}

/// Tells the client why, as the last that it hears.
pub(super) async fn refuse(client: &mut Conn, seq: u8, error: &SqlError) -> Result<End, End> {
    say_goodbye(client, seq, &error.packet()).await
}

/// Writes the last packet of a login, to a client that may not even read it.
pub(super) async fn say_goodbye(client: &mut Conn, seq: u8, payload: &[u8]) -> Result<End, End> {
    let sent = timeout(GOODBYE_LIMIT, send(client, seq, payload)).await;
    sent.map_err(io::Error::from).flatten().map_err(End::Client)?;
    client.shutdown().await;
    Ok(End::Done)
}

/// Writes one packet.
pub(super) async fn send(conn: &mut Conn, seq: u8, payload: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(256);
    put_packet(&mut out, seq, payload);
    conn.write_all(&out).await
}

/// A server behind a Unix socket takes each client for the proxy's own user, for plugins that ask the system who it is.
pub(super) fn may_log_in(
    backend: &Backend,
    peer_uid: Option<u32>,
    user: Result<&[u8], Malformed>,
) -> Result<(), SqlError> {
    let Some(own) = &backend.own_user else { return Ok(()) };
    let user = user.map_err(|e| SqlError::bad_handshake(&e.to_string()))?;
    if own.may_log_in_as(user, peer_uid) {
        return Ok(());
    }
    Err(SqlError::access_denied(
        user,
        "the server would take every client for this user, which the proxy runs as; connect as that user of the \
         system to a listener on a Unix socket",
    ))
}

/// What is under the two legs.
pub(super) fn legs(client: &Conn, server: &Conn) -> Legs {
    Legs {
        client_tls: client.is_tls(),
        client_unix: client.is_unix(),
        server_tls: server.is_tls(),
        server_unix: server.is_unix(),
    }
}

/// Begins to follow the exchange of a password.
pub(super) fn begin(
    legs: Legs,
    mariadb: bool,
    proof: Result<Proof<'_>, Malformed>,
    salt: &[u8],
) -> Result<Auth, SqlError> {
    let proof = match (legs, proof) {
        (_, Ok(proof)) => proof,
        // The server judges it
        (legs, Err(_)) if legs.are_alike() => Proof { plugin: &[], data: &[] },
        (_, Err(e)) => return Err(SqlError::bad_handshake(&e.to_string())),
    };
    Auth::begin(legs, mariadb, proof, salt).map_err(|why| SqlError::insecure_transport(&why))
}

/// Relays what the two say to each other until the server says OK, and returns its status flags; `None` where it says
/// ERR. The client's sequence numbers are `ahead` of the server's; its next packet has the number `next`. Without a
/// `limit` the client may take any time to answer.
pub(super) async fn authenticate(
    client: &mut Conn,
    server: &mut Conn,
    mut auth: Auth,
    mut ahead: u8,
    mut next: u8,
    limit: Option<Limit>,
) -> Result<Option<u16>, End> {
    let (mut client_ended, mut end_passed_on) = (false, false);
    // What a client sends before it is asked is not of this exchange: commands that it has sent ahead
    let mut asked = false;
    loop {
        let silence = async {
            match limit {
                Some(limit) if asked && !end_passed_on => {
                    sleep(limit.duration()).await;
                    limit.duration()
                }
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            limit = silence => {
                return Err(refuse(client, next, &SqlError::handshake_timeout(limit)).await?);
            }
            packet = server.packet(MAX_HANDSHAKE_BYTES) => {
                let (payload, seq) = match packet {
                    Ok(packet) => packet,
                    Err(e) => {
                        client.end_as(server.ending(&e)).await;
                        return Err(End::Server(e));
                    }
                };
                let seq = seq.wrapping_add(ahead);
                next = seq.wrapping_add(1);
                if let Err(why) = auth.server_says(&payload) {
                    return Err(refuse(client, seq, &SqlError::insecure_transport(&why)).await?);
                }
                let sent = send(client, seq, &payload);
                match limit {
                    Some(limit) => limit.wait(sent).await,
                    None => sent.await,
                }
                .map_err(End::Client)?;
                match payload.first() {
                    Some(0x00) => return Ok(Some(OkPacket::parse(&payload)?.status)),
                    Some(0xff) => {
                        tracing::debug!(code = ErrPacket::parse(&payload)?.code, "login refused by the server");
                        return Ok(None);
                    }
                    _ => asked = auth.is_asked(&payload),
                }
            }
            packet = client_packet(client, asked), if !client_ended || (asked && !end_passed_on) => {
                let (payload, seq) = match packet {
                    Ok(packet) => packet,
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                        // It may still read. What it has sent ahead comes before its end, which is met again after
                        // that
                        client_ended = true;
                        if asked || client.rbuf.is_empty() {
                            end_passed_on = true;
                            server.end_as(client.ending_of_client(&e)).await;
                        }
                        continue;
                    }
                    Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                        return Err(End::Broken("a handshake of more than a megabyte".into()));
                    }
                    Err(e) => return Err(End::Client(e)),
                };
                next = seq.wrapping_add(1);
                asked = match pass_on(client, server, &mut auth, (&payload, seq), &mut ahead).await {
                    Ok(asked) => asked,
                    Err(Stop::Refused(error)) => return Err(refuse(client, next, &error).await?),
                    Err(Stop::End(end)) => return Err(end),
                };
            }
        }
    }
}

/// Does with a packet of the client's what has to be done on these legs. Whether the client has been asked for more
/// meanwhile.
async fn pass_on(
    client: &mut Conn,
    server: &mut Conn,
    auth: &mut Auth,
    (payload, seq): (&[u8], u8),
    ahead: &mut u8,
) -> Result<bool, Stop> {
    fn insecure(why: impl std::fmt::Display) -> SqlError {
        SqlError::insecure_transport(&why.to_string())
    }
    let server_seq = seq.wrapping_sub(*ahead);
    match auth.client_says(payload).map_err(insecure)? {
        Answer::Forward => send(server, server_seq, payload).await.map_err(End::Server)?,
        Answer::Encrypt { request } => {
            tokio::select! {
                encrypted = encrypt(server, server_seq, request, payload, auth.salt()) => encrypted?,
                gone = client.gone(MAX_HANDSHAKE_BYTES) => return Err(End::Client(gone).into()),
            }
            // The request for the key and its answer
            *ahead = ahead.wrapping_sub(2);
        }
        Answer::GiveKey => {
            let key = own_key().await.map_err(insecure)?;
            let answer = [&[0x01], key.pem()].concat();
            send(client, seq.wrapping_add(1), &answer).await.map_err(End::Client)?;
            // The server knows of neither
            *ahead = ahead.wrapping_add(2);
            return Ok(true);
        }
        Answer::Decrypt => {
            let password = own_key().await.and_then(|key| key.decrypt_password(payload, auth.salt()));
            send(server, server_seq, &password.map_err(insecure)?).await.map_err(End::Server)?;
        }
    }
    Ok(false)
}

/// The client's next packet of a login, where it was asked for one; else its end.
async fn client_packet(client: &mut Conn, asked: bool) -> io::Result<(Bytes, u8)> {
    if asked { client.packet(MAX_HANDSHAKE_BYTES).await } else { Err(client.gone(MAX_HANDSHAKE_BYTES).await) }
}

/// The proxy's own RSA key, made when it is first asked for.
async fn own_key() -> Result<&'static OwnKey, RsaError> {
    static KEY: OnceCell<OwnKey> = OnceCell::const_new();
    let made =
        || async { tokio::task::spawn_blocking(OwnKey::generate).await.unwrap_or(Err(RsaError::Unmade)) };
    KEY.get_or_try_init(made).await
}

/// Sends a password, encrypted with the key that the server gives for it.
async fn encrypt(server: &mut Conn, seq: u8, request: u8, password: &[u8], salt: &[u8]) -> Result<(), Stop> {
    send(server, seq, &[request]).await.map_err(End::Server)?;
    let (key, seq) = server.packet(MAX_HANDSHAKE_BYTES).await.map_err(End::Server)?;
    let encrypted = match key.split_first() {
        Some((0x01, pem)) => rsa::encrypt_password(pem, password, salt).map_err(|e| e.to_string()),
        _ => Err("the server gives no RSA key".to_string()),
    };
    let encrypted = encrypted.map_err(|why| {
        SqlError::insecure_transport(&format!(
            "the connection to the server has no TLS, and {why}; set server_tls in the proxy's configuration"
        ))
    })?;
    Ok(send(server, seq.wrapping_add(1), &encrypted).await.map_err(End::Server)?)
}
