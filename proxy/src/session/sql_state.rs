//! The SQLSTATEs of the conditions that statements which write warn of. `SHOW WARNINGS` tells their numbers only.

/// The SQLSTATE that the server gives a warning of this number; `None` where it is not known.
pub(super) fn of_warning(code: u16, mariadb: bool) -> Option<[u8; 5]> {
    let state = match code {
        1048 | 1062 | 1451 | 1452 => b"23000",
        1242 => b"21000",
        1264 => b"22003",
        1265 => b"01000",
        1292 => b"22007",
        1365 => b"22012",
        1366 if mariadb => b"22007",
        1441 => b"22008",
        1758 => b"35000",
        1256 | 1301 | 1364 | 1411 | 1526 => b"HY000",
        1210 | 1366 | 3819 if !mariadb => b"HY000",
        1916 if mariadb => b"22003",
        1977 if mariadb => b"HY000",
        4025 if mariadb => b"23000",
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
