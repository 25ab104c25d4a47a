//! VMoves, and the story of a recovery as the original's tasks tell it (contract 1.13 and 3.8).

use halberd_core::audit::Entry;
use halberd_core::id::{EngineId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId, VmoveId};
use halberd_core::instance::Wanted;
use halberd_core::policy::Policy;
use halberd_core::recovery::host::{HostRecovery, HostState};
use halberd_core::recovery::instance::{InstanceRecovery, InstanceState};
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{
    Body, LockMark, Recovery, Stage, Subject, Vmove, VmoveStatus, WORKFLOW_VERSION,
};
use halberd_core::runner::Commit;
use halberd_core::segment::RecoveryMethod;
use halberd_core::time::Stamp;
use halberd_store::recoveries::{self, Opened, Opening};
use halberd_store::{Db, commit, write};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{Kit, guest_down, host_down, kit, report};

pub const NOW: Stamp = Stamp(1_795_256_430_000_000);

pub fn recovery_of(notification: NotificationId, host: HostId, segment: SegmentId) -> Recovery {
    Recovery {
        id: RecoveryId(Uuid::new_v4()),
        notification,
        segment,
        subject: Subject::Host { host },
        host_name: "cmp-01".to_owned(),
        method: RecoveryMethod::Auto,
        policy: Policy::default(),
        body: Body::Host(HostRecovery::new()),
        reason: "confirming".to_owned(),
        hooks: Default::default(),
        workflow_version: WORKFLOW_VERSION,
        owner: Some(EngineId(Uuid::from_u128(7))),
        epoch: 1,
        version: 1,
        opened_at: NOW,
        closed_at: None,
    }
}

fn vmove(recovery: &Recovery, n: usize, status: VmoveStatus) -> Vmove {
    Vmove {
        id: VmoveId(Uuid::new_v4()),
        recovery: recovery.id,
        notification: recovery.notification,
        instance: InstanceId(Uuid::from_u128(n as u128)),
        instance_name: format!("guest-{n}"),
        source_host: "cmp-01".to_owned(),
        dest_host: (status == VmoveStatus::Succeeded).then(|| "cmp-02".to_owned()),
        status,
        message: None,
        start_time: Some(Stamp(NOW.0 + 5_000_000)),
        end_time: status.is_terminal().then_some(Stamp(NOW.0 + 9_000_000)),
        stage: Stage::Done,
        ha_enabled: n == 1,
        wanted: Wanted::Active,
        reset: false,
        vm_state: "active".to_owned(),
        task_state: None,
        lock: LockMark::Open,
        attempt: 1,
        failures: 0,
        placement: 0,
        target: None,
        tried: Vec::new(),
        intent: None,
        known_migrations: Vec::new(),
        migration: None,
        ends: None,
    }
}

/// Opens a report's recovery with so many guests to move, as an engine would.
pub async fn give_moves(db: &Db, note: NotificationId, host: HostId, segment: SegmentId, count: usize) {
    let recovery = recovery_of(note, host, segment);
    let opened = write(db, async |tx| {
        let opening = Opening { recovery: &recovery, report: None, audit: &[], events: &[], webhooks: &[] };
        recoveries::open(tx, &opening, NOW).await
    });
    let Opened::New(recovery) = opened.await.unwrap() else { panic!("another is open") };
    let moves = (0..count).map(|n| vmove(&recovery, n, VmoveStatus::Pending)).collect();
    commit::apply(db, &draft(&recovery, &[], moves), &[], NOW).await.unwrap();
}

fn draft(recovery: &Recovery, notes: &[(&str, &str)], vmoves: Vec<Vmove>) -> Commit {
    Commit {
        nonce: Uuid::new_v4(),
        recovery: recovery.clone(),
        opens: Vec::new(),
        vmoves,
        intents: Vec::new(),
        resolved: Vec::new(),
        hosts: Vec::new(),
        notification: Some((recovery.word().notification_status(), None)),
        audit: notes.iter().map(|(what, text)| Entry::new(what, *text, json!({}))).collect(),
        events: Vec::new(),
    }
}

/// A recovery opened for a report, as an engine would.
struct Case {
    kit: Kit,
    note: String,
    recovery: Recovery,
}

impl Case {
    async fn of(
        body: impl FnOnce(&str) -> Value,
        subject: impl FnOnce(HostId) -> Subject,
        start: Body,
    ) -> Case {
        let kit = kit().await;
        let segment = kit.segment("a").await;
        let host: HostId = kit.host(&segment, "cmp-01").await.parse().unwrap();
        let made = kit.report(&body("cmp-01")).await.expect(202).json();
        let note = made["notification"]["notification_uuid"].as_str().unwrap().to_owned();
        let mut recovery = recovery_of(note.parse().unwrap(), host, segment.parse().unwrap());
        (recovery.subject, recovery.body) = (subject(host), start);
        let opened = write(&kit.app.db, async |tx| {
            let opening =
                Opening { recovery: &recovery, report: None, audit: &[], events: &[], webhooks: &[] };
            recoveries::open(tx, &opening, NOW).await
        });
        let Opened::New(recovery) = opened.await.unwrap() else { panic!("another is open") };
        Case { kit, note, recovery: *recovery }
    }

