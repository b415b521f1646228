//! One image as a JSON object, column name to value.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{RecordError, RowChange, malformed};
use crate::document::Document;
use crate::image::Value;
use crate::packed::Image;
use crate::table::{Column, Table};

/// A value as JSON: null, a number, a string, `{"hex":"…"}` for bytes, or `{"json":"…","types":{…}}`.
pub(crate) struct Cell<'a>(pub(crate) &'a Value);

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => serializer.serialize_i64(n),
                (_, Ok(n)) => serializer.serialize_u64(n),
                _ => Err(S::Error::custom("an integer is beyond 64 bits")),
            },
            Value::Bytes(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &HexOut(bytes))?;
                map.end()
            }
            Value::Document(document) => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("json", document.text())?;
                map.serialize_entry("types", &TypesOut(document.types()))?;
                map.end()
            }
        }
    }
}

/// The types of a document's members, by path.
struct TypesOut<'a>(&'a [(String, String)]);

impl Serialize for TypesOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(path, kind)| (path, kind)))
    }
}

/// The same as they are read, a path that is there twice as well.
struct TypesIn(Vec<(String, String)>);

impl<'de> Deserialize<'de> for TypesIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TypesVisitor;
        impl<'de> Visitor<'de> for TypesVisitor {
            type Value = TypesIn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of types")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TypesIn, A::Error> {
                let mut types = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    types.push(entry);
                }
                Ok(TypesIn(types))
            }
        }
        deserializer.deserialize_map(TypesVisitor)
    }
}

/// Bytes as hexadecimal digits, written a piece at a time.
struct HexOut<'a>(&'a [u8]);

impl fmt::Display for HexOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 2048];
        for piece in self.0.chunks(digits.len() / 2) {
            let digits = &mut digits[..piece.len() * 2];
            hex::encode_to_slice(piece, digits).map_err(|_| fmt::Error)?;
            f.write_str(std::str::from_utf8(digits).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

impl Serialize for HexOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hexadecimal digits as bytes, without a copy of the digits.
struct HexIn(Vec<u8>);

impl<'de> Deserialize<'de> for HexIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexVisitor;
        impl Visitor<'_> for HexVisitor {
            type Value = HexIn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("hexadecimal digits")
            }
            fn visit_str<E: de::Error>(self, digits: &str) -> Result<HexIn, E> {
                hex::decode(digits).map(HexIn).map_err(|e| E::custom(format!("bad hex digits: {e}")))
            }
        }
        deserializer.deserialize_str(HexVisitor)
    }
}

pub(super) struct CellsOut<'a> {
    pub(super) table: &'a Table,
    pub(super) values: Cow<'a, [Value]>,
}

impl Serialize for CellsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (column, value) in self.table.columns.iter().zip(self.values.iter()) {
            map.serialize_entry(&column.name, &Cell(value))?;
        }
        map.end()
    }
}

/// The rows of a table as they are read: each is packed at once, and the names of its cells are compared with those of
/// the first.
#[derive(Default)]
pub(super) struct RowsIn {
    names: Option<Vec<String>>,
    rows: Vec<RowChange<Image>>,
}

