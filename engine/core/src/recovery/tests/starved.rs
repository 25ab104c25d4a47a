//! A watchdog's lease in the tiny world: who renewed it when, what this engine could see of that, and what its agent attests. The books
//! are the world's own; the inequality stands here in figures (L 5 s, W 10 s, balanced), not in the product's words.

use uuid::Uuid;

use super::scenario::Scenario;
use super::world::World;
use crate::chance::Chance;
use crate::evidence::Evidence;
use crate::fence::FenceProof;
use crate::id::BootId;
use crate::policy::{Policy, WatchdogProof};
use crate::time::Mono;
use crate::watchdog::{Attested, Renewers};

/// (5 + 10) * 1.0004 + 1 + 5 + 3 seconds.
const NEEDED_MS: u64 = 24_006;

#[derive(Clone, Debug)]
pub(crate) struct Lease {
    dice: Chance,
    /// One thing that makes it unfit, or more than seven: nothing.
    flaw: u64,
    /// No other device.
    pub only: bool,
    /// Every instant up to which somebody may have renewed.
    renewed: Vec<Mono>,
    looked: Option<Mono>,
    unsure: bool,
}

/// What a world with a watchdog runs under.
pub(super) fn policy(seed: u64, policy: Policy) -> Policy {
    let flaw = seed % 12;
    let watchdog_proof = if flaw == 0 { WatchdogProof::Off } else { WatchdogProof::Hardware };
    Policy { watchdog_proof, ..policy }
}

impl Lease {
    pub fn new(scenario: &Scenario, boot: BootId, evidence: &mut Evidence) -> Lease {
        let mut dice = Chance::new(scenario.seed ^ 0x7a7c);
        let only = dice.number().is_multiple_of(2);
        let flaw = scenario.seed % 12;
        evidence.has_watchdog = flaw != 1;
        evidence.only_watchdog = only && flaw != 1;
        let heard = evidence.beats.last_any();
        evidence.beats.received = heard;
        let renewed = heard.into_iter().collect();
        let lease = Lease { dice, flaw, only, renewed, looked: None, unsure: false };
        evidence.beats.attested = heard.map(|at| lease.attested(boot, at));
        lease
    }

    pub fn attested(&self, boot: BootId, at: Mono) -> Attested {
        Attested {
            boot: if self.flaw == 2 { BootId(Uuid::from_u128(0xb007)) } else { boot },
            at,
            armed: self.flaw != 3,
            nowayout: self.flaw != 4,
            software: self.flaw == 5,
            lease_ms: if self.flaw == 6 { 0 } else { 5_000 },
            timeout_ms: 10_000,
            changed: self.flaw == 7,
        }
    }

    pub fn renewed(&mut self, at: Mono) {
        self.renewed.push(at);
    }

    /// Another engine hears the host, perhaps; this one looks at what the others say, perhaps.
    pub fn advance(&mut self, now: Mono, alive: bool, evidence: &mut Evidence) {
        if alive && self.dice.number().is_multiple_of(3) {
            self.renewed.push(now);
        }
        if self.dice.number().is_multiple_of(3) {
            return;
        }
        self.looked = Some(now);
        self.unsure = self.dice.number().is_multiple_of(12);
        let last = self.renewed.iter().max().copied().unwrap_or(Mono(0));
        let none_since = if self.unsure { Err("an engine has not said".to_owned()) } else { Ok(last) };
        evidence.renewers = Some(Renewers { looked_at: now, none_since });
    }

    /// Why a proof by lease must not have been made, if so.
    pub fn forbids(&self, proof: &FenceProof, world: &World) -> Option<String> {
        let boot = world.store.host.boot;
        if self.flaw <= 7 {
            return Some(format!("flaw {} makes the watchdog unfit", self.flaw));
        }
        if world.evidence.beats.boot != boot || proof.boot_number() != world.store.host.boot_number {
            return Some("another boot was heard, or is proved, than the one attested".into());
        }
        let Some(looked) = self.looked.filter(|_| !self.unsure) else {
            return Some("the other engines were not looked at, or one may renew".into());
        };
        let last = self.renewed.iter().filter(|at| **at <= looked).max().copied().unwrap_or(Mono(0));
        let waited = looked.since(last).as_millis() as u64;
        let own = world.evidence.beats.received.map_or(u64::MAX, |at| world.now.since(at).as_millis() as u64);
        let taken_over = world.store.recovery.epoch > 4;
        let listened = world.now.since(world.claimed_at).as_millis() as u64;
        if waited < NEEDED_MS || own < NEEDED_MS || (taken_over && listened < NEEDED_MS) {
            return Some(format!("waited {waited} ms, own {own} ms, since the claim {listened} ms"));
        }
        None
    }
}

/// An order that proved nothing, and a lease that is over; what its owner knows is changed before each step.
mod steps {
    use std::collections::BTreeMap;

    use super::super::views::calm;
    use super::super::{NOON, START};
    use super::*;
    use crate::effect::Query;
    use crate::evidence::{Power, PowerReading, Witness};
    use crate::facts::{Facts, Failure};
    use crate::fence::{self, Means};
    use crate::recovery::host::{HostRecovery, HostState, Order};
    use crate::recovery::{Body, Recovery, step};
    use crate::step::{Step, View};

    fn ago(ms: u64) -> Mono {
        Mono(START.0 - ms)
    }

    struct Case {
        recovery: Recovery,
        facts: Facts,
    }

