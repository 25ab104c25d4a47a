//! Interpreting one runner: its ops on the database and the ports, what is seen into its facts. Nothing is decided here.

use std::sync::Arc;

use halberd_core::effect::{Done, Effect, Query};
use halberd_core::recovery::host::Purpose;
use halberd_core::recovery::{Body, Subject};
use halberd_core::runner::{Commit, Op, Reply, Runner, Sight};
use halberd_store::commit::{self, Beside};
use halberd_store::{Error, hosts, recoveries, write};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Owned;
use super::calls::Share;
use crate::clock;
use crate::failpoint::{self, Place};
use crate::ports::Order;
use crate::shared::Shared;

/// How often the lease is looked at while something runs that would go on without it: well within what a lease ends earlier for its
/// holder than for others.
const LEASE_LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// Drives a recovery until it is closed, lost, or the engine stops.
pub async fn drive(shared: Arc<Shared>, owned: Owned) -> halberd_core::id::RecoveryId {
    let id = owned.recovery.id;
    let epoch = owned.recovery.epoch;
    let term = owned.term;
    note_report_again(&shared, &owned).await;
    if let Err(error) = crate::wishes::restore(&shared, id).await {
        tracing::warn!(recovery = %id, %error, "what was released for it could not be read: its brakes hold until they are released again");
    }
    let seed =
        u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk::<8>().expect("a uuid has sixteen bytes"));
    let mut runner = Runner::new(owned.recovery, owned.vmoves, owned.inherited, seed, clock::mono());
    let mut share = Share::of(&shared.calls);
    let (replies, mut inbox) = unbounded_channel();
    // Ends with this drive: what runs for it and would not end by itself is ended then.
    let driven = shared.stop.child_token();
    let _ends = driven.clone().drop_guard();
    loop {
        if let Err(error) = surround(&shared, &mut runner).await {
            tracing::warn!(recovery = %id, %error, "the host's row could not be read");
        }
        // What a lapsed lease had handed out is void, also when the lease was renewed since: it is claimed afresh, or another's.
        if shared.term(clock::mono()).is_some_and(|now| now != term) {
            tracing::warn!(recovery = %id, epoch, "the lease had lapsed meanwhile; the recovery is given back and claimed afresh");
            break;
        }
        for op in share.poll(&mut runner, |runner| runner.poll(clock::mono(), clock::stamp())) {
            start(&shared, &runner, op, &replies, &driven, term, &share);
        }
        if runner.is_over() {
            break;
        }
        let changed = shared.changed.notified();
        tokio::select! {
            Some(reply) = inbox.recv() => {
                runner.reply(reply, clock::mono());
                while let Ok(reply) = inbox.try_recv() {
                    runner.reply(reply, clock::mono());
                }
            }
            () = tokio::time::sleep_until(clock::until(runner.wake_at())) => {}
            () = changed => {}
            () = shared.stop.cancelled() => {
                settle(&mut runner, &mut inbox).await;
                break;
            }
        }
    }
    shared.fleet().doubt(&runner.recovery().subject, false);
    shared.wishes.forget(id);
    if runner.is_lost() {
        tracing::warn!(recovery = %id, epoch, "another engine drives this recovery now");
    } else if runner.is_over() {
        tracing::info!(recovery = %id, state = %runner.recovery().word(), reason = runner.recovery().reason, "recovery closed");
        shared.nudge.notify_waiters();
    } else {
        let given = write(&shared.db, async |tx| {
            recoveries::release(tx, id, epoch, shared.engine, clock::stamp()).await
        })
        .await;
        tracing::info!(recovery = %id, given = given.unwrap_or(false), "recovery given back");
    }
    id
}

/// At a graceful stop, answers that are about to come are waited for a moment; what is cut off is looked up by the next owner.
async fn settle(runner: &mut Runner, inbox: &mut tokio::sync::mpsc::UnboundedReceiver<Reply>) {
    let grace = tokio::time::sleep(std::time::Duration::from_millis(800));
    tokio::pin!(grace);
    while runner.awaits_commit() {
        tokio::select! {
            Some(reply) = inbox.recv() => runner.reply(reply, clock::mono()),
            () = &mut grace => return,
        }
    }
}

/// The report behind a recovery found at a claim: one of before this engine's time is of unknown age, so it is stale. What a person
/// ordered is no report: nobody said that the host had failed.
async fn note_report_again(shared: &Shared, owned: &Owned) {
    let Subject::Host { host } = owned.recovery.subject else { return };
    if matches!(&owned.recovery.body, Body::Host(body) if *body.purpose != Purpose::Failure) {
        return;
    }
    let unknown = !shared.fleet().hosts.contains_key(&host);
    if unknown && let Err(error) = crate::collect::watch::refresh(shared).await {
        tracing::warn!(%error, "the stored hosts could not be read; they are read again within a second");
    }
    let seen = clock::mono();
    let at = if owned.fresh { seen } else { clock::LONG_AGO };
    let mut fleet = shared.fleet();
    let agentless = fleet.hosts.get(&host).is_none_or(|known| !known.sight.agent);
    if agentless && !fleet.note_report(host, owned.recovery.notification, at, seen, false) {
        tracing::warn!(%host, "its host is not known here yet: the report behind the recovery is not counted, power is read instead");
    }
}

