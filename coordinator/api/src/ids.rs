//! Identifiers that every part of the system shares.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest XID, in bytes.
pub const MAX_XID_BYTES: usize = 128;

/// The id of a global transaction: opaque text of 1 to 128 characters out of `A-Z a-z 0-9 . : _ -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid(Arc<str>);

/// The text is not a valid XID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidXid {
    /// The text is empty.
    #[error("an XID may not be empty")]
    Empty,
    /// The text is too long; its length in bytes.
    #[error("an XID of {0} bytes is longer than {MAX_XID_BYTES}")]
    TooLong(usize),
    /// The text has a character that may not be there.
    #[error("the character {0:?} may not be in an XID")]
    Character(char),
}

impl Xid {
    /// Takes over a text that is a valid XID.
    pub fn new(text: &str) -> Result<Self, InvalidXid> {
        if text.is_empty() {
            return Err(InvalidXid::Empty);
        }
        if text.len() > MAX_XID_BYTES {
            return Err(InvalidXid::TooLong(text.len()));
        }
        match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-'))) {
            Some(c) => Err(InvalidXid::Character(c)),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Xid {
    type Err = InvalidXid;
    fn from_str(text: &str) -> Result<Self, InvalidXid> {
        Self::new(text)
    }
}

impl AsRef<str> for Xid {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Xid({})", self.0)
    }
}

/// The id of a branch, given by the coordinator: rising, and never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BranchId(pub u64);

impl fmt::Display for BranchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_xids_are_taken() {
        for text in ["a", "A.b:c_d-9", &"x".repeat(128)] {
            assert_eq!(Xid::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn invalid_xids_are_refused() {
        assert_eq!(Xid::new(""), Err(InvalidXid::Empty));
        assert_eq!(Xid::new(&"x".repeat(129)), Err(InvalidXid::TooLong(129)));
        for c in [' ', '\'', '\0', 'ä', '/', '\n'] {
            assert_eq!(Xid::new(&format!("a{c}b")), Err(InvalidXid::Character(c)));
        }
    }
}
