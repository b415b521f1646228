//! Bytes of a column's charset to Unicode text and back. Only charsets for which this is exact by construction are
//! decoded; all others stay bytes.

/// A charset whose text this crate decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decodable {
    /// utf8mb4, utf8mb3 and its alias utf8, ascii.
    Utf8,
    /// MySQL's latin1: Windows-1252 with the five undefined bytes mapped to the control characters of their value.
    Latin1,
}

pub(crate) fn decodable(charset: &str) -> Option<Decodable> {
    match charset {
        "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Some(Decodable::Utf8),
        "latin1" => Some(Decodable::Latin1),
        _ => None,
    }
}

/// Whether `name` is spelled like a charset's name, so that it may stand in SQL as an introducer.
pub(crate) fn is_charset_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The code points of latin1's bytes 0x80 to 0x9F.
const LATIN1_HIGH: [char; 32] = [
    '\u{20AC}', '\u{81}', '\u{201A}', '\u{0192}', '\u{201E}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{02C6}',
    '\u{2030}', '\u{0160}', '\u{2039}', '\u{0152}', '\u{8D}', '\u{017D}', '\u{8F}', '\u{90}', '\u{2018}',
    '\u{2019}', '\u{201C}', '\u{201D}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{02DC}', '\u{2122}',
    '\u{0161}', '\u{203A}', '\u{0153}', '\u{9D}', '\u{017E}', '\u{0178}',
];

fn latin1_char(byte: u8) -> char {
    match byte {
        0x80..=0x9F => LATIN1_HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// The text of these bytes, or `None` where the charset is not decoded here or the bytes are no text in it.
pub(crate) fn decode(charset: &str, bytes: &[u8]) -> Option<String> {
    match decodable(charset)? {
        Decodable::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Decodable::Latin1 => Some(bytes.iter().map(|&b| latin1_char(b)).collect()),
    }
}

/// The bytes of this text: the exact inverse of [`decode`]. `None` where the charset cannot hold it.
pub(crate) fn encode(charset: &str, text: &str) -> Option<Vec<u8>> {
    match decodable(charset)? {
        Decodable::Utf8 => Some(text.as_bytes().to_vec()),
        Decodable::Latin1 => text
            .chars()
            .map(|c| match LATIN1_HIGH.iter().position(|&h| h == c) {
                Some(at) => u8::try_from(0x80 + at).ok(),
                None => u8::try_from(u32::from(c)).ok().filter(|b| !(0x80..=0x9F).contains(b)),
            })
            .collect(),
    }
}

/// A space, as the charset spells it.
pub(crate) fn space(charset: &str) -> &'static [u8] {
    match charset {
        "ucs2" | "utf16" => &[0x00, 0x20],
        "utf16le" => &[0x20, 0x00],
        "utf32" => &[0x00, 0x00, 0x00, 0x20],
        _ => &[0x20],
    }
}

/// `bytes` without the trailing spaces that pad a CHAR.
pub(crate) fn strip_pad<'a>(charset: &str, bytes: &'a [u8]) -> &'a [u8] {
    let space = space(charset);
    let mut rest = bytes;
    // The value's length is a multiple of the space's in these charsets, so a match is never half a character.
    while rest.len().is_multiple_of(space.len()) && rest.ends_with(space) {
        rest = &rest[..rest.len() - space.len()];
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latin1_round_trips_every_byte() {
        for byte in 0..=255u8 {
            let text = decode("latin1", &[byte]).unwrap();
            assert_eq!(encode("latin1", &text).unwrap(), [byte], "{byte:#x}");
        }
        assert_eq!(decode("latin1", &[0x80]).unwrap(), "€");
        assert_eq!(encode("latin1", "☃"), None);
        assert_eq!(encode("latin1", "\u{80}"), None, "a code point that latin1 has no byte for");
    }

    #[test]
    fn invalid_utf8_is_not_decoded() {
        assert_eq!(decode("utf8mb4", &[0xE9]), None);
        assert_eq!(decode("gbk", b"abc"), None);
        assert_eq!(decode("utf8mb4", "😀\0'".as_bytes()).unwrap(), "😀\0'");
    }

    #[test]
    fn pads_are_stripped_by_character() {
        assert_eq!(strip_pad("utf8mb4", b"a  "), b"a");
        assert_eq!(strip_pad("ucs2", &[0, 0x61, 0, 0x20]), [0, 0x61]);
        assert_eq!(strip_pad("ucs2", &[0x20, 0x20]), [0x20, 0x20], "one character, not two spaces");
        assert_eq!(strip_pad("utf16le", &[0x61, 0, 0x20, 0]), [0x61, 0]);
        assert_eq!(strip_pad("utf32", &[0, 0, 0, 0x20]), [0u8; 0]);
    }
}
