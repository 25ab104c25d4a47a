//! The codec against exchanges recorded between ipmitool and another BMC: only an outsider can tell that it is right.

use super::codec::{self, Frame, Message};
use super::keys::{Keys, Suite};
use super::session::{Sessions, Window};
use super::{Outcome, RMCP, Responder};
use crate::history::What;
use crate::shell::Shared;
use crate::spec::{BmcKind, WorldSpec};
use crate::world::World;
use std::sync::{Arc, Mutex};

/// A recorded exchange: user `admin`, password `secret`, role 13h; all hex.
struct Recorded {
    suite: Suite,
    bmc: &'static str,
    rm: &'static str,
    rc: &'static str,
    sik: &'static str,
    k1: &'static str,
    rakp2: &'static str,
    rakp3: &'static str,
    rakp4: &'static str,
    request: &'static str,
    response: &'static str,
}

const CONSOLE: &str = "a4a3a2a0";
const GUID: &str = "8839d356f7875a0b8010d454645c55f8";
const NAMED: [u8; 7] = *b"\x13\x05admin";

const RECORDED: [Recorded; 2] = [
    Recorded {
        suite: Suite::Three,
        bmc: "26b700c1",
        rm: "f6d0d37988e4d33c200a1e3d3dc92f2b",
        rc: "7bf925e37233de62bca5df52a7b8262d",
        sik: "49e60b7e360b6d0e50e31659152cf7d962119c28",
        k1: "0b8e80b5483d91bf558aab0f01eea33585c9b573",
        rakp2: "d2e9770258c83109e1796805297838dd3af9f4ed",
        rakp3: "711de2d232094b48190c3cc5d7687a1ef70cee0a",
        rakp4: "234c252456663525a8e900b0",
        request: "06c026b700c10300000020002a19b1e6edcf7cb481f20fc5a19391d070c12fbffcf2abbe5ee8ff073ce4cc04ffff0207\
                  18f413196a6d90628608a54a",
        response: "06c0a4a3a2a00100000020006530e4d3f33b15b95888481e0303affab3796b150aaa21ee4ae8ea6930258c3affff0207\
                   64100f4def54815420a53246",
    },
    Recorded {
        suite: Suite::Seventeen,
        bmc: "c501e815",
        rm: "72a4adba1419e5d30aedef472b72577b",
        rc: "7670092b41be49c3f79b6b335d6dbf5a",
        sik: "2499b293948cd7267ccf287a6f624d59e3d854460e13e066c7446c65558b48b2",
        k1: "8217fe363c43b1b831c8db3889ec15c1e93f94e317a805b5305582ae16420eb7",
        rakp2: "54c3e1f01407c85302bb6f5a1fe89ecb7b3e4a0354f9ea7a244c803fd31e0a39",
        rakp3: "7e34b6f7558ac25aad1d9f0254b949f2eff84b5fdd9cccb93080e7da74056d69",
        rakp4: "cf684d6dbd9ef5732e19f376196d7f3b",
        request: "06c0c501e815030000002000cf173c807e688da0ddd0282b27498408e4f4c0fe33b94dcdb02300035da546abffff0207\
                  e97928f011df4f776055fe228ae35225",
        response: "06c0a4a3a2a0010000002000cab86879ccfb5a9fea3fa4dea33870e94090106db9780040640a6ce146560082ffff0207\
                   a03604efc97ba64ae550a61b7e727466",
    },
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn handshake_codes_and_keys() {
    for it in RECORDED {
        let (bmc, rm, rc) = (hex(it.bmc), hex(it.rm), hex(it.rc));
        let (console, guid) = (hex(CONSOLE), hex(GUID));
        let second = it.suite.hmac(b"secret", &[&console, &bmc, &rm, &rc, &guid, &NAMED]);
        assert_eq!(second, hex(it.rakp2));
        let third = it.suite.hmac(b"secret", &[&rc, &console, &NAMED]);
        assert_eq!(third, hex(it.rakp3));
        let sik = it.suite.hmac(b"secret", &[&rm, &rc, &NAMED]);
        assert_eq!(sik, hex(it.sik));
        let keys = Keys::new(it.suite, sik);
        assert_eq!(keys.k1, hex(it.k1));
        let fourth = it.suite.hmac(&keys.sik, &[&rm, &bmc, &guid]);
        assert_eq!(fourth[..it.suite.cut()], hex(it.rakp4));
    }
}

#[test]
fn a_recorded_request_opens_and_a_recorded_response_is_made_again() {
    for it in RECORDED {
        let keys = Keys::new(it.suite, hex(it.sik));
        let request = hex(it.request);
        assert!(keys.authentic(&request));
        let frame = Frame::parse(&request).unwrap();
        assert_eq!((frame.kind, frame.sequence), (0xc0, 3));
        let message = Message::parse(&keys.decrypt(frame.payload).unwrap()).unwrap();
        // Set Session Privilege Level to OPERATOR.
        assert_eq!((message.net_fn, message.command, message.data.as_slice()), (0x06, 0x3b, &[3][..]));
        let answer = message.answer(&[0x00, 0x03]);
        let response = hex(it.response);
        let iv = response[12..28].try_into().unwrap();
        let console = u32::from_le_bytes(hex(CONSOLE).try_into().unwrap());
        assert_eq!(keys.seal(console, 1, iv, &answer), response);
    }
}

#[test]
fn one_changed_bit_anywhere_is_noticed() {
    for it in RECORDED {
        let keys = Keys::new(it.suite, hex(it.sik));
        let request = hex(it.request);
        for at in 0..request.len() {
            let mut changed = request.clone();
            changed[at] ^= 1;
            assert!(!keys.authentic(&changed), "byte {at}");
        }
    }
}

#[test]
fn garbage_is_nothing() {
    let keys = Keys::new(Suite::Three, vec![7; 20]);
    for length in 0..80 {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 37) as u8).collect();
        assert!(!keys.authentic(&bytes));
        assert!(keys.decrypt(&bytes).is_none());
        assert!(Message::parse(&bytes).is_none());
        let _ = Frame::parse(&bytes);
    }
}

