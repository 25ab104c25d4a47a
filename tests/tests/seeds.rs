//! Random worlds under checkers that know nothing of the code. `HALBERD_SEEDS=FROM..TO` picks them; `HALBERD_SEED=N` tells one story.

use halberd_tests::virt::seeds;

#[test]
fn random_worlds_keep_the_rules() {
    if let Ok(one) = std::env::var("HALBERD_SEED") {
        let seed = one.parse().expect("HALBERD_SEED is a number");
        let shown = seeds::run(seed);
        println!("{}", shown.story);
        assert!(shown.findings.is_empty(), "seed {seed}:\n  {}", shown.findings.join("\n  "));
        return;
    }
    let range = std::env::var("HALBERD_SEEDS").unwrap_or_else(|_| "0..2000".into());
    let (from, to) = range.split_once("..").expect("HALBERD_SEEDS=FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            std::thread::spawn(move || {
                let mut shown = Vec::new();
                for seed in (from..to).filter(|seed| seed % threads == worker) {
                    shown.push((seed, seeds::run(seed)));
                }
                shown
            })
        })
        .collect();
    let all: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect();
    let count = |which: fn(&seeds::Shown) -> bool| all.iter().filter(|(_, shown)| which(shown)).count();
    let sometimes = [
        ("an evacuation", count(|shown| shown.evacuations > 0)),
        ("a proof", count(|shown| shown.proofs > 0)),
        ("a question", count(|shown| shown.asked)),
        ("a hold", count(|shown| shown.held)),
        ("a retired order", count(|shown| shown.retired)),
        ("an adopted call", count(|shown| shown.adopted)),
        ("a takeover", count(|shown| shown.takeovers)),
        ("a return", count(|shown| shown.returned)),
        ("a reserved host", count(|shown| shown.failed_over)),
        ("a voided proof", count(|shown| shown.voided)),
    ];
    let evacuations: usize = all.iter().map(|(_, shown)| shown.evacuations).sum();
    println!("{} seeds, {evacuations} evacuations; seen in so many seeds: {sometimes:?}", all.len());
    let mut bad: Vec<_> = all.iter().filter(|(_, shown)| !shown.findings.is_empty()).collect();
    bad.sort_by_key(|(_, shown)| shown.story.len());
    let told: Vec<String> = bad
        .iter()
        .take(12)
        .map(|(seed, shown)| format!("seed {seed}: {}", shown.findings.join("; ")))
        .collect();
    let shortest = bad
        .first()
        .map(|(seed, shown)| format!("\nthe shortest story, seed {seed}:\n{}", shown.story))
        .unwrap_or_default();
    assert!(
        bad.is_empty(),
        "{} of {} seeds broke a rule (tell one with HALBERD_SEED=N):\n{}{shortest}",
        bad.len(),
        all.len(),
        told.join("\n")
    );
    if to - from >= 2_000 {
        for (what, seen) in sometimes {
            assert!(seen > 0, "no seed ever saw {what}: the mix shows nothing about it");
        }
    }
}
