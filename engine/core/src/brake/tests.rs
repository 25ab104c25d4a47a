use proptest::prelude::*;

use super::*;
use crate::evidence::Class;
use crate::policy::Profile;
use crate::verdict::time_to_verdict;

const NOW: Mono = Mono(200_000_000);

fn id(n: usize) -> HostId {
    HostId(uuid::Uuid::from_u128(n as u128))
}

fn ago(ms: u64) -> Mono {
    Mono(NOW.0 - ms)
}

/// So many hosts in racks of this size, all heard; an engine that has listened for a day.
fn fleet(hosts: usize, per_rack: usize) -> Fleet {
    let peer = |n: usize| Peer {
        host: id(n),
        domain: FailureDomain {
            rack: (per_rack > 0).then(|| format!("r{}", n / per_rack)),
            ..FailureDomain::default()
        },
        eligible: true,
        silent_since: None,
        read_off: false,
    };
    Fleet { hosts: (0..hosts).map(peer).collect(), listening_since: ago(86_400_000), ..Fleet::default() }
}

fn silence(mut fleet: Fleet, hosts: impl IntoIterator<Item = usize>) -> Fleet {
    for host in hosts {
        fleet.hosts[host].silent_since = Some(ago(10_000));
    }
    fleet
}

fn fenced(host: usize, age: u64) -> Fenced {
    Fenced { host: id(host), at: ago(age), read_on: true, agent_evidence: true, in_flight: false }
}

fn subject(host: usize) -> Subject<'static> {
    Subject {
        host: id(host),
        name: "cmp-0",
        maintenance: false,
        segment_enabled: true,
        order_written: false,
        power_on: false,
        agent_evidence: true,
    }
}

fn judgement(class: Class, by_silence: bool) -> Judgement {
    Judgement {
        verdict: Verdict::Failed,
        class: Some(class),
        reasons: vec!["as seen".into()],
        exhibits: vec![],
        look_again: None,
        waiting_for: String::new(),
        asks_operator: false,
        by_report_only: false,
        by_silence,
        agreeing: 2,
        needed: 2,
    }
}

fn silent() -> Judgement {
    judgement(Class::E1, true)
}

fn off() -> Judgement {
    Judgement { agreeing: 0, needed: 0, ..judgement(Class::E0, false) }
}

fn ask(subject: &Subject<'_>, judgement: &Judgement, fleet: &Fleet) -> Answer {
    may_fence(subject, judgement, fleet, &Policy::default(), NOW)
}

/// The gate that withholds, if any.
fn gate(answer: Answer) -> Option<Gate> {
    match answer {
        Answer::Permit(_) => None,
        Answer::Withheld { gate, .. } => Some(gate),
    }
}

fn held(judgement: &Judgement, fleet: &Fleet) -> Option<Gate> {
    gate(ask(&subject(0), judgement, fleet))
}

#[test]
fn small_clouds_work() {
    let one_of_six = silence(fleet(6, 0), [0]);
    let Answer::Permit(permit) = ask(&subject(0), &silent(), &one_of_six) else {
        panic!("one dead host of six")
    };
    assert_eq!(permit.host(), id(0));
    assert!(permit.to_string().contains("quorum: 2 of 2 observers agree"), "{permit}");
    assert_eq!(held(&silent(), &silence(fleet(2, 0), [0])), None, "one of two");
    assert_eq!(held(&silent(), &silence(fleet(6, 3), [0, 1, 2])), Some(Gate::G2), "a rack with dark BMCs");
    assert_eq!(held(&silent(), &silence(fleet(6, 3), 0..6)), Some(Gate::SelfDoubt), "everything: it is us");
    assert_eq!(held(&silent(), &silence(fleet(6, 0), 0..3)), Some(Gate::SelfDoubt));
}

