//! Passwords on the way between two legs of which only one is private (TLS, or a Unix socket to the server).
//!
//! A client whose own leg is TLS sends its password in the clear where the plugin allows it, not knowing about the
//! other leg; a server whose own leg is private expects it in the clear. Where both legs are alike that is as it
//! would be without the proxy, and everything is relayed.

use atone_wire::handshake::{PluginRequest, Proof};

/// Plugins that prove the knowledge of a password, or something else, without showing it.
const SECRETIVE: &[&[u8]] = &[
    b"mysql_native_password",
    b"mysql_old_password",
    b"client_ed25519",
    b"parsec",
    b"auth_gssapi_client",
    b"authentication_kerberos_client",
    b"authentication_ldap_sasl_client",
    b"authentication_webauthn_client",
    b"authentication_fido_client",
];
/// Plugins that send the password as it is.
const CLEAR: &[&[u8]] = &[b"mysql_clear_password", b"dialog", b"authentication_openid_connect_client"];
const CACHING_SHA2: &[u8] = b"caching_sha2_password";
const SHA256: &[u8] = b"sha256_password";
/// Length of caching_sha2_password's scramble, in bytes.
const SCRAMBLE: usize = 32;

/// What is under the two legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Legs {
    /// Whether the client's leg is TLS.
    pub(super) client_tls: bool,
    /// Whether the client's leg is a Unix socket.
    pub(super) client_unix: bool,
    /// Whether the server's leg is TLS.
    pub(super) server_tls: bool,
    /// Whether the server's leg is a Unix socket.
    pub(super) server_unix: bool,
}

/// Which legs are private, as a plugin sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Private {
    /// Both or none.
    Alike,
    /// The client may send what must not be seen on the way to the server.
    OnlyClient,
    /// The server expects what the client must not send.
    OnlyServer,
}

impl Legs {
    fn private(self, plugin: &[u8]) -> Private {
        // To sha256_password a Unix socket is no better than TCP
        let unix = plugin != SHA256;
        let client = self.client_tls || (self.client_unix && unix);
        let server = self.server_tls || (self.server_unix && unix);
        match (client, server) {
            (true, false) => Private::OnlyClient,
            (false, true) => Private::OnlyServer,
            _ => Private::Alike,
        }
    }

    /// Whether everything can be relayed, whatever the plugin.
    pub(super) fn are_alike(self) -> bool {
        self.client_tls == self.server_tls
            && (self.client_tls || self.client_unix) == (self.server_tls || self.server_unix)
    }
}

/// What becomes of a packet from the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is passed on.
    Forward,
    /// It is a password, to be encrypted with the key that the server gives for this request.
    Encrypt {
        /// The packet that asks for the key.
        request: u8,
    },
    /// It asks for a key: it gets the proxy's own.
    GiveKey,
    /// It is a password, encrypted with that key; the server gets it as it is.
    Decrypt,
}

/// Follows one authentication. A refusal says why the legs do not fit.
#[derive(Debug)]
pub(super) struct Auth {
    legs: Legs,
    mariadb: bool,
    plugin: Vec<u8>,
    salt: Vec<u8>,
    /// The plugin's next packet from the client is a scramble, not yet the password.
    scramble_due: bool,
    /// The client has asked for a key by itself.
    key_asked: bool,
}

impl Auth {
    /// Begins where the client proves itself for the first time: `proof`, scrambled with `salt`.
    pub(super) fn begin(legs: Legs, mariadb: bool, proof: Proof<'_>, salt: &[u8]) -> Result<Auth, String> {
        let auth = Auth {
            legs,
            mariadb,
            plugin: proof.plugin.to_vec(),
            salt: salt.to_vec(),
            scramble_due: false,
            key_asked: false,
        };
        let bad = match auth.private() {
            Private::Alike => false,
            _ if proof.plugin == CACHING_SHA2 => proof.data.len() != SCRAMBLE,
            Private::OnlyClient | Private::OnlyServer => auth.shows_passwords(),
        };
        if bad && !is_empty(proof.data) {
            return Err(auth.refusal());
        }
        Ok(auth)
    }

    /// Looks at a packet from the server before it is passed on.
    pub(super) fn server_says(&mut self, payload: &[u8]) -> Result<(), String> {
        let request = match payload {
            [0xfe] => PluginRequest { plugin: b"mysql_old_password", salt: &self.salt.clone() },
            [0xfe, rest @ ..] => PluginRequest::parse(rest),
            // AuthNextFactor, which MariaDB does not have: there it is a plugin's own packet
            [0x02, rest @ ..] if !self.mariadb => PluginRequest::parse(rest),
            _ => return Ok(()),
        };
        self.plugin = request.plugin.to_vec();
        self.salt = request.salt.to_vec();
        self.scramble_due = true;
        self.key_asked = false;
        let has_key = self.plugin == CACHING_SHA2 || self.plugin == SHA256;
        if self.shows_passwords() && !has_key { Err(self.refusal()) } else { Ok(()) }
    }

    fn private(&self) -> Private {
        self.legs.private(&self.plugin)
    }

