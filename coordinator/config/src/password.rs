//! Passwords: by value, file or environment.

use std::fmt;
use std::path::PathBuf;

use crate::{KeyError, Section};

const VALUE: &str = "password";
const FILE: &str = "password_file";
const ENV: &str = "password_env";

/// Where a password is: in the configuration itself, in a file, or in the environment.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// The key that names it, with its sections.
    key: String,
    source: Source,
}

#[derive(Clone, PartialEq, Eq)]
enum Source {
    /// The password itself.
    Value(String),
    /// A file whose first line it is.
    File(PathBuf),
    /// The name of an environment variable.
    Env(String),
}

impl Section {
    /// One of `password`, `password_file` and `password_env`; `None` where none of them is there.
    ///
    /// # Errors
    /// There is more than one of them, or a value is no text.
    pub fn password(&mut self) -> Result<Option<Password>, KeyError> {
        let sources = [
            self.optional(VALUE)?.map(|value| (VALUE, Source::Value(value))),
            self.optional(FILE)?.map(|file| (FILE, Source::File(file))),
            self.optional(ENV)?.map(|variable| (ENV, Source::Env(variable))),
        ];
        let mut given = sources.into_iter().flatten();
        let first = given.next().map(|(key, source)| Password { key: self.path(key), source });
        if given.next().is_some() {
            return Err(self.error(VALUE, format!("only one of {VALUE}, {FILE}, {ENV} may be given")));
        }
        Ok(first)
    }

    /// The same where one of them is needed.
    ///
    /// # Errors
    /// There is not exactly one of them, or a value is no text.
    pub fn required_password(&mut self) -> Result<Password, KeyError> {
        let given = self.password()?;
        given.ok_or_else(|| self.error(VALUE, format!("one of {VALUE}, {FILE}, {ENV} is needed")))
    }
}

impl Password {
    /// The password; a file is read, and the environment asked.
    ///
    /// # Errors
    /// The file cannot be read, or the environment has no such variable.
    pub fn read(&self) -> Result<String, KeyError> {
        match &self.source {
            Source::Value(password) => Ok(password.clone()),
            Source::File(file) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
                Err(e) => Err(KeyError::new(&self.key, format!("{}: {e}", file.display()))),
            },
            Source::Env(variable) => std::env::var(variable)
                .map_err(|_| KeyError::new(&self.key, format!("{variable} is not set in the environment"))),
        }
    }
}

impl fmt::Debug for Password {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password({})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Result<Option<Password>, KeyError> {
        Section::parse(text).unwrap().password()
    }

    #[test]
    fn a_password_has_one_source() {
        assert_eq!(password(""), Ok(None));
        let given = password("password = 'secret'").unwrap().unwrap();
        assert_eq!(given.read().as_deref(), Ok("secret"));
        assert_eq!(format!("{given:?}"), "Password(password)");
        let error = password("password = 'a'\npassword_env = 'B'").unwrap_err();
        assert_eq!(
            error.to_string(),
            "password: only one of password, password_file, password_env may be given"
        );
        let error = Section::parse("").unwrap().required_password().unwrap_err();
        assert_eq!(error.to_string(), "password: one of password, password_file, password_env is needed");
    }

    #[test]
    fn the_first_line_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pw");
        for (text, expected) in
            [("secret\n", "secret"), ("secret\r\nmore\n", "secret"), (" s ", " s "), ("", "")]
        {
            std::fs::write(&file, text).unwrap();
            let given = password(&format!("password_file = '{}'", file.display())).unwrap().unwrap();
            assert_eq!(given.read().as_deref(), Ok(expected));
        }
        let missing = password("password_file = '/nonexistent/atone'").unwrap().unwrap().read().unwrap_err();
        assert!(
            missing.to_string().starts_with("password_file: /nonexistent/atone: No such file"),
            "{missing}"
        );
    }

    #[test]
    fn a_variable_of_the_environment() {
        let home = password("password_env = 'PATH'").unwrap().unwrap();
        assert_eq!(home.read().ok(), std::env::var("PATH").ok());
        let missing = password("password_env = 'ATONE_TEST_NOT_SET'").unwrap().unwrap().read().unwrap_err();
        assert_eq!(missing.to_string(), "password_env: ATONE_TEST_NOT_SET is not set in the environment");
    }
}
