//! References that lead somewhere, nowhere, and to what does not fit.

use std::os::unix::fs::PermissionsExt;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::*;
use crate::fuzz::{fuzz, presentable, text};
use crate::{FenceDevices, check, report::Target};

fn nothing(_: &str) -> Option<String> {
    None
}

fn device(kind: &str, password: &str) -> Device {
    let address = if kind == "redfish" { "http://127.0.0.1:9" } else { "127.0.0.1:9" };
    described(json!({"type": kind, "address": address, "username": "u", "password": password}))
}

fn described(device: Value) -> Device {
    let all = json!({"levels": [{"devices": [device]}]}).to_string();
    FenceDevices::parse(&all).unwrap_or_else(|e| panic!("{all}: {e}")).levels[0].devices[0].clone()
}

fn file(name: &str, content: &str, mode: u32) -> String {
    let path = std::env::temp_dir().join(format!("halberd-secret-{}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// All that these tests refer to.
fn allowing() -> Limits {
    let temporary = format!("file:{}", std::env::temp_dir().display());
    let references = [&temporary, "file:/nonexistent/", "file:/dev/", "file:/run/secrets/", "env:", "vault:"];
    Limits { references: references.iter().map(|it| (*it).to_owned()).collect(), ..Limits::default() }
}

#[tokio::test]
async fn only_allowed_references_are_looked_up() {
    let path = file("engines-own", "t0ps3cret", 0o600);
    let device = device("redfish", &format!("file:{path}"));
    let folder = std::env::temp_dir().display().to_string();
    let table = [
        (vec![], false),
        (vec![String::new()], false),
        (vec!["file:/etc/halberd/bmc/".to_owned(), "env:".to_owned()], false),
        (vec![format!("file:{folder}/")], true),
    ];
    for (references, good) in table {
        let limits = Limits { references, ..Limits::default() };
        let resolved = resolve(&device, &limits, &nothing).await;
        assert_eq!(resolved.is_ok(), good, "{:?}", limits.references);
        if let Err(error) = resolved {
            assert!(error.is_final() && error.to_string().contains("secret_references"), "{error}");
        }
    }
    let beside = Reference::parse("file:/etc/halberd/bmc/../halberd.key").expect("a reference");
    assert!(beside.is_err(), "a path that leaves where it begins");
    std::fs::remove_file(&path).unwrap();
}

async fn password(reference: &str, env: Env<'_>) -> Result<String, FenceError> {
    let resolved = resolve(&device("redfish", reference), &allowing(), env).await?;
    Ok(resolved.password.unwrap().expose_secret().to_owned())
}

#[tokio::test]
async fn files_variables_and_plain_secrets() {
    let path = file("good", "p4ss word\n", 0o600);
    assert_eq!(password(&format!("file:{path}"), &nothing).await.unwrap(), "p4ss word");
    let env = |name: &str| (name == "BMC_1").then(|| "fr0m env".to_owned());
    assert_eq!(password("env:BMC_1", &env).await.unwrap(), "fr0m env");
    let odd = |_: &str| Some("file:is-a-password".to_owned());
    assert_eq!(password("env:ODD", &odd).await.unwrap(), "file:is-a-password", "looked up once, not twice");
    assert_eq!(password("plain", &nothing).await.unwrap(), "plain");
    // It is looked up each time.
    std::fs::write(&path, "rotated").unwrap();
    assert_eq!(password(&format!("file:{path}"), &nothing).await.unwrap(), "rotated");
}

#[tokio::test]
async fn what_leads_nowhere_is_named_and_the_secret_is_not() {
    let cases = [
        ("file:/nonexistent/p".to_owned(), "No such file"),
        (format!("file:{}", file("open", "t0ps3cret", 0o604)), "mode 0604"),
        (
            format!("file:{}", file("group", "t0ps3cret", 0o640)),
            "mode 0640); give it to the engine's user and chmod 600",
        ),
        (format!("file:{}", file("lines", "t0ps3cret\nmore", 0o600)), "more than one line"),
        (format!("file:{}", file("empty", "\n", 0o600)), "empty"),
        (format!("file:{}", file("huge", &"t0ps3cret".repeat(1_000), 0o600)), "at most 4096 bytes"),
        ("file:/dev/zero".to_owned(), "no regular file"),
        ("env:T0PS3CRET_ABSENT".to_owned(), "no such variable"),
        ("vault:kv/a#b".to_owned(), "VAULT_ADDR is not set"),
    ];
    for (reference, says) in cases {
        let error = password(&reference, &nothing).await.unwrap_err();
        assert!(error.to_string().contains(&reference) && error.to_string().contains(says), "{error}");
        assert!(error.is_final() && !error.to_string().contains("t0ps3cret"), "{error}");
        presentable(&error);
    }
}

#[tokio::test]
async fn what_does_not_fit_the_device_is_refused_without_being_shown() {
    let path = file("long", "t0ps3cret-t0ps3cret-t0ps3cret", 0o600);
    let ipmi = device("ipmi", &format!("file:{path}"));
    let error = resolve(&ipmi, &allowing(), &nothing).await.unwrap_err().to_string();
    assert!(error.contains("20 bytes") && !error.contains("t0ps3cret"), "{error}");
}

#[tokio::test]
async fn keys_and_agents_options_may_be_references() {
    let (key, word) = (file("kg", "0x00ff", 0o600), file("word", "w0rd", 0o600));
    let ipmi = json!({"type": "ipmi", "address": "127.0.0.1", "username": "u", "password": "p", "kg": format!("file:{key}")});
    let ipmi = resolve(&described(ipmi), &allowing(), &nothing).await.unwrap();
    assert_eq!(ipmi.kg_bytes(), Some(Ok(vec![0, 255])));
    let options = json!({"snmp_priv_passwd": format!("file:{word}"), "plug": "env:LITERAL"});
    let agent = described(json!({"type": "agent", "program": "fence_x", "options": options}));
    let agent = resolve(&agent, &allowing(), &nothing).await.unwrap();
    assert_eq!(agent.options["snmp_priv_passwd"], "w0rd");
    assert_eq!(agent.options["plug"], "env:LITERAL", "no secret, no reference");
}

#[test]
fn references_are_shown_and_bad_ones_refused_when_described() {
    for good in ["file:/run/secrets/a b", "env:BMC_1", "vault:kv/dc1/h-1#pass.word"] {
        let one =
            described(json!({"type": "ipmi", "address": "h", "username": "u", "password": good, "kg": good}));
        assert_eq!((&one.masked()["password"], &one.masked()["kg"]), (&json!(good), &json!(good)));
    }
    let options = json!({"passwd": "env:A", "token": "t0ken"});
    let agent = described(json!({"type": "agent", "program": "fence_x", "options": options}));
    assert_eq!(agent.masked()["options"], json!({"passwd": "env:A", "token": crate::device::MASK}));
    for bad in [
        "file:",
        "file:p",
        "file:~/p",
        "env:",
        "env:A B",
        "env:1A",
        "vault:",
        "vault:kv",
        "vault:kv#k",
        "vault:kv/a#",
        "vault:/kv/a#k",
        "vault:kv/../sys#k",
        "vault:kv/a?x#k",
        "vault:kv//a#k",
    ] {
        let device = json!({"type": "redfish", "address": "https://b", "username": "u", "password": bad});
        let error = FenceDevices::parse(&json!({"levels": [{"devices": [device]}]}).to_string()).unwrap_err();
        assert!(error.to_string().contains("`password`"), "{bad}: {error}");
    }
}

/// A Vault that knows one secret and one token.
async fn vault(status: u16) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().fallback(answer).with_state(status);
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn answer(State(status): State<u16>, request: Request) -> impl IntoResponse {
    let known = request.headers().get("x-vault-token").is_some_and(|t| t == "t0ken");
    match (known, request.uri().path()) {
        (false, _) => (StatusCode::FORBIDDEN, "permission denied".to_owned()),
        (true, "/v1/kv/data/dc1/h1") => {
            let body =
                json!({"data": {"data": {"password": "fr0m vault", "port": 5}, "metadata": {"version": 3}}});
            (StatusCode::from_u16(status).unwrap(), body.to_string())
        }
        _ => (StatusCode::NOT_FOUND, "{\"errors\":[]}".to_owned()),
    }
}

#[tokio::test]
async fn vault_is_asked_with_its_own_variables() {
    let url = vault(200).await;
    let token = file("token", "t0ken\n", 0o600);
    let by_variable = |name: &str| match name {
        "VAULT_ADDR" => Some(url.clone()),
        "VAULT_TOKEN" => Some("t0ken".to_owned()),
        _ => None,
    };
    assert_eq!(password("vault:kv/dc1/h1#password", &by_variable).await.unwrap(), "fr0m vault");
    let by_file = |name: &str| match name {
        "VAULT_ADDR" => Some(url.clone()),
        "VAULT_TOKEN_FILE" => Some(token.clone()),
        _ => None,
    };
    assert_eq!(password("vault:kv/data/dc1/h1#password", &by_file).await.unwrap(), "fr0m vault");
    for (reference, says) in [
        ("vault:kv/dc1/h1#other", "no text under \"other\""),
        ("vault:kv/dc1/h1#port", "no text under \"port\""),
        ("vault:kv/dc1/h2#password", "404"),
    ] {
        let error = password(reference, &by_file).await.unwrap_err();
        assert!(error.is_final() && error.to_string().contains(says), "{error}");
    }
    let wrong = |name: &str| match name {
        "VAULT_ADDR" => Some(url.clone()),
        "VAULT_TOKEN" => Some("wr0ng".to_owned()),
        _ => None,
    };
    let error = password("vault:kv/dc1/h1#password", &wrong).await.unwrap_err();
    assert!(
        error.is_final() && error.to_string().contains("403") && !error.to_string().contains("wr0ng"),
        "{error}"
    );
}

#[tokio::test]
async fn a_vault_that_cannot_answer_now_is_asked_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [vault(503).await, format!("http://{free}")] {
        let env = |name: &str| match name {
            "VAULT_ADDR" => Some(address.clone()),
            "VAULT_TOKEN" => Some("t0ken".to_owned()),
            _ => None,
        };
        let error = password("vault:kv/dc1/h1#password", &env).await.unwrap_err();
        assert!(!error.is_final() && !error.is_login(), "{error}");
    }
}

/// The whole road: a check of a device whose password is in a file.
#[tokio::test]
async fn a_device_is_opened_with_what_its_reference_leads_to() {
    let (url, shared) = crate::redfish::tests::fake::start().await;
    let path = file("road", "secret\n", 0o600);
    let device = json!({"type": "redfish", "address": url, "username": "admin", "password": format!("file:{path}"), "bmc": url});
    let levels = FenceDevices::parse(&json!({"levels": [{"devices": [device]}]}).to_string()).unwrap().levels;
    let target = Target { host: "h1".into(), levels, expected: Expected::default() };
    let limits = Limits { request: std::time::Duration::from_secs(20), ..allowing() };
    let checked = check(&target, &limits).await.remove(0);
    assert!(checked.is_ready() && checked.logged_in, "{checked:?}");
    // Resolved for the eyes of the check as well.
    shared.lock().unwrap().password = "admin".into();
    std::fs::write(&path, "admin").unwrap();
    let checked = check(&target, &limits).await.remove(0);
    assert!(checked.warnings.iter().any(|w| w.contains("factory password")), "{checked:?}");
    std::fs::remove_file(&path).unwrap();
    let checked = check(&target, &limits).await.remove(0);
    assert!(!checked.reached && checked.error.as_deref().is_some_and(|e| e.contains(&path)), "{checked:?}");
}

#[test]
fn fuzz_references() {
    fuzz("references", |rng| {
        let kind = *crate::fuzz::pick(rng, &["file:", "env:", "vault:", "vault:kv/a#", "file:/", ""]);
        let text = format!("{kind}{}", text(rng));
        match Reference::parse(&text) {
            None => assert!(!is_reference(&text)),
            Some(Ok(Reference::Vault { path, key })) => {
                assert!(is_reference(&text) && path.split('/').all(|s| !s.is_empty() && s != ".."));
                assert!(!path.contains(['?', '%', '\\', ' ']) && !key.contains('/'), "{text:?}");
            }
            Some(_) => assert!(is_reference(&text)),
        }
    });
}
