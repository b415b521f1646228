//! The connection phase: the server's own handshake, relayed. TLS is each leg's own.

use std::io;
use std::sync::Arc;

use atone_wire::caps::{self, client};
use atone_wire::compress::Algorithm;
use atone_wire::handshake::{ClientHello, Greeting, Proof, Response320, SSL_REQUEST, user_of_answer};
use bytes::Bytes;
use humantime::format_duration;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Limit, MAX_HANDSHAKE_BYTES, authenticate, begin, legs, may_log_in, refuse, say_goodbye, send};
use super::{origin, pre_41};
use crate::backend::Backend;
use crate::compressed;
use crate::net::{Conn, Peer};
use crate::tls::{Acceptor, Connector, ServerTlsMode};
use atone_capture::error::{End, SqlError};

/// What the connection phase came to.
pub(in crate::session) struct Opened {
    pub(in crate::session) backend: Arc<Backend>,
    pub(in crate::session) client: Conn,
    pub(in crate::session) server: Conn,
    pub(in crate::session) capabilities: u64,
    pub(in crate::session) mariadb: bool,
    pub(in crate::session) status: u16,
    /// The connection to the server, as that numbers them.
    pub(in crate::session) connection_id: u32,
}

/// The same before the greeting, or to a client of the protocol before 4.1.
pub(in crate::session) async fn refuse_early(
    client: &mut Conn,
    seq: u8,
    error: &SqlError,
) -> Result<End, End> {
    say_goodbye(client, seq, &error.early_packet()).await
}

