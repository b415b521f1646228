//! The user that this process runs as. A server behind a Unix socket sees it instead of the application's, and takes it
//! for the proof of an account's plugin `unix_socket` or `auth_socket`.

use nix::unistd::{User, geteuid};

/// The user that this process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnUser {
    uid: u32,
    /// `None` where the system knows no name for it.
    name: Option<String>,
}

impl OwnUser {
    /// Asks the system.
    ///
    /// # Errors
    /// The system cannot be asked for its users.
    pub fn find() -> Result<OwnUser, String> {
        let uid = geteuid();
        let user = User::from_uid(uid).map_err(|e| format!("the name of user {uid}: {e}"))?;
        Ok(OwnUser { uid: uid.as_raw(), name: user.map(|user| user.name) })
    }

    /// Whether a client may log in to `account`: not to the one of this user's name, unless it is this user itself.
    pub fn may_log_in_as(&self, account: &[u8], client_uid: Option<u32>) -> bool {
        self.name.as_ref().is_none_or(|name| name.as_bytes() != account) || client_uid == Some(self.uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_for_the_user_itself() {
        let own = OwnUser { uid: 7, name: Some("proxy".into()) };
        assert!(own.may_log_in_as(b"app", None) && own.may_log_in_as(b"Proxy", Some(0)));
        assert!(own.may_log_in_as(b"proxy", Some(7)));
        assert!(!own.may_log_in_as(b"proxy", Some(0)) && !own.may_log_in_as(b"proxy", None));
        assert!(OwnUser { uid: 7, name: None }.may_log_in_as(b"", None));
        assert!(OwnUser::find().is_ok());
    }
}
