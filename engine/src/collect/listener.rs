//! Hearing beats: authenticate, date, take, answer. Nothing here touches the database (DESIGN 3).
//!
//! A beat is dated by its send time on the sender's boot clock, mapped to ours by the smallest delay seen: the backlog of a
//! stalled engine is no life (DESIGN 10.7).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::evidence::{Network, Witness};
use halberd_core::host::Admission;
use halberd_core::id::{BootId, HostId};
use halberd_core::sight::{Heard, Watchdog};
use halberd_core::time::Mono;
use halberd_types::beat::{
    self, Ack, AgentKey, Beat, HostState, LinkKey, MAX_LEN, MAX_PEERS, Peer, host_hash,
};
use rand::RngCore;
use tokio::net::UdpSocket;
use uuid::Uuid;

use super::fleet::{Fleet, Known};
use crate::clock;
use crate::shared::Shared;

/// An echo counts while its nonce is one of those given within this (DESIGN 10.7).
const NONCE_KEEPS: Duration = Duration::from_secs(10);
/// No more nonces are kept for a host than beats can arrive in that time on three networks at the fast pace.
const NONCES: usize = 80;

/// Serves one address until the engine stops.
pub async fn listen(shared: Arc<Shared>, socket: UdpSocket) {
    let mut bytes = [0u8; MAX_LEN + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut bytes) => received,
            () = shared.stop.cancelled() => return,
        };
        let Ok((length, from)) = received else { continue };
        if length > MAX_LEN {
            metrics::counter!("halberd_beats_dropped_total", "why" => "size").increment(1);
            continue;
        }
        if let Some(answer) = take(&shared, &bytes[..length], from) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

/// Takes one datagram; the answer to send, if it was a beat of a host that we know.
fn take(shared: &Shared, bytes: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let drop = |why: &'static str| {
        metrics::counter!("halberd_beats_dropped_total", "why" => why).increment(1);
        None
    };
    let Ok(claim) = Beat::claim(bytes) else { return drop("foreign") };
    let now = clock::mono();
    let may_act = shared.may_act(now);
    let mut fleet = shared.fleet();
    let host = HostId(claim.host);
    let Some(key) = fleet.hosts.get(&host).and_then(|known| known.key.as_ref()).map(|(_, key)| key.clone())
    else {
        return drop("unknown_host");
    };
    let Ok(beat) = Beat::open(bytes, &key) else { return drop("signature") };
    let network = network_of(beat.network);
    let boot = BootId(beat.boot);
    let heard =
        fleet.hosts.get_mut(&host).and_then(|known| date(known, &beat, network, boot, shared.engine.0, now));
    let Some(heard) = heard else { return drop("replay") };
    metrics::counter!("halberd_beats_total").increment(1);
    shared.engines.saying.heard();
    if let Some(known) = fleet.hosts.get_mut(&host) {
        known.addresses.insert(network, from);
        known.sight.hear(&heard);
    }
    note_witness(&mut fleet, host, &beat, now);
    let mut ack = answer(&mut fleet, host, &key, &beat, shared.engine.0, now);
    ack.renews = ack.renews && may_act && !heard.retired;
    drop_guard_and_seal(fleet, ack, &key)
}

fn drop_guard_and_seal(fleet: std::sync::MutexGuard<'_, Fleet>, ack: Ack, key: &AgentKey) -> Option<Vec<u8>> {
    drop(fleet);
    Some(ack.seal(key))
}

fn network_of(network: beat::Network) -> Network {
    match network {
        beat::Network::Management => Network::Management,
        beat::Network::Tenant => Network::Tenant,
        beat::Network::Storage => Network::Storage,
    }
}

/// Dates a beat by its send time, or `None` for one that is not newer than what was taken.
fn date(
    known: &mut Known,
    beat: &Beat,
    network: Network,
    boot: BootId,
    engine: Uuid,
    now: Mono,
) -> Option<Heard> {
    let last = known.counters.get(&(boot, network)).copied();
    if last.is_some_and(|last| beat.counter <= last) {
        return None;
    }
    known.counters.retain(|(of, _), _| *of == boot || known.row.retired_boots.contains(of));
    known.counters.insert((boot, network), beat.counter);
    let theirs = i64::try_from(beat.counter / 1_000_000).unwrap_or(i64::MAX);
    let ours = i64::try_from(now.0).unwrap_or(i64::MAX);
    let offset = match known.offset {
        Some((of, offset)) if of == boot => offset.min(ours - theirs),
        _ => ours - theirs,
    };
    known.offset = Some((boot, offset));
    let sent = Mono(u64::try_from(theirs + offset).unwrap_or(now.0)).min(now);
    let echoed = beat.echo.is_some_and(|echo| {
        echo.engine == engine
            && known
                .nonces
                .iter()
                .any(|(nonce, given)| *nonce == echo.nonce && now.since(*given) <= NONCE_KEEPS)
    });
    Some(Heard {
        network,
        boot,
        at: sent,
        received: now,
        echoed,
        retired: known.row.retired_boots.contains(&boot),
        storage_write_age: beat.storage_write_age_ms.map(|ms| Duration::from_millis(ms.into())),
        watchdog: Watchdog {
            armed: beat.watchdog.armed,
            nowayout: beat.watchdog.nowayout,
            software: beat.watchdog.software,
            lease_ms: beat.watchdog.lease_ms.into(),
            timeout_ms: u64::from(beat.watchdog.timeout_s) * 1_000,
        },
    })
}