/// Brings the outer world's part of the facts up to date.
async fn surround(shared: &Shared, runner: &mut Runner) -> halberd_store::Result<()> {
    let host = runner.recovery().subject.host();
    let row = match hosts::get(&shared.db, host).await {
        Err(Error::NotFound { .. }) => {
            runner.facts.host_gone = true;
            return Ok(());
        }
        read => read?.value,
    };
    // Read after the row: an order that came between has changed the row's version, and the commit does not fit.
    runner.facts.recovering = matches!(runner.recovery().subject, Subject::Return { .. })
        && recoveries::open_for(&shared.db, &Subject::Host { host }).await?.is_some();
    let now = clock::mono();
    let mut fleet = shared.fleet();
    if let Some(known) = fleet.hosts.get_mut(&host)
        && row.version >= known.row.version
    {
        known.row = row.clone();
    }
    fleet.doubt(&runner.recovery().subject, runner.recovery().awaits_verdict());
    let segment = runner.recovery().segment;
    let held = runner.recovery().hooks.held().is_some();
    let id = runner.recovery().id;
    let facts = &mut runner.facts;
    if let Some(evidence) = fleet.evidence(host, now) {
        let newer = evidence
            .power
            .as_ref()
            .filter(|reading| facts.power.as_ref().is_none_or(|known| reading.at > known.at));
        if let Some(reading) = newer {
            facts.power = Some(reading.clone());
        }
        facts.evidence = evidence;
        facts.evidence.power = facts.power.clone();
    }
    facts.fleet = fleet.brakes(now);
    shared.wishes.tell(id, held, facts);
    facts.reserved = fleet.reserved(segment);
    facts.proved_off = fleet.proved_off();
    facts.segment_enabled = fleet.segments.get(&segment).is_none_or(|segment| segment.enabled);
    facts.domains = fleet.hosts.get(&host).and_then(|known| {
        let (boot, listed) = known.domains.as_ref()?;
        (known.sight.beats.boot == Some(*boot)).then(|| listed.clone())
    });
    facts.host = Some(row);
    Ok(())
}

fn start(
    shared: &Arc<Shared>,
    runner: &Runner,
    op: Op,
    replies: &UnboundedSender<Reply>,
    driven: &CancellationToken,
    term: u64,
    share: &Share,
) {
    let call = match &op {
        Op::Effect { effect, .. } => Some(share.call(effect)),
        _ => None,
    };
    let shared = shared.clone();
    let driven = driven.clone();
    let replies = replies.clone();
    let recovery = runner.recovery().id;
    let name = runner.recovery().host_name.clone();
    tokio::spawn(async move {
        let reply = match op {
            Op::Commit(content) => {
                failpoint::before(&shared.failpoints, Place::Commit(&content)).await;
                let reply = save(&shared, &content, term).await;
                failpoint::after(&shared.failpoints, Place::Commit(&content)).await;
                reply
            }
            Op::ReadBack(nonce) => {
                Reply::ReadBack(commit::was_applied(&shared.db, recovery, nonce).await.ok())
            }
            Op::Effect { intent, epoch, effect } => {
                let drill = matches!(effect, Effect::PowerOff { drill: true, .. });
                let order = Order { recovery, engine: shared.engine, epoch, intent, drill };
                failpoint::before(&shared.failpoints, Place::Send(&effect)).await;
                let done = perform(&shared, &name, order, &effect, driven, term).await;
                failpoint::after(&shared.failpoints, Place::Send(&effect)).await;
                Reply::Effect { intent, done }
            }
            Op::Ask(query) => {
                let sight = ask(&shared, &query).await;
                Reply::Answer { query, sight }
            }
        };
        drop(call);
        let _ = replies.send(reply);
    });
}

