//! The certificate that the proxy makes for itself, for listeners that are given none: as MySQL does at its first
//! start, so that a client that takes TLS for granted has it.
//!
//! No authority has signed it. It is kept where `tls_dir` says, for clients that are told to trust it, else it lasts as
//! long as the process.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use atone_config::KeyError;

use super::{certificates, private_key};

/// Its common name, in the manner of MySQL's.
const COMMON_NAME: &str = "Atone_Proxy_Auto_Generated_Server_Certificate";
/// The files in `tls_dir`, by the names that MySQL gives its own.
const CERT_FILE: &str = "server-cert.pem";
const KEY_FILE: &str = "server-key.pem";
/// Only the proxy's user may read its key.
const KEY_FILE_MODE: u32 = 0o600;
const CERT_FILE_MODE: u32 = 0o644;
/// The key of the configuration that refusals name.
const TLS_DIR: &str = "tls_dir";

/// The proxy's own certificate and its key.
pub enum OwnCertificate {
    /// In this process only.
    InMemory {
        /// The certificate.
        cert: CertificateDer<'static>,
        /// Its private key.
        key: PrivateKeyDer<'static>,
    },
    /// In files, which are read again when they are wanted.
    Kept {
        /// The certificate.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

impl std::fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OwnCertificate::InMemory { .. } => f.debug_struct("InMemory").finish_non_exhaustive(),
            OwnCertificate::Kept { cert, .. } => {
                f.debug_struct("Kept").field("cert", cert).finish_non_exhaustive()
            }
        }
    }
}

impl std::fmt::Display for OwnCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OwnCertificate::InMemory { .. } => f.write_str("made for this process"),
            OwnCertificate::Kept { cert, .. } => write!(f, "kept in {}", cert.display()),
        }
    }
}

fn refused(why: impl std::fmt::Display) -> KeyError {
    KeyError::new(TLS_DIR, why)
}

fn file_refused(file: &Path, why: impl std::fmt::Display) -> KeyError {
    refused(format_args!("{}: {why}", file.display()))
}

impl OwnCertificate {
    /// Makes one for this process, made out for `names`.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn in_memory(names: &[String]) -> Result<OwnCertificate, KeyError> {
        let key = KeyPair::generate().map_err(refused)?;
        let cert = self_signed(&key, names)?.der().clone();
        Ok(OwnCertificate::InMemory { cert, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }

    /// Finds the one in `dir`, or makes it there. A key without its certificate gets one; what is there is never
    /// replaced.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn kept(dir: &Path, names: &[String]) -> Result<OwnCertificate, KeyError> {
        let (cert, key) = (dir.join(CERT_FILE), dir.join(KEY_FILE));
        fs::create_dir_all(dir).map_err(|e| file_refused(dir, e))?;
        match (exists(&cert)?, exists(&key)?) {
            (true, true) => {}
            (true, false) => return Err(file_refused(&key, format_args!("is missing beside {CERT_FILE}"))),
            (false, key_is_there) => {
                if !key_is_there {
                    let made = KeyPair::generate().map_err(refused)?;
                    write_new(&key, KEY_FILE_MODE, &made.serialize_pem())?;
                }
                // Of two proxies that start at a time both take the key that is there now
                let text = fs::read_to_string(&key).map_err(|e| file_refused(&key, e))?;
                let pair = KeyPair::from_pem(&text).map_err(|e| file_refused(&key, e))?;
                write_new(&cert, CERT_FILE_MODE, &self_signed(&pair, names)?.pem())?;
            }
        }
        Ok(OwnCertificate::Kept { cert, key })
    }

    /// The certificate and its key, as they are now.
    ///
    /// # Errors
    /// The key and the reason.
    pub fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), KeyError> {
        match self {
            OwnCertificate::InMemory { cert, key } => Ok((vec![cert.clone()], key.clone_key())),
            OwnCertificate::Kept { cert, key } => {
                Ok((certificates(TLS_DIR, cert)?, private_key(TLS_DIR, key)?))
            }
        }
    }
}

/// A certificate that does not end: nobody is there to renew it.
fn self_signed(key: &KeyPair, names: &[String]) -> Result<rcgen::Certificate, KeyError> {
    let names: Vec<String> =
        names.iter().filter(|name| ServerName::try_from(name.as_str()).is_ok()).cloned().collect();
    let mut params = CertificateParams::new(names).map_err(refused)?;
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.self_signed(key).map_err(refused)
}

fn exists(file: &Path) -> Result<bool, KeyError> {
    file.try_exists().map_err(|e| file_refused(file, e))
}

/// Writes a file that is there whole or not at all; one that somebody else has made meanwhile stays.
fn write_new(file: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let partial = file.with_extension(format!("{}.partial", std::process::id()));
    let write = || {
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        match fs::hard_link(&partial, file) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => fs::remove_file(&partial),
        }
    };
    write().map_err(|e| file_refused(file, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names() -> Vec<String> {
        vec!["localhost".into(), "127.0.0.1".into(), "not a name".into()]
    }

    #[test]
    fn it_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("tls");
        let first = OwnCertificate::kept(&inner, &names()).unwrap().read().unwrap();
        let again = OwnCertificate::kept(&inner, &names()).unwrap().read().unwrap();
        assert_eq!((&first.0, first.1.secret_der()), (&again.0, again.1.secret_der()));
        let mode = fs::metadata(inner.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, KEY_FILE_MODE);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 2, "something is left behind");
    }

    #[test]
    fn a_key_gets_its_certificate_but_a_certificate_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let first = OwnCertificate::kept(dir.path(), &names()).unwrap().read().unwrap();
        fs::remove_file(dir.path().join(CERT_FILE)).unwrap();
        let renewed = OwnCertificate::kept(dir.path(), &names()).unwrap().read().unwrap();
        assert_eq!(first.1.secret_der(), renewed.1.secret_der());
        assert_ne!(first.0, renewed.0);
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        let KeyError { key, reason: why } = OwnCertificate::kept(dir.path(), &names()).unwrap_err();
        assert!(key.as_deref() == Some(TLS_DIR) && why.contains(KEY_FILE), "{key:?}: {why}");
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(OwnCertificate::kept(file.path(), &names()).unwrap_err().key.as_deref(), Some(TLS_DIR));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "nonsense").unwrap();
        assert_eq!(OwnCertificate::kept(dir.path(), &names()).unwrap_err().key.as_deref(), Some(TLS_DIR));
    }
}
