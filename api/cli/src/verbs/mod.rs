//! The operator's verbs of the `halberd` command: clients of the public API and of nothing else.
//!
//! A verb may do what its caller's token may do, and shows what anybody's `curl` would; no database, no engine, no power device is
//! touched from here (but by `audit verify --config`, which reads a database while nothing runs). So each works from a laptop against any installation, and `segment`, `host`, `notification` and `vmove` work
//! against Masakari as well. What is asked of the engine (fence, confirm, check, retry) is a wish: the verb records it and waits
//! for the engine's answer.
//!
//! A thing is named by its name or its id, exactly; nothing is guessed. Exit codes: [`failure`].

mod agent;
mod audit;
mod client;
mod event;
mod explain;
mod failure;
mod fence;
mod fence_devices;
mod fence_history;
mod fence_status;
mod fence_test;
mod host;
mod notification;
pub(crate) mod output;
mod readiness;
mod reconcile;
mod recovery;
mod segment;
mod site;
mod story;
mod vmove;
mod watch;
mod wish;

#[cfg(test)]
mod tests;

use std::io::Write;
use std::process::ExitCode;

use client::Api;
use failure::Failure;
pub use output::Format;
use output::Screen;
pub use site::Engine;

/// Where the API is and how answers are printed.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of the operator's verbs")]
pub struct Global {
    /// Address of the API, asked without a token unless --cloud is given too
    ///
    /// Without it, --cloud, OS_CLOUD or OS_AUTH_URL say who logs in, and the catalog says where the API is;
    /// without any of these it is the `halberd serve` of this machine, http://127.0.0.1:15868.
    #[arg(
        verbatim_doc_comment,
        long,
        env = "HALBERD_URL",
        hide_env_values = true,
        value_name = "URL",
        global = true
    )]
    pub url: Option<String>,
    /// Cloud of clouds.yaml that says who logs in [env: OS_CLOUD]
    #[arg(long, value_name = "NAME", global = true)]
    pub cloud: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT", global = true)]
    pub format: Format,
    /// Show this column or field only; may be given again
    #[arg(short, long = "column", value_name = "NAME", global = true)]
    pub columns: Vec<String>,
}

/// The operator's verbs.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Failover segments: hosts that may stand in for one another
    #[command(subcommand)]
    Segment(segment::Segment),
    /// Hosts: the hypervisors of segments, their fence devices and agents' keys
    #[command(subcommand)]
    Host(host::Host),
    /// Notifications: reports of failures
    #[command(subcommand)]
    Notification(notification::Notification),
    /// VMoves: the guests' ways off dead hosts
    #[command(subcommand)]
    Vmove(vmove::Vmove),
    /// Recoveries: what is under way and what was done
    #[command(subcommand)]
    Recovery(recovery::Recovery),
    /// Tell why things happened, or did not: the time line of a recovery
    Explain(explain::Explain),
    /// Services of the control plane under supervision
    #[command(subcommand)]
    Service(site::Service),
    /// Agents on the hosts
    #[command(subcommand)]
    Agent(agent::Agent),
    /// Engines that work on this installation
    // `halberd engine` starts one, so this verb has the plural; whoever composes may take it in there as `engine list`.
    #[command(subcommand, name = "engines")]
    Engine(Engine),
    /// Tell whether a recovery would work now, and what stands in its way
    Readiness(readiness::Readiness),
    /// Reconcile-only: whether the database was rewound, what was found since, and the way out
    #[command(subcommand)]
    Reconcile(reconcile::Reconcile),
    /// Fencing: whether hosts could be turned off, turning them off and on, trying it out, stating it
    #[command(subcommand)]
    Fence(fence::Fence),
    /// The audit: what was believed, decided and done
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Events: what was announced
    #[command(subcommand)]
    Event(event::Event),
}

/// Runs a verb: answers go to standard output, a failure to standard error and into the exit code (0 done, 1 refused or failed, 2 wrong
/// usage, 3 nobody answers).
pub async fn run(verb: Verb, global: &Global) -> ExitCode {
    let mut stdout = std::io::stdout();
    match execute(verb, global, |name| std::env::var(name).ok(), &mut stdout).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.code != 0 {
                eprintln!("halberd: {failure}");
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn execute(
    verb: Verb,
    global: &Global,
    variable: impl Fn(&str) -> Option<String>,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    if let Verb::Audit(audit) = &verb
        && let Some((config, recovery)) = audit.offline()
    {
        let mut screen = Screen { format: global.format, columns: &global.columns, out };
        return audit::verify_offline(config, recovery, &mut screen).await;
    }
    let api = Api::connect(client::way(global, variable)?).await?;
    let mut screen = Screen { format: global.format, columns: &global.columns, out };
    let screen = &mut screen;
    match verb {
        Verb::Segment(verb) => verb.run(&api, screen).await,
        Verb::Host(verb) => verb.run(&api, screen).await,
        Verb::Notification(verb) => verb.run(&api, screen).await,
        Verb::Vmove(verb) => verb.run(&api, screen).await,
        Verb::Recovery(verb) => verb.run(&api, screen).await,
        Verb::Explain(verb) => verb.run(&api, screen).await,
        Verb::Service(verb) => verb.run(&api, screen).await,
        Verb::Agent(verb) => verb.run(&api, screen).await,
        Verb::Engine(verb) => verb.run(&api, screen).await,
        Verb::Readiness(verb) => verb.run(&api, screen).await,
        Verb::Reconcile(verb) => verb.run(&api, screen).await,
        Verb::Fence(verb) => verb.run(&api, screen).await,
        Verb::Audit(verb) => verb.run(&api, screen).await,
        Verb::Event(verb) => verb.run(&api, screen).await,
    }
}
