//! `proxy.toml`: reading it, and refusing it with one line that names file, key and reason.

mod backend;
mod limits;
mod listen;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

pub use backend::{Address, BackendConfig, CompressionName, ProxyProtocol, ServerCompression};
pub use limits::Limits;
pub use listen::{Listen, Network};

use crate::tls::OwnCertificate;
pub use crate::tls::Refusal;

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
    /// Where the certificate is kept that the proxy makes for listeners without one; by default it lasts as long as the process.
    pub tls_dir: Option<PathBuf>,
    /// The servers that this proxy stands in front of.
    pub backend: Vec<BackendConfig>,
    /// Bounds; each has a default.
    #[serde(default)]
    pub limits: Limits,
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
        let loaded = Config::parse(&text).and_then(|mut config| config.certify().map(|()| config));
        loaded.map_err(|(key, reason)| ConfigError { file, key, reason })
    }

    /// Gives the listeners that have no certificate the proxy's own, one for all of them.
    fn certify(&mut self) -> Result<(), Refusal> {
        if !self.backend.iter().any(|backend| backend.listen_tls.needs_own_certificate()) {
            return Ok(());
        }
        let names = self.listener_names();
        let own = Arc::new(match &self.tls_dir {
            Some(dir) => OwnCertificate::kept(dir, &names)?,
            None => OwnCertificate::in_memory(&names)?,
        });
        for backend in &mut self.backend {
            backend.own_certificate = backend.listen_tls.needs_own_certificate().then(|| own.clone());
        }
        Ok(())
    }

    /// What clients may call this host, as far as it is known here.
    fn listener_names(&self) -> Vec<String> {
        let mut names = vec!["localhost".to_string()];
        names.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
        let ips = self.backend.iter().filter_map(|backend| match &backend.listen {
            Listen::Tcp(address) if !address.ip().is_unspecified() => Some(address.ip().to_string()),
            Listen::Tcp(_) | Listen::Unix(_) => None,
        });
        names.extend(ips);
        names.sort();
        names.dedup();
        names
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
            backend.check().map_err(|(k, reason)| (key(&k), reason))?;
            if !names.insert(backend.name.clone()) {
                return Err((key("name"), format!("'{}' is there twice", backend.name)));
            }
            let any_port = matches!(backend.listen, Listen::Tcp(address) if address.port() == 0);
            if !any_port && !listens.insert(backend.listen.clone()) {
                return Err((key("listen"), format!("{} is there twice", backend.listen)));
            }
        }
        config.limits.check().map_err(|(k, reason)| (format!("limits.{k}"), reason))?;
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
    fn what_is_under_the_packets() {
        let with = |more: &str| GOOD.replace("user =", &format!("{more}\nuser ="));
        assert!(refusal(&with("zstd_level = 0")).starts_with("backend[0].zstd_level"));
        assert!(refusal(&with("zstd_level = 23")).starts_with("backend[0].zstd_level"));
        assert!(refusal(&with("listen_compression = ['lz4']")).contains("lz4"));
        assert!(refusal(&with("server_compression = 'gzip'")).contains("gzip"));
        assert!(refusal(&with("server_proxy_protocol = 'v3'")).contains("v3"));
        for bad in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.1/8", "localhost", ""] {
            let refused = refusal(&with(&format!("listen_proxy_protocol = ['{bad}']")));
            assert!(refused.contains("listen_proxy_protocol") && refused.contains(bad), "{refused}");
        }
        let config = Config::parse(&with("listen_proxy_protocol = ['10.0.0.0/8', '::1', 'unix']")).unwrap();
        assert_eq!(config.backend[0].listen_proxy_protocol.len(), 3);
        let unix = GOOD.replace("\"127.0.0.1:4001\"", "\"unix:/run/a.sock\"");
        assert_eq!(Config::parse(&unix).unwrap().backend[0].listen, Listen::Unix("/run/a.sock".into()));
        assert!(refusal(&unix.replace("/run/a.sock", "")).contains("listen"));
        let v6 = Config::parse(&GOOD.replace("127.0.0.1:4001", "[::1]:4001")).unwrap();
        assert_eq!(v6.backend[0].listen, Listen::Tcp("[::1]:4001".parse().unwrap()));
    }

    #[test]
    fn unix_addresses() {
        let config = Config::parse(&GOOD.replace("127.0.0.1:3306", "unix:/run/m.sock")).unwrap();
        assert_eq!(config.backend[0].parsed_address(), Ok(Address::Unix("/run/m.sock".into())));
    }
}
