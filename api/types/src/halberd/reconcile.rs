//! Reconcile-only: the engines do nothing, because the database shows less than one of them remembers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Whether the engines are in reconcile-only, and what is known of why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcileOnly {
    pub reconcile_only: bool,
    /// How it ends; absent when it is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// An engine's name, or who restored the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the database shows less of, each in words.
    pub lost: Vec<String>,
    /// The last look at every host's power and at Nova; absent while none has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<ReconcileAudit>,
}

/// What a look at the world found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcileAudit {
    /// The engine that looked.
    pub by: String,
    pub at: DateTime<Utc>,
    /// Hosts looked at.
    pub hosts: u64,
    /// What the database does not explain; when nothing is left, reconcile-only ends by itself.
    pub findings: Vec<ReconcileFinding>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcileFinding {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Uuid>,
    pub text: String,
}
