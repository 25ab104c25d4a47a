//! Turns a machine off through real protocols and reports exactly what was seen.
//!
//! What this package believes:
//!
//! - **No answer of a power controller proves anything but its later reading.** "Accepted" is a promise. A host counts
//!   as off when the right machine, asked in the same authenticated session after our order, reads the literal Off
//!   twice. Silence, time-outs, server errors, `PoweringOff` and `null` are not off.
//! - **This package never says "fenced".** It orders, reads and tells: a [`FenceReport`] holds each attempt with its
//!   answer and its readings, and the engine's core judges from it. Nothing here turns doubt into success.
//! - **The right machine first.** Identity is compared in the very session that carries the order; a controller of
//!   another machine gets no order.
//! - **Off and hold.** The only orders are off and on. Off is idempotent and may be repeated; on is never repeated
//!   blindly; reset and cycle do not exist, because their completion cannot be seen. One setting is changed beside
//!   them, if the engine wants it: a machine that would start by itself when its supply returns is told not to while it
//!   is fenced.
//! - **One command in flight per controller** (`pace`), however many acts, levels and protocols want it.
//!
//! [`device`] is what operators write, [`chain`] is what the engine calls, `ipmi`, `redfish` and `agent` are the doors
//! to the world behind [`power::PowerDevice`]. `secret` looks up what a description only names.

mod agent;
pub mod chain;
pub mod device;
mod drive;
pub mod error;
#[cfg(test)]
mod fuzz;
mod ipmi;
mod limits;
mod pace;
pub mod power;
mod redfish;
mod report;
mod secret;

pub use chain::{check, off, on, read, restore, revoke};
pub use device::{ConfigError, Device, FenceDevices, Kind, Level};
pub use error::FenceError;
pub use limits::Limits;
pub use power::{Expected, Identity, PowerState, RestorePolicy};
pub use report::{Attempt, DeviceCheck, FenceReport, Gate, OrderAnswer, Reading, Sight, Target};