#[test]
fn only_a_failed_host_of_the_inventory_may_be_fenced() {
    let fleet = silence(fleet(6, 0), [0]);
    for verdict in [Verdict::Alive, Verdict::AgentLost, Verdict::CannotTell] {
        let released = Fleet { released: Gate::ALL.to_vec(), ..fleet.clone() };
        assert_eq!(held(&Judgement { verdict, ..silent() }, &released), Some(Gate::G1), "I17: {verdict}");
    }
    assert_eq!(gate(ask(&subject(17), &off(), &fleet)), Some(Gate::UnknownHost), "I21");
    assert_eq!(held(&off(), &Fleet::default()), Some(Gate::UnknownHost), "a default fleet permits nothing");
}

#[test]
fn i21_maintenance_and_disabled_segments() {
    let mut fleet = silence(fleet(6, 0), [0]);
    fleet.released = Gate::ALL.to_vec();
    let out = Subject { maintenance: true, ..subject(0) };
    assert_eq!(gate(ask(&out, &off(), &fleet)), Some(Gate::Maintenance));
    let disabled = Subject { segment_enabled: false, ..subject(0) };
    assert_eq!(gate(ask(&disabled, &off(), &fleet)), Some(Gate::SegmentDisabled));
}

#[test]
fn i22_reconcile_only_disarm_quiet_start_and_self_doubt_are_nobodys_to_release() {
    let well = Fleet { released: Gate::ALL.to_vec(), ..silence(fleet(6, 0), [0]) };
    assert_eq!(held(&off(), &well), None);
    let reconcile = Fleet { reconcile_only: Some("rewound".into()), ..well.clone() };
    assert_eq!(held(&off(), &reconcile), Some(Gate::ReconcileOnly));
    let until = Mono(NOW.0 + 1);
    let disarmed = Fleet { disarmed: Some(Disarmed { reason: "works".into(), until }), ..well.clone() };
    let answer = ask(&subject(0), &off(), &disarmed);
    assert!(
        matches!(answer, Answer::Withheld { gate: Gate::Disarmed, release: Release::ByTime(at), .. } if at == until)
    );
    assert_eq!(
        gate(may_fence(&subject(0), &off(), &disarmed, &Policy::default(), until)),
        None,
        "its end is its end"
    );
    let started = Fleet { listening_since: ago(8_999), ..well.clone() };
    assert_eq!(held(&off(), &started), Some(Gate::G8));
    assert_eq!(held(&off(), &silence(well, 0..3)), Some(Gate::SelfDoubt));
}

#[test]
fn trap_36_quiet_start_is_the_profiles_time_to_verdict() {
    for (profile, ms) in [(Profile::Fast, 9_000), (Profile::Balanced, 9_000), (Profile::Conservative, 30_000)]
    {
        let policy = Policy::of(profile);
        let mut fleet = silence(fleet(6, 0), 0..6);
        let at = |fleet: &Fleet, subject: &Subject<'_>| may_fence(subject, &silent(), fleet, &policy, NOW);
        fleet.listening_since = ago(ms - 1);
        let answer = at(&fleet, &subject(0));
        let until = Release::ByTime(Mono(NOW.0 + 1));
        assert!(
            matches!(answer, Answer::Withheld { gate: Gate::G8, release, .. } if release == until),
            "{profile}"
        );
        let one = Fleet { listening_since: ago(ms - 1), ..silence(self::fleet(6, 0), [0]) };
        let written = Subject { order_written: true, ..subject(0) };
        assert_eq!(gate(at(&one, &written)), None, "{profile}: a written order goes on");
        assert_eq!(
            gate(at(&one, &Subject { power_on: true, ..written })),
            Some(Gate::G8),
            "{profile}: but not while On"
        );
        fleet.listening_since = ago(ms);
        assert_eq!(
            gate(at(&fleet, &subject(0))),
            Some(Gate::SelfDoubt),
            "{profile}: and then everything is silent"
        );
    }
}

