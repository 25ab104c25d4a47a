//! A host's row for tests.

use halberd_core::host::{Admission, FailureDomain, Host, Maintenance, SetByUs};
use halberd_core::id::{HostId, SegmentId};
use uuid::Uuid;

/// Without an agent, with a fence device.
pub fn row() -> Host {
    Host {
        id: HostId(Uuid::from_u128(1)),
        segment: SegmentId(Uuid::from_u128(2)),
        name: "cmp-01".into(),
        kind: "COMPUTE".into(),
        control_attributes: String::new(),
        reserved: false,
        reserved_by: None,
        maintenance: Maintenance::default(),
        admission: Admission::In,
        boot_number: 0,
        boot: None,
        retired_boots: Vec::new(),
        ever_agent: false,
        domain: FailureDomain::default(),
        serial: None,
        machine: None,
        proof: None,
        set_by_us: SetByUs::default(),
        version: 1,
    }
}
