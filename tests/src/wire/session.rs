//! A login, and commands with their whole replies.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::auth::{self, Auth};
use super::caps;
use super::compress::Compression;
use super::conn::{Ended, RawConn};
use super::fields::Decoded;
use super::payload::{lenenc, lenenc_bytes};
use super::read::Reader;
use super::reply::{Reply, Shape, Then, err_packet, ok_packet};

/// The plugin for whom the client gives no name.
const OLD_PLUGIN: &str = "mysql_native_password";
/// The fixed part of the handshake response, which is also the request for TLS, in bytes.
const FIXED: usize = 32;

/// How to log in.
#[derive(Clone, Debug)]
pub struct Login {
    /// On 127.0.0.1.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Passwords of further factors.
    pub more_passwords: Vec<String>,
    /// The schema to begin in.
    pub schema: Option<String>,
    /// The capabilities to ask for, as far as they are offered.
    pub capabilities: u64,
    /// TLS.
    pub tls: bool,
    /// Closing the connection resets it.
    pub resetting: bool,
    /// Compression, after the login.
    pub compression: Compression,
    /// The collation's number.
    pub collation: u8,
    /// Connection attributes.
    pub attributes: Vec<(String, String)>,
    /// The plugin to begin with, instead of the one that the server names.
    pub plugin: Option<String>,
}

impl Login {
    /// With the capabilities of today, without TLS and compression.
    pub fn new(port: u16, account: (&str, &str)) -> Self {
        Self {
            port,
            user: account.0.to_owned(),
            password: account.1.to_owned(),
            more_passwords: Vec::new(),
            schema: None,
            capabilities: caps::FULL,
            tls: false,
            resetting: false,
            compression: Compression::None,
            collation: 45,
            attributes: Vec::new(),
            plugin: None,
        }
    }

    /// In this schema.
    pub fn schema(mut self, schema: &str) -> Self {
        self.schema = Some(schema.to_owned());
        self
    }

    /// With the fewest capabilities.
    pub fn minimal(mut self) -> Self {
        self.capabilities = caps::MINIMAL;
        self
    }

    fn wanted(&self) -> u64 {
        let mut wanted = self.capabilities;
        if self.schema.is_none() {
            wanted &= !caps::CONNECT_WITH_DB;
        }
        match self.compression {
            Compression::None => {}
            Compression::Zlib => wanted |= caps::COMPRESS,
            Compression::Zstd(_) => wanted |= caps::ZSTD_COMPRESSION,
        }
        if self.tls { wanted | caps::SSL } else { wanted }
    }
}

/// What a server says first.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// The version.
    pub version: String,
    /// The connection's id.
    pub id: u32,
    /// For passwords, without the zero byte at its end.
    pub salt: Vec<u8>,
    /// What it offers.
    pub capabilities: u64,
    /// Its character set.
    pub collation: u8,
    /// Its status flags.
    pub status: u16,
    /// The plugin that it would begin with.
    pub plugin: String,
}

impl Greeting {
    /// Reads a greeting.
    pub fn parse(packet: &[u8]) -> Result<Self> {
        let mut rest = Reader(packet);
        ensure!(rest.int(1)? == 10, "not a greeting");
        let version = String::from_utf8(rest.zero_ended().to_vec())?;
        let id = u32::try_from(rest.int(4)?)?;
        let mut salt = rest.take(8)?.to_vec();
        rest.take(1)?;
        let low = rest.int(2)?;
        let collation = u8::try_from(rest.int(1)?)?;
        let status = u16::try_from(rest.int(2)?)?;
        let high = rest.int(2)?;
        let salt_length = rest.size(1)?;
        rest.take(6)?;
        let extended = rest.int(4)?;
        let mut capabilities = low | high << 16;
        if capabilities & caps::LONG_PASSWORD == 0 {
            capabilities |= extended << 32;
        }
        salt.extend_from_slice(rest.take(salt_length.saturating_sub(8).max(13))?);
        salt.pop();
        let plugin = String::from_utf8(rest.zero_ended().to_vec())?;
        Ok(Self { version, id, salt, capabilities, collation, status, plugin })
    }

