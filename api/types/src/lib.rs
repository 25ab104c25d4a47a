//! The wire contract: what travels between Halberd, its clients and its agents.
pub mod beat;
pub mod halberd;
pub mod report;
pub mod v1;
