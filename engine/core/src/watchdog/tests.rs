//! The inequality, who is fit for it, and a model of the whole: a host that obeys, two engines with clocks of their own that freeze, lose
//! datagrams and their database, and the claim that nobody is ever proved dead who lives.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::evidence::{Beats, Network, PowerReading, Witness};
use crate::fence;
use crate::lease::Hold;
use crate::policy::Profile;
use crate::sight::{Heard, HostSight, Rows, Watchdog};

const BOOT: BootId = BootId(Uuid::from_u128(0xb007));
const HOST: HostId = HostId(Uuid::from_u128(0xd0));
const OTHER: EngineId = EngineId(Uuid::from_u128(0xe2));

fn hardware() -> Policy {
    Policy { watchdog_proof: WatchdogProof::Hardware, ..Policy::default() }
}

/// Silent since 100 s, looked at a moment ago.
fn starved(now: Mono) -> Evidence {
    let ago = |ms: u64| Mono(now.0 - ms);
    Evidence {
        beats: Beats {
            last: vec![(Network::Management, ago(100_010))],
            boot: Some(BOOT),
            received: Some(ago(100_000)),
            attested: Some(Attested {
                boot: BOOT,
                at: ago(100_010),
                armed: true,
                nowayout: true,
                software: false,
                lease_ms: 5_000,
                timeout_ms: 10_000,
                changed: false,
            }),
            listening_since: ago(900_000),
            ..Beats::default()
        },
        agent: true,
        has_device: true,
        has_watchdog: true,
        renewers: Some(Renewers { looked_at: ago(10), none_since: Ok(Mono(0)) }),
        ..Evidence::default()
    }
}

const NOW: Mono = Mono(2_000_000);

fn ends(evidence: &Evidence, policy: &Policy) -> Result<Over, NotOver> {
    over(evidence, Some(BOOT), policy, None, NOW)
}

fn attests(change: impl FnOnce(&mut Attested)) -> Evidence {
    let mut evidence = starved(NOW);
    evidence.beats.attested.as_mut().map(change).expect("attested");
    evidence
}

#[test]
fn each_profile_waits_as_long_as_its_table_says() {
    let safe = |profile, lease, timeout| safe_after_ms(lease, timeout, &Policy::of(profile));
    assert_eq!(safe(Profile::Fast, 3_000, 5_000), 14_005);
    assert_eq!(safe(Profile::Balanced, 5_000, 10_000), 24_007);
    assert_eq!(safe(Profile::Conservative, 10_000, 15_000), 40_011);
    assert_eq!(starved_after_ms(5_000, 10_000), 15_006, "both clocks may be 200 millionths off");
    assert_eq!(starved_after_ms(1, 0), 2, "never rounded down");
    assert_eq!(safe_after_ms(u64::MAX, u64::MAX, &Policy::default()), u64::MAX);
}

#[test]
fn a_lease_is_over_after_the_whole_time_and_not_before() {
    let at = |ms: u64| {
        let mut evidence = starved(NOW);
        evidence.beats.received = Some(Mono(NOW.0 - 10 - ms));
        ends(&evidence, &hardware())
    };
    assert!(matches!(at(24_006), Err(NotOver::Runs { until: Some(at), .. }) if at == Mono(NOW.0 - 10 + 1)));
    assert_eq!(at(24_007).map(|over| over.waited_ms), Ok(24_007));
}

