//! The observer's judgement of what is drafted: each guest's sending, its end, the close, the giving back.

use super::observer::{End, Observer, Sent, guest_of};
use super::scenario::Kind;
use super::world::{DEAD, World};
use crate::effect::Migration;
use crate::evidence::Power;
use crate::fence::Means;
use crate::host::Admission;
use crate::id::InstanceId;
use crate::recovery::{Body, StateWord, Vmove, VmoveStatus};
use crate::runner::{Commit, Intent};
use crate::time::Mono;

impl Observer {
    pub(super) fn evacuates(&mut self, intent: &Intent, commit: &Commit, world: &World) {
        let Some(guest) = guest_of(intent) else {
            return self.breaks("I8", "an evacuate intent without its guest's key");
        };
        let policy = &world.scenario.policy;
        let age = |at: Mono| world.now.since(at).as_millis() as u64;
        // I1, I3, I16: the proof, its reading, and no life since.
        let Some(proof) = self.proof.clone() else { return self.breaks("I1", "evacuates without a proof") };
        let carried = match &commit.recovery.body {
            Body::Host(body) => body.state.proof().is_some_and(|proof| {
                proof.host() == world.store.host.id && proof.boot_number() == world.store.host.boot_number
            }),
            _ => false,
        };
        self.demand(carried, "I1", "evacuates and its state does not carry the proof for the host's boot");
        let off = self.power.clone().filter(|reading| reading.identified && reading.power == Power::Off);
        if let Means::Power { .. } = proof.means {
            let reread = self.marked_at.is_some_and(|marked| {
                off.as_ref().is_some_and(|reading| reading.at >= marked.max(proof.made))
            });
            self.demand(reread, "I1", "power was not read again after the force-down");
            let fresh = off.is_some_and(|reading| age(reading.at) <= policy.power_fresh_ms);
            self.demand(fresh, "I3", "no identified Off reading that is young enough");
        } else if let Means::Lease { .. } = proof.means {
            self.demand(self.marked_at.is_some(), "I1", "evacuates before the force-down");
            let heard = world.evidence.beats.received.is_some_and(|at| at > proof.since);
            self.demand(!heard, "I3", "a beat arrived since the lease's proof");
            self.reach("evacuate by lease");
        } else if let Means::Operator { .. } = proof.means {
            self.demand(self.marked_at.is_some(), "I1", "evacuates before the force-down");
            self.reach("evacuate by statement");
        } else {
            self.reach("evacuate by waiver");
        }
        let beats = &world.evidence.beats;
        let lived = beats.last_echoed.max(beats.retired_echoed).is_some_and(|at| at > proof.since);
        self.demand(!lived, "I17", "evacuates although an echoed beat came after the proof");
        let on = self.power.as_ref().is_some_and(|reading| {
            reading.identified && reading.power == Power::On && reading.at > proof.since
        });
        self.demand(!on, "I17", "evacuates although power read On after the proof");

        // I26: still there.
        let listed = self.survey.as_ref().is_some_and(|survey| {
            survey.complete
                && age(survey.at) <= 2_000
                && survey.guests.iter().any(|known| known.id == guest && known.host.as_deref() == Some(DEAD))
        });
        self.demand(listed, "I26", "sent without a whole listing of at most two seconds");
        let repeat = self.sent.contains_key(&guest);
        if repeat {
            let own = self.alone.get(&guest).is_some_and(|(at, seen)| {
                age(*at) <= 2_000 && seen.as_ref().is_some_and(|seen| seen.host.as_deref() == Some(DEAD))
            });
            self.demand(own, "I26", "repeated without the guest's own reading");
            self.reach("repeat");
        }

        // I8, I9: nothing of it is open, nothing newer lives, nothing may still be on its way.
        let open = self
            .open
            .iter()
            .any(|(id, other)| *other == guest && !commit.resolved.iter().any(|end| end.intent == *id));
        let twice = commit.intents.iter().filter(|other| guest_of(other) == Some(guest)).count() > 1;
        self.demand(!open && !twice, "I8", "a second evacuate intent while one is open");
        if let Some(sent) = self.sent.get(&guest).cloned() {
            self.repeats(guest, &sent, world);
        }
    }

    fn repeats(&mut self, guest: InstanceId, sent: &Sent, world: &World) {
        let newer: Vec<&Migration> = self
            .records
            .values()
            .filter(|row| row.instance == guest && row.kind == "evacuation" && !sent.known.contains(&row.id))
            .collect();
        let ended = |row: &&Migration| {
            let told = sent.at.is_some_and(|at| self.errors.get(&guest).is_some_and(|error| *error >= at));
            matches!(row.status.as_str(), "error" | "failed" | "cancelled")
                || (row.dest.is_none() && told)
                || row.dest.as_ref().is_some_and(|dest| world.cloud.proved_off.contains(dest))
        };
        let alive =
            newer.iter().any(|row| !ended(row) && !matches!(row.status.as_str(), "done" | "completed"));
        let nothing = newer.is_empty();
        let lapsed = sent.at.unwrap_or(self.claimed_at)
            + crate::policy::Policy::ms(world.scenario.policy.request_lifetime_ms);
        let looked = self.survey.as_ref().is_some_and(|survey| survey.complete && survey.at >= lapsed);
        let never = sent.at.is_none() && sent.end == End::Open;
        self.demand(!alive, "I9", "evacuated again while a newer migration is live");
        if sent.end != End::NotDone && nothing && !never {
            self.demand(
                looked,
                "I9",
                "evacuated again before the call's life was over and nothing was found",
            );
            self.reach("repeat after lifetime");
        }
    }

