//! The proxy: relays the MySQL protocol, and in a bound session captures images, takes global locks and writes the undo
//! record; on the coordinator's word it does phase two.

pub mod backend;
pub mod compressed;
pub mod config;
mod coordinator_error;
mod heavy;
pub mod http;
pub mod listener;
pub mod local_waits;
pub mod memory;
pub mod net;
pub mod own_user;
pub mod phase_two;
pub mod run;
pub mod session;
pub mod tls;
pub mod waits;