#[test]
fn trap_9_f20_a_silent_rack_is_a_switch_until_proven_power() {
    let rack = silence(fleet(100, 10), 0..3);
    let answer = ask(&subject(0), &silent(), &rack);
    let Answer::Withheld { gate: Gate::G2, reason, release: Release::ByOperator } = answer else {
        panic!("{answer:?}")
    };
    assert!(reason.contains("3 of 10 hosts of rack r0"), "{reason}");
    assert_eq!(held(&silent(), &silence(fleet(100, 10), 0..2)), None, "two of ten");
    assert_eq!(held(&silent(), &silence(fleet(100, 20), 0..3)), None, "three of twenty are under a quarter");
    assert_eq!(held(&off(), &rack), None, "power reads Off on this very host");
    assert_eq!(held(&judgement(Class::E1, false), &rack), None, "it stated its panic itself");
    assert_eq!(held(&judgement(Class::E2, false), &rack), Some(Gate::G2));
    let released = Fleet { released: vec![Gate::G2], ..rack.clone() };
    assert_eq!(held(&silent(), &released), None);
    for domain in [
        FailureDomain { power: Some("feed-a".into()), ..FailureDomain::default() },
        FailureDomain { switch: Some("tor-7".into()), ..FailureDomain::default() },
    ] {
        let mut other = silence(fleet(100, 0), 0..3);
        other.hosts[..10].iter_mut().for_each(|peer| peer.domain = domain.clone());
        assert_eq!(held(&silent(), &other), Some(Gate::G2));
    }
}

#[test]
fn a_neighbour_that_reads_off_still_counts_for_its_rack() {
    let mut rack = silence(fleet(100, 10), 0..3);
    rack.hosts[1].read_off = true;
    rack.hosts[2].read_off = true;
    assert_eq!(held(&silent(), &rack), Some(Gate::G2), "its power says nothing about ours");
}

#[test]
fn holds_do_not_expire_and_old_storms_do_not_hold_new_deaths() {
    let mut rack = silence(fleet(100, 10), 0..3);
    rack.hosts[..3].iter_mut().for_each(|peer| peer.silent_since = Some(ago(7_200_000)));
    assert_eq!(held(&silent(), &rack), Some(Gate::G2), "two hours later nothing has changed");
    rack.hosts[0].silent_since = Some(ago(10_000));
    assert_eq!(held(&silent(), &rack), None, "it died long after the others");
    rack.hosts[1].silent_since = Some(ago(40_000));
    rack.hosts[2].silent_since = Some(ago(40_001));
    assert_eq!(held(&silent(), &rack), None);
    rack.hosts[2].silent_since = Some(ago(40_000));
    assert_eq!(held(&silent(), &rack), Some(Gate::G2), "within thirty seconds of it");
}

#[test]
fn trap_7_raw_and_filtered_shares() {
    // 16 hosts in the rack, 4 silent: a quarter, not more. With 12 of them on maintenance: 4 of 4 that may be fenced.
    let mut rack = silence(fleet(400, 16), 0..4);
    assert_eq!(held(&silent(), &rack), None);
    rack.hosts[4..16].iter_mut().for_each(|peer| peer.eligible = false);
    assert_eq!(held(&silent(), &rack), Some(Gate::G2), "the rest of the rack only dilutes");
    // Three silent, two of them on maintenance: filtering first would leave one.
    let mut hidden = silence(fleet(400, 8), 0..3);
    hidden.hosts[1..3].iter_mut().for_each(|peer| peer.eligible = false);
    assert_eq!(held(&silent(), &hidden), Some(Gate::G2), "a filter must not hide a storm");
}