#[test]
fn a_sequence_number_counts_once_and_within_its_window() {
    let mut window = Window::default();
    assert!(window.fresh(3));
    assert!(!window.fresh(3));
    assert!(window.fresh(18));
    assert!(!window.fresh(34));
    assert!(window.fresh(2));
    assert!(!window.fresh(2));
    assert!(!window.fresh(1));
    assert!(!window.fresh(0));
    assert!(window.fresh(33));
    assert!(window.fresh(17));
    assert!(!window.fresh(16));
}

/// A BMC, and a console that has an OPERATOR's session with it.
struct Console {
    responder: Responder,
    keys: Keys,
    session: u32,
    sequence: u32,
}

fn answer(outcome: Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Answer(datagram, _) => datagram,
        Outcome::Nothing => panic!("no answer"),
    }
}

impl Console {
    fn open() -> Self {
        let spec = WorldSpec { bmc_kinds: vec![BmcKind::Ipmi], ..WorldSpec::spread(1, 1) };
        let world = World::new(spec);
        let (name, password) = world.bmc_credentials("cmp-01");
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            started: std::time::Instant::now(),
            stop: tokio_util::sync::CancellationToken::new(),
            deeds: tokio::sync::watch::Sender::new(0),
            registered: Mutex::default(),
            bmcs: std::sync::OnceLock::new(),
        });
        let mut responder = Responder { shared, host: "cmp-01".into(), sessions: Sessions::default() };
        let open = hex("0004000001020304000000080300000001000008040000000200000801000000");
        let opened = answer(responder.datagram(&codec::plain(0x10, &open)));
        let id: [u8; 4] = opened[24..28].try_into().unwrap();
        let named = [&[0x14, name.len() as u8], name.as_bytes()].concat();
        let rm = [9; 16];
        let first = [&[0; 4], id.as_slice(), &rm, &[0x14, 0, 0, name.len() as u8], name.as_bytes()].concat();
        let second = answer(responder.datagram(&codec::plain(0x12, &first)));
        let rc: [u8; 16] = second[24..40].try_into().unwrap();
        let suite = Suite::Seventeen;
        let code = suite.hmac(password.as_bytes(), &[&rc, &[1, 2, 3, 4], &named]);
        let third = [&[0; 4], id.as_slice(), &code].concat();
        let fourth = answer(responder.datagram(&codec::plain(0x14, &third)));
        assert_eq!(fourth[17], 0);
        let sik = suite.hmac(password.as_bytes(), &[&rm, &rc, &named]);
        let keys = Keys::new(suite, sik);
        Self { responder, keys, session: u32::from_le_bytes(id), sequence: 0 }
    }

    fn request(&mut self, net_fn: u8, command: u8, data: &[u8]) -> Vec<u8> {
        self.sequence += 1;
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
        let mut message = vec![0x20, net_fn << 2];
        message.push(sum(&message));
        message.extend([0x81, 0x04, command]);
        message.extend(data);
        message.push(sum(&message[3..]));
        [&RMCP[..], &self.keys.seal(self.session, self.sequence, [5; 16], &message)].concat()
    }

    /// The completion code and data of the answer.
    fn ask(&mut self, net_fn: u8, command: u8, data: &[u8]) -> Vec<u8> {
        let request = self.request(net_fn, command, data);
        let sealed = answer(self.responder.datagram(&request));
        assert!(self.keys.authentic(&sealed[4..]));
        let frame = Frame::parse(&sealed[4..]).unwrap();
        let message = self.keys.decrypt(frame.payload).unwrap();
        message[6..message.len() - 1].to_vec()
    }

    fn orders(&self) -> usize {
        let world = self.responder.shared.lock();
        world.history().iter().filter(|it| matches!(it.what, What::OffOrdered { .. })).count()
    }
}

