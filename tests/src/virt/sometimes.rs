//! Interesting states: what random worlds have to pass through for their silence to mean anything. A row for each invariant of SAFETY 7
//! that random worlds judge; a run in which one is never reached shows nothing about it and fails.

use std::collections::BTreeSet;

use halberd_core::event::EventKind;
use halberd_core::notification::{NotificationStatus, Origin};
use halberd_core::recovery::{StateWord, VmoveStatus};

use super::sim::Sim;

/// The invariant and the state that shows it was at stake.
pub const WANTED: &[(&str, &str)] = &[
    ("I1", "a guest was evacuated after a proof"),
    ("I2", "a host was forced down"),
    ("I3", "power was read again and guests were sent"),
    ("I3", "life voided a proof"),
    ("I4", "a report met an open recovery"),
    ("I6", "a recovery was taken over"),
    ("I7", "an engine was killed with deeds under way"),
    ("I7", "an engine was stopped between its last check and its first byte"),
    ("I7", "a commit broke off and was read back"),
    ("I8", "a guest's destination died too"),
    ("I9", "the fate of a call to Nova was unknown"),
    ("I9", "a call was found by its record"),
    ("I10", "a host stood still and ran on"),
    ("I11", "an engine that had been stepped over wanted to order off"),
    ("I12", "a host was switched on"),
    ("I13", "a host was admitted"),
    ("I13", "a host came in again"),
    ("I14", "a start gate held a boot"),
    ("I15", "a fence act proved nothing"),
    ("I15", "a watchdog's lease proved a host off"),
    ("I15", "a person's word proved a host off"),
    ("I15", "a statement was void"),
    ("I17", "a BMC read Off of a host that was alive"),
    ("I17", "an order was retired"),
    ("I18", "a report was wrong"),
    ("I19", "a fence was held for the rate"),
    ("I21", "a recovery was cancelled for maintenance"),
    ("I21", "a recovery was cancelled for its disabled segment"),
    ("I22", "a fence was held while disarmed"),
    ("I22", "a fence was held by an engine's doubt of itself or its quiet start"),
    ("I23", "wall clocks jumped"),
    ("I24", "a guest could not be moved"),
    ("I24", "a guest was left, with its reason"),
    ("I25", "a stopped guest was moved"),
    ("I27", "a report was taken up"),
    ("L3", "a person was asked"),
    ("L6", "a hold was announced"),
    ("L6", "a hold ended"),
    ("", "a reserved host was used"),
    ("", "a guest's own recovery ended"),
    ("", "a process' recovery ended"),
    ("", "a host was deleted"),
];

/// Those that this run passed through.
pub fn seen(sim: &Sim) -> BTreeSet<&'static str> {
    let mut seen = sim.onlooker.seen.clone();
    let store = &sim.store;
    let whats: BTreeSet<&str> = store.audit.iter().map(|line| line.entry.what.as_str()).collect();
    let mut if_so = |so: bool, what: &'static str| {
        if so {
            seen.insert(what);
        }
    };
    for (word, what) in [
        ("evacuation_accepted", "a guest was evacuated after a proof"),
        ("host_marked_down", "a host was forced down"),
        ("host_cleared_for_evacuation", "power was read again and guests were sent"),
        ("proof_voided", "life voided a proof"),
        ("evacuation_adopted", "a call was found by its record"),
        ("host_switched_on", "a host was switched on"),
        ("host_admitted", "a host was admitted"),
        ("host_returned", "a host came in again"),
        ("fence_not_proved", "a fence act proved nothing"),
        ("lease_expired", "a watchdog's lease proved a host off"),
        ("off_confirmed", "a person's word proved a host off"),
        ("order_retired", "an order was retired"),
        ("permit_withheld", "a hold was announced"),
        ("reserved_host_taken", "a reserved host was used"),
    ] {
        if_so(whats.contains(word), what);
    }
    let gate = |names: &[&str]| {
        let held = store.audit.iter().filter(|line| line.entry.what == "permit_withheld");
        held.into_iter().any(|line| names.iter().any(|name| line.entry.detail["gate"] == *name))
    };
    use halberd_core::brake::Gate;
    if_so(gate(&[&Gate::G4.to_string()]), "a fence was held for the rate");
    if_so(gate(&[&Gate::Disarmed.to_string()]), "a fence was held while disarmed");
    if_so(
        gate(&[&Gate::SelfDoubt.to_string(), &Gate::G8.to_string()]),
        "a fence was held by an engine's doubt of itself or its quiet start",
    );
    let held: BTreeSet<_> = store
        .audit
        .iter()
        .filter(|line| line.entry.what == "permit_withheld")
        .map(|line| line.recovery)
        .collect();
    let went_on =
        |line: &super::store::Line| line.entry.what == "permit_given" && held.contains(&line.recovery);
    if_so(store.audit.iter().any(went_on), "a hold ended");
    for (row, _) in store.recoveries.values() {
        let (kind, closed) = (row.subject.kind(), !row.is_open());
        if_so(row.epoch > 1, "a recovery was taken over");
        if_so(kind == "instance" && closed, "a guest's own recovery ended");
        if_so(kind == "process" && closed, "a process' recovery ended");
        if_so(
            row.reason.contains("on maintenance by its operator"),
            "a recovery was cancelled for maintenance",
        );
        if_so(
            row.reason.contains("segment is disabled"),
            "a recovery was cancelled for its disabled segment",
        );
        let claimed =
            store.notifications.get(&row.notification).is_some_and(|told| told.origin == Origin::Caller);
        if_so(
            kind == "host" && claimed && row.word() == StateWord::Cancelled && row.reason.contains("alive"),
            "a report was wrong",
        );
    }
    if_so(
        store.events.iter().any(|(_, event)| event.kind == EventKind::RecoveryNeedsOperator),
        "a person was asked",
    );
    for report in store.notifications.values() {
        if_so(report.status != NotificationStatus::New, "a report was taken up");
        if_so(report.status == NotificationStatus::Ignored, "a report met an open recovery");
    }
    for vmove in store.vmoves.values() {
        if_so(vmove.status == VmoveStatus::Failed, "a guest could not be moved");
        if_so(
            vmove.status == VmoveStatus::Ignored && vmove.message.is_some(),
            "a guest was left, with its reason",
        );
        let died = vmove
            .message
            .as_ref()
            .is_some_and(|why| why.contains("which died too") || why.contains("died before it arrived"));
        if_so(died, "a guest's destination died too");
    }
    let happened =
        |which: fn(&halberd_sim::What) -> bool| sim.world.history().iter().any(|deed| which(&deed.what));
    if_so(happened(|what| matches!(what, halberd_sim::What::Thawed { .. })), "a host stood still and ran on");
    if_so(
        sim.setup.world.gate && happened(|what| matches!(what, halberd_sim::What::Booted { .. })),
        "a start gate held a boot",
    );
    if_so(!sim.setup.clock_jumps.is_empty(), "wall clocks jumped");
    seen
}
