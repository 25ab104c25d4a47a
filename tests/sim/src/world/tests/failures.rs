//! What goes wrong after the 200, and what a second call does.

use super::{dead_host, events, pass, show, statuses};
use crate::fault::{Fault, NovaAnswer, Route};
use crate::history::What;
use crate::reply::Refusal;
use crate::world::World;

fn disable_all_but(world: &mut World, now: u64, spared: &str) {
    for host in world.host_names().into_iter().filter(|host| host != spared) {
        let put = crate::ServicePut { disabled: Some(true), ..crate::ServicePut::default() };
        let id = world.service_id(&host);
        world.put_service(now, id, &put).answer.unwrap();
    }
}

#[test]
fn no_valid_host() {
    let (mut world, guests) = dead_host();
    disable_all_but(&mut world, 1_500, "none");
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    pass(&mut world, 5_000);
    let server = show(&mut world, guests[0]);
    assert_eq!((server.status.as_str(), server.host.as_deref()), ("ERROR", Some("cmp-01")));
    let text = "No valid host was found. There are not enough hosts available.";
    assert_eq!(server.fault.as_deref(), Some(text));
    assert_eq!(statuses(&mut world, guests[0]), ["error"]);
    assert_eq!(events(&mut world, guests[0]), [("rebuild_server".into(), Some(false))]);
    // A named target that is disabled gives the same with another text, and its name in the record.
    world.evacuate(8_000, guests[1], Some("cmp-02"), 94).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[1]).fault.as_deref(), Some("No valid host was found. "));
}

#[test]
fn repeating_works_once_the_cause_is_gone() {
    let (mut world, guests) = dead_host();
    world.inject(1_500, Fault::SpawnFails { host: "cmp-02".into(), times: 1 });
    world.evacuate(2_000, guests[0], Some("cmp-02"), 94).answer.unwrap();
    let now = pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "ERROR");
    assert_eq!(statuses(&mut world, guests[0]), ["failed"]);
    assert_eq!(
        events(&mut world, guests[0]),
        [("rebuild_server".into(), Some(true)), ("compute_rebuild_instance".into(), Some(false))]
    );
    world.evacuate(now, guests[0], Some("cmp-02"), 94).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
    assert_eq!(statuses(&mut world, guests[0]), ["failed", "done"]);
}

#[test]
fn placement_away_looks_like_a_full_cloud() {
    let (mut world, guests) = dead_host();
    world.inject(1_500, Fault::PlacementDown { for_ms: Some(5_000) });
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 10_000);
    assert_eq!(show(&mut world, guests[0]).fault.as_deref(), Some("No valid host was found. "));
    world.evacuate(now, guests[0], None, 94).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
}

#[test]
fn neutron_away_gets_it_stuck_without_a_fault() {
    let (mut world, guests) = dead_host();
    world.inject(1_500, Fault::NeutronDown { for_ms: Some(60_000) });
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    pass(&mut world, 30_000);
    let server = show(&mut world, guests[0]);
    assert_eq!((server.status.as_str(), server.task_state.as_deref()), ("REBUILD", Some("rebuilding")));
    assert_eq!(server.fault, None);
    assert_eq!(statuses(&mut world, guests[0]), ["accepted"]);
    assert_eq!(events(&mut world, guests[0]), [("rebuild_server".into(), Some(false))]);
}

#[test]
fn a_destination_that_dies_leaves_it_spawning_for_ever_and_a_repeat_works() {
    let (mut world, guests) = dead_host();
    world.inject(1_500, Fault::DestinationDies);
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 120_000);
    let server = show(&mut world, guests[0]);
    assert_eq!((server.status.as_str(), server.task_state.as_deref()), ("REBUILD", Some("rebuild_spawning")));
    assert_eq!(statuses(&mut world, guests[0]), ["pre-migrating"]);
    assert_eq!(events(&mut world, guests[0])[1], ("compute_rebuild_instance".into(), None));
    let dead: Vec<String> = world.host_names().into_iter().filter(|host| !world.is_powered(host)).collect();
    assert_eq!(dead.len(), 2);
    world.evacuate(now, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
    // The dead destination keeps its allocation.
    assert_eq!(world.allocations(now, guests[0]).len(), 3);
}

#[test]
fn a_spawn_is_lost_with_the_process_and_waits_for_a_frozen_one() {
    let spawning = |fault: fn(String) -> Fault| {
        let (mut world, guests) = dead_host();
        world.evacuate(2_000, guests[0], Some("cmp-02"), 94).answer.unwrap();
        let now = pass(&mut world, 400);
        assert_eq!(show(&mut world, guests[0]).task_state.as_deref(), Some("rebuild_spawning"));
        world.inject(now, fault("cmp-02".into()));
        pass(&mut world, 30_000);
        (world, guests[0])
    };
    let (mut world, id) = spawning(|host| Fault::ComputeCrash { host });
    let now = world.now();
    world.inject(now, Fault::ComputeStart { host: "cmp-02".into() });
    let now = pass(&mut world, 30_000);
    assert_eq!(show(&mut world, id).task_state.as_deref(), Some("rebuild_spawning"));
    assert!(world.may_run_on(id).is_empty());
    // Nobody works on it, so a repeat collides with nothing.
    world.evacuate(now, id, Some("cmp-02"), 94).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, id).status, "ACTIVE");
    let (mut world, id) = spawning(|host| Fault::HostHang { host, for_ms: Some(20_000) });
    assert_eq!(show(&mut world, id).status, "ACTIVE");
    assert_eq!(world.running_on(id), ["cmp-02"]);
}

