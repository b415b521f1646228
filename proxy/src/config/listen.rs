//! Where clients connect, and from where.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

/// Where a backend listens: `address:port`, or `unix:/path/to.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Listen, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: has no path".into()),
            Some(path) => Ok(Listen::Unix(path.into())),
            None => match text.parse() {
                Ok(address) => Ok(Listen::Tcp(address)),
                Err(_) => Err(format!("'{text}' is neither address:port nor unix:/path")),
            },
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// From where clients come: an address, a network such as `10.0.0.0/8`, or `unix` for a Unix socket's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Network {
    /// The addresses that begin as this one does.
    Ip {
        /// The network's own address.
        address: IpAddr,
        /// How many bits they have in common.
        bits: u8,
    },
    /// A Unix socket's clients.
    Unix,
}

impl Network {
    /// Whether a client with this address, or with none, is of this network.
    pub fn contains(&self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Network::Unix, None) => true,
            (Network::Ip { address, bits }, Some(client)) => {
                network(client.to_canonical(), *bits) == Some(*address)
            }
            _ => false,
        }
    }
}

/// The address with all but its first bits 0; `None` where it has not as many.
fn network(address: IpAddr, bits: u8) -> Option<IpAddr> {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32u32.checked_sub(bits)?).unwrap_or(0);
            Some(IpAddr::V4((v4.to_bits() & mask).into()))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128u32.checked_sub(bits)?).unwrap_or(0);
            Some(IpAddr::V6((v6.to_bits() & mask).into()))
        }
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Network, String> {
        if text == "unix" {
            return Ok(Network::Unix);
        }
        let bad = || format!("'{text}' is no network");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| bad())?)),
            None => (text.as_str(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        if network(address, bits) != Some(address) {
            return Err(bad());
        }
        Ok(Network::Ip { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_begins_as_they_do() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.6/31", "::ffff:192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "2001::1", "10.0.0.1"),
            ("::1", "::1", "::2"),
        ] {
            let network = Network::try_from(text.to_string()).unwrap();
            assert!(network.contains(Some(inside.parse().unwrap())), "{text}");
            assert!(!network.contains(Some(outside.parse().unwrap())), "{text}");
            assert!(!network.contains(None));
        }
        assert!(Network::Unix.contains(None) && !Network::Unix.contains(Some([127, 0, 0, 1].into())));
    }
}
