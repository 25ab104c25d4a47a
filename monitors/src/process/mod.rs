//! Process monitor: reads the original's YAML, restarts what is gone, and reports what does not come back.
//!
//! The list is read again at each look, so that it can be edited under a running agent; a list that became unreadable
//! leaves the last good one in force (the original's monitor ends there without a word). What was reported stopped is
//! remembered on disk, so that STARTED is said also after the agent itself was restarted.

pub mod command;
pub mod find;
pub mod list;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use halberd_types::beat::HostState;
use halberd_types::report::{ProcessPayload, ReportKind};
use tokio::time::{MissedTickBehavior, interval};

use crate::config::ProcessConfig;
use crate::context::Context;
use crate::report::Reporter;
use crate::report::send::chain;
use list::Entry;
use watch::{Limits, Move, Watch, step};

/// The monitor.
#[derive(Debug)]
pub(crate) struct ProcessMonitor {
    context: Arc<Context>,
    reporter: Reporter,
    config: ProcessConfig,
    memory: PathBuf,
    entries: Vec<Entry>,
    watches: BTreeMap<String, Watch>,
    unreadable: bool,
}

impl ProcessMonitor {
    pub fn new(context: Arc<Context>, reporter: Reporter, config: ProcessConfig, state_dir: &Path) -> Self {
        let memory = state_dir.join("processes-stopped.json");
        let stopped: BTreeSet<String> =
            std::fs::read(&memory).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let watches = stopped.into_iter().map(|name| (name, Watch::Down)).collect();
        Self { context, reporter, config, memory, entries: vec![], watches, unreadable: false }
    }

    /// Watches until aborted.
    pub async fn run(mut self) {
        self.read_list().await;
        self.start_missing().await;
        let mut tick = interval(Duration::from_secs_f64(self.config.check_interval));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.read_list().await;
            if self.may_start() {
                self.look().await;
            }
        }
    }

    /// On a boot that the engine keeps out, nothing is started: a nova-compute that returns too early destroys or starts guests.
    fn may_start(&self) -> bool {
        self.context.status.borrow().state != HostState::Out
    }

    async fn read_list(&mut self) {
        let path = self.config.list_path.clone();
        let read = tokio::task::spawn_blocking(move || list::read(&path)).await;
        match read {
            Ok(Ok(entries)) => {
                self.entries = entries;
                let known: BTreeSet<&str> = self.entries.iter().map(|e| e.process_name.as_str()).collect();
                self.watches.retain(|name, _| known.contains(name.as_str()));
                self.unreadable = false;
            }
            Ok(Err(error)) if !self.unreadable => {
                tracing::error!(
                    error = chain(&error),
                    "process list not taken; the last good one stays in force"
                );
                self.unreadable = true;
            }
            _ => {}
        }
    }

    /// As the original does once at its start, but only for what is not there.
    async fn start_missing(&mut self) {
        if !self.may_start() {
            return;
        }
        let present = self.present().await.unwrap_or_default();
        for entry in self.entries.clone() {
            let down = self.watches.get(&entry.process_name) == Some(&Watch::Down);
            if !present.contains(&entry.process_name) && !down && !entry.start_command.is_empty() {
                let lines = [&entry.pre_start_command, &entry.start_command, &entry.post_start_command];
                self.run_all(&entry, lines).await;
            }
        }
    }

    async fn look(&mut self) {
        let Some(present) = self.present().await else { return };
        let limits = Limits {
            retries: self.config.restart_retries,
            interval_ns: Duration::from_secs_f64(self.config.restart_interval).as_nanos() as u64,
        };
        for entry in self.entries.clone() {
            let name = &entry.process_name;
            let watch = self.watches.get(name).copied().unwrap_or(Watch::Up);
            let (next, what) = step(watch, present.contains(name), self.context.now_ns(), limits);
            self.watches.insert(name.clone(), next);
            match what {
                Move::Rest => {}
                Move::Restart => self.restart(&entry).await,
                Move::ReportStopped => {
                    tracing::error!(process = name, "is gone and does not come back");
                    self.say(&entry, ReportKind::ProcessStopped).await;
                }
                Move::ReportStarted => {
                    tracing::info!(process = name, "runs again");
                    self.say(&entry, ReportKind::ProcessStarted).await;
                }
            }
        }
    }

    /// Names of the listed processes that are there; `None` if nobody can say.
    async fn present(&self) -> Option<BTreeSet<String>> {
        let found = tokio::task::spawn_blocking(|| find::processes(Path::new("/proc"))).await;
        let processes = match found {
            Ok(Ok(processes)) => processes,
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot list processes");
                return None;
            }
            Err(_) => return None,
        };
        let there = |e: &&Entry| processes.iter().any(|p| find::fits(&e.process_name, p));
        Some(self.entries.iter().filter(there).map(|e| e.process_name.clone()).collect())
    }

    async fn restart(&self, entry: &Entry) {
        tracing::warn!(process = entry.process_name, "is gone; restarting");
        let lines = [&entry.pre_restart_command, &entry.restart_command, &entry.post_restart_command];
        self.run_all(entry, lines).await;
    }

    /// Whether it helped is for the next look to see, not for a command to say.
    async fn run_all(&self, entry: &Entry, lines: [&String; 3]) {
        let limit = Duration::from_secs_f64(self.config.command_timeout);
        for line in lines {
            if let Err(error) = command::run_line(line, entry.run_as_root, limit).await {
                tracing::error!(process = entry.process_name, error = chain(&error), "command failed");
                return;
            }
        }
    }

    /// The report first, then the memory: a crash between them says it twice, which the report's rules bear.
    async fn say(&self, entry: &Entry, kind: fn(ProcessPayload) -> ReportKind) {
        self.reporter.report(kind(ProcessPayload { process_name: entry.short_name().to_owned() })).await;
        let stopped: BTreeSet<&String> =
            self.watches.iter().filter(|(_, w)| **w == Watch::Down).map(|(n, _)| n).collect();
        let written = serde_json::to_vec(&stopped)
            .map_err(std::io::Error::from)
            .and_then(|bytes| crate::write_whole(&self.memory, &bytes));
        if let Err(error) = written {
            tracing::warn!(%error, file = %self.memory.display(), "cannot remember what was reported stopped");
        }
    }
}
