//! Whole acts over fakes with faults: what is ordered, what is counted, when the next level starts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::FenceDevices;
use crate::ipmi::tests::peer;
use crate::redfish::tests::fake;
use crate::report::{Attempt, OrderAnswer};

mod fuzz;
mod hold;
mod orders;
mod word;

const UUID: &str = "8839d356-f787-4a0b-8010-d454645c55f8";

/// A gate that closes after so many orders.
struct Count {
    left: AtomicU32,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

fn gate(orders: u32) -> Count {
    Count { left: AtomicU32::new(orders), asked: Mutex::default() }
}

fn open() -> Count {
    gate(1_000)
}

#[async_trait]
impl Gate for Count {
    async fn may_send(&self, device: &str, token: Option<&str>) -> Result<(), String> {
        self.asked.lock().unwrap().push((device.into(), token.map(str::to_owned)));
        let take = |left: u32| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .map(|_| ())
            .map_err(|_| "epoch lost".into())
    }
}

/// Short pauses, but generous where an answer comes: a busy machine must not turn it into silence.
fn limits() -> Limits {
    let (ms, long) = (Duration::from_millis, Duration::from_secs(20));
    Limits {
        connect: long,
        handshake: long,
        handshake_step: ms(1_000),
        request: long,
        min_interval: ms(30),
        level: long,
        reorder_after: ms(90),
        obey_within: ms(90),
        backoff: ms(20),
        backoff_max: ms(60),
        close: ms(2_000),
        yield_after: ms(2_000),
        probe: long,
        on: long,
        on_settle: ms(20),
        ..Limits::default()
    }
}

/// For acts in which something must fail to come.
fn tight() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        handshake: ms(400),
        handshake_step: ms(50),
        handshake_step_later: ms(50),
        request: ms(300),
        level: ms(900),
        close: ms(200),
        yield_after: ms(50),
        ..limits()
    }
}

/// `bmc` keeps the pacing keys of tests apart: everything here is 127.0.0.1.
fn redfish(url: &str) -> Value {
    json!({"type": "redfish", "address": url, "username": "admin", "password": "secret", "bmc": url})
}

fn ipmi(address: std::net::SocketAddr) -> Value {
    json!({"type": "ipmi", "address": address.to_string(), "username": "admin", "password": "secret",
        "bmc": address.to_string()})
}

fn target(levels: &[&[Value]], serial: Option<&str>) -> Target {
    let levels: Vec<Value> = levels.iter().map(|l| json!({"devices": l})).collect();
    let devices = FenceDevices::parse(&json!({"levels": levels}).to_string()).unwrap();
    let uuid = Some(UUID.parse::<Uuid>().unwrap());
    Target {
        host: "h1".into(),
        levels: devices.levels,
        expected: Expected { serial: serial.map(str::to_owned), uuid },
    }
}

/// Two Off readings in one session, far enough apart, after an accepted order: what core will ask for.
fn proves(attempt: &Attempt, limits: &Limits) -> bool {
    let offs: Vec<_> =
        attempt.readings.iter().filter(|r| r.after_order && r.state == PowerState::Off).collect();
    attempt.order.is_accepted()
        && attempt.identity_matches == Some(true)
        && offs.iter().any(|a| offs.iter().any(|b| b.at >= a.at + limits.min_interval))
}

/// The engine spawns acts.
#[test]
fn acts_may_move_between_threads() {
    fn send<T: Send>(_: T) {}
    let (target, limits, gate) = (target(&[], None), limits(), open());
    send(off(&target, &limits, &gate));
    send(read(&target, &limits));
    send(check(&target, &limits));
    send(revoke(&target, "", &limits));
    send(restore(&target, "", RestorePolicy::AlwaysOn, &limits));
}

