//! What all parts of one agent share: identity, clock, what the engines last said, and how deep the host is well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use halberd_types::beat::{AgentKey, HostState, Network, Watchdog};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::clock::Platform;

/// What the agent believes of its standing; for the start gate, the process monitor, tests and the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the engine lets this boot do, as the newest ack says.
    pub state: HostState,
    /// Send time (CLOCK_BOOTTIME, ns) of the newest beat that any engine answered: the lease counts from it.
    pub lease_from_ns: u64,
    /// Acks taken, by engine and network.
    pub acks: BTreeMap<(Uuid, Network), u64>,
    /// Where beats are sent from, by network; filled once bound.
    pub bound: BTreeMap<Network, SocketAddr>,
    /// Is libvirt connected?
    pub libvirt: bool,
    /// Reports accepted since start.
    pub reports_accepted: u64,
}

/// One agent's common ground.
#[derive(Debug)]
pub(crate) struct Context {
    pub host: Uuid,
    pub name: String,
    pub key: AgentKey,
    pub platform: Platform,
    pub status: watch::Sender<Status>,
    /// Woken when an ack says that there are orders.
    pub orders: Notify,
    /// Set first when the agent is killed: no datagram leaves a dead host.
    pub dead: AtomicBool,
    libvirt_ns: AtomicU64,
    storage_ns: AtomicU64,
}

impl Context {
    pub fn new(host: Uuid, name: String, key: AgentKey, platform: Platform) -> Self {
        let status = Status {
            state: HostState::Unknown,
            lease_from_ns: 0,
            acks: BTreeMap::new(),
            bound: BTreeMap::new(),
            libvirt: false,
            reports_accepted: 0,
        };
        Self {
            host,
            name,
            key,
            platform,
            status: watch::Sender::new(status),
            orders: Notify::new(),
            dead: AtomicBool::new(false),
            libvirt_ns: AtomicU64::new(0),
            storage_ns: AtomicU64::new(0),
        }
    }

    pub fn now_ns(&self) -> u64 {
        self.platform.clock.now_ns()
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// libvirt answered just now.
    pub fn libvirt_answered(&self) {
        self.libvirt_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    /// A write to guests' storage came back just now.
    pub fn storage_written(&self) {
        self.storage_ns.store(self.now_ns(), Ordering::Relaxed);
    }

    pub fn libvirt_age_ms(&self) -> Option<u32> {
        self.age(&self.libvirt_ns)
    }

    pub fn storage_age_ms(&self) -> Option<u32> {
        self.age(&self.storage_ns)
    }

    /// No watchdog is fed yet, and an agent attests only what it does.
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::default()
    }

    fn age(&self, at: &AtomicU64) -> Option<u32> {
        let at = at.load(Ordering::Relaxed);
        (at != 0).then(|| crate::host::neighbours::ns_to_ms(self.now_ns().saturating_sub(at)))
    }
}