#[test]
fn f28_trap_8_trap_13_the_fleet() {
    assert_eq!(held(&silent(), &silence(fleet(60, 0), 0..3)), None);
    assert_eq!(held(&silent(), &silence(fleet(60, 0), 0..4)), Some(Gate::G3), "more than max(3, 5 %)");
    assert_eq!(held(&silent(), &silence(fleet(100, 0), 0..5)), None, "five of a hundred are five percent");
    assert_eq!(held(&silent(), &silence(fleet(100, 0), 0..6)), Some(Gate::G3));
    assert_eq!(
        held(&silent(), &silence(fleet(99, 0), 0..33)),
        Some(Gate::SelfDoubt),
        "a third of the hosts, as a lost cell"
    );
    assert_eq!(held(&off(), &silence(fleet(100, 0), 0..6)), None, "Off is no silence");
    assert_eq!(
        held(&judgement(Class::E1, false), &silence(fleet(100, 0), 0..6)),
        Some(Gate::G3),
        "a wave of panics"
    );
    let mut old = silence(fleet(60, 0), 0..4);
    old.hosts[3].silent_since = Some(ago(70_001));
    assert_eq!(held(&silent(), &old), None, "outside the window");
    let mut away = silence(fleet(60, 0), 0..4);
    away.hosts[1..4].iter_mut().for_each(|peer| peer.eligible = false);
    assert_eq!(held(&silent(), &away), Some(Gate::G3), "raw share");
}

#[test]
fn f24_self_doubt_counts_silence_that_is_not_off() {
    let all_but = |read_off: usize| {
        let mut fleet = silence(fleet(10, 0), 0..5);
        fleet.hosts[..read_off].iter_mut().for_each(|peer| peer.read_off = true);
        fleet
    };
    assert_eq!(held(&off(), &all_but(1)), Some(Gate::SelfDoubt), "four of ten");
    assert_eq!(held(&off(), &all_but(2)), None, "three of ten are thirty percent");
}

#[test]
fn silence_of_one_domain_is_shown_as_that_domains() {
    assert_eq!(held(&silent(), &silence(fleet(9, 3), 0..3)), Some(Gate::G2));
    assert_eq!(held(&silent(), &silence(fleet(9, 3), 0..4)), Some(Gate::SelfDoubt));
    assert_eq!(
        held(&silent(), &silence(fleet(3, 3), 0..3)),
        Some(Gate::SelfDoubt),
        "there is nothing outside it"
    );
    let released = Fleet { released: vec![Gate::G2], ..silence(fleet(6, 3), 0..3) };
    assert_eq!(
        held(&silent(), &released),
        Some(Gate::SelfDoubt),
        "which an operator's release does not lift"
    );
}

#[test]
fn quorum() {
    let fleet = silence(fleet(6, 0), [0]);
    let one = Judgement { agreeing: 1, ..silent() };
    assert_eq!(held(&one, &fleet), Some(Gate::G1));
    assert_eq!(
        held(&Judgement { by_report_only: true, ..one.clone() }, &fleet),
        None,
        "a trusted reporter's word"
    );
    assert_eq!(held(&Judgement { class: Some(Class::E0), ..one.clone() }, &fleet), None, "E0 satisfies it");
    assert_eq!(held(&one, &Fleet { released: vec![Gate::G1], ..fleet }), None);
}

#[test]
fn rate_is_a_token_bucket_of_hosts_read_on() {
    let with = |ages: &[u64]| {
        let mut fleet = silence(fleet(60, 0), [0]);
        fleet.fences = ages.iter().enumerate().map(|(n, age)| fenced(n + 10, *age)).collect();
        fleet
    };
    assert_eq!(held(&silent(), &with(&[1, 2])), None, "burst of three");
    let full = with(&[1_000, 2_000, 3_000]);
    let answer = ask(&subject(0), &silent(), &full);
    let until = Release::ByTime(Mono(NOW.0 + 7_000));
    assert!(
        matches!(answer, Answer::Withheld { gate: Gate::G4, release, .. } if release == until),
        "{answer:?}"
    );
    assert_eq!(
        gate(may_fence(&subject(0), &silent(), &full, &Policy::default(), Mono(NOW.0 + 6_999))),
        Some(Gate::G4)
    );
    assert_eq!(gate(may_fence(&subject(0), &silent(), &full, &Policy::default(), Mono(NOW.0 + 7_000))), None);
    assert_eq!(held(&silent(), &with(&[10_000, 10_000, 10_000])), None, "one token is back");
    assert_eq!(held(&silent(), &with(&[1_000, 15_000, 15_000, 15_000])), Some(Gate::G4), "spent again");
    assert_eq!(held(&off(), &full), None, "it is off already");
    let mut cheap = full;
    cheap.fences.iter_mut().for_each(|fenced| fenced.read_on = false);
    assert_eq!(held(&silent(), &cheap), None, "those were off already");
}

