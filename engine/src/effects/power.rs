//! Fencing on real devices: opens a host's sealed devices just before they are needed, and checks the right to act before each
//! order goes out (FENCING 2.4).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;
use halberd_core::evidence::{Power as Word, PowerReading};
use halberd_core::fence::{DeviceAttempt, FenceReport, OrderAnswer, Reading};
use halberd_core::id::HostId;
use halberd_fencing as fencing;
use halberd_fencing::{FenceDevices, Gate, Limits, PowerState, Target};
use halberd_store::fence_devices::CheckRow;
use halberd_store::seal::Sealer;
use halberd_store::sessions::Session;
use halberd_store::{Db, fence_devices, hosts, recoveries, sessions, write};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::clock;
use crate::ports::{Order, Power};

/// The devices in the database.
#[derive(Debug)]
pub struct Devices {
    db: Db,
    sealer: Sealer,
    limits: Limits,
    /// Identity first seen in this process, for hosts with nothing on file: one reading must agree with the next.
    seen: Mutex<HashMap<HostId, String>>,
}

impl Devices {
    pub fn new(db: Db, sealer: Sealer, limits: Limits) -> Devices {
        Devices { db, sealer, limits, seen: Mutex::new(HashMap::new()) }
    }

    async fn target(&self, host: HostId) -> Result<Target, String> {
        let say = |error: halberd_store::Error| error.to_string();
        let row = hosts::get(&self.db, host).await.map_err(say)?.value;
        let opened = fence_devices::open(&self.db, &self.sealer, host).await.map_err(say)?;
        let opened = opened.ok_or_else(|| {
            format!(
                "{} has no fence device; set one with PUT /halberd/v1/hosts/{host}/fence-devices",
                row.name
            )
        })?;
        let devices =
            FenceDevices::parse(opened.levels.expose_secret()).map_err(|error| error.to_string())?;
        let expected = fencing::Expected { serial: row.serial, uuid: row.machine };
        Ok(Target { host: row.name, levels: devices.levels, expected })
    }

    /// What is not on file is taken from the first identity seen, and compared from then on (DESIGN 7).
    async fn keep_identity(&self, host: HostId, target: &Target, identity: Option<&fencing::Identity>) {
        let expected = &target.expected;
        let is_news = |identity: &fencing::Identity| {
            expected.uuid.is_none() && identity.uuid.is_some()
                || expected.serial.is_none() && identity.serial.is_some()
        };
        let contradicts = |identity: &&fencing::Identity| expected.compare(identity) == Some(false);
        let Some(identity) = identity
            .filter(|identity| is_news(identity) && identity.names_a_machine() && !contradicts(identity))
        else {
            return;
        };
        let text = identity.to_string();
        let new = self.seen.lock().map(|mut seen| seen.insert(host, text.clone()).is_none()).unwrap_or(false);
        if !new {
            return;
        }
        let (serial, uuid) = (identity.serial.clone(), identity.uuid);
        let kept =
            write(&self.db, async |tx| hosts::keep_identity(tx, host, serial.as_deref(), uuid).await).await;
        match kept {
            Ok(()) => tracing::warn!(
                host = target.host,
                identity = text,
                "not all of it was on file: the identity first seen is kept; compare it with the machine's label"
            ),
            Err(error) => tracing::warn!(host = target.host, %error, "the BMC's identity could not be kept"),
        }
    }
}

fn word(state: &PowerState) -> Word {
    match state {
        PowerState::On => Word::On,
        PowerState::Off => Word::Off,
        PowerState::Other(other) => Word::Other(other.clone()),
    }
}

/// The engine's last word before each order: is the recovery still ours, under this epoch?
struct Right<'a> {
    devices: &'a Devices,
    host: HostId,
    order: Order,
}

