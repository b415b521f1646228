//! The bytes of a record.
//!
//! ```text
//! offset  size  what
//!      0     1  version of the record format: 1, or 2 for the locks of a branch
//!      1     4  CRC-32 (IEEE), little-endian, of: the kind (1 byte), the key (8 bytes, little-endian), the payload
//!      5     n  payload
//! ```
//!
//! The checksum covers the key, so a record that turns up in another's place is found as well. The kinds are `T` for
//! transactions, `B` for branches, `L` for the locks of a branch, `C` for the counters (key 0).
//!
//! The payload of version 1 is JSON without unknown fields. Locks were written so too, and are read so for ever. That
//! of version 2, since there may be a million locks:
//!
//! ```text
//! number of tables; of each, in order:
//!     bytes of its name, the name
//!     number of keys; bytes of each key, in order; the texts of all keys, one after the other
//! ```
//!
//! Its numbers are LEB128: seven bits a byte, the lowest first, with the highest bit set where another byte follows.
//!
//! A new version of the format gets a new number; a reader that does not know it refuses to start.

use atone_core::{Keys, LockGroup, LockSet};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// The version that is written of all records but locks.
pub const VERSION: u8 = 1;
/// The version that is written of locks.
pub const LOCKS_VERSION: u8 = 2;
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
    Ok(finish(VERSION, kind, key, bytes))
}

/// The bytes of the locks of the branch with this id.
pub fn encode_locks(branch: u64, locks: &LockSet) -> Vec<u8> {
    let texts = locks.groups.iter().map(|group| group.keys.text().len() + 2 * group.keys.len());
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 64 + texts.sum::<usize>());
    bytes.resize(HEADER_BYTES, 0);
    put_number(&mut bytes, locks.groups.len());
    for LockGroup { table, keys } in &locks.groups {
        put_number(&mut bytes, table.len());
        bytes.extend_from_slice(table.as_bytes());
        put_number(&mut bytes, keys.len());
        keys.iter().for_each(|key| put_number(&mut bytes, key.len()));
        bytes.extend_from_slice(keys.text().as_bytes());
    }
    finish(LOCKS_VERSION, Kind::Locks, branch, bytes)
}

/// Fills in the header.
fn finish(version: u8, kind: Kind, key: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    let (header, payload) = bytes.split_at_mut(HEADER_BYTES);
    header[0] = version;
    header[1..].copy_from_slice(&checksum(kind, key, payload).to_le_bytes());
    bytes
}

/// The record in these bytes.
pub fn decode<T: DeserializeOwned>(kind: Kind, key: u64, bytes: &[u8]) -> Result<T, StoreError> {
    from_json(kind, key, open(&[VERSION], kind, key, bytes)?.1)
}

fn from_json<T: DeserializeOwned>(kind: Kind, key: u64, payload: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(payload).map_err(|error| damaged(kind, key, error.to_string()))
}

/// The locks of a branch in these bytes.
pub fn decode_locks(branch: u64, bytes: &[u8]) -> Result<LockSet, StoreError> {
    let (version, mut payload) = open(&[VERSION, LOCKS_VERSION], Kind::Locks, branch, bytes)?;
    if version == VERSION {
        return from_json(Kind::Locks, branch, payload);
    }
    let locks = take_locks(&mut payload).filter(|_| payload.is_empty());
    locks.ok_or_else(|| damaged(Kind::Locks, branch, "they are not locks".to_owned()))
}

/// The version, which has to be one of these, and the payload.
fn open<'a>(versions: &[u8], kind: Kind, key: u64, bytes: &'a [u8]) -> Result<(u8, &'a [u8]), StoreError> {
    let Some((&[version, a, b, c, d], payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(kind, key, format!("{} bytes are too short for a record", bytes.len())));
    };
    if !versions.contains(&version) {
        return Err(damaged(kind, key, format!("record format {version} is not known, only {versions:?}")));
    }
    if u32::from_le_bytes([a, b, c, d]) != checksum(kind, key, payload) {
        return Err(damaged(kind, key, "the checksum does not match".to_owned()));
    }
    Ok((version, payload))
}

