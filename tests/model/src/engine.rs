//! What engines do: decisions (each one commit on the database), and deeds of what was committed.
//!
//! A decision reads the world and commits in one step; between the commit and the deed anything may happen. That loses nothing: what
//! could happen between reading and committing can happen just as well right after the commit.

use crate::action::Action;
use crate::config::Config;
use crate::offer::owner;
use crate::state::*;

/// Does it. `false`: nothing came of it.
pub fn act(config: &Config, state: &mut State, action: Action) -> bool {
    decide(config, state, action) || perform(config, state, action)
}

fn decide(config: &Config, state: &mut State, action: Action) -> bool {
    match action {
        Action::Order { host, engine } => order(config, state, host as usize, engine),
        Action::OrderAgain { host } => write_order(state, host as usize),
        Action::Retire { host } => retire(config, state, host as usize),
        Action::MarkDown { host } => give(state, recovery_row(host as usize), Deed::Mark),
        Action::Reread { host } => reread(config, state, host as usize),
        Action::SkipReread { host } => {
            let row = recovery_row(host as usize);
            let owner = owner(state, row);
            state.hands[owner][row].off = true;
            state.rows.recovery[host as usize] = Recovering::Moving;
        }
        Action::Evacuate { host, guest } => evacuate(config, state, host as usize, guest),
        Action::Adopt { host, guest } => {
            state.rows.moves[host as usize][guest as usize].stage = Stage::Accepted
        }
        Action::Lapsed { host, guest } => {
            if config.guards.look_up && config.guards.lifetime {
                let gone = |travelling: &Travelling| {
                    travelling.host == host && travelling.call == Call::Evacuate(guest)
                };
                drop_calls(state, gone);
            }
            state.rows.moves[host as usize][guest as usize].stage = Stage::Idle;
        }
        Action::Follow { host, guest } => state.rows.moves[host as usize][guest as usize].stage = Stage::Idle,
        Action::Close { host } => close(config, state, host as usize),
        Action::Revoke { host } => {
            revoke(config, state, host as usize);
            state.rows.back[host as usize] = Returning::Revoked;
        }
        Action::RevokeFails { host } => {
            state.left.deaf_revokes -= 1;
            if config.guards.revoke_succeeds {
                return true;
            }
            state.rows.back[host as usize] = Returning::Revoked;
        }
        Action::Drained { host } => {
            state.machines[host as usize].offs = 0;
            drop_calls(state, |travelling| travelling.host == host);
            state.rows.back[host as usize] = Returning::Out;
        }
        Action::Admit { host } => {
            let row = &mut state.rows.host[host as usize];
            (row.admission, row.proof) = (Admission::Admitted, false);
            state.rows.back[host as usize] = Returning::Admitted;
        }
        Action::OffAgain { host } => {
            state.rows.host[host as usize].admission = Admission::Out;
            state.rows.back[host as usize] = Returning::Out;
        }
        Action::Unforce { host } => give(state, return_row(host as usize), Deed::Unforce),
        Action::In { host } => {
            let row = &mut state.rows.host[host as usize];
            (row.admission, row.this_boot) = (Admission::In, true);
            state.rows.back[host as usize] = Returning::Idle;
            (state.rows.marked[host as usize], state.rows.alive[host as usize]) = (false, false);
        }
        _ => return false,
    }
    true
}

fn give(state: &mut State, row: usize, deed: Deed) {
    let owner = owner(state, row);
    let off = state.hands[owner][row].off;
    state.hands[owner][row] = Hand { deed, off, ..Hand::default() };
}

fn order(config: &Config, state: &mut State, host: usize, engine: u8) {
    state.rows.owner[recovery_row(host)] = engine;
    state.rows.moves[host] = Default::default();
    state.rows.evacuated[host] = false;
    state.machines[host].was_off = !state.machines[host].on;
    if config.guards.return_yields {
        (state.rows.back[host], state.rows.alive[host]) = (Returning::Idle, false);
    }
    if !config.guards.fence {
        state.rows.host[host].admission = Admission::Out;
        state.rows.recovery[host] = Recovering::Marked;
        return;
    }
    if !config.guards.mark_after_proof {
        state.rows.recovery[host] = Recovering::Fencing;
        state.rows.host[host] = HostRow { admission: Admission::Out, proof: false, ..state.rows.host[host] };
        state.machines[host].same = state.machines[host].on;
        state.rows.marked[host] = true;
        return give(state, recovery_row(host), Deed::Mark);
    }
    write_order(state, host);
}

/// The off order and its intent; the host is out.
fn write_order(state: &mut State, host: usize) {
    let row = &mut state.rows.host[host];
    (row.admission, row.proof) = (Admission::Out, false);
    state.rows.recovery[host] = Recovering::Fencing;
    state.machines[host].same = state.machines[host].on;
    let row = recovery_row(host);
    let owner = owner(state, row);
    state.hands[owner][row].off = false;
    give(state, row, Deed::Off);
}

