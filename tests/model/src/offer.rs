//! What engines may do next: the conditions under which the protocol decides, and under which a deed goes out.

use crate::action::Action;
use crate::config::Config;
use crate::state::*;
use crate::world::strays;

/// What engines may do next.
pub fn offer(config: &Config, state: &State, actions: &mut Vec<Action>) {
    for host in 0..MORTAL {
        offer_order(config, state, host, actions);
        offer_recovery(config, state, host, actions);
        offer_return(config, state, host, actions);
    }
    for engine in 0..config.engines {
        for row in 0..ROWS as u8 {
            offer_deed(config, state, engine, row, actions);
        }
        let remembers = |hand: &Hand| *hand != Hand::default();
        if state.left.crashes > 0 && state.hands[engine as usize].iter().any(remembers) {
            actions.push(Action::Crash { engine });
        }
    }
    for row in 0..ROWS {
        let host = row / 2;
        let open = if row.is_multiple_of(2) {
            state.rows.recovery[host] != Recovering::Idle
        } else {
            state.rows.back[host] != Returning::Idle
        };
        if open && state.left.lapses > 0 {
            for engine in (0..config.engines).filter(|engine| *engine != state.rows.owner[row]) {
                actions.push(Action::TakeOver { row: row as u8, engine });
            }
        }
    }
    if state.left.rewinds > 0 && state.before.as_deref().is_some_and(|before| *before != state.rows) {
        actions.push(Action::Rewind);
    }
}

pub(crate) fn owner(state: &State, row: usize) -> usize {
    state.rows.owner[row] as usize
}

fn hand_of(state: &State, row: usize) -> Hand {
    state.hands[owner(state, row)][row]
}

fn is_free(state: &State, row: usize) -> bool {
    hand_of(state, row).deed == Deed::None
}

fn offer_order(config: &Config, state: &State, index: usize, actions: &mut Vec<Action>) {
    let (machine, rows, host) = (&state.machines[index], &state.rows, index as u8);
    let has_guests = state.guests[..config.guests.len()].iter().any(|guest| {
        let comes = |(_, record): (usize, Record)| record.dst == host && record.status.is_unfinished();
        guest.place == host || guest.all().any(comes)
    });
    let returns_with_guests = has_guests && rows.back[index] != Returning::Idle;
    let judged = rows.recovery[index] == Recovering::Idle
        && !machine.speaks()
        && (rows.host[index].admission != Admission::Out
            || returns_with_guests && config.guards.return_is_judged)
        && config.mortal >> index & 1 == 1;
    if !judged {
        return;
    }
    // The first to judge is engine 0: until then engines are alike.
    let untouched = *rows == Rows { host: rows.host, ..Rows::default() };
    for engine in 0..if untouched { 1 } else { config.engines } {
        if state.hands[engine as usize][recovery_row(index)].deed == Deed::None {
            actions.push(Action::Order { host, engine });
        }
    }
}

/// Whether the guest may run on a host that is neither the dead one nor proved off.
fn may_run_elsewhere(config: &Config, state: &State, host: usize, guest: usize) -> bool {
    config.guards.may_run_on
        && state.guests[guest].all().any(|(_, record)| {
            let dest = record.dst as usize;
            record.status.is_unfinished() && dest != host && !is_proved(config, state, dest)
        })
}

/// An old rebuild of the guest waits for this host, and the guest was sent elsewhere since, or is being sent.
fn is_sent_again(state: &State, index: usize, host: usize) -> bool {
    let guest = &state.guests[index];
    guest.all().any(|(at, record)| {
        let rebuilt = at + 1 < guest.count as usize
            && guest.newest().is_some_and(|newest| newest.status.is_unfinished());
        let sent = state
            .rows
            .moves
            .iter()
            .any(|moves| moves[index].stage != Stage::Idle && moves[index].known as usize > at);
        record.dst as usize == host && record.status.is_unfinished() && (rebuilt || sent)
    })
}

/// Proved off, and known as down to Nova, whose scheduler might choose it once more otherwise.
fn is_proved(config: &Config, state: &State, host: usize) -> bool {
    let marked = state.machines[host].forced || !config.guards.resend_after_mark;
    host < MORTAL && state.rows.host[host].proof && marked
}

/// The record that the intent of this move stands behind.
fn ours(state: &State, host: usize, guest: usize) -> Option<Record> {
    let known = state.rows.moves[host][guest].known;
    state.guests[guest].newest().filter(|_| state.guests[guest].count > known)
}

fn offer_recovery(config: &Config, state: &State, index: usize, actions: &mut Vec<Action>) {
    let row = recovery_row(index);
    let (machine, host, hand) = (&state.machines[index], index as u8, hand_of(state, row));
    let recovery = state.rows.recovery[index];
    // Life is seen while the call is on its way, too.
    let marking = hand.deed == Deed::Mark && hand.phase == Phase::Sent;
    if recovery == Recovering::Proved && machine.on && (hand.deed == Deed::None || marking) {
        actions.push(Action::Reread { host });
    }
    if hand.deed != Deed::None {
        return;
    }
    match recovery {
        Recovering::Idle => {}
        Recovering::Fencing => {
            if machine.speaks() && machine.same && !state.rows.evacuated[index] {
                actions.push(Action::Retire { host });
            } else if machine.offs < 2 {
                actions.push(Action::OrderAgain { host });
            }
        }
        Recovering::Proved => actions.push(Action::MarkDown { host }),
        Recovering::Marked if config.guards.reread => actions.push(Action::Reread { host }),
        Recovering::Marked => actions.push(Action::SkipReread { host }),
        Recovering::Moving => offer_moves(config, state, index, hand, actions),
    }
}

