//! Failover segments: hosts that may stand in for one another.

use serde::{Deserialize, Serialize};

use crate::id::SegmentId;
use crate::text_enum;

text_enum! {
    /// How a segment's guests find a new host (contract section 3.4).
    pub enum RecoveryMethod {
        /// Nova's scheduler chooses.
        Auto => "auto",
        /// Only hosts kept in reserve.
        ReservedHost => "reserved_host",
        /// The scheduler first; a guest it cannot place goes to a reserved host.
        AutoPriority => "auto_priority",
        /// Reserved hosts first; a guest they cannot take goes where the scheduler says.
        RhPriority => "rh_priority",
    }
}

/// A failover segment as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub id: SegmentId,
    pub name: String,
    pub description: Option<String>,
    /// Free text; conventionally `COMPUTE`.
    pub service_type: String,
    pub recovery_method: RecoveryMethod,
    /// While false, reports about its hosts end `ignored` and nothing in it is fenced (I21).
    pub enabled: bool,
}

/// Where a guest may be sent, in the order to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Nova's scheduler chooses.
    Scheduler,
    /// A reserved host that we name.
    Reserved,
}

impl RecoveryMethod {
    /// The ways to place a guest, first choice first. Falling back happens guest by guest (W7, W13).
    pub fn placements(self) -> &'static [Placement] {
        match self {
            Self::Auto => &[Placement::Scheduler],
            Self::ReservedHost => &[Placement::Reserved],
            Self::AutoPriority => &[Placement::Scheduler, Placement::Reserved],
            Self::RhPriority => &[Placement::Reserved, Placement::Scheduler],
        }
    }
}
