//! Nova's calls as they stand on the wire.

use halberd_openstack::{Error, Microversion, MigrationFilter, ServiceChange, ServiceState, ServiceStatus};
use serde_json::json;

use crate::cloud::{Cloud, Fault, PROJECT, catalog, migration, server, service};

const VERSION: &str = "openstack-api-version";

#[tokio::test]
async fn microversions_are_pinned_below_what_is_offered() {
    let cases = [
        ("2.79", "2.79", "2.73", "2.79", "2.69"),
        ("2.94", "2.94", "2.73", "2.80", "2.69"),
        ("2.104", "2.94", "2.73", "2.80", "2.69"),
        ("2.60", "2.60", "2.60", "2.60", "2.60"),
    ];
    for (max, evacuate, servers, migrations, services) in cases {
        let cloud = Cloud::start().await;
        cloud.world().max = max.into();
        let nova = cloud.client().await.nova();
        let accepted = nova.evacuate("s1", Some("cmp-02")).await.unwrap();
        assert_eq!(accepted.request_id.as_deref(), Some("req-nova-1"));
        assert_eq!(accepted.microversion, evacuate.parse::<Microversion>().unwrap());
        nova.servers("cmp-01").await.unwrap();
        nova.migrations(&MigrationFilter::of_host("cmp-01")).await.unwrap();
        nova.services().await.unwrap();
        let version = |path: &str| cloud.seen(path)[0].header(VERSION).unwrap().to_owned();
        assert_eq!(version("/compute/v2.1/servers/s1/action"), format!("compute {evacuate}"));
        assert_eq!(version("/compute/v2.1/servers/detail"), format!("compute {servers}"));
        assert_eq!(version("/compute/v2.1/os-migrations"), format!("compute {migrations}"));
        assert_eq!(version("/compute/v2.1/os-services"), format!("compute {services}"));
        assert_eq!(
            cloud.seen("/compute/v2.1/").iter().filter(|seen| seen.path == "/compute/v2.1/").count(),
            1
        );
    }
}

#[tokio::test]
async fn a_nova_without_2_94_tells_that_guests_stay_stopped() {
    let cloud = Cloud::start().await;
    cloud.world().min = "2.96".into();
    let nova = cloud.client().await.nova();
    assert!(nova.offered().await.unwrap().evacuates_stopped());
    assert_eq!(nova.evacuate("s1", None).await.unwrap().microversion, Microversion(2, 96));
}

#[tokio::test]
async fn a_406_makes_it_ask_for_the_range_again() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    nova.services().await.unwrap();
    cloud.world().max = "2.60".into();
    let text = r#"{"computeFault": {"code": 406, "message": "Version 2.94 is not supported by the API. Minimum is 2.1 and maximum is 2.60."}}"#;
    cloud.fault("/compute/v2.1/servers", Fault::Answer(406, "application/json", text, vec![]));
    assert!(matches!(nova.evacuate("s1", None).await.unwrap_err(), Error::Refused(_)));
    assert_eq!(nova.evacuate("s1", None).await.unwrap().microversion, Microversion(2, 60));
}

#[tokio::test]
async fn a_project_in_the_endpoint_is_left_out_for_the_version_document() {
    let cloud = Cloud::start().await;
    cloud.world().catalog = catalog(&cloud.url, &format!("{}/compute/v2.1/{PROJECT}", cloud.url));
    let nova = cloud.client().await.nova();
    assert_eq!(nova.offered().await.unwrap().max, Microversion(2, 104));
    nova.services().await.unwrap_err();
    assert_eq!(cloud.seen(&format!("/compute/v2.1/{PROJECT}/os-services")).len(), 1);
}

#[tokio::test]
async fn all_pages_of_1500_servers_by_marker() {
    let cloud = Cloud::start().await;
    cloud.world().servers = (0..1500).map(server).collect();
    let nova = cloud.client().await.nova();
    let servers = nova.servers("cmp-02").await.unwrap();
    let ids: std::collections::HashSet<_> = servers.iter().map(|server| &server.id).collect();
    assert_eq!((servers.len(), ids.len()), (1500, 1500));
    let pages = cloud.seen("/compute/v2.1/servers/detail");
    assert_eq!(pages.len(), 2, "1,000 and 500");
    assert_eq!(pages[0].query["host"], "cmp-02");
    assert_eq!(pages[1].query["marker"], "s999");
    // A Nova with a smaller maximum, and a last page that is exactly full.
    cloud.world().page = 500;
    assert_eq!(nova.servers("cmp-02").await.unwrap().len(), 1500);
    cloud.world().migrations = (0..1500).map(migration).collect();
    assert_eq!(nova.migrations(&MigrationFilter::evacuations_in("accepted")).await.unwrap().len(), 1500);
    let query = &cloud.seen("/compute/v2.1/os-migrations")[0].query;
    assert_eq!((query["migration_type"].as_str(), query["status"].as_str()), ("evacuation", "accepted"));
}

#[tokio::test]
async fn a_listing_that_goes_in_circles_is_an_error_not_a_loop() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    nova.offered().await.unwrap();
    let page = r#"{"servers": [{"id": "s1"}], "servers_links": [{"rel": "next", "href": "x"}]}"#;
    for _ in 0..2 {
        cloud.fault("/compute/v2.1/servers/detail", Fault::Answer(200, "application/json", page, vec![]));
    }
    assert!(matches!(nova.servers("x").await.unwrap_err(), Error::Malformed { .. }));
}

#[tokio::test]
async fn a_success_that_is_not_understood_is_malformed() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    nova.offered().await.unwrap();
    for text in ["<html>maintenance</html>", "{}", "", r#"{"services": 5}"#] {
        cloud.fault("/compute/v2.1/os-services", Fault::Answer(200, "application/json", text, vec![]));
        assert!(matches!(nova.services().await.unwrap_err(), Error::Malformed { .. }), "{text}");
    }
}

