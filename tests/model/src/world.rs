//! Machines, their controllers, and Nova as NOVA.md found it. Nothing here knows the protocol.

use crate::action::Action;
use crate::config::{Config, PowerOn};
use crate::state::*;

/// What the world may do next.
pub fn offer(config: &Config, state: &State, actions: &mut Vec<Action>) {
    for host in 0..MORTAL {
        offer_host(config, state, host, actions);
    }
    for (slot, travelling) in state.calls.iter().enumerate() {
        let slot = slot as u8;
        match travelling.call {
            Call::None => {}
            Call::Mark | Call::Unforce => actions.push(Action::CallLands { slot, dest: u8::MAX }),
            Call::Evacuate(guest) => {
                let place = state.guests[guest as usize].place as usize;
                if state.machines[place].down_for_nova() {
                    let up = |host: &usize| *host != place && !state.machines[*host].down_for_nova();
                    // The scheduler errs twice about a guest, then finds the host that never fails: what it may do for ever teaches nothing.
                    let first = if state.guests[guest as usize].count < 2 { 0 } else { MORTAL };
                    for dest in (first..HOSTS).filter(up) {
                        actions.push(Action::CallLands { slot, dest: dest as u8 });
                    }
                } else {
                    actions.push(Action::CallLands { slot, dest: u8::MAX });
                }
            }
        }
    }
    for guest in 0..config.guests.len() {
        for (index, record) in state.guests[guest].all() {
            let (guest, index) = (guest as u8, index as u8);
            let dest = &state.machines[record.dst as usize];
            match record.status {
                Status::Queued => {
                    if dest.beats_to_nova() {
                        actions.push(Action::Begin { guest, record: index });
                    }
                    if state.left.failures > 0 && dest.beats_to_nova() {
                        actions.push(Action::RebuildFails { guest, record: index });
                    }
                }
                Status::Begun if dest.beats_to_nova() && dest.running >> guest & 1 == 1 => {
                    actions.push(Action::Finish { guest, record: index });
                }
                // Whatever rebuilt it there has died with its boot: Nova leaves the record as it is for ever.
                Status::Begun if dest.compute && dest.running >> guest & 1 == 0 => {
                    actions.push(Action::Settled { guest, record: index });
                }
                _ => {}
            }
        }
    }
}

fn offer_host(config: &Config, state: &State, index: usize, actions: &mut Vec<Action>) {
    let (machine, row, left) = (&state.machines[index], &state.rows.host[index], &state.left);
    let host = index as u8;
    if machine.offs > 0 {
        actions.push(Action::OffLands { host });
        if left.duplicates > 0 && machine.offs < 2 {
            actions.push(Action::Duplicate { host });
        }
    }
    if !machine.beats_to_nova() && !machine.stale {
        actions.push(Action::NovaCountsDown { host });
    }
    if machine.speaks() && row.admission == Admission::In && !row.this_boot {
        actions.push(Action::NewBootIsNumbered { host });
    }
    if machine.speaks()
        && row.admission == Admission::In
        && row.this_boot
        && !(machine.gate && machine.compute)
    {
        actions.push(Action::GateOpens { host });
    }
    let may_start = row.admission == Admission::Admitted || !config.guards.gate;
    if machine.speaks() && may_start && !machine.compute {
        actions.push(Action::ComputeStarts { host });
    }
    let on_its_way = (0..config.guests.len()).any(|guest| {
        let unfinished = |(_, record): (usize, Record)| record.status.is_unfinished() && record.dst == host;
        state.guests[guest].all().any(unfinished)
    });
    if machine.speaks()
        && row.admission == Admission::Admitted
        && machine.compute
        && !on_its_way
        && strays(config, state, index) & !machine.running != 0
    {
        actions.push(Action::StrayDestroyed { host });
    }
    if config.mortal >> index & 1 == 0 {
        return;
    }
    if left.cuts > 0 && !machine.cut && machine.on {
        actions.push(Action::Cut { host });
    }
    if left.heals > 0 && machine.cut {
        actions.push(Action::Heal { host });
    }
    if left.power_losses > 0 && machine.on {
        actions.push(Action::PowerLoss { host });
    }
    let allowed = config.power_on == PowerOn::AtAnyMoment || !machine.forced;
    if left.power_ons > 0 && !machine.on && allowed {
        actions.push(Action::PowerOn { host });
    }
}

