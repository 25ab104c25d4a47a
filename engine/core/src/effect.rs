//! Everything this service can do to a cloud, and everything it can ask of one. The two lists are complete.

use serde::{Deserialize, Serialize};

use crate::fence::FenceReport;
use crate::hook::{HookCall, HookReport};
use crate::id::{HostId, InstanceId, RecoveryId};
use crate::instance::Guest;
use crate::time::Mono;

/// One change to the world. Each has its intent committed before it goes out (I7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// Order the machine off through its levels of devices and read it back.
    PowerOff {
        host: HostId,
        /// A device that cannot name its machine may be tried out: that it switches this one is what is to be shown.
        #[serde(default)]
        drill: bool,
    },
    /// Order the machine on and read it. Never repeated blindly.
    PowerOn {
        host: HostId,
    },
    /// Give its controllers the power-restore policy back that they had before the off.
    RestorePolicy {
        host: HostId,
    },
    /// Forced down and disabled in one PUT (DESIGN 10.4).
    MarkDown {
        host: String,
        reason: String,
    },
    /// Take a living host out of scheduling.
    Disable {
        host: String,
        reason: String,
    },
    Enable {
        host: String,
    },
    /// Clear forced-down.
    ForceUp {
        host: String,
    },
    /// Enable a reserved host, and put it into the dead host's aggregates where policy says so.
    PrepareReserved {
        reserved: String,
        dead: String,
        aggregates: bool,
    },
    Lock {
        instance: InstanceId,
        reason: String,
    },
    Unlock {
        instance: InstanceId,
    },
    ResetToError {
        instance: InstanceId,
    },
    /// For a resized guest that is to be stopped (contract 3.6).
    ResetToActive {
        instance: InstanceId,
    },
    Evacuate {
        instance: InstanceId,
        to: Option<String>,
    },
    Stop {
        instance: InstanceId,
    },
    Start {
        instance: InstanceId,
    },
    /// Revoke the BMC sessions recorded for a host.
    RevokeSessions {
        host: HostId,
    },
    /// Run a command or send a request that an operator configured. It decides nothing here.
    RunHook {
        call: Box<HookCall>,
    },
}

/// Each effect's word, and the list of all words made of the same lines: an effect that is left out does not compile.
macro_rules! words {
    ($($effect:ident => $word:expr,)*) => {
        /// All words, in the order of the effects: what must hold for every effect is tried for each of these.
        pub const WORDS: &[&str] = &[$($word),*];

        /// The effect's word, as in intents and audit.
        pub fn word(&self) -> &'static str {
            match self {
                $(Self::$effect { .. } => $word,)*
            }
        }
    };
}

impl Effect {
    words! {
        PowerOff => "power_off",
        PowerOn => "power_on",
        RestorePolicy => "restore_policy",
        MarkDown => "mark_down",
        Disable => "disable",
        Enable => "enable",
        ForceUp => "force_up",
        PrepareReserved => "prepare_reserved",
        Lock => "lock",
        Unlock => "unlock",
        ResetToError => "reset_to_error",
        ResetToActive => "reset_to_active",
        Evacuate => "evacuate",
        Stop => "stop",
        Start => "start",
        RevokeSessions => "revoke_sessions",
        RunHook => crate::recovery::HOOK_WORD,
    }

    /// The guest it acts on.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Self::Lock { instance, .. }
            | Self::Unlock { instance }
            | Self::ResetToError { instance }
            | Self::ResetToActive { instance }
            | Self::Evacuate { instance, .. }
            | Self::Stop { instance }
            | Self::Start { instance } => Some(*instance),
            _ => None,
        }
    }

    /// Of the calls about a guest, whether it is on the way out: its lock, its reset, its evacuation. The others finish a move.
    pub fn is_out(&self) -> bool {
        matches!(self, Self::Lock { .. } | Self::ResetToError { .. } | Self::Evacuate { .. })
    }
}

/// How many calls about guests: those that move them, and those that finish moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub out: usize,
    pub back: usize,
}

impl Calls {
    /// Counts those among effects.
    pub fn of<'a>(effects: impl IntoIterator<Item = &'a Effect>) -> Calls {
        let mut calls = Calls::default();
        for effect in effects.into_iter().filter(|effect| effect.instance().is_some()) {
            *if effect.is_out() { &mut calls.out } else { &mut calls.back } += 1;
        }
        calls
    }
}

