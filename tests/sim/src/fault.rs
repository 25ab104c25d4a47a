//! All that can be made to go wrong. A duration of `None` means until told otherwise.

use crate::metal::{IfMatch, RestorePolicy};
use crate::model::Network;
use uuid::Uuid;

/// A class of Nova's routes, so that a fault can hit one and spare the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// `GET /os-services`.
    Services,
    /// `PUT /os-services/{id}`.
    ServicePut,
    /// `GET /servers/detail`.
    Servers,
    /// `GET /servers/{id}`.
    Server,
    /// The evacuate action.
    Evacuate,
    /// All other server actions (start, stop, lock, ...), and delete.
    ServerAction,
    /// `GET /os-migrations`.
    Migrations,
    /// `GET /servers/{id}/os-instance-actions`.
    InstanceActions,
    /// Aggregates.
    Aggregates,
    /// Everything else (versions, hypervisors).
    Other,
}

/// How a faulty Nova behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NovaAnswer {
    /// Answers with this status, having done nothing.
    Status(u16),
    /// Does what was asked, then answers with this status (a proxy's 502 or 504).
    DoneThenStatus(u16),
    /// Does what was asked and never answers.
    HangAfterDoing,
    /// Neither does nor answers.
    HangBeforeDoing,
    /// Evacuate only: answers 200, has recorded it, and never passes it on (nova-api killed in between).
    AcceptAndForget,
    /// Evacuate only: answers 200 and passes it on once the fault is over (conductor stopped).
    ConductorStopped,
}

/// What is wrong with a BMC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BmcFault {
    /// Well again: all faults of this BMC end.
    Healed,
    /// Without power of its own: silence.
    Dead,
    /// Accepts connections and says nothing.
    Hang,
    /// Says done to an off order and does nothing.
    AckNoOff,
    /// Always reads Off.
    LieOff,
    /// Always reads On.
    LieOn,
    /// Takes this many milliseconds from an off order to its effect.
    SlowOff(u64),
    /// Its cable leads to another machine: shows that one's identity and switches that one.
    WrongMachine(String),
    /// Its password was changed.
    WrongPassword,
    /// The next n requests are answered 503 (IPMI: node busy).
    Busy(u32),
    /// Switches the machine on again this many milliseconds after each off.
    AutoOn(u64),
    /// Does what is asked, but no answer to a power order arrives.
    DropAnswer,
    /// Answers this many milliseconds late.
    SlowAnswer(u64),
    /// All open sessions are gone, as after a reset of the BMC.
    ForgetSessions,
    /// Knows nothing of a restore policy: no property, no command.
    NoRestorePolicy,
    /// Shows its restore policy and takes no other (Redfish 405; IPMI: no such command).
    FixedRestorePolicy,
    /// Redfish: what it makes of `If-Match` on whatever changes something.
    IfMatch(IfMatch),
    /// Redfish: says with a date when to come again.
    RetryAfterDate,
    /// IPMI: says that nameless users may log in (they may not, here).
    AnonymousLogin,
    /// IPMI: says that its firmware is being updated.
    Updating,
    /// IPMI: lists cipher suite 0, which asks for no password.
    SuiteZero,
    /// The account has lost its privilege: it may look and not touch.
    ReadOnly,
}

/// A fault to inject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The host loses power; with `with_bmc` its BMC goes dark as well (shared supply).
    HostPowerLoss { host: String, with_bmc: bool },
    /// The host freezes, guests included, and thaws after `for_ms`.
    HostHang { host: String, for_ms: Option<u64> },
    /// The kernel panics and halts; power stays on, guests are gone.
    HostPanic { host: String },
    /// Mains are back and somebody switches the host on, whatever its restore policy: it boots with a new boot id.
    HostReturn { host: String },
    /// The host loses these networks.
    NetworkCut { host: String, networks: Vec<Network>, for_ms: Option<u64> },
    /// All networks of the host work again.
    NetworkHealed { host: String },
    /// The supply of a host is back: the restore policy decides whether it starts. Without an earlier loss nothing happens.
    SupplyReturn { host: String },
    /// The same for all hosts of the rack.
    RackSupplyReturn { rack: String },
    /// Somebody sets the host's restore policy.
    RestorePolicy { host: String, policy: RestorePolicy },
    /// The bare-metal service does not answer (its power sync goes on).
    IronicDown { for_ms: Option<u64> },
    /// It answers again.
    IronicHealed,
    /// All hosts of the rack and their BMCs lose power.
    RackDown { rack: String },
    /// The BMC misbehaves.
    Bmc { host: String, fault: BmcFault },
    /// Nova misbehaves on one class of routes, or on all of them.
    NovaAnswers { route: Option<Route>, answer: NovaAnswer, for_ms: Option<u64> },
    /// All faults of Nova end.
    NovaHealed,
    /// Keystone does not answer (connections are accepted and get a 503).
    KeystoneDown { for_ms: Option<u64> },
    /// Keystone answers again.
    KeystoneHealed,
    /// All issued tokens are revoked.
    TokensRevoked,
    /// Neutron is unreachable: evacuations get stuck.
    NeutronDown { for_ms: Option<u64> },
    /// Placement is unreachable: the scheduler finds no host.
    PlacementDown { for_ms: Option<u64> },
    /// What `from` sends no longer reaches `to` on these networks. Either may be a host or any other name (an engine, a
    /// controller): the world keeps the link, not the node.
    LinkCut { from: String, to: String, networks: Vec<Network>, for_ms: Option<u64> },
    /// All cut links work again.
    LinksHealed,
    /// The next destination that begins to spawn an evacuated guest loses power in the middle.
    DestinationDies,
    /// The next `times` spawns on this host fail.
    SpawnFails { host: String, times: u32 },
    /// The Nova cell of these hosts does not answer.
    CellDown { hosts: Vec<String>, for_ms: Option<u64> },
    /// nova-compute dies and stays dead until started.
    ComputeCrash { host: String },
    /// nova-compute is started (and destroys the copies its evacuation records name).
    ComputeStart { host: String },
    /// The guest's QEMU dies.
    GuestCrash { guest: Uuid },
    /// The host's agent dies; the host is well.
    AgentCrash { host: String },
    /// The host's agent runs again.
    AgentStart { host: String },
}