#[tokio::test]
async fn off_over_redfish_is_ordered_and_read_twice() {
    let (url, shared) = fake::start().await;
    let gate = open();
    let report = off(&target(&[&[redfish(&url)]], Some("S1")), &limits(), &gate).await;
    let [attempt] = report.attempts.as_slice() else { panic!("{report:?}") };
    assert!(proves(attempt, &limits()), "{report:?}");
    assert_eq!(attempt.readings[0].state, PowerState::On);
    assert!(!attempt.readings[0].after_order);
    assert_eq!((attempt.orders, attempt.level, attempt.error.as_deref()), (1, 1, None));
    assert_eq!(gate.asked.lock().unwrap().as_slice(), [(attempt.device.clone(), attempt.token.clone())]);
    assert!(attempt.token.is_some());
    let state = shared.lock().unwrap();
    assert_eq!(state.resets, ["ForceOff"]);
    assert!(state.sessions.is_empty(), "the session is closed");
}

#[tokio::test]
async fn off_over_ipmi_is_ordered_and_read_twice() {
    let (address, shared) = peer::start(&[17]).await;
    let report = off(&target(&[&[ipmi(address)]], None), &limits(), &open()).await;
    assert!(proves(&report.attempts[0], &limits()), "{report:?}");
    let state = shared.lock().unwrap();
    assert_eq!((state.controls.as_slice(), state.closed), (&[0][..], 1));
}

