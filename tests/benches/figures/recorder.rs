//! What Nova was asked, and when: a relay before the simulated Nova that knows HTTP/1.1 just so far that it sees where a request begins and
//! where its answer does. It names nothing of the product's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A guest is moved: its lock, its reset to error, its evacuation.
    Out,
    /// A move is finished: unlock, start, stop.
    Back,
    /// Anything else: lists, services.
    Else,
}

/// One request, from its first byte to its answer's first.
#[derive(Clone, Debug)]
pub struct Call {
    pub begun: Instant,
    pub answered: Instant,
    pub asked: Asked,
}

/// The relay. It ends with the runtime.
#[derive(Debug)]
pub struct Recorder {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// The head and as much of the body as tells what is asked.
const HEAD: usize = 8 * 1_024;

impl Recorder {
    pub async fn before(nova: SocketAddr) -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let kept = calls.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, nova, kept.clone()));
            }
        });
        Recorder { address, calls }
    }

    /// Those that were answered so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

async fn relay(mut client: TcpStream, nova: SocketAddr, calls: Arc<Mutex<Vec<Call>>>) {
    let Ok(mut server) = TcpStream::connect(nova).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut from_server) = (vec![0; 64 * 1_024], vec![0; 64 * 1_024]);
    // A request that has no answer yet.
    let mut open: Option<(Instant, Vec<u8>)> = None;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let Ok(read @ 1..) = read else { return };
                let (_, head) = open.get_or_insert_with(|| (Instant::now(), Vec::new()));
                head.extend(from_client[..read].iter().take(HEAD.saturating_sub(head.len())));
                if server.write_all(&from_client[..read]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut from_server) => {
                let Ok(read @ 1..) = read else { return };
                if let Some((begun, head)) = open.take() {
                    let call = Call { begun, answered: Instant::now(), asked: asked(&head) };
                    calls.lock().unwrap().push(call);
                }
                if client.write_all(&from_server[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn asked(head: &[u8]) -> Asked {
    let text = String::from_utf8_lossy(head);
    let (line, body) = text.split_once("\r\n").unwrap_or((&text, ""));
    let body = body.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    if !(line.starts_with("POST ") && line.contains("/servers/") && line.contains("/action")) {
        return Asked::Else;
    }
    let out = ["\"evacuate\"", "\"lock\"", "\"os-resetState\""];
    if out.iter().any(|word| body.contains(word)) { Asked::Out } else { Asked::Back }
}

/// The most of them that were under way at one moment: every moment is looked at, since it only changes where one begins or ends.
pub fn at_once<'a>(calls: impl Iterator<Item = &'a Call>) -> usize {
    let mut changes: Vec<(Instant, i64)> =
        calls.flat_map(|call| [(call.begun, 1), (call.answered, -1)]).collect();
    // Of the same instant the end first: it was over.
    changes.sort_unstable();
    let (mut now, mut most) = (0_i64, 0_i64);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    usize::try_from(most).unwrap()
}

/// The most that began within any second.
pub fn in_a_second<'a>(calls: impl Iterator<Item = &'a Call>) -> usize {
    let mut begun: Vec<Instant> = calls.map(|call| call.begun).collect();
    begun.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, at) in begun.iter().enumerate() {
        while at.duration_since(begun[first]) > Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}
