//! Commands, before and in a session. The first byte of each answer is the completion code.

use super::Responder;
use super::codec::Message;
use super::session::Live;
use crate::metal::{Restore, RestorePolicy};
use crate::model::Power;
use crate::reply::BmcRefusal;

/// USER, at which sessions start.
const USER: u8 = 2;
/// OPERATOR, which chassis control needs.
const OPERATOR: u8 = 3;

impl Responder {
    /// What may be asked without a session; `None` stays unanswered.
    pub(super) fn before_session(&self, message: &Message) -> Option<Vec<u8>> {
        match (message.net_fn, message.command) {
            (0x06, 0x38) => Some(self.capabilities(&message.data)),
            (0x06, 0x54) => Some(self.suites(&message.data)),
            (0x06, 0x37) => Some(self.guid()),
            _ => None,
        }
    }

    /// Get Channel Authentication Capabilities (22.13): no types of v1.5, no Kg; whether names are needed; v2.0 if the request asks.
    fn capabilities(&self, data: &[u8]) -> Vec<u8> {
        let [channel, privilege, ..] = *data else { return vec![0xc7] };
        // Channel 1, or "the one this comes by"; CALLBACK to OEM.
        if !matches!(channel & 0x0f, 0x01 | 0x0e) || !(1..=5).contains(&(privilege & 0x0f)) {
            return vec![0xcc];
        }
        let extended = channel & 0x80;
        // Bit 2: users with names; bit 1: without a name; bit 0: with neither name nor password.
        let status = if self.manners().anonymous_login { 0x07 } else { 0x04 };
        vec![0, 0x01, extended, status, if extended == 0 { 0 } else { 0x02 }, 0, 0, 0, 0]
    }

    /// Get Device ID (20.1): device 20h of revision 1, firmware 1.00, IPMI 2.0, a chassis device, of no maker.
    fn device_id(&self) -> Vec<u8> {
        let updating = if self.manners().updating { 0x80 } else { 0 };
        vec![0, 0x20, 0x01, updating | 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0, 0]
    }

    /// Get Channel Cipher Suites (22.15): 3 and 17, in one short list.
    fn suites(&self, data: &[u8]) -> Vec<u8> {
        let mut answer = vec![0, 0x01];
        if data.get(2).is_some_and(|index| index & 0x3f == 0) {
            if self.manners().suite_zero {
                answer.extend([0xc0, 0, 0x00, 0x40, 0x80]);
            }
            answer.extend([0xc0, 3, 0x01, 0x41, 0x81, 0xc0, 17, 0x03, 0x44, 0x81]);
        }
        answer
    }

    fn manners(&self) -> crate::metal::BmcManners {
        self.shared.lock().bmc_manners(&self.host)
    }

    /// Get Chassis Status (28.2) of a machine that is on or off: bits 6:5 are the restore policy.
    fn chassis(&self, power: Power) -> Vec<u8> {
        let policy = match self.shared.lock().bmc_shown_restore(&self.host) {
            Restore::Settable(policy) | Restore::Fixed(policy) => policy as u8,
            Restore::Unknown => 3,
        };
        vec![0, policy << 5 | u8::from(power == Power::On), 0, 0]
    }

    /// Set Power Restore Policy (28.8); 3 changes nothing. The answer says which policies there are.
    fn set_restore(&self, data: &[u8], live: &Live) -> Option<(Vec<u8>, u64)> {
        let at_once = |answer: Vec<u8>| Some((answer, 0));
        if !matches!(self.shared.lock().bmc_shown_restore(&self.host), Restore::Settable(_)) {
            return at_once(vec![0xc1]);
        }
        if live.privilege < OPERATOR {
            return at_once(vec![0xd4]);
        }
        let policy = match data.first().map(|byte| byte & 0x07) {
            Some(3) => return at_once(vec![0, 0x07]),
            Some(wanted) => RestorePolicy::ALL.into_iter().find(|policy| *policy as u8 == wanted),
            None => return at_once(vec![0xc7]),
        };
        let Some(policy) = policy else { return at_once(vec![0xcc]) };
        let (host, device) = (&self.host, live.device);
        let set = self.shared.with(|world, now| world.bmc_set_restore(now, host, device, policy));
        let answer = match set.answer {
            Ok(true) => vec![0, 0x07],
            Ok(false) => vec![0xc1],
            Err(refusal) => vec![code(refusal)?],
        };
        Some((answer, set.after_ms))
    }

