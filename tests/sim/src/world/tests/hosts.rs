//! Hosts that die, hang, return, and what their guests really do meanwhile.

use super::{dead_host, force_down, pass, show, statuses, world};
use crate::fault::Fault;
use crate::history::What;
use crate::model::{HostState, MigrationFilter, Network};
use crate::spec::WorldSpec;
use crate::world::World;

#[test]
fn an_unfenced_hung_host_that_thaws_runs_its_guests_a_second_time() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    world.inject(1_000, Fault::HostHang { host: "cmp-01".into(), for_ms: Some(120_000) });
    assert!(world.running_on(id).is_empty());
    assert_eq!(world.may_run_on(id), ["cmp-01"]);
    world.evacuate(90_000, id, None, 94).answer.unwrap();
    world.advance(120_999);
    let dest = show(&mut world, id).host.unwrap();
    assert!(world.double_runs().is_empty());
    world.advance(121_000);
    let double = world.double_runs();
    assert_eq!(double.len(), 1);
    assert_eq!((double[0].at, double[0].guest), (121_000, id));
    assert_eq!(double[0].hosts, ["cmp-01".to_owned(), dest.clone()]);
    // It goes on until nova-compute is started again: the copy there is destroyed.
    let now = pass(&mut world, 60_000);
    assert_eq!(world.running_on(id).len(), 2);
    world.inject(now, Fault::ComputeCrash { host: "cmp-01".into() });
    world.inject(now + 1, Fault::ComputeStart { host: "cmp-01".into() });
    assert_eq!(world.running_on(id), [dest]);
    assert_eq!(statuses(&mut world, id), ["completed"]);
}

#[test]
fn an_unfenced_host_that_is_only_cut_off_runs_them_at_once() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    let networks = vec![Network::Management];
    world.inject(1_000, Fault::NetworkCut { host: "cmp-01".into(), networks, for_ms: None });
    world.evacuate(90_000, id, None, 94).answer.unwrap();
    let last = world.history().last().unwrap();
    assert!(matches!(&last.what, What::EvacuateAccepted { held_by, .. } if held_by == &["cmp-01"]));
    pass(&mut world, 5_000);
    assert_eq!(world.double_runs().len(), 1);
}

#[test]
fn a_host_that_boots_with_autostart_and_no_gate_runs_its_old_guests_again() {
    for (autostart, gate, doubles) in [(true, false, 2), (false, false, 0), (true, true, 0)] {
        let mut world = World::new(WorldSpec { autostart, gate, ..WorldSpec::spread(4, 8) });
        world.inject(1_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: true });
        force_down(&mut world, 1_000, "cmp-01", true);
        for id in world.guests_placed_on("cmp-01") {
            world.evacuate(2_000, id, None, 94).answer.unwrap();
        }
        let now = pass(&mut world, 10_000);
        world.inject(now, Fault::HostReturn { host: "cmp-01".into() });
        let now = pass(&mut world, 60_000);
        assert_eq!(world.double_runs().len(), doubles, "autostart {autostart}, gate {gate}");
        // In the end nova-compute has cleaned up, at once or when admitted.
        world.admit(now, "cmp-01");
        world.open_gate(now, "cmp-01");
        pass(&mut world, 10_000);
        assert!(world.host("cmp-01").executing.is_empty());
        assert!(world.host("cmp-01").local.is_empty());
    }
}

#[test]
fn a_boot_has_a_new_id_and_a_gate_keeps_compute_down() {
    let mut world = World::new(WorldSpec { gate: true, ..WorldSpec::spread(2, 2) });
    let before = world.host("cmp-01");
    world.inject(1_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: true });
    assert!(!world.is_powered("cmp-01"));
    assert_eq!(world.beats(1_000).len(), 1);
    world.inject(2_000, Fault::HostReturn { host: "cmp-01".into() });
    assert_eq!(world.host("cmp-01").state, HostState::Booting);
    let now = pass(&mut world, 60_000);
    let after = world.host("cmp-01");
    assert_ne!(before.boot_id, after.boot_id);
    assert_eq!((after.boots, after.gated, after.compute), (2, true, false));
    assert_eq!(world.beats(now)[0].boot_id, after.boot_id);
    world.admit(now, "cmp-01");
    let admitted = world.host("cmp-01");
    assert!(admitted.compute && admitted.gated && admitted.executing.is_empty());
}

#[test]
fn compute_start_destroys_copies_of_unfinished_evacuations_too() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    // The agent crashed, guests live on; the evacuation starts; the agent is back; the spawn fails elsewhere.
    world.inject(1_000, Fault::ComputeCrash { host: "cmp-01".into() });
    world.inject(1_000, Fault::SpawnFails { host: "cmp-02".into(), times: 1 });
    force_down(&mut world, 1_000, "cmp-01", true);
    world.evacuate(2_000, id, Some("cmp-02"), 94).answer.unwrap();
    world.advance(2_250);
    assert_eq!(statuses(&mut world, id), ["pre-migrating"]);
    world.inject(2_250, Fault::ComputeStart { host: "cmp-01".into() });
    assert_eq!(statuses(&mut world, id), ["completed"]);
    pass(&mut world, 10_000);
    assert!(world.may_run_on(id).is_empty());
    assert_eq!(show(&mut world, id).status, "ERROR");
}

#[test]
fn records_completed_too_early_are_done_again() {
    let (mut world, guests) = dead_host();
    world.inject(1_500, Fault::HostReturn { host: "cmp-01".into() });
    world.advance(24_000);
    world.evacuate(24_000, guests[0], None, 94).answer.unwrap();
    world.advance(24_600);
    assert_eq!(statuses(&mut world, guests[0]), ["completed"]);
    pass(&mut world, 10_000);
    assert_eq!(statuses(&mut world, guests[0]), ["done"]);
}