    impl Case {
        fn over(only: bool) -> Case {
            let world = World::new(calm(), START, NOON);
            let host = world.store.host.clone();
            let order = Order { attempt: 1, boot_number: host.boot_number, intent: None };
            let mut body = HostRecovery::new();
            body.state = HostState::Fencing { order };
            let policy = Policy { watchdog_proof: WatchdogProof::Hardware, ..Policy::default() };
            let recovery =
                Recovery { body: Body::Host(body), policy, epoch: 1, ..world.store.recovery.clone() };
            let mut evidence = world.evidence.clone();
            (evidence.has_device, evidence.has_watchdog, evidence.only_watchdog) = (true, true, only);
            (evidence.beats.received, evidence.beats.last_echoed) = (Some(ago(90_000)), Some(ago(90_000)));
            evidence.beats.last.iter_mut().for_each(|(_, at)| *at = ago(90_000));
            evidence.beats.attested = host.boot.map(|boot| Attested {
                boot,
                at: ago(90_000),
                armed: true,
                nowayout: true,
                software: false,
                lease_ms: 5_000,
                timeout_ms: 10_000,
                changed: false,
            });
            evidence.renewers = Some(Renewers { looked_at: ago(20), none_since: Ok(Mono(0)) });
            let facts = Facts {
                claimed_at: ago(80_000),
                ordered_at: Some(ago(80_000)),
                not_before: Some(Mono(START.0 + 30_000)),
                segment_enabled: true,
                host: Some(host),
                evidence,
                ..Facts::default()
            };
            Case { recovery, facts }
        }

        fn step(&self) -> Step {
            let vmoves = BTreeMap::new();
            let view = View {
                recovery: &self.recovery,
                vmoves: &vmoves,
                facts: &self.facts,
                now: START,
                stamp: NOON,
            };
            step(view, &mut Chance::new(7))
        }

        fn silence(&mut self) -> &mut Case {
            let query = Query::Power { host: self.recovery.subject.host() };
            self.facts.failures.insert(query, Failure { at: ago(3_000), text: "silence".into(), count: 2 });
            self
        }

        fn proves(&self) -> bool {
            let patches = self.step().change.map(|change| change.hosts).unwrap_or_default();
            patches.iter().any(|(_, patch)| {
                matches!(&patch.proof, Some(Some(proof)) if matches!(proof.means(), Means::Lease { .. }))
            })
        }

        /// The lease's proof is held.
        fn proved() -> Case {
            let mut case = Case::over(true);
            let (Some(host), policy) = (case.facts.host.clone(), case.recovery.policy.clone()) else {
                panic!("a host");
            };
            let boot = (host.boot_number, host.boot);
            let made = fence::expire(host.id, boot, 1, &case.facts.evidence, &policy, None, START);
            let order = Order { attempt: 1, boot_number: host.boot_number, intent: None };
            if let Body::Host(body) = &mut case.recovery.body {
                body.state = HostState::Proved { order, proof: made.expect("over"), marked_down: false };
            }
            case.facts.proved_at = Some(ago(5_000));
            case
        }

        fn voids(&self) -> bool {
            let audit = self.step().change.map(|change| change.audit).unwrap_or_default();
            audit.iter().any(|entry| entry.what == "proof_voided")
        }
    }

    #[test]
    fn its_other_devices_are_asked_once_more() {
        let mut case = Case::over(false);
        assert!(!case.proves());
        assert!(case.step().queries.iter().any(|query| matches!(query, Query::Power { .. })));
        assert!(case.silence().proves());
        let reading = |power| PowerReading { at: ago(2_000), power, identified: true, device: "bmc".into() };
        case.facts.power = Some(reading(Power::On));
        case.facts.evidence.power = case.facts.power.clone();
        assert!(!case.proves(), "it reads On");
        assert!(Case::over(true).proves(), "nobody else could be asked");
    }

    #[test]
    fn another_boot_or_one_that_came_to_life_again_is_not_proved() {
        let mut case = Case::over(true);
        if let Some(host) = &mut case.facts.host {
            host.boot_number += 1;
        }
        assert!(!case.proves(), "ordered was another boot");
        let mut case = Case::over(true);
        if let Some(host) = &mut case.facts.host {
            host.retired_boots.extend(host.boot);
        }
        assert!(!case.proves(), "proved off before, and it lived");
    }

    #[test]
    fn who_took_over_waits_the_whole_time() {
        let mut case = Case::over(true);
        case.recovery.epoch = 2;
        case.facts.claimed_at = ago(24_000);
        assert!(!case.proves());
        case.facts.claimed_at = ago(24_100);
        assert!(case.proves());
    }

    #[test]
    fn what_beats_again_and_takes_no_orders_is_not_kept_out() {
        let mut case = Case::over(true);
        case.facts.evidence.beats.last_echoed = Some(ago(300));
        let change = case.step().change.expect("a change");
        assert!(change.audit.iter().any(|entry| entry.what == "order_retired"));
        assert!(matches!(&change.body, Body::Host(body) if body.retiring == Some(false)));
    }

    #[test]
    fn any_life_after_it_voids_it() {
        assert!(!Case::proved().voids());
        let mut case = Case::proved();
        case.facts.evidence.beats.received = Some(ago(1_000));
        assert!(case.voids(), "a beat that echoed nothing");
        let mut case = Case::proved();
        let heard = Some(std::time::Duration::from_millis(300));
        let witness =
            Witness { name: "cmp-2".into(), domain: None, at: ago(500), heard, storage_only: false };
        case.facts.evidence.witnesses.push(witness);
        assert!(case.voids(), "a witness");
    }
}
