//! Whole acts against controllers that answer garbage.
//!
//! The controllers keep count of what they truly said. Whatever else they do, the report must not hold one Off reading
//! more than that, nor an order to a machine that was seen to be another one, and the act must end in its time. The clock
//! is paused: minutes of silence cost nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::fuzz::{LONGEST_ERROR, body, bytes, disturbed, fuzz, mutated, pick};
use crate::redfish::tests::fuzz as documents;

/// An IPMI BMC whose datagrams suffer, and whose sealed answers may be garbage themselves.
async fn ipmi_peer(rng: &mut StdRng) -> (Value, peer::Shared, tokio::task::JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let guid = *UUID.parse::<Uuid>().unwrap().as_bytes();
    let (suites, password) = (vec![*pick(rng, &[3, 17])], "secret".into());
    let mut state = peer::State { on: true, suites, password, guid, ..peer::State::default() };
    state.fault.ack_no_off = rng.random_bool(0.5);
    let (rate, mut chance) = (rng.random_range(0.0..0.5), StdRng::seed_from_u64(rng.random()));
    state.rewrite = Some(peer::Rewrite(Box::new(move |message| {
        if chance.random_bool(rate) {
            *message = rewritten(&mut chance, message);
        }
    })));
    let shared = Arc::new(Mutex::new(state));
    let (harm, mut chance) = (rng.random_range(0.0..0.6), StdRng::seed_from_u64(rng.random()));
    let of = shared.clone();
    let serving = tokio::spawn(async move {
        let (mut buffer, mut sent) = ([0; 2_048], VecDeque::<Vec<u8>>::new());
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
            let honest = peer::answer(&mut of.lock().unwrap(), &buffer[..length]);
            for datagram in suffered(&mut chance, harm, honest, &sent) {
                let _ = socket.send_to(&datagram, from).await;
                sent.push_back(datagram);
            }
            sent.truncate(64);
        }
    });
    (ipmi(address), shared, serving)
}

/// Another completion code, other data, or bytes changed anywhere, with right or wrong checksums.
fn rewritten(rng: &mut StdRng, message: &[u8]) -> Vec<u8> {
    if rng.random_bool(0.3) {
        return mutated(rng, message);
    }
    let mut second = message[3..6].to_vec();
    if rng.random_bool(0.3) {
        second[2] = *pick(rng, &[0x01, 0x02, 0x37, 0x3b]);
    }
    second.push(*pick(rng, &[0, 0, 0, 0xc0, 0xc1, 0xc3, 0xd4, 0xd5, 0xff, 0x81]));
    second.extend(bytes(rng, 40));
    second.push(0_u8.wrapping_sub(second.iter().fold(0, |a: u8, b| a.wrapping_add(*b))));
    [&message[..3], &second].concat()
}

/// What arrives in place of an answer.
fn suffered(
    rng: &mut StdRng,
    harm: f64,
    honest: Option<Vec<u8>>,
    before: &VecDeque<Vec<u8>>,
) -> Vec<Vec<u8>> {
    if !rng.random_bool(harm) {
        return honest.into_iter().collect();
    }
    let mut out = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        match (rng.random_range(0..5), &honest) {
            (0, _) => out.push(bytes(rng, 1_500)),
            (1, _) if !before.is_empty() => out.push(before[rng.random_range(0..before.len())].clone()),
            (2, Some(honest)) => out.push(honest.clone()),
            (_, Some(honest)) => out.push(mutated(rng, honest)),
            _ => {}
        }
    }
    out
}

/// A Redfish service that keeps a state, mostly answers what was asked, and otherwise anything.
async fn redfish_peer(rng: &mut StdRng) -> (Value, Arc<Mutex<usize>>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let said_off = Arc::new(Mutex::new(0));
    let (harm, obeys) = (rng.random_range(0.0..0.5), rng.random_bool(0.5));
    let (mut chance, said) = (StdRng::seed_from_u64(rng.random()), said_off.clone());
    let serving = tokio::spawn(async move {
        let mut on = true;
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let mut buffer = vec![0; 8_192];
            let length = stream.read(&mut buffer).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
            on &= !(obeys && request.starts_with("POST /redfish/v1/Systems"));
            let answer =
                if chance.random_bool(harm) { anything(&mut chance, &request) } else { proper(&request, on) };
            *said.lock().unwrap() += usize::from(says_off(&answer));
            if !chance.random_bool(harm / 8.0) {
                let _ = stream.write_all(&answer).await;
            }
        }
    });
    let mut device = redfish(&url);
    device["account_exclusive"] = rng.random_bool(0.3).into();
    (device, said_off, serving)
}

