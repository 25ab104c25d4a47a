//! The call and what it leads to when all goes well; its refusals.

use super::{dead_host, events, force_down, guest, pass, show, statuses, world};
use crate::fault::Fault;
use crate::history::What;
use crate::model::{EvacuateRequest, VmState};
use crate::spec::GuestSpec;

#[test]
fn runs_through_the_states_seen_on_the_testbed() {
    let (mut world, guests) = dead_host();
    let reply = world.evacuate(2_000, guests[0], None, 94);
    assert_eq!((reply.after_ms, reply.answer), (50, Ok(())));
    assert_eq!(statuses(&mut world, guests[0]), ["accepted"]);
    let mut seen = Vec::new();
    while world.next_due().is_some() {
        let server = show(&mut world, guests[0]);
        let state = (server.status, server.task_state, server.host);
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        let next = world.next_due().unwrap();
        world.advance(next);
    }
    let server = show(&mut world, guests[0]);
    let dest = server.host.clone().unwrap();
    assert_ne!(dest, "cmp-01");
    let old = Some("cmp-01".to_owned());
    let rebuild = |task: &str| ("REBUILD".to_owned(), Some(task.to_owned()), old.clone());
    // ACTIVE shows while the old host is still named: status alone is seen too early.
    assert_eq!(
        seen,
        [
            rebuild("rebuilding"),
            rebuild("rebuild_block_device_mapping"),
            rebuild("rebuild_spawning"),
            ("ACTIVE".into(), None, old.clone()),
        ]
    );
    assert_eq!((server.status.as_str(), server.task_state), ("ACTIVE", None));
    assert_eq!(statuses(&mut world, guests[0]), ["done"]);
    assert_eq!(
        events(&mut world, guests[0]),
        [("rebuild_server".into(), Some(true)), ("compute_rebuild_instance".into(), Some(true))]
    );
    assert_eq!(world.running_on(guests[0]), [dest]);
    assert!(world.double_runs().is_empty());
}

#[test]
fn an_active_guest_is_left_stopped_from_2_95_and_an_errored_one_is_not() {
    let (mut world, guests) = dead_host();
    world.set_vm_state(guests[1], VmState::Error, None);
    world.evacuate(2_000, guests[0], None, 95).answer.unwrap();
    world.evacuate(2_000, guests[1], None, 95).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).status, "SHUTOFF");
    assert!(world.running_on(guests[0]).is_empty());
    assert_eq!(events(&mut world, guests[0])[2], ("compute_stop_instance".into(), Some(true)));
    assert_eq!(show(&mut world, guests[1]).status, "ACTIVE");
}

#[test]
fn a_stopped_guest_stays_stopped() {
    let (mut world, _) = dead_host();
    let stopped = guest(&mut world, "cmp-01", VmState::Stopped);
    world.evacuate(2_000, stopped, None, 94).answer.unwrap();
    pass(&mut world, 5_000);
    let server = show(&mut world, stopped);
    assert_eq!((server.status.as_str(), server.power_state), ("SHUTOFF", 4));
    assert_ne!(server.host.as_deref(), Some("cmp-01"));
}

#[test]
fn locked_and_busy_guests_are_accepted_and_a_lock_stays() {
    let (mut world, guests) = dead_host();
    world.lock_server(1_500, guests[0], Some("mine")).answer.unwrap();
    world.reboot_server(1_500, guests[1]).answer.unwrap();
    for id in &guests {
        world.evacuate(2_000, *id, None, 94).answer.unwrap();
    }
    pass(&mut world, 5_000);
    assert!(show(&mut world, guests[0]).locked);
    for id in guests {
        assert_eq!(show(&mut world, id).status, "ACTIVE");
    }
}

#[test]
fn a_service_that_is_up_is_in_use() {
    let mut world = world();
    let id = world.guests_placed_on("cmp-01")[0];
    let refusal = world.evacuate(1_000, id, None, 94).answer.unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.message()),
        (Some(400), "Compute service of cmp-01 is still in use.")
    );
    // Right after its death it is still called up.
    world.inject(2_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    assert_eq!(world.evacuate(30_000, id, None, 94).answer.unwrap_err().code(), Some(400));
    assert!(world.evacuate(75_000, id, None, 94).answer.is_ok());
    assert_eq!(world.evacuate_calls(id), [(1_000, false), (30_000, false), (75_000, true)]);
}

#[test]
fn asked_again_after_the_first_it_names_the_new_host() {
    let (mut world, guests) = dead_host();
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    let now = pass(&mut world, 5_000);
    let host = show(&mut world, guests[0]).host.unwrap();
    let refusal = world.evacuate(now, guests[0], None, 94).answer.unwrap_err();
    assert_eq!(refusal.message(), format!("Compute service of {host} is still in use."));
}