    /// Whether it is MariaDB.
    pub fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }

    /// Its fields but for the salt and the id, which are each connection's own.
    pub fn decoded(&self) -> Decoded {
        Decoded::new("greeting")
            .with("version", &self.version)
            .with("capabilities", caps::names(self.capabilities))
            .with("collation", self.collation)
            .with("status", format!("{:#06x}", self.status))
            .with("plugin", &self.plugin)
            .with("length of the salt", self.salt.len())
    }
}

/// A logged-in client.
#[derive(Debug)]
pub struct Session {
    conn: RawConn,
    /// What the server said first.
    pub greeting: Greeting,
    /// What both sides can do.
    pub capabilities: u64,
    private: bool,
    statements: HashMap<u32, Vec<u8>>,
    /// The statement prepared last.
    pub last_prepared: u32,
    /// Commands that were sent and have not been answered in full.
    unanswered: u32,
}

/// What came of a login that the server refused.
#[derive(Debug)]
pub struct Refused(pub Decoded);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the login was refused: {}", self.0)
    }
}

impl std::error::Error for Refused {}

impl Session {
    /// Logs in; an error where the server does not say OK.
    pub async fn open(login: &Login) -> Result<Self> {
        let (session, seen) = Self::attempt(login).await?;
        match (session, seen.last()) {
            (Some(session), _) => Ok(session),
            (None, Some((_, last))) => Err(Refused(last.clone()).into()),
            (None, None) => bail!("the login ended before it began"),
        }
    }

    /// Logs in, and returns each packet of the server with its number; no session where it did not say OK.
    pub async fn attempt(login: &Login) -> Result<(Option<Self>, Vec<(u8, Decoded)>)> {
        let mut seen = Vec::new();
        let mut conn = match login.resetting {
            false => RawConn::connect(login.port).await?,
            true => RawConn::connect_resetting(login.port).await?,
        };
        let Some((number, packet)) = conn.read().await? else {
            return Ok((None, vec![(0, Decoded::new("closed"))]));
        };
        if packet.first() == Some(&0xff) {
            return Ok((None, vec![(number, err_packet(&packet)?)]));
        }
        let greeting = Greeting::parse(&packet)?;
        seen.push((number, greeting.decoded()));
        let capabilities = login.wanted() & greeting.capabilities;
        ensure!(
            !login.tls || capabilities & caps::SSL != 0,
            "TLS is not offered: {}",
            caps::names(greeting.capabilities)
        );
        let plugin = login.plugin.clone().unwrap_or_else(|| greeting.plugin.clone());
        let plugin = if capabilities & caps::PLUGIN_AUTH == 0 { OLD_PLUGIN.to_owned() } else { plugin };
        let mut auth = Auth::new(&plugin, &greeting.salt, &login.password, login.tls);
        let response = response(login, capabilities, &mut auth)?;
        let mut next = 1;
        if login.tls {
            let request = response.get(..FIXED).context("a response without its fixed part")?;
            conn.send(next, request).await?;
            conn = conn.start_tls().await?;
            next += 1;
        }
        conn.send(next, &response).await?;
        let mut session = Self {
            conn,
            greeting,
            capabilities,
            private: login.tls,
            statements: HashMap::new(),
            last_prepared: 0,
            unanswered: 0,
        };
        let passwords: Vec<&str> = login.more_passwords.iter().map(String::as_str).collect();
        if !session.authenticate(auth, &login.password, &passwords, &mut seen).await? {
            return Ok((None, seen));
        }
        let compression = match login.compression {
            Compression::Zlib if capabilities & caps::COMPRESS == 0 => Compression::None,
            Compression::Zstd(_) if capabilities & caps::ZSTD_COMPRESSION == 0 => Compression::None,
            asked => asked,
        };
        session.conn.start_compression(compression);
        Ok((Some(session), seen))
    }

