//! What a cluster goes through: servers, daemons and clients that are killed or fail, full and large ones, and other
//! settings. Most tests have a cluster of their own.

mod deaths;
mod faults;
mod full_server;
mod globals;
mod harness;
mod interrupted;
mod many_tables;
mod memory;
mod parts;
mod recovery;
mod rollback_wait;
mod undo_rows;
