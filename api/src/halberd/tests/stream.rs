//! Server-sent events: resumed without a gap and without a repeat, wherever the connection broke.

use axum::body::{Body, BodyDataStream};
use axum::http::{Method, StatusCode};
use futures_util::StreamExt;
use halberd_core::event::EventKind;
use halberd_store::{events, write};
use serde_json::Value;
use tower::ServiceExt;

use crate::halberd::testing::{NOW, Site, caller, event, request};

async fn publish(site: &Site, texts: &[&str]) {
    let events: Vec<_> = texts.iter().map(|text| event(EventKind::ServiceDown, None, text)).collect();
    write(&site.app.db, async |tx| events::publish(tx, &events, 0, &[], NOW).await).await.unwrap();
}

/// A reader of the stream, as a browser is one.
struct Listener {
    body: BodyDataStream,
    text: String,
}

impl Listener {
    async fn new(site: &Site, path: &str, last: Option<&str>) -> Listener {
        let mut request = request(Method::GET, path, None);
        request.extensions_mut().insert(caller("operator:reader"));
        if let Some(id) = last {
            request.headers_mut().insert("last-event-id", id.parse().unwrap());
        }
        let response = site.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Listener { body: Body::into_data_stream(response.into_body()), text: String::new() }
    }

    /// The next event: its id and its document.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((block, rest)) =
                self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned()))
            {
                self.text = rest;
                let line =
                    |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let (Some(id), Some(data)) = (line("id: "), line("data: ")) {
                    return (id, serde_json::from_str(&data).unwrap());
                }
                continue;
            }
            let chunk = self.body.next().await.expect("the stream goes on").unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn texts(&mut self, count: usize) -> (Vec<String>, String) {
        let (mut texts, mut last) = (Vec::new(), String::new());
        for _ in 0..count {
            let (id, event) = self.next().await;
            assert_eq!(event["id"], id.as_str());
            texts.push(event["data"]["text"].as_str().unwrap().to_owned());
            last = id;
        }
        (texts, last)
    }
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_broke() {
    let site = Site::new().await;
    publish(&site, &["1", "2", "3"]).await;
    let mut first = Listener::new(&site, "/events?since=0", None).await;
    let (texts, last) = first.texts(2).await;
    assert_eq!(texts, ["1", "2"]);
    drop(first);
    publish(&site, &["4", "5"]).await;
    let mut second = Listener::new(&site, "/events", Some(&last)).await;
    publish(&site, &["6"]).await;
    let (texts, last) = second.texts(4).await;
    assert_eq!(texts, ["3", "4", "5", "6"]);
    // A query for the past is overruled by what the browser says that it has.
    let mut third = Listener::new(&site, "/events?since=0", Some(&last)).await;
    publish(&site, &["7"]).await;
    assert_eq!(third.texts(1).await.0, ["7"]);
}

#[tokio::test]
async fn without_a_place_the_stream_begins_at_the_present() {
    let site = Site::new().await;
    publish(&site, &["past"]).await;
    let mut listener = Listener::new(&site, "/events", None).await;
    publish(&site, &["present"]).await;
    assert_eq!(listener.texts(1).await.0, ["present"]);
}

#[tokio::test]
async fn more_than_a_batch_comes_once_each_and_in_order() {
    let site = Site::new().await;
    let texts: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    publish(&site, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut listener = Listener::new(&site, "/events?since=0", None).await;
    assert_eq!(listener.texts(250).await.0, texts);
}

#[tokio::test]
async fn a_place_that_is_gone_is_told() {
    let site = Site::new().await;
    let gone = site.get("/events?since=00000000-0000-0000-0000-00000000dead").await;
    assert_eq!(gone.status, StatusCode::GONE);
    assert_eq!(gone.json()["type"], "urn:halberd:problem:event-gone");
    assert_eq!(site.get("/events?since=soon").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_list_pages_to_its_end() {
    let site = Site::new().await;
    publish(&site, &["1", "2", "3"]).await;
    let page = site.get("/events?format=json&limit=2").await.json();
    let next = page["next"].as_str().unwrap();
    assert_eq!(page["items"][1]["data"]["text"], "2");
    let page = site.get(&format!("/events?format=json&limit=2&since={next}")).await.json();
    assert_eq!(page["items"][0]["data"]["text"], "3");
    assert!(page.get("next").is_none());
}
