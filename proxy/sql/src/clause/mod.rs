//! Parts that several kinds of statements have: tables, expressions, conditions, assignments.

pub(crate) mod assignments;
pub(crate) mod condition;
pub(crate) mod ctes;
pub(crate) mod expression;
pub(crate) mod functions;
pub(crate) mod modifiers;
pub(crate) mod references;
pub(crate) mod returning;
pub(crate) mod table;