    /// Whether the plugin, as far as is known, sends what must not cross these legs.
    fn shows_passwords(&self) -> bool {
        let plugin = self.plugin.as_slice();
        match self.private() {
            Private::Alike => false,
            // Without a name it is mysql_native_password
            Private::OnlyClient => !plugin.is_empty() && !SECRETIVE.contains(&plugin),
            Private::OnlyServer => plugin == SHA256 || CLEAR.contains(&plugin),
        }
    }

    /// Looks at a packet from the client before it is passed on.
    pub(super) fn client_says(&mut self, payload: &[u8]) -> Result<Answer, String> {
        let private = self.private();
        let request = match self.plugin.as_slice() {
            _ if private == Private::Alike => return Ok(Answer::Forward),
            CACHING_SHA2 => 0x02,
            SHA256 => 0x01,
            _ if is_empty(payload) || !self.shows_passwords() => return Ok(Answer::Forward),
            _ => return Err(self.refusal()),
        };
        let scramble = std::mem::take(&mut self.scramble_due) && self.plugin == CACHING_SHA2;
        if is_empty(payload) || (scramble && payload.len() == SCRAMBLE) {
            return Ok(Answer::Forward);
        }
        match (private, payload) {
            // What it sends after its request is encrypted
            (Private::OnlyClient, _) if self.key_asked => Ok(Answer::Forward),
            (Private::OnlyServer, _) if self.key_asked => {
                self.key_asked = false;
                Ok(Answer::Decrypt)
            }
            (Private::OnlyClient, &[byte]) if byte == request => {
                self.key_asked = true;
                Ok(Answer::Forward)
            }
            (Private::OnlyServer, &[byte]) if byte == request => {
                self.key_asked = true;
                Ok(Answer::GiveKey)
            }
            (Private::OnlyClient, [.., 0]) if !scramble => Ok(Answer::Encrypt { request }),
            _ => Err(self.refusal()),
        }
    }

    /// Whether the client has to answer what the server says, which is neither OK nor ERR.
    pub(super) fn is_asked(&self, payload: &[u8]) -> bool {
        // That the password is cached is followed by OK
        !(self.plugin == CACHING_SHA2 && payload == [0x01, 0x03])
    }

    /// What a password is XORed with before it is encrypted.
    pub(super) fn salt(&self) -> &[u8] {
        &self.salt
    }

    fn refusal(&self) -> String {
        let plugin = String::from_utf8_lossy(&self.plugin);
        match self.private() {
            Private::OnlyClient => format!(
                "the password of plugin {plugin} would cross the connection to the server in the clear; \
                 set server_tls in the proxy's configuration"
            ),
            Private::Alike | Private::OnlyServer => format!(
                "plugin {plugin} wants the password in the clear; connect to the proxy with TLS (its listen_tls)"
            ),
        }
    }
}

