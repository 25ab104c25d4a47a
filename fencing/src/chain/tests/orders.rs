//! When an order is repeated, when it is not, and what it takes to be believed.

use super::*;
use crate::agent::tests::installed;

/// Runs under a paused clock: minutes of waiting cost nothing, and what is measured is the rule alone.
fn paused<T>(act: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(act)
}

/// Some devices start their delay anew with each order: sushy's emulator takes 1 to 11 s.
#[test]
fn slow_devices_get_there_within_the_level() {
    for seconds in 0..=11 {
        paused(async {
            let (url, shared) = fake::start().await;
            shared.lock().unwrap().delay = Some(Duration::from_secs(seconds));
            let limits = Limits::default();
            let report = off(&target(&[&[redfish(&url)]], None), &limits, &open()).await;
            assert!(proves(&report.attempts[0], &limits), "{seconds} s: {report:?}");
        });
    }
}

#[test]
fn a_bmc_that_forgot_is_ordered_again_and_a_liar_told_apart_within_the_level() {
    paused(async {
        let (url, shared) = fake::start().await;
        shared.lock().unwrap().forgets = 1;
        let limits = Limits::default();
        let report = off(&target(&[&[redfish(&url)]], None), &limits, &open()).await;
        assert!(proves(&report.attempts[0], &limits), "{report:?}");
        assert_eq!(report.attempts[0].orders, 2);
    });
    paused(async {
        let (url, shared) = fake::start().await;
        shared.lock().unwrap().ack_no_off = true;
        let limits = Limits::default();
        let report = off(&target(&[&[redfish(&url)]], None), &limits, &open()).await;
        assert_eq!(report.attempts[0].orders, limits.max_orders);
        assert!(report.attempts[0].error.as_deref().unwrap().contains("obeyed none"), "{report:?}");
    });
}

#[tokio::test]
async fn power_that_comes_on_again_is_ordered_off_at_once() {
    let (url, shared) = fake::start().await;
    let host = target(&[&[redfish(&url)]], None);
    let patient = Limits { reorder_after: Duration::from_secs(3_600), ..limits() };
    let (limits, gate) = (Limits { level: Duration::from_secs(3_600), ..patient }, open());
    // Somebody else switches it on after each of the first four Off readings: more than a liar's share of orders.
    let meddler = async {
        for ordered in 1..=4 {
            loop {
                tokio::task::yield_now().await;
                let mut state = shared.lock().unwrap();
                let read = state.requests.last().is_some_and(|r| r == &format!("GET {}", fake::SYSTEM));
                if state.resets.len() == ordered && read {
                    state.power = "On".into();
                    break;
                }
            }
        }
    };
    let both = async { tokio::join!(off(&host, &limits, &gate), meddler) };
    let (report, ()) = timeout(Duration::from_secs(60), both).await.expect("ordered again");
    assert!(proves(&report.attempts[0], &limits) && report.attempts[0].orders == 5, "{report:?}");
}

#[tokio::test]
async fn a_failed_task_is_not_waited_for() {
    let (url, shared) = fake::start().await;
    let hour = Duration::from_secs(3_600);
    let patient = Limits { reorder_after: hour, obey_within: hour, level: hour, ..limits() };
    (shared.lock().unwrap().forgets, shared.lock().unwrap().task) =
        (1, Some(json!({"TaskState": "Exception"})));
    let host = target(&[&[redfish(&url)]], None);
    let gate = open();
    let act = off(&host, &patient, &gate);
    let report = timeout(Duration::from_secs(60), act).await.expect("ordered again at once");
    assert!(proves(&report.attempts[0], &patient) && report.attempts[0].orders == 2, "{report:?}");
}

