//! Open Session and RAKP 1 to 4 as functions from what was received to what is sent (IPMI 2.0 13.17-13.24).
//!
//! A [`Round`] is one try with its own ids, random numbers and tags. It never goes back: when an answer fails to come a
//! new round begins, because BMCs differ in what they do with a second RAKP 1 or 3. A datagram that does not belong to
//! the round's present step is ignored: late, doubled and foreign packets must not disturb it.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::auth::{Keys, Suite, same};
use super::frame::{self, Packet, payload};

/// Look the user up by name only, as ipmitool and FreeIPMI do; otherwise an operator's account is not found when its
/// name also exists at another level.
const NAME_ONLY: u8 = 0x10;

/// Who logs in.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub username: String,
    pub password: SecretString,
    pub kg: Option<Zeroizing<Vec<u8>>>,
    /// 3 operator, 4 administrator.
    pub privilege: u8,
}

impl Login {
    fn role(&self) -> u8 {
        self.privilege | NAME_ONLY
    }

    /// Role, name length, name: what four of the codes end with.
    fn tail(&self) -> Vec<u8> {
        let mut tail = vec![self.role(), u8::try_from(self.username.len()).unwrap_or(u8::MAX)];
        tail.extend(self.username.as_bytes());
        tail
    }

    fn kuid(&self) -> &[u8] {
        self.password.expose_secret().as_bytes()
    }
}

/// Chance, as an argument: tests replay recorded exchanges.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chance {
    /// Our session id, not zero.
    pub console_id: [u8; 4],
    pub console_random: [u8; 16],
    pub tag: u8,
}

/// Which answer a round waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Open,
    Rakp2,
    Rakp4,
}

/// What an answer led to.
pub(super) enum Next {
    /// Not ours, or not now: go on waiting.
    Ignore,
    /// Send this and wait for the next answer.
    Send(Vec<u8>),
    Done(Established),
    Failed(Failure),
}

/// A session that both sides have proved.
pub(super) struct Established {
    pub keys: Keys,
    pub console_id: [u8; 4],
    pub bmc_id: [u8; 4],
    /// GUID of the managed system as RAKP 2 gave it, authenticated.
    pub guid: [u8; 16],
    pub suite: Suite,
}

/// Why a round cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The suite is not offered, or another one was put in its place.
    Suite,
    /// No room for another session.
    NoResources,
    /// Our session is unknown: begin again.
    Restart,
    Credentials(&'static str),
    Privilege,
    Status(u8),
}

/// One try to log in.
pub(super) struct Round<'a> {
    login: &'a Login,
    suite: Suite,
    chance: Chance,
    step: Step,
    bmc_id: [u8; 4],
    bmc_random: [u8; 16],
    guid: [u8; 16],
    sik: Zeroizing<Vec<u8>>,
}

