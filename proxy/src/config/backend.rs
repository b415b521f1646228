//! `[[backend]]`.

use std::sync::Arc;

use atone_config::{Address, KeyError, Section, ServerTls};
use atone_wire::compress;
use serde::Deserialize;

use super::{Listen, Network};
use crate::tls::{self, OwnCertificate, TlsOffer};

const MAX_NAME_LEN: usize = 64;

/// One `[[backend]]`.
#[derive(Debug, Clone)]
pub struct BackendConfig {
    /// The resource's name: the same on every proxy in front of this server.
    pub name: String,
    /// Where applications connect.
    pub listen: Listen,
    /// The server.
    pub address: Address,
    /// The service account.
    pub user: String,
    /// Its password.
    pub secret: String,
    /// TLS with applications.
    pub listen_tls: TlsOffer,
    /// TLS with the server.
    pub server_tls: ServerTls,
    /// The ways of compression that applications are offered; without it those that the server offers.
    pub listen_compression: Option<Vec<CompressionName>>,
    /// Compression with the server.
    pub server_compression: ServerCompression,
    /// zstd's level with the server where `server_compression` is `"zstd"`, 1 to 22.
    pub zstd_level: u8,
    /// The networks whose connections begin with a PROXY header; others have none.
    pub listen_proxy_protocol: Vec<Network>,
    /// The PROXY header that connections to the server begin with.
    pub server_proxy_protocol: Option<ProxyProtocol>,
    /// The certificate that the proxy made, where `listen_tls` names none.
    pub own_certificate: Option<Arc<OwnCertificate>>,
}

/// A way to compress packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// `CLIENT_COMPRESS`
    Zlib,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`
    Zstd,
}

/// How packets are compressed between the proxy and the server; not at all where the server does not offer it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerCompression {
    /// As the client has asked for.
    #[default]
    Client,
    /// Not at all.
    None,
    /// By zlib.
    Zlib,
    /// By zstd, with the level `zstd_level`.
    Zstd,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl BackendConfig {
    /// Reads the section, the password, and the files of TLS.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn read(mut section: Section) -> Result<BackendConfig, KeyError> {
        let mut backend = BackendConfig {
            name: section.required("name")?,
            listen: section.required("listen")?,
            address: section.required("address")?,
            user: section.required("user")?,
            secret: String::new(),
            listen_tls: TlsOffer::read(&mut section, "listen_tls")?,
            server_tls: ServerTls::read(section.section("server_tls")?)?,
            listen_compression: section.optional("listen_compression")?,
            server_compression: section.value("server_compression", ServerCompression::default())?,
            zstd_level: section.value("zstd_level", compress::DEFAULT_ZSTD_LEVEL)?,
            listen_proxy_protocol: section.value("listen_proxy_protocol", Vec::new())?,
            server_proxy_protocol: section.optional("server_proxy_protocol")?,
            own_certificate: None,
        };
        let password = section.required_password()?;
        section.finish()?;
        backend.check(&section)?;
        backend.secret = password.read()?;
        Ok(backend)
    }

    /// Refuses what cannot be.
    fn check(&self, section: &Section) -> Result<(), KeyError> {
        let name_ok = self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if self.name.is_empty() || self.name.len() > MAX_NAME_LEN || !name_ok {
            let reason = format!("1 to {MAX_NAME_LEN} characters of A-Z a-z 0-9 . _ -");
            return Err(section.error("name", reason));
        }
        if !(1..=compress::MAX_ZSTD_LEVEL).contains(&self.zstd_level) {
            return Err(section.error("zstd_level", format!("must be 1 to {}", compress::MAX_ZSTD_LEVEL)));
        }
        let within = |e: KeyError| section.error(e.key.as_deref().unwrap_or_default(), e.reason);
        if let TlsOffer::Always(tls) = &self.listen_tls {
            tls.check().map_err(within)?;
        }
        tls::check_server(&self.server_tls, &self.address).map_err(within)
    }
}