#[test]
fn at_most_so_many_at_once() {
    let mut fleet = silence(fleet(60, 0), [0]);
    fleet.fences = (10..20).map(|n| Fenced { in_flight: true, ..fenced(n, 3_600_000) }).collect();
    assert_eq!(held(&silent(), &fleet), Some(Gate::G4));
    fleet.fences[0].host = id(0);
    let written = Subject { order_written: true, ..subject(0) };
    assert_eq!(gate(ask(&written, &silent(), &fleet)), None, "its own order is no reason not to go on");
    assert_eq!(held(&silent(), &fleet), Some(Gate::G4));
}

#[test]
fn a_day_has_a_budget() {
    let spent = |hosts: usize, fences: usize| {
        let mut fleet = silence(fleet(hosts, 0), [0]);
        fleet.fences = (0..fences).map(|n| fenced(n + 1, 3_600_000 + 60_000 * n as u64)).collect();
        fleet
    };
    assert_eq!(held(&silent(), &spent(100, 19)), None);
    let answer = ask(&subject(0), &silent(), &spent(100, 20));
    let Answer::Withheld { gate: Gate::G7, release: Release::ByTime(at), .. } = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(at, Mono(NOW.0 + 86_400_000 - 3_600_000 - 19 * 60_000), "when the oldest is a day old");
    assert_eq!(gate(may_fence(&subject(0), &silent(), &spent(100, 20), &Policy::default(), at)), None);
    assert_eq!(held(&silent(), &spent(2_000, 39)), None);
    assert_eq!(held(&silent(), &spent(2_000, 40)), Some(Gate::G7), "two percent");
    assert_eq!(held(&off(), &spent(100, 20)), None, "counts only hosts read On");
    let none = Policy { fence_daily_hosts: 0, fence_daily_percent: 0, ..Policy::default() };
    let answer = may_fence(&subject(0), &silent(), &spent(100, 0), &none, NOW);
    assert!(
        matches!(answer, Answer::Withheld { gate: Gate::G7, release: Release::ByOperator, .. }),
        "{answer:?}"
    );
}

#[test]
fn i20_capacity_and_dependencies() {
    let fleet = silence(fleet(6, 0), [0]);
    let policy = Policy { require_capacity: true, ..Policy::default() };
    let with = |capacity, policy: &Policy| {
        gate(may_fence(&subject(0), &off(), &Fleet { capacity, ..fleet.clone() }, policy, NOW))
    };
    assert_eq!(with(Some(false), &policy), Some(Gate::G5));
    assert_eq!(with(None, &policy), Some(Gate::G5));
    assert_eq!(with(Some(true), &policy), None);
    assert_eq!(with(Some(false), &Policy::default()), None);
    let red = Fleet { dependencies_red: vec!["nova".into()], ..fleet };
    assert_eq!(held(&silent(), &red), Some(Gate::G6));
    assert_eq!(held(&off(), &red), None, "unless E0");
}

