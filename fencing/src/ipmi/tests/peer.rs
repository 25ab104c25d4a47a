//! A BMC for tests, written from the specification with the bare hash and cipher crates: it shares no line with the
//! client. It does what real ones do badly on request: lose, double, delay and damage datagrams, accept and not obey.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use tokio::net::UdpSocket;

/// What the test may change and look at while the BMC runs.
#[derive(Debug, Default)]
pub struct State {
    pub on: bool,
    pub suites: Vec<u8>,
    pub password: String,
    pub guid: [u8; 16],
    /// Session ids that are open now.
    pub sessions: HashMap<u32, Session>,
    /// Chassis Control commands carried out, by their data byte.
    pub controls: Vec<u8>,
    /// Session sequence numbers received.
    pub sequences: Vec<u32>,
    pub opened: u32,
    pub closed: u32,
    pub fault: Fault,
    /// What the chassis does when supply returns: 0 stays off, 1 as before, 2 on.
    pub policy: u8,
    /// Policies that were set, in order.
    pub policies: Vec<u8>,
    /// Bits of the policies that it has.
    pub has_policies: u8,
    /// Data of Get Device ID; empty: no such command.
    pub device_id: Vec<u8>,
    /// Records of Get Channel Cipher Suites; empty: no such command.
    pub records: Vec<u8>,
    /// Data of Get Channel Authentication Capabilities; empty: silence.
    pub capabilities: Vec<u8>,
    /// Completion codes with which the next Chassis Controls are refused.
    pub refuse: Vec<u8>,
    /// What becomes of an answer's plain message before it is sealed.
    pub rewrite: Option<Rewrite>,
    /// Well-formed statements that the power is off, as they were sealed.
    pub said_off: usize,
}

/// Changes a message.
pub struct Rewrite(pub Change);

type Change = Box<dyn FnMut(&mut Vec<u8>) + Send>;

impl std::fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewrite")
    }
}

/// A Get Chassis Status response in good order whose power bit is clear.
fn says_off(message: &[u8]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |a, b| a.wrapping_add(*b)) == 0;
    matches!(message, [0x81, 0x04, _, 0x20, _, 0x01, 0, power, _, _, .., _] if power & 1 == 0)
        && sum(&message[..3])
        && sum(&message[3..])
}

#[derive(Debug, Default, Clone)]
pub struct Fault {
    /// Ignore the request, do nothing: every n-th datagram in.
    pub lose_in: u32,
    /// Do it, lose the answer: every n-th datagram out.
    pub lose_out: u32,
    pub double: bool,
    /// Before each answer: one with a damaged byte, one from nobody, and garbage.
    pub noise: bool,
    /// The answer to one request comes with the next.
    pub late: bool,
    /// Before each answer in a session, the one that was sent so many answers ago.
    pub replay: usize,
    pub ack_no_off: bool,
    pub silent_rakp1: bool,
    pub silent_rakp3: bool,
    pub mute: bool,
    /// Restore policies are set and never answered.
    pub silent_policy: bool,
}

#[derive(Debug, Default, Clone)]
pub struct Session {
    console: [u8; 4],
    suite: u8,
    rm: [u8; 16],
    rc: [u8; 16],
    tail: Vec<u8>,
    sik: Vec<u8>,
    active: bool,
    privilege: u8,
    sent: u32,
}

pub type Shared = Arc<Mutex<State>>;

pub async fn start(suites: &[u8]) -> (SocketAddr, Shared) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let guid = *b"\x88\x39\xd3\x56\xf7\x87\x4a\x0b\x80\x10\xd4\x54\x64\x5c\x55\xf8";
    let (policy, has_policies, suites, password) = (2, 7, suites.into(), "secret".into());
    let capabilities = vec![1, 0x80, 0x04, 0x02, 0, 0, 0, 0];
    let state =
        State { on: true, capabilities, suites, password, guid, policy, has_policies, ..State::default() };
    let shared = Arc::new(Mutex::new(state));
    tokio::spawn(serve(socket, shared.clone()));
    (address, shared)
}

