//! Capability bits, of MySQL and of MariaDB: 64 of them, the upper half MariaDB's own.

#![allow(missing_docs)]

pub const LONG_PASSWORD: u64 = 1;
pub const FOUND_ROWS: u64 = 1 << 1;
pub const LONG_FLAG: u64 = 1 << 2;
pub const CONNECT_WITH_DB: u64 = 1 << 3;
pub const NO_SCHEMA: u64 = 1 << 4;
pub const COMPRESS: u64 = 1 << 5;
pub const ODBC: u64 = 1 << 6;
pub const LOCAL_FILES: u64 = 1 << 7;
pub const IGNORE_SPACE: u64 = 1 << 8;
pub const PROTOCOL_41: u64 = 1 << 9;
pub const INTERACTIVE: u64 = 1 << 10;
pub const SSL: u64 = 1 << 11;
pub const IGNORE_SIGPIPE: u64 = 1 << 12;
pub const TRANSACTIONS: u64 = 1 << 13;
pub const SECURE_CONNECTION: u64 = 1 << 15;
pub const MULTI_STATEMENTS: u64 = 1 << 16;
pub const MULTI_RESULTS: u64 = 1 << 17;
pub const PS_MULTI_RESULTS: u64 = 1 << 18;
pub const PLUGIN_AUTH: u64 = 1 << 19;
pub const CONNECT_ATTRS: u64 = 1 << 20;
pub const PLUGIN_AUTH_LENENC_DATA: u64 = 1 << 21;
pub const CAN_HANDLE_EXPIRED_PASSWORDS: u64 = 1 << 22;
pub const SESSION_TRACK: u64 = 1 << 23;
pub const DEPRECATE_EOF: u64 = 1 << 24;
pub const OPTIONAL_RESULTSET_METADATA: u64 = 1 << 25;
pub const ZSTD_COMPRESSION: u64 = 1 << 26;
pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
pub const MULTI_FACTOR: u64 = 1 << 28;
pub const CAPABILITY_EXTENSION: u64 = 1 << 29;
pub const VERIFY_SERVER_CERT: u64 = 1 << 30;
pub const REMEMBER_OPTIONS: u64 = 1 << 31;
pub const MARIADB_PROGRESS: u64 = 1 << 32;
pub const MARIADB_COM_MULTI: u64 = 1 << 33;
pub const MARIADB_STMT_BULK: u64 = 1 << 34;
pub const MARIADB_EXTENDED_METADATA: u64 = 1 << 35;
pub const MARIADB_CACHE_METADATA: u64 = 1 << 36;
pub const MARIADB_BULK_UNIT_RESULTS: u64 = 1 << 37;

/// All of MariaDB's own.
pub const MARIADB: u64 = 0xffff_ffff_0000_0000;

/// What a client of 2005 asks for, with the one addition without which no account of today lets it in.
pub const MINIMAL: u64 = LONG_PASSWORD
    | LONG_FLAG
    | CONNECT_WITH_DB
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | PLUGIN_AUTH;

/// What a client of today asks for, except for what changes the transport.
pub const FULL: u64 = LONG_FLAG
    | CONNECT_WITH_DB
    | LOCAL_FILES
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | MULTI_STATEMENTS
    | MULTI_RESULTS
    | PS_MULTI_RESULTS
    | PLUGIN_AUTH
    | CONNECT_ATTRS
    | PLUGIN_AUTH_LENENC_DATA
    | CAN_HANDLE_EXPIRED_PASSWORDS
    | SESSION_TRACK
    | DEPRECATE_EOF
    | QUERY_ATTRIBUTES
    | MULTI_FACTOR
    | MARIADB_PROGRESS
    | MARIADB_STMT_BULK
    | MARIADB_EXTENDED_METADATA
    | MARIADB_CACHE_METADATA
    | MARIADB_BULK_UNIT_RESULTS;

