//! The PROXY protocol, versions 1 and 2: a header before all else on a connection, by which a proxy says for whom
//! it comes. Source: "The PROXY protocol", HAProxy Technologies, revision of 2020.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::Malformed;

/// The longest header of version 1, in bytes, its line's end included.
const MAX_V1: usize = 107;
/// The longest header of version 2 that is taken, in bytes.
const MAX_V2: usize = 4096;

const V1_START: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of version 2's fixed part, in bytes.
const V2_FIXED: usize = 16;
const V2_LOCAL: u8 = 0x20;
const V2_PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// For whom a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client, and what it has connected to.
    Client {
        /// The client's address.
        source: SocketAddr,
        /// The address that it has connected to.
        destination: SocketAddr,
    },
    /// The proxy itself, or somebody without an IP address.
    Other,
}

/// Reads the header at the start of `buf`: its length in bytes, and what it says. `Ok(None)` where more bytes are
/// needed.
///
/// # Errors
/// It is no header, or a longer one than [`MAX_V1`] or [`MAX_V2`].
pub fn parse(buf: &[u8]) -> Result<Option<(usize, Origin)>, Malformed> {
    if starts(buf, V2_SIGNATURE) {
        parse_v2(buf)
    } else if starts(buf, V1_START) {
        parse_v1(buf)
    } else {
        Err(Malformed("no PROXY header"))
    }
}

/// Whether `buf` begins with `start`, as far as it goes.
fn starts(buf: &[u8], start: &[u8]) -> bool {
    let n = buf.len().min(start.len());
    buf[..n] == start[..n]
}

fn parse_v1(buf: &[u8]) -> Result<Option<(usize, Origin)>, Malformed> {
    let end = memchr::memchr(b'\n', &buf[..buf.len().min(MAX_V1)]);
    let Some(end) = end else {
        return if buf.len() < MAX_V1 { Ok(None) } else { Err(Malformed("a PROXY header without its end")) };
    };
    let line = buf[..end].strip_suffix(b"\r").ok_or(Malformed("a PROXY header that ends without CR"))?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed("a PROXY header that is not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(Malformed("a PROXY header that lacks something"));
    let family = word()?;
    if family == "UNKNOWN" {
        return Ok(Some((end + 1, Origin::Other)));
    }
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Malformed("a PROXY header with too much in it"));
    }
    let address = |text: &str| -> Result<IpAddr, Malformed> {
        let parsed = match family {
            "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::from),
            _ => return Err(Malformed("a PROXY header for another protocol")),
        };
        parsed.map_err(|_| Malformed("a PROXY header with what is no address"))
    };
    let origin = Origin::Client {
        source: SocketAddr::new(address(source)?, source_port),
        destination: SocketAddr::new(address(destination)?, destination_port),
    };
    Ok(Some((end + 1, origin)))
}

fn port(text: &str) -> Result<u16, Malformed> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    let parsed = text.parse().ok().filter(|_| digits && !leading_zero);
    parsed.ok_or(Malformed("a PROXY header with what is no port"))
}

fn parse_v2(buf: &[u8]) -> Result<Option<(usize, Origin)>, Malformed> {
    let Some(fixed) = buf.first_chunk::<V2_FIXED>() else { return Ok(None) };
    let len = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let (command, family) = (fixed[12], fixed[13]);
    if command != V2_LOCAL && command != V2_PROXY {
        return Err(Malformed("a PROXY header of another version or command"));
    }
    if len > MAX_V2 {
        return Err(Malformed("a PROXY header that is too long"));
    }
    let Some(rest) = buf.get(V2_FIXED..len) else { return Ok(None) };
    let short = Malformed("a PROXY header that lacks something");
    let origin = match (command, family) {
        (V2_LOCAL, _) => Origin::Other,
        (_, TCP4) => {
            let &[a, b, c, d, e, f, g, h, i, j, k, l] = rest.first_chunk().ok_or(short)?;
            Origin::Client {
                source: SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([i, j])),
                destination: SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), u16::from_be_bytes([k, l])),
            }
        }
        (_, TCP6) => {
            let (source, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
            let &[i, j, k, l] = rest.first_chunk().ok_or(short)?;
            Origin::Client {
                source: SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes([i, j])),
                destination: SocketAddr::new(Ipv6Addr::from(*destination).into(), u16::from_be_bytes([k, l])),
            }
        }
        // AF_UNSPEC and AF_UNIX with a stream, or with nothing said
        (_, 0x00 | 0x01 | 0x30 | 0x31) => Origin::Other,
        _ => return Err(Malformed("a PROXY header for another protocol")),
    };
    Ok(Some((len, origin)))
}

