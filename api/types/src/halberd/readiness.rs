//! Readiness: whether a recovery would work if it were needed now, and what stands in its way.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

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

/// Whether a host could be turned off if it had to be. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostFencing {
    /// Every level could.
    Ready,
    /// One level could, another could not.
    Degraded,
    /// Not known: a device was not checked since it was set, or not for long, and no other level could.
    Unchecked,
    /// It has no fence device: a recovery of it stops and asks a person.
    NoDevice,
    /// No level could.
    NotReady,
}

/// Why a device could not, or why somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FencingCause {
    /// It does not answer.
    Reach,
    /// It does not let us in.
    Login,
    /// It is another machine's.
    Serial,
    /// It does not tell the power state.
    PowerState,
    /// It answers and still could not (privilege too low, off not offered, ...): the text says why.
    Order,
    /// Never checked since it was set, or not for long.
    Check,
    /// The machine switches itself on when its supply returns.
    RestorePolicy,
    /// OpenStack's bare metal service owns the machine and would switch it on again.
    Ironic,
    /// It cannot show which machine it switches.
    Unnamed,
    /// What the connection lacks: plain HTTP, a certificate that anybody may have made.
    Transport,
    /// Another weakness (weak suite, factory password, certificate about to end, ...): the text names it.
    Weakness,
    /// The host has no fence device.
    NoDevice,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostCause {
    pub cause: FencingCause,
    /// Level and place of the device, from 0; `None`: the host itself.
    pub level: Option<u32>,
    pub position: Option<u32>,
    /// Kind and address.
    pub device: Option<String>,
    /// Without this the device, or the host, could be fenced.
    pub blocks: bool,
    /// What was found.
    pub text: String,
}

/// How ready a host's fence devices are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostReadiness {
    pub host_id: Uuid,
    pub host: String,
    pub fencing: HostFencing,
    /// Since when; `None`: not known.
    pub since: Option<DateTime<Utc>>,
    /// What blocks first.
    pub causes: Vec<HostCause>,
    /// When a drill last turned it off and saw it off; `None`: never.
    pub last_drill_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// The worst of the checks.
    pub level: ReadinessLevel,
    pub checks: Vec<ReadinessCheck>,
    /// Every host's fencing, the worst first.
    #[serde(default)]
    pub hosts: Vec<HostReadiness>,
}

impl Readiness {
    pub fn of(checks: Vec<ReadinessCheck>) -> Self {
        let level = checks.iter().map(|check| check.level).max().unwrap_or(ReadinessLevel::Green);
        Self { level, checks, hosts: Vec::new() }
    }

    /// With its hosts, put in order: the worst first, then by name.
    #[must_use]
    pub fn with_hosts(mut self, mut hosts: Vec<HostReadiness>) -> Self {
        hosts.sort_by(|a, b| b.fencing.cmp(&a.fencing).then_with(|| a.host.cmp(&b.host)));
        self.hosts = hosts;
        self
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
