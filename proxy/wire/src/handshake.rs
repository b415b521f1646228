//! The connection phase: the server's greeting and the client's answer. Both are forwarded as they came, but for masked
//! capability bits.

use crate::Malformed;
use crate::caps::client;
use crate::read::Reader;

/// `Protocol::HandshakeV10`, and where its capability flags stand in the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The server's version string.
    pub version: String,
    /// The connection's id on the server.
    pub connection_id: u32,
    /// What the server offers, MariaDB's further capabilities included.
    pub capabilities: u64,
    /// What passwords are scrambled with, without the NUL at its end.
    pub salt: Vec<u8>,
    /// The authentication plugin that the salt is for; empty where the server names none.
    pub plugin: Vec<u8>,
    low_at: usize,
}

impl Greeting {
    /// Parses the greeting of a server of protocol version 10.
    pub fn parse(payload: &[u8]) -> Result<Greeting, Malformed> {
        let mut r = Reader::new(payload);
        if r.u8()? != 10 {
            return Err(Malformed("a greeting of another protocol version than 10"));
        }
        let version = String::from_utf8_lossy(r.nul_bytes()?).into_owned();
        let connection_id = r.u32()?;
        let mut salt = r.bytes(8)?.to_vec();
        r.u8()?; // filler
        let low_at = payload.len() - r.rest().len();
        let low = r.u16()?;
        r.bytes(3)?; // charset, status
        let high = r.u16()?;
        let salt_len = usize::from(r.u8()?);
        r.bytes(6)?;
        let further = r.u32()?; // filler, but to MariaDB
        let mut capabilities = u64::from(low) | u64::from(high) << 16;
        if is_mariadb(capabilities, &version) {
            capabilities |= u64::from(further) << 32;
        }
        if capabilities & client::PROTOCOL_41 == 0 {
            return Err(Malformed("a server without the 4.1 protocol"));
        }
        // Servers that are not of today may end here
        let more = r.take_rest();
        let (more, plugin) = more.split_at(more.len().min(salt_len.saturating_sub(8).max(13)));
        salt.extend_from_slice(more);
        if salt.last() == Some(&0) {
            salt.pop();
        }
        Ok(Greeting {
            version,
            connection_id,
            capabilities,
            salt,
            plugin: until_nul(plugin).to_vec(),
            low_at,
        })
    }

    /// Whether this is MariaDB: it leaves the first capability bit clear, or says so in its version.
    pub fn is_mariadb(&self) -> bool {
        is_mariadb(self.capabilities, &self.version)
    }

    /// Offers `capabilities` instead in `payload`, the greeting's bytes.
    pub fn offer(&self, payload: &mut [u8], capabilities: u64) {
        let offered = capabilities.to_le_bytes();
        let at = self.low_at;
        // parse() has seen that these bytes are there
        payload[at..at + 2].copy_from_slice(&offered[..2]);
        payload[at + 5..at + 7].copy_from_slice(&offered[2..4]);
        if self.is_mariadb() {
            payload[at + 14..at + 18].copy_from_slice(&offered[4..]);
        }
    }
}

fn is_mariadb(capabilities: u64, version: &str) -> bool {
    capabilities & client::LONG_PASSWORD == 0 || version.contains("MariaDB")
}

/// The start of `Protocol::HandshakeResponse41`, which `SSLRequest` shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// What the client wants, of what was offered; MariaDB's further capabilities included, where the client knows
    /// them.
    pub capabilities: u64,
    /// The largest packet that the client will send, in bytes.
    pub max_packet: u32,
    /// The collation whose charset the client begins with.
    pub collation: u8,
}

impl ClientHello {
    /// Parses the fixed part of the client's answer.
    pub fn parse(payload: &[u8]) -> Result<ClientHello, Malformed> {
        let mut r = Reader::new(payload);
        let capabilities = u64::from(r.u32()?);
        if capabilities & client::PROTOCOL_41 == 0 {
            return Err(Malformed("a client without the 4.1 protocol"));
        }
        let mut hello = ClientHello { capabilities, max_packet: r.u32()?, collation: r.u8()? };
        r.bytes(19)?;
        let further = r.u32()?;
        if hello.is_mariadb() {
            hello.capabilities |= u64::from(further) << 32;
        }
        Ok(hello)
    }

