//! What every handler has in its hands. Cheap to clone; nothing in it changes but the watch over engines.

use std::ops::Deref;
use std::sync::Arc;

use chrono::Utc;
use halberd_core::audit::Entry;
use halberd_core::time::Stamp;
use halberd_openstack::{Keystone, Nova};
use halberd_store::{Db, Sealer, Tx, audit};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::auth::Auth;
use crate::config::{ApiConfig, AuthMode, ConfigError};
use crate::health::EngineWatch;
use crate::policy::Policy;
use crate::project_id::ProjectIds;

/// What the program that composes us brings.
#[derive(Debug)]
pub struct Parts {
    pub config: ApiConfig,
    pub db: Db,
    /// Seals fence devices' secrets and agents' keys before they reach the database (DESIGN 10.11).
    pub sealer: Sealer,
    /// For the tokens that callers show; `None` only with `auth = "none"`.
    pub keystone: Option<Keystone>,
    /// `None`: there is no `[openstack]`; creating a host is then answered with 503.
    pub nova: Option<Nova>,
    /// Wakes the engine of this process; without one nobody listens.
    pub nudge: Arc<Notify>,
    /// Names of the configured webhooks: each gets a delivery row for every event.
    pub webhooks: Vec<String>,
}

/// The API's state.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

/// The fields of [`App`], which dereferences to them.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inner {
    pub config: ApiConfig,
    pub db: Db,
    pub sealer: Sealer,
    pub auth: Auth,
    /// Who may do what.
    pub policy: Arc<Policy>,
    /// `WWW-Authenticate` of a 401.
    pub(crate) challenge: String,
    pub(crate) project_ids: ProjectIds,
    pub nova: Option<Nova>,
    pub nudge: Arc<Notify>,
    pub webhooks: Vec<String>,
    pub started: Stamp,
    /// The audit chain of this process, for what belongs to no recovery (DESIGN 10.12).
    pub audit_chain: String,
    pub engines: EngineWatch,
}

impl Deref for App {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl App {
    /// # Errors
    /// Settings that cannot stand, see [`ApiConfig::check`]; a policy file that cannot; `auth = "keystone"` without a Keystone.
    pub fn new(parts: Parts) -> Result<App, ConfigError> {
        parts.config.check()?;
        let policy = parts.config.policy()?;
        for warning in policy.warnings() {
            tracing::warn!(file = ?parts.config.policy_file, "[api] policy_file: {warning}");
        }
        let auth = match (parts.config.auth, parts.keystone) {
            (AuthMode::None, _) => Auth::None,
            (AuthMode::Keystone, Some(keystone)) => Auth::Keystone(keystone),
            (AuthMode::Keystone, None) => return Err(ConfigError::NoKeystone),
        };
        Ok(App(Arc::new(Inner {
            challenge: auth.challenge(&parts.config),
            policy: Arc::new(policy),
            project_ids: parts.config.project_ids()?,
            config: parts.config,
            db: parts.db,
            sealer: parts.sealer,
            auth,
            nova: parts.nova,
            nudge: parts.nudge,
            webhooks: parts.webhooks,
            started: clock(),
            audit_chain: audit::api_chain(Uuid::new_v4()),
            engines: EngineWatch::default(),
        })))
    }

    /// The wall clock: for display and for the row, never for a decision (I23).
    pub fn now(&self) -> Stamp {
        clock()
    }

    /// Tells the engine of this process that there is work: all who wait, and who looks next. Others find it with their poll.
    pub fn nudge(&self) {
        self.nudge.notify_waiters();
        self.nudge.notify_one();
    }

    /// Appends to this process' audit chain, inside the transaction of what it tells of.
    ///
    /// # Errors
    /// The store's.
    pub async fn audit(&self, tx: &mut Tx, entry: Entry, now: Stamp) -> halberd_store::Result<()> {
        audit::append(tx, &self.audit_chain, 0, &[entry], now).await
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place of the API that knows the time")]
fn clock() -> Stamp {
    Stamp(Utc::now().timestamp_micros())
}