/// How an effect ended, as far as one can know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Done {
    /// Accepted; what that is worth, the world must show.
    Accepted {
        note: String,
    },
    Fenced {
        report: FenceReport,
    },
    /// A hook has ended, well or not.
    Hook {
        report: HookReport,
    },
    /// A complete refusal: it was not executed.
    Refused {
        status: u16,
        text: String,
    },
    /// The thing does not exist (404).
    Gone {
        text: String,
    },
    /// Certainly not executed, worth trying again (503, connection refused).
    NotExecuted {
        text: String,
    },
    /// Perhaps executed (500, 502, 504, reset, time-out).
    Unknown {
        text: String,
    },
}

impl Done {
    /// The word stored with the intent.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Accepted { .. } | Self::Fenced { .. } | Self::Hook { .. } => "done",
            Self::Refused { .. } => "refused",
            Self::Gone { .. } => "gone",
            Self::NotExecuted { .. } => "not_executed",
            Self::Unknown { .. } => "unknown",
        }
    }
}

/// One question to the world; it changes nothing and needs no intent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// One power reading with identity.
    Power { host: HostId },
    /// Service rows before and after, migrations of the host, unfinished evacuations everywhere, all guests of the host
    /// (DESIGN 10.4, 10.6).
    Survey { host: String },
    /// The dead host's evacuation records: one poll for all moves.
    Progress { host: String },
    /// All guests Nova places on a destination.
    Destination { host: String },
    /// One guest: before a repeated call, and when it left the list.
    Guest { instance: InstanceId },
    /// Whether the evacuate action of a guest ended in error: the one sign of a record that hangs (NOVA.md).
    Action { instance: InstanceId },
    /// One compute service.
    Service { host: String },
}

/// A migration record of Nova.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    pub id: i64,
    pub instance: InstanceId,
    pub source: String,
    pub dest: Option<String>,
    pub status: String,
    /// `evacuation`, `live-migration`, `migration`, `resize`.
    pub kind: String,
}

impl Migration {
    pub fn is_evacuation(&self) -> bool {
        self.kind == "evacuation"
    }
    /// Arrived, as far as the record says.
    pub fn is_done(&self) -> bool {
        matches!(self.status.as_str(), "done" | "completed")
    }
    /// Ended without moving the guest.
    pub fn is_dead(&self) -> bool {
        matches!(self.status.as_str(), "error" | "failed" | "cancelled")
    }
    /// May still start the guest on its destination.
    pub fn is_unfinished(&self) -> bool {
        !self.is_done() && !self.is_dead() && !matches!(self.status.as_str(), "confirmed" | "reverted")
    }
}

/// What each reason that we give Nova for a disabled service begins with.
const HALBERD: &str = "Halberd";

/// The reason that Nova is given for a service that is disabled since its host, or its process, failed.
pub fn disabled_reason(what: &str, recovery: RecoveryId) -> String {
    format!("{HALBERD}: {what} failed (recovery {recovery})")
}

/// A compute service as Nova lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    pub id: String,
    pub host: String,
    pub up: bool,
    pub enabled: bool,
    pub forced_down: bool,
    pub disabled_reason: Option<String>,
    /// Compared for change only, never read as a time.
    pub updated_at: Option<String>,
    /// False for a row of a cell that is down.
    pub whole: bool,
}

impl ServiceRow {
    /// Whether it bears a reason that we gave.
    pub fn bears_our_reason(&self) -> bool {
        self.disabled_reason.as_deref().is_some_and(|reason| reason.starts_with(HALBERD))
    }

    /// Whether a PUT of some engine, of a former run or of another one, made this row out of that: it bears our reason now, or bore it. Nova
    /// dates a PUT as it dates a heartbeat (NOVA.md).
    pub fn is_put_by_us(&self, before: &ServiceRow) -> bool {
        let put = |row: &ServiceRow| (row.enabled, row.forced_down, row.disabled_reason.clone());
        (self.bears_our_reason() || before.bears_our_reason()) && put(self) != put(before)
    }
}

/// The answer to [`Query::Survey`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Survey {
    /// When it began: what it shows is at least this young.
    pub at: Mono,
    /// The host's row was whole before and after: no cell was left out in silence.
    pub complete: bool,
    pub guests: Vec<Guest>,
    /// Of the host as source or destination, and unfinished evacuations of everywhere.
    pub migrations: Vec<Migration>,
    pub services: Vec<ServiceRow>,
}
