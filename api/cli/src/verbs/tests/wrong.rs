//! Wrong input and trouble: each names the thing and the way out, and has its exit code.

use halberd_types::halberd::problem::Problem;
use halberd_types::v1::error::Fault;

use super::*;
use crate::verbs::client::{LOCAL, Way, pick, way};

#[tokio::test]
async fn names_that_are_not_there() {
    let service = Service::with_hosts().await;
    let table = [
        (
            &["segment", "show", "rack-2"][..],
            "there is no segment with the name or id \"rack-2\"",
            "did you mean rack-1?",
        ),
        (
            &["segment", "delete", "x"],
            "there is no segment with the name or id \"x\"",
            "`halberd segment list` shows those there are",
        ),
        (
            &["host", "show", "cmp-1"],
            "there is no host with the name or id \"cmp-1\"",
            "did you mean cmp-01?",
        ),
        (
            &["host", "show", "CMP-01"],
            "there is no host with the name or id \"CMP-01\"",
            "`halberd host list` shows those there are",
        ),
        (
            &["host", "list", "--segment", "nope"],
            "there is no segment with the name or id \"nope\"",
            "`halberd segment list` shows those there are",
        ),
        (
            &["fence", "status", "db"],
            "there is no host with the name or id \"db\"",
            "`halberd host list` shows those there are",
        ),
    ];
    for (line, text, remedy) in table {
        assert_eq!(service.fails(line).await, Failure::refused(text).with_remedy(remedy), "{line:?}");
    }
}

#[test]
fn a_name_twice_is_refused_and_an_id_wins() {
    let items = vec![
        json!({ "uuid": "a", "name": "web" }),
        json!({ "uuid": "b", "name": "web" }),
        json!({ "uuid": "c", "name": "a" }),
    ];
    let twice = pick("host", "web", items.clone(), "uuid", "name").unwrap_err();
    assert_eq!(twice.text, "\"web\" is the name of 2 hosts: a, b");
    assert_eq!(twice.remedy.as_deref(), Some("name the one you mean by its id"));
    assert_eq!(pick("host", "a", items, "uuid", "name").unwrap()["name"], "web");
}

#[tokio::test]
async fn refusals_are_told_in_the_service_s_words() {
    let fault = |status, message: &str| Fault::new(status, message).to_json();
    let problem = |status, detail: &str| json!(Problem::new(status, "x", "t", detail));
    let cases = [
        (
            409,
            fault(409, "A segment with name s exists already."),
            1,
            "A segment with name s exists already.",
            None,
        ),
        (
            400,
            fault(400, "Invalid input for field/attribute name."),
            1,
            "Invalid input for field/attribute name.",
            None,
        ),
        (
            403,
            fault(403, "Policy does not allow it."),
            1,
            "Policy does not allow it.",
            Some("use a login with the role"),
        ),
        (404, problem(404, "No such thing."), 1, "No such thing.", Some("does not have it (any more)")),
        (401, problem(401, "Log in."), 1, "the login failed: ", Some("this service wants a token")),
        (
            500,
            problem(500, "It broke."),
            1,
            "the service failed: 500 It broke.",
            Some("look before you repeat it"),
        ),
        (
            503,
            problem(503, "The database is busy."),
            3,
            "cannot serve this now: 503 The database is busy.",
            Some("try again"),
        ),
    ];
    for (status, body, code, text, remedy) in cases {
        let service = Service::start().await;
        service.on("POST /v1/segments", status, body);
        let failure = service.fails(&["segment", "create", "s"]).await;
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.text.contains(text), "{failure}");
        let told = failure.remedy.as_deref().unwrap_or_default();
        assert!(told.contains(remedy.unwrap_or_default()), "{failure}");
        assert_eq!(failure.remedy.is_some(), remedy.is_some(), "{failure}");
        assert!(!format!("{failure}").contains("{"), "no Debug, no JSON: {failure}");
    }
}

#[tokio::test]
async fn a_service_that_is_down_is_named() {
    // Bound and dropped: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = Service { shelf: Arc::default(), url: format!("http://127.0.0.1:{port}") };
    let failure = service.fails(&["segment", "list"]).await;
    assert_eq!(failure.code, 3);
    assert!(failure.text.contains("no connection for instance-ha GET /v1/segments"), "{failure}");
    let remedy = failure.remedy.unwrap();
    assert!(remedy.contains(&format!("127.0.0.1:{port}")) && remedy.contains("--url"), "{remedy}");
}

#[tokio::test]
async fn an_answer_that_is_lost_may_have_been_done() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        // Takes each request and closes without a word.
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut first = [0; 1];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await;
        }
    });
    let service = Service { shelf: Arc::default(), url };
    let failure = service.fails(&["segment", "create", "s"]).await;
    assert_eq!(failure.code, 3);
    assert!(failure.remedy.unwrap().contains("look before you repeat it"));
    let failure = service.fails(&["segment", "list"]).await;
    assert_eq!((failure.code, failure.remedy.as_deref()), (3, Some("try again")));
}

#[tokio::test]
async fn something_else_listens_there() {
    let service = Service::start().await;
    service.on("GET /v1/segments", 200, json!({ "hello": "world" }));
    let failure = service.fails(&["segment", "list"]).await;
    assert_eq!(failure.text, "the answer to GET /v1/segments has no list \"segments\"");
    assert!(failure.remedy.unwrap().contains("is http://127.0.0.1"));
}