async fn save(shared: &Shared, content: &Commit, term: u64) -> Reply {
    if shared.term(clock::mono()) != Some(term) {
        return Reply::Unavailable("this engine's lease is not renewed".into());
    }
    let began = clock::mono();
    let beside = {
        let fleet = shared.fleet();
        let (fences, ended) = (fleet.fences_of(&content.intents), fleet.fences_ended(&content.resolved));
        Beside { answers: shared.wishes.answers(content), fences, ended }
    };
    let applied = commit::apply_beside(&shared.db, content, &beside, &shared.webhooks, clock::stamp()).await;
    let reply = match applied {
        Ok(version) => {
            shared.wishes.answered(content.recovery.id, &beside.answers);
            shared.fleet().note_fences(&beside.fences, &beside.ended, clock::mono());
            crate::rewind::committed(shared, content, version).await;
            Reply::Committed(version)
        }
        Err(Error::Lost(_)) => {
            // Another engine's, or a row of before our last write: only the second is less than is remembered.
            if let Err(error) = crate::rewind::look(shared).await {
                tracing::warn!(recovery = %content.recovery.id, %error, "whether the database was rewound could not be seen");
            }
            Reply::Lost
        }
        Err(Error::Ambiguous(_)) => Reply::Ambiguous,
        Err(error @ Error::ReconcileOnly) => {
            // Another engine found it a moment ago.
            if let Err(error) = crate::rewind::look(shared).await {
                tracing::warn!(%error, "why the engines are in reconcile-only could not be read");
            }
            Reply::Unavailable(error.to_string())
        }
        Err(error @ (Error::Condition { .. } | Error::IntentOpen { .. })) => {
            tracing::warn!(recovery = %content.recovery.id, %error, "a transition does not fit any more; decided afresh");
            Reply::Conflict(error.to_string())
        }
        Err(error) => {
            tracing::warn!(recovery = %content.recovery.id, %error, "a transition could not be stored; tried again");
            Reply::Unavailable(error.to_string())
        }
    };
    metrics::histogram!("halberd_commit_seconds").record(clock::mono().since(began).as_secs_f64());
    if matches!(reply, Reply::Committed(_)) && !content.hosts.is_empty() {
        refresh_rows(shared, content).await;
    }
    reply
}

/// Host rows that a commit changed are seen at once by everybody in this engine.
async fn refresh_rows(shared: &Shared, content: &Commit) {
    for (host, _) in &content.hosts {
        if let Ok(row) = hosts::get(&shared.db, *host).await
            && let Some(known) = shared.fleet().hosts.get_mut(host)
        {
            known.row = row.value;
        }
    }
    shared.changed.notify_waiters();
}

async fn perform(
    shared: &Shared,
    host_name: &str,
    order: Order,
    effect: &Effect,
    driven: CancellationToken,
    term: u64,
) -> Done {
    if let Err(text) = crate::rewind::deed(shared).await {
        return Done::NotExecuted { text };
    }
    if shared.term(clock::mono()) != Some(term) {
        return Done::NotExecuted {
            text: "this engine's lease is not renewed, or had lapsed meanwhile".into(),
        };
    }
    metrics::counter!("halberd_effects_total", "effect" => effect.word()).increment(1);
    match effect {
        Effect::PowerOff { host, .. } => {
            let done = shared.power.off(*host, order).await;
            match done {
                Ok(report) => Done::Fenced { report },
                Err(text) => Done::NotExecuted { text },
            }
        }
        Effect::PowerOn { host } => shared.power.on(*host, order).await,
        Effect::RestorePolicy { host } => shared.power.restore_policy(*host).await,
        Effect::RevokeSessions { host } => match shared.power.revoke(*host).await {
            Ok(count) => Done::Accepted { note: format!("{count} sessions") },
            Err(text) => Done::NotExecuted { text },
        },
        Effect::RunHook { call } => shared.hooks.run(call, unwanted(shared, &driven, term)).await,
        effect => {
            let Some(cloud) = &shared.cloud else {
                return Done::NotExecuted { text: "no [openstack] section is configured".into() };
            };
            if let Effect::MarkDown { host, .. }
            | Effect::Disable { host, .. }
            | Effect::Enable { host }
            | Effect::ForceUp { host } = effect
            {
                shared.fleet().rows.touch(host);
            }
            let done = cloud.perform(effect, order.intent).await;
            if !matches!(done, Done::Accepted { .. }) {
                tracing::info!(host = host_name, effect = effect.word(), ?done, "a call was not accepted");
            }
            done
        }
    }
}

/// Ends when what runs for a recovery must end: it closed, was lost or given back, or this engine may not act any more. A lease ends for
/// its holder first (STYLE 12), so what runs is ended before another engine begins it again.
async fn unwanted(shared: &Shared, driven: &CancellationToken, term: u64) -> String {
    loop {
        tokio::select! {
            () = driven.cancelled() => return "cut off: its recovery was closed or given back".into(),
            () = tokio::time::sleep(LEASE_LOOK) => {
                if let Some(why) = shared.reconcile_only() {
                    return format!("cut off: reconcile-only: {why}");
                }
                if shared.term(clock::mono()) != Some(term) {
                    return "cut off: this engine's lease is not renewed".into();
                }
            }
        }
    }
}

async fn ask(shared: &Shared, query: &Query) -> Result<Sight, String> {
    if let Query::Power { host } = query {
        let reading = shared.power.read(*host).await?;
        if let Some(known) = shared.fleet().hosts.get_mut(host) {
            known.sight.power = Some(reading.clone());
        }
        return Ok(Sight::Power(reading));
    }
    let cloud = shared.cloud.as_ref().ok_or("no [openstack] section is configured")?;
    cloud.ask(query).await
}
