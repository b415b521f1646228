//! What both programs share: their settings, and how they print what they see.

use std::fmt::Display;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

pub const MIB: usize = 1 << 20;
pub const COLUMNS: &str = "i8, u8, i16, i24, i32, i64, u64, f32, f64, amount, bits, y, d, t, dt, ts, c, v, txt, latin, \
                           b, vb, lb, e, s, j";
pub const JOIN: &str = "SELECT a.id, b.name, b.at FROM many a JOIN many b ON b.id <= 10 ORDER BY a.id, b.id";
pub const METADATA: &str = "SELECT t.*, id + 1 AS `ä b`, 'x', NULL, 1.50, NOW(6) FROM types t";
pub const FAILING: [&str; 8] = [
    "INSERT INTO many VALUES (1, 'a', NULL)",
    "SELEKT 1",
    "SELECT * FROM nowhere",
    "SELECT nothing FROM many",
    "INSERT INTO many VALUES (3001, REPEAT('x', 50), NULL)",
    "INSERT INTO many (id) VALUES (NULL)",
    "USE nowhere",
    "SET GLOBAL max_connections = 10",
];

/// What the environment asks for; empty where it says nothing.
pub fn env(name: &str) -> String {
    std::env::var(format!("DRIVER_{name}")).unwrap_or_default()
}

pub fn port() -> Result<u16> {
    env("PORT").parse().context("DRIVER_PORT")
}

/// The authority of the server's certificate; `None` without TLS.
pub fn ca() -> Option<PathBuf> {
    Some(env("CA")).filter(|ca| !ca.is_empty()).map(PathBuf::from)
}

/// One of the statements that all languages share.
pub fn shared(name: &str) -> Result<String> {
    Ok(std::fs::read_to_string(PathBuf::from(env("SQL")).join(format!("{name}.sql")))?)
}

pub fn section(name: &str) {
    println!("== {name}");
}

pub fn show(label: &str, value: impl Display) {
    println!("{label}: {value}");
}

/// Bytes as text where they are; long ones as length and checksum.
pub fn bytes(value: &[u8]) -> String {
    if value.len() > 300 {
        return format!("{} bytes, crc {}", value.len(), crc32fast::hash(value));
    }
    match std::str::from_utf8(value) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("{value:02x?}"),
    }
}

pub fn blob(length: usize) -> Vec<u8> {
    (0..length).map(|n| n as u8).collect()
}

/// Bytes as a literal of the text protocol.
pub fn literal(value: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        value.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    format!("x'{}'", digits.map(char::from).collect::<String>())
}
