//! Hosts beyond `/v1`: fence, confirm, readmit, where they stand, and their agents' keys.

pub(crate) mod agent_key;
pub(crate) mod attributes;
pub(crate) mod confirm_fenced;
pub(crate) mod fence;
pub(crate) mod readmit;
