//! Reading a payload from its front.

use anyhow::{Context as _, Result};

/// What is left of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(n).context("the packet is cut short")?;
        self.0 = rest;
        Ok(front)
    }

    /// An integer of up to 8 bytes.
    pub(super) fn int(&mut self, bytes: usize) -> Result<u64> {
        let mut all = [0; 8];
        all.get_mut(..bytes).context("not an integer's size")?.copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(all))
    }

    pub(super) fn size(&mut self, bytes: usize) -> Result<usize> {
        Ok(usize::try_from(self.int(bytes)?)?)
    }

    /// A length-encoded integer; `None` for NULL.
    pub(super) fn lenenc_or_null(&mut self) -> Result<Option<u64>> {
        Ok(Some(match self.int(1)? {
            0xfb => return Ok(None),
            0xfc => self.int(2)?,
            0xfd => self.int(3)?,
            0xfe => self.int(8)?,
            0xff => anyhow::bail!("0xff begins no length-encoded integer"),
            small => small,
        }))
    }

    pub(super) fn lenenc(&mut self) -> Result<u64> {
        self.lenenc_or_null()?.context("NULL in the place of a number")
    }

    /// A length-encoded string; `None` for NULL.
    pub(super) fn text_or_null(&mut self) -> Result<Option<&'a [u8]>> {
        match self.lenenc_or_null()? {
            Some(length) => self.take(usize::try_from(length)?).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn text(&mut self) -> Result<&'a [u8]> {
        self.text_or_null()?.context("NULL in the place of a string")
    }

    /// Up to a zero byte, or all that is left.
    pub(super) fn zero_ended(&mut self) -> &'a [u8] {
        match self.0.iter().position(|&byte| byte == 0) {
            Some(at) => {
                let (front, rest) = self.0.split_at(at);
                self.0 = rest.get(1..).unwrap_or_default();
                front
            }
            None => std::mem::take(&mut self.0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
