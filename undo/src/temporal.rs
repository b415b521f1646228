//! Dates: `UNIX_TIMESTAMP()` numbers to UTC text and back, and which dates are real ones.

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let shifted = (month + 9) % 12;
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The largest second that a text `YYYY-…` can show: the end of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;

/// Splits `123.456` into its whole part and its fraction's digits (at most six).
fn split_fraction(text: &str) -> Option<(&str, Option<&str>)> {
    match text.split_once('.') {
        None => Some((text, None)),
        Some((whole, fraction))
            if (1..=6).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some((whole, Some(fraction)))
        }
        Some(_) => None,
    }
}

/// `1577836800.123456`, as `UNIX_TIMESTAMP(column)` gives it, to `2020-01-01 00:00:00.123456` (UTC). The zero
/// TIMESTAMP is read as 0, and no real one is: their range begins a moment later.
pub(crate) fn unix_to_utc(text: &str) -> Option<String> {
    let (whole, fraction) = split_fraction(text)?;
    if whole.is_empty() || !whole.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok().filter(|s| *s <= MAX_SECONDS)?;
    let suffix = fraction.map(|f| format!(".{f}")).unwrap_or_default();
    if seconds == 0 && fraction.is_none_or(|f| f.bytes().all(|b| b == b'0')) {
        return Some(format!("0000-00-00 00:00:00{suffix}"));
    }
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    Some(format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}{suffix}",
        second / 3_600,
        second / 60 % 60,
        second % 60
    ))
}

/// The inverse of [`unix_to_utc`].
pub(crate) fn utc_to_unix(text: &str) -> Option<String> {
    let date = text.get(..10)?;
    let (clock, fraction) = split_fraction(text.get(11..)?)?;
    if text.as_bytes().get(10) != Some(&b' ') || clock.len() != 8 {
        return None;
    }
    let (year, month, day) = split_date(date)?;
    let suffix = fraction.map(|f| format!(".{f}")).unwrap_or_default();
    let field = |from: usize| -> Option<i64> { clock.get(from..from + 2)?.parse().ok() };
    let (hour, minute, second) = (field(0)?, field(3)?, field(6)?);
    if (year, month, day) == (0, 0, 0) {
        return Some(format!("0{suffix}"));
    }
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    (seconds >= 0).then(|| format!("{seconds}{suffix}"))
}

/// The parts of `YYYY-MM-DD`, real date or not.
fn split_date(text: &str) -> Option<(i64, i64, i64)> {
    let bytes = text.as_bytes();
    let well_formed = bytes.len() == 10
        && bytes
            .iter()
            .enumerate()
            .all(|(at, b)| if at == 4 || at == 7 { *b == b'-' } else { b.is_ascii_digit() });
    if !well_formed {
        return None;
    }
    Some((text.get(..4)?.parse().ok()?, text.get(5..7)?.parse().ok()?, text.get(8..)?.parse().ok()?))
}

/// Whether the text begins with a date that exists: not a zero date and not the 31st of February.
pub(crate) fn is_real_date(text: &str) -> bool {
    text.get(..10).and_then(split_date).is_some_and(|(year, month, day)| {
        year > 0 && civil_from_days(days_from_civil(year, month, day)) == (year, month, day)
    })
}

/// A date or datetime as the number that `column + 0` gives: `20200231`, `20200231100000.5`.
pub(crate) fn as_number(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let ok = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | ' ' | '.'));
    (ok && !digits.is_empty()).then_some(digits)
}

/// Whether the text consists of what the server writes for dates and times.
pub(crate) fn is_temporal_text(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b' ' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        for (unix, utc) in [
            ("1", "1970-01-01 00:00:01"),
            ("0", "0000-00-00 00:00:00"),
            ("0.000000", "0000-00-00 00:00:00.000000"),
            ("0.5", "1970-01-01 00:00:00.5"),
            ("951782400", "2000-02-29 00:00:00"),
            ("1577836800.123456", "2020-01-01 00:00:00.123456"),
            ("2147483647", "2038-01-19 03:14:07"),
            ("4294967295.9", "2106-02-07 06:28:15.9"),
        ] {
            assert_eq!(unix_to_utc(unix).as_deref(), Some(utc));
            assert_eq!(utc_to_unix(utc).as_deref(), Some(unix));
        }
        for bad in ["", "-1", "1.", "1.1234567", "1e3", "+1", "253402300800", " 1"] {
            assert_eq!(unix_to_utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_day_of_four_centuries() {
        let mut expected = 0;
        for year in 1970..2370 {
            for month in 1..=12 {
                let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                let length = match month {
                    2 => 28 + i64::from(leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                for day in 1..=length {
                    assert_eq!(days_from_civil(year, month, day), expected);
                    assert_eq!(civil_from_days(expected), (year, month, day));
                    expected += 1;
                }
            }
        }
    }

    #[test]
    fn real_dates() {
        assert!(is_real_date("2020-02-29") && is_real_date("2020-02-29 10:00:00"));
        for bad in ["2021-02-29", "0000-00-00", "2020-00-10", "2020-10-00", "2020-13-01", "x", "2020-1-1"] {
            assert!(!is_real_date(bad), "{bad}");
        }
        assert_eq!(as_number("2020-02-31 10:00:00.5").as_deref(), Some("20200231100000.5"));
    }
}
