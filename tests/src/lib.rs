//! The harness of the end-to-end tests and of the demo: real MariaDB and MySQL servers in private folders on free
//! ports, the project's real binaries in front of them, and what is needed to talk to each.
//!
//! Nothing is left behind: servers and daemons end with the process that started them, also when it is killed, and the
//! folders are removed by a watchdog that outlives it.
//!
//! The binaries are not built by this crate; `cargo build --workspace` first.

pub mod case;
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod daemon;
pub mod demo;
pub mod effects;
pub mod flavor;
pub mod other_build;
pub mod own;
pub mod paths;
pub mod per_flavor;
pub mod ports;
pub mod proc;
pub mod process;
pub mod rest;
pub mod run;
pub mod server;
pub mod sql;
pub mod wait;
pub mod wire;

pub use cluster::{Bank, Cluster, ClusterOptions};
pub use flavor::Flavor;
pub use per_flavor::PerFlavor;
pub use run::run;
pub use server::Server;
