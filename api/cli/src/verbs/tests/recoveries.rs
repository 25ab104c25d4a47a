//! Recoveries: list, show, explain, watch; and how a host's or a guest's name leads to one.

use halberd_types::halberd::recovery::{
    Explain, GateAnswer, GateWord, GuestCounts, GuestMove, GuestOutcome, IntentState, IntentView, ProofMeans,
    ProofView, RecoveryDetail, RecoveryKind, RecoveryState, RecoverySummary, Replay, TimelineEntry,
    VerdictView, VerdictWord, Waiting,
};
use halberd_types::halberd::{Subject, SubjectKind};

use super::*;

const HELD: u128 = 0x701;
const RETURN: u128 = 0x702;

fn subject(kind: SubjectKind, number: u128, name: &str) -> Subject {
    Subject { kind, id: id(number).to_string(), name: name.into() }
}

fn summary(number: u128, kind: RecoveryKind, state: RecoveryState) -> RecoverySummary {
    RecoverySummary {
        id: id(number),
        kind,
        subject: subject(SubjectKind::Host, 0x101, "cmp-01"),
        segment_id: Some(id(1)),
        state,
        message: Some("moving guests".into()),
        waiting: state.is_open().then(|| Waiting {
            reason: "Nova rebuilds 1 guest".into(),
            since: None,
            normal_ms: Some(90_000),
        }),
        guests: GuestCounts { total: 2, succeeded: 1, ongoing: 1, ..GuestCounts::default() },
        epoch: 4,
        owner: Some("ctl-1".into()),
        opened_at: at(0),
        changed_at: None,
        closed_at: (!state.is_open()).then(|| at(40)),
    }
}

fn moved(number: u128, name: &str, outcome: GuestOutcome) -> GuestMove {
    GuestMove {
        instance_uuid: id(number),
        name: name.into(),
        source_host: "cmp-01".into(),
        dest_host: (outcome == GuestOutcome::Succeeded).then(|| "cmp-02".into()),
        wanted_state: Some("active".into()),
        outcome,
        reason: (outcome == GuestOutcome::Failed).then(|| "No valid host was found".into()),
        attempts: 1,
        started_at: Some(at(6)),
        ended_at: None,
    }
}

fn call(effect: &str, subject: Subject, state: IntentState) -> IntentView {
    IntentView {
        id: id(0x801),
        effect: effect.into(),
        subject,
        state,
        epoch: 4,
        attempt: 1,
        written_at: at(6),
        resolved_at: None,
        answer: None,
    }
}

fn entry(seconds: i64, what: &str, detail: &str) -> TimelineEntry {
    TimelineEntry { at: at(seconds), what: what.into(), detail: detail.into(), evidence: vec![] }
}

fn explain(state: RecoveryState, guest_two: GuestOutcome) -> Explain {
    let one = subject(SubjectKind::Guest, 0x401, "web-1");
    let two = subject(SubjectKind::Guest, 0x402, "web-12");
    Explain {
        recovery: summary(HELD, RecoveryKind::Host, state),
        timeline: vec![
            entry(0, "notification_received", "COMPUTE_HOST of cmp-01 by engine: event STOPPED"),
            entry(
                3,
                "host_judged",
                "cmp-01 has failed: its BMC reads Off, and it was not heard for 3.2 s on any of its networks",
            ),
            entry(5, "host_fenced", "cmp-01 is off: read Off twice after the order"),
            entry(6, "call_written", "evacuate web-1 (attempt 1, epoch 4): done after 310 ms"),
            entry(6, "call_written", "evacuate web-12 (attempt 1, epoch 4): its end is not known yet"),
        ],
        gates: vec![GateAnswer {
            gate: "domain".into(),
            title: "failure domain".into(),
            answer: GateWord::Permitted,
            reason: "1 of 3 hosts of rack r1 is silent".into(),
            at: at(3),
        }],
        guests: vec![moved(0x401, "web-1", GuestOutcome::Succeeded), moved(0x402, "web-12", guest_two)],
        calls: vec![
            call("power_off", subject(SubjectKind::Host, 0x101, "cmp-01"), IntentState::Done),
            call("evacuate", one, IntentState::Done),
            call("evacuate", two, IntentState::Open),
        ],
        replay: Replay {
            chain_intact: true,
            records: 12,
            head: Some("ab".into()),
            note: "failed by E0 of bmc; nothing contradicted it".into(),
        },
    }
}

