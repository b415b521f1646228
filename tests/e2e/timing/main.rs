//! How long others wait, and how much is done in a time. `scripts/test` runs nothing beside this program.

mod chaos;
mod large;
mod local_waits;
mod locks;
mod sizes;
mod soak;
