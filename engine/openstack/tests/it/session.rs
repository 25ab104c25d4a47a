//! Tokens, logins, and which failure is which.

use std::time::Duration;

use halberd_openstack::{Error, Executed, OpenStack, OpenstackConfig, Places, Timeouts};

use crate::cloud::{self, Cloud, Fault, PASSWORD, PROJECT, service};
use crate::raw;

const TOKENS: &str = "/identity/v3/auth/tokens";

#[tokio::test]
async fn one_token_serves_all_calls() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    assert_eq!(cloud.world().seen.len(), 0, "nothing is sent before it is needed");
    let nova = openstack.nova();
    for _ in 0..3 {
        nova.services().await.unwrap();
    }
    openstack.placement().usages("rp1").await.unwrap();
    assert_eq!(cloud.world().issued, 1);
    // Token, version document, three lists, usages.
    assert_eq!(openstack.requests_sent(), 6);
    assert_eq!(cloud.world().seen.len(), 6);
    let identity = openstack.authenticate().await.unwrap();
    assert_eq!(identity.project_id.as_deref(), Some(PROJECT));
    assert_eq!(identity.roles, ["admin"]);
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_all_callers() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    openstack.nova().services().await.unwrap();
    cloud.world().valid.clear();
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let nova = openstack.nova();
            tokio::spawn(async move { nova.services().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(cloud.world().issued, 2);
}

#[tokio::test]
async fn a_service_that_refuses_fresh_tokens_is_named_and_asked_twice_only() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    openstack.nova().services().await.unwrap();
    cloud.world().nova_distrusts = true;
    let before = cloud.seen("/compute").len();
    let error = openstack.nova().services().await.unwrap_err();
    assert!(
        matches!(&error, Error::Auth { remedy, .. } if remedy.contains("keystone_authtoken")),
        "{error:?}"
    );
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(cloud.seen("/compute").len(), before + 2);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_names_where_to_mend() {
    let cloud = Cloud::start().await;
    let config = cloud.config_with("wrong-horse");
    let openstack = OpenStack::with(&config, &Places::default(), Timeouts::default()).await.unwrap();
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let nova = openstack.nova();
            tokio::spawn(async move { nova.services().await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(error, Error::Auth { .. }), "{shown}");
        assert!(shown.contains("[openstack]") && shown.contains("halberd"), "{shown}");
        assert!(!shown.contains("wrong-horse"), "{shown}");
        assert_eq!(error.executed(), Executed::No);
    }
    // Keystone may lock an account after a few of these.
    assert_eq!(cloud.seen(TOKENS).len(), 1);
    assert_eq!(cloud.seen("/compute").len(), 0);
}

#[tokio::test]
async fn an_expired_token_is_replaced_before_the_call() {
    let cloud = Cloud::start().await;
    cloud.world().lifetime = Duration::ZERO;
    let openstack = cloud.client().await;
    openstack.nova().services().await.unwrap();
    openstack.nova().services().await.unwrap();
    // Each call met a token of its own, and none had to be refused first.
    let tokens: Vec<_> = cloud
        .seen("/compute/v2.1/os-services")
        .iter()
        .map(|seen| seen.header("x-auth-token").map(str::to_owned))
        .collect();
    assert_eq!(tokens.len(), 2);
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn keystone_down_is_unavailable_whatever_it_answers() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    for status in [503, 500, 502, 504, 429] {
        cloud.fault(TOKENS, Fault::Answer(status, "text/html", "<h1>busy</h1>", vec![]));
        let error = openstack.nova().services().await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{status}: {error:?}");
        assert_eq!(error.executed(), Executed::No, "no token, no call");
    }
    assert_eq!(cloud.seen("/compute").len(), 0);
    openstack.nova().services().await.unwrap();
}

#[tokio::test]
async fn something_else_than_keystone_is_a_wrong_auth_url() {
    let cloud = Cloud::start().await;
    for (status, text) in [(404, "<html>nginx</html>"), (301, ""), (200, "{}")] {
        let openstack = cloud.client().await;
        cloud.fault(TOKENS, Fault::Answer(status, "text/html", text, vec![]));
        let error = openstack.authenticate().await.unwrap_err();
        assert!(matches!(&error, Error::Config(text) if text.contains("auth_url")), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn an_html_503_of_nova_is_unavailable_with_its_retry_after() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    nova.services().await.unwrap();
    let page = "<html><head><title>503 Service Unavailable</title></head><body>The Keystone service is temporarily unavailable.</body></html>";
    cloud.fault("/compute/v2.1/servers", Fault::Answer(503, "text/html", page, vec![("retry-after", "7")]));
    let error = nova.evacuate("s1", None).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { status: Some(503), .. }), "{error:?}");
    assert_eq!((error.executed(), error.retry_after()), (Executed::No, Some(Duration::from_secs(7))));
    assert!(!error.to_string().contains('<'), "{error}");
}

#[tokio::test]
async fn errors_of_nova_and_its_proxies_leave_the_outcome_unknown_and_are_not_repeated() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    nova.services().await.unwrap();
    for status in [500, 502, 504] {
        let before = cloud.seen("/compute/v2.1/servers").len();
        let text = r#"{"computeFault": {"code": 500, "message": "Unexpected API Error."}}"#;
        cloud.fault(
            "/compute/v2.1/servers",
            Fault::Answer(status, "application/json", text, vec![("x-openstack-request-id", "req-9")]),
        );
        let error = nova.evacuate("s1", None).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{status}: {error:?}");
        assert_eq!(
            (error.executed(), error.status(), error.request_id()),
            (Executed::Unknown, Some(status), Some("req-9"))
        );
        assert_eq!(cloud.seen("/compute/v2.1/servers").len(), before + 1);
    }
}

