//! The handshake: Open Session, RAKP 1 to 4, and the sessions it leads to.

use super::keys::{Keys, Suite};
use super::{Outcome, RMCP, Responder, codec};
use crate::reply::BmcRefusal;
use crate::world::BmcSession;
use std::collections::HashMap;

/// Handshakes and sessions held at a time; the oldest gives way.
const HELD: usize = 64;

/// A handshake in progress, then a session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) console: u32,
    pub(super) suite: Suite,
    /// The highest privilege asked for at the beginning.
    pub(super) limit: u8,
    /// What RAKP 1 brought; `None` before it.
    exchange: Option<Exchange>,
    pub(super) live: Option<Live>,
    born: u64,
}

#[derive(Debug, Clone)]
struct Exchange {
    rm: [u8; 16],
    rc: [u8; 16],
    role: u8,
    name: Vec<u8>,
    guid: [u8; 16],
}

/// A session that has passed RAKP 4.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) keys: Keys,
    pub(super) device: BmcSession,
    pub(super) privilege: u8,
    sent: u32,
    window: Window,
}

/// The receiver's rule for session sequence numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    highest: u32,
    /// Bit n: highest - n was received.
    received: u32,
}

impl Window {
    /// Whether a number is new and in the window (15 ahead, 16 behind); notes it if so.
    pub(super) fn fresh(&mut self, sequence: u32) -> bool {
        let ahead = i64::from(sequence) - i64::from(self.highest);
        match ahead {
            1..=15 => {
                self.received = self.received << ahead | 1;
                self.highest = sequence;
                true
            }
            -16..=0 if self.received & 1 << -ahead == 0 && sequence > 0 => {
                self.received |= 1 << -ahead;
                true
            }
            _ => false,
        }
    }
}

/// All sessions of a BMC, by the BMC's id.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: HashMap<u32, Session>,
    born: u64,
}

impl Sessions {
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Session> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u32) {
        self.by_id.remove(&id);
    }

    /// Open Session Request to its response's payload.
    pub(super) fn open(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if payload.len() < 32 {
            return None;
        }
        let (tag, asked) = (payload[0], payload[1] & 0x0f);
        let console = u32::from_le_bytes(payload[4..8].try_into().ok()?);
        let suite = match Suite::of(payload[12], payload[20], payload[28]) {
            Ok(suite) => suite,
            Err(status) => return Some(refusal(tag, status, console)),
        };
        if self.by_id.len() >= HELD
            && let Some(oldest) = self.by_id.iter().min_by_key(|(_, it)| it.born).map(|(id, _)| *id)
        {
            self.by_id.remove(&oldest);
        }
        let id = loop {
            let id: u32 = rand::random();
            if id != 0 && !self.by_id.contains_key(&id) {
                break id;
            }
        };
        self.born += 1;
        // Nothing asked means the highest.
        let limit = if asked == 0 { 4 } else { asked };
        self.by_id.insert(id, Session { console, suite, limit, exchange: None, live: None, born: self.born });
        let mut answer = vec![tag, 0, limit, 0];
        answer.extend(console.to_le_bytes());
        answer.extend(id.to_le_bytes());
        answer.extend(&payload[8..32]);
        Some(answer)
    }
}

/// The short form of a handshake answer.
fn refusal(tag: u8, status: u8, console: u32) -> Vec<u8> {
    let mut answer = vec![tag, status, 0, 0];
    answer.extend(console.to_le_bytes());
    answer
}

impl Responder {
    /// RAKP 1 to RAKP 2.
    pub(super) fn rakp1(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let tag = *payload.first()?;
        let id = u32::from_le_bytes(payload.get(4..8)?.try_into().ok()?);
        let rm: [u8; 16] = payload.get(8..24)?.try_into().ok()?;
        let role = *payload.get(24)?;
        let name = payload.get(28..28 + usize::from(*payload.get(27)?))?.to_vec();
        let (account, password, guid) = self.account();
        let Some(session) = self.sessions.get_mut(id) else { return Some(refusal(tag, 0x02, 0)) };
        let console = session.console;
        if name != account.as_bytes() {
            return Some(refusal(tag, 0x0d, console));
        }
        let rc: [u8; 16] = rand::random();
        let code = session.suite.hmac(
            password.as_bytes(),
            &[&console.to_le_bytes(), &id.to_le_bytes(), &rm, &rc, &guid, &[role, name.len() as u8], &name],
        );
        session.exchange = Some(Exchange { rm, rc, role, name, guid });
        let mut answer = vec![tag, 0, 0, 0];
        answer.extend(console.to_le_bytes());
        answer.extend(rc);
        answer.extend(guid);
        answer.extend(code);
        Some(answer)
    }

