//! Default values of columns, as the servers show them.

/// The value of a column to which a row gives none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnDefault {
    /// NULL
    Null,
    /// A constant, which `DEFAULT(column)` gives.
    Constant,
    /// An expression, by a text that every session reads alike.
    Expression(String),
    /// Nothing: a row must give a value.
    Missing,
    /// An expression whose text does not follow from what the server shows.
    Unknown,
}

impl ColumnDefault {
    /// Reads `COLUMN_DEFAULT` and `EXTRA` of `information_schema.COLUMNS`. MySQL gives a constant as its bare text and
    /// marks what it computes; MariaDB gives an expression, or a text in quotes.
    pub(crate) fn parse(default: Option<&str>, extra: &str, nullable: bool, mariadb: bool) -> ColumnDefault {
        let Some(text) = default else {
            return if nullable { ColumnDefault::Null } else { ColumnDefault::Missing };
        };
        let constant = if mariadb {
            let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
            text.starts_with('\'') || (!text.is_empty() && text.chars().all(number))
        } else {
            !extra.contains("DEFAULT_GENERATED")
        };
        match text {
            "NULL" if mariadb => ColumnDefault::Null,
            _ if constant => ColumnDefault::Constant,
            _ => expression(text, mariadb).map_or(ColumnDefault::Unknown, ColumnDefault::Expression),
        }
    }
}

/// The text of a computed default. MySQL escapes it as within quotes. A text with a backslash, or with more than ASCII,
/// reads differently in different sessions.
fn expression(text: &str, mariadb: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if mariadb => return None,
            '\\' => match chars.next() {
                Some('\'') => out.push('\''),
                _ => return None,
            },
            c if c.is_ascii() => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_as_either_server_tells_them() {
        use ColumnDefault::{Constant, Missing, Null, Unknown};
        let expression = |text: &str| ColumnDefault::Expression(text.to_owned());
        let mysql = |text, extra, nullable| ColumnDefault::parse(text, extra, nullable, false);
        assert_eq!(mysql(None, "", true), Null);
        assert_eq!(mysql(None, "", false), Missing);
        assert_eq!(mysql(Some("NULL"), "", true), Constant);
        assert_eq!(mysql(Some("5"), "", false), Constant);
        assert_eq!(mysql(Some("uuid()"), "DEFAULT_GENERATED", false), expression("uuid()"));
        assert_eq!(
            mysql(Some(r"concat(_utf8mb4\'a\',1)"), "DEFAULT_GENERATED", false),
            expression("concat(_utf8mb4'a',1)")
        );
        assert_eq!(mysql(Some(r"concat(_utf8mb4\'a\\\'b\')"), "DEFAULT_GENERATED", false), Unknown);
        assert_eq!(mysql(Some(r"concat(_utf8mb4\'é\')"), "DEFAULT_GENERATED", false), Unknown);
        let mariadb = |text, nullable| ColumnDefault::parse(text, "", nullable, true);
        assert_eq!(mariadb(Some("NULL"), true), Null);
        assert_eq!(mariadb(None, false), Missing);
        assert_eq!(mariadb(Some("'NULL'"), true), Constant);
        assert_eq!(mariadb(Some("-1.5"), true), Constant);
        assert_eq!(mariadb(Some("uuid()"), true), expression("uuid()"));
        assert_eq!(mariadb(Some("concat('a')"), true), expression("concat('a')"));
        assert_eq!(mariadb(Some(r"concat('a\'b')"), true), Unknown);
    }
}
