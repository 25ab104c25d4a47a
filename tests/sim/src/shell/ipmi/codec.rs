//! Frames and messages. All numbers little endian.

use super::RMCP;

/// An RMCP+ frame, from the authentication type on; a trailer, if any, lies behind it.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Payload type with the bits for encrypted (7) and authenticated (6).
    pub(super) kind: u8,
    /// The receiver's session.
    pub(super) session: u32,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let length = usize::from(u16::from_le_bytes([*body.get(10)?, *body.get(11)?]));
        Some(Self {
            kind: body[1],
            session: u32::from_le_bytes(body.get(2..6)?.try_into().ok()?),
            sequence: u32::from_le_bytes(body.get(6..10)?.try_into().ok()?),
            payload: body.get(12..12 + length)?,
        })
    }
}

/// A frame outside a session.
pub(super) fn plain(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut datagram = RMCP.to_vec();
    datagram.extend(header(kind, 0, 0, payload.len()));
    datagram.extend(payload);
    datagram
}

/// The session header.
pub(super) fn header(kind: u8, session: u32, sequence: u32, length: usize) -> Vec<u8> {
    let mut header = vec![0x06, kind];
    header.extend(session.to_le_bytes());
    header.extend(sequence.to_le_bytes());
    header.extend((length as u16).to_le_bytes());
    header
}

/// An IPMI request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) net_fn: u8,
    pub(super) command: u8,
    pub(super) data: Vec<u8>,
    responder: u8,
    requester: u8,
    sequence: u8,
    lun: u8,
}

impl Message {
    /// `None` when a checksum is wrong or bytes are missing.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let data = bytes.get(6..bytes.len().checked_sub(1)?)?;
        let whole =
            checksum(&bytes[..2]) == bytes[2] && checksum(&bytes[3..bytes.len() - 1]) == *bytes.last()?;
        whole.then(|| Self {
            responder: bytes[0],
            net_fn: bytes[1] >> 2,
            lun: bytes[1] & 3,
            requester: bytes[3],
            sequence: bytes[4],
            command: bytes[5],
            data: data.to_vec(),
        })
    }

    /// The response with these bytes, the completion code first: addresses swapped, netFn one higher.
    pub(super) fn answer(&self, completion_and_data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![self.requester, (self.net_fn + 1) << 2 | self.sequence & 3];
        bytes.push(checksum(&bytes));
        let second = bytes.len();
        bytes.extend([self.responder, self.sequence & 0xfc | self.lun, self.command]);
        bytes.extend(completion_and_data);
        bytes.push(checksum(&bytes[second..]));
        bytes
    }
}

/// Two's complement of the sum.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}
