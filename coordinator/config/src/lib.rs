//! The configuration files of Atone's programs: `coordinator.toml` and `proxy.toml`.
//!
//! A program reads its file through [`Section`]s: each key is taken by name, with its type and its default. A file that
//! cannot be used is refused with one line that names file, key and reason ([`ConfigError`]). No key is passed over:
//! what nobody took is refused by [`Section::finish`].
//!
//! Values are written alike everywhere: durations as `"60s"` ([`Section::duration`]), sizes as `"512MiB"`
//! ([`Section::bytes`]), passwords by value, file or environment ([`Password`]), servers as `host:port` or
//! `unix:/path` ([`Address`]). Keys that were renamed are still read ([`Section::rename`]).
//!
//! The only I/O is reading the configuration file and password files.

mod address;
mod error;
pub mod example;
mod password;
mod rename;
mod section;
mod server_tls;
mod values;

use std::path::Path;

pub use address::{Address, host_port};
pub use error::{ConfigError, KeyError};
pub use password::Password;
pub use rename::{Deprecated, Rename, Unit};
pub use section::Section;
pub use server_tls::{ServerTls, ServerTlsMode};
pub use values::MAX_DURATION;

/// Reads `file` and parses its text.
///
/// # Errors
/// The file cannot be read, or what `parse` says.
pub fn load<T>(file: &Path, parse: impl FnOnce(&str) -> Result<T, KeyError>) -> Result<T, ConfigError> {
    std::fs::read_to_string(file)
        .map_err(|e| KeyError::of_file(format!("cannot be read: {e}")))
        .and_then(|text| parse(&text))
        .map_err(|error| ConfigError::new(file, error))
}
