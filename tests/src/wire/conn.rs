//! Packets over TCP, with or without TLS and compression.

use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::compress::{Compression, Frames};
use super::session::{Login, Session};
use crate::server::RAW;

/// How long an answer may take.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The longest payload of one frame of a packet, in bytes; a longer one is split.
const MAX_PAYLOAD: usize = 0xff_ffff;

/// A packet: its sequence number and payload.
pub type Packet = (u8, Vec<u8>);

trait Io: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Io for T {}

/// A connection whose packets are written by hand.
#[derive(Debug)]
pub struct RawConn {
    stream: Box<dyn Io>,
    raw: BytesMut,
    plain: BytesMut,
    frames: Option<Frames>,
    tls: bool,
    ended: Option<Ended>,
    /// What is under all the layers.
    socket: std::net::TcpStream,
}

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// TLS's `close_notify`
    Goodbye,
    /// The end of the stream
    Eof,
    /// A reset
    Reset,
}

impl RawConn {
    /// Connects and reads nothing.
    pub async fn connect(port: u16) -> Result<Self> {
        Self::over(TcpStream::connect(("127.0.0.1", port)).await?)
    }

    /// The same, but closing this side resets the connection.
    pub async fn connect_resetting(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_zero_linger()?;
        Self::over(stream)
    }

