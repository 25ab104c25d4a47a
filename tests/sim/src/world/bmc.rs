//! BMCs: what they say and do, truly or not. Protocols are the sockets' affair; here is one device per host.

use super::{Due, World};
use crate::chance::Chance;
use crate::history::What;
use crate::metal::BmcManners;
use crate::model::{Identity, Power};
use crate::reply::{BmcRefusal, Reply};
use crate::spec::BmcKind;

/// An open session of one BMC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BmcSession(pub(crate) u64);

impl BmcSession {
    /// The number, for a protocol's own id.
    pub fn number(self) -> u64 {
        self.0
    }
}

#[derive(Debug, Default)]
pub(super) struct BmcFaults {
    pub(super) dead: bool,
    pub(super) hang: bool,
    pub(super) ack_no_off: bool,
    pub(super) lie: Option<Power>,
    pub(super) slow_off: Option<u64>,
    /// The host this BMC is wired to instead of its own.
    pub(super) machine: Option<usize>,
    pub(super) wrong_password: bool,
    pub(super) busy: u32,
    pub(super) auto_on: Option<u64>,
    pub(super) drop_answer: bool,
    pub(super) slow_answer: u64,
    pub(super) no_restore_policy: bool,
    pub(super) fixed_restore_policy: bool,
    pub(super) manners: BmcManners,
}

#[derive(Debug)]
pub(super) struct Bmc {
    pub(super) kind: BmcKind,
    username: String,
    password: String,
    /// The password after somebody changed it.
    other_password: String,
    pub(super) faults: BmcFaults,
    pub(super) sessions: Vec<u64>,
    orders: u64,
}

/// Why an order that was acknowledged came to nothing.
pub(super) const IGNORED: &str = "acknowledged, ignored";

/// Sessions a BMC holds; the oldest gives way to one more.
const SESSIONS: usize = 32;

impl Bmc {
    pub(super) fn new(kind: BmcKind, host: &str, chance: &mut Chance) -> Self {
        // Sixteen characters fit IPMI's twenty bytes.
        let word = |chance: &mut Chance| format!("{:016x}", chance.next());
        Self {
            kind,
            username: format!("fence-{host}").chars().take(16).collect(),
            password: word(chance),
            other_password: word(chance),
            faults: BmcFaults::default(),
            sessions: Vec::new(),
            orders: 0,
        }
    }

    pub(super) fn heal(&mut self) {
        self.faults = BmcFaults::default();
    }

    fn current_password(&self) -> &str {
        if self.faults.wrong_password { &self.other_password } else { &self.password }
    }
}

impl World {
    /// The protocol of the host's BMC.
    pub fn bmc_kind(&self, host: &str) -> BmcKind {
        self.hosts[self.host_ix(host)].bmc.kind
    }

    /// Gives the host a BMC of another kind, or none; before sockets are opened.
    pub fn set_bmc_kind(&mut self, host: &str, kind: BmcKind) {
        let host = self.host_ix(host);
        self.hosts[host].bmc.kind = kind;
    }

    /// User name and password an operator would have on file; the password no longer fits after
    /// [`crate::BmcFault::WrongPassword`].
    pub fn bmc_credentials(&self, host: &str) -> (String, String) {
        let bmc = &self.hosts[self.host_ix(host)].bmc;
        (bmc.username.clone(), bmc.password.clone())
    }

    /// The password the BMC really wants, for the sockets' handshakes.
    pub(crate) fn bmc_password(&self, host: &str) -> String {
        self.hosts[self.host_ix(host)].bmc.current_password().to_owned()
    }

    /// Whether the BMC says anything at all.
    pub fn bmc_speaks(&mut self, now: u64, host: &str) -> bool {
        self.advance(now);
        let host = &self.hosts[self.host_ix(host)];
        host.bmc.kind != BmcKind::None
            && host.power != Power::Dark
            && !host.bmc.faults.dead
            && !host.bmc.faults.hang
    }

    /// Whether the BMC has gone without power (as opposed to a hung one, which accepts connections).
    pub fn bmc_dark(&self, host: &str) -> bool {
        let host = &self.hosts[self.host_ix(host)];
        host.power == Power::Dark || host.bmc.faults.dead
    }

    pub(super) fn bmc_reply<T>(
        &mut self,
        now: u64,
        host: &str,
        latency: u64,
        run: impl FnOnce(&mut Self, usize) -> Result<T, BmcRefusal>,
    ) -> Reply<T, BmcRefusal> {
        if !self.bmc_speaks(now, host) {
            return Reply::new(0, Err(BmcRefusal::Silence));
        }
        let host = self.host_ix(host);
        let latency = latency + self.hosts[host].bmc.faults.slow_answer;
        if self.hosts[host].bmc.faults.busy > 0 {
            self.hosts[host].bmc.faults.busy -= 1;
            return Reply::new(latency, Err(BmcRefusal::Busy));
        }
        Reply::new(latency, run(self, host))
    }

    pub(super) fn session_stands(&self, host: usize, session: BmcSession) -> Result<(), BmcRefusal> {
        if self.hosts[host].bmc.sessions.contains(&session.0) { Ok(()) } else { Err(BmcRefusal::SessionGone) }
    }

    /// Ways of the BMC that only its protocol shows.
    pub fn bmc_manners(&self, host: &str) -> BmcManners {
        self.hosts[self.host_ix(host)].bmc.faults.manners
    }

