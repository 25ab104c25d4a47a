//! A receiver on loopback that keeps what it got, behaves badly on request, and verifies signatures by its own arithmetic.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a request is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    Body(u16, String),
    RedirectTo(&'static str),
    /// None at all.
    Hang,
}

#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
    pub fn sequence(&self) -> i64 {
        self.json()["sequence"].as_str().expect("sequence").parse().expect("a number")
    }
}

#[derive(Debug, Default)]
struct Inner {
    got: Mutex<Vec<Got>>,
    /// Per path: what comes next; when used up, what comes always.
    script: Mutex<HashMap<String, (VecDeque<Answer>, Answer)>>,
    count: watch::Sender<usize>,
}

#[derive(Clone, Debug)]
pub struct Receiver {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    task: Arc<Stop>,
}

#[derive(Debug)]
struct Stop(JoinHandle<()>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Receiver {
    pub async fn start() -> Receiver {
        Receiver::on(TcpListener::bind("127.0.0.1:0").await.expect("a port")).await
    }

    pub async fn on(listener: TcpListener) -> Receiver {
        let inner = Arc::new(Inner::default());
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route("/{*path}", axum::routing::any(take)).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("serves") });
        Receiver { address, inner, task: Arc::new(Stop(task)) }
    }

    /// Answers to the next requests for a path, and to all after them.
    pub fn script(&self, path: &str, next: impl IntoIterator<Item = Answer>, then: Answer) {
        let script = (next.into_iter().collect(), then);
        self.inner.script.lock().expect("lock").insert(path.to_owned(), script);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn got(&self, path: &str) -> Vec<Got> {
        let got = self.inner.got.lock().expect("lock");
        got.iter().filter(|got| got.path == path).cloned().collect()
    }

    /// Waits until a path was asked at least so often.
    pub async fn wait(&self, path: &str, times: usize) -> Vec<Got> {
        let mut count = self.inner.count.subscribe();
        loop {
            count.borrow_and_update();
            let got = self.got(path);
            if got.len() >= times {
                return got;
            }
            count.changed().await.expect("the receiver lives");
        }
    }

    pub fn is_running(&self) -> bool {
        !self.task.0.is_finished()
    }
}

async fn take(
    State(inner): State<Arc<Inner>>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut scripts = inner.script.lock().expect("lock");
        scripts
            .get_mut(&path)
            .map_or(Answer::Status(204), |(next, then)| next.pop_front().unwrap_or_else(|| then.clone()))
    };
    inner.got.lock().expect("lock").push(Got { path, headers, body });
    inner.count.send_modify(|count| *count += 1);
    let status = |code| StatusCode::from_u16(code).expect("a status");
    match answer {
        Answer::Status(code) => status(code).into_response(),
        Answer::Body(code, text) => (status(code), text).into_response(),
        Answer::RedirectTo(path) => (status(307), [("location", path)]).into_response(),
        Answer::Hang => std::future::pending().await,
    }
}

/// HMAC-SHA256 written out from RFC 2104, so that product and test share no line.
pub fn verifies(secret: &str, got: &Got) -> bool {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("prefix")).expect("base64");
    assert!(key.len() <= 64, "longer keys would be hashed first");
    let pad = |byte: u8| -> Vec<u8> {
        let mut block = [byte; 64];
        block.iter_mut().zip(&key).for_each(|(b, k)| *b ^= k);
        block.to_vec()
    };
    let mut inner = pad(0x36);
    inner.extend_from_slice(got.header("webhook-id").as_bytes());
    inner.push(b'.');
    inner.extend_from_slice(got.header("webhook-timestamp").as_bytes());
    inner.push(b'.');
    inner.extend_from_slice(&got.body);
    let mut outer = pad(0x5c);
    outer.extend_from_slice(&Sha256::digest(&inner));
    let expected = format!("v1,{}", STANDARD.encode(Sha256::digest(&outer)));
    got.header("webhook-signature").split(' ').any(|signature| signature == expected)
}
