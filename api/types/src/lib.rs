//! The wire contract: what travels between Halberd, its clients and its agents.
//!
//! Shapes and their rules, and nothing else: no I/O, no clock, no HTTP framework, and no name of another package of ours. `halberd-api`
//! maps these to the domain; the CLI, the agents and the tests read and write the very same types.
//!
//! - [`v1`]: the contract of OpenStack's instance-ha service (Masakari), which existing clients hold us to;
//! - [`halberd`]: our own `/halberd/v1`;
//! - [`beat`] and [`report`]: what agents send.

pub mod beat;
pub mod halberd;
pub mod report;
pub mod v1;
