//! What must be true after any crash: read from the cloud's own history and from the tables, knowing nothing of the engine.

use std::collections::{BTreeMap, BTreeSet};

use halberd_core::host::{Admission, Host};
use halberd_core::notification::{Notification, NotificationStatus};
use halberd_core::recovery::{Recovery, StateWord, Vmove};
use halberd_sim::shell::Cloud;
use halberd_sim::{RestorePolicy, VmState, What, World};
use halberd_store::deliveries::DeliveryState;
use halberd_store::events::EventRow;
use halberd_store::intents::IntentRow;
use halberd_store::{Db, Page, audit, deliveries, events, hosts, intents, notifications, recoveries, vmoves};
use uuid::Uuid;

use super::scripts::{RESERVED, STRUCK, Script};

/// What is stored, as far as it is judged.
#[derive(Debug)]
pub struct Tables {
    pub recoveries: Vec<Recovery>,
    pub reports: Vec<Notification>,
    pub undelivered: usize,
}

impl Tables {
    /// What tells whether it is over.
    pub async fn read(db: &Db) -> halberd_store::Result<Tables> {
        let page = Page::default();
        let all = recoveries::list(db, &recoveries::RecoveryFilter::default(), &page).await?;
        let reports = notifications::list(db, &notifications::NotificationFilter::default(), &page).await?;
        let pending = deliveries::list(db, None, Some(DeliveryState::Pending), 1_000).await?;
        Ok(Tables {
            recoveries: all.into_iter().map(|(_, row)| row).collect(),
            reports: reports.into_iter().map(|row| row.value).collect(),
            undelivered: pending.len(),
        })
    }

    /// In one line, for a run that did not end.
    pub fn tell(&self) -> String {
        let told = self.recoveries.iter().map(|row| {
            format!("{} {} (epoch {}): {}", row.subject.kind(), row.word(), row.epoch, row.reason)
        });
        let reports = self.reports.iter().map(|row| format!("report {}", row.status));
        let told: Vec<String> = told.chain(reports).collect();
        format!("{}; {} undelivered", told.join(" | "), self.undelivered)
    }
}

/// How a guest stood before.
#[derive(Clone, Copy, Debug)]
pub struct Guest {
    pub id: Uuid,
    pub state: VmState,
}

/// Everything to judge one run by.
#[derive(Debug)]
pub struct Ended<'a> {
    pub script: Script,
    pub cloud: &'a Cloud,
    pub db: &'a Db,
    /// Of the struck host, before anything happened.
    pub guests: &'a [Guest],
    /// Ids of the messages that reached the receiver.
    pub delivered: Vec<String>,
    /// Reports that were acknowledged.
    pub acknowledged: usize,
}

/// All that is wrong, in words.
pub async fn judge(ended: &Ended<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let tables = Tables::read(ended.db).await.expect("the tables can be read");
    let host = hosts::by_name(ended.db, STRUCK).await.expect("readable").expect("it is there").value;
    world(ended, &mut found);
    reports(ended, &tables, &mut found);
    host_row(ended.script, &host, &mut found);
    open_keys(&tables, &mut found);
    for recovery in &tables.recoveries {
        let intents = intents::of_recovery(ended.db, recovery.id).await.expect("readable");
        let moves = vmoves::of_recovery(ended.db, recovery.id).await.expect("readable");
        let events = events::of_recovery(ended.db, recovery.id).await.expect("readable");
        intents_of(recovery, &intents, &mut found);
        moves_of(ended, recovery, &moves, &mut found);
        events_of(ended, recovery, &events, &mut found);
        calls(ended, recovery, &intents, &mut found);
    }
    for broken in audit::verify(ended.db).await.expect("readable") {
        found.push(format!("I31: {broken:?}"));
    }
    found
}

