//! The bytes of a record.
//!
//! ```text
//! offset  size  what
//!      0     1  version of the record format, now 1
//!      1     4  CRC-32 (IEEE), little-endian, of: the kind (1 byte), the key (8 bytes, little-endian), the payload
//!      5     n  payload: JSON, without unknown fields
//! ```
//!
//! The checksum covers the key, so a record that turns up in another's place is found as well. The kinds are `T` for
//! transactions, `B` for branches, `L` for the locks of a branch, `C` for the counters (key 0).
//!
//! A new version of the format gets a new number; a reader that does not know it refuses to start.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// The version that is written.
pub const VERSION: u8 = 1;
const HEADER_BYTES: usize = 5;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A transaction, by number.
    Transaction,
    /// A branch, by id.
    Branch,
    /// The locks of a branch, by its id.
    Locks,
    /// The counters, under the key 0.
    Counters,
}

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Kind::Transaction => b'T',
            Kind::Branch => b'B',
            Kind::Locks => b'L',
            Kind::Counters => b'C',
        }
    }
}

/// The bytes of a record.
pub fn encode<T: Serialize>(kind: Kind, key: u64, record: &T) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|error| StoreError::Io(format!("{kind:?} {key} cannot be encoded: {error}")))?;
    let (header, payload) = bytes.split_at_mut(HEADER_BYTES);
    header[0] = VERSION;
    header[1..].copy_from_slice(&checksum(kind, key, payload).to_le_bytes());
    Ok(bytes)
}

/// The record in these bytes.
pub fn decode<T: DeserializeOwned>(kind: Kind, key: u64, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |what: String| StoreError::Damaged(format!("{kind:?} {key}: {what}"));
    let Some((&[version, a, b, c, d], payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(format!("{} bytes are too short for a record", bytes.len())));
    };
    if version != VERSION {
        return Err(damaged(format!("record format {version} is not known, only {VERSION} is")));
    }
    if u32::from_le_bytes([a, b, c, d]) != checksum(kind, key, payload) {
        return Err(damaged("the checksum does not match".to_owned()));
    }
    serde_json::from_slice(payload).map_err(|error| damaged(error.to_string()))
}

fn checksum(kind: Kind, key: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind.tag()]);
    hasher.update(&key.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let bytes = encode(Kind::Branch, 7, &vec!["a", "b"]).unwrap();
        assert_eq!(decode::<Vec<String>>(Kind::Branch, 7, &bytes).unwrap(), ["a", "b"]);
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let bytes = encode(Kind::Transaction, 7, &vec!["abc", "def"]).unwrap();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[index] ^= 1 << bit;
                assert!(
                    decode::<Vec<String>>(Kind::Transaction, 7, &changed).is_err(),
                    "byte {index} bit {bit}"
                );
            }
        }
        for length in 0..bytes.len() {
            assert!(
                decode::<Vec<String>>(Kind::Transaction, 7, &bytes[..length]).is_err(),
                "length {length}"
            );
        }
        assert!(decode::<Vec<String>>(Kind::Transaction, 8, &bytes).is_err());
        assert!(decode::<Vec<String>>(Kind::Branch, 7, &bytes).is_err());
    }

    /// A record as version 1 wrote it: it has to be read for ever.
    #[test]
    fn version_1_is_read() {
        let bytes = b"\x01\x9f\xad\x9a\xeb{\"boot\":3,\"branch_limit\":20001}";
        let counters: atone_core::Counters = decode(Kind::Counters, 0, bytes).unwrap();
        assert_eq!((counters.boot, counters.branch_limit), (3, 20_001));
    }
}
