//! A row's values in one piece of memory: an image of many columns takes about what the server sends for it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::document::Document;
use crate::image::Value;

/// The values of a row, shared by its clones. Equal where the values are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Image(Arc<[u8]>);

/// What can be had as the values of a row.
pub trait Values {
    /// One value a column of the table, in order.
    fn values(&self) -> Cow<'_, [Value]>;
}

impl Values for Vec<Value> {
    fn values(&self) -> Cow<'_, [Value]> {
        Cow::Borrowed(self)
    }
}

impl Values for Image {
    fn values(&self) -> Cow<'_, [Value]> {
        Cow::Owned(self.iter().collect())
    }
}

const NULL: u8 = 0;
const INT: u8 = 1;
const WIDE_INT: u8 = 2;
const TEXT: u8 = 3;
const BYTES: u8 = 4;
const DOCUMENT: u8 = 5;

impl Image {
    /// Packs the values.
    pub fn of(values: &[Value]) -> Image {
        let long: usize = values.iter().map(Value::long_bytes).sum();
        let mut out = Vec::with_capacity(long + 3 * values.len());
        for value in values {
            match value {
                Value::Null => out.push(NULL),
                Value::Int(number) => match i64::try_from(*number) {
                    Ok(number) => {
                        out.push(INT);
                        // Small ones of either sign are short
                        put_number(&mut out, ((number << 1) ^ (number >> 63)).cast_unsigned());
                    }
                    Err(_) => {
                        out.push(WIDE_INT);
                        out.extend_from_slice(&number.to_le_bytes());
                    }
                },
                Value::Text(text) => put_bytes(&mut out, TEXT, text.as_bytes()),
                Value::Bytes(bytes) => put_bytes(&mut out, BYTES, bytes),
                Value::Document(document) => {
                    put_bytes(&mut out, DOCUMENT, document.text().as_bytes());
                    put_number(&mut out, document.types().len() as u64);
                    for (path, kind) in document.types() {
                        put_bytes(&mut out, TEXT, path.as_bytes());
                        put_bytes(&mut out, TEXT, kind.as_bytes());
                    }
                }
            }
        }
        Image(out.into())
    }

    /// The values, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || take_value(&mut rest))
    }

    /// The value of a column; the others are passed over.
    pub fn get(&self, column: usize) -> Option<Value> {
        let mut rest: &[u8] = &self.0;
        for _ in 0..column {
            pass_value(&mut rest)?;
        }
        take_value(&mut rest)
    }

    /// All values.
    pub fn to_values(&self) -> Vec<Value> {
        self.iter().collect()
    }

    /// How many bytes the values take.
    pub fn packed_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = usize::try_from(take_number(rest)?).ok()?;
    take(rest, count)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_bytes(rest)?.to_vec()).ok()
}

/// Passes the next value over.
fn pass_value(rest: &mut &[u8]) -> Option<()> {
    match take(rest, 1)?[0] {
        NULL => {}
        INT => {
            take_number(rest)?;
        }
        WIDE_INT => {
            take(rest, 16)?;
        }
        TEXT | BYTES => {
            take_bytes(rest)?;
        }
        DOCUMENT => {
            take_bytes(rest)?;
            for _ in 0..take_number(rest)? {
                pass_value(rest)?;
                pass_value(rest)?;
            }
        }
        _ => return None,
    }
    Some(())
}

/// The next value; none at the end of what [`Image::of`] has written.
fn take_value(rest: &mut &[u8]) -> Option<Value> {
    Some(match take(rest, 1)?[0] {
        NULL => Value::Null,
        INT => {
            let number = take_number(rest)?;
            Value::Int(i128::from((number >> 1).cast_signed() ^ -(number & 1).cast_signed()))
        }
        WIDE_INT => Value::Int(i128::from_le_bytes(take(rest, 16)?.try_into().ok()?)),
        TEXT => Value::Text(take_text(rest)?),
        BYTES => Value::Bytes(take_bytes(rest)?.to_vec()),
        DOCUMENT => {
            let text = take_text(rest)?;
            let mut types = Vec::new();
            for _ in 0..take_number(rest)? {
                let mut part = || take(rest, 1).and_then(|_| take_text(rest));
                types.push((part()?, part()?));
            }
            Value::Document(Document::kept(text, types))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let document = (".*", prop::collection::vec((".*", "[A-Z]{1,9}"), 1..4))
            .prop_map(|(text, types)| Value::Document(Document::kept(text, types)));
        prop_oneof![
            Just(Value::Null),
            any::<i128>().prop_map(Value::Int),
            any::<i64>().prop_map(|n| Value::Int(n.into())),
            (-200i128..200).prop_map(Value::Int),
            ".*".prop_map(Value::Text),
            prop::collection::vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
            document,
        ]
    }

    proptest! {
        #[test]
        fn values_come_back(values in prop::collection::vec(any_value(), 0..20),
                            others in prop::collection::vec(any_value(), 0..20)) {
            let image = Image::of(&values);
            prop_assert_eq!(image.to_values(), values.clone());
            for (at, value) in values.iter().enumerate() {
                let found = image.get(at);
                prop_assert_eq!(found.as_ref(), Some(value));
            }
            prop_assert_eq!(image.get(values.len()), None);
            prop_assert_eq!(image == Image::of(&others), values == others);
        }
    }

    #[test]
    fn short_values_take_little() {
        let values = [Value::Null, Value::Int(-64), Value::Int(8191), Value::Text("abc".into())];
        assert_eq!(Image::of(&values).packed_bytes(), 1 + 2 + 3 + 5);
    }
}
