//! Requests that are none, byte by byte. Each gets its stated status or a closed connection, changes nothing, and leaves a server that serves.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::kit::{Serve, client};

const JSON: &str = "Host: h\r\nConnection: close\r\nContent-Type: application/json\r\n";

fn segment(name: &str) -> String {
    format!("{{\"segment\":{{\"name\":\"{name}\",\"recovery_method\":\"auto\",\"service_type\":\"c\"}}}}")
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /v1/segments HTTP/1.1\r\n{JSON}{headers}\r\n");
    [head.as_bytes(), body].concat()
}

fn sized(body: &[u8]) -> Vec<u8> {
    post(&format!("Content-Length: {}\r\n", body.len()), body)
}

fn chunked(body: &[u8], more: &str) -> Vec<u8> {
    let mut chunks: Vec<u8> = Vec::new();
    for chunk in body.chunks(8_000) {
        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunks.extend(chunk);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n\r\n");
    post(&format!("Transfer-Encoding: chunked\r\n{more}"), &chunks)
}

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n").into_bytes()
}

/// Name, bytes, what the answer begins with; several where more than one is right, "" for a connection closed in silence.
type Row = (&'static str, Vec<u8>, &'static [&'static str]);

fn bodies() -> Vec<Row> {
    let long = segment(&"x".repeat(200_000));
    let with = |name: &str| sized(segment(name).as_bytes());
    let described = |text: &str| {
        let body =
            segment("s").replace("\"service_type\"", &format!("\"description\":{text},\"service_type\""));
        sized(body.as_bytes())
    };
    let deep = format!("{}{}", "[".repeat(100_000 / 2), "]".repeat(100_000 / 2));
    vec![
        ("declared too large", sized(long.as_bytes()), &["HTTP/1.1 413"]),
        (
            "declared absurdly large",
            post("Content-Length: 18446744073709551615\r\n", b""),
            &["HTTP/1.1 413", "HTTP/1.1 431", ""],
        ),
        (
            "declared beyond any number",
            post(&format!("Content-Length: {}\r\n", "9".repeat(40)), b""),
            &["HTTP/1.1 400"],
        ),
        ("chunks too large", chunked(long.as_bytes(), ""), &["HTTP/1.1 413"]),
        ("no UTF-8", sized(b"{\"segment\":{\"name\":\"\xff\xfe\"}}"), &["HTTP/1.1 400"]),
        ("deep", sized(deep.as_bytes()), &["HTTP/1.1 400"]),
        ("a number beyond all", described("1e400"), &["HTTP/1.1 400"]),
        ("a number of a thousand digits", described(&format!("1{}", "0".repeat(1_000))), &["HTTP/1.1 400"]),
        ("NUL as it is", sized(segment("a\0b").as_bytes()), &["HTTP/1.1 400"]),
        ("NUL escaped", with("a\\u0000b"), &["HTTP/1.1 400"]),
        ("half a surrogate pair", with("a\\ud800b"), &["HTTP/1.1 400"]),
        ("the other half", with("\\udc00"), &["HTTP/1.1 400"]),
        ("no body", post("", b""), &["HTTP/1.1 400"]),
        (
            "another type",
            {
                let text = String::from_utf8(with("s")).unwrap();
                text.replace("application/json", "application/xml").into_bytes()
            },
            &["HTTP/1.1 415"],
        ),
        (
            "a type that is no text",
            {
                let text = String::from_utf8(with("s")).unwrap();
                let at = text.find("application/json").unwrap();
                let mut bytes = text.into_bytes();
                bytes[at] = 0xff;
                bytes
            },
            &["HTTP/1.1 415"],
        ),
    ]
}

fn framing() -> Vec<Row> {
    let good = segment("smuggled");
    let inner = String::from_utf8(sized(good.as_bytes())).unwrap();
    vec![
        (
            "shorter than declared",
            post(&format!("Content-Length: {}\r\n", good.len() + 10), good.as_bytes()),
            &["HTTP/1.1 408"],
        ),
        (
            "longer than declared",
            post(&format!("Content-Length: {}\r\n", good.len() - 5), good.as_bytes()),
            &["HTTP/1.1 400"],
        ),
        (
            "two lengths",
            post(&format!("Content-Length: 5\r\nContent-Length: {}\r\n", good.len()), good.as_bytes()),
            &["HTTP/1.1 400"],
        ),
        ("a list of lengths", post("Content-Length: 5, 6\r\n", good.as_bytes()), &["HTTP/1.1 400"]),
        ("a negative length", post("Content-Length: -1\r\n", good.as_bytes()), &["HTTP/1.1 400"]),
        ("a signed length", post("Content-Length: +5\r\n", good.as_bytes()), &["HTTP/1.1 400"]),
        ("a length in words", post("Content-Length: five\r\n", good.as_bytes()), &["HTTP/1.1 400"]),
        // The chunked body is empty; what follows it is no second request, as the connection ends with the first (RFC 9112, 6.1).
        (
            "length and chunks",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                format!("0\r\n\r\n{inner}").as_bytes(),
            ),
            &["HTTP/1.1 400"],
        ),
        (
            "chunks and length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                format!("0\r\n\r\n{inner}").as_bytes(),
            ),
            &["HTTP/1.1 400"],
        ),
        ("another coding", post("Transfer-Encoding: gzip\r\n", good.as_bytes()), &["HTTP/1.1 400"]),
        (
            "chunked is not last",
            post("Transfer-Encoding: chunked, identity\r\n", good.as_bytes()),
            &["HTTP/1.1 400"],
        ),
        ("a masked coding", post("Transfer-Encoding: xchunked\r\n", good.as_bytes()), &["HTTP/1.1 400"]),
        (
            "chunks in HTTP/1.0",
            {
                String::from_utf8(chunked(good.as_bytes(), ""))
                    .unwrap()
                    .replacen("HTTP/1.1", "HTTP/1.0", 1)
                    .into_bytes()
            },
            &["HTTP/1.1 400", "HTTP/1.0 400"],
        ),
        (
            "a chunk of no size",
            post("Transfer-Encoding: chunked\r\n", b"zz\r\nabc\r\n0\r\n\r\n"),
            &["HTTP/1.1 400"],
        ),
        (
            "a chunk beyond any number",
            post("Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\nabc"),
            &["HTTP/1.1 400"],
        ),
        ("a chunk that stops", post("Transfer-Encoding: chunked\r\n", b"ff\r\nabc"), &["HTTP/1.1 408"]),
    ]
}

