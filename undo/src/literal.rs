//! Values as SQL literals that mean the same under every SQL mode and client charset. Every function here is total: a
//! value that does not fit its column's kind is still written as a harmless literal, never as raw text.

use crate::charset;
use crate::document;
use crate::image::Value;
use crate::kind::Kind;
use crate::table::Column;
use crate::temporal;

/// Under which settings a condition is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Session {
    /// The application's own: any time zone, any SQL mode.
    Any,
    /// That of [`crate::session_setup`]: UTC, permissive.
    Compensation,
}

/// Whether `text` is a plain decimal number, optionally with an exponent.
pub(crate) fn is_number(text: &str, exponent: bool) -> bool {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
        Some((m, p)) => (m, Some(p)),
        None => (unsigned, None),
    };
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(mantissa),
    };
    let power_ok = match power {
        None => true,
        Some(p) => exponent && digits(p.strip_prefix(['-', '+']).unwrap_or(p)),
    };
    mantissa_ok && power_ok && text.len() <= 512
}

/// Whether `text` may be an INET4, INET6 or UUID.
pub(crate) fn is_address(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':' | b'-'))
}

/// Whether a quoted string of these bytes reads the same in every SQL mode and client charset.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| matches!(b, 0x20..=0x7E) && !matches!(b, b'\'' | b'"' | b'\\'))
}

fn hex_digits(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode_upper(bytes))
}

/// A binary string.
pub(crate) fn binary(bytes: &[u8]) -> String {
    // `0x` alone is no literal, and MariaDB's EMPTY_STRING_IS_NULL makes NULL of ''.
    if bytes.is_empty() { "X''".to_owned() } else { hex_digits(bytes) }
}

/// Text of the server's own making (names, XIDs) as a utf8mb4 string.
pub(crate) fn utf8(text: &str) -> String {
    if text.is_empty() {
        "_utf8mb4 X''".to_owned()
    } else if is_plain(text.as_bytes()) {
        format!("_utf8mb4'{text}'")
    } else {
        format!("_utf8mb4 {}", hex_digits(text.as_bytes()))
    }
}

/// The charset that introduces a literal of these bytes. MySQL warns of charsets that are going out of use; a literal
/// is converted to its column's charset without loss.
fn introducer<'a>(charset: &'a str, bytes: &[u8]) -> &'a str {
    match charset {
        "utf8mb3" | "utf8" if std::str::from_utf8(bytes).is_ok() => "utf8mb4",
        "ucs2" if bytes.chunks(2).all(|unit| !matches!(unit, [0xD8..=0xDF, _])) => "utf16",
        _ => charset,
    }
}

/// Bytes in a charset as a string.
fn in_charset(charset: &str, bytes: &[u8]) -> String {
    if !charset::is_charset_name(charset) {
        return binary(bytes);
    }
    let charset = introducer(charset, bytes);
    if bytes.is_empty() {
        format!("_{charset} X''")
    } else if is_plain(bytes) && charset::decodable(charset).is_some() {
        // The text stands between quotes as ASCII, which these charsets share.
        match std::str::from_utf8(bytes) {
            Ok(text) => format!("_{charset}'{text}'"),
            Err(_) => format!("_{charset} {}", hex_digits(bytes)),
        }
    } else {
        format!("_{charset} {}", hex_digits(bytes))
    }
}

fn string(column: &Column, value: &str) -> String {
    let charset = column.charset.as_deref().unwrap_or("");
    match charset::encode(charset, value) {
        Some(bytes) => in_charset(charset, &bytes),
        None => utf8(value),
    }
}

/// Text of a kind with its own grammar, between quotes.
fn quoted(text: &str, well_formed: bool) -> String {
    if well_formed { format!("'{text}'") } else { utf8(text) }
}

/// A document of which only the text was kept; numbers that must have been DECIMALs are put back as such.
fn json(text: &str, literal: &str) -> String {
    let document = format!("CAST({literal} AS JSON)");
    let decimals = document::decimals(text);
    if decimals.is_empty() {
        return document;
    }
    let changes: Vec<String> =
        decimals.iter().map(|(path, digits)| format!("{}, {digits}", utf8(path))).collect();
    format!("JSON_SET({document}, {})", changes.join(", "))
}

/// The literal by which the compensation assigns this value.
pub(crate) fn assign(column: &Column, value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Text(text) => match column.kind {
            Kind::Decimal if is_number(text, false) => text.clone(),
            // Quoted: a bare -0 would be the integer 0.
            Kind::Decimal | Kind::Float | Kind::Double => quoted(text, is_number(text, true)),
            Kind::Date | Kind::Time | Kind::DateTime | Kind::Timestamp => {
                quoted(text, temporal::is_temporal_text(text))
            }
            Kind::Other => quoted(text, is_address(text)),
            Kind::Json => json(text, &utf8(text)),
            Kind::Document => format!("CAST({} AS JSON)", utf8(text)),
            // The error value; a column with an empty member is written by number.
            Kind::Enum if text.is_empty() => "0".to_owned(),
            Kind::Char | Kind::Text | Kind::Enum | Kind::Set => string(column, text),
            Kind::Int | Kind::Bit | Kind::Year | Kind::Binary | Kind::Geometry | Kind::Vector => utf8(text),
        },
        Value::Bytes(bytes) => match column.charset.as_deref().filter(|_| column.kind.has_charset()) {
            Some(charset) => in_charset(charset, bytes),
            None => binary(bytes),
        },
        Value::Document(document) => document.sql(&format!("CAST({} AS JSON)", utf8(document.text())), utf8),
    }
}

