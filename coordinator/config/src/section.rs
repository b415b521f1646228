//! A table of the file, read key by key.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::Range;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::KeyError;

/// How alike two keys are, from 0 to 1, where one is suggested in place of the other.
const ALIKE: f64 = 0.8;

/// A table of the file. Keys are taken out as they are read; [`finish`](Self::finish) refuses what is left.
#[derive(Debug)]
pub struct Section {
    /// The key of the table, empty for the file's root.
    path: String,
    pub(crate) table: Table,
    /// The keys that were asked for, whether they were there or not.
    asked: Vec<String>,
    shared: Rc<RefCell<Shared>>,
}

/// What the sections of a file share.
#[derive(Debug, Default)]
struct Shared {
    /// The renamed keys that the file has, by their new names.
    renamed: BTreeMap<String, &'static str>,
    /// Every key that was asked for, without the indices of arrays.
    known: BTreeSet<String>,
}

impl Section {
    /// Parses a file's text; the section is its root.
    ///
    /// # Errors
    /// The text is no TOML.
    pub fn parse(text: &str) -> Result<Section, KeyError> {
        let table = text.parse().map_err(|e: toml::de::Error| {
            let place = |span: Range<usize>| {
                let line = text.get(..span.start).unwrap_or(text).matches('\n').count();
                let key = text.lines().nth(line).and_then(|line| line.split_once('='));
                let key = key.map(|(key, _)| format!(", {}", key.trim())).unwrap_or_default();
                format!("line {}{key}: ", line + 1)
            };
            let reason = e.message().lines().collect::<Vec<_>>().join(" ");
            KeyError::of_file(format!("{}{reason}", e.span().map(place).unwrap_or_default()))
        })?;
        Ok(Section { path: String::new(), table, asked: Vec::new(), shared: Rc::default() })
    }

    fn child(&self, path: String, table: Table) -> Section {
        Section { path, table, asked: Vec::new(), shared: self.shared.clone() }
    }

    /// The key with its sections, by its present name.
    fn canonical(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The key with its sections, as the file names it.
    pub fn path(&self, key: &str) -> String {
        let path = self.canonical(key);
        match self.shared.borrow().renamed.get(&path) {
            Some(old) => (*old).to_owned(),
            None => path,
        }
    }

    /// An error in one of this section's keys.
    pub fn error(&self, key: &str, reason: impl Display) -> KeyError {
        KeyError::new(self.path(key), reason)
    }

    pub(crate) fn wrong_type(&self, key: &str, expected: &str, value: &Value) -> KeyError {
        self.error(key, format!("{expected} is expected, not a value of type {}", value.type_str()))
    }

    /// Remembers that `old` stands in the file where `new` is read.
    pub(crate) fn note_renamed(&self, old: &'static str, new: &str) {
        self.shared.borrow_mut().renamed.insert(new.to_owned(), old);
    }

    /// Takes a key's value.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.push(key.to_owned());
        let path = self.canonical(key);
        // The keys of all elements of an array are one
        let known = path.split('.').map(|part| part.split('[').next().unwrap_or(part));
        self.shared.borrow_mut().known.insert(known.collect::<Vec<_>>().join("."));
        self.table.remove(key)
    }

