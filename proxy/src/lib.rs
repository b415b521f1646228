//! The proxy: relays the MySQL protocol, and in a bound session captures images, takes global locks and writes the undo
//! record; on the coordinator's word it does phase two.

pub mod backend;
pub mod branch;
pub mod compressed;
pub mod config;
pub mod error;
mod heavy;
pub mod http;
pub mod listener;
pub mod load_file;
pub mod memory;
pub mod net;
pub mod own_user;
pub mod params;
pub mod phase_two;
pub mod run;
pub mod session;
pub mod tls;
pub mod waits;

// The former homes of what is in crates of its own, for `session`
use atone_facts as meta;
use atone_facts as numbered;
use atone_facts as undo_logs;
use atone_facts as views;
#[cfg(test)]
use atone_facts::samples;
