//! Hosts of a segment (contract 1.11).
//!
//! Create: schema 400, policy 403, segment 404, no nova-compute service of exactly this name 400, name in use in any
//! segment 409; answers 201. Update: the same where the name changes, a wrong pair of host and segment 404, under recovery 409.
//! A host never moves to another segment.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::{Fields, InvalidBody, refuse_empty};
use super::list::{InvalidQuery, Query};
use super::segment::Segment;
use super::{RowTimes, value};

/// Keys of an item and of a list.
pub const ITEM: &str = "host";
pub const LIST: &str = "hosts";

/// A host as answered. Fields in the contract's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = v1::Host)]
pub struct Host {
    pub id: i64,
    pub uuid: Uuid,
    pub name: String,
    pub failover_segment_id: Uuid,
    /// The whole segment, embedded.
    pub failover_segment: Segment,
    #[serde(rename = "type")]
    pub host_type: String,
    pub reserved: bool,
    pub control_attributes: String,
    pub on_maintenance: bool,
    #[serde(flatten)]
    pub times: RowTimes,
}

/// Body of `POST /v1/segments/{uuid}/hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub name: String,
    pub host_type: String,
    pub control_attributes: String,
    /// False when absent.
    pub reserved: bool,
    /// False when absent.
    pub on_maintenance: bool,
}

impl Create {
    /// # Errors
    /// The first field that breaks its rule, or an unknown key. Null for `type` or `control_attributes` is
    /// refused like any other wrong type (the original failed with 500).
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        let mut fields = Fields::wrapped(body, ITEM)?;
        let create = Self {
            name: fields.require("name", value::name)?,
            host_type: fields.require("type", value::host_type)?,
            control_attributes: fields.require("control_attributes", value::description)?,
            reserved: fields.take("reserved", value::boolean)?.unwrap_or(false),
            on_maintenance: fields.take("on_maintenance", value::boolean)?.unwrap_or(false),
        };
        fields.finish()?;
        Ok(create)
    }
}

/// Body of `PUT /v1/segments/{uuid}/hosts/{uuid}`: what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub name: Option<String>,
    pub host_type: Option<String>,
    pub control_attributes: Option<String>,
    pub reserved: Option<bool>,
    /// False on a host that is *out* is the operator's wish to readmit it (DESIGN 10.9).
    pub on_maintenance: Option<bool>,
}

impl Update {
    /// # Errors
    /// As [`Create::parse`], and when nothing would change.
    pub fn parse(body: &Value) -> Result<Self, InvalidBody> {
        let mut fields = Fields::wrapped(body, ITEM)?;
        refuse_empty(&fields)?;
        let update = Self {
            name: fields.take("name", value::name)?,
            host_type: fields.take("type", value::host_type)?,
            control_attributes: fields.take("control_attributes", value::description)?,
            reserved: fields.take("reserved", value::boolean)?,
            on_maintenance: fields.take("on_maintenance", value::boolean)?,
        };
        fields.finish()?;
        Ok(update)
    }
}

/// Filters of `GET /v1/segments/{uuid}/hosts`. `failover_segment_id` is ignored: the path wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub host_type: Option<String>,
    pub on_maintenance: Option<bool>,
    pub reserved: Option<bool>,
    /// Beyond the original, which accepted and ignored it.
    pub name: Option<String>,
}

impl Filters {
    /// # Errors
    /// When one of the two flags is no boolean.
    pub fn parse(query: Query<'_>) -> Result<Self, InvalidQuery> {
        Ok(Self {
            host_type: query.text("type"),
            on_maintenance: query.boolean("on_maintenance")?,
            reserved: query.boolean("reserved")?,
            name: query.text("name"),
        })
    }
}
