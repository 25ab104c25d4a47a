//! Hosts beyond `/v1`: off, on, tried out, stated off, taken back; where they stand, and their agents' keys.

pub(crate) mod agent_key;
pub(crate) mod attributes;
pub(crate) mod confirm_fenced;
pub(crate) mod fence;
pub(crate) mod fence_history;
pub(crate) mod fence_test;
pub(crate) mod power_on;
pub(crate) mod readmit;