#[test]
fn only_a_fit_watchdog_proves() {
    let fit = starved(NOW);
    assert!(ends(&fit, &hardware()).is_ok());
    let unfit = |evidence: &Evidence, policy: &Policy, why: &str| {
        assert!(matches!(ends(evidence, policy), Err(NotOver::Unfit(_))), "{why}");
        let made = fence::expire(HOST, (1, Some(BOOT)), 1, evidence, policy, None, NOW);
        assert!(made.is_err(), "{why}");
    };
    unfit(&fit, &Policy::default(), "policy says off");
    unfit(&Evidence { has_watchdog: false, ..fit.clone() }, &hardware(), "not registered");
    let none = Beats { attested: None, ..fit.beats.clone() };
    unfit(&Evidence { beats: none, ..fit.clone() }, &hardware(), "no attestation on file");
    unfit(&attests(|it| it.armed = false), &hardware(), "not armed");
    unfit(&attests(|it| it.nowayout = false), &hardware(), "can be disarmed");
    unfit(&attests(|it| it.changed = true), &hardware(), "changed within the boot");
    unfit(&attests(|it| it.boot = BootId(Uuid::nil())), &hardware(), "an older boot's");
    let another = Beats { boot: Some(BootId(Uuid::nil())), ..fit.beats.clone() };
    unfit(&Evidence { beats: another, ..fit.clone() }, &hardware(), "a newer boot was heard");
    unfit(&attests(|it| it.software = true), &hardware(), "software where hardware is asked for");
    let software = Policy { watchdog_proof: WatchdogProof::Software, ..hardware() };
    assert!(ends(&attests(|it| it.software = true), &software).is_ok());
    for (lease, timeout) in [(0, 10_000), (999, 10_000), (300_001, 10_000), (5_000, 0), (5_000, 600_001)] {
        let odd = attests(|it| (it.lease_ms, it.timeout_ms) = (lease, timeout));
        unfit(&odd, &hardware(), &format!("{lease} {timeout}"));
    }
    assert!(over(&fit, None, &hardware(), None, NOW).is_err(), "no boot is known");
}

#[test]
fn nothing_counts_from_before_one_listened_or_took_over() {
    let mut deaf = starved(NOW);
    deaf.beats.listening_since = Mono(NOW.0 - 24_000);
    assert!(matches!(ends(&deaf, &hardware()), Err(NotOver::Runs { .. })));
    let claimed = Some(Mono(NOW.0 - 24_000));
    let taken = over(&starved(NOW), Some(BOOT), &hardware(), claimed, NOW);
    assert!(matches!(taken, Err(NotOver::Runs { .. })));
}

#[test]
fn what_others_may_have_renewed_is_waited_for() {
    let with = |renewers| ends(&Evidence { renewers, ..starved(NOW) }, &hardware());
    let looked_at = Mono(NOW.0 - 10);
    assert!(matches!(with(None), Err(NotOver::Runs { until: None, .. })), "nobody looked");
    let unknown = Some(Renewers { looked_at, none_since: Err("engine 7 has not said".into()) });
    assert!(matches!(with(unknown), Err(NotOver::Runs { until: None, .. })));
    let late = Some(Renewers { looked_at, none_since: Ok(Mono(NOW.0 - 20_000)) });
    assert!(matches!(with(late), Err(NotOver::Runs { until: Some(_), .. })));
    let old = Some(Renewers { looked_at: Mono(NOW.0 - 90_000), none_since: Ok(Mono(0)) });
    assert!(matches!(with(old), Err(NotOver::Runs { .. })), "nothing is known of the time after the look");
}

#[test]
fn life_after_it_should_have_fired_makes_a_liar_of_it() {
    let mut heard = starved(NOW);
    heard.witnesses = vec![Witness {
        name: "cmp-02".into(),
        domain: None,
        at: Mono(NOW.0 - 500),
        heard: Some(Duration::from_millis(300)),
        storage_only: false,
    }];
    assert!(matches!(ends(&heard, &hardware()), Err(NotOver::Contradicted(_))));
    let mut on = starved(NOW);
    let reading = |age: u64, power| PowerReading {
        at: Mono(NOW.0 - age),
        power,
        identified: false,
        device: "bmc".into(),
    };
    on.power = Some(reading(9_000, Power::On));
    assert!(matches!(ends(&on, &hardware()), Err(NotOver::Contradicted(_))), "even without identity");
    on.power = Some(reading(11_000, Power::On));
    assert!(ends(&on, &hardware()).is_ok(), "it was on before the lights went out");
}

