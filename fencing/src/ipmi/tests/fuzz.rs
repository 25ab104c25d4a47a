//! Everything that a datagram can be, in every state in which one may come.

use rand::Rng;
use rand::rngs::StdRng;

use super::super::commands::{GetChassisStatus, GetSystemGuid, SetPrivilege, meaning};
use super::*;
use crate::fuzz::{bytes, fuzz, mutated, pick};
use ipmi_rs::connection::{CompletionErrorCode, IpmiCommand};

/// Every datagram of the recorded exchanges.
fn corpus() -> Vec<Vec<u8>> {
    recordings().iter().flat_map(|r| r.datagrams.iter().map(|d| hex(&d.bytes))).collect()
}

fn any(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    match rng.random_range(0..8) {
        0 => bytes(rng, 2_048),
        1 => pick(rng, corpus).clone(),
        2 => {
            let (kind, session) = (rng.random(), rng.random());
            frame::packet(kind, session, rng.random(), &bytes(rng, 300))
        }
        _ => {
            let good = pick(rng, corpus).clone();
            mutated(rng, &good)
        }
    }
}

#[test]
fn frames() {
    let corpus = corpus();
    let keys: Vec<Keys> = [Suite::Three, Suite::Seventeen].map(|s| Keys::new(s, &[7; 20])).into();
    fuzz("RMCP+ frames", |rng| {
        let datagram = any(rng, &corpus);
        if let Some(packet) = Packet::parse(&datagram) {
            assert!(packet.payload.len() + packet.trailer.len() + frame::HEADER == datagram.len());
        }
        if let Some(answer) = frame::response(&datagram) {
            assert!(answer.message.data().len() <= datagram.len());
        }
        for keys in &keys {
            assert!(keys.open(rng.random(), &datagram).is_none(), "opened without the keys");
        }
    });
}

/// Whoever lacks the password gets nowhere: no mixture of recorded, changed and invented answers ends a handshake well,
/// except with the recorded ones themselves, in their order.
#[test]
fn handshake_messages() {
    let recordings = recordings();
    let all: Vec<_> = recordings.iter().map(|r| [r.opened(), r.rakp2(), r.rakp4()]).collect();
    let corpus = corpus();
    fuzz("handshake", |rng| {
        let which = rng.random_range(0..recordings.len());
        let (r, answers) = (&recordings[which], &all[which]);
        let (right, wrong) = (r.login(), Login { password: SecretString::from("another"), ..r.login() });
        let right_password = rng.random_bool(0.7);
        let login = if right_password { &right } else { &wrong };
        let mut round = Round::new(login, r.suite(), r.chance());
        round.open();
        let mut untouched = true;
        for _ in 0..rng.random_range(1..12) {
            let step = round.step();
            let own = tagged(&answers[step as usize], step as u8);
            let datagram = match rng.random_range(0..4) {
                0 => own.clone(),
                1 => any(rng, &corpus),
                2 => {
                    let status = *pick(rng, &[0_u8, 1, 2, 4, 9, 0x0d, 0x0f, 0x11, 0x77]);
                    let mut payload = vec![step as u8, status, 0, 0];
                    payload.extend(r.console_id());
                    payload.extend(bytes(rng, 120));
                    let kind = *pick(rng, &[0x11_u8, 0x13, 0x15]);
                    frame::packet(kind, [0; 4], 0, &payload)
                }
                _ => mutated(rng, &own),
            };
            untouched &= datagram == own;
            match round.receive(&datagram) {
                // The handshake's answers carry bytes that nothing protects (reserved ones, the status' padding).
                Next::Done(established) => {
                    assert!(right_password, "logged in without the password");
                    assert_eq!((established.suite, established.guid), (r.suite(), r.guid()));
                    assert_eq!(established.bmc_id, r.bmc_id(), "untouched: {untouched}");
                    return;
                }
                Next::Failed(_) => return,
                Next::Send(out) => {
                    assert!(out.len() <= 200);
                    assert!(
                        step != Step::Rakp2 || right_password,
                        "our proof goes to whoever lacks the password"
                    );
                }
                Next::Ignore => {}
            }
        }
    });
}

/// A session's datagrams changed on the way: none opens, whatever was done to it, and none counts twice.
#[test]
fn sealed_messages() {
    let sessions: Vec<_> =
        recordings().into_iter().map(|r| (r.keys(), r.sealed_by_bmc(), r.console_id())).collect();
    fuzz("sealed messages", |rng| {
        let (keys, sealed, id) = pick(rng, &sessions);
        let id = *id;
        let mut window = Window::default();
        let mut taken = Vec::new();
        for _ in 0..rng.random_range(1..20) {
            let good = pick(rng, sealed).clone();
            let datagram = if rng.random_bool(0.5) { good.clone() } else { mutated(rng, &good) };
            match keys.open(id, &datagram) {
                Some((sequence, message)) => {
                    assert!(sealed.contains(&datagram), "a changed datagram opened");
                    if window.accept(sequence) {
                        assert!(!taken.contains(&sequence), "{sequence} counted twice");
                        taken.push(sequence);
                    }
                    assert!(frame::response(&message).is_some());
                }
                None => assert!(!sealed.contains(&datagram)),
            }
        }
        // Well sealed, and garbage inside.
        let message = bytes(rng, 200);
        let datagram = keys.seal(id, rng.random(), rng.random(), &message);
        assert_eq!(keys.open(id, &datagram).map(|(_, m)| m), Some(message.clone()));
        let _ = frame::response(&message);
    });
}

/// Device GUID, privilege and chassis status of any length; every completion code has a meaning.
#[test]
fn responses() {
    fuzz("IPMI responses", |rng| {
        let data = bytes(rng, 300);
        match GetChassisStatus::parse_success_response(&data) {
            Ok(status) => assert_eq!(status.on, data[0] & 1 == 1),
            Err(_) => assert!(data.len() < 3),
        }
        match GetSystemGuid::parse_success_response(&data) {
            Ok(guid) => drop(crate::power::guid(guid).map(|u| u.to_string())),
            Err(_) => assert!(data.len() < 16),
        }
        let _ = SetPrivilege::parse_success_response(&data);
        if let Ok(code) = CompletionErrorCode::try_from(rng.random::<u8>()) {
            let _ = meaning(code);
        }
    });
}
