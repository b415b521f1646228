//! Result sets of the text protocol.

use crate::Malformed;
use crate::caps::client;
use crate::read::Reader;

/// What a column's values are, by its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnKind {
    /// `MYSQL_TYPE_*`
    pub kind: u8,
    /// The number of the collation; 63 is binary.
    pub collation: u16,
    /// `*_FLAG` of a field.
    pub flags: u16,
    /// Digits after the point; 31 or more where that differs from value to value.
    pub decimals: u8,
}

/// The field is an ENUM.
pub const ENUM_FLAG: u16 = 0x100;
/// The field is a SET.
pub const SET_FLAG: u16 = 0x800;

impl ColumnKind {
    /// Parses `Protocol::ColumnDefinition41`, on a connection with these capabilities.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn parse(definition: &[u8], capabilities: u64) -> Result<ColumnKind, Malformed> {
        let mut r = Reader::new(definition);
        for _ in 0..6 {
            r.lenenc_bytes()?; // catalog, schema, table, original table, name, original name
        }
        if capabilities & client::MARIADB_EXTENDED_METADATA != 0 {
            r.lenenc_bytes()?;
        }
        r.lenenc()?; // length of what follows
        let collation = r.u16()?;
        r.u32()?;
        Ok(ColumnKind { kind: r.u8()?, collation, flags: r.u16()?, decimals: r.u8()? })
    }

    /// Whether the text protocol gives it as digits: an integer or a decimal.
    pub fn is_exact_number(self) -> bool {
        matches!(self.kind, 0 | 1 | 2 | 3 | 8 | 9 | 13 | 246)
    }
}

/// The name of a column, from its `Protocol::ColumnDefinition41`.
///
/// # Errors
/// [`Malformed`]
pub fn column_name(definition: &[u8]) -> Result<&[u8], Malformed> {
    let mut r = Reader::new(definition);
    for _ in 0..4 {
        r.lenenc_bytes()?; // catalog, schema, table, original table
    }
    r.lenenc_bytes()
}

/// Splits a `Text Resultset Row` into its cells; `None` is NULL.
///
/// # Errors
/// [`Malformed`] where the row does not have exactly `columns` cells.
pub fn text_row(payload: &[u8], columns: usize) -> Result<Vec<Option<&[u8]>>, Malformed> {
    let mut r = Reader::new(payload);
    let mut cells = Vec::with_capacity(columns.min(payload.len()));
    for _ in 0..columns {
        cells.push(r.cell()?);
    }
    if !r.is_empty() {
        return Err(Malformed("a row with more cells than columns"));
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_columns() {
        let plain = b"\x03def\x04bank\x01t\x01t\x02id\x02id\x0c\x3f\0\x0b\0\0\0\x03\x03\x42\0\0\0";
        let id = ColumnKind { kind: 3, collation: 63, flags: 0x4203, decimals: 0 };
        assert_eq!(ColumnKind::parse(plain, 0), Ok(id));
        assert_eq!(column_name(plain), Ok(&b"id"[..]));
        assert!(column_name(&plain[..10]).is_err());
        assert!(id.is_exact_number());
        let extended =
            b"\x03def\x04bank\x01t\x01t\x01j\x01j\x06\x01\x04json\x0c\x2d\0\xff\xff\0\0\xfc\0\0\0\0\0";
        let json = ColumnKind { kind: 252, collation: 45, flags: 0, decimals: 0 };
        assert_eq!(ColumnKind::parse(extended, client::MARIADB_EXTENDED_METADATA), Ok(json));
        for end in 0..plain.len() - 2 {
            assert!(ColumnKind::parse(&plain[..end], 0).is_err());
        }
    }

    #[test]
    fn rows_have_as_many_cells_as_columns() {
        assert_eq!(text_row(b"\x01a\xfb\x00", 3), Ok(vec![Some(&b"a"[..]), None, Some(&b""[..])]));
        assert!(text_row(b"\x01a", 2).is_err());
        assert!(text_row(b"\x01a\x01b", 1).is_err());
    }
}
