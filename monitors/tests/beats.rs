//! Beats over real sockets: an engine's listener that verifies and answers, two neighbours, a death.

#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{HOST, boot, config, key, until};
use halberd_monitors::Agent;
use halberd_types::beat::*;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use uuid::Uuid;

const ENGINE: Uuid = Uuid::from_u128(0xe1);
const PATIENCE: Duration = Duration::from_secs(60);

struct Engine {
    socket: UdpSocket,
}

impl Engine {
    async fn listen() -> (Engine, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        (Engine { socket }, address)
    }

    async fn beat_of(&self, key: &AgentKey) -> (Beat, SocketAddr) {
        let mut buffer = [0; 300];
        let (n, from) = timeout(PATIENCE, self.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        (Beat::open(&buffer[..n], key).unwrap(), from)
    }

    async fn ack(
        &self,
        beat: &Beat,
        to: SocketAddr,
        key: &AgentKey,
        change: impl FnOnce(&mut Ack),
    ) -> [u8; 8] {
        let mut ack = Ack {
            engine: ENGINE,
            host: beat.host,
            boot: beat.boot,
            counter: beat.counter,
            network: beat.network,
            nonce: *Uuid::new_v4().as_bytes().first_chunk().unwrap(),
            fetch_orders: false,
            renews: true,
            state: HostState::In,
            peers: vec![],
        };
        change(&mut ack);
        self.socket.send_to(&ack.seal(key), to).await.unwrap();
        ack.nonce
    }
}

fn network(name: &str) -> String {
    format!("[[networks]]\nname = '{name}'\nbind = '127.0.0.1:0'\n")
}

fn agent(engine: SocketAddr) -> String {
    format!("engines = ['{engine}']\nbeat_interval_ms = 20")
}

#[tokio::test]
async fn a_beat_is_signed_answered_and_echoed() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, address) = Engine::listen().await;
    let handle =
        Agent::start_on(config(dir.path(), &agent(address), &network("storage")), boot(1)).await.unwrap();
    let (first, from) = engine.beat_of(&key()).await;
    assert_eq!((first.host, first.boot, first.network), (HOST, Uuid::from_u128(1), Network::Storage));
    assert_eq!((first.echo, first.watchdog, first.libvirt_age_ms), (None, Watchdog::default(), None));
    let nonce = engine.ack(&first, from, &key(), |_| ()).await;
    let mut last = first.counter;
    loop {
        let (beat, _) = engine.beat_of(&key()).await;
        assert!(beat.counter > last, "the counter grows");
        last = beat.counter;
        if let Some(echo) = beat.echo {
            assert_eq!(echo, Echo { engine: ENGINE, nonce });
            break;
        }
    }
    until(&mut handle.status(), "state in", |s| s.state == HostState::In && s.lease_from_ns == first.counter)
        .await;
}

#[tokio::test]
async fn false_answers_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, address) = Engine::listen().await;
    let (stranger, _) = Engine::listen().await;
    let handle =
        Agent::start_on(config(dir.path(), &agent(address), &network("tenant")), boot(1)).await.unwrap();
    let (beat, from) = engine.beat_of(&key()).await;
    let out = |a: &mut Ack| a.state = HostState::Out;
    // Another host's key; from no engine's address; for another boot; from the future; for another network.
    engine.ack(&beat, from, &AgentKey::from_bytes([8; 32]), out).await;
    stranger.ack(&beat, from, &key(), out).await;
    engine.ack(&Beat { boot: Uuid::nil(), ..beat.clone() }, from, &key(), out).await;
    engine.ack(&Beat { counter: u64::MAX, ..beat.clone() }, from, &key(), out).await;
    engine.ack(&Beat { network: Network::Storage, ..beat.clone() }, from, &key(), out).await;
    let good = engine.ack(&beat, from, &key(), |a| a.state = HostState::Admitted).await;
    // A replay of an answer to an older beat comes too late.
    engine.ack(&Beat { counter: beat.counter - 1, ..beat.clone() }, from, &key(), out).await;
    let mut status = handle.status();
    until(&mut status, "the good answer", |s| s.state == HostState::Admitted).await;
    let (mut echoed, mut beats) = (0, 0);
    while echoed < 3 {
        beats += 1;
        assert!(beats < 1000);
        if let Some(echo) = engine.beat_of(&key()).await.0.echo {
            assert_eq!(echo.nonce, good);
            echoed += 1;
        }
    }
    assert_eq!(status.borrow().state, HostState::Admitted);
    assert_eq!(status.borrow().acks[&(ENGINE, Network::Tenant)], 1);
}

