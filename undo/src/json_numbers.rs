//! MySQL's JSON holds DECIMALs (`JSON_OBJECT('price', 1.10)`), but reading JSON text gives doubles (`1.1`). This finds
//! the numbers in a document that must be put back as DECIMALs for the document to show the same text again.

/// A container that is being walked: the key or index of the current element.
enum Level<'a> {
    Object(&'a str),
    Array(usize),
}

/// The paths and digits of all numbers whose text a double (or a 64-bit integer) would not show. Empty also where the
/// text is not JSON: then it is not changed.
pub(crate) fn decimals(text: &str) -> Vec<(String, &str)> {
    walk(text).unwrap_or_default()
}

fn walk(text: &str) -> Option<Vec<(String, &str)>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' => {
                levels.push(Level::Object(""));
                at += 1;
            }
            b'[' => {
                levels.push(Level::Array(0));
                at += 1;
            }
            b'}' | b']' => {
                levels.pop()?;
                at += 1;
            }
            b',' => {
                if let Some(Level::Array(index)) = levels.last_mut() {
                    *index += 1;
                }
                at += 1;
            }
            b'"' => {
                let end = string_end(bytes, at)?;
                // A string before a colon is a key.
                let next = bytes.get(end..)?.iter().find(|b| !b.is_ascii_whitespace());
                if let (Some(b':'), Some(Level::Object(key))) = (next, levels.last_mut()) {
                    *key = text.get(at..end)?;
                }
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let rest = bytes.get(at..)?;
                let length = rest
                    .iter()
                    .position(|b| !matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                    .unwrap_or(rest.len());
                let number = text.get(at..at + length)?;
                if needs_decimal(number) {
                    found.push((path(&levels), number));
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    levels.is_empty().then_some(found)
}

/// Where the string that begins at `at` ends, its closing quote included.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        match bytes.get(end)? {
            b'\\' => end += 2,
            b'"' => return Some(end + 1),
            _ => end += 1,
        }
    }
}

fn path(levels: &[Level<'_>]) -> String {
    let mut path = "$".to_owned();
    for level in levels {
        match level {
            // The key's own JSON text, quotes included, is how a path spells it.
            Level::Object(key) => path.push_str(&format!(".{key}")),
            Level::Array(index) => path.push_str(&format!("[{index}]")),
        }
    }
    path
}

fn needs_decimal(number: &str) -> bool {
    if !crate::literal::is_number(number, false) {
        // With an exponent: only doubles are shown so.
        return false;
    }
    if !number.contains('.') {
        return number.parse::<i64>().is_err() && number.parse::<u64>().is_err();
    }
    match number.parse::<f64>() {
        Ok(double) => {
            let shown = double.to_string();
            number != shown && number != format!("{shown}.0")
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_double_would_not_show() {
        for same in
            ["1", "-1", "1.5", "1.0", "-0.0", "0.1", "1e308", "18446744073709551615", "-9223372036854775808"]
        {
            assert_eq!(decimals(same), [], "{same}");
        }
        for decimal in ["1.10", "1.00", "-0.50", "0.12345678901234567890", "18446744073709551616"] {
            assert_eq!(decimals(decimal), [("$".to_owned(), decimal)]);
        }
    }

    #[test]
    fn paths() {
        let text =
            r#"{"a": [1.10, {"b\"c": 2.20, "d": "3.30"}, []], "é": {"x": 1.5, "y z": 4.40}, "n": null}"#;
        assert_eq!(
            decimals(text),
            [
                (r#"$."a"[0]"#.to_owned(), "1.10"),
                (r#"$."a"[1]."b\"c""#.to_owned(), "2.20"),
                (r#"$."é"."y z""#.to_owned(), "4.40"),
            ]
        );
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        for bad in ["[1.10", "\"1.10", "]1.10", "{\"a\\"] {
            assert_eq!(decimals(bad), [], "{bad}");
        }
    }
}