fn damaged(kind: Kind, key: u64, what: String) -> StoreError {
    StoreError::Damaged(format!("{kind:?} {key}: {what}"))
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    let mut left = number;
    while left >= 0x80 {
        // The lowest seven bits fit.
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

fn take_locks(payload: &mut &[u8]) -> Option<LockSet> {
    let mut groups: Vec<LockGroup> = Vec::new();
    for _ in 0..take_number(payload)? {
        let length = take_number(payload)?;
        let table = take_text(payload, length)?.into();
        let count = take_number(payload)?;
        let lengths: Vec<usize> = (0..count).map(|_| take_number(payload)).collect::<Option<_>>()?;
        let length = lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length))?;
        let keys = Keys::from_parts(take_text(payload, length)?.to_owned(), lengths)?;
        if keys.is_empty() || groups.last().is_some_and(|last| last.table >= table) {
            return None;
        }
        groups.push(LockGroup { table, keys });
    }
    Some(LockSet { groups })
}

fn take_text<'a>(payload: &mut &'a [u8], length: usize) -> Option<&'a str> {
    let (text, rest) = payload.split_at_checked(length)?;
    *payload = rest;
    std::str::from_utf8(text).ok()
}

fn take_number(payload: &mut &[u8]) -> Option<usize> {
    let mut number = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = payload.split_first()?;
        *payload = rest;
        let bits = usize::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
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

    fn some_locks() -> LockSet {
        let keys = |of: &[&str]| of.iter().map(|key| (*key).to_owned()).collect();
        LockSet::new([("s.u".to_owned(), keys(&["é", "k:7"])), ("s.t".to_owned(), keys(&["1", "2,a"]))])
    }

    /// Locks as version 1 wrote them, in whatever order: they have to be read for ever.
    #[test]
    fn locks_of_version_1_are_read() {
        let text =
            r#"{"groups":[{"table":"s.t","keys":["2,a","1"]},{"table":"s.u","keys":["k:7","\u00e9"]}]}"#;
        let payload = text.as_bytes();
        let mut bytes = vec![1];
        bytes.extend(checksum(Kind::Locks, 7, payload).to_le_bytes());
        bytes.extend(payload);
        assert_eq!(decode_locks(7, &bytes).unwrap(), some_locks());
        assert_eq!(bytes[..5], b"\x01\x46\x6e\xdb\x66"[..]);
    }

    #[test]
    fn locks_of_version_2_are_read() {
        let bytes = b"\x02\xac\xca\x0f\x01\x02\x03s.t\x02\x01\x0312,a\x03s.u\x02\x03\x02k:7\xc3\xa9";
        assert_eq!(encode_locks(7, &some_locks()), bytes);
        assert_eq!(decode_locks(7, bytes).unwrap(), some_locks());
    }

    #[test]
    fn locks_are_what_they_were() {
        let check = |locks: LockSet| {
            assert_eq!(decode_locks(1, &encode_locks(1, &locks)).unwrap(), locks);
        };
        check(LockSet::new([]));
        check(LockSet::new([("s.t".to_owned(), vec!["x".repeat(127), "y".repeat(128), "z".repeat(16_384)])]));
        check(LockSet::new([("s.t".to_owned(), (0..20_000).map(|n| n.to_string()).collect())]));
    }

    #[test]
    fn no_changed_byte_of_locks_goes_unnoticed() {
        let bytes = encode_locks(7, &some_locks());
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[index] ^= 1 << bit;
                assert!(decode_locks(7, &changed).is_err(), "byte {index} bit {bit}");
            }
            assert!(decode_locks(7, &bytes[..index]).is_err(), "length {index}");
        }
        assert!(decode_locks(8, &bytes).is_err());
    }

    /// A payload with a checksum that matches and that nobody has written is refused, whatever it is.
    #[test]
    fn a_payload_that_is_none_is_refused() {
        let payloads: [&[u8]; 10] = [
            b"",
            b"\x01",
            b"\x00\x00",
            b"\x01\x03s.t\x00",
            b"\x01\x03s.t\x02\x01\x01ba",
            b"\x01\x03s.t\x02\x01\x01aa",
            b"\x01\x03s.t\x02\x01\x01\xc3\xa9",
            b"\x01\x03s.t\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01a",
            b"\x01\x03s.t\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02a",
            b"\x02\x03s.u\x01\x01a\x03s.t\x01\x01a",
        ];
        for payload in payloads {
            let mut bytes = vec![0; HEADER_BYTES];
            bytes.extend(payload);
            let bytes = finish(LOCKS_VERSION, Kind::Locks, 7, bytes);
            assert!(decode_locks(7, &bytes).is_err(), "{payload:x?}");
        }
        // What is not locks has no version 2.
        let bytes = finish(LOCKS_VERSION, Kind::Counters, 0, vec![0; HEADER_BYTES]);
        assert!(decode::<atone_core::Counters>(Kind::Counters, 0, &bytes).is_err());
    }
}