    /// The table under a key, empty where there is none.
    ///
    /// # Errors
    /// The value is no table.
    pub fn section(&mut self, key: &str) -> Result<Section, KeyError> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => return Err(self.wrong_type(key, "a table", &other)),
        };
        Ok(self.child(self.path(key), table))
    }

    /// The tables under a key of the form `[[key]]`, of which at least one is needed.
    ///
    /// # Errors
    /// There is none, or the value is no array of tables.
    pub fn sections(&mut self, key: &str) -> Result<Vec<Section>, KeyError> {
        let expected = "an array of tables";
        let values = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => return Err(self.wrong_type(key, expected, &other)),
        };
        if values.is_empty() {
            return Err(self.error(key, format!("at least one [[{key}]] is needed")));
        }
        let section = |(i, value)| match value {
            Value::Table(table) => Ok(self.child(format!("{}[{i}]", self.path(key)), table)),
            other => Err(self.wrong_type(key, expected, &other)),
        };
        values.into_iter().enumerate().map(section).collect()
    }

    /// Whether the value of a key is a table.
    pub fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(Value::is_table)
    }

    /// The value of a key that may be left out.
    ///
    /// # Errors
    /// It is of another type.
    pub fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, KeyError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let read = value.try_into().map_err(|e: toml::de::Error| self.error(key, e.message()))?;
        Ok(Some(read))
    }

    /// The value of a key that has a default.
    ///
    /// # Errors
    /// It is of another type.
    pub fn value<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T, KeyError> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// The value of a key that is needed.
    ///
    /// # Errors
    /// It is missing, or of another type.
    pub fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, KeyError> {
        if let Some(value) = self.optional(key)? {
            return Ok(value);
        }
        let meant = similar(key, self.table.keys());
        let hint = meant.map(|other| format!("; is {other:?} meant for it?")).unwrap_or_default();
        Err(self.error(key, format!("this key is missing{hint}")))
    }

    /// Refuses what was not taken.
    ///
    /// # Errors
    /// The first key that is left.
    pub fn finish(&self) -> Result<(), KeyError> {
        let Some(key) = self.table.keys().next() else { return Ok(()) };
        let hint = similar(key, self.asked.iter()).map(|other| format!("; is {other:?} meant?"));
        Err(self.error(key, format!("this key is not known{}", hint.unwrap_or_default())))
    }

    /// Every key of the file that was asked for, in this section or another, without the indices of arrays.
    pub fn known_keys(&self) -> BTreeSet<String> {
        self.shared.borrow().known.clone()
    }
}

/// The name that is most like `key`, if one is.
fn similar<'a>(key: &str, names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    names
        .map(|name| (strsim::jaro(key, name), name))
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(read: Result<T, KeyError>, expected: &str) {
        assert_eq!(read.unwrap_err().to_string(), expected);
    }

    #[test]
    fn values_are_taken_by_their_types() {
        let mut root =
            Section::parse("a = 1\nlist = ['x', 'y']\n[s]\non = true\n[[b]]\nn = 1\n[[b]]\n").unwrap();
        assert_eq!(root.required::<u8>("a"), Ok(1));
        assert_eq!(root.value("list", Vec::<String>::new()).unwrap().len(), 2);
        assert_eq!(root.optional::<String>("c"), Ok(None));
        assert!(root.is_table("s"));
        assert_eq!(root.section("s").unwrap().value("on", false), Ok(true));
        assert_eq!(root.section("t").unwrap().value("on", false), Ok(false));
        let mut all = root.sections("b").unwrap();
        assert_eq!(all[0].value("n", 7), Ok(1));
        assert_eq!(all[1].value("n", 7), Ok(7));
        root.finish().unwrap();
        let known: Vec<_> = root.known_keys().into_iter().collect();
        assert_eq!(known, ["a", "b", "b.n", "c", "list", "s", "s.on", "t", "t.on"]);
    }

    #[test]
    fn errors_name_the_key() {
        let root = |text: &str| Section::parse(text).unwrap();
        check(root("s = 1").section("s").map(drop), "s: a table is expected, not a value of type integer");
        check(root("").sections("b").map(drop), "b: at least one [[b]] is needed");
        check(
            root("b = [1]").sections("b").map(drop),
            "b: an array of tables is expected, not a value of type integer",
        );
        check(root("n = 'x'").required::<u8>("n"), "n: invalid type: string \"x\", expected u8");
        check(root("").required::<u8>("port"), "port: this key is missing");
        check(
            root("prot = 1").required::<u8>("port"),
            "port: this key is missing; is \"prot\" meant for it?",
        );
        check(
            root("[[b]]\n[[b]]\nx = ''").sections("b").unwrap()[1].required::<bool>("x"),
            "b[1].x: invalid type: string \"\", expected a boolean",
        );
        let mut left = root("[s]\nports = 1");
        let mut section = left.section("s").unwrap();
        section.value("port", 1).unwrap();
        check(section.finish(), "s.ports: this key is not known; is \"port\" meant?");
        check(root("nonsense = 1").finish(), "nonsense: this key is not known");
    }

    #[test]
    fn no_toml_is_refused_with_its_line() {
        let error = Section::parse("a = 1\n[b\n").unwrap_err();
        assert_eq!(error.key, None);
        assert!(error.reason.starts_with("line 2: "), "{}", error.reason);
    }
}
