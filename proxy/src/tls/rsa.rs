//! A password under RSA, as caching_sha2_password and sha256_password want it on a connection without TLS: XORed with
//! the salt, and encrypted by PKCS #1 OAEP with SHA-1 (RFC 8017).
//!
//! Towards a server whose leg is plain the proxy encrypts, with the server's key; for a client whose leg is plain, in
//! front of a server that wants the password itself, it decrypts, with a key of its own.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey,
    PublicEncryptingKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// Why a password could not be encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaError {
    /// The server's key does not decode, or is smaller than 2048 or larger than 8192 bits.
    #[error("the server's RSA key does not decode, or is not of 2048 to 8192 bits")]
    Key,
    /// The password is longer than fits.
    #[error("the password is longer than the RSA key can encrypt")]
    TooLong,
    /// There is no salt to hide the password with.
    #[error("the server sent no salt")]
    Salt,
    /// It was encrypted with another key, or does not end with its NUL.
    #[error("the password was not encrypted with the proxy's RSA key")]
    Cipher,
    /// No key could be made.
    #[error("no RSA key could be made")]
    Unmade,
}

/// Encrypts `password`, which ends with its NUL, for the server that sent `salt` and the key `pem`.
///
/// # Errors
/// Why not. Nothing of the peer's can make this panic.
pub fn encrypt_password(pem: &[u8], password: &[u8], salt: &[u8]) -> Result<Vec<u8>, RsaError> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| RsaError::Key)?;
    let key = PublicEncryptingKey::from_der(info.as_ref()).map_err(|_| RsaError::Key)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_: Unspecified| RsaError::Key)?;
    let mut out = vec![0; key.ciphertext_size()];
    let hidden = hide(password, salt)?;
    let len = key.encrypt(&OAEP_SHA1_MGF1SHA1, &hidden, &mut out, None).map_err(|_| RsaError::TooLong)?.len();
    out.truncate(len);
    Ok(out)
}

/// XORs a password with the salt.
fn hide(password: &[u8], salt: &[u8]) -> Result<Vec<u8>, RsaError> {
    if salt.is_empty() {
        return Err(RsaError::Salt);
    }
    Ok(password.iter().zip(salt.iter().cycle()).map(|(p, s)| p ^ s).collect())
}

/// The proxy's own key, for as long as it runs.
pub struct OwnKey {
    private: OaepPrivateDecryptingKey,
    pem: Vec<u8>,
}

impl std::fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnKey").finish_non_exhaustive()
    }
}

impl OwnKey {
    /// Makes a key of 2048 bits, as servers do. Takes some ten milliseconds of CPU.
    ///
    /// # Errors
    /// [`RsaError::Unmade`]
    pub fn generate() -> Result<OwnKey, RsaError> {
        let unmade = |_: Unspecified| RsaError::Unmade;
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(unmade)?;
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().map_err(unmade)?;
        let mut pem = b"-----BEGIN PUBLIC KEY-----\n".to_vec();
        for line in STANDARD.encode(der.as_ref()).as_bytes().chunks(64) {
            pem.extend_from_slice(line);
            pem.push(b'\n');
        }
        pem.extend_from_slice(b"-----END PUBLIC KEY-----\n");
        Ok(OwnKey { private: OaepPrivateDecryptingKey::new(private).map_err(unmade)?, pem })
    }

    /// The public half, in PEM.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }

    /// Decrypts what a client made of its password with [`OwnKey::pem`] and `salt`: the password with its NUL.
    ///
    /// # Errors
    /// [`RsaError::Cipher`], [`RsaError::Salt`]
    pub fn decrypt_password(&self, cipher: &[u8], salt: &[u8]) -> Result<Vec<u8>, RsaError> {
        let mut out = vec![0; self.private.min_output_size()];
        let hidden = self
            .private
            .decrypt(&OAEP_SHA1_MGF1SHA1, cipher, &mut out, None)
            .map_err(|_| RsaError::Cipher)?;
        let password = hide(hidden, salt)?;
        if password.last() == Some(&0) { Ok(password) } else { Err(RsaError::Cipher) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &[u8] = b"01234567890123456789";

    #[test]
    fn what_was_encrypted_can_be_decrypted() {
        let key = OwnKey::generate().unwrap();
        for password in [&b"s-pw\0"[..], b"\0", &[&[b'x'; 200][..], &[0]].concat()] {
            let cipher = encrypt_password(key.pem(), password, SALT).unwrap();
            assert_eq!(cipher.len(), 256);
            assert_eq!(key.decrypt_password(&cipher, SALT).unwrap(), password);
            assert_ne!(encrypt_password(key.pem(), password, SALT).unwrap(), cipher);
            assert_eq!(key.decrypt_password(&cipher[1..], SALT), Err(RsaError::Cipher));
            let other = OwnKey::generate().unwrap();
            assert_eq!(other.decrypt_password(&cipher, SALT), Err(RsaError::Cipher));
        }
        let unended = encrypt_password(key.pem(), b"x", SALT).unwrap();
        assert_eq!(key.decrypt_password(&unended, SALT), Err(RsaError::Cipher));
        assert_eq!(key.decrypt_password(&unended, &[]), Err(RsaError::Salt));
    }

    #[test]
    fn bad_input_is_refused() {
        let key = OwnKey::generate().unwrap();
        assert_eq!(encrypt_password(key.pem(), &[b'x'; 215], SALT), Err(RsaError::TooLong));
        assert_eq!(encrypt_password(key.pem(), b"x\0", &[]), Err(RsaError::Salt));
        assert_eq!(encrypt_password(b"no key", b"x\0", SALT), Err(RsaError::Key));
        for at in 0..key.pem().len() {
            let mut broken = key.pem().to_vec();
            broken[at] = b'/';
            let _ = encrypt_password(&broken, b"x\0", SALT);
        }
    }
}
