//! A database of a test's own, and the rows that tests start from. What is listed under `everywhere!` runs on all three databases.

/// Runs tests of one argument on each database. A server that is not installed is skipped, and says so.
macro_rules! everywhere {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use crate::testing::On;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$test(On::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if On::Postgres.server().is_some() {
                    super::$test(On::Postgres).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mariadb() {
                if On::Mariadb.server().is_some() {
                    super::$test(On::Mariadb).await;
                }
            }
        }
    )+};
}
pub(crate) use everywhere;

mod api;
pub(crate) mod bad;
mod bus;
mod commit;
mod durability;
mod group;
pub(crate) mod history;
mod open;
mod outbox;
mod peers;
mod reports;
mod rewind;
mod rows;
mod secrets;
mod servers;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::host::{Admission, Host};
use halberd_core::id::{
    EngineId, EventId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId, VmoveId,
};
use halberd_core::instance::Wanted;
use halberd_core::notification::{Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::policy::Policy;
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{
    Body, LockMark, Recovery, Stage, Subject, Vmove, VmoveStatus, WORKFLOW_VERSION,
};
use halberd_core::runner::{Commit, Intent};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::Stamp;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use crate::recoveries::{Opened, Opening};
use crate::testing::{On, Own};
use crate::value::{Arg, Row};
use crate::{Access, Db, Read, Result, write};

/// Microseconds; only its distances mean something.
pub(crate) const NOW: Stamp = Stamp(1_700_000_000_000_000);

pub(crate) fn later(seconds: i64) -> Stamp {
    Stamp(NOW.0 + seconds * 1_000_000)
}

pub(crate) struct Kit {
    pub own: Own,
    pub db: Db,
    pub segment: SegmentId,
    pub host: HostId,
    pub engine: EngineId,
}

pub(crate) fn url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("halberd.db").display())
}

/// SQLite's.
pub(crate) async fn kit() -> Kit {
    kit_on(On::Sqlite).await
}

/// A database with one segment and the host `cmp-01`.
pub(crate) async fn kit_on(on: On) -> Kit {
    let own = on.own().await.expect("whether it is installed was asked before");
    let db = own.open(Access::Exclusive).await.unwrap();
    let segment = new_segment("rack-a");
    let host = new_host(segment.id, "cmp-01");
    let (segment_id, host_id) = (segment.id, host.id);
    write(&db, async |tx| {
        crate::segments::create(tx, &segment, NOW).await?;
        crate::hosts::create(tx, &host, NOW).await
    })
    .await
    .unwrap();
    Kit { own, db, segment: segment_id, host: host_id, engine: EngineId(Uuid::new_v4()) }
}

impl Kit {
    pub(crate) async fn add_host(&self, name: &str) -> HostId {
        let host = new_host(self.segment, name);
        write(&self.db, async |tx| crate::hosts::create(tx, &host, NOW).await).await.unwrap();
        host.id
    }

    /// The same database opened once more, as another process would: its writers do not wait for our pool.
    pub(crate) async fn beside(&self) -> Db {
        self.own.open(Access::Shared).await.unwrap()
    }

    /// A host recovery opened by an engine's own report and claimed by `self.engine`.
    pub(crate) async fn claimed(&self) -> Recovery {
        let recovery = self.open().await;
        let claimed = write(&self.db, async |tx| {
            crate::recoveries::claim(tx, recovery.id, 0, None, self.engine, NOW).await
        });
        claimed.await.unwrap().unwrap()
    }

    pub(crate) async fn open(&self) -> Recovery {
        match self.try_open(&self.db, self.host).await.unwrap() {
            Opened::New(recovery) => *recovery,
            Opened::AlreadyOpen(id) => panic!("{id} is open already"),
        }
    }

    pub(crate) async fn try_open(&self, db: &Db, host: HostId) -> Result<Opened> {
        let report = Notification { origin: Origin::Engine, ..host_down(self.segment, host) };
        let recovery = new_recovery(&report);
        write(db, async |tx| {
            let opening = Opening {
                recovery: &recovery,
                report: Some(&report),
                audit: &[Entry::new("recovery_opened", "opened", json!({"host": host}))],
                events: &[event(Some(recovery.id))],
                webhooks: &hooks(),
            };
            crate::recoveries::open(tx, &opening, NOW).await
        })
        .await
    }

    /// Raw rows, to look where no function looks.
    pub(crate) async fn raw(&self, sql: &'static str) -> Vec<Row> {
        (&self.db).rows(sqlx::SqlStr::from_static(sql), vec![]).await.unwrap()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        self.raw(sql).await[0].first_int()
    }

