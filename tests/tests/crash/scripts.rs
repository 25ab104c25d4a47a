//! The stories that are cut short: small clouds in which something goes wrong, and what has to be true at the end.
//!
//! Together they send every effect that the product has; one that none of them sends fails the test by its name.

use std::collections::BTreeMap;
use std::time::Duration;

use halberd_core::notification::NotificationType;
use halberd_core::policy::{Policy, Profile};
use halberd_core::recovery::{Body, StateWord, Subject};
use halberd_core::segment::RecoveryMethod;
use halberd_fencing::Limits;
use halberd_sim::shell::Cloud;
use halberd_sim::{BmcFault, BmcKind, Fault, GuestSpec, RestorePolicy, VmState, What, World, WorldSpec};
use serde_json::json;
use uuid::Uuid;

use super::judge::Tables;

/// The host to which it all happens.
pub const STRUCK: &str = "cmp-01";
/// Kept empty for it, where the method asks for that.
pub const RESERVED: &str = "cmp-03";

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Script {
    /// A host hangs: fenced, evacuated, drained, switched on, back in. An earlier engine died between noting its controller's restore policy
    /// and changing it, so that this is given back in any case.
    Death,
    /// The same with a reserved host, by IPMI; it does not come back.
    Reserved,
    /// A host hangs, is ordered off in vain, and lives again from then on.
    Retired,
    /// A host hangs that holds a guest that was stopped and one that was in error; it does not come back.
    Damaged,
    /// Two guests fail on a host that is well; events go to a receiver.
    Guests,
    /// A guest fails that waits for its resize to be confirmed.
    Resized,
    /// A guest fails, and an operator's program is run beside.
    Hooked,
    /// nova-compute dies on a host that is well, and is reported once Nova has noticed.
    Process,
}

impl Script {
    pub const ALL: [Script; 8] = [
        Script::Death,
        Script::Reserved,
        Script::Retired,
        Script::Damaged,
        Script::Guests,
        Script::Resized,
        Script::Hooked,
        Script::Process,
    ];
}

/// What is reported, as a Masakari monitor would.
#[derive(Clone, Debug)]
pub struct Report {
    pub kind: NotificationType,
    pub payload: BTreeMap<String, String>,
}

impl Report {
    fn new(kind: NotificationType, words: &[(&str, &str)]) -> Report {
        let words = words.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Report { kind, payload: words.collect() }
    }

    fn host_down() -> Report {
        let words = [("event", "STOPPED"), ("host_status", "NORMAL"), ("cluster_status", "OFFLINE")];
        Report::new(NotificationType::ComputeHost, &words)
    }

    fn guest_down(guest: Uuid, event: &str) -> Report {
        let guest = guest.to_string();
        let words =
            [("event", event), ("vir_domain_event", "STOPPED_FAILED"), ("instance_uuid", guest.as_str())];
        Report::new(NotificationType::Vm, &words)
    }
}

impl Script {
    pub fn method(self) -> RecoveryMethod {
        if self == Script::Reserved { RecoveryMethod::ReservedHost } else { RecoveryMethod::Auto }
    }

    /// Short leases and windows: what is tried here is their order, not their length.
    pub fn policy(self) -> Policy {
        Policy {
            lease_ms: 3_000,
            lease_renew_ms: 600,
            beat_interval_ms: 100,
            suspect_after_ms: 300,
            confirm_ms: 100,
            silence_floor_ms: 400,
            nova_report_interval_ms: 300,
            request_lifetime_ms: 1_500,
            poll_ms: 300,
            retry_ms: 300,
            fence_every_ms: 100,
            fence_retry_ms: 1_000,
            agentless_return_ms: 300,
            process_all_instances: true,
            add_reserved_host_to_aggregate: true,
            power_on_when_drained: self == Script::Death,
            ..Policy::of(Profile::Fast)
        }
    }

    /// Where a controller takes orders and does nothing, that is to be seen soon; the level is long enough for the order to go out first.
    pub fn limits(self) -> Limits {
        let ms = Duration::from_millis;
        if self != Script::Retired {
            return Limits::default();
        }
        Limits { reorder_after: ms(400), obey_within: ms(400), level: ms(8_000), ..Limits::default() }
    }

    /// Guests by their state: on the struck host, then one that nothing shall happen to.
    pub fn world(self) -> World {
        let kind = if self == Script::Reserved { BmcKind::Ipmi } else { BmcKind::Redfish };
        let spec = WorldSpec {
            guests_per_host: Vec::new(),
            bmc_kinds: vec![kind],
            restore_policy: RestorePolicy::AlwaysOn,
            report_interval_ms: 250,
            service_down_ms: 900,
            evacuate_api_latency_ms: 20,
            rebuild_latency_ms: (50, 150),
            bmc_off_latency_ms: 100,
            boot_ms: 300,
            compute_start_ms: 100,
            guest_task_ms: 150,
            ..WorldSpec::spread(3, 0)
        };
        let mut world = World::new(spec);
        let states: &[VmState] = match self {
            Script::Reserved | Script::Guests => &[VmState::Active, VmState::Active],
            Script::Damaged => &[VmState::Stopped, VmState::Error],
            Script::Resized => &[VmState::Resized],
            Script::Death | Script::Retired | Script::Hooked | Script::Process => &[VmState::Active],
        };
        for (number, state) in states.iter().enumerate() {
            let name = format!("vm-{number}");
            world.add_guest(0, GuestSpec { vm_state: *state, ..GuestSpec::active(&name, STRUCK) });
        }
        world.add_guest(0, GuestSpec::active("bystander", "cmp-02"));
        world
    }