#[test]
fn quarantine_after_three_in_an_hour_on_agent_evidence() {
    let mut fleet = silence(fleet(6, 0), [0]);
    fleet.fences = vec![fenced(0, 3_599_999), fenced(0, 1_800_000), fenced(0, 900_000)];
    let answer = ask(&subject(0), &silent(), &fleet);
    let until = Release::ByTime(Mono(NOW.0 + 1));
    assert!(
        matches!(answer, Answer::Withheld { gate: Gate::Quarantine, release, .. } if release == until),
        "{answer:?}"
    );
    assert_eq!(gate(ask(&Subject { agent_evidence: false, ..subject(0) }, &silent(), &fleet)), None);
    assert_eq!(held(&off(), &fleet), None);
    let other = Fleet {
        fences: fleet.fences.iter().map(|f| Fenced { host: id(3), ..*f }).collect(),
        ..fleet.clone()
    };
    assert_eq!(held(&silent(), &other), None, "another host's");
    let reported = Fleet {
        fences: fleet.fences.iter().map(|f| Fenced { agent_evidence: false, ..*f }).collect(),
        ..fleet.clone()
    };
    assert_eq!(held(&silent(), &reported), None);
    let mut own = fleet.clone();
    own.fences[2].in_flight = true;
    assert_eq!(
        gate(ask(&Subject { order_written: true, ..subject(0) }, &silent(), &own)),
        None,
        "being carried out"
    );
    fleet.fences[0].at = ago(3_600_000);
    assert_eq!(held(&silent(), &fleet), None);
}

#[test]
fn the_most_fundamental_reason_is_shown() {
    let mut worst = silence(fleet(60, 0), 0..60);
    worst.reconcile_only = Some("rewound".into());
    worst.disarmed = Some(Disarmed { reason: "works".into(), until: Mono(NOW.0 + 1) });
    worst.listening_since = NOW;
    worst.dependencies_red = vec!["keystone".into()];
    worst.fences = (0..30).map(|n| fenced(n, 10)).collect();

    let one = Judgement { agreeing: 0, ..silent() };
    let mut shown = Vec::new();
    for heal in 0..9 {
        let subject = Subject { maintenance: heal < 3, segment_enabled: heal >= 4, ..subject(0) };
        match heal {
            1 => worst.reconcile_only = None,
            2 => worst.disarmed = None,
            5 => worst.listening_since = ago(9_000),
            6 => worst.hosts[10..].iter_mut().for_each(|peer| peer.silent_since = None),
            7 => worst.hosts[1..].iter_mut().for_each(|peer| peer.silent_since = None),
            _ => {}
        }
        let judgement = if heal == 8 { silent() } else { one.clone() };
        shown.extend(gate(ask(&subject, &judgement, &worst)));
    }
    let order = [
        Gate::ReconcileOnly,
        Gate::Disarmed,
        Gate::Maintenance,
        Gate::SegmentDisabled,
        Gate::G8,
        Gate::SelfDoubt,
        Gate::G3,
        Gate::G1,
        Gate::G6,
    ];
    assert_eq!(shown, order);
}

