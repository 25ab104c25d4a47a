//! Memcached: set and get over the text protocol (memcached's doc/protocol.txt).

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Failed, Probed, io_failed, nonce, resolve};

/// The canary falls out by itself a minute after the last probe.
const LIFE_SECONDS: u32 = 60;

#[derive(Debug)]
pub(super) struct Memcached {
    pub prober: String,
    pub address: (String, u16),
}

impl Memcached {
    pub async fn run(&self) -> Probed {
        let address = resolve(&self.address).await?;
        let stream = TcpStream::connect(address).await.map_err(|error| io_failed(&error))?;
        let mut stream = BufReader::new(stream);
        // Keys take no blanks or controls, and at most 250 bytes.
        let name: String = self.prober.chars().filter(char::is_ascii_alphanumeric).take(100).collect();
        let (key, value) = (format!("halberd_canary:{name}"), nonce());
        let set = format!("set {key} 0 {LIFE_SECONDS} {}\r\n{value}\r\n", value.len());
        match ask(&mut stream, &set).await?.as_str() {
            "STORED" => {}
            other => return Err(Failed::Down(format!("set was answered '{other}'"))),
        }
        let head = ask(&mut stream, &format!("get {key}\r\n")).await?;
        if head == "END" {
            return Err(Failed::Down("what was just stored is not there: no memory left?".into()));
        }
        if !head.starts_with("VALUE ") {
            return Err(Failed::Down(format!("get was answered '{head}'")));
        }
        let back = line(&mut stream).await?;
        if back == value {
            Ok(())
        } else {
            Err(Failed::Down("get answers something else than was set".into()))
        }
    }
}

async fn ask(stream: &mut BufReader<TcpStream>, request: &str) -> Result<String, Failed> {
    stream.write_all(request.as_bytes()).await.map_err(|error| io_failed(&error))?;
    line(stream).await
}

/// One line, cut at a length that no answer of ours has.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String, Failed> {
    let mut read = Vec::new();
    let mut limited = tokio::io::AsyncReadExt::take(stream, 1024);
    limited.read_until(b'\n', &mut read).await.map_err(|error| io_failed(&error))?;
    if read.is_empty() {
        return Err(Failed::Down("closed the connection without an answer".into()));
    }
    Ok(String::from_utf8_lossy(&read).trim_end().to_owned())
}
