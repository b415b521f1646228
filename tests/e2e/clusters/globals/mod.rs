//! The server's global variables at their worst: they are what sessions begin with, Atone's own among them. Branches
//! run, commit and roll back all the same, and the application's session sees of its statements what it would see
//! straight.

mod bent;
mod walk;
