//! The bare-metal service: its record, and its power sync that undoes what others did.

use super::{pass, world};
use crate::fault::{BmcFault, Fault};
use crate::history::What;
use crate::metal::Node;
use crate::world::World;
use uuid::Uuid;

const HOST: &str = "cmp-01";
const INTERVAL: u64 = 120_000;

fn enrolled() -> (World, Uuid) {
    let mut world = world();
    let id = world.enroll(1_000, HOST, None);
    (world, id)
}

/// Off by the BMC, as a fencer does it.
fn fence(world: &mut World) {
    let (user, password) = world.bmc_credentials(HOST);
    let now = world.now();
    let session = world.bmc_open(now, HOST, &user, &password).answer.expect("session");
    world.bmc_off(now, HOST, session).answer.expect("off");
    pass(world, 1_000);
    assert!(!world.is_powered(HOST));
}

fn node(world: &mut World) -> Node {
    let now = world.now();
    world.nodes(now).remove(0)
}

fn bmc(world: &mut World, fault: BmcFault) {
    let now = world.now();
    world.inject(now, Fault::Bmc { host: HOST.into(), fault });
}

#[test]
fn without_a_node_there_is_no_service_and_no_sync() {
    let mut world = world();
    assert!(!world.has_ironic());
    while let Some(next) = world.next_due() {
        assert!(next < 600_000, "a world without nodes does not come to rest");
        world.advance(next);
    }
    fence(&mut world);
    pass(&mut world, 10 * INTERVAL);
    assert!(!world.is_powered(HOST));
}

#[test]
fn what_was_switched_off_behind_its_back_is_on_again_at_the_next_sync() {
    let (mut world, _) = enrolled();
    fence(&mut world);
    world.advance(INTERVAL);
    assert!(!world.is_powered(HOST) && node(&mut world).target.is_none());
    world.advance(1_000 + INTERVAL);
    assert_eq!(node(&mut world).target, Some(true));
    pass(&mut world, 1_000);
    assert!(world.is_powered(HOST));
    assert!(
        world.history().iter().any(|deed| deed.at == 1_000 + INTERVAL
            && deed.what == What::PowerForced { host: HOST.into(), on: true })
    );
    assert_eq!((node(&mut world).power, node(&mut world).target), (Some(true), None));
}

#[test]
fn a_sync_may_be_asked_for() {
    let (mut world, _) = enrolled();
    world.enroll(1_000, "cmp-02", None);
    fence(&mut world);
    let now = world.now();
    world.power_sync_of(now, "cmp-02");
    pass(&mut world, 1_000);
    assert!(!world.is_powered(HOST));
    let now = world.now();
    world.power_sync_of(now, HOST);
    pass(&mut world, 1_000);
    assert!(world.is_powered(HOST));
    fence(&mut world);
    let now = world.now();
    world.power_sync(now);
    pass(&mut world, 1_000);
    assert!(world.is_powered(HOST));
}

#[test]
fn maintenance_and_a_withdrawn_node_are_left_alone() {
    let (mut world, id) = enrolled();
    world.set_maintenance(2_000, id, true, Some("fenced".into())).expect("maintenance");
    fence(&mut world);
    pass(&mut world, 3 * INTERVAL);
    assert!(!world.is_powered(HOST));
    assert_eq!(node(&mut world).maintenance_reason.as_deref(), Some("fenced"));
    // Out of it, the power on record is still on.
    let now = world.now();
    world.set_maintenance(now, id, false, None).expect("maintenance");
    pass(&mut world, INTERVAL + 1_000);
    assert!(world.is_powered(HOST));

    let (mut world, _) = enrolled();
    world.withdraw(2_000, HOST);
    fence(&mut world);
    pass(&mut world, 3 * INTERVAL);
    assert!(!world.is_powered(HOST) && !world.has_ironic());
    assert_eq!(world.next_due(), None);
}

#[test]
fn what_it_switched_off_itself_it_keeps_off() {
    let (mut world, id) = enrolled();
    world.set_node_power(2_000, id, false).expect("power");
    pass(&mut world, 3 * INTERVAL);
    assert!(!world.is_powered(HOST));
    // And defends that, too.
    let (user, password) = world.bmc_credentials(HOST);
    let now = world.now();
    let session = world.bmc_open(now, HOST, &user, &password).answer.expect("session");
    world.bmc_on(now, HOST, session).answer.expect("on");
    pass(&mut world, INTERVAL + 1_000);
    assert!(!world.is_powered(HOST));
}

#[test]
fn a_node_that_cannot_be_read_is_given_up_after_three_more_tries() {
    let (mut world, _) = enrolled();
    bmc(&mut world, BmcFault::WrongPassword);
    world.advance(1_000 + 3 * INTERVAL);
    assert!(!node(&mut world).maintenance);
    pass(&mut world, INTERVAL);
    let given_up = node(&mut world);
    assert_eq!((given_up.maintenance, given_up.fault), (true, Some("power failure")));
    assert!(given_up.maintenance_reason.expect("a reason").contains("max retries exceeded"));
}

#[test]
fn so_is_one_that_does_not_obey_and_one_good_reading_forgets_failures() {
    let (mut world, _) = enrolled();
    // It reads off whatever happens, so each sync orders on in vain.
    bmc(&mut world, BmcFault::LieOff);
    world.advance(1_000 + 3 * INTERVAL);
    bmc(&mut world, BmcFault::Healed);
    pass(&mut world, INTERVAL);
    bmc(&mut world, BmcFault::LieOff);
    pass(&mut world, 3 * INTERVAL);
    assert!(!node(&mut world).maintenance);
    pass(&mut world, INTERVAL);
    assert!(node(&mut world).maintenance);
}

#[test]
fn names_drivers_and_strangers() {
    let (mut world, id) = enrolled();
    assert_eq!(world.enroll(2_000, HOST, Some("other")), id);
    world.enroll(2_000, "cmp-02", Some("rack1-slot2"));
    let nodes = world.nodes(2_000);
    let shown: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), node.driver)).collect();
    assert_eq!(shown, [(HOST, "redfish"), ("rack1-slot2", "ipmi")]);
    let stranger = world.set_node_power(2_000, Uuid::from_u128(7), false);
    assert_eq!(stranger.expect_err("a stranger").code(), Some(404));
}
