//! Certificates for tests of TLS, made anew by each process.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mysql_async::{ClientIdentity, SslOpts};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority, and what it has signed, as files.
#[derive(Debug)]
pub struct Certificates {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes `ca.pem` in `dir`.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(dir.join("ca.pem"), issuer.pem())?;
        Ok(Self { dir: dir.to_owned(), issuer })
    }

    /// Makes `<name>.pem` and `<name>.key`, made out for these hosts.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(hosts.iter().map(|&h| h.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        let cert = params.signed_by(&key, &self.issuer)?;
        std::fs::write(self.file(&format!("{name}.pem")), cert.pem())?;
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// `cert` and `key` of a configuration.
    pub fn pair(&self, name: &str) -> String {
        let file = |end: &str| self.file(&format!("{name}.{end}")).display().to_string();
        format!("cert = '{}', key = '{}'", file("pem"), file("key"))
    }

    /// A client's options that trust this authority and no other.
    pub fn trusted(&self) -> SslOpts {
        SslOpts::default().with_root_certs(vec![self.file("ca.pem").into()]).with_disable_built_in_roots(true)
    }

    /// The same, showing a certificate.
    pub fn trusted_as(&self, name: &str) -> SslOpts {
        let (cert, key) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        self.trusted().with_client_identity(Some(ClientIdentity::new(cert.into(), key.into())))
    }
}