/// Copies on a host that Nova places elsewhere.
pub fn strays(config: &Config, state: &State, host: usize) -> u8 {
    let mut placed = 0;
    for guest in 0..config.guests.len() {
        placed |= u8::from(state.guests[guest].place as usize == host) << guest;
    }
    state.machines[host].local & !placed
}

/// What is in flight was sent before this host fell silent.
fn falls_silent(state: &mut State, host: usize) {
    for travelling in state.calls.iter_mut().filter(|travelling| travelling.call != Call::None) {
        travelling.older |= 1 << host;
    }
    state.sort_calls();
}

fn goes_off(state: &mut State, host: usize) {
    if state.machines[host].beats_to_nova() {
        falls_silent(state, host);
    }
    let machine = &mut state.machines[host];
    (machine.on, machine.compute, machine.gate, machine.running) = (false, false, false, 0);
    (machine.same, machine.was_off) = (false, true);
}

/// nova-compute starts: it destroys the local copy of each guest with an evacuation record from here, and completes the done ones.
fn compute_starts(config: &Config, state: &mut State, host: usize) {
    for guest in 0..config.guests.len() {
        for index in 0..state.guests[guest].count as usize {
            let record = state.guests[guest].records[index];
            if record.src as usize != host
                || !(record.status.is_unfinished() || record.status == Status::Done)
            {
                continue;
            }
            let machine = &mut state.machines[host];
            let had = machine.local >> guest & 1 == 1;
            machine.local &= !(1 << guest);
            machine.running &= !(1 << guest);
            if had && state.guests[guest].place as usize == host {
                state.bad.lost = true;
            }
            if record.status == Status::Done {
                state.guests[guest].records[index].status = Status::Completed;
            }
        }
    }
    let machine = &mut state.machines[host];
    (machine.compute, machine.stale) = (true, false);
}

/// Does it. `false`: it was not one of the world's.
pub fn act(config: &Config, state: &mut State, action: Action) -> bool {
    match action {
        Action::Cut { host } => {
            state.left.cuts -= 1;
            if state.machines[host as usize].beats_to_nova() {
                falls_silent(state, host as usize);
            }
            state.machines[host as usize].cut = true;
        }
        Action::Heal { host } => {
            state.left.heals -= 1;
            let machine = &mut state.machines[host as usize];
            machine.cut = false;
            machine.stale &= !machine.beats_to_nova();
        }
        Action::PowerLoss { host } => {
            state.left.power_losses -= 1;
            goes_off(state, host as usize);
        }
        Action::PowerOn { host } => {
            state.left.power_ons -= 1;
            state.rows.host[host as usize].this_boot = false;
            if let Some(before) = &mut state.before {
                before.host[host as usize].this_boot = false;
            }
            let machine = &mut state.machines[host as usize];
            machine.on = true;
            if !config.guards.gate && config.autostart {
                (machine.gate, machine.running) = (true, machine.local);
            }
        }
        Action::Duplicate { host } => {
            state.left.duplicates -= 1;
            state.machines[host as usize].offs += 1;
        }
        Action::OffLands { host } => {
            let host = host as usize;
            state.machines[host].offs -= 1;
            if state.machines[host].on {
                state.bad.shot |= state.rows.host[host].admission != Admission::Out;
                goes_off(state, host);
            }
        }
        Action::CallLands { slot, dest } => call_lands(state, slot as usize, dest),
        Action::Begin { guest, record } => begin(state, guest as usize, record as usize),
        Action::Finish { guest, record } => {
            let guest = &mut state.guests[guest as usize];
            let record = &mut guest.records[record as usize];
            record.status = Status::Done;
            guest.place = record.dst;
        }
        Action::RebuildFails { guest, record } => {
            state.left.failures -= 1;
            state.guests[guest as usize].records[record as usize].status = Status::Failed;
        }
        Action::Settled { guest, record } => {
            state.guests[guest as usize].records[record as usize].status = Status::Failed;
        }
        Action::NovaCountsDown { host } => {
            state.machines[host as usize].stale = true;
            if config.guards.lifetime {
                for travelling in &mut state.calls {
                    if travelling.older >> host & 1 == 1 {
                        gives_up_waiting(&mut state.hands, travelling.waits);
                        *travelling = Travelling::default();
                    }
                }
                state.sort_calls();
            }
        }
        Action::NewBootIsNumbered { host } => state.rows.host[host as usize].this_boot = true,
        Action::GateOpens { host } => {
            let host = host as usize;
            if !state.machines[host].compute {
                compute_starts(config, state, host);
            }
            let strays = strays(config, state, host);
            let machine = &mut state.machines[host];
            machine.gate = true;
            // Nova starts what it places here; the host's own autostart whatever lies on its disk.
            machine.running |= if config.autostart { machine.local } else { machine.local & !strays };
        }
        Action::ComputeStarts { host } => compute_starts(config, state, host as usize),
        Action::StrayDestroyed { host } => {
            let stray = strays(config, state, host as usize);
            let machine = &mut state.machines[host as usize];
            machine.local &= !(stray & !machine.running);
        }
        _ => return false,
    }
    true
}