#[test]
fn privilege_is_asked_for_and_forged_and_repeated_orders_are_dropped() {
    let mut console = Console::open();
    assert_eq!(console.ask(0x00, 0x02, &[0]), [0xd4]);
    assert_eq!(console.ask(0x06, 0x3b, &[3]), [0, 3]);
    assert_eq!(console.ask(0x06, 0x99, &[]), [0xc1]);
    let off = console.request(0x00, 0x02, &[0]);
    let mut forged = off.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(matches!(console.responder.datagram(&forged), Outcome::Nothing));
    let mut plain = off.clone();
    plain[5] = 0x00;
    assert!(matches!(console.responder.datagram(&plain), Outcome::Nothing));
    assert_eq!(console.orders(), 0);
    assert!(matches!(console.responder.datagram(&off), Outcome::Answer(..)));
    assert!(matches!(console.responder.datagram(&off), Outcome::Nothing));
    assert_eq!(console.orders(), 1);
    let id = console.session.to_le_bytes();
    assert_eq!(console.ask(0x06, 0x3c, &id), [0]);
    let late = console.request(0x00, 0x01, &[]);
    assert!(matches!(console.responder.datagram(&late), Outcome::Nothing));
}

#[test]
fn the_restore_policy_is_shown_in_the_status_and_set_by_operators() {
    let mut console = Console::open();
    let policy = |console: &mut Console| console.ask(0x00, 0x01, &[])[1] >> 5 & 3;
    assert_eq!(policy(&mut console), 1);
    assert_eq!(console.ask(0x00, 0x06, &[0]), [0xd4]);
    assert_eq!(console.ask(0x06, 0x3b, &[3]), [0, 3]);
    // 3 asks which there are: all three, and changes nothing.
    assert_eq!(console.ask(0x00, 0x06, &[3]), [0, 0x07]);
    assert_eq!(policy(&mut console), 1);
    for wanted in [2, 0, 1] {
        assert_eq!(console.ask(0x00, 0x06, &[wanted]), [0, 0x07]);
        assert_eq!(policy(&mut console), wanted);
    }
    assert_eq!(console.ask(0x00, 0x06, &[4]), [0xcc]);
    assert_eq!(console.ask(0x00, 0x06, &[]), [0xc7]);
    assert_eq!(policy(&mut console), 1);
}

#[test]
fn capabilities_are_of_this_channel_and_of_the_version_asked_for() {
    let mut console = Console::open();
    // The present channel with 2.0 data, then without, then channel 1 by its number.
    assert_eq!(console.ask(0x06, 0x38, &[0x8e, 4]), [0, 1, 0x80, 0x04, 0x02, 0, 0, 0, 0]);
    assert_eq!(console.ask(0x06, 0x38, &[0x0e, 4]), [0, 1, 0x00, 0x04, 0x00, 0, 0, 0, 0]);
    assert_eq!(console.ask(0x06, 0x38, &[0x81, 3])[..2], [0, 1]);
    assert_eq!(console.ask(0x06, 0x38, &[0x82, 3]), [0xcc]);
    assert_eq!(console.ask(0x06, 0x38, &[0x8e, 0]), [0xcc]);
    assert_eq!(console.ask(0x06, 0x38, &[0x8e]), [0xc7]);
}
