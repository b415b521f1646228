//! The tables of docs/compatibility.md that are made of the scripts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use atone_tests::Flavor;
use atone_tests::wire::caps;

use crate::known::KNOWN;
use crate::script::{SETTINGS, Script, Setting};
use crate::{bound, scripts};

const BEGIN: &str = "<!-- recorder -->\n";
const END: &str = "<!-- /recorder -->\n";
/// The variable that has the document written anew.
const WRITE: &str = "ATONE_WRITE_DOCS";

/// The commands, in the order of their numbers.
const COMMANDS: &[&str] = &[
    "COM_SLEEP",
    "COM_QUIT",
    "COM_INIT_DB",
    "COM_QUERY",
    "COM_FIELD_LIST",
    "COM_CREATE_DB",
    "COM_DROP_DB",
    "COM_REFRESH",
    "COM_SHUTDOWN",
    "COM_STATISTICS",
    "COM_PROCESS_INFO",
    "COM_CONNECT",
    "COM_PROCESS_KILL",
    "COM_DEBUG",
    "COM_PING",
    "COM_TIME",
    "COM_DELAYED_INSERT",
    "COM_CHANGE_USER",
    "COM_BINLOG_DUMP",
    "COM_TABLE_DUMP",
    "COM_CONNECT_OUT",
    "COM_REGISTER_SLAVE",
    "COM_STMT_PREPARE",
    "COM_STMT_EXECUTE",
    "COM_STMT_SEND_LONG_DATA",
    "COM_STMT_CLOSE",
    "COM_STMT_RESET",
    "COM_SET_OPTION",
    "COM_STMT_FETCH",
    "COM_DAEMON",
    "COM_BINLOG_DUMP_GTID",
    "COM_RESET_CONNECTION",
    "COM_CLONE",
    "COM_STMT_BULK_EXECUTE",
    "unknown commands",
    "malformed commands",
    "an empty packet",
    "wrong sequence numbers",
    "pipelined commands",
    "execute-direct",
    "cursors",
];

/// What logs in, and what keeps it from doing so.
const LOGINS: &[&str] = &[
    "mysql_native_password",
    "client_ed25519",
    "unix_socket",
    "caching_sha2_password",
    "sha256_password",
    "mysql_no_login",
    "auth_socket",
    "auth switch",
    "an empty password",
    "wrong passwords",
    "expired passwords",
    "locked accounts",
    "max_user_connections",
    "REQUIRE SSL",
    "REQUIRE X509",
];

/// What else is compared.
const FURTHER: &[&str] = &[
    "CALL",
    "PREPARE",
    "KILL",
    "SHOW PROCESSLIST",
    "LOAD DATA LOCAL",
    "charsets",
    "executable comments",
    "ANSI_QUOTES",
    "NO_BACKSLASH_ESCAPES",
    "sql_mode ORACLE",
    "compound statements",
    "more than 16 MiB",
    "max_allowed_packet",
    "a slow reader",
    "a client that goes away",
    "wait_timeout",
    "time limits",
];

/// Capabilities that no script names, and why.
const NOT_NAMED: &[(u64, &str)] = &[
    (
        caps::LONG_PASSWORD,
        "asked for by each client; MariaDB takes its absence as the mark of its own clients",
    ),
    (caps::LONG_FLAG, "asked for by each client"),
    (
        caps::PROTOCOL_41,
        "asked for by each client of today; one without it is passed on to the server, and never bound",
    ),
    (caps::TRANSACTIONS, "asked for by each client"),
    (caps::SECURE_CONNECTION, "asked for by each client"),
    (caps::PLUGIN_AUTH, "asked for by each client; see the logins"),
    (caps::PLUGIN_AUTH_LENENC_DATA, "asked for under most settings"),
    (caps::DEPRECATE_EOF, "with and without, by the settings"),
    (caps::COMPRESS, "by the settings"),
    (caps::ZSTD_COMPRESSION, "by the settings; MariaDB does not have it"),
    (caps::SSL, "by the settings; `listen_tls` can have it offered always or never"),
    (caps::MULTI_FACTOR, "asked for under most settings; the servers' packages have no second factor to try"),
    (caps::CAPABILITY_EXTENSION, "not offered: neither server has a use for it"),
    (caps::VERIFY_SERVER_CERT, "a client's own matter"),
    (caps::MARIADB_COM_MULTI, "not offered: MariaDB does not answer it any more"),
];

fn servers(scripts: &[&Script]) -> String {
    let on = |flavor: Flavor| scripts.iter().any(|script| script.on.contains(&flavor));
    match (on(Flavor::MariaDb), on(Flavor::MySql)) {
        (true, true) => "both",
        (true, false) => "MariaDB",
        (false, true) => "MySQL",
        (false, false) => "none",
    }
    .to_owned()
}

fn settings(scripts: &[&Script]) -> String {
    let there = |setting: &&Setting, script: &Script| script.on.iter().any(|&flavor| setting.on(flavor));
    let could = SETTINGS.iter().filter(|setting| scripts.iter().any(|script| there(setting, script)));
    let does = SETTINGS
        .iter()
        .filter(|setting| scripts.iter().any(|script| there(setting, script) && setting.has(script)));
    let names: Vec<&str> = does.map(|setting| setting.name).collect();
    if names.len() == could.count() { "all".to_owned() } else { names.join(", ") }
}

