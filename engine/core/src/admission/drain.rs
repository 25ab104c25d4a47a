//! Until nothing that was ever ordered of a host can take effect on it any more (DESIGN 10.1, 10.3).
//!
//! Two things end that, and neither stands in for the other. What travels by itself is dead after a command's lifetime. What an engine
//! holds that stands still between its last check and its first byte has no lifetime: its session has to be revoked, and a controller
//! that did not answer is asked again until it has. Where it answers nobody for good, no order can go through it either, and it ends an
//! idle session by its own clock; so a person is asked first, and then that clock is waited for instead. Nothing waits for ever.

use serde_json::json;

use crate::effect::{Done, Effect};
use crate::event::EventKind;
use crate::guard::{self, Guard};
use crate::host::Host;
use crate::policy::Policy;
use crate::step::{Draft, Memory};

/// Between two tries to revoke.
const REVOKE_AGAIN_MS: u64 = 5_000;
/// A controller that has not answered for so long may need a person.
const ASK_AFTER_MS: u64 = 300_000;
/// Controllers end a session that nobody uses after half an hour as they are shipped (Redfish's SessionTimeout); a quarter on top.
const SESSION_DIES_MS: u64 = 2_250_000;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// A revoking was accepted: no recorded session is left.
    pub revoked: bool,
    /// Nothing can come any more.
    pub over: bool,
}

/// One step of draining this host. A new owner revokes again, and counts from its claim.
pub(crate) fn drain(draft: &mut Draft<'_>, host: &Host, revoked: bool) -> Drain {
    let (facts, now) = (draft.view.facts, draft.view.now);
    if !guard::stands(Guard::Drain) {
        return Drain { revoked: true, over: true };
    }
    let since = facts.orders_over_at.unwrap_or(facts.claimed_at);
    let lapsed = since + Policy::ms(draft.view.policy().request_lifetime_ms);
    let mut revoked = revoked;
    if let Some(outcome) = facts.outcome("revoke_sessions").cloned() {
        draft.resolve(outcome.intent, outcome.done.word(), json!({"answer": outcome.done}));
        revoked = revoked || matches!(outcome.done, Done::Accepted { .. });
        if !revoked {
            draft.memory.push(Memory::NotBefore(now + Policy::ms(REVOKE_AGAIN_MS)));
            draft.reason = "its controller did not revoke our sessions; it is asked again".into();
        }
    }
    if now < lapsed {
        draft.look_at(lapsed);
    }
    let busy = facts.in_flight("revoke_sessions");
    // A person who takes the host back has looked at it.
    let dead = now.since(since) >= Policy::ms(SESSION_DIES_MS) || facts.readmitted.is_some();
    let over = now >= lapsed && !busy && (revoked || dead);
    if revoked || busy || over {
        return Drain { revoked, over };
    }
    if now.since(since) >= Policy::ms(ASK_AFTER_MS) {
        let text = format!(
            "{}: its controller does not revoke our sessions, so an engine that stands still might yet turn it off; mend the controller, or take the host back if no engine hangs (it goes on by itself once the controller's idle sessions have ended)",
            host.name
        );
        if draft.view.recovery.reason != text {
            draft.tell(EventKind::RecoveryNeedsOperator, &text, json!({}));
        }
        draft.reason = text;
    }
    match draft.not_before() {
        Some(at) => draft.look_at(at),
        None => {
            draft.act(Effect::RevokeSessions { host: host.id }, 1, json!({}));
        }
    }
    Drain { revoked, over }
}
