//! How a move ends or is tried again, and the words for it.

use super::*;

/// A conclusive failure: tried again after a pause, then elsewhere, then given up (guest by guest: W7).
pub(super) fn fail(draft: &mut Draft<'_>, instance: InstanceId, why: &str) {
    let policy = draft.view.policy();
    let placements = draft.view.recovery.method.placements();
    let Some(vmove) = draft.vmove(instance).cloned() else { return };
    let failures = vmove.failures + 1;
    draft.note(
        "evacuation_failed",
        format!("{}: {why}", vmove.instance_name),
        json!({"instance": instance, "attempt": vmove.attempt}),
    );
    let named = vmove.target.clone();
    if failures < policy.evacuation_attempts && named.is_none() {
        draft.edit(instance, |vmove| {
            vmove.failures = failures;
            vmove.stage = Stage::Ready;
            vmove.message = Some(why.to_owned());
        });
        let shift = failures.min(5).saturating_sub(1);
        return pause(draft, instance, (policy.retry_ms << shift).min(60_000));
    }
    if named.is_some() || vmove.placement + 1 < placements.len() {
        let next = if named.is_some() { vmove.placement } else { vmove.placement + 1 };
        draft.edit(instance, |vmove| {
            vmove.tried.extend(named);
            vmove.failures = 0;
            vmove.placement = next;
            vmove.target = None;
            vmove.stage = Stage::Ready;
            vmove.message = Some(why.to_owned());
        });
        return pause(draft, instance, policy.retry_ms);
    }
    end(draft, instance, VmoveStatus::Failed, why);
}

/// Decides how a move ends; a lock of ours is taken off first.
pub(super) fn end(draft: &mut Draft<'_>, instance: InstanceId, status: VmoveStatus, message: &str) {
    let ours = draft.vmove(instance).is_some_and(|vmove| vmove.lock == LockMark::Ours);
    draft.edit(instance, |vmove| {
        vmove.ends = Some(status);
        vmove.message = (!message.is_empty()).then(|| message.to_owned());
        vmove.stage = Stage::Unlocking;
    });
    if !ours {
        close(draft, instance);
    } else {
        draft.look_after(0);
    }
}

pub(super) fn close(draft: &mut Draft<'_>, instance: InstanceId) {
    let stamp = draft.view.stamp;
    let Some(vmove) = draft.vmove(instance).cloned() else { return };
    let status = vmove.ends.unwrap_or(VmoveStatus::Failed);
    draft.edit(instance, |vmove| {
        vmove.status = status;
        vmove.stage = Stage::Done;
        vmove.end_time = Some(stamp);
    });
    let place = vmove.dest_host.clone().unwrap_or_default();
    let why = vmove.message.clone().unwrap_or_default();
    let (what, kind, text) = match status {
        VmoveStatus::Succeeded => (
            "guest_recovered",
            Some(EventKind::GuestRecovered),
            format!("{} is {} on {place}", vmove.instance_name, vmove.wanted),
        ),
        VmoveStatus::Failed => {
            ("guest_failed", Some(EventKind::GuestFailed), format!("{}: {why}", vmove.instance_name))
        }
        _ => ("guest_ignored", None, format!("{}: {why}", vmove.instance_name)),
    };
    let detail = json!({"instance": instance, "dest": vmove.dest_host, "attempts": vmove.attempt});
    draft.note(what, text.clone(), detail.clone());
    if let Some(kind) = kind {
        draft.tell(kind, &text, detail);
    }
}

pub(super) fn settle_intent(draft: &mut Draft<'_>, instance: InstanceId, result: &str) {
    let intent: Option<Uuid> = draft.vmove(instance).and_then(|vmove| vmove.intent);
    if let Some(intent) = intent {
        draft.resolve(intent, result, json!({}));
        draft.edit(instance, |vmove| vmove.intent = None);
    }
}

pub(super) fn pause(draft: &mut Draft<'_>, instance: InstanceId, ms: u64) {
    let until = draft.view.now + std::time::Duration::from_millis(ms);
    draft.memory.push(Memory::PauseGuest(instance, until));
    draft.look_at(until);
}

pub(super) fn name(draft: &Draft<'_>, instance: InstanceId) -> String {
    draft.vmove(instance).map_or_else(|| instance.to_string(), |vmove| vmove.instance_name.clone())
}
