//! Errors that a client sees, and how a session ends.

use std::io;
use std::time::Duration;

use atone_facts::ServiceError;
use atone_wire::Malformed;
use atone_wire::error_code::{
    ER_ACCESS_DENIED_ERROR, ER_CLIENT_INTERACTION_TIMEOUT, ER_CON_COUNT_ERROR,
    ER_CONNECT_TO_FOREIGN_DATA_SOURCE, ER_HANDSHAKE_ERROR, ER_LOCK_DEADLOCK, ER_LOCK_OR_ACTIVE_TRANSACTION,
    ER_LOCK_WAIT_TIMEOUT, ER_MALFORMED_PACKET, ER_MAX_PREPARED_STMT_COUNT_REACHED, ER_NET_PACKET_TOO_LARGE,
    ER_NET_PACKETS_OUT_OF_ORDER, ER_NET_READ_INTERRUPTED, ER_NOT_SUPPORTED_YET, ER_QUERY_INTERRUPTED,
    ER_SECURE_TRANSPORT_REQUIRED, ER_STATEMENT_TIMEOUT, ER_TOO_MANY_USER_CONNECTIONS, ER_UNKNOWN_COM_ERROR,
    ER_UNKNOWN_STMT_HANDLER, ER_UNSUPPORTED_PS, ER_USER_LIMIT_REACHED, ER_WRONG_ARGUMENTS, ER_XA_RBROLLBACK,
    ER_XA_RBTIMEOUT, ER_XAER_NOTA, ER_XAER_OUTSIDE, ER_XAER_RMFAIL,
};
use atone_wire::response::ErrPacket;
use humantime::format_duration;

/// An error that Atone itself answers a command with: a MySQL code, and a message that begins with `atone:`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    /// The MySQL error number.
    pub code: u16,
    /// The SQL state.
    pub state: &'static [u8; 5],
    /// The message.
    pub message: String,
}

impl SqlError {
    /// An error with a message that names Atone, and the XID.
    pub fn new(code: u16, state: &'static [u8; 5], xid: &str, text: &str) -> SqlError {
        let message =
            if xid.is_empty() { format!("atone: {text}") } else { format!("atone: {text} (xid {xid})") };
        SqlError { code, state, message }
    }

