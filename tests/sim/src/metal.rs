//! Values of bare metal: what a machine does when its supply returns, and what a bare-metal service keeps of a machine.

use uuid::Uuid;

/// What a machine does when its supply returns (Redfish `PowerRestorePolicy`), numbered as in IPMI v2.0 28.2 and 28.8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestorePolicy {
    /// It stays off until somebody switches it on.
    AlwaysOff = 0,
    /// It is on again if it was on when the supply went, unless it was ordered off since.
    #[default]
    LastState = 1,
    /// It is on, fenced or not.
    AlwaysOn = 2,
}

impl RestorePolicy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::AlwaysOff, Self::LastState, Self::AlwaysOn];

    /// Redfish's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::AlwaysOff => "AlwaysOff",
            Self::LastState => "LastState",
            Self::AlwaysOn => "AlwaysOn",
        }
    }
}

/// What a BMC tells of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// This one; another may be set.
    Settable(RestorePolicy),
    /// This one, for good.
    Fixed(RestorePolicy),
    /// Nothing.
    Unknown,
}

/// What a Redfish service makes of `If-Match` on a request that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfMatch {
    /// Without it nothing is asked; a stale one is refused with 412.
    #[default]
    Optional,
    /// 428 without it (Huawei iBMC, AMI).
    Needed,
    /// 412 with any (iDRAC10).
    Refused,
}

/// Ways of a BMC that only its protocol shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BmcManners {
    /// Of Redfish.
    pub if_match: IfMatch,
    /// `Retry-After` is a date (RFC 9110 10.2.3) and not seconds. Of Redfish.
    pub retry_after_date: bool,
    /// Users without name or password may log in, says Get Channel Authentication Capabilities. Of IPMI.
    pub anonymous_login: bool,
    /// Its firmware is being updated, says Get Device ID. Of IPMI.
    pub updating: bool,
    /// Cipher suite 0, which asks for no password, is among those it lists (a session of it is refused here). Of IPMI.
    pub suite_zero: bool,
    /// The account may look and not touch: IPMI grants USER, Redfish shows the role ReadOnly and refuses changes with 403.
    pub read_only: bool,
}

/// A node of the bare-metal service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Uuid.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// The host whose machine it is.
    pub host: String,
    /// `redfish`, `ipmi`, or `fake-hardware` for a machine without a BMC.
    pub driver: &'static str,
    /// `active`, as of everything that carries a hypervisor.
    pub provision_state: &'static str,
    /// The power on record, which the power sync enforces; `None` before the first reading.
    pub power: Option<bool>,
    /// What it has been ordered to, until it is so.
    pub target: Option<bool>,
    /// Left alone by the power sync.
    pub maintenance: bool,
    /// Why.
    pub maintenance_reason: Option<String>,
    /// `power failure` when the power sync gave up.
    pub fault: Option<&'static str>,
    /// When enrolled, milliseconds of virtual time.
    pub created_at: u64,
    /// Last change.
    pub updated_at: Option<u64>,
}
