//! The settings of every session that is Atone's own: the service account's and the command line's.
//!
//! A session inherits the server's global variables, and what `init_connect` sets. Each of those that could bend what
//! Atone reads or writes has its value here; `DEFAULT` would be the global value again. `tests/e2e/clusters/globals`
//! goes through all variables of the servers and has for each that is not here the reason why it is harmless.

/// Which servers have a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Any,
    MariaDb,
    /// MySQL from this version on, as its comments write it.
    MySql(u32),
}

const MARIADB: Server = Server::MariaDb;
const MYSQL: Server = Server::MySql(80_000);
const ANY: Server = Server::Any;

/// How long a session may be idle, in seconds: its `wait_timeout`.
pub const SESSION_IDLE_S: usize = 28_800;
/// The same as text.
const IDLE: &str = "28800";

/// Session variables and what they are set to, in order. None of them needs a right.
const SETTINGS: &[(Server, &str, &str)] = &[
    (ANY, "autocommit", "1"),
    // Else a COMMIT ends the session, or begins a transaction
    (ANY, "completion_type", "0"),
    // Permissive, so that what was stored under another mode (zero dates, the ENUM error value) can be stored again. A
    // permissive server also clamps silently: whoever runs compensation must read the rows again.
    (ANY, "sql_mode", "'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'"),
    (ANY, "sql_select_limit", "18446744073709551615"),
    (ANY, "max_join_size", "18446744073709551615"),
    // After max_join_size, which sets it too
    (ANY, "sql_big_selects", "1"),
    (ANY, "sql_safe_updates", "0"),
    (ANY, "sql_auto_is_null", "0"),
    (ANY, "sql_quote_show_create", "1"),
    (ANY, "sql_notes", "1"),
    (ANY, "time_zone", "'+00:00'"),
    // The clock again
    (ANY, "timestamp", "DEFAULT"),
    (ANY, "group_concat_max_len", "1048576"),
    (ANY, "max_sort_length", "1024"),
    (ANY, "div_precision_increment", "4"),
    // The order of rows inside of one branch must not matter, and no CASCADE may fire
    (ANY, "foreign_key_checks", "0"),
    (ANY, "unique_checks", "1"),
    (ANY, "innodb_lock_wait_timeout", "5"),
    // A table that somebody is altering is not waited for longer: that client may wait for the session that asks
    (ANY, "lock_wait_timeout", "2"),
    (ANY, "wait_timeout", IDLE),
    (ANY, "interactive_timeout", IDLE),
    (ANY, "net_read_timeout", "60"),
    (ANY, "net_write_timeout", "60"),
    (MARIADB, "check_constraint_checks", "0"),
    (MARIADB, "max_statement_time", "0"),
    (MARIADB, "idle_transaction_timeout", "0"),
    (MARIADB, "idle_readonly_transaction_timeout", "0"),
    (MARIADB, "idle_write_transaction_timeout", "0"),
    (MARIADB, "max_session_mem_used", "9223372036854775807"),
    (MARIADB, "tmp_disk_table_size", "18446744073709551615"),
    (MARIADB, "old_mode", "''"),
    // Now, not history
    (MARIADB, "system_versioning_asof", "DEFAULT"),
    (MARIADB, "query_cache_type", "0"),
    // A list of keys as a subquery would lock all rows of the table
    (MARIADB, "in_predicate_conversion_threshold", "0"),
    (MARIADB, "max_error_count", "64"),
    (MYSQL, "max_execution_time", "0"),
    // A long list of keys is looked up all the same, instead of in all rows of the table
    (MYSQL, "range_optimizer_max_mem_size", "0"),
    (MYSQL, "use_secondary_engine", "OFF"),
    (Server::MySql(80_018), "show_create_table_skip_secondary_engine", "0"),
    (Server::MySql(80_030), "show_gipk_in_create_table_and_information_schema", "1"),
];