    /// Whether the client speaks of MariaDB's further capabilities.
    fn is_mariadb(&self) -> bool {
        self.capabilities & client::LONG_PASSWORD == 0
    }

    /// Asks for `capabilities` instead, in `payload`.
    pub fn ask(&self, payload: &mut [u8], capabilities: u64) {
        let asked = capabilities.to_le_bytes();
        payload[..4].copy_from_slice(&asked[..4]);
        if self.is_mariadb() {
            payload[28..32].copy_from_slice(&asked[4..]);
        }
    }
}

/// `Protocol::HandshakeResponse320`: the answer of a client of the protocol before 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response320<'a> {
    /// What the client wants, of what was offered: the first 16 capabilities.
    pub capabilities: u64,
    /// The account.
    pub user: &'a [u8],
}

impl<'a> Response320<'a> {
    /// Parses a client's answer to the greeting; `None` where it is of the protocol of today, or too short for either.
    pub fn parse(payload: &'a [u8]) -> Option<Response320<'a>> {
        let mut r = Reader::new(payload);
        let capabilities = u64::from(r.u16().ok()?);
        if capabilities & client::PROTOCOL_41 != 0 {
            return None;
        }
        r.bytes(3).ok()?; // the largest packet
        Some(Response320 { capabilities, user: r.nul_bytes().ok()? })
    }
}

/// The account in `Protocol::HandshakeResponse41`.
///
/// # Errors
/// An answer that is too short.
pub fn user_of_answer(payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut r = Reader::new(payload);
    r.bytes(SSL_REQUEST)?;
    r.nul_bytes()
}

/// The account in `COM_CHANGE_USER`.
///
/// # Errors
/// A command that is too short.
pub fn user_of_change_user(payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut r = Reader::new(payload);
    r.u8()?;
    r.nul_bytes()
}

/// Where zstd's level stands in `Protocol::HandshakeResponse41`, or would stand: after all else that the capabilities
/// in it announce.
///
/// # Errors
/// An answer that ends within what it announces.
pub fn zstd_level_at(payload: &[u8]) -> Result<usize, Malformed> {
    let capabilities = ClientHello::parse(payload)?.capabilities;
    let mut r = Proof::before_plugin(payload, capabilities)?.1;
    if capabilities & client::PLUGIN_AUTH != 0 && !r.is_empty() {
        r.nul_bytes()?;
    }
    if capabilities & client::CONNECT_ATTRS != 0 && !r.is_empty() {
        r.lenenc_bytes()?;
    }
    Ok(payload.len() - r.rest().len())
}

/// Length of `SSLRequest`, in bytes: the fixed part of the client's answer alone.
pub const SSL_REQUEST: usize = 32;

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&b| b == 0).next().unwrap_or_default()
}

/// What a client proves itself with, in its answer to the greeting or in `COM_CHANGE_USER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// The plugin that the client has used; empty where it names none.
    pub plugin: &'a [u8],
    /// What that plugin says: a scramble, a password, or nothing.
    pub data: &'a [u8],
}