#[test]
fn an_attestation_that_changes_within_a_boot_is_remembered() {
    let of = |at, lease_ms, armed| Attested {
        at: Mono(at),
        lease_ms,
        armed,
        ..attests(|_| {}).beats.attested.expect("one")
    };
    let mut known = None;
    Attested::fold(&mut known, of(1, 5_000, false));
    Attested::fold(&mut known, of(3, 9_000, true));
    assert_eq!(known, Some(of(3, 9_000, true)), "armed after it first spoke");
    Attested::fold(&mut known, of(2, 5_000, true));
    assert_eq!(
        known,
        Some(Attested { changed: true, ..of(3, 9_000, true) }),
        "an older one tells of a change"
    );
    let next = Attested { boot: BootId(Uuid::nil()), ..of(4, 7_000, true) };
    Attested::fold(&mut known, next);
    assert_eq!(known, Some(next), "a new boot begins anew");
}

#[test]
fn the_fold_knows_until_when_another_may_have_renewed() {
    let (flip, lease) = (Duration::from_secs(3), Duration::from_secs(10));
    let row = |counter, stopped| [EngineLook { id: OTHER, counter, stopped }];
    let mut fold = Fold::default();
    let mut look = |at: u64, rows: &[EngineLook], said: &[(EngineId, Said)]| {
        fold.engines(rows, Mono(at));
        fold.host(HOST, said, (Mono(at - 5), Mono(at)), flip, lease);
        fold.renewers(HOST).expect("looked at").none_since
    };
    assert!(look(1_000, &row(1, false), &[]).is_err(), "it has not said");
    assert!(look(2_000, &row(2, false), &[(OTHER, Said::Hears)]).is_err());
    assert_eq!(look(3_000, &row(3, false), &[(OTHER, Said::Silent)]), Ok(Mono(3_000)));
    assert_eq!(look(4_000, &row(4, false), &[(OTHER, Said::Silent)]), Ok(Mono(3_000)));
    assert_eq!(
        look(7_000, &row(5, false), &[(OTHER, Said::Silent)]),
        Ok(Mono(7_000)),
        "it may have flipped unseen"
    );
    assert!(look(8_000, &row(6, false), &[(OTHER, Said::Hears)]).is_err());
    // Its counter stands still: it may renew until its own lease is over.
    for at in [9_000, 12_000, 15_000, 17_999] {
        assert!(look(at, &row(6, false), &[(OTHER, Said::Hears)]).is_err(), "{at}");
    }
    assert_eq!(look(18_000, &row(6, false), &[(OTHER, Said::Hears)]), Ok(Mono(18_000)));
    assert!(look(19_000, &row(7, false), &[(OTHER, Said::Hears)]).is_err(), "it woke");
    assert_eq!(look(20_000, &row(8, true), &[(OTHER, Said::Hears)]), Ok(Mono(20_000)), "stopped");
    assert_eq!(look(21_000, &[], &[]), Ok(Mono(21_000)), "gone: until now, for all we know");
    assert_eq!(look(22_000, &[], &[]), Ok(Mono(21_000)));
}

/// One engine of the model. Its clock is off by so many millionths.
#[derive(Debug)]
struct Engine {
    ppm: i64,
    frozen: Vec<(u64, u64)>,
    /// Its database cannot be reached.
    cut_off: Vec<(u64, u64)>,
    hold: Hold,
    counter: i64,
    backlog: Vec<(u64, u64)>,
    /// Has stored that it hears the host; renews.
    renews: bool,
    heard: Option<u64>,
    stored: Option<Said>,
    stored_counter: i64,
}

fn during(spans: &[(u64, u64)], at: u64) -> bool {
    spans.iter().any(|(from, len)| (*from..from + len).contains(&at))
}

fn clock(at: u64, ppm: i64) -> u64 {
    let at = i128::from(at) + 10_000_000;
    u64::try_from(at + at * i128::from(ppm) / 1_000_000).expect("positive")
}

