//! Against recorded exchanges of ipmitool with a BMC, and against a peer that replays and disturbs.

use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs::connection::{Message, NetFn};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::auth::{Keys, Suite};
use super::frame::{self, Packet};
use super::handshake::{Failure, Login, Next, Round, Step};
use super::session::Window;
use recorded::{hex, recordings, tagged};

mod checks;
mod fuzz;
pub(crate) mod peer;
mod recorded;
mod udp;

fn sent(next: Next) -> Vec<u8> {
    match next {
        Next::Send(bytes) => bytes,
        Next::Ignore => panic!("ignored"),
        Next::Done(_) => panic!("done"),
        Next::Failed(failure) => panic!("{failure:?}"),
    }
}

fn failed(next: Next) -> Failure {
    match next {
        Next::Failed(failure) => failure,
        _ => panic!("not refused"),
    }
}

#[test]
fn handshake_is_ipmitools_byte_for_byte() {
    for r in recordings() {
        let login = r.login();
        let mut round = Round::new(&login, r.suite(), r.chance());
        assert_eq!(round.open(), r.open_request());
        assert_eq!(sent(round.receive(&tagged(&r.opened(), 0))), tagged(&r.rakp1(), 1));
        assert_eq!(sent(round.receive(&tagged(&r.rakp2(), 1))), tagged(&r.rakp3(), 2));
        assert_eq!(round.sik(), r.sik());
        match round.receive(&tagged(&r.rakp4(), 2)) {
            Next::Done(e) => assert_eq!((e.bmc_id, e.guid), (r.bmc_id(), r.guid())),
            _ => panic!("suite {}: RAKP 4 was not accepted", r.suite().id()),
        }
    }
}

#[test]
fn requests_are_ipmitools_byte_for_byte() {
    for r in recordings() {
        assert_eq!(frame::request(&super::SetPrivilege(3).into(), 1), r.message(6, 0x3b));
        let numbered = |message: &[u8]| message[4] >> 2;
        let (down, close) = (r.message(0, 0x02), r.message(6, 0x3c));
        assert_eq!(frame::request(&super::PowerDown.into(), numbered(&down)), down);
        let closing = super::commands::CloseSession(r.bmc_id());
        assert_eq!(frame::request(&closing.into(), numbered(&close)), close);
    }
}

#[test]
fn recorded_answers_parse_and_damaged_ones_do_not() {
    for r in recordings() {
        let bytes = r.message(7, 0x3b);
        let answer = frame::response(&bytes).unwrap();
        assert_eq!((answer.sequence, answer.completion, answer.message.cmd()), (1, 0, 0x3b));
        assert_eq!((answer.message.netfn(), answer.message.data()), (NetFn::App, &[0x03][..]));
        // Get Device GUID of an operator's shell is refused or not known: a code, not data.
        assert_ne!(frame::response(&r.message(0x2d, 0x3e)).unwrap().completion, 0);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x01;
            assert_eq!(frame::response(&damaged), None, "byte {at}");
        }
    }
}

#[test]
fn what_is_not_of_this_step_is_ignored() {
    for r in recordings() {
        let login = r.login();
        let mut round = Round::new(&login, r.suite(), r.chance());
        assert!(matches!(round.receive(&tagged(&r.rakp2(), 1)), Next::Ignore));
        assert!(matches!(round.receive(&tagged(&r.opened(), 9)), Next::Ignore), "another round's tag");
        sent(round.receive(&tagged(&r.opened(), 0)));
        assert!(matches!(round.receive(&tagged(&r.opened(), 0)), Next::Ignore), "doubled");
        assert_eq!(round.step(), Step::Rakp2);
        sent(round.receive(&tagged(&r.rakp2(), 1)));
        let mut other = tagged(&r.rakp4(), 2);
        other[frame::HEADER + 4] ^= 1;
        assert!(matches!(round.receive(&other), Next::Ignore), "another console's id");
    }
}