    fn guid(&self) -> Vec<u8> {
        let mut answer = vec![0];
        answer.extend(self.shared.lock().bmc_shown_identity(&self.host).uuid.to_bytes_le());
        answer
    }

    /// A command in a session, and the milliseconds its answer takes; `None` stays unanswered.
    pub(super) fn command(
        &mut self,
        message: &Message,
        live: &mut Live,
        limit: u8,
        id: u32,
    ) -> Option<(Vec<u8>, u64)> {
        let host = self.host.clone();
        let device = live.device;
        // A session the device has forgotten is silence to its client.
        let known = self.shared.lock().bmc_sessions(&host).contains(&device);
        if !known {
            self.sessions.remove(id);
            return None;
        }
        let at_once = |answer: Vec<u8>| Some((answer, 0));
        match (message.net_fn, message.command) {
            (0x06, 0x38 | 0x54) => at_once(self.before_session(message)?),
            (0x06, 0x37) => at_once(self.guid()),
            (0x06, 0x01) => at_once(self.device_id()),
            (0x06, 0x3b) => {
                let Some(asked) = message.data.first().map(|byte| byte & 0x0f) else {
                    return at_once(vec![0xc7]);
                };
                let limit = if self.manners().read_only { limit.min(USER) } else { limit };
                if asked > limit {
                    return at_once(vec![0x81]);
                }
                // 0 asks for the present level.
                if asked > 0 {
                    live.privilege = asked;
                }
                at_once(vec![0, live.privilege])
            }
            (0x06, 0x3c) => {
                let named = message.data.get(..4).and_then(|bytes| bytes.try_into().ok());
                let Some(named) = named.map(u32::from_le_bytes) else { return at_once(vec![0xc7]) };
                if named != id {
                    return at_once(vec![0x87]);
                }
                let closed = self.shared.with(|world, now| world.bmc_close(now, &host, device));
                self.sessions.remove(id);
                Some((vec![0], closed.after_ms))
            }
            (0x00, 0x01) => {
                let read = self.shared.with(|world, now| world.bmc_read(now, &host, device));
                let answer = match read.answer {
                    Ok(power) => self.chassis(power),
                    Err(refusal) => vec![code(refusal)?],
                };
                Some((answer, read.after_ms))
            }
            (0x00, 0x02) => {
                if live.privilege < OPERATOR {
                    return at_once(vec![0xd4]);
                }
                let ordered = match message.data.first().map(|byte| byte & 0x0f) {
                    Some(0x00) => self.shared.with(|world, now| world.bmc_off(now, &host, device)),
                    Some(0x01) => self.shared.with(|world, now| world.bmc_on(now, &host, device)),
                    // Soft off is acknowledged and obeyed by nobody, as on a failed hypervisor.
                    Some(0x05) => return at_once(vec![0]),
                    Some(_) => return at_once(vec![0xcc]),
                    None => return at_once(vec![0xc7]),
                };
                let answer = match ordered.answer {
                    Ok(()) => vec![0],
                    Err(refusal) => vec![code(refusal)?],
                };
                Some((answer, ordered.after_ms))
            }
            (0x00, 0x06) => self.set_restore(&message.data, live),
            _ => at_once(vec![0xc1]),
        }
    }
}

fn code(refusal: BmcRefusal) -> Option<u8> {
    match refusal {
        BmcRefusal::Busy => Some(0xc0),
        BmcRefusal::BadCredentials => Some(0xd4),
        BmcRefusal::Silence | BmcRefusal::SessionGone => None,
    }
}