    /// Answers the server until it says OK or ERR or goes; whether it said OK.
    async fn authenticate(
        &mut self,
        mut auth: Auth,
        password: &str,
        more: &[&str],
        seen: &mut Vec<(u8, Decoded)>,
    ) -> Result<bool> {
        let mut more = more.iter();
        loop {
            let Some((number, packet)) = self.conn.read().await? else {
                seen.push((0, Decoded::new("closed")));
                return Ok(false);
            };
            let rest = packet.get(1..).unwrap_or_default();
            let answer = match packet.first() {
                Some(0x00) => {
                    let track = self.capabilities & caps::SESSION_TRACK != 0;
                    seen.push((number, ok_packet(&packet, track)?.0));
                    return Ok(true);
                }
                Some(0xff) => {
                    seen.push((number, err_packet(&packet)?));
                    return Ok(false);
                }
                Some(0xfe) => {
                    let (plugin, salt) = auth::switch(rest)?;
                    let request = Decoded::new("switch").with("plugin", &plugin);
                    seen.push((number, request.with("length of the salt", salt.len())));
                    auth = Auth::new(&plugin, &salt, password, self.private);
                    Some(auth.first()?)
                }
                Some(0x02) => {
                    let (plugin, salt) = auth::switch(rest)?;
                    let request = Decoded::new("next factor").with("plugin", &plugin);
                    seen.push((number, request.with("length of the salt", salt.len())));
                    let password = more.next().copied().unwrap_or_default();
                    auth = Auth::new(&plugin, &salt, password, self.private);
                    Some(auth.first()?)
                }
                Some(0x01) => {
                    // A key is each server's own
                    let shown = if rest.starts_with(b"-----") { b"a key".as_slice() } else { rest };
                    seen.push((number, Decoded::new("more").with_bytes("data", shown)));
                    auth.more(rest)?
                }
                _ => bail!("no packet of a login: {packet:?}"),
            };
            if let Some(answer) = answer {
                self.conn.send(number.wrapping_add(1), &answer).await?;
            }
        }
    }

    /// Whether the other side ever sent a frame that was really compressed.
    pub fn seen_compressed(&self) -> bool {
        self.conn.seen_compressed()
    }

    fn closed(&self) -> Decoded {
        // An end and a reset depend on what the other side had not read yet
        let goodbye = self.conn.ended() == Some(Ended::Goodbye);
        if goodbye { Decoded::new("closed").with("TLS", "goodbye") } else { Decoded::new("closed") }
    }

    /// The connection by itself.
    pub fn into_conn(self) -> RawConn {
        self.conn
    }

    /// The connection.
    pub fn conn(&mut self) -> &mut RawConn {
        &mut self.conn
    }

    /// Writes a command, in as many frames as it needs.
    pub async fn send(&mut self, payload: &[u8]) -> Result<()> {
        self.conn.restart(self.unanswered);
        if Shape::of(payload) != Shape::Nothing {
            self.unanswered += 1;
        }
        self.conn.send(0, payload).await
    }

    /// Reads the whole reply to `command`, sending `file` where it is asked for.
    pub async fn receive(&mut self, command: &[u8], file: Option<&[u8]>) -> Result<Vec<(u8, Decoded)>> {
        self.receive_as(Shape::of(command), command, file).await
    }

    /// The same, for a reply of this kind.
    pub async fn receive_as(
        &mut self,
        shape: Shape,
        command: &[u8],
        file: Option<&[u8]>,
    ) -> Result<Vec<(u8, Decoded)>> {
        let mut seen = Vec::new();
        if shape == Shape::Nothing {
            return Ok(seen);
        }
        self.unanswered = self.unanswered.saturating_sub(1);
        let about = command.get(1..5).and_then(|id| id.try_into().ok()).map_or(0, u32::from_le_bytes);
        let about = if about == u32::MAX { self.last_prepared } else { about };
        let types = match shape {
            Shape::Binary | Shape::Fetch => self.statements.get(&about).cloned().unwrap_or_default(),
            _ => Vec::new(),
        };
        let mut reply = Reply::new(shape, self.capabilities, self.greeting.is_mariadb(), types);
        loop {
            let Some((number, frames, packet)) = self.conn.read_whole().await? else {
                seen.push((0, self.closed()));
                return Ok(seen);
            };
            let (mut decoded, then) = reply.next(&packet)?;
            if frames > 1 {
                decoded = decoded.with("frames", frames);
            }
            seen.push((number, decoded));
            match then {
                Then::More => {}
                Then::Done => break,
                Then::File => {
                    let next = number.wrapping_add(1);
                    match file {
                        Some(bytes) if !bytes.is_empty() => self.send_file(next, bytes).await?,
                        _ => self.conn.send(next, &[]).await?,
                    }
                }
            }
        }
        match (shape, reply.statement) {
            (Shape::Prepare, Some(id)) => {
                self.last_prepared = id;
                self.statements.insert(id, reply.types().to_vec());
            }
            (Shape::Binary, _) if !reply.failed => {
                self.statements.insert(about, reply.types().to_vec());
            }
            _ => {}
        }
        Ok(seen)
    }