/// Locking reads see the latest rows under every level; this one also keeps an absent row absent.
const TRANSACTIONS: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE";
/// The first of all: the server's time for a statement may be too short for the others.
const UNTIMED: &str = "SET SESSION autocommit = 1 /*M!100000 , SESSION max_statement_time = 0 */";
/// The server's charset for what it is sent and sends.
const NAMES: &str = "SET NAMES utf8mb4";
/// Sets what not every version of MariaDB has, and the missing of which no comment can tell: patch releases brought it.
const OPTIONAL: [&str; 2] = [
    "SET @atone_optional = (SELECT IF(COUNT(*) = 0, 'DO 0', 'SET SESSION innodb_snapshot_isolation = 0') \
     FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_NAME = 'INNODB_SNAPSHOT_ISOLATION')",
    "EXECUTE IMMEDIATE @atone_optional",
];

/// The names of all variables that are set on a server of either kind, in lower case.
pub fn session_variables(mariadb: bool) -> Vec<&'static str> {
    let of = |server: &Server| *server == Server::Any || (*server == Server::MariaDb) == mariadb;
    let settings = SETTINGS.iter().filter(|(server, _, _)| of(server)).map(|(_, name, _)| *name);
    let other =
        ["character_set_client", "character_set_connection", "character_set_results", "collation_connection"];
    let transactions = match mariadb {
        true => ["tx_isolation", "tx_read_only", "innodb_snapshot_isolation"].as_slice(),
        false => &["transaction_isolation", "transaction_read_only"],
    };
    settings.chain(other).chain(transactions.iter().copied()).collect()
}

/// The settings as statements, in order, for a person to run before compensation.
pub fn session_setup(mariadb: bool) -> Vec<String> {
    let mut out = vec![NAMES.to_owned(), TRANSACTIONS.to_owned()];
    for (server, name, value) in SETTINGS {
        match server {
            Server::MariaDb if !mariadb => {}
            Server::MySql(_) if mariadb => {}
            Server::MySql(version) if *version > 80_000 => {
                // Never an empty statement
                out.push(format!("SET SESSION autocommit = 1 /*!{version} , SESSION {name} = {value} */"));
            }
            _ => out.push(format!("SET SESSION {name} = {value}")),
        }
    }
    if mariadb {
        out.extend(OPTIONAL.map(str::to_owned));
    }
    out
}

/// The same for a server of either kind, as few statements: what a connection begins with. Each of them goes in a
/// packet of its own: a server that ends one by its `max_statement_time` may drop those after it in the packet without
/// a word.
pub fn connection_setup() -> Vec<String> {
    let mut settings = "SET ".to_owned();
    for (at, (server, name, value)) in SETTINGS.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        match server {
            Server::Any => settings.push_str(&format!("{comma}SESSION {name} = {value}")),
            Server::MariaDb => settings.push_str(&format!(" /*M!100000 {comma}SESSION {name} = {value} */")),
            Server::MySql(version) => {
                settings.push_str(&format!(" /*!{version} {comma}SESSION {name} = {value} */"));
            }
        }
    }
    let mut out = vec![UNTIMED.to_owned(), NAMES.to_owned(), TRANSACTIONS.to_owned(), settings];
    out.extend(OPTIONAL.iter().map(|statement| format!("/*!80000 DO 0 */ /*M!100000 {statement} */")));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_gets_its_own() {
        let (mariadb, mysql) = (session_setup(true).join(";"), session_setup(false).join(";"));
        assert!(mariadb.contains("max_statement_time") && !mariadb.contains("max_execution_time"));
        assert!(mysql.contains("max_execution_time") && !mysql.contains("max_statement_time"));
        assert!(
            mariadb.contains("innodb_snapshot_isolation") && !mysql.contains("innodb_snapshot_isolation")
        );
    }

    #[test]
    fn none_is_left_to_the_global_value() {
        for (_, name, value) in SETTINGS {
            assert!(*value != "DEFAULT" || matches!(*name, "timestamp" | "system_versioning_asof"), "{name}");
        }
        let (first, ..) = &SETTINGS[0];
        assert_eq!(*first, Server::Any, "the list in one statement begins without a comma");
        let place = |of: &str| SETTINGS.iter().position(|(_, name, _)| *name == of);
        assert!(place("sql_big_selects") > place("max_join_size"));
        assert_eq!(IDLE.parse(), Ok(SESSION_IDLE_S));
    }
}
