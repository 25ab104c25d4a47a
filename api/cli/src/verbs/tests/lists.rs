//! Lists and shows.

use halberd_types::halberd::agent::{AgentState, AgentView, EngineSight};
use halberd_types::halberd::audit::AuditVerification;
use halberd_types::halberd::engine::{EngineState, EngineView};
use halberd_types::halberd::event::Event;
use halberd_types::halberd::service::{ActionState, ServiceAction, ServiceState, ServiceView};
use halberd_types::v1::notification::{
    Notification, NotificationDetail, NotificationStatus, NotificationType,
};
use halberd_types::v1::vmove::{VMove, VMoveStatus, VMoveType};
use halberd_types::v1::workflow::{TaskName, TaskState, WorkflowTask};

use super::*;

fn notification() -> Notification {
    Notification {
        id: 1,
        notification_uuid: id(0x201),
        generated_time: Timestamp::new(at(0)),
        source_host_uuid: id(0x101),
        notification_type: NotificationType::ComputeHost,
        payload: [("event".to_owned(), "STOPPED".to_owned()), ("host_status".into(), "NORMAL".into())].into(),
        status: NotificationStatus::Running,
        failover_segment_uuid: Some(id(1)),
        message: None,
        times: times(),
    }
}

fn vmove() -> VMove {
    VMove {
        id: 1,
        uuid: id(0x301),
        notification_uuid: id(0x201),
        instance_uuid: id(0x401),
        instance_name: Some("web-1".into()),
        source_host: Some("cmp-01".into()),
        dest_host: Some("cmp-02".into()),
        start_time: Some(Timestamp::new(at(5))),
        end_time: None,
        move_type: VMoveType::Evacuation,
        status: VMoveStatus::Ongoing,
        message: None,
        times: times(),
    }
}

#[tokio::test]
async fn segments() {
    let service = Service::with_hosts().await;
    let expected = "\
UUID                                  NAME    RECOVERY_METHOD  SERVICE_TYPE  ENABLED
00000000-0000-0000-0000-000000000001  rack-1  auto             COMPUTE       true
";
    assert_eq!(service.prints(&["segment", "list"]).await, expected);
    let listed = service.prints_json(&["segment", "list"]).await;
    assert_eq!(listed, json!([segment(1, "rack-1")]), "json is the API's own");
    let expected = "\
uuid             00000000-0000-0000-0000-000000000001
name             rack-1
description      -
recovery_method  auto
service_type     COMPUTE
enabled          true
created_at       2026-11-21 12:00:00
updated_at       -
";
    assert_eq!(service.prints(&["segment", "show", "rack-1"]).await, expected);
    let uuid = id(1).to_string();
    assert_eq!(service.prints_json(&["segment", "show", &uuid]).await, json!(segment(1, "rack-1")));
    let value = service.prints(&["segment", "list", "-f", "value", "-c", "name", "-c", "uuid"]).await;
    assert_eq!(value, "rack-1 00000000-0000-0000-0000-000000000001\n");
    assert_eq!(
        service.prints(&["segment", "show", "rack-1", "-f", "value", "-c", "UUID"]).await,
        format!("{uuid}\n")
    );
}

#[tokio::test]
async fn hosts() {
    let service = Service::with_hosts().await;
    let expected = "\
UUID                                  NAME    SEGMENT  RESERVED  ON_MAINTENANCE
00000000-0000-0000-0000-000000000101  cmp-01  rack-1   false     false
00000000-0000-0000-0000-000000000102  cmp-02  rack-1   false     false
";
    assert_eq!(service.prints(&["host", "list"]).await, expected);
    let listed = service.prints_json(&["host", "list", "--segment", "rack-1", "--reserved", "True"]).await;
    assert_eq!(listed, json!([host(1, "cmp-01"), host(2, "cmp-02")]));
    let asked = service.asked(&format!("GET /v1/segments/{}/hosts", id(1)));
    assert!(asked.iter().any(|asked| asked.query.contains("reserved=true")), "{asked:?}");
    let shown = service.prints(&["host", "show", "cmp-02"]).await;
    assert!(shown.contains("segment_id          00000000-0000-0000-0000-000000000001\n"), "{shown}");
    fits(&shown);
}

