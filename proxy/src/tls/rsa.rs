//! A password encrypted with a server's RSA key, as caching_sha2_password and sha256_password want it on a connection
//! without TLS: PKCS #1 OAEP with SHA-1 (RFC 8017), of the password XORed with the salt.

use num_bigint::BigUint;
use rustls::crypto::ring;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use sha1::{Digest, Sha1};

/// Length of a SHA-1 digest, in bytes.
const HASH_BYTES: usize = 20;
/// The smallest and the largest modulus that is used, in bits.
const MODULUS_BITS: std::ops::RangeInclusive<u64> = 1024..=16_384;
/// The largest public exponent that is used, in bits.
const MAX_EXPONENT_BITS: u64 = 64;

/// Why a password could not be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RsaError {
    /// The server's key does not decode.
    #[error("the server's RSA key does not decode")]
    Key,
    /// The server's key is too small or too large.
    #[error("the server's RSA key is of a size that is not used")]
    Size,
    /// The password is longer than fits.
    #[error("the password is longer than the server's RSA key can encrypt")]
    TooLong,
    /// There is no salt to hide the password with.
    #[error("the server sent no salt")]
    Salt,
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

/// Encrypts `password`, which ends with its NUL, for the server that sent `salt` and the key `pem`.
///
/// # Errors
/// Why not. Nothing of the peer's can make this panic.
pub fn encrypt_password(pem: &[u8], password: &[u8], salt: &[u8]) -> Result<Vec<u8>, RsaError> {
    if salt.is_empty() {
        return Err(RsaError::Salt);
    }
    let (modulus, exponent) = public_key(pem)?;
    let mut seed = [0; HASH_BYTES];
    ring::default_provider().secure_random.fill(&mut seed).map_err(|_| RsaError::Random)?;
    let hidden: Vec<u8> = password.iter().zip(salt.iter().cycle()).map(|(p, s)| p ^ s).collect();
    let len = usize::try_from(modulus.bits().div_ceil(8)).map_err(|_| RsaError::Size)?;
    let padded = pad(&hidden, len, seed)?;
    let cipher = BigUint::from_bytes_be(&padded).modpow(&exponent, &modulus).to_bytes_be();
    let mut out = vec![0; len.saturating_sub(cipher.len())];
    out.extend_from_slice(&cipher);
    Ok(out)
}

/// `EME-OAEP` encoding of `message` in `len` bytes, with an empty label.
fn pad(message: &[u8], len: usize, mut seed: [u8; HASH_BYTES]) -> Result<Vec<u8>, RsaError> {
    let zeros = len.checked_sub(message.len() + 2 * HASH_BYTES + 2).ok_or(RsaError::TooLong)?;
    let mut block = Sha1::digest([]).to_vec();
    block.resize(HASH_BYTES + zeros, 0);
    block.push(1);
    block.extend_from_slice(message);
    mask(&mut block, &seed);
    mask(&mut seed, &block);
    Ok([&[0][..], &seed, &block].concat())
}

/// XORs `out` with `MGF1` of `seed`.
fn mask(out: &mut [u8], seed: &[u8]) {
    for (i, chunk) in (0u32..).zip(out.chunks_mut(HASH_BYTES)) {
        let digest = Sha1::new().chain_update(seed).chain_update(i.to_be_bytes()).finalize();
        chunk.iter_mut().zip(digest).for_each(|(byte, d)| *byte ^= d);
    }
}

/// Modulus and exponent of a PEM `PUBLIC KEY`.
fn public_key(pem: &[u8]) -> Result<(BigUint, BigUint), RsaError> {
    let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| RsaError::Key)?;
    let (key, _) = element(0x30, info.as_ref())?;
    let (_algorithm, rest) = element(0x30, key)?;
    let (bits, _) = element(0x03, rest)?;
    let (&0, key) = bits.split_first().ok_or(RsaError::Key)? else { return Err(RsaError::Key) };
    let (numbers, _) = element(0x30, key)?;
    let (modulus, rest) = element(0x02, numbers)?;
    let (exponent, _) = element(0x02, rest)?;
    let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
    if !MODULUS_BITS.contains(&modulus.bits()) || exponent.bits() > MAX_EXPONENT_BITS || exponent.bits() < 2 {
        return Err(RsaError::Size);
    }
    Ok((modulus, exponent))
}

/// Takes one DER element with this tag off the front: its content, and what follows.
fn element(tag: u8, der: &[u8]) -> Result<(&[u8], &[u8]), RsaError> {
    let (&[found, first], rest) = der.split_first_chunk().ok_or(RsaError::Key)?;
    if found != tag {
        return Err(RsaError::Key);
    }
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(RsaError::Key)?;
            (bytes.iter().fold(0, |len, &b| len << 8 | usize::from(b)), rest)
        }
        _ => return Err(RsaError::Key),
    };
    rest.split_at_checked(len).ok_or(RsaError::Key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of which the tests know the other half.
    const PEM: &str = include_str!("test-key.pem");

    #[test]
    fn what_was_encrypted_can_be_decrypted() {
        let private = BigUint::parse_bytes(include_str!("test-key.private").trim().as_bytes(), 16).unwrap();
        let (modulus, _) = public_key(PEM.as_bytes()).unwrap();
        let salt = b"01234567890123456789";
        for password in [&b"s-pw\0"[..], b"\0", &[b'x'; 60]] {
            let cipher = encrypt_password(PEM.as_bytes(), password, salt).unwrap();
            assert_eq!(cipher.len(), 128);
            let plain = BigUint::from_bytes_be(&cipher).modpow(&private, &modulus).to_bytes_be();
            // The leading zero is gone
            let (mut seed, mut block) = (plain[..HASH_BYTES].to_vec(), plain[HASH_BYTES..].to_vec());
            mask(&mut seed, &block);
            mask(&mut block, &seed);
            assert_eq!(block[..HASH_BYTES], Sha1::digest([])[..]);
            let message: Vec<u8> = block[block.len() - password.len()..].to_vec();
            let shown: Vec<u8> = message.iter().zip(salt.iter().cycle()).map(|(m, s)| m ^ s).collect();
            assert_eq!(shown, password);
            assert_eq!(block[block.len() - password.len() - 1], 1);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let salt = [7; 20];
        assert_eq!(encrypt_password(PEM.as_bytes(), &[b'x'; 87], &salt), Err(RsaError::TooLong));
        assert_eq!(encrypt_password(PEM.as_bytes(), b"x\0", &[]), Err(RsaError::Salt));
        assert_eq!(encrypt_password(b"no key", b"x\0", &salt), Err(RsaError::Key));
        let der = SubjectPublicKeyInfoDer::from_pem_slice(PEM.as_bytes()).unwrap();
        for end in 0..der.len() {
            assert!(element(0x30, &der[..end]).is_err());
        }
        for at in 0..PEM.len() {
            let mut broken = PEM.as_bytes().to_vec();
            broken[at] = b'/';
            let _ = encrypt_password(&broken, b"x\0", &salt);
        }
    }
}
