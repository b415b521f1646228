//! The configuration of TLS: `listen_tls` and `server_tls` of a backend.

use std::fmt;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{Acceptor, Connector, client_verifier};
use crate::config::Address;

/// What is wrong: the key below `[[backend]]`, and the reason.
pub type Refusal = (String, String);

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

impl<'de> Deserialize<'de> for TlsOffer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TlsOffer, D::Error> {
        /// Tells the word from the table, so that what is wrong in the table is named as in any other.
        struct WordOrTable;

        impl<'de> Visitor<'de> for WordOrTable {
            type Value = TlsOffer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\" or a table")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<TlsOffer, E> {
                match word {
                    "off" => Ok(TlsOffer::Off),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TlsOffer, A::Error> {
                ListenTls::deserialize(MapAccessDeserializer::new(map)).map(TlsOffer::Always)
            }
        }

        deserializer.deserialize_any(WordOrTable)
    }
}

impl TlsOffer {
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
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenTls {
    /// The certificate chain, PEM, the listener's own certificate first; without it, the proxy's own certificate.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// If given, clients need a certificate that one of these authorities has signed.
    pub client_ca: Option<PathBuf>,
    /// Whether a client that does not use TLS is sent away, with error 3159.
    #[serde(default)]
    pub require: bool,
    /// The lowest version that is spoken.
    #[serde(default)]
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

/// `server_tls`: TLS with the server, for sessions and for the service account.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// Whether to use it, and what to check.
    #[serde(default)]
    pub mode: ServerTlsMode,
    /// The authorities that may have signed the server's certificate, PEM.
    pub ca: Option<PathBuf>,
    /// The proxy's own certificate chain, PEM, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
}

/// `server_tls.mode`: the modes of MySQL's own clients (`--ssl-mode`), and one that leaves it to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerTlsMode {
    /// TLS if, and only if, the client has it. The server's certificate is not checked.
    #[default]
    AsClient,
    /// No TLS.
    Disabled,
    /// TLS where the server offers it. Nothing is checked: no protection from an active attacker.
    Preferred,
    /// TLS, or no connection. The server's certificate is not checked.
    Required,
    /// TLS, and the server's certificate is signed by one of `ca`.
    VerifyCa,
    /// The same, and it is made out for the host of `address`.
    VerifyIdentity,
}

impl ListenTls {
    /// Reads the files.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.client_ca.is_some() && !self.require {
            let why = "needs require = true: a client without TLS would not be asked for its certificate";
            return Err(("listen_tls.client_ca".into(), why.into()));
        }
        let refusal = |key: &str, why: &str| Err((format!("listen_tls.{key}"), why.to_string()));
        match (&self.cert, &self.key) {
            (Some(_), Some(_)) => Acceptor::new(self.clone(), None).map(drop),
            // The proxy's own certificate is not made yet
            (None, None) => client_verifier(self).map(drop),
            (Some(_), None) => refusal("key", "is needed with cert"),
            (None, Some(_)) => refusal("cert", "is needed with key"),
        }
    }
}

impl ServerTls {
    /// Checks that the keys fit each other and the server's address, and reads the files.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn check(&self, address: &Address) -> Result<(), Refusal> {
        let refusal = |key: &str, why: &str| Err((format!("server_tls.{key}"), why.to_string()));
        let verifies = matches!(self.mode, ServerTlsMode::VerifyCa | ServerTlsMode::VerifyIdentity);
        match (verifies, &self.ca) {
            (true, None) => {
                return refusal("ca", "is needed: there is no other authority that the proxy trusts");
            }
            (false, Some(_)) => return refusal("ca", "is only looked at in verify-ca and verify-identity"),
            _ => {}
        }
        match (&self.cert, &self.key) {
            (Some(_), None) => return refusal("key", "is needed with cert"),
            (None, Some(_)) => return refusal("cert", "is needed with key"),
            (Some(_), Some(_)) if self.mode == ServerTlsMode::Disabled => {
                return refusal("cert", "is not used in the mode disabled");
            }
            _ => {}
        }
        let Address::Tcp(host, _) = address else {
            return match self.mode {
                ServerTlsMode::AsClient => Connector::new(self, address).map(drop),
                ServerTlsMode::Disabled => Ok(()),
                _ => refusal(
                    "mode",
                    "a server behind a Unix socket is as private without TLS: use as-client or disabled",
                ),
            };
        };
        if self.mode != ServerTlsMode::Disabled && ServerName::try_from(host.as_str()).is_err() {
            return refusal("mode", &format!("'{host}' is neither a host name nor an IP address"));
        }
        Connector::new(self, address).map(drop)
    }
}