/// The client's time is over: whoever waited knows nothing.
pub fn gives_up_waiting(hands: &mut [[Hand; ROWS]; ENGINES], waits: u8) {
    if let Some(index) = waits.checked_sub(1) {
        let (engine, row) = (index as usize / ROWS, index as usize % ROWS);
        let off = hands[engine][row].off;
        hands[engine][row] = Hand { off, ..Hand::default() };
    }
}

fn call_lands(state: &mut State, slot: usize, dest: u8) {
    let travelling = std::mem::take(&mut state.calls[slot]);
    let host = travelling.host as usize;
    let accepted = match travelling.call {
        Call::None => return,
        Call::Mark => {
            let machine = &mut state.machines[host];
            state.bad.marked_alive |= machine.running != 0 && !machine.was_off;
            state.bad.marked_alive |= state.rows.host[host].admission == Admission::In;
            machine.forced = true;
            true
        }
        Call::Unforce => {
            state.machines[host].forced = false;
            true
        }
        Call::Evacuate(_) if dest == u8::MAX => false,
        Call::Evacuate(index) => {
            let guest = &mut state.guests[index as usize];
            let live = |record: &Record| {
                record.status.is_unfinished() && state.machines[record.dst as usize].compute
            };
            if guest.newest().as_ref().is_some_and(live) {
                state.bad.damaged = true;
            }
            if guest.count as usize == RECORDS {
                state.bad.overflow = true;
            } else {
                guest.records[guest.count as usize] =
                    Record { src: guest.place, dst: dest, status: Status::Queued };
                guest.count += 1;
            }
            true
        }
    };
    if let Some(index) = travelling.waits.checked_sub(1) {
        let (engine, row) = (index as usize / ROWS, index as usize % ROWS);
        crate::engine::answered(state, engine, row, travelling, accepted);
    }
    state.sort_calls();
}

/// The destination takes a rebuild from its queue. Nova's task state lets one rebuild of a guest begin; a second one spoils both.
fn begin(state: &mut State, index: usize, record: usize) {
    let guest = &mut state.guests[index];
    let newest = record + 1 == guest.count as usize;
    let open = guest.newest().is_some_and(|record| record.status == Status::Queued);
    if newest {
        let dest = guest.records[record].dst as usize;
        guest.records[record].status = Status::Begun;
        state.machines[dest].running |= 1 << index;
        state.machines[dest].local |= 1 << index;
    } else {
        state.bad.damaged |= open;
        guest.records[record].status = Status::Failed;
    }
}
