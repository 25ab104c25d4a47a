//! The world judged against what was seen on a real Nova 34, one test per behaviour.

mod bmc;
mod evacuation;
mod failures;
mod hosts;
mod ironic;
mod services;
mod speed;
mod supply;

use super::World;
use crate::fault::Fault;
use crate::model::{MigrationFilter, Server, VmState};
use crate::spec::{GuestSpec, WorldSpec};
use uuid::Uuid;

/// Two guests on each of four hosts.
fn world() -> World {
    World::new(WorldSpec::spread(4, 8))
}

/// A world whose first host has lost power and been forced down, and its two guests.
fn dead_host() -> (World, Vec<Uuid>) {
    let mut world = world();
    let guests = world.guests_placed_on("cmp-01");
    world.inject(1_000, Fault::HostPowerLoss { host: "cmp-01".into(), with_bmc: false });
    force_down(&mut world, 1_000, "cmp-01", true);
    (world, guests)
}

fn force_down(world: &mut World, now: u64, host: &str, value: bool) {
    let put = crate::ServicePut { forced_down: Some(value), ..crate::ServicePut::default() };
    let id = world.service_id(host);
    world.put_service(now, id, &put).answer.expect("force-down");
}

/// Lets everything happen that is due within `ms`.
fn pass(world: &mut World, ms: u64) -> u64 {
    let now = world.now() + ms;
    world.advance(now);
    now
}

fn show(world: &mut World, id: Uuid) -> Server {
    let now = world.now();
    world.server(now, id).answer.expect("server")
}

/// Status words of the guest's migrations, oldest first.
fn statuses(world: &mut World, id: Uuid) -> Vec<String> {
    let now = world.now();
    let filter = MigrationFilter { instance: Some(id), ..MigrationFilter::default() };
    let found = world.migrations(now, &filter).answer.expect("migrations");
    found.into_iter().rev().map(|it| it.status).collect()
}

/// The events of the guest's newest action: name and outcome.
fn events(world: &mut World, id: Uuid) -> Vec<(String, Option<bool>)> {
    let now = world.now();
    let actions = world.instance_actions(now, id).answer.expect("actions");
    actions[0].events.iter().map(|it| (it.event.clone(), it.success)).collect()
}

fn guest(world: &mut World, host: &str, vm_state: VmState) -> Uuid {
    let now = world.now();
    world.add_guest(now, GuestSpec { vm_state, ..GuestSpec::active("extra", host) })
}
