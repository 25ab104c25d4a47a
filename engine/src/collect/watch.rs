//! Watching: judges every host that went silent, starts the probes, and opens a recovery when the verdict is *failed*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::host::Admission;
use halberd_core::id::{BootId, EventId, HostId};
use halberd_core::lease::Pulse;
use halberd_core::policy::Policy;
use halberd_core::time::Mono;
use halberd_core::verdict::{self, Judgement, Verdict};
use halberd_store::sightings::{self, SightingRow};
use halberd_store::{agent_keys, events, fence_devices, hosts, list::Page, segments, unit};
use halberd_types::beat::AgentKey;
use secrecy::ExposeSecret;
use serde_json::json;

use super::probe;
use crate::clock;
use crate::config::overlay;
use crate::intake;
use crate::shared::Shared;

/// How often every host is looked at. A tenth of the fast beat's one and a half intervals.
const TICK: Duration = Duration::from_millis(75);
/// A tick this late means that the process stood still.
const STALL: Duration = Duration::from_millis(1_500);
/// How often the stored rows are read again without a nudge.
const REFRESH: Duration = Duration::from_millis(1_000);
/// How often the service list is read while any host is suspect (DESIGN 4).
const ROWS_WHEN_SUSPECT: Duration = Duration::from_millis(1_000);

