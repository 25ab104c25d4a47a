//! The client against servers that speak just enough Keystone, Nova and Placement, with the shapes and the faults seen
//! on real ones.

#![expect(clippy::unwrap_used, reason = "a test whose scene cannot be set stops there")]

mod cloud;
mod keystone;
mod nova;
mod others;
mod raw;
mod session;
