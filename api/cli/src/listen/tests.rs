//! Bad clients on real sockets, with short limits. Each test waits for what must happen; what never happens hangs, and that is the failure.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::interval;

use super::{Limits, Server};

/// No limit of it is met by accident.
const WIDE: Limits = Limits {
    connections: 100,
    head: Duration::from_secs(600),
    body: Duration::from_secs(600),
    idle: Duration::from_secs(600),
    bytes: 1 << 20,
};
const SHORT: Duration = Duration::from_millis(150);

struct Site {
    server: Server,
    address: std::net::SocketAddr,
    /// Each word goes out to one reader of `/ticks`.
    ticks: mpsc::Sender<&'static str>,
}

fn site(limits: Limits) -> Site {
    let (ticks, ticking) = mpsc::channel::<&'static str>(8);
    let ticking = std::sync::Arc::new(tokio::sync::Mutex::new(ticking));
    let follow = move || {
        let ticking = ticking.clone();
        async move {
            Body::from_stream(stream::unfold(ticking, |ticking| async move {
                let word = ticking.lock().await.recv().await?;
                Some((Ok::<_, std::io::Error>(word), ticking))
            }))
        }
    };
    let endless = || async {
        let block = Bytes::from_static(&[b'x'; 65_536]);
        Body::from_stream(stream::repeat_with(move || Ok::<_, std::io::Error>(block.clone())))
    };
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/length", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/refuse", post(|| async { axum::http::StatusCode::UNAUTHORIZED }))
        .route("/ticks", get(follow))
        .route("/endless", get(endless));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, router, None, limits).unwrap();
    Site { server, address, ticks }
}

impl Site {
    async fn say(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// A request on a connection of its own, which the server then closes.
    async fn ask(&self, text: &str) -> String {
        read_all(&mut self.say(text).await).await
    }

    async fn hello(&self) -> String {
        self.ask("GET /hello HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await
    }

    async fn until_connections(&self, count: usize) {
        let mut look = interval(Duration::from_millis(5));
        while self.server.connections() != count {
            look.tick().await;
        }
    }
}

/// Until the server closes; a reset is an end too.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads until the answer holds this.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 1_024]);
    while !text.contains(wanted) {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "it ends before {wanted:?}: {text}");
        text += &String::from_utf8_lossy(&buffer[..read]);
    }
    text
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let site = site(Limits { head: SHORT, ..WIDE });
    assert_eq!(read_all(&mut site.say("").await).await, "");
    site.until_connections(0).await;
    assert!(site.hello().await.starts_with("HTTP/1.1 200"));
}

/// Slow loris: always alive, never done.
#[tokio::test]
async fn a_head_that_trickles_is_closed() {
    let site = site(Limits { head: SHORT, ..WIDE });
    let (mut reads, mut writes) = site.say("GET /hello HTTP/1.1\r\n").await.into_split();
    let trickle = tokio::spawn(async move {
        let mut pace = interval(Duration::from_millis(10));
        while writes.write_all(b"X-More: x\r\n").await.is_ok() {
            pace.tick().await;
        }
    });
    let mut text = Vec::new();
    let _ = reads.read_to_end(&mut text).await;
    assert!(text.is_empty(), "it was answered: {}", String::from_utf8_lossy(&text));
    trickle.await.unwrap();
    assert!(site.hello().await.starts_with("HTTP/1.1 200"));
}

