//! A host's fence devices in their levels: what the engine calls.
//!
//! Levels are Pacemaker's: all devices of a level must confirm, else the next level. Two things differ. A level that has
//! had its time is still read while the next one works beside it, since a slow power off is no failed one. And a level
//! that shares its controller with an earlier one takes it over: the hung request is dropped first (`pace`).

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::agent::Agent;
use crate::device::{Device, Kind};
use crate::drive::{self, Act, End, Goal};
use crate::error::FenceError;
use crate::ipmi::Ipmi;
use crate::limits::Limits;
use crate::pace;
use crate::power::{Expected, Findings, Identity, PowerDevice, PowerSession, PowerState, RestorePolicy};
use crate::redfish::Redfish;
use crate::report::{DeviceCheck, FenceReport, Gate, Sight, Target};
use crate::secret::{self, Referring};

/// Accounts as they come from the factory.
const FACTORY: [(&str, &str); 11] = [
    ("root", "calvin"),
    ("root", "0penBmc"),
    ("root", "root"),
    ("root", "changeme"),
    ("admin", "admin"),
    ("admin", "password"),
    ("ADMIN", "ADMIN"),
    ("USERID", "PASSW0RD"),
    ("Administrator", "password"),
    ("sysadmin", "superuser"),
    ("apc", "apc"),
];

/// The driver of a described device. Its secrets, where they are references, are looked up at each opening.
pub(crate) fn connect(
    device: &Device,
    expected: &Expected,
    limits: &Limits,
) -> Result<Box<dyn PowerDevice>, FenceError> {
    if device.has_references() {
        let (device, expected, limits) = (device.clone(), expected.clone(), limits.clone());
        return Ok(Box::new(Referring { device, expected, limits }));
    }
    driver(device, expected, limits)
}

/// The driver of a device whose secrets are at hand.
pub(crate) fn driver(
    device: &Device,
    expected: &Expected,
    limits: &Limits,
) -> Result<Box<dyn PowerDevice>, FenceError> {
    Ok(match device.kind {
        Kind::Redfish => Box::new(Redfish::new(device, expected, limits)?),
        Kind::Ipmi => Box::new(Ipmi::new(device, limits)?),
        Kind::Agent => Box::new(Agent::new(device, limits)),
        Kind::Watchdog => {
            return Err(FenceError::Unsupported {
                device: device.name(),
                detail: "a watchdog takes no orders: it proves death by the expiry of its lease, which the engine observes".into(),
            });
        }
    })
}

/// Orders the host off through its levels and reports everything that was seen. Returns when a level has confirmed, the
/// gate has closed, or every level has had its time. Never fails: what went wrong is in the report.
pub async fn off(target: &Target, limits: &Limits, gate: &dyn Gate) -> FenceReport {
    act(target, limits, gate, Goal::Off).await
}

/// Orders the host on, level by level, until one reads On.
pub async fn on(target: &Target, limits: &Limits, gate: &dyn Gate) -> FenceReport {
    act(target, limits, gate, Goal::On).await
}

async fn act(target: &Target, limits: &Limits, gate: &dyn Gate, goal: Goal) -> FenceReport {
    let (hopeless, mut hopeless_levels) = mpsc::unbounded_channel();
    let act = Act::new(target, limits, gate, goal, hopeless);
    let time = match goal {
        Goal::Off => limits.level,
        Goal::On => limits.on,
    };
    {
        let mut running = FuturesUnordered::new();
        let mut started = 0;
        let mut deadline = act.began;
        let (mut start_next, mut extended) = (true, false);
        loop {
            if std::mem::take(&mut start_next) && started < target.levels.len() {
                running.push(level(&act, started));
                started += 1;
                deadline = Instant::now() + time;
            }
            let last = started == target.levels.len();
            tokio::select! {
                ended = running.next() => match ended {
                    Some((_, End::Confirmed)) => break,
                    _ if act.stopped() => break,
                    Some((number, End::Failed | End::Stopped)) => start_next = number == started,
                    None if last => break,
                    None => start_next = true,
                },
                Some(number) = hopeless_levels.recv() => start_next = number == started,
                () = sleep_until(deadline) => {
                    if !last {
                        start_next = true;
                    } else if act.is_near() && !std::mem::replace(&mut extended, true) {
                        // It has read Off once: to stop short of the second reading would be a pity.
                        deadline += limits.min_interval + limits.request;
                    } else {
                        break;
                    }
                }
            }
        }
        // What still runs may end its sessions; a request that hangs is dropped with its future.
        act.stop();
        let rest = async { while running.next().await.is_some() {} };
        let _ = timeout(limits.close, rest).await;
    }
    FenceReport { attempts: act.into_attempts() }
}

