//! Capability and status flags.

/// Capability flags (`CLIENT_*`): the handshake's 32 bits, and above them the 32 bits of MariaDB's further ones.
pub mod client {
    #![allow(missing_docs)]
    pub const LONG_PASSWORD: u64 = 1;
    pub const FOUND_ROWS: u64 = 1 << 1;
    pub const CONNECT_WITH_DB: u64 = 1 << 3;
    pub const COMPRESS: u64 = 1 << 5;
    pub const PROTOCOL_41: u64 = 1 << 9;
    pub const SSL: u64 = 1 << 11;
    pub const TRANSACTIONS: u64 = 1 << 13;
    pub const SECURE_CONNECTION: u64 = 1 << 15;
    pub const MULTI_STATEMENTS: u64 = 1 << 16;
    pub const PLUGIN_AUTH: u64 = 1 << 19;
    pub const CONNECT_ATTRS: u64 = 1 << 20;
    pub const PLUGIN_AUTH_LENENC_DATA: u64 = 1 << 21;
    pub const SESSION_TRACK: u64 = 1 << 23;
    pub const DEPRECATE_EOF: u64 = 1 << 24;
    pub const OPTIONAL_RESULTSET_METADATA: u64 = 1 << 25;
    pub const ZSTD_COMPRESSION: u64 = 1 << 26;
    pub const QUERY_ATTRIBUTES: u64 = 1 << 27;
    pub const CAPABILITY_EXTENSION: u64 = 1 << 29;
    pub const MARIADB_PROGRESS: u64 = 1 << 32;
    pub const MARIADB_STMT_BULK_OPERATIONS: u64 = 1 << 34;
    pub const MARIADB_EXTENDED_METADATA: u64 = 1 << 35;
    pub const MARIADB_CACHE_METADATA: u64 = 1 << 36;
    pub const MARIADB_BULK_UNIT_RESULTS: u64 = 1 << 37;
    /// Either of those under which a result says first whether its column definitions follow.
    pub const OPTIONAL_DEFINITIONS: u64 = OPTIONAL_RESULTSET_METADATA | MARIADB_CACHE_METADATA;
}

/// MariaDB's further capabilities that the relay knows. `MARIADB_COM_MULTI` is not among them: servers that have it are
/// not supported any more by their makers.
const MARIADB_KNOWN: u64 = client::MARIADB_PROGRESS
    | client::MARIADB_STMT_BULK_OPERATIONS
    | client::MARIADB_EXTENDED_METADATA
    | client::MARIADB_CACHE_METADATA
    | client::MARIADB_BULK_UNIT_RESULTS;

/// What is not offered to clients, each for a reason that docs/ARCHITECTURE.md gives: what the relay cannot carry, and
/// what it has never heard of. [`EACH_LEGS_OWN`] are not among them.
pub const MASKED: u64 = client::CAPABILITY_EXTENSION | 0xffff_ffff_0000_0000 & !MARIADB_KNOWN;

/// What is under the packets: agreed on by each leg for itself.
pub const EACH_LEGS_OWN: u64 = client::SSL | COMPRESSION;

/// The ways to compress packets.
pub const COMPRESSION: u64 = client::COMPRESS | client::ZSTD_COMPRESSION;

/// Status flags (`SERVER_*`) of OK and EOF packets.
pub mod status {
    #![allow(missing_docs)]
    pub const IN_TRANS: u16 = 1;
    pub const AUTOCOMMIT: u16 = 1 << 1;
    pub const MORE_RESULTS_EXISTS: u16 = 1 << 3;
    pub const CURSOR_EXISTS: u16 = 1 << 6;
    pub const SESSION_STATE_CHANGED: u16 = 1 << 14;
    pub const PS_OUT_PARAMS: u16 = 1 << 12;
    pub const IN_TRANS_READONLY: u16 = 1 << 13;
}