/// The head's time is that of each head, also on a connection that has served.
#[tokio::test]
async fn a_second_head_that_stops_half_way_is_closed() {
    let site = site(Limits { head: SHORT, ..WIDE });
    let mut stream = site.say("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_until(&mut stream, "hello").await;
    stream.write_all(b"GET /hello HT").await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_serves_until_then() {
    let site = site(Limits { idle: SHORT, ..WIDE });
    let mut stream = site.say("").await;
    for _ in 0..3 {
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        read_until(&mut stream, "hello").await;
    }
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_408() {
    let site = site(Limits { body: SHORT, ..WIDE });
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let text = site.ask(&format!("POST /length HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n1\r\n")).await;
        assert!(text.starts_with("HTTP/1.1 408") && text.contains("connection: close"), "{head}: {text}");
    }
    let whole = "POST /length HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc";
    assert!(site.ask(whole).await.ends_with("\r\n\r\n3"));
}

/// It could hold the answer's memory for ever by reading nothing.
#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let site = site(Limits { body: SHORT, ..WIDE });
    let stream = site.say("GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await;
    site.until_connections(1).await;
    site.until_connections(0).await;
    drop(stream);
}

/// An event stream outlives all limits: it is the client who waits.
#[tokio::test]
async fn an_event_stream_stays() {
    let site = site(Limits { head: SHORT, body: SHORT, idle: SHORT, ..WIDE });
    let mut events = site.say("GET /ticks HTTP/1.1\r\nHost: h\r\n\r\n").await;
    site.ticks.send("first").await.unwrap();
    read_until(&mut events, "first").await;
    for _ in 0..3 {
        // Somebody else's whole limit passes meanwhile.
        assert_eq!(read_all(&mut site.say("G").await).await, "");
    }
    site.ticks.send("second").await.unwrap();
    read_until(&mut events, "second").await;
}

#[tokio::test]
async fn the_idlest_goes_for_a_new_one() {
    let site = site(Limits { connections: 3, ..WIDE });
    let mut silent = site.say("").await;
    site.until_connections(1).await;
    let mut events = site.say("GET /ticks HTTP/1.1\r\nHost: h\r\n\r\n").await;
    site.ticks.send("first").await.unwrap();
    read_until(&mut events, "first").await;
    let mut slow = site.say("GET /hello HT").await;
    site.until_connections(3).await;
    assert!(site.hello().await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_all(&mut silent).await, "", "the first to wait is the first to go");
    slow.write_all(b"TP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    read_until(&mut slow, "hello").await;
    site.ticks.send("second").await.unwrap();
    read_until(&mut events, "second").await;
}

/// A body on its way is no work of ours yet.
#[tokio::test]
async fn slow_bodies_keep_nobody_out() {
    let site = site(Limits { connections: 2, ..WIDE });
    let half = "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc";
    let mut first = site.say(half).await;
    let mut second = site.say(half).await;
    site.until_connections(2).await;
    assert!(site.hello().await.starts_with("HTTP/1.1 200"));
    assert_eq!(read_all(&mut first).await, "");
    second.write_all(b"defghij").await.unwrap();
    read_until(&mut second, "\r\n\r\n10").await;
}

#[tokio::test]
async fn with_all_at_work_a_new_one_is_closed() {
    let site = site(Limits { connections: 1, ..WIDE });
    let mut events = site.say("GET /ticks HTTP/1.1\r\nHost: h\r\n\r\n").await;
    site.ticks.send("first").await.unwrap();
    read_until(&mut events, "first").await;
    assert_eq!(read_all(&mut site.say("").await).await, "");
    site.ticks.send("second").await.unwrap();
    read_until(&mut events, "second").await;
    drop(events);
    site.until_connections(0).await;
    assert!(site.hello().await.starts_with("HTTP/1.1 200"));
}

/// Bodies of all clients together are bounded: who has been sending for longest goes.
#[tokio::test]
async fn bodies_together_are_bounded() {
    let site = site(Limits { bytes: 1_000, ..WIDE });
    let half = format!("POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 700\r\n\r\n{}", "x".repeat(600));
    let mut first = site.say(&half).await;
    site.until_connections(1).await;
    let mut second = site.say(&half).await;
    assert_eq!(read_all(&mut first).await, "");
    second.write_all("x".repeat(100).as_bytes()).await.unwrap();
    read_until(&mut second, "\r\n\r\n700").await;
    for _ in 0..3 {
        second.write_all(half.as_bytes()).await.unwrap();
        second.write_all("x".repeat(100).as_bytes()).await.unwrap();
        read_until(&mut second, "\r\n\r\n700").await;
    }
    // Its own body alone is more than all may be.
    let more =
        format!("POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n{}", "x".repeat(1_500));
    assert_eq!(site.ask(&more).await, "");
}

/// A client that sends on after its refusal is not reset: many give up on a failed write and never read why.
#[tokio::test]
async fn a_refused_client_may_finish_its_sentence() {
    let site = site(WIDE);
    let body = "x".repeat(100_000);
    let request = format!("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 10 * body.len());
    let mut stream = site.say(&request).await;
    read_until(&mut stream, "HTTP/1.1 401").await;
    for _ in 0..9 {
        stream.write_all(body.as_bytes()).await.unwrap();
    }
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_stop_finishes_requests_and_cuts_streams() {
    let site = site(WIDE);
    let mut idle = site.say("GET /hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    read_until(&mut idle, "hello").await;
    let mut silent = site.say("").await;
    let mut events = site.say("GET /ticks HTTP/1.1\r\nHost: h\r\n\r\n").await;
    site.ticks.send("first").await.unwrap();
    read_until(&mut events, "first").await;
    let post = "POST /length HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let mut under_way = site.say(post).await;
    read_until(&mut under_way, "100 Continue").await;
    let address = site.address;
    let stopping = tokio::spawn(site.server.stop(Duration::from_secs(2)));
    assert_eq!(read_all(&mut idle).await, "");
    assert_eq!(read_all(&mut silent).await, "");
    under_way.write_all(b"abc").await.unwrap();
    assert!(read_all(&mut under_way).await.ends_with("\r\n\r\n3"));
    // Cut when the time is up, in the middle of its chunks.
    assert_eq!(read_all(&mut events).await, "");
    stopping.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