    async fn of_host() -> Case {
        Case::of(host_down, |host| Subject::Host { host }, Body::Host(HostRecovery::new())).await
    }

    async fn commit(&mut self, body: Body, notes: &[(&str, &str)], vmoves: Vec<Vmove>) {
        self.recovery.body = body;
        let draft = draft(&self.recovery, notes, vmoves);
        self.recovery.version = commit::apply(&self.kit.app.db, &draft, &[], NOW).await.unwrap();
    }

    async fn details(&self) -> Vec<Value> {
        let answer = self.kit.get(&format!("/v1/notifications/{}", self.note)).await.expect(200).json();
        answer["notification"]["recovery_workflow_details"].as_array().unwrap().clone()
    }

    /// `Name STATE` of each task.
    async fn tasks(&self) -> Vec<String> {
        let word = |task: &Value, key: &str| task[key].as_str().unwrap().to_owned();
        self.details()
            .await
            .iter()
            .map(|task| format!("{} {}", word(task, "name"), word(task, "state")))
            .collect()
    }
}

fn host(state: HostState) -> Body {
    Body::Host(HostRecovery { state, ..HostRecovery::new() })
}

#[tokio::test]
async fn a_hosts_recovery_told_in_the_originals_tasks() {
    let mut case = Case::of_host().await;
    assert_eq!(case.tasks().await, ["DisableComputeServiceTask RUNNING"]);
    let needs = HostState::NeedsOperator { order: None, proof: None };
    case.commit(host(needs), &[("state_changed", "needs_operator: no fence device")], vec![]).await;
    assert_eq!(case.tasks().await, ["DisableComputeServiceTask FAILURE"]);
    let notes = [
        ("host_fenced", "Off twice"),
        ("host_cleared_for_evacuation", "cmp-01 is off and marked down"),
        ("evacuation_ordered", "evacuating guest-1 to a host of the scheduler's choice"),
    ];
    let moves: Vec<Vmove> = (1..=2).map(|n| vmove(&case.recovery, n, VmoveStatus::Ongoing)).collect();
    case.commit(host(HostState::Confirming), &notes, moves.clone()).await;
    let want = [
        "DisableComputeServiceTask SUCCESS",
        "PrepareHAEnabledInstancesTask SUCCESS",
        "EvacuateInstancesTask RUNNING",
    ];
    assert_eq!(case.tasks().await, want);

    let ended = |status| moves.iter().map(|vmove| Vmove { status, ..vmove.clone() }).collect::<Vec<_>>();
    case.commit(
        host(HostState::Finished),
        &[("state_changed", "finished: all well")],
        ended(VmoveStatus::Succeeded),
    )
    .await;
    let details = case.details().await;
    assert!(details.iter().all(|task| task["state"] == "SUCCESS" && task["progress"] == 1.0), "{details:?}");
    let messages = |task: &Value| task["progress_details"].to_string();
    assert!(messages(&details[1]).contains("2 instances to evacuate: 1 HA-enabled, 1 others"));
    assert!(messages(&details[1]).contains(&Uuid::from_u128(2).to_string()), "{}", details[1]);
    assert!(messages(&details[2]).contains("Evacuated: 2 instances"), "{}", details[2]);
    for task in &details {
        let steps = task["progress_details"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["progress"], "1.0", "{task}");
        let stamp = steps[0]["timestamp"].as_str().unwrap();
        assert!(stamp.len() == 26 && stamp.as_bytes()[10] == b' ', "{stamp}");
    }
}

#[tokio::test]
async fn failed_and_cancelled_recoveries_say_so() {
    let mut case = Case::of_host().await;
    let moves = vec![vmove(&case.recovery, 1, VmoveStatus::Failed)];
    case.commit(host(HostState::Failed), &[("host_cleared_for_evacuation", "off")], moves).await;
    assert_eq!(case.tasks().await.last().unwrap(), "EvacuateInstancesTask FAILURE");
    let mut case = Case::of_host().await;
    case.commit(host(HostState::Cancelled), &[("state_changed", "cancelled: alive")], vec![]).await;
    assert_eq!(case.details().await, [] as [Value; 0]);
    let shown = case.kit.get(&format!("/v1/notifications/{}", case.note)).await.json();
    assert_eq!(shown["notification"]["status"], "ignored");
}

