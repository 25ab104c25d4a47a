//! Tokens that clients show us.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use halberd_openstack::Error;
use serde_json::{Value, json};

use crate::cloud::{Cloud, Fault};

const TOKENS: &str = "/identity/v3/auth/tokens";

fn subject() -> Value {
    json!({"methods": ["password"], "expires_at": "2126-11-20T22:19:41.000000Z", "issued_at": "2026-11-20T22:19:41.000000Z",
        "user": {"id": "u9", "name": "operator", "domain": {"id": "default", "name": "Default"}},
        "project": {"id": "p9", "name": "ops", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": "r1", "name": "Admin"}, {"id": "r2", "name": "reader"}]})
}

#[tokio::test]
async fn a_valid_token_is_asked_about_once() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let keystone = cloud.client().await.keystone();
    for _ in 0..3 {
        let token = keystone.validate("shown").await.unwrap().unwrap();
        assert_eq!(
            (token.user.name.as_str(), token.project.as_ref().unwrap().id.as_str()),
            ("operator", "p9")
        );
        assert!(token.has_role("admin") && token.has_role("reader") && !token.has_role("member"));
        assert!(!token.system_scope);
    }
    let asked: Vec<_> = cloud.seen(TOKENS).into_iter().filter(|seen| seen.method == "GET").collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("x-subject-token"), Some("shown"));
    assert_ne!(asked[0].header("x-auth-token"), Some("shown"), "our own token asks");
}

#[tokio::test]
async fn scopes() {
    let cloud = Cloud::start().await;
    let mut system = subject();
    system["project"] = Value::Null;
    system["system"] = json!({"all": true});
    let mut domain = subject();
    domain["project"] = Value::Null;
    domain["domain"] = json!({"id": "d1", "name": "Sales"});
    cloud.world().subjects.extend([("system".to_owned(), system), ("domain".to_owned(), domain)]);
    let keystone = cloud.client().await.keystone();
    let system = keystone.validate("system").await.unwrap().unwrap();
    assert!(system.system_scope && system.project.is_none());
    let domain = keystone.validate("domain").await.unwrap().unwrap();
    assert_eq!(domain.domain.as_ref().map(|domain| domain.name.as_str()), Some("Sales"));
}

#[tokio::test]
async fn an_unknown_or_absurd_token_is_invalid() {
    let cloud = Cloud::start().await;
    let keystone = cloud.client().await.keystone();
    for _ in 0..2 {
        assert!(keystone.validate("unknown").await.unwrap().is_none());
    }
    assert_eq!(cloud.seen(TOKENS).iter().filter(|seen| seen.method == "GET").count(), 1);
    let before = cloud.seen(TOKENS).len();
    for absurd in ["", "line\nbreak", &"x".repeat(10_000)] {
        assert!(keystone.validate(absurd).await.unwrap().is_none());
    }
    assert_eq!(cloud.seen(TOKENS).len(), before, "not worth a request");
}

#[tokio::test]
async fn an_expired_token_is_asked_about_each_time() {
    let cloud = Cloud::start().await;
    let mut ending = subject();
    ending["expires_at"] = json!("2001-01-01T00:00:00.000000Z");
    cloud.world().subjects.insert("ending".into(), ending);
    let keystone = cloud.client().await.keystone();
    for _ in 0..2 {
        keystone.validate("ending").await.unwrap();
    }
    assert_eq!(cloud.seen(TOKENS).iter().filter(|seen| seen.method == "GET").count(), 2);
}

#[tokio::test]
async fn no_verdict_is_unavailable_and_not_remembered() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let openstack = cloud.client().await;
    openstack.authenticate().await.unwrap();
    let keystone = openstack.keystone();
    for (status, text) in [(503, "busy"), (500, "broken"), (403, "{}"), (400, "{}"), (200, "{}")] {
        cloud.fault(TOKENS, Fault::Answer(status, "text/plain", text, vec![]));
        let error = keystone.validate("shown").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{status}: {error:?}");
        assert!(!format!("{error:?}").contains("shown"), "{error:?}");
    }
    assert!(keystone.validate("shown").await.unwrap().is_some());
}

