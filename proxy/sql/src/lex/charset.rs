//! Client charsets other than Unicode: a text is decoded to UTF-8, and what is sent is encoded again.
//!
//! Characters are split as the servers' lexers split them (`my_ismbchar` in `strings/ctype-*.cc`). A letter or digit
//! that has one code in the charset becomes that letter in Unicode, so that names can be compared. Each byte of any
//! other character becomes a character of its own, above all that a name can hold ([`RAW`]). So no byte of a character
//! is taken for a quote or a backslash, and encoding gives the original text, byte for byte.

use std::borrow::Cow;

use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, IBM866, ISO_8859_2, ISO_8859_7, ISO_8859_8, ISO_8859_13,
    KOI8_R, KOI8_U, MACINTOSH, SHIFT_JIS, WINDOWS_874, WINDOWS_1250, WINDOWS_1251, WINDOWS_1252,
    WINDOWS_1254, WINDOWS_1256, WINDOWS_1257,
};

/// The first of the characters that bytes become which are no letter or digit. Names hold characters up to U+FFFF.
const RAW: u32 = 0x10_ff00;

/// The first bytes of these characters in UTF-8.
const RAW_BEGINS: [u8; 2] = [0xf4, 0x8f];

/// The charset of a session's statements: its `character_set_client`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charset(Kind);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// Bytes, or not known: texts stay as they are.
    #[default]
    Plain,
    Unicode,
    Other(&'static Other),
}

/// A charset that is not Unicode.
#[derive(Debug)]
struct Other {
    name: &'static str,
    /// The width in bytes of the first character of a text; `None` for a single byte.
    width: fn(&[u8]) -> Option<usize>,
    /// The encoding, where there is one that agrees with the servers.
    encoding: Option<&'static Encoding>,
    /// The lowest byte that may be a letter by itself.
    letters_from: u8,
    /// First bytes of characters that a server may map differently.
    ambiguous: &'static [u8],
    /// Its characters may contain ASCII bytes.
    overlaps: bool,
}

impl PartialEq for Other {
    fn eq(&self, other: &Other) -> bool {
        self.name == other.name
    }
}

impl Eq for Other {}

macro_rules! charsets {
    ($(
        $name:literal $width:ident $encoding:expr, $letters_from:literal $overlaps:literal $([$($ambiguous:literal)*])?;
    )*) => {
        &[$(Other {
            name: $name,
            width: $width,
            encoding: $encoding,
            letters_from: $letters_from,
            ambiguous: &[$($($ambiguous),*)?],
            overlaps: $overlaps,
        }),*]
    };
}

/// All that MySQL 9.7 and MariaDB 11.8 accept as `character_set_client`, except `swe7`: it has letters in the place of
/// brackets.
const OTHERS: &[Other] = charsets! {
    "armscii8" single None, 0x80 false;
    "ascii" single None, 0x80 false;
    "big5" big5 Some(BIG5), 0x80 true [0xa1 0xc6 0xc7 0xc8];
    "cp1250" single Some(WINDOWS_1250), 0x80 false;
    "cp1251" single Some(WINDOWS_1251), 0x80 false;
    "cp1256" single Some(WINDOWS_1256), 0x80 false [0x8a 0x8f 0x98 0x9a 0x9f 0xaa 0xc0 0xff];
    "cp1257" single Some(WINDOWS_1257), 0x80 false;
    "cp850" single None, 0x80 false;
    "cp852" single None, 0x80 false;
    "cp866" single Some(IBM866), 0x80 false;
    "cp932" sjis Some(SHIFT_JIS), 0x80 true;
    "dec8" single None, 0x80 false;
    "eucjpms" euc_jp Some(EUC_JP), 0x80 false [0xf9 0xfa 0xfb 0xfc];
    "euckr" euc_kr Some(EUC_KR), 0x80 false;
    "gb18030" gb18030 Some(GB18030), 0x80 true [0xfe];
    "gb2312" gb2312 Some(GBK), 0x80 false [0xa2 0xa8];
    "gbk" gbk Some(GBK), 0x80 true [0xa8 0xfe];
    "geostd8" single None, 0x80 false;
    "greek" single Some(ISO_8859_7), 0xa0 false [0xaa];
    "hebrew" single Some(ISO_8859_8), 0xa0 false;
    "hp8" single None, 0x80 false;
    "keybcs2" single None, 0x80 false;
    "koi8r" single Some(KOI8_R), 0x80 false;
    "koi8u" single Some(KOI8_U), 0x80 false [0xae 0xbe];
    "latin1" single Some(WINDOWS_1252), 0x80 false;
    "latin2" single Some(ISO_8859_2), 0xa0 false;
    "latin5" single Some(WINDOWS_1254), 0xa0 false;
    "latin7" single Some(ISO_8859_13), 0xa0 false;
    "macce" single None, 0x80 false;
    "macroman" single Some(MACINTOSH), 0x80 false;
    "sjis" sjis Some(SHIFT_JIS), 0x80 true [0x87 0xfa 0xfb 0xfc];
    "tis620" single Some(WINDOWS_874), 0xa1 false;
    "ujis" euc_jp Some(EUC_JP), 0x80 false [0xad 0xf9 0xfa 0xfb 0xfc];
};