    /// 1235: a statement that cannot be undone exactly.
    pub fn refused(xid: &str, reason: &str) -> SqlError {
        Self::new(ER_NOT_SUPPORTED_YET, b"42000", xid, &format!("refused in a global transaction: {reason}"))
    }
    /// 1295: the server cannot prepare the statement, as it says itself.
    pub fn unprepared() -> SqlError {
        let message = "This command is not supported in the prepared statement protocol yet".into();
        SqlError { code: ER_UNSUPPORTED_PS, state: b"HY000", message }
    }
    /// 1397: the XID is unknown.
    pub fn unknown_xid(xid: &str) -> SqlError {
        Self::new(ER_XAER_NOTA, b"XAE04", xid, "the XID is unknown")
    }
    /// 1400: binding or unbinding while a local transaction is open that has written.
    pub fn outside(xid: &str, text: &str) -> SqlError {
        Self::new(ER_XAER_OUTSIDE, b"XAE09", xid, text)
    }
    /// 1399: the global transaction has ended or is ending.
    pub fn ended(xid: &str, text: &str) -> SqlError {
        Self::new(ER_XAER_RMFAIL, b"XAE07", xid, text)
    }
    /// 1402: it was rolled back, or will be.
    pub fn rolled_back(xid: &str) -> SqlError {
        Self::new(
            ER_XA_RBROLLBACK,
            b"XA100",
            xid,
            "the global transaction was rolled back, or is being rolled back",
        )
    }
    /// 1613: the same by its timeout.
    pub fn timed_out(xid: &str) -> SqlError {
        let text = "the global transaction was rolled back, or is being rolled back, by its timeout";
        Self::new(ER_XA_RBTIMEOUT, b"XA106", xid, text)
    }
    /// 1205: a global row lock was not to be had in time; the local transaction is still open.
    pub fn lock_timeout(xid: &str, detail: &str) -> SqlError {
        Self::new(
            ER_LOCK_WAIT_TIMEOUT,
            b"HY000",
            xid,
            &format!("lock wait timeout exceeded for a global row lock: {detail}"),
        )
    }
    /// 1205: a statement that has not run, on a table that is as it is for a time only; the local transaction is
    /// still open.
    pub fn being_altered(xid: &str, why: &str) -> SqlError {
        Self::new(
            ER_LOCK_WAIT_TIMEOUT,
            b"HY000",
            xid,
            &format!("{why}: run it again when the table has been altered"),
        )
    }
    /// 1317: a KILL QUERY has ended a wait, in the servers' words.
    pub fn interrupted() -> SqlError {
        SqlError {
            code: ER_QUERY_INTERRUPTED,
            state: b"70100",
            message: "Query execution was interrupted".into(),
        }
    }
    /// 1969: `max_statement_time` has ended a wait, in MariaDB's words.
    pub fn statement_time() -> SqlError {
        let message = "Query execution was interrupted (max_statement_time exceeded)".into();
        SqlError { code: ER_STATEMENT_TIMEOUT, state: b"70100", message }
    }
    /// 1213: the local transaction was rolled back; run it again.
    pub fn deadlock(xid: &str, detail: &str) -> SqlError {
        Self::new(
            ER_LOCK_DEADLOCK,
            b"40001",
            xid,
            &format!("{detail}; the local transaction was rolled back, run it again"),
        )
    }
    /// 1213: COMMIT GLOBAL TRANSACTION again, where the first has lost the session's local transaction.
    pub fn lost_local(xid: &str) -> SqlError {
        let text = "the local transaction that COMMIT GLOBAL TRANSACTION was to commit first was rolled back when that failed; \
                    run it again, or ROLLBACK GLOBAL TRANSACTION";
        Self::new(ER_LOCK_DEADLOCK, b"40001", xid, text)
    }
    /// 1213: a global row lock that is not waited for; the coordinator says why, and what to do.
    pub fn lock_conflict(xid: &str, message: &str) -> SqlError {
        Self::new(
            ER_LOCK_DEADLOCK,
            b"40001",
            xid,
            &format!("{message}; the local transaction was rolled back"),
        )
    }
    /// 1429: the coordinator (or the server) cannot be reached; nothing was committed.
    pub fn unavailable(xid: &str, detail: &str) -> SqlError {
        Self::new(ER_CONNECT_TO_FOREIGN_DATA_SOURCE, b"HY000", xid, detail)
    }
    /// What has kept the service account from something that a statement needs: the server's own error where it takes
    /// no more connections, else 1429.
    pub fn of_service(xid: &str, what: &str, error: &ServiceError) -> SqlError {
        let text = format!("{what}: {error}");
        match error.code() {
            Some(code @ ER_CON_COUNT_ERROR) => Self::new(code, b"08004", xid, &text),
            Some(code @ (ER_TOO_MANY_USER_CONNECTIONS | ER_USER_LIMIT_REACHED)) => {
                Self::new(code, b"42000", xid, &text)
            }
            _ => Self::unavailable(xid, &text),
        }
    }
    /// 1153: a statement above `max_statement_bytes`.
    pub fn too_large(xid: &str, limit: usize) -> SqlError {
        Self::new(
            ER_NET_PACKET_TOO_LARGE,
            b"08S01",
            xid,
            &format!("a statement of more than max_statement_bytes = {limit} bytes"),
        )
    }
    /// 1153: a statement that became longer than the server's `max_allowed_packet`, with what belongs to it.
    pub fn above_packet(xid: &str, limit: usize) -> SqlError {
        let text = format!("a statement, with its images, of more than max_allowed_packet = {limit} bytes");
        Self::new(ER_NET_PACKET_TOO_LARGE, b"08S01", xid, &text)
    }
    /// 1153: a row that could not be read, or put back, within the server's `max_allowed_packet`.
    pub fn not_restorable(xid: &str, why: &str) -> SqlError {
        Self::new(ER_NET_PACKET_TOO_LARGE, b"08S01", xid, &format!("refused in a global transaction: {why}"))
    }
    /// 1047: a command that is not known, in the servers' words.
    pub fn unknown_command() -> SqlError {
        SqlError { code: ER_UNKNOWN_COM_ERROR, state: b"08S01", message: "Unknown command".into() }
    }
    /// 1156: a command whose packet has another number than 0, in the servers' words.
    pub fn out_of_order() -> SqlError {
        SqlError {
            code: ER_NET_PACKETS_OUT_OF_ORDER,
            state: b"08S01",
            message: "Got packets out of order".into(),
        }
    }
    /// 1192: binding while the session holds table locks, which a local transaction would release.
    pub fn locked_tables(xid: &str) -> SqlError {
        Self::new(
            ER_LOCK_OR_ACTIVE_TRANSACTION,
            b"HY000",
            xid,
            "the session holds table locks (LOCK TABLES): release them before it is bound",
        )
    }
    /// 1835: a command whose packet does not decode, in the server's words.
    pub fn malformed_packet() -> SqlError {
        SqlError {
            code: ER_MALFORMED_PACKET,
            state: b"HY000",
            message: "Malformed communication packet.".into(),
        }
    }
    /// 1243: a prepared statement that this session does not have, in the server's words.
    pub fn unknown_statement(id: u32, mariadb: bool) -> SqlError {
        let by = if mariadb { "mysqld_stmt_execute" } else { "mysql_stmt_precheck" };
        let message = format!("Unknown prepared statement handler ({id}) given to {by}");
        SqlError { code: ER_UNKNOWN_STMT_HANDLER, state: b"HY000", message }
    }
    /// 1210: parameters of a prepared statement that do not decode.
    pub fn bad_parameters(detail: &str) -> SqlError {
        Self::new(
            ER_WRONG_ARGUMENTS,
            b"HY000",
            "",
            &format!("the parameters of a prepared statement do not decode: {detail}"),
        )
    }
    /// 1210: another number of parameters than a statement has, in the server's own words.
    pub fn wrong_arguments(of: &str) -> SqlError {
        SqlError {
            code: ER_WRONG_ARGUMENTS,
            state: b"HY000",
            message: format!("Incorrect arguments to {of}"),
        }
    }
    /// 1461: more prepared statements than `max_prepared_statements`.
    pub fn too_many_statements(limit: usize) -> SqlError {
        Self::new(
            ER_MAX_PREPARED_STMT_COUNT_REACHED,
            b"42000",
            "",
            &format!("a session may hold max_prepared_statements = {limit}"),
        )
    }
    /// 1040: more connections than `max_connections`.
    pub fn too_many_connections(limit: usize) -> SqlError {
        Self::new(
            ER_CON_COUNT_ERROR,
            b"08004",
            "",
            &format!("too many connections: max_connections = {limit}"),
        )
    }
    /// 1040: one of the coordinator's limits is reached, which `detail` names.
    pub fn limit_reached(xid: &str, detail: &str) -> SqlError {
        Self::new(
            ER_CON_COUNT_ERROR,
            b"08004",
            xid,
            &format!("a limit of the coordinator is reached: {detail}"),
        )
    }
    /// 1040: the images of all sessions take more than `max_memory`.
    pub fn memory(xid: &str, limit: usize) -> SqlError {
        let text = format!(
            "the images of the statement, with those of all other sessions, are above limits.max_memory = {limit}: try again later"
        );
        Self::new(ER_CON_COUNT_ERROR, b"08004", xid, &text)
    }
    /// 1429: whether a global transaction was committed is not known.
    pub fn outcome_unknown(xid: &str, detail: &str) -> SqlError {
        let text = format!(
            "the coordinator cannot be reached: {detail}; whether the global transaction was committed is not known: send COMMIT \
             GLOBAL TRANSACTION again in this session, which tells, or ask GET /v1/transactions/{xid}"
        );
        Self::new(ER_CONNECT_TO_FOREIGN_DATA_SOURCE, b"HY000", xid, &text)
    }
    /// 1043: a handshake that does not decode.
    pub fn bad_handshake(detail: &str) -> SqlError {
        Self::new(ER_HANDSHAKE_ERROR, b"08S01", "", &format!("bad handshake: {detail}"))
    }