#[tokio::test]
async fn a_hang_is_unknown_for_nova_and_unavailable_for_keystone() {
    let cloud = Cloud::start().await;
    let openstack = cloud.hasty_client().await;
    openstack.nova().offered().await.unwrap();
    cloud.fault("/compute/v2.1/servers", Fault::Hang);
    let error = openstack.nova().evacuate("s1", None).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { status: None, .. }), "{error:?}");
    openstack.forget_token();
    cloud.fault(TOKENS, Fault::Hang);
    let error = openstack.nova().evacuate("s1", None).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_refused_connection_was_certainly_not_executed() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    cloud.world().catalog = cloud::catalog(&cloud.url, &raw::nobody().await);
    let error = openstack.nova().services().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { status: None, .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    let config: OpenstackConfig = toml::from_str(&format!(
        "auth_url = '{}'\nusername = 'u'\npassword = 'p'\nproject_name = 'x'",
        raw::nobody().await
    ))
    .unwrap();
    let openstack = OpenStack::with(&config, &Places::default(), Timeouts::default()).await.unwrap();
    let error = openstack.authenticate().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { status: None, .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_lost_after_the_request_leaves_the_outcome_unknown() {
    let cut = [
        "",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 409 Conflict\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"conflictingRequest\"",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    ];
    for answer in cut {
        let cloud = Cloud::start().await;
        let openstack = cloud.client().await;
        cloud.world().catalog = cloud::catalog(&cloud.url, &raw::start(answer).await);
        openstack.nova().offered().await.unwrap();
        let sent = openstack.requests_sent();
        let error = openstack.nova().evacuate("s1", None).await.unwrap_err();
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{answer:?}: {error:?}");
        assert_eq!(openstack.requests_sent(), sent + 1, "not repeated");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    nova.services().await.unwrap();
    cloud.fault(
        "/compute/v2.1/servers",
        Fault::Answer(302, "text/html", "", vec![("location", "https://elsewhere/")]),
    );
    let error = nova.evacuate("s1", None).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(answer) if answer.message.contains("elsewhere")), "{error:?}");
    assert_eq!(error.executed(), Executed::No);
}

#[tokio::test]
async fn a_missing_service_is_named_with_the_catalogs_own() {
    let cloud = Cloud::start().await;
    cloud.world().catalog = serde_json::json!([{"type": "quantum-flux", "endpoints": []}]);
    let error = cloud.client().await.nova().services().await.unwrap_err();
    assert!(
        matches!(&error, Error::Config(text) if text.contains("compute") && text.contains("quantum-flux")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_moved_endpoint_is_found_with_the_next_token() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    cloud.world().services = vec![service("cmp-01")];
    cloud.world().catalog = cloud::catalog(&cloud.url, &raw::nobody().await);
    openstack.nova().services().await.unwrap_err();
    cloud.world().catalog = cloud::catalog(&cloud.url, &format!("{}/compute/v2.1/", cloud.url));
    openstack.forget_token();
    assert_eq!(openstack.nova().services().await.unwrap().len(), 1);
}

#[tokio::test]
async fn clouds_yaml_and_secret_files_log_in() {
    let cloud = Cloud::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clouds.yaml");
    let clouds = format!(
        "clouds:\n  ids:\n    auth_type: v3password\n    auth: {{auth_url: '{0}/identity', user_id: u1, password: {PASSWORD}, project_id: p1}}\n  \
         app:\n    auth_type: v3applicationcredential\n    auth: {{auth_url: '{0}/identity/v3', application_credential_id: c1, application_credential_secret: {PASSWORD}}}\n",
        cloud.url
    );
    std::fs::write(&path, clouds).unwrap();
    let places = Places { clouds: vec![path], secure: vec![] };
    for name in ["ids", "app"] {
        let config = OpenstackConfig { cloud: Some(name.into()), ..OpenstackConfig::default() };
        let openstack = OpenStack::with(&config, &places, Timeouts::default()).await.unwrap();
        openstack.nova().services().await.unwrap();
        assert!(!format!("{openstack:?}").contains(PASSWORD));
    }
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "old").unwrap();
    let config: OpenstackConfig = toml::from_str(&format!(
        "auth_url = '{}/identity'\napplication_credential_id = 'c1'\napplication_credential_secret_file = '{}'",
        cloud.url,
        secret.display()
    ))
    .unwrap();
    let openstack = OpenStack::with(&config, &Places::default(), Timeouts::default()).await.unwrap();
    let error = openstack.authenticate().await.unwrap_err().to_string();
    assert!(error.contains(secret.to_str().unwrap()), "{error}");
    // Rotated: the file is read again.
    std::fs::write(&secret, format!("{PASSWORD}\n")).unwrap();
    openstack.authenticate().await.unwrap();
}

#[tokio::test]
async fn no_secret_shows_in_debug() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    openstack.nova().services().await.unwrap();
    let shown =
        format!("{openstack:?} {:?} {:?} {:?}", openstack.nova(), openstack.session(), cloud.config());
    assert!(!shown.contains(PASSWORD) && !shown.contains("gAAAAA"), "{shown}");
}

#[tokio::test]
async fn the_crates_own_session_shares_our_login() {
    let cloud = Cloud::start().await;
    let openstack = cloud.client().await;
    let answer: serde_json::Value = openstack
        .session()
        .get_json(halberd_openstack::ServiceType::Compute, ["os-aggregates"])
        .await
        .unwrap();
    assert_eq!(answer["aggregates"][0]["name"], "rack-1");
    openstack.nova().aggregates().await.unwrap();
    assert_eq!(cloud.world().issued, 1);
}

#[tokio::test]
async fn an_authority_of_our_own_is_trusted_when_it_is_named() {
    let cloud = Cloud::start_tls().await;
    let error = cloud.client().await.authenticate().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { status: None, .. }), "nothing was sent: {error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(cloud.world().seen.len(), 0);
    let config = OpenstackConfig { cacert: Some(format!("{}/ca.pem", Cloud::TLS).into()), ..cloud.config() };
    let openstack = OpenStack::with(&config, &Places::default(), Timeouts::default()).await.unwrap();
    openstack.nova().services().await.unwrap();
}
