//! The configuration file.
//!
//! It is read by hand rather than by derived code, so that every complaint names the key it is about.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atone_core::{Limits, ROLLBACK_WAIT_MAX_MS};
use toml::{Table, Value};

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where gRPC is served, `host:port`.
    pub rpc: String,
    /// Where REST, the health checks and the metrics are served, `host:port`.
    pub http: String,
    /// The directory of the embedded store.
    pub store_path: PathBuf,
    /// Times and limits.
    pub core: atone_core::Config,
}

/// The configuration can't be used: the file, the key, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    key: Option<String>,
    reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        // One line, whatever the parser had to say.
        f.write_str(&self.reason.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a key.
type KeyError = (Option<String>, String);

impl Config {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let error = |key, reason| ConfigError { file: file.to_owned(), key, reason };
        let text = std::fs::read_to_string(file).map_err(|e| error(None, format!("cannot be read: {e}")))?;
        Self::parse(&text).map_err(|(key, reason)| error(key, reason))
    }

    /// Parses the text of a configuration file.
    fn parse(text: &str) -> Result<Self, KeyError> {
        let table: Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map(|span| text[..span.start.min(text.len())].lines().count().max(1));
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            (None, format!("{place}{}", e.message()))
        })?;
        let mut root = Section { name: String::new(), table };
        let defaults = atone_core::Config::default();

        let mut listen = root.section("listen")?;
        let rpc = listen.address("rpc", "127.0.0.1:7091")?;
        let http = listen.address("http", "127.0.0.1:7092")?;
        listen.finish()?;

        let mut store = root.section("store")?;
        let kind = store.text("kind", "embedded")?;
        if kind != "embedded" {
            return Err(store.error("kind", format!("{kind:?} is not known; there is \"embedded\"")));
        }
        let store_path = store.text("path", "./data")?;
        if store_path.is_empty() {
            return Err(store.error("path", "may not be empty".to_owned()));
        }
        store.finish()?;

        let mut transaction = root.section("transaction")?;
        let max_timeout_ms = transaction.duration("max_timeout", defaults.max_timeout_ms)?;
        let default_timeout_ms = transaction.duration("default_timeout", defaults.default_timeout_ms)?;
        if default_timeout_ms > max_timeout_ms {
            return Err(transaction.error("default_timeout", "is longer than max_timeout".to_owned()));
        }
        let core = atone_core::Config {
            default_timeout_ms,
            max_timeout_ms,
            branch_report_timeout_ms: transaction
                .duration("branch_report_timeout", defaults.branch_report_timeout_ms)?,
            rollback_retry_interval_ms: transaction
                .duration("rollback_retry_interval", defaults.rollback_retry_interval_ms)?,
            rollback_wait_ms: transaction.duration_up_to(
                "rollback_wait",
                defaults.rollback_wait_ms,
                ROLLBACK_WAIT_MAX_MS,
            )?,
            history_retention_ms: transaction.duration("history_retention", defaults.history_retention_ms)?,
            work_timeout_ms: transaction.duration("work_timeout", defaults.work_timeout_ms)?,
            report_delay_ms: transaction.duration("report_delay", defaults.report_delay_ms)?,
            purge_delay_ms: transaction.duration("purge_delay", defaults.purge_delay_ms)?,
            bulk_locks_min: defaults.bulk_locks_min,
            limits: {
                let mut section = root.section("limits")?;
                let defaults = defaults.limits;
                let limits = Limits {
                    max_locks_per_branch: section
                        .size("max_locks_per_branch", defaults.max_locks_per_branch)?,
                    max_branches_per_transaction: section
                        .size("max_branches_per_transaction", defaults.max_branches_per_transaction)?,
                    max_transactions: section.size("max_transactions", defaults.max_transactions)?,
                    max_waiters: section.size("max_waiters", defaults.max_waiters)?,
                    max_rollback_waiters: section
                        .size("max_rollback_waiters", defaults.max_rollback_waiters)?,
                    max_history: section.size("max_history", defaults.max_history)?,
                    max_purge_batch: section.size("max_purge_batch", defaults.max_purge_batch)?,
                    max_work_in_flight: section.size("max_work_in_flight", defaults.max_work_in_flight)?,
                };
                section.finish()?;
                limits
            },
        };
        transaction.finish()?;
        root.finish()?;
        Ok(Config { rpc, http, store_path: store_path.into(), core })
    }
}

/// A table of the file. Keys are taken out as they are read; what is left in the end is not known.
struct Section {
    name: String,
    table: Table,
}

impl Section {
    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn error(&self, key: &str, reason: String) -> KeyError {
        (Some(self.key(key)), reason)
    }

    fn wrong_type(&self, key: &str, expected: &str, value: &Value) -> KeyError {
        self.error(key, format!("{expected} is expected, not a value of type {}", value.type_str()))
    }

    fn section(&mut self, key: &str) -> Result<Section, KeyError> {
        match self.table.remove(key) {
            None => Ok(Section { name: self.key(key), table: Table::new() }),
            Some(Value::Table(table)) => Ok(Section { name: self.key(key), table }),
            Some(other) => Err(self.wrong_type(key, "a table", &other)),
        }
    }

