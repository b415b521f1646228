//! The proxy: relays the MySQL protocol, and in a bound session captures images, takes global locks and writes the undo
//! record; on the coordinator's word it does phase two.

pub mod backend;
pub mod capture;
pub mod compressed;
pub mod config;
pub mod error;
mod heavy;
pub mod http;
pub mod listener;
pub mod load_file;
pub mod memory;
pub mod meta;
pub mod net;
pub mod own_user;
pub mod params;
pub mod phase_two;
pub mod rights;
pub mod rounds;
pub mod run;
#[cfg(test)]
mod samples;
pub mod service;
pub mod session;
pub mod tls;
mod typed;
pub mod undo_logs;
pub mod views;
pub mod waits;