impl Charset {
    /// Bytes, or not known: texts stay as they are.
    pub const PLAIN: Charset = Charset(Kind::Plain);

    /// The charset of this name; `None` if it is not supported.
    pub fn of(name: &str) -> Option<Charset> {
        Some(Charset(match name {
            // Names are UTF-8 in it
            "binary" => Kind::Plain,
            "utf8" | "utf8mb3" | "utf8mb4" => Kind::Unicode,
            _ => Kind::Other(OTHERS.iter().find(|other| other.name == name)?),
        }))
    }

    /// Whether it is known to be Unicode.
    pub fn is_unicode(self) -> bool {
        self.0 == Kind::Unicode
    }

    /// Decodes the text of a statement. `backslash_escapes`: the SQL mode has them.
    ///
    /// # Errors
    /// Why the server may read it differently: a backslash escapes only the first byte of the character after it.
    pub fn decode(self, text: &[u8], backslash_escapes: bool) -> Result<Cow<'_, [u8]>, &'static str> {
        let Kind::Other(other) = self.0 else { return Ok(Cow::Borrowed(text)) };
        if text.is_ascii() {
            return Ok(Cow::Borrowed(text));
        }
        if backslash_escapes && other.overlaps && other.escapes_part(text) {
            return Err(
                "has a backslash before a character of several bytes, of which it escapes the first only",
            );
        }
        Ok(Cow::Owned(other.decode(text)))
    }

    /// Decodes a text that no lexer reads: a parameter, or a name.
    pub fn decode_value(self, text: &[u8]) -> Cow<'_, [u8]> {
        match self.0 {
            Kind::Other(other) if !text.is_ascii() => Cow::Owned(other.decode(text)),
            _ => Cow::Borrowed(text),
        }
    }

    /// Encodes a text again, with names that were added to it; `None` if the charset cannot represent it.
    pub fn encode(self, text: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self.0 {
            Kind::Other(other) if !text.is_ascii() => {
                let out = other.encode(std::str::from_utf8(text).ok()?)?;
                // Two bytes that were apart may now be one character
                (other.decode(&out) == text).then_some(Cow::Owned(out))
            }
            _ => Some(Cow::Borrowed(text)),
        }
    }

    /// Why the server may read a word outside of quotes as another one, or as two.
    pub(crate) fn check_word(self, word: &[u8]) -> Option<&'static str> {
        match self.0 {
            // In latin1 it is a no-break space, which ends the word
            Kind::Plain => {
                memchr::memchr(0xa0, word).map(|_| "has the byte A0 in an unquoted name: quote the name")
            }
            Kind::Unicode => None,
            Kind::Other(_) => word
                .windows(2)
                .any(|pair| pair == RAW_BEGINS)
                .then_some("has a character that is no letter in an unquoted name: quote the name"),
        }
    }

    /// Whether a statement can contain this name.
    pub fn can_encode(self, name: &str) -> bool {
        match self.0 {
            Kind::Plain => name.is_ascii(),
            Kind::Unicode => true,
            Kind::Other(_) => {
                name.chars().all(|c| u32::from(c) < RAW) && self.encode(name.as_bytes()).is_some()
            }
        }
    }
}