fn detail() -> RecoveryDetail {
    let told = explain(RecoveryState::Evacuating, GuestOutcome::Ongoing);
    RecoveryDetail {
        summary: told.recovery,
        recovery_method: Some(RecoveryMethod::Auto),
        notifications: vec![id(0x201)],
        verdict: Some(VerdictView {
            verdict: VerdictWord::Failed,
            reasons: vec!["its BMC reads Off".into()],
            at: at(3),
            evidence: vec![],
        }),
        proof: Some(ProofView {
            means: ProofMeans::PowerOff,
            boot_number: Some(3),
            at: Some(at(5)),
            detail: "read Off twice after the order".into(),
            voided_at: None,
        }),
        moves: told.guests,
        intents: told.calls,
        operator_may: vec![],
    }
}

/// A host's recovery under way, and its way back.
async fn service(state: RecoveryState, guest_two: GuestOutcome) -> Service {
    let service = Service::with_hosts().await;
    let listed = vec![
        summary(RETURN, RecoveryKind::Return, RecoveryState::Out),
        summary(HELD, RecoveryKind::Host, state),
    ];
    service.on("GET /halberd/v1/recoveries", 200, page(listed));
    service.on(&format!("GET /halberd/v1/recoveries/{}", id(HELD)), 200, detail());
    service.on(&format!("GET /halberd/v1/recoveries/{}/explain", id(HELD)), 200, explain(state, guest_two));
    service
}

#[tokio::test]
async fn list() {
    let service = service(RecoveryState::Evacuating, GuestOutcome::Ongoing).await;
    let expected = "\
ID                                    OF                     STATE       GUESTS  OPENED
00000000-0000-0000-0000-000000000702  return of host cmp-01  out         1/2     2026-11-21 12:00:00
00000000-0000-0000-0000-000000000701  host cmp-01            evacuating  1/2     2026-11-21 12:00:00
";
    let line = ["recovery", "list", "--open", "--host", "cmp-01", "--kind", "host", "--limit", "7"];
    assert_eq!(service.prints(&line).await, expected);
    let asked = &service.asked("GET /halberd/v1/recoveries")[0].query;
    assert_eq!(asked, "open=true&host=00000000-0000-0000-0000-000000000101&kind=host&limit=7");
    assert_eq!(service.prints_json(&["recovery", "list"]).await[1]["state"], "evacuating");
}

#[tokio::test]
async fn a_cut_list_says_that_there_is_more() {
    let service = Service::start().await;
    let one = summary(HELD, RecoveryKind::Host, RecoveryState::Finished);
    service.on("GET /halberd/v1/recoveries", 200, Page { items: vec![one], next: Some("x".into()) });
    let out = service.prints(&["recovery", "list", "--limit", "1"]).await;
    assert!(out.ends_with("there are more: ask with --limit, --open or --host\n"), "{out}");
}

#[tokio::test]
async fn show() {
    let service = service(RecoveryState::Evacuating, GuestOutcome::Ongoing).await;
    let expected = "\
id             00000000-0000-0000-0000-000000000701
of             host cmp-01
state          evacuating
message        moving guests
waits for      Nova rebuilds 1 guest (normally up to 90.0 s)
guests         1/2
method         auto
verdict        failed: its BMC reads Off
proof          power_off: read Off twice after the order
engine         ctl-1
epoch          4
opened         2026-11-21 12:00:00
changed        -
closed         -
notifications  00000000-0000-0000-0000-000000000201
you may        -

GUEST                                 NAME    OUTCOME    TO      CALLS  REASON
00000000-0000-0000-0000-000000000402  web-12  ongoing    -       1      -
00000000-0000-0000-0000-000000000401  web-1   succeeded  cmp-02  1      -
";
    assert_eq!(service.prints(&["recovery", "show", &id(HELD).to_string()]).await, expected);
    assert_eq!(service.prints_json(&["recovery", "show", "cmp-01"]).await, json!(detail()));
}

