//! A client of the MySQL protocol that hides nothing: any capabilities, transports and bytes, and every packet of an
//! answer. It shares no code with the proxy, so that both cannot be wrong in the same way.
//!
//! [`RawConn`] sends and reads packets. [`Session`] logs in with it and follows each reply to its end with [`reply`],
//! which also takes packets apart into named fields.

pub mod auth;
pub mod caps;
mod compress;
mod conn;
mod fields;
pub mod payload;
mod read;
pub mod reply;
mod session;
mod values;

pub use compress::Compression;
pub use conn::{Ended, Packet, RawConn, error_packet};
pub use fields::{Decoded, shown};
pub use reply::{Reply, Shape, Then};
pub use session::{Greeting, Login, Refused, Session};
