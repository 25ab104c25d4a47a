//! Fencing as an operator has it, with a whole engine on a simulated cloud: ordered, drilled, switched on, checked.
//!
//! `cargo test -p halberd-engine --test fencing`

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod checks;
mod kit;
mod orders;
mod rewind;
mod secrets;