#[tokio::test]
async fn an_empty_list_says_so_to_people_only() {
    let service = Service::start().await;
    service.on("GET /v1/segments", 200, json!({ "segments": [] }));
    assert_eq!(service.prints(&["segment", "list"]).await, "none\n");
    assert_eq!(service.prints(&["segment", "list", "-f", "json"]).await, "[]\n");
    assert_eq!(service.prints(&["segment", "list", "-f", "value"]).await, "");
}

#[tokio::test]
async fn notifications() {
    let service = Service::with_hosts().await;
    service.on("GET /v1/notifications", 200, json!({ "notifications": [notification()] }));
    let line = ["notification", "list", "--host", "cmp-01", "--type", "compute_host", "--status", "running"];
    let expected = "\
NOTIFICATION_UUID                     GENERATED_TIME       TYPE          HOST    STATUS   EVENT
00000000-0000-0000-0000-000000000201  2026-11-21 12:00:00  COMPUTE_HOST  cmp-01  running  STOPPED
";
    assert_eq!(service.prints(&line).await, expected);
    let asked = &service.asked("GET /v1/notifications")[0].query;
    for part in
        ["source_host_uuid=00000000-0000-0000-0000-000000000101", "type=COMPUTE_HOST", "status=running"]
    {
        assert!(asked.contains(part), "{asked}");
    }
    assert_eq!(service.prints_json(&["notification", "list"]).await, json!([notification()]));

    let task = WorkflowTask {
        name: TaskName::EvacuateInstancesTask,
        state: TaskState::Running,
        progress: 0.5,
        progress_details: vec![],
    };
    let detail =
        NotificationDetail { notification: notification(), recovery_workflow_details: Some(vec![task]) };
    let path = format!("GET /v1/notifications/{}", id(0x201));
    service.on(&path, 200, json!({ "notification": detail }));
    let shown = service.prints(&["notification", "show", &id(0x201).to_string()]).await;
    assert!(shown.contains("payload                    event=STOPPED host_status=NORMAL\n"), "{shown}");
    assert!(shown.contains("recovery_workflow_details  EvacuateInstancesTask: RUNNING\n"), "{shown}");
    fits(&shown);
}

#[tokio::test]
async fn vmoves_of_one_notification_and_of_all() {
    let service = Service::start().await;
    service.on("GET /v1/notifications", 200, json!({ "notifications": [notification()] }));
    service.on(&format!("GET /v1/notifications/{}/vmoves", id(0x201)), 200, json!({ "vmoves": [vmove()] }));
    let expected = "\
INSTANCE_UUID                         INSTANCE_NAME  SOURCE_HOST  DEST_HOST  STATUS   MESSAGE
00000000-0000-0000-0000-000000000401  web-1          cmp-01       cmp-02     ongoing  -
";
    assert_eq!(service.prints(&["vmove", "list"]).await, expected);
    assert!(service.asked("GET /v1/notifications")[0].query.contains("type=COMPUTE_HOST"));
    let one = service.prints_json(&["vmove", "list", &id(0x201).to_string(), "--status", "ongoing"]).await;
    assert_eq!(one, json!([vmove()]));
}

