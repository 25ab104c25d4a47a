//! Against recorded exchanges of ipmitool with a BMC, and against a peer that replays and disturbs.

use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs::connection::{Message, NetFn};
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::auth::{Keys, Suite};
use super::frame::{self, Packet};
use super::handshake::{Chance, Failure, Login, Next, Round, Step};
use super::session::Window;
use crate::device::unhex;

pub(crate) mod peer;
mod udp;

#[derive(Deserialize)]
struct Recorded {
    cipher_suite: u8,
    console_session_id: String,
    bmc_session_id: String,
    console_random: String,
    sik: String,
    open_session_request: String,
    open_session_response: String,
    rakp1: String,
    rakp2: String,
    rakp3: String,
    rakp4: String,
    bmc_guid: String,
    messages: Vec<Exchanged>,
}

#[derive(Deserialize)]
struct Exchanged {
    from: String,
    session_sequence: u32,
    datagram: String,
    ipmi_message: String,
}

fn recorded() -> Vec<Recorded> {
    #[derive(Deserialize)]
    struct File {
        vectors: Vec<Recorded>,
    }
    serde_json::from_str::<File>(include_str!("vectors.json")).unwrap().vectors
}

fn hex(text: &str) -> Vec<u8> {
    unhex(text).unwrap()
}

fn fixed<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

/// ipmitool numbers every step with tag 0, we with one each; no code covers the tag.
fn tagged(datagram: &str, tag: u8) -> Vec<u8> {
    let mut bytes = hex(datagram);
    bytes[frame::HEADER] = tag;
    bytes
}

impl Recorded {
    fn suite(&self) -> Suite {
        if self.cipher_suite == 3 { Suite::Three } else { Suite::Seventeen }
    }

    fn chance(&self) -> Chance {
        let console_id = fixed(&self.console_session_id);
        Chance { console_id, console_random: fixed(&self.console_random), tag: 0 }
    }
}

fn login(password: &str) -> Login {
    Login { username: "admin".into(), password: SecretString::from(password), kg: None, privilege: 3 }
}

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
    for r in recorded() {
        let login = login("secret");
        let mut round = Round::new(&login, r.suite(), r.chance());
        assert_eq!(round.open(), hex(&r.open_session_request));
        assert_eq!(sent(round.receive(&tagged(&r.open_session_response, 0))), tagged(&r.rakp1, 1));
        assert_eq!(sent(round.receive(&tagged(&r.rakp2, 1))), tagged(&r.rakp3, 2));
        assert_eq!(round.sik(), hex(&r.sik));
        match round.receive(&tagged(&r.rakp4, 2)) {
            Next::Done(e) => {
                assert_eq!(e.bmc_id, fixed(&r.bmc_session_id));
                assert_eq!(e.guid, fixed(&r.bmc_guid));
            }
            _ => panic!("suite {}: RAKP 4 was not accepted", r.cipher_suite),
        }
    }
}

#[test]
fn recorded_messages_open_and_ours_equal_them() {
    for r in recorded() {
        let keys = Keys::new(r.suite(), &hex(&r.sik));
        for m in &r.messages {
            let datagram = hex(&m.datagram);
            let to = if m.from == "bmc" { &r.console_session_id } else { &r.bmc_session_id };
            let (sequence, message) = keys.open(fixed(to), &datagram).expect(&m.datagram);
            assert_eq!((sequence, &message), (m.session_sequence, &hex(&m.ipmi_message)));
            let iv = Packet::parse(&datagram).unwrap().payload[..16].try_into().unwrap();
            assert_eq!(keys.seal(fixed(to), sequence, iv, &message), datagram);
        }
    }
}

#[test]
fn requests_are_ipmitools_byte_for_byte() {
    let r = &recorded()[0];
    let recorded = |at: usize| hex(&r.messages[at].ipmi_message);
    assert_eq!(frame::request(&super::SetPrivilege(3).into(), 1), recorded(0));
    assert_eq!(frame::request(&super::PowerDown.into(), 6), recorded(10));
    let close = super::commands::CloseSession(fixed(&r.bmc_session_id));
    assert_eq!(frame::request(&close.into(), 7), recorded(12));
}

#[test]
fn recorded_answers_parse_and_damaged_ones_do_not() {
    let r = &recorded()[0];
    let bytes = hex(&r.messages[1].ipmi_message);
    let answer = frame::response(&bytes).unwrap();
    assert_eq!((answer.sequence, answer.completion, answer.message.cmd()), (1, 0, 0x3b));
    assert_eq!((answer.message.netfn(), answer.message.data()), (NetFn::App, &[0x03][..]));
    assert_eq!(frame::response(&hex(&r.messages[3].ipmi_message)).unwrap().completion, 0xc1);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x01;
        assert_eq!(frame::response(&damaged), None, "byte {at}");
    }
}

