//! Keys that were renamed: the old ones are still read.

use std::fmt;
use std::time::Duration;

use toml::{Table, Value};

use crate::{KeyError, MAX_DURATION, Section};

/// A key with a whole number in a unit, whose place a key with a duration such as `"60s"` has taken.
#[derive(Debug, Clone, Copy)]
pub struct Rename {
    /// The old key, with its section.
    pub old: &'static str,
    /// The new key, with its section.
    pub new: &'static str,
    /// The unit of the old key's number.
    pub unit: Unit,
}

/// The unit of a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

/// A renamed key that the file has by its old name. Its text is the warning for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deprecated {
    old: &'static str,
    new: &'static str,
    value: String,
}

impl fmt::Display for Deprecated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: this key is deprecated: write {} = {:?}", self.old, self.new, self.value)
    }
}

impl Section {
    /// Moves the values of old keys to their new ones. To be called on the root, before anything is read. Errors in
    /// such a value name the key that the file has.
    ///
    /// # Errors
    /// An old key's value is no whole number from 0 up, or the new key is there as well.
    pub fn rename(&mut self, renames: &[Rename]) -> Result<Vec<Deprecated>, KeyError> {
        let mut found = Vec::new();
        for rename in renames {
            if let Some(value) = remove(&mut self.table, rename.old) {
                let value = rename.duration(&value)?;
                insert(&mut self.table, rename, &value)?;
                self.note_renamed(rename.old, rename.new);
                found.push(Deprecated { old: rename.old, new: rename.new, value });
            }
        }
        Ok(found)
    }
}

impl Rename {
    /// An old key's value as the new key takes it.
    fn duration(&self, value: &Value) -> Result<String, KeyError> {
        let Some(number) = value.as_integer().and_then(|number| u64::try_from(number).ok()) else {
            return Err(KeyError::new(self.old, format!("{value} is not a number from 0 up")));
        };
        let duration = match self.unit {
            Unit::Milliseconds => Duration::from_millis(number),
            Unit::Seconds => Duration::from_secs(number),
        };
        // Old keys took any number, as a way to say "for ever"
        Ok(humantime::format_duration(duration.min(MAX_DURATION)).to_string())
    }
}

fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('.') {
        Some((section, key)) => (Some(section), key),
        None => (None, path),
    }
}

fn remove(root: &mut Table, path: &str) -> Option<Value> {
    match split(path) {
        (Some(section), key) => root.get_mut(section)?.as_table_mut()?.remove(key),
        (None, key) => root.remove(key),
    }
}

fn insert(root: &mut Table, rename: &Rename, value: &str) -> Result<(), KeyError> {
    let (section, key) = split(rename.new);
    let table = match section {
        None => root,
        Some(section) => {
            let entry = root.entry(section).or_insert_with(|| Value::Table(Table::new()));
            entry.as_table_mut().ok_or_else(|| KeyError::new(section, "a table is expected"))?
        }
    };
    if table.contains_key(key) {
        let reason = format!("{} is there as well: leave this old name of it out", rename.new);
        return Err(KeyError::new(rename.old, reason));
    }
    table.insert(key.to_owned(), Value::String(value.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENAMES: &[Rename] = &[
        Rename {
            old: "limits.connect_timeout_ms",
            new: "timeouts.connect_timeout",
            unit: Unit::Milliseconds,
        },
        Rename { old: "keepalive_s", new: "keepalive", unit: Unit::Seconds },
    ];

    fn read(text: &str) -> Result<(Vec<Deprecated>, Duration, Duration), KeyError> {
        let mut root = Section::parse(text).unwrap();
        let found = root.rename(RENAMES)?;
        root.section("limits")?.finish()?;
        let mut timeouts = root.section("timeouts")?;
        let connect_timeout =
            timeouts.duration("connect_timeout", Duration::ZERO, Duration::ZERO..=MAX_DURATION)?;
        timeouts.finish()?;
        let keepalive =
            root.duration("keepalive", Duration::ZERO, Duration::ZERO..=Duration::from_secs(60))?;
        root.finish()?;
        Ok((found, connect_timeout, keepalive))
    }

    #[test]
    fn old_keys_are_read_and_warned_of() {
        let (found, connect, keepalive) =
            read("keepalive_s = 60\n[limits]\nconnect_timeout_ms = 1500").unwrap();
        assert_eq!((connect, keepalive), (Duration::from_millis(1_500), Duration::from_secs(60)));
        let warnings: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "limits.connect_timeout_ms: this key is deprecated: write timeouts.connect_timeout = \"1s 500ms\"",
                "keepalive_s: this key is deprecated: write keepalive = \"1m\"",
            ]
        );
        let (found, connect, _) = read("[timeouts]\nconnect_timeout = '2s'").unwrap();
        assert_eq!((found, connect), (Vec::new(), Duration::from_secs(2)));
        let (_, connect, _) = read(&format!("[limits]\nconnect_timeout_ms = {}", i64::MAX)).unwrap();
        assert_eq!(connect, MAX_DURATION);
    }

    #[test]
    fn errors_name_the_key_that_the_file_has() {
        for (text, expected) in [
            ("keepalive_s = 61", "keepalive_s: \"1m 1s\" is longer than 60s"),
            ("keepalive_s = -1", "keepalive_s: -1 is not a number from 0 up"),
            ("keepalive_s = '60s'", "keepalive_s: \"60s\" is not a number from 0 up"),
            (
                "keepalive_s = 60\nkeepalive = '60s'",
                "keepalive_s: keepalive is there as well: leave this old name of it out",
            ),
            (
                "[limits]\nconnect_timeout_ms = 5\n[timeouts]\nconnect_timeout = '5ms'",
                "limits.connect_timeout_ms: timeouts.connect_timeout is there as well: leave this old name of it out",
            ),
            ("timeouts = 1\n[limits]\nconnect_timeout_ms = 5", "timeouts: a table is expected"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
