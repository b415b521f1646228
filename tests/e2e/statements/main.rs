//! What bound sessions run: what of it is captured, put back or refused, and what the application sees of it. Nearly all
//! of it is on the shared cluster, with a schema for each test.

mod altered;
mod audit;
mod backticks;
mod binding;
mod cascade;
mod changes;
mod conflict;
mod diagnostics;
mod dml;
mod documented;
mod errors;
mod hazards;
mod joined;
mod keys;
mod load_data;
mod moves;
mod online;
mod parameters;
mod prepared;
mod reads;
mod refused;
mod replaced;
mod restorable;
mod rights;
mod single;
mod sql_prepare;
mod target_state;
mod traces;
mod transfer;
mod triggers;
mod undo_tables;
mod upserts;
mod values;
mod views;
