//! The audit: what was believed, decided and done, hash-chained.

pub(crate) mod chains;
pub(crate) mod list;
pub(crate) mod verify;
