//! Hosts that never had our agent: an authorised caller's report, Nova's row, the BMC (DESIGN 2.1).
//!
//! Nova saying `up` is no contradiction by itself, it lasts a minute after death. A row that changes is: someone runs
//! nova-compute there, and a false report shoots nobody. Where too few rows move, Nova is blind and proves nothing.

use super::life::{life_in_silence, row_life};
use super::{Case, Grounds, Judgement, Row, Verdict, row_window, seconds};
use crate::evidence::Class;
use crate::policy::{Policy, Reporters};

pub(super) fn judge(mut case: Case<'_>) -> Judgement {
    let reports = &case.evidence.reports;
    let newest = reports.iter().map(|report| report.at).max();
    // Only what came after each of them says that its host was not dead when it was made.
    let Some((newest, seen)) = newest.zip(reports.iter().map(|report| report.seen).max()) else {
        return case.cannot_tell("a report, or power read Off");
    };
    let stale_after = Policy::ms(case.policy.report_stale_ms);
    let age = case.age(newest);
    let stale = age > stale_after;
    let what = if stale {
        "the report is stale: it needs another sight"
    } else {
        "an authorised caller reports it dead"
    };
    case.show(Class::E2, "report", what, age);
    if !stale {
        case.look_at(newest + stale_after + std::time::Duration::from_millis(1));
    }
    if let Some(sight) = life_in_silence(&case, seen, true) {
        case.look_at(sight.until);
        case.show(Class::E3, &sight.source, sight.what, sight.age);
        return case.end(Verdict::Alive);
    }
    // However long ago: who lived after the report was not dead when it was made.
    if let Some((_, lived)) = row_life(case.evidence).filter(|(_, lived)| *lived > seen) {
        let age = case.age(lived);
        case.show(
            Class::E3,
            "Nova",
            "its row changed after the newest report, which is thereby refuted",
            age,
        );
        return case.end(Verdict::Alive);
    }
    by_row(case, stale)
}

fn by_row(mut case: Case<'_>, stale: bool) -> Judgement {
    let row = case.row();
    let trusted = case.policy.reporters == Reporters::Trusted;
    let row_age = case.service().map(|service| case.age(service.at)).unwrap_or_default();
    match row {
        Row::Down => {
            case.show(Class::E2, "Nova", "service down", row_age);
            let grounds = if trusted {
                Grounds { by_report_only: true, ..Grounds::default() }
            } else {
                Grounds { agreeing: 1, needed: 1, ..Grounds::default() }
            };
            case.failed(Class::E2, grounds)
        }
        // Months of standing still are no second sight here: the segment asks for Nova's own word, or the BMC's.
        _ if !trusted && stale => case.ask_operator("a second sight of a stale report: Nova's service down, or power read Off"),
        _ if !trusted => case.cannot_tell("a second sight (reporters = \"witnessed\"): Nova's service down, or power read Off"),
        Row::Still => {
            case.show(Class::E2, "Nova", "says up, but the row stood still while others moved", row_age);
            case.failed(Class::E2, Grounds { by_report_only: true, ..Grounds::default() })
        }
        Row::NotYet(at) => {
            case.look_at(at);
            let window = seconds(row_window(case.policy));
            case.cannot_tell(format!("Nova's row, which says up, to stand still for {window} before an off order"))
        }
        Row::Blind if stale => case.ask_operator("another sight of a stale report: Nova is blind, power does not read Off"),
        Row::Blind => case.cannot_tell("Nova, which is blind: fewer than half of the other rows that it calls up change"),
        Row::Unread if stale => case.ask_operator(
            "another sight of a stale report: neither power reads Off nor could Nova's row be read to renew it",
        ),
        Row::Unread => case.cannot_tell("Nova's row to be read, or power read Off"),
    }
}
