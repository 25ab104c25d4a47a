//! Heartbeats: one socket and one task for each network, so that a dead path delays no other.
//!
//! A beat is never withheld and never waits for anything: not for a disk, not for libvirt, not for an answer. What is ill
//! shows as an age inside the beat. Each engine gets a beat of its own, because each echoes that engine's nonce.

pub(crate) mod deep;
pub(crate) mod neighbours;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use halberd_types::beat::{self, Ack, Beat, Echo, Kind, MAX_LEN, Network, PeerBeat};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::context::{Context, Status};
use neighbours::Neighbours;

/// Pause before an address that is not there yet is tried again; networks come up while agents start.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// One network's part of the host monitor.
#[derive(Debug)]
pub(crate) struct Path {
    pub network: Network,
    pub bind: SocketAddr,
    pub engines: Vec<SocketAddr>,
    pub interval: Duration,
    pub neighbours: Option<Arc<Mutex<Neighbours>>>,
}

/// What was last heard from the engine at one address.
#[derive(Debug)]
struct Heard {
    echo: Echo,
    counter: u64,
}

/// Beats until aborted.
pub(crate) async fn run(context: Arc<Context>, path: Path) {
    let socket = bind(&context, &path).await;
    let mut sender = Sender { context, path, socket, heard: HashMap::new(), turn: 0, failing: false };
    // One byte more than any datagram of ours: a longer one is cut to a length that fits none.
    let mut buffer = [0u8; MAX_LEN + 1];
    let mut tick = interval(sender.path.interval);
    // After a stall one beat, not a burst of them: the backlog would say nothing new.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => sender.beat().await,
            received = sender.socket.recv_from(&mut buffer) => match received {
                Ok((length, from)) => sender.take(&buffer[..length], from),
                Err(error) => {
                    tracing::warn!(network = %sender.path.network, %error, "cannot receive answers to beats");
                    sleep(BIND_RETRY.min(sender.path.interval)).await;
                }
            },
        }
    }
}

async fn bind(context: &Context, path: &Path) -> UdpSocket {
    let mut said = false;
    loop {
        match UdpSocket::bind(path.bind).await {
            Ok(socket) => {
                if let Ok(address) = socket.local_addr() {
                    context.status.send_modify(|s| {
                        s.bound.insert(path.network, address);
                    });
                }
                return socket;
            }
            Err(error) if !said => {
                said = true;
                tracing::warn!(network = %path.network, address = %path.bind, %error, "cannot bind for beats yet; trying on");
            }
            Err(_) => {}
        }
        sleep(BIND_RETRY).await;
    }
}

struct Sender {
    context: Arc<Context>,
    path: Path,
    socket: UdpSocket,
    heard: HashMap<SocketAddr, Heard>,
    turn: u64,
    failing: bool,
}

impl Sender {
    async fn beat(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        let mut failed = None;
        for i in 0..self.path.engines.len() {
            let engine = self.path.engines[i];
            let bytes = self.compose(engine).seal(&self.context.key);
            failed = self.send(&bytes, engine).await.err().or(failed);
        }
        for (address, link) in self.neighbours().map(|n| n.targets(self.path.network)).unwrap_or_default() {
            let beat = PeerBeat {
                host: self.context.host,
                boot: self.context.platform.boot,
                counter: self.context.now_ns(),
                network: self.path.network,
            };
            // A neighbour that is down is the engine's business, not an error here.
            let _ = self.send(&beat.seal(&link), address).await;
        }
        self.log_turn(failed);
    }

    fn compose(&self, engine: SocketAddr) -> Beat {
        let now_ns = self.context.now_ns();
        Beat {
            host: self.context.host,
            boot: self.context.platform.boot,
            counter: now_ns,
            network: self.path.network,
            echo: self.heard.get(&engine).map(|h| h.echo),
            watchdog: self.context.watchdog(),
            libvirt_age_ms: self.context.libvirt_age_ms(),
            storage_write_age_ms: self.context.storage_age_ms(),
            sights: self.neighbours().map(|n| n.sights(now_ns, self.turn)).unwrap_or_default(),
        }
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) -> std::io::Result<()> {
        if self.context.is_dead() {
            return Ok(());
        }
        self.socket.send_to(bytes, to).await.map(drop)
    }

    fn take(&mut self, bytes: &[u8], from: SocketAddr) {
        match beat::kind(bytes) {
            Ok(Kind::Ack) => self.take_ack(bytes, from),
            Ok(Kind::Peer) => {
                let now_ns = self.context.now_ns();
                if let Some(mut n) = self.neighbours() {
                    n.hear(self.path.network, bytes, now_ns);
                }
            }
            _ => {}
        }
    }

    fn take_ack(&mut self, bytes: &[u8], from: SocketAddr) {
        let context = &self.context;
        let Ok(ack) = Ack::open(bytes, &context.key, context.host, context.platform.boot) else { return };
        let now_ns = context.now_ns();
        let newer = self.heard.get(&from).is_none_or(|h| ack.counter > h.counter);
        // A replay, or an answer to a beat that was never sent.
        if !newer
            || ack.counter > now_ns
            || ack.network != self.path.network
            || !self.path.engines.contains(&from)
        {
            return;
        }
        let echo = Echo { engine: ack.engine, nonce: ack.nonce };
        self.heard.insert(from, Heard { echo, counter: ack.counter });
        if let Some(mut n) = self.neighbours() {
            n.assign(ack.network, &ack.peers, now_ns);
        }
        context.status.send_modify(|status| note(status, &ack));
        if ack.fetch_orders {
            context.orders.notify_one();
        }
    }

    fn neighbours(&self) -> Option<MutexGuard<'_, Neighbours>> {
        self.path.neighbours.as_ref().map(|n| n.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One line when a path breaks and one when it works again, not one a second.
    fn log_turn(&mut self, failed: Option<std::io::Error>) {
        match (&failed, self.failing) {
            (Some(error), false) => {
                tracing::warn!(network = %self.path.network, %error, "beats cannot be sent");
            }
            (None, true) => tracing::info!(network = %self.path.network, "beats are sent again"),
            _ => {}
        }
        self.failing = failed.is_some();
    }
}

/// The newest ack of any engine says what this boot may do; one that does not know yet changes nothing.
fn note(status: &mut Status, ack: &Ack) {
    if ack.counter >= status.lease_from_ns && ack.state != beat::HostState::Unknown {
        status.state = ack.state;
    }
    status.lease_from_ns = status.lease_from_ns.max(ack.counter);
    *status.acks.entry((ack.engine, ack.network)).or_default() += 1;
}

/// Reads what the kernel knows of this machine's identity.
pub(crate) fn identity(name: &str) -> halberd_types::report::IdentityPayload {
    let read = |file: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/dmi/id/{file}")).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.chars().take(255).collect())
    };
    halberd_types::report::IdentityPayload {
        hostname: name.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        serial: read("product_serial"),
        system_uuid: read("product_uuid"),
    }
}