#[test]
fn what_is_not_of_this_step_is_ignored() {
    let r = &recorded()[1];
    let login = login("secret");
    let mut round = Round::new(&login, r.suite(), r.chance());
    assert!(matches!(round.receive(&tagged(&r.rakp2, 1)), Next::Ignore));
    assert!(
        matches!(round.receive(&tagged(&r.open_session_response, 9)), Next::Ignore),
        "another round's tag"
    );
    sent(round.receive(&tagged(&r.open_session_response, 0)));
    assert!(matches!(round.receive(&tagged(&r.open_session_response, 0)), Next::Ignore), "doubled");
    assert_eq!(round.step(), Step::Rakp2);
    sent(round.receive(&tagged(&r.rakp2, 1)));
    let mut other = tagged(&r.rakp4, 2);
    other[frame::HEADER + 4] ^= 1;
    assert!(matches!(round.receive(&other), Next::Ignore), "another console's id");
}

#[test]
fn refusals_keep_their_meaning() {
    for r in recorded() {
        let (right, wrong) = (login("secret"), login("Secret"));
        let opened = |login| {
            let mut round = Round::new(login, r.suite(), r.chance());
            sent(round.receive(&tagged(&r.open_session_response, 0)));
            round
        };
        assert!(matches!(failed(opened(&wrong).receive(&tagged(&r.rakp2, 1))), Failure::Credentials(_)));
        // A BMC key that is not the BMC's shows in RAKP 4 only.
        let mut kg = login("secret");
        kg.kg = Some(Zeroizing::new(b"other".to_vec()));
        let mut round = opened(&kg);
        sent(round.receive(&tagged(&r.rakp2, 1)));
        assert_eq!(
            failed(round.receive(&tagged(&r.rakp4, 2))),
            Failure::Credentials("the BMC proves another key: check kg")
        );

        let refuse = |status: u8, length: usize| {
            let mut round = opened(&right);
            let mut body = vec![1, status, 0, 0];
            body.extend(hex(&r.console_session_id));
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
    let r = &recorded()[1];
    let login = login("secret");
    for (at, name) in [(12 + 4, "authentication"), (20 + 4, "integrity"), (28 + 4, "confidentiality")] {
        let mut response = tagged(&r.open_session_response, 0);
        response[frame::HEADER + at] = 0;
        let mut round = Round::new(&login, r.suite(), r.chance());
        assert_eq!(failed(round.receive(&response)), Failure::Suite, "{name}");
    }
}

#[test]
fn every_damaged_byte_and_every_cut_is_noticed() {
    for r in recorded() {
        let keys = Keys::new(r.suite(), &hex(&r.sik));
        let datagram = hex(&r.messages[5].datagram);
        let id = fixed(&r.console_session_id);
        assert!(keys.open(id, &datagram).is_some());
        for at in 0..datagram.len() {
            let mut damaged = datagram.clone();
            damaged[at] ^= 0x40;
            assert_eq!(keys.open(id, &damaged), None, "byte {at}");
            assert_eq!(keys.open(id, &datagram[..at]), None, "cut at {at}");
        }
        // Plain and unauthenticated answers are nobody's, whoever sends them.
        for flags in [0x00, 0x40, 0x80] {
            let mut plain = frame::packet(flags, id, 9, &hex(&r.messages[5].ipmi_message));
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
    fn parsers_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let r = &recorded()[1];
        let _ = Packet::parse(&bytes);
        let _ = frame::response(&bytes);
        let keys = Keys::new(r.suite(), &hex(&r.sik));
        proptest::prop_assert!(keys.open([1, 2, 3, 4], &bytes).is_none());
        let login = login("secret");
        let mut round = Round::new(&login, r.suite(), r.chance());
        let _ = round.receive(&bytes);
    }

    /// Right headers and garbage inside: as far in as a datagram gets without the keys.
    #[test]
    fn handshake_never_panics(
        kind in proptest::sample::select(&[0x11_u8, 0x13, 0x15][..]),
        status in proptest::sample::select(&[0_u8, 1, 2, 0x0d, 0x77][..]),
        body in proptest::collection::vec(proptest::num::u8::ANY, 0..120),
    ) {
        let r = &recorded()[0];
        let login = login("secret");
        let mut round = Round::new(&login, r.suite(), r.chance());
        if kind != 0x11 { round.receive(&tagged(&r.open_session_response, 0)); }
        if kind == 0x15 { round.receive(&tagged(&r.rakp2, 1)); }
        let mut payload = vec![round.step() as u8, status, 0, 0];
        payload.extend(hex(&r.console_session_id));
        payload.extend(body);
        let _ = round.receive(&frame::packet(kind, [0; 4], 0, &payload));
    }

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