#[tokio::test]
async fn services_agents_engines() {
    let service = Service::start().await;
    let watched = ServiceView {
        name: "db".into(),
        kind: "mysql".into(),
        state: ServiceState::Down,
        since: at(0),
        targets: vec![],
        last_probe: Some(at(4)),
        reason: Some("connection refused".into()),
        action: Some(ServiceAction {
            effect: "restart_unit".into(),
            host: Some("ctl-1".into()),
            unit: Some("mariadb".into()),
            state: ActionState::Ongoing,
            at: Some(at(5)),
            reason: None,
        }),
    };
    service.on("GET /halberd/v1/services", 200, page(vec![watched.clone()]));
    let shown = service.prints(&["service", "list"]).await;
    fits(&shown);
    assert!(
        shown.contains("db    mysql  down   2026-11-21 12:00:00  2026-11-21 12:00:04  restart_unit"),
        "{shown}"
    );
    assert_eq!(service.prints_json(&["service", "list"]).await, json!([watched]));

    let agent = AgentView {
        host_id: id(0x101),
        host: "cmp-01".into(),
        state: AgentState::Suspect,
        since: Some(at(0)),
        boot_id: Some(id(9)),
        boot_number: Some(3),
        version: Some("0.1.0".into()),
        has_start_gate: Some(true),
        has_watchdog: None,
        sights: vec![EngineSight { engine: "ctl-1".into(), state: "silent".into(), since: at(0) }],
    };
    service.on("GET /halberd/v1/agents", 200, page(vec![agent.clone()]));
    let expected = "\
HOST    STATE    SINCE                BOOT  VERSION  START_GATE  WATCHDOG  ENGINES
cmp-01  suspect  2026-11-21 12:00:00  3     0.1.0    true        -         ctl-1: silent
";
    assert_eq!(service.prints(&["agent", "list"]).await, expected);
    assert_eq!(service.prints_json(&["agent", "list"]).await, json!([agent]));

    let engine = EngineView {
        id: id(0x501),
        name: "ctl-1".into(),
        state: EngineState::QuietStart,
        epoch: 7,
        version: "0.1.0".into(),
        started_at: at(0),
        renewed_at: Some(at(1)),
        recoveries: 2,
        reason: None,
        lag_ms: Some(3),
        round_trip_ms: Some(1),
        outbox_age_ms: None,
        bus_age_ms: None,
        beats_per_second: Some(12.5),
        disarmed: None,
        workflow: Some(1),
        schema: Some(4),
    };
    service.on("GET /halberd/v1/engines", 200, page(vec![engine.clone()]));
    let expected = "\
NAME   STATE        VERSION  HOLDS  RENEWED              LAG_MS  DB_MS  OUTBOX_MS  BEATS_S  REASON
ctl-1  quiet_start  0.1.0    2      2026-11-21 12:00:01  3       1      -          12.5     -
";
    assert_eq!(service.prints(&["engines", "list"]).await, expected);
    assert_eq!(service.prints_json(&["engines", "list"]).await, json!([engine]));
}

#[tokio::test]
async fn a_broken_audit_fails() {
    let service = Service::start().await;
    let whole = AuditVerification { intact: true, chains: 3, records: 42, broken: vec![] };
    let broken = AuditVerification {
        intact: false,
        broken: vec!["chain x breaks at record 7".into()],
        ..whole.clone()
    };
    service.on("GET /halberd/v1/audit/verify", 200, whole);
    service.on("GET /halberd/v1/audit/verify", 200, broken);
    assert_eq!(service.prints(&["audit", "verify"]).await, "intact: 42 records in 3 chains\n");
    let (out, end) = service.run(&["audit", "verify"]).await;
    assert!(out.contains("broken   chain x breaks at record 7\n"), "{out}");
    assert_eq!(end.unwrap_err().code, 1);
}

#[tokio::test]
async fn events_are_walked_page_by_page() {
    let event = |number: u128, recovery: Option<Uuid>, data: Value| Event {
        id: id(number),
        recovery_id: recovery,
        sequence: 1,
        epoch: 1,
        kind: "host.fenced".into(),
        time: at(number as i64),
        subject: "host/cmp-01".into(),
        data,
    };
    let first = event(1, Some(id(7)), json!({ "text": "cmp-01 is off" }));
    let second = event(2, None, json!({ "boot": 3 }));
    let service = Service::start().await;
    let pages =
        [Page { items: vec![first.clone()], next: Some(id(1).to_string()) }, page(vec![second.clone()])];
    for page in pages.iter().chain(&pages) {
        service.on("GET /halberd/v1/events", 200, page);
    }
    let expected = "\
TIME                 KIND         SUBJECT      TEXT
2026-11-21 12:00:01  host.fenced  host/cmp-01  cmp-01 is off
2026-11-21 12:00:02  host.fenced  host/cmp-01  boot=3
";
    assert_eq!(service.prints(&["event", "list"]).await, expected);
    let asked = service.asked("GET /halberd/v1/events");
    assert_eq!(asked[0].query, "format=json&since=0&limit=1000");
    assert_eq!(asked[1].query, format!("format=json&limit=1000&since={}", id(1)));
    let own = service.prints_json(&["event", "list", "--recovery", &id(7).to_string()]).await;
    assert_eq!(own, json!([first]));
}
