//! Services, listings, pages, cells, aggregates, tokens.

use super::{dead_host, force_down, pass, show, statuses, world};
use crate::WorldSpec;
use crate::fault::Fault;
use crate::model::{ServerFilter, Service, ServicePut};
use crate::world::{Credentials, World};
use std::collections::BTreeMap;

fn row(world: &mut World, now: u64, host: &str) -> Service {
    world.services(now).answer.unwrap().into_iter().find(|it| it.host == host).unwrap()
}

fn put(world: &mut World, now: u64, host: &str, put: &ServicePut) -> crate::Reply<Service> {
    let id = world.service_id(host);
    world.put_service(now, id, put)
}

#[test]
fn state_follows_heartbeats_a_minute_late_and_a_put_is_no_heartbeat() {
    let mut world = world();
    let before = row(&mut world, 20_000, "cmp-01").updated_at;
    assert!(row(&mut world, 35_000, "cmp-01").updated_at > before);
    world.inject(40_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    let last = row(&mut world, 40_000, "cmp-01").updated_at;
    assert!(row(&mut world, last + 60_000, "cmp-01").up);
    assert!(!row(&mut world, last + 60_001, "cmp-01").up);
    let reason =
        ServicePut { disabled: Some(true), disabled_reason: Some("dead".into()), ..ServicePut::default() };
    put(&mut world, 110_000, "cmp-01", &reason).answer.unwrap();
    let touched = row(&mut world, 111_000, "cmp-01");
    assert_eq!((touched.updated_at, touched.up), (110_000, false));
    assert_eq!((touched.status.as_str(), touched.disabled_reason.as_deref()), ("disabled", Some("dead")));
}

#[test]
fn a_forced_down_host_beats_on_and_stays_down() {
    let mut world = world();
    force_down(&mut world, 5_000, "cmp-01", true);
    let first = row(&mut world, 30_000, "cmp-01");
    let second = row(&mut world, 45_000, "cmp-01");
    assert!(!first.up && !second.up && second.forced_down);
    assert!(second.updated_at > first.updated_at);
}

#[test]
fn unforcing_is_refused_while_records_are_done() {
    let (mut world, guests) = dead_host();
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 5_000);
    let unforce = ServicePut { forced_down: Some(false), ..ServicePut::default() };
    let refusal = put(&mut world, now, "cmp-01", &unforce).answer.unwrap_err();
    assert_eq!(refusal.code(), Some(400));
    assert!(refusal.message().starts_with("Unable to force up host cmp-01 as `done` evacuation"));
    world.inject(now, Fault::HostReturn { host: "cmp-01".into() });
    let now = pass(&mut world, 30_000);
    assert_eq!(statuses(&mut world, guests[0]), ["completed"]);
    assert!(!put(&mut world, now, "cmp-01", &unforce).answer.unwrap().forced_down);
}

#[test]
fn puts_are_checked() {
    let mut world = world();
    let refused = |reply: crate::Reply<Service>| reply.answer.unwrap_err().message().to_owned();
    let nothing = ServicePut::default();
    assert!(refused(put(&mut world, 1, "cmp-01", &nothing)).starts_with("No updates were requested."));
    let reason =
        ServicePut { disabled: Some(false), disabled_reason: Some("x".into()), ..ServicePut::default() };
    assert!(refused(put(&mut world, 1, "cmp-01", &reason)).starts_with("Specifying 'disabled_reason'"));
    let nobody = uuid::Uuid::nil();
    assert!(refused(world.put_service(1, nobody, &nothing)).ends_with("could not be found."));
    let scheduler = world.services(1).answer.unwrap()[0].id;
    let disable = ServicePut { disabled: Some(true), ..ServicePut::default() };
    assert!(refused(world.put_service(1, scheduler, &disable)).starts_with("Updating a nova-scheduler"));
}

#[test]
fn disabling_a_dead_service_that_is_called_up_blocks_a_minute() {
    let mut world = world();
    world.inject(1_000, Fault::HostHang { host: "cmp-01".into(), for_ms: None });
    let disable = ServicePut { disabled: Some(true), ..ServicePut::default() };
    assert!(put(&mut world, 2_000, "cmp-01", &disable).after_ms > 60_000);
    assert!(put(&mut world, 2_000, "cmp-02", &disable).after_ms < 100);
    world.inject(2_000, Fault::HostHang { host: "cmp-03".into(), for_ms: None });
    let both = ServicePut { forced_down: Some(true), ..disable };
    assert!(put(&mut world, 3_000, "cmp-03", &both).after_ms < 100);
}

#[test]
fn listings_have_pages_and_filters() {
    let mut world = World::new(WorldSpec::loaded(2, 1_005));
    let page = world.servers(1, &ServerFilter::default()).answer.unwrap();
    assert_eq!(page.len(), 1_000);
    let marker = Some(page[999].id);
    let rest = world.servers(1, &ServerFilter { marker, ..ServerFilter::default() }).answer.unwrap();
    assert_eq!(rest.len(), 5);
    let host = Some("cmp-02".to_owned());
    assert!(world.servers(1, &ServerFilter { host, ..ServerFilter::default() }).answer.unwrap().is_empty());
    let marker = Some(uuid::Uuid::nil());
    let unknown = world.servers(1, &ServerFilter { marker, ..ServerFilter::default() });
    assert_eq!(unknown.answer.unwrap_err().code(), Some(400));
}