#[tokio::test]
async fn neighbours_become_witnesses_and_a_death_shows_in_their_beats() {
    let (dir_a, dir_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (engine, address) = Engine::listen().await;
    let b_host = Uuid::from_u128(0xb0b);
    let b_key = AgentKey::from_bytes([9; 32]);
    let a = Agent::start_on(config(dir_a.path(), &agent(address), &network("management")), boot(1))
        .await
        .unwrap();
    let b_config = config(dir_b.path(), &agent(address), &network("management"));
    let file = KeyFile { host: b_host, hostname: "compute-2".into(), key: b_key.clone() };
    std::fs::write(dir_b.path().join("key"), file.render()).unwrap();
    let b = Agent::start_on(b_config, boot(2)).await.unwrap();
    let link = LinkKey::between((HOST, &key()), (b_host, &b_key));
    let mut at = std::collections::HashMap::new();
    let mut a = Some(a);
    let mut ages = Vec::new();
    loop {
        let mut buffer = [0; 300];
        let (n, from) = timeout(PATIENCE, engine.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        let claim = Beat::claim(&buffer[..n]).unwrap();
        let (own, other_host) = match claim.host {
            HOST => (key(), b_host),
            _ => (b_key.clone(), HOST),
        };
        let beat = Beat::open(&buffer[..n], &own).unwrap();
        at.insert(beat.host, from);
        let peers = |a: &mut Ack| {
            a.peers = at
                .get(&other_host)
                .map(|address| Peer { neighbour: host_hash(other_host), address: *address, link })
                .into_iter()
                .collect();
        };
        engine.ack(&beat, from, &own, peers).await;
        if beat.host != b_host {
            continue;
        }
        let sight = beat.sights.first().filter(|s| s.neighbour == host_hash(HOST));
        if let Some(age) = sight.and_then(|s| s.age_ms) {
            assert_eq!(sight.unwrap().network, Network::Management);
            match a.take() {
                Some(handle) => handle.kill_and_wait().await,
                None => ages.push(age),
            }
        }
        // After the death the age only grows; twenty beats of 20 ms make it exceed what a living neighbour shows.
        if ages.len() > 20 {
            break;
        }
    }
    // The first few may still show a datagram that was under way at the death.
    let tail = &ages[5..];
    assert!(tail.windows(2).all(|w| w[0] <= w[1]), "{ages:?}");
    assert!(tail[tail.len() - 1] > tail[0], "{ages:?}");
    drop(b);
}

#[tokio::test]
async fn a_killed_agent_is_silent_and_its_successor_is_another_boot() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, address) = Engine::listen().await;
    let config = config(dir.path(), &agent(address), &network("management"));
    let first = Agent::start_on(config.clone(), boot(1)).await.unwrap();
    engine.beat_of(&key()).await;
    first.kill_and_wait().await;
    // Take what was under way; then nothing is left, and only the next boot is heard.
    let mut buffer = [0; 300];
    while engine.socket.try_recv_from(&mut buffer).is_ok() {}
    let _second = Agent::start_on(config, boot(2)).await.unwrap();
    assert_eq!(engine.beat_of(&key()).await.0.boot, Uuid::from_u128(2));
}

#[tokio::test]
async fn a_deep_beat_shows_storage() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, address) = Engine::listen().await;
    let deep = format!("[deep]\nstorage_file = '{}/beat'\ninterval = 0.05\n", dir.path().display());
    let config = config(dir.path(), &agent(address), &(deep + &network("management")));
    let _agent = Agent::start_on(config, boot(1)).await.unwrap();
    let mut beats = 0;
    while engine.beat_of(&key()).await.0.storage_write_age_ms.is_none() {
        beats += 1;
        assert!(beats < 1000, "no write is ever reported");
    }
}
