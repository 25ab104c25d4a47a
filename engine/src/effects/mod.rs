//! Doing what was decided: the ports on real protocols, and operators' hooks. Nothing here decides.

pub mod cloud;
pub mod hooks;
pub mod power;
