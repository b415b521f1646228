//! How long others wait. These tests measure time, so `scripts/test` runs nothing beside this program.

mod large;
mod local_waits;
mod locks;
