//! MySQL packets written by hand, for what no driver would send.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::RAW;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// LONG_PASSWORD, LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH.
const CAPABILITIES: u32 =
    0x0000_0001 | 0x0000_0004 | 0x0000_0008 | 0x0000_0200 | 0x0000_2000 | 0x0000_8000 | 0x0008_0000;

/// A connection whose packets are written by hand.
#[derive(Debug)]
pub struct RawConn {
    stream: TcpStream,
}

/// A packet: its sequence number and payload.
pub type Packet = (u8, Vec<u8>);

impl RawConn {
    /// Connects and reads nothing.
    pub async fn connect(port: u16) -> Result<Self> {
        Ok(Self { stream: TcpStream::connect(("127.0.0.1", port)).await? })
    }

    /// Connects and logs in as the account without a password.
    pub async fn login(port: u16, schema: &str) -> Result<Self> {
        let mut conn = Self::connect(port).await?;
        let (_, greeting) = conn.read().await?.context("closed before the greeting")?;
        if greeting.first() != Some(&10) {
            bail!("not a greeting: {greeting:?}");
        }
        // The plugin is the one that the greeting names last; with an empty password every plugin's answer is empty.
        let plugin = greeting.strip_suffix(&[0]).unwrap_or(&greeting);
        let plugin = plugin.rsplit(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        let mut response = Vec::new();
        response.extend_from_slice(&CAPABILITIES.to_le_bytes());
        response.extend_from_slice(&(16u32 << 20).to_le_bytes());
        response.push(45);
        response.extend_from_slice(&[0; 23]);
        response.extend_from_slice(RAW.as_bytes());
        response.push(0);
        response.push(0);
        response.extend_from_slice(schema.as_bytes());
        response.push(0);
        response.extend_from_slice(&plugin);
        response.push(0);
        conn.send(1, &response).await?;
        loop {
            let (sequence, packet) = conn.read().await?.context("closed during the login")?;
            match packet.first() {
                Some(0) => return Ok(conn),
                Some(0xfe) => conn.send(sequence.wrapping_add(1), &[]).await?,
                Some(1) => {}
                _ => bail!("the login failed: {}", String::from_utf8_lossy(&packet)),
            }
        }
    }

    /// Writes one packet.
    pub async fn send(&mut self, sequence: u8, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())?.to_le_bytes();
        let mut packet = vec![length[0], length[1], length[2], sequence];
        packet.extend_from_slice(payload);
        self.send_bytes(&packet).await
    }

    /// Writes bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads one packet; `None` where the connection was closed.
    pub async fn read(&mut self) -> Result<Option<Packet>> {
        tokio::time::timeout(ANSWER_LIMIT, self.read_unbounded()).await.context("no answer")?
    }

    async fn read_unbounded(&mut self) -> Result<Option<Packet>> {
        let mut header = [0; 4];
        match self.stream.read_exact(&mut header).await {
            Ok(_) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0; usize::try_from(length)?];
        match self.stream.read_exact(&mut payload).await {
            Ok(_) => Ok(Some((header[3], payload))),
            Err(error) if is_end(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one command and reads the first packet of its answer; `None` where the connection was closed.
    pub async fn command(&mut self, payload: &[u8]) -> Result<Option<Vec<u8>>> {
        self.send(0, payload).await?;
        Ok(self.read().await?.map(|(_, payload)| payload))
    }

    /// Ends the sending side; the other side reads the end of the stream.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.stream.shutdown().await?)
    }
}

fn is_end(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
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