    /// 1235: a client of the protocol before 4.1 in whose statements there is a word of Atone's own.
    pub fn protocol_too_old() -> SqlError {
        let text = "a client of the protocol before 4.1 cannot take part in global transactions";
        Self::new(ER_NOT_SUPPORTED_YET, b"42000", "", text)
    }

    /// 1045: a login that must not be.
    pub fn access_denied(user: &[u8], detail: &str) -> SqlError {
        let user = String::from_utf8_lossy(user);
        Self::new(ER_ACCESS_DENIED_ERROR, b"28000", "", &format!("Access denied for user '{user}': {detail}"))
    }

    /// 1159: a client that was silent in its login for `handshake_timeout`.
    pub fn handshake_timeout(limit: Duration) -> SqlError {
        Self::new(
            ER_NET_READ_INTERRUPTED,
            b"08S01",
            "",
            &format!(
                "the client did not go on with its login in handshake_timeout = {}",
                format_duration(limit)
            ),
        )
    }

    /// 4031: a client that was silent for `idle_timeout`.
    pub fn idle(limit: Duration) -> SqlError {
        let limit = format_duration(limit);
        let text =
            format!("the client was disconnected because of inactivity: timeouts.idle_timeout = {limit}");
        Self::new(ER_CLIENT_INTERACTION_TIMEOUT, b"HY000", "", &text)
    }

