//! A process' recovery: take its host out of scheduling, verify.

use serde::{Deserialize, Serialize};

use super::StateWord;

/// States of a process' recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ProcessState {
    Confirming,
    Disabling,
    Verifying,
    Finished,
    Failed,
    Cancelled,
}

impl ProcessState {
    pub fn word(&self) -> StateWord {
        match self {
            Self::Confirming => StateWord::Confirming,
            Self::Disabling => StateWord::Disabling,
            Self::Verifying => StateWord::Verifying,
            Self::Finished => StateWord::Finished,
            Self::Failed => StateWord::Failed,
            Self::Cancelled => StateWord::Cancelled,
        }
    }
}

/// What is stored of a process' recovery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessRecovery {
    pub state: ProcessState,
}
