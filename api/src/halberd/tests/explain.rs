//! MS14: one call returns evidence, gates and timings of every verdict. The recovery is written as an engine writes it.

use axum::http::{Method, StatusCode};
use halberd_core::audit::Entry;
use halberd_core::evidence::Class;
use halberd_core::fence::{DeviceAttempt, FenceReport, OrderAnswer, Reading, prove};
use halberd_core::id::{InstanceId, VmoveId};
use halberd_core::instance::Wanted;
use halberd_core::recovery::host::{HostState, Order};
use halberd_core::recovery::{LockMark, Recovery, Stage, Vmove, VmoveStatus};
use halberd_core::runner::{Commit, Intent, Resolution};
use halberd_core::time::Stamp;
use halberd_store::evidence::{self, NewEvidence};
use halberd_store::{audit, commit, write};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::halberd::recoveries::story::replay;
use crate::halberd::testing::{NOW, Site, set_fencing, set_state};

const SECOND: i64 = 1_000_000;

fn at(seconds: i64) -> Stamp {
    Stamp(NOW.0 + seconds * SECOND)
}

fn change(recovery: &Recovery) -> Commit {
    Commit {
        nonce: Uuid::new_v4(),
        recovery: recovery.clone(),
        opens: vec![],
        vmoves: vec![],
        intents: vec![],
        resolved: vec![],
        hosts: vec![],
        notification: None,
        audit: vec![],
        events: vec![],
    }
}

fn off_report() -> FenceReport {
    let reading = |at_ms| Reading { power: halberd_core::evidence::Power::Off, at_ms, after_order: true };
    let attempt = DeviceAttempt {
        level: 0,
        device: "redfish https://bmc-1".into(),
        token: Some("canary-session".into()),
        identity_matches: Some(true),
        stated: false,
        held: false,
        order: OrderAnswer::Accepted,
        readings: vec![reading(10), reading(1_200)],
        error: None,
        took_ms: 1_210,
    };
    FenceReport { attempts: vec![attempt], levels: vec![1] }
}

fn guest(recovery: &Recovery) -> Vmove {
    Vmove {
        id: VmoveId(Uuid::new_v4()),
        recovery: recovery.id,
        notification: recovery.notification,
        instance: InstanceId(Uuid::from_u128(0x9)),
        instance_name: "web-1".into(),
        source_host: recovery.host_name.clone(),
        dest_host: Some("cmp-2".into()),
        status: VmoveStatus::Succeeded,
        message: None,
        start_time: Some(at(4)),
        end_time: Some(at(9)),
        stage: Stage::Done,
        ha_enabled: true,
        wanted: Wanted::Active,
        reset: false,
        vm_state: "active".into(),
        task_state: None,
        lock: LockMark::Open,
        attempt: 1,
        failures: 0,
        placement: 0,
        target: None,
        tried: vec![],
        intent: None,
        known_migrations: vec![],
        migration: Some(3),
        ends: None,
    }
}

