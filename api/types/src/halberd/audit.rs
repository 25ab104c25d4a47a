//! Audit records: what was believed, decided and done, append-only and hash-chained.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One record of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// A recovery's id, `engine:<id>`, `api:<id>` or `checkpoints`.
    pub chain: String,
    /// From 1, without gaps.
    pub sequence: i64,
    pub at: DateTime<Utc>,
    pub epoch: i64,
    /// Past participle: `host_fenced`, `wish_recorded`.
    pub what: String,
    /// One sentence for people.
    pub text: String,
    pub detail: Value,
    /// Hex SHA-256 of the record before.
    pub before: String,
    /// Hex SHA-256 of this one.
    pub hash: String,
}

/// The newest record of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditHead {
    pub chain: String,
    pub sequence: i64,
    pub hash: String,
}

/// Whether every chain verifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerification {
    pub intact: bool,
    pub chains: u64,
    pub records: u64,
    /// The first bad record of each chain that is broken, in a sentence.
    pub broken: Vec<String>,
}