/// A beat's sights are its signer's votes about its neighbours.
fn note_witness(fleet: &mut Fleet, witness: HostId, beat: &Beat, now: Mono) {
    let Some(known) = fleet.hosts.get(&witness) else { return };
    let (name, domain) = (known.row.name.clone(), known.row.domain.rack.clone());
    let mut by_host: Vec<(u64, Option<u32>, bool)> = Vec::new();
    for sight in &beat.sights {
        let storage = sight.network == beat::Network::Storage;
        match by_host.iter_mut().find(|(hash, _, _)| *hash == sight.neighbour) {
            Some((_, age, storage_only)) => {
                if let Some(new) = sight.age_ms {
                    *storage_only = if age.is_none() { storage } else { *storage_only && storage };
                    *age = Some(age.map_or(new, |old| old.min(new)));
                }
            }
            None => by_host.push((sight.neighbour, sight.age_ms, storage)),
        }
    }
    for (hash, age, storage_only) in by_host {
        let heard = age.map(|ms| Duration::from_millis(ms.into()));
        let statement = Witness { name: name.clone(), domain: domain.clone(), at: now, heard, storage_only };
        if let Some(about) = fleet
            .hosts
            .values_mut()
            .find(|known| host_hash(known.row.id.0) == hash && known.row.id != witness)
        {
            about.sight.witness(statement);
        }
    }
}

/// The ack: a fresh nonce, whether the lease may be renewed, what the boot may do, and the ring neighbours on this network.
fn answer(fleet: &mut Fleet, host: HostId, key: &AgentKey, beat: &Beat, engine: Uuid, now: Mono) -> Ack {
    let network = network_of(beat.network);
    let peers = ring(fleet, host, key, network);
    let mut nonce = [0u8; 8];
    rand::rng().fill_bytes(&mut nonce);
    let mut state = HostState::Unknown;
    let (mut fetch_orders, mut renews) = (false, false);
    if let Some(known) = fleet.hosts.get_mut(&host) {
        known.nonces.push_back((nonce, now));
        while known.nonces.len() > NONCES
            || known.nonces.front().is_some_and(|(_, at)| now.since(*at) > NONCE_KEEPS)
        {
            known.nonces.pop_front();
        }
        state = match known.row.admission {
            Admission::In if known.row.boot == Some(BootId(beat.boot)) => HostState::In,
            Admission::In => HostState::Unknown,
            Admission::Admitted => HostState::Admitted,
            Admission::Out => HostState::Out,
        };
        (fetch_orders, renews) = (known.fetch_orders, known.renews);
    }
    Ack {
        engine,
        host: beat.host,
        boot: beat.boot,
        counter: beat.counter,
        network: beat.network,
        nonce,
        fetch_orders,
        renews,
        state,
        peers,
    }
}

/// The two hosts before and the two after this one, in the order of their ids: who watches whom is mutual, since the two share
/// a link. A silent one stays: its neighbours' silence about it is what counts.
fn ring(fleet: &Fleet, host: HostId, key: &AgentKey, network: Network) -> Vec<Peer> {
    let ids: Vec<HostId> =
        fleet.hosts.values().filter(|known| known.key.is_some()).map(|known| known.row.id).collect();
    let Some(place) = ids.iter().position(|id| *id == host) else { return Vec::new() };
    let around =
        [1, ids.len() - 1, 2, ids.len().saturating_sub(2)].map(|step| ids[(place + step) % ids.len()]);
    let mut peers: Vec<Peer> = Vec::new();
    for known in around.iter().filter_map(|id| fleet.hosts.get(id)).filter(|known| known.row.id != host) {
        let (Some(address), Some((_, theirs))) = (known.addresses.get(&network), known.key.as_ref()) else {
            continue;
        };
        let neighbour = host_hash(known.row.id.0);
        if peers.len() < MAX_PEERS && peers.iter().all(|peer| peer.neighbour != neighbour) {
            let link = LinkKey::between((host.0, key), (known.row.id.0, theirs));
            peers.push(Peer { neighbour, address: *address, link });
        }
    }
    peers
}
