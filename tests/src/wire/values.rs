//! Rows.

use anyhow::{Result, bail};

use super::fields::Decoded;
use super::read::Reader;

/// A row of the text protocol.
pub(super) fn text_row(payload: &[u8]) -> Result<Decoded> {
    let mut rest = Reader(payload);
    let mut row = Decoded::new("row");
    while !rest.is_empty() {
        let name = row.fields.len().to_string();
        match rest.text_or_null()? {
            Some(value) => row.push_bytes(name, value),
            None => row.fields.push((name, "NULL".to_owned())),
        }
    }
    Ok(row)
}

/// A row of the binary protocol, with columns of these types.
pub(super) fn binary_row(payload: &[u8], types: &[u8]) -> Result<Decoded> {
    let mut rest = Reader(payload);
    let mut row = Decoded::new("row");
    if rest.int(1)? != 0 {
        bail!("a binary row begins with 0");
    }
    let nulls = rest.take((types.len() + 9) / 8)?;
    for (n, &kind) in types.iter().enumerate() {
        let bit = n + 2;
        let value = if nulls[bit / 8] >> (bit % 8) & 1 == 1 {
            "NULL".to_owned()
        } else {
            match kind {
                // NULL
                6 => "NULL".to_owned(),
                // TINY
                1 => format!("0x{:02x}", rest.int(1)?),
                // SHORT, YEAR
                2 | 13 => format!("0x{:04x}", rest.int(2)?),
                // LONG, FLOAT, INT24
                3 | 4 | 9 => format!("0x{:08x}", rest.int(4)?),
                // DOUBLE, LONGLONG
                5 | 8 => format!("0x{:016x}", rest.int(8)?),
                // TIMESTAMP, DATE, TIME, DATETIME, NEWDATE
                7 | 10 | 11 | 12 | 14 => {
                    let length = rest.size(1)?;
                    format!("t{:02x?}", rest.take(length)?)
                }
                _ => {
                    row.push_bytes(n.to_string(), rest.text()?);
                    continue;
                }
            }
        };
        row = row.with(n.to_string(), value);
    }
    if !rest.is_empty() {
        row = row.with_bytes("left over", rest.0);
    }
    Ok(row)
}
