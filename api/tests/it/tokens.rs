//! Tokens at the door: service tokens beside users' (keystonemiddleware's behaviour), how long a token is believed, and what a 401 says.

use halberd_api::ApiConfig;
use halberd_store::Access;
use halberd_store::db::Options;

use crate::kit::{Kit, kit_with};

const TENANT: &str = "1a1a";

async fn with(config: ApiConfig) -> Kit {
    let kit = kit_with(config, Options::new(Access::Exclusive)).await;
    kit.cloud.token("user", "admin", Some(TENANT));
    kit.cloud.token("old", "admin", Some(TENANT));
    kit.cloud.token("old-reader", "reader", Some(TENANT));
    kit.cloud.token("service", "service reader", Some(TENANT));
    kit.cloud.token("other-service", "member", Some(TENANT));
    kit.cloud.token("old-service", "service", Some(TENANT));
    kit.cloud.token_of("nobody", "", "service", Some(TENANT));
    kit.cloud.token("glance", "Glance", Some(TENANT));
    let expired = ["old", "old-reader", "old-service"].map(str::to_owned);
    kit.cloud.world().expired.extend(expired);
    kit
}

impl Kit {
    async fn status(&self, headers: &[(&str, &str)]) -> u16 {
        self.ask("GET", "/v1/segments", headers, "").await.status
    }
}

#[tokio::test]
async fn a_service_token_makes_up_for_an_expired_one_and_for_nothing_else() {
    let strict = ApiConfig { service_token_roles_required: true, ..ApiConfig::default() };
    let named =
        ApiConfig { service_token_roles: vec!["glance".into(), "nova".into()], ..ApiConfig::default() };
    let off = ApiConfig { service_token_roles: Vec::new(), ..ApiConfig::default() };
    let kits = [with(ApiConfig::default()).await, with(strict).await, with(named).await, with(off).await];
    // (user's token, service's token, by default, with roles required, with other roles, with none)
    let table = [
        (Some("user"), None, [200, 200, 200, 200]),
        (Some("user"), Some(""), [200, 200, 200, 200]),
        (Some("user"), Some("service"), [200, 200, 200, 200]),
        // One without the role is believed to be a service's only where that is not asked for.
        (Some("user"), Some("other-service"), [200, 401, 200, 200]),
        (Some("user"), Some("glance"), [200, 401, 200, 200]),
        // One that is shown must be valid.
        (Some("user"), Some("unknown"), [401, 401, 401, 401]),
        (Some("user"), Some("old-service"), [401, 401, 401, 401]),
        (Some("user"), Some("nobody"), [401, 401, 401, 401]),
        (Some("old"), None, [401, 401, 401, 401]),
        (Some("old"), Some("service"), [200, 200, 401, 401]),
        (Some("old"), Some("glance"), [401, 401, 200, 401]),
        (Some("old"), Some("other-service"), [401, 401, 401, 401]),
        (Some("old"), Some("old-service"), [401, 401, 401, 401]),
        (Some("old"), Some("old"), [401, 401, 401, 401]),
        // It lends no roles: the service may read here, this user may not.
        (Some("old-reader"), Some("service"), [403, 403, 401, 401]),
        (Some("unknown"), Some("service"), [401, 401, 401, 401]),
        (None, Some("service"), [401, 401, 401, 401]),
        (Some(""), Some("service"), [401, 401, 401, 401]),
    ];
    for (user, service, wanted) in table {
        let user = user.map(|token| ("x-auth-token", token));
        let service = service.map(|token| ("x-service-token", token));
        let headers: Vec<_> = user.into_iter().chain(service).collect();
        for (n, kit) in kits.iter().enumerate() {
            assert_eq!(kit.status(&headers).await, wanted[n], "{headers:?}, setting {n}");
        }
    }
}

#[tokio::test]
async fn what_was_let_in_with_a_service_is_not_let_in_without() {
    let kit = with(ApiConfig::default()).await;
    let old = ("x-auth-token", "old");
    for _ in 0..2 {
        assert_eq!(kit.status(&[old, ("x-service-token", "service")]).await, 200);
        assert_eq!(kit.status(&[old]).await, 401);
        assert_eq!(kit.status(&[old, ("x_service_token", "service")]).await, 401, "no header of that name");
    }
    let asked = kit.cloud.world().asked.clone();
    assert_eq!(asked.iter().filter(|token| *token == "old").count(), 2, "once each way: {asked:?}");
}

#[tokio::test]
async fn keystone_away_is_503_for_the_unknown_alone() {
    let kit = with(ApiConfig::default()).await;
    let (user, service) = (("x-auth-token", "user"), ("x-service-token", "service"));
    assert_eq!(kit.status(&[user]).await, 200);
    kit.cloud.world().keystone_fails = Some(503);
    assert_eq!(kit.status(&[user]).await, 200, "remembered");
    assert_eq!(kit.status(&[("x-auth-token", "other")]).await, 503);
    assert_eq!(kit.status(&[user, service]).await, 503, "nobody knows of the service's token");
    assert_eq!(kit.status(&[]).await, 401, "nothing to ask about");
}

#[tokio::test]
async fn a_hundred_requests_with_one_new_token_ask_keystone_once() {
    let kit = with(ApiConfig::default()).await;
    let headers = [("x-auth-token", "user")];
    let answers = (0..100).map(|_| kit.status(&headers));
    let answers = futures_util::future::join_all(answers).await;
    assert_eq!(answers, [200; 100]);
    assert_eq!(kit.cloud.world().asked.len(), 1);
}

#[tokio::test]
async fn a_domains_token_has_no_project() {
    let kit = with(ApiConfig { operator_projects: vec!["d1".into()], ..ApiConfig::default() }).await;
    for (name, roles) in [("d-admin", "admin"), ("d-manager", "manager member reader")] {
        kit.cloud.token(name, roles, Some("d1"));
        let mut world = kit.cloud.world();
        let token = world.tokens.get_mut(name).unwrap();
        token["domain"] = token["project"].take();
        token.as_object_mut().unwrap().remove("project");
    }
    assert_eq!(kit.status(&[("x-auth-token", "d-admin")]).await, 200);
    assert_eq!(kit.status(&[("x-auth-token", "d-manager")]).await, 403, "a domain is no operators' project");
    let path = kit.ask("GET", "/v1/d1/segments", &[("x-auth-token", "d-admin")], "").await;
    assert_eq!(path.status, 400, "and no project of a path");
}

#[tokio::test]
async fn a_401_names_keystone_without_being_told() {
    let kit = with(ApiConfig::default()).await;
    let answer = kit.ask("GET", "/v1/segments", &[], "").await;
    let challenge = answer.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Keystone uri=\"http://127.0.0.1:") && challenge.ends_with("/identity/v3\""),
        "{challenge}"
    );
    let other = kit.ask("GET", "/halberd/v1/recoveries", &[], "").await;
    assert_eq!((other.status, other.header("www-authenticate")), (401, Some(challenge)));
}