/// Runs until the engine stops.
pub async fn run(shared: Arc<Shared>) {
    let mut pulse = Pulse::new(STALL, clock::mono());
    let mut refreshed: Option<Mono> = None;
    let mut rows_at: Option<Mono> = None;
    let rows_busy = Arc::new(std::sync::atomic::AtomicBool::new(false));
    while !shared.stop.is_cancelled() {
        let now = clock::mono();
        if let Some(gap) = pulse.tick(now) {
            tracing::warn!(gap_ms = gap.as_millis() as u64, "this engine stood still; silence counts from now");
            shared.fleet().deaf_until(now);
        }
        if refreshed.is_none_or(|at| now.since(at) >= REFRESH) {
            refreshed = Some(now);
            if let Err(error) = refresh(&shared).await {
                tracing::warn!(%error, "the stored hosts could not be read; what is known stays");
            }
        }
        let suspects = look(&shared).await;
        let pace = if suspects { ROWS_WHEN_SUSPECT } else { Policy::ms(shared.config.service_poll_ms) };
        if shared.cloud.is_some()
            && rows_at.is_none_or(|at| now.since(at) >= pace)
            && !rows_busy.swap(true, std::sync::atomic::Ordering::AcqRel)
        {
            rows_at = Some(now);
            let (shared, busy) = (shared.clone(), rows_busy.clone());
            tokio::spawn(async move {
                read_rows(&shared).await;
                busy.store(false, std::sync::atomic::Ordering::Release);
            });
        }
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

async fn read_rows(shared: &Shared) {
    let Some(cloud) = &shared.cloud else { return };
    let at = clock::mono();
    match cloud.services().await {
        Ok(rows) => shared.fleet().observe_rows(&rows, at),
        Err(why) => {
            tracing::debug!(why, "Nova's services could not be read");
            shared.fleet().nova = Err(why);
        }
    }
    shared.changed.notify_waiters();
}

/// Reads hosts, policies, devices and keys.
pub async fn refresh(shared: &Shared) -> halberd_store::Result<()> {
    let rows: Vec<_> = hosts::all_living(&shared.db).await?.into_iter().map(|row| row.value).collect();
    let mut policies = BTreeMap::new();
    for (segment, table) in segments::policies(&shared.db).await? {
        let Some(table) = table.as_object() else { continue };
        match overlay(&shared.policy, table) {
            Ok(policy) => {
                policies.insert(segment, policy);
            }
            Err(error) => tracing::error!(%segment, %error, "the segment's policy cannot be read; the configured one is used"),
        }
    }
    let with_device: BTreeSet<HostId> = fence_devices::list(&shared.db).await?.into_iter().map(|row| row.host).collect();
    let all = Page { limit: u32::MAX, ..Page::default() };
    let stored_segments = segments::list(&shared.db, &segments::SegmentFilter::default(), &all).await?;
    let versions: BTreeMap<HostId, i64> = agent_keys::versions(&shared.db).await?.into_iter().collect();
    let stale = {
        let mut fleet = shared.fleet();
        fleet.refresh(rows, &policies, &shared.policy, &with_device, clock::mono());
        fleet.segments = stored_segments.into_iter().map(|row| (row.value.id, row.value)).collect();
        for known in fleet.hosts.values_mut().filter(|known| !versions.contains_key(&known.row.id)) {
            known.key = None;
        }
        versions.iter().any(|(host, version)| {
            fleet.hosts.get(host).is_some_and(|known| known.key.as_ref().is_none_or(|(have, _)| have != version))
        })
    };
    if stale {
        for (host, version, key) in agent_keys::all_keys(&shared.db, &shared.sealer).await? {
            let Ok(bytes) = <[u8; 32]>::try_from(key.expose_secret()) else { continue };
            if let Some(known) = shared.fleet().hosts.get_mut(&host) {
                known.key = Some((version, AgentKey::from_bytes(bytes)));
            }
        }
    }
    Ok(())
}

/// What a look at one host asks for.
enum Todo {
    Power(HostId),
    UserLand(HostId, Vec<std::net::SocketAddr>),
    Open(HostId, Box<Judgement>),
    Say(HostId, Verdict, Box<Judgement>),
    Boot(HostId, i64, u32, BootId),
}

/// One look at every host. True while any is suspect.
async fn look(shared: &Arc<Shared>) -> bool {
    let now = clock::mono();
    let (todos, suspects) = decide(shared, now);
    for todo in todos {
        match todo {
            Todo::Power(host) => drop(tokio::spawn(probe::power(shared.clone(), host))),
            Todo::UserLand(host, addresses) => drop(tokio::spawn(probe::user_land(shared.clone(), host, addresses))),
            Todo::Open(host, judgement) => intake::open_by_verdict(shared, host, &judgement).await,
            Todo::Say(host, verdict, judgement) => say(shared, host, verdict, &judgement).await,
            Todo::Boot(host, version, number, boot) => note_boot(shared, host, version, number, boot).await,
        }
    }
    suspects
}

fn decide(shared: &Shared, now: Mono) -> (Vec<Todo>, bool) {
    let mut todos = Vec::new();
    let mut suspects = false;
    let mut fleet = shared.fleet();
    fleet.note_silence(now);
    let ids: Vec<HostId> = fleet.hosts.keys().copied().collect();
    for id in ids {
        let Some(evidence) = fleet.evidence(id, now) else { continue };
        let Some(known) = fleet.hosts.get_mut(&id) else { continue };
        new_boot(known, &mut todos);
        let suspect = known.silent_since.is_some() && known.row.admission != Admission::Out;
        if known.silent_since.is_some() {
            suspects = suspects || suspect;
            start_probes(known, now, &mut todos);
        }
        if !known.sight.agent || known.row.admission != Admission::In {
            continue;
        }
        let judgement = verdict::judge(&evidence, &known.policy, now);
        let verdict = judgement.verdict;
        if verdict == Verdict::Failed {
            todos.push(Todo::Open(id, Box::new(judgement)));
        } else if known.said != Some(verdict) && verdict != Verdict::CannotTell {
            todos.push(Todo::Say(id, verdict, Box::new(judgement)));
        }
        if verdict != Verdict::CannotTell {
            known.said = Some(verdict);
        }
    }
    (todos, suspects)
}

/// The engine numbers boots (DESIGN 10.7): a new boot id of a host that is in, or admitted, gets the next number.
fn new_boot(known: &super::fleet::Known, todos: &mut Vec<Todo>) {
    let Some(boot) = known.sight.beats.boot else { return };
    let unknown = known.row.boot != Some(boot) && !known.row.retired_boots.contains(&boot);
    if unknown && known.row.admission != Admission::Out || !known.row.ever_agent {
        todos.push(Todo::Boot(known.row.id, known.row.version, known.row.boot_number + u32::from(unknown), boot));
    }
}

fn start_probes(known: &mut super::fleet::Known, now: Mono, todos: &mut Vec<Todo>) {
    let probing = &mut known.probing;
    let due = |last: Option<Mono>, pace: Duration| last.is_none_or(|at| now.since(at) >= pace);
    if known.sight.has_device && !probing.power_busy && due(probing.power, probe::POWER_EVERY) {
        (probing.power, probing.power_busy) = (Some(now), true);
        todos.push(Todo::Power(known.row.id));
    }
    let addresses: Vec<_> = known.addresses.values().copied().collect();
    if !addresses.is_empty() && !probing.user_land_busy && due(probing.user_land, probe::USER_LAND_EVERY) {
        (probing.user_land, probing.user_land_busy) = (Some(now), true);
        todos.push(Todo::UserLand(known.row.id, addresses));
    }
}

/// A transition: stored, and told when it is one people care about.
async fn say(shared: &Shared, host: HostId, verdict: Verdict, judgement: &Judgement) {
    let Some((name, boot, was_lost)) = shared.fleet().hosts.get(&host).map(|known| (known.row.name.clone(), known.sight.beats.boot, known.said.is_some())) else {
        return;
    };
    let state = verdict.to_string();
    let text = judgement.reasons.join("; ");
    let now = clock::stamp();
    let row = SightingRow { host, engine: shared.engine, boot, state: state.clone(), since: now };
    let event = match verdict {
        Verdict::AgentLost => Some(EventKind::AgentLost),
        Verdict::Alive if was_lost => Some(EventKind::AgentBack),
        _ => None,
    };
    let event = event.map(|kind| Event {
        id: EventId(uuid::Uuid::new_v4()),
        kind,
        recovery: None,
        subject: format!("host/{name}"),
        data: json!({"host": name, "text": text}),
    });
    let entry = Entry::new("host_sighted", format!("{name} is {state}: {text}"), json!({"exhibits": judgement.exhibits}));
    let chain = halberd_store::audit::engine_chain(shared.engine);
    let stored = unit!(&shared.db, |tx| {
        sightings::record(tx, &row).await?;
        halberd_store::audit::append(tx, &chain, 0, std::slice::from_ref(&entry), now).await?;
        if let Some(event) = &event {
            events::publish(tx, std::slice::from_ref(event), 0, &shared.webhooks, now).await?;
        }
        Ok(())
    });
    if let Err(error) = stored {
        tracing::warn!(host = name, %error, "a sighting could not be stored");
    }
}

async fn note_boot(shared: &Shared, host: HostId, version: i64, number: u32, boot: BootId) {
    let stored = unit!(&shared.db, |tx| {
        hosts::set_boot(tx, host, version, number, Some(boot), true, clock::stamp()).await
    });
    match stored {
        Ok(_) => {
            if let Ok(row) = hosts::get(&shared.db, host).await
                && let Some(known) = shared.fleet().hosts.get_mut(&host)
            {
                known.row = row.value;
            }
        }
        Err(error) => tracing::warn!(%host, %error, "a boot could not be noted"),
    }
}
