//! Segments beyond `/v1`: their policy.

pub(crate) mod policy;
