//! The values of string literals, and the names of identifiers.

use memchr::{memchr, memchr2};

use super::mode::Mode;

/// The value of a string literal; `None` for one that is not plain (N'…').
pub(crate) fn unquote_string(text: &[u8], mode: Mode) -> Option<Vec<u8>> {
    let quote = *text.first()?;
    if !matches!(quote, b'\'' | b'"') || text.len() < 2 {
        return None;
    }
    let body = text.get(1..text.len() - 1)?;
    let mut value = Vec::with_capacity(body.len());
    let mut rest = body;
    loop {
        let found = if mode.no_backslash_escapes { memchr(quote, rest) } else { memchr2(quote, b'\\', rest) };
        let Some(found) = found else {
            value.extend_from_slice(rest);
            return Some(value);
        };
        value.extend_from_slice(&rest[..found]);
        let next = *rest.get(found + 1)?;
        if rest[found] == quote {
            value.push(quote);
        } else {
            match next {
                b'0' => value.push(0),
                b'b' => value.push(8),
                b'n' => value.push(b'\n'),
                b'r' => value.push(b'\r'),
                b't' => value.push(b'\t'),
                b'Z' => value.push(0x1a),
                b'%' | b'_' => value.extend_from_slice(&[b'\\', next]),
                other => value.push(other),
            }
        }
        rest = rest.get(found + 2..)?;
    }
}

/// The name of a quoted or unquoted identifier. Bytes that are not UTF-8 are read as Latin-1.
pub(crate) fn identifier(text: &[u8]) -> String {
    match text.first() {
        Some(&quote @ (b'`' | b'"')) if text.len() >= 2 => {
            let mut name = Vec::with_capacity(text.len());
            let mut bytes = text[1..text.len() - 1].iter();
            while let Some(&byte) = bytes.next() {
                name.push(byte);
                if byte == quote {
                    bytes.next();
                }
            }
            decode(&name)
        }
        _ => decode(text),
    }
}

/// UTF-8, or else Latin-1.
pub(crate) fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}
