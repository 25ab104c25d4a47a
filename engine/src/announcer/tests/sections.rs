//! `[[webhooks]]`: what is refused, and in which words.

use halberd_core::event::EventKind;
use serde_json::{Value, json};

use super::super::{Announcer, AnnouncerOptions, Interest, WebhookConfig};
use super::{Bench, SECRET, section};

fn read(section: &Value) -> WebhookConfig {
    serde_json::from_value(section.clone()).unwrap()
}

fn with(change: Value) -> Value {
    let mut hook = section("h", "https://receiver.example/hooks/url-canary".into());
    for (key, value) in change.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

#[test]
fn what_is_wrong_is_named_and_no_secret_with_it() {
    let cases = [
        (json!({"name": ""}), "name"),
        (json!({"url": "ftp://x/"}), "http"),
        (json!({"url": "http://"}), "url"),
        (json!({"url": "https://u:hunter2@x/"}), "Authorization"),
        (json!({"secret": "hunter2"}), "whsec_"),
        (json!({"secret_file": "/nowhere"}), "both secret and secret_file"),
        (json!({"secret": null, "secret_file": "/nowhere"}), "/nowhere"),
        (json!({"template": "pagerdooty"}), "servicenow"),
        (json!({"template": "pagerduty"}), "params.routing_key"),
        (json!({"template": "{\"a\": \"{{b\"}"}), "template"),
        (json!({"events": ["host.fenced", "host.fensed"]}), "host.fensed"),
        (json!({"template": "servicenow", "events": ["host.fenced"]}), "moves no ticket"),
        (json!({"headers": {"webhook-id": "x"}}), "set by us"),
        (json!({"headers": {"a b": "x"}}), "header name"),
        (json!({"headers": {"X-Token": "hunter2\nX-Other: y"}}), "one line"),
        (json!({"headers": {"X-Token": {"file": "/nowhere"}}}), "/nowhere"),
        (json!({"allow_networks": ["10.0.0.0/33"]}), "10.0.0.0/33"),
        (json!({"url": "http://127.0.0.1/", "allow_networks": ["10.0.0.0/8"]}), "allow_networks"),
        (json!({"proxy": "http://p:3128", "allow_networks": ["10.0.0.0/8"]}), "proxy"),
        (json!({"timeout_ms": 0}), "timeout_ms"),
    ];
    for (change, what) in cases {
        let error = read(&with(change.clone())).check().unwrap_err().to_string();
        assert!(error.contains(what) && error.starts_with("[[webhooks]]"), "{change}: {error}");
        assert!(!error.contains("hunter2") && !error.contains("canary"), "{error}");
    }
    let unknown =
        serde_json::from_value::<WebhookConfig>(with(json!({"templat": "x"}))).unwrap_err().to_string();
    assert!(unknown.contains("templat"), "{unknown}");
}

#[test]
fn a_section_shown_shows_no_secret() {
    let section = read(&with(
        json!({"headers": {"A": "hunter2"}, "params": {"b": "hunter2"}, "proxy": "http://u:hunter2@p/"}),
    ));
    let hook = section.check().unwrap();
    let shown = format!("{section:?} {hook:?}");
    assert!(shown.contains("https://receiver.example"), "{shown}");
    for secret in ["canary", "hunter2", SECRET.trim_start_matches("whsec_")] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn interests() {
    let interest = |change: Value| read(&with(change)).check().unwrap().interest;
    assert_eq!(interest(json!({})), Interest::All);
    assert_eq!(interest(json!({"events": "*"})), Interest::All);
    let one = interest(json!({"events": "host.fenced"}));
    assert!(one.wants(EventKind::HostFenced) && !one.wants(EventKind::HostReturned));
    for tickets in [json!({"template": "servicenow"}), json!({"template": "servicenow", "events": ["*"]})] {
        let interest = interest(tickets);
        assert!(interest.wants(EventKind::RecoveryOpened) && !interest.wants(EventKind::HostFenced));
    }
}

#[tokio::test]
async fn two_of_a_name_are_refused_and_names_follow_interest() {
    let bench = Bench::new().await;
    let hooks =
        [read(&with(json!({"name": "a", "events": ["service.up"]}))), read(&with(json!({"name": "b"})))];
    let announcer = Announcer::new(bench.db.clone(), &hooks, AnnouncerOptions::default()).unwrap();
    assert_eq!(announcer.names(), ["a", "b"]);
    assert_eq!(announcer.names_for(EventKind::ServiceUp), ["a", "b"]);
    assert_eq!(announcer.names_for(EventKind::HostFenced), ["b"]);
    let twice = [hooks[0].clone(), hooks[0].clone()];
    let error = Announcer::new(bench.db.clone(), &twice, AnnouncerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("two of this name"));
}
