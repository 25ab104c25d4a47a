//! Failover segments (contract 1.10).
//!
//! Create: schema 400, policy 403, a name in use 409; answers 201. Update: the same with 404, and 409 when the segment
//! is under recovery in the sense of DESIGN 10.9 (deleting or disabling it); its own name is no conflict. Delete: 204.
//! `enabled` may be written from microversion 1.2, but is shown and may be filtered by at any.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::{Fields, InvalidBody, refuse_empty};
use super::list::{InvalidQuery, Query};
use super::microversion::Microversion;
use super::{RowTimes, value};

/// Keys of an item and of a list.
pub const ITEM: &str = "segment";
pub const LIST: &str = "segments";

/// Which hosts take over from a dead one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryMethod {
    /// Nova's scheduler chooses.
    Auto,
    /// A reserved host of the segment.
    ReservedHost,
    /// `auto`, then `reserved_host`.
    AutoPriority,
    /// `reserved_host`, then `auto`.
    RhPriority,
}

impl RecoveryMethod {
    pub const WORDS: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("reserved_host", Self::ReservedHost),
        ("auto_priority", Self::AutoPriority),
        ("rh_priority", Self::RhPriority),
    ];
}

/// A segment as answered. Fields in the contract's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = v1::Segment)]
pub struct Segment {
    pub id: i64,
    pub uuid: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub service_type: String,
    pub recovery_method: RecoveryMethod,
    pub enabled: bool,
    #[serde(flatten)]
    pub times: RowTimes,
}

/// Body of `POST /v1/segments`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    pub name: String,
    pub description: Option<String>,
    pub service_type: String,
    pub recovery_method: RecoveryMethod,
    /// True when absent.
    pub enabled: bool,
}

impl Create {
    /// # Errors
    /// The first field that breaks its rule, or a key that this microversion does not know.
    pub fn parse(body: &Value, version: Microversion) -> Result<Self, InvalidBody> {
        let mut fields = Fields::wrapped(body, ITEM)?;
        let create = Self {
            name: fields.require("name", value::name)?,
            description: fields.take("description", value::nullable_description)?.flatten(),
            service_type: fields.require("service_type", value::name)?,
            recovery_method: fields.require("recovery_method", recovery_method)?,
            enabled: take_enabled(&mut fields, version)?.unwrap_or(true),
        };
        fields.finish()?;
        Ok(create)
    }
}

/// Body of `PUT /v1/segments/{uuid}`: what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub name: Option<String>,
    /// `Some(None)` sets it to null.
    pub description: Option<Option<String>>,
    pub service_type: Option<String>,
    pub recovery_method: Option<RecoveryMethod>,
    pub enabled: Option<bool>,
}

impl Update {
    /// # Errors
    /// As [`Create::parse`], and when nothing would change.
    pub fn parse(body: &Value, version: Microversion) -> Result<Self, InvalidBody> {
        let mut fields = Fields::wrapped(body, ITEM)?;
        refuse_empty(&fields)?;
        let update = Self {
            name: fields.take("name", value::name)?,
            description: fields.take("description", value::nullable_description)?,
            service_type: fields.take("service_type", value::name)?,
            recovery_method: fields.take("recovery_method", recovery_method)?,
            enabled: take_enabled(&mut fields, version)?,
        };
        fields.finish()?;
        Ok(update)
    }
}

/// Filters of `GET /v1/segments`. Unknown words match nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub recovery_method: Option<String>,
    pub service_type: Option<String>,
    /// Parsed as a boolean: the original compared the text in SQL and answered the opposite (weakness W27).
    pub enabled: Option<bool>,
    /// Beyond the original, which ignored it: clients list everything to resolve one name.
    pub name: Option<String>,
}

impl Filters {
    /// # Errors
    /// When `enabled` is no boolean.
    pub fn parse(query: Query<'_>) -> Result<Self, InvalidQuery> {
        Ok(Self {
            recovery_method: query.text("recovery_method"),
            service_type: query.text("service_type"),
            enabled: query.boolean("enabled")?,
            name: query.text("name"),
        })
    }
}

fn recovery_method(value: &Value) -> Result<RecoveryMethod, value::Reason> {
    value::word(value, &RecoveryMethod::WORDS)
}

/// Below 1.2 the key is left in place, and so ends as an unknown one.
fn take_enabled(fields: &mut Fields<'_>, version: Microversion) -> Result<Option<bool>, InvalidBody> {
    if version.accepts_enabled() { fields.take("enabled", value::boolean) } else { Ok(None) }
}
