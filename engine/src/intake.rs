//! Turning what was reported, seen or wished for into recoveries. A notification is a claim: it opens a recovery in Confirming,
//! and what is believed is decided there (DESIGN 2.1).

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::hook::Hooks;
use halberd_core::host::{Asked, Host};
use halberd_core::id::{BootId, EventId, HostId, InstanceId, NotificationId, RecoveryId, SegmentId, WishId};
use halberd_core::notification::{Claim, Notification, NotificationStatus, NotificationType, Origin};
use halberd_core::policy::Policy;
use halberd_core::recovery::host::{HostRecovery, Purpose};
use halberd_core::recovery::instance::{InstanceRecovery, InstanceState};
use halberd_core::recovery::process::{ProcessRecovery, ProcessState};
use halberd_core::recovery::{Body, Recovery, Subject, WORKFLOW_VERSION};
use halberd_core::segment::Segment;
use halberd_core::time::Mono;
use halberd_core::verdict::Judgement;
use halberd_store::recoveries::{Opened, Opening};
use halberd_store::wishes::{self, NewWish};
use halberd_store::{evidence, hosts, notifications, recoveries, segments, write};
use halberd_types::report::{Report, ReportKind};
use serde_json::json;
use uuid::Uuid;

use crate::clock;
use crate::collect::watch;
use crate::failpoint::{self, Place};
use crate::shared::Shared;

/// No more reports are taken up in one round; the rest waits for the next, a quarter of a second later.
const ROUND: u32 = 100;

/// Takes up every report that nobody has looked at. `first` is this engine's first round: those reports are of unknown age.
pub async fn take_reports(shared: &Arc<Shared>, first: bool) -> halberd_store::Result<()> {
    let reports = notifications::list_new(&shared.db, ROUND).await?;
    let mut places = Places::default();
    let mut settled = Vec::new();
    for report in &reports {
        let report = &report.value;
        let seen = clock::mono();
        let at = if first { clock::LONG_AGO } else { seen };
        match take_report(shared, report, at, seen, &mut places).await {
            Ok(Taken::Settled(status, message)) => settled.push((report, status, message)),
            Ok(Taken::Up) => {}
            Err(error) if error.is_unavailable() => return Err(error),
            Err(error) => {
                tracing::error!(notification = %report.id, %error, "the report could not be taken up; it is tried again");
            }
        }
    }
    match settle(shared, &settled).await {
        // One that cannot be told holds no other up.
        Err(error) if !error.is_unavailable() => {
            for one in settled.chunks(1) {
                if let Err(error) = settle(shared, one).await {
                    tracing::error!(notification = %one[0].0.id, %error, "the report could not be settled; it is tried again");
                }
            }
        }
        outcome => outcome?,
    }
    // More wait: a full round is followed by the next at once.
    if reports.len() == ROUND as usize && !settled.is_empty() {
        shared.nudge.notify_one();
    }
    Ok(())
}

/// Hosts and segments read in this round: a flood of reports is about a few of them.
#[derive(Default)]
struct Places {
    segments: BTreeMap<SegmentId, Segment>,
    hosts: BTreeMap<HostId, Host>,
}

/// What became of a report.
enum Taken {
    /// It leads to no recovery: its end, and why.
    Settled(NotificationStatus, String),
    /// A recovery has it, or it waits for the next round.
    Up,
}