    /// Opens a session.
    pub fn bmc_open(
        &mut self,
        now: u64,
        host: &str,
        username: &str,
        password: &str,
    ) -> Reply<BmcSession, BmcRefusal> {
        self.bmc_reply(now, host, self.spec.bmc_session_latency_ms, |world, host| {
            let bmc = &world.hosts[host].bmc;
            if bmc.username != username || bmc.current_password() != password {
                return Err(BmcRefusal::BadCredentials);
            }
            let session = world.chance.next() >> 33 | 1;
            let sessions = &mut world.hosts[host].bmc.sessions;
            if sessions.len() >= SESSIONS {
                sessions.remove(0);
            }
            sessions.push(session);
            Ok(BmcSession(session))
        })
    }

    /// Closes a session; one that is already gone is no error.
    pub fn bmc_close(&mut self, now: u64, host: &str, session: BmcSession) -> Reply<(), BmcRefusal> {
        self.bmc_reply(now, host, self.spec.bmc_latency_ms, |world, host| {
            world.hosts[host].bmc.sessions.retain(|open| *open != session.0);
            Ok(())
        })
    }

    /// Sessions open at the BMC.
    pub fn bmc_sessions(&self, host: &str) -> Vec<BmcSession> {
        self.hosts[self.host_ix(host)].bmc.sessions.iter().copied().map(BmcSession).collect()
    }

    /// The machine the BMC says it belongs to.
    pub fn bmc_identity(&mut self, now: u64, host: &str, session: BmcSession) -> Reply<Identity, BmcRefusal> {
        self.bmc_reply(now, host, self.spec.bmc_latency_ms, |world, host| {
            world.session_stands(host, session)?;
            Ok(world.wired_identity(host))
        })
    }

    fn wired_identity(&self, host: usize) -> Identity {
        let machine = &self.hosts[self.hosts[host].bmc.faults.machine.unwrap_or(host)];
        Identity { serial: machine.serial.clone(), uuid: machine.uuid }
    }

    /// What the BMC shows of its machine without any session (IPMI's GUID in the handshake).
    pub fn bmc_shown_identity(&self, host: &str) -> Identity {
        self.wired_identity(self.host_ix(host))
    }

    /// The power state the BMC shows, without a session, latency or answers that count.
    pub fn bmc_shown_power(&self, host: &str) -> Power {
        self.reading(self.host_ix(host))
    }

    fn reading(&self, host: usize) -> Power {
        let faults = &self.hosts[host].bmc.faults;
        let power = self.hosts[faults.machine.unwrap_or(host)].power;
        faults.lie.unwrap_or(if power == Power::On { Power::On } else { Power::Off })
    }

    /// The power state the BMC reads: [`Power::On`] or [`Power::Off`].
    pub fn bmc_read(&mut self, now: u64, host: &str, session: BmcSession) -> Reply<Power, BmcRefusal> {
        self.bmc_reply(now, host, self.spec.bmc_latency_ms, |world, host| {
            world.session_stands(host, session)?;
            Ok(world.reading(host))
        })
    }

    /// Orders power off; accepted also when it is off already.
    pub fn bmc_off(&mut self, now: u64, host: &str, session: BmcSession) -> Reply<(), BmcRefusal> {
        self.power_order(now, host, session, false)
    }

    /// Orders power on.
    pub fn bmc_on(&mut self, now: u64, host: &str, session: BmcSession) -> Reply<(), BmcRefusal> {
        self.power_order(now, host, session, true)
    }

    fn power_order(&mut self, now: u64, name: &str, session: BmcSession, on: bool) -> Reply<(), BmcRefusal> {
        let latency = self.spec.bmc_latency_ms;
        let mut reply = self.bmc_reply(now, name, latency, |world, host| {
            world.session_stands(host, session)?;
            let bmc = &mut world.hosts[host].bmc;
            bmc.orders += 1;
            let order = bmc.orders;
            let machine = bmc.faults.machine.unwrap_or(host);
            let ignored = bmc.faults.ack_no_off && !on;
            let after = bmc.faults.slow_off.filter(|_| !on).unwrap_or(world.spec.bmc_off_latency_ms);
            let (bmc, machine_name) = (world.name(host), world.name(machine));
            world.note(if on {
                What::OnOrdered { bmc, machine: machine_name }
            } else {
                What::OffOrdered { bmc, machine: machine_name }
            });
            if ignored {
                world.note(What::PowerOrderRefused { bmc: world.name(host), why: IGNORED.into() });
            } else {
                world.schedule(after, Due::Power { host: machine, on, order });
            }
            Ok(())
        });
        if let Err(why) = reply.answer {
            self.note(What::PowerOrderRefused { bmc: name.into(), why: format!("{why:?}") });
        } else if self.hosts[self.host_ix(name)].bmc.faults.drop_answer {
            reply.answer = Err(BmcRefusal::Silence);
        }
        reply
    }

    pub(super) fn power_order_lands(&mut self, host: usize, on: bool, _order: u64) {
        if on {
            self.power_on(host);
        } else {
            if let Some(was_on) = &mut self.hosts[host].supply_lost {
                *was_on = false;
            }
            if self.hosts[host].power == Power::On {
                self.power_off(host, false);
            }
        }
    }
}