/// A header of version 1.
pub fn v1(origin: Origin) -> Vec<u8> {
    let Origin::Client { source, destination } = origin else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (from, to, family) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (from.to_string(), to.to_string(), "TCP4"),
        (from, to) => (v6(from).to_string(), v6(to).to_string(), "TCP6"),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

/// A header of version 2.
pub fn v2(origin: Origin) -> Vec<u8> {
    let mut out = V2_SIGNATURE.to_vec();
    let Origin::Client { source, destination } = origin else {
        out.extend_from_slice(&[V2_LOCAL, 0, 0, 0]);
        return out;
    };
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out.extend_from_slice(&[V2_PROXY, TCP4, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        (from, to) => {
            out.extend_from_slice(&[V2_PROXY, TCP6, 0, 36]);
            out.extend_from_slice(&v6(from).octets());
            out.extend_from_slice(&v6(to).octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
    out
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, destination: &str) -> Origin {
        Origin::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
    }

    #[test]
    fn what_is_written_is_read() {
        for origin in [
            client("192.0.2.1:56324", "10.0.0.1:443"),
            client("[2001:db8::1]:1", "[::1]:65535"),
            client(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
            Origin::Other,
        ] {
            for header in [v1(origin), v2(origin)] {
                let more = [&header[..], b"\x0a9.7.0"].concat();
                assert_eq!(parse(&more), Ok(Some((header.len(), origin))));
                for end in 0..header.len() {
                    assert_eq!(parse(&header[..end]), Ok(None), "{end}");
                }
            }
        }
        let mixed = parse(&v2(client("192.0.2.1:5", "[::1]:6"))).unwrap().unwrap().1;
        assert_eq!(mixed, client("[::ffff:192.0.2.1]:5", "[::1]:6"));
        let mixed = parse(&v1(client("[::1]:5", "192.0.2.1:6"))).unwrap().unwrap().1;
        assert_eq!(mixed, client("[::1]:5", "[::ffff:192.0.2.1]:6"));
    }

    #[test]
    fn version_1_is_read_strictly() {
        assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Ok(Some((15, Origin::Other))));
        assert_eq!(parse(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), Ok(Some((35, Origin::Other))));
        for bad in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY \r\n",
            "PROXZ",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
        assert_eq!(parse(&endless[..MAX_V1 - 1]), Ok(None));
        assert!(parse(&endless[..MAX_V1]).is_err());
        assert!(parse(&endless).is_err());
    }

    #[test]
    fn version_2_skips_what_it_does_not_know() {
        let mut header = v2(client("192.0.2.1:1", "192.0.2.2:2"));
        header[15] = 12 + 6;
        header.extend_from_slice(&[0x04, 0, 3, b'a', b'b', b'c']);
        assert_eq!(parse(&header), Ok(Some((34, client("192.0.2.1:1", "192.0.2.2:2")))));
        let fixed = |command, family, len: u16| {
            let len = len.to_be_bytes();
            [&V2_SIGNATURE[..], &[command, family, len[0], len[1]], &[7; 300]].concat()
        };
        assert_eq!(parse(&fixed(0x20, 0x99, 5)), Ok(Some((21, Origin::Other))));
        assert_eq!(parse(&fixed(0x21, 0x31, 216)), Ok(Some((232, Origin::Other))));
        assert_eq!(parse(&fixed(0x21, 0x00, 0)), Ok(Some((16, Origin::Other))));
        for (command, family, len) in
            [(0x11, 0x11, 12), (0x22, 0x11, 12), (0x21, 0x12, 12), (0x21, 0x11, 11), (0x21, 0x21, 35)]
        {
            assert!(parse(&fixed(command, family, len)).is_err(), "{command:x} {family:x} {len}");
        }
        assert!(parse(&fixed(0x20, 0, 4081)).is_err());
        assert_eq!(parse(&fixed(0x20, 0, 4080)), Ok(None));
    }
}
