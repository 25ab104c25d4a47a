//! The bytes around an IPMI message: RMCP, the RMCP+ session header, and the message itself (IPMI 2.0 13.6, 13.8).
//!
//! Everything here is a function from bytes to values; whatever is not exactly as it must be is `None`, and the caller
//! drops it in silence: on UDP a bad datagram is nobody's answer, hence nobody's error.

use ipmi_rs::connection::{Message, NetFn};

const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];
const AUTH_TYPE_RMCPP: u8 = 0x06;
/// RMCP header, authentication type, payload type, session id, sequence, length.
pub(super) const HEADER: usize = 4 + 12;
const BMC: u8 = 0x20;
/// Remote console software id, as ipmitool uses.
const CONSOLE: u8 = 0x81;

/// Payload types (13.27.3), without the two flag bits.
pub(super) mod payload {
    pub const OPEN_REQUEST: u8 = 0x10;
    pub const OPEN_RESPONSE: u8 = 0x11;
    pub const RAKP1: u8 = 0x12;
    pub const RAKP2: u8 = 0x13;
    pub const RAKP3: u8 = 0x14;
    pub const RAKP4: u8 = 0x15;
    /// IPMI message, encrypted and authenticated: the only kind a session speaks.
    pub const SEALED: u8 = 0xc0;
}

/// A datagram taken apart. `trailer` is what follows the payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub payload_type: u8,
    pub session: [u8; 4],
    pub sequence: u32,
    pub payload: &'a [u8],
    pub trailer: &'a [u8],
}

impl<'a> Packet<'a> {
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        let rest = datagram.strip_prefix(&RMCP)?;
        let (head, rest) = rest.split_at_checked(12)?;
        // OEM explicit payloads (type 2) have a longer header; nobody asked for one.
        if head[0] != AUTH_TYPE_RMCPP || head[1] & 0x3f == 0x02 {
            return None;
        }
        let length = usize::from(u16::from_le_bytes([head[10], head[11]]));
        let (payload, trailer) = rest.split_at_checked(length)?;
        Some(Self {
            payload_type: head[1],
            session: [head[2], head[3], head[4], head[5]],
            sequence: u32::from_le_bytes([head[6], head[7], head[8], head[9]]),
            payload,
            trailer,
        })
    }
}

/// A message outside any session, as before RMCP+ (13.6): only Get Channel Authentication Capabilities goes so.
pub(super) fn outside(message: &[u8]) -> Vec<u8> {
    let length = u8::try_from(message.len()).expect("our messages are far shorter than 256 bytes");
    [&RMCP[..], &[0; 9], &[length], message].concat()
}

/// The message of a datagram outside any session.
pub(super) fn from_outside(datagram: &[u8]) -> Option<&[u8]> {
    let (length, rest) = datagram.strip_prefix(&RMCP)?.strip_prefix(&[0; 9])?.split_first()?;
    rest.get(..usize::from(*length))
}

/// A datagram up to and including its payload.
pub(super) fn packet(payload_type: u8, session: [u8; 4], sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("our payloads are far shorter than 64 KiB");
    let mut out = Vec::with_capacity(HEADER + payload.len() + 32);
    out.extend(RMCP);
    out.extend([AUTH_TYPE_RMCPP, payload_type]);
    out.extend(session);
    out.extend(sequence.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(payload);
    out
}

/// An IPMI request as bytes; `sequence` has six bits.
pub(super) fn request(message: &Message, sequence: u8) -> Vec<u8> {
    let mut out = vec![BMC, message.netfn_raw() << 2];
    out.push(checksum(&out));
    let second = out.len();
    out.extend([CONSOLE, sequence << 2, message.cmd()]);
    out.extend(message.data());
    out.push(checksum(&out[second..]));
    out
}

/// An IPMI response taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Response {
    pub sequence: u8,
    pub completion: u8,
    /// Data behind the completion code, with netFn and command.
    pub message: Message,
}

/// Takes a response apart; `None` unless addresses, both checksums and the kind of netFn are right.
pub(super) fn response(bytes: &[u8]) -> Option<Response> {
    let (first, second) = bytes.split_at_checked(3)?;
    if first[0] != CONSOLE || sum(first) != 0 || second.len() < 5 || sum(second) != 0 {
        return None;
    }
    let netfn = first[1] >> 2;
    if second[0] != BMC || !NetFn::is_response_value(netfn) {
        return None;
    }
    let data = second[4..second.len() - 1].to_vec();
    Some(Response {
        sequence: second[1] >> 2,
        completion: second[3],
        message: Message::new_raw(netfn, second[2], data),
    })
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}

/// Two's complement of the sum (13.8).
fn checksum(bytes: &[u8]) -> u8 {
    sum(bytes).wrapping_neg()
}