#[async_trait]
impl Gate for Right<'_> {
    /// A device that cannot name the machine, with nothing to compare it with, gets no order (DESIGN 7).
    async fn accepts(
        &self,
        device: &str,
        _: Option<&fencing::Identity>,
        matches: Option<bool>,
    ) -> Result<(), String> {
        match matches {
            Some(true) => Ok(()),
            _ => Err(format!(
                "{device} does not show which machine it switches, or neither serial nor UUID is on file for this host"
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
        let now = recoveries::get(&self.devices.db, self.order.recovery)
            .await
            .map_err(|error| format!("the right to act could not be checked: {error}"))?;
        if now.owner == Some(self.order.engine) && now.epoch == self.order.epoch {
            Ok(())
        } else {
            Err("another engine has taken the recovery over".into())
        }
    }
}

fn attempt(seen: fencing::Attempt) -> DeviceAttempt {
    let order = match seen.order {
        fencing::OrderAnswer::Accepted => OrderAnswer::Accepted,
        fencing::OrderAnswer::AlreadyOff => OrderAnswer::AlreadyOff,
        fencing::OrderAnswer::NotSent => OrderAnswer::NotSent,
        fencing::OrderAnswer::AlreadyOn => OrderAnswer::Refused("it answered 'already on' to an off".into()),
        fencing::OrderAnswer::Refused(text) => OrderAnswer::Refused(text),
        fencing::OrderAnswer::Unknown(text) => OrderAnswer::Unknown(text),
    };
    let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    DeviceAttempt {
        // The fencer counts levels from 1, as operators do.
        level: seen.level.saturating_sub(1),
        device: seen.device,
        token: None,
        identity_matches: seen.identity_matches,
        order,
        readings: seen
            .readings
            .iter()
            .map(|reading| Reading {
                power: word(&reading.state),
                at_ms: ms(reading.at),
                after_order: reading.after_order,
            })
            .collect(),
        error: seen.error,
        took_ms: ms(seen.took),
    }
}

#[async_trait]
impl Power for Devices {
    async fn off(&self, host: HostId, order: Order) -> Result<FenceReport, String> {
        let target = self.target(host).await?;
        let levels = target.levels.iter().map(|level| level.devices.len()).collect();
        let right = Right { devices: self, host, order };
        let report = fencing::off(&target, &self.limits, &right).await;
        Ok(FenceReport { attempts: report.attempts.into_iter().map(attempt).collect(), levels })
    }

    async fn read(&self, host: HostId) -> Result<PowerReading, String> {
        let target = self.target(host).await?;
        let at = clock::mono();
        let sights = fencing::read(&target, &self.limits).await;
        let mut why = Vec::new();
        for sight in sights {
            self.keep_identity(host, &target, sight.identity.as_ref()).await;
            match sight.state {
                Ok(_) if sight.identity_matches == Some(false) => {
                    why.push(format!("{}: another machine answers", sight.device))
                }
                Ok(state) => {
                    let identified = sight.identity_matches == Some(true);
                    return Ok(PowerReading {
                        at: at + sight.at,
                        power: word(&state),
                        identified,
                        device: sight.device,
                    });
                }
                Err(error) => why.push(format!("{}: {error}", sight.device)),
            }
        }
        Err(if why.is_empty() { "no device answered".into() } else { why.join("; ") })
    }

    async fn revoke(&self, host: HostId) -> Result<usize, String> {
        let say = |error: halberd_store::Error| error.to_string();
        let recorded = sessions::list(&self.db, &self.sealer, host).await.map_err(say)?;
        if recorded.is_empty() {
            return Ok(0);
        }
        let target = self.target(host).await?;
        for session in &recorded {
            fencing::revoke(&target, session.token.expose_secret(), &self.limits)
                .await
                .map_err(|error| error.to_string())?;
            write(&self.db, async |tx| sessions::remove(tx, session.id).await).await.map_err(say)?;
        }
        Ok(recorded.len())
    }

    async fn check(&self, host: HostId) -> Result<Vec<String>, String> {
        let target = self.target(host).await?;
        let began = Instant::now();
        let checks = fencing::check(&target, &self.limits).await;
        let mut findings = Vec::new();
        let mut positions: HashMap<usize, u32> = HashMap::new();
        for check in checks {
            self.keep_identity(host, &target, check.identity.as_ref()).await;
            let position = positions.entry(check.level).or_default();
            let text = match (&check.error, check.warnings.is_empty()) {
                (Some(error), _) => error.clone(),
                (None, false) => check.warnings.join("; "),
                (None, true) => "ready".to_owned(),
            };
            let row = CheckRow {
                host,
                level: u32::try_from(check.level.saturating_sub(1)).unwrap_or(0),
                position: *position,
                device: check.device.clone(),
                at: clock::stamp(),
                ok: check.is_ready(),
                power: check.state.as_ref().map(|state| format!("{state:?}").to_lowercase()),
                text: text.clone(),
                detail: json!({
                    "reached": check.reached, "logged_in": check.logged_in, "identity_matches": check.identity_matches,
                    "identity": check.identity, "warnings": check.warnings,
                    "latency_ms": check.latency.map(|span| span.as_millis() as u64), "took_ms": began.elapsed().as_millis() as u64,
                }),
            };
            *position += 1;
            findings.push(format!("{}: {text}", check.device));
            write(&self.db, async |tx| fence_devices::record_check(tx, &row).await.map(|_| ()))
                .await
                .map_err(|error| error.to_string())?;
        }
        Ok(findings)
    }
}
