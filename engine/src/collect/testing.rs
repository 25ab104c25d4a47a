//! A host's row for tests.

use halberd_core::host::Host;
use halberd_core::id::{HostId, SegmentId};
use uuid::Uuid;

/// Without an agent, with a fence device.
pub fn row() -> Host {
    Host {
        kind: "COMPUTE".into(),
        ..Host::new(HostId(Uuid::from_u128(1)), SegmentId(Uuid::from_u128(2)), "cmp-01")
    }
}
