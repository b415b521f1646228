//! The text of `SHOW CREATE TABLE`.

/// What stands before the next number.
const NEXT: &str = " AUTO_INCREMENT=";

/// A definition without ` AUTO_INCREMENT=7`, which every INSERT changes.
pub fn without_auto_increment(definition: &str) -> String {
    let mut out = String::with_capacity(definition.len());
    let mut rest = definition;
    while let Some((head, tail)) = rest.split_once(NEXT) {
        out.push_str(head);
        rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out.push_str(rest);
    out
}

/// The table option `AUTO_INCREMENT=7` of a definition. It stands after the parenthesis that holds the columns, and
/// not in a quoted text.
pub(crate) fn next_number(definition: &str) -> Option<i128> {
    let bytes = definition.as_bytes();
    let (mut depth, mut columns_end, mut at) = (0usize, false, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'`' | b'\'' | b'"' => {
                at += 1;
                while let Some(&inner) = bytes.get(at)
                    && inner != byte
                {
                    at += if inner == b'\\' && byte != b'`' { 2 } else { 1 };
                }
            }
            b'(' => depth += 1,
            b')' => {
                depth = depth.saturating_sub(1);
                columns_end |= depth == 0;
            }
            b' ' if columns_end && depth == 0 => {
                if let Some(number) = definition.get(at..).and_then(|rest| rest.strip_prefix(NEXT)) {
                    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
                    return number.get(..digits)?.parse().ok();
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_no_part_of_a_definition() {
        let one = "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT\n) ENGINE=InnoDB AUTO_INCREMENT=17 DEFAULT";
        let other = one.replace("17", "4000000000");
        assert_eq!(without_auto_increment(one), without_auto_increment(&other));
        assert_eq!(without_auto_increment(one), one.replace(" AUTO_INCREMENT=17", ""));
    }

    #[test]
    fn the_next_number_is_an_option_of_the_table() {
        let head = "CREATE TABLE `t` (\n  `id` int NOT NULL AUTO_INCREMENT COMMENT 'it''s ) AUTO_INCREMENT=9',\n  \
                    `a) ENGINE=InnoDB AUTO_INCREMENT=8 ``` decimal(5,2) DEFAULT '1.00',\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB";
        assert_eq!(next_number(head), None);
        let options = " DEFAULT CHARSET=utf8mb4 COMMENT='\\' AUTO_INCREMENT=7'";
        assert_eq!(next_number(&format!("{head}{options}")), None);
        assert_eq!(next_number(&format!("{head} AUTO_INCREMENT=17{options}")), Some(17));
        assert_eq!(
            next_number(&format!("{head} AUTO_INCREMENT=18446744073709551615")),
            Some(i128::from(u64::MAX))
        );
    }
}
