//! Watching: judges every host that went silent, starts the probes, and opens a recovery when the verdict is *failed*.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use halberd_core::audit::Entry;
use halberd_core::event::{Event, EventKind};
use halberd_core::id::{BootId, EventId, HostId};
use halberd_core::lease::Pulse;
use halberd_core::policy::Policy;
use halberd_core::time::Mono;
use halberd_core::verdict::{Judgement, Verdict};
use halberd_core::watchdog::Said;
use halberd_store::sightings::{self, SightingRow};
use halberd_store::{
    agent_keys, events, fence_devices, hosts, list::Page, orders, segments, settings, write,
};
use halberd_types::beat::AgentKey;
use secrecy::ExposeSecret;
use serde_json::json;

use super::fleet::Watchdogs;
use super::look::{self, Todo};
use super::{probe, renewals};
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
            tracing::warn!(
                gap_ms = gap.as_millis() as u64,
                "this engine stood still; silence counts from now"
            );
            shared.fleet().deaf_until(now);
        }
        if refreshed.is_none_or(|at| now.since(at) >= REFRESH) {
            refreshed = Some(now);
            if let Err(error) = refresh(&shared).await {
                tracing::warn!(%error, "the stored hosts could not be read; what is known stays");
            }
            if let Err(error) = renewals::look_at_others(&shared).await {
                tracing::warn!(%error, "what other engines hear could not be read; no watchdog's lease counts meanwhile");
            }
        }
        renewals::store_turns(&shared).await;
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
            Err(error) => {
                tracing::error!(%segment, %error, "the segment's policy cannot be read; the configured one is used")
            }
        }
    }
    let devices = fence_devices::list(&shared.db).await?;
    let with_device: BTreeSet<HostId> = devices.iter().map(|row| row.host).collect();
    let watchdogs: BTreeMap<HostId, Watchdogs> =
        devices.iter().map(|row| (row.host, Watchdogs::among(&row.masked))).collect();
    let all = Page { limit: u32::MAX, ..Page::default() };
    let stored_segments = segments::list(&shared.db, &segments::SegmentFilter::default(), &all).await?;
    let ordered: BTreeSet<HostId> = orders::hosts_pending(&shared.db).await?.into_iter().collect();
    let versions: BTreeMap<HostId, i64> = agent_keys::versions(&shared.db).await?.into_iter().collect();
    let disarm = settings::disarm(&shared.db).await?;
    let stale = {
        let mut fleet = shared.fleet();
        fleet.disarm(disarm.as_ref(), clock::mono(), clock::stamp());
        fleet.refresh(rows, &policies, &shared.policy, &with_device, clock::mono());
        fleet.note_watchdogs(&watchdogs);
        fleet.segments = stored_segments.into_iter().map(|row| (row.value.id, row.value)).collect();
        for known in fleet.hosts.values_mut() {
            known.fetch_orders = ordered.contains(&known.row.id);
        }
        for known in fleet.hosts.values_mut().filter(|known| !versions.contains_key(&known.row.id)) {
            known.key = None;
        }
        versions.iter().any(|(host, version)| {
            fleet
                .hosts
                .get(host)
                .is_some_and(|known| known.key.as_ref().is_none_or(|(have, _)| have != version))
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

/// One look at every host. True while any is suspect.
async fn look(shared: &Arc<Shared>) -> bool {
    let now = clock::mono();
    let (todos, suspects) = look::look(&mut shared.fleet(), now);
    for todo in todos {
        match todo {
            Todo::Power(host) => drop(tokio::spawn(probe::power(shared.clone(), host))),
            Todo::UserLand(host, addresses) => {
                drop(tokio::spawn(probe::user_land(shared.clone(), host, addresses)))
            }
            Todo::Open(host, judgement) => intake::open_by_verdict(shared, host, &judgement).await,
            Todo::Say(host, verdict, judgement) => say(shared, host, verdict, &judgement).await,
            Todo::Boot(host, version, number, boot) => note_boot(shared, host, version, number, boot).await,
        }
    }
    suspects
}

/// A transition: stored, and told when it is one people care about.
async fn say(shared: &Shared, host: HostId, verdict: Verdict, judgement: &Judgement) {
    let Some((name, boot, was_lost)) = shared
        .fleet()
        .hosts
        .get(&host)
        .map(|known| (known.row.name.clone(), known.sight.beats.boot, known.said.is_some()))
    else {
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
    let entry = Entry::new(
        "host_sighted",
        format!("{name} is {state}: {text}"),
        json!({"exhibits": judgement.exhibits}),
    );
    let chain = halberd_store::audit::engine_chain(shared.engine);
    let stored = write(&shared.db, async |tx| {
        sightings::record(tx, &row).await?;
        halberd_store::audit::append(tx, &chain, 0, std::slice::from_ref(&entry), now).await?;
        if let Some(event) = &event {
            events::publish(tx, std::slice::from_ref(event), 0, &shared.webhooks, now).await?;
        }
        Ok(())
    })
    .await;
    match stored {
        // What it says of hearing the host is what others go by: if that is not so, it is put right at the next look.
        Ok(()) => {
            if let Some(known) = shared.fleet().hosts.get_mut(&host) {
                known.stored = Some(if verdict == Verdict::Alive { Said::Hears } else { Said::Silent });
            }
        }
        Err(error) => tracing::warn!(host = name, %error, "a sighting could not be stored"),
    }
}

async fn note_boot(shared: &Shared, host: HostId, version: i64, number: u32, boot: BootId) {
    let stored = write(&shared.db, async |tx| {
        hosts::set_boot(tx, host, version, number, Some(boot), true, clock::stamp()).await
    })
    .await;
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
