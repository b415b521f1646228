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
    /// What the server offers.
    pub capabilities: u32,
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
        r.bytes(9)?; // first part of the salt, filler
        let low_at = payload.len() - r.rest().len();
        let low = r.u16()?;
        r.bytes(3)?; // charset, status
        let high = r.u16()?;
        r.bytes(11)?; // length of the salt; filler, or MariaDB's further capabilities
        let capabilities = u32::from(low) | u32::from(high) << 16;
        if capabilities & client::PROTOCOL_41 == 0 {
            return Err(Malformed("a server without the 4.1 protocol"));
        }
        Ok(Greeting { version, connection_id, capabilities, low_at })
    }

    /// Whether this is MariaDB: it leaves the first capability bit clear, or says so in its version.
    pub fn is_mariadb(&self) -> bool {
        self.capabilities & client::LONG_PASSWORD == 0 || self.version.contains("MariaDB")
    }

    /// Clears the bits of `masked` in `payload`, the greeting's bytes, and MariaDB's further capabilities (all of them
    /// change the form of results or commands).
    pub fn mask(&self, payload: &mut [u8], masked: u32) {
        let offered = (self.capabilities & !masked).to_le_bytes();
        let at = self.low_at;
        // parse() has seen that these bytes are there
        payload[at..at + 2].copy_from_slice(&offered[..2]);
        payload[at + 5..at + 7].copy_from_slice(&offered[2..]);
        if self.is_mariadb() {
            payload[at + 14..at + 18].fill(0);
        }
    }
}

/// The start of `Protocol::HandshakeResponse41`, which `SSLRequest` shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// What the client wants, of what was offered.
    pub capabilities: u32,
    /// The largest packet that the client will send, in bytes.
    pub max_packet: u32,
    /// The collation whose charset the client begins with.
    pub collation: u8,
}

impl ClientHello {
    /// Parses the fixed part of the client's answer.
    pub fn parse(payload: &[u8]) -> Result<ClientHello, Malformed> {
        let mut r = Reader::new(payload);
        let capabilities = r.u32()?;
        if capabilities & client::PROTOCOL_41 == 0 {
            return Err(Malformed("a client without the 4.1 protocol"));
        }
        let hello = ClientHello { capabilities, max_packet: r.u32()?, collation: r.u8()? };
        r.bytes(23)?;
        Ok(hello)
    }

    /// Clears the bits of `masked`, and MariaDB's further capabilities where the client is one of its, in `payload`.
    pub fn mask(&self, payload: &mut [u8], masked: u32) {
        let capabilities = (self.capabilities & !masked).to_le_bytes();
        payload[..4].copy_from_slice(&capabilities);
        if self.capabilities & client::LONG_PASSWORD == 0 {
            payload[28..32].fill(0);
        }
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
    fn masks_only_the_bits_asked_for() {
        let mut payload = greeting(0xffff_ffff);
        let parsed = Greeting::parse(&payload).unwrap();
        assert_eq!((parsed.connection_id, parsed.is_mariadb()), (7, false));
        parsed.mask(&mut payload, client::SSL | client::QUERY_ATTRIBUTES);
        let masked = Greeting::parse(&payload).unwrap();
        assert_eq!(masked.capabilities, !client::SSL & !client::QUERY_ATTRIBUTES);
        assert_eq!(payload.len(), greeting(0).len());
        assert!(payload.windows(4).any(|w| w == [0xaa, 0xbb, 0xcc, 0xdd]));
    }

    #[test]
    fn mariadb_loses_its_further_capabilities() {
        let mut payload = greeting(0xffff_fffe);
        Greeting::parse(&payload).unwrap().mask(&mut payload, 0);
        assert!(!payload.windows(4).any(|w| w == [0xaa, 0xbb, 0xcc, 0xdd]));
    }

    #[test]
    fn every_cut_is_malformed_or_parsed_never_a_panic() {
        let whole = greeting(0xffff_ffff);
        for end in 0..whole.len() {
            if let Ok(parsed) = Greeting::parse(&whole[..end]) {
                parsed.mask(&mut whole[..end].to_vec(), 0xffff);
            }
        }
        for end in 0..40 {
            if let Ok(hello) = ClientHello::parse(&[0xff; 40][..end]) {
                hello.mask(&mut vec![0xff; end], 0xffff);
            }
        }
    }
}
