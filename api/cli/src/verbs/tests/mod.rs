//! The verbs against a real HTTP server that answers with the wire's own types: what is sent, what is printed, and how it ends.

mod changes;
mod fencing;
mod help;
mod lists;
mod readiness;
mod recoveries;
mod wrong;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use halberd_types::halberd::Page;
use halberd_types::v1::segment::RecoveryMethod;
use halberd_types::v1::value::Timestamp;
use halberd_types::v1::{RowTimes, host, segment};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::failure::Failure;
use super::{Global, Verb, execute};

/// High availability for the guests of OpenStack clouds.
#[derive(Debug, Parser)]
#[command(name = "halberd")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    /// Method and path.
    what: String,
    query: String,
    body: Value,
}

#[derive(Default)]
struct Shelf {
    /// Answers by method and path, given one after the other; the last one stays.
    answers: BTreeMap<String, Vec<(u16, Value)>>,
    asked: Vec<Asked>,
}

/// A server that knows what it was told.
#[derive(Clone)]
struct Service {
    shelf: Arc<Mutex<Shelf>>,
    url: String,
}

impl Service {
    async fn start() -> Service {
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(shelf.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Service { shelf, url }
    }

    /// With one segment and its two hosts, which most verbs need to find a name.
    async fn with_hosts() -> Service {
        let service = Service::start().await;
        service.on("GET /v1/segments", 200, json!({ "segments": [segment(1, "rack-1")] }));
        let hosts = json!({ "hosts": [host(1, "cmp-01"), host(2, "cmp-02")] });
        service.on(&format!("GET /v1/segments/{}/hosts", id(1)), 200, hosts);
        service
    }

    /// Answers so from now on; told twice, first the one and then the other.
    fn on(&self, what: &str, status: u16, body: impl Serialize) {
        let body = serde_json::to_value(body).unwrap();
        self.shelf.lock().unwrap().answers.entry(what.to_owned()).or_default().push((status, body));
    }

    /// Requests that were no list.
    fn asked(&self, method: &str) -> Vec<Asked> {
        let shelf = self.shelf.lock().unwrap();
        shelf.asked.iter().filter(|asked| asked.what.starts_with(method)).cloned().collect()
    }

    /// Runs a command line; what it printed, and how it ended.
    async fn run(&self, line: &[&str]) -> (String, Result<(), Failure>) {
        let line: Vec<&str> = ["halberd", "--url", &self.url].iter().chain(line).copied().collect();
        let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
        let mut out = Vec::new();
        let end = execute(cli.verb, &cli.global, |_| None, &mut out).await;
        (String::from_utf8(out).unwrap(), end)
    }

    /// What a command that must succeed prints.
    async fn prints(&self, line: &[&str]) -> String {
        let (out, end) = self.run(line).await;
        assert_eq!(end, Ok(()), "{line:?} printed {out}");
        out
    }

    async fn prints_json(&self, line: &[&str]) -> Value {
        let line: Vec<&str> = line.iter().copied().chain(["-f", "json"]).collect();
        serde_json::from_str(&self.prints(&line).await).unwrap()
    }

    async fn fails(&self, line: &[&str]) -> Failure {
        let (out, end) = self.run(line).await;
        end.expect_err(&format!("{line:?} printed {out}"))
    }
}

async fn answer(State(shelf): State<Arc<Mutex<Shelf>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut shelf = shelf.lock().unwrap();
    let what = format!("{method} {}", uri.path());
    let query = uri.query().unwrap_or_default().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    shelf.asked.push(Asked { what: what.clone(), query: query.clone(), body });
    let Some(answers) = shelf.answers.get_mut(&what) else {
        let problem = json!({ "itemNotFound": { "code": 404, "message": format!("nothing at {what}") } });
        return (StatusCode::NOT_FOUND, Json(problem)).into_response();
    };
    let (status, mut body) = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
    if what.starts_with("GET /v1/") && query.contains("marker=") {
        // Every list of /v1 here is one page long.
        for (_, list) in body.as_object_mut().into_iter().flatten() {
            *list = json!([]);
        }
    }
    let status = StatusCode::from_u16(status).unwrap();
    if body.is_null() { status.into_response() } else { (status, Json(body)).into_response() }
}

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Seconds after noon of the day on which everything happens, with a few milliseconds.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_262_400, 250_000_000).unwrap() + TimeDelta::seconds(seconds)
}

fn times() -> RowTimes {
    RowTimes { created_at: Some(Timestamp::new(at(0))), ..RowTimes::default() }
}

fn segment(number: u128, name: &str) -> segment::Segment {
    segment::Segment {
        id: number as i64,
        uuid: id(number),
        name: name.into(),
        description: None,
        service_type: "COMPUTE".into(),
        recovery_method: RecoveryMethod::Auto,
        enabled: true,
        times: times(),
    }
}

fn host(number: u128, name: &str) -> host::Host {
    host::Host {
        id: number as i64,
        uuid: id(0x100 + number),
        name: name.into(),
        failover_segment_id: id(1),
        failover_segment: segment(1, "rack-1"),
        host_type: "COMPUTE".into(),
        reserved: false,
        control_attributes: "SSH".into(),
        on_maintenance: false,
        times: times(),
    }
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page { items, next: None }
}

/// No line of a table is wider than the half screen it is made for, and none ends in blanks.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 110, "{} wide: {line}", line.chars().count());
        assert_eq!(line, line.trim_end(), "trailing blanks");
    }
}
