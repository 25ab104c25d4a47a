//! A host's IPMI v2.0 responder on UDP: RMCP+ with suites 3 and 17, written from the specification's facts alone.
//!
//! It behaves as the specification demands of a BMC: sessions start at USER, a session sequence number counts once and only within its
//! window, anything malformed or unauthenticated is dropped without a word.

mod codec;
mod commands;
mod keys;
mod session;
#[cfg(test)]
mod tests;

use super::Shared;
use session::Sessions;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;

/// RMCP, class IPMI, no acknowledgement.
const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];

/// What a datagram leads to.
#[derive(Debug)]
enum Outcome {
    /// Dropped.
    Nothing,
    /// Answered after so many milliseconds.
    Answer(Vec<u8>, u64),
}

/// One BMC.
#[derive(Debug)]
struct Responder {
    shared: Arc<Shared>,
    host: String,
    sessions: Sessions,
}

/// Serves the host's BMC until the cloud stops.
pub(super) async fn run(socket: UdpSocket, shared: Arc<Shared>, host: String) {
    let stop = shared.stop.clone();
    let socket = Arc::new(socket);
    let mut responder = Responder { shared, host, sessions: Sessions::default() };
    let mut buffer = [0; 1_024];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An ICMP error from an earlier answer's addressee shows up here; it concerns nobody.
        let Ok((length, peer)) = received else { continue };
        if let Outcome::Answer(datagram, after_ms) = responder.datagram(&buffer[..length]) {
            tokio::spawn(send(socket.clone(), peer, datagram, after_ms));
        }
    }
}

async fn send(socket: Arc<UdpSocket>, peer: SocketAddr, datagram: Vec<u8>, after_ms: u64) {
    if after_ms > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
    }
    // A lost answer is UDP's daily bread; the client asks again.
    let _ = socket.send_to(&datagram, peer).await;
}

impl Responder {
    fn datagram(&mut self, datagram: &[u8]) -> Outcome {
        let host = self.host.clone();
        if !self.shared.with(|world, now| world.bmc_speaks(now, &host)) {
            return Outcome::Nothing;
        }
        let Some(body) = datagram.strip_prefix(&RMCP) else { return Outcome::Nothing };
        match body.first() {
            Some(0x00) => {
                self.sessionless(body).map_or(Outcome::Nothing, |answer| Outcome::Answer(answer, 0))
            }
            Some(0x06) => self.rmcp_plus(body),
            _ => Outcome::Nothing,
        }
    }

    /// IPMI 1.5 framing without authentication: only the questions a client may ask before a session.
    fn sessionless(&mut self, body: &[u8]) -> Option<Vec<u8>> {
        let length = usize::from(*body.get(9)?);
        let message = codec::Message::parse(body.get(10..10 + length)?)?;
        let answer = message.answer(&self.before_session(&message)?);
        let mut datagram = RMCP.to_vec();
        datagram.extend([0; 9]);
        datagram.push(answer.len() as u8);
        datagram.extend(answer);
        Some(datagram)
    }

    fn rmcp_plus(&mut self, body: &[u8]) -> Outcome {
        let Some(frame) = codec::Frame::parse(body) else { return Outcome::Nothing };
        let plain = |kind: u8, payload: Option<Vec<u8>>, after_ms: u64| match payload {
            Some(payload) => Outcome::Answer(codec::plain(kind, &payload), after_ms),
            None => Outcome::Nothing,
        };
        match frame.kind {
            0x10 => plain(0x11, self.sessions.open(frame.payload), 0),
            0x12 => {
                let answer = self.rakp1(frame.payload);
                plain(0x13, answer, 0)
            }
            0x14 => match self.rakp3(frame.payload) {
                Some((answer, after_ms)) => plain(0x15, Some(answer), after_ms),
                None => Outcome::Nothing,
            },
            0x00 => {
                let answer = codec::Message::parse(frame.payload).and_then(|message| {
                    let answer = self.before_session(&message)?;
                    Some(message.answer(&answer))
                });
                plain(0x00, answer, 0)
            }
            0xc0 => self.in_session(body, &frame).unwrap_or(Outcome::Nothing),
            _ => Outcome::Nothing,
        }
    }
}
