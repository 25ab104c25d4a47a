//! `halberd demo`: a hypervisor dies and its guests come back, on one machine, in half a minute.
//!
//! What acts is production code over loopback sockets: the service as [`crate::serve`] starts it, one agent for each simulated hypervisor,
//! set up through the public API as an operator would. What it acts on is a simulated cloud that speaks real Keystone, Nova, Redfish and
//! IPMI, and that keeps the truth apart from what Nova believes. The judgement at the end rests on that truth alone.

mod agents;
mod bench;
mod client;
mod fault;
mod outcome;
mod show;
mod site;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use halberd_core::policy::Profile;
use halberd_types::halberd::recovery::RecoveryState;
use tokio::signal::unix::{SignalKind, signal};

use crate::telemetry::{self, LogFormat};
use fault::{DemoFault, Expected};
use outcome::{Report, Watched};
use site::{Site, SiteSpec};

/// Something went wrong with the demo itself.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// However a recovery goes, it shows what came of it by then: the slowest fault needs a quarter of this.
const PATIENCE: Duration = Duration::from_secs(240);
/// A hold or a question counts once it has stood this long: long enough for a wrong second thought to become a deed.
const SETTLED: Duration = Duration::from_secs(6);
/// How often the recovery is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// Arguments of the demo.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Hypervisors, in two racks; Redfish and IPMI controllers in turn.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(3..=100))]
    pub hosts: u16,
    /// Guests, spread over all hypervisors.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub guests: u32,
    /// Chooses the hypervisor and all latencies.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What goes wrong.
    #[arg(long, value_enum, default_value_t)]
    pub fault: DemoFault,
    /// Database instead of a temporary one, brought up to date; must hold no hosts of the same names.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Leave everything running at the end, until interrupted.
    #[arg(long)]
    pub keep: bool,
    /// Detection profile.
    #[arg(long, default_value = "balanced", value_parser = profile)]
    pub profile: Profile,
    /// Once and out; the default, said for scripts.
    #[arg(long)]
    pub once: bool,
    /// One JSON object on standard output instead of the show.
    #[arg(long)]
    pub json: bool,
    /// The figures of the product: one JSON line each (build with --release). With --database the one that depends on it most.
    #[arg(long, conflicts_with_all = ["keep", "once"])]
    pub bench: bool,
}

fn profile(text: &str) -> Result<Profile, String> {
    text.parse().map_err(|_| "fast, balanced or conservative".to_owned())
}

/// Runs the demo; the exit code says whether what had to come came.
pub async fn run(args: &DemoArgs) -> ExitCode {
    // Logs would tear the show apart; RUST_LOG brings them back.
    telemetry::start(LogFormat::Text, "off");
    if args.bench {
        return ended(bench::run(args.database.as_deref()).await.map(|()| true));
    }
    let kept = AtomicBool::new(false);
    // Dropping the site ends everything and removes its files.
    let done = tokio::select! {
        done = play(args, &kept) => done,
        () = interrupted(&kept) => Err("interrupted; everything was ended and removed".into()),
    };
    ended(done)
}

/// SIGINT or SIGTERM, until the play is over and only kept.
async fn interrupted(kept: &AtomicBool) {
    told_to_end().await;
    if kept.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

async fn told_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn ended(done: Result<bool, Failure>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("halberd demo: {}", crate::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn play(args: &DemoArgs, kept: &AtomicBool) -> Result<bool, Failure> {
    let terminal = !args.json && std::io::stdout().is_terminal();
    let show = show::Show::new(args.json, terminal);
    let spec = SiteSpec {
        hosts: args.hosts.into(),
        guests: args.guests as usize,
        seed: args.seed,
        profile: args.profile,
        database: args.database.clone(),
        fault: args.fault,
    };
    show.say(&format!(
        "{} hypervisors in 2 racks, {} guests, seed {}; {}",
        args.hosts,
        args.guests,
        args.seed,
        args.fault.says()
    ));
    let site = Site::start(spec).await?;
    show.say(&format!("API {}; Keystone {}", site.client.url(), site.cloud.keystone_url()));
    for note in args.fault.shortened() {
        show.say(note);
    }
    show.say("quiet start: an engine that has not listened for a full window fences nobody");
    site.warm_up().await?;
    let mut watched = Watched::begin(&site);
    show.say(&format!("now: {}", site.describe_fault()));
    watched.strike(&site);
    show.begin(watched.guests.len());
    let closed = follow(&site, &watched, &show).await?;
    let report = Report::of(&site, &watched, closed).await?;
    show.end(&site, &report).await?;
    if args.keep {
        kept.store(true, Ordering::Relaxed);
        show.keep(&site);
        told_to_end().await;
    }
    let good = report.good;
    site.stop().await;
    Ok(good)
}

/// Follows the recoveries until they came to something that stands. `Some`: how the first ended.
async fn follow(site: &Site, watched: &Watched, show: &show::Show) -> Result<Option<RecoveryState>, Failure> {
    let mut stands: Option<(Vec<RecoveryState>, Instant)> = None;
    loop {
        let recoveries = watched.look(site).await?;
        show.live(site, &recoveries).await;
        let states: Vec<RecoveryState> = recoveries.iter().map(|recovery| recovery.state).collect();
        let complete = states.len() == site.struck.len();
        let closed = complete && states.iter().all(|state| !state.is_open());
        if closed && (site.fault.expected() != Expected::Returned || site.host_is_in(&site.struck[0]).await?)
        {
            return Ok(states.first().copied());
        }
        let stops =
            |state: &RecoveryState| matches!(state, RecoveryState::Held | RecoveryState::NeedsOperator);
        // Where the road goes on by itself, a hold on the way is only a stop.
        let awaited = matches!(site.fault.expected(), Expected::Held | Expected::NeedsOperator);
        if complete && awaited && states.iter().all(stops) {
            match &stands {
                Some((before, since)) if *before == states => {
                    if since.elapsed() >= SETTLED {
                        return Ok(None);
                    }
                }
                _ => stands = Some((states, Instant::now())),
            }
        } else {
            stands = None;
        }
        if watched.since_fault() > PATIENCE {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}
