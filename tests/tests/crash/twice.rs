//! The engine's doors with one effect repeated: its first answer is lost, or it is performed twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use halberd_core::effect::{Done, Effect, Query, ServiceRow};
use halberd_core::evidence::PowerReading;
use halberd_core::fence::FenceReport;
use halberd_core::id::HostId;
use halberd_core::runner::Sight;
use halberd_engine::ports::{Cloud, Order, OwnedMachine, Power, Untold};
use halberd_store::fence_devices::CheckRow;
use uuid::Uuid;

/// How an effect is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was done and nobody knows: what follows is the engine's own idea.
    AnswerLost,
    /// It is done, and at once a second time; the second answer counts.
    Twice,
}

/// Which effect, the first time it goes out.
#[derive(Debug)]
pub struct Repeat {
    pub effect: &'static str,
    pub how: How,
    gone_out: AtomicUsize,
}

impl Repeat {
    pub fn new(effect: &'static str, how: How) -> Arc<Repeat> {
        Arc::new(Repeat { effect, how, gone_out: AtomicUsize::new(0) })
    }

    /// How often it went out through these doors.
    pub fn gone_out(&self) -> usize {
        self.gone_out.load(Ordering::Relaxed)
    }

    fn now(&self, effect: &str) -> Option<How> {
        (effect == self.effect && self.gone_out.fetch_add(1, Ordering::Relaxed) == 0).then_some(self.how)
    }
}

/// A door.
#[derive(Debug)]
pub struct Repeated<D> {
    pub inner: D,
    pub repeat: Option<Arc<Repeat>>,
}

const LOST: &str = "the answer was lost";

impl<D> Repeated<D> {
    fn now(&self, effect: &str) -> Option<How> {
        self.repeat.as_ref()?.now(effect)
    }
}

#[async_trait]
impl<D: Cloud> Cloud for Repeated<D> {
    async fn perform(&self, effect: &Effect, intent: Uuid) -> Done {
        let first = self.inner.perform(effect, intent).await;
        match self.now(effect.word()) {
            None => first,
            Some(How::AnswerLost) => Done::Unknown { text: LOST.into() },
            Some(How::Twice) => self.inner.perform(effect, intent).await,
        }
    }

    async fn ask(&self, query: &Query) -> Result<Sight, String> {
        self.inner.ask(query).await
    }

    async fn services(&self) -> Result<Vec<ServiceRow>, String> {
        self.inner.services().await
    }

    async fn owned_machines(&self) -> Result<Vec<OwnedMachine>, Untold> {
        self.inner.owned_machines().await
    }

    fn requests_sent(&self) -> u64 {
        self.inner.requests_sent()
    }
}

#[async_trait]
impl<D: Power> Power for Repeated<D> {
    async fn off(&self, host: HostId, order: Order) -> Result<FenceReport, String> {
        let first = self.inner.off(host, order).await;
        match self.now("power_off") {
            None => first,
            Some(How::AnswerLost) => Err(LOST.into()),
            Some(How::Twice) => self.inner.off(host, order).await,
        }
    }

    async fn on(&self, host: HostId, order: Order) -> Done {
        let first = self.inner.on(host, order).await;
        match self.now("power_on") {
            None => first,
            Some(How::AnswerLost) => Done::Unknown { text: LOST.into() },
            Some(How::Twice) => self.inner.on(host, order).await,
        }
    }

    async fn restore_policy(&self, host: HostId) -> Done {
        let first = self.inner.restore_policy(host).await;
        match self.now("restore_policy") {
            None => first,
            Some(How::AnswerLost) => Done::Unknown { text: LOST.into() },
            Some(How::Twice) => self.inner.restore_policy(host).await,
        }
    }

    async fn read(&self, host: HostId) -> Result<PowerReading, String> {
        self.inner.read(host).await
    }

    async fn revoke(&self, host: HostId) -> Result<usize, String> {
        let first = self.inner.revoke(host).await;
        match self.now("revoke_sessions") {
            None => first,
            Some(How::AnswerLost) => Err(LOST.into()),
            Some(How::Twice) => self.inner.revoke(host).await,
        }
    }

    async fn check(&self, host: HostId) -> Result<Vec<CheckRow>, String> {
        self.inner.check(host).await
    }
}