#[tokio::test]
async fn a_server_and_a_missing_one() {
    let cloud = Cloud::start().await;
    cloud.world().servers = vec![server(1)];
    let nova = cloud.client().await.nova();
    let found = nova.server("s1").await.unwrap();
    assert_eq!(
        (found.host.as_deref(), found.status.as_str(), found.vm_state.as_deref()),
        (Some("cmp-02"), "ACTIVE", Some("active"))
    );
    assert_eq!(found.metadata["HA_Enabled"], "True");
    let error = nova.server("s2").await.unwrap_err();
    assert!(
        matches!(&error, Error::NotFound(answer) if answer.code.as_deref() == Some("itemNotFound")),
        "{error:?}"
    );
    assert_eq!(error.request_id(), Some("req-fake"));
}

#[tokio::test]
async fn refusals_of_evacuate_are_told_apart_by_status() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    assert!(
        matches!(nova.evacuate("in-use", None).await.unwrap_err(), Error::Refused(answer) if answer.status == 400)
    );
    assert!(matches!(nova.evacuate("paused", None).await.unwrap_err(), Error::Conflict(_)));
    assert!(matches!(nova.evacuate("locked-out", None).await.unwrap_err(), Error::Forbidden(_)));
}

#[tokio::test]
async fn actions_and_request_ids_on_the_wire() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova().with_request_id("req-3f1c0c52-2f5d-4b1e-9d59-0a7a54f1d6a7");
    nova.evacuate("s1", None).await.unwrap();
    nova.lock("s1", Some("halberd is moving it")).await.unwrap();
    nova.unlock("s1").await.unwrap();
    nova.reset_state("s1", true).await.unwrap();
    nova.start("s1").await.unwrap();
    nova.stop("s1").await.unwrap();
    let seen = cloud.seen("/compute/v2.1/servers/s1/action");
    let bodies: Vec<_> = seen.iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(
        bodies,
        [
            json!({"evacuate": {}}),
            json!({"lock": {"locked_reason": "halberd is moving it"}}),
            json!({"unlock": null}),
            json!({"os-resetState": {"state": "active"}}),
            json!({"os-start": null}),
            json!({"os-stop": null}),
        ]
    );
    for seen in &seen {
        assert_eq!(seen.header("x-openstack-request-id"), Some("req-3f1c0c52-2f5d-4b1e-9d59-0a7a54f1d6a7"));
    }
}

#[tokio::test]
async fn services_whole_and_partial_and_changed_in_one_put() {
    let cloud = Cloud::start().await;
    cloud.world().services = vec![
        service("cmp-01"),
        service("cmp-02"),
        json!({"binary": "nova-compute", "host": "cmp-09", "status": "UNKNOWN"}),
    ];
    let nova = cloud.client().await.nova();
    let rows = nova.services().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.is_whole()).collect::<Vec<_>>(), [true, true, false]);
    let row = nova.service("cmp-01").await.unwrap().unwrap();
    assert_eq!(nova.service("nope").await.unwrap(), None);
    let id = row.id.clone().unwrap();
    let after = nova.set_service(&id, &ServiceChange::take_out("fenced")).await.unwrap();
    assert_eq!(
        (after.status, after.state, after.forced_down),
        (ServiceStatus::Disabled, ServiceState::Down, true)
    );
    let puts = cloud.seen(&format!("/compute/v2.1/os-services/{id}"));
    assert_eq!(puts.len(), 1);
    assert_eq!(puts[0].body, json!({"status": "disabled", "disabled_reason": "fenced", "forced_down": true}));
    assert_eq!(puts[0].header(VERSION), Some("compute 2.53"));
    assert!(matches!(
        nova.set_service("gone", &ServiceChange::enable()).await.unwrap_err(),
        Error::NotFound(_)
    ));
    let text = r#"{"badRequest": {"code": 400, "message": "Unable to force up host cmp-01 as `done` evacuation migration records remain"}}"#;
    cloud.fault("/compute/v2.1/os-services/", Fault::Answer(400, "application/json", text, vec![]));
    assert!(matches!(nova.set_service(&id, &ServiceChange::unforce()).await.unwrap_err(), Error::Refused(_)));
}

#[tokio::test]
async fn an_actions_events_tell_failure() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    let actions = nova.instance_actions("s1").await.unwrap();
    assert_eq!((actions.len(), actions[0].action.as_str()), (1, "evacuate"));
    let action = nova.instance_action("s1", &actions[0].request_id).await.unwrap();
    assert!(action.failed() && !action.rebuilt());
    assert_eq!(action.events[0].details.as_deref(), Some("spawn failed"));
    assert_eq!(
        cloud.seen("/compute/v2.1/servers/s1/os-instance-actions")[0].header(VERSION),
        Some("compute 2.84")
    );
}

#[tokio::test]
async fn an_aggregates_member_is_added_and_removed_twice() {
    let cloud = Cloud::start().await;
    let nova = cloud.client().await.nova();
    for _ in 0..2 {
        nova.add_host(1, "cmp-03").await.unwrap();
    }
    assert_eq!(nova.aggregates().await.unwrap()[0].hosts, ["cmp-03"]);
    for _ in 0..2 {
        nova.remove_host(1, "cmp-03").await.unwrap();
    }
    // Another cause of the same status is no success, and an aggregate that is gone is not "absent already".
    assert!(matches!(nova.add_host(1, "other-zone").await.unwrap_err(), Error::Conflict(_)));
    assert!(matches!(nova.remove_host(2, "cmp-03").await.unwrap_err(), Error::NotFound(_)));
}