impl Other {
    /// Whether a text has a backslash that escapes a part of a character.
    fn escapes_part(&self, text: &[u8]) -> bool {
        let (mut rest, mut escaped) = (text, false);
        while let Some(first) = rest.first() {
            let width = (self.width)(rest).unwrap_or(1);
            if escaped && width > 1 {
                return true;
            }
            escaped = *first == b'\\' && !escaped;
            rest = rest.get(width..).unwrap_or_default();
        }
        false
    }

    fn decode(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len() + text.len() / 2);
        let mut rest = text;
        while let Some(first) = rest.first() {
            if first.is_ascii() {
                let ascii = rest.iter().position(|byte| !byte.is_ascii()).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..ascii]);
                rest = &rest[ascii..];
                continue;
            }
            let width = (self.width)(rest).unwrap_or(1);
            let (character, after) = rest.split_at(width);
            let mut push = |c: char| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            match self.letter(character) {
                Some(letter) => push(letter),
                None => {
                    character.iter().filter_map(|byte| char::from_u32(RAW + u32::from(*byte))).for_each(push)
                }
            }
            rest = after;
        }
        out
    }

    /// The letter or digit that these bytes are.
    fn letter(&self, bytes: &[u8]) -> Option<char> {
        let encoding = self.encoding?;
        let first = bytes.first()?;
        if (bytes.len() == 1 && *first < self.letters_from) || self.ambiguous.contains(first) {
            return None;
        }
        let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
        let mut chars = text.chars();
        let (letter, None) = (chars.next()?, chars.next()) else { return None };
        let unique = letter.is_alphanumeric() && !letter.is_ascii() && u32::from(letter) < RAW;
        (unique && self.bytes_of(letter)? == bytes).then_some(letter)
    }

    fn bytes_of(&self, letter: char) -> Option<Vec<u8>> {
        let mut text = [0; 4];
        let (bytes, _, unmappable) = self.encoding?.encode(letter.encode_utf8(&mut text));
        (!unmappable).then(|| bytes.into_owned())
    }

    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(text.len());
        for c in text.chars() {
            match u32::from(c).checked_sub(RAW) {
                _ if c.is_ascii() => out.push(u8::try_from(c).ok()?),
                Some(raw) => out.push(u8::try_from(raw).ok()?),
                None => out.extend_from_slice(&self.bytes_of(c)?),
            }
        }
        Some(out)
    }
}

fn single(_: &[u8]) -> Option<usize> {
    None
}

/// Whether a text begins with bytes of these ranges.
fn begins(text: &[u8], bytes: &[fn(u8) -> bool]) -> bool {
    text.len() >= bytes.len() && bytes.iter().zip(text).all(|(is, byte)| is(*byte))
}

fn double(text: &[u8], first: fn(u8) -> bool, second: fn(u8) -> bool) -> Option<usize> {
    begins(text, &[first, second]).then_some(2)
}

fn big5(text: &[u8]) -> Option<usize> {
    double(text, |b| matches!(b, 0xa1..=0xf9), |b| matches!(b, 0x40..=0x7e | 0xa1..=0xfe))
}

fn gbk(text: &[u8]) -> Option<usize> {
    double(text, |b| matches!(b, 0x81..=0xfe), |b| matches!(b, 0x40..=0x7e | 0x80..=0xfe))
}

fn gb18030(text: &[u8]) -> Option<usize> {
    let first: fn(u8) -> bool = |b| matches!(b, 0x81..=0xfe);
    let digit: fn(u8) -> bool = |b| b.is_ascii_digit();
    gbk(text).or_else(|| begins(text, &[first, digit, first, digit]).then_some(4))
}

fn gb2312(text: &[u8]) -> Option<usize> {
    double(text, |b| matches!(b, 0xa1..=0xf7), |b| matches!(b, 0xa1..=0xfe))
}

