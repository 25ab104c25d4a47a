//! Why things happened, or did not: read from what was stored, nothing invented (SAFETY MS14).
//!
//! The audit chain is the spine. Beside it stand the report that began it, what arrived about the host meanwhile, every call
//! as it was written down before it was made, and what operators wished. The verdict's exhibits were stored in words with the
//! record of the decision, so that a reader can follow the judgement again.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use halberd_core::audit::{Link, verify};
use halberd_core::brake::Gate;
use halberd_core::evidence::{Class, Exhibit};
use halberd_core::recovery::{Recovery, StateWord, Subject};
use halberd_core::time::Stamp;
use halberd_store::evidence::EvidenceRow;
use halberd_store::wishes::WishRow;
use halberd_types::halberd::recovery::{
    EvidenceView, GateAnswer, GateWord, IntentView, ProofMeans, ProofView, Replay, TimelineEntry,
    VerdictView, VerdictWord,
};
use serde_json::Value;

use super::view;
use crate::halberd::input::time;

/// A recovery's audit chain with its stored hashes.
pub(crate) type Chain = [(Link, String)];

/// Evidence from so long before the opening belongs to the story: the report that led to it, and its repeats.
const BEFORE: i64 = 300_000_000;

/// The chain's records, in order.
pub(crate) fn of_chain(chain: &Chain) -> Vec<TimelineEntry> {
    let entry = |(link, _): &(Link, String)| {
        let at = time(Stamp(link.at));
        let (_, exhibits) = judgement(&link.entry.detail);
        TimelineEntry {
            at,
            what: link.entry.what.clone(),
            detail: link.entry.text.clone(),
            evidence: exhibits.iter().map(|exhibit| exhibited(exhibit, at)).collect(),
        }
    };
    chain.iter().map(entry).collect()
}

/// What was seen of the host while the recovery was open, and shortly before.
pub(crate) fn of_evidence(rows: &[EvidenceRow], recovery: &Recovery) -> Vec<TimelineEntry> {
    let from = recovery.opened_at.0.saturating_sub(BEFORE);
    let until = recovery.closed_at.map_or(i64::MAX, |at| at.0);
    let within = |row: &&EvidenceRow| (from..=until).contains(&row.at.0);
    let entry = |row: &EvidenceRow| {
        let seen = EvidenceView {
            class: row.evidence.class.map(|class| class.as_str().to_owned()),
            source: row.evidence.source.clone(),
            what: row.evidence.text.clone(),
            seen_at: time(row.at),
            data: halberd_types::halberd::fence_device::masked(&row.evidence.detail),
        };
        TimelineEntry {
            at: time(row.at),
            what: "evidence_received".to_owned(),
            detail: format!("{}: {}", row.evidence.source, row.evidence.text),
            evidence: vec![seen],
        }
    };
    rows.iter().filter(within).map(entry).collect()
}

/// Each call, at the time it was written down.
pub(crate) fn of_calls(calls: &[IntentView]) -> Vec<TimelineEntry> {
    let entry = |call: &IntentView| {
        let end = match (call.resolved_at, &call.answer) {
            (Some(at), Some(answer)) => {
                format!("{answer} after {} ms", (at - call.written_at).num_milliseconds())
            }
            _ => "its end is not known yet".to_owned(),
        };
        TimelineEntry {
            at: call.written_at,
            what: "call_written".to_owned(),
            detail: format!(
                "{} {} (attempt {}, epoch {}): {end}",
                call.effect, call.subject.name, call.attempt, call.epoch
            ),
            evidence: Vec::new(),
        }
    };
    calls.iter().map(entry).collect()
}

/// Operators' wishes about this recovery or its host, while it was open.
pub(crate) fn of_wishes(wishes: &[WishRow], recovery: &Recovery) -> Vec<TimelineEntry> {
    let (id, host) = (recovery.id.to_string(), recovery.subject.host().to_string());
    let until = recovery.closed_at.map_or(i64::MAX, |at| at.0);
    let about = |row: &&WishRow| {
        row.wish.subject == id
            || (row.wish.subject == host && (recovery.opened_at.0..=until).contains(&row.created_at.0))
    };
    let entry = |row: &WishRow| {
        let wish = &row.wish;
        let end = match (row.succeeded, &row.result) {
            (Some(true), _) => "; done".to_owned(),
            (Some(false), Some(Value::String(why))) => format!("; refused: {why}"),
            (Some(false), _) => "; refused".to_owned(),
            (None, _) => String::new(),
        };
        TimelineEntry {
            at: time(row.created_at),
            what: "wish_recorded".to_owned(),
            detail: format!("{} asked for {}: {}{end}", wish.actor, wish.kind, wish.reason),
            evidence: Vec::new(),
        }
    };
    wishes.iter().filter(about).map(entry).collect()
}