impl<'a> Proof<'a> {
    /// Finds it in `Protocol::HandshakeResponse41`.
    pub fn of_answer(payload: &'a [u8]) -> Result<Proof<'a>, Malformed> {
        let capabilities = ClientHello::parse(payload)?.capabilities;
        let (data, rest) = Self::before_plugin(payload, capabilities)?;
        Ok(Proof { plugin: Self::plugin(rest.rest(), capabilities), data })
    }

    /// What the plugin says, and what follows the schema.
    fn before_plugin(payload: &'a [u8], capabilities: u64) -> Result<(&'a [u8], Reader<'a>), Malformed> {
        let mut r = Reader::new(payload);
        r.bytes(SSL_REQUEST)?;
        r.nul_bytes()?; // user
        let data = if capabilities & client::PLUGIN_AUTH_LENENC_DATA != 0 {
            r.lenenc_bytes()?
        } else {
            Self::short_data(&mut r, capabilities)?
        };
        if capabilities & client::CONNECT_WITH_DB != 0 && !r.is_empty() {
            r.nul_bytes()?;
        }
        Ok((data, r))
    }

    /// Finds it in `COM_CHANGE_USER` of a session with these capabilities.
    pub fn of_change_user(payload: &'a [u8], capabilities: u64) -> Result<Proof<'a>, Malformed> {
        let mut r = Reader::new(payload);
        r.u8()?; // command
        r.nul_bytes()?; // user
        let data = Self::short_data(&mut r, capabilities)?;
        r.nul_bytes()?; // schema
        if !r.is_empty() {
            r.u16()?; // collation
        }
        Ok(Proof { plugin: Self::plugin(r.rest(), capabilities), data })
    }

    fn short_data(r: &mut Reader<'a>, capabilities: u64) -> Result<&'a [u8], Malformed> {
        if capabilities & client::SECURE_CONNECTION == 0 {
            return r.nul_bytes();
        }
        let len = r.u8()?;
        r.bytes(usize::from(len))
    }

    fn plugin(rest: &'a [u8], capabilities: u64) -> &'a [u8] {
        if capabilities & client::PLUGIN_AUTH == 0 { &[] } else { until_nul(rest) }
    }
}

/// A plugin that the server asks for: in `AuthSwitchRequest` or `AuthNextFactor`, after the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PluginRequest<'a> {
    /// The plugin's name.
    pub plugin: &'a [u8],
    /// The salt, without the NUL at its end.
    pub salt: &'a [u8],
}

impl<'a> PluginRequest<'a> {
    /// Parses what follows the first byte.
    pub fn parse(rest: &'a [u8]) -> PluginRequest<'a> {
        let plugin = until_nul(rest);
        let salt = rest.get(plugin.len() + 1..).unwrap_or_default();
        PluginRequest { plugin, salt: salt.strip_suffix(&[0]).unwrap_or(salt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(capabilities: u32) -> Vec<u8> {
        let bytes = capabilities.to_le_bytes();
        let mut out = b"\x0a9.7.0\0\x07\0\0\0saltsalt\0".to_vec();
        out.extend_from_slice(&bytes[..2]);
        out.extend_from_slice(&[255, 2, 0]);
        out.extend_from_slice(&bytes[2..]);
        out.extend_from_slice(&[21, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb, 0xcc, 0xdd]);
        out.extend_from_slice(b"moresaltmore\0caching_sha2_password\0");
        out
    }

    #[test]
    fn offers_only_the_bits_asked_for() {
        let mut payload = greeting(0xffff_ffff);
        let parsed = Greeting::parse(&payload).unwrap();
        assert_eq!((parsed.connection_id, parsed.is_mariadb()), (7, false));
        assert_eq!(
            (parsed.salt.as_slice(), parsed.plugin.as_slice()),
            (&b"saltsaltmoresaltmore"[..], &b"caching_sha2_password"[..])
        );
        let offered = 0xffff_ffff & !client::SSL & !client::QUERY_ATTRIBUTES;
        parsed.offer(&mut payload, offered);
        let masked = Greeting::parse(&payload).unwrap();
        assert_eq!(masked.capabilities, offered);
        assert_eq!(payload.len(), greeting(0).len());
        assert!(payload.windows(4).any(|w| w == [0xaa, 0xbb, 0xcc, 0xdd]));
    }

    #[test]
    fn mariadbs_further_capabilities_stand_above_the_others() {
        let mut payload = greeting(0xffff_fffe);
        let parsed = Greeting::parse(&payload).unwrap();
        assert_eq!(parsed.capabilities, 0xddcc_bbaa_ffff_fffe);
        parsed.offer(&mut payload, client::MARIADB_PROGRESS | client::PROTOCOL_41);
        let masked = Greeting::parse(&payload).unwrap();
        assert_eq!(masked.capabilities, client::MARIADB_PROGRESS | client::PROTOCOL_41);

        let mut answer = answer(client::PROTOCOL_41, &[0; 8]);
        answer[28..32].copy_from_slice(&[1, 0, 0, 0x80]);
        let hello = ClientHello::parse(&answer).unwrap();
        assert_eq!(hello.capabilities, 0x8000_0001_0000_0200);
        hello.ask(&mut answer, client::MARIADB_PROGRESS | client::PROTOCOL_41);
        assert_eq!(answer[28..32], [1, 0, 0, 0]);
        assert_eq!(ClientHello::parse(&answer).unwrap().capabilities, 0x1_0000_0200);
    }

    #[test]
    fn every_cut_is_malformed_or_parsed_never_a_panic() {
        let whole = greeting(0xffff_ffff);
        for end in 0..whole.len() {
            if let Ok(parsed) = Greeting::parse(&whole[..end]) {
                parsed.offer(&mut whole[..end].to_vec(), 0xffff);
            }
        }
        for end in 0..40 {
            if let Ok(hello) = ClientHello::parse(&[0xff; 40][..end]) {
                hello.ask(&mut vec![0xff; end], 0xffff);
            }
        }
    }

    fn answer(capabilities: u64, rest: &[u8]) -> Vec<u8> {
        let mut out = capabilities.to_le_bytes()[..4].to_vec();
        out.resize(SSL_REQUEST, 0);
        out.extend_from_slice(rest);
        out
    }

    #[test]
    fn finds_what_a_client_proves_itself_with() {
        let base = client::PROTOCOL_41 | client::PLUGIN_AUTH;
        let proof = Proof { plugin: b"sha", data: b"xyz" };
        for (more, rest) in [
            (client::SECURE_CONNECTION, &b"ann\0\x03xyzsha\0attrs"[..]),
            (client::SECURE_CONNECTION | client::CONNECT_WITH_DB, b"ann\0\x03xyzdb\0sha\0"),
            (client::PLUGIN_AUTH_LENENC_DATA, b"ann\0\xfc\x03\0xyzsha"),
            (0, b"ann\0xyz\0sha\0"),
        ] {
            let whole = answer(base | more, rest);
            assert_eq!(Proof::of_answer(&whole), Ok(proof));
            for end in 0..whole.len() {
                let _ = Proof::of_answer(&whole[..end]);
            }
        }
        let whole = b"\x11ann\0\x03xyzdb\0\x2d\0sha\0";
        assert_eq!(Proof::of_change_user(whole, base | client::SECURE_CONNECTION), Ok(proof));
        for end in 0..whole.len() {
            let _ = Proof::of_change_user(&whole[..end], base | client::SECURE_CONNECTION);
        }
        assert!(Proof::of_answer(&answer(base, b"ann")).is_err());
    }

    #[test]
    fn the_level_of_zstd_stands_behind_all_else() {
        let base = client::PROTOCOL_41 | client::PLUGIN_AUTH | client::SECURE_CONNECTION;
        for (more, rest) in [
            (0, &b"ann\0\x03xyzsha\0"[..]),
            (client::CONNECT_WITH_DB, b"ann\0\x03xyzdb\0sha\0"),
            (client::CONNECT_ATTRS, b"ann\0\x03xyzsha\0\x04\x01a\x01b"),
            (client::CONNECT_ATTRS, b"ann\0\x03xyzsha\0"),
        ] {
            let whole = answer(base | more, rest);
            assert_eq!(zstd_level_at(&whole), Ok(whole.len()));
            let with_level = [&whole[..], &[3]].concat();
            if rest.last() != Some(&0) || more != client::CONNECT_ATTRS {
                assert_eq!(zstd_level_at(&with_level), Ok(whole.len()));
            }
        }
        assert!(zstd_level_at(&answer(base | client::CONNECT_ATTRS, b"ann\0\x03xyzsha\0\x04\x01a")).is_err());
        assert!(zstd_level_at(&answer(base, b"ann\0\x03xyzsha")).is_err());
    }

    #[test]
    fn an_answer_of_the_protocol_before_4_1() {
        let whole = b"\x00\x80\x00\x00\x01monitor\0\0";
        let parsed = Response320 { capabilities: client::SECURE_CONNECTION, user: b"monitor" };
        assert_eq!(Response320::parse(whole), Some(parsed));
        for end in 0..12 {
            assert_eq!(Response320::parse(&whole[..end]), None);
        }
        assert_eq!(Response320::parse(&answer(client::PROTOCOL_41, b"ann\0")), None);
    }

    #[test]
    fn plugin_requests() {
        let request = PluginRequest::parse(b"sha\0salt\0");
        assert_eq!((request.plugin, request.salt), (&b"sha"[..], &b"salt"[..]));
        assert_eq!(PluginRequest::parse(b"").plugin, b"");
    }
}
