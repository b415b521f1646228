//! The session settings that change how SQL text is read.

use std::borrow::Cow;

use thiserror::Error;

use super::{charset::Charset, marks::Marks};

/// What decides how a statement is read: the session's `sql_mode` and charset, and the kind of server.
///
/// Other modes (`PIPES_AS_CONCAT`, `HIGH_NOT_PRECEDENCE`, …) are left to the server: they change what an expression
/// means, not where it begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// `ANSI_QUOTES`: `"x"` is an identifier, not a string.
    pub ansi_quotes: bool,
    /// `NO_BACKSLASH_ESCAPES`: a backslash in a string is an ordinary character.
    pub no_backslash_escapes: bool,
    /// `IGNORE_SPACE`: blanks are allowed between the name of a built-in function and its parenthesis.
    pub ignore_space: bool,
    /// The server is MariaDB: its list of built-in functions holds, and `/*M! … */` is code.
    pub mariadb: bool,
    /// How literals that replace parameters are marked; `None` where there are none.
    pub marks: Option<Marks>,
    /// The session's `character_set_client`.
    pub charset: Charset,
}

/// A `sql_mode` that gives the server another grammar than the one understood here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("sql_mode {name} is not supported: it changes the SQL grammar")]
pub struct UnsupportedMode {
    /// The mode, in upper case.
    pub name: String,
}

impl Mode {
    /// The text of a statement, decoded for the lexer.
    ///
    /// # Errors
    /// Why the server may read it differently; the reason continues "the statement".
    pub fn decode<'a>(&self, text: &'a [u8]) -> Result<Cow<'a, [u8]>, &'static str> {
        self.charset.decode(text, !self.no_backslash_escapes)
    }

    /// Reads the value of `@@sql_mode`, e.g. `ONLY_FULL_GROUP_BY,ANSI_QUOTES`, in any case.
    ///
    /// # Errors
    /// `ORACLE` and `MSSQL` (MariaDB) replace the grammar: a session that has them on can't be analyzed.
    pub fn from_sql_mode(sql_mode: &str, mariadb: bool) -> Result<Self, UnsupportedMode> {
        let mut mode = Self { mariadb, ..Self::default() };
        for name in sql_mode.split(',').map(|name| name.trim().to_ascii_uppercase()) {
            match name.as_str() {
                "ANSI_QUOTES" => mode.ansi_quotes = true,
                "NO_BACKSLASH_ESCAPES" => mode.no_backslash_escapes = true,
                "IGNORE_SPACE" => mode.ignore_space = true,
                // The server lists what these combine as well; this is for a value with the name alone.
                "ANSI" | "DB2" | "MAXDB" | "POSTGRESQL" => {
                    mode.ansi_quotes = true;
                    mode.ignore_space = true;
                }
                "ORACLE" | "MSSQL" => return Err(UnsupportedMode { name }),
                _ => {}
            }
        }
        Ok(mode)
    }
}
