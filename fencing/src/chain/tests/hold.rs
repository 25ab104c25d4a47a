//! The restore policy: taken away while the proof is made, and put back.
//!
//! All under a clock that stands still but for what is waited for: what fits into the pause between two readings must not hang on
//! how busy the machine is that tests.

use super::*;
use crate::power::RestorePolicy;

/// A gate that wants policies held, or keeps whoever asks waiting.
#[derive(Default)]
struct Holding {
    asked: Mutex<Vec<(String, RestorePolicy)>>,
    for_ever: bool,
}

#[async_trait]
impl Gate for Holding {
    async fn may_send(&self, _device: &str, _token: Option<&str>) -> Result<(), String> {
        Ok(())
    }

    async fn hold(&self, device: &str, former: RestorePolicy) -> Result<(), String> {
        self.asked.lock().unwrap().push((device.to_owned(), former));
        if self.for_ever {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// The requests since the first reset, without logging out.
fn since_the_order(shared: &fake::Shared) -> Vec<String> {
    let state = shared.lock().unwrap();
    let from = state.requests.iter().position(|r| r.ends_with("ComputerSystem.Reset")).unwrap();
    state.requests[from..].iter().filter(|r| !r.starts_with("DELETE")).cloned().collect()
}

async fn act_on(url: &str, limits: &Limits, gate: &Holding) -> Attempt {
    let report = off(&target(&[&[redfish(url)]], Some("S1")), limits, gate).await;
    assert!(proves(&report.attempts[0], limits), "{report:?}");
    report.attempts.into_iter().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn always_on_is_taken_away_between_the_readings_and_put_back() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    let gate = Holding::default();
    let attempt = act_on(&url, &Limits::default(), &gate).await;
    assert_eq!((attempt.held, attempt.notes.as_slice()), (Some(RestorePolicy::AlwaysOn), &[][..]));
    assert_eq!(*gate.asked.lock().unwrap(), [(attempt.device.clone(), RestorePolicy::AlwaysOn)]);
    let (reset, get, patch) =
        (format!("POST {}", fake::RESET), format!("GET {}", fake::SYSTEM), format!("PATCH {}", fake::SYSTEM));
    assert_eq!(since_the_order(&shared), [reset, get.clone(), patch, get]);
    assert_eq!(shared.lock().unwrap().policy.as_deref(), Some("AlwaysOff"));

    let host = target(&[&[redfish(&url)]], Some("S1"));
    restore(&host, &attempt.device, RestorePolicy::AlwaysOn, &limits()).await.unwrap();
    assert_eq!(shared.lock().unwrap().policy.as_deref(), Some("AlwaysOn"));
    // Once more changes nothing, and somebody else's choice is his.
    restore(&host, &attempt.device, RestorePolicy::AlwaysOn, &limits()).await.unwrap();
    shared.lock().unwrap().policy = Some("LastState".into());
    restore(&host, &attempt.device, RestorePolicy::AlwaysOn, &limits()).await.unwrap();
    assert_eq!(shared.lock().unwrap().patches.len(), 2);
    assert!(shared.lock().unwrap().sessions.is_empty(), "each session is closed");
}

#[tokio::test(start_paused = true)]
async fn ipmi_holds_and_puts_back_too() {
    let (address, shared) = peer::start(&[17]).await;
    let host = target(&[&[ipmi(address)]], None);
    let report = off(&host, &Limits::default(), &Holding::default()).await;
    let attempt = &report.attempts[0];
    assert!(
        proves(attempt, &Limits::default()) && attempt.held == Some(RestorePolicy::AlwaysOn),
        "{report:?}"
    );
    restore(&host, &attempt.device, RestorePolicy::AlwaysOn, &limits()).await.unwrap();
    assert_eq!(shared.lock().unwrap().policies, [0, 2]);
    // A chassis without this policy says so.
    shared.lock().unwrap().has_policies = 0b110;
    let report = off(&host, &Limits::default(), &Holding::default()).await;
    assert!(report.attempts[0].notes[0].contains("has no policy always off"), "{report:?}");
    assert!(proves(&report.attempts[0], &Limits::default()));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_or_not_needed_is_left() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    // A gate that says nothing about it.
    let report = off(&target(&[&[redfish(&url)]], None), &Limits::default(), &open()).await;
    assert_eq!(report.attempts[0].held, None);
    assert!(report.attempts[0].notes[0].contains("not wanted"), "{report:?}");
    for policy in [Some("LastState"), Some("AlwaysOff"), Some("Whatever"), None] {
        shared.lock().unwrap().policy = policy.map(str::to_owned);
        let gate = Holding::default();
        let attempt = act_on(&url, &Limits::default(), &gate).await;
        assert!(attempt.held.is_none() && gate.asked.lock().unwrap().is_empty(), "{policy:?}");
    }
    // On is no fence.
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    let gate = Holding::default();
    on(&target(&[&[redfish(&url)]], None), &Limits::default(), &gate).await;
    assert!(gate.asked.lock().unwrap().is_empty() && shared.lock().unwrap().patches.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_proof_waits_for_nobody() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    // The change is never answered: `limits().request` is far longer than the act may take.
    let slow = Limits { request: Duration::from_secs(3_600), ..Limits::default() };
    shared.lock().unwrap().hang = Some("PATCH".into());
    let attempt = act_on(&url, &slow, &Holding::default()).await;
    assert_eq!(attempt.held, Some(RestorePolicy::AlwaysOn), "it was sent");
    assert!(attempt.notes[0].contains("no answer in the pause"), "{attempt:?}");
    // The gate never answers: nothing is sent.
    shared.lock().unwrap().hang = None;
    shared.lock().unwrap().requests.clear();
    let attempt = act_on(&url, &slow, &Holding { for_ever: true, ..Holding::default() }).await;
    assert!(attempt.held.is_none() && attempt.notes[0].contains("no answer in the pause"), "{attempt:?}");
    assert!(shared.lock().unwrap().patches.is_empty());
    // And over IPMI, where the session must survive what was dropped in it.
    let (address, bmc) = peer::start(&[17]).await;
    bmc.lock().unwrap().fault.silent_policy = true;
    let report = off(&target(&[&[ipmi(address)]], None), &slow, &Holding::default()).await;
    let attempt = &report.attempts[0];
    assert!(proves(attempt, &slow) && attempt.held == Some(RestorePolicy::AlwaysOn), "{report:?}");
    assert!(attempt.notes[0].contains("no answer in the pause"), "{attempt:?}");
}

#[tokio::test(start_paused = true)]
async fn the_second_reading_is_not_delayed() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    shared.lock().unwrap().hang = Some("PATCH".into());
    let limits = Limits { request: Duration::from_secs(600), ..Limits::default() };
    let attempt = act_on(&url, &limits, &Holding::default()).await;
    let offs: Vec<_> = attempt.readings.iter().filter(|r| r.after_order).map(|r| r.at).collect();
    let [first, second] = offs[..] else { panic!("{attempt:?}") };
    assert!(second - first < limits.min_interval * 2 && attempt.held.is_some(), "{attempt:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_controller_is_not_bothered() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    for (thinks, asked) in [(200, 1), (300, 0)] {
        shared.lock().unwrap().thinks = Duration::from_millis(thinks);
        let gate = Holding::default();
        let attempt = act_on(&url, &Limits::default(), &gate).await;
        assert_eq!(gate.asked.lock().unwrap().len(), asked, "{attempt:?}");
        assert_eq!(
            attempt.notes.first().is_some_and(|n| n.contains("too slowly")),
            asked == 0,
            "{attempt:?}"
        );
        shared.lock().unwrap().policy = Some("AlwaysOn".into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_note_and_preconditions_are_met() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOn".into());
    for (status, says) in [(405, "405"), (403, "403"), (400, "400"), (500, "500")] {
        shared.lock().unwrap().canned.push_back(fake::canned("PATCH", status, ""));
        let attempt = act_on(&url, &Limits::default(), &Holding::default()).await;
        assert!(attempt.notes[0].contains(says) && attempt.error.is_none(), "{attempt:?}");
    }
    shared.lock().unwrap().etag = Some("W/\"e1\"".into());
    let attempt = act_on(&url, &Limits::default(), &Holding::default()).await;
    assert!(attempt.notes.is_empty(), "{attempt:?}");
    let state = shared.lock().unwrap();
    let matches: Vec<_> = state.patches.iter().map(|(etag, _)| etag.as_deref()).collect();
    assert_eq!(matches, [None, Some("W/\"e1\"")]);
    assert!(state.patches.iter().all(|(_, body)| *body == json!({"PowerRestorePolicy": "AlwaysOff"})));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_back_on_another_machine() {
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().policy = Some("AlwaysOff".into());
    let host = target(&[&[redfish(&url)]], Some("S2"));
    let device = host.levels[0].devices[0].name();
    let error = restore(&host, &device, RestorePolicy::AlwaysOn, &limits()).await.unwrap_err();
    assert!(matches!(error, FenceError::WrongMachine { .. }), "{error}");
    assert!(shared.lock().unwrap().patches.is_empty());
    let error = restore(&host, "redfish https://gone", RestorePolicy::AlwaysOn, &limits()).await.unwrap_err();
    assert!(error.to_string().contains("set the power restore policy to always on"), "{error}");
    shared.lock().unwrap().hang = Some("GET /redfish/v1/Systems".into());
    let host = target(&[&[redfish(&url)]], None);
    let hasty = Limits { probe: tight().level, ..limits() };
    let error = restore(&host, &device, RestorePolicy::AlwaysOn, &hasty).await.unwrap_err();
    assert!(matches!(error, FenceError::Silent { .. }), "{error}");
}
