//! `[[backend]]`.

use std::path::PathBuf;
use std::sync::Arc;

use atone_wire::compress;
use serde::Deserialize;

use super::{Listen, Network, Refusal};
use crate::tls::{OwnCertificate, ServerTls, TlsOffer};

/// One `[[backend]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// The resource's name: the same on every proxy in front of this server.
    pub name: String,
    /// Where applications connect.
    pub listen: Listen,
    /// The server: `host:port`, or `unix:/path/to.sock`.
    pub address: String,
    /// The service account.
    pub user: String,
    /// Its password, given here …
    pub password: Option<String>,
    /// … or as the first line of this file …
    pub password_file: Option<PathBuf>,
    /// … or in this environment variable.
    pub password_env: Option<String>,
    /// TLS with applications.
    #[serde(default)]
    pub listen_tls: TlsOffer,
    /// TLS with the server.
    #[serde(default)]
    pub server_tls: ServerTls,
    /// The ways of compression that applications are offered; without it those that the server offers.
    pub listen_compression: Option<Vec<CompressionName>>,
    /// Compression with the server.
    #[serde(default)]
    pub server_compression: ServerCompression,
    /// zstd's level with the server where `server_compression` is `"zstd"`, 1 to 22.
    #[serde(default = "default_zstd_level")]
    pub zstd_level: u8,
    /// The networks whose connections begin with a PROXY header; others have none.
    #[serde(default)]
    pub listen_proxy_protocol: Vec<Network>,
    /// The PROXY header that connections to the server begin with.
    pub server_proxy_protocol: Option<ProxyProtocol>,
    /// The password that these three come to.
    #[serde(skip)]
    pub secret: String,
    /// The certificate that the proxy made, where `listen_tls` names none.
    #[serde(skip)]
    pub own_certificate: Option<Arc<OwnCertificate>>,
}

fn default_zstd_level() -> u8 {
    compress::DEFAULT_ZSTD_LEVEL
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

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl BackendConfig {
    /// Refuses what cannot be, and finds the password: the key and the reason.
    pub(super) fn check(&mut self) -> Result<(), Refusal> {
        let name_ok = self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if self.name.is_empty() || self.name.len() > 64 || !name_ok {
            return Err(("name".into(), "1 to 64 characters of A-Z a-z 0-9 . _ -".into()));
        }
        let address = self.parsed_address().map_err(|reason| ("address".to_string(), reason))?;
        if let TlsOffer::Always(tls) = &self.listen_tls {
            tls.check()?;
        }
        self.server_tls.check(&address)?;
        if !(1..=compress::MAX_ZSTD_LEVEL).contains(&self.zstd_level) {
            return Err(("zstd_level".into(), format!("must be 1 to {}", compress::MAX_ZSTD_LEVEL)));
        }
        self.secret = self.find_password()?;
        Ok(())
    }

    fn find_password(&self) -> Result<String, Refusal> {
        let refused = |key: &str, why: String| Err((key.to_string(), why));
        match (&self.password, &self.password_file, &self.password_env) {
            (Some(password), None, None) => Ok(password.clone()),
            (None, Some(file), None) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().to_string()),
                Err(e) => refused("password_file", format!("{}: {e}", file.display())),
            },
            (None, None, Some(var)) => match std::env::var(var) {
                Ok(password) => Ok(password),
                Err(_) => refused("password_env", format!("the environment has no {var}")),
            },
            (None, None, None) => {
                refused("password", "one of password, password_file, password_env is needed".into())
            }
            _ => refused("password", "only one of password, password_file, password_env".into()),
        }
    }

    /// The parsed `address`.
    pub fn parsed_address(&self) -> Result<Address, String> {
        if let Some(path) = self.address.strip_prefix("unix:") {
            if path.is_empty() {
                return Err("unix: without a path".into());
            }
            return Ok(Address::Unix(path.into()));
        }
        let (host, port) =
            self.address.rsplit_once(':').ok_or_else(|| "expected host:port or unix:/path".to_string())?;
        let port = port.parse().map_err(|_| format!("'{port}' is not a port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || port == 0 {
            return Err("expected host:port or unix:/path".into());
        }
        Ok(Address::Tcp(host.into(), port))
    }
}
