//! The contract of `/v1`, row by row: `contract.table` says what is asked and what must come back, this asks it over real HTTP.
//!
//! Beside what a row expects, every answer below `/v1` must carry a request id, and every refusal its own status and a reason. All rows
//! that fail are reported at once, with their line.

use std::collections::{BTreeMap, BTreeSet};

use halberd_api::{ApiConfig, AuthMode};
use halberd_core::host::Admission;
use halberd_core::id::{HostId, NotificationId};
use halberd_core::notification::NotificationStatus;
use halberd_core::runner::HostPatch;
use halberd_store::db::Options;
use halberd_store::{Access, hosts, notifications, write};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::kit::{Kit, kit_with};
use crate::vmoves::{NOW, give_moves};

const TABLE: &str = include_str!("contract.table");

/// So many rows there are; a table that was cut by accident must not pass.
const ROWS: usize = 300;

#[tokio::test]
async fn every_row_of_the_contract() {
    let mut stage = None;
    let (mut rows, mut wrong) = (0, Vec::new());
    for (number, line) in TABLE.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
        match line.strip_prefix('@') {
            Some(words) => change(&mut stage, words).await,
            None if line.is_empty() || line.starts_with('#') => {}
            None => {
                rows += 1;
                let stage = stage.as_mut().expect("a table begins with @server");
                wrong.extend(
                    stage.row(line).await.into_iter().map(|why| format!("line {number}: {why}\n    {line}")),
                );
            }
        }
    }
    assert!(rows >= ROWS, "{rows} rows");
    assert!(wrong.is_empty(), "{} of {rows} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// A server on a socket, and what the rows before this one kept.
struct Stage {
    kit: Kit,
    url: String,
    client: reqwest::Client,
    kept: BTreeMap<String, String>,
    files: TempDir,
}

impl Stage {
    async fn start(kind: &str) -> Stage {
        let files = TempDir::new().unwrap();
        let none = ApiConfig { auth: AuthMode::None, ..ApiConfig::default() };
        let config = match kind {
            "noauth" => none,
            "proxied" => ApiConfig {
                proxy_headers: true,
                cors_allowed_origins: vec!["https://horizon.example".to_owned()],
                healthcheck_disable_file: Some(files.path().join("disable")),
                ..none
            },
            "keystone" => ApiConfig {
                www_authenticate_uri: Some("https://keystone.example/v3".to_owned()),
                ..ApiConfig::default()
            },
            other => panic!("no server {other:?}"),
        };
        let kit = kit_with(config, Options::new(Access::Exclusive)).await;
        kit.cloud.token("admin", "admin", Some("0a0a"));
        kit.cloud.token("member", "member reader", Some("0a0a"));
        kit.cloud.token_of("userless", "", "admin", Some("0a0a"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(halberd_api::serve(listener, kit.app.clone(), std::future::pending()));
        Stage { kit, url, client: reqwest::Client::new(), kept: BTreeMap::new(), files }
    }

    /// A text with `{name}` replaced by what was kept, `{name:plain}` by the same without dashes, `{256}` by so many letters.
    fn filled(&self, text: &str) -> String {
        let mut text = text.replace("{256}", &"x".repeat(256));
        for (name, value) in &self.kept {
            text = text.replace(&format!("{{{name}}}"), value);
            text = text.replace(&format!("{{{name}:plain}}"), &value.replace('-', ""));
        }
        text
    }

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(&self, name: &str) -> T {
        self.kept[name].parse().unwrap()
    }

    /// What is wrong with the answer to a row.
    async fn row(&mut self, line: &str) -> Vec<String> {
        let cells: Vec<String> = line.splitn(6, '|').map(|cell| self.filled(cell.trim())).collect();
        let [_, request, headers, body, status, wanted] = &cells[..] else {
            return vec!["not six cells".to_owned()];
        };
        let (method, path) = request.split_once(' ').unwrap();
        let mut sent = HeaderMap::new();
        for header in pieces(headers) {
            let (name, value) = header.split_once(": ").unwrap();
            sent.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked = self.client.request(method, format!("{}{path}", self.url)).headers(sent);
        let asked = match body.strip_prefix('<') {
            Some(length) => asked.body("x".repeat(length.parse().unwrap())),
            None if body.is_empty() => asked,
            None => asked.body(body.clone()),
        };
        let answer = match asked.send().await {
            Ok(answer) => answer,
            Err(error) => return vec![format!("no answer: {error}")],
        };
        let got = Got {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        };
        let mut wrong = Vec::new();
        if got.status.to_string() != *status {
            wrong.push(format!("status {}: {}", got.status, got.body));
        }
        wrong.extend(got.always(path));
        for expectation in pieces(wanted) {
            match expectation.strip_prefix("save ") {
                Some(what) => {
                    let (name, pointer) = what.split_once('=').unwrap();
                    match got.json().pointer(pointer) {
                        Some(Value::String(text)) => self.kept.insert(name.to_owned(), text.clone()),
                        Some(other) => self.kept.insert(name.to_owned(), other.to_string()),
                        None => {
                            wrong.push(format!("nothing to keep at {pointer}"));
                            continue;
                        }
                    };
                }
                None => {
                    wrong.extend(got.check(&expectation).err().map(|why| format!("{expectation}: {why}")))
                }
            }
        }
        wrong
    }
}

/// Cells of several things; a media type's own parameters stay with it.
fn pieces(cell: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for piece in cell.split("; ").map(str::trim).filter(|piece| !piece.is_empty()) {
        match pieces.last_mut() {
            Some(last) if piece.starts_with("charset=") || piece.starts_with("version=") => {
                *last += &format!("; {piece}")
            }
            _ => pieces.push(piece.to_owned()),
        }
    }
    pieces
}

/// An answer.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// What holds for every row.
    fn always(&self, path: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let ids: Vec<_> = self.headers.get_all("x-openstack-request-id").iter().collect();
        if (path == "/v1" || path.starts_with("/v1/")) && ids.len() != 1 {
            wrong.push(format!("{} request ids", ids.len()));
        }
        let json = self.json();
        let fault = json.as_object().and_then(|object| object.values().next());
        if self.status >= 400 && path.starts_with("/v1") && !self.body.is_empty() {
            let says = fault.is_some_and(|fault| {
                fault["code"] == self.status && fault["message"].as_str().is_some_and(|text| !text.is_empty())
            });
            if !says || json.as_object().map(serde_json::Map::len) != Some(1) {
                wrong.push(format!("no fault of status {}: {}", self.status, self.body));
            }
        }
        wrong
    }

    /// The rows of a list.
    fn rows(&self) -> Vec<Value> {
        let json = self.json();
        let only =
            json.as_object().filter(|object| object.len() == 1).and_then(|object| object.values().next());
        only.and_then(Value::as_array).cloned().unwrap_or_default()
    }

    fn check(&self, wanted: &str) -> Result<(), String> {
        let json = self.json();
        if let Some(pointer) = wanted.strip_prefix('/') {
            return self.at(&format!("/{pointer}"));
        }
        if let Some(text) = wanted.strip_prefix('~') {
            return self.body.contains(text).then_some(()).ok_or_else(|| self.body.clone());
        }
        if let Some(name) = wanted.strip_suffix('!') {
            return self.headers.get(name).map_or(Ok(()), |value| Err(format!("{value:?}")));
        }
        if let Some((name, want)) = wanted.split_once(": ") {
            let values: Vec<_> =
                self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            let got = values.join(", ");
            let good = match want.strip_suffix('*') {
                Some(start) => !values.is_empty() && got.starts_with(start),
                None => got.eq_ignore_ascii_case(want),
            };
            return good.then_some(()).ok_or(got);
        }
        let (what, want) = wanted.split_once('=').ok_or("what does this expect?")?;
        let got = match what {
            "key" => json
                .as_object()
                .map(|object| object.keys().cloned().collect::<Vec<_>>().join(","))
                .unwrap_or_default(),
            "body" => self.body.clone(),
            "count" if json.is_object() => self.rows().len().to_string(),
            "order" => {
                let (field, want) = want.split_once(':').ok_or("order=FIELD:...")?;
                let shown: Vec<_> =
                    self.rows().iter().map(|row| row[field].as_str().unwrap_or("?").to_owned()).collect();
                let got = shown.join(",");
                return (got == want).then_some(()).ok_or(got);
            }
            "fields" => {
                let object =
                    json.as_object().and_then(|object| object.values().next()).cloned().unwrap_or_default();
                let object = object.get(0).cloned().unwrap_or(object);
                let keys: BTreeSet<String> =
                    object.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default();
                let want: BTreeSet<String> = want.split(',').map(str::to_owned).collect();
                return (keys == want).then_some(()).ok_or_else(|| format!("{keys:?}"));
            }
            _ => return Err("what does this expect?".to_owned()),
        };
        (got == want).then_some(()).ok_or(got)
    }

    /// `/pointer?`, `/pointer!`, `/pointer=~text` or `/pointer=JSON`.
    fn at(&self, wanted: &str) -> Result<(), String> {
        let json = self.json();
        if let Some(pointer) = wanted.strip_suffix('?') {
            return json
                .pointer(pointer)
                .is_some_and(|value| !value.is_null())
                .then_some(())
                .ok_or_else(|| self.body.clone());
        }
        if let Some(pointer) = wanted.strip_suffix('!') {
            return json.pointer(pointer).map_or(Ok(()), |value| Err(value.to_string()));
        }
        let (pointer, want) = wanted.split_once('=').ok_or("a pointer expects ?, ! or =")?;
        let got = json.pointer(pointer).cloned().ok_or_else(|| self.body.clone())?;
        let good = match want.strip_prefix('~') {
            Some(text) => got.as_str().is_some_and(|got| got.contains(text)),
            None => got == serde_json::from_str::<Value>(want).map_err(|error| error.to_string())?,
        };
        good.then_some(()).ok_or_else(|| got.to_string())
    }
}

/// A line that begins with `@`.
async fn change(stage: &mut Option<Stage>, words: &str) {
    let words: Vec<&str> = words.split_whitespace().collect();
    if let ["server", kind] = words[..] {
        *stage = Some(Stage::start(kind).await);
        return;
    }
    let stage = stage.as_ref().expect("a table begins with @server");
    let db = &stage.kit.app.db;
    match words[..] {
        ["nova", mood] => stage.kit.cloud.world().nova_fails = mood.parse().ok(),
        ["disable"] => std::fs::write(stage.files.path().join("disable"), "").unwrap(),
        ["admission", host, word] => {
            let (id, admission): (HostId, Admission) = (stage.id(host), word.parse().unwrap());
            let patch = HostPatch { admission: Some(admission), ..HostPatch::default() };
            write(db, async |tx| hosts::patch(tx, id, &patch, NOW).await).await.unwrap();
        }
        ["settle", note] => {
            let id: NotificationId = stage.id(note);
            let (from, to) = (NotificationStatus::New, NotificationStatus::Ignored);
            write(db, async |tx| notifications::settle(tx, id, from, to, None, NOW).await).await.unwrap();
        }
        ["moves", note, host, segment] => {
            give_moves(db, stage.id(note), stage.id(host), stage.id(segment), 3).await;
        }
        _ => panic!("no such change: {words:?}"),
    }
}