/// Why it does not obey is worth more than that it does not.
#[test]
fn the_reason_of_a_failed_task_stays_in_the_error() {
    paused(async {
        let (url, shared) = fake::start().await;
        {
            let mut state = shared.lock().unwrap();
            state.ack_no_off = true;
            let messages =
                json!([{"MessageId": "X.1.0"}, {"Message": "PSU 2 is absent"}, {"Message": "more"}]);
            state.task = Some(json!({"TaskState": "Exception", "Messages": messages}));
        }
        let limits = Limits::default();
        let report = off(&target(&[&[redfish(&url)]], None), &limits, &open()).await;
        let error = report.attempts[0].error.as_deref().unwrap();
        assert_eq!(
            error,
            "accepted 2 orders and obeyed none (the reset's task ended Exception: X.1.0 / PSU 2 is absent); check the BMC's power control"
        );
    });
}

/// A Reset action of another origin gets nothing, and this device is no longer waited for.
#[tokio::test]
async fn an_order_that_would_lead_away_is_not_sent_and_one_redirected_away_is_refused() {
    let (other, foreign) = fake::start().await;
    let (url, shared) = fake::start().await;
    let (address, second) = peer::start(&[17]).await;
    let hour = Duration::from_secs(3_600);
    let limits = Limits { level: hour, ..limits() };
    let host = target(&[&[redfish(&url)], &[ipmi(address)]], None);
    shared.lock().unwrap().target = Some(format!("{other}{}", fake::RESET));
    let gate = open();
    let report = timeout(Duration::from_secs(60), off(&host, &limits, &gate)).await.expect("the next level");
    let first = &report.attempts[0];
    assert_eq!((&first.order, first.orders), (&OrderAnswer::NotSent, 0), "{report:?}");
    assert!(first.error.as_deref().is_some_and(|e| e.contains("another origin")), "{report:?}");
    assert!(proves(&report.attempts[1], &limits), "{report:?}");
    let checked = check(&host, &limits).await.remove(0);
    assert!(checked.error.is_some_and(|e| e.contains("another origin")) && checked.would.is_none());

    shared.lock().unwrap().target = None;
    let posts = || shared.lock().unwrap().requests.iter().filter(|r| r.contains(fake::RESET)).count();
    assert_eq!(posts(), 0);
    for (sent, to) in [(1, format!("{other}{}", fake::RESET)), (2, fake::RESET.to_owned())] {
        let before = posts();
        for _ in 0..100 {
            let redirected = fake::canned("POST /redfish/v1/Systems", 307, "").header("location", &to);
            shared.lock().unwrap().canned.push_back(redirected);
        }
        let report =
            timeout(Duration::from_secs(60), off(&host, &limits, &gate)).await.expect("the next level");
        let first = &report.attempts[0];
        assert!(
            matches!(&first.order, OrderAnswer::Refused(why) if why.contains("redirected to") && why.contains(&to)),
            "{report:?}"
        );
        assert_eq!((first.orders, posts() - before), (1, sent), "in a circle it goes round once: {report:?}");
        assert!(proves(&report.attempts[1], &limits), "{report:?}");
        shared.lock().unwrap().canned.clear();
    }
    assert_eq!(second.lock().unwrap().controls, [0, 0, 0]);
    assert!(foreign.lock().unwrap().requests.is_empty());
}

