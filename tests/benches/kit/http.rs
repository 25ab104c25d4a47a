//! A client that does as little as it can: HTTP/1.1 over a kept connection.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One kept connection; the last answer stands in `buffer`.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    head: usize,
}

impl Client {
    pub async fn to(address: &str) -> Client {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::with_capacity(64 * 1024), head: 0 }
    }

    pub async fn ask(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| self.buffer.len() < whole) {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(read, 0, "the service closed the connection");
            if whole.is_none()
                && let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n")
            {
                self.head = end + 4;
                let length = self.header("content-length").map_or(0, |text| text.parse().unwrap());
                whole = Some(self.head + length);
            }
        }
        std::str::from_utf8(&self.buffer[9..12]).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let head = std::str::from_utf8(&self.buffer[..self.head]).unwrap();
        let value = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        value.map(|(_, value)| value.to_owned())
    }

    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.buffer[self.head..]).into_owned()
    }
}

pub async fn once(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> (u16, Value) {
    let mut client = Client::to(address).await;
    let status = client.ask(&request(method, path, headers, body.map(Value::to_string).as_deref())).await;
    (status, serde_json::from_str(&client.body()).unwrap_or(Value::Null))
}

pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    match body {
        Some(body) => text += &format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        None => text += "\r\n",
    }
    text.into_bytes()
}
