//! What a run of the tiny world is made from: typed, so that proptest can make it smaller.

use proptest::prelude::*;

use crate::policy::{Fragile, Policy, Unfenced};
use crate::segment::RecoveryMethod;

/// Which recovery is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    Return,
    /// A host's, with an operator's hooks.
    Hooked,
    /// A host's that a person ordered off.
    Ordered,
    /// A host's with a watchdog.
    Watched,
}

/// A world to be. Troubles are chances in percent, drawn at each occasion.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub kind: Kind,
    pub hooked: bool,
    pub ordered: bool,
    pub watched: bool,
    pub seed: u64,
    pub events: usize,
    pub guests: u8,
    pub agent: bool,
    pub device: bool,
    pub trust: bool,
    pub method: RecoveryMethod,
    pub policy: Policy,
    /// Commits that fail in some way.
    pub db: u8,
    /// Calls to Nova that do not end well.
    pub nova: u8,
    /// Fence acts that prove nothing, readings that fail or are odd.
    pub bmc: u8,
    /// Signs of life of the dead.
    pub life: u8,
    /// Operators and tenants who meddle.
    pub people: u8,
    /// Owners that die.
    pub crashes: u8,
}

fn trouble() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0u8), 3 => 1u8..8, 2 => 8u8..50]
}

fn policy() -> impl Strategy<Value = Policy> {
    (any::<bool>(), any::<bool>(), 1u32..4, 1u32..4, prop_oneof![Just(600_000u64), Just(20_000)]).prop_map(
        |(fragile, unmarked, attempts, in_flight, deadline)| Policy {
            fragile_instances: if fragile { Fragile::EvacuateStopped } else { Fragile::Ignore },
            evacuate_all_instances: unmarked,
            evacuation_attempts: attempts,
            evacuations_in_flight: in_flight,
            evacuation_deadline_ms: deadline,
            ..Policy::default()
        },
    )
}

pub(crate) fn scenarios(kind: Kind) -> impl Strategy<Value = Scenario> {
    let shape = (
        any::<u64>(),
        prop_oneof![1 => 20usize..=200, 2 => Just(200usize)],
        0u8..7,
        any::<bool>(),
        prop::bool::weighted(0.8),
        any::<bool>(),
    );
    let method = prop::sample::select(RecoveryMethod::ALL);
    let troubles =
        (trouble(), trouble(), trouble(), trouble(), trouble(), prop_oneof![2 => Just(0u8), 1 => 1u8..5]);
    (shape, method, policy(), troubles).prop_map(move |(shape, method, policy, troubles)| {
        let (seed, events, guests, agent, device, trust) = shape;
        let (db, nova, bmc, life, people, crashes) = troubles;
        let unfenced = if trust { Unfenced::TrustReporter } else { Unfenced::Refuse };
        let policy = Policy { unfenced, ..policy };
        let (hooked, ordered) = (kind == Kind::Hooked, kind == Kind::Ordered);
        let watched = kind == Kind::Watched;
        let (agent, device) = (agent || watched, device || watched);
        let policy = if watched { super::starved::policy(seed, policy) } else { policy };
        let bmc = if watched && seed.is_multiple_of(2) { 90 } else { bmc };
        let kind = if hooked || ordered || watched { Kind::Host } else { kind };
        let policy = Policy { power_on_when_drained: seed.is_multiple_of(3), ..policy };
        Scenario {
            kind,
            hooked,
            ordered,
            watched,
            seed,
            events,
            guests,
            agent,
            device,
            trust,
            method,
            policy,
            db,
            nova,
            bmc,
            life,
            people,
            crashes,
        }
    })
}
