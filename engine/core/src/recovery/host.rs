//! A hypervisor's death.

use serde::{Deserialize, Serialize};

use super::StateWord;
use crate::fence::FenceProof;

/// A written off order: from here on the machine may be off by our hand (DESIGN 10.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// From 1; each act through the levels is one.
    pub attempt: u32,
    /// The host's boot number when it was written.
    pub boot_number: u32,
}

/// States of a host's recovery, with what each holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum HostState {
    Confirming,
    Held { gate: String },
    Fencing { order: Order },
    /// Proved off; force-down and the second look are under way.
    Proved { order: Order, proof: FenceProof, marked_down: bool },
    Evacuating { order: Order, proof: FenceProof },
    Verifying { order: Order, proof: FenceProof },
    /// Stays open; `order` and `proof` are kept, and what needs no person goes on.
    NeedsOperator { order: Option<Order>, proof: Option<FenceProof> },
    Finished,
    Failed,
    Cancelled,
}

impl HostState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Held { .. } => StateWord::Held,
            Self::Fencing { .. } | Self::Proved { .. } => StateWord::Fencing,
            Self::Evacuating { .. } => StateWord::Evacuating,
            Self::Verifying { .. } => StateWord::Verifying,
            Self::NeedsOperator { .. } => StateWord::NeedsOperator,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }
}

/// What is stored of a host's recovery; its moves are rows of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRecovery {
    pub state: HostState,
    /// Evidence rested on reports alone (a host that never had our agent).
    pub by_report: bool,
}
