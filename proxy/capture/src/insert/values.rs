//! Values that the server has computed, as literals that stand for them. Pure.

use atone_wire::column::{ColumnKind, ENUM_FLAG, SET_FLAG};

/// The collation of bytes.
pub(crate) const BINARY: u16 = 63;
/// `ColumnKind::decimals` of a number whose digits differ from value to value.
const ANY_DECIMALS: u8 = 31;
/// Integers of so many digits are exact in a DOUBLE.
const EXACT_DIGITS: usize = 15;

/// The charset whose texts a session reads, with `character_set_results` NULL, under this collation.
fn charset(collation: u16) -> Option<&'static str> {
    Some(match collation {
        5 | 8 | 15 | 31 | 47..=49 | 94 => "latin1",
        11 | 65 => "ascii",
        33 | 76 | 83 | 192..=215 | 223 => "utf8mb3",
        45 | 46 | 224..=247 | 255..=323 => "utf8mb4",
        _ => return None,
    })
}

/// The value of an expression, read with `character_set_results` NULL, as a literal that a column stores as it would
/// store the expression's value. `source` is the expression's text, or that of the query which it is a part of.
///
/// # Errors
/// Why there is none.
pub(crate) fn exact_literal(cell: Option<&[u8]>, kind: ColumnKind, source: &[u8]) -> Result<Vec<u8>, String> {
    let Some(cell) = cell else { return Ok(b"NULL".to_vec()) };
    let unsupported = || format!("a value of the type {} cannot be written as a literal", kind.kind);
    let digits = cell.strip_prefix(b"-").unwrap_or(cell);
    let integer = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if kind.flags & (ENUM_FLAG | SET_FLAG) != 0 {
        return Err(unsupported());
    }
    let quoted = |introducer: &str| [introducer.as_bytes(), b"'", cell, b"'"].concat();
    match kind.kind {
        _ if kind.is_exact_number() => {
            if digits.is_empty() || !digits.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
                return Err(unsupported());
            }
            if kind.decimals > 0 && divides(source) {
                return Err("a quotient has more digits than are told".into());
            }
            let padded = digits.len() > 1 && digits.starts_with(b"0") && !digits.starts_with(b"0.");
            Ok(if padded { quoted("") } else { cell.to_vec() })
        }
        5 => {
            if integer && digits.len() <= EXACT_DIGITS && cell != b"-0" {
                return Ok(cell.to_vec());
            }
            let number = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e');
            if kind.decimals < ANY_DECIMALS || digits.is_empty() || !digits.iter().all(number) {
                return Err(unsupported());
            }
            let exponent: &[u8] = if cell.contains(&b'e') { b"" } else { b"e0" };
            Ok([cell, exponent].concat())
        }
        10..=12 => {
            let temporal = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':' | b' ');
            if !cell.iter().all(temporal) {
                return Err(unsupported());
            }
            Ok(quoted(match kind.kind {
                10 => "DATE ",
                11 => "TIME ",
                _ => "TIMESTAMP ",
            }))
        }
        15 | 249..=254 => {
            let introducer = if kind.collation == BINARY {
                "binary"
            } else {
                charset(kind.collation).ok_or_else(|| {
                    format!("a text of collation {} cannot be written as a literal", kind.collation)
                })?
            };
            Ok(text_literal(cell, introducer))
        }
        _ => Err(unsupported()),
    }
}

/// Whether a DECIMAL may have digits after those that the server tells of it.
fn divides(source: &[u8]) -> bool {
    source.contains(&b'/') || source.windows(3).any(|word| word.eq_ignore_ascii_case(b"avg"))
}

/// A text or bytes as a literal of this charset.
pub(crate) fn text_literal(cell: &[u8], charset: &str) -> Vec<u8> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
    // As an application writes it: what it is stored as is known without a look
    if charset != "binary" && cell.iter().all(plain) {
        return [b"'", cell, b"'"].concat();
    }
    let mut out = format!("_{charset} ").into_bytes();
    if cell.is_empty() {
        out.extend_from_slice(b"''");
    } else {
        out.extend_from_slice(b"0x");
        out.extend_from_slice(hex::encode(cell).as_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_each_type() {
        let kind = |kind, collation, decimals| ColumnKind { kind, collation, flags: 0, decimals };
        let check = |cell: &[u8], kind| {
            exact_literal(Some(cell), kind, b"a").map(|text| String::from_utf8_lossy(&text).into_owned()).ok()
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(exact_literal(None, kind(3, 63, 0), b""), Ok(b"NULL".to_vec()));
        assert_eq!(check(b"-5", kind(8, 63, 0)), is("-5"));
        assert_eq!(check(b"0.50", kind(246, 63, 2)), is("0.50"));
        assert!(exact_literal(Some(b"0.3333"), kind(246, 63, 4), b"1 / 3").is_err());
        assert!(exact_literal(Some(b"1"), kind(8, 63, 0), b"1 / 3 * 3").is_ok());
        assert_eq!(check(b"0005", kind(3, 63, 0)), is("'0005'"));
        assert_eq!(check(b"x", kind(3, 63, 0)), None);
        assert_eq!(check(b"12", kind(5, 63, 0)), is("12"));
        assert_eq!(check(b"0.1", kind(5, 63, 31)), is("0.1e0"));
        assert_eq!(check(b"1e300", kind(5, 63, 31)), is("1e300"));
        assert_eq!(check(b"-0", kind(5, 63, 31)), is("-0e0"));
        assert_eq!(check(b"0.1", kind(5, 63, 2)), None);
        assert_eq!(check(b"2024-02-29", kind(10, 63, 0)), is("DATE '2024-02-29'"));
        assert_eq!(check(b"-838:59:59", kind(11, 63, 0)), is("TIME '-838:59:59'"));
        assert_eq!(check(b"2024-02-29 10:00:00.5", kind(12, 63, 1)), is("TIMESTAMP '2024-02-29 10:00:00.5'"));
        assert_eq!(check(b"0x' OR 1", kind(12, 63, 1)), None);
        assert_eq!(check(b"a-1", kind(253, 33, 0)), is("'a-1'"));
        assert_eq!(check(b"a'1", kind(253, 255, 0)), is("_utf8mb4 0x612731"));
        assert_eq!(check(b"a1", kind(253, 63, 0)), is("_binary 0x6131"));
        assert_eq!(check(b"", kind(253, 63, 0)), is("_binary ''"));
        assert_eq!(check(b"a", kind(253, 28, 0)), None, "gbk");
        for other in [4, 7, 16, 242, 245, 255] {
            assert_eq!(check(b"1", kind(other, 63, 31)), None, "{other}");
        }
        assert_eq!(check(b"a", ColumnKind { flags: ENUM_FLAG, ..kind(254, 45, 0) }), None);
    }
}
