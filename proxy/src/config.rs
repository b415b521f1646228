//! `proxy.toml`: reading it, and refusing it with one line that names file, key and reason.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atone_wire::compress;
use serde::Deserialize;

use crate::tls::{ListenTls, ServerTls};

/// Why a configuration is refused: one line that names the file, the key and the reason.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {key}: {reason}")]
pub struct ConfigError {
    file: String,
    key: String,
    reason: String,
}

/// The whole of `proxy.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URLs of the coordinator's `listen.rpc`, tried in turn.
    pub coordinator: Vec<String>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: SocketAddr,
    /// The servers that this proxy stands in front of.
    pub backend: Vec<BackendConfig>,
    /// Bounds; each has a default.
    #[serde(default)]
    pub limits: Limits,
}

/// One `[[backend]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendConfig {
    /// The resource's name: the same on every proxy in front of this server.
    pub name: String,
    /// Where applications connect.
    pub listen: SocketAddr,
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
    /// TLS with applications; without it the listener does not offer TLS.
    pub listen_tls: Option<ListenTls>,
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
    /// The password that these three come to.
    #[serde(skip)]
    pub secret: String,
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

/// Where a backend listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl BackendConfig {
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

/// `[limits]`: every bound of the proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The longest statement in a bound session, in bytes; above it error 1153.
    pub max_statement_bytes: usize,
    /// The most rows that one branch may change; above it error 1235.
    pub max_branch_rows: usize,
    /// The most bytes of images that one branch may hold; above it error 1235.
    pub max_branch_bytes: usize,
    /// The most client connections at a time for each backend; above it error 1040.
    pub max_connections: usize,
    /// The most prepared statements that one session may hold; above it error 1461.
    pub max_prepared_statements: usize,
    /// How long a connection may take to log in, in milliseconds; after it the connection is closed.
    pub handshake_timeout_ms: u64,
    /// How long connecting to a server may take, in milliseconds; after it error 1429.
    pub connect_timeout_ms: u64,
    /// How long table metadata is believed without looking again, in milliseconds.
    pub metadata_ttl_ms: u64,
    /// How many phase-two jobs run at a time for each backend.
    pub phase_two_concurrency: usize,
    /// How long shutting down may take, in milliseconds; after it connections are cut.
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_statement_bytes: 64 << 20,
            max_branch_rows: 100_000,
            max_branch_bytes: 256 << 20,
            max_connections: 10_000,
            max_prepared_statements: 16_382,
            handshake_timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            metadata_ttl_ms: 1_000,
            phase_two_concurrency: 8,
            drain_timeout_ms: 5_000,
        }
    }
}

impl Limits {
    /// `handshake_timeout_ms` as a duration.
    pub fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms)
    }
    /// `connect_timeout_ms` as a duration.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

