//! Documents, headers, links and whole conversations as no service should send them.

use rand::Rng;
use rand::rngs::StdRng;
use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, RETRY_AFTER};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::http::{Http, Reply, mentions};
use super::super::{login, model};
use super::*;
use crate::fuzz::{body, bytes, disturbed, fuzz, mutated, pick, presentable, text};

pub(crate) fn root() -> Value {
    json!({"Systems": {"@odata.id": "/redfish/v1/Systems"}, "RedfishVersion": "1.11.0",
        "SessionService": {"@odata.id": "/redfish/v1/SessionService"},
        "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}}})
}

pub(crate) fn collection() -> Value {
    json!({"Members": [{"@odata.id": SYSTEM}], "Members@odata.count": 1})
}

pub(crate) fn system(power: &str) -> Value {
    json!({"Id": "1", "SerialNumber": "S1", "UUID": "8839d356-f787-4a0b-8010-d454645c55f8", "SKU": "TAG1",
        "Manufacturer": "Dell Inc.", "Model": "R660", "PowerState": power, "@odata.etag": "W/\"1\"",
        "PowerRestorePolicy": "AlwaysOn", "Actions": {"#ComputerSystem.Reset": {"target": RESET,
        "ResetType@Redfish.AllowableValues": ["On", "ForceOff"], "@Redfish.ActionInfo": "/info"}}})
}

pub(crate) fn task() -> Value {
    json!({"@odata.id": "/task/1", "TaskState": "Running", "Messages": []})
}

pub(crate) fn error() -> Value {
    json!({"error": {"code": "Base.1.0.GeneralError", "message": "See ExtendedInfo", "@Message.ExtendedInfo":
        [{"MessageId": "IDRAC.2.8.PSU501", "Message": "The server is already powered off"}]}})
}

fn reply(rng: &mut StdRng, good: &Value) -> Reply {
    let mut headers = HeaderMap::new();
    let value = match rng.random_range(0..4) {
        0 => bytes(rng, 200),
        1 => text(rng).into_bytes(),
        _ => pick::<&str>(
            rng,
            &[
                "7",
                " 7 ",
                "-1",
                "1e9",
                "99999999999999999999999",
                "Wed, 21 Oct 2026 07:28:00 GMT",
                "W/\"x\"",
                "",
            ],
        )
        .as_bytes()
        .to_vec(),
    };
    if let Ok(value) = HeaderValue::from_bytes(&value) {
        headers.insert(RETRY_AFTER, value.clone());
        headers.insert(ETAG, value);
    }
    let status = StatusCode::from_u16(rng.random_range(100..600)).unwrap();
    Reply { status, headers, body: body(rng, good), certificate: None }
}

fn http(url: &str) -> Http {
    redfish(url, json!({}), &Expected::default()).http
}

/// Everything that reads a document, and every error that quotes one.
#[test]
fn documents() {
    let http = http("http://127.0.0.1:8000");
    fuzz("Redfish documents", |rng| {
        let good = pick(rng, &[root(), collection(), system("Off"), task(), error()]).clone();
        let reply = reply(rng, &good);
        let document = reply.json();
        assert_eq!(
            model::power_state(&document) == PowerState::Off,
            document.as_object().and_then(|d| d.get("PowerState")) == Some(&json!("Off")),
            "Off is the literal Off of the document's own PowerState"
        );
        if let PowerState::Other(word) = model::power_state(&document) {
            assert!(word.chars().count() <= 60 && !word.chars().any(char::is_control), "{word:?}");
        }
        if let Some(identity) = model::identity(&document) {
            let shown = identity.to_string();
            assert!(identity.names_a_machine() && shown.len() <= 400, "{} bytes", shown.len());
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
        let _ = (model::members(&document), model::reset(&document), model::allowed_by_info(&document));
        let _ = (model::task(&document), model::link(&document), mentions(&document, &["already"]));
        presentable(&http.refused(&reply, "GET /redfish/v1/Systems/1"));
    });
}

#[test]
fn headers() {
    fuzz("Retry-After and ETag", |rng| {
        let reply = reply(rng, &Value::Null);
        if let Some(wait) = reply.retry_after() {
            // The caller caps it; it must not be able to overflow on the way.
            let limits = Limits::default();
            assert!(wait.min(limits.backoff_max) <= limits.backoff_max);
        }
        if let Some(etag) = reply.etag() {
            assert!(HeaderValue::from_str(&etag).is_ok(), "{etag:?} cannot be sent back");
        }
    });
}

/// Wherever a document points: the URL is on the device's own origin, or there is none.
#[test]
fn links() {
    let origins =
        ["http://127.0.0.1:8000", "https://bmc.example", "https://[fd00::7]:8443", "http://10.0.0.1"];
    let clients: Vec<(String, Http)> = origins.iter().map(|o| (format!("{o}/"), http(o))).collect();
    let pieces = [
        "http:",
        "https:",
        "ftp:",
        "file:",
        "javascript:",
        "data:",
        "//",
        "/",
        "\\",
        "\\\\",
        "/\\",
        "@",
        ":",
        "?",
        "#",
        "..",
        ".",
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:8000",
        "bmc.example",
        "bmc.example.",
        "BMC.EXAMPLE",
        "bmc.example:443",
        "[fd00::7]",
        "[fd00::7]:8443",
        "0x7f.1",
        "user:pass@",
        "bmc.example@evil.example",
        "redfish/v1",
        "Systems",
        "%2f",
        "%00",
        "\t",
        "\n",
        " ",
        "\u{ff0f}",
        "\u{3002}",
        ":8000",
        ":443",
        ":80",
        "10.0.0.1",
    ];
    fuzz("links", |rng| {
        let (origin, http) = pick(rng, &clients);
        let mut link: String = (0..rng.random_range(0..8)).map(|_| *pick(rng, &pieces)).collect();
        if rng.random_bool(0.2) {
            link = String::from_utf8_lossy(&mutated(rng, link.as_bytes())).into_owned();
        }
        if rng.random_bool(0.05) {
            link = text(rng);
        }
        match http.resolve(&link) {
            Ok(url) => {
                // Not the parser's own idea of an origin: the text that goes out.
                assert!(url.as_str().starts_with(origin.as_str()), "{link:?} leads from {origin} to {url}");
                assert!(url.username().is_empty() && url.password().is_none(), "{url}");
            }
            Err(error) => presentable(&error),
        }
    });
}

/// A service that answers each request of a login, a search, a reading and an order with something else.
#[test]
fn conversations() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    fuzz("Redfish conversations", |rng| {
        let answers: Vec<Vec<u8>> = (0..24).map(|_| answer(rng)).collect();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let served = serve(&listener, &answers);
            let asked = async {
                let device = redfish(&url, json!({}), &Expected::default());
                let mut session = match device.open().await {
                    Ok(session) => session,
                    Err(error) => return presentable(&error),
                };
                for step in 0..4 {
                    let failed = match step {
                        0 => session.identify().await.err(),
                        1 => session.off().await.err(),
                        2 => session.read().await.err(),
                        _ => session.inspect().await.err(),
                    };
                    failed.iter().for_each(presentable);
                }
                session.close().await;
            };
            tokio::select! { () = served => unreachable!(), () = asked => {} }
        });
    });
}

