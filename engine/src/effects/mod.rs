//! Doing what was decided: the ports on real protocols. Nothing here decides.

pub mod cloud;
pub mod power;
