//! The engine's last word before each order: is it still ours to give, and does it go to a device that switches this machine?

use std::time::Duration;

use async_trait::async_trait;
use halberd_core::id::HostId;
use halberd_fencing as fencing;
use halberd_fencing::{Gate, RestorePolicy};
use halberd_store::restore_policies::{self, FormerPolicy};
use halberd_store::sessions::{self, Session};
use halberd_store::{fence_drills, intents, recoveries, rewind, write};
use secrecy::SecretString;
use uuid::Uuid;

use super::{Devices, policy_word};
use crate::clock;
use crate::ports::Order;

/// What was read of the right to act is good for so long, as the facts of a draft are (F60). A process that stood still for longer is aborted
/// ([`crate::stall`]); here it is a database that answers late.
const CHECK_KEEPS: Duration = Duration::from_secs(5);

/// What is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Off,
    On,
}

/// The right to one act on one host.
pub(super) struct Right<'a> {
    pub(super) devices: &'a Devices,
    pub(super) host: HostId,
    pub(super) order: Order,
    pub(super) deed: Deed,
    /// Of the host's devices as they were opened for this act.
    pub(super) version: i64,
}

#[async_trait]
impl Gate for Right<'_> {
    /// A device that named the machine is known by that. One that cannot switches this machine as far as a drill of these very devices
    /// has shown; without one no order goes out (DESIGN 7). An operator's stated mapping does not come here, the fencer knows it.
    async fn accepts(
        &self,
        device: &str,
        _: Option<&fencing::Identity>,
        matches: Option<bool>,
    ) -> Result<(), String> {
        if matches == Some(true) || self.order.drill {
            return Ok(());
        }
        let drilled = fence_drills::standing(&self.devices.db, self.host, device, self.version)
            .await
            .map_err(|error| format!("whether {device} was drilled could not be read: {error}"))?;
        match (drilled, self.deed) {
            (Some(true), _) => Ok(()),
            // What a drill switched off through this device, whatever it was, is switched on again through it.
            (Some(false), Deed::On) => Ok(()),
            _ => Err(format!(
                "{device} does not show which machine it switches, and no drill of it passed: run one (`halberd fence test HOST --really-power-off`), or state the machine's serial in its description"
            )),
        }
    }

    async fn may_send(&self, device: &str, token: Option<&str>) -> Result<(), String> {
        if let Some(token) = token {
            let session = Session {
                id: Uuid::new_v4(),
                host: self.host,
                device: device.to_owned(),
                token: SecretString::from(token.to_owned()),
                recovery: Some(self.order.recovery),
                at: clock::stamp(),
            };
            let recorded =
                write(&self.devices.db, async |tx| sessions::add(tx, &self.devices.sealer, &session).await)
                    .await;
            recorded.map_err(|error| format!("the BMC session could not be recorded: {error}"))?;
        }
        let began = clock::mono();
        let now = recoveries::get(&self.devices.db, self.order.recovery)
            .await
            .map_err(|error| format!("the right to act could not be checked: {error}"))?;
        if !now.is_open() {
            return Err("its recovery has closed".into());
        }
        if now.owner != Some(self.order.engine) || now.epoch != self.order.epoch {
            return Err("another engine has taken the recovery over".into());
        }
        // Both look into the database and not into this engine's memory: an order takes long, and what is true when a level begins need not be
        // when its last device is reached.
        if rewind::stands(&self.devices.db)
            .await
            .map_err(|error| format!("the right to act could not be checked: {error}"))?
        {
            return Err(format!("reconcile-only: {}", crate::rewind::WAY_OUT));
        }
        match intents::get(&self.devices.db, self.order.intent).await {
            Ok(intent) if intent.resolved_at.is_none() => {}
            Ok(_) => return Err("its intent is resolved".into()),
            Err(error) => return Err(format!("the intent it rests on is not to be read: {error}")),
        }
        if self.order.drill {
            let begun = write(&self.devices.db, async |tx| {
                fence_drills::begin(tx, self.host, device, self.version, self.order.recovery).await
            });
            begun.await.map_err(|error| format!("the drill could not be recorded: {error}"))?;
        }
        if clock::mono().since(began) > CHECK_KEEPS {
            return Err(
                "the right to act was read too long ago: the database is slow, or this process stood still"
                    .into(),
            );
        }
        Ok(())
    }

    /// What the controller was set to is durable before it is changed (I7).
    async fn hold(&self, device: &str, former: RestorePolicy) -> Result<(), String> {
        let policy = FormerPolicy {
            host: self.host,
            device: device.to_owned(),
            former: policy_word(former).to_owned(),
            at: clock::stamp(),
        };
        write(&self.devices.db, async |tx| restore_policies::record(tx, &policy).await)
            .await
            .map_err(|error| format!("its former policy could not be recorded: {error}"))
    }
}
