//! Where a text gives an XID: in a hint, or in `@atone_xid`.

pub(crate) mod hint;
pub(crate) mod variable;
