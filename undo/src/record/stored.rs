//! From the JSON text of a record to the rows that hold it, and back.

use std::io::{self, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::context::{Encoding, First, Part};
use super::{Encoded, Layout, MAX_RECORD_BYTES, RecordError};

/// The length of the JSON text before the zlib stream, as `COMPRESS()` writes it: little-endian.
const PREFIX_BYTES: usize = 4;
/// Locks are held while a record is compressed, so that speed counts; below this level zlib has no Huffman codes of its
/// own, which hexadecimal digits need.
const LEVEL: u32 = 2;
/// How much is decompressed at a time, in bytes.
const BUFFER_BYTES: usize = 64 << 10;

/// What is stored, cut into parts.
struct Parts {
    part_bytes: usize,
    parts: Vec<Vec<u8>>,
}

impl Parts {
    fn new(part_bytes: usize) -> Parts {
        Parts { part_bytes: part_bytes.max(PREFIX_BYTES), parts: vec![Vec::new()] }
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = match self.parts.last_mut() {
                Some(last) if last.len() < self.part_bytes => {
                    let (now, later) = bytes.split_at(bytes.len().min(self.part_bytes - last.len()));
                    last.extend_from_slice(now);
                    bytes = later;
                    true
                }
                _ => false,
            };
            if !room {
                self.parts.push(Vec::new());
            }
        }
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Sink {
    Plain(Parts),
    Zlib(ZlibEncoder<Parts>),
}

/// Takes the JSON text while it is made, so that a large one never stands in memory as a whole.
pub(super) struct RowWriter {
    layout: Layout,
    sink: Sink,
    /// The length of the text so far.
    bytes: usize,
}

impl RowWriter {
    pub(super) fn new(layout: Layout) -> RowWriter {
        RowWriter { layout, sink: Sink::Plain(Parts::new(layout.part_bytes)), bytes: 0 }
    }

    /// The length so far, where it is above what a record may have.
    pub(super) fn excess(&self) -> Option<usize> {
        (self.bytes > MAX_RECORD_BYTES).then_some(self.bytes)
    }

    /// The rows; at most `max_parts`.
    pub(super) fn finish(self, max_parts: usize) -> Result<Vec<Encoded>, RecordError> {
        let (encoding, parts) = match self.sink {
            Sink::Plain(parts) => (Encoding::Json, parts.parts),
            Sink::Zlib(encoder) => {
                let mut parts =
                    encoder.finish().map_err(|e| RecordError::Malformed(format!("zlib: {e}")))?.parts;
                let length = u32::try_from(self.bytes)
                    .map_err(|_| RecordError::TooLarge { got: self.bytes, limit: MAX_RECORD_BYTES })?;
                let prefix = parts.first_mut().and_then(|first| first.get_mut(..PREFIX_BYTES));
                prefix
                    .ok_or_else(|| RecordError::Malformed("a first part without room".into()))?
                    .copy_from_slice(&length.to_le_bytes());
                (Encoding::Zlib, parts)
            }
        };
        if parts.len() > max_parts {
            let part_bytes = self.layout.part_bytes;
            return Err(RecordError::TooManyParts { got: parts.len(), limit: max_parts, part_bytes });
        }
        let first = First {
            encoding,
            crc: crc_of(&parts),
            bytes: self.bytes,
            stored: parts.iter().map(Vec::len).sum(),
            parts: parts.len(),
        };
        let count = parts.len();
        Ok(parts
            .into_iter()
            .zip(1..)
            .map(|(rollback_info, part)| {
                let context = if part == 1 {
                    first.to_string()
                } else {
                    let crc = crc32fast::hash(&rollback_info);
                    let bytes = rollback_info.len();
                    Part { part, parts: count, crc, bytes, record: first.crc }.to_string()
                };
                Encoded { context, rollback_info }
            })
            .collect())
    }
}

impl Write for RowWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.excess().is_some() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        match &mut self.sink {
            Sink::Plain(parts) => {
                if self.layout.compress_bytes == 0 || self.bytes <= self.layout.compress_bytes {
                    parts.push(bytes);
                    return Ok(bytes.len());
                }
                let so_far = std::mem::take(&mut parts.parts);
                let mut parts = Parts::new(self.layout.part_bytes);
                parts.push(&[0; PREFIX_BYTES]);
                let mut encoder = ZlibEncoder::new(parts, Compression::new(LEVEL));
                for part in so_far {
                    encoder.write_all(&part)?;
                }
                encoder.write_all(bytes)?;
                self.sink = Sink::Zlib(encoder);
            }
            Sink::Zlib(encoder) => encoder.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn crc_of(parts: &[Vec<u8>]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// What is stored, read once; each part is freed after the reader.
struct Stored {
    parts: std::vec::IntoIter<Vec<u8>>,
    part: Vec<u8>,
    at: usize,
}

impl Read for Stored {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.part.get(self.at..).unwrap_or_default();
            if !left.is_empty() || out.is_empty() {
                let n = left.len().min(out.len());
                out[..n].copy_from_slice(&left[..n]);
                self.at += n;
                return Ok(n);
            }
            match self.parts.next() {
                Some(next) => (self.part, self.at) = (next, 0),
                None => return Ok(0),
            }
        }
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.bytes += n;
        Ok(n)
    }
}

/// Checks rows against their contexts and hands their JSON text to `parse`: a slice where it is one, else a reader.
pub(super) fn read_rows<T>(
    rows: Vec<Encoded>,
    parse: impl FnOnce(Text<'_>) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    let mut rows = rows.into_iter();
    let first_row = rows.next().ok_or_else(|| RecordError::Parts("there is no first part".into()))?;
    let first = First::parse(&first_row.context)?;
    let count = rows.len() + 1;
    if count != first.parts {
        return Err(RecordError::Parts(format!("there are {count}, the context says {}", first.parts)));
    }
    let mut parts = Vec::with_capacity(count);
    parts.push(first_row.rollback_info);
    for (row, number) in rows.zip(2..) {
        let part = Part::parse(&row.context)?;
        if part.part != number || part.parts != first.parts || part.record != first.crc {
            return Err(RecordError::Parts(format!(
                "part {number} of {} of the record {:08x} is part {} of {} of the record {:08x}",
                first.parts, first.crc, part.part, part.parts, part.record
            )));
        }
        check(&row.rollback_info, part.bytes, part.crc)?;
        parts.push(row.rollback_info);
    }
    let stored: usize = parts.iter().map(Vec::len).sum();
    if stored != first.stored {
        return Err(RecordError::Length { expected: first.stored, got: stored });
    }
    let crc = crc_of(&parts);
    if crc != first.crc {
        return Err(RecordError::Checksum { expected: first.crc, got: crc });
    }
    match (first.encoding, parts.as_slice()) {
        (Encoding::Json, [whole]) => parse(Text::Slice(whole)),
        (Encoding::Json, _) => {
            let mut stored = Stored { parts: parts.into_iter(), part: Vec::new(), at: 0 };
            parse(Text::Reader(&mut BufReader::with_capacity(BUFFER_BYTES, &mut stored)))
        }
        (Encoding::Zlib, _) => inflate(first, parts, parse),
    }
}

fn inflate<T>(
    first: First,
    parts: Vec<Vec<u8>>,
    parse: impl FnOnce(Text<'_>) -> Result<T, RecordError>,
) -> Result<T, RecordError> {
    let malformed = |reason: &str| RecordError::Malformed(reason.to_owned());
    let mut stored = Stored { parts: parts.into_iter(), part: Vec::new(), at: 0 };
    let mut prefix = [0; PREFIX_BYTES];
    stored.read_exact(&mut prefix).map_err(|_| malformed("it is too short to be compressed"))?;
    if usize::try_from(u32::from_le_bytes(prefix)) != Ok(first.bytes) {
        return Err(malformed("the length before the compressed text is not that of the context"));
    }
    // One byte more than there may be: enough to see that it is too long, and all that a bomb gets
    let limit = u64::try_from(first.bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = Counted { inner: ZlibDecoder::new(stored).take(limit), bytes: 0 };
    let parsed = {
        let mut buffered = BufReader::with_capacity(BUFFER_BYTES, &mut text);
        let parsed = parse(Text::Reader(&mut buffered));
        // The parser stops where it fails: the decoder is asked for the end all the same, where it succeeded
        if parsed.is_ok() {
            io::copy(&mut buffered, &mut io::sink())
                .map_err(|e| malformed(&format!("it does not decompress: {e}")))?;
        }
        parsed
    }?;
    if text.bytes != first.bytes {
        return Err(RecordError::Length { expected: first.bytes, got: text.bytes });
    }
    let used = usize::try_from(text.inner.get_ref().total_in()).unwrap_or(usize::MAX);
    if used.saturating_add(PREFIX_BYTES) != first.stored {
        return Err(malformed("something stands behind the compressed text"));
    }
    Ok(parsed)
}

fn check(bytes: &[u8], expected: usize, expected_crc: u32) -> Result<(), RecordError> {
    if bytes.len() != expected {
        return Err(RecordError::Length { expected, got: bytes.len() });
    }
    let got = crc32fast::hash(bytes);
    if got != expected_crc {
        return Err(RecordError::Checksum { expected: expected_crc, got });
    }
    Ok(())
}

/// A record's JSON text.
pub(super) enum Text<'a> {
    Slice(&'a [u8]),
    Reader(&'a mut dyn Read),
}

/// The length of the JSON text of the record whose first row has this context, in bytes.
pub(super) fn json_bytes_of(context: &str) -> Result<usize, RecordError> {
    First::parse(context).map(|first| first.bytes)
}

/// How many rows hold the record whose first row has this context.
pub(super) fn parts_of(context: &str) -> Result<usize, RecordError> {
    First::parse(context).map(|first| first.parts)
}
