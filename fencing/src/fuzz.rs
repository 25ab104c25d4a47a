//! Generated input for everything that reads what others wrote: a bounded property test on a stable compiler.
//!
//! Each target runs cases until its time is up. A case draws all its chance from one generator, seeded by the target's
//! seed and the case's number, so a failure names what repeats it:
//!
//! - `HALBERD_FUZZ_SECONDS` how long each target runs (default 2; 45 in the full run),
//! - `HALBERD_FUZZ_SEED` another seed than the fixed one,
//! - `HALBERD_FUZZ_CASE` this one case and no other.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// "HALBERD" in ASCII. Fixed, so that two runs of equal length see the same cases.
const SEED: u64 = 0x48_414c_4245_5244;
/// A case that takes so long hangs. Typical ones take microseconds; the rest is for busy machines.
const HUNG: Duration = Duration::from_secs(60);
/// A text of ours that went through somebody else's answer is at most so long: it goes into reports and logs.
pub(crate) const LONGEST_ERROR: usize = 1_500;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// Runs cases of one target until its time is up, at least one.
pub(crate) fn fuzz(target: &str, mut case: impl FnMut(&mut StdRng)) {
    let seconds = number("HALBERD_FUZZ_SECONDS").unwrap_or(2);
    let seed = number("HALBERD_FUZZ_SEED").unwrap_or(SEED);
    let only = number("HALBERD_FUZZ_CASE");
    println!("{target}: HALBERD_FUZZ_SEED={seed}, {seconds} s");
    let (running, over) = watch(target, seed);
    let began = Instant::now();
    let mut number = only.unwrap_or(0);
    loop {
        running.store(number, Ordering::Relaxed);
        let mut rng = StdRng::seed_from_u64(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(&mut rng))) {
            eprintln!("{target} fails: repeat with HALBERD_FUZZ_SEED={seed} HALBERD_FUZZ_CASE={number}");
            resume_unwind(panic);
        }
        number += 1;
        if only.is_some() || began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    drop(over);
    println!("{target}: {number} cases");
}

/// Ends the process, naming the case, when one hangs: nothing else gets out of an endless loop.
fn watch(target: &str, seed: u64) -> (Arc<AtomicU64>, mpsc::Sender<()>) {
    let (over, ended) = mpsc::channel::<()>();
    let running = Arc::new(AtomicU64::new(0));
    let (seen, target) = (running.clone(), target.to_owned());
    std::thread::spawn(move || {
        let mut last = None;
        while ended.recv_timeout(HUNG) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = seen.load(Ordering::Relaxed);
            if last.replace(now) == Some(now) {
                eprintln!("{target} hangs: repeat with HALBERD_FUZZ_SEED={seed} HALBERD_FUZZ_CASE={now}");
                std::process::abort();
            }
        }
    });
    (running, over)
}

/// One of these.
pub(crate) fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// Any bytes, mostly few.
pub(crate) fn bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let length =
        if rng.random_bool(0.9) { rng.random_range(0..=most.min(96)) } else { rng.random_range(0..=most) };
    (0..length).map(|_| rng.random()).collect()
}

/// The same with a few bytes changed, cut out, doubled, or the end cut off: most of it is still right.
pub(crate) fn mutated(rng: &mut StdRng, good: &[u8]) -> Vec<u8> {
    let mut out = good.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        if out.is_empty() {
            return bytes(rng, 64);
        }
        let at = rng.random_range(0..out.len());
        match rng.random_range(0..7) {
            0 => out[at] ^= 1 << rng.random_range(0..8),
            1 => out[at] = *pick(rng, &[0, 1, 0x0f, 0x10, 0x7f, 0x80, 0xff]),
            2 => out[at] = rng.random(),
            3 => out.truncate(at),
            4 => drop(out.remove(at)),
            5 => out.insert(at, rng.random()),
            _ => {
                let end = rng.random_range(at..=out.len()).min(at + 64);
                let copy = out[at..end].to_vec();
                out.splice(at..at, copy);
            }
        }
    }
    out
}