#[test]
fn a_second_evacuate_before_the_first_has_settled_is_accepted_and_damages() {
    for seed in 0..20 {
        let spec = crate::WorldSpec::spread(4, 8).seeded(seed);
        let mut world = World::new(spec);
        let id = world.guests_placed_on("cmp-01")[0];
        world.inject(1_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
        super::force_down(&mut world, 1_000, "cmp-01", true);
        world.evacuate(2_000, id, None, 94).answer.unwrap();
        world.evacuate(2_000 + seed * 20, id, None, 94).answer.unwrap();
        pass(&mut world, 30_000);
        let server = show(&mut world, id);
        assert_eq!(server.vm_state, crate::VmState::Error);
        assert!(["ERROR", "REBUILD"].contains(&server.status.as_str()));
        assert_ne!(server.host.as_deref(), Some("cmp-01"));
        let statuses = statuses(&mut world, id);
        assert!(statuses[0] == "done" || statuses[0] == "failed", "{statuses:?}");
        assert_eq!(statuses[1], "accepted");
        assert!(world.history().iter().any(|it| matches!(it.what, What::DoubleEvacuation { .. })));
    }
}

#[test]
fn a_lost_call_is_recorded_and_a_repeat_takes_the_old_record() {
    let (mut world, guests) = dead_host();
    let forget = Fault::NovaAnswers {
        route: Some(Route::Evacuate),
        answer: NovaAnswer::AcceptAndForget,
        for_ms: Some(10_000),
    };
    world.inject(1_500, forget);
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 60_000);
    assert_eq!(show(&mut world, guests[0]).status, "REBUILD");
    assert_eq!(statuses(&mut world, guests[0]), ["accepted"]);
    assert!(events(&mut world, guests[0]).is_empty());
    world.evacuate(now, guests[0], None, 94).answer.unwrap();
    pass(&mut world, 60_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
    assert_eq!(statuses(&mut world, guests[0]), ["done", "accepted"]);
    assert!(!world.history().iter().any(|it| matches!(it.what, What::DoubleEvacuation { .. })));
}

#[test]
fn a_stopped_conductor_delays() {
    let (mut world, guests) = dead_host();
    let answer = NovaAnswer::ConductorStopped;
    world.inject(1_500, Fault::NovaAnswers { route: None, answer, for_ms: None });
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 60_000);
    assert_eq!(statuses(&mut world, guests[0]), ["accepted"]);
    world.inject(now, Fault::NovaHealed);
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
}

#[test]
fn a_hang_after_doing_has_done_it() {
    let (mut world, guests) = dead_host();
    let route = Some(Route::Evacuate);
    let answer = NovaAnswer::HangAfterDoing;
    world.inject(1_500, Fault::NovaAnswers { route, answer, for_ms: None });
    assert_eq!(world.evacuate(2_000, guests[0], None, 94).answer, Err(Refusal::Silence));
    assert_eq!(world.evacuate_calls(guests[0]), [(2_000, true)]);
    let answer = NovaAnswer::Status(503);
    world.inject(2_000, Fault::NovaAnswers { route, answer, for_ms: Some(1_000) });
    assert_eq!(world.evacuate(2_500, guests[1], None, 94).answer.unwrap_err().code(), Some(503));
    assert!(world.evacuate_calls(guests[1]).is_empty());
    // Other routes are spared.
    assert!(world.server(2_500, guests[1]).answer.is_ok());
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
}

#[test]
fn a_burst_lands_on_one_host() {
    let mut world = World::new(crate::WorldSpec::loaded(6, 8));
    world.inject(1_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    super::force_down(&mut world, 1_000, "cmp-01", true);
    for id in world.guests_placed_on("cmp-01") {
        world.evacuate(2_000, id, None, 94).answer.unwrap();
    }
    pass(&mut world, 10_000);
    let hosts = world.host_names().into_iter().filter(|host| !world.guests_placed_on(host).is_empty());
    assert_eq!(hosts.count(), 1);
}

#[test]
fn a_destination_builds_ten_at_a_time() {
    let spec = crate::WorldSpec { rebuild_latency_ms: (1_000, 1_000), ..crate::WorldSpec::loaded(2, 30) };
    let mut world = World::new(spec);
    world.inject(1_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    super::force_down(&mut world, 1_000, "cmp-01", true);
    let guests = world.guests_placed_on("cmp-01");
    for id in &guests {
        world.evacuate(2_000, *id, None, 94).answer.unwrap();
    }
    world.advance(3_600);
    assert_eq!(world.guests_placed_on("cmp-02").len(), 10);
    world.advance(10_000);
    assert_eq!(world.guests_placed_on("cmp-02").len(), 30);
}
