//! `/halberd/v1`: everything beyond the original's contract (DESIGN 5), described by OpenAPI 3.1 from these types.
//!
//! Times are RFC 3339 in UTC; durations carry their unit in the name; enumerations are lower case words; an object may gain fields, so clients
//! ignore what they do not know. A list is a [`Page`]. Errors are [`problem::Problem`].

pub mod agent;
pub mod audit;
pub mod engine;
pub mod event;
pub mod fence_act;
pub mod fence_device;
pub mod host;
pub mod policy;
pub mod problem;
pub mod readiness;
pub mod reconcile;
pub mod recovery;
pub mod service;
pub mod wish;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a recovery, wish, event or check is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    pub kind: SubjectKind,
    /// A uuid; for a process `HOST_UUID:NAME`, for a service its name.
    pub id: String,
    /// What people call it.
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectKind {
    Segment,
    Host,
    Guest,
    Process,
    Service,
    Recovery,
    Engine,
    /// The whole site, as for a disarm.
    Site,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Marker of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
