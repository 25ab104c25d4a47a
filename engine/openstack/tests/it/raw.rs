//! A Nova on a bare socket, for what no HTTP library does on purpose: it reads the whole request and then drops the
//! connection, before or in the middle of its answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const VERSION: &str = r#"{"version": {"id": "v2.1", "version": "2.104", "min_version": "2.1"}}"#;

/// Answers GETs with the version document; a POST gets `answer`, as it stands, and the end of the connection.
pub async fn start(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer));
        }
    });
    format!("http://{address}/v2.1")
}

/// An address where nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v2.1", listener.local_addr().unwrap())
}

async fn serve(mut stream: TcpStream, answer: &str) {
    while let Some(head) = read_request(&mut stream).await {
        if head.starts_with("GET ") {
            let reply = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{VERSION}",
                VERSION.len()
            );
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        } else {
            let _ = stream.write_all(answer.as_bytes()).await;
            return;
        }
    }
}

/// Head of the next request, its body read as well.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(head.to_owned());
            }
        }
        let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}
