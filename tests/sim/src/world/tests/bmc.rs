//! BMCs that obey, and those that do not.

use super::{pass, world};
use crate::fault::{BmcFault, Fault};
use crate::model::Power;
use crate::reply::BmcRefusal;
use crate::world::{BmcSession, World};

fn open(world: &mut World, now: u64) -> BmcSession {
    let (user, password) = world.bmc_credentials("cmp-01");
    world.bmc_open(now, "cmp-01", &user, &password).answer.expect("session")
}

fn fault(world: &mut World, now: u64, fault: BmcFault) {
    world.inject(now, Fault::Bmc { host: "cmp-01".into(), fault });
}

fn read(world: &mut World, now: u64, session: BmcSession) -> Result<Power, BmcRefusal> {
    world.bmc_read(now, "cmp-01", session).answer
}

#[test]
fn off_takes_its_time_and_ends_the_guests() {
    let mut world = world();
    let guest = world.guests_placed_on("cmp-01")[0];
    let session = open(&mut world, 1_000);
    world.bmc_off(1_000, "cmp-01", session).answer.unwrap();
    assert_eq!(read(&mut world, 1_100, session), Ok(Power::On));
    assert_eq!(read(&mut world, 1_500, session), Ok(Power::Off));
    assert!(world.running_on(guest).is_empty());
    world.bmc_on(2_000, "cmp-01", session).answer.unwrap();
    pass(&mut world, 60_000);
    assert!(world.is_alive("cmp-01"));
}

#[test]
fn orders_are_counted_once_obeyed_refused_or_ignored() {
    let mut world = world();
    let session = open(&mut world, 1_000);
    world.bmc_off(1_000, "cmp-01", session).answer.unwrap();
    fault(&mut world, 2_000, BmcFault::AckNoOff);
    world.bmc_off(2_000, "cmp-01", session).answer.unwrap();
    fault(&mut world, 3_000, BmcFault::Busy(1));
    assert_eq!(world.bmc_on(3_000, "cmp-01", session).answer, Err(BmcRefusal::Busy));
    assert_eq!((world.power_orders("cmp-01"), world.power_orders("cmp-02")), (3, 0));
}

#[test]
fn the_button_asks_no_bmc() {
    let mut world = world();
    world.press(1_000, "cmp-01", false);
    assert!(!world.is_powered("cmp-01"));
    world.press(2_000, "cmp-01", true);
    assert!(world.is_powered("cmp-01"));
    assert_eq!(world.power_orders("cmp-01"), 0);
}

#[test]
fn off_ends_a_hang_for_good() {
    let mut world = world();
    let guest = world.guests_placed_on("cmp-01")[0];
    world.inject(1_000, Fault::HostHang { host: "cmp-01".into(), for_ms: Some(60_000) });
    let session = open(&mut world, 2_000);
    world.bmc_off(2_000, "cmp-01", session).answer.unwrap();
    pass(&mut world, 120_000);
    assert!(world.may_run_on(guest).is_empty());
    assert!(!world.is_alive("cmp-01"));
}

#[test]
fn credentials_and_sessions_are_checked() {
    let mut world = world();
    let (user, password) = world.bmc_credentials("cmp-01");
    let wrong = world.bmc_open(1, "cmp-01", &user, "no").answer;
    assert_eq!(wrong, Err(BmcRefusal::BadCredentials));
    let session = open(&mut world, 1);
    fault(&mut world, 2, BmcFault::WrongPassword);
    assert_eq!(world.bmc_open(3, "cmp-01", &user, &password).answer, Err(BmcRefusal::BadCredentials));
    assert_eq!(read(&mut world, 3, session), Ok(Power::On));
    fault(&mut world, 4, BmcFault::ForgetSessions);
    assert_eq!(read(&mut world, 5, session), Err(BmcRefusal::SessionGone));
    fault(&mut world, 6, BmcFault::Healed);
    let session = open(&mut world, 7);
    world.bmc_close(8, "cmp-01", session).answer.unwrap();
    assert_eq!(read(&mut world, 9, session), Err(BmcRefusal::SessionGone));
}

#[test]
fn liars_lie() {
    let mut world = world();
    let session = open(&mut world, 1);
    fault(&mut world, 2, BmcFault::AckNoOff);
    world.bmc_off(3, "cmp-01", session).answer.unwrap();
    pass(&mut world, 5_000);
    assert!(world.is_powered("cmp-01"));
    fault(&mut world, 6_000, BmcFault::LieOff);
    assert_eq!(read(&mut world, 6_000, session), Ok(Power::Off));
    fault(&mut world, 6_000, BmcFault::Healed);
    fault(&mut world, 6_000, BmcFault::LieOn);
    world.bmc_off(6_000, "cmp-01", session).answer.unwrap();
    let now = pass(&mut world, 5_000);
    assert_eq!(read(&mut world, now, session), Ok(Power::On));
    assert!(!world.is_powered("cmp-01"));
}

#[test]
fn a_swapped_cable_shows_and_switches_the_other_machine() {
    let mut world = world();
    fault(&mut world, 1, BmcFault::WrongMachine("cmp-02".into()));
    let session = open(&mut world, 2);
    let identity = world.bmc_identity(2, "cmp-01", session).answer.unwrap();
    assert_eq!(identity.serial, world.host("cmp-02").serial);
    world.bmc_off(3, "cmp-01", session).answer.unwrap();
    pass(&mut world, 5_000);
    assert!(world.is_powered("cmp-01") && !world.is_powered("cmp-02"));
}

#[test]
fn silence_busy_slowness_and_a_will_of_its_own() {
    let mut world = world();
    let session = open(&mut world, 1);
    fault(&mut world, 2, BmcFault::Busy(2));
    for _ in 0..2 {
        assert_eq!(read(&mut world, 3, session), Err(BmcRefusal::Busy));
    }
    assert_eq!(read(&mut world, 3, session), Ok(Power::On));
    fault(&mut world, 4, BmcFault::SlowOff(10_000));
    fault(&mut world, 4, BmcFault::AutoOn(3_000));
    world.bmc_off(5, "cmp-01", session).answer.unwrap();
    assert_eq!(read(&mut world, 10_004, session), Ok(Power::On));
    assert_eq!(read(&mut world, 10_006, session), Ok(Power::Off));
    assert_eq!(read(&mut world, 13_006, session), Ok(Power::On));
    fault(&mut world, 14_000, BmcFault::Hang);
    assert_eq!(read(&mut world, 14_001, session), Err(BmcRefusal::Silence));
    fault(&mut world, 15_000, BmcFault::Healed);
    fault(&mut world, 15_000, BmcFault::DropAnswer);
    assert_eq!(world.bmc_off(15_001, "cmp-01", session).answer, Err(BmcRefusal::Silence));
    pass(&mut world, 1_000);
    assert!(!world.is_powered("cmp-01"));
}

#[test]
fn a_dark_bmc_is_silent_and_one_of_its_own_supply_is_not() {
    for with_bmc in [true, false] {
        let mut world = world();
        let session = open(&mut world, 1);
        world.inject(2, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc });
        let expected = if with_bmc { Err(BmcRefusal::Silence) } else { Ok(Power::Off) };
        assert_eq!(read(&mut world, 3, session), expected);
    }
}
