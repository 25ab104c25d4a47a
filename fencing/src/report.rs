//! What goes into an act and what comes out of it.
//!
//! A report holds facts: which device, which machine it said it was, what it answered, what it read and when. One
//! [`Attempt`] is one session: identity, order and readings in it belong together, and nothing from another session
//! can complete them.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::device::Level;
use crate::power::{Expected, Identity, PowerState, RestorePolicy};

/// A host with its fence devices.
#[derive(Debug, Clone)]
pub struct Target {
    /// The host's name, for messages.
    pub host: String,
    pub levels: Vec<Level>,
    /// Who it must be.
    pub expected: Expected,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderAnswer {
    Accepted,
    /// The device said that the power was off already, and read so.
    AlreadyOff,
    /// The device said that the power was on already ([`crate::on`]).
    AlreadyOn,
    /// Nothing was sent; [`Attempt::error`] says why.
    NotSent,
    /// A clear no.
    Refused(String),
    /// It may have been carried out.
    Unknown(String),
}

impl OrderAnswer {
    /// True if readings from now on may count.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted | Self::AlreadyOff | Self::AlreadyOn)
    }
}

/// One reading of the power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub state: PowerState,
    /// When it was asked for, since the act began, on the monotonic clock. The state is at least this fresh.
    pub at: Duration,
    /// Asked for after this session's order was accepted (or answered "already").
    pub after_order: bool,
}

/// One session with one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1, as operators do.
    pub level: usize,
    /// Kind and address; no secret.
    pub device: String,
    /// By what the session can be revoked ([`crate::revoke`]); `None` if it cannot.
    pub token: Option<String>,
    pub identity: Option<Identity>,
    /// `None`: nothing on file, or the device cannot say.
    pub identity_matches: Option<bool>,
    /// The device cannot name the machine; that it switches this one stands on the operator's word (`serial` of its
    /// description), which does not contradict what is on file.
    #[serde(default)]
    pub stated: bool,
    pub order: OrderAnswer,
    /// Orders sent in this session.
    pub orders: u32,
    pub readings: Vec<Reading>,
    /// The restore policy as it was before this act had it changed to "always off": set when the change was sent, whether
    /// or not its answer came. Whoever lets the host back in puts it back ([`crate::restore`]).
    #[serde(default)]
    pub held: Option<RestorePolicy>,
    /// The last thing that went wrong.
    pub error: Option<String>,
    /// What else deserves telling; nothing here stood in the way of the act.
    #[serde(default)]
    pub notes: Vec<String>,
    pub took: Duration,
}

/// Everything an act did and saw, in the order in which sessions were begun.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceReport {
    pub attempts: Vec<Attempt>,
}

/// One look at the power without any order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    pub level: usize,
    pub device: String,
    pub identity: Option<Identity>,
    pub identity_matches: Option<bool>,
    /// As [`Attempt::stated`].
    #[serde(default)]
    pub stated: bool,
    /// The state, or why there is none.
    pub state: Result<PowerState, String>,
    /// When the state was asked for, since the call began.
    pub at: Duration,
}

/// Whether a device could fence if it had to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceCheck {
    pub level: usize,
    pub device: String,
    /// It answered.
    pub reached: bool,
    /// It let us in.
    pub logged_in: bool,
    pub identity: Option<Identity>,
    pub identity_matches: Option<bool>,
    /// As [`Attempt::stated`]; warned about.
    #[serde(default)]
    pub stated: bool,
    pub state: Option<PowerState>,
    /// From the first packet to the power reading; `None` if it did not come so far.
    pub latency: Option<Duration>,
    /// The dry run: what an off would send through this device as it was just seen, in one line without any secret. `None` if
    /// nothing would go out.
    #[serde(default)]
    pub would: Option<String>,
    /// What the machine does when its supply returns, where the device says so.
    #[serde(default)]
    pub restore_policy: Option<RestorePolicy>,
    /// Firmware of the device itself, where it says so.
    #[serde(default)]
    pub firmware: Option<String>,
    /// It cannot fence as it is, and why.
    pub error: Option<String>,
    /// It can, but somebody should look.
    pub warnings: Vec<String>,
}

impl DeviceCheck {
    /// True if nothing stands in the way of a fence.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.error.is_none()
    }
}

/// The engine's last word before each order.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Called after the session is open and identified, before every order. `Err` says why everything stops (the epoch
    /// is lost, the act was cancelled); no further order goes out in this act. The engine records `token` here, so that a
    /// successor can revoke the session. The device's controller is held meanwhile: do not call this package for it from
    /// here.
    async fn may_send(&self, device: &str, token: Option<&str>) -> Result<(), String>;

    /// Called once per session, before the first [`Gate::may_send`], with what the device said of its machine. A
    /// contradiction never comes here, it is refused before; `matches` is `None` where nothing could be compared: then the
    /// engine knows whether a passed drill or an operator's word stands in for it. `Err` refuses this device alone.
    async fn accepts(
        &self,
        _device: &str,
        _seen: Option<&Identity>,
        _matches: Option<bool>,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Called at most once per session of an off act, between the first and the second Off reading, if the machine would
    /// start by itself when its supply returns: may that be changed to "always off" while the host is fenced? `former` is what to put
    /// back later ([`crate::restore`]). `Err` leaves it as it is; so does an answer that takes longer than the pause between
    /// the readings, so a record made here may be of a change that was never sent: [`Attempt::held`] says.
    async fn hold(&self, _device: &str, _former: RestorePolicy) -> Result<(), String> {
        Err("not wanted".to_owned())
    }
}
