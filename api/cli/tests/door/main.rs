//! The listener of `halberd serve` as clients meet it over the network: TLS, requests that are none, and crowds.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod crowd;
mod kit;
mod tls;
mod wire;