#[test]
fn a_server_holds_two_allocations_until_its_source_restarts() {
    let (mut world, guests) = dead_host();
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 5_000);
    assert_eq!(world.allocations(now, guests[0]).len(), 2);
    world.inject(now, Fault::HostReturn { host: "cmp-01".into() });
    let now = pass(&mut world, 60_000);
    let left = world.allocations(now, guests[0]);
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].host, "cmp-01");
    let used: usize = world.providers(now).iter().map(|it| it.used).sum();
    assert_eq!(used, 8);
}

#[test]
fn a_reboot_asked_of_a_dead_host_runs_when_it_is_back() {
    let (mut world, guests) = dead_host();
    world.reboot_server(2_000, guests[0]).answer.unwrap();
    let now = pass(&mut world, 60_000);
    assert_eq!(show(&mut world, guests[0]).status, "HARD_REBOOT");
    world.inject(now, Fault::HostReturn { host: "cmp-01".into() });
    pass(&mut world, 60_000);
    assert_eq!(show(&mut world, guests[0]).status, "ACTIVE");
    assert_eq!(world.running_on(guests[0]), ["cmp-01"]);
    // Its neighbour was not asked for: Nova finds it stopped.
    assert_eq!(show(&mut world, guests[1]).status, "SHUTOFF");
}

#[test]
fn networks_decide_who_hears_whom_but_guests_run_on() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    let networks = vec![Network::Management];
    world.inject(1_000, Fault::NetworkCut { host: "cmp-01".into(), networks, for_ms: Some(100_000) });
    assert_eq!(world.beats(2_000)[0].networks, [Network::Tenant, Network::Storage]);
    assert!(!world.user_land_answers(2_000, "cmp-01", Network::Management));
    assert!(world.user_land_answers(2_000, "cmp-01", Network::Storage));
    let up = |world: &mut World, now| world.services(now).answer.unwrap()[2].up;
    assert!(!up(&mut world, 90_000));
    assert_eq!(world.running_on(id), ["cmp-01"]);
    assert!(up(&mut world, 104_000));
}

#[test]
fn links_are_cut_one_way() {
    let mut world = world();
    let networks = vec![Network::Management];
    let cut = Fault::LinkCut { from: "cmp-01".into(), to: "engine-1".into(), networks, for_ms: Some(500) };
    world.inject(1_000, cut);
    assert!(!world.reaches(1_000, "cmp-01", "engine-1", Network::Management));
    assert!(world.reaches(1_000, "engine-1", "cmp-01", Network::Management));
    assert!(world.reaches(1_000, "cmp-01", "engine-1", Network::Storage));
    assert!(world.reaches(1_000, "cmp-01", "cmp-02", Network::Management));
    assert!(world.reaches(1_500, "cmp-01", "engine-1", Network::Management));
    world.inject(2_000, Fault::HostHang { host: "cmp-01".into(), for_ms: None });
    assert!(!world.reaches(2_000, "cmp-01", "engine-1", Network::Management));
}

#[test]
fn a_panic_ends_the_guests_and_leaves_power_on() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    world.inject(1_000, Fault::HostPanic { host: "cmp-01".into() });
    assert!(world.is_powered("cmp-01") && !world.is_alive("cmp-01"));
    assert!(world.running_on(id).is_empty());
}

#[test]
fn a_rack_dies_as_one() {
    let mut world = World::new(WorldSpec::default());
    world.inject(1_000, Fault::RackDown { rack: "rack-2".into() });
    let dead: Vec<String> = world.host_names().into_iter().filter(|host| !world.is_powered(host)).collect();
    assert_eq!(dead, ["cmp-04", "cmp-05", "cmp-06"]);
}

#[test]
fn a_crashed_guest_is_noticed_by_its_own_host() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    world.inject(1_000, Fault::GuestCrash { guest: id });
    assert!(world.running_on(id).is_empty());
    assert_eq!(show(&mut world, id).status, "ACTIVE");
    pass(&mut world, 2_000);
    assert_eq!(show(&mut world, id).status, "SHUTOFF");
}

#[test]
fn an_agent_dies_alone() {
    let mut world = world();
    world.inject(1_000, Fault::AgentCrash { host: "cmp-01".into() });
    assert_eq!(world.beats(1_000).len(), 3);
    assert!(world.user_land_answers(1_000, "cmp-01", Network::Management));
}

#[test]
fn a_live_migration_under_way_when_its_source_dies_stays_running() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    let moved = world.guests_placed_on("cmp-01")[1];
    world.start_live_migration(1_000, moved, "cmp-02", Some(500));
    world.start_live_migration(1_000, id, "cmp-02", Some(5_000));
    world.inject(2_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    pass(&mut world, 60_000);
    assert_eq!(world.running_on(moved), ["cmp-02"]);
    assert_eq!(statuses(&mut world, id), ["running"]);
    let filter = MigrationFilter { host: Some("cmp-02".into()), ..MigrationFilter::default() };
    assert_eq!(world.migrations(70_000, &filter).answer.unwrap().len(), 2);
    assert!(world.double_runs().is_empty());
}

#[test]
fn faults_can_be_asked_for_in_advance() {
    let mut world = world();
    world.inject_at(5_000, Fault::HostPowerLoss { host: "cmp-02".into(), with_bmc: true });
    assert_eq!(world.next_due(), Some(5_000));
    world.advance(4_999);
    assert!(world.is_powered("cmp-02"));
    world.advance(5_000);
    assert!(!world.is_powered("cmp-02"));
    assert_eq!(world.last_power_off("cmp-02"), Some(5_000));
}
