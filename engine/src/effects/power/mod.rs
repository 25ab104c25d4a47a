//! Fencing on real devices: opens a host's sealed devices just before they are needed, and checks the right to act before each
//! order goes out (FENCING 2.4).

mod right;
mod words;

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use async_trait::async_trait;
use halberd_core::effect::Done;
use halberd_core::evidence::PowerReading;
use halberd_core::fence::FenceReport;
use halberd_core::id::HostId;
use halberd_fencing as fencing;
use halberd_fencing::{FenceDevices, Limits, Target};
use halberd_store::fence_devices::CheckRow;
use halberd_store::seal::Sealer;
use halberd_store::{Db, fence_devices, fence_drills, hosts, restore_policies, sessions, write};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::clock;
use crate::ports::{Order, Power};
use right::{Deed, Right};
use words::{attempt, ms, on_done, policy_of, policy_word, word};

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

    /// The host with its devices as they are described now.
    async fn open(&self, host: HostId) -> Result<Opened, String> {
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
        let target = Target { host: row.name, levels: devices.levels, expected };
        Ok(Opened { target, version: opened.version })
    }

    /// Devices of this very description that passed a drill.
    async fn drilled(&self, host: HostId, version: i64) -> BTreeSet<String> {
        match fence_drills::of_host(&self.db, host).await {
            Ok(drills) => drills
                .into_iter()
                .filter(|drill| drill.version == version && drill.at.is_some())
                .map(|drill| drill.device)
                .collect(),
            Err(error) => {
                tracing::warn!(%host, %error, "passed drills could not be read; none counts");
                BTreeSet::new()
            }
        }
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

/// A host's devices, opened for one use.
struct Opened {
    target: Target,
    /// Of the description.
    version: i64,
}

impl Opened {
    fn sizes(&self) -> Vec<usize> {
        self.target.levels.iter().map(|level| level.devices.len()).collect()
    }
}

fn say(error: halberd_store::Error) -> String {
    error.to_string()
}

#[async_trait]
impl Power for Devices {
    async fn off(&self, host: HostId, order: Order) -> Result<FenceReport, String> {
        let opened = self.open(host).await?;
        let right = Right { devices: self, host, order, deed: Deed::Off, version: opened.version };
        let report = fencing::off(&opened.target, &self.limits, &right).await;
        let mut attempts: Vec<_> = report.attempts.into_iter().map(attempt).collect();
        // Changed by an act whose answer was lost, it reads as ours now: the record tells.
        if let Ok(former) = restore_policies::list(&self.db, host).await {
            for attempt in &mut attempts {
                attempt.held = attempt.held || former.iter().any(|policy| policy.device == attempt.device);
            }
        }
        Ok(FenceReport { attempts, levels: opened.sizes() })
    }

    async fn on(&self, host: HostId, order: Order) -> Done {
        let opened = match self.open(host).await {
            Ok(opened) => opened,
            Err(text) => return Done::NotExecuted { text },
        };
        let right = Right { devices: self, host, order, deed: Deed::On, version: opened.version };
        let report = fencing::on(&opened.target, &self.limits, &right).await;
        on_done(&report, &opened.sizes())
    }

    async fn restore_policy(&self, host: HostId) -> Done {
        let recorded = match restore_policies::list(&self.db, host).await {
            Ok(recorded) => recorded,
            Err(error) => return Done::NotExecuted { text: error.to_string() },
        };
        if recorded.is_empty() {
            return Done::Accepted { note: "nothing was changed".into() };
        }
        let opened = match self.open(host).await {
            Ok(opened) => opened,
            Err(text) => return Done::NotExecuted { text },
        };
        let (mut given, mut failed) = (Vec::new(), Vec::new());
        for policy in recorded {
            let device = &policy.device;
            let Some(former) = policy_of(&policy.former) else {
                failed.push(format!("{device}: '{}' is no policy that this version knows", policy.former));
                continue;
            };
            match fencing::restore(&opened.target, device, former, &self.limits).await {
                Ok(()) => {
                    let removed =
                        write(&self.db, async |tx| restore_policies::remove(tx, host, device).await).await;
                    match removed {
                        Ok(_) => given.push(format!("{device}: {former}")),
                        Err(error) => failed.push(format!("{device}: given back, not recorded: {error}")),
                    }
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        if failed.is_empty() {
            Done::Accepted { note: given.join("; ") }
        } else {
            Done::NotExecuted { text: failed.join("; ") }
        }
    }

    async fn read(&self, host: HostId) -> Result<PowerReading, String> {
        let opened = self.open(host).await?;
        let target = &opened.target;
        let at = clock::mono();
        let sights = fencing::read(target, &self.limits).await;
        let mut why = Vec::new();
        for sight in sights {
            self.keep_identity(host, target, sight.identity.as_ref()).await;
            match sight.state {
                Ok(_) if sight.identity_matches == Some(false) => {
                    why.push(format!("{}: another machine answers", sight.device))
                }
                Ok(state) => {
                    let identified = sight.identity_matches == Some(true)
                        || sight.stated
                        || self.drilled(host, opened.version).await.contains(&sight.device);
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
        let recorded = sessions::list(&self.db, &self.sealer, host).await.map_err(say)?;
        if recorded.is_empty() {
            return Ok(0);
        }
        let opened = self.open(host).await?;
        // One that cannot be revoked keeps no other alive.
        let mut failed = Vec::new();
        for session in &recorded {
            match fencing::revoke(&opened.target, session.token.expose_secret(), &self.limits).await {
                Ok(()) => {
                    write(&self.db, async |tx| sessions::remove(tx, session.id).await).await.map_err(say)?;
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        if failed.is_empty() { Ok(recorded.len()) } else { Err(failed.join("; ")) }
    }

    async fn check(&self, host: HostId) -> Result<Vec<CheckRow>, String> {
        let opened = self.open(host).await?;
        let drilled = self.drilled(host, opened.version).await;
        let checks = fencing::check(&opened.target, &self.limits).await;
        let mut rows = Vec::new();
        let mut positions: HashMap<usize, u32> = HashMap::new();
        for check in checks {
            self.keep_identity(host, &opened.target, check.identity.as_ref()).await;
            let position = positions.entry(check.level).or_default();
            rows.push(checked(host, *position, check, &drilled));
            *position += 1;
        }
        Ok(rows)
    }
}

/// One device's check as it is stored.
fn checked(host: HostId, position: u32, check: fencing::DeviceCheck, drilled: &BTreeSet<String>) -> CheckRow {
    let drilled = drilled.contains(&check.device);
    let named = check.identity_matches.is_some()
        || check.identity.as_ref().is_some_and(fencing::Identity::names_a_machine);
    // No order would go out (DESIGN 7): that is worse than something to look at.
    let unproved = check.is_ready() && !named && !check.stated && !drilled;
    let warnings: Vec<String> = if drilled && !named {
        check.warnings.into_iter().filter(|warning| !warning.contains(DRILL)).collect()
    } else {
        check.warnings
    };
    let error = check.error.or_else(|| {
        unproved.then(|| {
            format!(
                "{}: gets no order, since which machine it switches is not shown; run a drill (`{DRILL} HOST --really-power-off`), or state the machine's serial in its description",
                check.device
            )
        })
    });
    let text = match (&error, warnings.is_empty()) {
        (Some(error), _) => error.clone(),
        (None, false) => warnings.join("; "),
        (None, true) => "ready".to_owned(),
    };
    CheckRow {
        host,
        level: u32::try_from(check.level.saturating_sub(1)).unwrap_or(0),
        position,
        device: check.device,
        at: clock::stamp(),
        ok: error.is_none(),
        power: check.state.as_ref().map(|state| format!("{state:?}").to_lowercase()),
        text,
        detail: json!({
            "reached": check.reached, "logged_in": check.logged_in, "identity_matches": check.identity_matches,
            "identity": check.identity, "stated": check.stated, "drilled": drilled, "warnings": warnings,
            "would": check.would, "restore_policy": check.restore_policy.map(policy_word), "firmware": check.firmware,
            "latency_ms": check.latency.map(ms),
        }),
    }
}

/// How the fencer's advice to run a drill begins.
const DRILL: &str = "halberd fence test";
