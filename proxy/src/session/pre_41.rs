//! Clients of the protocol before 4.1: load balancers that ask for a server's health still speak it. Whether they are
//! let in is the server's to say (MariaDB does, MySQL does not any more). Their packets are passed on as they come,
//! without following the replies, whose format is another one; so such a session is never bound, and ends where a
//! statement wants it to be.

use std::io;
use std::sync::{Mutex, PoisonError};

use atone_wire::caps::client;
use atone_wire::command;
use atone_wire::frame::{HEADER, Header, MAX_PAYLOAD, put_packet};
use atone_wire::handshake::{Response320, user_of_change_user};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, timeout};

use super::login::{GOODBYE_LIMIT, Stop, may_log_in};
use crate::backend::Backend;
use crate::net::Conn;
use crate::tls::ServerTlsMode;
use atone_capture::error::{End, SqlError};

/// How much a read asks for, in bytes.
const READ_BYTES: usize = 16 << 10;

/// Whether a client may log in by this answer, as far as the proxy is concerned.
pub(super) fn may_go_on(backend: &Backend, conn: &Conn, answer: Response320<'_>) -> Result<(), SqlError> {
    if answer.capabilities & (client::SSL | client::COMPRESS) != 0 {
        return Err(SqlError::bad_handshake("TLS or compression in the protocol before 4.1"));
    }
    if backend.listen_tls.as_ref().is_some_and(|tls| tls.is_required()) && !conn.is_unix() {
        return Err(SqlError::insecure_transport("connect with TLS (listen_tls.require is set)"));
    }
    match backend.server_tls_mode {
        ServerTlsMode::AsClient | ServerTlsMode::Disabled | ServerTlsMode::Preferred => {}
        ServerTlsMode::Required | ServerTlsMode::VerifyCa | ServerTlsMode::VerifyIdentity => {
            let why = "the protocol before 4.1, with which there is no TLS with the server (server_tls)";
            return Err(SqlError::bad_handshake(why));
        }
    }
    may_log_in(backend, conn.peer_uid(), Ok(answer.user))
}

/// Passes on what the two say, until both have ended or one is gone.
pub(super) async fn relay(backend: &Backend, client: Conn, server: Conn) -> End {
    let peer_uid = client.peer_uid();
    let (client, sent_ahead) = client.into_parts();
    let (server, said) = server.into_parts();
    let (from_client, mut to_client) = split(client);
    let (from_server, to_server) = split(server);
    let activity = Mutex::new(Activity { at: Instant::now(), server_was_last: false });
    let up = Upstream { backend, peer_uid, buffer: sent_ahead, activity: &activity };
    let ended = tokio::select! {
        refused = up.run(from_client, to_server) => refused,
        ended = downstream(from_server, &mut to_client, said, &activity) => ended,
    };
    match ended {
        Err(Stop::Refused(error)) => {
            let mut out = Vec::new();
            put_packet(&mut out, 1, &error.early_packet());
            // The connection ends whether it is heard or not
            let _ = timeout(GOODBYE_LIMIT, to_client.write_all(&out)).await;
        }
        Err(Stop::End(end)) => return end,
        Ok(()) => {}
    }
    match to_client.shutdown().await {
        Ok(()) => End::Done,
        Err(e) => End::Client(e),
    }
}

/// Who last said something, and when.
#[derive(Clone, Copy, Debug)]
struct Activity {
    at: Instant,
    server_was_last: bool,
}

impl Activity {
    fn note(activity: &Mutex<Activity>, server_was_last: bool) {
        *activity.lock().unwrap_or_else(PoisonError::into_inner) =
            Activity { at: Instant::now(), server_was_last };
    }
}

/// What the client says on its way to the server.
struct Upstream<'a> {
    backend: &'a Backend,
    peer_uid: Option<u32>,
    buffer: BytesMut,
    activity: &'a Mutex<Activity>,
}

/// What is to be done with the next frame of the client's.
#[derive(Debug, PartialEq, Eq)]
enum Next<'a> {
    /// It goes on, with its header this long in bytes.
    Pass(usize),
    /// It depends on what follows.
    Wait,
    /// It is a whole command, of this payload, that has to be looked at.
    Look(&'a [u8]),
}

/// As in every unbound session, those that are too long to be kept are not looked at.
fn next_frame(buffer: &[u8], max_statement_bytes: usize) -> Next<'_> {
    let Some(Header { len, seq }) = Header::peek(buffer) else { return Next::Wait };
    let whole = HEADER + len;
    // A packet with another number is part of a login, of a file or of a longer packet, or the server refuses it
    if len == 0 || seq != 0 || len == MAX_PAYLOAD || len > max_statement_bytes {
        return Next::Pass(whole);
    }
    match (buffer.get(HEADER), buffer.get(HEADER..whole)) {
        (Some(&(command::QUERY | command::STMT_PREPARE | command::CHANGE_USER)), Some(payload)) => {
            Next::Look(payload)
        }
        (Some(&(command::QUERY | command::STMT_PREPARE | command::CHANGE_USER)) | None, None) => Next::Wait,
        _ => Next::Pass(whole),
    }
}

