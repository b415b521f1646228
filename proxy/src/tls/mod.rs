//! TLS on both legs: what a listener shows to applications, and what the proxy expects of a server.

mod config;
mod own_certificate;
pub mod rsa;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use mysql_async::{ClientIdentity, SslOpts};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use atone_config::{Address, KeyError};
pub use atone_config::{ServerTls, ServerTlsMode};
pub use config::{ListenTls, TlsOffer, TlsVersion, check_server};
pub use own_certificate::OwnCertificate;

const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const TLS13_ONLY: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// Makes the cryptography that this module uses the process's own, for libraries that ask for that.
pub fn install_crypto() {
    // An error says that it was done before
    let _ = ring::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn refusal(key: &str, file: &Path, why: impl Display) -> KeyError {
    KeyError::new(key, format!("{}: {why}", file.display()))
}

fn certificates(key: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| refusal(key, file, e))?;
    if certificates.is_empty() {
        return Err(refusal(key, file, "there is no certificate in it"));
    }
    Ok(certificates)
}

fn roots(key: &str, file: &Path) -> Result<Arc<RootCertStore>, KeyError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, file)? {
        roots.add(certificate).map_err(|e| refusal(key, file, e))?;
    }
    Ok(Arc::new(roots))
}

fn private_key(key: &str, file: &Path) -> Result<PrivateKeyDer<'static>, KeyError> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| refusal(key, file, e))
}

/// What asks clients for their certificates; `None` where they need none.
fn client_verifier(config: &ListenTls) -> Result<Option<Arc<dyn ClientCertVerifier>>, KeyError> {
    let Some(file) = &config.client_ca else { return Ok(None) };
    let roots = roots("listen_tls.client_ca", file)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| refusal("listen_tls.client_ca", file, e))?;
    Ok(Some(verifier))
}

/// A listener's side of TLS. Its files can be read anew while it is in use.
#[derive(Debug)]
pub struct Acceptor {
    config: ListenTls,
    own: Option<Arc<OwnCertificate>>,
    current: RwLock<Arc<ServerConfig>>,
}

impl Acceptor {
    /// Reads the files. `own` is shown where the configuration names no certificate.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn new(config: ListenTls, own: Option<Arc<OwnCertificate>>) -> Result<Acceptor, KeyError> {
        let current = RwLock::new(Self::read(&config, own.as_deref())?);
        Ok(Acceptor { config, own, current })
    }

    fn read(config: &ListenTls, own: Option<&OwnCertificate>) -> Result<Arc<ServerConfig>, KeyError> {
        let versions = match config.min_version {
            TlsVersion::V1_2 => ALL_VERSIONS,
            TlsVersion::V1_3 => TLS13_ONLY,
        };
        let (chain, private) = match (&config.cert, &config.key, own) {
            (Some(cert), Some(key), _) => {
                (certificates("listen_tls.cert", cert)?, private_key("listen_tls.key", key)?)
            }
            (_, _, Some(own)) => own.read()?,
            (_, _, None) => return Err(KeyError::new("listen_tls.cert", "there is no certificate")),
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|e| KeyError::new("listen_tls.min_version", e))?;
        let builder = match client_verifier(config)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let made = builder.with_single_cert(chain, private);
        made.map(Arc::new).map_err(|e| match &config.key {
            Some(key) => refusal("listen_tls.key", key, e),
            None => KeyError::new("tls_dir", e),
        })
    }

    /// Reads the files again, for connections to come. If they cannot be used, the former ones stay in use.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn reload(&self) -> Result<(), KeyError> {
        let read = Self::read(&self.config, self.own.as_deref())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// Whether clients have to use TLS.
    pub fn is_required(&self) -> bool {
        self.config.require
    }

    /// What accepts the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The proxy's side of TLS with a server.
#[derive(Clone)]
pub struct Connector {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connector {
    /// Reads the files; `None` where TLS is not to be used.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn new(config: &ServerTls, address: &Address) -> Result<Option<Connector>, KeyError> {
        let host = match (address, config.mode) {
            (_, ServerTlsMode::Disabled) => return Ok(None),
            (Address::Tcp(host, _), _) => host.as_str(),
            (Address::Unix(_), ServerTlsMode::AsClient) => "localhost",
            (Address::Unix(_), _) => return Ok(None),
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| KeyError::new("server_tls.mode", format!("'{host}': {e}")))?;
        let roots = match &config.ca {
            Some(file) => roots("server_tls.ca", file)?,
            None => Arc::new(RootCertStore::empty()),
        };
        let verifier: Arc<dyn ServerCertVerifier> = match config.mode {
            ServerTlsMode::VerifyIdentity => WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|e| KeyError::new("server_tls.ca", e))?,
            ServerTlsMode::VerifyCa => Arc::new(AnyName { provider: provider(), roots: Some(roots) }),
            ServerTlsMode::AsClient
            | ServerTlsMode::Disabled
            | ServerTlsMode::Preferred
            | ServerTlsMode::Required => Arc::new(AnyName { provider: provider(), roots: None }),
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(ALL_VERSIONS)
            .map_err(|e| KeyError::new("server_tls.mode", e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let client = match identity(config) {
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    certificates("server_tls.cert", cert)?,
                    private_key("server_tls.key", key)?,
                )
                .map_err(|e| refusal("server_tls.key", key, e))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Some(Connector { connector: TlsConnector::from(Arc::new(client)), name }))
    }

    /// What makes the next connection, and the name that it is for.
    pub fn parts(&self) -> (&TlsConnector, ServerName<'static>) {
        (&self.connector, self.name.clone())
    }
}

fn identity(config: &ServerTls) -> Option<(&PathBuf, &PathBuf)> {
    config.cert.as_ref().zip(config.key.as_ref())
}

/// What `server_tls` comes to for the service account's connections; `None` where TLS is not to be used.
pub fn service_options(config: &ServerTls) -> Option<SslOpts> {
    /// A name that no certificate is made out for.
    const NO_NAME: &str = "NotValidForName";
    let mut options = SslOpts::default();
    match config.mode {
        ServerTlsMode::Disabled => return None,
        ServerTlsMode::AsClient | ServerTlsMode::Preferred | ServerTlsMode::Required => {
            options = options.with_danger_accept_invalid_certs(true);
        }
        ServerTlsMode::VerifyCa => {
            // The driver lets a name that does not fit pass by looking for this word in the error's text. There
            // rustls has only the name that was expected by now. The chain is verified before the name.
            options = options
                .with_danger_skip_domain_validation(true)
                .with_danger_tls_hostname_override(Some(NO_NAME));
        }
        ServerTlsMode::VerifyIdentity => {}
    }
    if let Some(ca) = &config.ca {
        options = options.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
    }
    if let Some((cert, key)) = identity(config) {
        options =
            options.with_client_identity(Some(ClientIdentity::new(cert.clone().into(), key.clone().into())));
    }
    Some(options)
}

/// Verifies a server's certificate whatever name it is made out for; without roots, only that the server has its key.
#[derive(Debug)]
struct AnyName {
    provider: Arc<CryptoProvider>,
    roots: Option<Arc<RootCertStore>>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