    /// The same at either end of a connection that is there.
    pub fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?.into();
        Ok(Self {
            stream: Box::new(stream),
            raw: BytesMut::new(),
            plain: BytesMut::new(),
            frames: None,
            tls: false,
            ended: None,
            socket,
        })
    }

    /// How the other side ended it, once a read has come to that.
    pub fn ended(&self) -> Option<Ended> {
        self.ended
    }

    /// Connects and logs in as the account without a password.
    pub async fn login(port: u16, schema: &str) -> Result<Self> {
        let login = Login::new(port, (RAW, "")).schema(schema).minimal();
        Ok(Session::open(&login).await?.into_conn())
    }

    /// Goes on in TLS, whatever certificate the other side shows: it is a test.
    pub async fn start_tls(self) -> Result<Self> {
        if !self.plain.is_empty() || !self.raw.is_empty() {
            bail!("something came before TLS");
        }
        let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting()?));
        let name = rustls::pki_types::ServerName::try_from("localhost")?;
        let stream = tokio::time::timeout(ANSWER_LIMIT, connector.connect(name, self.stream)).await??;
        Ok(Self { stream: Box::new(stream), tls: true, ..self })
    }

    /// Goes on compressed.
    pub fn start_compression(&mut self, kind: Compression) {
        if kind != Compression::None {
            self.frames = Some(Frames::new(kind));
        }
    }

    /// Whether the other side ever sent a frame that was really compressed.
    pub fn seen_compressed(&self) -> bool {
        self.frames.as_ref().is_some_and(|frames| frames.seen_compressed)
    }

    /// Writes one packet, in several frames where it is too long for one.
    pub async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::with_capacity(payload.len() + 8);
        let mut sequence = sequence;
        let mut rest = payload;
        loop {
            let (part, after) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            bytes.extend_from_slice(&u32::try_from(part.len())?.to_le_bytes()[..3]);
            bytes.push(sequence);
            bytes.extend_from_slice(part);
            sequence = sequence.wrapping_add(1);
            rest = after;
            if part.len() < MAX_PAYLOAD {
                break;
            }
        }
        self.send_bytes(&bytes).await
    }

    /// The next bytes belong to a new command: compressed frames count from 0 again. `behind` is how many commands were
    /// sent before and have not been answered in full.
    pub fn restart(&mut self, behind: u32) {
        if let Some(frames) = &mut self.frames {
            frames.restart(behind);
        }
    }

    /// Writes bytes as they are, in compressed frames where the connection is compressed.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.frames {
            Some(frames) => {
                let encoded = frames.encode(bytes)?;
                self.stream.write_all(&encoded).await?;
            }
            None => self.stream.write_all(bytes).await?,
        }
        Ok(self.stream.flush().await?)
    }

    /// Reads one frame of a packet; `None` where the connection was closed.
    pub async fn read(&mut self) -> Result<Option<Packet>> {
        tokio::time::timeout(ANSWER_LIMIT, self.read_unbounded()).await.context("no answer")?
    }

    /// Reads one packet, however many frames it has: the first one's number, their count, and the payload. `None` where
    /// the connection was closed.
    pub async fn read_whole(&mut self) -> Result<Option<(u8, usize, Vec<u8>)>> {
        let Some((first, mut payload)) = self.read().await? else { return Ok(None) };
        let (mut count, mut last) = (1, payload.len());
        while last == MAX_PAYLOAD {
            let Some((sequence, more)) = self.read().await? else { return Ok(None) };
            let expected = first.wrapping_add(u8::try_from(count % 256)?);
            if sequence != expected {
                bail!("a packet goes on with frame {sequence} where {expected} was next");
            }
            count += 1;
            last = more.len();
            payload.extend_from_slice(&more);
        }
        Ok(Some((first, count, payload)))
    }

    /// Reads exactly this many bytes as they come, of a connection whose compression the caller does; `None` where it
    /// was closed.
    pub async fn bytes(&mut self, count: usize) -> Result<Option<BytesMut>> {
        let reading = async {
            while self.plain.len() < count {
                if !self.fill().await? {
                    return Ok(None);
                }
            }
            Ok(Some(self.plain.split_to(count)))
        };
        tokio::time::timeout(ANSWER_LIMIT, reading).await.context("no answer")?
    }

    async fn read_unbounded(&mut self) -> Result<Option<Packet>> {
        loop {
            if let Some(header) = self.plain.get(..4) {
                let sequence = header[3];
                let length =
                    usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
                if let Some(payload) = self.plain.get(4..4 + length) {
                    let payload = payload.to_vec();
                    self.plain.advance(4 + length);
                    return Ok(Some((sequence, payload)));
                }
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// Takes in what has come, waiting until something comes; false where the connection is closed.
    async fn fill(&mut self) -> Result<bool> {
        let target = if self.frames.is_some() { &mut self.raw } else { &mut self.plain };
        target.reserve(64 << 10);
        let ended = match self.stream.read_buf(target).await {
            Ok(0) if self.tls => Some(Ended::Goodbye),
            Ok(0) => Some(Ended::Eof),
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Some(Ended::Eof),
            Err(error) if is_end(&error) => Some(Ended::Reset),
            Err(error) => return Err(error.into()),
        };
        if ended.is_some() {
            self.ended = ended;
            return Ok(false);
        }
        if let Some(frames) = &mut self.frames {
            frames.decode(&mut self.raw, &mut self.plain)?;
        }
        Ok(true)
    }

    /// What has been received and not been read.
    pub fn unread(&self) -> usize {
        self.plain.len() + self.raw.len()
    }

    /// Writes one command and reads the first packet of its answer; `None` where the connection was closed.
    pub async fn command(&mut self, payload: &[u8]) -> Result<Option<Vec<u8>>> {
        self.restart(0);
        self.send(0, payload).await?;
        Ok(self.read().await?.map(|(_, payload)| payload))
    }

    /// Ends the sending side; the other side reads the end of the stream.
    pub async fn finish(&mut self) -> Result<()> {
        match self.stream.shutdown().await {
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(()),
            other => Ok(other?),
        }
    }

    /// The same without TLS's goodbye.
    pub fn cut(&mut self) -> Result<()> {
        Ok(self.socket.shutdown(std::net::Shutdown::Write)?)
    }
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Code and message of an error packet.
pub fn error_packet(payload: &[u8]) -> Option<(u16, String)> {
    match payload {
        [0xff, low, high, rest @ ..] => {
            let text = if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest };
            Some((u16::from_le_bytes([*low, *high]), String::from_utf8_lossy(text).into_owned()))
        }
        _ => None,
    }
}

fn trusting() -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth())
}

/// Trusts every certificate.
#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
