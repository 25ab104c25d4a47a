//! A supply that goes and comes back, and what the restore policy makes of a machine that was fenced meanwhile.

use super::{pass, world};
use crate::fault::{BmcFault, Fault};
use crate::history::What;
use crate::metal::{Restore, RestorePolicy};
use crate::world::{BmcSession, World};

const HOST: &str = "cmp-01";

fn open(world: &mut World) -> BmcSession {
    let (user, password) = world.bmc_credentials(HOST);
    let now = world.now();
    world.bmc_open(now, HOST, &user, &password).answer.expect("session")
}

fn off(world: &mut World) {
    let (session, now) = (open(world), world.now());
    world.bmc_off(now, HOST, session).answer.expect("off");
    pass(world, 1_000);
    assert!(!world.is_powered(HOST));
}

fn inject(world: &mut World, fault: Fault) {
    let now = world.now() + 1_000;
    world.inject(now, fault);
}

fn lose(world: &mut World, with_bmc: bool) {
    inject(world, Fault::HostPowerLoss { host: HOST.into(), with_bmc });
}

fn supply_back(world: &mut World) {
    inject(world, Fault::SupplyReturn { host: HOST.into() });
}

/// Whether the machine is on after its supply went and came back, by policy, running or fenced before.
fn after_a_cut(policy: RestorePolicy, fenced: bool) -> bool {
    let mut world = world();
    world.set_restore_policy(HOST, policy);
    if fenced {
        off(&mut world);
    }
    lose(&mut world, true);
    pass(&mut world, 60_000);
    assert!(world.bmc_dark(HOST) && !world.is_powered(HOST));
    supply_back(&mut world);
    assert!(!world.bmc_dark(HOST));
    world.is_powered(HOST)
}

#[test]
fn the_policy_decides() {
    use RestorePolicy::{AlwaysOff, AlwaysOn, LastState};
    assert!(!after_a_cut(AlwaysOff, false));
    assert!(after_a_cut(LastState, false));
    assert!(after_a_cut(AlwaysOn, false));
    assert!(!after_a_cut(AlwaysOff, true));
    assert!(!after_a_cut(LastState, true));
    // What a fence that leaves the policy alone has to fear.
    assert!(after_a_cut(AlwaysOn, true));
}

#[test]
fn a_machine_that_starts_so_boots_like_any_other() {
    let mut world = world();
    world.set_restore_policy(HOST, RestorePolicy::AlwaysOn);
    let boots = world.host(HOST).boots;
    lose(&mut world, true);
    supply_back(&mut world);
    assert!(!world.is_alive(HOST));
    pass(&mut world, 60_000);
    assert!(world.is_alive(HOST));
    assert_eq!(world.host(HOST).boots, boots + 1);
}

#[test]
fn an_off_order_to_a_machine_without_supply_is_its_last_state() {
    let mut world = world();
    lose(&mut world, false);
    let (session, now) = (open(&mut world), world.now());
    world.bmc_off(now, HOST, session).answer.expect("off");
    pass(&mut world, 1_000);
    supply_back(&mut world);
    assert!(!world.is_powered(HOST));
}

#[test]
fn a_second_loss_does_not_forget_that_it_was_on() {
    let mut world = world();
    lose(&mut world, false);
    lose(&mut world, true);
    supply_back(&mut world);
    assert!(world.is_powered(HOST));
}

#[test]
fn a_supply_that_was_never_lost_cannot_return() {
    let mut world = world();
    world.set_restore_policy(HOST, RestorePolicy::AlwaysOn);
    off(&mut world);
    supply_back(&mut world);
    assert!(!world.is_powered(HOST));
    // Nor one that came back already.
    lose(&mut world, true);
    supply_back(&mut world);
    off(&mut world);
    supply_back(&mut world);
    assert!(!world.is_powered(HOST));
}

#[test]
fn a_rack_comes_back_together() {
    let mut world = world();
    world.set_restore_policy("cmp-02", RestorePolicy::AlwaysOff);
    let rack = world.host(HOST).rack;
    inject(&mut world, Fault::RackDown { rack: rack.clone() });
    inject(&mut world, Fault::RackSupplyReturn { rack });
    assert!(world.is_powered(HOST) && !world.is_powered("cmp-02"));
}

#[test]
fn a_bmc_shows_and_sets_it_unless_it_cannot() {
    let mut world = world();
    let (session, now) = (open(&mut world), world.now());
    assert_eq!(world.bmc_shown_restore(HOST), Restore::Settable(RestorePolicy::LastState));
    let set = world.bmc_set_restore(now, HOST, session, RestorePolicy::AlwaysOff);
    assert_eq!(set.answer, Ok(true));
    assert_eq!(world.host(HOST).restore_policy, RestorePolicy::AlwaysOff);
    assert!(
        matches!(&world.history().last().expect("a deed").what, What::RestorePolicySet { bmc, machine, .. }
        if bmc == HOST && machine == HOST)
    );
    for (fault, shown) in [
        (BmcFault::FixedRestorePolicy, Restore::Fixed(RestorePolicy::AlwaysOff)),
        (BmcFault::NoRestorePolicy, Restore::Unknown),
    ] {
        inject(&mut world, Fault::Bmc { host: HOST.into(), fault });
        assert_eq!(world.bmc_shown_restore(HOST), shown);
        let now = world.now();
        let refused = world.bmc_set_restore(now, HOST, session, RestorePolicy::AlwaysOn);
        assert_eq!(refused.answer, Ok(false));
        assert_eq!(world.host(HOST).restore_policy, RestorePolicy::AlwaysOff);
    }
}

#[test]
fn a_bmc_on_the_wrong_cable_sets_the_other_machine() {
    let mut world = world();
    inject(&mut world, Fault::Bmc { host: HOST.into(), fault: BmcFault::WrongMachine("cmp-02".into()) });
    let (session, now) = (open(&mut world), world.now());
    world.bmc_set_restore(now, HOST, session, RestorePolicy::AlwaysOn).answer.expect("set");
    assert_eq!(world.host(HOST).restore_policy, RestorePolicy::LastState);
    assert_eq!(world.host("cmp-02").restore_policy, RestorePolicy::AlwaysOn);
}
