//! What the tables of bound sessions are, and what stands around them: types, keys, charsets, triggers, foreign keys,
//! views, rights, other sessions, and what changes about them while a session is bound. Nearly all of it is on the
//! shared cluster, with a schema for each test.

mod altered;
mod audit;
mod binding;
mod cascade;
mod conflict;
mod hazards;
mod online;
mod reads;
mod restorable;
mod rights;
mod target_state;
mod triggers;
mod undo_tables;
mod views;
