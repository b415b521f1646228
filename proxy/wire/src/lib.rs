//! Packets and framing of the MySQL client/server protocol, without I/O.
//!
//! Sources: the "Client/Server Protocol" pages of the MySQL internals documentation and of the MariaDB knowledge base;
//! each decoder names the packet it follows. Decoders work on the payload of one packet (frames joined, header taken
//! off), never panic, and report [`Malformed`] for what does not fit.

pub mod attributes;
pub mod binary;
pub mod caps;
pub mod column;
pub mod command;
pub mod compress;
pub mod error_code;
pub mod execute;
pub mod frame;
pub mod handshake;
pub mod proxy_protocol;
pub mod read;
pub mod reply;
pub mod response;

pub use read::Malformed;
