//! A seed is deterministic, and quiet time is free. No clock is read: the work done is counted.

use super::force_down;
use crate::fault::Fault;
use crate::spec::WorldSpec;
use crate::world::World;

fn ten_minutes(seed: u64) -> (World, u64) {
    let mut world = World::new(WorldSpec::spread(8, 60).seeded(seed));
    world.inject(30_000, Fault::HostPowerLoss { host: "cmp-03".into(), with_bmc: false });
    force_down(&mut world, 31_000, "cmp-03", true);
    for id in world.guests_placed_on("cmp-03") {
        world.evacuate(32_000, id, None, 94).answer.expect("accepted");
    }
    let mut steps = 0;
    while let Some(next) = world.next_due().filter(|next| *next <= 600_000) {
        world.advance(next);
        steps += 1;
    }
    world.advance(600_000);
    (world, steps)
}

#[test]
fn a_seed_means_the_same_world() {
    let (first, _) = ten_minutes(7);
    let (again, _) = ten_minutes(7);
    let (other, _) = ten_minutes(8);
    assert_eq!(first.history(), again.history());
    assert_ne!(first.history(), other.history());
}

#[test]
fn ten_minutes_take_a_few_dozen_steps() {
    let (world, steps) = ten_minutes(1);
    assert!(steps < 100, "{steps}");
    assert!(world.guests_placed_on("cmp-03").is_empty());
}