#[test]
fn other_states_are_a_conflict() {
    let (mut world, _) = dead_host();
    for state in [VmState::Paused, VmState::Suspended, VmState::Rescued, VmState::Building] {
        let id = guest(&mut world, "cmp-01", state);
        let refusal = world.evacuate(2_000, id, None, 94).answer.unwrap_err();
        let text = format!("Cannot 'evacuate' instance {id} while it is in vm_state {}", state.name());
        assert_eq!((refusal.code(), refusal.message()), (Some(409), text.as_str()));
        // After a reset it can be evacuated, unless it never ran.
        world.reset_server(2_000, id, false).answer.unwrap();
        let again = world.evacuate(2_000, id, None, 94).answer;
        match state {
            VmState::Building => {
                let text = format!("Instance {id} is in an invalid state for 'evacuate'");
                assert_eq!(again.unwrap_err().message(), text);
            }
            _ => assert!(again.is_ok()),
        }
    }
}

#[test]
fn without_a_host_none_equals_none() {
    let (mut world, _) = dead_host();
    let spec = GuestSpec { host: None, vm_state: VmState::Error, ..GuestSpec::active("nowhere", "cmp-01") };
    let id = world.add_guest(2_000, spec);
    let refusal = world.evacuate(2_000, id, None, 94).answer.unwrap_err();
    assert_eq!((refusal.code(), refusal.message()), (Some(400), "The target host can't be the same one."));
}

#[test]
fn targets_are_checked() {
    let (mut world, guests) = dead_host();
    let own = world.evacuate(2_000, guests[0], Some("cmp-01"), 94).answer.unwrap_err();
    assert_eq!((own.code(), own.message()), (Some(400), "The target host can't be the same one."));
    let unknown = world.evacuate(2_000, guests[0], Some("nope"), 94).answer.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Some(404), "Compute host nope not found."));
    let nobody = uuid::Uuid::nil();
    assert_eq!(world.evacuate(2_000, nobody, None, 94).answer.unwrap_err().code(), Some(404));
    world.evacuate(2_000, guests[0], Some("cmp-03"), 94).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).host.as_deref(), Some("cmp-03"));
}

#[test]
fn bodies_follow_the_microversion() {
    let (mut world, guests) = dead_host();
    let id = guests[0];
    let force = EvacuateRequest { force: Some(true), ..EvacuateRequest::default() };
    let mut refused = |request: &EvacuateRequest, minor| {
        let refusal = world.evacuate_with(2_000, id, request, minor).answer.unwrap_err();
        assert_eq!(refusal.code(), Some(400));
        refusal.message().to_owned()
    };
    assert!(refused(&force, 68).contains("('force' was unexpected)"));
    assert!(refused(&force, 28).contains("('force' was unexpected)"));
    assert_eq!(refused(&force, 67), "Can't force to a non-provided destination");
    assert!(refused(&EvacuateRequest::default(), 13).contains("'onSharedStorage' is a required property"));
    let shared = EvacuateRequest { on_shared_storage: Some(true), ..EvacuateRequest::default() };
    assert!(refused(&shared, 14).contains("('onSharedStorage' was unexpected)"));
    let with_password = EvacuateRequest { admin_password: Some("x".into()), ..shared };
    assert_eq!(refused(&with_password, 13), "admin password can't be changed on existing disk");
}

#[test]
fn force_goes_to_a_disabled_host() {
    let (mut world, guests) = dead_host();
    let put = crate::ServicePut { disabled: Some(true), ..crate::ServicePut::default() };
    let service = world.service_id("cmp-02");
    world.put_service(2_000, service, &put).answer.unwrap();
    let request =
        EvacuateRequest { host: Some("cmp-02".into()), force: Some(true), ..EvacuateRequest::default() };
    world.evacuate_with(2_000, guests[0], &request, 67).answer.unwrap();
    pass(&mut world, 5_000);
    assert_eq!(show(&mut world, guests[0]).host.as_deref(), Some("cmp-02"));
}

#[test]
fn a_deleted_server_takes_its_records_along() {
    let (mut world, guests) = dead_host();
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    world.delete_server(2_200, guests[0]).answer.unwrap();
    pass(&mut world, 5_000);
    assert!(statuses(&mut world, guests[0]).is_empty());
    assert!(world.running_on(guests[0]).is_empty());
    assert_eq!(world.server(9_000, guests[0]).answer.unwrap_err().code(), Some(404));
    assert!(!world.instance_actions(9_000, guests[0]).answer.unwrap().is_empty());
}

#[test]
fn the_history_holds_calls_and_ends() {
    let (mut world, guests) = dead_host();
    world.evacuate(2_000, guests[0], None, 94).answer.unwrap();
    pass(&mut world, 5_000);
    let accepted = world.history().iter().find(|deed| matches!(deed.what, What::EvacuateAccepted { .. }));
    assert_eq!(accepted.unwrap().at, 2_000);
    assert!(world.history().iter().any(|deed| matches!(deed.what, What::EvacuateDone { .. })));
    force_down(&mut world, 9_000, "cmp-02", true);
    assert!(matches!(world.history().last().unwrap().what, What::ForcedDown { value: true, .. }));
}
