//! The announcer against a receiver that is down, slow, wrong and hostile. Pauses are handed in, so nothing here waits for them.

mod receiver;
mod sections;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use halberd_core::event::{Event, EventKind};
use halberd_core::id::{EventId, HostId, NotificationId, RecoveryId, SegmentId};
use halberd_core::policy::Policy;
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{Body, Recovery, Subject, WORKFLOW_VERSION};
use halberd_core::segment::RecoveryMethod;
use halberd_core::time::Stamp;
use halberd_store::deliveries::{self, DeliveryRow, DeliveryState};
use halberd_store::{Access, Db, events, recoveries, write};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Announcer, AnnouncerOptions, Schedule, WebhookConfig};
use receiver::{Answer, Receiver, verifies};

const SECRET: &str = "whsec_c2VjcmV0LWtleS1vZi1hdC1sZWFzdC0yNC1ieXRlcw==";

struct Bench {
    db: Db,
    /// Added to the wall clock: claims run out when a test says so.
    ahead: Arc<AtomicI64>,
    cancel: CancellationToken,
    _folder: TempDir,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("halberd.db").display());
        let db = Db::open(&url, Access::Exclusive).await.unwrap();
        Bench { db, ahead: Arc::default(), cancel: CancellationToken::new(), _folder: folder }
    }

    /// An open recovery without events.
    async fn recovery(&self) -> RecoveryId {
        let host = HostId(Uuid::new_v4());
        let recovery = Recovery {
            id: RecoveryId(Uuid::new_v4()),
            notification: NotificationId(Uuid::new_v4()),
            segment: SegmentId(Uuid::new_v4()),
            subject: Subject::Process { host, name: "nova-compute".into() },
            host_name: "cmp-01".into(),
            method: RecoveryMethod::Auto,
            policy: Policy::default(),
            body: Body::Process(ProcessRecovery { state: ProcessState::Confirming }),
            reason: String::new(),
            hooks: Default::default(),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 7,
            version: 1,
            opened_at: Stamp(0),
            closed_at: None,
        };
        let opening =
            recoveries::Opening { recovery: &recovery, report: None, audit: &[], events: &[], webhooks: &[] };
        write(&self.db, async |tx| recoveries::open(tx, &opening, Stamp(0)).await).await.unwrap();
        recovery.id
    }

    async fn publish(
        &self,
        recovery: Option<RecoveryId>,
        hooks: &[&str],
        kinds: &[EventKind],
    ) -> Vec<EventId> {
        let event = |kind: &EventKind| Event {
            id: EventId(Uuid::new_v4()),
            kind: *kind,
            recovery,
            subject: "host/cmp-01".into(),
            data: json!({"text": kind.as_str()}),
        };
        let published: Vec<Event> = kinds.iter().map(event).collect();
        let hooks: Vec<String> = hooks.iter().map(|hook| (*hook).to_owned()).collect();
        // A second ago, so that it is due whatever the clocks' resolution.
        let now = Stamp(crate::clock::stamp().0 - 1_000_000);
        write(&self.db, async |tx| events::publish(tx, &published, 7, &hooks, now).await).await.unwrap();
        published.iter().map(|event| event.id).collect()
    }

    fn announcer(&self, sections: &[Value], pauses: &[u64]) -> Announcer {
        let sections: Vec<WebhookConfig> =
            sections.iter().map(|section| serde_json::from_value(section.clone()).unwrap()).collect();
        let ahead = self.ahead.clone();
        let options = AnnouncerOptions {
            schedule: Schedule(pauses.iter().map(|ms| Duration::from_millis(*ms)).collect()),
            poll: Duration::from_millis(5),
            clock: Arc::new(move || Stamp(crate::clock::stamp().0 + ahead.load(Ordering::Relaxed))),
            ..AnnouncerOptions::default()
        };
        Announcer::new(self.db.clone(), &sections, options).unwrap()
    }

    fn run(&self, sections: &[Value], pauses: &[u64]) -> JoinHandle<()> {
        tokio::spawn(self.announcer(sections, pauses).run(self.cancel.clone()))
    }

    fn pass(&self, span: Duration) {
        self.ahead.fetch_add(i64::try_from(span.as_micros()).unwrap(), Ordering::Relaxed);
    }

    async fn rows(&self, hook: &str) -> Vec<DeliveryRow> {
        let mut rows = deliveries::list(&self.db, Some(hook), None, 1000).await.unwrap();
        rows.reverse();
        rows
    }

    /// Waits until every delivery of a hook satisfies `is_so`.
    async fn settled(&self, hook: &str, is_so: impl Fn(&DeliveryRow) -> bool) -> Vec<DeliveryRow> {
        loop {
            let rows = self.rows(hook).await;
            if rows.iter().all(&is_so) {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn delivered(row: &DeliveryRow) -> bool {
    row.state == DeliveryState::Delivered
}

fn section(name: &str, url: String) -> Value {
    json!({"name": name, "url": url, "secret": SECRET})
}

#[tokio::test]
async fn a_recoverys_events_arrive_signed_and_in_order() {
    use EventKind::*;
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    let recovery = bench.recovery().await;
    let ids = bench.publish(Some(recovery), &["h"], &[RecoveryOpened, HostFenced, RecoveryClosed]).await;
    bench.run(&[section("h", receiver.url("h"))], &[]);
    let got = receiver.wait("h", 3).await;
    let rows = bench.settled("h", delivered).await;
    assert_eq!(got.iter().map(receiver::Got::sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(rows.len(), 3);
    for (got, id) in got.iter().zip(&ids) {
        assert!(verifies(SECRET, got), "{got:?}");
        assert_eq!(got.header("webhook-id"), id.to_string());
        assert!(got.header("content-type").starts_with("application/cloudevents+json"));
        let body = got.json();
        assert_eq!((&body["id"], &body["specversion"]), (&json!(id), &json!("1.0")));
        assert_eq!((&body["recoveryid"], &body["epoch"]), (&json!(recovery), &json!(7)));
    }
    let mut forged = got[0].clone();
    forged.body = [&got[0].body[..], b" "].concat().into();
    assert!(!verifies(SECRET, &forged), "the receiver's check can fail");
}

#[tokio::test]
async fn a_failing_event_holds_back_the_younger_of_its_recovery_only() {
    use EventKind::*;
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    let (one, other) = (bench.recovery().await, bench.recovery().await);
    let first = bench.publish(Some(one), &["h"], &[RecoveryOpened, RecoveryClosed]).await;
    receiver.script("h", [500, 502, 429].map(Answer::Status), Answer::Status(200));
    let running = bench.run(&[section("h", receiver.url("h"))], &[1; 10]);
    let got = receiver.wait("h", 5).await;
    bench.settled("h", delivered).await;
    let ids: Vec<_> = got.iter().map(|got| got.header("webhook-id").to_owned()).collect();
    let (a, b) = (first[0].to_string(), first[1].to_string());
    assert_eq!(ids, [a.clone(), a.clone(), a.clone(), a, b], "four attempts of the first, then the second");
    assert!(got.iter().all(|got| verifies(SECRET, got)));
    assert_eq!(bench.rows("h").await.iter().map(|row| row.attempts).collect::<Vec<_>>(), [4, 1]);

    // A recovery that hangs does not hold back another.
    receiver.script("h", [Answer::Hang], Answer::Status(200));
    bench.publish(Some(one), &["h"], &[GuestFailed, GuestRecovered]).await;
    receiver.wait("h", 6).await;
    bench.publish(Some(other), &["h"], &[RecoveryOpened]).await;
    let got = receiver.wait("h", 7).await;
    assert_eq!(got[6].json()["recoveryid"], json!(other));
    assert_eq!(receiver.got("h").len(), 7, "the hanging recovery's second event waits");
    assert!(!running.is_finished());
}

#[tokio::test]
async fn after_its_quick_retries_an_event_may_be_overtaken_and_in_the_end_is_a_dead_letter() {
    use EventKind::*;
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    let recovery = bench.recovery().await;
    let ids = bench.publish(Some(recovery), &["h"], &[RecoveryOpened, RecoveryClosed]).await;
    let tries = usize::try_from(deliveries::HEAD_OF_LINE_ATTEMPTS).unwrap();
    receiver.script("h", vec![Answer::Status(500); tries], Answer::Status(200));
    // The sixth attempt would come after an hour.
    let pauses: Vec<u64> = [vec![1; tries - 1], vec![3_600_000]].concat();
    bench.run(&[section("h", receiver.url("h"))], &pauses);
    let got = receiver.wait("h", tries + 1).await;
    assert_eq!(got[tries].header("webhook-id"), ids[1].to_string(), "overtaken, with its own sequence");
    assert_eq!(got[tries].sequence(), 2);
    assert_eq!(receiver.got("h").len(), tries + 1);

    receiver.script("h", [], Answer::Body(503, "try\nlater".into()));
    bench.pass(Duration::from_secs(2 * 3600));
    let rows = bench.settled("h", |row| row.state != DeliveryState::Pending).await;
    assert_eq!((rows[0].state, rows[0].attempts), (DeliveryState::Dead, tries as i64 + 1));
    assert_eq!(rows[0].last_error.as_deref(), Some("503 Service Unavailable try later"));
    assert_eq!(rows[1].state, DeliveryState::Delivered);

    // A dead letter goes out again on request, once.
    receiver.script("h", [], Answer::Status(200));
    let now = crate::clock::stamp();
    assert!(write(&bench.db, async |tx| deliveries::retry(tx, ids[0], "h", now).await).await.unwrap());
    bench.settled("h", delivered).await;
}

#[tokio::test]
async fn a_dead_and_a_hanging_hook_do_not_delay_another() {
    use EventKind::*;
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    receiver.script("slow", [], Answer::Hang);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let sections = [
        section("down", nobody),
        section("slow", receiver.url("slow")),
        section("well", receiver.url("well")),
    ];
    for _ in 0..20 {
        let recovery = bench.recovery().await;
        bench.publish(Some(recovery), &["down", "slow", "well"], &[RecoveryOpened, RecoveryClosed]).await;
    }
    bench.run(&sections, &[3_600_000]);
    bench.settled("well", |row| delivered(row) && row.attempts == 1).await;
    assert_eq!(receiver.got("well").len(), 40);
    assert!(receiver.got("slow").len() <= 4, "a hanging receiver meets few at once");
    let rows = bench.settled("down", |row| row.last_error.is_some() || row.attempts == 0).await;
    assert!(rows.iter().all(|row| row.state == DeliveryState::Pending));
    let error = rows.iter().find_map(|row| row.last_error.clone()).unwrap();
    assert!(error.contains("127.0.0.1") && error.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_receiver_that_comes_up_late_gets_everything() {
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    bench.publish(None, &["h"], &[EventKind::EngineLost]).await;
    bench.run(&[section("h", format!("http://{address}/h"))], &[5; 5000]);
    bench.settled("h", |row| row.attempts >= 3).await;
    let receiver = Receiver::on(tokio::net::TcpListener::bind(address).await.unwrap()).await;
    let got = receiver.wait("h", 1).await;
    assert!(verifies(SECRET, &got[0]) && receiver.is_running());
    bench.settled("h", delivered).await;
}

#[tokio::test]
async fn a_slow_answer_ends_at_the_timeout_and_is_tried_again() {
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    receiver.script("h", [Answer::Hang], Answer::Status(200));
    bench.publish(None, &["h"], &[EventKind::ServiceDown]).await;
    let mut hook = section("h", receiver.url("h"));
    hook["timeout_ms"] = json!(50);
    bench.run(&[hook], &[1; 10]);
    let got = receiver.wait("h", 2).await;
    assert_eq!(got[0].header("webhook-id"), got[1].header("webhook-id"));
    bench.settled("h", delivered).await;
}

#[tokio::test]
async fn redirects_are_not_followed_and_gone_is_final() {
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    receiver.script("moved", [], Answer::RedirectTo("/elsewhere"));
    receiver.script("gone", [], Answer::Status(410));
    bench.publish(None, &["moved", "gone"], &[EventKind::EngineLost]).await;
    bench.run(&[section("moved", receiver.url("moved")), section("gone", receiver.url("gone"))], &[1, 1]);
    let moved = bench.settled("moved", |row| row.state == DeliveryState::Dead).await;
    let gone = bench.settled("gone", |row| row.state == DeliveryState::Dead).await;
    assert_eq!((moved[0].attempts, gone[0].attempts), (3, 1));
    assert!(moved[0].last_error.as_deref().unwrap().contains("redirects are not followed"));
    assert!(receiver.got("elsewhere").is_empty());
}

#[tokio::test]
async fn a_ticket_is_never_closed_before_it_is_opened() {
    use EventKind::*;
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    let recovery = bench.recovery().await;
    bench.publish(Some(recovery), &["pd"], &[RecoveryOpened, GuestRecovered, RecoveryClosed]).await;
    let refusals = usize::try_from(deliveries::HEAD_OF_LINE_ATTEMPTS).unwrap() + 1;
    receiver.script("pd", vec![Answer::Status(500); refusals], Answer::Status(202));
    let hook = json!({"name": "pd", "url": receiver.url("pd"), "template": "pagerduty", "params": {"routing_key": "KEY-1"}});
    // The sixth refusal is followed by an hour, in which a close would overtake if it could.
    let pauses: Vec<u64> = [vec![1; refusals - 1], vec![3_600_000]].concat();
    bench.run(&[hook], &pauses);
    receiver.wait("pd", refusals).await;
    bench.settled("pd", |row| row.num > 1 || row.attempts as usize == refusals).await;
    // Claims of the close run out again and again; it still waits.
    for _ in 0..3 {
        bench.pass(Duration::from_secs(30));
        let version = bench.rows("pd").await[2].version;
        bench.settled("pd", |row| row.num != 3 || row.version > version).await;
    }
    assert_eq!(receiver.got("pd").len(), refusals, "nothing but the open was sent");
    bench.pass(Duration::from_secs(2 * 3600));
    let got = receiver.wait("pd", refusals + 1).await;
    assert_eq!(got[refusals].json()["event_action"], "trigger");
    bench.settled("pd", |row| row.num != 1 || delivered(row)).await;
    bench.pass(Duration::from_secs(30));
    let got = receiver.wait("pd", refusals + 2).await;
    let (open, close) = (got[refusals].json(), got[refusals + 1].json());
    assert_eq!((&close["event_action"], &close["dedup_key"]), (&json!("resolve"), &open["dedup_key"]));
    assert_eq!(open["dedup_key"], json!(recovery));
    bench.settled("pd", delivered).await;
    assert_eq!(
        receiver.got("pd").len(),
        refusals + 2,
        "one open, one close; what moves no ticket is not sent"
    );
}

#[tokio::test]
async fn what_died_with_an_engine_is_sent_by_the_next() {
    let (mut bench, receiver) = (Bench::new().await, Receiver::start().await);
    receiver.script("h", [Answer::Hang], Answer::Status(200));
    let ids = bench.publish(None, &["h"], &[EventKind::EngineLost]).await;
    let hook = section("h", receiver.url("h"));
    let first = bench.run(std::slice::from_ref(&hook), &[1; 3]);
    receiver.wait("h", 1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    bench.cancel = CancellationToken::new();
    bench.run(&[hook], &[1; 3]);
    bench.pass(Duration::from_secs(30));
    let got = receiver.wait("h", 2).await;
    assert_eq!(got[1].header("webhook-id"), ids[0].to_string());
    bench.settled("h", delivered).await;
}

#[tokio::test]
async fn an_echoed_secret_is_not_kept() {
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    receiver.script("h", [], Answer::Body(400, "bad token hunter2-canary for key routing-canary".into()));
    bench.publish(None, &["h"], &[EventKind::EngineLost]).await;
    let mut hook = section("h", receiver.url("h"));
    hook["headers"] = json!({"Authorization": "Bearer hunter2-canary"});
    hook["params"] = json!({"key": "routing-canary"});
    bench.run(&[hook], &[]);
    let got = receiver.wait("h", 1).await;
    assert_eq!(got[0].header("authorization"), "Bearer hunter2-canary");
    let rows = bench.settled("h", |row| row.state == DeliveryState::Dead).await;
    assert_eq!(rows[0].last_error.as_deref(), Some("400 Bad Request bad token *** for key ***"));
}

#[tokio::test]
async fn an_end_is_prompt() {
    let (bench, receiver) = (Bench::new().await, Receiver::start().await);
    receiver.script("h", [], Answer::Hang);
    bench.publish(None, &["h"], &[EventKind::EngineLost]).await;
    let running = bench.run(&[section("h", receiver.url("h"))], &[]);
    receiver.wait("h", 1).await;
    bench.cancel.cancel();
    running.await.unwrap();
}