impl Opened {
    /// Connects to the server and relays its handshake until it says OK.
    pub(in crate::session) async fn open(
        backend: Arc<Backend>,
        mut client: Conn,
        peer: Peer,
    ) -> Result<Opened, End> {
        let limit = Limit::of(&backend);
        let origin = origin::read(&backend, &mut client, peer, limit).await?;
        let mut server = match backend.connect().await {
            Ok(stream) => Conn::new(stream),
            Err(e) => {
                let error =
                    SqlError::unavailable("", &format!("backend {} cannot be reached: {e}", backend.name));
                refuse_early(&mut client, 0, &error).await?;
                return Err(End::Server(e));
            }
        };
        origin::write(&backend, &mut server, origin).await.map_err(End::Server)?;
        let connect_timeout = backend.limits.connect_timeout();
        let (greeting, seq) = match timeout(connect_timeout, server.packet(MAX_HANDSHAKE_BYTES)).await {
            Ok(Ok(packet)) => packet,
            Ok(Err(e)) => {
                client.end_as(server.ending(&e)).await;
                return Err(End::Server(e));
            }
            Err(_) => {
                let why = format!("backend {}: {}", backend.name, no_answer(&backend));
                return Err(refuse_early(&mut client, 0, &SqlError::unavailable("", &why)).await?);
            }
        };
        if greeting.first() == Some(&0xff) {
            // Too many connections, host blocked: the server's own words
            return Err(say_goodbye(&mut client, seq, &greeting).await?);
        }
        let offered = Greeting::parse(&greeting)?;
        // What holds for every client is said before it has to show anything
        if let Err(error) = server_tls(&backend, &offered, false) {
            return Err(refuse_early(&mut client, seq, &error).await?);
        }
        let mut greeting = greeting.to_vec();
        let tls = listen_tls(&backend, &offered);
        let listen_ssl = if tls.is_some() { client::SSL } else { 0 };
        let common = offered.capabilities & !caps::MASKED & !caps::EACH_LEGS_OWN;
        let compression = &backend.compression;
        offered.offer(&mut greeting, common | listen_ssl | compression.offer(offered.capabilities));
        limit.wait(send(&mut client, seq, &greeting)).await.map_err(End::Client)?;

        let (mut client, answer, client_seq) = Self::answer(tls, client, &mut server, limit).await?;
        if let Some(response) = Response320::parse(&answer) {
            if let Err(error) = pre_41::may_go_on(&backend, &client, response) {
                return Err(refuse_early(&mut client, client_seq.wrapping_add(1), &error).await?);
            }
            send(&mut server, client_seq, &answer).await.map_err(End::Server)?;
            return Err(pre_41::relay(&backend, client, server).await);
        }
        let server_tls = match server_tls(&backend, &offered, client.is_tls()) {
            Ok(server_tls) => server_tls,
            Err(error) => return Err(refuse(&mut client, client_seq.wrapping_add(1), &error).await?),
        };
        let hello = ClientHello::parse(&answer)?;
        let server_ssl = if server_tls.is_some() { client::SSL } else { 0 };
        let mut answer = answer.to_vec();
        hello.ask(&mut answer, hello.capabilities & !caps::MASKED & !client::SSL | server_ssl);
        let of_client = compression.of_client(offered.capabilities, &answer);
        let agreed = of_client.and_then(|of_client| {
            let of_server = compression.of_server(offered.capabilities, of_client);
            compressed::ask(&mut answer, of_server).map(|()| (of_client, of_server))
        });
        let (of_client, of_server) = match agreed {
            Ok(agreed) => agreed,
            Err(e) => {
                let error = SqlError::bad_handshake(&e.to_string());
                return Err(refuse(&mut client, client_seq.wrapping_add(1), &error).await?);
            }
        };
        let mut server_seq = seq.wrapping_add(1);
        if let Some(connector) = server_tls {
            send(&mut server, server_seq, &answer[..SSL_REQUEST]).await.map_err(End::Server)?;
            server_seq = server_seq.wrapping_add(1);
            let connected = timeout(connect_timeout, server.connect_tls(connector)).await;
            server = match connected.unwrap_or_else(|_| Err(no_answer(&backend))) {
                Ok(server) => server,
                Err(e) => {
                    tracing::warn!(backend = backend.name, error = %e, "TLS with the server");
                    let error = SqlError::unavailable("", &format!("backend {}: TLS: {e}", backend.name));
                    refuse(&mut client, client_seq.wrapping_add(1), &error).await?;
                    return Err(End::Server(e));
                }
            };
        }
        let user = user_of_answer(&answer);
        if let Err(error) = may_log_in(&backend, client.peer_uid(), user) {
            return Err(refuse(&mut client, client_seq.wrapping_add(1), &error).await?);
        }
        let legs = legs(&client, &server);
        let mariadb = offered.is_mariadb();
        let proof = Proof::of_answer(&answer);
        let auth = match begin(legs, mariadb, proof, &offered.salt) {
            Ok(auth) => auth,
            Err(error) => return Err(refuse(&mut client, client_seq.wrapping_add(1), &error).await?),
        };
        send(&mut server, server_seq, &answer).await.map_err(End::Server)?;
        let ahead = client_seq.wrapping_sub(server_seq);
        let next = client_seq.wrapping_add(1);
        let done = authenticate(&mut client, &mut server, auth, ahead, next, Some(limit)).await?;
        let Some(status) = done else {
            client.shutdown().await;
            return Err(End::Done);
        };
        compress(&mut client, of_client, &mut server, of_server);
        let capabilities = hello.capabilities & common;
        let connection_id = offered.connection_id;
        Ok(Opened { backend, client, server, capabilities, mariadb, status, connection_id })
    }

    /// The client's answer to the greeting, and its sequence number; TLS has begun if the client wanted it.
    async fn answer(
        listen_tls: Option<&Acceptor>,
        client: Conn,
        server: &mut Conn,
        limit: Limit,
    ) -> Result<(Conn, Bytes, u8), End> {
        let (mut client, answer, seq) = Self::hello(client, server, 1, limit).await?;
        let next = seq.wrapping_add(1);
        if Response320::parse(&answer).is_some() {
            return Ok((client, answer, seq));
        }
        let wants_tls = Self::parse_hello(&mut client, &answer, seq).await?.capabilities & client::SSL != 0;
        let error = match listen_tls {
            None if !wants_tls => return Ok((client, answer, seq)),
            None => SqlError::bad_handshake("TLS was not offered: connect without it"),
            Some(tls) if !wants_tls => {
                // To the servers a Unix socket is as good
                if !tls.is_required() || client.is_unix() {
                    return Ok((client, answer, seq));
                }
                SqlError::insecure_transport("connect with TLS (listen_tls.require is set)")
            }
            Some(_) if answer.len() != SSL_REQUEST => {
                SqlError::bad_handshake("a request for TLS with something behind it")
            }
            Some(tls) => {
                let client = limit.wait(client.accept_tls(&tls.acceptor())).await.map_err(End::Client)?;
                let (mut client, answer, seq) = Self::hello(client, server, next, limit).await?;
                Self::parse_hello(&mut client, &answer, seq).await?;
                return Ok((client, answer, seq));
            }
        };
        Err(refuse(&mut client, next, &error).await?)
    }