    /// Makes it happen; the answer is what is reported of it.
    pub fn begin(self, cloud: &Cloud) -> Vec<Report> {
        let host = STRUCK.to_owned();
        let guests = cloud.world().guests_placed_on(STRUCK);
        match self {
            Script::Death | Script::Reserved | Script::Damaged => {
                cloud.inject(Fault::HostHang { host, for_ms: None });
                vec![Report::host_down()]
            }
            Script::Retired => {
                cloud.inject(Fault::Bmc { host: host.clone(), fault: BmcFault::AckNoOff });
                cloud.inject(Fault::HostHang { host, for_ms: None });
                vec![Report::host_down()]
            }
            Script::Guests => {
                cloud.inject(Fault::GuestCrash { guest: guests[0] });
                vec![
                    Report::guest_down(guests[0], "LIFECYCLE"),
                    Report::guest_down(guests[1], "QEMU_GUEST_AGENT_ERROR"),
                ]
            }
            Script::Hooked | Script::Resized => vec![Report::guest_down(guests[0], "QEMU_GUEST_AGENT_ERROR")],
            Script::Process => {
                cloud.inject(Fault::ComputeCrash { host });
                let words = [("event", "STOPPED"), ("process_name", "nova-compute")];
                // Another program's end ends without a recovery.
                let started = [("event", "STARTED"), ("process_name", "libvirtd")];
                vec![
                    Report::new(NotificationType::Process, &words),
                    Report::new(NotificationType::Process, &started),
                ]
            }
        }
    }

    /// Whether it is time to report. While Nova takes a dead nova-compute for living, a change of its service waits for its answer: twenty
    /// seconds in which there is nothing to stop at.
    pub fn is_noticed(self, cloud: &Cloud) -> bool {
        let now = cloud.now();
        let mut world = cloud.world();
        self != Script::Process
            || world.services(now).answer.is_ok_and(|all| all.iter().any(|row| row.host == STRUCK && !row.up))
    }

    /// What happens because something has happened: looked at again and again.
    pub fn go_on(self, cloud: &Cloud) {
        if self == Script::Retired {
            let mut world = cloud.world();
            let ordered = |what: &What| matches!(what, What::OffOrdered { machine, .. } if machine == STRUCK);
            if world.history().iter().any(|deed| ordered(&deed.what)) {
                let now = world.now();
                world.thaw_host(now, STRUCK);
            }
        }
    }

    /// Whether a controller's restore policy was noted before and not changed. A fence changes one only in the pause before its second
    /// reading, and leaves it where a controller is slow: what is given back here must not be a matter of pace.
    pub fn noted_before(self) -> bool {
        self == Script::Death
    }

    /// `[[hooks]]` of the engines.
    pub fn hooks(self) -> Vec<serde_json::Value> {
        if self != Script::Hooked {
            return Vec::new();
        }
        vec![
            json!({"name": "tell", "at": ["pre", "post"], "command": ["/bin/true"]}),
            json!({"name": "fails", "at": ["main"], "command": ["/bin/false"], "attempts": 2}),
        ]
    }

    /// Events of this one go to a receiver.
    pub fn announces(self) -> bool {
        self == Script::Guests
    }

    /// Nothing is left to be done.
    pub fn is_over(self, tables: &Tables) -> bool {
        if tables.reports.iter().any(|report| !is_answered(report.status)) {
            return false;
        }
        let closed =
            |kind: &str| tables.recoveries.iter().any(|row| row.subject.kind() == kind && !row.is_open());
        let open = tables.recoveries.iter().filter(|row| row.is_open()).count();
        match self {
            Script::Death => closed("host") && closed("return") && open == 0,
            Script::Retired => closed("host") && open == 0,
            Script::Reserved | Script::Damaged => {
                let out = |row: &halberd_core::recovery::Recovery| {
                    matches!(row.body, Body::Return(_)) && row.word() == StateWord::Out
                };
                closed("host") && open == 1 && tables.recoveries.iter().any(out)
            }
            Script::Guests => open == 0 && tables.recoveries.len() == 2 && tables.undelivered == 0,
            Script::Hooked | Script::Resized => open == 0 && tables.recoveries.len() == 1,
            Script::Process => {
                let process = |row: &&halberd_core::recovery::Recovery| {
                    matches!(row.subject, Subject::Process { .. }) && row.word() == StateWord::Returning
                };
                open == 1 && tables.recoveries.iter().filter(process).count() == 1
            }
        }
    }

    /// After this long it will not end any more; no run waits for it to pass.
    pub const PATIENCE: Duration = Duration::from_secs(300);
}

fn is_answered(status: halberd_core::notification::NotificationStatus) -> bool {
    use halberd_core::notification::NotificationStatus as Status;
    !matches!(status, Status::New | Status::Running)
}
