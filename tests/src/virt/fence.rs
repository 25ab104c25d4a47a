//! A fence act on the simulated BMC, step by step in virtual time, by the rules of the product's fencer: identity in the same
//! session before any order, the gate before each order, reads a second apart, three orders at most, fifteen seconds a level.

use halberd_core::effect::Done;
use halberd_core::evidence::{Power, PowerReading};
use halberd_core::fence::{DeviceAttempt, FenceReport, OrderAnswer, Reading};
use halberd_sim::{BmcKind, BmcRefusal, Restore, RestorePolicy, World};

use super::sim::mono;

const LEVEL_MS: u64 = 15_000;
const POLL_MS: u64 = 1_000;
const REORDER_MS: u64 = 5_000;
const SILENCE_MS: u64 = 5_000;

/// One act under way.
#[derive(Debug)]
pub struct Act {
    pub host: String,
    /// What is on file.
    pub serial: Option<String>,
    began: u64,
    session: Option<halberd_sim::world::BmcSession>,
    ordered_at: Option<u64>,
    orders: u32,
    /// Orders that left, answered or not.
    pub sent: u32,
    attempt: DeviceAttempt,
    /// The restore policy that was changed, for the row that has to remember it.
    pub former: Option<RestorePolicy>,
}

/// What an act does next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Step again then.
    At(u64),
    Ended,
}

impl Act {
    pub fn new(host: &str, serial: Option<String>, now: u64) -> Act {
        let attempt = DeviceAttempt {
            level: 0,
            device: format!("bmc of {host}"),
            token: None,
            identity_matches: None,
            stated: false,
            held: false,
            order: OrderAnswer::NotSent,
            readings: Vec::new(),
            error: None,
            took_ms: 0,
        };
        Act {
            host: host.to_owned(),
            serial,
            began: now,
            session: None,
            ordered_at: None,
            orders: 0,
            sent: 0,
            attempt,
            former: None,
        }
    }

    pub fn report(&self, world: &World) -> FenceReport {
        let devices = usize::from(world.bmc_kind(&self.host) != BmcKind::None);
        let devices = devices.max(usize::from(self.attempt.error.is_some()));
        FenceReport { attempts: vec![self.attempt.clone()], levels: vec![devices] }
    }

    pub fn readings(&self) -> usize {
        self.attempt.readings.len()
    }

    pub fn last_reading(&self) -> Option<Power> {
        self.attempt.readings.last().map(|reading| reading.power.clone())
    }

    /// An order went out, as far as anybody can know.
    pub fn was_ordered(&self) -> bool {
        self.attempt.order != OrderAnswer::NotSent
    }

    /// Its session was ended by somebody else.
    pub fn revoked(&mut self) {
        self.session = None;
    }

    fn refused(&mut self, why: BmcRefusal, now: u64) -> Next {
        self.attempt.error = Some(format!("{why:?}"));
        match why {
            BmcRefusal::BadCredentials => Next::Ended,
            BmcRefusal::SessionGone => {
                self.session = None;
                self.again(now + POLL_MS)
            }
            BmcRefusal::Busy => self.again(now + POLL_MS),
            BmcRefusal::Silence => self.again(now + SILENCE_MS),
        }
    }

    /// Off and hold: a machine that would start by itself when its supply comes back is told not to, between the two readings.
    fn hold(&mut self, world: &mut World, now: u64, session: halberd_sim::world::BmcSession) {
        if world.bmc_shown_restore(&self.host) != Restore::Settable(RestorePolicy::AlwaysOn) {
            return;
        }
        self.former = Some(RestorePolicy::AlwaysOn);
        self.attempt.held = true;
        let _ = world.bmc_set_restore(now, &self.host, session, RestorePolicy::AlwaysOff);
    }

    fn again(&self, at: u64) -> Next {
        if at > self.began + LEVEL_MS { Next::Ended } else { Next::At(at) }
    }

