//! What agents may say: with their own key, of themselves, once.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use halberd_core::evidence::Class;
use halberd_core::host::Host;
use halberd_core::id::{BootId, NotificationId};
use halberd_core::notification::Origin;
use halberd_core::runner::HostPatch;
use halberd_store::notifications::NotificationFilter;
use halberd_store::{Page, agent_keys, evidence, hosts, notifications, orders, write};
use halberd_types::beat::AgentKey;
use halberd_types::report::{
    ORDERS_PATH, OrderKind, OrderOutcome, OrderResult, Orders, REPORTS_PATH, SIGNATURE_HEADER, Signed, sign,
    verify_answer,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::halberd::testing::{Answer, BOOT, NOW, Site};

const KEY_A: [u8; 32] = [0xa; 32];
const KEY_B: [u8; 32] = [0xb; 32];

async fn enrolled(site: &Site, name: &str, key: [u8; 32]) -> Host {
    let host = site.host(name).await;
    write(&site.app.db, async |tx| agent_keys::set(tx, &site.app.sealer, host.id, &key, NOW).await)
        .await
        .unwrap();
    host
}

fn guest_stopped(host: &Host, id: u128) -> Value {
    json!({
        "report_id": Uuid::from_u128(id), "host": host.id, "boot": BOOT, "observed_ns": 5,
        "observed_at": "2026-11-21T10:00:00Z", "kind": "guest_stopped",
        "instance_uuid": Uuid::from_u128(0x6), "event": "LIFECYCLE", "vir_domain_event": "STOPPED_FAILED",
    })
}

/// A signed request, as the agent makes it.
fn signed(
    key: [u8; 32],
    host: &Host,
    counter: u64,
    method: &str,
    path: &str,
    body: String,
) -> (Signed, Request<Body>) {
    let signed = sign(&AgentKey::from_bytes(key), method, path, host.id.0, BOOT, counter, body.as_bytes());
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in signed.headers() {
        request = request.header(name, value);
    }
    (signed, request.body(Body::from(body)).unwrap())
}

async fn report(site: &Site, key: [u8; 32], host: &Host, counter: u64, body: &Value) -> Answer {
    let (_, request) = signed(key, host, counter, "POST", REPORTS_PATH, body.to_string());
    site.send(request).await
}

async fn stored(site: &Site) -> usize {
    notifications::list(&site.app.db, &NotificationFilter::default(), &Page::default()).await.unwrap().len()
}

#[tokio::test]
async fn a_report_becomes_a_notification_of_origin_agent() {
    let site = Site::new().await;
    let host = enrolled(&site, "cmp-1", KEY_A).await;
    let answer = report(&site, KEY_A, &host, 10, &guest_stopped(&host, 1)).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    let id: Uuid = answer.json()["notification_uuid"].as_str().unwrap().parse().unwrap();
    let row = notifications::get(&site.app.db, NotificationId(id)).await.unwrap();
    assert_eq!((row.origin, row.host, row.kind.as_str()), (Origin::Agent, host.id, "VM"));
    assert_eq!(row.payload["vir_domain_event"], "STOPPED_FAILED");
}

#[tokio::test]
async fn a_replay_is_idempotent_and_an_old_counter_says_nothing_new() {
    let site = Site::new().await;
    let host = enrolled(&site, "cmp-1", KEY_A).await;
    let first = report(&site, KEY_A, &host, 10, &guest_stopped(&host, 1)).await;
    let again = report(&site, KEY_A, &host, 10, &guest_stopped(&host, 1)).await;
    let resent = report(&site, KEY_A, &host, 11, &guest_stopped(&host, 1)).await;
    assert_eq!(
        (first.status, again.status, resent.status),
        (StatusCode::ACCEPTED, StatusCode::OK, StatusCode::OK)
    );
    assert_eq!((first.json(), first.json()), (again.json(), resent.json()), "the same answer");
    assert_eq!(stored(&site).await, 1);
    let old = report(&site, KEY_A, &host, 10, &guest_stopped(&host, 2)).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED, "{}", old.text);
    assert_eq!(stored(&site).await, 1);
    // Another report of the same event is a duplicate, and that is an answer, not an error.
    let twin = report(&site, KEY_A, &host, 12, &guest_stopped(&host, 3)).await;
    assert_eq!((twin.status, twin.json()["outcome"].clone()), (StatusCode::ACCEPTED, json!("duplicate")));
    assert_eq!(stored(&site).await, 1);
}

