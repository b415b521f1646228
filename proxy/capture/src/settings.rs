//! The settings of a session that bear on how its statements are read and run.

use std::time::Duration;

use atone_sql::{Charset, Marks, Mode};
use atone_wire::column::ColumnKind;

use crate::error::End;
use crate::flight::Rows;
use atone_facts::NameCase;

/// Session variables that bear on how statements are read and run.
#[derive(Clone, Debug)]
pub struct Vars {
    /// How texts are read.
    pub mode: Mode,
    /// `sql_mode`
    pub sql_mode: String,
    /// `character_set_client`
    pub charset_client: String,
    /// `character_set_results`, or `NULL`
    pub charset_results: String,
    /// The value that `character_set_results` is set to, to be what it is: a name would change the collation that
    /// column definitions tell.
    pub results_value: String,
    /// `character_set_connection`
    pub charset_connection: String,
    /// `collation_connection`
    pub collation_connection: String,
    /// How generated numbers follow one another.
    pub numbering: Numbering,
    /// `innodb_lock_wait_timeout`, in milliseconds
    pub lock_wait_timeout_ms: u64,
    /// MariaDB's `max_statement_time`, where it is set.
    pub max_statement_time: Option<Duration>,
    /// `max_allowed_packet`, in bytes
    pub max_allowed_packet: usize,
    /// The current schema.
    pub database: Option<String>,
    /// `sql_safe_updates`
    pub safe_updates: bool,
    /// `autocommit`
    pub autocommit: bool,
    /// `lower_case_table_names`
    pub names: NameCase,
    /// Why the session's changes do not reach replicas, which a rollback would reach all the same.
    pub unreplicated: Option<&'static str>,
    /// Why nothing can be captured under these settings.
    pub refuse: Option<String>,
}

/// How the session steps from one generated number to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// `auto_increment_increment`
    pub increment: u64,
    /// `auto_increment_offset`
    pub offset: u64,
}

impl Numbering {
    /// The number that the server generates after this one: the next of offset, offset + increment, and so on, to
    /// which the first one need not belong where `insert_id` was set. An offset above the increment makes its
    /// unsigned arithmetic wrap around, as here.
    pub fn after(self, number: u64) -> u64 {
        if self.increment <= 1 {
            return number.wrapping_add(1);
        }
        let steps = number.wrapping_add(self.increment).wrapping_sub(self.offset) / self.increment;
        steps.wrapping_mul(self.increment).wrapping_add(self.offset)
    }

    /// The numbers of rows that are all generated.
    pub fn from(self, first: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(first), move |number| Some(self.after(*number)))
    }
}

impl Vars {
    /// Those of a session that has set nothing.
    #[cfg(test)]
    pub fn of_tests() -> Vars {
        Vars {
            mode: Mode::default(),
            sql_mode: String::new(),
            charset_client: "utf8mb4".into(),
            charset_results: "utf8mb4".into(),
            results_value: "45".into(),
            charset_connection: "utf8mb4".into(),
            collation_connection: "utf8mb4_general_ci".into(),
            autocommit: true,
            names: NameCase::AsWritten,
            safe_updates: false,
            numbering: Numbering { increment: 1, offset: 1 },
            lock_wait_timeout_ms: 0,
            max_statement_time: None,
            max_allowed_packet: 1 << 20,
            database: None,
            unreplicated: None,
            refuse: None,
        }
    }

    /// Whether a 0 is stored as it is where numbers are generated, and DEFAULT, which stands for it, likewise.
    pub fn zero_is_no_default(&self) -> bool {
        self.sql_mode.contains("NO_AUTO_VALUE_ON_ZERO")
    }

    /// A name in a result, as it is.
    pub fn named(&self, name: &[u8]) -> String {
        let charset = Charset::of(&self.charset_results).unwrap_or_default();
        String::from_utf8_lossy(&charset.decode_value(name)).into_owned()
    }

    /// Whether a statement's text means the same under either.
    pub fn reads_as(&self, other: &Vars) -> bool {
        let of = |vars: &Vars| {
            let charsets = (vars.charset_client.clone(), vars.collation_connection.clone());
            (vars.database.clone(), vars.sql_mode.clone(), charsets)
        };
        of(self) == of(other)
    }
}

pub(crate) const VARS_SQL: &str = "SELECT @@sql_mode, @@character_set_client, IFNULL(@@character_set_results, 'NULL'), \
     @@character_set_connection, \
     @@auto_increment_increment, @@innodb_lock_wait_timeout, @@max_allowed_packet, HEX(DATABASE()), @@collation_connection, \
     @@sql_safe_updates, @@auto_increment_offset, @@sql_log_bin, @@autocommit, @@lower_case_table_names";