    /// One step. `may_send` is the engine's last word: the epoch is still its own.
    /// `lie`: the next reading shows the contrary.
    pub fn step(&mut self, world: &mut World, now: u64, may_send: bool, lie: bool) -> Next {
        let host = self.host.clone();
        if world.bmc_kind(&host) == BmcKind::None {
            self.attempt.device = format!("watchdog of {host}");
            self.attempt.error = Some("a watchdog takes no orders".into());
            return Next::Ended;
        }
        let Some(session) = self.session else {
            let (user, password) = world.bmc_credentials(&host);
            let reply = world.bmc_open(now, &host, &user, &password);
            return match reply.answer {
                Ok(session) => {
                    self.session = Some(session);
                    self.again(now + reply.after_ms)
                }
                Err(why) => self.refused(why, now + reply.after_ms),
            };
        };
        if self.attempt.identity_matches.is_none() {
            let reply = world.bmc_identity(now, &host, session);
            return match reply.answer {
                Err(why) => self.refused(why, now + reply.after_ms),
                Ok(identity) => {
                    let matches = self.serial.as_ref().is_none_or(|serial| *serial == identity.serial);
                    self.attempt.identity_matches = Some(matches);
                    if !matches {
                        self.attempt.error =
                            Some(format!("expected {:?}, found {}", self.serial, identity.serial));
                        return Next::Ended;
                    }
                    self.again(now + reply.after_ms)
                }
            };
        }
        let reorder = self.ordered_at.is_none_or(|at| {
            let on = self.attempt.readings.last().is_some_and(|reading| reading.power != Power::Off);
            on && now >= at + REORDER_MS && self.orders < 3
        });
        if reorder {
            if !may_send {
                self.attempt.error = Some("another engine has taken the recovery over".into());
                return Next::Ended;
            }
            self.sent += 1;
            let reply = world.bmc_off(now, &host, session);
            return match reply.answer {
                Ok(()) => {
                    self.attempt.order = OrderAnswer::Accepted;
                    self.ordered_at = Some(now + reply.after_ms);
                    self.orders += 1;
                    self.again(now + reply.after_ms)
                }
                Err(why) => {
                    if why == BmcRefusal::Silence {
                        self.attempt.order = OrderAnswer::Unknown("no answer".into());
                    }
                    self.refused(why, now + reply.after_ms)
                }
            };
        }
        let reply = world.bmc_read(now, &host, session);
        match reply.answer {
            Err(why) => self.refused(why, now + reply.after_ms),
            Ok(power) => {
                let off = (power == halberd_sim::Power::Off) != lie;
                let power = if off { Power::Off } else { Power::On };
                self.attempt.readings.push(Reading { power, at_ms: now - self.began, after_order: true });
                if self.attempt.readings.len() == 1 {
                    self.hold(world, now, session);
                }
                let report = self.report(world);
                let enough =
                    halberd_core::fence::prove(halberd_core::id::HostId(uuid::Uuid::nil()), 0, 0, &report)
                        .is_ok();
                if enough { Next::Ended } else { self.again(now + reply.after_ms.max(1) + POLL_MS) }
            }
        }
    }
}

/// Whether the BMC opens a session; else how long that took and why not.
pub fn answers(world: &mut World, now: u64, host: &str) -> Result<(), (u64, String)> {
    let (user, password) = world.bmc_credentials(host);
    let opened = world.bmc_open(now, host, &user, &password);
    match opened.answer {
        Ok(session) => {
            let _ = world.bmc_close(now, host, session);
            Ok(())
        }
        Err(why) => Err((opened.after_ms + SILENCE_MS, format!("{why:?}"))),
    }
}

/// Switches on and waits for the reading, as far as the simulated BMC lets it; the answer arrives after the given time.
pub fn on(world: &mut World, now: u64, host: &str, serial: Option<&str>) -> (u64, Done) {
    let not = |took: u64, why: String| (took, Done::NotExecuted { text: why });
    let (user, password) = world.bmc_credentials(host);
    let session = match world.bmc_open(now, host, &user, &password).answer {
        Ok(session) => session,
        Err(why) => return not(SILENCE_MS, format!("{why:?}")),
    };
    match world.bmc_identity(now, host, session).answer {
        Ok(identity) if serial.is_some_and(|serial| serial == identity.serial) => {}
        Ok(identity) => return not(0, format!("another machine answers: {}", identity.serial)),
        Err(why) => return not(SILENCE_MS, format!("{why:?}")),
    }
    match world.bmc_on(now, host, session).answer {
        Ok(()) => (POLL_MS, Done::Accepted { note: "reads On".into() }),
        Err(why) => not(SILENCE_MS, format!("{why:?}")),
    }
}

/// Gives the BMC its former restore policy back.
pub fn give_back(world: &mut World, now: u64, host: &str, former: RestorePolicy) -> (u64, Done) {
    let (user, password) = world.bmc_credentials(host);
    let given = world
        .bmc_open(now, host, &user, &password)
        .answer
        .and_then(|session| world.bmc_set_restore(now, host, session, former).answer);
    match given {
        Ok(true) => (100, Done::Accepted { note: String::new() }),
        Ok(false) => (100, Done::Refused { status: 405, text: "the BMC takes no policy".into() }),
        Err(why) => (SILENCE_MS, Done::NotExecuted { text: format!("{why:?}") }),
    }
}

/// One reading with identity, as a probe makes it; the answer arrives after the given time.
pub fn read(
    world: &mut World,
    now: u64,
    host: &str,
    serial: Option<&str>,
) -> (u64, Result<PowerReading, String>) {
    if world.bmc_kind(host) == BmcKind::None {
        return (0, Err("no fence device".into()));
    }
    let silent = |why: BmcRefusal| if why == BmcRefusal::Silence { SILENCE_MS } else { 0 };
    let (user, password) = world.bmc_credentials(host);
    let opened = world.bmc_open(now, host, &user, &password);
    let mut took = opened.after_ms;
    let session = match opened.answer {
        Ok(session) => session,
        Err(why) => return (took + silent(why), Err(format!("{why:?}"))),
    };
    let identity = world.bmc_identity(now, host, session);
    took += identity.after_ms;
    let identified = match identity.answer {
        Ok(identity) => serial.is_some_and(|serial| serial == identity.serial),
        Err(why) => return (took + silent(why), Err(format!("{why:?}"))),
    };
    let reply = world.bmc_read(now, host, session);
    took += reply.after_ms;
    let _ = world.bmc_close(now, host, session);
    match reply.answer {
        Ok(_) if !identified => (took, Err("another machine answers".into())),
        Ok(power) => {
            let power = if power == halberd_sim::Power::Off { Power::Off } else { Power::On };
            (took, Ok(PowerReading { at: mono(now), power, identified, device: format!("bmc of {host}") }))
        }
        Err(why) => (took + silent(why), Err(format!("{why:?}"))),
    }
}
