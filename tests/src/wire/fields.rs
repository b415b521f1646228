//! A packet taken apart, for people and for comparing.

use std::fmt;
use std::hash::{Hash as _, Hasher as _};

/// What is longer than this, in bytes, is shown by its length and a hash.
const SHOWN: usize = 300;

/// A packet's kind and its fields by name, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Such as `OK` or `row`.
    pub kind: &'static str,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

impl Decoded {
    /// Without fields yet.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, fields: Vec::new() }
    }

    /// With one more field.
    pub fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }

    /// With one more field that is bytes.
    pub fn with_bytes(self, name: impl Into<String>, value: &[u8]) -> Self {
        self.with(name, shown(value))
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// Bytes as text, with escapes where they are none; long ones by length and hash.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN {
        return format!("'{}'", bytes.escape_ascii());
    }
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    let front = bytes.get(..24).unwrap_or_default().escape_ascii();
    format!("'{front}…' ({} bytes, hash {:016x})", bytes.len(), hasher.finish())
}
