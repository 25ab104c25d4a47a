//! What callers see: plain values, times in milliseconds of virtual time, hosts by name, guests by uuid.

use crate::metal::RestorePolicy;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A network hosts are reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    /// API, message bus, SSH.
    Management,
    /// Guests' traffic.
    Tenant,
    /// Disks and volumes.
    Storage,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Management, Self::Tenant, Self::Storage];

    /// The name used in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Tenant => "tenant",
            Self::Storage => "storage",
        }
    }
}

/// A machine's power as it really is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// On, whatever its software does.
    On,
    /// Off; its BMC can switch it on.
    Off,
    /// Without mains: off, and nothing can switch it on before [`crate::Fault::HostReturn`].
    Dark,
}

/// What runs on a machine that has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// Firmware and kernel on their way up.
    Booting,
    /// User land runs.
    Running,
    /// Frozen, guests included; may thaw.
    Hung,
    /// Kernel halted; guests are gone.
    Panicked,
}

/// A host as it really is.
#[derive(Debug, Clone, PartialEq)]
pub struct HostView {
    /// Name, as in Nova.
    pub name: String,
    /// Rack, which is its failure domain.
    pub rack: String,
    /// Serial number, as DMI and BMC show it.
    pub serial: String,
    /// System UUID, as DMI and BMC show it; also Placement's provider.
    pub uuid: Uuid,
    /// Real power.
    pub power: Power,
    /// What it does when its supply returns.
    pub restore_policy: RestorePolicy,
    /// Meaningful while power is on.
    pub state: HostState,
    /// Id of the present (or last) boot.
    pub boot_id: Uuid,
    /// Boots so far; 1 at the start.
    pub boots: u64,
    /// Networks that work.
    pub networks: Vec<Network>,
    /// Whether nova-compute runs.
    pub compute: bool,
    /// Whether the agent runs (while user land does).
    pub agent: bool,
    /// Whether the start gate is closed on this boot.
    pub gated: bool,
    /// Guests that execute here.
    pub executing: Vec<Uuid>,
    /// Guests whose local copy is here.
    pub local: Vec<Uuid>,
}

/// What the agent on a host could send, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSight {
    /// The host.
    pub host: String,
    /// Its boot.
    pub boot_id: Uuid,
    /// Boots so far.
    pub boots: u64,
    /// Milliseconds since this boot's user land came up.
    pub uptime_ms: u64,
    /// Networks by which it is heard and hears; empty when cut off entirely.
    pub networks: Vec<Network>,
}

/// Nova's vm_state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmState {
    /// `active`
    Active,
    /// `stopped`
    Stopped,
    /// `error`
    Error,
    /// `paused`
    Paused,
    /// `suspended`
    Suspended,
    /// `rescued`
    Rescued,
    /// `building`
    Building,
    /// `shelved_offloaded`
    ShelvedOffloaded,
    /// `resized`
    Resized,
    /// `deleted`
    Deleted,
}

impl VmState {
    /// Nova's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Stopped => "stopped",
            Self::Error => "error",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Rescued => "rescued",
            Self::Building => "building",
            Self::ShelvedOffloaded => "shelved_offloaded",
            Self::Resized => "resized",
            Self::Deleted => "deleted",
        }
    }

    /// The `status` word Nova derives from vm_state and task_state.
    pub fn status(self, task: Option<&str>) -> &'static str {
        if task.is_some_and(|task| task.starts_with("rebuild"))
            && matches!(self, Self::Active | Self::Stopped | Self::Error)
        {
            return "REBUILD";
        }
        match self {
            Self::Active if task == Some("rebooting_hard") => "HARD_REBOOT",
            Self::Active => "ACTIVE",
            Self::Stopped => "SHUTOFF",
            Self::Error => "ERROR",
            Self::Paused => "PAUSED",
            Self::Suspended => "SUSPENDED",
            Self::Rescued => "RESCUE",
            Self::Building => "BUILD",
            Self::ShelvedOffloaded => "SHELVED_OFFLOADED",
            Self::Resized => "VERIFY_RESIZE",
            Self::Deleted => "DELETED",
        }
    }
}

/// A row of `GET /os-services`.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Stable id.
    pub id: Uuid,
    /// `nova-compute`, `nova-scheduler`, `nova-conductor`.
    pub binary: String,
    /// Host name.
    pub host: String,
    /// Availability zone.
    pub zone: String,
    /// `enabled`, `disabled`; `UNKNOWN` when the cell is down (then the fields below mean nothing).
    pub status: String,
    /// `up` by heartbeat and not forced down.
    pub up: bool,
    /// Last touched by a heartbeat or a PUT; no proof of life.
    pub updated_at: u64,
    /// Why disabled.
    pub disabled_reason: Option<String>,
    /// Declared dead.
    pub forced_down: bool,
}

/// A change to a service; `None` leaves a field alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServicePut {
    /// Declare dead, or take it back.
    pub forced_down: Option<bool>,
    /// `Some(true)` disables.
    pub disabled: Option<bool>,
    /// Only with `disabled: Some(true)`.
    pub disabled_reason: Option<String>,
}

