//! The column `context`: how what stands beside it is encoded, and by what it is checked.

use std::fmt;

use super::{MAX_PARTS, MAX_RECORD_BYTES, MAX_STORED_BYTES, RecordError};

/// The format of a record in one row, as it is.
const PLAIN: u32 = 1;
/// The format of a record that is compressed, or in several rows.
const PACKED: u32 = 2;

/// How the JSON text is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Json,
    /// As the server's `COMPRESS()` gives it.
    Zlib,
}

/// The context of a record's first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct First {
    pub(super) encoding: Encoding,
    /// CRC-32 of what is stored, all parts in order.
    pub(super) crc: u32,
    /// The length of the JSON text, in bytes.
    pub(super) bytes: usize,
    /// The length of what is stored, all parts together, in bytes.
    pub(super) stored: usize,
    /// How many rows the record is in.
    pub(super) parts: usize,
}

/// The context of another part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its number; the first row is 1.
    pub(super) part: usize,
    pub(super) parts: usize,
    /// CRC-32 of this part.
    pub(super) crc: u32,
    /// The length of this part, in bytes.
    pub(super) bytes: usize,
    /// The checksum of the record that it belongs to.
    pub(super) record: u32,
}

impl fmt::Display for First {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let First { encoding, crc, bytes, stored, parts } = self;
        match (encoding, parts) {
            (Encoding::Json, 1) => write!(f, "format={PLAIN};encoding=json;crc32={crc:08x};bytes={bytes}"),
            _ => {
                let encoding = match encoding {
                    Encoding::Json => "json",
                    Encoding::Zlib => "json+zlib",
                };
                write!(
                    f,
                    "format={PACKED};encoding={encoding};crc32={crc:08x};bytes={bytes};stored={stored};parts={parts}"
                )
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part { part, parts, crc, bytes, record } = self;
        write!(
            f,
            "format={PACKED};part={part};parts={parts};crc32={crc:08x};bytes={bytes};record={record:08x}"
        )
    }
}

/// The fields of a context, taken one by one in their order.
struct Fields<'a> {
    context: &'a str,
    rest: std::str::Split<'a, char>,
}

impl<'a> Fields<'a> {
    fn new(context: &'a str) -> Self {
        Fields { context, rest: context.split(';') }
    }

    fn wrong(&self, reason: impl Into<String>) -> RecordError {
        RecordError::Context { context: self.context.chars().take(128).collect(), reason: reason.into() }
    }

    fn text(&mut self, name: &str) -> Result<&'a str, RecordError> {
        let field = self.rest.next().and_then(|f| f.split_once('=')).filter(|(n, _)| *n == name);
        field.map(|(_, value)| value).ok_or_else(|| self.wrong(format!("{name} is missing")))
    }

    fn number(&mut self, name: &str) -> Result<usize, RecordError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| self.wrong(format!("{name} is not a number")))
    }

    fn crc(&mut self, name: &str) -> Result<u32, RecordError> {
        let text = self.text(name)?;
        u32::from_str_radix(text, 16).map_err(|_| self.wrong(format!("{name} is not a checksum")))
    }

    fn format(&mut self) -> Result<u32, RecordError> {
        match self.text("format")? {
            "1" => Ok(PLAIN),
            "2" => Ok(PACKED),
            _ => Err(self.wrong("this version reads the formats 1 and 2 only")),
        }
    }

    /// What was read must be written so, to the letter: no sign, zero or field more.
    fn spelled<T: fmt::Display>(self, read: T) -> Result<T, RecordError> {
        if read.to_string() == self.context { Ok(read) } else { Err(self.wrong("it is spelled otherwise")) }
    }

    fn parts(&mut self) -> Result<usize, RecordError> {
        let parts = self.number("parts")?;
        if (1..=MAX_PARTS).contains(&parts) {
            Ok(parts)
        } else {
            Err(self.wrong(format!("a record has 1 to {MAX_PARTS} parts")))
        }
    }
}

fn bounded(bytes: usize, limit: usize) -> Result<usize, RecordError> {
    if bytes > limit { Err(RecordError::TooLarge { got: bytes, limit }) } else { Ok(bytes) }
}

impl First {
    pub(super) fn parse(context: &str) -> Result<First, RecordError> {
        let mut fields = Fields::new(context);
        let format = fields.format()?;
        let encoding = match fields.text("encoding")? {
            "json" => Encoding::Json,
            "json+zlib" if format == PACKED => Encoding::Zlib,
            _ => return Err(fields.wrong("this version reads no such encoding")),
        };
        let crc = fields.crc("crc32")?;
        let bytes = bounded(fields.number("bytes")?, MAX_RECORD_BYTES)?;
        let (stored, parts) = match format {
            PLAIN => (bytes, 1),
            _ => (bounded(fields.number("stored")?, MAX_STORED_BYTES)?, fields.parts()?),
        };
        if encoding == Encoding::Json && stored != bytes {
            return Err(fields.wrong("the two lengths differ without compression"));
        }
        fields.spelled(First { encoding, crc, bytes, stored, parts })
    }
}

impl Part {
    pub(super) fn parse(context: &str) -> Result<Part, RecordError> {
        let mut fields = Fields::new(context);
        if fields.format()? != PACKED {
            return Err(fields.wrong("only format 2 has parts"));
        }
        let part = fields.number("part")?;
        let parts = fields.parts()?;
        let crc = fields.crc("crc32")?;
        let bytes = bounded(fields.number("bytes")?, MAX_STORED_BYTES)?;
        let record = fields.crc("record")?;
        if !(2..=parts).contains(&part) {
            return Err(fields.wrong("there is no such part"));
        }
        fields.spelled(Part { part, parts, crc, bytes, record })
    }
}
