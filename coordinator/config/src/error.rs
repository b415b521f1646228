//! What is wrong with a configuration.

use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration cannot be used: the file, the key and the reason, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    error: KeyError,
}

/// A key cannot be used, and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyError {
    /// The key with its sections, such as `backend[0].address`; `None` where the file as a whole is meant.
    pub key: Option<String>,
    /// What is wrong with it.
    pub reason: String,
}

impl ConfigError {
    /// The error, and the file that it was found in.
    pub fn new(file: &Path, error: KeyError) -> ConfigError {
        ConfigError { file: file.to_owned(), error }
    }
}

impl KeyError {
    /// An error in a key.
    pub fn new(key: impl Into<String>, reason: impl fmt::Display) -> KeyError {
        KeyError { key: Some(key.into()), reason: reason.to_string() }
    }

    /// An error in the file as a whole.
    pub(crate) fn of_file(reason: String) -> KeyError {
        KeyError { key: None, reason }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        // One line, whatever a parser had to say
        f.write_str(&self.reason.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.error)
    }
}

impl std::error::Error for KeyError {}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = ConfigError::new(Path::new("c.toml"), KeyError::new("x.y", "a\nb"));
        assert_eq!(error.to_string(), "c.toml: x.y: a b");
        let error = crate::load::<()>(Path::new("/nonexistent/c.toml"), |_| Ok(())).unwrap_err();
        assert!(
            error.to_string().starts_with("/nonexistent/c.toml: cannot be read: No such file"),
            "{error}"
        );
    }
}
