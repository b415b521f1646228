//! `proxy.toml`: reading it, and refusing it with one line that names file, key and reason.

mod backend;
mod limits;
mod listen;
#[cfg(test)]
mod tests;
mod timeouts;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use atone_config::Address;
use atone_config::{ConfigError, Deprecated, KeyError, Section, host_port};

pub use backend::{BackendConfig, CompressionName, ProxyProtocol, ServerCompression};
pub use limits::Limits;
pub use listen::{Listen, Network};
pub use timeouts::Timeouts;

use crate::tls::OwnCertificate;

/// The whole of `proxy.toml`.
#[derive(Debug, Clone)]
pub struct Config {
    /// URLs of the coordinator's `listen.rpc`, tried in turn.
    pub coordinator: Vec<String>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub http: SocketAddr,
    /// Where the certificate is kept that the proxy makes for listeners without one. By default it lasts as long as
    /// the process.
    pub tls_dir: Option<PathBuf>,
    /// The servers that this proxy stands in front of.
    pub backend: Vec<BackendConfig>,
    /// Bounds; each has a default.
    pub limits: Limits,
    /// The keys that the file has by old names, to be warned of.
    pub deprecated: Vec<Deprecated>,
}

impl Config {
    /// Reads and checks `path`, and makes the proxy's own certificate where a listener needs it.
    ///
    /// # Errors
    /// The file, the key and the reason.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        atone_config::load(path, |text| {
            let mut config = Config::parse(text)?;
            config.certify()?;
            Ok(config)
        })
    }

    /// Parses and checks the text of a configuration.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn parse(text: &str) -> Result<Config, KeyError> {
        Config::read(&mut Section::parse(text)?)
    }

    fn read(root: &mut Section) -> Result<Config, KeyError> {
        let deprecated = root.rename(timeouts::RENAMES)?;
        let config = Config {
            coordinator: coordinator(root)?,
            http: root.required("http")?,
            tls_dir: root.optional("tls_dir")?,
            limits: Limits::read(root.section("limits")?, root.section("timeouts")?)?,
            backend: root
                .sections("backend")?
                .into_iter()
                .map(BackendConfig::read)
                .collect::<Result<_, _>>()?,
            deprecated,
        };
        root.finish()?;
        config.check_backends_differ()?;
        Ok(config)
    }

    fn check_backends_differ(&self) -> Result<(), KeyError> {
        let (mut names, mut listens) = (HashSet::new(), HashSet::new());
        for (i, backend) in self.backend.iter().enumerate() {
            if !names.insert(&backend.name) {
                let reason = format!("'{}' is there twice", backend.name);
                return Err(KeyError::new(format!("backend[{i}].name"), reason));
            }
            let any_port = matches!(backend.listen, Listen::Tcp(address) if address.port() == 0);
            if !any_port && !listens.insert(&backend.listen) {
                let reason = format!("{} is there twice", backend.listen);
                return Err(KeyError::new(format!("backend[{i}].listen"), reason));
            }
        }
        Ok(())
    }

    /// Gives the listeners that have no certificate the proxy's own, one for all of them.
    fn certify(&mut self) -> Result<(), KeyError> {
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
}

/// `coordinator`: URLs.
fn coordinator(root: &mut Section) -> Result<Vec<String>, KeyError> {
    const KEY: &str = "coordinator";
    let urls: Vec<String> = root.required(KEY)?;
    if urls.is_empty() {
        return Err(root.error(KEY, "at least one URL is needed"));
    }
    for url in &urls {
        let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        if !authority.is_some_and(|authority| host_port(authority).is_ok_and(|(_, port)| port > 0)) {
            return Err(root.error(KEY, format!("'{url}' is not of the form http://host:port")));
        }
    }
    Ok(urls)
}
