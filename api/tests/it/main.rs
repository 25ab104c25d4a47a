//! The API from outside: requests into the router, over a real SQLite database in a directory of its own, and a small cloud on a
//! loopback socket for Keystone and Nova.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod auth;
mod bad_input;
mod bus;
mod cloud;
mod contract;
mod discovery;
mod hosts;
mod kit;
mod lists;
mod matrix;
mod notifications;
mod policy;
mod properties;
mod segments;
mod serve;
mod tokens;
mod vmoves;