impl Engine {
    fn new(ppm: i64, frozen: Vec<(u64, u64)>, cut_off: Vec<(u64, u64)>) -> Engine {
        let hold = Hold::claimed(0, 1, &Policy::default(), Mono(clock(0, ppm)));
        Engine {
            ppm,
            frozen,
            cut_off,
            hold,
            counter: 1,
            backlog: Vec::new(),
            renews: false,
            heard: None,
            stored: None,
            stored_counter: 1,
        }
    }

    /// What an engine does at each moment; the beats that it answers with a renewal.
    fn live(&mut self, at: u64) -> Vec<u64> {
        if during(&self.frozen, at) {
            return Vec::new();
        }
        let now = Mono(clock(at, self.ppm));
        let db = !during(&self.cut_off, at);
        if db && self.hold.renew_due(now) {
            self.counter += 1;
            self.hold.renewed(self.counter, now);
            self.stored_counter = self.counter;
        }
        let arrived = std::mem::take(&mut self.backlog);
        let mut answered = Vec::new();
        for (_, sent) in &arrived {
            self.heard = Some(now.0);
            if self.renews && self.hold.may_act(now) {
                answered.push(*sent);
            }
        }
        let silent = self.heard.is_none_or(|heard| now.0 - heard >= 3_000);
        if silent {
            self.renews = false;
            if db {
                self.stored = Some(Said::Silent);
            }
        } else if !self.renews && db {
            self.stored = Some(Said::Hears);
            self.renews = true;
        }
        answered
    }
}

/// Begin and length, in real milliseconds.
type Spans = Vec<(u64, u64)>;

#[derive(Clone, Debug)]
struct Story {
    ppm: (i64, i64, i64),
    profile: usize,
    dies_at: u64,
    /// Links from and to the host, cut for spans: engine X, engine Y.
    cuts: (Spans, Spans),
    frozen: (Spans, Spans),
    cut_off: Spans,
    suspended: Spans,
    delay: u64,
    look_every: u64,
}

fn spans(most: usize) -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec(
        (0u64..60_000, prop_oneof![1 => 0u64..3_000, 1 => 3_000u64..40_000, 1 => Just(200_000)]),
        0..=most,
    )
}

fn stories() -> impl Strategy<Value = Story> {
    let ppm = || -200i64..=200;
    let times =
        (prop_oneof![Just(u64::MAX), 5_000u64..60_000], prop_oneof![Just(1u64), 1u64..4_000], 200u64..2_500);
    ((ppm(), ppm(), ppm()), 0usize..3, times, (spans(2), spans(2)), (spans(1), spans(1)), spans(1), spans(2))
        .prop_map(|(ppm, profile, (dies_at, delay, look_every), cuts, frozen, cut_off, suspended)| Story {
            ppm,
            profile,
            dies_at,
            cuts,
            frozen,
            cut_off,
            suspended,
            delay,
            look_every,
        })
}

