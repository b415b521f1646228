//! TLS with a server.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{KeyError, Section};

/// `server_tls`: TLS with the server, for sessions and for the service account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTls {
    /// Whether to use it, and what to check.
    pub mode: ServerTlsMode,
    /// The authorities that may have signed the server's certificate, PEM. Given if, and only if, the mode verifies.
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

impl ServerTls {
    /// Reads the section, and checks that its keys fit each other. No file is opened.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn read(mut section: Section) -> Result<ServerTls, KeyError> {
        let tls = ServerTls {
            mode: section.value("mode", ServerTlsMode::default())?,
            ca: section.optional("ca")?,
            cert: section.optional("cert")?,
            key: section.optional("key")?,
        };
        section.finish()?;
        let verifies = matches!(tls.mode, ServerTlsMode::VerifyCa | ServerTlsMode::VerifyIdentity);
        let (key, reason) = match (&tls.ca, &tls.cert, &tls.key) {
            (None, ..) if verifies => ("ca", "is needed: there is no other authority that the proxy trusts"),
            (Some(_), ..) if !verifies => ("ca", "is only looked at in verify-ca and verify-identity"),
            (_, Some(_), None) => ("key", "is needed with cert"),
            (_, None, Some(_)) => ("cert", "is needed with key"),
            (_, Some(_), Some(_)) if tls.mode == ServerTlsMode::Disabled => {
                ("cert", "is not used in the mode disabled")
            }
            _ => return Ok(tls),
        };
        Err(section.error(key, reason))
    }
}