async fn serve(socket: UdpSocket, shared: Shared) {
    let (mut ins, mut outs) = (0, 0);
    let mut held: Option<Vec<u8>> = None;
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let (answer, fault) = {
            let mut state = shared.lock().unwrap();
            let fault = state.fault.clone();
            ins += 1;
            if fault.mute || fault.lose_in > 0 && ins % fault.lose_in == 0 {
                continue;
            }
            (answer(&mut state, &buffer[..length]), fault)
        };
        let Some(answer) = answer else { continue };
        outs += 1;
        if answer[5] == 0xc0 {
            if let Some(old) = sealed.len().checked_sub(fault.replay).and_then(|at| sealed.get(at)) {
                socket.send_to(old, from).await.unwrap();
            }
            sealed.push(answer.clone());
        }
        if fault.lose_out > 0 && outs % fault.lose_out == 0 {
            continue;
        }
        if fault.late && answer[5] == 0xc0 {
            // What was held goes out now; this one waits for the next request (or a resend).
            if let Some(late) = held.replace(answer) {
                socket.send_to(&late, from).await.unwrap();
            }
            continue;
        }
        if fault.noise {
            let mut damaged = answer.clone();
            *damaged.last_mut().unwrap() ^= 1;
            if answer[5] == 0xc0 {
                socket.send_to(&damaged, from).await.unwrap();
            }
            socket.send_to(b"\x06\x00\xff\x07 nonsense", from).await.unwrap();
            socket.send_to(&answer[..answer.len() / 2], from).await.unwrap();
        }
        for _ in 0..=usize::from(fault.double) {
            socket.send_to(&answer, from).await.unwrap();
            tokio::time::sleep(Duration::ZERO).await;
        }
    }
}

fn mac(suite: u8, key: &[u8], data: &[u8]) -> Vec<u8> {
    if suite == 17 {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    } else {
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key).unwrap();
        mac.update(data);
        mac.finalize().into_bytes().to_vec()
    }
}

fn plain(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![6, 0, 0xff, 7, 6, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend((payload.len() as u16).to_le_bytes());
    out.extend(payload);
    out
}

pub fn answer(state: &mut State, datagram: &[u8]) -> Option<Vec<u8>> {
    if datagram[4] == 0 {
        return outside(state, datagram);
    }
    let body = &datagram[16..];
    match datagram[5] {
        0x10 => Some(open(state, body)),
        0x12 => rakp1(state, body),
        0x14 => rakp3(state, body),
        0xc0 => sealed(state, datagram),
        _ => None,
    }
}

/// A message outside any session: one command is answered.
fn outside(state: &State, datagram: &[u8]) -> Option<Vec<u8>> {
    let message = &datagram[14..];
    assert_eq!((usize::from(datagram[13]), &datagram[4..13]), (message.len(), &[0; 9][..]));
    if state.capabilities.is_empty() || (message[1], message[5]) != (6 << 2, 0x38) {
        return None;
    }
    let mut answer = vec![0x81, 7 << 2, 0_u8.wrapping_sub(0x81 + (7 << 2)), 0x20, message[4], 0x38, 0];
    answer.extend(&state.capabilities);
    answer.push(0_u8.wrapping_sub(answer[3..].iter().fold(0, |a: u8, b| a.wrapping_add(*b))));
    Some([&datagram[..13], &[answer.len() as u8], &answer].concat())
}

fn open(state: &mut State, body: &[u8]) -> Vec<u8> {
    let suite = match (body[12], body[20], body[28]) {
        (1, 1, 1) => 3,
        (3, 4, 1) => 17,
        _ => 0,
    };
    let console: [u8; 4] = body[4..8].try_into().unwrap();
    if !state.suites.contains(&suite) {
        // As ipmi_sim does: two bytes only.
        return plain(0x11, &[body[0], 0x11]);
    }
    state.opened += 1;
    let id = 0x1000 + state.opened;
    state.sessions.insert(id, Session { console, suite, ..Session::default() });
    let mut out = vec![body[0], 0, 4, 0];
    out.extend(console);
    out.extend(id.to_le_bytes());
    out.extend(&body[8..32]);
    plain(0x11, &out)
}

fn by_id<'a>(state: &'a mut State, id: &[u8]) -> Option<&'a mut Session> {
    state.sessions.get_mut(&u32::from_le_bytes(id.try_into().ok()?))
}

