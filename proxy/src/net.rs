//! One connection: a socket, with or without TLS, and its read buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use atone_wire::frame;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsStream};

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
    Tls(Box<TlsStream<Begun>>),
}

/// A socket of which some bytes were read already.
#[derive(Debug)]
pub struct Begun {
    read: BytesMut,
    stream: Stream,
}

impl Stream {
    /// Connects to a server.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
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

impl AsyncRead for Begun {
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

impl AsyncWrite for Begun {
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

/// How long saying that nothing more will be written may take.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// How much a read asks for, in bytes: at first and while little comes, and at most.
const MIN_READ_BYTES: usize = 4 << 10;
const MAX_READ_BYTES: usize = 64 << 10;

/// A socket with its read buffer.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    /// What was read and not yet used.
    pub rbuf: BytesMut,
    /// How much the next read asks for, in bytes.
    read_bytes: usize,
}

impl Conn {
    /// Wraps a fresh socket.
    pub fn new(stream: Stream) -> Conn {
        Conn { stream, rbuf: BytesMut::new(), read_bytes: MIN_READ_BYTES }
    }

    /// Answers the client's part of TLS; what was read already belongs to it.
    ///
    /// # Errors
    /// Why the two could not agree, or what the system says.
    pub async fn accept_tls(self, acceptor: &TlsAcceptor) -> io::Result<Conn> {
        let stream = acceptor.accept(Begun { read: self.rbuf, stream: self.stream }).await?;
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
        let stream = connector.connect(name, Begun { read: self.rbuf, stream: self.stream }).await?;
        Ok(Conn::new(Stream::Tls(Box::new(stream.into()))))
    }

    /// Whether it is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Whether it is a Unix socket without TLS.
    pub fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    /// Reads once, whatever comes. Cancel safe: what was read is in `rbuf`.
    ///
    /// # Errors
    /// `UnexpectedEof` where the peer has closed.
    pub async fn fill(&mut self) -> io::Result<()> {
        self.rbuf.reserve(self.read_bytes);
        let room = self.rbuf.capacity() - self.rbuf.len();
        match self.stream.read_buf(&mut self.rbuf).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                // A read that fills its room is followed by more; an idle connection keeps a small buffer
                self.read_bytes = if n >= room { self.read_bytes * 2 } else { n.next_power_of_two() }
                    .clamp(MIN_READ_BYTES, MAX_READ_BYTES);
                Ok(())
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
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        match &mut self.stream {
            Stream::Tcp(_) | Stream::Unix(_) => Ok(()),
            // What was encrypted may still be in its buffer
            Stream::Tls(stream) => stream.flush().await,
        }
    }

    /// Says that nothing more will be written. Errors do not matter: the connection ends.
    pub async fn shutdown(&mut self) {
        // TLS says goodbye first, which a peer that does not read would hold up
        let _ = tokio::time::timeout(SHUTDOWN_LIMIT, self.stream.shutdown()).await;
    }
}
