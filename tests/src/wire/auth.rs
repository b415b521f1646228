//! What a client answers to each authentication plugin.

use anyhow::{Context as _, Result, bail, ensure};
use mysql_common::{crypto, scramble};

/// One login's way to show its password.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The plugin that the two sides speak now.
    pub plugin: String,
    password: Vec<u8>,
    salt: Vec<u8>,
    /// Whether nobody else can read the connection.
    private: bool,
    asked_for_key: bool,
}

impl Auth {
    /// Begins with this plugin and salt. `private` is whether a password may be sent in the clear.
    pub fn new(plugin: &str, salt: &[u8], password: &str, private: bool) -> Self {
        Self {
            plugin: plugin.to_owned(),
            password: password.as_bytes().to_vec(),
            // 20 bytes have a zero byte after them; others are as they are, zero at the end or not
            salt: salt.get(..20).filter(|_| salt.len() == 21).unwrap_or(salt).to_vec(),
            private,
            asked_for_key: false,
        }
    }

    /// What is sent first.
    pub fn first(&mut self) -> Result<Vec<u8>> {
        let (salt, password) = (self.salt.as_slice(), self.password.as_slice());
        Ok(match self.plugin.as_str() {
            "mysql_native_password" => {
                scramble::scramble_native(salt, password).map(|s| s.to_vec()).unwrap_or_default()
            }
            "caching_sha2_password" => {
                scramble::scramble_sha256(salt, password).map(|s| s.to_vec()).unwrap_or_default()
            }
            "client_ed25519" => scramble::create_response_for_ed25519(password, salt).to_vec(),
            "mysql_clear_password" | "dialog" => self.clear(),
            "sha256_password" if password.is_empty() => vec![0],
            "sha256_password" if self.private => self.clear(),
            "sha256_password" => {
                self.asked_for_key = true;
                vec![1]
            }
            // unix_socket and plugins that the client has not: nothing to say
            _ => Vec::new(),
        })
    }

    /// The answer to more data from the server (after the byte 0x01); `None` where it needs none.
    pub fn more(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.asked_for_key {
            self.asked_for_key = false;
            return self.encrypted(data).map(Some);
        }
        match (self.plugin.as_str(), data) {
            ("caching_sha2_password", [3]) => Ok(None),
            ("caching_sha2_password", [4]) if self.private => Ok(Some(self.clear())),
            ("caching_sha2_password", [4]) => {
                self.asked_for_key = true;
                Ok(Some(vec![2]))
            }
            (plugin, data) => bail!("{plugin} says {data:?}"),
        }
    }

    fn clear(&self) -> Vec<u8> {
        let mut text = self.password.clone();
        text.push(0);
        text
    }

    fn encrypted(&self, key: &[u8]) -> Result<Vec<u8>> {
        ensure!(key.starts_with(b"-----BEGIN PUBLIC KEY-----"), "not a public key: {key:?}");
        ensure!(!self.salt.is_empty(), "there is no salt");
        let mut text = self.clear();
        for (byte, salt) in text.iter_mut().zip(self.salt.iter().cycle()) {
            *byte ^= salt;
        }
        Ok(crypto::encrypt(&text, key))
    }
}

/// Plugin and salt of the server's request for another plugin (after the byte 0xfe).
pub fn switch(payload: &[u8]) -> Result<(String, Vec<u8>)> {
    let mut rest = super::read::Reader(payload);
    let plugin = String::from_utf8(rest.zero_ended().to_vec()).context("a plugin's name")?;
    Ok((plugin, rest.0.to_vec()))
}
