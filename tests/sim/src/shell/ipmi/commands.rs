//! Commands, before and in a session. The first byte of each answer is the completion code.

use super::Responder;
use super::codec::Message;
use super::session::Live;
use crate::model::Power;
use crate::reply::BmcRefusal;

/// OPERATOR, which chassis control needs.
const OPERATOR: u8 = 3;

impl Responder {
    /// What may be asked without a session; `None` stays unanswered.
    pub(super) fn before_session(&self, message: &Message) -> Option<Vec<u8>> {
        match (message.net_fn, message.command) {
            // Get Channel Authentication Capabilities: channel 1, v2.0 fields, no v1.5 types, no Kg, IPMI 2.0.
            (0x06, 0x38) => Some(vec![0, 0x01, 0x80, 0x04, 0x02, 0, 0, 0, 0]),
            // Get Channel Cipher Suites: suites 3 and 17, in one short list.
            (0x06, 0x54) => match message.data.get(2).map(|index| index & 0x3f) {
                Some(0) => Some(vec![0, 0x01, 0xc0, 3, 0x01, 0x41, 0x81, 0xc0, 17, 0x03, 0x44, 0x81]),
                _ => Some(vec![0, 0x01]),
            },
            (0x06, 0x37) => Some(self.guid()),
            _ => None,
        }
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
            // Get Device ID: IPMI 2.0, chassis device.
            (0x06, 0x01) => at_once(vec![0, 0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0, 0]),
            (0x06, 0x3b) => {
                let Some(asked) = message.data.first().map(|byte| byte & 0x0f) else {
                    return at_once(vec![0xc7]);
                };
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
                    Ok(power) => vec![0, u8::from(power == Power::On), 0, 0],
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
