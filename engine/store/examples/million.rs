//! A million rows: how big SQLite's file is with them, how fast they were written, and how long a step of a purge holds the write lock.
//!
//! `cargo run --release -p halberd-store --example million [ROWS]`. Rows are those of recoveries of ten guests, written
//! by the store's own functions (some 76 rows each), all of them old at the end but for the last.

use std::time::{Duration, Instant};

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::host::Host;
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
use halberd_core::runner::{Commit, Intent, Resolution};
use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_core::time::Stamp;
use halberd_store::recoveries::{Opened, Opening};
use halberd_store::retention::{Begun, Retention, Step, begin};
use halberd_store::size::size;
use halberd_store::{Access, Db, audit, commit, hosts, intents, recoveries, segments, write};
use serde_json::json;
use uuid::Uuid;

const DAY: i64 = 24 * 3_600 * 1_000_000;
const START: i64 = 1_700_000_000_000_000;
const GUESTS: usize = 10;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn id() -> Uuid {
    Uuid::new_v4()
}

struct World {
    db: Db,
    segment: SegmentId,
    hosts: Vec<HostId>,
    engine: EngineId,
    webhooks: Vec<String>,
}

#[tokio::main]
async fn main() -> Fallible<()> {
    let wanted: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |rows| rows.parse())?;
    let dir = tempfile::TempDir::new()?;
    let path = dir.path().join("halberd.db");
    let db = Db::open(&format!("sqlite:{}", path.display()), Access::Exclusive).await?;
    let world = made(db.clone()).await?;

    let began = Instant::now();
    let (mut rows, mut commits, mut n) = (0, 0, 0);
    while rows < wanted {
        let (more, units) = world.recovery(n, Stamp(START + n as i64 * 1_000_000)).await?;
        (rows, commits, n) = (rows + more, commits + units, n + 1);
    }
    // The newest, from which ages are counted.
    let now = Stamp(START + 500 * DAY);
    world.recovery(n, now).await?;
    write(&db, async |tx| audit::checkpoint(tx, now).await).await?;
    let took = began.elapsed().as_secs_f64();
    println!(
        "written: {rows} rows of {n} recoveries in {took:.1} s, {:.0} commits/s, {:.0} rows/s",
        commits as f64 / took,
        rows as f64 / took
    );
    told(&db, "with them").await?;

    let (mut holds, mut gone) = (Vec::new(), 0);
    let began = Instant::now();
    let policy = Retention::default();
    let Begun::Pass(mut pass) = begin(&db, &policy, "million", None, now).await? else {
        return Err("nobody else is here".into());
    };
    let (mut pages, mut looks) = (Vec::new(), Vec::new());
    loop {
        let step = Instant::now();
        match pass.step(&db, now).await? {
            Step::Looked => looks.push(step.elapsed()),
            Step::Deleted { table: "pages", .. } => pages.push(step.elapsed()),
            Step::Deleted { rows, .. } => {
                holds.push(step.elapsed());
                gone += rows;
            }
            Step::Done => break,
            Step::Lost => return Err("nobody else is here".into()),
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("purged: {gone} rows in {took:.1} s without pauses, {:.0} rows/s", gone as f64 / took);
    shown(
        &format!("a purge's step (at most {} rows, from its BEGIN to its durable COMMIT)", policy.step_rows),
        &mut holds,
    );
    shown("a step that gives 100 pages back", &mut pages);
    shown("a look (reads only)", &mut looks);
    told(&db, "after the purge").await?;
    let broken = audit::verify(&db).await?;
    println!("audit after the purge: {} chains are broken", broken.len());
    db.close().await;
    Ok(())
}

async fn told(db: &Db, when: &str) -> Fallible<()> {
    let size = size(db).await?;
    let rows: u64 = size.tables.iter().map(|table| table.rows).sum();
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    println!(
        "{when}: {rows} rows, {:.1} MiB, {:.1} MiB of it free, {:.0} bytes a row",
        mib(size.bytes),
        mib(size.free.unwrap_or(0)),
        size.bytes as f64 / rows.max(1) as f64
    );
    Ok(())
}

fn shown(what: &str, took: &mut [Duration]) {
    took.sort_unstable();
    let at = |part: f64| took.get(((took.len() as f64 * part) as usize).min(took.len().saturating_sub(1)));
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    println!(
        "{what}: {} times, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        took.len(),
        ms(at(0.5)),
        ms(at(0.99)),
        ms(took.last())
    );
}

async fn made(db: Db) -> Fallible<World> {
    let segment = Segment {
        id: SegmentId(id()),
        name: "rack-a".into(),
        description: None,
        service_type: "COMPUTE".into(),
        recovery_method: RecoveryMethod::Auto,
        enabled: true,
    };
    let host = |n: usize| Host {
        kind: "COMPUTE".into(),
        boot_number: 1,
        ..Host::new(HostId(id()), segment.id, format!("cmp-{n:02}"))
    };
    let all: Vec<Host> = (0..50).map(host).collect();
    write(&db, async |tx| {
        segments::create(tx, &segment, Stamp(START)).await?;
        for host in &all {
            hosts::create(tx, host, Stamp(START)).await?;
        }
        Ok(())
    })
    .await?;
    let hosts = all.iter().map(|host| host.id).collect();
    Ok(World { db, segment: segment.id, hosts, engine: EngineId(id()), webhooks: vec!["tickets".into()] })
}

impl World {
    /// One recovery from its report to its end; rows and commits.
    async fn recovery(&self, n: usize, at: Stamp) -> Fallible<(u64, u64)> {
        let db = &self.db;
        let host = self.hosts[n % self.hosts.len()];
        let report = Notification {
            id: NotificationId(id()),
            kind: NotificationType::ComputeHost,
            host,
            segment: self.segment,
            generated_at: at,
            payload: [("event", "STOPPED"), ("host_status", "NORMAL")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            origin: Origin::Engine,
            status: NotificationStatus::New,
            message: None,
        };
        let recovery = Recovery {
            id: RecoveryId(id()),
            notification: report.id,
            segment: self.segment,
            subject: Subject::Host { host },
            host_name: format!("cmp-{:02}", n % self.hosts.len()),
            method: RecoveryMethod::Auto,
            policy: Policy::default(),
            body: Body::Process(ProcessRecovery { state: ProcessState::Confirming }),
            reason: "confirming".into(),
            hooks: Default::default(),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 0,
            version: 1,
            opened_at: at,
            closed_at: None,
        };
        let opened = write(db, async |tx| {
            let opening = Opening {
                recovery: &recovery,
                report: Some(&report),
                audit: &records(1),
                events: &events(recovery.id, 1),
                webhooks: &self.webhooks,
            };
            recoveries::open(tx, &opening, at).await
        });
        let Opened::New(opened) = opened.await? else { return Err("it was open".into()) };
        let claimed = write(db, async |tx| recoveries::claim(tx, opened.id, 0, None, self.engine, at).await);
        let mut recovery = claimed.await?.ok_or("somebody else has it")?;
        let orders: Vec<Intent> = (0..GUESTS).map(|_| intent(&recovery)).collect();
        write(db, async |tx| intents::record(tx, &orders, &[], at).await).await?;
        // Two commits as the runner makes them: under way, and the end.
        for last in [false, true] {
            let mut draft = draft(&recovery);
            draft.audit = records(15);
            draft.events = events(recovery.id, GUESTS / 2);
            if last {
                draft.recovery.body = Body::Process(ProcessRecovery { state: ProcessState::Finished });
                draft.notification = Some((NotificationStatus::Finished, None));
                let answer = |order: &Intent| Resolution {
                    intent: order.id,
                    result: "done".into(),
                    detail: json!({"status": 200}),
                };
                draft.resolved = orders.iter().map(answer).collect();
            } else {
                draft.vmoves = (0..GUESTS).map(|n| vmove(&recovery, n)).collect();
            }
            recovery.version = commit::apply(db, &draft, &self.webhooks, at).await?;
        }
        let due = halberd_store::deliveries::list(
            db,
            None,
            Some(halberd_store::deliveries::DeliveryState::Pending),
            100,
        )
        .await?;
        write(db, async |tx| {
            for delivery in &due {
                halberd_store::deliveries::record(
                    tx,
                    delivery,
                    halberd_store::deliveries::Attempt::Delivered,
                    at,
                )
                .await?;
            }
            Ok(())
        })
        .await?;
        // Recovery, report, head, moves, intents, records, events with a delivery each.
        let of_events = 1 + 2 * (GUESTS as u64 / 2);
        Ok((3 + 2 * GUESTS as u64 + 31 + 2 * of_events, 6))
    }
}

fn records(n: usize) -> Vec<Entry> {
    let detail =
        json!({"gates": ["G1", "G2", "G3"], "evidence": {"power": "off", "at_ms": 700, "by": "redfish"}});
    (0..n)
        .map(|n| {
            Entry::new("evacuation_ordered", format!("guest {n} was sent to another host"), detail.clone())
        })
        .collect()
}

fn events(recovery: RecoveryId, n: usize) -> Vec<Event> {
    let one = |_| Event {
        id: EventId(id()),
        kind: EventKind::RecoveryOpened,
        recovery: Some(recovery),
        subject: "host/cmp-01".into(),
        data: json!({"why": "silence", "host": "cmp-01", "guests": 10}),
    };
    (0..n).map(one).collect()
}

fn intent(recovery: &Recovery) -> Intent {
    Intent {
        id: id(),
        recovery: Some(recovery.id),
        host: Some(recovery.subject.host()),
        vmove: None,
        effect: "evacuate".into(),
        open_key: None,
        epoch: recovery.epoch,
        attempt: 1,
        detail: json!({"placement": 7, "known": [1, 2, 3]}),
    }
}

fn vmove(recovery: &Recovery, n: usize) -> Vmove {
    Vmove {
        id: VmoveId(id()),
        recovery: recovery.id,
        notification: recovery.notification,
        instance: InstanceId(id()),
        instance_name: format!("guest-{n}"),
        source_host: "cmp-01".into(),
        dest_host: Some("cmp-02".into()),
        status: VmoveStatus::Succeeded,
        message: None,
        start_time: None,
        end_time: None,
        stage: Stage::Planned,
        ha_enabled: false,
        wanted: Wanted::Active,
        reset: false,
        vm_state: "active".into(),
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

fn draft(recovery: &Recovery) -> Commit {
    Commit {
        nonce: id(),
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
