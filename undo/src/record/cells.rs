//! One image as a JSON object, column name to value.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{RecordError, malformed};
use crate::document::Document;
use crate::image::Value;
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
    pub(super) values: &'a [Value],
}

impl Serialize for CellsOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.values.len()))?;
        for (column, value) in self.table.columns.iter().zip(self.values) {
            map.serialize_entry(&column.name, &Cell(value))?;
        }
        map.end()
    }
}

/// Read cells in the order of the text.
pub(super) struct CellsIn(Vec<(String, Value)>);

impl CellsIn {
    /// The values in the order of the columns; every column must be there exactly once.
    pub(super) fn into_values(self, columns: &[Column]) -> Result<Vec<Value>, RecordError> {
        if self.0.len() != columns.len() {
            return Err(malformed(format!("an image has {} of {} columns", self.0.len(), columns.len())));
        }
        // Images are written in the order of the columns, so that no search is needed.
        self.0
            .into_iter()
            .zip(columns)
            .map(|((name, value), column)| {
                if name == column.name {
                    Ok(value)
                } else {
                    Err(malformed(format!("an image has {name:?} in the place of {:?}", column.name)))
                }
            })
            .collect()
    }
}

impl<'de> Deserialize<'de> for CellsIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellsVisitor;
        impl<'de> Visitor<'de> for CellsVisitor {
            type Value = CellsIn;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of columns")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CellsIn, A::Error> {
                let mut cells = Vec::new();
                while let Some((name, CellIn(value))) = map.next_entry::<String, CellIn>()? {
                    cells.push((name, value));
                }
                Ok(CellsIn(cells))
            }
        }
        deserializer.deserialize_map(CellsVisitor)
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