#[test]
fn refusals_keep_their_meaning() {
    for r in recordings() {
        let (right, wrong) = (r.login(), Login { password: SecretString::from("another"), ..r.login() });
        let opened = |login| {
            let mut round = Round::new(login, r.suite(), r.chance());
            sent(round.receive(&tagged(&r.opened(), 0)));
            round
        };
        assert!(matches!(failed(opened(&wrong).receive(&tagged(&r.rakp2(), 1))), Failure::Credentials(_)));
        // A BMC key that is not the BMC's shows in RAKP 4 only.
        let kg = Login { kg: Some(Zeroizing::new(b"other".to_vec())), ..r.login() };
        let mut round = opened(&kg);
        sent(round.receive(&tagged(&r.rakp2(), 1)));
        assert_eq!(
            failed(round.receive(&tagged(&r.rakp4(), 2))),
            Failure::Credentials("the BMC proves another key: check kg")
        );

        let refuse = |status: u8, length: usize| {
            let mut round = opened(&right);
            let mut body = vec![1, status, 0, 0];
            body.extend(r.console_id());
            round.receive(&frame::packet(frame::payload::RAKP2, [0; 4], 0, &body[..length]))
        };
        for length in [2, 4, 8] {
            assert_eq!(failed(refuse(0x0d, length)), Failure::Credentials("user unknown"));
            assert_eq!(failed(refuse(0x0a, length)), Failure::Privilege);
            assert_eq!(failed(refuse(0x01, length)), Failure::NoResources);
            assert_eq!(failed(refuse(0x11, length)), Failure::Suite);
        }
    }
}

#[test]
fn a_substituted_suite_is_refused() {
    for r in recordings() {
        let login = r.login();
        for (at, name) in [(12 + 4, "authentication"), (20 + 4, "integrity"), (28 + 4, "confidentiality")] {
            let mut response = tagged(&r.opened(), 0);
            response[frame::HEADER + at] = 0;
            let mut round = Round::new(&login, r.suite(), r.chance());
            assert_eq!(failed(round.receive(&response)), Failure::Suite, "{name}");
        }
    }
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    for r in recordings() {
        let (keys, id) = (r.keys(), r.console_id());
        let (_, datagram, message) = r.sealed().into_iter().rfind(|(to, ..)| *to == id).unwrap();
        assert!(keys.open(id, &datagram).is_some());
        for at in 0..datagram.len() {
            let mut damaged = datagram.clone();
            damaged[at] ^= 0x40;
            assert_eq!(keys.open(id, &damaged), None, "byte {at}");
            assert_eq!(keys.open(id, &datagram[..at]), None, "cut at {at}");
        }
        // Plain and unauthenticated answers are nobody's, whoever sends them.
        for flags in [0x00, 0x40, 0x80] {
            let mut plain = frame::packet(flags, id, 9, &message);
            assert_eq!(keys.open(id, &plain), None);
            plain.extend([0xff, 0xff, 2, 7]);
            assert_eq!(keys.open(id, &plain), None);
        }
    }
}

#[test]
fn the_window_takes_each_number_once() {
    let mut window = Window::default();
    assert!(window.accept(5));
    assert!(!window.accept(5));
    assert!(window.accept(20));
    assert!(!window.accept(36), "16 ahead");
    assert!(window.accept(4), "16 behind");
    assert!(!window.accept(3), "17 behind");
    assert!(!window.accept(5) && !window.accept(20) && !window.accept(4));
    assert!(window.accept(35));
    assert!(window.accept(34) && !window.accept(34));
    let mut edge = Window::default();
    assert!(edge.accept(u32::MAX) && edge.accept(3));
    assert!(!Window::default().accept(0));
}

proptest::proptest! {
    #[test]
    fn sealed_messages_of_every_length_open(data in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        for suite in [Suite::Three, Suite::Seventeen] {
            let keys = Keys::new(suite, &[7; 20]);
            let message = frame::request(&Message::new_request(NetFn::App, 1, data.clone()), 9);
            let datagram = keys.seal([1, 2, 3, 4], 77, [5; 16], &message);
            proptest::prop_assert_eq!(keys.open([1, 2, 3, 4], &datagram), Some((77, message)));
        }
    }
}

/// Times for tests: short where something must fail to come, long where something comes.
fn limits() -> crate::Limits {
    let ms = Duration::from_millis;
    crate::Limits {
        handshake: ms(2_000),
        handshake_step: ms(100),
        handshake_step_later: ms(250),
        request: ms(1_000),
        resend: vec![ms(60), ms(120), ms(120), ms(120), ms(120)],
        close: ms(50),
        ..crate::Limits::default()
    }
}

fn device(address: SocketAddr, cipher: Option<u8>) -> super::Ipmi {
    let mut json = serde_json::json!({"type": "ipmi", "address": address.to_string(), "username": "admin",
        "password": "secret"});
    if let Some(cipher) = cipher {
        json["cipher"] = cipher.into();
    }
    let json = serde_json::json!({"levels": [{"devices": [json]}]}).to_string();
    let devices = crate::FenceDevices::parse(&json).unwrap();
    super::Ipmi::new(&devices.levels[0].devices[0], &limits()).unwrap()
}
