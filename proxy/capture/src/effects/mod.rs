//! What changes along with a statement: rows that foreign keys change, and rows that triggers add to audit tables.

pub mod audit;
pub mod cascade;