fn retire(config: &Config, state: &mut State, host: usize) {
    state.rows.recovery[host] = Recovering::Idle;
    if state.rows.marked[host] {
        // What was set in Nova is undone on the road that every returning host takes.
        (state.rows.back[host], state.rows.alive[host]) = (Returning::Draining, true);
        state.rows.owner[return_row(host)] = state.rows.owner[recovery_row(host)];
        return;
    }
    state.rows.host[host].admission = Admission::In;
    if config.guards.retire_drains {
        revoke(config, state, host);
        state.machines[host].offs = 0;
        drop_calls(state, |travelling| travelling.host as usize == host);
    } else {
        give(state, recovery_row(host), Deed::Revoke);
    }
}

/// Sessions die, with whatever travels on them and whatever was about to.
fn revoke(config: &Config, state: &mut State, host: usize) {
    if !config.guards.sessions {
        return;
    }
    state.machines[host].offs = 0;
    for hands in &mut state.hands {
        let hand = &mut hands[recovery_row(host)];
        if hand.deed == Deed::Off && hand.phase == Phase::Checked {
            *hand = Hand::default();
        }
    }
}

fn drop_calls(state: &mut State, gone: impl Fn(&Travelling) -> bool) {
    for travelling in &mut state.calls {
        if travelling.call != Call::None && gone(travelling) {
            crate::world::gives_up_waiting(&mut state.hands, travelling.waits);
            *travelling = Travelling::default();
        }
    }
    state.sort_calls();
}

fn reread(config: &Config, state: &mut State, host: usize) {
    let row = recovery_row(host);
    let owner = owner(state, row);
    if state.machines[host].on && config.guards.fence {
        forget(state, owner, row..row + 1);
        if state.rows.evacuated[host] {
            return write_order(state, host);
        }
        // Nothing was moved yet: the same as an order found open.
        state.rows.host[host].proof = false;
        state.rows.recovery[host] = Recovering::Fencing;
        return;
    }
    state.hands[owner][row].off = true;
    state.rows.recovery[host] = Recovering::Moving;
}

fn evacuate(config: &Config, state: &mut State, host: usize, guest: u8) {
    let row = recovery_row(host);
    if config.guards.intent_first {
        let known = state.guests[guest as usize].count;
        state.rows.moves[host][guest as usize] = Move { stage: Stage::Sending, known };
    }
    state.rows.evacuated[host] = true;
    give(state, row, Deed::Evacuate(guest));
    if config.guards.reread {
        let owner = owner(state, row);
        state.hands[owner][row].off = false;
    }
}

fn close(config: &Config, state: &mut State, host: usize) {
    let row = recovery_row(host);
    let by = owner(state, row);
    state.hands[by][row] = Hand::default();
    state.rows.recovery[host] = Recovering::Idle;
    if state.rows.back[host] == Returning::Idle {
        state.rows.back[host] = if config.guards.drain { Returning::Draining } else { Returning::Out };
        state.rows.owner[return_row(host)] = by as u8;
    }
}

fn perform(config: &Config, state: &mut State, action: Action) -> bool {
    match action {
        Action::Crash { engine } => {
            state.left.crashes -= 1;
            forget(state, engine as usize, 0..ROWS);
        }
        Action::TakeOver { row, engine } => take_over(config, state, row as usize, engine),
        Action::Timeout { engine, row } => {
            state.left.timeouts -= 1;
            forget(state, engine as usize, row as usize..row as usize + 1);
        }
        Action::Rewind => rewind(config, state),
        Action::RevokeRetired { engine, row } => {
            revoke(config, state, row as usize / 2);
            state.hands[engine as usize][row as usize] = Hand::default();
        }
        Action::Check { engine, row } => {
            let hand = state.hands[engine as usize][row as usize];
            state.hands[engine as usize][row as usize] = match may_send(config, hand) {
                true => Hand { phase: Phase::Checked, ..hand },
                false => Hand::default(),
            };
        }
        Action::Send { engine, row } => return send(config, state, engine as usize, row as usize),
        Action::ReadCachedOff { engine, row } => {
            state.left.cached -= 1;
            read_off(config, state, engine as usize, row as usize);
        }
        Action::ReadOff { engine, row } => read_off(config, state, engine as usize, row as usize),
        Action::ReadOn { engine, row } => state.hands[engine as usize][row as usize] = Hand::default(),
        Action::TrustAnswer { engine, row } => prove(config, state, engine as usize, row as usize),
        _ => return false,
    }
    true
}

/// Memory is gone; calls that it waited for travel on.
fn forget(state: &mut State, engine: usize, rows: std::ops::Range<usize>) {
    for row in rows {
        state.hands[engine][row] = Hand::default();
        let waits = (engine * ROWS + row + 1) as u8;
        for travelling in state.calls.iter_mut().filter(|travelling| travelling.waits == waits) {
            travelling.waits = 0;
        }
    }
    state.sort_calls();
}

