//! What happened, in order: each call that changes something, accepted or refused, and each physical change.

use crate::fault::Fault;
use crate::metal::RestorePolicy;
use uuid::Uuid;

/// One entry of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Milliseconds of virtual time.
    pub at: u64,
    /// What happened.
    pub what: What,
}

/// A change of the world, or a call that asked for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something was made to go wrong.
    Injected(Fault),
    /// A BMC accepted an off order; `machine` is the host it will act on.
    OffOrdered { bmc: String, machine: String },
    /// A BMC accepted an on order.
    OnOrdered { bmc: String, machine: String },
    /// A BMC refused or ignored a power order.
    PowerOrderRefused { bmc: String, why: String },
    /// A BMC set a restore policy; `machine` is the host it is for.
    RestorePolicySet { bmc: String, machine: String, policy: RestorePolicy },
    /// The bare-metal service's power sync found another power than it has on record, and ordered that.
    PowerForced { host: String, on: bool },
    /// The host's power went away: its memory is gone.
    PoweredOff { host: String },
    /// The host got power and begins to boot.
    PoweredOn { host: String },
    /// The host reached user land with this boot id.
    Booted { host: String, boot: Uuid },
    /// The host froze.
    Hung { host: String },
    /// The host runs on as if nothing had been.
    Thawed { host: String },
    /// The host's kernel halted.
    Panicked { host: String },
    /// nova-compute started.
    ComputeStarted { host: String },
    /// nova-compute ended.
    ComputeStopped { host: String },
    /// The guest began to execute on the host.
    GuestStarted { guest: Uuid, host: String },
    /// The guest ceased to execute on the host.
    GuestStopped { guest: Uuid, host: String },
    /// The local copy of the guest was removed from the host.
    LocalCopyDestroyed { guest: Uuid, host: String },
    /// Nova accepted an evacuate call (200), with the migration it recorded. `held_by` are the hosts that had the guest in
    /// memory at that moment: whoever calls with any there risks a double run.
    EvacuateAccepted {
        guest: Uuid,
        source: String,
        target: Option<String>,
        migration: u64,
        held_by: Vec<String>,
    },
    /// Nova refused an evacuate call.
    EvacuateRefused { guest: Uuid, code: u16 },
    /// The evacuation has settled on this host.
    EvacuateDone { guest: Uuid, host: String, migration: u64 },
    /// The evacuation has failed.
    EvacuateFailed { guest: Uuid, migration: u64, why: String },
    /// A second evacuation was accepted before the first had settled: the guest is damaged.
    DoubleEvacuation { guest: Uuid },
    /// `forced_down` was set to this value.
    ForcedDown { host: String, value: bool },
    /// `status` was set; true means disabled.
    Disabled { host: String, value: bool },
    /// A change of a service was refused.
    ServicePutRefused { host: String, code: u16 },
    /// A server action other than evacuate was accepted, by its wire name.
    ServerAction { guest: Uuid, action: String },
    /// The server was deleted.
    Deleted { guest: Uuid },
    /// The guest executes on more than one host from now on.
    DoubleRun { guest: Uuid, hosts: Vec<String> },
}
