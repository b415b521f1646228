//! Another login on the same connection.

use atone_wire::caps::status;
use atone_wire::handshake::{Proof, user_of_change_user};

use super::Session;
use super::login::{authenticate, begin, legs, may_log_in, refuse};
use atone_capture::error::End;

impl Session {
    /// `COM_CHANGE_USER`
    pub(super) async fn change_user(&mut self, payload: &[u8]) -> Result<(), End> {
        if let Err(error) =
            may_log_in(&self.link.backend, self.link.client.peer_uid(), user_of_change_user(payload))
        {
            return Err(refuse(&mut self.link.client, 1, &error).await?);
        }
        let legs = legs(&self.link.client, self.link.server.in_login());
        let proof = Proof::of_change_user(payload, self.link.capabilities);
        // The salt is that of the request for a plugin which the server answers with
        let auth = match begin(legs, self.link.mariadb, proof, &[]) {
            Ok(auth) => auth,
            Err(error) => return Err(refuse(&mut self.link.client, 1, &error).await?),
        };
        self.link.send_change_user(payload).await?;
        self.link.expect_more(true);
        let status =
            authenticate(&mut self.link.client, self.link.server.in_login(), auth, 0, 1, None).await?;
        self.link.expect_more(false);
        // Where it fails MySQL closes, and MariaDB goes on with the former user; the rest it has forgotten by then
        self.forget_session();
        self.link.status =
            status.unwrap_or(self.link.status & !(status::IN_TRANS | status::IN_TRANS_READONLY));
        Ok(())
    }
}