/// One more of MariaDB's.
pub(crate) const SKIP_REPLICATION_SQL: &str = ", @@skip_replication";
/// One more of MySQL's, where the client can do without column definitions.
pub(crate) const RESULTSET_METADATA_SQL: &str = ", @@resultset_metadata";
/// One more of MariaDB's.
pub(crate) const STATEMENT_TIME_SQL: &str = ", @@max_statement_time";

/// Why a table cannot be written about.
pub const UNSAYABLE: &str = "a name of the table, or of one that belongs to it, has letters that character_set_client does not have: use utf8mb4";

/// Why a session is not bound whose results come in such a charset.
pub const WIDE: &str = "character_set_results is no charset with the letters of ASCII as single bytes: what Atone reads would come in it";

/// Whether letters of ASCII have several bytes.
pub fn is_wide(charset: &str) -> bool {
    matches!(charset, "utf16" | "utf16le" | "utf32" | "ucs2")
}

pub(crate) fn parse_vars(rows: &Rows, mariadb: bool, capabilities: u64, marks: Marks) -> Result<Vars, End> {
    let sent = rows.cells(0)?;
    // In UTF-16, UTF-32 and UCS-2 letters of ASCII are those with zero bytes around them
    let narrow: Vec<Option<Vec<u8>>> = sent
        .iter()
        .map(|cell| cell.map(|cell| cell.iter().copied().filter(|byte| *byte != 0).collect()))
        .collect();
    let cells: Vec<Option<&[u8]>> = narrow.iter().map(Option::as_deref).collect();
    let text =
        |i: usize| String::from_utf8_lossy(cells.get(i).copied().flatten().unwrap_or_default()).into_owned();
    let number = |i: usize| {
        text(i).parse::<u64>().map_err(|_| End::Broken(format!("session variable {i} is no number")))
    };
    let (sql_mode, charset_client, charset_results, charset_connection) =
        (text(0), text(1), text(2), text(3));
    let mut refuse = None;
    let mode = Mode::from_sql_mode(&sql_mode, mariadb).unwrap_or_else(|e| {
        refuse = Some(e.to_string());
        Mode { mariadb, ..Mode::default() }
    });
    let charset = Charset::of(&charset_client).unwrap_or_else(|| {
        refuse = Some(format!("character_set_client {charset_client} is not understood"));
        Charset::PLAIN
    });
    let mode = Mode { marks: Some(marks), charset, ..mode };
    if !mariadb && cells.get(15).copied().flatten().is_some_and(|v| v != b"FULL") {
        refuse = Some("resultset_metadata is not FULL: tables are told by their column definitions".into());
    }
    if is_wide(&charset_results) {
        refuse = Some(WIDE.into());
    }
    let database = match cells.get(7).copied().flatten() {
        None => None,
        Some(hex) => {
            let name = unhex(hex).and_then(|bytes| String::from_utf8(bytes).ok());
            Some(name.ok_or_else(|| End::Broken("the current schema's name is not UTF-8".into()))?)
        }
    };
    let max_statement_time = text(15).parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let results_value = match rows.columns.first() {
        Some(definition) if charset_results != "NULL" => {
            ColumnKind::parse(definition, capabilities)?.collation.to_string()
        }
        _ => "NULL".to_owned(),
    };
    Ok(Vars {
        mode,
        sql_mode,
        charset_client,
        charset_results,
        results_value,
        charset_connection,
        collation_connection: text(8),
        safe_updates: text(9) == "1",
        autocommit: text(12) == "1",
        names: NameCase::of(number(13)?),
        unreplicated: match (number(11)?, number(14)?) {
            (1, 0) => None,
            (1, _) => Some("skip_replication is not 0"),
            _ => Some("sql_log_bin is 0"),
        },
        numbering: Numbering { increment: number(4)?, offset: number(10)? },
        lock_wait_timeout_ms: number(5)?.saturating_mul(1000),
        max_statement_time: max_statement_time.filter(|limit| mariadb && !limit.is_zero()),
        max_allowed_packet: usize::try_from(number(6)?).unwrap_or(usize::MAX),
        database,
        refuse,
    })
}

/// How statements are read under these settings, as far as they are known.
pub fn assumed_mode(vars: Option<&Vars>, mariadb: bool, marks: Marks) -> Mode {
    let unknown = Mode { mariadb, marks: Some(marks), ..Mode::default() };
    vars.map_or(unknown, |vars| vars.mode)
}

/// What the server's `HEX()` was given.
pub fn unhex(hex: &[u8]) -> Option<Vec<u8>> {
    hex.chunks(2)
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|p| u8::from_str_radix(p, 16).ok()))
        .collect()
}