/// The values of a statement that are too long for its text; each stands there as a `?`.
pub(crate) struct Long<'a> {
    /// Values of more bytes are long.
    pub(crate) above_bytes: usize,
    /// Their bytes, in order.
    pub(crate) params: &'a mut Vec<Vec<u8>>,
}

/// As [`assign`], with a long value as a parameter: a string of bytes, whatever type the driver gives it.
pub(crate) fn assign_long(column: &Column, value: &Value, long: &mut Long<'_>) -> String {
    let mut placeholder = |charset: Option<&str>, bytes: Vec<u8>| {
        let placeholder = match charset {
            // For MariaDB CAST(? AS BINARY) is still a text in the connection's charset
            Some(charset) => {
                format!("CONVERT(CONVERT(? USING binary) USING {})", introducer(charset, &bytes))
            }
            None => "CONVERT(? USING binary)".to_owned(),
        };
        long.params.push(bytes);
        placeholder
    };
    let charset =
        column.charset.as_deref().filter(|c| column.kind.has_charset() && charset::is_charset_name(c));
    match value {
        Value::Bytes(bytes) if bytes.len() > long.above_bytes => placeholder(charset, bytes.clone()),
        Value::Text(text) if text.len() > long.above_bytes => match column.kind {
            Kind::Json => json(text, &placeholder(Some("utf8mb4"), text.clone().into_bytes())),
            Kind::Document => {
                format!("CAST({} AS JSON)", placeholder(Some("utf8mb4"), text.clone().into_bytes()))
            }
            Kind::Char | Kind::Text => {
                let encoded = charset.and_then(|charset| Some((charset, charset::encode(charset, text)?)));
                let (charset, bytes) = encoded.unwrap_or_else(|| ("utf8mb4", text.clone().into_bytes()));
                placeholder(Some(charset), bytes)
            }
            _ => assign(column, value),
        },
        Value::Document(document) if document.text().len() > long.above_bytes => {
            let text = placeholder(Some("utf8mb4"), document.text().to_owned().into_bytes());
            document.sql(&format!("CAST({text} AS JSON)"), utf8)
        }
        _ => assign(column, value),
    }
}

/// What may stand on the right of `column =` or in `column IN (…)`; `None` where the comparison needs another form.
pub(crate) fn plain_operand(column: &Column, value: &Value, session: Session) -> Option<String> {
    match value {
        Value::Null | Value::Document(_) => None,
        Value::Int(0) if column.kind == Kind::Year => None,
        Value::Text(text) => match column.kind {
            Kind::Date | Kind::DateTime if !temporal::is_real_date(text) => None,
            Kind::Timestamp if session == Session::Any || !temporal::is_real_date(text) => None,
            Kind::Document | Kind::Json | Kind::Geometry | Kind::Vector => None,
            _ => Some(assign(column, value)),
        },
        Value::Int(_) | Value::Bytes(_) => Some(assign(column, value)),
    }
}

/// What may stand in `(column, …) IN ((…), …)`; `None` where such a row might be compared otherwise than a column
/// alone. A server compares the parts of rows by the column's type and collation, but need not convert a text to them:
/// it is written in the column's own charset, a date or time as the server shows it.
pub(crate) fn row_operand(column: &Column, value: &Value, session: Session) -> Option<String> {
    let plain = plain_operand(column, value, session)?;
    match (column.kind, value) {
        (Kind::Int | Kind::Year, Value::Int(_)) => Some(plain),
        (Kind::Decimal, Value::Text(text)) if is_number(text, false) => Some(plain),
        (Kind::Binary, Value::Bytes(_)) => Some(plain),
        (Kind::Char | Kind::Text, Value::Text(_) | Value::Bytes(_)) => {
            let charset = column.charset.as_deref()?;
            let own = plain.starts_with(&format!("_{}", introducer(charset, &[])));
            (own && charset::is_charset_name(charset)).then_some(plain)
        }
        (Kind::Date | Kind::DateTime | Kind::Time, Value::Text(text)) if temporal::is_temporal_text(text) => {
            Some(format!("_latin1{plain}"))
        }
        _ => None,
    }
}

/// A condition that holds where the column has this value. `name` is the qualified, quoted column.
pub(crate) fn equals(column: &Column, name: &str, value: &Value, session: Session) -> String {
    if let Some(operand) = plain_operand(column, value, session) {
        return format!("{name} = {operand}");
    }
    match value {
        Value::Null => format!("{name} IS NULL"),
        Value::Int(n) => format!("{name} + 0 = {n}"),
        Value::Text(text) => match column.kind {
            Kind::Timestamp => match temporal::utc_to_unix(text) {
                Some(unix) => format!("UNIX_TIMESTAMP({name}) = {unix}"),
                None => "1 = 0".to_owned(),
            },
            // A literal such as '0000-00-00' is an error in some SQL modes, a number never is.
            Kind::Date | Kind::DateTime => match temporal::as_number(text) {
                Some(number) => format!("{name} + 0 = {number}"),
                None => "1 = 0".to_owned(),
            },
            _ => "1 = 0".to_owned(),
        },
        Value::Bytes(bytes) => format!("{name} = {}", binary(bytes)),
        Value::Document(_) => "1 = 0".to_owned(),
    }
}
