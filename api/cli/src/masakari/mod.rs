//! The way over from Masakari: its database's history ([`import`]) and its configuration ([`config`]).
//!
//! Both only read what is Masakari's, both say what they took and what they left and why, and both may be run again.

pub mod config;
mod gone;
pub mod import;
pub mod ini;
mod out;
mod translate;

#[cfg(test)]
mod tests;
