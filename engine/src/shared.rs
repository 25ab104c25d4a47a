//! What the tasks of one engine share.

use std::sync::{Arc, Mutex, MutexGuard};

use halberd_core::id::EngineId;
use halberd_core::lease::Hold;
use halberd_core::policy::Policy;
use halberd_core::time::Mono;
use halberd_store::Db;
use halberd_store::seal::Sealer;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::check;
use crate::collect::fleet::Fleet;
use crate::config::EngineConfig;
use crate::effects::hooks::Hooks;
use crate::engines;
use crate::failpoint::Listener;
use crate::ports::{Cloud, Power};
use crate::rewind;
use crate::runner::calls;
use crate::wishes::{Kept, Seen};

/// One engine.
#[derive(Debug)]
pub struct Shared {
    pub engine: EngineId,
    pub name: String,
    pub db: Db,
    pub sealer: Sealer,
    pub config: EngineConfig,
    pub policy: Policy,
    /// `None`: no `[openstack]` section; everything waits with that reason.
    pub cloud: Option<Arc<dyn Cloud>>,
    pub power: Arc<dyn Power>,
    /// What operators have run beside recoveries.
    pub hooks: Hooks,
    /// Names of the configured webhooks: each event gets a delivery for each.
    pub webhooks: Vec<String>,
    /// The API wrote something an engine should see; a hint, timers find it too.
    pub nudge: Arc<Notify>,
    /// Something was seen or committed that a driver may wait for.
    pub changed: Notify,
    pub stop: CancellationToken,
    pub wishes: Kept,
    pub seen_wishes: Seen,
    /// The other engines, as this one sees them.
    pub engines: engines::Watch,
    pub checks: check::Memory,
    /// What Nova is asked about guests at once.
    pub calls: calls::Account,
    /// What is remembered of the database.
    pub rewind: rewind::Memory,
    /// Who listens at the named places; nobody, in a service.
    pub failpoints: Listener,
    fleet: Mutex<Fleet>,
    hold: Mutex<Option<Hold>>,
}

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    pub name: String,
    pub db: Db,
    pub sealer: Sealer,
    pub config: EngineConfig,
    pub policy: Policy,
    pub cloud: Option<Arc<dyn Cloud>>,
    pub power: Arc<dyn Power>,
    pub hooks: Hooks,
    pub webhooks: Vec<String>,
    pub nudge: Arc<Notify>,
}

impl Shared {
    pub fn new(parts: Parts, engine: EngineId, now: Mono) -> Shared {
        Shared {
            rewind: rewind::Memory::new(parts.config.high_water_file.clone()),
            engine,
            calls: calls::Account::new(parts.policy.evacuations_in_flight),
            name: parts.name,
            db: parts.db,
            sealer: parts.sealer,
            config: parts.config,
            policy: parts.policy,
            cloud: parts.cloud,
            power: parts.power,
            hooks: parts.hooks,
            webhooks: parts.webhooks,
            nudge: parts.nudge,
            changed: Notify::new(),
            stop: CancellationToken::new(),
            wishes: Kept::default(),
            seen_wishes: Seen::default(),
            engines: engines::Watch::default(),
            checks: check::Memory::default(),
            failpoints: None,
            fleet: Mutex::new(Fleet::new(now)),
            hold: Mutex::new(None),
        }
    }

    /// The fleet's memory. Held for moments only, never across an await.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Why nothing is done, while the database shows less than was remembered (I22).
    pub fn reconcile_only(&self) -> Option<String> {
        self.fleet().reconcile_only.clone()
    }

    /// The lease, as far as this engine may rely on it.
    pub fn may_act(&self, now: Mono) -> bool {
        self.term(now).is_some()
    }

    /// The term of the lease as it stands; `None` while there is none to rely on.
    pub fn term(&self, now: Mono) -> Option<u64> {
        let hold = self.hold.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        hold.as_ref().filter(|hold| hold.may_act(now)).map(|hold| hold.term)
    }

    pub fn set_hold(&self, change: impl FnOnce(&mut Option<Hold>)) {
        change(&mut self.hold.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    pub fn renew_due(&self, now: Mono) -> bool {
        let hold = self.hold.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        hold.as_ref().is_none_or(|hold| hold.renew_due(now))
    }
}