#[tokio::test]
async fn our_own_revoked_token_is_not_the_clients_fault() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let openstack = cloud.client().await;
    openstack.authenticate().await.unwrap();
    cloud.world().valid.clear();
    assert!(openstack.keystone().validate("shown").await.unwrap().is_some());
    assert_eq!(cloud.world().issued, 2);
}

/// Questions to Keystone about others' tokens.
fn asked(cloud: &Cloud) -> usize {
    cloud.seen(TOKENS).iter().filter(|seen| seen.method == "GET").count()
}

static PASSED_S: AtomicU64 = AtomicU64::new(0);

fn clock() -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    *START + Duration::from_secs(PASSED_S.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_revoked_token_is_good_for_a_minute_at_most() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let keystone = cloud.client().await.keystone().with_clock(clock);
    assert!(keystone.validate("shown").await.unwrap().is_some());
    cloud.world().subjects.clear();
    // (seconds since it was first shown, whether it is still believed)
    for (second, believed) in [(59, true), (60, false), (64, false)] {
        PASSED_S.store(second, Ordering::Relaxed);
        assert_eq!(keystone.validate("shown").await.unwrap().is_some(), believed, "{second}");
    }
    assert_eq!(asked(&cloud), 2, "a refusal keeps for a while too");
    // Valid after all: a refusal keeps for five seconds.
    cloud.world().subjects.insert("shown".into(), subject());
    PASSED_S.store(65, Ordering::Relaxed);
    assert!(keystone.validate("shown").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_who_show_one_new_token_are_one_question() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let openstack = cloud.client().await;
    openstack.authenticate().await.unwrap();
    let keystone = openstack.keystone();
    let many: Vec<_> = (0..100)
        .map(|_| {
            let keystone = keystone.clone();
            tokio::spawn(async move { keystone.validate("shown").await.unwrap().is_some() })
        })
        .collect();
    for one in many {
        assert!(one.await.unwrap());
    }
    assert_eq!(asked(&cloud), 1);
}

#[tokio::test]
async fn who_asks_for_all_may_hang_up() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let openstack = cloud.client().await;
    openstack.authenticate().await.unwrap();
    let keystone = openstack.keystone();
    cloud.fault(TOKENS, Fault::Hang);
    let spawn = || {
        let keystone = keystone.clone();
        tokio::spawn(async move { keystone.validate("shown").await })
    };
    let first = spawn();
    while asked(&cloud) == 0 {
        tokio::task::yield_now().await;
    }
    let second = spawn();
    tokio::task::yield_now().await;
    first.abort();
    assert!(second.await.unwrap().unwrap().is_some());
    assert_eq!(asked(&cloud), 2);
}

#[tokio::test]
async fn keystone_away_leaves_the_remembered() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let keystone = cloud.client().await.keystone();
    assert!(keystone.validate("shown").await.unwrap().is_some());
    for _ in 0..2 {
        cloud.fault(TOKENS, Fault::Answer(503, "text/plain", "busy", vec![]));
    }
    assert!(keystone.validate("shown").await.unwrap().is_some());
    assert!(matches!(keystone.validate("other").await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn an_expired_token_is_asked_for_in_so_many_words_and_kept_apart() {
    let cloud = Cloud::start().await;
    cloud.world().subjects.insert("shown".into(), subject());
    let keystone = cloud.client().await.keystone();
    for _ in 0..2 {
        assert!(keystone.validate_expired("shown").await.unwrap().is_some());
    }
    assert!(keystone.validate("shown").await.unwrap().is_some());
    let seen: Vec<_> = cloud.seen(TOKENS).into_iter().filter(|seen| seen.method == "GET").collect();
    let allowed = |n: usize| seen[n].query.iter().any(|(k, v)| k == "allow_expired" && v == "1");
    assert_eq!(seen.len(), 2, "one question of each kind");
    assert!(allowed(0) && !allowed(1));
}

#[tokio::test]
async fn a_401_of_ours_can_name_keystone() {
    let cloud = Cloud::start().await;
    let url = cloud.client().await.keystone().auth_url();
    assert!(url.starts_with("http://127.0.0.1:") && url.ends_with("/identity/v3"), "{url}");
}
