//! What the benchmarks share: `halberd serve` as a process of its own beside a simulated cloud, and a client.

#![allow(dead_code, reason = "each benchmark uses a part")]

pub mod http;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use halberd_sim::shell::Cloud;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use http::{Client, once, request};

/// `halberd serve`, and the cloud around it. Both end when it is dropped.
pub struct Server {
    child: Child,
    pub address: String,
    pub cloud: Arc<Cloud>,
    dir: TempDir,
}

/// How it is to be started.
#[derive(Default)]
pub struct Setting<'a> {
    /// `none` or `keystone`.
    pub auth: &'a str,
    /// The database; an SQLite file of its own if `None`.
    pub database: Option<&'a str>,
    /// Lines of `[policy]`.
    pub policy: &'a str,
    /// Where Nova is reached, if not where Keystone's catalog says.
    pub nova: Option<String>,
}

impl Server {
    pub async fn start(binary: &Path, cloud: Arc<Cloud>, setting: Setting<'_>) -> Server {
        let login = cloud.login("halberd").unwrap();
        let dir = TempDir::new().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let of = |name: &str| dir.path().join(name);
        let database =
            setting.database.map_or_else(|| format!("sqlite:{}", of("halberd.db").display()), str::to_owned);
        halberd_store::Sealer::from_file_or_new(&of("halberd.key")).unwrap();
        let nova =
            setting.nova.map_or_else(String::new, |url| format!(", compute_endpoint_override: '{url}'"));
        let clouds = format!(
            "clouds: {{bench: {{auth: {{auth_url: '{}', username: '{}', password: '{}', project_name: '{}', user_domain_name: '{domain}', \
             project_domain_name: '{domain}'}}{nova}}}}}\n",
            login.auth_url,
            login.username,
            login.password,
            login.project_name,
            domain = login.domain_name,
        );
        fs::write(of("clouds.yaml"), clouds).unwrap();
        let config = format!(
            "[database]\nurl = \"{database}\"\n[api]\nlisten = \"{address}\"\nauth = \"{}\"\n[openstack]\ncloud = \"bench\"\n\
             [engine]\nsecrets_key_file = \"{}\"\nhigh_water_file = \"{}\"\n[policy]\n{}\n",
            setting.auth,
            of("halberd.key").display(),
            of("high-water").display(),
            setting.policy,
        );
        let file = dir.path().join("halberd.toml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(dir.path().join("halberd.log")).unwrap();
        let child = Command::new(binary)
            .args(["serve", "--config"])
            .arg(&file)
            .env("OS_CLIENT_CONFIG_FILE", dir.path().join("clouds.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut server = Server { child, address, cloud, dir };
        let begin = Instant::now();
        while TcpStream::connect(&server.address).await.is_err() {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < Duration::from_secs(20), "{}", server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("halberd.log")).unwrap_or_default()
    }

    pub async fn once(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> (u16, Value) {
        once(&self.address, method, path, headers, body).await
    }

    pub async fn made(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let (status, made) = self.once("POST", path, headers, Some(body)).await;
        assert!(matches!(status, 201 | 202), "{path}: {status} {made}\n{}", self.log());
        made
    }

    /// An administrator's token, from the simulated Keystone.
    pub async fn token(&self) -> String {
        let login = self.cloud.login("admin").unwrap();
        let url = login.auth_url.trim_start_matches("http://").to_owned();
        let (address, path) = url.split_once('/').unwrap();
        let domain = json!({ "name": login.domain_name });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": login.username, "password": login.password, "domain": domain } } },
            "scope": { "project": { "name": login.project_name, "domain": domain } } } });
        let mut client = Client::to(address).await;
        let headers = [("Content-Type", "application/json")];
        let status = client
            .ask(&request("POST", &format!("/{path}/auth/tokens"), &headers, Some(&body.to_string())))
            .await;
        assert_eq!(status, 201, "{}", client.body());
        client.header("x-subject-token").unwrap()
    }

    /// Resident memory, MB of a million bytes.
    pub fn rss_mb(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1_024.0 / 1e6
    }

    /// Processor time used so far, of all threads, from the scheduler's own count (nanoseconds).
    pub fn cpu_us(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of = |path: PathBuf| -> Option<u64> {
            fs::read_to_string(path.join("schedstat")).ok()?.split_whitespace().next()?.parse().ok()
        };
        tasks.filter_map(|task| of(task.ok()?.path())).sum::<u64>() / 1_000
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program to measure.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HALBERD") {
        return path.into();
    }
    // target/release/deps/api-HASH
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(Path::parent).unwrap().join("halberd");
    assert!(path.exists(), "{} is missing: cargo build --release -p halberd, or set HALBERD", path.display());
    path
}

pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    format!("{cores} cores, {}", model.map_or("unknown CPU", |(_, model)| model))
}

pub fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
