//! Guests: Nova's servers as a recovery sees them, and what is planned for each (contract section 3.5, DESIGN 10.5).

use serde::{Deserialize, Serialize};

use crate::id::InstanceId;
use crate::policy::{Fragile, Policy};
use crate::text_enum;

text_enum! {
    /// The state a guest must be brought to before its move has succeeded (I25).
    pub enum Wanted {
        Active => "active",
        Stopped => "stopped",
        /// Was in error before; runs nowhere, ends in error again as the original leaves it.
        Error => "error",
    }
}

/// A guest as Nova listed it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    pub id: InstanceId,
    pub name: String,
    /// `OS-EXT-SRV-ATTR:host`; `None` when Nova places it nowhere.
    pub host: Option<String>,
    pub vm_state: String,
    pub task_state: Option<String>,
    /// Nova's number; 1 running, 4 shut down.
    pub power_state: u8,
    pub locked: bool,
    pub locked_reason: Option<String>,
    /// The value of the HA metadata key, when it has one.
    pub ha_enabled: Option<String>,
    /// Nova's fault text, when in error.
    pub fault: Option<String>,
}

/// What is to be done with one guest of a dead host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Evacuate; `reset` says Nova would refuse without a reset to `error` first.
    Evacuate { reset: bool, wanted: Wanted },
    /// Leave it, with the reason shown.
    Leave { reason: String },
}

/// What counts as true in a guest's metadata (contract 3.5), whatever the case.
pub fn truthy(value: &str) -> bool {
    ["1", "t", "true", "on", "y", "yes"].contains(&value.to_ascii_lowercase().as_str())
}

impl Guest {
    /// Marked for recovery by its metadata.
    pub fn is_ha_enabled(&self) -> bool {
        self.ha_enabled.as_deref().is_some_and(truthy)
    }

    /// One that runs there, for tests.
    #[cfg(test)]
    pub(crate) fn active_on(id: InstanceId, name: &str, host: &str) -> Guest {
        Guest {
            id,
            name: name.into(),
            host: Some(host.into()),
            vm_state: "active".into(),
            task_state: None,
            power_state: 1,
            locked: false,
            locked_reason: None,
            ha_enabled: None,
            fault: None,
        }
    }
}

/// Nova's power state number for a guest that is shut down.
const SHUTDOWN: u8 = 4;

/// Plans one guest. The table is the contract's (3.5), safer where the original destroys data: a state that a rebuild
/// would lose is left alone unless policy says otherwise.
pub fn plan(guest: &Guest, policy: &Policy) -> Plan {
    let leave = |reason: String| Plan::Leave { reason };
    if !guest.is_ha_enabled() && !policy.evacuate_all_instances {
        return leave(format!("not marked with {}", policy.ha_enabled_instance_metadata_key));
    }
    match guest.vm_state.as_str() {
        "active" => Plan::Evacuate { reset: false, wanted: Wanted::Active },
        "stopped" => Plan::Evacuate { reset: false, wanted: Wanted::Stopped },
        "error" if policy.ignore_instances_in_error_state => leave("in error before the failure".into()),
        "error" => Plan::Evacuate { reset: false, wanted: Wanted::Error },
        "building" => leave("never ran: it was being built when its host died".into()),
        "deleted" | "soft-delete" | "soft_deleted" => leave("deleted".into()),
        "shelved_offloaded" => leave("shelved: it runs on no host".into()),
        // As the original does; the pending resize is lost, the guest is not.
        "resized" if guest.power_state == SHUTDOWN => Plan::Evacuate { reset: true, wanted: Wanted::Stopped },
        "resized" => Plan::Evacuate { reset: true, wanted: Wanted::Active },
        "paused" | "suspended" | "rescued" | "shelved" => fragile(policy, &guest.vm_state, Wanted::Stopped),
        other => fragile(policy, other, Wanted::Stopped),
    }
}

fn fragile(policy: &Policy, state: &str, wanted: Wanted) -> Plan {
    match policy.fragile_instances {
        Fragile::Ignore => Plan::Leave {
            reason: format!(
                "{state}: a rebuild would lose that state (policy fragile_instances = \"ignore\")"
            ),
        },
        Fragile::EvacuateStopped => Plan::Evacuate { reset: true, wanted },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(vm_state: &str, power_state: u8) -> Guest {
        Guest {
            vm_state: vm_state.into(),
            power_state,
            ..Guest::active_on(InstanceId(uuid::Uuid::nil()), "g", "h")
        }
    }

    #[test]
    fn each_state_has_its_plan() {
        let safe = Policy::default();
        let as_original = Policy { fragile_instances: Fragile::EvacuateStopped, ..Policy::default() };
        let evacuate = |reset, wanted| Plan::Evacuate { reset, wanted };
        for (state, power, safely, originally) in [
            ("active", 1, Some(evacuate(false, Wanted::Active)), evacuate(false, Wanted::Active)),
            ("stopped", 4, Some(evacuate(false, Wanted::Stopped)), evacuate(false, Wanted::Stopped)),
            ("error", 0, Some(evacuate(false, Wanted::Error)), evacuate(false, Wanted::Error)),
            ("resized", 1, Some(evacuate(true, Wanted::Active)), evacuate(true, Wanted::Active)),
            ("resized", 4, Some(evacuate(true, Wanted::Stopped)), evacuate(true, Wanted::Stopped)),
            ("paused", 3, None, evacuate(true, Wanted::Stopped)),
            ("suspended", 4, None, evacuate(true, Wanted::Stopped)),
            ("rescued", 1, None, evacuate(true, Wanted::Stopped)),
            ("shelved", 4, None, evacuate(true, Wanted::Stopped)),
        ] {
            match safely {
                Some(expected) => assert_eq!(plan(&guest(state, power), &safe), expected, "{state}"),
                None => assert!(matches!(plan(&guest(state, power), &safe), Plan::Leave { .. }), "{state}"),
            }
            assert_eq!(plan(&guest(state, power), &as_original), originally, "{state}");
        }
        assert!(
            matches!(plan(&guest("building", 0), &as_original), Plan::Leave { reason } if reason.starts_with("never ran"))
        );
    }

    #[test]
    fn the_mark_and_the_error_switch_decide() {
        let marked_only = Policy { evacuate_all_instances: false, ..Policy::default() };
        assert!(matches!(plan(&guest("active", 1), &marked_only), Plan::Leave { .. }));
        let marked = Guest { ha_enabled: Some("YES".into()), ..guest("active", 1) };
        assert!(matches!(plan(&marked, &marked_only), Plan::Evacuate { .. }));
        let no_errors = Policy { ignore_instances_in_error_state: true, ..Policy::default() };
        assert!(matches!(plan(&guest("error", 0), &no_errors), Plan::Leave { .. }));
    }
}
