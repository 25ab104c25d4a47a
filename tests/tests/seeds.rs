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
        ("a proof by a watchdog's lease", count(|shown| shown.leased)),
        ("a host that reset itself", count(|shown| shown.reset)),
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

/// The same worlds with operators' hooks that end well, fail, hang and hold at random. `HALBERD_HOOK_SEEDS=FROM..TO` picks them.
#[test]
fn random_worlds_with_hooks_keep_the_rules() {
    if let Ok(one) = std::env::var("HALBERD_HOOK_SEED") {
        let seed = one.parse().expect("HALBERD_HOOK_SEED is a number");
        let (shown, _) = seeds::run_hooked(seed);
        println!("{}", shown.story);
        assert!(shown.findings.is_empty(), "seed {seed}:\n  {}", shown.findings.join("\n  "));
        return;
    }
    let range = std::env::var("HALBERD_HOOK_SEEDS").unwrap_or_else(|_| "0..300".into());
    let (from, to) = range.split_once("..").expect("HALBERD_HOOK_SEEDS=FROM..TO");
    let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let run = move |worker| {
        let mine = (from..to).filter(move |seed| seed % threads == worker);
        mine.map(|seed| (seed, seeds::run_hooked(seed))).collect::<Vec<_>>()
    };
    let workers: Vec<_> = (0..threads).map(|worker| std::thread::spawn(move || run(worker))).collect();
    let all: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect();
    let count =
        |which: fn(&seeds::HooksShown) -> bool| all.iter().filter(|(_, (_, hooks))| which(hooks)).count();
    let sometimes = [
        ("a hook that ended well", count(|hooks| hooks.done)),
        ("one that failed", count(|hooks| hooks.failed)),
        ("one that held", count(|hooks| hooks.held)),
        ("one that was retried", count(|hooks| hooks.retried)),
        ("one that was released", count(|hooks| hooks.skipped_by_release)),
        ("one that was abandoned", count(|hooks| hooks.abandoned)),
        ("one that was run again after a crash", count(|hooks| hooks.repeated)),
        ("one after the last guest", count(|hooks| hooks.after_guests)),
        ("a process that was well again", count(|hooks| hooks.well_again)),
        ("a guest given up", count(|hooks| hooks.given_up)),
    ];
    println!("{} seeds; seen in so many: {sometimes:?}", all.len());
    let bad = all.iter().filter(|(_, (shown, _))| !shown.findings.is_empty());
    let told: Vec<String> =
        bad.map(|(seed, (shown, _))| format!("seed {seed}: {}", shown.findings.join("; "))).collect();
    assert!(
        told.is_empty(),
        "{} seeds broke a rule (HALBERD_HOOK_SEED=N tells one):\n{}",
        told.len(),
        told.join("\n")
    );
    if to - from >= 300 {
        for (what, seen) in sometimes {
            assert!(seen > 0, "no seed ever saw {what}: the mix shows nothing about it");
        }
    }
}
