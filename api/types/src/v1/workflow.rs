//! `recovery_workflow_details`: a recovery's progress in the words of the original's task engine (contract 3.8).
//!
//! Ours has no such tasks; it writes the same names and shape from its own records, because dashboards print them and functional tests
//! ask for `SUCCESS` on every task of a finished notification. Tasks stand in order of execution, a task without a message
//! is left out, and an ignored notification has an empty list.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum TaskName {
    DisableComputeServiceTask,
    PrepareHAEnabledInstancesTask,
    EvacuateInstancesTask,
    StopInstanceTask,
    StartInstanceTask,
    ConfirmInstanceActiveTask,
    DisableComputeNodeTask,
    ConfirmComputeNodeDisabledTask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum TaskState {
    Success,
    Running,
    Reverted,
    Failure,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkflowTask {
    pub name: TaskName,
    pub state: TaskState,
    /// 0 to 1.
    pub progress: f64,
    pub progress_details: Vec<ProgressDetail>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProgressDetail {
    /// `YYYY-MM-DD HH:MM:SS.ffffff`, UTC: with a blank, unlike every other time of `/v1`.
    pub timestamp: String,
    /// A number in a string: "0.0", "0.3", "1.0".
    pub progress: String,
    pub message: String,
}

impl ProgressDetail {
    /// `progress` is 0 to 1.
    pub fn new(at: DateTime<Utc>, progress: f64, message: impl Into<String>) -> Self {
        Self {
            timestamp: at.format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            progress: format!("{progress:?}"),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_in_the_original_shape() {
        let at = DateTime::from_timestamp_micros(1_795_256_430_000_123).expect("a time");
        let task = WorkflowTask {
            name: TaskName::PrepareHAEnabledInstancesTask,
            state: TaskState::Success,
            progress: 1.0,
            progress_details: vec![
                ProgressDetail::new(at, 0.0, "a"),
                ProgressDetail::new(at, 0.3, "b"),
                ProgressDetail::new(at, 1.0, "c"),
            ],
        };
        let json = serde_json::to_value(task).expect("serialises");
        assert_eq!(json["name"], "PrepareHAEnabledInstancesTask");
        assert_eq!(json["state"], "SUCCESS");
        assert_eq!(json["progress"], 1.0);
        assert_eq!(json["progress_details"][0]["timestamp"], "2026-11-21 10:20:30.000123");
        let progress: Vec<_> =
            (0..3).map(|i| json["progress_details"][i]["progress"].as_str().map(str::to_owned)).collect();
        assert_eq!(progress, [Some("0.0".into()), Some("0.3".into()), Some("1.0".into())]);
    }
}