/// Held by a brake, judged afresh, fenced, its guest moved.
async fn story(site: &Site) -> Recovery {
    let host = site.host("cmp-1").await;
    let mut recovery = site.open(&host).await;
    let repeat = NewEvidence {
        host: host.id,
        notification: Some(recovery.notification),
        source: evidence::REPEAT.into(),
        class: None,
        text: "COMPUTE_HOST was reported again and turned away".into(),
        detail: json!({ "type": "COMPUTE_HOST" }),
    };
    write(&site.app.db, async |tx| evidence::insert(tx, &repeat, at(1)).await).await.unwrap();
    let judged = json!({
        "verdict": ["redfish: power reads Off (0.2 s ago)"],
        "exhibits": [
            { "class": "E0", "source": "redfish", "what": "power reads Off on the right machine", "age_ms": 200 },
            { "class": "E2", "source": "management", "what": "silent", "age_ms": 6000 },
        ],
    });

    let mut held = change(&recovery);
    let reason = "3 of 4 hosts of rack r1 are silent";
    let withheld = json!({ "gate": "domain", "reason": reason, "evidence": judged });
    held.audit = vec![Entry::new("permit_withheld", format!("held by domain: {reason}"), withheld)];
    set_state(&mut held.recovery, HostState::Held { gate: "domain".into() });
    held.recovery.reason = format!("held by domain: {reason}");
    recovery.version = commit::apply(&site.app.db, &held, &[], at(2)).await.unwrap();

    let off = Intent {
        id: Uuid::new_v4(),
        recovery: Some(recovery.id),
        host: Some(host.id),
        vmove: None,
        effect: "power_off".into(),
        open_key: None,
        epoch: 1,
        attempt: 1,
        detail: json!({}),
    };
    let mut ordered = change(&recovery);
    set_fencing(&mut ordered.recovery);
    ordered.audit = vec![
        Entry::new("host_judged", "failed: redfish: power reads Off (0.2 s ago)", judged),
        Entry::new(
            "permit_given",
            "permitted: quorum: first-hand evidence; domain: 1 of 4; rate: 0 of 3",
            json!({}),
        ),
        Entry::new("off_ordered", "power off of cmp-1 ordered (attempt 1)", json!({ "why": "failed" })),
    ];
    ordered.intents = vec![off.clone()];
    recovery.version = commit::apply(&site.app.db, &ordered, &[], at(3)).await.unwrap();

    let report = off_report();
    let proof = prove(host.id, 1, 1, &report).unwrap();
    let mut fenced = change(&recovery);
    set_state(
        &mut fenced.recovery,
        HostState::Evacuating { order: Order { attempt: 1, boot_number: 1, intent: None }, proof },
    );
    fenced.recovery.reason = "evacuating its guests".into();
    fenced.vmoves = vec![guest(&recovery)];
    fenced.audit = vec![
        Entry::new("host_fenced", "cmp-1 is off, read twice", json!({ "attempts": report.attempts })),
        Entry::new("state_changed", "evacuating: its guests", json!({})),
    ];
    fenced.resolved = vec![Resolution {
        intent: off.id,
        result: "done".into(),
        detail: json!({ "attempts": report.attempts }),
    }];
    recovery.version = commit::apply(&site.app.db, &fenced, &[], at(5)).await.unwrap();
    recovery
}