fn rakp1(state: &mut State, body: &[u8]) -> Option<Vec<u8>> {
    let (password, guid, silent) = (state.password.clone(), state.guid, state.fault.silent_rakp1);
    let session = by_id(state, &body[4..8])?;
    let console = session.console;
    if silent {
        return None;
    }
    if &body[28..] != b"admin" {
        return Some(plain(0x13, &[&[body[0], 0x0d, 0, 0][..], &console].concat()));
    }
    session.rm = body[8..24].try_into().unwrap();
    session.rc = [0x5c; 16];
    session.tail = [&[body[24], body[27]][..], &body[28..]].concat();
    let data = [&console[..], &body[4..8], &session.rm, &session.rc, &guid, &session.tail].concat();
    let code = mac(session.suite, password.as_bytes(), &data);
    Some(plain(0x13, &[&[body[0], 0, 0, 0][..], &console, &session.rc, &guid, &code].concat()))
}

fn rakp3(state: &mut State, body: &[u8]) -> Option<Vec<u8>> {
    let (password, guid, silent) = (state.password.clone(), state.guid, state.fault.silent_rakp3);
    let session = by_id(state, &body[4..8])?;
    // As real ones: a second RAKP 3 to a session that is open gets no answer.
    if session.active || silent {
        return None;
    }
    let want =
        mac(session.suite, password.as_bytes(), &[&session.rc[..], &session.console, &session.tail].concat());
    if body[8..] != want {
        return Some(plain(0x15, &[&[body[0], 0x0f, 0, 0][..], &session.console].concat()));
    }
    session.sik =
        mac(session.suite, password.as_bytes(), &[&session.rm[..], &session.rc, &session.tail].concat());
    (session.active, session.privilege) = (true, 2);
    let code = mac(session.suite, &session.sik, &[&session.rm[..], &body[4..8], &guid].concat());
    let cut = if session.suite == 17 { 16 } else { 12 };
    Some(plain(0x15, &[&[body[0], 0, 0, 0][..], &session.console, &code[..cut]].concat()))
}

