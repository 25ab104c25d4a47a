//! Seeing: beats, Nova's rows, power readings, answers of user land, and what follows from them for each host.
//!
//! Everything seen lives in memory ([`fleet::Fleet`]); only transitions are stored (DESIGN 3).

pub mod fleet;
pub mod kdump;
pub mod listener;
pub mod look;
pub mod probe;
pub mod renewals;
#[cfg(test)]
mod testing;
pub mod watch;
