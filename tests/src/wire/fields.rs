//! A packet taken apart, for people and for comparing.

use std::fmt;

/// What is longer than this, in bytes, is shown by its beginning and its length.
const SHOWN: usize = 300;

/// A packet's kind and its fields by name, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Such as `OK` or `row`.
    pub kind: &'static str,
    /// Names and values.
    pub fields: Vec<(String, String)>,
    /// The values that are too long to be shown, in order.
    pub long: Vec<Vec<u8>>,
}

impl Decoded {
    /// Without fields yet.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, fields: Vec::new(), long: Vec::new() }
    }

    /// With one more field.
    pub fn with(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.fields.push((name.into(), value.to_string()));
        self
    }

    /// With one more field that is bytes.
    pub fn with_bytes(mut self, name: impl Into<String>, value: &[u8]) -> Self {
        self.push_bytes(name, value);
        self
    }

    /// Adds a field that is bytes.
    pub fn push_bytes(&mut self, name: impl Into<String>, value: &[u8]) {
        if value.len() > SHOWN {
            self.long.push(value.to_vec());
        }
        self.fields.push((name.into(), shown(value)));
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

/// Bytes as text, with escapes where they are none; long ones by beginning and length.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN {
        return format!("'{}'", bytes.escape_ascii());
    }
    let front = bytes.get(..24).unwrap_or_default().escape_ascii();
    format!("'{front}…' ({} bytes)", bytes.len())
}