impl<'a> Round<'a> {
    pub(super) fn new(login: &'a Login, suite: Suite, chance: Chance) -> Self {
        let (bmc_id, bmc_random, guid) = ([0; 4], [0; 16], [0; 16]);
        Self { login, suite, chance, step: Step::Open, bmc_id, bmc_random, guid, sik: Zeroizing::default() }
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// The first datagram.
    pub(super) fn open(&self) -> Vec<u8> {
        let mut out = vec![self.chance.tag, self.login.privilege, 0, 0];
        out.extend(self.chance.console_id);
        for (kind, algorithm) in self.suite.algorithms().into_iter().enumerate() {
            out.extend([kind as u8, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        frame::packet(payload::OPEN_REQUEST, [0; 4], 0, &out)
    }

    /// Takes a datagram and says what to do.
    pub(super) fn receive(&mut self, datagram: &[u8]) -> Next {
        let Some(packet) = Packet::parse(datagram) else { return Next::Ignore };
        let expected = match self.step {
            Step::Open => payload::OPEN_RESPONSE,
            Step::Rakp2 => payload::RAKP2,
            Step::Rakp4 => payload::RAKP4,
        };
        // Each step has its own tag, so that an answer to an older round, or a doubled one, is recognised.
        let [tag, status, ..] = *packet.payload else { return Next::Ignore };
        if packet.payload_type != expected || packet.session != [0; 4] || tag != self.tag() {
            return Next::Ignore;
        }
        if status != 0 {
            return self.refused(status, packet.payload);
        }
        let body = packet.payload;
        if body.get(4..8) != Some(&self.chance.console_id) {
            return Next::Ignore;
        }
        let next = match self.step {
            Step::Open => self.opened(body),
            Step::Rakp2 => self.rakp2(body),
            Step::Rakp4 => self.rakp4(body),
        };
        next.unwrap_or(Next::Ignore)
    }

    fn tag(&self) -> u8 {
        self.chance.tag.wrapping_add(self.step as u8)
    }

    /// A refusal may be as short as two bytes; where it carries our id it must be the right one.
    fn refused(&self, status: u8, body: &[u8]) -> Next {
        if body.get(4..8).is_some_and(|id| id != self.chance.console_id && id != [0; 4]) {
            return Next::Ignore;
        }
        Next::Failed(match status {
            0x01 => Failure::NoResources,
            0x02 | 0x08 => Failure::Restart,
            0x04 | 0x05 | 0x10 | 0x11 => Failure::Suite,
            0x09..=0x0b => Failure::Privilege,
            0x0d => Failure::Credentials("user unknown"),
            0x0f => Failure::Credentials("wrong password"),
            other => Failure::Status(other),
        })
    }

    fn opened(&mut self, body: &[u8]) -> Option<Next> {
        let bmc_id: [u8; 4] = body.get(8..12)?.try_into().ok()?;
        let chosen = body.get(12..36)?;
        let wanted = self.suite.algorithms();
        let substituted = chosen.chunks(8).zip(wanted).any(|(block, wanted)| block[4] & 0x3f != wanted);
        if substituted {
            return Some(Next::Failed(Failure::Suite));
        }
        if bmc_id == [0; 4] {
            return None;
        }
        self.bmc_id = bmc_id;
        self.step = Step::Rakp2;
        let mut out = vec![self.tag(), 0, 0, 0];
        out.extend(bmc_id);
        out.extend(self.chance.console_random);
        let tail = self.login.tail();
        out.extend([tail[0], 0, 0]);
        out.extend(&tail[1..]);
        Some(Next::Send(frame::packet(payload::RAKP1, [0; 4], 0, &out)))
    }

    fn rakp2(&mut self, body: &[u8]) -> Option<Next> {
        let bmc_random: [u8; 16] = body.get(8..24)?.try_into().ok()?;
        let guid: [u8; 16] = body.get(24..40)?.try_into().ok()?;
        let (login, suite, chance, tail) = (self.login, self.suite, self.chance, self.login.tail());
        let ids: [&[u8]; 2] = [&chance.console_id, &self.bmc_id];
        let want =
            suite.hmac(login.kuid(), &[ids[0], ids[1], &chance.console_random, &bmc_random, &guid, &tail]);
        if !same(&want, &body[40..]) {
            return Some(Next::Failed(Failure::Credentials("wrong password, or another machine answers")));
        }
        (self.bmc_random, self.guid) = (bmc_random, guid);
        let kg = login.kg.as_ref().map_or(login.kuid(), |kg| kg.as_slice());
        self.sik = suite.hmac(kg, &[&chance.console_random, &bmc_random, &tail]);
        self.step = Step::Rakp4;
        let mut out = vec![self.tag(), 0, 0, 0];
        out.extend(self.bmc_id);
        out.extend(suite.hmac(login.kuid(), &[&bmc_random, &chance.console_id, &tail]).iter());
        Some(Next::Send(frame::packet(payload::RAKP3, [0; 4], 0, &out)))
    }

    fn rakp4(&mut self, body: &[u8]) -> Option<Next> {
        let want = self.suite.hmac(&self.sik, &[&self.chance.console_random, &self.bmc_id, &self.guid]);
        if !same(&want[..self.suite.code_len()], body.get(8..)?) {
            return Some(Next::Failed(Failure::Credentials("the BMC proves another key: check kg")));
        }
        Some(Next::Done(Established {
            keys: Keys::new(self.suite, &self.sik),
            console_id: self.chance.console_id,
            bmc_id: self.bmc_id,
            guid: self.guid,
            suite: self.suite,
        }))
    }

    /// For tests: keys are derived before RAKP 4 proves them.
    #[cfg(test)]
    pub(super) fn sik(&self) -> &[u8] {
        &self.sik
    }
}