#[tokio::test]
async fn explain_a_host() {
    let service = service(RecoveryState::Evacuating, GuestOutcome::Ongoing).await;
    let expected = "\
recovery   00000000-0000-0000-0000-000000000701
of         host cmp-01
state      evacuating
message    moving guests
waits for  Nova rebuilds 1 guest (normally up to 90.0 s)
guests     1/2
opened     2026-11-21 12:00:00.250 UTC

TIME          WHAT                   TEXT
12:00:00.250  notification_received  COMPUTE_HOST of cmp-01 by engine: event STOPPED
12:00:03.250  host_judged            cmp-01 has failed: its BMC reads Off, and it was not heard for 3.2 s on
                                     any of its networks
12:00:05.250  host_fenced            cmp-01 is off: read Off twice after the order
12:00:06.250  call_written           evacuate web-1 (attempt 1, epoch 4): done after 310 ms
12:00:06.250  call_written           evacuate web-12 (attempt 1, epoch 4): its end is not known yet

GATE            ANSWER     REASON
failure domain  permitted  1 of 3 hosts of rack r1 is silent

GUEST                                 NAME    OUTCOME    TO      CALLS  REASON
00000000-0000-0000-0000-000000000402  web-12  ongoing    -       1      -
00000000-0000-0000-0000-000000000401  web-1   succeeded  cmp-02  1      -

calls   1 power_off, 2 evacuate (1 done)
audit   intact, 12 records
replay  failed by E0 of bmc; nothing contradicted it
See also 00000000-0000-0000-0000-000000000702: return of host cmp-01, out
";
    let out = service.prints(&["explain", "cmp-01"]).await;
    assert_eq!(out, expected);
    fits(&out);
    let told = json!(explain(RecoveryState::Evacuating, GuestOutcome::Ongoing));
    assert_eq!(service.prints_json(&["explain", "cmp-01"]).await, told);
    assert_eq!(service.prints_json(&["explain", &id(0x101).to_string()]).await, told, "the host's uuid");
    assert_eq!(service.prints_json(&["explain", &id(HELD).to_string()]).await, told, "the recovery's id");
    let bare = service.prints(&["explain", "cmp-01", "-f", "value"]).await;
    assert_eq!(bare.lines().count(), 5);
}

#[tokio::test]
async fn explain_a_guest_leaves_its_neighbours_out() {
    let service = service(RecoveryState::Evacuating, GuestOutcome::Ongoing).await;
    for wanted in ["web-1".to_owned(), id(0x401).to_string()] {
        let told = service.prints_json(&["explain", &wanted]).await;
        assert_eq!(told["guests"].as_array().map(Vec::len), Some(1));
        assert_eq!(told["guests"][0]["name"], "web-1");
        let lines: Vec<&str> = told["timeline"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["detail"].as_str().unwrap())
            .collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains("web-12")), "{lines:?}");
        assert_eq!(told["calls"].as_array().map(Vec::len), Some(2));
    }
    let page = service.prints(&["explain", "web-12"]).await;
    assert!(page.contains("guest      web-12 00000000-0000-0000-0000-000000000402\n"), "{page}");
    assert!(page.contains("evacuate web-12") && !page.contains("evacuate web-1 "), "{page}");
    fits(&page);
}

#[tokio::test]
async fn a_story_over_midnight_has_dates() {
    let service = service(RecoveryState::Finished, GuestOutcome::Succeeded).await;
    let mut long = explain(RecoveryState::Finished, GuestOutcome::Succeeded);
    long.timeline.push(entry(86_400, "host_returned", "cmp-01 beats again"));
    let other = Service::with_hosts().await;
    other.on("GET /halberd/v1/recoveries", 200, page(vec![long.recovery.clone()]));
    other.on(&format!("GET /halberd/v1/recoveries/{}/explain", id(HELD)), 200, long);
    let out = other.prints(&["explain", "cmp-01"]).await;
    assert!(out.contains("11-22 12:00:00.250  host_returned"), "{out}");
    let out = service.prints(&["explain", "cmp-01"]).await;
    assert!(out.contains("closed    2026-11-21 12:00:40.250 UTC\n") && !out.contains("waits for"), "{out}");
}

