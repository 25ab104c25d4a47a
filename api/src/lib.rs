//! The REST API: `/v1`, the contract of OpenStack's instance-ha service (Masakari), and `/halberd/v1`, everything beyond it.
//!
//! It records and answers; it never acts on a cloud. A report is committed before it is acknowledged, an operator's demand is a row
//! (a wish) that engines read, and every answer comes from the database, so the API works with no engine alive (DESIGN 10.8). It names
//! neither the engine nor fencing: the only outside call is to Nova, to check that a host exists.
//!
//! The way of a `/v1` request: [`router`] gives it an id, drops identity headers from outside, checks its size, its token ([`auth`]) and its
//! microversion ([`version`]), strips project and format from its path; the handler (one file per verb) checks schema, then role
//! ([`access`], [`policy`]), then the rest in the order the contract gives.
//!
//! No listener here but [`serve`]: the `halberd` program binds, and adds TLS.

pub mod access;
mod answer;
pub mod app;
pub mod auth;
pub mod config;
mod cors;
pub mod error;
pub mod halberd;
mod health;
mod hosts;
mod input;
mod notifications;
mod openapi;
pub mod policy;
mod project_id;
mod refused;
mod router;
mod segments;
mod version;
mod vmoves;

pub use access::Least;
pub use app::{App, Parts};
pub use auth::{Caller, RequestId};
pub use config::{ApiConfig, AuthMode, ConfigError};
pub use error::ApiError;
pub use health::{EngineWatch, Life};
pub use router::{router, serve, v1_routes};