/// Nothing, or the empty password.
fn is_empty(data: &[u8]) -> bool {
    matches!(data, [] | [0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &[u8] = b"01234567890123456789";
    const ONLY_CLIENT: Legs =
        Legs { client_tls: true, client_unix: false, server_tls: false, server_unix: false };
    const ONLY_SERVER: Legs =
        Legs { client_tls: false, client_unix: false, server_tls: true, server_unix: false };

    fn begin(legs: Legs, plugin: &[u8], data: &[u8]) -> Result<Auth, String> {
        Auth::begin(legs, false, Proof { plugin, data }, SALT)
    }

    fn switch(plugin: &[u8]) -> Vec<u8> {
        [&[0xfe], plugin, b"\0abcdefghijabcdefghij\0"].concat()
    }

    #[test]
    fn a_password_never_leaves_a_private_leg() {
        let legs = ONLY_CLIENT;
        let mut auth = begin(legs, CACHING_SHA2, &[7; 32]).unwrap();
        assert_eq!(auth.server_says(&[1, 4]), Ok(()));
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Encrypt { request: 2 }));
        assert_eq!(auth.salt(), SALT);

        // A password as long as a scramble, where no scramble is due
        assert_eq!(
            auth.client_says(&[[b'x'; 31].as_slice(), &[0]].concat()),
            Ok(Answer::Encrypt { request: 2 })
        );

        auth.server_says(&switch(CACHING_SHA2)).unwrap();
        assert_eq!(auth.client_says(&[9; 32]), Ok(Answer::Forward));
        assert!(auth.client_says(b"no NUL").is_err());
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Encrypt { request: 2 }));
        assert_eq!(auth.salt(), b"abcdefghijabcdefghij");
        assert_eq!(auth.client_says(&[2]), Ok(Answer::Forward));
        assert_eq!(auth.client_says(&[9; 256]), Ok(Answer::Forward));

        auth.server_says(&switch(CACHING_SHA2)).unwrap();
        assert!(auth.client_says(b"secret\0").is_err());

        auth.server_says(&switch(SHA256)).unwrap();
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Encrypt { request: 1 }));

        assert!(auth.server_says(&switch(b"mysql_clear_password")).is_err());
        assert!(auth.server_says(&switch(b"dialog")).is_err());
        assert!(auth.server_says(&switch(b"never heard of")).is_err());
        assert!(auth.server_says(b"\x02mysql_clear_password\0").is_err());
        assert!(auth.server_says(&switch(b"mysql_native_password")).is_ok());
        assert_eq!(auth.client_says(&[9; 20]), Ok(Answer::Forward));

        // No request for another plugin: the client's own goes on
        let mut auth = begin(legs, b"dialog", b"").unwrap();
        assert!(auth.client_says(b"secret\0").is_err());

        for plugin in [SHA256, b"mysql_clear_password", b"never heard of", CACHING_SHA2] {
            assert!(begin(legs, plugin, b"secret\0").is_err());
            assert!(begin(legs, plugin, b"").is_ok());
        }
        assert!(begin(legs, b"", &[9; 20]).is_ok());
    }

    #[test]
    fn a_client_that_hides_its_password_gets_a_key() {
        let legs = ONLY_SERVER;
        let mut auth = begin(legs, CACHING_SHA2, &[7; 32]).unwrap();
        assert_eq!(auth.client_says(&[0]), Ok(Answer::Forward));
        for packet in [&[9; 256][..], b"secret\0"] {
            assert!(auth.client_says(packet).is_err());
        }
        assert_eq!(auth.client_says(&[2]), Ok(Answer::GiveKey));
        assert_eq!(auth.client_says(&[9; 256]), Ok(Answer::Decrypt));
        assert!(auth.client_says(&[9; 256]).is_err());
        auth.server_says(&switch(CACHING_SHA2)).unwrap();
        assert_eq!(auth.client_says(&[9; 32]), Ok(Answer::Forward));
        assert!(auth.client_says(&[9; 32]).is_err());
        auth.server_says(&switch(SHA256)).unwrap();
        assert!(auth.client_says(b"secret\0").is_err());
        assert_eq!(auth.client_says(&[1]), Ok(Answer::GiveKey));
        auth.server_says(&switch(b"mysql_native_password")).unwrap();
        assert_eq!(auth.client_says(&[9; 20]), Ok(Answer::Forward));
        assert!(auth.server_says(&switch(b"mysql_clear_password")).is_err());
        assert!(begin(legs, SHA256, &[1]).is_err());
    }

    #[test]
    fn legs_alike_are_relayed() {
        for tls in [false, true] {
            let legs = Legs { client_tls: tls, client_unix: false, server_tls: tls, server_unix: false };
            assert!(legs.are_alike());
            let mut auth = begin(legs, b"mysql_clear_password", b"secret\0").unwrap();
            auth.server_says(&switch(CACHING_SHA2)).unwrap();
            for packet in [&b"secret\0"[..], &[2], &[9; 256], b""] {
                assert_eq!(auth.client_says(packet), Ok(Answer::Forward));
            }
        }
    }

    #[test]
    fn a_unix_socket_is_private_but_to_sha256_password() {
        let legs = |client_tls| Legs { client_tls, client_unix: false, server_tls: false, server_unix: true };
        assert!(!legs(false).are_alike() && !legs(true).are_alike());
        let mut auth = begin(legs(true), CACHING_SHA2, &[7; 32]).unwrap();
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Forward));
        auth.server_says(&switch(SHA256)).unwrap();
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Encrypt { request: 1 }));
        let mut auth = begin(legs(false), CACHING_SHA2, &[7; 32]).unwrap();
        assert_eq!(auth.client_says(&[2]), Ok(Answer::GiveKey));
        auth.server_says(&switch(SHA256)).unwrap();
        assert_eq!(auth.client_says(&[1]), Ok(Answer::Forward));
        assert!(begin(legs(true), SHA256, b"secret\0").is_err());
    }

    #[test]
    fn a_clients_unix_socket_is_private_too() {
        let legs = |client_tls, server_tls, server_unix| Legs {
            client_tls,
            client_unix: true,
            server_tls,
            server_unix,
        };
        assert!(legs(false, false, true).are_alike() && legs(true, true, false).are_alike());
        assert!(!legs(true, false, true).are_alike() && !legs(false, true, false).are_alike());
        let mut auth = begin(legs(false, false, false), CACHING_SHA2, &[7; 32]).unwrap();
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Encrypt { request: 2 }));
        let mut auth = begin(legs(false, true, false), CACHING_SHA2, &[7; 32]).unwrap();
        assert_eq!(auth.client_says(b"secret\0"), Ok(Answer::Forward));
        auth.server_says(&switch(SHA256)).unwrap();
        assert_eq!(auth.client_says(&[1]), Ok(Answer::GiveKey));
        assert!(begin(legs(false, false, false), b"mysql_clear_password", b"secret\0").is_err());
    }

    #[test]
    fn mariadbs_plugins_speak_freely() {
        let proof = Proof { plugin: b"client_ed25519", data: b"" };
        let mut auth = Auth::begin(ONLY_CLIENT, true, proof, SALT).unwrap();
        assert_eq!(auth.server_says(b"\x02never heard of"), Ok(()));
    }
}