impl Upstream<'_> {
    /// Returns only where the session ends.
    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Stop> {
        let mut left = 0;
        loop {
            let n = left.min(self.buffer.len());
            if n > 0 {
                if to.write_all(&self.buffer[..n]).await.is_err() {
                    // The server has gone: what it said before goes to the client
                    return std::future::pending().await;
                }
                self.buffer.advance(n);
                left -= n;
            }
            if left == 0 {
                left = match next_frame(&self.buffer, self.backend.limits.max_statement_bytes) {
                    Next::Pass(whole) => whole,
                    Next::Wait => 0,
                    Next::Look(payload) => {
                        self.judge(payload)?;
                        HEADER + payload.len()
                    }
                };
                if left > 0 {
                    continue;
                }
            }
            match self.read(&mut from).await.map_err(End::Client)? {
                Read::Some => Activity::note(self.activity, false),
                Read::Idle => return Ok(()),
                Read::End => {
                    // It may still read
                    let _ = to.shutdown().await;
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Whether this command may go on.
    fn judge(&self, payload: &[u8]) -> Result<(), SqlError> {
        match payload.split_first() {
            Some((&command::CHANGE_USER, _)) => {
                may_log_in(self.backend, self.peer_uid, user_of_change_user(payload))
            }
            Some((_, sql)) if atone_sql::may_concern_atone(sql) => Err(SqlError::protocol_too_old()),
            _ => Ok(()),
        }
    }

    /// Reads more, for as long as the client may be silent.
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Read> {
        loop {
            self.buffer.reserve(READ_BYTES);
            let read = from.read_buf(&mut self.buffer);
            let read = match self.backend.limits.idle_timeout() {
                None => read.await,
                Some(limit) => match timeout(limit, read).await {
                    Ok(read) => read,
                    Err(_) => {
                        let activity = *self.activity.lock().unwrap_or_else(PoisonError::into_inner);
                        if activity.server_was_last && activity.at.elapsed() >= limit {
                            return Ok(Read::Idle);
                        }
                        // The server is busy, or was until a moment ago
                        continue;
                    }
                },
            };
            return Ok(if read? == 0 { Read::End } else { Read::Some });
        }
    }
}

/// What a read from the client came to.
enum Read {
    Some,
    /// Nothing for `idle_timeout`, with nothing to wait for.
    Idle,
    End,
}

/// Passes on what the server says, until it closes.
async fn downstream(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    mut said: BytesMut,
    activity: &Mutex<Activity>,
) -> Result<(), Stop> {
    loop {
        if !said.is_empty() {
            to.write_all(&said).await.map_err(End::Client)?;
            said.clear();
            Activity::note(activity, true);
        }
        said.reserve(READ_BYTES);
        if from.read_buf(&mut said).await.map_err(End::Server)? == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_with_statements_are_looked_at() {
        let next = |buffer| next_frame(buffer, 8);
        assert_eq!(next(b"\x03\0\0\0\x03ab\x01"), Next::Look(b"\x03ab"));
        assert_eq!(next(b"\x02\0\0\0\x16a"), Next::Look(b"\x16a"));
        assert_eq!(next(b"\x03\0\0\0\x11a\0"), Next::Look(b"\x11a\0"));
        assert_eq!(next(b"\x01\0\0\0\x0e"), Next::Pass(5));
        for whole in [&b"\x03\0\0\0\x03ab"[..], b"\x01\0\0\0\x03"] {
            for end in 0..whole.len() {
                assert_eq!(next(&whole[..end]), Next::Wait);
            }
        }
        // What need not be looked at goes on while it comes in
        assert_eq!(next(b"\x03\0\0\0\x0e"), Next::Pass(7));
        assert_eq!(next(b"\x09\0\0\0\x03"), Next::Pass(13));
        assert_eq!(next(b"\x03\0\0\x02\x03"), Next::Pass(7));
        assert_eq!(next(b"\xff\xff\xff\0\x03"), Next::Pass(MAX_PAYLOAD + HEADER));
        // No payload: the byte after it is of the next frame
        assert_eq!(next(b"\0\0\0\0\x03\0\0\0\x03"), Next::Pass(4));
        assert_eq!(next(b"\0\0\0\0"), Next::Pass(4));
    }
}
