//! The publisher against a real RabbitMQ, read by oslo.messaging's own listener: the proof that consumers of the original's events can.

mod listener;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_core::bus::{Action, Fault, Subject};
use halberd_core::host::Host;
use halberd_core::id::{HostId, NotificationId, SegmentId};
use halberd_core::notification::{Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::Stamp;
use halberd_engine::bus::{BusConfig, Publisher, PublisherOptions};
use halberd_store::{Access, Db, bus, hosts, notifications, segments, write};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::PATIENCE;
use super::servers::{self, Server};
use listener::{Heard, Listener};

const NOW: Stamp = Stamp(1_543_310_790_123_456);
const TOPIC: &str = "versioned_notifications";

struct Bench {
    db: Db,
    config: BusConfig,
    _folder: TempDir,
    publishing: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Bench {
    async fn new(server: &Server, durable: bool) -> Bench {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("halberd.db");
        let db =
            Db::open(&format!("sqlite:{}", path.display()), Access::Exclusive).await.expect("a database");
        let section = json!({ "url": url(server), "durable_queues": durable, "host": "ctl-1" });
        let config: BusConfig = serde_json::from_value(section).expect("a section");
        db.speak_on_bus(config.speaker("unused"));
        Bench { db, config, _folder: folder, publishing: None }
    }

    fn publish(&mut self) {
        let options = PublisherOptions {
            poll: Duration::from_millis(20),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_millis(500),
            clock: Arc::new(halberd_engine::clock::stamp),
            ..PublisherOptions::new("engine-1")
        };
        let publisher = Publisher::new(self.db.clone(), &self.config, options).expect("a publisher");
        let cancel = CancellationToken::new();
        let task = tokio::spawn(publisher.run(cancel.clone()));
        self.publishing = Some((cancel, task));
    }

    async fn stop(&mut self) {
        if let Some((cancel, task)) = self.publishing.take() {
            cancel.cancel();
            task.await.expect("it ends");
        }
    }

    /// A crash: nothing is given back.
    async fn crash(&mut self) {
        if let Some((_, task)) = self.publishing.take() {
            task.abort();
            let _ = task.await;
        }
    }

    async fn waiting(&self) -> i64 {
        bus::waiting(&self.db).await.expect("counted")
    }

    async fn empty(&self, server: &Server) {
        let started = Instant::now();
        while self.waiting().await > 0 {
            assert!(started.elapsed() < PATIENCE, "{} wait still\n{}", self.waiting().await, server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Until it takes and gives messages.
async fn up(server: &Server) {
    super::until(server, &super::config("rabbitmq", &server.target(), json!({})), super::Sight::is_good)
        .await;
}

fn url(server: &Server) -> String {
    format!("rabbit://canary:canary-password@{}/", server.target())
}

fn segment(name: &str) -> Segment {
    Segment {
        id: SegmentId(Uuid::new_v4()),
        name: name.to_owned(),
        description: None,
        service_type: "COMPUTE".into(),
        recovery_method: RecoveryMethod::Auto,
        enabled: true,
    }
}

fn host(segment: SegmentId) -> Host {
    Host {
        kind: "COMPUTE".into(),
        control_attributes: "SSH".into(),
        boot_number: 1,
        ..Host::new(HostId(Uuid::new_v4()), segment, "cmp-01")
    }
}

/// Whether what these tests need can be had; if not, it is said.
fn can_run() -> bool {
    servers::needs("rabbitmq-server", "rabbitmq-server") && listener::python().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oslo_listeners_read_what_is_told() {
    if !can_run() {
        return;
    }
    let server = servers::rabbitmq();
    up(&server).await;
    // The listener is there first and made its exchange and queues its own way; ours are configured to differ.
    let mut listener = Listener::start(&url(&server), "masakari", TOPIC, false);
    listener.ready().await;
    let mut bench = Bench::new(&server, true).await;
    let made = segment("rack-ä");
    let host = host(made.id);
    let report = Notification {
        id: NotificationId(Uuid::new_v4()),
        kind: NotificationType::Vm,
        host: host.id,
        segment: made.id,
        generated_at: NOW,
        payload: BTreeMap::from([("event".to_owned(), "LIFECYCLE".to_owned())]),
        origin: Origin::Caller,
        status: NotificationStatus::New,
        message: None,
    };
    let fault =
        Fault { exception: "FailoverSegmentExists", message: "segment 'rack-ä' exists already".into() };
    write(&bench.db, async |tx| {
        segments::create(tx, &made, NOW).await?;
        hosts::create(tx, &host, NOW).await?;
        notifications::receive(tx, &report, Duration::from_secs(1), NOW).await?;
        let (from, to) = (NotificationStatus::New, NotificationStatus::Ignored);
        notifications::settle(tx, report.id, from, to, Some("nothing to do"), NOW).await?;
        let second = Segment { id: SegmentId(Uuid::new_v4()), ..made.clone() };
        bus::refused(tx, Subject::Segment(&second, None), Action::Create, &fault, NOW).await
    })
    .await
    .expect("written");
    let told =
        write(&bench.db, async |tx| bus::claim(tx, 100, Duration::ZERO, NOW).await).await.expect("read");
    bench.publish();
    let heard = listener.hear(told.len()).await;
    bench.empty(&server).await;
    bench.stop().await;

    // Two queues, so the order holds within each.
    for priority in ["info", "error"] {
        let expected: Vec<Value> = told
            .iter()
            .filter(|message| message.priority.as_str().eq_ignore_ascii_case(priority))
            .map(|message| {
                json!({
                    "method": priority,
                    "event_type": message.event_type,
                    "publisher_id": message.publisher,
                    "payload": message.payload,
                    "message_id": message.id,
                    "timestamp": "2018-11-27 09:26:30.123456",
                })
            })
            .collect();
        let mut got: Vec<Value> =
            heard.iter().filter(|heard| heard.0["method"] == priority).map(|heard| heard.0.clone()).collect();
        // A wave sends different objects side by side in the order they were told; what is second of its object comes in the next.
        let place = |value: &Value| expected.iter().position(|one| one["message_id"] == value["message_id"]);
        got.sort_by_key(place);
        assert_eq!(got, expected);
    }
    let types: Vec<&str> = told.iter().map(|message| message.event_type.as_str()).collect();
    let wanted = [
        "segment.create.start",
        "segment.create.end",
        "host.create.start",
        "host.create.end",
        "notification.create.start",
        "notification.create.end",
        "notification.process.start",
        "notification.process.end",
        "segment.create.start",
        "segment.create.error",
    ];
    assert_eq!(types, wanted);
    let publishers = ["masakari-api:ctl-1", "masakari-engine:ctl-1"];
    assert!(heard.iter().all(|heard| publishers.contains(&heard.0["publisher_id"].as_str().unwrap_or(""))));
    in_order(&heard);
}

/// First sights of the messages about one object come as they were told: start before end, and each with one id.
fn in_order(heard: &[Heard]) {
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen: BTreeMap<String, &Heard> = BTreeMap::new();
    for one in heard.iter().filter(|one| one.0["method"] == "info") {
        if let Some(before) = seen.insert(one.id(), one) {
            assert_eq!(before.0, one.0, "a repeat is the same");
            continue;
        }
        let event_type = one.0["event_type"].as_str().expect("text");
        let (operation, phase) = event_type.rsplit_once('.').expect("phased");
        let starts = open.entry(format!("{operation} {}", one.object())).or_default();
        match phase {
            "start" => *starts += 1,
            _ => *starts = starts.checked_sub(1).unwrap_or_else(|| panic!("{event_type} before its start")),
        }
    }
}

const OBJECTS: usize = 8;
const CHANGES: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_in_the_middle_loses_nothing() {
    if !can_run() {
        return;
    }
    let mut server = servers::rabbitmq();
    up(&server).await;
    let mut bench = Bench::new(&server, true).await;
    let objects: Vec<Segment> = (0..OBJECTS).map(|n| segment(&format!("s{n}"))).collect();
    write(&bench.db, async |tx| {
        for object in &objects {
            segments::create(tx, object, NOW).await?;
        }
        Ok(())
    })
    .await
    .expect("made");
    bench.publish();
    bench.empty(&server).await;
    let mut listener = Listener::start(&url(&server), "masakari", TOPIC, true);
    listener.ready().await;

    // Changes go on all the time; each is a transaction and must never wait for the broker.
    let (db, changing) = (bench.db.clone(), objects.clone());
    let changes = tokio::spawn(async move {
        for n in 0..CHANGES {
            for object in &changing {
                let changed = Segment { description: Some(n.to_string()), ..object.clone() };
                write(&db, async |tx| segments::update(tx, &changed, NOW).await).await.expect("changed");
            }
            tokio::task::yield_now().await;
        }
    });
    // In the middle: some were heard, more is to come.
    let mut heard = listener.hear(OBJECTS * 6).await;
    server.kill();
    // Without a broker changes go on to their end.
    changes.await.expect("all changed");
    let waiting = bench.waiting().await;
    assert!(waiting > 0, "the broker was killed too late to prove anything");
    // The engine dies as well, and another run of it takes over what it had claimed.
    bench.crash().await;
    server.start();
    bench.publish();
    bench.empty(&server).await;

    let total = OBJECTS * (2 + 2 * CHANGES);
    let distinct =
        |heard: &[Heard]| heard.iter().map(Heard::id).collect::<std::collections::BTreeSet<_>>().len();
    while distinct(&heard) < total {
        heard.extend(listener.hear(1).await);
    }
    bench.stop().await;
    assert_eq!(distinct(&heard), total, "nothing lost, nothing made up");
    in_order(&heard);
    // The story of each object, by first sight: every change once as start and once as end, in order.
    for object in &objects {
        let mut seen = std::collections::BTreeSet::new();
        let story: Vec<(String, String)> = heard
            .iter()
            .filter(|one| one.object() == object.id.to_string() && seen.insert(one.id()))
            .map(|one| {
                let data = &one.0["payload"]["masakari_object.data"];
                (
                    one.0["event_type"].as_str().unwrap_or("").to_owned(),
                    data["description"].as_str().unwrap_or("-").to_owned(),
                )
            })
            .collect();
        let mut wanted = vec![
            ("segment.create.start".to_owned(), "-".to_owned()),
            ("segment.create.end".to_owned(), "-".to_owned()),
        ];
        for n in 0..CHANGES {
            wanted.push(("segment.update.start".to_owned(), n.to_string()));
            wanted.push(("segment.update.end".to_owned(), n.to_string()));
        }
        assert_eq!(story, wanted);
    }
}
