//! Hosts: hypervisors as Nova names them, and whether their present boot may serve.

use serde::{Deserialize, Serialize};

use crate::fence::FenceProof;
use crate::id::{BootId, HostId, InstanceId, RecoveryId, SegmentId};
use crate::text_enum;

text_enum! {
    /// Whether a host's present boot may serve (DESIGN 10.1). [`crate::admission`] moves it.
    ///
    /// ```text
    /// In --off order written--> Out --drained, seen again--> Admitted --records completed, no stray--> In
    ///  ^                         |                                                                      |
    ///  \--- order retired -------/ (same boot beat after the order, before the first evacuate intent) <-/
    /// ```
    pub enum Admission {
        /// Serves.
        In => "in",
        /// An off order stands against it.
        Out => "out",
        /// nova-compute may start, disabled and forced down, and destroys old copies.
        Admitted => "admitted",
    }
}

/// Who took a host out of service; v1's `on_maintenance` is the OR of the three (DESIGN 10.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    pub operator: bool,
    pub recovery: bool,
    pub process: bool,
}

impl Maintenance {
    pub fn any(self) -> bool {
        self.operator || self.recovery || self.process
    }
}

/// What stands or falls together: hosts that share one of these are silent together when it fails (G2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureDomain {
    pub rack: Option<String>,
    pub power: Option<String>,
    pub switch: Option<String>,
}

/// What we changed in Nova and at its controllers for a host, so that only that is undone (DESIGN 10.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetByUs {
    pub disabled: bool,
    pub forced_down: bool,
    /// A controller would have switched it on by itself when its supply comes back, and was told not to.
    #[serde(default)]
    pub restore_policy: bool,
}

/// What a person asked of a host, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub actor: String,
    pub reason: String,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.actor, self.reason)
    }
}

/// A host as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub id: HostId,
    pub segment: SegmentId,
    /// As Nova's service list names it; case matters.
    pub name: String,
    /// v1's `type`; free text.
    pub kind: String,
    pub control_attributes: String,
    pub reserved: bool,
    /// The recovery that took this reserved host, until it closes (DESIGN 10.12).
    pub reserved_by: Option<RecoveryId>,
    pub maintenance: Maintenance,
    pub admission: Admission,
    /// Raised at each boot seen (agent) or at each return (no agent); a proof names it.
    pub boot_number: u32,
    pub boot: Option<BootId>,
    /// Boots that were fenced: their beats never make the host *in* (DESIGN 10.7).
    pub retired_boots: Vec<BootId>,
    /// Guests whose rebuild was sent here and had not arrived when it died: the call waits in its nova-compute's queue, and Nova's record of
    /// it does not last as long as that (a source that returns completes it).
    #[serde(default)]
    pub stranded: Vec<InstanceId>,
    /// A host that ever had our agent is never fenced on reports alone (I18).
    pub ever_agent: bool,
    pub domain: FailureDomain,
    pub serial: Option<String>,
    pub machine: Option<uuid::Uuid>,
    /// The proof that its boot `boot_number` is off, kept while the host is out.
    pub proof: Option<FenceProof>,
    pub set_by_us: SetByUs,
    /// Number of this row: each change raises it (compare-and-swap).
    pub version: i64,
}

impl Host {
    /// One that serves and of which nothing else is known.
    pub fn new(id: HostId, segment: SegmentId, name: impl Into<String>) -> Host {
        Host {
            id,
            segment,
            name: name.into(),
            kind: String::new(),
            control_attributes: String::new(),
            reserved: false,
            reserved_by: None,
            maintenance: Maintenance::default(),
            admission: Admission::In,
            boot_number: 0,
            boot: None,
            retired_boots: Vec::new(),
            stranded: Vec::new(),
            ever_agent: false,
            domain: FailureDomain::default(),
            serial: None,
            machine: None,
            proof: None,
            set_by_us: SetByUs::default(),
            version: 1,
        }
    }
}