    async fn send_file(&mut self, mut number: u8, bytes: &[u8]) -> Result<()> {
        // As a client reads its file: a packet a buffer
        for part in bytes.chunks(1 << 20) {
            self.conn.send(number, part).await?;
            number = number.wrapping_add(1);
        }
        self.conn.send(number, &[]).await
    }

    /// `COM_CHANGE_USER` with this account, beginning with this plugin (by default the one that the greeting named),
    /// and the whole exchange after it.
    pub async fn change_user(&mut self, login: &Login) -> Result<Vec<(u8, Decoded)>> {
        let plugin = login.plugin.clone().unwrap_or_else(|| self.greeting.plugin.clone());
        let mut auth = Auth::new(&plugin, &self.greeting.salt, &login.password, self.private);
        let mut payload = vec![super::payload::CHANGE_USER];
        payload.extend_from_slice(login.user.as_bytes());
        payload.push(0);
        payload.extend_from_slice(&short_bytes(&auth.first()?)?);
        payload.extend_from_slice(login.schema.clone().unwrap_or_default().as_bytes());
        payload.extend_from_slice(&[0, login.collation, 0]);
        if self.capabilities & caps::PLUGIN_AUTH != 0 {
            payload.extend_from_slice(plugin.as_bytes());
            payload.push(0);
        }
        if self.capabilities & caps::CONNECT_ATTRS != 0 {
            payload.extend_from_slice(&attributes(&login.attributes));
        }
        // A connection that is closed shows when it is read
        let _ = self.send(&payload).await;
        let mut seen = Vec::new();
        let passwords: Vec<&str> = login.more_passwords.iter().map(String::as_str).collect();
        self.unanswered = 0;
        if self.authenticate(auth, &login.password, &passwords, &mut seen).await? {
            self.statements.clear();
        }
        Ok(seen)
    }
}

fn response(login: &Login, capabilities: u64, auth: &mut Auth) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let low = u32::try_from(capabilities & 0xffff_ffff)?;
    out.extend_from_slice(&low.to_le_bytes());
    out.extend_from_slice(&(1_u32 << 30).to_le_bytes());
    out.push(login.collation);
    out.extend_from_slice(&[0; 19]);
    // The last of the reserved bytes are MariaDB's, for clients that do not say they are MySQL's
    let high = u32::try_from(capabilities >> 32)?;
    out.extend_from_slice(&high.to_le_bytes());
    out.extend_from_slice(login.user.as_bytes());
    out.push(0);
    let proof = auth.first()?;
    if capabilities & caps::PLUGIN_AUTH_LENENC_DATA != 0 {
        out.extend_from_slice(&lenenc_bytes(&proof));
    } else {
        out.extend_from_slice(&short_bytes(&proof)?);
    }
    if capabilities & caps::CONNECT_WITH_DB != 0 {
        out.extend_from_slice(login.schema.clone().unwrap_or_default().as_bytes());
        out.push(0);
    }
    if capabilities & caps::PLUGIN_AUTH != 0 {
        out.extend_from_slice(auth.plugin.as_bytes());
        out.push(0);
    }
    if capabilities & caps::CONNECT_ATTRS != 0 {
        out.extend_from_slice(&attributes(&login.attributes));
    }
    if let (Compression::Zstd(level), true) = (login.compression, capabilities & caps::ZSTD_COMPRESSION != 0)
    {
        out.push(level);
    }
    Ok(out)
}

fn attributes(all: &[(String, String)]) -> Vec<u8> {
    let pairs: Vec<u8> = all
        .iter()
        .flat_map(|(name, value)| [lenenc_bytes(name.as_bytes()), lenenc_bytes(value.as_bytes())].concat())
        .collect();
    [lenenc(pairs.len() as u64), pairs].concat()
}

fn short_bytes(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut out = vec![u8::try_from(bytes.len())?];
    out.extend_from_slice(bytes);
    Ok(out)
}
