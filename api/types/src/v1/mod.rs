//! `/v1`: the contract of OpenStack's instance-ha service (Masakari), microversions 1.0 to 1.3.
//!
//! For each resource a module holds the response object, whose fields serialise in the contract's order, the parsed
//! request bodies, and the list filters. A response wraps by key: `{"segment": {...}}` or `{"segments": [...]}`, see
//! [`One`] and [`Many`]. The order in which a handler checks is part of the contract too: schema (400), policy (403), then what the
//! module's docs say.
//!
//! Bodies: [`segment::Create::parse`] and its like take the whole JSON body. Queries: [`list::Query`]. Faults:
//! [`error::Fault`], into which every error of this module converts.

pub mod body;
pub mod error;
pub mod host;
pub mod list;
pub mod microversion;
pub mod notification;
pub mod payload;
mod printable;
pub mod segment;
mod time;
pub mod value;
pub mod version;
pub mod vmove;
pub mod workflow;

#[cfg(test)]
mod tests;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use utoipa::ToSchema;

/// The columns every object ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
pub struct RowTimes {
    pub created_at: Option<value::Timestamp>,
    pub updated_at: Option<value::Timestamp>,
    pub deleted_at: Option<value::Timestamp>,
    pub deleted: bool,
}

/// One object under its key: `{"segment": {...}}`.
#[derive(Clone, Copy, Debug)]
pub struct One<'a, T>(pub &'static str, pub &'a T);

impl<T: Serialize> Serialize for One<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}

/// A list under its key, `{"segments": [...]}`; there are never links beside it.
#[derive(Clone, Copy, Debug)]
pub struct Many<'a, T>(pub &'static str, pub &'a [T]);

impl<T: Serialize> Serialize for Many<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, self.1)?;
        map.end()
    }
}