#[tokio::test]
async fn a_broken_chain_is_shouted() {
    let service = Service::with_hosts().await;
    let mut broken = explain(RecoveryState::Finished, GuestOutcome::Succeeded);
    broken.replay.chain_intact = false;
    service.on("GET /halberd/v1/recoveries", 200, page(vec![broken.recovery.clone()]));
    service.on(&format!("GET /halberd/v1/recoveries/{}/explain", id(HELD)), 200, broken);
    assert!(service.prints(&["explain", "cmp-01"]).await.contains("audit   NOT INTACT"));
}

#[tokio::test]
async fn nothing_happened_to_it() {
    let service = service(RecoveryState::Evacuating, GuestOutcome::Ongoing).await;
    let failure = service.fails(&["explain", "cmp-02"]).await;
    assert_eq!((failure.code, failure.text.as_str()), (1, "no recovery of host cmp-02 is on record"));
    let failure = service.fails(&["explain", "cmp-1"]).await;
    assert_eq!(failure.text, "no recovery, host or guest of a recovery has the name or id \"cmp-1\"");
    assert_eq!(failure.remedy.as_deref(), Some("did you mean cmp-01?"));
}

#[tokio::test]
async fn guests_of_one_name_are_told_apart_by_uuid() {
    let service = Service::with_hosts().await;
    let mut twins = detail();
    twins.moves[1].name = "web-1".into();
    service.on("GET /halberd/v1/recoveries", 200, page(vec![twins.summary.clone()]));
    service.on(&format!("GET /halberd/v1/recoveries/{}", id(HELD)), 200, twins);
    let failure = service.fails(&["explain", "web-1"]).await;
    assert!(failure.text.starts_with("\"web-1\" is the name of 2 guests: "), "{failure}");
}

#[tokio::test]
async fn a_name_of_two_subjects_is_ambiguous() {
    let service = Service::with_hosts().await;
    let mut other = summary(0x703, RecoveryKind::Service, RecoveryState::Acting);
    other.subject = Subject { kind: SubjectKind::Service, id: "cmp-01".into(), name: "cmp-01".into() };
    let listed = vec![other, summary(HELD, RecoveryKind::Host, RecoveryState::Held)];
    service.on("GET /halberd/v1/recoveries", 200, page(listed));
    let failure = service.fails(&["recovery", "show", "cmp-01"]).await;
    assert!(failure.text.contains("host 00000000-0000-0000-0000-000000000101, service cmp-01"), "{failure}");
}

#[tokio::test]
async fn watch_tells_each_thing_once_and_ends_with_the_recovery() {
    for (end, two, code) in [
        (RecoveryState::Finished, GuestOutcome::Succeeded, None),
        (RecoveryState::Cancelled, GuestOutcome::Ignored, None),
        (RecoveryState::Failed, GuestOutcome::Failed, Some(1)),
    ] {
        let service = service(RecoveryState::Evacuating, GuestOutcome::Ongoing).await;
        let path = format!("GET /halberd/v1/recoveries/{}/explain", id(HELD));
        // A controller is restarted in between: watching goes on.
        service.on(&path, 503, json!({ "title": "starting", "detail": "starting" }));
        service.on(&path, 200, explain(RecoveryState::Evacuating, GuestOutcome::Ongoing));
        let mut last = explain(end, two);
        last.timeline.push(entry(40, "recovery_closed", "it is over"));
        service.on(&path, 200, last);
        let (out, ended) = service.run(&["recovery", "watch", "cmp-01", "--interval", "0.01"]).await;
        assert_eq!(ended.as_ref().err().map(|failure| failure.code), code, "{ended:?}");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 8, "five entries, the standing, one more entry, the standing: {out}");
        assert!(lines[5].starts_with("  -> evacuating; 1/2; Nova rebuilds 1 guest"), "{out}");
        assert!(lines[6].ends_with("recovery_closed it is over"), "{out}");
        assert_eq!(service.asked(&path).len(), 4);
    }
}

#[tokio::test]
async fn watch_as_json_is_a_line_an_entry() {
    let service = service(RecoveryState::Finished, GuestOutcome::Succeeded).await;
    let out = service.prints(&["recovery", "watch", "cmp-01", "-f", "json"]).await;
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[0]["what"], "notification_received");
    assert_eq!(lines[5]["recovery"]["state"], "finished");
}