fn heads() -> Vec<Row> {
    let long = |bytes: usize| format!("X-Long: {}\r\n", "x".repeat(bytes));
    vec![
        ("HTTP/0.9", b"GET /v1/segments\r\n\r\n".to_vec(), &["HTTP/1.1 400"]),
        ("HTTP/3.7", b"GET / HTTP/3.7\r\nHost: h\r\n\r\n".to_vec(), &["HTTP/1.1 400"]),
        (
            "HTTP/2 from the start",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            &["HTTP/1.1 400", "HTTP/1.1 505", ""],
        ),
        ("noise", (0u8..=255).cycle().take(5_000).collect(), &["HTTP/1.1 400"]),
        ("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &["HTTP/1.1 400"]),
        ("a head of 100 KB", get("/v1/segments", &long(100_000)), &["HTTP/1.1 431"]),
        ("a head of 30 KB", get("/v1/segments", &long(30_000)), &["HTTP/1.1 200"]),
        ("1,000 headers", get("/v1/segments", &"X-Many: x\r\n".repeat(1_000)), &["HTTP/1.1 431"]),
        ("90 headers", get("/v1/segments", &"X-Many: x\r\n".repeat(90)), &["HTTP/1.1 200"]),
        (
            "a target of 100 KB",
            get(&format!("/v1/{}", "x".repeat(100_000)), ""),
            &["HTTP/1.1 431", "HTTP/1.1 414"],
        ),
        ("NUL in a header", get("/v1/segments", "X-Nul: a\0b\r\n"), &["HTTP/1.1 400"]),
        ("a folded header", get("/v1/segments", "X-Fold: a\r\n b\r\n"), &["HTTP/1.1 400"]),
        ("a space before the colon", get("/v1/segments", "X-Space : a\r\n"), &["HTTP/1.1 400"]),
        ("a header without a name", get("/v1/segments", ": a\r\n"), &["HTTP/1.1 400"]),
        (
            "bytes in the target",
            b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
            &["HTTP/1.1 400", "HTTP/1.1 404"],
        ),
        ("a target that is no UTF-8", get("/v1/segments/%ff", ""), &["HTTP/1.1 404"]),
        ("NUL in the target", get("/v1/segments/%00", ""), &["HTTP/1.1 404"]),
        ("a query that is no UTF-8", get("/v1/segments?recovery_method=%ff", ""), &["HTTP/1.1 400"]),
        ("NUL in a query", get("/v1/segments?recovery_method=a%00", ""), &["HTTP/1.1 400"]),
        ("a query of halberd's that is no UTF-8", get("/halberd/v1/audit?chain=%ff", ""), &["HTTP/1.1 400"]),
        (
            "CONNECT",
            b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
            &["HTTP/1.1 300", "HTTP/1.1 404", "HTTP/1.1 405"],
        ),
        (
            "OPTIONS of all",
            b"OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
            &["HTTP/1.1 300", "HTTP/1.1 404"],
        ),
        (
            "a verb that nobody knows",
            b"HACK /v1/segments HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_vec(),
            &["HTTP/1.1 404", "HTTP/1.1 405"],
        ),
        ("half a head", b"GET / HT".to_vec(), &[""]),
    ]
}

#[tokio::test]
async fn bad_requests_get_their_status_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // So that the rows that wait do not wait long.
    let serve = Serve::start(dir.path(), "head_timeout_s = 2\nbody_timeout_s = 2").await;
    let client = client();
    serve.stores(&client, "before").await;
    for (name, bytes, wanted) in bodies().into_iter().chain(framing()).chain(heads()) {
        let text = serve.raw(&bytes).await;
        let begin: String = text.chars().take(300).collect();
        let good = wanted
            .iter()
            .any(|wanted| if wanted.is_empty() { text.is_empty() } else { text.starts_with(wanted) });
        assert!(good, "{name}: {begin:?}, not {wanted:?}");
        assert_eq!(
            text.matches("HTTP/1.1 ").count(),
            usize::from(!text.is_empty()),
            "{name}: one answer: {text}"
        );
        assert!(!text.contains("HTTP/1.1 5"), "{name}: {begin}");
    }
    serve.stores(&client, "after").await;
    assert_eq!(serve.segments(&client).await, ["before", "after"], "nothing of all that was stored");
    let (status, log) = serve.stop().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("\"ERROR\"") && !log.contains("panicked"), "none of it is trouble of ours: {log}");
}

