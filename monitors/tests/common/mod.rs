//! What the tests share: a key, a configuration, and an API that checks signatures and keeps what it was given.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "test support: a panic is the report")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use halberd_monitors::{Config, Platform};
use halberd_types::beat::{AgentKey, KeyFile};
use halberd_types::report::{
    ORDERS_PATH, Order, OrderResult, Orders, REPORTS_PATH, Report, SIGNATURE_HEADER, Signed, sign_answer,
    verify,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

pub const HOST: Uuid = Uuid::from_u128(0xa11ce);

pub fn key() -> AgentKey {
    AgentKey::from_bytes([7; 32])
}

pub fn boot(n: u128) -> Platform {
    Platform::simulated(Uuid::from_u128(n))
}

/// Configuration text plus key file and state in `dir`.
pub fn config(dir: &Path, agent: &str, rest: &str) -> Config {
    let file = KeyFile { host: HOST, hostname: "compute-1".into(), key: key() };
    std::fs::write(dir.join("key"), file.render()).unwrap();
    let text =
        format!("[agent]\nkey_file = '{0}/key'\nstate_dir = '{0}/state'\n{agent}\n{rest}", dir.display());
    Config::parse(&text, std::iter::empty()).unwrap()
}

/// Waits for a condition on a watched value; a minute means never.
pub async fn until<T>(rx: &mut watch::Receiver<T>, what: &str, mut good: impl FnMut(&T) -> bool) {
    let found = tokio::time::timeout(Duration::from_secs(60), rx.wait_for(|v| good(v))).await;
    found.unwrap_or_else(|_| panic!("never came: {what}")).expect("the other side lives");
}

/// What the API was given.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub reports: Vec<Report>,
    pub results: Vec<OrderResult>,
    pub forged: usize,
    pub requests: usize,
}

/// The agents' API over HTTP/1.1, one request a connection: enough to check every signature.
pub struct FakeApi {
    pub url: String,
    pub seen: watch::Receiver<Seen>,
    pub orders: Arc<Mutex<Vec<Order>>>,
    /// Statuses to answer instead of doing anything, one a request.
    pub refuse: Arc<Mutex<VecDeque<u16>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeApi {
    pub async fn start() -> FakeApi {
        Self::start_at("127.0.0.1:0").await
    }

    pub async fn start_at(address: &str) -> FakeApi {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tx, seen) = watch::channel(Seen::default());
        let (orders, refuse) = (Arc::<Mutex<Vec<Order>>>::default(), Arc::<Mutex<VecDeque<u16>>>::default());
        let (o, r) = (orders.clone(), refuse.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One after the other: a connection is closed after its request.
                serve(stream, &tx, &o, &r).await;
            }
        });
        FakeApi { url, seen, orders, refuse, task }
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &watch::Sender<Seen>,
    orders: &Mutex<Vec<Order>>,
    refuse: &Mutex<VecDeque<u16>>,
) {
    let Some((head, body)) = read(&mut stream).await else { return };
    let mut words = head.lines().next().unwrap().split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let header = |name: &str| {
        head.lines()
            .filter_map(|l| l.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    };
    let signed = Signed::from_headers(header).unwrap();
    let (status, extra, answer) =
        if signed.host != HOST || verify(&key(), method, path, &signed, &body).is_err() {
            seen.send_modify(|s| s.forged += 1);
            (401, String::new(), vec![])
        } else if let Some(status) = refuse.lock().unwrap().pop_front() {
            (status, String::new(), vec![])
        } else if method == "GET" && path == ORDERS_PATH {
            let body = serde_json::to_vec(&Orders { orders: orders.lock().unwrap().clone() }).unwrap();
            let signature = sign_answer(&key(), path, &signed, &body);
            (200, format!("{SIGNATURE_HEADER}: {signature}\r\n"), body)
        } else if path == REPORTS_PATH {
            let report: Report = serde_json::from_slice(&body).unwrap();
            // As the API does: the same id is the same report.
            seen.send_modify(|s| {
                if s.reports.iter().all(|r| r.report_id != report.report_id) {
                    s.reports.push(report);
                }
            });
            (202, String::new(), vec![])
        } else {
            let result: OrderResult = serde_json::from_slice(&body).unwrap();
            assert_eq!(path, format!("{ORDERS_PATH}/{}", result.order_id));
            orders.lock().unwrap().retain(|o| o.id != result.order_id);
            seen.send_modify(|s| s.results.push(result));
            (200, String::new(), vec![])
        };
    seen.send_modify(|s| s.requests += 1);
    let head = format!(
        "HTTP/1.1 {status} X\r\n{extra}content-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    let _ = stream.write_all(&[head.as_bytes(), &answer].concat()).await;
}

async fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
            let length = head
                .lines()
                .filter_map(|l| l.split_once(": "))
                .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, v)| v.parse().unwrap());
            while bytes.len() < at + 4 + length {
                if stream.read_buf(&mut bytes).await.ok()? == 0 {
                    return None;
                }
            }
            return Some((head, bytes[at + 4..].to_vec()));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