    /// The client's next packet, and its sequence number.
    async fn hello(
        mut client: Conn,
        server: &mut Conn,
        expected: u8,
        limit: Limit,
    ) -> Result<(Conn, Bytes, u8), End> {
        let by = Instant::now() + limit.duration();
        let read = loop {
            tokio::select! {
                read = timeout_at(by, client.packet(MAX_HANDSHAKE_BYTES)) => break read,
                // Unasked: it is going
                said = server.packet(MAX_HANDSHAKE_BYTES) => match said {
                    Ok((payload, _)) => {
                        limit.wait(send(&mut client, expected, &payload)).await.map_err(End::Client)?;
                    }
                    Err(e) => {
                        client.end_as(server.ending(&e)).await;
                        return Err(End::Server(e));
                    }
                },
            }
        };
        match read.map_err(io::Error::from).flatten() {
            Ok((answer, seq)) => Ok((client, answer, seq)),
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                Err(refuse(&mut client, expected, &SqlError::handshake_timeout(limit.duration())).await?)
            }
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                refuse(&mut client, expected, &SqlError::bad_handshake(&e.to_string())).await?;
                Err(End::Client(e))
            }
            Err(e) => Err(End::Client(e)),
        }
    }

    async fn parse_hello(client: &mut Conn, answer: &[u8], seq: u8) -> Result<ClientHello, End> {
        match ClientHello::parse(answer) {
            Ok(hello) => Ok(hello),
            Err(e) => {
                refuse(client, seq.wrapping_add(1), &SqlError::bad_handshake(&e.to_string())).await?;
                Err(e.into())
            }
        }
    }
}

/// The server says nothing where it is not yet about the account.
fn no_answer(backend: &Backend) -> io::Error {
    let why = format!("no answer in connect_timeout = {}", format_duration(backend.limits.connect_timeout()));
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// The login is over: packets are compressed from now on, on each leg as agreed.
fn compress(
    client: &mut Conn,
    of_client: Option<Algorithm>,
    server: &mut Conn,
    of_server: Option<Algorithm>,
) {
    if let Some(algorithm) = of_client {
        client.compress(algorithm, compressed::End::Server);
    }
    if let Some(algorithm) = of_server {
        server.compress(algorithm, compressed::End::Client);
    }
}

/// What accepts a client's TLS; `None` where it is not offered. Where nobody has asked for it, and the server's leg
/// goes by the client's, the client is offered what the server offers.
fn listen_tls<'a>(backend: &'a Backend, offered: &Greeting) -> Option<&'a Acceptor> {
    let by_server = backend.server_tls_mode == ServerTlsMode::AsClient && !backend.listen_tls_asked_for;
    backend.listen_tls.as_ref().filter(|_| !by_server || offered.capabilities & client::SSL != 0)
}

/// How TLS with this server begins, for a client that has it or not; `None` where it is not to be used.
fn server_tls<'a>(
    backend: &'a Backend,
    offered: &Greeting,
    client_tls: bool,
) -> Result<Option<&'a Connector>, SqlError> {
    let offers = offered.capabilities & client::SSL != 0;
    let (needs, why) = match backend.server_tls_mode {
        ServerTlsMode::AsClient if client_tls => {
            (true, ", which the client has (server_tls.mode = \"as-client\")")
        }
        ServerTlsMode::AsClient | ServerTlsMode::Disabled => return Ok(None),
        ServerTlsMode::Preferred => (false, ""),
        ServerTlsMode::Required | ServerTlsMode::VerifyCa | ServerTlsMode::VerifyIdentity => (true, ""),
    };
    if needs && !offers {
        let why = format!("backend {}: the server does not offer TLS{why}", backend.name);
        return Err(SqlError::unavailable("", &why));
    }
    Ok(backend.server_tls.as_ref().filter(|_| offers))
}