impl RowsIn {
    /// The rows, whose cells must be those of the columns, in their order: every image is written so.
    pub(super) fn of(self, columns: &[Column]) -> Result<Vec<RowChange<Image>>, RecordError> {
        let names = self.names.unwrap_or_default();
        if self.rows.iter().all(|row| row.before.is_none() && row.after.is_none()) {
            return Ok(self.rows);
        }
        if names.len() != columns.len() {
            return Err(malformed(format!("an image has {} of {} columns", names.len(), columns.len())));
        }
        match names.iter().zip(columns).find(|(name, column)| **name != column.name) {
            None => Ok(self.rows),
            Some((name, column)) => {
                Err(malformed(format!("an image has {name:?} in the place of {:?}", column.name)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for RowsIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RowsVisitor;
        impl<'de> Visitor<'de> for RowsVisitor {
            type Value = RowsIn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of rows")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RowsIn, A::Error> {
                let mut out = RowsIn::default();
                while let Some(row) = list.next_element_seed(RowSeed(&mut out.names))? {
                    out.rows.push(row);
                }
                Ok(out)
            }
        }
        deserializer.deserialize_seq(RowsVisitor)
    }
}

/// Reads `{"before": …, "after": …}`; both must be there, in either order: a missing image is not a NULL image.
struct RowSeed<'n>(&'n mut Option<Vec<String>>);

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = RowChange<Image>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = RowChange<Image>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row with its images")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut before, mut after) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            let image = match name.as_str() {
                "before" => &mut before,
                "after" => &mut after,
                _ => return Err(de::Error::unknown_field(&name, &["before", "after"])),
            };
            if image.is_some() {
                return Err(de::Error::custom(format!("duplicate field `{name}`")));
            }
            *image = Some(map.next_value_seed(ImageSeed(self.0))?);
        }
        let missing = |name| move || de::Error::missing_field(name);
        Ok(RowChange {
            before: before.ok_or_else(missing("before"))?,
            after: after.ok_or_else(missing("after"))?,
        })
    }
}

/// Reads null or an object of columns.
struct ImageSeed<'n>(&'n mut Option<Vec<String>>);

impl<'de> DeserializeSeed<'de> for ImageSeed<'_> {
    type Value = Option<Image>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ImageSeed<'_> {
    type Value = Option<Image>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns, or null")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        match self.0 {
            None => {
                let mut names = Vec::new();
                while let Some((name, CellIn(value))) = map.next_entry::<String, CellIn>()? {
                    names.push(name);
                    values.push(value);
                }
                *self.0 = Some(names);
            }
            Some(names) => {
                for expected in names.iter() {
                    if map.next_key_seed(NameSeed(expected))?.is_none() {
                        break;
                    }
                    values.push(map.next_value::<CellIn>()?.0);
                }
                if values.len() < names.len() || map.next_key::<IgnoredAny>()?.is_some() {
                    return Err(de::Error::custom("an image has other columns than the one before it"));
                }
            }
        }
        Ok(Some(Image::of(&values)))
    }
}

/// Reads this name, and no other.
struct NameSeed<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the column {:?}", self.0)
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<(), E> {
        if name == self.0 {
            return Ok(());
        }
        Err(E::custom(format!("an image has {name:?} in the place of {:?}", self.0)))
    }
}

struct CellIn(Value);

impl<'de> Deserialize<'de> for CellIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellVisitor;
        impl<'de> Visitor<'de> for CellVisitor {
            type Value = CellIn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null, an integer, a string, {\"hex\": …} or {\"json\": …, \"types\": …}")
            }
            fn visit_unit<E: de::Error>(self) -> Result<CellIn, E> {
                Ok(CellIn(Value::Null))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<CellIn, E> {
                Ok(CellIn(Value::Int(n.into())))
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<CellIn, E> {
                Ok(CellIn(Value::Int(n.into())))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CellIn, E> {
                Ok(CellIn(Value::Text(text.to_owned())))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<CellIn, E> {
                Ok(CellIn(Value::Text(text)))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CellIn, A::Error> {
                let value = match map.next_key::<String>()?.as_deref() {
                    Some("hex") => Value::Bytes(map.next_value::<HexIn>()?.0),
                    Some("json") => {
                        let text: String = map.next_value()?;
                        if map.next_key::<String>()?.as_deref() != Some("types") {
                            return Err(de::Error::custom("a document without its types"));
                        }
                        let TypesIn(types) = map.next_value()?;
                        let document = Document::recorded(text, types);
                        let document = document.ok_or_else(|| {
                            de::Error::custom("the types of a document are not those of its members")
                        })?;
                        Value::Document(document)
                    }
                    _ => return Err(de::Error::custom("an object as a value that is none of those known")),
                };
                if map.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom("an object as a value has more than it should"));
                }
                Ok(CellIn(value))
            }
        }
        deserializer.deserialize_any(CellVisitor)
    }
}