/// Whoever reads the report shall know what was waited for, for how long, and what to do.
#[tokio::test]
async fn a_program_that_is_cut_off_is_named() {
    let program = installed(
        "cut-off",
        "",
        "case $words in action=off*) echo > seen; sleep 3600 ;; esac; echo 'Status: ON'",
    );
    let agent = json!({"type": "agent", "program": program, "bmc": "cut-off"});
    // The program's own deadline is the level's and begins later: whichever comes first says the same.
    let limits = Limits { level: Duration::from_secs(8), close: Duration::from_millis(1), ..limits() };
    let report = off(&target(&[&[agent]], None), &limits, &open()).await;
    let attempt = &report.attempts[0];
    let error = attempt.error.as_deref().unwrap();
    assert_eq!(attempt.order, OrderAnswer::Unknown(error.to_owned()), "{report:?}");
    let named = format!("agent {}: no answer to off within ", program.display());
    assert!(
        error.starts_with(&named) && error.contains(" s, so the program was killed; run it by hand"),
        "{error}"
    );
    // What an earlier order was answered stays.
    let script = "case $words in action=off*) [ -e seen ] && sleep 3600; echo > seen; exit 1 ;; esac; echo 'Status: ON'";
    let program = installed("cut-off-later", "", script);
    let _ = std::fs::remove_file(program.with_file_name("seen"));
    let agent = json!({"type": "agent", "program": program, "bmc": "cut-off-later"});
    let report = off(&target(&[&[agent]], None), &limits, &open()).await;
    let attempt = &report.attempts[0];
    assert!(attempt.orders > 1 && attempt.error.as_deref().unwrap().contains("exit code 1"), "{report:?}");
    // A BMC that hangs is no program.
    let (url, shared) = fake::start().await;
    shared.lock().unwrap().hang = Some("POST /redfish/v1/Systems".into());
    let report = off(&target(&[&[redfish(&url)]], None), &limits, &open()).await;
    let error = report.attempts[0].error.as_deref().unwrap();
    assert!(
        error.contains("no answer to off within") && error.contains("check that the BMC has power"),
        "{report:?}"
    );
}

/// An Off that was not ordered may be a machine on its way up: it neither confirms a level nor holds the next one back.
#[tokio::test]
async fn off_without_an_accepted_order_confirms_nothing() {
    let (url, busy) = fake::start().await;
    busy.lock().unwrap().power = "Off".into();
    for _ in 0..1_000 {
        busy.lock().unwrap().canned.push_back(fake::canned("POST /redfish/v1/Systems", 503, ""));
    }
    let (address, second) = peer::start(&[17]).await;
    let limits = Limits { level: Duration::from_millis(900), ..limits() };
    let report = off(&target(&[&[redfish(&url)], &[ipmi(address)]], None), &limits, &open()).await;
    assert!(report.attempts[0].readings.len() > 2, "{report:?}");
    assert!(report.attempts[0].readings.iter().all(|r| r.state == PowerState::Off && !r.after_order));
    assert!(!proves(&report.attempts[0], &limits) && proves(&report.attempts[1], &limits), "{report:?}");
    assert_eq!(second.lock().unwrap().controls, [0]);
}

/// "Already off" while it reads On is asked again as one that is busy, not after an order's whole time.
#[tokio::test]
async fn already_off_that_reads_on_is_asked_again_soon() {
    let (address, bmc) = peer::start(&[17]).await;
    bmc.lock().unwrap().refuse = vec![0xd5; 4];
    let hour = Duration::from_secs(3_600);
    let patient = Limits { reorder_after: hour, obey_within: hour, level: hour, ..limits() };
    let host = target(&[&[ipmi(address)]], None);
    let gate = open();
    let report = timeout(Duration::from_secs(60), off(&host, &patient, &gate)).await.expect("asked again");
    assert!(proves(&report.attempts[0], &patient) && report.attempts[0].orders == 5, "{report:?}");
}

/// Exit code 1 says nothing of the power, and an agent that only ever says that holds nobody up.
#[tokio::test]
async fn an_agent_that_fails_without_a_word_leaves_room_for_the_next_level() {
    let (address, second) = peer::start(&[17]).await;
    let program = installed("wordless-act", "", "exit 1");
    let agent = json!({"type": "agent", "program": program, "bmc": "false"});
    let limits = Limits { level: Duration::from_secs(3_600), ..limits() };
    let host = target(&[&[agent], &[ipmi(address)]], None);
    let gate = open();
    let report = timeout(Duration::from_secs(60), off(&host, &limits, &gate)).await.expect("the next level");
    assert!(
        matches!(&report.attempts[0].order, OrderAnswer::Unknown(why) if why.contains("exit code 1")),
        "{report:?}"
    );
    assert!(proves(&report.attempts[1], &limits), "{report:?}");
    assert_eq!(second.lock().unwrap().controls, [0]);
}