fn framed(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn proper(request: &str, on: bool) -> Vec<u8> {
    let document = |value: &Value| framed(200, "ETag: W/\"1\"\r\n", value.to_string().as_bytes());
    let session = "X-Auth-Token: t\r\nLocation: /redfish/v1/SessionService/Sessions/1\r\n";
    match request.split(' ').take(2).collect::<Vec<_>>().as_slice() {
        ["GET", "/redfish/v1/"] => document(&documents::root()),
        ["GET", "/redfish/v1/Systems"] => document(&documents::collection()),
        ["GET", path] if path.starts_with(fake::SYSTEM) => {
            document(&documents::system(if on { "On" } else { "Off" }))
        }
        ["POST", path] if path.contains("Sessions") => framed(201, session, b"{}"),
        ["POST", _] => framed(202, "Location: /task/1\r\n", documents::task().to_string().as_bytes()),
        ["DELETE", _] => framed(204, "", b""),
        _ => document(&documents::task()),
    }
}

/// The right document disturbed, with another status, or something else altogether.
fn anything(rng: &mut StdRng, request: &str) -> Vec<u8> {
    if rng.random_bool(0.3) {
        return documents::answer(rng);
    }
    let power = *pick(rng, &["On", "Off", "PoweringOff", "off", "null", ""]);
    let good = if request.starts_with("GET /redfish/v1/Systems/") {
        documents::system(power)
    } else {
        documents::root()
    };
    let status = *pick(rng, &[200, 200, 200, 202, 204, 400, 401, 404, 409, 412, 428, 500, 503]);
    let content =
        if rng.random_bool(0.2) { body(rng, &good) } else { disturbed(rng, &good).to_string().into_bytes() };
    let whole = framed(status, "Retry-After: 99999999999\r\n", &content);
    if rng.random_ratio(1, 20) { mutated(rng, &whole) } else { whole }
}

/// A 200 whose body is a document that says Off: judged leniently, so as to count rather too much than too little.
fn says_off(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.replace([' ', '\n', '\t'], "").contains("\"PowerState\":\"Off\"")
}

#[test]
fn acts() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (mut most, mut proved) = (0, 0);
    fuzz("acts", |rng| {
        runtime.block_on(async {
            let (over_udp, bmc, udp) = ipmi_peer(rng).await;
            let (over_http, said_off, tcp) = redfish_peer(rng).await;
            let target = match rng.random_range(0..4) {
                0 => target(&[&[over_udp]], None),
                1 => target(&[&[over_http]], Some("TAG1")),
                2 => target(&[&[over_http], &[over_udp]], Some("TAG1")),
                _ => target(&[&[over_udp, over_http]], None),
            };
            let (limits, began, gate) = (Limits::default(), Instant::now(), open());
            let report = off(&target, &limits, &gate).await;
            let took = began.elapsed();
            let longest = limits.level * target.levels.len() as u32
                + limits.min_interval
                + limits.request
                + limits.close;
            assert!(took <= longest + Duration::from_secs(1), "{took:?}");
            udp.abort();
            tcp.abort();

            let count = |kind: &str| {
                let of = report.attempts.iter().filter(|a| a.device.starts_with(kind));
                of.flat_map(|a| &a.readings).filter(|r| r.state == PowerState::Off).count()
            };
            let (said, read) = (bmc.lock().unwrap().said_off, count("ipmi"));
            assert!(read <= said, "IPMI: {read} Off readings, said {said} times: {report:?}");
            let (said, read) = (*said_off.lock().unwrap(), count("redfish"));
            assert!(read <= said, "Redfish: {read} Off readings, said {said} times: {report:?}");
            for attempt in &report.attempts {
                assert!(attempt.identity_matches != Some(false) || attempt.orders == 0, "{attempt:?}");
                assert!(
                    attempt.order.is_accepted() || attempt.readings.iter().all(|r| !r.after_order),
                    "{attempt:?}"
                );
                let texts = [attempt.error.as_deref(), attempt.token.as_deref()];
                assert!(texts.into_iter().flatten().all(|t| t.len() <= LONGEST_ERROR), "{attempt:?}");
            }
            most = most.max(report.attempts.len());
            proved += usize::from(report.attempts.iter().any(|a| proves(a, &limits)));
        });
    });
    println!("acts: {proved} proved, at most {most} attempts");
    assert!(
        proved > 0 || std::env::var_os("HALBERD_FUZZ_CASE").is_some(),
        "nothing ever got through: too much garbage to test anything"
    );
}
