//! One connection: a socket, with or without TLS, and its read buffer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use atone_wire::compress::Algorithm;
use atone_wire::frame;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::compressed::{Codec, End};
use crate::config::Address;
use crate::tls::Connector;

/// A socket of any kind.
#[derive(Debug)]
pub enum Stream {
    /// TCP
    Tcp(TcpStream),
    /// A Unix socket
    Unix(UnixStream),
    /// TLS on one of the others
    Tls(Box<TlsStream<Prefixed>>),
}

/// Who is at the other end of an accepted connection, as the system sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// The address; a Unix socket's peer has none.
    pub address: Option<SocketAddr>,
    /// The address that it has connected to.
    pub local: Option<SocketAddr>,
}

/// Sets what every TCP connection has: no delay, and signs of life after so much silence.
///
/// # Errors
/// What the system says.
pub fn tune(stream: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(silence) = keepalive {
        let interval = (silence / KEEPALIVE_PROBES).max(Duration::from_secs(1));
        let options =
            TcpKeepalive::new().with_time(silence).with_interval(interval).with_retries(KEEPALIVE_PROBES);
        SockRef::from(stream).set_tcp_keepalive(&options)?;
    }
    Ok(())
}

/// A socket of which some bytes were read already.
#[derive(Debug)]
pub struct Prefixed {
    read: BytesMut,
    stream: Stream,
}

impl Stream {
    /// Connects to a server.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(address: &Address, keepalive: Option<Duration>) -> io::Result<Stream> {
        match address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                tune(&stream, keepalive)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// What is under TLS.
    fn socket(&self) -> &Stream {
        match self {
            Stream::Tls(tls) => tls.get_ref().0.stream.socket(),
            Stream::Tcp(_) | Stream::Unix(_) => self,
        }
    }