/// A key twice: the last counts, as in the JSON of Python that the original reads with.
#[tokio::test]
async fn of_a_key_given_twice_the_last_counts() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), "").await;
    let body = segment("first\",\"name\":\"second");
    let text = serve.raw(&sized(body.as_bytes())).await;
    assert!(text.starts_with("HTTP/1.1 201"), "{text}");
    assert_eq!(serve.segments(&client()).await, ["second"]);
}

/// Several requests in one packet are answered one after the other, each stored.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), "").await;
    let kept = |name: &str| {
        String::from_utf8(sized(segment(name).as_bytes())).unwrap().replace("Connection: close\r\n", "")
    };
    let all = [kept("one"), kept("two"), String::from_utf8(get("/v1/segments", "")).unwrap()].concat();
    let text = serve.raw(all.as_bytes()).await;
    let statuses: Vec<&str> = text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["201", "201", "200"], "{text}");
    assert_eq!(serve.segments(&client()).await, ["one", "two"]);
}

/// A client that dies in the middle of its body has said nothing.
#[tokio::test]
async fn a_body_cut_off_by_its_client_is_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let serve = Serve::start(dir.path(), "").await;
    let client = client();
    let whole = sized(segment("half").as_bytes());
    for cut in [1, 10, 40] {
        let mut stream = TcpStream::connect(serve.address).await.unwrap();
        stream.write_all(&whole[..whole.len() - cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream);
    }
    serve.stores(&client, "after").await;
    assert_eq!(serve.segments(&client).await, ["after"]);
}
