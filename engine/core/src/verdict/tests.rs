use std::time::Duration;

mod properties;

use super::*;
use crate::evidence::{Beats, Network, Report, ServiceSight, UserLand, Witness};
use crate::policy::{Profile, Reporters};

const NOW: Mono = Mono(1_000_000);
use Network::{Management, Storage, Tenant};

fn ago(ms: u64) -> Mono {
    Mono(NOW.0 - ms)
}

fn span(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at_now(evidence: &Evidence) -> Judgement {
    judge(evidence, &Policy::default(), NOW)
}

/// A host with agent in a cloud of six, whose beats on each network are this old; nobody was asked anything yet.
fn beating(ages: &[(Network, u64)]) -> Evidence {
    let last: Vec<_> = ages.iter().map(|(network, age)| (*network, ago(*age))).collect();
    let beats = Beats { last_echoed: last.iter().map(|(_, at)| *at).max(), last, ..Beats::default() };
    Evidence { beats, agent: true, neighbours: 5, has_device: true, ..Evidence::default() }
}

fn witness(name: &str, said: u64, heard: Option<u64>) -> Witness {
    Witness { name: name.into(), domain: None, at: ago(said), heard: heard.map(span), storage_only: false }
}

fn power(power: Power, age: u64) -> Option<PowerReading> {
    Some(PowerReading { at: ago(age), power, identified: true, device: "redfish bmc-1".into() })
}

fn user_land(answered: bool, age: u64) -> Option<UserLand> {
    Some(UserLand { at: ago(age), answered })
}

/// Nova's row: read just now, up, still for this long.
fn row(still: u64) -> ServiceSight {
    ServiceSight {
        at: NOW,
        up: true,
        forced_down: false,
        disabled: false,
        changed_at: Some(ago(still)),
        changed_after: Some(ago(still + 1_000)),
        still_since: Some(ago(still)),
        others_moving: true,
    }
}

/// Hung for so long: every path dark, asked in vain, two witnesses silent, the BMC says On.
fn hung(ms: u64) -> Evidence {
    Evidence {
        witnesses: vec![witness("cmp-2", 200, Some(ms)), witness("cmp-3", 900, Some(ms))],
        user_land: user_land(false, 500),
        power: power(Power::On, 1_000),
        service: Some(row(ms)),
        ..beating(&[(Management, ms), (Tenant, ms), (Storage, ms)])
    }
}

fn reported(age: u64) -> Evidence {
    Evidence {
        reports: vec![Report { at: ago(age), seen: ago(age), by_agent: false }],
        has_device: true,
        ..Evidence::default()
    }
}

fn says(judgement: &Judgement, text: &str) -> bool {
    judgement.reasons.iter().any(|reason| reason.contains(text))
}

// --- Conclusive and strong evidence.

#[test]
fn f1_power_lost_is_a_verdict_at_the_second_missed_beat() {
    let mut evidence = beating(&[(Management, 2_000)]);
    evidence.power = power(Power::Off, 100);
    evidence.witnesses = vec![witness("cmp-2", 300, Some(1_750))];
    let judgement = at_now(&evidence);
    assert_eq!((judgement.verdict, judgement.class), (Verdict::Failed, Some(Class::E0)));
    assert!(judgement.is_conclusive() && !judgement.by_silence && judgement.needed == 0);
    assert!(says(&judgement, "redfish bmc-1: power reads Off"), "{:?}", judgement.reasons);
}

#[test]
fn an_off_reading_must_be_young_identified_and_say_off() {
    let mut evidence = beating(&[(Management, 20_000)]);
    evidence.power = power(Power::Off, 10_000);
    assert!(at_now(&evidence).is_conclusive());
    evidence.power = power(Power::Off, 10_001);
    assert_eq!(at_now(&evidence).verdict, Verdict::CannotTell, "too old");
    evidence.power = power(Power::Off, 100);
    evidence.power.as_mut().unwrap().identified = false;
    assert_eq!(at_now(&evidence).verdict, Verdict::CannotTell, "another machine's, perhaps");
    evidence.power = power(Power::Other("PoweringOff".into()), 100);
    assert_eq!(at_now(&evidence).verdict, Verdict::CannotTell, "not off yet");
}

#[test]
fn f30_a_beat_makes_the_bmc_a_liar() {
    for (beat, off) in [(1_000, 2_000), (5_000, 6_000), (500, 100), (5_000, 5_000)] {
        let mut evidence = beating(&[(Management, beat)]);
        evidence.power = power(Power::Off, off);
        let judgement = at_now(&evidence);
        assert_ne!(judgement.verdict, Verdict::Failed, "beat {beat} off {off}");
        assert!(says(&judgement, "the sign of life wins"), "{:?}", judgement.reasons);
    }
}

#[test]
fn life_seen_by_others_beats_an_off_reading() {
    let dead = Evidence { power: power(Power::Off, 1_000), ..beating(&[(Management, 20_000)]) };
    assert!(at_now(&dead).is_conclusive());
    let heard = Evidence { witnesses: vec![witness("cmp-2", 900, Some(1_000))], ..dead.clone() };
    assert_ne!(at_now(&heard).verdict, Verdict::Failed, "a witness heard it two intervals ago");
    let long_ago = Evidence { witnesses: vec![witness("cmp-2", 900, Some(1_100))], ..dead.clone() };
    assert!(at_now(&long_ago).is_conclusive(), "before the reading and longer than two intervals ago");
    let answers = Evidence { user_land: user_land(true, 900), ..dead.clone() };
    assert_ne!(at_now(&answers).verdict, Verdict::Failed, "answered after the reading");
    let answered = Evidence { user_land: user_land(true, 1_600), ..dead.clone() };
    assert!(at_now(&answered).is_conclusive(), "answered before it died");
    let older = Evidence { power: power(Power::Off, 8_000), ..dead.clone() };
    let heard = Evidence { witnesses: vec![witness("cmp-2", 900, Some(6_000))], ..older.clone() };
    assert_ne!(at_now(&heard).verdict, Verdict::Failed, "heard after the reading");
    assert_ne!(at_now(&Evidence { user_land: user_land(true, 7_000), ..older }).verdict, Verdict::Failed);
    let mut moves = Evidence { service: Some(row(200)), ..dead.clone() };
    assert!(at_now(&moves).is_conclusive(), "the change may have come before the reading");
    moves.service.as_mut().unwrap().changed_after = Some(ago(900));
    assert_ne!(at_now(&moves).verdict, Verdict::Failed, "nova-compute wrote after the reading");
    let mut retired = dead;
    retired.beats.retired_echoed = Some(ago(900));
    assert_ne!(at_now(&retired).verdict, Verdict::Failed, "a retired boot's echoed beat is life");
}

#[test]
fn a_lying_bmc_blocks_the_storage_verdict_too() {
    let mut evidence = beating(&[(Management, 500)]);
    evidence.beats.storage_write_age = Some(span(90_000));
    assert_eq!(at_now(&evidence).verdict, Verdict::Failed);
    evidence.power = power(Power::Off, 900);
    let judgement = at_now(&evidence);
    assert_eq!(judgement.verdict, Verdict::CannotTell, "a fence through that BMC would prove nothing");
}

#[test]
fn f3_a_signed_panic_ends_the_waiting_unless_the_host_lives_after_it() {
    let mut evidence = beating(&[(Management, 1_600), (Tenant, 1_700)]);
    evidence.beats.panic = Some(ago(1_550));
    let judgement = at_now(&evidence);
    assert_eq!((judgement.verdict, judgement.class), (Verdict::Failed, Some(Class::E1)));
    assert!(!judgement.by_silence && judgement.needed == 0);
    evidence.user_land = user_land(true, 1_000);
    assert_ne!(at_now(&evidence).verdict, Verdict::Failed);
    evidence.user_land = None;
    evidence.beats.last[0].1 = ago(1_540);
    assert_ne!(at_now(&evidence).verdict, Verdict::Failed, "a new boot beats: the panic is history");
}

// --- Silence.

#[test]
fn f4_f5_f6_a_hang_becomes_a_verdict_at_each_profiles_time() {
    for (profile, ms) in [(Profile::Fast, 9_000), (Profile::Balanced, 9_000), (Profile::Conservative, 30_000)]
    {
        let policy = Policy::of(profile);
        let ripe = judge(&hung(ms), &policy, NOW);
        assert_eq!(
            (ripe.verdict, ripe.class),
            (Verdict::Failed, Some(Class::E1)),
            "{profile}: {:?}",
            ripe.reasons
        );
        assert!(ripe.by_silence && ripe.agreeing >= ripe.needed && ripe.needed == 2);
        let early = judge(&hung(ms - 1), &policy, NOW);
        assert_eq!(early.verdict, Verdict::CannotTell, "{profile}");
        assert_eq!(early.look_again, Some(NOW + span(1)), "{profile}");
    }
    assert_ne!(at_now(&hung(5_000)).verdict, Verdict::Failed, "F5: a stall of 5 s");
    let mut back = hung(20_000);
    back.beats.last[1].1 = ago(200);
    assert_eq!(at_now(&back).verdict, Verdict::Alive, "F6: returns before the order");
}

#[test]
fn f15_an_agent_that_restarts_is_nothing() {
    let judgement = at_now(&Evidence { user_land: user_land(true, 500), ..beating(&[(Management, 5_999)]) });
    assert_eq!(judgement.verdict, Verdict::CannotTell);
    assert_eq!(judgement.look_again, Some(NOW + span(1)));
}

#[test]
fn f75_f12_a_dead_agent_is_not_a_dead_host() {
    let lost = |evidence: Evidence| {
        let judgement = at_now(&evidence);
        assert_eq!(judgement.verdict, Verdict::AgentLost, "{:?}", judgement.reasons);
    };
    lost(Evidence { user_land: user_land(true, 5_999), ..hung(60_000) });
    let moving = ServiceSight { changed_after: Some(ago(59_000)), ..row(14_999) };
    lost(Evidence { service: Some(moving.clone()), ..hung(60_000) });
    let mut heard = hung(60_000);
    heard.witnesses.push(witness("cmp-4", 900, Some(5_099)));
    lost(heard);
    // What lies outside its window is no life any more.
    let still = ServiceSight { changed_at: Some(ago(15_000)), ..moving };
    assert_eq!(at_now(&Evidence { service: Some(still), ..hung(60_000) }).verdict, Verdict::Failed);
    let before = ServiceSight { changed_after: Some(ago(60_000)), ..row(14_999) };
    assert_eq!(at_now(&Evidence { service: Some(before), ..hung(60_000) }).verdict, Verdict::Failed);
}

#[test]
fn silence_needs_somebody_who_asked_the_host_itself() {
    let unasked = Evidence { user_land: None, service: None, ..hung(20_000) };
    let judgement = at_now(&unasked);
    assert_eq!(judgement.verdict, Verdict::CannotTell);
    assert!(judgement.waiting_for.contains("a dead agent is not a dead host"));
    for stale in [user_land(false, 6_000), user_land(false, 20_000), user_land(true, 6_000)] {
        let evidence = Evidence { user_land: stale, ..unasked.clone() };
        assert_eq!(at_now(&evidence).verdict, Verdict::CannotTell, "asked too long ago");
    }
    let by_row = Evidence { service: Some(row(15_000)), ..unasked.clone() };
    assert_eq!(at_now(&by_row).verdict, Verdict::Failed, "the row stands still");
    let soon = Evidence { service: Some(row(14_000)), ..hung(14_500) };
    let soon = Evidence { user_land: None, ..soon };
    assert_eq!(at_now(&soon).look_again, Some(NOW + span(1_000)));
    let blind = ServiceSight { others_moving: false, ..row(15_000) };
    assert_eq!(
        at_now(&Evidence { service: Some(blind), ..unasked }).verdict,
        Verdict::CannotTell,
        "Nova is blind"
    );
}

#[test]
fn witnesses_needed_are_two_or_fewer_neighbours() {
    let alone = Evidence { witnesses: vec![], power: None, ..hung(20_000) };
    let judgement = at_now(&alone);
    assert_eq!((judgement.verdict, judgement.agreeing), (Verdict::CannotTell, 0));
    let one = Evidence { witnesses: vec![witness("cmp-2", 100, None)], ..alone.clone() };
    assert_eq!(at_now(&one).verdict, Verdict::CannotTell, "one of two");
    assert_eq!(at_now(&Evidence { neighbours: 1, ..one.clone() }).verdict, Verdict::Failed, "all there are");
    assert_eq!(
        at_now(&Evidence { neighbours: 0, ..alone.clone() }).verdict,
        Verdict::CannotTell,
        "never none"
    );
    assert_eq!(
        at_now(&Evidence { power: power(Power::On, 100), ..one.clone() }).verdict,
        Verdict::Failed,
        "the BMC"
    );
    assert_eq!(
        at_now(&Evidence { engines_agreeing: 1, ..one.clone() }).verdict,
        Verdict::Failed,
        "another engine"
    );
    let mut rack = one;
    rack.witnesses.push(witness("cmp-3", 100, None));
    rack.witnesses.iter_mut().for_each(|witness| witness.domain = Some("rack-1".into()));
    assert_eq!(
        at_now(&rack).verdict,
        Verdict::Failed,
        "a rack that falls silent as one is the brakes' matter"
    );
    rack.witnesses[1].domain = Some("rack-2".into());
    assert_eq!(at_now(&rack).verdict, Verdict::Failed);
    rack.witnesses[1].at = ago(6_000);
    assert_eq!(at_now(&rack).verdict, Verdict::CannotTell, "a witness that fell silent itself says nothing");
    let old = Evidence { power: power(Power::On, 9_500), ..hung(9_000) };
    let old = Evidence { witnesses: vec![witness("cmp-2", 100, None)], ..old };
    assert_eq!(
        at_now(&old).verdict,
        Verdict::CannotTell,
        "a BMC that answered before the silence says nothing"
    );
}

#[test]
fn trap_36_silence_begins_when_listening_does() {
    let mut evidence = hung(60_000);
    evidence.beats.listening_since = ago(8_999);
    assert_eq!(at_now(&evidence).verdict, Verdict::CannotTell);
    evidence.beats.listening_since = ago(9_000);
    assert_eq!(at_now(&evidence).verdict, Verdict::Failed);
    let mut partial = hung(60_000);
    partial.beats.listening_since = ago(1_000);
    partial.beats.storage_write_age = Some(span(90_000));
    assert_ne!(at_now(&partial).verdict, Verdict::Failed, "what it told a minute ago says nothing about now");
    partial.beats.storage_write_age = None;
    partial.beats.last[1].1 = ago(300);
    let judgement = at_now(&partial);
    assert_eq!(judgement.verdict, Verdict::Alive);
    assert!(
        !says(&judgement, "dark"),
        "an engine that listens for a second misses no network: {:?}",
        judgement.reasons
    );
    let mut never = hung(60_000);
    never.beats = Beats { listening_since: ago(9_000), ..Beats::default() };
    assert_eq!(at_now(&never).class, Some(Class::E2), "an engine that never heard it may still find it dead");
    never.beats.listening_since = ago(5_000);
    assert_ne!(at_now(&never).verdict, Verdict::Failed);
}

#[test]
fn one_path_is_circumstantial_and_conservative_asks_for_a_second() {
    let mut evidence = hung(40_000);
    evidence.beats.last.truncate(1);
    assert_eq!(at_now(&evidence).class, Some(Class::E2));
    let conservative = Policy::of(Profile::Conservative);
    assert_eq!(
        judge(&evidence, &conservative, NOW).verdict,
        Verdict::Failed,
        "Nova's row is the second path"
    );
    evidence.service = None;
    assert_eq!(judge(&evidence, &conservative, NOW).verdict, Verdict::CannotTell);
    assert_eq!(at_now(&evidence).verdict, Verdict::Failed);
}

#[test]
fn a_wait_that_lasts_is_handed_to_a_person() {
    let alone = |ms| Evidence { witnesses: vec![], power: None, ..hung(ms) };
    assert!(!at_now(&alone(300_000)).asks_operator);
    assert!(at_now(&alone(300_001)).asks_operator);
}

// --- The three-network table (SAFETY 1.4).

#[test]
fn three_network_table() {
    use Verdict::{Alive, Failed};
    let table = [
        // M, T, S: age of the last beat; the rest as a watchful engine sees it.
        (300, 300, 300, Alive, "beats flow"),
        (400_000, 300, 300, Alive, "disable scheduling"),
        (300, 400_000, 300, Alive, "moved alive"),
        (400_000, 400_000, 300, Failed, "storage network alone"),
        (300, 300, 60_001, Failed, "grace of 60.0 s"),
        (300, 300, 60_000, Alive, "storage grace is 60.0 s"),
        (400_000, 300, 30_001, Failed, "grace of 30.0 s"),
        (300, 400_000, 30_001, Failed, "grace of 30.0 s"),
        (300, 400_000, 30_000, Alive, "storage grace is 30.0 s"),
        (9_000, 9_000, 9_000, Failed, "no beat on"),
    ];
    for (management, tenant, storage, verdict, text) in table {
        let mut evidence = hung(400_000);
        evidence.beats.last =
            vec![(Management, ago(management)), (Tenant, ago(tenant)), (Storage, ago(storage))];
        let newest = management.min(tenant).min(storage);
        evidence.beats.last_echoed = Some(ago(newest));
        if newest < 1_500 && storage < 1_500 {
            evidence.witnesses.iter_mut().for_each(|witness| {
                (witness.heard, witness.storage_only) =
                    (Some(span(100)), management > 6_000 && tenant > 6_000);
            });
        }
        let judgement = at_now(&evidence);
        assert_eq!(judgement.verdict, verdict, "{management} {tenant} {storage}: {:?}", judgement.reasons);
        assert!(says(&judgement, text), "{management} {tenant} {storage}: {:?}", judgement.reasons);
    }
}

#[test]
fn f21_one_network_dark_is_no_outage_even_if_the_others_are_unknown() {
    let evidence = Evidence { witnesses: hung(9_000).witnesses, ..hung(400_000) };
    let mut only = evidence;
    only.beats.last = vec![(Management, ago(400_000)), (Storage, ago(300))];
    only.beats.last_echoed = Some(ago(300));
    assert_eq!(at_now(&only).verdict, Verdict::Alive, "tenant was never heard: it is not known to be dark");
}

#[test]
fn f26_storage_alone_needs_time_and_others_that_hear_nothing_else() {
    let isolated = |dark: u64| {
        let mut evidence = hung(dark);
        evidence.beats.last = vec![(Management, ago(dark)), (Tenant, ago(dark)), (Storage, ago(300))];
        evidence.beats.last_echoed = Some(ago(300));
        evidence
    };
    assert_eq!(at_now(&isolated(8_999)).verdict, Verdict::CannotTell);
    let ripe = at_now(&isolated(9_000));
    assert_eq!((ripe.verdict, ripe.class, ripe.by_silence), (Verdict::Failed, Some(Class::E2), true));
    let mut heard = isolated(9_000);
    heard.witnesses[0].heard = Some(span(300));
    assert_eq!(at_now(&heard).verdict, Verdict::Alive, "a witness hears it on another network");
    heard.witnesses[0].storage_only = true;
    assert_eq!(at_now(&heard).verdict, Verdict::Failed, "on storage, as we do");
    let answers = Evidence { user_land: user_land(true, 500), ..isolated(9_000) };
    assert_eq!(at_now(&answers).verdict, Verdict::Alive);
    let unseen = Evidence { witnesses: vec![], power: None, ..isolated(9_000) };
    assert_eq!(at_now(&unseen).verdict, Verdict::CannotTell, "no quorum");
}

#[test]
fn a_witness_on_storage_alone_is_life_while_only_one_network_is_known() {
    let mut evidence = hung(20_000);
    evidence.beats.last.truncate(1);
    evidence.witnesses[0] = Witness { storage_only: true, ..witness("cmp-2", 100, Some(300)) };
    assert_eq!(at_now(&evidence).verdict, Verdict::AgentLost);
    evidence.beats.last.push((Tenant, ago(20_000)));
    assert_eq!(at_now(&evidence).verdict, Verdict::Failed, "management and tenant dark for all: isolated");
}

#[test]
fn f8_f22_stale_writes_have_their_grace_and_fresh_ones_vouch_for_a_dark_network() {
    let wrote = |age: u64| {
        let mut evidence = beating(&[(Management, 500), (Tenant, 500), (Storage, 500)]);
        evidence.beats.storage_write_age = Some(span(age));
        evidence
    };
    assert_eq!(at_now(&wrote(30_000)).verdict, Verdict::Alive, "F22: 30 s");
    assert_eq!(at_now(&wrote(59_500)).verdict, Verdict::Alive);
    assert_eq!(at_now(&wrote(59_500)).look_again, Some(NOW + span(1)));
    let judgement = at_now(&wrote(59_501));
    assert_eq!(
        (judgement.verdict, judgement.class),
        (Verdict::Failed, Some(Class::E2)),
        "F22: the grace is over"
    );
    assert!(!judgement.by_silence, "the host says so itself");
    let mut vouched = wrote(1_000);
    vouched.beats.last[2].1 = ago(400_000);
    assert_eq!(
        at_now(&vouched).verdict,
        Verdict::Alive,
        "it writes: only our path to its storage address is gone"
    );
    vouched.beats.storage_write_age = None;
    assert_eq!(at_now(&vouched).verdict, Verdict::Failed);
    assert!(at_now(&vouched).by_silence);
}

// --- Hosts that never had an agent (DESIGN 2.1).

#[test]
fn a_trusted_report_suffices_once_novas_row_stands_still() {
    let judgement = at_now(&Evidence { service: Some(row(15_000)), ..reported(3_000) });
    assert_eq!((judgement.verdict, judgement.class), (Verdict::Failed, Some(Class::E2)));
    assert!(judgement.by_report_only);
    let early = at_now(&Evidence { service: Some(row(14_999)), ..reported(3_000) });
    assert_eq!((early.verdict, early.look_again), (Verdict::CannotTell, Some(NOW + span(1))));
    let unread = at_now(&reported(3_000));
    assert_eq!((unread.verdict, unread.asks_operator), (Verdict::CannotTell, false));
    let old_row = ServiceSight { at: ago(10_001), ..row(60_000) };
    assert_eq!(at_now(&Evidence { service: Some(old_row), ..reported(3_000) }).verdict, Verdict::CannotTell);
    let unwatched = ServiceSight { at: ago(9_000), ..row(20_000) };
    assert_eq!(
        at_now(&Evidence { service: Some(unwatched), ..reported(3_000) }).verdict,
        Verdict::CannotTell,
        "seen still for 11 s; nobody looked after that"
    );
    let down = ServiceSight { up: false, ..row(1_000) };
    assert_eq!(at_now(&Evidence { service: Some(down), ..reported(500) }).verdict, Verdict::Failed);
    let blind = ServiceSight { others_moving: false, ..row(60_000) };
    let judgement = at_now(&Evidence { service: Some(blind), ..reported(3_000) });
    assert_eq!(judgement.verdict, Verdict::CannotTell);
    assert!(says(&judgement, "blind"));
}

#[test]
fn a_false_report_shoots_nobody() {
    let moving = ServiceSight { changed_after: Some(ago(1_500)), ..row(500) };
    let judgement = at_now(&Evidence { service: Some(moving), ..reported(3_000) });
    assert_eq!(judgement.verdict, Verdict::Alive);
    assert!(says(&judgement, "Nova's row changed"));
    let before = ServiceSight { changed_after: Some(ago(3_500)), ..row(2_500) };
    assert_eq!(
        at_now(&Evidence { service: Some(before), ..reported(3_000) }).verdict,
        Verdict::CannotTell,
        "a change that may be older than the report refutes nothing"
    );
    let answers = Evidence { user_land: user_land(true, 500), service: Some(row(60_000)), ..reported(3_000) };
    assert_eq!(at_now(&answers).verdict, Verdict::Alive);
    let before =
        Evidence { user_land: user_land(true, 4_000), service: Some(row(60_000)), ..reported(3_000) };
    assert_eq!(at_now(&before).verdict, Verdict::Failed, "answered before the report");
    let refuted = ServiceSight { changed_after: Some(ago(60_000)), ..row(59_000) };
    assert_eq!(at_now(&Evidence { service: Some(refuted), ..reported(70_000) }).verdict, Verdict::Alive);
}

/// Made at some time between the start of time and ten seconds ago: by an engine that was restarted, or has left reconcile-only.
#[test]
fn a_report_of_unknown_age_is_stale_and_refuted_by_later_life_alone() {
    let reports = vec![Report { at: Mono(0), seen: ago(10_000), by_agent: false }];
    let with =
        |service| at_now(&Evidence { service: Some(service), reports: reports.clone(), ..reported(0) });
    let lived_until = |after: u64, still: u64| ServiceSight { changed_after: Some(ago(after)), ..row(still) };
    let judgement = with(lived_until(13_000, 12_000));
    assert_eq!(
        judgement.verdict,
        Verdict::CannotTell,
        "it may have died since, and the row has moved too lately"
    );
    assert!(says(&judgement, "stale"));
    assert_eq!(
        with(lived_until(61_000, 60_000)).verdict,
        Verdict::Failed,
        "the row that stands still renews it"
    );
    assert_eq!(with(ServiceSight { up: false, ..lived_until(13_000, 12_000) }).verdict, Verdict::Failed);
    assert_eq!(with(lived_until(9_000, 8_000)).verdict, Verdict::Alive, "it lived after the report was seen");
}

#[test]
fn conclusive_power_needs_no_row() {
    let evidence = Evidence { power: power(Power::Off, 500), ..reported(3_000) };
    assert!(at_now(&evidence).is_conclusive());
    assert!(!at_now(&evidence).by_report_only);
    let moving = ServiceSight { changed_after: Some(ago(400)), ..row(100) };
    let judgement = at_now(&Evidence { service: Some(moving), ..evidence });
    assert_eq!(judgement.verdict, Verdict::Alive, "nova-compute writes after its power read Off");
}

#[test]
fn trap_1_a_stale_report_is_renewed_or_asked_about() {
    let stale = reported(300_001);
    let dark = at_now(&stale);
    assert_eq!((dark.verdict, dark.asks_operator), (Verdict::CannotTell, true));
    assert!(says(&dark, "stale") && dark.waiting_for.contains("stale"));
    assert!(at_now(&Evidence { power: power(Power::On, 100), ..stale.clone() }).asks_operator);
    assert!(at_now(&Evidence { power: power(Power::Off, 100), ..stale.clone() }).is_conclusive());
    let with = |service| at_now(&Evidence { service: Some(service), ..stale.clone() });
    assert_eq!(with(ServiceSight { up: false, ..row(500_000) }).verdict, Verdict::Failed);
    assert_eq!(with(row(500_000)).verdict, Verdict::Failed);
    assert_eq!(
        with(ServiceSight { changed_after: None, changed_at: None, ..row(5_000) }).verdict,
        Verdict::CannotTell
    );
    assert_eq!(with(row(500)).verdict, Verdict::Alive, "a changed row cancels");
    assert!(!at_now(&reported(300_000)).asks_operator, "not stale yet");
}

#[test]
fn witnessed_asks_for_novas_or_the_bmcs_word() {
    let policy = Policy { reporters: Reporters::Witnessed, ..Policy::default() };
    let with = |service| judge(&Evidence { service, ..reported(3_000) }, &policy, NOW);
    assert_eq!(with(None).verdict, Verdict::CannotTell);
    assert_eq!(with(Some(row(500_000))).verdict, Verdict::CannotTell);
    let down = with(Some(ServiceSight { up: false, ..row(500_000) }));
    assert_eq!((down.verdict, down.by_report_only, down.agreeing), (Verdict::Failed, false, 1));
    let off = Evidence { power: power(Power::Off, 100), ..reported(3_000) };
    assert!(judge(&off, &policy, NOW).is_conclusive());
}

#[test]
fn nobody_reported_and_nothing_is_off() {
    let down = ServiceSight { up: false, ..row(500_000) };
    let judgement = at_now(&Evidence { service: Some(down), ..Evidence::default() });
    assert_eq!(judgement.verdict, Verdict::CannotTell, "a service that is down is no dead host");
}

#[test]
fn what_is_waited_for_reads_the_same_while_it_is_waited_for() {
    let early = |ms| judge(&hung(ms), &Policy::default(), NOW).waiting_for;
    assert_eq!(early(6_100), early(8_900));
    let report = |ms| at_now(&Evidence { service: Some(row(ms)), ..reported(20_000) }).waiting_for;
    assert_eq!(report(9_000), report(14_000));
}
