//! Notifications: reports of a failure by a monitor (contract 1.12).
//!
//! Create: schema 400 ([`Create::parse`]), policy 403, payload by type 400 ([`Create::checked_payload`]), no host of
//! this name 400, host on the operator's maintenance 409, duplicate 409, then stored as `new` and answered with 202. The two
//! parses are apart because a 403 stands between them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::{Fields, InvalidBody};
use super::list::{InvalidQuery, Query};
use super::payload::{self, Payload, RawPayload};
use super::value::Timestamp;
use super::workflow::WorkflowTask;
use super::{RowTimes, value};

/// Keys of an item and of a list.
pub const ITEM: &str = "notification";
pub const LIST: &str = "notifications";

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotificationType {
    ComputeHost,
    Vm,
    Process,
}

impl NotificationType {
    pub const WORDS: [(&'static str, Self); 3] =
        [("COMPUTE_HOST", Self::ComputeHost), ("VM", Self::Vm), ("PROCESS", Self::Process)];
}

/// How far its recovery came, in the original's words; DESIGN 10.9 maps ours to these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotificationStatus {
    /// Unclaimed.
    New,
    /// Confirming to verifying, and held.
    Running,
    /// Needs the operator; `message` says why.
    Error,
    /// Closed with a guest lost.
    Failed,
    /// Cancelled, or not actionable.
    Ignored,
    /// Every guest terminal and well.
    Finished,
}

/// A notification as answered by list and create. Fields in the contract's order; there is no `uuid` key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = v1::Notification)]
pub struct Notification {
    pub id: i64,
    pub notification_uuid: Uuid,
    pub generated_time: Timestamp,
    pub source_host_uuid: Uuid,
    #[serde(rename = "type")]
    pub notification_type: NotificationType,
    pub payload: RawPayload,
    pub status: NotificationStatus,
    pub failover_segment_uuid: Option<Uuid>,
    pub message: Option<String>,
    #[serde(flatten)]
    pub times: RowTimes,
}

/// A notification as answered by `GET /v1/notifications/{uuid}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = v1::NotificationDetail)]
pub struct NotificationDetail {
    #[serde(flatten)]
    pub notification: Notification,
    /// The key exists from microversion 1.1 on; `None` leaves it out. An empty list is a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_workflow_details: Option<Vec<WorkflowTask>>,
}

/// Body of `POST /v1/notifications`, up to the payload's own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub notification_type: NotificationType,
    pub hostname: String,
    pub generated_time: Timestamp,
    /// Stored and compared for duplicates as it came.
    pub payload: RawPayload,
}

impl Create {
    /// # Errors
    /// The first field that breaks its rule, or an unknown key.
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        let mut fields = Fields::wrapped(body, ITEM)?;
        let create = Self {
            notification_type: fields
                .require("type", |value| value::word(value, &NotificationType::WORDS))?,
            hostname: fields.require("hostname", value::hostname)?,
            generated_time: fields.require("generated_time", value::timestamp)?,
            payload: {
                let raw = fields.take_raw("payload").ok_or_else(|| fields.missing("payload"))?;
                payload::parse_raw(raw, &fields.path_of("payload"))?
            },
        };
        fields.finish()?;
        Ok(create)
    }

    /// What the payload says, by the schema of its type (contract 2).
    ///
    /// # Errors
    /// The first key that breaks it, is missing or unknown.
    pub fn checked_payload(&self) -> Result<Payload, InvalidBody> {
        Payload::parse(self.notification_type, &self.payload)
    }
}

/// Filters of `GET /v1/notifications`. Unknown words match nothing, and so does a `source_host_uuid` that is no uuid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub status: Option<String>,
    pub source_host_uuid: Option<String>,
    pub notification_type: Option<String>,
    /// `generated_time` at or after this. Spelled with a dash; the spelling `generated_since` is ignored.
    pub generated_since: Option<Timestamp>,
}

impl Filters {
    /// # Errors
    /// When `generated-since` is no time.
    pub fn parse(query: Query<'_>) -> Result<Self, InvalidQuery> {
        Ok(Self {
            status: query.text("status"),
            source_host_uuid: query.text("source_host_uuid"),
            notification_type: query.text("type"),
            generated_since: query.time("generated-since")?,
        })
    }
}
