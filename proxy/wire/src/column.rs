//! Result sets of the text protocol.

use crate::Malformed;
use crate::read::Reader;

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
    fn rows_have_as_many_cells_as_columns() {
        assert_eq!(text_row(b"\x01a\xfb\x00", 3), Ok(vec![Some(&b"a"[..]), None, Some(&b""[..])]));
        assert!(text_row(b"\x01a", 2).is_err());
        assert!(text_row(b"\x01a\x01b", 1).is_err());
    }
}