fn sjis(text: &[u8]) -> Option<usize> {
    double(text, |b| matches!(b, 0x81..=0x9f | 0xe0..=0xfc), |b| matches!(b, 0x40..=0x7e | 0x80..=0xfc))
}

fn euc_kr(text: &[u8]) -> Option<usize> {
    let second: fn(u8) -> bool = |b| matches!(b, 0x41..=0x5a | 0x61..=0x7a | 0x81..=0xfe);
    double(text, |b| matches!(b, 0x81..=0xfe), second)
}

fn euc_jp(text: &[u8]) -> Option<usize> {
    let high: fn(u8) -> bool = |b| matches!(b, 0xa1..=0xfe);
    double(text, high, high)
        .or_else(|| double(text, |b| b == 0x8e, |b| matches!(b, 0xa1..=0xdf)))
        .or_else(|| begins(text, &[|b| b == 0x8f, high, high]).then_some(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mode, Statement, analyze};

    fn of(name: &str) -> Charset {
        Charset::of(name).unwrap()
    }

    #[test]
    fn every_text_is_written_again_to_the_byte() {
        let mut text: Vec<u8> = (0..=255).collect();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push((state >> 33) as u8);
        }
        for other in OTHERS {
            let charset = of(other.name);
            for part in text.chunks(7).chain([text.as_slice()]) {
                let read = charset.decode_value(part).into_owned();
                assert!(std::str::from_utf8(&read).is_ok());
                assert_eq!(charset.encode(&read).as_deref(), Some(part), "{}", other.name);
            }
        }
    }

    #[test]
    fn letters_are_what_they_are() {
        let read =
            |name: &str, bytes: &[u8]| String::from_utf8(of(name).decode_value(bytes).into_owned()).unwrap();
        assert_eq!(read("gbk", b"\xd6\xd0\xce\xc4"), "中文");
        assert_eq!(read("big5", b"\xa4\xa4"), "中");
        assert_eq!(read("sjis", b"\x95\x5c"), "表");
        assert_eq!(read("latin1", b"caf\xe9"), "café");
        assert_eq!(read("gb18030", b"\x81\x30\x84\x36"), "\u{10ff81}\u{10ff30}\u{10ff84}\u{10ff36}");
        // Implementations map symbols to different characters
        assert_eq!(read("gbk", b"\xa1\xaa"), "\u{10ffa1}\u{10ffaa}");
    }

    #[test]
    fn no_byte_of_a_character_is_a_quote() {
        let mode = Mode::default();
        let sql = b"UPDATE t SET a = '\x95\x5c', `\x8a\x60` = '\x81\x7c;' WHERE id = 1";
        let text = of("sjis").decode(sql, true).unwrap();
        let Statement::Dml(update) = analyze(&text, mode).statement else { panic!() };
        assert_eq!(update.assignments().unwrap().len(), 2);
        assert!(of("sjis").decode(b"'\\\x95\x5c'", true).is_err());
        assert!(of("sjis").decode(b"'\\\\\x95\x5c'", true).is_ok());
        assert!(of("sjis").decode(b"'\\\x95\x5c'", false).is_ok());
        // A byte that begins no character of several bytes is a character
        let text = of("gbk").decode(b"SELECT '\x81' FROM t", true).unwrap();
        assert!(matches!(analyze(&text, mode).statement, Statement::Read));
    }

    #[test]
    fn what_a_charset_cannot_say() {
        assert!(of("latin1").can_encode("café") && !of("latin1").can_encode("имя"));
        assert!(of("cp1251").can_encode("имя") && !of("cp850").can_encode("é"));
        assert!(of("gbk").can_encode("订单") && !of("gbk").can_encode("\u{10ff81}"));
        assert!(of("utf8mb4").can_encode("имя") && !of("binary").can_encode("имя"));
        assert_eq!(Charset::of("swe7"), None);
        // Two halves that would be one character
        assert_eq!(of("gbk").encode("\u{10ff81}@".as_bytes()), None);
    }
}