#[test]
fn a_cell_that_is_down_vanishes_from_filtered_lists_and_shows_in_services() {
    let mut world = world();
    world.inject(1_000, Fault::CellDown { hosts: vec!["cmp-01".into()], for_ms: Some(10_000) });
    let host = Some("cmp-01".to_owned());
    let filter = ServerFilter { host, ..ServerFilter::default() };
    assert!(world.servers(2_000, &filter).answer.unwrap().is_empty());
    let all = world.servers(2_000, &ServerFilter::default()).answer.unwrap();
    assert_eq!(all.len(), 8);
    assert_eq!(all.iter().filter(|it| it.status == "UNKNOWN").count(), 2);
    assert_eq!(row(&mut world, 2_000, "cmp-01").status, "UNKNOWN");
    assert_eq!(world.servers(12_000, &filter).answer.unwrap().len(), 2);
    assert_eq!(row(&mut world, 12_000, "cmp-01").status, "enabled");
}

#[test]
fn host_status_tells_how_a_host_is() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    assert_eq!(show(&mut world, id).host_status, "UP");
    let disable = ServicePut { disabled: Some(true), ..ServicePut::default() };
    put(&mut world, 1_000, "cmp-01", &disable).answer.unwrap();
    assert_eq!(show(&mut world, id).host_status, "MAINTENANCE");
    force_down(&mut world, 1_000, "cmp-01", true);
    assert_eq!(show(&mut world, id).host_status, "DOWN");
    let other = world.guests_placed_on("cmp-02")[0];
    world.inject(2_000, Fault::HostPowerLoss { host: "cmp-02".into(), with_bmc: false });
    pass(&mut world, 100_000);
    assert_eq!(show(&mut world, other).host_status, "UNKNOWN");
}

#[test]
fn aggregates_refuse_doubles_and_strangers() {
    let mut world = world();
    let id = world.create_aggregate(1, "spare", BTreeMap::new()).answer.unwrap().id;
    assert_eq!(world.aggregate_add_host(1, id, "cmp-02").answer.unwrap().hosts, ["cmp-02"]);
    let twice = world.aggregate_add_host(1, id, "cmp-02").answer.unwrap_err();
    assert_eq!((twice.code(), twice.message()), (Some(409), "Aggregate 1 already has host cmp-02."));
    let unknown = world.aggregate_add_host(1, id, "nope").answer.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Some(404), "Compute host nope could not be found."));
    let absent = world.aggregate_remove_host(1, id, "cmp-01").answer.unwrap_err();
    assert_eq!((absent.code(), absent.message()), (Some(404), "Cannot remove host cmp-01 in aggregate 1"));
    assert!(world.aggregate_remove_host(1, id, "cmp-02").answer.unwrap().hosts.is_empty());
}

#[test]
fn tokens_end_are_revoked_and_outlive_keystone_in_the_cache() {
    let mut world = world();
    let good = world.credentials("halberd").unwrap();
    let token = world.authenticate(1, &good).answer.unwrap();
    assert!(token.caller.has("admin"));
    let id = token.id.as_str();
    assert_eq!(world.validate(1, id).answer.unwrap().caller, token.caller);
    assert!(world.accept_token(1, Some(id)).is_ok());
    world.inject(2, Fault::KeystoneDown { for_ms: Some(400_000) });
    assert_eq!(world.authenticate(3, &good).answer.unwrap_err().code(), Some(503));
    assert!(world.accept_token(100_000, Some(id)).is_ok());
    assert_eq!(world.accept_token(350_000, Some(id)).unwrap_err().code(), Some(503));
    assert!(world.accept_token(500_000, Some(id)).is_ok());
    assert_eq!(world.accept_token(3_700_000, Some(id)).unwrap_err().code(), Some(401));
    let wrong = Credentials::Password { user: "halberd".into(), password: "no".into(), project: None };
    assert_eq!(world.authenticate(3_700_000, &wrong).answer.unwrap_err().code(), Some(401));
    let app = world.application_credential("monitor").unwrap();
    let token = world.authenticate(3_700_000, &app).answer.unwrap();
    assert_eq!(token.caller.roles, ["service"]);
    world.inject(3_700_001, Fault::TokensRevoked);
    assert_eq!(world.validate(3_700_002, &token.id).answer.unwrap_err().code(), Some(404));
}

#[test]
fn start_and_stop_follow_vm_state() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    let refusal = world.start_server(1, id).answer.unwrap_err();
    let text = format!("Cannot 'start' instance {id} while it is in vm_state active");
    assert_eq!((refusal.code(), refusal.message()), (Some(409), text.as_str()));
    world.stop_server(2, id).answer.unwrap();
    assert_eq!(show(&mut world, id).task_state.as_deref(), Some("powering-off"));
    assert_eq!(world.stop_server(3, id).answer.unwrap_err().code(), Some(409));
    let now = pass(&mut world, 5_000);
    assert_eq!(show(&mut world, id).status, "SHUTOFF");
    assert!(world.running_on(id).is_empty());
    world.start_server(now, id).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, id).status, "ACTIVE");
    assert_eq!(world.running_on(id), ["cmp-01"]);
}
