//! Recorded sessions of ipmitool: with Debian's ipmi_sim (suite 3) and with our own simulated BMC (suite 17).
//!
//! `fencing/tests/record/record.py` makes them. Their keys and plain messages come from Python's hmac and from openssl, so
//! agreement here is agreement with code that is not ours. `HALBERD_VECTORS` names a folder with newer ones.

use secrecy::SecretString;
use serde::Deserialize;

use super::super::auth::{Keys, Suite};
use super::super::frame::{self, Packet, payload};
use super::super::handshake::{Chance, Login};
use crate::device::unhex;

/// One session, whole.
#[derive(Deserialize)]
pub struct Recording {
    cipher_suite: u8,
    username: String,
    password: String,
    sik: String,
    k1: String,
    k2: String,
    pub datagrams: Vec<Datagram>,
}

#[derive(Deserialize)]
pub struct Datagram {
    pub from: String,
    pub bytes: String,
    /// The decrypted IPMI message, where it is sealed.
    pub message: Option<String>,
}

pub fn recordings() -> Vec<Recording> {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let folder = std::env::var("HALBERD_VECTORS").unwrap_or_else(|_| kept.to_owned());
    let read = |name: &str| {
        let path = format!("{folder}/{name}.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        serde_json::from_str(&text).unwrap()
    };
    ["ipmi_sim-suite3", "halberd-sim-suite17"].map(read).into()
}

pub fn hex(text: &str) -> Vec<u8> {
    unhex(text).unwrap()
}

/// ipmitool numbers every step with tag 0, we with one each; no code covers the tag.
pub fn tagged(datagram: &[u8], tag: u8) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    bytes[frame::HEADER] = tag;
    bytes
}

impl Recording {
    /// The whole datagram of this payload type.
    fn step(&self, kind: u8) -> Vec<u8> {
        self.datagrams.iter().map(|d| hex(&d.bytes)).find(|d| d[4] == 6 && d[5] == kind).unwrap()
    }

    pub fn open_request(&self) -> Vec<u8> {
        self.step(payload::OPEN_REQUEST)
    }

    pub fn opened(&self) -> Vec<u8> {
        self.step(payload::OPEN_RESPONSE)
    }

    pub fn rakp1(&self) -> Vec<u8> {
        self.step(payload::RAKP1)
    }

    pub fn rakp2(&self) -> Vec<u8> {
        self.step(payload::RAKP2)
    }

    pub fn rakp3(&self) -> Vec<u8> {
        self.step(payload::RAKP3)
    }

    pub fn rakp4(&self) -> Vec<u8> {
        self.step(payload::RAKP4)
    }

    fn part<const N: usize>(datagram: &[u8], at: usize) -> [u8; N] {
        datagram[frame::HEADER + at..frame::HEADER + at + N].try_into().unwrap()
    }

    pub fn console_id(&self) -> [u8; 4] {
        Self::part(&self.open_request(), 4)
    }

    pub fn bmc_id(&self) -> [u8; 4] {
        Self::part(&self.opened(), 8)
    }

    pub fn guid(&self) -> [u8; 16] {
        Self::part(&self.rakp2(), 24)
    }

    pub fn suite(&self) -> Suite {
        if self.cipher_suite == 3 { Suite::Three } else { Suite::Seventeen }
    }

    pub fn chance(&self) -> Chance {
        Chance { console_id: self.console_id(), console_random: Self::part(&self.rakp1(), 8), tag: 0 }
    }

    pub fn login(&self) -> Login {
        let password = SecretString::from(self.password.clone());
        Login { username: self.username.clone(), password, kg: None, privilege: 3 }
    }

    pub fn sik(&self) -> Vec<u8> {
        hex(&self.sik)
    }

    pub fn keys(&self) -> Keys {
        Keys::new(self.suite(), &self.sik())
    }

    /// Sealed datagrams with their messages, and to whom they went.
    pub fn sealed(&self) -> Vec<([u8; 4], Vec<u8>, Vec<u8>)> {
        let to = |from: &str| if from == "bmc" { self.console_id() } else { self.bmc_id() };
        let sealed = |d: &Datagram| Some((to(&d.from), hex(&d.bytes), hex(d.message.as_ref()?)));
        self.datagrams.iter().filter_map(sealed).collect()
    }

    pub fn sealed_by_bmc(&self) -> Vec<Vec<u8>> {
        self.sealed()
            .into_iter()
            .filter(|(to, ..)| *to == self.console_id())
            .map(|(_, bytes, _)| bytes)
            .collect()
    }

    /// The message of the first sealed datagram with this netFn and command.
    pub fn message(&self, netfn: u8, command: u8) -> Vec<u8> {
        let all = self.sealed();
        all.into_iter().map(|(.., m)| m).find(|m| m[1] >> 2 == netfn && m[5] == command).unwrap()
    }
}

#[test]
fn keys_are_those_of_others() {
    for r in recordings() {
        let (k1, k2) = (r.suite().hmac(&r.sik(), &[&[1; 20]]), r.suite().hmac(&r.sik(), &[&[2; 20]]));
        assert_eq!((k1.to_vec(), k2.to_vec()), (hex(&r.k1), hex(&r.k2)), "suite {}", r.cipher_suite);
    }
}

#[test]
fn sealed_messages_open_and_ours_equal_them() {
    for r in recordings() {
        let keys = r.keys();
        assert!(r.sealed().len() > 20);
        for (to, datagram, message) in r.sealed() {
            let packet = Packet::parse(&datagram).unwrap();
            assert_eq!(keys.open(to, &datagram), Some((packet.sequence, message.clone())));
            let iv = packet.payload[..16].try_into().unwrap();
            assert_eq!(keys.seal(to, packet.sequence, iv, &message), datagram);
        }
    }
}