/// A server as Nova shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Uuid.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Project.
    pub project: String,
    /// Nova's belief of where it is; `None` for one without a host.
    pub host: Option<String>,
    /// `ACTIVE`, `SHUTOFF`, `ERROR`, `REBUILD`, ...; `UNKNOWN` when the cell is down.
    pub status: String,
    /// vm_state.
    pub vm_state: VmState,
    /// task_state.
    pub task_state: Option<String>,
    /// 0 none, 1 running, 3 paused, 4 shutdown, 6 crashed, 7 suspended.
    pub power_state: u8,
    /// Locked by its owner or an admin.
    pub locked: bool,
    /// Why locked.
    pub locked_reason: Option<String>,
    /// `UP`, `UNKNOWN`, `DOWN`, `MAINTENANCE` or empty.
    pub host_status: String,
    /// Server metadata.
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Boots from a volume.
    pub volume_backed: bool,
    /// Text of the fault, in ERROR only.
    pub fault: Option<String>,
    /// Creation, milliseconds before or after virtual zero.
    pub created_at: i64,
    /// Last change.
    pub updated_at: u64,
    /// Its number, for `instance-0000000f`.
    pub number: u64,
}

/// Filters of a server listing, as an admin with `all_tenants`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFilter {
    /// Only servers Nova places here. Servers of a cell that is down are silently left out with it.
    pub host: Option<String>,
    /// Only this project.
    pub project: Option<String>,
    /// The last server of the previous page.
    pub marker: Option<Uuid>,
    /// Page size; Nova caps it at 1000.
    pub limit: Option<usize>,
}

/// The body of an evacuate action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvacuateRequest {
    /// Named destination.
    pub host: Option<String>,
    /// 2.29-2.67: skip the scheduler.
    pub force: Option<bool>,
    /// 2.1-2.13 only, required there.
    pub on_shared_storage: Option<bool>,
    /// New password for the guest.
    pub admin_password: Option<String>,
}

/// A migration record.
#[derive(Debug, Clone, PartialEq)]
pub struct Migration {
    /// Number.
    pub id: u64,
    /// Uuid.
    pub uuid: Uuid,
    /// The server.
    pub instance: Uuid,
    /// From.
    pub source: String,
    /// To, once known.
    pub dest: Option<String>,
    /// `accepted`, `pre-migrating`, `done`, `completed`, `error`, `failed`, ...
    pub status: String,
    /// `evacuation` or `live-migration`.
    pub kind: String,
    /// When recorded.
    pub created_at: u64,
    /// Last change.
    pub updated_at: Option<u64>,
}

/// Filters of a migration listing; all given ones must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationFilter {
    /// As source or as destination.
    pub host: Option<String>,
    /// As source.
    pub source: Option<String>,
    /// One server.
    pub instance: Option<Uuid>,
    /// `evacuation`, `live-migration`.
    pub kind: Option<String>,
    /// Status word.
    pub status: Option<String>,
    /// Changed at or after this time.
    pub changed_since: Option<i64>,
    /// Uuid of the last record of the previous page.
    pub marker: Option<Uuid>,
    /// Page size, at most 1000.
    pub limit: Option<usize>,
}

/// An instance action.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// `evacuate`, `stop`, ...
    pub action: String,
    /// `req-...`, as in the call's `x-openstack-request-id`.
    pub request_id: String,
    /// When asked.
    pub start_at: u64,
    /// Last change.
    pub updated_at: u64,
    /// `Error` once any event has failed.
    pub error: bool,
    /// Events, oldest first.
    pub events: Vec<ActionEvent>,
}

/// An event of an instance action.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionEvent {
    /// `rebuild_server`, `compute_rebuild_instance`, ...
    pub event: String,
    /// Host it ran on.
    pub host: String,
    /// Begun.
    pub start_at: u64,
    /// Ended; `None` while (or for ever) unfinished.
    pub finish_at: Option<u64>,
    /// `Some(true)` Success, `Some(false)` Error.
    pub success: Option<bool>,
    /// Text of the failure.
    pub details: Option<String>,
}

/// A host aggregate.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Number.
    pub id: u64,
    /// Uuid.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// Member hosts.
    pub hosts: Vec<String>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Created.
    pub created_at: u64,
}

/// A Placement resource provider with inventory and usage in guests (1 VCPU, 1024 MB, 5 GB each).
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Uuid, equal to the host's system UUID.
    pub uuid: Uuid,
    /// Host name.
    pub name: String,
    /// Generation.
    pub generation: u64,
    /// Guests that fit.
    pub total: usize,
    /// Guests allocated, records left behind by evacuations included.
    pub used: usize,
}

/// A server's allocation on one provider.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Provider.
    pub provider: Uuid,
    /// Host name.
    pub host: String,
    /// Provider generation.
    pub generation: u64,
}

/// What a BMC says it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Serial number.
    pub serial: String,
    /// System UUID.
    pub uuid: Uuid,
}