/// Each capability with its name in the documentation.
pub const NAMES: &[(u64, &str)] = &[
    (LONG_PASSWORD, "CLIENT_LONG_PASSWORD"),
    (FOUND_ROWS, "CLIENT_FOUND_ROWS"),
    (LONG_FLAG, "CLIENT_LONG_FLAG"),
    (CONNECT_WITH_DB, "CLIENT_CONNECT_WITH_DB"),
    (NO_SCHEMA, "CLIENT_NO_SCHEMA"),
    (COMPRESS, "CLIENT_COMPRESS"),
    (ODBC, "CLIENT_ODBC"),
    (LOCAL_FILES, "CLIENT_LOCAL_FILES"),
    (IGNORE_SPACE, "CLIENT_IGNORE_SPACE"),
    (PROTOCOL_41, "CLIENT_PROTOCOL_41"),
    (INTERACTIVE, "CLIENT_INTERACTIVE"),
    (SSL, "CLIENT_SSL"),
    (IGNORE_SIGPIPE, "CLIENT_IGNORE_SIGPIPE"),
    (TRANSACTIONS, "CLIENT_TRANSACTIONS"),
    (SECURE_CONNECTION, "CLIENT_SECURE_CONNECTION"),
    (MULTI_STATEMENTS, "CLIENT_MULTI_STATEMENTS"),
    (MULTI_RESULTS, "CLIENT_MULTI_RESULTS"),
    (PS_MULTI_RESULTS, "CLIENT_PS_MULTI_RESULTS"),
    (PLUGIN_AUTH, "CLIENT_PLUGIN_AUTH"),
    (CONNECT_ATTRS, "CLIENT_CONNECT_ATTRS"),
    (PLUGIN_AUTH_LENENC_DATA, "CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA"),
    (CAN_HANDLE_EXPIRED_PASSWORDS, "CLIENT_CAN_HANDLE_EXPIRED_PASSWORDS"),
    (SESSION_TRACK, "CLIENT_SESSION_TRACK"),
    (DEPRECATE_EOF, "CLIENT_DEPRECATE_EOF"),
    (OPTIONAL_RESULTSET_METADATA, "CLIENT_OPTIONAL_RESULTSET_METADATA"),
    (ZSTD_COMPRESSION, "CLIENT_ZSTD_COMPRESSION_ALGORITHM"),
    (QUERY_ATTRIBUTES, "CLIENT_QUERY_ATTRIBUTES"),
    (MULTI_FACTOR, "MULTI_FACTOR_AUTHENTICATION"),
    (CAPABILITY_EXTENSION, "CLIENT_CAPABILITY_EXTENSION"),
    (VERIFY_SERVER_CERT, "CLIENT_SSL_VERIFY_SERVER_CERT"),
    (REMEMBER_OPTIONS, "CLIENT_REMEMBER_OPTIONS"),
    (MARIADB_PROGRESS, "MARIADB_CLIENT_PROGRESS"),
    (MARIADB_COM_MULTI, "MARIADB_CLIENT_COM_MULTI"),
    (MARIADB_STMT_BULK, "MARIADB_CLIENT_STMT_BULK_OPERATIONS"),
    (MARIADB_EXTENDED_METADATA, "MARIADB_CLIENT_EXTENDED_METADATA"),
    (MARIADB_CACHE_METADATA, "MARIADB_CLIENT_CACHE_METADATA"),
    (MARIADB_BULK_UNIT_RESULTS, "MARIADB_CLIENT_BULK_UNIT_RESULTS"),
];

/// The names of the bits that are set, separated by blanks.
pub fn names(capabilities: u64) -> String {
    let mut all = Vec::new();
    for bit in (0..64).map(|n| 1_u64 << n).filter(|bit| capabilities & bit != 0) {
        let name = NAMES.iter().find(|(known, _)| *known == bit).map(|(_, name)| (*name).to_owned());
        all.push(name.unwrap_or_else(|| format!("1<<{}", bit.trailing_zeros())));
    }
    all.join(" ")
}
