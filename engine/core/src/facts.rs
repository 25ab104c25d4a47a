//! What the owner of a recovery knows just now. Volatile: a new owner starts with none and looks again.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::brake::Fleet;
use crate::effect::{Calls, Done, Effect, Migration, Query, ServiceRow, Survey};
use crate::evidence::{Evidence, Power, PowerReading};
use crate::hook::HookWish;
use crate::host::{Asked, Host};
use crate::id::{HostId, InstanceId};
use crate::instance::Guest;
use crate::sight::Pulse;
use crate::time::Mono;

/// An effect's end that no commit has taken up yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub intent: Uuid,
    pub effect: Effect,
    pub done: Done,
    pub at: Mono,
}

/// An answer to a question, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub at: Mono,
    pub text: String,
    /// How often in a row.
    pub count: u32,
}

/// A statement of an operator that the machine is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// When it was made: life heard after it makes it void.
    pub at: Mono,
    pub serial: String,
    pub actor: String,
    pub reason: String,
}

/// Another host's proof, as far as one may rest on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedOff {
    pub host: HostId,
    /// A device said so, and can be asked again.
    pub by_power: bool,
    /// When the boot that was fenced was last heard before its end was on file.
    pub heard: Option<Mono>,
    /// When it was last heard after that, from whatever boot: it lives, whatever its proof says.
    pub spoke: Option<Mono>,
}

/// Everything a step may look at besides what is stored.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// When this owner claimed: windows that a crash interrupted start again from here.
    pub claimed_at: Mono,
    pub host: Option<Host>,
    /// Its row was deleted.
    pub host_gone: bool,
    pub segment_enabled: bool,
    pub evidence: Evidence,
    pub fleet: Fleet,
    /// Hosts of the segment kept in reserve or taken by this recovery.
    pub reserved: Vec<Host>,
    /// Hosts with a valid proof, by name: their copies of a guest are dead (DESIGN 2.7).
    pub proved_off: BTreeMap<String, ProvedOff>,
    /// Newest readings of their power, asked for before anything rests on those proofs.
    pub others_power: BTreeMap<HostId, PowerReading>,
    /// A return's host has a recovery of its own open.
    pub recovering: bool,
    pub confirmation: Option<Confirmation>,
    /// Who cancels it, and why.
    pub cancelled: Option<String>,
    /// Who takes an out host back, and why.
    pub readmitted: Option<String>,
    /// Who has it turned off whether it is dead or not. Counts once.
    pub ordered: Option<Asked>,
    /// Who has it switched on once it is drained. Counts once.
    pub power_on: Option<Asked>,
    /// What is to become of the hook that holds it.
    pub hook_wish: Option<HookWish>,
    /// Guests that the host's own agent says are running there now; `None`: no agent said.
    pub domains: Option<Vec<InstanceId>>,

    pub power: Option<PowerReading>,
    pub survey: Option<Survey>,
    /// Ids listed by the survey before the last complete one.
    pub listed_before: Option<BTreeSet<InstanceId>>,
    /// Newest sight of each migration record.
    pub migrations: BTreeMap<i64, Migration>,
    pub migrations_at: Option<Mono>,
    /// Newest sight of a guest by itself or on a destination; `None`: Nova says it does not exist.
    pub guests: BTreeMap<InstanceId, (Mono, Option<Guest>)>,
    /// Evacuate actions that ended in error, with Nova's words; `None`: not in error when looked at.
    pub actions: BTreeMap<InstanceId, (Mono, Option<String>)>,
    pub service: Option<(Mono, Option<ServiceRow>)>,
    /// How that row moved over the answers.
    pub pulse: Pulse,
    pub failures: BTreeMap<Query, Failure>,

    pub outcomes: Vec<Outcome>,
    /// Effects under way, by intent.
    pub in_flight: BTreeMap<Uuid, Effect>,
    /// What the other recoveries of this engine leave of the calls about guests that may be under way at once; `None`: nobody counts.
    pub room: Option<Calls>,
    /// Intents found unresolved when the recovery was loaded: perhaps sent by a former owner.
    pub inherited: Vec<crate::runner::Intent>,
    /// Pauses after failures, per guest.
    pub pauses: BTreeMap<InstanceId, Mono>,
    /// When a call whose outcome is unknown was noticed, per guest.
    pub unknown_since: BTreeMap<InstanceId, Mono>,
    /// When each accepted evacuation was first known to this owner.
    pub accepted_since: BTreeMap<InstanceId, Mono>,
    /// The cloud answered "not now": one call at a time until one is taken.
    pub breaker: bool,
    /// When an attempt at something host-wide may be made again.
    pub not_before: Option<Mono>,
    /// When the next attempt of a hook may begin.
    pub hook_not_before: Option<Mono>,
    /// When the present order was written, or the recovery claimed with it.
    pub ordered_at: Option<Mono>,
    /// When the proof was made, or the recovery claimed with it: life after it voids it.
    pub proved_at: Option<Mono>,
    /// When the host was marked down as far as this owner saw.
    pub marked_at: Option<Mono>,
    /// Since when nothing is ordered of the host any more.
    pub orders_over_at: Option<Mono>,
}

impl Facts {
    /// An effect on this guest is under way or its end is not yet taken up.
    pub fn is_busy(&self, instance: InstanceId) -> bool {
        self.in_flight.values().any(|effect| effect.instance() == Some(instance))
    }

    /// A change to the cloud is under way. A hook is none.
    pub fn awaits_deed(&self) -> bool {
        self.in_flight.values().any(|effect| !matches!(effect, Effect::RunHook { .. }))
    }

    pub fn in_flight(&self, word: &str) -> bool {
        self.in_flight.values().any(|effect| effect.word() == word)
    }

    pub fn outcome(&self, word: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.effect.word() == word)
    }

    /// The survey, when it began at most `age` ago.
    pub fn fresh_survey(&self, now: Mono, age_ms: u64) -> Option<&Survey> {
        self.survey.as_ref().filter(|survey| now.0.saturating_sub(survey.at.0) <= age_ms)
    }

    /// The power reading when it is at most `age` old and names the right machine.
    pub fn fresh_power(&self, now: Mono, age_ms: u64) -> Option<&Power> {
        self.power
            .as_ref()
            .filter(|reading| reading.identified && now.0.saturating_sub(reading.at.0) <= age_ms)
            .map(|reading| &reading.power)
    }
}
