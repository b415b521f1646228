//! What bound sessions run, in each form of statement and each protocol: what of it is captured, put back or refused,
//! and what the application sees of it. Nearly all of it is on the shared cluster, with a schema for each test.

mod backticks;
mod changes;
mod diagnostics;
mod dml;
mod documented;
mod errors;
mod joined;
mod keys;
mod load_data;
mod moves;
mod parameters;
mod prepared;
mod refused;
mod replaced;
mod single;
mod sql_prepare;
mod traces;
mod transfer;
mod upserts;
mod values;
