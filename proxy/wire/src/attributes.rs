//! Query attributes: named values that travel with a statement, under `CLIENT_QUERY_ATTRIBUTES`.

use crate::Malformed;
use crate::caps::client;
use crate::execute::{Param, ParamType, value};
use crate::read::{Reader, put_lenenc, put_lenenc_bytes};

/// One attribute, its value as the binary protocol has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    pub(crate) name: Vec<u8>,
    pub(crate) ty: ParamType,
    /// `None` is NULL.
    pub(crate) value: Option<Vec<u8>>,
}

impl Attribute {
    /// Reads the value that belongs to a name and type read before.
    pub(crate) fn parse(
        r: &mut Reader<'_>,
        name: &[u8],
        ty: ParamType,
        null: bool,
    ) -> Result<Attribute, Malformed> {
        let value = if null {
            None
        } else {
            let before = r.rest();
            value(r, ty)?;
            Some(before[..before.len() - r.rest().len()].to_vec())
        };
        Ok(Attribute { name: name.to_vec(), ty, value })
    }
}

/// The attributes of one statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<Attribute>);

impl Attributes {
    pub(crate) fn new(attributes: Vec<Attribute>) -> Attributes {
        Attributes(attributes)
    }

    pub(crate) fn all(&self) -> &[Attribute] {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of the first attribute of this name, upper and lower case alike as the server reads it.
    ///
    /// # Errors
    /// [`Malformed`] where the value is not what its type says.
    pub fn get(&self, name: &str) -> Result<Option<Param>, Malformed> {
        let found = self.0.iter().find(|a| a.name.eq_ignore_ascii_case(name.as_bytes()));
        let Some(attribute) = found else { return Ok(None) };
        match &attribute.value {
            None => Ok(Some(Param::Null)),
            Some(bytes) => value(&mut Reader::new(bytes), attribute.ty).map(Some),
        }
    }

    /// What stands between the command byte and the text of a `COM_QUERY` on a connection with these capabilities.
    pub fn query_prefix(&self, capabilities: u64) -> Vec<u8> {
        let mut out = Vec::new();
        if capabilities & client::QUERY_ATTRIBUTES == 0 {
            return out;
        }
        put_lenenc(&mut out, self.0.len() as u64);
        put_lenenc(&mut out, 1); // parameter sets
        if self.0.is_empty() {
            return out;
        }
        let mut nulls = vec![0; self.0.len().div_ceil(8)];
        for (i, _) in self.0.iter().enumerate().filter(|(_, a)| a.value.is_none()) {
            nulls[i / 8] |= 1 << (i % 8);
        }
        out.extend_from_slice(&nulls);
        out.push(1); // types follow
        for Attribute { name, ty, .. } in &self.0 {
            ty.put(&mut out);
            put_lenenc_bytes(&mut out, name);
        }
        for value in self.0.iter().filter_map(|a| a.value.as_ref()) {
            out.extend_from_slice(value);
        }
        out
    }
}

/// A `COM_QUERY`: its attributes, and where in the payload its text begins.
///
/// # Errors
/// [`Malformed`] where the server would say so as well.
pub fn parse_query(payload: &[u8], capabilities: u64) -> Result<(Attributes, usize), Malformed> {
    let mut r = Reader::new(payload);
    r.u8()?;
    if capabilities & client::QUERY_ATTRIBUTES == 0 {
        return Ok((Attributes::default(), 1));
    }
    let count = usize::try_from(r.lenenc()?).map_err(|_| Malformed("too many attributes"))?;
    if r.lenenc()? != 1 {
        return Err(Malformed("another number of parameter sets than one"));
    }
    let mut attributes = Vec::new();
    if count > 0 {
        let nulls = r.bytes(count.div_ceil(8))?;
        if r.u8()? != 1 {
            return Err(Malformed("attributes without types"));
        }
        let named = named_types(&mut r, count)?;
        for (i, (ty, name)) in named.into_iter().enumerate() {
            attributes.push(Attribute::parse(&mut r, name, ty, is_null(nulls, i))?);
        }
    }
    Ok((Attributes(attributes), payload.len() - r.rest().len()))
}

/// Types and names of `count` values.
pub(crate) fn named_types<'a>(
    r: &mut Reader<'a>,
    count: usize,
) -> Result<Vec<(ParamType, &'a [u8])>, Malformed> {
    // Each takes three bytes at least, so that the reader bounds what is allocated
    let mut out = Vec::with_capacity(count.min(r.rest().len() / 3));
    for _ in 0..count {
        let ty = ParamType::parse(r)?;
        out.push((ty, r.lenenc_bytes()?));
    }
    Ok(out)
}

/// Whether bit `i` of a NULL bitmap is set.
pub(crate) fn is_null(nulls: &[u8], i: usize) -> bool {
    nulls.get(i / 8).is_some_and(|byte| byte & 1 << (i % 8) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: u64 = client::QUERY_ATTRIBUTES;

    #[test]
    fn a_query_without_attributes() {
        assert_eq!(parse_query(b"\x03SELECT 1", 0), Ok((Attributes::default(), 1)));
        assert_eq!(parse_query(b"\x03\x00\x01SELECT 1", ON), Ok((Attributes::default(), 3)));
        assert!(parse_query(b"\x03SELECT 1", ON).is_err());
        assert_eq!(Attributes::default().query_prefix(ON), b"\x00\x01");
        assert_eq!(Attributes::default().query_prefix(0), b"");
    }

    #[test]
    fn attributes_are_read_and_written_alike() {
        let prefix = b"\x03\x01\x04\x01\xfd\x00\x01n\x06\x00\x01x\x08\x80\x01i\x03abc\x07\0\0\0\0\0\0\0";
        let whole = [b"\x03", &prefix[..], b"SELECT 1"].concat();
        // The second is NULL by its type, the third by the bitmap
        let whole = [&whole[..2], &[1], &[0b0000_0100], &whole[4..21], b"SELECT 1"].concat();
        let (attributes, at) = parse_query(&whole, ON).unwrap();
        assert_eq!(&whole[at..], b"SELECT 1");
        assert_eq!(attributes.get("N"), Ok(Some(Param::Text(b"abc".to_vec()))));
        assert_eq!(attributes.get("x"), Ok(Some(Param::Null)));
        assert_eq!(attributes.get("i"), Ok(Some(Param::Null)));
        assert_eq!(attributes.get("j"), Ok(None));
        assert_eq!(attributes.query_prefix(ON), &whole[1..at]);
        for end in 0..at {
            assert!(parse_query(&whole[..end], ON).is_err());
        }
    }

    #[test]
    fn counts_beyond_the_packet_are_malformed() {
        assert!(parse_query(b"\x03\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01x", ON).is_err());
        assert!(parse_query(b"\x03\xfd\xff\xff\xff\x01\x00\x01", ON).is_err());
        assert!(parse_query(b"\x03\x01\x01\x00\x00x", ON).is_err());
    }
}