#[tokio::test]
async fn a_host_speaks_only_for_itself() {
    let site = Site::new().await;
    let (a, b) = (enrolled(&site, "cmp-a", KEY_A).await, enrolled(&site, "cmp-b", KEY_B).await);
    let about_b = report(&site, KEY_A, &a, 10, &guest_stopped(&b, 1)).await;
    assert_eq!(about_b.status, StatusCode::FORBIDDEN, "{}", about_b.text);
    let as_b = report(&site, KEY_A, &b, 10, &guest_stopped(&b, 2)).await;
    assert_eq!(as_b.status, StatusCode::UNAUTHORIZED, "{}", as_b.text);
    assert_eq!(stored(&site).await, 0);
    let audit = site.get(&format!("/audit?chain={}", site.app.audit_chain)).await.json();
    assert_eq!(audit["items"][0]["what"], "report_refused", "the attempt is in the record: {audit}");
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn whatever_is_altered_the_signature_does_not_fit() {
    let site = Site::new().await;
    let host = enrolled(&site, "cmp-1", KEY_A).await;
    let body = guest_stopped(&host, 1).to_string();
    let fresh = || signed(KEY_A, &host, 10, "POST", REPORTS_PATH, body.clone()).1;
    let other_body = fresh().map(|_| Body::from(guest_stopped(&host, 2).to_string()));
    let mut other_counter = fresh();
    other_counter.headers_mut().insert("x-halberd-counter", "11".parse().unwrap());
    let mut other_boot = fresh();
    other_boot.headers_mut().insert("x-halberd-boot", Uuid::from_u128(1).to_string().parse().unwrap());
    let mut no_signature = fresh();
    no_signature.headers_mut().remove(SIGNATURE_HEADER);
    let mut cut = fresh();
    cut.headers_mut().insert(SIGNATURE_HEADER, "AAAA".parse().unwrap());
    let (_, other_path) = signed(KEY_A, &host, 10, "POST", ORDERS_PATH, body.clone());
    let (mut parts, body_of_other) = other_path.into_parts();
    parts.uri = REPORTS_PATH.parse().unwrap();
    let other_path = Request::from_parts(parts, body_of_other);
    for (place, request) in [
        ("body", other_body),
        ("counter", other_counter),
        ("boot", other_boot),
        ("missing", no_signature),
        ("cut", cut),
        ("path", other_path),
    ] {
        let answer = site.send(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{place}: {}", answer.text);
    }
    assert_eq!(stored(&site).await, 0);
    assert_eq!(site.send(fresh()).await.status, StatusCode::ACCEPTED, "untouched it fits");
}

#[tokio::test]
async fn an_unknown_host_and_one_without_a_key_get_the_same_answer() {
    let site = Site::new().await;
    let bare = site.host("cmp-1").await;
    let nobody = Host { id: halberd_core::id::HostId(Uuid::from_u128(9)), ..bare.clone() };
    let mut answers = Vec::new();
    for host in [&bare, &nobody] {
        let answer = report(&site, KEY_A, host, 10, &guest_stopped(host, 1)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        answers.push(answer.json()["detail"].clone());
    }
    assert_eq!(answers[0], answers[1], "existence is not leaked");
}

#[tokio::test]
async fn a_fenced_boot_and_a_host_on_maintenance_are_turned_away() {
    let site = Site::new().await;
    let host = enrolled(&site, "cmp-1", KEY_A).await;
    write(&site.app.db, async |tx| {
        let edit = hosts::HostEdit { on_maintenance: Some(true), ..Default::default() };
        hosts::edit(tx, host.id, &edit, NOW).await
    })
    .await
    .unwrap();
    assert_eq!(report(&site, KEY_A, &host, 10, &guest_stopped(&host, 1)).await.status, StatusCode::CONFLICT);
    write(&site.app.db, async |tx| {
        let patch = HostPatch { retire_boot: Some(BootId(BOOT)), ..HostPatch::default() };
        hosts::patch(tx, host.id, &patch, NOW).await
    })
    .await
    .unwrap();
    assert_eq!(report(&site, KEY_A, &host, 11, &guest_stopped(&host, 1)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(stored(&site).await, 0);
}

#[tokio::test]
async fn panic_domains_and_identity_are_evidence() {
    let site = Site::new().await;
    let host = enrolled(&site, "cmp-1", KEY_A).await;
    let base = |id: u128, boot: Uuid| json!({ "report_id": Uuid::from_u128(id), "host": host.id, "boot": boot, "observed_ns": 1_000_000, "observed_at": "2026-11-21T10:00:00Z" });
    let with = |mut base: Value, more: Value| {
        base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        base
    };
    let panic = json!({ "kind": "panic", "detail": "BUG: unable to handle page fault" });
    let domains = json!({ "kind": "domains", "domains": [{ "uuid": Uuid::from_u128(6), "name": "i-6", "state": 1, "reason": 1 }] });
    let identity = json!({ "kind": "identity", "hostname": "cmp-1", "agent_version": "0.1.0", "serial": "SN-9", "start_gate": true });
    let reports = [
        with(base(1, BOOT), panic.clone()),
        with(base(2, BOOT), domains),
        with(base(3, BOOT), identity),
        with(base(4, Uuid::from_u128(1)), panic),
    ];
    for (n, body) in reports.iter().enumerate() {
        let answer = report(&site, KEY_A, &host, 3_000_000 + n as u64, body).await;
        assert_eq!(
            (answer.status, answer.json()["outcome"].clone()),
            (StatusCode::ACCEPTED, json!("recorded"))
        );
    }
    let rows = evidence::list(&site.app.db, host.id, 10).await.unwrap();
    let seen: Vec<_> =
        rows.iter().rev().map(|row| (row.evidence.class, row.evidence.detail["kind"].clone())).collect();
    assert_eq!(
        seen,
        [
            (Some(Class::E1), json!("panic")),
            (None, json!("domains")),
            (None, json!("identity")),
            (None, json!("panic"))
        ],
        "the panic of an earlier boot says nothing of this one"
    );
    assert_eq!(rows[3].evidence.detail["age_ms"], 2);
    assert_eq!(hosts::get(&site.app.db, host.id).await.unwrap().serial.as_deref(), Some("SN-9"));
    let agents = site.get("/agents").await.json();
    assert_eq!(
        (&agents["items"][0]["version"], &agents["items"][0]["has_start_gate"]),
        (&json!("0.1.0"), &json!(true))
    );
    assert_eq!(stored(&site).await, 0);
}

#[tokio::test]
async fn an_order_is_fetched_signed_and_ends_once() {
    let site = Site::new().await;
    let (a, b) = (enrolled(&site, "cmp-a", KEY_A).await, enrolled(&site, "cmp-b", KEY_B).await);
    let id = Uuid::from_u128(0x0d);
    let body = json!({ "unit": "nova-compute.service", "expires_after_ms": 7000 });
    write(&site.app.db, async |tx| orders::insert(tx, id, a.id, "restart_unit", &body, NOW).await)
        .await
        .unwrap();

    let (asked, request) = signed(KEY_A, &a, 10, "GET", ORDERS_PATH, String::new());
    let answer = site.send(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let signature = answer.headers[SIGNATURE_HEADER].to_str().unwrap();
    verify_answer(&AgentKey::from_bytes(KEY_A), ORDERS_PATH, &asked, signature, answer.text.as_bytes())
        .unwrap();
    let orders: Orders = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(orders.orders[0].kind, OrderKind::RestartUnit { unit: "nova-compute.service".into() });
    assert_eq!((orders.orders[0].id, orders.orders[0].expires_after_ms), (id, 7000));
    let (_, replayed) = signed(KEY_A, &a, 10, "GET", ORDERS_PATH, String::new());
    assert_eq!(site.send(replayed).await.status, StatusCode::UNAUTHORIZED);
    let (_, other) = signed(KEY_B, &b, 10, "GET", ORDERS_PATH, String::new());
    assert_eq!(site.send(other).await.json(), json!({ "orders": [] }), "another host's orders are not shown");

    let path = format!("{ORDERS_PATH}/{id}");
    let result = |detail: &str| {
        let result = OrderResult {
            order_id: id,
            outcome: OrderOutcome::Done,
            detail: detail.into(),
            answered: vec![],
        };
        serde_json::to_string(&result).unwrap()
    };
    let (_, of_b) = signed(KEY_B, &b, 11, "POST", &path, result("mine"));
    assert_eq!(site.send(of_b).await.status, StatusCode::NOT_FOUND);
    for (detail, status) in [("restarted", StatusCode::ACCEPTED), ("again", StatusCode::OK)] {
        let (_, request) = signed(KEY_A, &a, 12, "POST", &path, result(detail));
        assert_eq!(site.send(request).await.status, status);
    }
    let row = orders::get(&site.app.db, id).await.unwrap();
    assert_eq!((row.succeeded, row.result.unwrap()["detail"].clone()), (Some(true), json!("restarted")));
    assert_eq!(site.call(Method::GET, "/agents", None, "operator:reader").await.status, StatusCode::OK);
}