prop_compose! {
    fn any_fleet()(
        per_rack in 0usize..6,
        hosts in prop::collection::vec((prop::option::weighted(0.2, 0u64..120_000), any::<bool>(), any::<bool>()), 1..40),
        fences in prop::collection::vec((0usize..40, 0u64..100_000_000, any::<bool>(), any::<bool>()), 0..30),
        listening in 0u64..40_000,
        capacity in prop::option::of(any::<bool>()),
        red in any::<bool>(),
    ) -> Fleet {
        let mut fleet = fleet(hosts.len(), per_rack);
        for (peer, (silent, eligible, read_off)) in fleet.hosts.iter_mut().zip(hosts) {
            (peer.silent_since, peer.eligible, peer.read_off) = (silent.map(ago), eligible, read_off);
        }
        fleet.fences = fences.into_iter()
            .map(|(host, age, read_on, in_flight)| Fenced { read_on, in_flight: in_flight && read_on, ..fenced(host, age) })
            .collect();
        fleet.listening_since = ago(listening);
        fleet.capacity = capacity;
        fleet.dependencies_red = if red { vec!["nova".into()] } else { vec![] };
        fleet
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// I23: only spans count.
    #[test]
    fn moving_every_time_alike_changes_nothing(fleet in any_fleet(), by in 0u64..100_000_000, class in 0usize..3) {
        let mut moved = fleet.clone();
        moved.listening_since.0 += by;
        moved.fences.iter_mut().for_each(|fenced| fenced.at.0 += by);
        moved.hosts.iter_mut().for_each(|peer| peer.silent_since.iter_mut().for_each(|at| at.0 += by));
        let judgement = judgement(Class::ALL[class], class > 0);
        let here = ask(&subject(0), &judgement, &fleet);
        let mut there = may_fence(&subject(0), &judgement, &moved, &Policy::default(), Mono(NOW.0 + by));
        if let Answer::Withheld { release: Release::ByTime(at), .. } = &mut there {
            at.0 -= by;
        }
        prop_assert_eq!(here, there);
    }

    /// A permit by silence keeps every limit, counted here anew.
    #[test]
    fn a_permit_keeps_every_limit(fleet in any_fleet(), p in 0usize..3) {
        let policy = Policy::of(Profile::ALL[p]);
        if gate(may_fence(&subject(0), &silent(), &fleet, &policy, NOW)).is_none() {
            let hosts = fleet.hosts.len();
            let doubtful = fleet.hosts.iter().filter(|peer| peer.silent_since.is_some() && !peer.read_off).count();
            prop_assert!(doubtful <= 1 || doubtful * 10 <= hosts * 3);
            prop_assert!(NOW.since(fleet.listening_since) >= time_to_verdict(&policy));
            prop_assert!(fleet.dependencies_red.is_empty());
            let counted = || fleet.fences.iter().filter(|fenced| fenced.read_on);
            prop_assert!(counted().filter(|fenced| fenced.in_flight).count() < policy.fence_in_flight as usize);
            prop_assert!(counted().filter(|fenced| NOW.since(fenced.at) < DAY).count() < 20.max(hosts / 50));
        }
    }

    /// I19: whatever asks, and when, a window of any length never holds more fences than burst and refill allow.
    #[test]
    fn the_bucket_is_never_overdrawn(gaps in prop::collection::vec(0u64..12_000, 1..60)) {
        let policy = Policy { fence_daily_hosts: 1_000, ..Policy::default() };
        let mut fleet = silence(fleet(100, 0), [0]);
        let mut now = NOW;
        for gap in gaps {
            now.0 += gap;
            fleet.hosts[0].silent_since = Some(now - Duration::from_secs(10));
            if gate(may_fence(&subject(0), &silent(), &fleet, &policy, now)).is_none() {
                fleet.fences.push(Fenced { at: now, ..fenced(50, 0) });
            }
        }
        prop_assert!(!fleet.fences.is_empty());
        for (n, first) in fleet.fences.iter().enumerate() {
            for (m, last) in fleet.fences.iter().enumerate().skip(n) {
                let allowed = u64::from(policy.fence_burst) + (last.at.0 - first.at.0) / policy.fence_every_ms;
                prop_assert!((m - n + 1) as u64 <= allowed);
            }
        }
    }

    /// One more silent host never turns a hold into a permit.
    #[test]
    fn more_silence_never_permits(fleet in any_fleet(), host in 1usize..40, age in 0u64..120_000) {
        let mut more = fleet.clone();
        let Some(peer) = more.hosts.get_mut(host).filter(|peer| peer.silent_since.is_none()) else { return Ok(()) };
        (peer.silent_since, peer.read_off) = (Some(ago(age)), false);
        if gate(ask(&subject(0), &silent(), &fleet)).is_some() {
            prop_assert!(gate(ask(&subject(0), &silent(), &more)).is_some());
        }
    }
}