    fn text(&mut self, key: &str, default: &str) -> Result<String, KeyError> {
        match self.table.remove(key) {
            None => Ok(default.to_owned()),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong_type(key, "a string", &other)),
        }
    }

    fn address(&mut self, key: &str, default: &str) -> Result<String, KeyError> {
        let text = self.text(key, default)?;
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        match port.map(str::parse::<u16>) {
            Some(Ok(_)) => Ok(text),
            _ => Err(self.error(key, format!("{text:?} is not of the form host:port"))),
        }
    }

    /// A duration in whole milliseconds, at least one.
    fn duration(&mut self, key: &str, default_ms: u64) -> Result<u64, KeyError> {
        const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        let Some((text, duration)) = self.parsed_duration(key)? else { return Ok(default_ms) };
        if duration < Duration::from_millis(1) || duration > MAX {
            return Err(self.error(key, format!("{text:?} is not between 1ms and ten years")));
        }
        u64::try_from(duration.as_millis()).map_err(|e| self.error(key, e.to_string()))
    }

    /// A duration in whole milliseconds, which may be none.
    fn duration_up_to(&mut self, key: &str, default_ms: u64, max_ms: u64) -> Result<u64, KeyError> {
        let Some((text, duration)) = self.parsed_duration(key)? else { return Ok(default_ms) };
        match u64::try_from(duration.as_millis()) {
            Ok(ms) if ms <= max_ms => Ok(ms),
            _ => Err(self.error(key, format!("{text:?} is longer than {}s", max_ms / 1_000))),
        }
    }

    /// The duration under a key, with its text.
    fn parsed_duration(&mut self, key: &str) -> Result<Option<(String, Duration)>, KeyError> {
        let text = match self.table.remove(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => return Err(self.wrong_type(key, "a duration such as \"60s\"", &other)),
        };
        let duration = humantime::parse_duration(&text)
            .map_err(|e| self.error(key, format!("{text:?} is no duration: {e}")))?;
        Ok(Some((text, duration)))
    }

    /// A whole number from 1 up.
    fn size(&mut self, key: &str, default: usize) -> Result<usize, KeyError> {
        match self.table.remove(key) {
            None => Ok(default),
            Some(Value::Integer(number)) => match usize::try_from(number) {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(self.error(key, format!("{number} is not a number from 1 up"))),
            },
            Some(other) => Err(self.wrong_type(key, "a whole number", &other)),
        }
    }

    fn finish(self) -> Result<(), KeyError> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err((Some(self.key(key)), "this key is not known".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_all_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!((config.rpc.as_str(), config.http.as_str()), ("127.0.0.1:7091", "127.0.0.1:7092"));
        assert_eq!(config.core, atone_core::Config::default());
    }

    #[test]
    fn keys_are_read() {
        let text = "[listen]\nrpc = 'localhost:0'\n[store]\nkind = 'embedded'\npath = '/x'\n[transaction]\n\
                    default_timeout = '1m 30s'\nrollback_wait = '0s'\n[limits]\nmax_waiters = 5";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.rpc, "localhost:0");
        assert_eq!(config.store_path, PathBuf::from("/x"));
        assert_eq!(config.core.default_timeout_ms, 90_000);
        assert_eq!(config.core.rollback_wait_ms, 0);
        assert_eq!(config.core.limits.max_waiters, 5);
    }

    #[test]
    fn complaints_name_the_key() {
        let check = |text: &str, key: Option<&str>, part: &str| {
            let (seen, reason) = Config::parse(text).unwrap_err();
            assert_eq!(seen.as_deref(), key, "{text}");
            assert!(reason.contains(part), "{text}: {reason}");
        };
        check("[listen]\nrcp = 'x:1'", Some("listen.rcp"), "not known");
        check("lissten = 1", Some("lissten"), "not known");
        check("listen = 1", Some("listen"), "table");
        check("[listen]\nrpc = 'nowhere'", Some("listen.rpc"), "host:port");
        check("[listen]\nrpc = 7091", Some("listen.rpc"), "string");
        check("[store]\nkind = 'etcd'", Some("store.kind"), "etcd");
        check("[transaction]\ndefault_timeout = 60", Some("transaction.default_timeout"), "\"60s\"");
        check("[transaction]\ndefault_timeout = 'soon'", Some("transaction.default_timeout"), "soon");
        check("[transaction]\ndefault_timeout = '25h'", Some("transaction.default_timeout"), "max_timeout");
        check("[transaction]\nrollback_wait = '301s'", Some("transaction.rollback_wait"), "longer than 300s");
        check("[limits]\nmax_waiters = 0", Some("limits.max_waiters"), "from 1 up");
        check("[listen\n", None, "line 1");
    }

    #[test]
    fn a_complaint_is_one_line() {
        let reason = "a\nb".to_owned();
        let error = ConfigError { file: "c.toml".into(), key: Some("x.y".into()), reason };
        assert_eq!(error.to_string(), "c.toml: x.y: a b");
    }
}
