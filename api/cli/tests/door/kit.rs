//! A `halberd serve` of its own, its log, and short ways to ask it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Killed when dropped.
pub struct Serve {
    child: Child,
    pub address: SocketAddr,
    pub url: String,
    lines: mpsc::UnboundedReceiver<String>,
    pub seen: String,
}

impl Serve {
    /// `api` is more of the section `[api]`. Its working directory is `dir`.
    pub async fn start(dir: &Path, api: &str) -> Serve {
        let config = format!("[api]\nauth = \"none\"\nlisten = \"127.0.0.1:0\"\n{api}\n");
        std::fs::write(dir.join("halberd.toml"), config).unwrap();
        // With the limit of open files that a login shell gives, whatever this test has.
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -S -n 1024; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_halberd")])
            .env_remove("RUST_LOG")
            .args(["serve", "--log-format", "json", "--config", "halberd.toml"])
            .current_dir(dir)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (say, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = say.send(line);
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut serve = Serve { child, address, url: String::new(), lines, seen: String::new() };
        let listens = serve.until("the API listens").await;
        serve.url = listens["url"].as_str().unwrap().to_owned();
        serve.address = serve.url.rsplit('/').next().unwrap().parse().unwrap();
        serve.until("halberd started").await;
        serve
    }

    /// Reads the log until a line says this; its fields. The log's end means never.
    pub async fn until(&mut self, what: &str) -> Value {
        while let Some(line) = self.lines.recv().await {
            self.seen += &line;
            self.seen += "\n";
            let parsed: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if parsed["fields"]["message"].as_str().is_some_and(|text| text.contains(what)) {
                return parsed["fields"].clone();
            }
        }
        panic!("the log ends before {what:?}:\n{}", self.seen);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub async fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.until("stopped").await;
        (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
    }

    /// Resident memory, MiB.
    pub fn rss_mib(&self) -> u64 {
        halberd::metrics::resident_bytes_of(&self.child.id().to_string()).unwrap() >> 20
    }

    /// Sends these bytes on a connection of their own, and reads until the server closes; a reset is an end too.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let (mut reads, mut writes) = TcpStream::connect(self.address).await.unwrap().into_split();
        let bytes = bytes.to_vec();
        let writing = tokio::spawn(async move {
            let _ = writes.write_all(&bytes).await;
            writes
        });
        let mut text = Vec::new();
        let _ = reads.read_to_end(&mut text).await;
        writing.abort();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Makes a segment on a connection of its own, and finds it again: what is acknowledged is stored.
    pub async fn stores(&self, client: &reqwest::Client, name: &str) {
        let body = json!({ "segment": { "name": name, "recovery_method": "auto", "service_type": "c" } });
        let made = client.post(format!("{}/v1/segments", self.url)).json(&body).send().await.unwrap();
        assert_eq!(made.status(), 201, "{name}");
        let made: Value = made.json().await.unwrap();
        let place = format!("{}/v1/segments/{}", self.url, made["segment"]["uuid"].as_str().unwrap());
        assert_eq!(client.get(place).send().await.unwrap().status(), 200, "{name}");
    }

    /// Names of all segments, in the order of their making.
    pub async fn segments(&self, client: &reqwest::Client) -> Vec<String> {
        let list =
            client.get(format!("{}/v1/segments?sort_key=id&sort_dir=asc", self.url)).send().await.unwrap();
        let list: Value = list.json().await.unwrap();
        let segments = list["segments"].as_array().unwrap().iter();
        segments.map(|segment| segment["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A number of `/metrics`.
    pub async fn metric(&self, client: &reqwest::Client, name: &str) -> f64 {
        let text = client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with a connection for each request.
pub fn client() -> reqwest::Client {
    halberd::tls::install_provider();
    reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap()
}