#[tokio::test]
async fn off_is_ordered_though_it_reads_off() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().power = "Off".into();
    let report = off(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    assert!(proves(&report.attempts[0], &limits()), "{report:?}");
    assert_eq!(shared.lock().unwrap().resets, ["ForceOff"]);
    shared.lock().unwrap().canned.push_back(fake::canned("POST /redfish/v1/Systems", 409, ""));
    let report = off(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    assert_eq!(report.attempts[0].order, OrderAnswer::AlreadyOff);
    assert!(proves(&report.attempts[0], &limits()), "{report:?}");
}

#[tokio::test]
async fn the_wrong_machine_gets_no_order_and_the_next_level_starts_at_once() {
    let (wrong, other) = fake::start().await;
    other.lock().unwrap().serial = "S2".into();
    let (address, right) = peer::start(&[17]).await;
    let report = off(&target(&[&[redfish(&wrong)], &[ipmi(address)]], Some("S1")), &limits(), &open()).await;
    let first = &report.attempts[0];
    assert_eq!((&first.order, first.identity_matches, first.orders), (&OrderAnswer::NotSent, Some(false), 0));
    let error = first.error.as_deref().unwrap();
    assert!(error.contains("S1") && error.contains("S2"), "{error}");
    assert!(proves(&report.attempts[1], &limits()), "{report:?}");
    assert!(other.lock().unwrap().resets.is_empty());
    assert_eq!(right.lock().unwrap().controls, [0]);
    // A device's own serial counts as well.
    let mut own = redfish(&wrong);
    own["serial"] = "S1".into();
    let report = off(&target(&[&[own]], None), &limits(), &open()).await;
    assert_eq!(report.attempts[0].order, OrderAnswer::NotSent);
    // And an IPMI GUID.
    right.lock().unwrap().guid[0] ^= 1;
    let report = off(&target(&[&[ipmi(address)]], None), &limits(), &open()).await;
    assert_eq!((&report.attempts[0].order, right.lock().unwrap().controls.len()), (&OrderAnswer::NotSent, 1));
}

/// Takes no device whose machine is not proved.
struct Strict;

#[async_trait]
impl Gate for Strict {
    async fn may_send(&self, _device: &str, _token: Option<&str>) -> Result<(), String> {
        Ok(())
    }

    async fn accepts(&self, _: &str, seen: Option<&Identity>, matches: Option<bool>) -> Result<(), String> {
        matches.filter(|_| seen.is_some()).map(|_| ()).ok_or_else(|| "no drill on record".into())
    }
}

#[tokio::test]
async fn a_device_that_cannot_name_the_machine_is_the_gates_to_judge() {
    let (address, nameless) = peer::start(&[17]).await;
    nameless.lock().unwrap().guid = [0; 16];
    let (url, named) = fake::start().await;
    let both = target(&[&[ipmi(address)], &[redfish(&url)]], Some("S1"));
    let report = off(&both, &limits(), &Strict).await;
    let first = &report.attempts[0];
    assert_eq!((&first.order, first.identity_matches), (&OrderAnswer::NotSent, None));
    assert!(first.error.as_deref().unwrap().contains("no drill on record"));
    assert!(nameless.lock().unwrap().controls.is_empty());
    assert!(proves(&report.attempts[1], &limits()), "{report:?}");
    assert_eq!(named.lock().unwrap().resets, ["ForceOff"]);
    // A gate that says nothing about it lets it pass.
    off(&target(&[&[ipmi(address)]], None), &limits(), &open()).await;
    assert_eq!(nameless.lock().unwrap().controls, [0]);
}

#[tokio::test]
async fn a_liar_is_ordered_twice_and_never_believed() {
    let (url, liar) = fake::start().await;
    liar.lock().unwrap().ack_no_off = true;
    let (address, second) = peer::start(&[3]).await;
    // The second level starts when the first is seen through, long before its time is over.
    let report = off(&target(&[&[redfish(&url)], &[ipmi(address)]], None), &limits(), &open()).await;
    assert_eq!((report.attempts[0].orders, &report.attempts[0].order), (2, &OrderAnswer::Accepted));
    assert!(report.attempts[0].error.as_deref().unwrap().contains("obeyed none"));
    assert!(!proves(&report.attempts[0], &limits()));
    assert!(proves(&report.attempts[1], &limits()), "{report:?}");
    assert_eq!((liar.lock().unwrap().resets.len(), second.lock().unwrap().controls.len()), (2, 1));
    // Alone it ends without proof.
    liar.lock().unwrap().resets.clear();
    let report = off(&target(&[&[redfish(&url)]], None), &tight(), &open()).await;
    assert!(!report.attempts.iter().any(|a| proves(a, &limits())));
    assert!(report.attempts[0].error.is_some());
    assert_eq!(liar.lock().unwrap().resets.len(), 2);
}

#[tokio::test]
async fn transitional_states_are_waited_out() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().says = Some(json!("PoweringOff"));
    let target = target(&[&[redfish(&url)]], None);
    let (limits, gate) = (limits(), open());
    let act = off(&target, &limits, &gate);
    let world = async {
        // The order is in and has been read as PoweringOff: now it really is off.
        while !shared.lock().unwrap().requests.last().is_some_and(|r| r.starts_with("GET"))
            || shared.lock().unwrap().resets.is_empty()
        {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(limits.min_interval).await;
        shared.lock().unwrap().says = None;
    };
    let (report, ()) = tokio::join!(act, world);
    assert!(report.attempts[0].readings.iter().any(|r| r.state == PowerState::Other("PoweringOff".into())));
    assert!(proves(&report.attempts[0], &limits), "{report:?}");
}

#[tokio::test]
async fn off_readings_must_follow_each_other() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().ack_no_off = true;
    let target = target(&[&[redfish(&url)]], None);
    // On and Off in turns, by what was read: never two Off in a row.
    let flicker = async {
        let mut seen = 0;
        loop {
            tokio::task::yield_now().await;
            let mut state = shared.lock().unwrap();
            let reads = state.requests.iter().filter(|r| *r == &format!("GET {}", fake::SYSTEM)).count();
            if reads != seen {
                seen = reads;
                state.power = if reads % 2 == 0 { "On" } else { "Off" }.into();
            }
        }
    };
    let limits = tight();
    let gate = open();
    let report = tokio::select! {
        report = off(&target, &limits, &gate) => report,
        () = flicker => unreachable!(),
    };
    let states: Vec<_> = report.attempts[0].readings.iter().map(|r| r.state.clone()).collect();
    assert!(states.contains(&PowerState::Off) && states.len() > 4, "{states:?}");
    assert!(states.windows(2).all(|w| w[0] != w[1]), "{states:?}");
}