/// All devices of a level; their number counts from 1.
async fn level(act: &Act<'_>, index: usize) -> (usize, End) {
    let number = index + 1;
    let devices = &act.target.levels[index].devices;
    let mut running: FuturesUnordered<_> = devices.iter().map(|d| drive::device(act, number, d)).collect();
    let mut all = if devices.is_empty() { End::Failed } else { End::Confirmed };
    while let Some(end) = running.next().await {
        if end != End::Confirmed && all == End::Confirmed {
            all = end;
            // One device short, this level cannot confirm any more. The others go on: off is off.
            act.give_up(number);
        }
    }
    (number, all)
}

/// One reading of the power with identity, level by level until one answers. No order goes out. A machine that is not
/// the expected one answers with an error in its [`Sight::state`].
pub async fn read(target: &Target, limits: &Limits) -> Vec<Sight> {
    let began = Instant::now();
    let mut sights = Vec::new();
    for (index, level) in target.levels.iter().enumerate() {
        let looks = join_all(level.devices.iter().map(|d| look(target, d, limits, began, false))).await;
        let answered = looks.iter().all(|l| l.state.is_ok());
        sights.extend(looks.into_iter().map(|l| Sight {
            level: index + 1,
            device: l.device,
            identity: l.identity,
            identity_matches: l.identity_matches,
            stated: l.stated,
            state: l.state.map_err(|e| e.to_string()),
            at: l.at,
        }));
        if answered {
            break;
        }
    }
    sights
}

/// Whether each device could fence, all levels at once. Never changes the power.
pub async fn check(target: &Target, limits: &Limits) -> Vec<DeviceCheck> {
    let devices =
        target.levels.iter().enumerate().flat_map(|(l, level)| level.devices.iter().map(move |d| (l + 1, d)));
    join_all(devices.map(|(level, device)| check_device(target, level, device, limits))).await
}

async fn check_device(target: &Target, level: usize, device: &Device, limits: &Limits) -> DeviceCheck {
    let seen = look(target, device, limits, Instant::now(), true).await;
    let resolved = secret::resolve(device, limits, &secret::environment).await;
    let mut warnings = described(target, resolved.as_ref().unwrap_or(device));
    drop(resolved);
    warnings.extend(seen.findings.warnings);
    // A device that does not tell it is not warned about: nobody could change that, and `restore_policy` shows it.
    if seen.restore_policy == Some(RestorePolicy::AlwaysOn) {
        warnings.push(format!(
            "power restore policy is {}: the machine starts by itself when its supply returns; set it to {}",
            RestorePolicy::AlwaysOn,
            RestorePolicy::AlwaysOff
        ));
    }
    if seen.logged_in && seen.state.is_ok() && seen.identity_matches.is_none() {
        let drill = format!("halberd fence test {} --really-power-off", target.host);
        let serial = device.serial.as_deref().unwrap_or_default();
        warnings.push(match (seen.stated, &seen.identity) {
            (true, _) => format!(
                "the device cannot name its machine; that it is the one with serial {serial} stands on the operator's word, so run a drill: {drill}"
            ),
            (false, Some(_)) => {
                "which machine is behind this device is not proved (nothing on file to compare with)".to_owned()
            }
            (false, None) => format!(
                "which machine is behind this device is not proved (the device cannot name it); run a drill, {drill}, or state the machine's `serial` in the description"
            ),
        });
    }
    let fault = seen.findings.faults.into_iter().next().map(|f| format!("{}: {f}", seen.device));
    let unreached = |e: &FenceError| {
        matches!(
            e,
            FenceError::Unreachable { .. }
                | FenceError::Silent { .. }
                | FenceError::Killed { .. }
                | FenceError::Superseded { .. }
                | FenceError::Secret { .. }
        )
    };
    let reached = seen.logged_in || seen.state.as_ref().err().is_some_and(|e| !unreached(e));
    DeviceCheck {
        level,
        device: seen.device,
        reached,
        logged_in: seen.logged_in,
        identity: seen.identity,
        identity_matches: seen.identity_matches,
        stated: seen.stated,
        would: seen.would,
        restore_policy: seen.restore_policy,
        firmware: seen.findings.firmware,
        latency: seen.state.is_ok().then_some(seen.latency),
        error: seen.state.as_ref().err().map(ToString::to_string).or(fault),
        state: seen.state.ok(),
        warnings,
    }
}

