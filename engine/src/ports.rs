//! The doors to the world. Everything an engine does outside its database goes through one of these.

use std::fmt::Debug;

use async_trait::async_trait;
use halberd_core::effect::{Done, Effect, Query, ServiceRow};
use halberd_core::evidence::PowerReading;
use halberd_core::fence::FenceReport;
use halberd_core::id::{EngineId, HostId, RecoveryId};
use halberd_core::runner::Sight;
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
    /// Requests sent so far, Keystone's included.
    fn requests_sent(&self) -> u64;
}

/// Who orders a machine off, and the right to it that is checked again in the last moment.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub recovery: RecoveryId,
    pub engine: EngineId,
    pub epoch: i64,
}

/// The fence devices.
#[async_trait]
pub trait Power: Send + Sync + Debug {
    /// Orders off through all levels and reads back.
    async fn off(&self, host: HostId, order: Order) -> Result<FenceReport, String>;
    /// One reading with identity.
    async fn read(&self, host: HostId) -> Result<PowerReading, String>;
    /// Ends the sessions recorded for the host.
    async fn revoke(&self, host: HostId) -> Result<usize, String>;
    /// Checks every device of the host; the answer is stored, the findings are returned in words.
    async fn check(&self, host: HostId) -> Result<Vec<String>, String>;
}
