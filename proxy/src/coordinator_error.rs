//! What the coordinator's answers come to for a client.

use atone_api::ClientError;
use atone_api::proto::ErrorCode;
use atone_capture::error::SqlError;

/// What the coordinator's answer comes to for the client.
pub(crate) fn of_coordinator(xid: &str, error: &ClientError) -> SqlError {
    match error {
        ClientError::Unavailable(why) => {
            SqlError::unavailable(xid, &format!("the coordinator cannot be reached: {why}"))
        }
        ClientError::Refused(e) => match e.code() {
            ErrorCode::UnknownXid => SqlError::unknown_xid(xid),
            ErrorCode::Ended => SqlError::ended(xid, &e.message),
            ErrorCode::RolledBack => SqlError::rolled_back(xid),
            ErrorCode::TimedOut => SqlError::timed_out(xid),
            ErrorCode::LockTimeout => {
                SqlError::lock_timeout(xid, &format!("{} is held by {}", e.lock, e.holder_xid))
            }
            ErrorCode::LockDeadlock => SqlError::lock_conflict(xid, &e.message),
            ErrorCode::Invalid => SqlError::refused(xid, &e.message),
            ErrorCode::LimitReached => SqlError::limit_reached(xid, &e.message),
            ErrorCode::Unavailable | ErrorCode::Unspecified => SqlError::unavailable(xid, &e.message),
        },
    }
}
