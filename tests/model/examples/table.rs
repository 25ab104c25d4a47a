//! All variants with their figures: `cargo run -p halberd-model --example table [--traces]`.

use halberd_model::check::{self, Outcome};
use halberd_model::variants::{NEGATIVE, POSITIVE};
use halberd_model::watchdog;

fn main() {
    let traces = std::env::args().any(|arg| arg == "--traces");
    let mut total = (0, 0.0);
    println!("| must hold | states | depth | s |\n|---|---|---|---|");
    let held = POSITIVE.iter().map(check::exhaust);
    for outcome in held.chain([check::time("proof by time", watchdog::Guards::ALL)]) {
        let secs = outcome.took.as_secs_f64();
        total = (total.0 + outcome.unique, total.1 + secs);
        let verdict = if outcome.violated.is_empty() { "" } else { " **violated**" };
        println!("| {}{verdict} | {} | {} | {secs:.1} |", outcome.name, outcome.unique, outcome.depth);
        if !outcome.violated.is_empty() {
            println!("{outcome}");
        }
    }
    println!("| all | {} | | {:.1} |\n", total.0, total.1);
    println!("| must be refuted | violates | steps | states | s |\n|---|---|---|---|---|");
    let row = |outcome: &Outcome, unbuilt: bool| {
        let (property, steps) = outcome
            .violated
            .first_key_value()
            .map_or(("**not refuted**", 0), |(name, way)| (name, way.len()));
        let letter = property.split(':').next().unwrap_or(property);
        let mark = if unbuilt { " (the product lacks this guard)" } else { "" };
        let secs = outcome.took.as_secs_f64();
        println!("| {}{mark} | {letter} | {steps} | {} | {secs:.1} |", outcome.name, outcome.unique);
        if traces {
            println!("{outcome}");
        }
    };
    for variant in NEGATIVE {
        row(&check::hunt(variant.name, variant.config(), variant.property), variant.unbuilt);
    }
    let all = watchdog::Guards::ALL;
    row(
        &check::time(
            "watchdog fed from the answer, not the send",
            watchdog::Guards { from_send: false, ..all },
        ),
        false,
    );
    row(
        &check::time("takeover with a stale T_safe", watchdog::Guards { takeover_waits: false, ..all }),
        false,
    );
    row(
        &check::time("other engines' renewals ignored", watchdog::Guards { others_count: false, ..all }),
        false,
    );
    row(
        &check::time(
            "fed after a pause without a look",
            watchdog::Guards { checks_before_feeding: false, ..all },
        ),
        false,
    );
}