/// What has hurt programs before, between plain characters.
const NASTY: [&str; 40] = [
    "\0",
    "\n",
    "\r\n",
    "\t",
    "\u{1b}[2J",
    "\"",
    "'",
    "\\",
    "`",
    "$(id)",
    ";",
    "|",
    "&",
    "=",
    "%00",
    "%s",
    "%n",
    "..",
    "../",
    "/",
    "//",
    "\\\\",
    ":",
    "@",
    "?",
    "#",
    "[",
    "]",
    "[::1]",
    "\u{202e}",
    "\u{feff}",
    "\u{ff0f}",
    "\u{e9}",
    "\u{1f512}",
    " ",
    "file:",
    "http:",
    "0x",
    "-1",
    "18446744073709551616",
];

/// A text, mostly short, sometimes huge, often with [`NASTY`] parts.
pub(crate) fn text(rng: &mut StdRng) -> String {
    let mut out = String::new();
    for _ in 0..rng.random_range(0..6) {
        match rng.random_range(0..4) {
            0 => out.push_str(pick::<&str>(rng, &NASTY)),
            1 => out.push(rng.random()),
            _ => out.extend((0..rng.random_range(1..8)).map(|_| char::from(rng.random_range(b'!'..=b'~')))),
        }
    }
    if rng.random_ratio(1, 60) { out.repeat(5_000) } else { out }
}

/// Any JSON.
pub(crate) fn value(rng: &mut StdRng, depth: u32) -> Value {
    match rng.random_range(0..if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => rng.random::<bool>().into(),
        2 => pick(rng, &[json!(0), json!(-1), json!(1e308), json!(u64::MAX), json!(i64::MIN), json!(0.1)])
            .clone(),
        3 => (*pick(rng, &["On", "Off", "off", "PoweringOff", "ForceOff", "/redfish/v1/Systems/1", "S1"]))
            .into(),
        4 | 5 => text(rng).into(),
        6 => (0..rng.random_range(0..5)).map(|_| value(rng, depth - 1)).collect(),
        _ => Value::Object((0..rng.random_range(0..5)).map(|_| (text(rng), value(rng, depth - 1))).collect()),
    }
}

/// A document with some of its places changed: values replaced, keys lost, lists grown.
pub(crate) fn disturbed(rng: &mut StdRng, good: &Value) -> Value {
    let mut out = good.clone();
    for _ in 0..rng.random_range(0..3) {
        disturb(rng, &mut out);
    }
    out
}

fn disturb(rng: &mut StdRng, here: &mut Value) {
    let deeper = rng.random_bool(0.8);
    match here {
        Value::Object(map) if deeper && !map.is_empty() => {
            let key = map.keys().nth(rng.random_range(0..map.len())).cloned().unwrap();
            match rng.random_range(0..8) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(text(rng), value(rng, 2))),
                _ => disturb(rng, &mut map[&key]),
            }
        }
        Value::Array(list) if deeper && !list.is_empty() => {
            let at = rng.random_range(0..list.len());
            match rng.random_range(0..8) {
                0 => drop(list.remove(at)),
                1 => {
                    let copy = list[at].clone();
                    list.extend(std::iter::repeat_n(copy, rng.random_range(1..200)));
                }
                _ => disturb(rng, &mut list[at]),
            }
        }
        Value::String(text) if rng.random_bool(0.5) => {
            *text = String::from_utf8_lossy(&mutated(rng, text.as_bytes())).into_owned();
        }
        _ => *here = value(rng, 3),
    }
}

/// A body as a broken service sends it: JSON, almost JSON, none, nested without end, or far too much.
pub(crate) fn body(rng: &mut StdRng, good: &Value) -> Vec<u8> {
    match rng.random_range(0..40) {
        0 => bytes(rng, 4_096),
        1 => mutated(rng, good.to_string().as_bytes()),
        2 => value(rng, 4).to_string().into_bytes(),
        3 => {
            let deep = rng.random_range(100..20_000);
            [b"{\"PowerState\":".repeat(deep), b"\"Off\"".to_vec(), b"}".repeat(deep)].concat()
        }
        4 => b"[".repeat(rng.random_range(1..200_000)),
        5 => Vec::new(),
        _ => disturbed(rng, good).to_string().into_bytes(),
    }
}

/// An error as it will be shown: bounded, on one line, without anything that moves a terminal.
pub(crate) fn presentable(error: &crate::FenceError) {
    let text = error.to_string();
    assert!(text.len() <= LONGEST_ERROR, "{} bytes of error: {:.200}", text.len(), text);
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
