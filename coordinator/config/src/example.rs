//! Checking a commented example of a configuration file. For tests.
//!
//! A line that begins with `#key =` or `#[section]`, without a blank, is a key or section that is left out. Other
//! comments have a blank after the `#`.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// The example with all its keys in use.
pub fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let content = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        format!("{}\n", content.unwrap_or(line))
    };
    text.lines().map(line).collect()
}

/// Every key and section of a file, without the indices of arrays.
///
/// # Errors
/// The text is no TOML.
pub fn keys(text: &str) -> Result<BTreeSet<String>, crate::KeyError> {
    let mut keys = BTreeSet::new();
    collect(&crate::Section::parse(text)?.table, "", &mut keys);
    Ok(keys)
}

fn collect(table: &Table, prefix: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        let tables = match value {
            Value::Table(table) => vec![table],
            Value::Array(values) => values.iter().filter_map(Value::as_table).collect(),
            _ => Vec::new(),
        };
        for table in tables {
            collect(table, &format!("{path}."), keys);
        }
        keys.insert(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_left_out_count() {
        let text = "# a word = no key\n#a = 1\nb = 2\n#[s]\n#c = 3\n[[t]]\nd = 4\n";
        let keys: Vec<_> = keys(&uncommented(text)).unwrap().into_iter().collect();
        assert_eq!(keys, ["a", "b", "s", "s.c", "t", "t.d"]);
    }
}