fn whats(explain: &Value) -> Vec<String> {
    let entries = explain["timeline"].as_array().unwrap();
    entries.iter().map(|entry| entry["what"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn it_tells_the_story_in_order_with_times() {
    let site = Site::new().await;
    let recovery = story(&site).await;
    let answer = site.get(&format!("/recoveries/{}/explain", recovery.id)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let told = answer.json();
    assert_eq!(
        whats(&told),
        [
            "notification_received",
            "recovery_opened",
            "evidence_received",
            "permit_withheld",
            "host_judged",
            "permit_given",
            "off_ordered",
            "call_written",
            "host_fenced",
            "state_changed",
        ]
    );
    for entry in told["timeline"].as_array().unwrap() {
        assert!(!entry["detail"].as_str().unwrap().is_empty());
        assert!(entry["at"].as_str().unwrap().starts_with("2026-11-21T10:00:0"), "{entry}");
    }
    let exhibits = &told["timeline"][4]["evidence"];
    assert_eq!((&exhibits[0]["class"], &exhibits[0]["source"]), (&json!(Class::E0), &json!("redfish")));
    assert_eq!(exhibits[1]["seen_at"], "2026-11-21T09:59:57Z", "decided at 10:00:03 from what was 6 s old");
    assert_eq!(
        told["timeline"][3]["evidence"].as_array().unwrap().len(),
        2,
        "a withheld permit keeps its exhibits"
    );
    assert!(told["timeline"][7]["detail"].as_str().unwrap().contains("done after 2000 ms"));
    let gates: Vec<(&str, &str)> = told["gates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gate| (gate["gate"].as_str().unwrap(), gate["answer"].as_str().unwrap()))
        .collect();
    assert_eq!(
        gates,
        [("quorum", "permitted"), ("domain", "permitted"), ("rate", "permitted")],
        "the last word counts"
    );
    assert_eq!(told["guests"][0]["dest_host"], "cmp-2");
    assert_eq!(told["calls"][0]["state"], "done");
    assert_eq!(told["replay"]["chain_intact"], true);
    let note = told["replay"]["note"].as_str().unwrap();
    assert!(note.contains("class E0") && note.contains("nothing contradicted it"), "{note}");
    assert!(!answer.text.contains("canary-session"));
}

#[tokio::test]
async fn show_has_what_it_waits_for_its_proof_and_its_calls() {
    let site = Site::new().await;
    let recovery = story(&site).await;
    let shown = site.get(&format!("/recoveries/{}", recovery.id)).await.json();
    assert_eq!((&shown["state"], &shown["kind"]), (&json!("evacuating"), &json!("host")));
    assert_eq!(shown["waiting"]["reason"], "evacuating its guests");
    assert_eq!(shown["waiting"]["since"], "2026-11-21T10:00:05Z");
    assert_eq!((&shown["proof"]["means"], &shown["proof"]["boot_number"]), (&json!("power_off"), &json!(1)));
    assert_eq!(shown["verdict"]["verdict"], "failed");
    assert_eq!(
        shown["guests"],
        json!({ "total": 1, "pending": 0, "ongoing": 0, "succeeded": 1, "failed": 0, "ignored": 0 })
    );
    assert_eq!(shown["intents"][0]["effect"], "power_off");
    assert_eq!(shown["notifications"][0], json!(recovery.notification));
    let audit = site.get(&format!("/audit?chain={}", recovery.id)).await;
    assert!(
        audit.text.contains("redfish https://bmc-1") && !audit.text.contains("canary-session"),
        "{}",
        audit.text
    );
}

#[tokio::test]
async fn a_held_one_says_by_what() {
    let site = Site::new().await;
    let host = site.host("cmp-1").await;
    let recovery = site.open(&host).await;
    let mut held = change(&recovery);
    let detail = json!({ "gate": "fleet", "reason": "9 of 20", "evidence": { "verdict": ["silent"], "exhibits": [] } });
    held.audit = vec![Entry::new("permit_withheld", "held by fleet: 9 of 20", detail)];
    set_state(&mut held.recovery, HostState::Held { gate: "fleet".into() });
    commit::apply(&site.app.db, &held, &[], at(2)).await.unwrap();
    let told = site.get(&format!("/recoveries/{}/explain", recovery.id)).await.json();
    let gate = &told["gates"][0];
    assert_eq!(
        (&gate["gate"], &gate["answer"], &gate["reason"]),
        (&json!("fleet"), &json!("withheld"), &json!("9 of 20"))
    );
    assert!(told["replay"]["note"].as_str().unwrap().contains("reports and silence alone"));

    let wish = json!({ "reason": "the switch was being replaced" });
    let path = format!("/recoveries/{}/release", recovery.id);
    assert_eq!(
        site.call(Method::POST, &path, Some(wish), "operator:manager").await.status,
        StatusCode::ACCEPTED
    );
    let told = site.get(&format!("/recoveries/{}/explain", recovery.id)).await.json();
    let last = told["timeline"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["detail"], "ann asked for release: the switch was being replaced");
}

#[tokio::test]
async fn a_record_that_was_changed_is_not_replayed() {
    let site = Site::new().await;
    let recovery = story(&site).await;
    let mut chain = audit::of_chain(&site.app.db, &recovery.id.to_string()).await.unwrap();
    assert!(replay(&recovery, &chain).chain_intact);
    chain[2].0.entry.text.push('!');
    let told = replay(&recovery, &chain);
    assert!(!told.chain_intact && told.note.contains("record 3"), "{}", told.note);
}
