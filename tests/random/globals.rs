//! Global variables, and the servers on which they are set.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use atone_tests::server::SERVICE;
use atone_tests::{Bank, Cluster, Flavor, sql};
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard};

use crate::around::Era;

/// A variable that bends a session that takes it as it is. Those of the proxy's own account must not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global {
    pub(crate) name: &'static str,
    pub(crate) values: &'static [&'static str],
    /// What the application's sessions begin with, where their statements would mean something else under it.
    back: Back,
}

#[derive(Clone, Copy, Debug)]
enum Back {
    /// They take it as it is.
    No,
    To(&'static str),
    /// `sql_mode`, of which each flavor has its own.
    Mode,
}

const fn global(name: &'static str, values: &'static [&'static str]) -> Global {
    Global { name, values, back: Back::No }
}

const fn own(name: &'static str, values: &'static [&'static str], back: &'static str) -> Global {
    Global { name, values, back: Back::To(back) }
}

const BOTH: &[Global] = &[
    global("sql_select_limit", &["1", "12"]),
    global("sql_safe_updates", &["1"]),
    global("autocommit", &["0"]),
    Global {
        name: "sql_mode",
        values: &[
            "''",
            "'ANSI'",
            "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT'",
            "'PAD_CHAR_TO_FULL_LENGTH'",
            "'NO_AUTO_VALUE_ON_ZERO,HIGH_NOT_PRECEDENCE,NO_UNSIGNED_SUBTRACTION'",
            "'TRADITIONAL'",
        ],
        back: Back::Mode,
    },
    global("time_zone", &["'+05:30'", "'-08:00'"]),
    own("foreign_key_checks", &["0"], "foreign_key_checks = 1"),
    global("unique_checks", &["0"]),
    own("max_join_size", &["1"], "max_join_size = 18446744073709551615, sql_big_selects = 1"),
    own("completion_type", &["1", "2"], "completion_type = 0"),
    global("sql_auto_is_null", &["1"]),
    global("sql_quote_show_create", &["0"]),
    global("group_concat_max_len", &["4"]),
    global("max_sort_length", &["8"]),
    global("div_precision_increment", &["0"]),
    global("sql_warnings", &["1"]),
    global("sql_notes", &["0"]),
    global("max_error_count", &["0"]),
    global("lc_time_names", &["'de_DE'"]),
    own("lc_messages", &["'de_DE'"], "lc_messages = 'en_US'"),
    global("auto_increment_increment", &["3"]),
    global("auto_increment_offset", &["2"]),
    global("default_storage_engine", &["'MyISAM'", "'MEMORY'"]),
    global("explicit_defaults_for_timestamp", &["0"]),
    global("updatable_views_with_limit", &["'NO'"]),
    global("character_set_results", &["'latin1'"]),
    global("collation_connection", &["'latin1_bin'", "'utf8mb4_bin'"]),
    global("max_heap_table_size", &["16384"]),
    global("tmp_table_size", &["1024"]),
    global("session_track_state_change", &["1"]),
    global("session_track_schema", &["0"]),
    global("session_track_system_variables", &["'*'"]),
    global("lock_wait_timeout", &["5"]),
];

const MARIADB: &[Global] = &[
    global("innodb_snapshot_isolation", &["0", "1"]),
    own("check_constraint_checks", &["0"], "check_constraint_checks = 1"),
    own("max_statement_time", &["0.00001"], "max_statement_time = 0"),
    own("system_versioning_asof", &["'2001-01-01 00:00:00'"], "system_versioning_asof = DEFAULT"),
    own("tx_read_only", &["1"], "tx_read_only = 0"),
    global("tx_isolation", &["'SERIALIZABLE'", "'READ-COMMITTED'", "'READ-UNCOMMITTED'"]),
    global("default_regex_flags", &["'EXTENDED'"]),
    global("innodb_strict_mode", &["0"]),
    global("sql_if_exists", &["1"]),
    global("character_set_collations", &["''", "'utf8mb4=utf8mb4_bin'"]),
];

const MYSQL: &[Global] = &[
    own("max_execution_time", &["1"], "max_execution_time = 0"),
    own("transaction_read_only", &["1"], "transaction_read_only = 0"),
    global("transaction_isolation", &["'SERIALIZABLE'", "'READ-COMMITTED'", "'READ-UNCOMMITTED'"]),
    global("show_create_table_verbosity", &["1"]),
    global("show_gipk_in_create_table_and_information_schema", &["0"]),
    global("sql_generate_invisible_primary_key", &["1"]),
    global("sql_require_primary_key", &["1"]),
    global("information_schema_stats_expiry", &["0"]),
    global("default_collation_for_utf8mb4", &["'utf8mb4_general_ci'"]),
    global("end_markers_in_json", &["1"]),
];

/// Those of a flavor.
pub(crate) fn of(flavor: Flavor) -> Vec<Global> {
    let more = if flavor == Flavor::MariaDb { MARIADB } else { MYSQL };
    BOTH.iter().chain(more).copied().collect()
}

impl Global {
    /// What the application's sessions begin with.
    pub(crate) fn set_back(&self, flavor: Flavor) -> Option<String> {
        let mode = match flavor {
            Flavor::MariaDb => {
                "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION"
            }
            Flavor::MySql => {
                "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,\
                 NO_ENGINE_SUBSTITUTION"
            }
        };
        match self.back {
            Back::No => None,
            Back::To(text) => Some(format!("SET SESSION {text}")),
            Back::Mode => Some(format!("SET SESSION sql_mode = '{mode}'")),
        }
    }
}

/// The servers' globals and rights, as the era of the cases that run has them.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The number of the era that there is.
    now: RwLock<Option<u64>>,
    admins: Mutex<[(Conn, Changed); 2]>,
}

/// What was changed on a server, with what it was before.
type Changed = BTreeMap<&'static str, String>;

/// As long as it is held the era stays.
pub(crate) type Held<'a> = RwLockReadGuard<'a, Option<u64>>;

/// What a server does not know, or has for sessions only.
const UNKNOWN: [u16; 2] = [1193, 1228];

impl Servers {
    pub(crate) async fn new(cluster: &Cluster) -> Result<Self> {
        let admin =
            async |bank| Ok::<_, anyhow::Error>((cluster.server(bank).admin().await?, Changed::new()));
        let admins = [admin(Bank::One).await?, admin(Bank::Two).await?];
        Ok(Self { now: RwLock::new(None), admins: Mutex::new(admins) })
    }

    /// Makes the servers as this era has them, once no case of another one runs.
    pub(crate) async fn enter(&self, era: &Era) -> Result<Held<'_>> {
        loop {
            let now = self.now.read().await;
            if *now == Some(era.number) {
                return Ok(now);
            }
            drop(now);
            let mut now = self.now.write().await;
            if *now != Some(era.number) {
                for (admin, changed) in self.admins.lock().await.iter_mut() {
                    change(admin, changed, era).await.with_context(|| format!("{era:?}"))?;
                }
                *now = Some(era.number);
            }
        }
    }
}

/// Everything back, then what this era has. Globals hold for new sessions: the proxy's own begin anew.
async fn change(admin: &mut Conn, changed: &mut Changed, era: &Era) -> Result<()> {
    let account = format!("{}@'%'", SERVICE.0);
    sql::run(admin, format!("GRANT {} ON *.* TO {account}", atone_tests::server::SERVICE_RIGHTS)).await?;
    let mut wanted: BTreeMap<&'static str, String> =
        era.globals.iter().map(|(global, value)| (global.name, (*value).to_owned())).collect();
    if let Some(packet) = era.packet {
        wanted.insert("max_allowed_packet", packet.to_string());
    }
    for (name, was) in std::mem::take(changed) {
        sql::run(admin, format!("SET GLOBAL {name} = {was}")).await?;
    }
    for (name, value) in wanted {
        let was = match sql::cell(admin, format!("SELECT @@GLOBAL.{name}")).await {
            Ok(was) => was,
            // Another version of the server has it
            Err(error) if is_unknown(&error) => continue,
            Err(error) => return Err(error),
        };
        sql::run(admin, format!("SET GLOBAL {name} = {value}")).await?;
        let plain = was.parse::<f64>().is_ok() || was == "DEFAULT";
        changed.insert(name, if plain { was } else { format!("'{was}'") });
    }
    if let Some(right) = era.lacks {
        sql::run(admin, format!("REVOKE {right} ON *.* FROM {account}")).await?;
    }
    let sessions = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{}'", SERVICE.0);
    for id in sql::rows(admin, sessions).await? {
        match admin.query_drop(format!("KILL {id}")).await {
            // It is gone by itself
            Err(mysql_async::Error::Server(e)) if e.code == 1094 => {}
            done => done?,
        }
    }
    Ok(())
}

fn is_unknown(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(mysql_async::Error::Server(e)) if UNKNOWN.contains(&e.code))
}
