//! Readiness: whether a recovery would work if it were needed now, and what stands in its way.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Subject;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessLevel {
    /// Nothing stands in the way.
    Green,
    /// It would work; somebody should look.
    Yellow,
    /// It would not work for this subject.
    Red,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadinessCheck {
    /// `fence_device_reachable`, `openstack_configured`, `start_gate_present`, ...
    pub check: String,
    pub subject: Option<Subject>,
    pub level: ReadinessLevel,
    pub reason: String,
    /// What to do.
    pub remedy: Option<String>,
    pub since: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// The worst of the checks.
    pub level: ReadinessLevel,
    pub checks: Vec<ReadinessCheck>,
}

impl Readiness {
    pub fn of(checks: Vec<ReadinessCheck>) -> Self {
        let level = checks.iter().map(|check| check.level).max().unwrap_or(ReadinessLevel::Green);
        Self { level, checks }
    }

    /// What `/healthcheck?ready` answers by: yellow is ready.
    pub fn is_ready(&self) -> bool {
        self.level < ReadinessLevel::Red
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_check_decides() {
        use ReadinessLevel::{Green, Red, Yellow};
        let check = |level| ReadinessCheck {
            check: "c".into(),
            subject: None,
            level,
            reason: "r".into(),
            remedy: None,
            since: None,
        };
        for (levels, worst, ready) in [
            (vec![], Green, true),
            (vec![Green, Yellow], Yellow, true),
            (vec![Yellow, Red, Green], Red, false),
        ] {
            let readiness = Readiness::of(levels.into_iter().map(check).collect());
            assert_eq!((readiness.level, readiness.is_ready()), (worst, ready));
        }
    }
}