/// I10, I9, I1, and where each guest is: the cloud's own account.
fn world(ended: &Ended<'_>, found: &mut Vec<String>) {
    let world = ended.cloud.world();
    for double in world.double_runs() {
        found.push(format!("I10: guest {} ran on {:?} at {} ms", double.guest, double.hosts, double.at));
    }
    for deed in world.history() {
        match &deed.what {
            What::EvacuateAccepted { guest, held_by, .. } if !held_by.is_empty() => {
                found.push(format!("I1: {guest} was evacuated while {held_by:?} held it"));
            }
            What::DoubleEvacuation { guest } => {
                found.push(format!("I9: a second evacuation of {guest} met the first"))
            }
            What::OffOrdered { bmc, machine } | What::OnOrdered { bmc, machine }
                if bmc != STRUCK || machine != STRUCK =>
            {
                found.push(format!("a power order reached {machine} through the BMC of {bmc}"));
            }
            What::ForcedDown { host, .. } if host != STRUCK => {
                found.push(format!("forced_down of {host} was set"))
            }
            What::Disabled { host, value: true } if host != STRUCK => {
                found.push(format!("{host} was disabled"))
            }
            _ => {}
        }
    }
    let policy = world.host(STRUCK).restore_policy;
    if ended.script.noted_before() && policy != RestorePolicy::AlwaysOn {
        found.push(format!("the controller of {STRUCK} was left with the restore policy {policy:?}"));
    }
    let moved = matches!(ended.script, Script::Death | Script::Reserved | Script::Damaged);
    for guest in ended.guests {
        let accepted = world.evacuate_calls(guest.id).iter().filter(|(_, accepted)| *accepted).count();
        if accepted != usize::from(moved) {
            found.push(format!("guest {} was evacuated {accepted} times", guest.id));
        }
        if world.is_locked(guest.id) {
            found.push(format!("guest {} is still locked", guest.id));
        }
        place(ended.script, &world, guest, moved, found);
    }
    let forced: Vec<bool> = puts(&world, |what| match what {
        What::ForcedDown { host, value } if host == STRUCK => Some(*value),
        _ => None,
    });
    let disabled: Vec<bool> = puts(&world, |what| match what {
        What::Disabled { host, value } if host == STRUCK => Some(*value),
        _ => None,
    });
    let (down, out) = match ended.script {
        Script::Death => (Some(false), Some(false)),
        Script::Reserved | Script::Damaged => (Some(true), Some(true)),
        Script::Process => (None, Some(true)),
        Script::Guests | Script::Resized | Script::Hooked => (None, None),
        // An order may be retired before or after the mark; then that is undone.
        Script::Retired => (forced.last().map(|_| false), disabled.last().map(|_| false)),
    };
    if forced.last().copied() != down || disabled.last().copied() != out {
        found.push(format!("Nova was told forced_down {forced:?} and disabled {disabled:?} of {STRUCK}"));
    }
}

fn puts(world: &World, of: impl Fn(&What) -> Option<bool>) -> Vec<bool> {
    world.history().iter().filter_map(|deed| of(&deed.what)).collect()
}

/// Each guest runs once where it should, or not at all if it did not run before.
fn place(script: Script, world: &World, guest: &Guest, moved: bool, found: &mut Vec<String>) {
    let at = world.running_on(guest.id);
    let runs = matches!(guest.state, VmState::Active | VmState::Resized);
    if at.len() != usize::from(runs) {
        found.push(format!("guest {} ({:?} before) runs on {at:?}", guest.id, guest.state));
    }
    let here = at.first().is_none_or(|host| host == STRUCK);
    if runs && here == moved {
        found.push(format!("guest {} runs on {at:?}", guest.id));
    }
    if script == Script::Reserved && at.first().is_none_or(|host| host != RESERVED) {
        found.push(format!("guest {} was to go to {RESERVED} and runs on {at:?}", guest.id));
    }
    if moved && world.guests_placed_on(STRUCK).contains(&guest.id) {
        found.push(format!("Nova still places guest {} on {STRUCK}", guest.id));
    }
}

/// I27: what was acknowledged is there, and has its end.
fn reports(ended: &Ended<'_>, tables: &Tables, found: &mut Vec<String>) {
    let callers =
        tables.reports.iter().filter(|row| row.origin == halberd_core::notification::Origin::Caller);
    if callers.clone().count() != ended.acknowledged {
        found.push(format!("I27: {} reports of {} are stored", callers.count(), ended.acknowledged));
    }
    let cancelled = tables.recoveries.iter().any(|row| row.word() == StateWord::Cancelled);
    for report in &tables.reports {
        let fits = match report.status {
            NotificationStatus::Finished => true,
            NotificationStatus::Ignored => cancelled && ended.script == Script::Retired,
            _ => false,
        };
        if !fits {
            found.push(format!("the report ended as {} ({:?})", report.status, report.message));
        }
    }
}

