//! Compression of packets: what each leg agrees on, and how that is done.

mod codec;

use atone_wire::Malformed;
use atone_wire::caps::{self, client};
use atone_wire::compress::Algorithm;
use atone_wire::handshake::{ClientHello, zstd_level_at};

pub use codec::{Codec, End};

use crate::config::{BackendConfig, CompressionName, ServerCompression};

/// What a backend's configuration says of compression.
#[derive(Debug)]
pub struct Compression {
    /// The capabilities to offer; `None`: the server's.
    listen: Option<u64>,
    server: ServerCompression,
    zstd_level: u8,
}

impl Compression {
    /// Reads it off the configuration.
    pub fn new(config: &BackendConfig) -> Compression {
        let bit = |name: &CompressionName| match name {
            CompressionName::Zlib => client::COMPRESS,
            CompressionName::Zstd => client::ZSTD_COMPRESSION,
        };
        Compression {
            listen: config.listen_compression.as_ref().map(|l| l.iter().map(bit).fold(0, |all, b| all | b)),
            server: config.server_compression,
            zstd_level: config.zstd_level,
        }
    }

    /// What to offer to clients of a server that offers `offered`.
    pub fn offer(&self, offered: u64) -> u64 {
        self.listen.unwrap_or(offered) & caps::COMPRESSION
    }

    /// How a client compresses that answers with `answer`.
    ///
    /// # Errors
    /// It asks for what was not offered, or does not say the level.
    pub fn of_client(&self, offered: u64, answer: &[u8]) -> Result<Option<Algorithm>, Malformed> {
        let capabilities = ClientHello::parse(answer)?.capabilities;
        if capabilities & caps::COMPRESSION & !self.offer(offered) != 0 {
            return Err(Malformed("compression that was not offered"));
        }
        // As the servers do where both are asked for
        if capabilities & client::COMPRESS != 0 {
            return Ok(Some(Algorithm::Zlib));
        }
        if capabilities & client::ZSTD_COMPRESSION == 0 {
            return Ok(None);
        }
        let level = answer.get(zstd_level_at(answer)?).ok_or(Malformed("zstd without its level"))?;
        Ok(Some(Algorithm::Zstd { level: *level }))
    }

    /// How the connection to the server is compressed for such a client.
    pub fn of_server(&self, offered: u64, of_client: Option<Algorithm>) -> Option<Algorithm> {
        let wanted = match self.server {
            ServerCompression::Client => of_client,
            ServerCompression::None => None,
            ServerCompression::Zlib => Some(Algorithm::Zlib),
            ServerCompression::Zstd => Some(Algorithm::Zstd { level: self.zstd_level }),
        };
        wanted.filter(|algorithm| offered & bit(*algorithm) != 0)
    }
}

fn bit(algorithm: Algorithm) -> u64 {
    match algorithm {
        Algorithm::Zlib => client::COMPRESS,
        Algorithm::Zstd { .. } => client::ZSTD_COMPRESSION,
    }
}

/// Asks for this compression in a client's `answer`, instead of what it has asked for.
///
/// # Errors
/// An answer that does not decode, and that would have to be changed.
pub fn ask(answer: &mut Vec<u8>, algorithm: Option<Algorithm>) -> Result<(), Malformed> {
    let hello = ClientHello::parse(answer)?;
    let had_level = hello.capabilities & client::ZSTD_COMPRESSION != 0;
    let level = match algorithm {
        Some(Algorithm::Zstd { level }) => Some(level),
        _ => None,
    };
    if had_level || level.is_some() {
        let at = zstd_level_at(answer)?;
        let end = if had_level { answer.len().min(at + 1) } else { at };
        answer.splice(at..end, level);
    }
    let wanted = algorithm.map_or(0, bit);
    hello.ask(answer, hello.capabilities & !caps::COMPRESSION | wanted);
    Ok(())
}