/// What agents said that is no notification: a kernel panic is a statement of death (E1), a list of domains shows strays.
/// `seen` is the number of the last row taken; the first round begins at the end, since what is older is of unknown age.
pub async fn take_evidence(shared: &Shared, seen: &mut Option<i64>) -> halberd_store::Result<()> {
    let Some(last) = *seen else {
        *seen = Some(evidence::last(&shared.db).await?);
        return Ok(());
    };
    for row in evidence::since(&shared.db, last, ROUND).await? {
        *seen = Some(row.num);
        if row.evidence.source != "agent" {
            continue;
        }
        let Ok(report) = serde_json::from_value::<Report>(row.evidence.detail) else { continue };
        let mut fleet = shared.fleet();
        let Some(known) = fleet.hosts.get_mut(&row.evidence.host) else { continue };
        let this_boot = known.sight.beats.boot == Some(BootId(report.boot));
        match report.kind {
            ReportKind::Panic { .. } if this_boot => known.sight.panicked(clock::mono()),
            ReportKind::Domains { domains } if this_boot => {
                let running = domains.iter().filter(|domain| RUNS.contains(&domain.state));
                known.domains =
                    Some((BootId(report.boot), running.map(|domain| InstanceId(domain.uuid)).collect()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// virDomainState of a domain that has memory: running, blocked, paused, being shut down, suspended.
const RUNS: [i32; 5] = [1, 2, 3, 4, 7];

async fn take_report(
    shared: &Shared,
    report: &Notification,
    at: Mono,
    seen: Mono,
    places: &mut Places,
) -> halberd_store::Result<Taken> {
    let segment = match places.segments.entry(report.segment) {
        btree_map::Entry::Occupied(known) => known.into_mut(),
        btree_map::Entry::Vacant(place) => {
            place.insert(segments::get(&shared.db, report.segment).await?.value)
        }
    };
    let host = match places.hosts.entry(report.host) {
        btree_map::Entry::Occupied(known) => known.into_mut(),
        btree_map::Entry::Vacant(place) => place.insert(hosts::get(&shared.db, report.host).await?.value),
    };
    let settled = |status, message: &str| Ok(Taken::Settled(status, message.to_owned()));
    if !segment.enabled {
        return settled(NotificationStatus::Ignored, "the segment is disabled");
    }
    let subject = match report.claim() {
        Claim::Nothing(why) => return settled(NotificationStatus::Ignored, why),
        Claim::HostUp => return settled(NotificationStatus::Finished, "noted"),
        Claim::ProcessUp { name } => {
            return settled(NotificationStatus::Finished, &format!("{name} runs again"));
        }
        Claim::HostDown => {
            let by_agent = report.origin == Origin::Agent;
            let note = || shared.fleet().note_report(host.id, report.id, at, seen, by_agent);
            if !note() {
                // Registered a moment ago: a recovery opened now would wait for evidence that nobody noted.
                watch::refresh(shared).await?;
                if !note() {
                    tracing::warn!(notification = %report.id, host = host.name, "its host is not known here yet; taken up in the next round");
                    return Ok(Taken::Up);
                }
            }
            Subject::Host { host: host.id }
        }
        Claim::GuestDown { instance } => match instance.parse() {
            Ok(instance) => Subject::Guest { instance, host: host.id },
            Err(_) => return settled(NotificationStatus::Failed, "instance_uuid is no uuid"),
        },
        Claim::ProcessDown { name } => Subject::Process { host: host.id, name },
    };
    let recovery = new_recovery(shared, report.id, segment, host, subject);
    let text = format!("{} reported by {}", recovery.subject.kind(), report.origin);
    let detail = json!({"payload": report.payload, "origin": report.origin});
    open(shared, &recovery, None, &text, detail, None).await.map(|_| Taken::Up)
}

/// Settles a round's reports that lead to no recovery in one transaction: a commit for each would bound how many a second can be taken.
async fn settle(
    shared: &Shared,
    settled: &[(&Notification, NotificationStatus, String)],
) -> halberd_store::Result<()> {
    if settled.is_empty() {
        return Ok(());
    }
    let now = clock::stamp();
    let words: BTreeSet<&str> = settled.iter().map(|(_, status, _)| status.as_str()).collect();
    for word in &words {
        failpoint::before(&shared.failpoints, Place::Settle(word)).await;
    }
    write(&shared.db, async |tx| {
        for (report, status, message) in settled {
            notifications::settle(tx, report.id, report.status, *status, Some(message), now).await?;
        }
        Ok(())
    })
    .await?;
    for word in &words {
        failpoint::after(&shared.failpoints, Place::Settle(word)).await;
    }
    Ok(())
}

/// Opens a host's recovery because this engine's own judgement says *failed*. Its report is written with it.
pub async fn open_by_verdict(shared: &Shared, host: HostId, judgement: &Judgement) {
    let known = {
        let fleet = shared.fleet();
        fleet.hosts.get(&host).and_then(|known| {
            let segment = fleet.segments.get(&known.row.segment)?;
            let fit = segment.enabled && !known.row.maintenance.operator;
            fit.then(|| (known.row.clone(), segment.clone()))
        })
    };
    let Some((row, segment)) = known else { return };
    // A verdict of now explains nothing of what was lost: it is formed afresh when the world was looked at.
    if shared.reconcile_only().is_some() {
        return;
    }
    let subject = Subject::Host { host };
    if !matches!(recoveries::open_for(&shared.db, &subject).await, Ok(None)) {
        return;
    }
    let report = host_down(&row, Origin::Engine);
    let recovery = new_recovery(shared, report.id, &segment, &row, subject);
    let reasons = judgement.reasons.join("; ");
    let detail =
        json!({"verdict": judgement.verdict, "reasons": judgement.reasons, "exhibits": judgement.exhibits});
    if let Err(error) = open(shared, &recovery, Some(&report), &reasons, detail, None).await {
        tracing::error!(host = row.name, %error, "the recovery could not be opened; it is tried again");
    }
}

/// The report that a recovery opened here brings with it.
fn host_down(host: &Host, origin: Origin) -> Notification {
    let words = [("event", "STOPPED"), ("host_status", "NORMAL"), ("cluster_status", "OFFLINE")];
    Notification {
        id: NotificationId(Uuid::new_v4()),
        kind: NotificationType::ComputeHost,
        host: host.id,
        segment: host.segment,
        generated_at: clock::stamp(),
        payload: words
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        origin,
        status: NotificationStatus::Running,
        message: None,
    }
}

fn new_recovery(
    shared: &Shared,
    notification: NotificationId,
    segment: &Segment,
    host: &Host,
    subject: Subject,
) -> Recovery {
    let policy: Policy = shared
        .fleet()
        .hosts
        .get(&host.id)
        .map_or_else(|| shared.policy.clone(), |known| known.policy.clone());
    let body = match &subject {
        Subject::Guest { .. } => Body::Instance(InstanceRecovery { state: InstanceState::Confirming }),
        Subject::Process { .. } => Body::Process(ProcessRecovery { state: ProcessState::Confirming }),
        Subject::Host { .. } | Subject::Return { .. } => Body::Host(HostRecovery::new()),
    };
    let hooks = shared.hooks.for_kind(subject.kind());
    Recovery {
        id: RecoveryId(Uuid::new_v4()),
        notification,
        segment: segment.id,
        subject,
        host_name: host.name.clone(),
        method: segment.recovery_method,
        policy,
        body,
        hooks,
        reason: "opened".into(),
        workflow_version: WORKFLOW_VERSION,
        owner: None,
        epoch: 0,
        version: 0,
        opened_at: clock::stamp(),
        closed_at: None,
    }
}

/// Opens a recovery. A wish that asked for it is answered in the same transaction; `None`: another engine has answered it, and nothing
/// was opened.
async fn open(
    shared: &Shared,
    recovery: &Recovery,
    report: Option<&Notification>,
    text: &str,
    detail: serde_json::Value,
    asked: Option<(WishId, String)>,
) -> halberd_store::Result<Option<Opened>> {
    let now = clock::stamp();
    let subject = format!("{}/{}", recovery.subject.kind(), recovery.host_name);
    let entry =
        Entry::new("recovery_opened", format!("recovery of {subject} opened: {text}"), detail.clone());
    let event = Event {
        id: EventId(Uuid::new_v4()),
        kind: EventKind::RecoveryOpened,
        recovery: Some(recovery.id),
        subject,
        data: json!({
            "recovery": recovery.id, "notification": recovery.notification, "host": recovery.host_name, "text": text,
            "detail": detail,
        }),
    };
    // A drill is told of when it has ended: nobody's guest is in trouble, so it opens no ticket.
    let drill = matches!(&recovery.body, Body::Host(body) if matches!(*body.purpose, Purpose::Drill { .. }));
    let events: &[Event] = if drill { &[] } else { std::slice::from_ref(&event) };
    let place = Place::Open(recovery.subject.kind());
    failpoint::before(&shared.failpoints, place).await;
    let opened = write(&shared.db, async |tx| {
        let opening = Opening {
            recovery,
            report,
            audit: std::slice::from_ref(&entry),
            events,
            webhooks: &shared.webhooks,
        };
        if let Some((wish, _)) = &asked
            && !wishes::is_open(&mut *tx, *wish).await?
        {
            return Ok(None);
        }
        let opened = recoveries::open(tx, &opening, now).await?;
        if let (Some((wish, answer)), Opened::New(_)) = (&asked, &opened)
            && !wishes::done(tx, *wish, true, &json!({"text": answer, "recovery": recovery.id}), now).await?
        {
            // Answered between the two looks: all of this is undone, and the next look sees it.
            return Err(halberd_store::Error::Conflict { attempts: 1, source: None });
        }
        Ok(Some(opened))
    })
    .await?;
    failpoint::after(&shared.failpoints, place).await;
    match &opened {
        None => tracing::info!(host = recovery.host_name, "another engine has done what was asked for"),
        Some(Opened::New(_)) => {
            tracing::warn!(recovery = %recovery.id, host = recovery.host_name, kind = recovery.subject.kind(), text, "recovery opened")
        }
        Some(Opened::AlreadyOpen(id)) => {
            tracing::info!(recovery = %id, host = recovery.host_name, "the report joins the open recovery")
        }
    }
    shared.nudge.notify_waiters();
    Ok(opened)
}

/// What came of a person's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByOperator {
    /// A recovery was opened, and the wish is answered.
    Opened,
    /// One was open already; the wish is not answered.
    Open(RecoveryId),
    /// Another engine has answered the wish.
    Answered,
}

/// Opens a host's recovery because a person wants its power off: to bring its guests away, which is a report of his that v1 shows too,
/// or as a drill, which concerns nobody else.
pub(crate) async fn open_by_operator(
    shared: &Shared,
    host: &Host,
    segment: &Segment,
    purpose: Purpose,
    wish: &NewWish,
    answer: impl Fn(&Recovery) -> String,
) -> halberd_store::Result<ByOperator> {
    let (by, text) = match &purpose {
        Purpose::Ordered { by, .. } => (by.clone(), format!("power off ordered by {by}")),
        Purpose::Drill { by, .. } => (by.clone(), format!("drill by {by}")),
        Purpose::Failure => (Asked { actor: String::new(), reason: String::new() }, "a failure".to_owned()),
    };
    let drill = matches!(purpose, Purpose::Drill { .. });
    let report = host_down(host, Origin::Caller);
    let mut recovery = new_recovery(shared, report.id, segment, host, Subject::Host { host: host.id });
    recovery.body = Body::Host(HostRecovery::for_purpose(purpose));
    if drill {
        // No report stands behind it, and no hook is told of guests that do not move.
        recovery.notification = NotificationId(recovery.id.0);
        recovery.hooks = Hooks::default();
    }
    let asked = Some((wish.id, answer(&recovery)));
    let opened =
        open(shared, &recovery, (!drill).then_some(&report), &text, json!({"by": by}), asked).await?;
    Ok(match opened {
        Some(Opened::New(_)) => ByOperator::Opened,
        Some(Opened::AlreadyOpen(id)) => ByOperator::Open(id),
        None => ByOperator::Answered,
    })
}
