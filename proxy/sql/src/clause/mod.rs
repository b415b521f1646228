//! Parts that statements have in common: tables, expressions, conditions, assignments.

pub(crate) mod assignments;
pub(crate) mod condition;
pub(crate) mod ctes;
pub(crate) mod expression;
pub(crate) mod functions;
pub(crate) mod modifiers;
pub(crate) mod references;
pub(crate) mod returning;
pub(crate) mod table;
