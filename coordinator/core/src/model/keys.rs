//! The texts of many keys in one piece of memory.
//!
//! A branch may lock a million rows. Texts of their own would be as many allocations to make, to follow and to free;
//! one piece is copied at once, freed at once, and searched without leaving the cache.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many times as many keys another set must have before it is searched for each key, in place of a walk along both.
const SEARCH_RATIO: usize = 16;

/// Key texts in order, each once. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Arc<Texts>);

#[derive(PartialEq, Eq)]
struct Texts {
    text: Box<str>,
    /// Where each key ends in `text`.
    ends: Box<[usize]>,
}

impl Keys {
    /// Puts the keys in order and drops duplicates.
    pub fn new(mut keys: Vec<String>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        Self::from_sorted(&keys)
    }

    fn from_sorted(keys: &[String]) -> Self {
        let mut text = String::with_capacity(keys.iter().map(String::len).sum());
        let mut ends = Vec::with_capacity(keys.len());
        for key in keys {
            text.push_str(key);
            ends.push(text.len());
        }
        Self(Arc::new(Texts { text: text.into(), ends: ends.into() }))
    }

    /// The keys that were stored as one text and the length of each, in bytes. None if the lengths do not fit the
    /// text, or the keys are not in order or not each there once.
    pub fn from_parts(text: String, lengths: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut ends: Vec<usize> = Vec::new();
        let mut end = 0_usize;
        for length in lengths {
            end = end.checked_add(length)?;
            if !text.is_char_boundary(end) {
                return None;
            }
            ends.push(end);
        }
        if end != text.len() {
            return None;
        }
        let keys = Self(Arc::new(Texts { text: text.into(), ends: ends.into() }));
        let is_sorted = keys.iter().zip(keys.iter_from(1)).all(|(a, b)| a < b);
        is_sorted.then_some(keys)
    }

    /// All texts, one after the other.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.ends.is_empty()
    }

    /// The key at this place.
    fn at(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.0.ends[before]);
        &self.0.text[start..self.0.ends[index]]
    }

    /// In their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.iter_from(0)
    }

    /// In their order, without the first `skipped`.
    pub(crate) fn iter_from(&self, skipped: usize) -> impl ExactSizeIterator<Item = &str> {
        (skipped.min(self.len())..self.len()).map(|index| self.at(index))
    }

    /// Whether this key is one of them.
    pub fn contains(&self, key: &str) -> bool {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match self.at(middle).cmp(key) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return true,
            }
        }
        false
    }

    /// The first key that is one of the others too.
    pub(crate) fn first_common<'a>(&'a self, other: &'a Keys) -> Option<&'a str> {
        let (few, many) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        let (first, last) = (many.iter().next()?, many.at(many.len() - 1));
        if few.is_empty() || few.at(few.len() - 1) < first || few.at(0) > last {
            return None;
        }
        if few.len().saturating_mul(SEARCH_RATIO) <= many.len() {
            return few.iter().find(|key| many.contains(key));
        }
        let (mut a, mut b) = (0, 0);
        while a < few.len() && b < many.len() {
            match few.at(a).cmp(many.at(b)) {
                Ordering::Less => a += 1,
                Ordering::Greater => b += 1,
                Ordering::Equal => return Some(few.at(a)),
            }
        }
        None
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Keys {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Keys {
    /// Takes keys in any order: the order of a stored list is never checked.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::new(Vec::deserialize(from)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(of: &[&str]) -> Keys {
        Keys::new(of.iter().map(|key| (*key).to_owned()).collect())
    }

    #[test]
    fn keys_are_in_order_and_each_once() {
        let some = keys(&["b", "é", "a", "b", ""]);
        assert_eq!(some.iter().collect::<Vec<_>>(), ["", "a", "b", "é"]);
        assert_eq!(some.text(), "abé");
        for key in ["", "a", "b", "é"] {
            assert!(some.contains(key), "{key:?}");
        }
        for key in ["0", "ab", "c", "ê"] {
            assert!(!some.contains(key), "{key:?}");
        }
        assert!(keys(&[]).is_empty() && !keys(&[]).contains(""));
    }

    #[test]
    fn the_parts_of_keys_make_them_again() {
        let some = keys(&["a", "bc", "é"]);
        assert_eq!(Keys::from_parts("abcé".to_owned(), [1, 2, 2]), Some(some));
        assert_eq!(Keys::from_parts(String::new(), []), Some(keys(&[])));
        let wrong: [(&str, &[usize]); 6] = [
            ("ab", &[1]),
            ("ab", &[1, 2]),
            ("é", &[1, 1]),
            ("ba", &[1, 1]),
            ("aa", &[1, 1]),
            ("a", &[usize::MAX, 2]),
        ];
        for (text, lengths) in wrong {
            assert_eq!(
                Keys::from_parts(text.to_owned(), lengths.iter().copied()),
                None,
                "{text} {lengths:?}"
            );
        }
    }

    #[test]
    fn the_first_common_key_is_found_either_way() {
        let check = |a: &[&str], b: &[&str], common: Option<&str>| {
            assert_eq!(keys(a).first_common(&keys(b)), common, "{a:?} {b:?}");
            assert_eq!(keys(b).first_common(&keys(a)), common, "{b:?} {a:?}");
        };
        check(&[], &["a"], None);
        check(&["a"], &["b"], None);
        check(&["a", "c", "e"], &["b", "d", "e"], Some("e"));
        check(&["a", "c", "e"], &["b", "c", "e"], Some("c"));
        let many: Vec<String> = (0..100).map(|n| format!("{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&["", "42", "57"], &many, Some("42"));
        check(&["", "4", "zz"], &many, None);
    }
}