#[tokio::test]
async fn a_busy_controller_is_asked_again() {
    let (url, shared) = fake::start().await;
    for status in [503, 500] {
        let busy = fake::canned("POST /redfish/v1/Systems", status, "").header("retry-after", 3600);
        shared.lock().unwrap().canned.push_back(busy);
    }
    let report = off(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    assert_eq!(report.attempts[0].orders, 3);
    assert!(proves(&report.attempts[0], &limits()), "{report:?}");
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_order_repeated() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().drop_reset = true;
    let report = off(&target(&[&[redfish(&url)]], None), &tight(), &open()).await;
    // Off it is, and off it reads, but no order was ever accepted: nobody may call that a proof.
    assert_eq!(shared.lock().unwrap().power, "Off");
    assert!(matches!(report.attempts[0].order, OrderAnswer::Unknown(_)), "{report:?}");
    assert!(report.attempts[0].readings.iter().any(|r| r.state == PowerState::Off && !r.after_order));
    assert!(!proves(&report.attempts[0], &limits()));
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_and_starts_afresh() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().canned.push_back(fake::canned("POST /redfish/v1/Systems", 401, ""));
    let gate = open();
    let report = off(&target(&[&[redfish(&url)]], None), &limits(), &gate).await;
    let [first, second] = report.attempts.as_slice() else { panic!("{report:?}") };
    assert!(!first.order.is_accepted() && proves(second, &limits()), "{report:?}");
    assert_ne!(first.token, second.token);
    assert_eq!(gate.asked.lock().unwrap().len(), 2, "the gate knows the new session");
    // Twice is enough: accounts lock.
    for _ in 0..9 {
        shared.lock().unwrap().canned.push_back(fake::canned("POST /redfish/v1/Systems", 401, ""));
    }
    let report = off(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    assert_eq!(report.attempts.len(), 2, "{report:?}");
    shared.lock().unwrap().canned.clear();
    shared.lock().unwrap().password = "other".into();
    shared.lock().unwrap().requests.clear();
    off(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    let logins = shared.lock().unwrap().requests.iter().filter(|r| r.starts_with("POST")).count();
    assert_eq!(logins, 1, "a wrong password is not tried again");
}

#[tokio::test]
async fn a_closed_gate_stops_everything() {
    let (url, shared) = fake::start().await;
    let (address, second) = peer::start(&[17]).await;
    let report = off(&target(&[&[redfish(&url)], &[ipmi(address)]], None), &limits(), &gate(0)).await;
    assert_eq!((report.attempts.len(), &report.attempts[0].order), (1, &OrderAnswer::NotSent), "{report:?}");
    assert!(report.attempts[0].error.as_deref().unwrap().contains("epoch lost"));
    assert!(shared.lock().unwrap().resets.is_empty() && second.lock().unwrap().controls.is_empty());
    assert!(shared.lock().unwrap().sessions.is_empty());
    // Lost in the middle: no further order.
    shared.lock().unwrap().ack_no_off = true;
    off(&target(&[&[redfish(&url)], &[ipmi(address)]], None), &limits(), &gate(1)).await;
    assert_eq!((shared.lock().unwrap().resets.len(), second.lock().unwrap().controls.len()), (1, 0));
}

#[tokio::test]
async fn all_devices_of_a_level_must_confirm() {
    let (a, one) = fake::start().await;
    let (b, two) = fake::start().await;
    let report = off(&target(&[&[redfish(&a), redfish(&b)]], None), &limits(), &open()).await;
    assert!(report.attempts.iter().all(|a| proves(a, &limits())), "{report:?}");
    // One of two feeds stays on: the next level is needed.
    one.lock().unwrap().power = "On".into();
    two.lock().unwrap().ack_no_off = true;
    two.lock().unwrap().power = "On".into();
    let (address, third) = peer::start(&[17]).await;
    let report =
        off(&target(&[&[redfish(&a), redfish(&b)], &[ipmi(address)]], None), &limits(), &open()).await;
    assert_eq!(third.lock().unwrap().controls, [0]);
    assert_eq!(report.attempts.iter().filter(|a| proves(a, &limits())).count(), 2, "{report:?}");
}

#[tokio::test]
async fn a_hung_controller_is_taken_over_by_the_next_protocol() {
    let (url, shared) = fake::start().await;
    let (address, second) = peer::start(&[17]).await;
    // The same BMC: one key. Redfish hangs on the order and would for an hour.
    shared.lock().unwrap().hang = Some("POST /redfish/v1/Systems".into());
    let (mut one, mut two) = (redfish(&url), ipmi(address));
    let key = format!("takeover-{url}");
    (one["bmc"], two["bmc"]) = (key.clone().into(), key.into());
    let patient = Limits { request: Duration::from_secs(3600), ..tight() };
    let report = off(&target(&[&[one], &[two]], None), &patient, &open()).await;
    assert!(report.attempts[0].error.as_deref().unwrap().contains("dropped"), "{report:?}");
    assert!(matches!(report.attempts[0].order, OrderAnswer::Unknown(_)));
    assert!(proves(&report.attempts[1], &limits()), "{report:?}");
    assert_eq!(second.lock().unwrap().controls, [0]);
}

#[tokio::test]
async fn a_slow_first_level_still_counts_while_the_second_fails() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().ack_no_off = true;
    let (address, second) = peer::start(&[17]).await;
    second.lock().unwrap().fault = peer::Fault { mute: true, ..peer::Fault::default() };
    let target = target(&[&[redfish(&url)], &[ipmi(address)]], None);
    let (limits, gate) = (Limits { level: Duration::from_secs(10), ..tight() }, open());
    let world = async {
        // The second order was ignored as well; then the slow chassis gets there.
        while shared.lock().unwrap().resets.len() < 2 {
            tokio::task::yield_now().await;
        }
        shared.lock().unwrap().power = "Off".into();
    };
    let (report, ()) = tokio::join!(off(&target, &limits, &gate), world);
    assert!(proves(&report.attempts[0], &limits), "{report:?}");
}

#[tokio::test]
async fn unreachable_devices_end_in_time_without_any_claim() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (address, mute) = peer::start(&[17]).await;
    mute.lock().unwrap().fault = peer::Fault { mute: true, ..peer::Fault::default() };
    let watchdog = json!({"type": "watchdog"});
    let all = target(&[&[watchdog], &[redfish(&format!("http://{free}"))], &[ipmi(address)]], None);
    let report = off(&all, &tight(), &open()).await;
    assert_eq!(report.attempts.len(), 3, "{report:?}");
    assert!(report.attempts.iter().all(|a| a.order == OrderAnswer::NotSent && a.readings.is_empty()));
    let errors: Vec<_> = report.attempts.iter().map(|a| a.error.clone().unwrap()).collect();
    for (error, says) in errors.iter().zip(["takes no orders", "not reachable", "no answer to Open Session"])
    {
        assert!(error.contains(says), "{error}");
    }
    assert_eq!(off(&target(&[], None), &limits(), &open()).await, FenceReport::default());
}

#[tokio::test]
async fn power_is_read_without_any_order() {
    let (url, shared) = fake::start().await;
    let (address, _second) = peer::start(&[17]).await;
    let both = target(&[&[redfish(&url)], &[ipmi(address)]], Some("S1"));
    let sights = read(&both, &limits()).await;
    assert_eq!(sights.len(), 1, "one level is enough");
    assert_eq!((&sights[0].state, sights[0].identity_matches), (&Ok(PowerState::On), Some(true)));
    // Another machine's reading is none; the next level is asked.
    shared.lock().unwrap().serial = "S2".into();
    let sights = read(&both, &limits()).await;
    assert_eq!((sights[0].identity_matches, sights[1].state.clone()), (Some(false), Ok(PowerState::On)));
    assert!(sights[0].state.as_ref().unwrap_err().contains("another machine"));
    assert!(shared.lock().unwrap().resets.is_empty() && shared.lock().unwrap().sessions.is_empty());
}

#[tokio::test]
async fn on_is_retried_while_refused_and_never_repeated() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().power = "Off".into();
    for _ in 0..2 {
        shared.lock().unwrap().canned.push_back(fake::canned("POST /redfish/v1/Systems", 409, ""));
    }
    let report = on(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    let attempt = &report.attempts[0];
    assert_eq!((attempt.orders, &attempt.order), (3, &OrderAnswer::Accepted), "{report:?}");
    assert_eq!(attempt.readings.last().unwrap().state, PowerState::On);
    assert_eq!(shared.lock().unwrap().resets, ["On"]);
}

#[tokio::test]
async fn a_check_names_what_stands_in_the_way() {
    let (url, shared) = fake::start().await;
    let (address, bmc) = peer::start(&[17]).await;
    let both = target(&[&[redfish(&url)], &[ipmi(address)]], Some("S1"));
    let checks = check(&both, &limits()).await;
    assert!(checks.iter().all(|c| c.is_ready() && c.logged_in && c.latency.is_some()), "{checks:?}");
    assert!(checks[0].warnings.iter().any(|w| w.contains("http://")));
    shared.lock().unwrap().allowable = Some(vec!["GracefulShutdown".into()]);
    bmc.lock().unwrap().password = "changed".into();
    let checks = check(&both, &limits()).await;
    assert!(checks[0].error.as_deref().unwrap().contains("ForceOff is not offered"), "{checks:?}");
    assert!(checks[1].error.as_deref().unwrap().contains("credentials") && checks[1].reached, "{checks:?}");
    let report = off(&target(&[&[redfish(&url)]], None), &limits(), &open()).await;
    assert_eq!((&report.attempts[0].order, report.attempts[0].orders), (&OrderAnswer::NotSent, 0));
    // One that cannot tell the power could never prove an off.
    shared.lock().unwrap().allowable = None;
    shared.lock().unwrap().says = Some(Value::Null);
    let blind = check(&target(&[&[redfish(&url)]], Some("S1")), &limits()).await.remove(0);
    assert!(blind.error.as_deref().unwrap().contains("neither On nor Off") && blind.logged_in, "{blind:?}");
    shared.lock().unwrap().says = None;
    let mut factory = redfish(&url);
    (factory["username"], factory["password"]) = ("root".into(), "calvin".into());
    let mut nobody = target(&[&[factory]], None);
    nobody.expected = Expected::default();
    let warnings = check(&nobody, &limits()).await.remove(0).warnings.join("\n");
    assert!(warnings.contains("factory password") && warnings.contains("no serial or UUID"), "{warnings}");
    assert!(shared.lock().unwrap().resets.is_empty() && bmc.lock().unwrap().controls.is_empty());
}

/// Both protocols alike: a machine that would start by itself is warned about, one that does not tell is not.
#[tokio::test]
async fn a_restore_policy_is_warned_about_where_it_reads_always_on() {
    let (url, shared) = fake::start().await;
    let (address, bmc) = peer::start(&[17]).await;
    let both = target(&[&[redfish(&url)], &[ipmi(address)]], Some("S1"));
    for (word, bits, warned) in
        [(Some("AlwaysOn"), 2, 1), (Some("LastState"), 1, 0), (Some("AlwaysOff"), 0, 0), (None, 3, 0)]
    {
        shared.lock().unwrap().policy = word.map(str::to_owned);
        bmc.lock().unwrap().policy = bits;
        for check in check(&both, &limits()).await {
            let told: Vec<_> = check.warnings.iter().filter(|w| w.contains("restore policy")).collect();
            assert_eq!((told.len(), check.is_ready()), (warned, true), "{word:?}: {check:?}");
            assert!(
                told.iter().all(|w| w.contains("is always on") && w.contains("set it to always off")),
                "{told:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_recorded_session_is_revoked() {
    let (url, shared) = fake::start().await;
    let host = target(&[&[redfish(&url)]], None);
    let gate = open();
    // An engine that dies in the middle: its act is dropped after the gate has seen the token.
    shared.lock().unwrap().hang = Some("POST /redfish/v1/Systems".into());
    let limits = tight();
    {
        let act = off(&host, &limits, &gate);
        let ordered = async {
            while !shared.lock().unwrap().requests.iter().any(|r| r.contains("ComputerSystem.Reset")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { _ = act => panic!("it was to hang"), () = ordered => {} }
    }
    let token = gate.asked.lock().unwrap()[0].1.clone().unwrap();
    assert_eq!(shared.lock().unwrap().sessions.len(), 1);
    revoke(&host, &token, &limits).await.unwrap();
    assert!(shared.lock().unwrap().sessions.is_empty());
    assert!(matches!(revoke(&host, "https://gone/s/1", &limits).await, Err(FenceError::Config { .. })));
}