    /// Somebody edits the database by hand.
    pub(crate) async fn tamper(&self, sql: &'static str, args: Vec<Arg>) {
        let changed = write(&self.db, async |tx| tx.exec(sql, args.clone()).await).await.unwrap();
        assert_eq!(changed, 1, "the tampering hit one row");
    }
}

pub(crate) fn hooks() -> Vec<String> {
    vec!["tickets".to_owned(), "chat".to_owned()]
}

pub(crate) fn new_segment(name: &str) -> Segment {
    Segment {
        id: SegmentId(Uuid::new_v4()),
        name: name.to_owned(),
        description: None,
        service_type: "COMPUTE".to_owned(),
        recovery_method: RecoveryMethod::Auto,
        enabled: true,
    }
}

pub(crate) fn new_host(segment: SegmentId, name: &str) -> Host {
    Host {
        kind: "COMPUTE".to_owned(),
        control_attributes: "SSH".to_owned(),
        boot_number: 1,
        ..Host::new(HostId(Uuid::new_v4()), segment, name.to_owned())
    }
}

pub(crate) fn report(
    segment: SegmentId,
    host: HostId,
    kind: NotificationType,
    payload: &[(&str, &str)],
) -> Notification {
    Notification {
        id: NotificationId(Uuid::new_v4()),
        kind,
        host,
        segment,
        generated_at: NOW,
        payload: payload
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect::<BTreeMap<_, _>>(),
        origin: Origin::Caller,
        status: NotificationStatus::New,
        message: None,
    }
}

pub(crate) fn host_down(segment: SegmentId, host: HostId) -> Notification {
    report(segment, host, NotificationType::ComputeHost, &[("event", "STOPPED"), ("host_status", "NORMAL")])
}

pub(crate) fn guest_down(segment: SegmentId, host: HostId, instance: &str) -> Notification {
    let payload =
        [("event", "LIFECYCLE"), ("vir_domain_event", "STOPPED_FAILED"), ("instance_uuid", instance)];
    report(segment, host, NotificationType::Vm, &payload)
}

/// The store does not look into the body beyond its word, so the plainest kind stands for all.
pub(crate) fn new_recovery(report: &Notification) -> Recovery {
    Recovery {
        id: RecoveryId(Uuid::new_v4()),
        notification: report.id,
        segment: report.segment,
        subject: Subject::Host { host: report.host },
        host_name: "cmp-01".to_owned(),
        method: RecoveryMethod::Auto,
        policy: Policy::default(),
        body: Body::Process(ProcessRecovery { state: ProcessState::Confirming }),
        reason: "confirming".to_owned(),
        hooks: Default::default(),
        workflow_version: WORKFLOW_VERSION,
        owner: None,
        epoch: 0,
        version: 1,
        opened_at: NOW,
        closed_at: None,
    }
}

pub(crate) fn event(recovery: Option<RecoveryId>) -> Event {
    Event {
        id: EventId(Uuid::new_v4()),
        kind: EventKind::RecoveryOpened,
        recovery,
        subject: "host/cmp-01".to_owned(),
        data: json!({"why": "silence"}),
    }
}

pub(crate) fn vmove(recovery: &Recovery, n: usize) -> Vmove {
    Vmove {
        id: VmoveId(Uuid::new_v4()),
        recovery: recovery.id,
        notification: recovery.notification,
        instance: InstanceId(Uuid::new_v4()),
        instance_name: format!("guest-{n}"),
        source_host: "cmp-01".to_owned(),
        dest_host: None,
        status: VmoveStatus::Pending,
        message: None,
        start_time: None,
        end_time: None,
        stage: Stage::Planned,
        ha_enabled: false,
        wanted: Wanted::Active,
        reset: false,
        vm_state: "active".to_owned(),
        task_state: None,
        lock: LockMark::Open,
        attempt: 0,
        failures: 0,
        placement: 0,
        target: None,
        tried: Vec::new(),
        intent: None,
        ends: None,
        known_migrations: vec![7],
        migration: None,
    }
}

pub(crate) fn intent(recovery: &Recovery, key: Option<String>) -> Intent {
    Intent {
        id: Uuid::new_v4(),
        recovery: Some(recovery.id),
        host: Some(recovery.subject.host()),
        vmove: None,
        effect: "evacuate".to_owned(),
        open_key: key,
        epoch: recovery.epoch,
        attempt: 1,
        detail: json!({"seen": true}),
    }
}

/// A commit that changes nothing but what the test puts in.
pub(crate) fn commit_of(recovery: &Recovery) -> Commit {
    Commit {
        nonce: Uuid::new_v4(),
        recovery: recovery.clone(),
        opens: Vec::new(),
        vmoves: Vec::new(),
        intents: Vec::new(),
        resolved: Vec::new(),
        hosts: Vec::new(),
        notification: None,
        audit: Vec::new(),
        events: Vec::new(),
    }
}