/// Verdict reasons and exhibits of a record: a judgement's own, or those a withheld permit carries.
fn judgement(detail: &Value) -> (Vec<String>, Vec<Exhibit>) {
    let detail = detail.get("evidence").unwrap_or(detail);
    let read = |name: &str| detail.get(name).cloned().unwrap_or(Value::Null);
    let reasons = serde_json::from_value(read("verdict")).unwrap_or_default();
    let exhibits = serde_json::from_value(read("exhibits")).unwrap_or_default();
    (reasons, exhibits)
}

fn exhibited(exhibit: &Exhibit, decided: DateTime<Utc>) -> EvidenceView {
    let age = Duration::milliseconds(i64::try_from(exhibit.age_ms).unwrap_or(i64::MAX / 1_000_000));
    EvidenceView {
        class: Some(exhibit.class.as_str().to_owned()),
        source: exhibit.source.clone(),
        what: exhibit.what.clone(),
        seen_at: decided.checked_sub_signed(age).unwrap_or(decided),
        data: Value::Null,
    }
}

fn newest<'c>(chain: &'c Chain, words: &[&str]) -> Option<&'c Link> {
    chain.iter().rev().map(|(link, _)| link).find(|link| words.contains(&link.entry.what.as_str()))
}

/// The last verdict that moved anything, or for a recovery that found the host alive, that one.
pub(crate) fn verdict(recovery: &Recovery, chain: &Chain) -> Option<VerdictView> {
    if !matches!(recovery.subject, Subject::Host { .. }) {
        return None;
    }
    if recovery.word() == StateWord::Cancelled {
        let at = newest(chain, &["state_changed"]).map_or(recovery.opened_at, |link| Stamp(link.at));
        let alive =
            ["alive:", "only its agent is lost:"].iter().any(|start| recovery.reason.starts_with(start));
        return alive.then(|| told(VerdictWord::Alive, &recovery.reason, at));
    }
    if let Some(link) = newest(chain, &["host_judged", "permit_withheld"]) {
        let at = time(Stamp(link.at));
        let (reasons, exhibits) = judgement(&link.entry.detail);
        let evidence = exhibits.iter().map(|exhibit| exhibited(exhibit, at)).collect();
        return Some(VerdictView { verdict: VerdictWord::Failed, reasons, at, evidence });
    }
    recovery.is_open().then(|| told(VerdictWord::CannotTell, &recovery.reason, recovery.opened_at))
}

fn told(verdict: VerdictWord, reason: &str, at: Stamp) -> VerdictView {
    VerdictView { verdict, reasons: vec![reason.to_owned()], at: time(at), evidence: Vec::new() }
}

/// What showed that the host was off: the proof in hand, else the record of it.
pub(crate) fn proof(recovery: &Recovery, chain: &Chain) -> Option<ProofView> {
    let made = newest(chain, &["host_fenced", "off_confirmed", "lease_expired", "fence_waived"]);
    let at = made.map(|link| time(Stamp(link.at)));
    if let Some(proof) = view::proof(recovery) {
        let (means, detail) = view::proof_words(proof);
        return Some(ProofView {
            means,
            boot_number: Some(proof.boot_number().into()),
            at,
            detail,
            voided_at: None,
        });
    }
    let made = made?;
    let means = match made.entry.what.as_str() {
        "host_fenced" => ProofMeans::PowerOff,
        "off_confirmed" => ProofMeans::Operator,
        "lease_expired" => ProofMeans::WatchdogLease,
        _ => ProofMeans::Waived,
    };
    let voided = newest(chain, &["proof_voided"]).filter(|link| link.sequence > made.sequence);
    let voided_at = voided.map(|link| time(Stamp(link.at)));
    Some(ProofView { means, boot_number: None, at, detail: made.entry.text.clone(), voided_at })
}

/// What each brake said last, in the order of the brakes.
pub(crate) fn gates(chain: &Chain) -> Vec<GateAnswer> {
    let mut last: BTreeMap<Gate, GateAnswer> = BTreeMap::new();
    for (link, _) in chain {
        let at = time(Stamp(link.at));
        let said: Vec<(Gate, GateWord, String)> = match link.entry.what.as_str() {
            "permit_given" => permitted(&link.entry.text),
            "permit_withheld" => withheld(&link.entry.detail).into_iter().collect(),
            _ => Vec::new(),
        };
        for (gate, answer, reason) in said {
            let title = title(gate).to_owned();
            last.insert(gate, GateAnswer { gate: gate.to_string(), title, answer, reason, at });
        }
    }
    last.into_values().collect()
}

