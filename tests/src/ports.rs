//! Free TCP ports for daemons that can't tell which port they got.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};

/// This port where nobody listens on it, else any free one.
pub fn preferably(port: u16) -> Result<u16> {
    if TcpStream::connect(("127.0.0.1", port)).is_err() { Ok(port) } else { free_port() }
}

/// Below Linux's range for outgoing connections, so that none of those takes the port in between.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// A port on 127.0.0.1 that nobody listens on, and that this process gets only once.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(211);
    for _ in 0..COUNT {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(n) % COUNT;
        let Ok(port) = u16::try_from(port) else { continue };
        // Asked by connecting: a listening socket of our own could live on for a moment in a child that another thread
        // is just about to start.
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}