    /// The socket under TLS.
    fn socket_mut(&mut self) -> &mut Stream {
        match self {
            Stream::Tls(tls) => tls.get_mut().0.stream.socket_mut(),
            socket => socket,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Stream::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Unix(s) => Pin::new(s).poll_flush(cx),
            Stream::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Prefixed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.read.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let n = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// What is compressed at a time without telling the runtime, in bytes.
const BLOCKING_BYTES: usize = 64 << 10;

/// How often a silent peer is asked for a sign of life before it counts as gone.
const KEEPALIVE_PROBES: u32 = 3;

/// How long saying that nothing more will be written may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// How much a read asks for, in bytes: at first and while little comes, and at most.
const MIN_READ_BYTES: usize = 4 << 10;
const MAX_READ_BYTES: usize = 64 << 10;

/// A read buffer that held more than this is given back once it is empty, in bytes.
const MAX_KEPT_BYTES: usize = 2 * MAX_READ_BYTES;

/// A socket with its read buffer.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    /// What was read, and decompressed, and not yet used.
    pub rbuf: BytesMut,
    /// Compression, if the login agreed on it.
    codec: Option<Box<Codec>>,
    /// How much the next read asks for, in bytes.
    read_bytes: usize,
    /// What ended TLS, where something that had come before it was still to be read.
    deferred_error: Option<io::Error>,
}

impl Conn {
    /// Wraps a fresh socket.
    pub fn new(stream: Stream) -> Conn {
        Conn { stream, rbuf: BytesMut::new(), codec: None, read_bytes: MIN_READ_BYTES, deferred_error: None }
    }

    /// Answers the client's part of TLS; what was read already belongs to it.
    ///
    /// # Errors
    /// Why the two could not agree, or what the system says.
    pub async fn accept_tls(self, acceptor: &TlsAcceptor) -> io::Result<Conn> {
        let stream = acceptor.accept(Prefixed { read: self.rbuf, stream: self.stream }).await?;
        Ok(Conn::new(Stream::Tls(Box::new(stream.into()))))
    }

    /// Begins TLS with a server, which was told so.
    ///
    /// # Errors
    /// Why the two could not agree, or what the system says; `InvalidData` where the server has said something before.
    pub async fn connect_tls(self, connector: &Connector) -> io::Result<Conn> {
        if !self.rbuf.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the server spoke before TLS had begun"));
        }
        let (connector, name) = connector.parts();
        let stream = connector.connect(name, Prefixed { read: self.rbuf, stream: self.stream }).await?;
        Ok(Conn::new(Stream::Tls(Box::new(stream.into()))))
    }

    /// The socket by itself, and what was read of it and not yet used. Not for a compressed connection.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.rbuf)
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Whether it is a Unix socket, with TLS or without.
    pub fn is_unix(&self) -> bool {
        matches!(self.stream.socket(), Stream::Unix(_))
    }

    /// The user id of the process at the other end of a Unix socket.
    pub fn peer_uid(&self) -> Option<u32> {
        match self.stream.socket() {
            Stream::Unix(socket) => socket.peer_cred().ok().map(|cred| cred.uid()),
            Stream::Tcp(_) | Stream::Tls(_) => None,
        }
    }

    /// Compresses from now on, at this end; what was read already is compressed.
    pub fn compress(&mut self, algorithm: Algorithm, end: End) {
        self.codec = Some(Box::new(Codec::new(algorithm, end, self.rbuf.split())));
    }

    /// What tells how compressed packets are numbered; `None` without compression.
    pub fn codec(&mut self) -> Option<&mut Codec> {
        self.codec.as_deref_mut()
    }

    /// Reads once, whatever comes, or takes one compressed packet. Cancel safe: what was read is in `rbuf`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the peer has closed; `Other` with [`atone_wire::compress::Error`].
    pub async fn fill(&mut self) -> io::Result<()> {
        if self.rbuf.is_empty() && self.rbuf.capacity() > MAX_KEPT_BYTES {
            self.rbuf = BytesMut::new();
        }
        let Some(codec) = &mut self.codec else {
            return read(&mut self.stream, &mut self.rbuf, &mut self.read_bytes, &mut self.deferred_error)
                .await;
        };
        loop {
            let before = self.rbuf.len();
            while codec.decode(&mut self.rbuf)? {
                if self.rbuf.len() > before {
                    return Ok(());
                }
            }
            if codec.raw.is_empty() && codec.raw.capacity() > MAX_KEPT_BYTES {
                codec.raw = BytesMut::new();
            }
            read(&mut self.stream, &mut codec.raw, &mut self.read_bytes, &mut self.deferred_error).await?;
        }
    }

    /// Waits until the peer has gone, and says how. What it sends meanwhile is kept, up to `limit` bytes; after that
    /// nothing is noticed. Cancel safe.
    pub async fn gone(&mut self, limit: usize) -> io::Error {
        loop {
            let buffer = match &mut self.codec {
                // What it sends ahead is decoded when its turn has come
                Some(codec) => &mut codec.raw,
                None => &mut self.rbuf,
            };
            if buffer.len() > limit {
                std::future::pending::<()>().await;
            }
            let read = read(&mut self.stream, buffer, &mut self.read_bytes, &mut self.deferred_error);
            if let Err(error) = read.await {
                return error;
            }
        }
    }

    /// Reads until at least `n` bytes are in `rbuf`. Cancel safe.
    ///
    /// # Errors
    /// As [`Conn::fill`].
    pub async fn fill_to(&mut self, n: usize) -> io::Result<()> {
        while self.rbuf.len() < n {
            self.fill().await?;
        }
        Ok(())
    }

    /// Takes one whole packet: its payload and last sequence number. Cancel safe.
    ///
    /// # Errors
    /// As [`Conn::fill`]; `InvalidData` above `limit` bytes.
    pub async fn packet(&mut self, limit: usize) -> io::Result<(Bytes, u8)> {
        loop {
            match frame::take_packet(&mut self.rbuf, limit) {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => self.fill().await?,
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the system says.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(codec) = &mut self.codec else {
            self.stream.write_all(bytes).await?;
            return self.flush().await;
        };
        loop {
            let packet = if codec.pending_bytes() + bytes.len() < BLOCKING_BYTES {
                codec.encode(&mut bytes)
            } else {
                blocking(|| codec.encode(&mut bytes))
            };
            let Some(packet) = packet else { break };
            self.stream.write_all(&packet).await?;
        }
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
            // What was encrypted may still be in its buffer
            Stream::Tls(stream) => stream.flush().await,
        }
    }

    /// Says that nothing more will be written, without TLS's goodbye: as servers do, whose packets tell by themselves
    /// whether something is missing. Errors do not matter: the connection ends.
    pub async fn shutdown(&mut self) {
        let _ = self.stream.socket_mut().shutdown().await;
    }

    /// Ends this connection's sending side as the peer of another one has ended its own.
    pub async fn end_as(&mut self, ending: Ending) {
        match ending {
            Ending::Goodbye => {
                // A peer that does not read would hold the goodbye up
                let _ = tokio::time::timeout(SHUTDOWN_LIMIT, self.stream.shutdown()).await;
            }
            Ending::Eof => self.shutdown().await,
            Ending::Reset => {
                if let Stream::Tcp(stream) = self.stream.socket_mut() {
                    // Closing it resets it then
                    let _ = stream.set_zero_linger();
                }
            }
        }
    }

    /// What an error that this connection has given tells of its end.
    pub fn ending(&self, error: &io::Error) -> Ending {
        match error.kind() {
            io::ErrorKind::ConnectionReset => Ending::Reset,
            // Without a goodbye there is a reason within
            io::ErrorKind::UnexpectedEof if self.is_tls() && error.get_ref().is_none() => Ending::Goodbye,
            _ => Ending::Eof,
        }
    }

    /// The same of a client's connection, for the server: one without TLS has no other goodbye than the end of the
    /// stream. To a server on TLS that would look as if something was cut off.
    pub fn ending_of_client(&self, error: &io::Error) -> Ending {
        match self.ending(error) {
            Ending::Eof if !self.is_tls() => Ending::Goodbye,
            ending => ending,
        }
    }
}

/// Reads once into `buffer`, as much as `read_bytes` says, which learns from it. Cancel safe.
async fn read(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    read_bytes: &mut usize,
    deferred_error: &mut Option<io::Error>,
) -> io::Result<()> {
    if let Some(error) = deferred_error.take() {
        return Err(error);
    }
    buffer.reserve(*read_bytes);
    let room = buffer.capacity() - buffer.len();
    let read = match stream.read_buf(buffer).await {
        // An alert ends TLS. What came together with it is there to be read all the same
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let before = buffer.len();
            loop {
                buffer.reserve(*read_bytes);
                if !matches!(stream.read_buf(buffer).now_or_never(), Some(Ok(1..))) {
                    break;
                }
            }
            if buffer.len() == before {
                return Err(error);
            }
            *deferred_error = Some(error);
            buffer.len() - before
        }
        read => read?,
    };
    match read {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => {
            // A read that fills its room is followed by more; an idle connection keeps a small buffer
            *read_bytes = if n >= room { *read_bytes * 2 } else { n.next_power_of_two() }
                .clamp(MIN_READ_BYTES, MAX_READ_BYTES);
            Ok(())
        }
    }
}

/// How a peer has ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By TLS's `close_notify`
    Goodbye,
    /// By the end of the stream
    Eof,
    /// By a reset
    Reset,
}

/// Runs what takes a while; the runtime lets other threads do what waits for this one, if it has any.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
