//! Where a server is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// Where a server is: `host:port`, `[ipv6]:port`, or `unix:/path/to.sock`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("unix: has no path".to_owned()),
            Some(path) => Ok(Address::Unix(path.into())),
            None => match host_port(text)? {
                (_, 0) => Err(format!("{text:?} has no valid port: it is 0")),
                (host, port) => Ok(Address::Tcp(host.to_owned(), port)),
            },
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Address, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The host and the port of `host:port` or `[ipv6]:port`; the host comes without its brackets.
///
/// # Errors
/// Why the text is not of this form.
pub fn host_port(text: &str) -> Result<(&str, u16), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port: it is not of the form host:port"));
    };
    let port =
        port.parse().map_err(|_| format!("{text:?} has no valid port: it is not of the form host:port"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(format!("{text:?} has no host: it is not of the form host:port"));
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, address) in [
            ("db.local:3306", Address::Tcp("db.local".to_owned(), 3306)),
            ("[::1]:3307", Address::Tcp("::1".to_owned(), 3307)),
            ("unix:/run/my.sock", Address::Unix("/run/my.sock".into())),
        ] {
            let parsed: Address = text.parse().unwrap();
            assert_eq!(parsed, address);
            assert_eq!(parsed.to_string(), text);
        }
        for (text, part) in [
            ("localhost", "has no port"),
            ("localhost:", "no valid port"),
            ("localhost:x", "no valid port"),
            ("localhost:0", "no valid port"),
            ("localhost:65536", "no valid port"),
            (":3306", "has no host"),
            ("[]:3306", "has no host"),
            ("unix:", "no path"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(host_port("localhost:0"), Ok(("localhost", 0)));
    }
}