#[tokio::test]
async fn an_address_or_a_column_that_is_none() {
    let service = Service { shelf: Arc::default(), url: "127.0.0.1:15868".into() };
    let failure = service.fails(&["segment", "list"]).await;
    assert!(failure.code == 2 && failure.text.contains("127.0.0.1:15868"), "{failure}");

    let service = Service::with_hosts().await;
    let failure = service.fails(&["segment", "list", "-c", "colour"]).await;
    assert_eq!(failure.code, 2);
    assert!(
        failure.text.ends_with("there are: uuid, name, recovery_method, service_type, enabled"),
        "{failure}"
    );
    assert_eq!(service.fails(&["segment", "list", "-c", "uuid", "-f", "json"]).await.code, 2);
}

#[tokio::test]
async fn a_name_from_outside_cannot_steer_the_terminal() {
    let service = Service::start().await;
    service.on("GET /v1/segments", 200, json!({ "segments": [segment(1, "a\u{1b}[2Jb\nc")] }));
    for format in ["table", "value"] {
        let out = service.prints(&["segment", "list", "-f", format]).await;
        assert!(!out.contains('\u{1b}') && out.contains("a\\u{1b}[2Jb c"), "{out:?}");
    }
}

#[test]
fn who_is_asked_and_with_whose_token() {
    let global = |url: Option<&str>, cloud: Option<&str>| Global {
        url: url.map(str::to_owned),
        cloud: cloud.map(str::to_owned),
        ..Global::default()
    };
    let none = |_: &str| None;
    let os_cloud = |name: &str| (name == "OS_CLOUD").then(|| "prod".to_owned());
    let openrc = |name: &str| match name {
        "OS_AUTH_URL" => Some("http://k/v3".to_owned()),
        "OS_PASSWORD" => Some("hunter2".to_owned()),
        "OS_INTERFACE" => Some("internalURL".to_owned()),
        _ => None,
    };
    assert!(matches!(way(&global(None, None), none), Ok(Way::Open { url, .. }) if url == LOCAL));
    assert!(matches!(way(&global(Some(""), None), none), Ok(Way::Open { url, .. }) if url == LOCAL));
    assert!(
        matches!(way(&global(Some("http://a"), None), os_cloud), Ok(Way::Open { url, .. }) if url == "http://a")
    );
    let both = way(&global(Some("http://a"), Some("x")), os_cloud);
    assert!(
        matches!(both, Ok(Way::At { url, login }) if url == "http://a" && login.cloud.as_deref() == Some("x"))
    );
    let cloud = way(&global(None, None), os_cloud);
    assert!(matches!(cloud, Ok(Way::Catalog { login }) if login.cloud.as_deref() == Some("prod")));
    let named = way(&global(None, Some("x")), os_cloud);
    assert!(matches!(named, Ok(Way::Catalog { login }) if login.cloud.as_deref() == Some("x")));
    let login = way(&global(None, None), openrc);
    assert!(matches!(&login, Ok(Way::Catalog { login }) if login.auth_url.as_deref() == Some("http://k/v3")));
    assert!(!format!("{login:?}").contains("hunter2"));
    let other = |name: &str| (name != "OS_CLOUD").then(|| "x".to_owned());
    assert_eq!(way(&global(None, None), other).unwrap_err().code, 2, "what is not taken is named");
}

#[tokio::test]
async fn a_cloud_that_is_not_known_is_usage() {
    let cli =
        Cli::try_parse_from(["halberd", "--cloud", "no-such-cloud-anywhere", "segment", "list"]).unwrap();
    let failure = execute(cli.verb, &cli.global, |_| None, &mut Vec::new()).await.unwrap_err();
    assert!(failure.code == 2 && failure.text.contains("no-such-cloud-anywhere"), "{failure}");
}

#[test]
fn usage_errors_are_clap_s() {
    let table: &[&[&str]] = &[
        &["segment"],
        &["segment", "show"],
        &["segment", "create", "s", "automatic"],
        &["host", "create", "cmp-01"],
        &["host", "update", "cmp-01", "--reserved", "maybe"],
        &["host", "fence-devices", "set", "cmp-01"],
        &["host", "fence-devices", "set", "cmp-01", "--none", "--file", "x"],
        &["host", "fence-devices", "set", "cmp-01", "--file", "x", "--address", "y"],
        &["host", "fence-devices", "set", "cmp-01", "--none", "--ca-file", "x"],
        &["host", "attributes", "cmp-01", "--clear", "--rack", "r"],
        &["agent", "key", "cmp-01", "--withdraw", "--out", "f"],
        &["fence", "confirm", "cmp-01", "--serial", "s"],
        &["fence", "confirm", "cmp-01", "--serial", " ", "--reason", "r"],
        &["fence", "off", "cmp-01"],
        &["fence", "off", "cmp-01", "--reason", ""],
        &["fence", "on", "cmp-01", "--reason", "  "],
        &["fence", "test", "cmp-01", "--really-power-off"],
        &["fence", "history", "cmp-01", "--limit", "0"],
        &["fence", "off", "cmp-01", "--reason", "r", "--wait", "5", "--no-wait"],
        &["fence", "devices", "set", "cmp-01"],
        &["fence", "devices", "cmp-01", "check", "cmp-02"],
        &["fence", "confirm", "cmp-01", "--reason", "r"],
        &["notification", "create", "HOST", "cmp-01", "--payload", "{}"],
        &["recovery", "list", "--limit", "0"],
        &["segment", "list", "-f", "yaml"],
    ];
    for line in table {
        let error = Cli::try_parse_from(["halberd"].iter().chain(*line)).expect_err(&line.join(" "));
        assert_eq!(error.exit_code(), 2, "{line:?}");
    }
}
