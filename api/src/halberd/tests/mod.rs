//! The interface from outside: requests to the real routers over a real SQLite file.

mod agents;
mod explain;
mod fencing;
mod interface;
mod secrets;
mod stream;
