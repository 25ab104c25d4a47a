//! A guest's recovery: stop, start, verify.

use serde::{Deserialize, Serialize};

use super::StateWord;

/// States of a guest's recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum InstanceState {
    Confirming,
    Stopping { attempt: u32 },
    Starting { attempt: u32 },
    Verifying,
    Finished,
    Failed,
    Cancelled,
}

impl InstanceState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Stopping { .. } => StateWord::Stopping,
            Self::Starting { .. } => StateWord::Starting,
            Self::Verifying => StateWord::Verifying,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }
}

/// What is stored of a guest's recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecovery {
    pub state: InstanceState,
}