#[tokio::test]
async fn finished_guests_and_processes_have_every_task_a_success() {
    let instance = Uuid::new_v4();
    let body = |state| Body::Instance(InstanceRecovery { state });
    let mut case = Case::of(
        |host| guest_down(host, &instance.to_string()),
        |host| Subject::Guest { instance: instance.into(), host },
        body(InstanceState::Confirming),
    )
    .await;
    let word = |text: &'static str| [("state_changed", text)];
    case.commit(body(InstanceState::Starting), &word("starting: stopped; starting it"), vec![]).await;
    assert_eq!(case.tasks().await, ["StopInstanceTask SUCCESS", "StartInstanceTask RUNNING"]);
    case.commit(body(InstanceState::Finished), &word("finished: active again"), vec![]).await;
    let want = ["StopInstanceTask SUCCESS", "StartInstanceTask SUCCESS", "ConfirmInstanceActiveTask SUCCESS"];
    assert_eq!(case.tasks().await, want);

    for (name, want) in [
        ("nova-compute", vec!["DisableComputeNodeTask SUCCESS", "ConfirmComputeNodeDisabledTask SUCCESS"]),
        ("libvirtd", vec![]),
    ] {
        let body = |state| Body::Process(ProcessRecovery { state });
        let mut case = Case::of(
            |host| report("PROCESS", host, &[("event", "STOPPED"), ("process_name", name)]),
            |host| Subject::Process { host, name: name.to_owned() },
            body(ProcessState::Confirming),
        )
        .await;
        case.commit(body(ProcessState::Finished), &word("finished: out of scheduling"), vec![]).await;
        assert_eq!(case.tasks().await, want, "{name}");
    }
}

#[tokio::test]
async fn a_process_that_may_return_is_finished_and_stays_so() {
    let body = |state| Body::Process(ProcessRecovery { state });
    let mut case = Case::of(
        |host| report("PROCESS", host, &[("event", "STOPPED"), ("process_name", "nova-compute")]),
        |host| Subject::Process { host, name: "nova-compute".to_owned() },
        body(ProcessState::Confirming),
    )
    .await;
    let out = [("state_changed", "returning: out of scheduling")];
    case.commit(body(ProcessState::Returning), &out, vec![]).await;
    let want = ["DisableComputeNodeTask SUCCESS", "ConfirmComputeNodeDisabledTask SUCCESS"];
    assert_eq!(case.tasks().await, want);
    let told = case.details().await;
    let back =
        [("process_well_again", "it lives"), ("state_changed", "finished: nova-compute is well again")];
    case.commit(body(ProcessState::Finished), &back, vec![]).await;
    assert_eq!(case.details().await, told, "the way back was no task of the original's");
}

#[tokio::test]
async fn moves_are_listed_shown_and_belong_to_their_report() {
    let mut case = Case::of_host().await;
    let moves: Vec<Vmove> =
        [(1, VmoveStatus::Succeeded), (2, VmoveStatus::Pending), (3, VmoveStatus::Failed)]
            .map(|(n, status)| vmove(&case.recovery, n, status))
            .to_vec();
    case.commit(host(HostState::Confirming), &[], moves.clone()).await;
    let kit = &case.kit;
    let list = format!("/v1/notifications/{}/vmoves", case.note);
    let names = async |query: &str| {
        let listed = kit.get(&format!("{list}{query}")).await.expect(200).json();
        let rows = listed["vmoves"].as_array().unwrap();
        rows.iter().map(|row| row["instance_name"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(names("?sort_key=instance_name&sort_dir=asc").await, "guest-1 guest-2 guest-3");
    assert_eq!(names("?status=pending").await, "guest-2");
    assert_eq!(names("?status=bogus").await, "");
    assert_eq!(names("?type=evacuation&sort_key=id&sort_dir=asc&limit=1").await, "guest-1");
    kit.get(&format!("{list}?sort_key=stage")).await.expect(400);

    let one = kit.get(&format!("{list}/{}", moves[0].id)).await.expect(200).json();
    let one = &one["vmove"];
    assert_eq!(
        (&one["status"], &one["dest_host"], &one["type"]),
        (&json!("succeeded"), &json!("cmp-02"), &json!("evacuation"))
    );
    assert_eq!(one["notification_uuid"], case.note.as_str());
    assert_eq!(one["end_time"], "2026-11-21T10:20:39.000000");
    assert!(one["id"].is_i64() && one["deleted"] == false);
    // At 1.0 as well: gating is loose.
    kit.ask("GET", &list, &[], "").await.expect(200);

    kit.get(&format!("{list}/{}", Uuid::new_v4())).await.expect(404);
    kit.get(&format!("/v1/notifications/{}/vmoves", Uuid::new_v4())).await.expect(404);
    kit.get(&format!("/v1/notifications/{}/vmoves/{}", Uuid::new_v4(), moves[0].id)).await.expect(404);
    let guest = kit.report(&guest_down("cmp-01", &Uuid::new_v4().to_string())).await.expect(202).json();
    let guest = guest["notification"]["notification_uuid"].as_str().unwrap();
    for path in [String::new(), format!("/{}", moves[0].id)] {
        let answer = kit.get(&format!("/v1/notifications/{guest}/vmoves{path}")).await.expect(400);
        assert_eq!(answer.key(), "badRequest");
    }
}
