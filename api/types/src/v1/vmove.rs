//! VMoves: one guest's way off a dead host (contract 1.13).
//!
//! Only notifications of type COMPUTE_HOST have them (others 400); an unknown notification is 404 on both routes, as is
//! a vmove of another notification (the original: 500, and no check).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::RowTimes;
use super::list::Query;
use super::value::Timestamp;

/// Keys of an item and of a list.
pub const ITEM: &str = "vmove";
pub const LIST: &str = "vmoves";

/// How the guest moves. The original produces only the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VMoveType {
    Evacuation,
    Migration,
    LiveMigration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VMoveStatus {
    Pending,
    Ongoing,
    Ignored,
    Failed,
    Succeeded,
}

/// A vmove as answered. Fields in the contract's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = v1::VMove)]
pub struct VMove {
    pub id: i64,
    pub uuid: Uuid,
    pub notification_uuid: Uuid,
    pub instance_uuid: Uuid,
    pub instance_name: Option<String>,
    pub source_host: Option<String>,
    pub dest_host: Option<String>,
    pub start_time: Option<Timestamp>,
    pub end_time: Option<Timestamp>,
    #[serde(rename = "type")]
    pub move_type: VMoveType,
    pub status: VMoveStatus,
    pub message: Option<String>,
    #[serde(flatten)]
    pub times: RowTimes,
}

/// Filters of `GET /v1/notifications/{uuid}/vmoves`. Unknown words match nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub status: Option<String>,
    pub move_type: Option<String>,
}

impl Filters {
    pub fn parse(query: Query<'_>) -> Self {
        Self { status: query.text("status"), move_type: query.text("type") }
    }
}
