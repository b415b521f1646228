//! The configuration of TLS: `listen_tls` and `server_tls` of a backend.

use std::path::PathBuf;

use atone_config::{Address, KeyError, Section, ServerTls, ServerTlsMode};
use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::{Acceptor, Connector, client_verifier};

/// `listen_tls`: whether applications are offered TLS.
#[derive(Debug, Clone, Default)]
pub enum TlsOffer {
    /// Nothing is said: as the server offers it, with the proxy's own certificate.
    #[default]
    AsServer,
    /// `"off"`: never.
    Off,
    /// A table: always.
    Always(ListenTls),
}

impl TlsOffer {
    /// Reads the word or the table under `key`.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn read(section: &mut Section, key: &str) -> Result<TlsOffer, KeyError> {
        if section.is_table(key) {
            return ListenTls::read(section.section(key)?).map(TlsOffer::Always);
        }
        match section.optional::<String>(key).as_ref().map(Option::as_deref) {
            Ok(None) => Ok(TlsOffer::AsServer),
            Ok(Some("off")) => Ok(TlsOffer::Off),
            Ok(Some(_)) | Err(_) => Err(section.error(key, "\"off\" or a table is expected")),
        }
    }

    /// Whether the proxy's own certificate is shown.
    pub fn needs_own_certificate(&self) -> bool {
        match self {
            TlsOffer::AsServer => true,
            TlsOffer::Off => false,
            TlsOffer::Always(tls) => tls.cert.is_none(),
        }
    }
}

/// `listen_tls` as a table: TLS with applications.
#[derive(Debug, Clone, Default)]
pub struct ListenTls {
    /// The certificate chain, PEM, the listener's own certificate first; without it, the proxy's own certificate.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// If given, clients need a certificate that one of these authorities has signed.
    pub client_ca: Option<PathBuf>,
    /// Whether a client that does not use TLS is sent away, with error 3159.
    pub require: bool,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// 1.3
    #[serde(rename = "1.3")]
    V1_3,
}

impl ListenTls {
    fn read(mut section: Section) -> Result<ListenTls, KeyError> {
        let tls = ListenTls {
            cert: section.optional("cert")?,
            key: section.optional("key")?,
            client_ca: section.optional("client_ca")?,
            require: section.value("require", false)?,
            min_version: section.value("min_version", TlsVersion::default())?,
        };
        section.finish()?;
        Ok(tls)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// The key below `[[backend]]`, and the reason.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.client_ca.is_some() && !self.require {
            let why = "needs require = true: a client without TLS would not be asked for its certificate";
            return Err(KeyError::new("listen_tls.client_ca", why));
        }
        let refusal = |key: &str, why: &str| Err(KeyError::new(format!("listen_tls.{key}"), why));
        match (&self.cert, &self.key) {
            (Some(_), Some(_)) => Acceptor::new(self.clone(), None).map(drop),
            // The proxy's own certificate is not made yet
            (None, None) => client_verifier(self).map(drop),
            (Some(_), None) => refusal("key", "is needed with cert"),
            (None, Some(_)) => refusal("cert", "is needed with key"),
        }
    }
}

/// Checks that `server_tls` fits the server's address, and reads its files.
///
/// # Errors
/// The key below `[[backend]]`, and the reason.
pub fn check_server(tls: &ServerTls, address: &Address) -> Result<(), KeyError> {
    let refusal = |reason: &str| Err(KeyError::new("server_tls.mode", reason));
    let Address::Tcp(host, _) = address else {
        return match tls.mode {
            ServerTlsMode::AsClient => Connector::new(tls, address).map(drop),
            ServerTlsMode::Disabled => Ok(()),
            _ => {
                refusal("a server behind a Unix socket is as private without TLS: use as-client or disabled")
            }
        };
    };
    if tls.mode != ServerTlsMode::Disabled && ServerName::try_from(host.as_str()).is_err() {
        return refusal(&format!("'{host}' is neither a host name nor an IP address"));
    }
    Connector::new(tls, address).map(drop)
}