    /// I24: one end each, with a reason. I25: success is the wanted state, seen there.
    pub(super) fn ends(&mut self, vmove: &Vmove, world: &World) {
        let before = self.vmoves.get(&vmove.instance).cloned();
        if let Some(before) = &before
            && before.status.is_terminal()
        {
            self.demand(before.status == vmove.status, "I24", "a guest has two ends");
        }
        let succeeded = |vmove: &Vmove| {
            vmove.ends == Some(VmoveStatus::Succeeded) || vmove.status == VmoveStatus::Succeeded
        };
        if !succeeded(vmove) || before.as_ref().is_some_and(succeeded) {
            return;
        }
        let Some(first) = self.first.get(&vmove.instance).cloned() else { return };
        let wanted = match (first.vm_state.as_str(), first.power_state) {
            ("active", _) => "active",
            ("error", _) => "error",
            ("resized", 4) | ("stopped" | "paused", _) => "stopped",
            ("resized", _) => "active",
            (other, _) => return self.breaks("I25", format!("a guest that was {other} has succeeded")),
        };
        let seen = self.seen.get(&vmove.instance).cloned().flatten();
        let there = seen.as_ref().is_some_and(|seen| {
            seen.host.as_deref().is_some_and(|host| host != DEAD && vmove.dest_host.as_deref() == Some(host))
        });
        // The reset to error is the last of it and changes no place: a former owner's sight will do.
        let there = there || (wanted == "error" && self.arrived.contains(&vmove.instance));
        self.demand(there, "I25", "succeeded and not seen on its destination");
        let reached = match wanted {
            "error" => self.reset_taken.contains(&vmove.instance),
            wanted => seen.is_some_and(|seen| seen.vm_state == wanted),
        };
        self.demand(
            reached,
            "I25",
            &format!("succeeded and was not seen {wanted} ({})", world.scenario.seed),
        );
        self.reach("succeeded");
    }

    pub(super) fn closes(&mut self, commit: &Commit) {
        let mut all = self.vmoves.clone();
        all.extend(commit.vmoves.iter().map(|vmove| (vmove.instance, vmove.clone())));
        for vmove in all.values() {
            self.demand(vmove.status.is_terminal(), "I24", "closed while a guest has no end");
            let said = vmove.status == VmoveStatus::Succeeded
                || vmove.message.as_deref().is_some_and(|text| !text.is_empty());
            self.demand(said, "I24", "a guest ended without a reason");
        }
        let missed = self.first.keys().any(|id| !all.contains_key(id));
        self.demand(!missed, "I24", "a listed guest has no move");
        let lost = all.values().any(|vmove| vmove.status == VmoveStatus::Failed);
        self.demand(
            lost == (commit.recovery.word() == StateWord::Failed),
            "I24",
            "its end does not tell of its guests'",
        );
        let open = self.open.keys().any(|id| !commit.resolved.iter().any(|end| end.intent == *id));
        self.demand(!open, "I24", "closed while an evacuate intent is open");
        self.reach("closed");
    }

    /// I13: the host is given back only when it is clean.
    pub(super) fn undoes(&mut self, intent: &Intent, world: &World) {
        let row = &world.store.host;
        let ours =
            if intent.effect == "force_up" { row.set_by_us.forced_down } else { row.set_by_us.disabled };
        self.demand(ours, "I13", "undoes what it did not do");
        let ready = world.scenario.kind == Kind::Return && row.admission == Admission::Admitted;
        let lifetime = crate::policy::Policy::ms(world.scenario.policy.request_lifetime_ms);
        let drained = self.revoked || self.began_at.is_some_and(|began| world.now >= began + lifetime);
        self.demand(ready && drained, "I13", "undone before the host was drained and admitted");
        let Some(admitted) = self.admitted_at else {
            return self.breaks("I13", "undone before it was admitted");
        };
        if intent.effect == "enable" && self.unforced {
            return;
        }
        self.clean(admitted, world);
    }

    pub(super) fn clean(&mut self, admitted: Mono, world: &World) {
        let Some(survey) = self.survey.clone() else { return self.breaks("I13", "undone without a listing") };
        let open = survey.migrations.iter().any(|record| {
            record.kind == "evacuation"
                && record.source == DEAD
                && !matches!(
                    record.status.as_str(),
                    "completed" | "error" | "failed" | "cancelled" | "confirmed" | "reverted"
                )
        });
        self.demand(survey.complete && !open, "I13", "undone before its records were completed");
        let clean = match &world.domains {
            Some(domains) => domains.iter().all(|id| survey.guests.iter().any(|guest| guest.id == *id)),
            None => {
                world.now.since(admitted.max(self.claimed_at)).as_millis() as u64
                    >= world.scenario.policy.agentless_return_ms
            }
        };
        self.demand(clean, "I13", "undone while a stray may run there");
    }
}