/// When X first takes the host for dead, and whether something of it was still at work then.
fn told(story: &Story) -> Option<Result<u64, String>> {
    const STEP: u64 = 20;
    let profile = Profile::ALL[story.profile];
    // No margin: the inequality itself is asked.
    let policy = Policy {
        watchdog_margin_ms: 0,
        ..Policy { watchdog_proof: WatchdogProof::Hardware, ..Policy::of(profile) }
    };
    let (lease_ms, timeout_ms) = [(3_000, 5_000), (5_000, 10_000), (10_000, 15_000)][story.profile];
    let (host_ppm, x_ppm, y_ppm) = story.ppm;
    let mut y = Engine::new(y_ppm, story.frozen.1.clone(), story.cut_off.clone());
    let mut sight = HostSight::new(Mono(clock(0, x_ppm)));
    (sight.has_device, sight.has_watchdog) = (true, true);
    let mut fold = Fold::default();
    let mut to_x: Vec<(u64, u64)> = Vec::new();
    let mut acks: Vec<(u64, u64)> = Vec::new();
    let (mut renewed, mut fed, mut gone): (u64, u64, Option<u64>) =
        (clock(0, host_ppm), clock(0, host_ppm), None);
    let (mut next_beat, mut next_look) = (0, 0);
    let mut frozen_before = false;
    for at in (0..140_000).step_by(STEP as usize) {
        let host = clock(at, host_ppm);
        // The host: power, watchdog, agent.
        if gone.is_none() && (at >= story.dies_at || host - fed >= timeout_ms) {
            gone = Some(at + policy.watchdog_reset_ms - 2 * STEP + policy.watchdog_write_ms);
        }
        if gone.is_none() && !during(&story.suspended, at) {
            acks.retain(|(due, sent)| {
                if *due <= at {
                    renewed = renewed.max(*sent);
                }
                *due > at
            });
            if host - renewed < lease_ms {
                fed = host;
            }
            if at >= next_beat {
                next_beat = at + policy.beat_interval_ms;
                if !during(&story.cuts.0, at) {
                    to_x.push((at + story.delay, host));
                }
                if !during(&story.cuts.1, at) {
                    y.backlog.push((at + story.delay, host));
                }
            }
        }
        // The other engine.
        let due: Vec<_> = std::mem::take(&mut y.backlog);
        let (now, later): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|(due, _)| *due <= at || during(&y.frozen, at));
        y.backlog = now;
        let keeps = during(&y.frozen, at);
        acks.extend(y.live(at).into_iter().map(|sent| (at + story.delay, sent)));
        let waiting = if keeps { std::mem::take(&mut y.backlog) } else { Vec::new() };
        y.backlog = waiting.into_iter().chain(later).collect();
        // This one: it hears, answers, looks.
        let mono = Mono(clock(at, x_ppm));
        let frozen = during(&story.frozen.0, at);
        if frozen_before && !frozen {
            sight.deaf_until(mono);
        }
        frozen_before = frozen;
        if frozen {
            continue;
        }
        let (arrived, later): (Vec<_>, Vec<_>) = to_x.into_iter().partition(|(due, _)| *due <= at);
        to_x = later;
        for (_, sent) in arrived {
            let watchdog = Watchdog { armed: true, nowayout: true, software: false, lease_ms, timeout_ms };
            sight.hear(&Heard {
                network: Network::Management,
                boot: BOOT,
                at: Mono(mono.0 - story.delay.min(mono.0)),
                received: mono,
                echoed: false,
                retired: false,
                storage_write_age: None,
                watchdog,
            });
            acks.push((at + story.delay, sent));
        }
        if at >= next_look {
            next_look = at + story.look_every;
            fold.engines(&[EngineLook { id: OTHER, counter: y.stored_counter, stopped: false }], mono);
            let said: Vec<_> = y.stored.map(|said| (OTHER, said)).into_iter().collect();
            fold.host(HOST, &said, (mono, mono), Duration::from_millis(3_000), Policy::ms(policy.lease_ms));
            sight.renewers = fold.renewers(HOST);
        }
        let evidence = sight.evidence(&Rows::default(), "cmp-01", 0, &policy, mono);
        if fence::expire(HOST, (1, Some(BOOT)), 1, &evidence, &policy, None, mono).is_ok() {
            return Some(match gone {
                Some(gone) if gone <= at => Ok(at),
                other => Err(format!("taken for dead at {at} ms, and it is gone at {other:?}")),
            });
        }
    }
    None
}

#[test]
fn nobody_who_lives_is_taken_for_dead() {
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        proptest::test_runner::Config { cases: 1_500, failure_persistence: None, ..Default::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let proofs = std::cell::Cell::new(0);
    let ran = runner.run(&stories(), |story| match told(&story) {
        Some(Err(why)) => Err(TestCaseError::fail(why)),
        Some(Ok(_)) => {
            proofs.set(proofs.get() + 1);
            Ok(())
        }
        None => Ok(()),
    });
    if let Err(failure) = ran {
        panic!("{failure}");
    }
    assert!(proofs.get() > 300, "the claim was made {} times: the mix shows nothing", proofs.get());
}