/// What deserves a warning in the description alone.
fn described(target: &Target, device: &Device) -> Vec<String> {
    use secrecy::ExposeSecret;
    let mut warnings = Vec::new();
    if device.kind == Kind::Redfish && device.address.as_deref().is_some_and(|a| a.starts_with("http://")) {
        warnings.push("http:// sends the password in clear; use https://".to_owned());
    }
    if device.tls.as_ref().is_some_and(|t| t.insecure) {
        warnings.push("tls.insecure accepts any certificate; set tls.fingerprint or tls.ca_file".to_owned());
    }
    let account = (device.username.as_deref(), device.password.as_ref().map(ExposeSecret::expose_secret));
    if let (Some(username), Some(password)) = account
        && (FACTORY.contains(&(username, password)) || username == password)
    {
        warnings.push("the account still has a factory password; change it".to_owned());
    }
    if drive::expected(target, device).is_empty() {
        warnings.push(
            "no serial or UUID on file for this host; set it, so that the wrong machine is never ordered off"
                .to_owned(),
        );
    }
    warnings
}

struct Look {
    device: String,
    identity: Option<Identity>,
    identity_matches: Option<bool>,
    stated: bool,
    would: Option<String>,
    restore_policy: Option<RestorePolicy>,
    state: Result<PowerState, FenceError>,
    at: Duration,
    logged_in: bool,
    latency: Duration,
    findings: Findings,
}

/// Opens a session, identifies, reads, perhaps inspects, closes; all within `limits.probe`.
async fn look(target: &Target, device: &Device, limits: &Limits, began: Instant, inspect: bool) -> Look {
    let mut look = Look {
        device: device.name(),
        identity: None,
        identity_matches: None,
        stated: false,
        would: None,
        restore_policy: None,
        state: Err(FenceError::Silent { device: device.name(), what: "a probe".into(), after: limits.probe }),
        at: Duration::ZERO,
        logged_in: false,
        latency: Duration::ZERO,
        findings: Findings::default(),
    };
    let started = Instant::now();
    let _ = timeout(limits.probe, look.fill(target, device, limits, began, inspect)).await;
    if look.latency.is_zero() {
        look.latency = started.elapsed();
    }
    look
}

impl Look {
    async fn fill(
        &mut self,
        target: &Target,
        device: &Device,
        limits: &Limits,
        began: Instant,
        inspect: bool,
    ) {
        let lane = pace::lane(&device.bmc_key());
        let superseded = |_| FenceError::Superseded { device: device.name() };
        let power = match connect(device, &drive::expected(target, device), limits) {
            Ok(power) => power,
            Err(error) => {
                self.state = Err(error);
                return;
            }
        };
        let opened = lane.run(0, limits.yield_after, power.open()).await.map_err(superseded);
        let mut session = match opened.and_then(|o| o) {
            Ok(session) => session,
            Err(error) => {
                self.state = Err(error);
                return;
            }
        };
        self.logged_in = true;
        let work = self.ask(target, device, began, session.as_mut(), inspect);
        if let Err(preempted) = lane.run(0, limits.yield_after, work).await.map_err(superseded) {
            self.state = Err(preempted);
        }
        let _ = lane.run(0, limits.yield_after, session.close()).await;
    }