fn sealed(state: &mut State, datagram: &[u8]) -> Option<Vec<u8>> {
    let id = u32::from_le_bytes(datagram[6..10].try_into().ok()?);
    let session = state.sessions.get(&id).filter(|s| s.active)?.clone();
    let cut = if session.suite == 17 { 16 } else { 12 };
    let k1 = mac(session.suite, &session.sik, &[1; 20]);
    let aes: [u8; 16] = mac(session.suite, &session.sik, &[2; 20])[..16].try_into().unwrap();
    let code = datagram.len() - cut;
    assert_eq!(mac(session.suite, &k1, &datagram[4..code])[..cut], datagram[code..], "client's trailer code");
    assert_eq!((code - 4 + cut) % 4, 0, "client's integrity pad");
    state.sequences.push(u32::from_le_bytes(datagram[10..14].try_into().unwrap()));
    let length = usize::from(u16::from_le_bytes(datagram[14..16].try_into().unwrap()));
    let iv: [u8; 16] = datagram[16..32].try_into().unwrap();
    let mut message = datagram[32..16 + length].to_vec();
    cbc::Decryptor::<aes::Aes128>::new(&aes.into(), &iv.into())
        .decrypt_padded_mut::<NoPadding>(&mut message)
        .unwrap();
    let pad = usize::from(*message.last().unwrap());
    message.truncate(message.len() - pad - 1);
    let (netfn, number, command, data) =
        (message[1] >> 2, message[4], message[5], &message[6..message.len() - 1]);
    let reply = carry_out(state, id, netfn, command, data);
    if state.fault.silent_policy && (netfn, command) == (0, 0x06) {
        return None;
    }

    let mut out = vec![0x81, (netfn + 1) << 2];
    out.push(0_u8.wrapping_sub(out.iter().fold(0, |a: u8, b| a.wrapping_add(*b))));
    let mut second = vec![0x20, number, command];
    second.extend(reply);
    second.push(0_u8.wrapping_sub(second.iter().fold(0, |a: u8, b| a.wrapping_add(*b))));
    out.extend(second);
    if let Some(Rewrite(rewrite)) = &mut state.rewrite {
        rewrite(&mut out);
    }
    state.said_off += usize::from(says_off(&out));
    let mut n = 1;
    while (out.len() + 1) % 16 != 0 {
        out.push(n);
        n += 1;
    }
    out.push(n - 1);
    let length = out.len();
    cbc::Encryptor::<aes::Aes128>::new(&aes.into(), &[9; 16].into())
        .encrypt_padded_mut::<NoPadding>(&mut out, length)
        .unwrap();
    // A closed session still answers its own closing.
    let sent = state.sessions.get_mut(&id).map_or(session.sent + 1, |s| {
        s.sent += 1;
        s.sent
    });
    let mut datagram = vec![6, 0, 0xff, 7, 6, 0xc0];
    datagram.extend(session.console);
    datagram.extend(sent.to_le_bytes());
    datagram.extend((16 + out.len() as u16).to_le_bytes());
    datagram.extend([9; 16]);
    datagram.extend(out);
    // The header is 12, IV and blocks are 16 each: two bytes of pad make it a multiple of four.
    datagram.extend([0xff, 0xff, 2, 7]);
    let code = mac(session.suite, &k1, &datagram[4..]);
    datagram.extend(&code[..cut]);
    Some(datagram)
}

fn carry_out(state: &mut State, id: u32, netfn: u8, command: u8, data: &[u8]) -> Vec<u8> {
    let privilege = state.sessions[&id].privilege;
    match (netfn, command) {
        (6, 0x3b) => {
            state.sessions.get_mut(&id).unwrap().privilege = data[0];
            vec![0, data[0]]
        }
        (6, 0x37) => [&[0][..], &state.guid].concat(),
        (6, 0x3c) => {
            state.sessions.remove(&id);
            state.closed += 1;
            vec![0]
        }
        (0, 0x01) => vec![0, state.policy << 5 | u8::from(state.on), 0, 0],
        (0, 0x06) if privilege < 3 => vec![0xd4],
        (0, 0x06) => {
            state.policies.push(data[0]);
            if state.has_policies >> data[0] & 1 == 1 {
                state.policy = data[0];
            }
            vec![0, state.has_policies]
        }
        (6, 0x01) if !state.device_id.is_empty() => [&[0][..], &state.device_id].concat(),
        (6, 0x54) if !state.records.is_empty() => {
            assert_eq!((data[0], data[1], data[2] & 0xc0), (0x0e, 0, 0x80));
            let page = usize::from(data[2] & 0x3f) * 16;
            let rest = state.records.get(page..).unwrap_or_default();
            [&[0, 1][..], &rest[..rest.len().min(16)]].concat()
        }
        (0, 0x02) if privilege < 3 => vec![0xd4],
        (0, 0x02) => {
            if let Some(code) = state.refuse.pop() {
                return vec![code];
            }
            state.controls.push(data[0]);
            if !state.fault.ack_no_off {
                state.on = data[0] == 1;
            }
            vec![0]
        }
        _ => vec![0xc1],
    }
}
