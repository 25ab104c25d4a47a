//! The production core in virtual time: engines whose every decision is the product's own (`core::runner`, `core::verdict`,
//! `core::brake`, the engine's `collect::look`), on a model store with faults and a simulated cloud that knows the truth.
//!
//! One queue of events, one seed, no threads: the same seed tells the same story. [`checker`] judges it from the cloud's own
//! history and knows nothing of the product's code.

pub mod checker;
pub mod fence;
pub mod hooks;
pub mod nova;
pub mod onlooker;
pub mod scenario;
pub mod seeds;
pub mod shrink;
pub mod sim;
pub mod sometimes;
pub mod store;
pub mod swarm;
pub mod watchdog;
