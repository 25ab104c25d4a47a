//! Halberd's recovery protocol as a model, and a checker that visits each of its states.
//!
//! Leases, fencing, evacuation, return: `engine/core` decides them, tests try many thousands of worlds, and neither shows that no order of
//! events was overlooked. Here the protocol is written a second time, small, without a line of the product's code (a model that shares
//! code with the product agrees only with itself), and every interleaving of engines, controllers, Nova and faults is visited within stated
//! budgets. Each guard can be taken away; then a shortest way to harm is found, or the guard is not needed and its test fails.
//!
//! [`state`] and [`action`] say what there is and what can happen, [`world`] is what we do not control, [`offer`] and [`engine`] are the protocol,
//! [`model`] what must hold, [`variants`] what is checked, [`watchdog`] the proof by time. The README tells how to read a trace.

pub mod action;
pub mod check;
pub mod config;
pub mod engine;
pub mod model;
pub mod offer;
pub mod state;
pub mod variants;
pub mod watchdog;
pub mod world;
