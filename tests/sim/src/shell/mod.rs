//! Sockets around a [`World`]: the simulated cloud as a network sees it, in real time.
//!
//! One HTTP server speaks Keystone, Nova, Placement, ironic where it has nodes (and an empty Neutron); each host's BMC has a listener of its own, Redfish over HTTP
//! or IPMI v2.0 over UDP. All answers take as long as the world says, without holding its lock.

mod baremetal;
mod endpoint;
mod http;
mod identity;
mod ipmi;
mod keystone;
mod nova;
mod placement;
mod redfish;
mod userland;
mod wire;

pub use endpoint::{BmcEndpoint, Login};
pub use userland::UserLand;

use crate::fault::Fault;
use crate::reply::Reply;
use crate::spec::{BmcKind, WorldSpec};
use crate::world::{Credentials, World};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest the world is left to itself between two looks, so that what happens by itself is seen soon.
const TICK: Duration = Duration::from_millis(20);

/// What all listeners share.
#[derive(Debug)]
pub(crate) struct Shared {
    world: Mutex<World>,
    started: Instant,
    stop: CancellationToken,
    deeds: watch::Sender<usize>,
    /// Further services of the catalog: type, name, address.
    registered: Mutex<Vec<(String, String, String)>>,
    /// Each host's BMC; set once, when all of them listen.
    bmcs: OnceLock<HashMap<String, BmcEndpoint>>,
}

impl Shared {
    pub(crate) fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registered(&self) -> Vec<(String, String, String)> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn bmc(&self, host: &str) -> Option<&BmcEndpoint> {
        self.bmcs.get()?.get(host)
    }

    /// Runs `f` on the world, at the present time.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut World, u64) -> T) -> T {
        let mut world = self.lock();
        let now = self.now();
        let result = f(&mut world, now);
        let deeds = world.history().len();
        drop(world);
        self.deeds.send_if_modified(|seen| std::mem::replace(seen, deeds) != deeds);
        result
    }

    /// Asks the world and waits as long as its answer takes.
    pub(crate) async fn ask<T, E>(&self, f: impl FnOnce(&mut World, u64) -> Reply<T, E>) -> Result<T, E> {
        let reply = self.with(f);
        if reply.after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(reply.after_ms)).await;
        }
        reply.answer
    }
}

/// A running simulated cloud. It ends when dropped.
#[derive(Debug)]
pub struct Cloud {
    shared: Arc<Shared>,
    http: SocketAddr,
}

