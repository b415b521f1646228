//! The SQLSTATEs of the conditions that statements which write warn of. `SHOW WARNINGS` tells their numbers only.

use atone_wire::error_code::*;

/// The SQLSTATE that the server gives a warning of this number; `None` where it is not known.
pub(super) fn of_warning(code: u16, mariadb: bool) -> Option<[u8; 5]> {
    let state = match code {
        ER_BAD_NULL_ERROR | ER_DUP_ENTRY | ER_ROW_IS_REFERENCED_2 | ER_NO_REFERENCED_ROW_2 => b"23000",
        ER_SUBQUERY_NO_1_ROW => b"21000",
        ER_WARN_DATA_OUT_OF_RANGE => b"22003",
        WARN_DATA_TRUNCATED => b"01000",
        ER_TRUNCATED_WRONG_VALUE => b"22007",
        ER_DIVISION_BY_ZERO => b"22012",
        ER_TRUNCATED_WRONG_VALUE_FOR_FIELD if mariadb => b"22007",
        ER_DATETIME_FUNCTION_OVERFLOW => b"22008",
        ER_DA_INVALID_CONDITION_NUMBER => b"35000",
        ER_TOO_BIG_FOR_UNCOMPRESS
        | ER_WARN_ALLOWED_PACKET_OVERFLOWED
        | ER_NO_DEFAULT_FOR_FIELD
        | ER_WRONG_VALUE_FOR_TYPE
        | ER_NO_PARTITION_FOR_GIVEN_VALUE => b"HY000",
        ER_WRONG_ARGUMENTS | ER_TRUNCATED_WRONG_VALUE_FOR_FIELD | ER_CHECK_CONSTRAINT_VIOLATED
            if !mariadb =>
        {
            b"HY000"
        }
        ER_DATA_OVERFLOW if mariadb => b"22003",
        ER_CANNOT_CONVERT_CHARACTER if mariadb => b"HY000",
        ER_CONSTRAINT_FAILED if mariadb => b"23000",
        _ => return None,
    };
    Some(*state)
}

/// Who has defined a SQLSTATE, as the server tells; `None` where it is not known.
pub(super) fn origin(state: [u8; 5], mariadb: bool) -> Option<&'static [u8]> {
    match state.first() {
        _ if mariadb => Some(b""),
        Some(b'0'..=b'4' | b'A'..=b'H') => Some(b"ISO 9075"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_differ_in_some() {
        assert_eq!(of_warning(1366, true), Some(*b"22007"));
        assert_eq!(of_warning(1366, false), Some(*b"HY000"));
        assert_eq!(of_warning(3819, true), None);
        assert_eq!(origin(*b"HY000", true), Some(&b""[..]));
        assert_eq!(origin(*b"HY000", false), Some(&b"ISO 9075"[..]));
        assert_eq!(origin(*b"XA100", false), None, "of the vendor");
    }
}