/// The former owner keeps its memory: it stood still, and wakes whenever it likes.
fn take_over(config: &Config, state: &mut State, row: usize, engine: u8) {
    state.left.lapses -= 1;
    let former = owner(state, row);
    state.rows.owner[row] = engine;
    state.hands[engine as usize][row] = Hand::default();
    let hand = state.hands[former][row];
    let lives_on = match hand.phase {
        Phase::Ready => hand.deed != Deed::None && may_send(config, Hand { stale: true, ..hand }),
        Phase::Checked => true,
        Phase::Sent | Phase::ReadOnce => false,
    };
    if lives_on {
        state.hands[former][row] = Hand { stale: true, off: false, ..hand };
    } else {
        forget(state, former, row..row + 1);
    }
}

/// The last look before a deed: a power-off asks the database, a call to Nova this engine's own lease.
fn may_send(config: &Config, hand: Hand) -> bool {
    let guards = &config.guards;
    let refused = match hand.deed {
        Deed::Off => guards.epoch_check,
        _ => guards.lease && guards.lapsed_is_void,
    };
    !(hand.stale && refused)
}

fn send(config: &Config, state: &mut State, engine: usize, row: usize) -> bool {
    let host = row / 2;
    let hand = state.hands[engine][row];
    if hand.phase == Phase::Ready && !may_send(config, hand) {
        state.hands[engine][row] = Hand::default();
        return true;
    }
    let call = match hand.deed {
        Deed::Off => {
            state.bad.no_intent |= !hand.stale && state.rows.recovery[host] != Recovering::Fencing;
            state.machines[host].offs = (state.machines[host].offs + 1).min(2);
            state.hands[engine][row] =
                if hand.stale { Hand::default() } else { Hand { phase: Phase::Sent, ..hand } };
            return true;
        }
        Deed::Mark => Call::Mark,
        Deed::Unforce => Call::Unforce,
        Deed::Evacuate(guest) => {
            let stage = state.rows.moves[host][guest as usize].stage;
            state.bad.no_intent |= !hand.stale && stage != Stage::Sending;
            Call::Evacuate(guest)
        }
        Deed::None | Deed::Revoke => return false,
    };
    let Some(slot) = state.free_call() else { return false };
    let waits = if hand.stale { 0 } else { (engine * ROWS + row + 1) as u8 };
    state.calls[slot] = Travelling { call, host: host as u8, waits, older: 0 };
    state.sort_calls();
    state.hands[engine][row] = if hand.stale { Hand::default() } else { Hand { phase: Phase::Sent, ..hand } };
    true
}

fn read_off(config: &Config, state: &mut State, engine: usize, row: usize) {
    if state.hands[engine][row].phase == Phase::Sent && config.guards.two_readings {
        state.hands[engine][row].phase = Phase::ReadOnce;
    } else {
        prove(config, state, engine, row);
    }
}

fn prove(config: &Config, state: &mut State, engine: usize, row: usize) {
    let host = row / 2;
    state.hands[engine][row] = Hand { off: true, ..Hand::default() };
    if state.rows.recovery[host] == Recovering::Fencing {
        state.rows.recovery[host] = Recovering::Proved;
        state.rows.host[host].proof = true;
        state.rows.marked[host] |= config.guards.proof_on_file;
    }
}

/// A call's answer came in, and was committed.
pub fn answered(state: &mut State, engine: usize, row: usize, travelling: Travelling, accepted: bool) {
    let host = row / 2;
    let hand = &mut state.hands[engine][row];
    *hand = Hand { off: hand.off, ..Hand::default() };
    match travelling.call {
        Call::None => {}
        Call::Mark if state.rows.recovery[host] == Recovering::Proved => {
            state.rows.recovery[host] = Recovering::Marked;
            state.rows.marked[host] = true;
            hand.off = false;
        }
        Call::Mark => {}
        Call::Unforce if state.rows.back[host] == Returning::Admitted => {
            state.rows.back[host] = Returning::Unforced;
        }
        Call::Unforce => {}
        Call::Evacuate(guest) => {
            let vm = &mut state.rows.moves[host][guest as usize];
            if vm.stage == Stage::Idle {
                // The intent follows the deed.
                vm.known = state.guests[guest as usize].count - u8::from(accepted);
            }
            vm.stage = if accepted { Stage::Accepted } else { Stage::Idle };
        }
    }
}

/// The database forgets its last commit. By the rule all engines forget too, and wait until whatever they had sent has arrived or died.
fn rewind(config: &Config, state: &mut State) {
    state.left.rewinds -= 1;
    let Some(before) = state.before.take() else { return };
    state.rows = *before;
    if config.guards.rewind_rule {
        for engine in 0..ENGINES {
            forget(state, engine, 0..ROWS);
        }
        drop_calls(state, |_| true);
        for machine in &mut state.machines {
            machine.offs = 0;
        }
        // Reality is read: what Nova holds forced down was marked by us.
        for host in 0..MORTAL {
            state.rows.marked[host] |= state.machines[host].forced;
        }
    }
}