fn offer_moves(config: &Config, state: &State, index: usize, hand: Hand, actions: &mut Vec<Action>) {
    let host = index as u8;
    let mut waiting = false;
    let mut open = false;
    for guest in 0..config.guests.len() {
        let vm = state.rows.moves[index][guest];
        let here = state.guests[guest].place as usize == index;
        let guest_u8 = guest as u8;
        open |= vm.stage != Stage::Idle || here;
        match vm.stage {
            Stage::Idle if here => {
                waiting = true;
                if hand.off && !may_run_elsewhere(config, state, index, guest) {
                    actions.push(Action::Evacuate { host, guest: guest_u8 });
                }
            }
            Stage::Idle => {}
            Stage::Sending if config.guards.look_up && ours(state, index, guest).is_some() => {
                actions.push(Action::Adopt { host, guest: guest_u8 });
            }
            Stage::Sending => actions.push(Action::Lapsed { host, guest: guest_u8 }),
            Stage::Accepted => {
                let over = ours(state, index, guest).is_none_or(|record| {
                    !record.status.is_unfinished()
                        || is_proved(config, state, record.dst as usize)
                        || !config.guards.may_run_on
                });
                if over {
                    actions.push(Action::Follow { host, guest: guest_u8 });
                }
            }
        }
    }
    if waiting && !hand.off {
        actions.push(if config.guards.reread {
            Action::Reread { host }
        } else {
            Action::SkipReread { host }
        });
    }
    if !open {
        actions.push(Action::Close { host });
    }
}

fn offer_return(config: &Config, state: &State, index: usize, actions: &mut Vec<Action>) {
    let (row, host, machine) = (return_row(index), index as u8, &state.machines[index]);
    if !is_free(state, row) {
        return;
    }
    match state.rows.back[index] {
        Returning::Idle => {}
        Returning::Draining => {
            actions.push(Action::Revoke { host });
            if state.left.deaf_revokes > 0 {
                actions.push(Action::RevokeFails { host });
            }
        }
        Returning::Revoked => actions.push(Action::Drained { host }),
        Returning::Out => {
            let coming = (0..config.guests.len()).any(|guest| is_sent_again(state, guest, index));
            let live = (0..config.guests.len()).any(|guest| {
                let guest = &state.guests[guest];
                let open = |record: Record| record.status.is_unfinished() || record.status == Status::Done;
                guest.place as usize == index
                    && guest.all().any(|(_, record)| record.src as usize == index && open(record))
            });
            let blocked = coming && config.guards.dest_records || live && config.guards.live_records;
            if machine.on && (!machine.same || state.rows.alive[index]) && !blocked {
                actions.push(Action::Admit { host });
            }
        }
        Returning::Admitted | Returning::Unforced if !machine.on => actions.push(Action::OffAgain { host }),
        Returning::Admitted => {
            let open = (0..config.guests.len()).any(|guest| {
                state.guests[guest].all().any(|(_, record)| {
                    record.src as usize == index
                        && (record.status.is_unfinished() || record.status == Status::Done)
                })
            });
            let stray = config.guards.strays && strays(config, state, index) != 0;
            if machine.beats_to_nova() && !open && !stray {
                actions.push(Action::Unforce { host });
            }
        }
        Returning::Unforced => {}
    }
    // What it knows of power may be seconds old.
    if state.rows.back[index] == Returning::Unforced && (machine.on || !config.guards.return_yields) {
        actions.push(Action::In { host });
    }
}

fn offer_deed(config: &Config, state: &State, engine: u8, row: u8, actions: &mut Vec<Action>) {
    let hand = state.hands[engine as usize][row as usize];
    let machine = &state.machines[row as usize / 2];
    let is_call = matches!(hand.deed, Deed::Mark | Deed::Evacuate(_) | Deed::Unforce);
    match (hand.deed, hand.phase) {
        (Deed::None, _) => {}
        (Deed::Revoke, _) => actions.push(Action::RevokeRetired { engine, row }),
        (_, Phase::Ready) => {
            let pauses = if is_call { config.pause_before_call } else { config.pause_before_off };
            if pauses {
                actions.push(Action::Check { engine, row });
            } else {
                actions.push(Action::Send { engine, row });
            }
        }
        (_, Phase::Checked) => actions.push(Action::Send { engine, row }),
        (Deed::Off, Phase::Sent | Phase::ReadOnce) => {
            if !config.guards.verify_off {
                return actions.push(Action::TrustAnswer { engine, row });
            }
            if machine.on {
                actions.push(Action::ReadOn { engine, row });
                if state.left.cached > 0 {
                    actions.push(Action::ReadCachedOff { engine, row });
                }
            } else {
                actions.push(Action::ReadOff { engine, row });
            }
        }
        (_, Phase::Sent | Phase::ReadOnce) => {
            if state.left.timeouts > 0 {
                actions.push(Action::Timeout { engine, row });
            }
        }
    }
}
