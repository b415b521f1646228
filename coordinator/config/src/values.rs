//! Durations, sizes and counts.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use toml::Value;

use crate::{KeyError, Section};

/// The longest duration that a key takes: ten years. What is added to a point in time must stay one.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Section {
    /// A duration such as `"60s"`, `"250ms"` or `"1h 30m"`.
    ///
    /// # Errors
    /// It is none, or out of the range.
    pub fn duration(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Result<Duration, KeyError> {
        let Some((text, duration)) = self.parsed_duration(key)? else { return Ok(default) };
        if duration < *range.start() {
            return Err(self.error(key, format!("{text:?} is shorter than {:?}", range.start())));
        }
        if duration > *range.end() {
            return Err(self.error(key, format!("{text:?} is longer than {:?}", range.end())));
        }
        Ok(duration)
    }

    /// The same where `"0s"` means that there is none.
    ///
    /// # Errors
    /// It is no duration, or neither 0 nor in the range.
    pub fn duration_or_none(
        &mut self,
        key: &str,
        default: Option<Duration>,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, KeyError> {
        let Some((text, duration)) = self.parsed_duration(key)? else { return Ok(default) };
        if duration.is_zero() {
            return Ok(None);
        }
        if !range.contains(&duration) {
            let reason = format!("{text:?} is neither \"0s\" nor {:?} to {:?}", range.start(), range.end());
            return Err(self.error(key, reason));
        }
        Ok(Some(duration))
    }

    fn parsed_duration(&mut self, key: &str) -> Result<Option<(String, Duration)>, KeyError> {
        let text = match self.take(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => return Err(self.wrong_type(key, "a duration such as \"60s\"", &other)),
        };
        let duration = humantime::parse_duration(&text)
            .map_err(|e| self.error(key, format!("{text:?} is no duration: {e}")))?;
        Ok(Some((text, duration)))
    }

    /// A size in bytes, as a number or as a text such as `"512MiB"` or `"64KB"`.
    ///
    /// # Errors
    /// It is none, or below `min`.
    pub fn bytes(&mut self, key: &str, default: usize, min: usize) -> Result<usize, KeyError> {
        let (said, bytes) = match self.take(key) {
            None => return Ok(default),
            Some(Value::Integer(number)) => (number.to_string(), usize::try_from(number).ok()),
            Some(Value::String(text)) => {
                let size: ByteSize = text
                    .parse()
                    .map_err(|e| self.error(key, format!("{text:?} is no size such as \"512MiB\": {e}")))?;
                (format!("{text:?}"), usize::try_from(size.as_u64()).ok())
            }
            Some(other) => {
                return Err(self.wrong_type(key, "a size in bytes, or one such as \"512MiB\",", &other));
            }
        };
        bytes
            .filter(|bytes| *bytes >= min)
            .ok_or_else(|| self.error(key, format!("{said} is not a number of bytes from {min} up")))
    }

    /// A whole number from `min` up.
    ///
    /// # Errors
    /// It is none.
    pub fn count(&mut self, key: &str, default: usize, min: usize) -> Result<usize, KeyError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Integer(number)) => usize::try_from(number)
                .ok()
                .filter(|number| *number >= min)
                .ok_or_else(|| self.error(key, format!("{number} is not a number from {min} up"))),
            Some(other) => Err(self.wrong_type(key, "a whole number", &other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: &str) -> Section {
        Section::parse(&format!("k = {value}")).unwrap()
    }

    #[test]
    fn durations() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let read = |value: &str| one(value).duration("k", second, second..=minute);
        assert_eq!(read("'1m'"), Ok(minute));
        assert_eq!(read("'0m 1500ms'"), Ok(Duration::from_millis(1_500)));
        assert_eq!(Section::parse("").unwrap().duration("k", second, second..=minute), Ok(second));
        for (value, part) in [
            ("60", "a duration such as \"60s\" is expected, not a value of type integer"),
            ("'60'", "is no duration"),
            ("'soon'", "\"soon\" is no duration"),
            ("'999ms'", "\"999ms\" is shorter than 1s"),
            ("'61s'", "\"61s\" is longer than 60s"),
        ] {
            let error = read(value).unwrap_err();
            assert_eq!(error.key.as_deref(), Some("k"));
            assert!(error.reason.contains(part), "{error}");
        }
    }

    #[test]
    fn durations_that_may_be_off() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let read = |value: &str| one(value).duration_or_none("k", Some(second), second..=minute);
        assert_eq!(read("'0s'"), Ok(None));
        assert_eq!(read("'5s'"), Ok(Some(Duration::from_secs(5))));
        let error = read("'5ms'").unwrap_err();
        assert_eq!(error.to_string(), "k: \"5ms\" is neither \"0s\" nor 1s to 60s");
    }

    #[test]
    fn sizes() {
        let read = |value: &str| one(value).bytes("k", 7, 1);
        for (value, bytes) in [
            ("4096", 4_096),
            ("'4096'", 4_096),
            ("'64KiB'", 64 << 10),
            ("'64 KB'", 64_000),
            ("'512MiB'", 512 << 20),
            ("'1.5 GiB'", 3 << 29),
        ] {
            assert_eq!(read(value), Ok(bytes), "{value}");
        }
        assert_eq!(Section::parse("").unwrap().bytes("k", 7, 1), Ok(7));
        for value in ["0", "-1", "'0KiB'", "'-1'", "'1 parsec'", "''", "true", "1.5"] {
            assert_eq!(read(value).unwrap_err().key.as_deref(), Some("k"), "{value}");
        }
    }

    #[test]
    fn counts() {
        let read = |value: &str, min| one(value).count("k", 7, min);
        assert_eq!(read("3", 1), Ok(3));
        assert_eq!(read("0", 0), Ok(0));
        assert_eq!(read("0", 1).unwrap_err().to_string(), "k: 0 is not a number from 1 up");
        assert_eq!(read("-3", 0).unwrap_err().to_string(), "k: -3 is not a number from 0 up");
        assert!(read("'3'", 1).unwrap_err().reason.starts_with("a whole number is expected"));
    }
}