    /// RAKP 3 to RAKP 4, and the milliseconds it takes.
    pub(super) fn rakp3(&mut self, payload: &[u8]) -> Option<(Vec<u8>, u64)> {
        let (tag, status) = (*payload.first()?, *payload.get(1)?);
        let id = u32::from_le_bytes(payload.get(4..8)?.try_into().ok()?);
        let (account, password, _) = self.account();
        let Some(session) = self.sessions.get_mut(id) else {
            return Some((refusal(tag, 0x02, 0), 0));
        };
        let (console, suite) = (session.console, session.suite);
        let exchange = session.exchange.clone()?;
        if status != 0 {
            // The console gives up: its reckoning of our code differs, so its password is another.
            self.sessions.remove(id);
            return None;
        }
        let named = [exchange.role, exchange.name.len() as u8];
        let expected =
            suite.hmac(password.as_bytes(), &[&exchange.rc, &console.to_le_bytes(), &named, &exchange.name]);
        if payload.get(8..) != Some(expected.as_slice()) {
            self.sessions.remove(id);
            return Some((refusal(tag, 0x0f, console), 0));
        }
        let host = self.host.clone();
        let opened = self.shared.with(|world, now| world.bmc_open(now, &host, &account, &password));
        let device = match opened.answer {
            Ok(device) => device,
            Err(BmcRefusal::Busy) => return Some((refusal(tag, 0x01, console), opened.after_ms)),
            Err(_) => return None,
        };
        let sik = suite.hmac(password.as_bytes(), &[&exchange.rm, &exchange.rc, &named, &exchange.name]);
        let keys = Keys::new(suite, sik);
        let check = suite.hmac(&keys.sik, &[&exchange.rm, &id.to_le_bytes(), &exchange.guid]);
        let session = self.sessions.get_mut(id)?;
        // USER: what needs more has to be asked for.
        session.live = Some(Live { keys, device, privilege: 2, sent: 0, window: Window::default() });
        let mut answer = vec![tag, 0, 0, 0];
        answer.extend(console.to_le_bytes());
        answer.extend(&check[..suite.cut()]);
        Some((answer, opened.after_ms))
    }

    /// An encrypted and authenticated message.
    pub(super) fn in_session(&mut self, body: &[u8], frame: &codec::Frame<'_>) -> Option<Outcome> {
        let id = frame.session;
        let session = self.sessions.get_mut(id)?;
        let (console, limit) = (session.console, session.limit);
        let live = session.live.as_mut()?;
        if !live.keys.authentic(body) || !live.window.fresh(frame.sequence) {
            return None;
        }
        let message = codec::Message::parse(&live.keys.decrypt(frame.payload)?)?;
        let mut copy = live.clone();
        let (content, after_ms) = self.command(&message, &mut copy, limit, id)?;
        copy.sent += 1;
        let datagram = {
            let mut datagram = RMCP.to_vec();
            datagram.extend(copy.keys.seal(console, copy.sent, rand::random(), &message.answer(&content)));
            datagram
        };
        if let Some(session) = self.sessions.get_mut(id) {
            session.live = Some(copy);
        }
        Some(Outcome::Answer(datagram, after_ms))
    }

    /// The account's name, the password the BMC really wants, and the GUID it shows.
    fn account(&self) -> (String, String, [u8; 16]) {
        let world = self.shared.lock();
        let (name, _) = world.bmc_credentials(&self.host);
        (name, world.bmc_password(&self.host), world.bmc_shown_identity(&self.host).uuid.to_bytes_le())
    }
}
