//! Reading and writing of the protocol's basic types.

use thiserror::Error;

/// A packet that is not what the protocol says: too short, too long, or with a value that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed packet: {0}")]
pub struct Malformed(pub &'static str);

/// A cursor over the payload of one packet.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// `string<fix>`: exactly `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        if n > self.rest.len() {
            return Err(Malformed("it ends within a value"));
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes(N)?);
        Ok(out)
    }

    /// `int<1>`
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// `int<2>`
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// `int<3>`
    pub(crate) fn u24(&mut self) -> Result<u32, Malformed> {
        let [a, b, c] = self.array()?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    /// `int<4>`
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// `int<8>`
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The integer of a `MYSQL_TYPE_*` in the binary protocol: TINY, SHORT, LONG, INT24 or LONGLONG.
    ///
    /// # Errors
    /// [`Malformed`] after the end, and for another type.
    pub(crate) fn int(&mut self, kind: u8, unsigned: bool) -> Result<i128, Malformed> {
        let (signed, all) = match kind {
            1 => self.u8().map(|v| (i64::from(v as i8), u64::from(v)))?,
            2 => self.u16().map(|v| (i64::from(v as i16), u64::from(v)))?,
            3 | 9 => self.u32().map(|v| (i64::from(v as i32), u64::from(v)))?,
            8 => self.u64().map(|v| (v as i64, v))?,
            _ => return Err(Malformed("an integer of unknown type")),
        };
        Ok(if unsigned { i128::from(all) } else { i128::from(signed) })
    }

    /// `int<lenenc>`
    pub fn lenenc(&mut self) -> Result<u64, Malformed> {
        match self.u8()? {
            0xfc => Ok(u64::from(self.u16()?)),
            0xfd => Ok(u64::from(self.u24()?)),
            0xfe => self.u64(),
            0xfb | 0xff => Err(Malformed("NULL or an error where a length was expected")),
            n => Ok(u64::from(n)),
        }
    }

    /// `string<lenenc>`
    pub fn lenenc_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = usize::try_from(self.lenenc()?).map_err(|_| Malformed("a length beyond memory"))?;
        self.bytes(n)
    }

    /// `string<lenenc>` of a text row, where 0xfb stands for NULL.
    pub fn cell(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        if self.rest.first() == Some(&0xfb) {
            self.rest = &self.rest[1..];
            return Ok(None);
        }
        self.lenenc_bytes().map(Some)
    }

    /// `string<NUL>`
    pub(crate) fn nul_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or(Malformed("a string without its NUL"))?;
        let out = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(out)
    }

    /// `string<EOF>`: all that is left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}

/// Appends an `int<lenenc>`.
pub fn put_lenenc(out: &mut Vec<u8>, n: u64) {
    let bytes = n.to_le_bytes();
    match n {
        0..=250 => out.push(bytes[0]),
        251..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&bytes[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Appends a `string<lenenc>`.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenenc_round_trips_at_its_borders() {
        for n in [0, 250, 251, 0xffff, 0x1_0000, 0xff_ffff, 0x100_0000, u64::MAX] {
            let mut out = Vec::new();
            put_lenenc(&mut out, n);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.lenenc(), Ok(n));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn short_input_is_malformed() {
        assert!(Reader::new(&[0xfc, 1]).lenenc().is_err());
        assert!(Reader::new(&[5, 1]).lenenc_bytes().is_err());
        assert!(Reader::new(b"abc").nul_bytes().is_err());
        assert!(Reader::new(&[0xfb]).lenenc().is_err());
        assert_eq!(Reader::new(&[0xfb]).cell(), Ok(None));
    }
}