    async fn ask(
        &mut self,
        target: &Target,
        device: &Device,
        began: Instant,
        session: &mut dyn PowerSession,
        inspect: bool,
    ) {
        let started = Instant::now();
        match session.identify().await {
            Ok(identity) => self.identity = identity,
            Err(error) => {
                self.state = Err(error);
                return;
            }
        }
        (self.identity_matches, self.stated) = drive::standing(target, device, self.identity.as_ref());
        if self.identity_matches == Some(false) {
            self.state = Err(drive::wrong_machine(target, device, self.identity.as_ref()));
            return;
        }
        self.at = began.elapsed();
        self.state = session.read().await;
        self.latency = started.elapsed();
        (self.would, self.restore_policy) = (session.would(), session.restore_policy());
        if inspect && self.state.is_ok() {
            match session.inspect().await {
                Ok(findings) => {
                    self.findings = findings;
                    let made_by = self.findings.manufacturer.take();
                    if let Some(identity) = &mut self.identity {
                        identity.manufacturer = identity.manufacturer.take().or(made_by);
                    }
                }
                Err(error) => self.findings.faults.push(error.to_string()),
            }
        }
        if let Ok(state @ PowerState::Other(_)) = &self.state {
            self.findings.faults.push(format!("power reads {state}; while it does, no off can be proved"));
        }
        self.findings.warnings.extend(session.note());
    }
}

/// Puts back the restore policy that an act changed ([`crate::Attempt::held`]), on the device with this name
/// ([`crate::Attempt::device`]). The machine's identity is compared in the same session first. What reads neither "always off" nor
/// `former` was set by somebody else since, and is left to him.
pub async fn restore(
    target: &Target,
    device: &str,
    former: RestorePolicy,
    limits: &Limits,
) -> Result<(), FenceError> {
    let devices = target.levels.iter().flat_map(|l| &l.devices);
    let Some(found) = devices.into_iter().find(|d| d.name() == device) else {
        let detail = format!(
            "no device {device} of this host any more; set the power restore policy to {former} on the machine itself"
        );
        return Err(FenceError::Config { device: target.host.clone(), detail });
    };
    let silent =
        || FenceError::Silent { device: device.to_owned(), what: "a change".into(), after: limits.probe };
    timeout(limits.probe, put_back(target, found, former, limits)).await.unwrap_or_else(|_| Err(silent()))
}

async fn put_back(
    target: &Target,
    device: &Device,
    former: RestorePolicy,
    limits: &Limits,
) -> Result<(), FenceError> {
    let lane = pace::lane(&device.bmc_key());
    let superseded = |_| FenceError::Superseded { device: device.name() };
    let power = connect(device, &drive::expected(target, device), limits)?;
    let mut session = lane.run(0, limits.yield_after, power.open()).await.map_err(superseded)??;
    let work = async {
        let identity = session.identify().await?;
        if drive::standing(target, device, identity.as_ref()).0 == Some(false) {
            return Err(drive::wrong_machine(target, device, identity.as_ref()));
        }
        session.read().await?;
        match session.restore_policy() {
            Some(now) if now == former || now != RestorePolicy::AlwaysOff => Ok(()),
            _ => session.set_restore_policy(former).await,
        }
    };
    let done = lane.run(0, limits.yield_after, work).await.map_err(superseded).and_then(|done| done);
    let _ = lane.run(0, limits.yield_after, session.close()).await;
    done
}

/// Ends a session that a former owner recorded ([`crate::Attempt::token`]). One that is gone is ended.
pub async fn revoke(target: &Target, token: &str, limits: &Limits) -> Result<(), FenceError> {
    for device in target.levels.iter().flat_map(|l| &l.devices).filter(|d| d.kind == Kind::Redfish) {
        if Redfish::new(device, &target.expected, limits)?.owns(token) {
            let device = &secret::resolve(device, limits, &secret::environment).await?;
            let redfish = Redfish::new(device, &target.expected, limits)?;
            let lane = pace::lane(&device.bmc_key());
            let done = lane.run(1, limits.yield_after, redfish.revoke(token)).await;
            return done.unwrap_or_else(|_| Err(FenceError::Superseded { device: device.name() }));
        }
    }
    Err(FenceError::Config {
        device: target.host.clone(),
        detail: format!(
            "no redfish device of this host has the session {token}; it was removed or has another address"
        ),
    })
}

#[cfg(test)]
mod tests;
