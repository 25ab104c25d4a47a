//! The doors to the world. Everything an engine does outside its database goes through one of these.

use std::fmt::Debug;

use async_trait::async_trait;
use halberd_core::effect::{Done, Effect, Query, ServiceRow};
use halberd_core::evidence::PowerReading;
use halberd_core::fence::FenceReport;
use halberd_core::id::{EngineId, HostId, RecoveryId};
use halberd_core::runner::Sight;
use halberd_store::fence_devices::CheckRow;
use uuid::Uuid;

/// OpenStack.
#[async_trait]
pub trait Cloud: Send + Sync + Debug {
    /// Performs an effect whose intent is committed; `intent` becomes the request id Nova logs.
    async fn perform(&self, effect: &Effect, intent: Uuid) -> Done;
    /// Answers a question, or says in words why it cannot.
    async fn ask(&self, query: &Query) -> Result<Sight, String>;
    /// All compute services.
    async fn services(&self) -> Result<Vec<ServiceRow>, String>;
    /// The machines that a bare-metal service of this cloud owns; none where there is no such service.
    async fn owned_machines(&self) -> Result<Vec<OwnedMachine>, Untold>;
    /// Requests sent so far, Keystone's included.
    fn requests_sent(&self) -> u64;
}

/// A machine of which another service believes that it is its own: it may switch it on behind our back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedMachine {
    /// Its name there, or its id.
    pub name: String,
    /// That service keeps its hands off it.
    pub maintenance: bool,
    /// Addresses of its controller, as they are written there: URLs, names, `host:port`.
    pub addresses: Vec<String>,
    /// Its id within a controller of several machines.
    pub system: Option<String>,
    /// Serial numbers and UUIDs that are on record for it.
    pub identities: Vec<String>,
}

/// Why it is not known what others own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untold {
    /// Our user may not see it; how that is mended.
    Forbidden(String),
    /// No answer now.
    Unanswered(String),
}

/// Who orders a machine off, and the right to it that is checked again in the last moment.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub recovery: RecoveryId,
    pub engine: EngineId,
    pub epoch: i64,
    /// Written before it: an order whose intent the database does not show (any more) does not go out.
    pub intent: Uuid,
    /// A device that cannot name its machine may be tried out (DESIGN 7).
    pub drill: bool,
}

/// The fence devices.
#[async_trait]
pub trait Power: Send + Sync + Debug {
    /// Orders off through all levels and reads back.
    async fn off(&self, host: HostId, order: Order) -> Result<FenceReport, String>;
    /// Orders on, level by level, until one reads On; how it went in words. Never repeated blindly.
    async fn on(&self, host: HostId, order: Order) -> Done;
    /// Gives the host's controllers the power-restore policy back that was recorded before it was changed.
    async fn restore_policy(&self, host: HostId) -> Done;
    /// One reading with identity.
    async fn read(&self, host: HostId) -> Result<PowerReading, String>;
    /// Ends the sessions recorded for the host.
    async fn revoke(&self, host: HostId) -> Result<usize, String>;
    /// Looks whether every device of the host could fence, as it is to be stored.
    async fn check(&self, host: HostId) -> Result<Vec<CheckRow>, String>;
}
