//! The rows of a file, as LOAD DATA splits it. Pure.

use atone_sql::LoadFormat;

/// A field; `None` is NULL.
pub type Field = Option<Vec<u8>>;

/// Splits a file into rows of `width` fields, as both servers do.
///
/// # Errors
/// Why it is not split without doubt: a line with another number of fields, an enclosed field without end.
pub fn rows(content: &[u8], format: &LoadFormat, width: usize) -> Result<Vec<Vec<Field>>, String> {
    let mut file = File { content, at: 0, format };
    for _ in 0..format.ignored_lines {
        if !file.skip_line() {
            return Ok(Vec::new());
        }
    }
    let mut rows = Vec::new();
    while file.starts_line() {
        let mut row = Vec::with_capacity(width);
        loop {
            let (field, end) = file.field()?;
            row.push(field);
            if row.len() > width {
                return Err(format!("line {} has more fields than there are columns", rows.len() + 1));
            }
            if end == End::Line {
                break;
            }
        }
        if row.len() < width {
            return Err(format!("line {} has fewer fields than there are columns", rows.len() + 1));
        }
        rows.push(row);
    }
    Ok(rows)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Field,
    Line,
}

struct File<'a> {
    content: &'a [u8],
    at: usize,
    format: &'a LoadFormat,
}

impl File<'_> {
    fn rest(&self) -> &[u8] {
        self.content.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.content.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn take(&mut self, separator: &[u8]) -> bool {
        let found = self.rest().starts_with(separator);
        if found {
            self.at += separator.len();
        }
        found
    }

    /// Whether a field or a line ends here, by its separator or with the file.
    fn end(&mut self) -> Option<End> {
        let format = self.format;
        if self.rest().is_empty() || self.take(&format.line_end) {
            Some(End::Line)
        } else {
            self.take(&format.field_end).then_some(End::Field)
        }
    }

    /// Passes over a line that is ignored; false at the end of the file. What is enclosed counts for nothing there.
    fn skip_line(&mut self) -> bool {
        let format = self.format;
        while !self.take(&format.line_end) {
            let Some(byte) = self.next() else { return false };
            if format.escaped == Some(byte) && self.next().is_none() {
                return false;
            }
        }
        true
    }

    /// Goes to the first field of the next line; false where there is none.
    fn starts_line(&mut self) -> bool {
        if !self.format.line_start.is_empty() {
            let Some(found) = memchr::memmem::find(self.rest(), &self.format.line_start) else {
                return false;
            };
            self.at += found + self.format.line_start.len();
        }
        !self.rest().is_empty()
    }

    fn field(&mut self) -> Result<(Field, End), String> {
        let format = self.format;
        let enclosed = format.enclosed.filter(|quote| self.rest().first() == Some(quote));
        self.at += usize::from(enclosed.is_some());
        let mut field = Vec::new();
        let mut null = false;
        loop {
            if enclosed.is_none()
                && let Some(end) = self.end()
            {
                let word = format.enclosed.is_some() && field == b"NULL";
                let null = word || (null && field == b"N");
                return Ok(((!null).then_some(field), end));
            }
            let Some(byte) = self.next() else { return Err("an enclosed field has no end".into()) };
            if format.escaped == Some(byte) {
                match self.next() {
                    None => field.push(byte),
                    Some(b'N') => {
                        null = true;
                        field.push(b'N');
                    }
                    Some(escaped) => field.push(unescaped(escaped)),
                }
                continue;
            }
            if enclosed == Some(byte) {
                if enclosed == self.rest().first().copied() {
                    self.at += 1;
                } else if let Some(end) = self.end() {
                    return Ok(((!(null && field == b"N")).then_some(field), end));
                }
            }
            field.push(byte);
        }
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'0' => 0,
        b'b' => 8,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'Z' => 26,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(content: &str, format: &LoadFormat, width: usize) -> Vec<Vec<String>> {
        let show = |field: Field| field.map_or("NULL".into(), |f| String::from_utf8(f).unwrap());
        let rows = rows(content.as_bytes(), format, width).unwrap();
        rows.into_iter().map(|row| row.into_iter().map(show).collect()).collect()
    }

    fn csv() -> LoadFormat {
        LoadFormat { field_end: b",".to_vec(), enclosed: Some(b'"'), ..LoadFormat::default() }
    }

    #[test]
    fn by_default() {
        let f = LoadFormat::default();
        assert_eq!(split("1\ta\n2\t\\N\n", &f, 2), [["1", "a"], ["2", "NULL"]]);
        assert_eq!(split("1\ta\\tb\\\\\\0\n3\tNULL", &f, 2), [["1", "a\tb\\\0"], ["3", "NULL"]]);
        assert_eq!(rows(b"3\tNULL", &f, 2).unwrap()[0][1], Some(b"NULL".to_vec()), "a word like any");
        assert_eq!(split("1\ta\\\nb\n", &f, 2), [["1", "a\nb"]]);
        assert_eq!(split("", &f, 2), [[""; 0]; 0]);
        assert_eq!(split("\n", &f, 1), [[""]]);
        assert_eq!(split("1\t", &f, 2), [["1", ""]]);
    }

    #[test]
    fn enclosed() {
        assert_eq!(
            split("\"a,b\",\"c\"\"d\"\n\"e\nf\",NULL\n", &csv(), 2),
            [["a,b", "c\"d"], ["e\nf", "NULL"]]
        );
        assert_eq!(rows(b"1,NULL\n", &csv(), 2).unwrap()[0][1], None);
        assert_eq!(rows(b"1,\"NULL\"\n", &csv(), 2).unwrap()[0][1], Some(b"NULL".to_vec()));
        assert_eq!(rows(b"1,\"\\N\"\n", &csv(), 2).unwrap()[0][1], None);
        assert_eq!(split("\"a\"b\",c\n", &csv(), 2), [["a\"b", "c"]], "not followed by a separator");
        assert_eq!(split("a\"b,\"c\"", &csv(), 2), [["a\"b", "c"]]);
    }

    #[test]
    fn lines() {
        let f = LoadFormat { line_start: b">>".to_vec(), line_end: b"\r\n".to_vec(), ..csv() };
        assert_eq!(split("x>>1,2\r\nno\r\n>>3,4\r\n", &f, 2), [["1", "2"], ["3", "4"]]);
        let f = LoadFormat { ignored_lines: 1, ..csv() };
        assert_eq!(split("id,\\\nname\n1,a\n", &f, 2), [["1", "a"]]);
        assert_eq!(split("id,name", &f, 2), [[""; 0]; 0]);
    }

    #[test]
    fn what_is_in_doubt_is_refused() {
        assert!(rows(b"1\t2\t3\n", &LoadFormat::default(), 2).is_err());
        assert!(rows(b"1\n", &LoadFormat::default(), 2).is_err());
        assert!(rows(b"\"open\n", &csv(), 1).is_err());
    }
}