    /// 3159: a connection, or what was to be sent on it, needs TLS.
    pub fn insecure_transport(detail: &str) -> SqlError {
        let text = format!("Connections using insecure transport are prohibited: {detail}");
        Self::new(ER_SECURE_TRANSPORT_REQUIRED, b"HY000", "", &text)
    }

    /// The ERR packet.
    pub fn err(&self) -> ErrPacket {
        ErrPacket { code: self.code, sql_state: *self.state, message: self.message.clone().into_bytes() }
    }

    /// Whether an ERR packet is Atone's own.
    pub fn made(error: &ErrPacket) -> bool {
        error.message.starts_with(b"atone:")
    }

    /// The ERR packet's payload.
    pub fn packet(&self) -> Vec<u8> {
        self.err().encode()
    }

    /// The ERR packet's payload before the greeting, when a client does not know of SQL states yet.
    pub fn early_packet(&self) -> Vec<u8> {
        let mut out = vec![0xff];
        out.extend_from_slice(&self.code.to_le_bytes());
        out.extend_from_slice(self.message.as_bytes());
        out
    }
}

/// Why a session ended, or what it did. None of these harms another session.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The client closed or its socket broke.
    #[error("client: {0}")]
    Client(io::Error),
    /// The server closed or its socket broke.
    #[error("server: {0}")]
    Server(io::Error),
    /// A packet that cannot be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The client has said QUIT, or was told why it must go.
    #[error("done")]
    Done,
    /// The server's error in a statement of the proxy's own: what it served ends with it, and the session only where
    /// the connection does.
    #[error("a statement of our own: {0}")]
    Fault(Fault),
    /// Something that must not be; the session ends, so that nothing is committed.
    #[error("broken: {0}")]
    Broken(String),
}

/// How much has ended with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The statement only.
    Statement,
    /// The local transaction: the server has rolled it back.
    Transaction,
    /// The connection: what is open on it is rolled back with it.
    Connection,
}

/// An error of the server's in a statement of the proxy's own, and how much has ended with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What the server said.
    pub error: ErrPacket,
    /// What has ended.
    pub extent: Extent,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.error.code, String::from_utf8_lossy(&self.error.message))
    }
}