fn names(scripts: &[&Script]) -> String {
    scripts.iter().map(|script| script.name).collect::<Vec<_>>().join(", ")
}

fn table(title: &str, items: &[&str], all: &[Script]) -> Result<String> {
    let mut text = format!("| {title} | servers | settings | scripts |\n| --- | --- | --- | --- |\n");
    for item in items {
        let of: Vec<&Script> = all.iter().filter(|script| script.covers.contains(item)).collect();
        ensure!(!of.is_empty(), "no script covers {item}");
        let code =
            if item.contains('_') && !item.contains(' ') { format!("`{item}`") } else { (*item).to_owned() };
        writeln!(text, "| {code} | {} | {} | {} |", servers(&of), settings(&of), names(&of))?;
    }
    Ok(text)
}

fn capabilities(all: &[Script]) -> Result<String> {
    let mut text = "| capability | servers | settings | scripts |\n| --- | --- | --- | --- |\n".to_owned();
    for (bit, name) in caps::NAMES {
        let of: Vec<&Script> = all.iter().filter(|script| script.covers.contains(name)).collect();
        let why = NOT_NAMED.iter().find(|(known, _)| known == bit).map(|(_, why)| *why);
        match why {
            Some(why) => {
                ensure!(of.is_empty(), "{name} is covered by {}", names(&of));
                writeln!(text, "| `{name}` | | | {why} |")?;
            }
            None => {
                ensure!(!of.is_empty(), "no script covers {name}");
                writeln!(text, "| `{name}` | {} | {} | {} |", servers(&of), settings(&of), names(&of))?;
            }
        }
    }
    Ok(text)
}

fn section() -> Result<String> {
    let unbound = scripts::all();
    let bound = bound::scripts();
    let known_items: BTreeSet<&str> = COMMANDS
        .iter()
        .chain(LOGINS)
        .chain(FURTHER)
        .copied()
        .chain(caps::NAMES.iter().map(|(_, name)| *name))
        .collect();
    for item in unbound.iter().flat_map(|script| script.covers) {
        ensure!(known_items.contains(item), "{item} is in no table of {}", file!());
    }
    let mut in_bound: Vec<&str> = bound.iter().flat_map(|script| script.covers).copied().collect();
    in_bound.dedup();

    let mut text = String::from(
        "A recorder (tests/e2e/recorder) plays scripts of packets against the server and through the proxy. Both streams of packets\n\
         are equal, field by field: sequence numbers, flags, counts, column definitions, rows, messages. Left out of the comparison\n\
         are salts, connection ids, ids of prepared statements that MariaDB counts for all connections, and times.\n\n\
         ## Settings\n\nEach script is played under these, or under some of them where it takes long or has nothing to show.\n\n\
         | setting | what it is | servers |\n| --- | --- | --- |\n",
    );
    for setting in SETTINGS {
        let on = if setting.on(Flavor::MariaDb) { "both" } else { "MySQL" };
        writeln!(text, "| {} | {} | {on} |", setting.name, setting.title)?;
    }
    write!(text, "\n## Commands\n\n{}", table("command", COMMANDS, &unbound)?)?;
    write!(
        text,
        "\n## Capabilities\n\nThe proxy offers what the server offers.\n\n{}",
        capabilities(&unbound)?
    )?;
    write!(text, "\n## Logins\n\n{}", table("plugin or account", LOGINS, &unbound)?)?;
    write!(text, "\n## Further\n\n{}", table("what", FURTHER, &unbound)?)?;
    write!(
        text,
        "\n## In a global transaction\n\nThe same statements with and without a global transaction are answered alike (but for the status\n\
         flags by which a server says that it used no index). Once rolled back, the tables are as before; once committed, as\n\
         without it.\n\n{}",
        table("what", &in_bound, &bound)?
    )?;
    text += "\n## Known differences\n\n";
    if KNOWN.is_empty() {
        text += "None.\n";
    } else {
        text += "| script | server | settings | why |\n| --- | --- | --- | --- |\n";
    }
    for known in KNOWN {
        let server = known.flavor.map_or_else(|| "both".to_owned(), |flavor| flavor.to_string());
        let settings = if known.settings.is_empty() { "all".to_owned() } else { known.settings.join(", ") };
        writeln!(text, "| {} | {server} | {settings} | {} |", known.script, known.why)?;
    }
    Ok(text)
}

/// Fails unless the document has the tables as the scripts make them; `ATONE_WRITE_DOCS=1` puts them in.
pub(crate) fn check() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let old = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (before, rest) = old.split_once(BEGIN).context("no beginning of the recorder's section")?;
    let (_, after) = rest.split_once(END).context("no end of the recorder's section")?;
    let new = format!("{before}{BEGIN}\n{}\n{END}{after}", section()?);
    if new == old {
        return Ok(());
    }
    ensure!(
        std::env::var_os(WRITE).is_some_and(|v| v == "1"),
        "docs/compatibility.md is not what the scripts give: run this test with {WRITE}=1"
    );
    std::fs::write(&path, new).with_context(|| path.display().to_string())
}
