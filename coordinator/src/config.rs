//! `coordinator.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use atone_config::{ConfigError, KeyError, MAX_DURATION, Section, host_port};
use atone_core::{Limits, MAX_ROLLBACK_WAIT_MS};

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

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// The file, the key and the reason.
    pub fn load(file: &Path) -> Result<Config, ConfigError> {
        atone_config::load(file, Config::parse)
    }

    /// Parses the text of a configuration file.
    fn parse(text: &str) -> Result<Config, KeyError> {
        Config::read(&mut Section::parse(text)?)
    }

    fn read(root: &mut Section) -> Result<Config, KeyError> {
        let mut listen = root.section("listen")?;
        let rpc = address(&mut listen, "rpc", "127.0.0.1:7091")?;
        let http = address(&mut listen, "http", "127.0.0.1:7092")?;
        listen.finish()?;
        let store_path = store(root.section("store")?)?;
        let core = transaction(root.section("transaction")?)?;
        let core = atone_core::Config { limits: limits(root.section("limits")?, &core.limits)?, ..core };
        root.finish()?;
        Ok(Config { rpc, http, store_path, core })
    }
}

fn address(section: &mut Section, key: &str, default: &str) -> Result<String, KeyError> {
    let text: String = section.value(key, default.to_owned())?;
    host_port(&text).map_err(|reason| section.error(key, reason))?;
    Ok(text)
}

/// `[store]`: the directory.
fn store(mut section: Section) -> Result<PathBuf, KeyError> {
    let kind: String = section.value("kind", "embedded".to_owned())?;
    if kind != "embedded" {
        return Err(section.error("kind", format!("{kind:?} is not known; there is \"embedded\"")));
    }
    let path: PathBuf = section.value("path", "./data".into())?;
    if path.as_os_str().is_empty() {
        return Err(section.error("path", "may not be empty"));
    }
    section.finish()?;
    Ok(path)
}

/// `[transaction]`: times, beside the default limits.
fn transaction(mut section: Section) -> Result<atone_core::Config, KeyError> {
    const LEAST: Duration = Duration::from_millis(1);
    let defaults = atone_core::Config::default();
    let mut ms = |key: &str, default_ms: u64| {
        let default = Duration::from_millis(default_ms);
        section.duration(key, default, LEAST..=MAX_DURATION).map(whole_ms)
    };
    let core = atone_core::Config {
        default_timeout_ms: ms("default_timeout", defaults.default_timeout_ms)?,
        max_timeout_ms: ms("max_timeout", defaults.max_timeout_ms)?,
        branch_report_timeout_ms: ms("branch_report_timeout", defaults.branch_report_timeout_ms)?,
        rollback_retry_interval_ms: ms("rollback_retry_interval", defaults.rollback_retry_interval_ms)?,
        history_retention_ms: ms("history_retention", defaults.history_retention_ms)?,
        work_timeout_ms: ms("work_timeout", defaults.work_timeout_ms)?,
        report_delay_ms: ms("report_delay", defaults.report_delay_ms)?,
        purge_delay_ms: ms("purge_delay", defaults.purge_delay_ms)?,
        rollback_wait_ms: whole_ms(section.duration(
            "rollback_wait",
            Duration::from_millis(defaults.rollback_wait_ms),
            Duration::ZERO..=Duration::from_millis(MAX_ROLLBACK_WAIT_MS),
        )?),
        ..defaults
    };
    if core.default_timeout_ms > core.max_timeout_ms {
        return Err(section.error("default_timeout", "is longer than max_timeout"));
    }
    section.finish()?;
    Ok(core)
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `[limits]`: counts.
fn limits(mut section: Section, defaults: &Limits) -> Result<Limits, KeyError> {
    let mut count = |key: &str, default: usize| section.count(key, default, 1);
    let limits = Limits {
        max_locks_per_branch: count("max_locks_per_branch", defaults.max_locks_per_branch)?,
        max_branches_per_transaction: count(
            "max_branches_per_transaction",
            defaults.max_branches_per_transaction,
        )?,
        max_transactions: count("max_transactions", defaults.max_transactions)?,
        max_waiters: count("max_waiters", defaults.max_waiters)?,
        max_rollback_waiters: count("max_rollback_waiters", defaults.max_rollback_waiters)?,
        max_history: count("max_history", defaults.max_history)?,
        max_purge_batch: count("max_purge_batch", defaults.max_purge_batch)?,
        max_work_in_flight: count("max_work_in_flight", defaults.max_work_in_flight)?,
    };
    section.finish()?;
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use atone_config::example;

    use super::*;

    const EXAMPLE: &str = include_str!("../../docs/coordinator.example.toml");

    #[test]
    fn the_example_is_all_defaults_with_every_key() {
        assert_eq!(Config::parse(EXAMPLE), Config::parse(""));
        let mut root = Section::parse(EXAMPLE).unwrap();
        Config::read(&mut root).unwrap();
        assert_eq!(root.known_keys(), example::keys(EXAMPLE).unwrap());
    }

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
            let KeyError { key: seen, reason } = Config::parse(text).unwrap_err();
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
}