fn withheld(detail: &Value) -> Option<(Gate, GateWord, String)> {
    let gate = detail["gate"].as_str()?.parse().ok()?;
    Some((gate, GateWord::Withheld, detail["reason"].as_str().unwrap_or_default().to_owned()))
}

/// Reads `permitted: quorum: note; domain: note`. A note may hold a semicolon: a part that begins with no gate's word
/// belongs to the note before it.
fn permitted(text: &str) -> Vec<(Gate, GateWord, String)> {
    let text = text.strip_prefix("permitted: ").unwrap_or(text);
    let mut said: Vec<(Gate, GateWord, String)> = Vec::new();
    for part in text.split("; ") {
        let gate = part.split_once(": ").and_then(|(word, note)| Some((word.parse::<Gate>().ok()?, note)));
        match (gate, said.last_mut()) {
            (Some((gate, note)), _) => said.push((gate, GateWord::Permitted, note.to_owned())),
            (None, Some((_, _, note))) => {
                note.push_str("; ");
                note.push_str(part);
            }
            (None, None) => {}
        }
    }
    for (_, answer, note) in &mut said {
        if note == "released by an operator" {
            *answer = GateWord::Released;
        }
    }
    said
}

fn title(gate: Gate) -> &'static str {
    match gate {
        Gate::G1 => "enough observers share the sight",
        Gate::G2 => "not too much of one failure domain is silent",
        Gate::G3 => "not too much of the fleet is silent",
        Gate::G4 => "fences a minute, and at once",
        Gate::G5 => "the guests fit elsewhere",
        Gate::G6 => "Keystone, Nova and the database work",
        Gate::G7 => "fences a day",
        Gate::G8 => "this engine has listened long enough",
        Gate::Maintenance => "not on its operator's maintenance",
        Gate::SegmentDisabled => "its segment is enabled",
        Gate::UnknownHost => "it is in the inventory",
        Gate::ReconcileOnly => "the database shows all that was remembered",
        Gate::SelfDoubt => "the engine does not doubt itself",
        Gate::Disarmed => "acting is not switched off",
        Gate::Quarantine => "not fenced again and again on its own word",
    }
}

/// Whether the record can be relied on, and how the verdict follows from it.
pub(crate) fn replay(recovery: &Recovery, chain: &Chain) -> Replay {
    let name = recovery.id.to_string();
    let broken = verify(&name, chain.iter().map(|(link, hash)| (link, hash.as_str()))).err();
    let note = match &broken {
        Some(broken) => format!("The record was tampered with, do not rely on it: {broken}."),
        None => replayed(chain),
    };
    Replay {
        chain_intact: broken.is_none(),
        records: chain.len() as u64,
        head: chain.last().map(|(_, hash)| hash.clone()),
        note,
    }
}

fn replayed(chain: &Chain) -> String {
    let Some(link) = newest(chain, &["host_judged", "permit_withheld"]) else {
        return "No verdict of failure was made from evidence in this recovery.".to_owned();
    };
    let (reasons, exhibits) = judgement(&link.entry.detail);
    let of = |class: Class| exhibits.iter().filter(|exhibit| exhibit.class == class).count();
    let strongest = [Class::E0, Class::E1, Class::E2].into_iter().find(|class| of(*class) > 0);
    let rests = match strongest {
        Some(class) => format!("its strongest exhibit is of class {class}"),
        None => "it rests on reports and silence alone".to_owned(),
    };
    let contradicted = match of(Class::E3) {
        0 => "nothing contradicted it".to_owned(),
        n => format!("{n} of them contradicted it"),
    };
    format!(
        "Judged failed at record {} from {} exhibits: {rests}, {contradicted}. Reasons: {}.",
        link.sequence,
        exhibits.len(),
        reasons.join("; ")
    )
}

/// When the state last changed, and when anything did.
pub(crate) fn times(recovery: &Recovery, chain: &Chain) -> (DateTime<Utc>, DateTime<Utc>) {
    let since = newest(chain, &["state_changed", "return_state_changed"]);
    let changed = chain.last().map_or(recovery.opened_at, |(link, _)| Stamp(link.at));
    (time(since.map_or(recovery.opened_at, |link| Stamp(link.at))), time(changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_s_notes_are_told_apart() {
        let said = permitted(
            "permitted: quorum: 2 of 2 agree; needed 2; domain: r1, 1 of 4; rate: released by an operator",
        );
        let words: Vec<(&str, GateWord, &str)> =
            said.iter().map(|(gate, word, note)| (gate.as_str(), *word, note.as_str())).collect();
        assert_eq!(
            words,
            [
                ("quorum", GateWord::Permitted, "2 of 2 agree; needed 2"),
                ("domain", GateWord::Permitted, "r1, 1 of 4"),
                ("rate", GateWord::Released, "released by an operator"),
            ]
        );
    }
}