impl Cloud {
    /// Builds the world and opens all its sockets on loopback.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    pub async fn start(spec: WorldSpec) -> std::io::Result<Self> {
        Self::around(World::new(spec)).await
    }

    /// Opens sockets around a world that was built (and perhaps changed) before.
    ///
    /// # Errors
    /// When a socket cannot be bound.
    #[expect(clippy::disallowed_methods, reason = "the socket shell runs in real time")]
    pub async fn around(mut world: World) -> std::io::Result<Self> {
        let names = world.host_names();
        let kinds: Vec<BmcKind> = names.iter().map(|name| world.bmc_kind(name)).collect();
        let accounts: Vec<BmcEndpoint> = names.iter().map(|name| BmcEndpoint::of(&mut world, name)).collect();
        let begun = world.now();
        // Clients compare a token's end with their own clock.
        world.set_epoch(chrono::Utc::now().timestamp() - (begun / 1_000) as i64);
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            started: Instant::now().checked_sub(Duration::from_millis(begun)).unwrap_or_else(Instant::now),
            stop: CancellationToken::new(),
            deeds: watch::Sender::new(0),
            registered: Mutex::default(),
            bmcs: OnceLock::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let http = listener.local_addr()?;
        http::serve(listener, http::router(shared.clone(), http), shared.clone());
        let mut bmcs = HashMap::new();
        for ((name, kind), mut endpoint) in names.into_iter().zip(kinds).zip(accounts) {
            endpoint.address = match kind {
                BmcKind::None => continue,
                BmcKind::Redfish => {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    let address = listener.local_addr()?;
                    http::serve(listener, redfish::router(shared.clone(), name.clone()), shared.clone());
                    address
                }
                BmcKind::Ipmi => {
                    let socket = UdpSocket::bind("127.0.0.1:0").await?;
                    let address = socket.local_addr()?;
                    tokio::spawn(ipmi::run(socket, shared.clone(), name.clone()));
                    address
                }
            };
            bmcs.insert(name, endpoint);
        }
        let _ = shared.bmcs.set(bmcs);
        tokio::spawn(tick(shared.clone()));
        Ok(Self { shared, http })
    }

    /// Milliseconds since the start: the world's time.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// The world, locked: look, change, let go soon. Nothing answers meanwhile.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.shared.lock();
        world.advance(self.shared.now());
        world
    }

    /// Runs `f` on the world at the present time.
    pub fn with<T>(&self, f: impl FnOnce(&mut World, u64) -> T) -> T {
        self.shared.with(f)
    }

    /// Makes something go wrong, now.
    pub fn inject(&self, fault: Fault) {
        self.shared.with(|world, now| world.inject(now, fault));
    }

    /// Changes whenever the world's history grows; the value is its length.
    pub fn deeds(&self) -> watch::Receiver<usize> {
        self.shared.deeds.subscribe()
    }

    /// Waits until the world is as wanted.
    pub async fn until(&self, mut wanted: impl FnMut(&mut World) -> bool) {
        let mut deeds = self.deeds();
        loop {
            if self.shared.with(|world, now| {
                world.advance(now);
                wanted(world)
            }) {
                return;
            }
            // Not every wanted thing is a deed (a service is called down by time alone).
            let _ = tokio::time::timeout(TICK, deeds.changed()).await;
        }
    }

    /// Keystone, with `/v3`.
    pub fn keystone_url(&self) -> String {
        format!("http://{}/identity/v3", self.http)
    }

    /// What a client needs to log in as one of Keystone's users: `admin`, `halberd` (admin), `monitor` (service), `manager`, `tenant`
    /// (member), `auditor` (reader). `None` for others.
    pub fn login(&self, user: &str) -> Option<Login> {
        let world = self.shared.lock();
        let Credentials::Password { user, password, project } = world.credentials(user)? else { return None };
        let Credentials::ApplicationCredential { id, secret } = world.application_credential(&user)? else {
            return None;
        };
        Some(Login {
            auth_url: self.keystone_url(),
            username: user,
            password,
            project_name: project?,
            domain_name: "Default".into(),
            application_credential_id: id,
            application_credential_secret: secret,
        })
    }

    /// Puts a service into Keystone's catalog, or gives it another address. `$(project_id)s` in it stands for the project of whoever asks.
    pub fn register(&self, kind: &str, name: &str, url: &str) {
        let mut registered = self.shared.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.retain(|(known, _, _)| known != kind);
        registered.push((kind.into(), name.into(), url.into()));
    }

    /// Nova, with `/v2.1`.
    pub fn nova_url(&self) -> String {
        format!("http://{}/compute/v2.1", self.http)
    }

    /// Placement.
    pub fn placement_url(&self) -> String {
        format!("http://{}/placement", self.http)
    }

    /// Names of all hosts, in order.
    pub fn host_names(&self) -> Vec<String> {
        self.shared.lock().host_names()
    }

    /// How to reach a host's BMC; `None` for a host without one.
    pub fn bmc(&self, host: &str) -> Option<&BmcEndpoint> {
        self.shared.bmc(host)
    }

    /// Closes everything; also done by dropping it.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets the world go on when nobody asks it anything.
async fn tick(shared: Arc<Shared>) {
    loop {
        let next = shared.with(|world, now| {
            world.advance(now);
            world.next_due().map(|due| due.saturating_sub(now))
        });
        let wait = next.map_or(TICK, |ms| Duration::from_millis(ms.max(1)).min(TICK));
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