impl Config {
    /// Reads and checks `path`.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError {
            file: file.clone(),
            key: "(file)".into(),
            reason: e.to_string(),
        })?;
        Config::parse(&text).map_err(|(key, reason)| ConfigError { file, key, reason })
    }

    /// Parses and checks the text of a configuration; the error is the key and the reason.
    pub fn parse(text: &str) -> Result<Config, (String, String)> {
        let mut config: Config = toml::from_str(text).map_err(|e| {
            let key = e.span().map_or_else(
                || "(file)".to_string(),
                |span| {
                    let line = text[..span.start.min(text.len())].matches('\n').count();
                    let key = text.lines().nth(line).and_then(|l| l.split_once('=')).map(|(k, _)| k.trim());
                    format!("line {}{}", line + 1, key.map(|k| format!(", {k}")).unwrap_or_default())
                },
            );
            (key, e.message().lines().collect::<Vec<_>>().join(" "))
        })?;
        if config.coordinator.is_empty() {
            return Err(("coordinator".into(), "needs at least one URL".into()));
        }
        for url in &config.coordinator {
            let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
            let good = authority
                .and_then(|a| a.rsplit_once(':'))
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
            if !good {
                return Err(("coordinator".into(), format!("'{url}' is not of the form http://host:port")));
            }
        }
        if config.backend.is_empty() {
            return Err(("backend".into(), "needs at least one [[backend]]".into()));
        }
        let (mut names, mut listens) = (HashSet::new(), HashSet::new());
        for (i, backend) in config.backend.iter_mut().enumerate() {
            let key = |k: &str| format!("backend[{i}].{k}");
            let name_ok = backend.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if backend.name.is_empty() || backend.name.len() > 64 || !name_ok {
                return Err((key("name"), "1 to 64 characters of A-Z a-z 0-9 . _ -".into()));
            }
            if !names.insert(backend.name.clone()) {
                return Err((key("name"), format!("'{}' is there twice", backend.name)));
            }
            if backend.listen.port() != 0 && !listens.insert(backend.listen) {
                return Err((key("listen"), format!("{} is there twice", backend.listen)));
            }
            let address = backend.parsed_address().map_err(|reason| (key("address"), reason))?;
            if let Some(tls) = &backend.listen_tls {
                tls.check().map_err(|(k, reason)| (key(&k), reason))?;
            }
            backend.server_tls.check(&address).map_err(|(k, reason)| (key(&k), reason))?;
            if !(1..=compress::MAX_ZSTD_LEVEL).contains(&backend.zstd_level) {
                return Err((key("zstd_level"), format!("must be 1 to {}", compress::MAX_ZSTD_LEVEL)));
            }
            backend.secret = match (&backend.password, &backend.password_file, &backend.password_env) {
                (Some(p), None, None) => p.clone(),
                (None, Some(file), None) => std::fs::read_to_string(file)
                    .map_err(|e| (key("password_file"), format!("{}: {e}", file.display())))?
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_string(),
                (None, None, Some(var)) => std::env::var(var)
                    .map_err(|_| (key("password_env"), format!("the environment has no {var}")))?,
                (None, None, None) => {
                    return Err((
                        key("password"),
                        "one of password, password_file, password_env is needed".into(),
                    ));
                }
                _ => {
                    return Err((
                        key("password"),
                        "only one of password, password_file, password_env".into(),
                    ));
                }
            };
        }
        let l = &config.limits;
        for (name, value) in [
            ("max_statement_bytes", l.max_statement_bytes),
            ("max_branch_rows", l.max_branch_rows),
            ("max_branch_bytes", l.max_branch_bytes),
            ("max_connections", l.max_connections),
            ("max_prepared_statements", l.max_prepared_statements),
            ("phase_two_concurrency", l.phase_two_concurrency),
        ] {
            if value == 0 {
                return Err((format!("limits.{name}"), "must be above 0".into()));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
coordinator = ["http://127.0.0.1:7091"]
http = "127.0.0.1:7094"
[[backend]]
name = "bank1"
listen = "127.0.0.1:4001"
address = "127.0.0.1:3306"
user = "atone"
password = "secret"
"#;

    fn refusal(text: &str) -> String {
        let (key, reason) = Config::parse(text).unwrap_err();
        format!("{key}: {reason}")
    }

    #[test]
    fn the_contracts_example_is_read() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.backend[0].secret, "secret");
        assert_eq!(config.backend[0].parsed_address(), Ok(Address::Tcp("127.0.0.1".into(), 3306)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal(&GOOD.replace("user", "usr")).contains("usr"));
        assert!(refusal(&GOOD.replace("127.0.0.1:3306", "nowhere")).starts_with("backend[0].address"));
        assert!(refusal(&GOOD.replace("bank1", "bank 1")).starts_with("backend[0].name"));
        assert!(refusal(&GOOD.replace("4001\"", "x\"")).contains("listen"));
        assert!(refusal(&format!("{GOOD}\npassword_env = \"X\"")).starts_with("backend[0].password"));
        assert!(
            refusal(&format!("{GOOD}\n[limits]\nmax_branch_rows = 0")).starts_with("limits.max_branch_rows")
        );
        assert!(refusal(&GOOD.replace("[\"http://127.0.0.1:7091\"]", "[]")).starts_with("coordinator"));
        assert!(refusal(&GOOD.replace("http://127.0.0.1:7091", "nowhere")).starts_with("coordinator"));
        assert!(refusal(&GOOD.replace("password = \"secret\"", "")).starts_with("backend[0].password"));
    }

    #[test]
    fn unix_addresses() {
        let config = Config::parse(&GOOD.replace("127.0.0.1:3306", "unix:/run/m.sock")).unwrap();
        assert_eq!(config.backend[0].parsed_address(), Ok(Address::Unix("/run/m.sock".into())));
    }
}
