//! The two kinds of servers that every test runs against.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MariaDB, 10.11 or later.
    MariaDb,
    /// MySQL, 8.0 or later.
    MySql,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavor::MariaDb => "MariaDB",
            Flavor::MySql => "MySQL",
        })
    }
}

impl Flavor {
    /// The environment variable that leaves this flavor's tests out.
    pub fn skip_variable(self) -> &'static str {
        match self {
            Flavor::MariaDb => "ATONE_SKIP_MARIADB",
            Flavor::MySql => "ATONE_SKIP_MYSQL",
        }
    }

    /// Whether the caller asked for this flavor to be left out.
    pub fn skipped(self) -> bool {
        std::env::var_os(self.skip_variable()).is_some_and(|v| v == "1")
    }

    /// The server program: the one the environment names (`MARIADBD`, `MYSQLD`), one on the PATH, or the one that
    /// `scripts/install-servers` got. Where `ATONE_MARIADB_VERSION` is set, a MariaDB server is of that version.
    pub fn server_program(self) -> Result<PathBuf> {
        let version = if self == Flavor::MariaDb { wanted_version() } else { None };
        let (variable, mut candidates): (&str, Vec<Option<PathBuf>>) = match self {
            Flavor::MariaDb => (
                "MARIADBD",
                vec![
                    paths::on_path("mariadbd"),
                    Some("/usr/sbin/mariadbd".into()),
                    Some("/usr/local/sbin/mariadbd".into()),
                ],
            ),
            Flavor::MySql => {
                ("MYSQLD", vec![paths::on_path("mysqld"), Some(paths::cache_dir().join("mysql/bin/mysqld"))])
            }
        };
        if let Some(version) = &version {
            candidates.push(Some(paths::cache_dir().join(format!("mariadb-{version}/bin/mariadbd"))));
        }
        if let Some(named) = std::env::var_os(variable) {
            let named = PathBuf::from(named);
            match Self::of_program(&named)? {
                flavor if flavor == self => return Ok(named),
                other => bail!("{variable}={} is {other}, not {self}", named.display()),
            }
        }
        for program in candidates.into_iter().flatten() {
            let fits = |text: String| match &version {
                Some(version) => text.contains(&format!("Ver {version}.")),
                None => true,
            };
            if program.is_file()
                && Self::of_program(&program).is_ok_and(|flavor| flavor == self)
                && version_of(&program).is_ok_and(fits)
            {
                return Ok(program);
            }
        }
        let (of, option) = match version {
            Some(version) => (format!(" of version {version}"), format!(" --mariadb {version}")),
            None => Default::default(),
        };
        bail!(
            "there is no {self} server{of} here: run scripts/install-servers{option} (or name one by {variable}, or \
             leave its tests out by {}=1)",
            self.skip_variable()
        )
    }

    /// A client program (`mysql` or `mysqldump`; on MariaDB its own names), matching the server's flavor.
    pub fn client_program(self, name: &str) -> Result<PathBuf> {
        let own = match (self, name) {
            (Flavor::MariaDb, "mysql") => "mariadb",
            (Flavor::MariaDb, "mysqldump") => "mariadb-dump",
            (_, other) => other,
        };
        let beside = companion(&self.server_program()?, own);
        beside
            .or_else(|| paths::on_path(own))
            .with_context(|| format!("there is no {own}: run scripts/install-servers"))
    }

    /// The option that keeps its client programs from TLS, which those of MariaDB 11.4 and later insist on.
    pub fn without_tls(self) -> &'static str {
        match self {
            Flavor::MariaDb => "--skip-ssl",
            Flavor::MySql => "--ssl-mode=DISABLED",
        }
    }

    /// What a server program says it is. Refuses MySQL before 8.0.
    pub fn of_program(program: &Path) -> Result<Flavor> {
        let text = version_of(program)?;
        if text.contains("MariaDB") {
            return Ok(Flavor::MariaDb);
        }
        let major = text
            .split_once("Ver ")
            .and_then(|(_, rest)| rest.split('.').next())
            .and_then(|digits| digits.trim().parse::<u32>().ok());
        match major {
            Some(major) if major >= 8 => Ok(Flavor::MySql),
            _ => bail!("{} is not a server of a known version: {}", program.display(), text.trim()),
        }
    }
}

/// The version of MariaDB that the tests are to run on, if the caller asked for one.
fn wanted_version() -> Option<String> {
    std::env::var("ATONE_MARIADB_VERSION").ok().filter(|version| !version.is_empty())
}

/// A program that came with this server, where they lie in one folder: others may be of another version.
pub(crate) fn companion(server: &Path, name: &str) -> Option<PathBuf> {
    Some(server.parent()?.join(name)).filter(|file| file.is_file())
}

/// What `program --version` prints.
pub fn version_of(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .args(["--no-defaults", "--version"])
        .output()
        .with_context(|| format!("can't run {}", program.display()))?;
    if !output.status.success() {
        bail!("{} --version failed: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