/// Answers connections in turn, each with the next bytes, whatever is asked.
async fn serve(listener: &TcpListener, answers: &[Vec<u8>]) {
    for answer in answers.iter().cycle() {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4_096]).await;
        let _ = stream.write_all(answer).await;
    }
}

/// An HTTP answer, mostly well framed, with anything inside; sometimes any bytes.
pub(crate) fn answer(rng: &mut StdRng) -> Vec<u8> {
    if rng.random_ratio(1, 40) {
        return bytes(rng, 3_000);
    }
    let good = pick(rng, &[root(), collection(), system("Off"), system("On"), task(), error()]).clone();
    let status = *pick(
        rng,
        &[200_u16, 200, 200, 200, 201, 202, 204, 301, 307, 308, 400, 401, 404, 406, 409, 412, 428, 503],
    );
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    for name in ["Location", "X-Auth-Token", "ETag", "Retry-After"] {
        if rng.random_bool(0.5) {
            let plain: String = match rng.random_range(0..3) {
                0 => (*pick(
                    rng,
                    &[
                        "/redfish/v1/SessionService/Sessions/1",
                        "/task/1",
                        "//evil.example/",
                        "7",
                        "W/\"1\"",
                        "\u{e9}",
                    ],
                ))
                .into(),
                1 => text(rng),
                _ => "/redfish/v1/".into(),
            };
            head.push_str(&format!("{name}: {}\r\n", plain.replace(['\r', '\n', '\0'], "")));
        }
    }
    let body =
        if rng.random_bool(0.6) { disturbed(rng, &good).to_string().into_bytes() } else { body(rng, &good) };
    let length = if rng.random_ratio(1, 20) { rng.random_range(0..20_000_000) } else { body.len() };
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    let whole = [head.into_bytes(), body].concat();
    if rng.random_ratio(1, 30) { mutated(rng, &whole) } else { whole }
}

/// Ten megabytes of JSON are cut off, however they are framed, and do not become memory of ours.
#[tokio::test]
async fn ten_megabytes_are_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = http(&format!("http://{}", listener.local_addr().unwrap()));
    let huge = [b"{\"x\":\"".to_vec(), b"x".repeat(10 << 20), b"\"}".to_vec()].concat();
    let announced = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", huge.len())
        .into_bytes();
    let until_closed = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec();
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        huge.len()
    )
    .into_bytes();
    let answers = [announced, until_closed, chunked].map(|head| [head, huge.clone()].concat());
    let asked = async {
        for _ in 0..3 {
            let error = http.get(&super::super::http::Auth::None, "/redfish/v1/").await.unwrap_err();
            assert!(error.to_string().contains("more than 1048576 bytes"), "{error}");
            presentable(&error);
        }
    };
    tokio::select! { () = serve(&listener, &answers) => unreachable!(), () = asked => {} }
}

/// What a login takes from the service root leads nowhere else either.
#[tokio::test]
async fn a_login_of_garbage_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let long = format!("{{\"Links\":{{\"Sessions\":{{\"@odata.id\":\"//{}\"}}}}}}", "x".repeat(100_000));
    let answers =
        [format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{long}", long.len())
            .into_bytes()];
    let device = redfish(&url, json!({}), &Expected::default());
    let asked = async {
        let error = login::log_in(&device.http, &device.device).await.unwrap_err();
        assert!(matches!(error, FenceError::Malformed { .. }), "{error}");
        presentable(&error);
    };
    tokio::select! { () = serve(&listener, &answers) => unreachable!(), () = asked => {} }
}