fn host_row(script: Script, host: &Host, found: &mut Vec<String>) {
    let (admission, ours) = match script {
        Script::Reserved | Script::Damaged => (Admission::Out, true),
        Script::Process => (Admission::In, true),
        _ => (Admission::In, false),
    };
    if host.admission != admission {
        found.push(format!("{STRUCK} is {}", host.admission));
    }
    if !ours && (host.maintenance.any() || host.set_by_us != Default::default()) {
        found
            .push(format!("{:?} and {:?} are left on the row of {STRUCK}", host.maintenance, host.set_by_us));
    }
}

/// I4.
fn open_keys(tables: &Tables, found: &mut Vec<String>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for row in &tables.recoveries {
        *seen.entry(row.subject.open_key()).or_default() += 1;
    }
    for (key, count) in seen.into_iter().filter(|(_, count)| *count > 1) {
        found.push(format!("{count} recoveries were opened for {key}: one failure, one recovery"));
    }
}

/// I5, I6, I8, I13.
fn intents_of(recovery: &Recovery, rows: &[IntentRow], found: &mut Vec<String>) {
    let kind = recovery.subject.kind();
    for row in rows {
        if !recovery.is_open() && row.resolved_at.is_none() {
            found.push(format!("I13: an intent {} of the closed {kind} recovery is open", row.intent.effect));
        }
        if row.intent.epoch > recovery.epoch {
            found.push(format!(
                "I6: an intent of epoch {} in a recovery of {}",
                row.intent.epoch, recovery.epoch
            ));
        }
    }
    let mut epochs: Vec<(i64, i64)> = rows.iter().map(|row| (row.created_at.0, row.intent.epoch)).collect();
    epochs.sort_unstable();
    if epochs.windows(2).any(|pair| pair[0].1 > pair[1].1) {
        found.push(format!("I5: an older owner wrote after a younger one in the {kind} recovery"));
    }
    let held: Vec<&String> = rows.iter().filter_map(|row| row.intent.open_key.as_ref()).collect();
    if held.iter().collect::<BTreeSet<_>>().len() != held.len() {
        found.push(format!("I8: {held:?}"));
    }
}

/// I7: nothing reached Nova or a BMC more often than it was intended.
fn calls(ended: &Ended<'_>, recovery: &Recovery, rows: &[IntentRow], found: &mut Vec<String>) {
    if recovery.subject.kind() != "host" {
        return;
    }
    let world = ended.cloud.world();
    let called: usize = ended.guests.iter().map(|guest| world.evacuate_calls(guest.id).len()).sum();
    let intended = rows.iter().filter(|row| row.intent.effect == "evacuate").count();
    if called > intended {
        found.push(format!("I7: {called} evacuate calls with {intended} intents"));
    }
}

/// I24.
fn moves_of(ended: &Ended<'_>, recovery: &Recovery, moves: &[Vmove], found: &mut Vec<String>) {
    if recovery.subject.kind() != "host" || ended.script == Script::Retired {
        return;
    }
    for guest in ended.guests {
        let own: Vec<&Vmove> = moves.iter().filter(|row| row.instance.0 == guest.id).collect();
        let well = own.len() == 1 && own[0].status == halberd_core::recovery::VmoveStatus::Succeeded;
        if !well {
            let told: Vec<String> =
                own.iter().map(|row| format!("{} {:?}", row.status, row.message)).collect();
            found.push(format!("I24: guest {} has the answers {told:?}", guest.id));
        }
    }
    if moves.len() != ended.guests.len() {
        found.push(format!("{} guests were moved of {}", moves.len(), ended.guests.len()));
    }
}

/// I29, I30.
fn events_of(ended: &Ended<'_>, recovery: &Recovery, rows: &[EventRow], found: &mut Vec<String>) {
    let kind = recovery.subject.kind();
    let sequences: Vec<i64> = rows.iter().filter_map(|row| row.sequence).collect();
    if sequences != (1..=rows.len() as i64).collect::<Vec<_>>() {
        found.push(format!("I30: the events of the {kind} recovery are numbered {sequences:?}"));
    }
    let ids: BTreeSet<String> = rows.iter().map(|row| row.event.id.to_string()).collect();
    if ids.len() != rows.len() {
        found.push(format!("I30: ids of events of the {kind} recovery repeat"));
    }
    if ended.script.announces() {
        for id in ids.iter().filter(|id| !ended.delivered.contains(id)) {
            found.push(format!("I29: event {id} of the {kind} recovery was never delivered"));
        }
    }
}
