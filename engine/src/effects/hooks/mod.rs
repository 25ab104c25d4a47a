//! Running hooks: a command in a process group of its own, or a signed POST (what they are for stands in `core::hook`).
//!
//! It believes that a hook hangs, floods its output, leaves children behind and is run twice. So each run has its time, after which
//! its whole process group is ended; no more of its output is kept than a person reads; it is told who it is by an id that stays the
//! same when it is repeated; and it is ended when this engine loses the right to act, before another engine may begin it.

mod command;
mod config;
#[cfg(test)]
mod tests;

use std::time::Duration;

use halberd_core::effect::Done;
use halberd_core::hook::{HookCall, HookReport, HookSpec, Hooks as Stored};
use serde_json::{Map, Value, json};

pub use config::{ConfigError, HookConfig, check};

use crate::announcer::call::Caller;
use crate::clock;

/// What a hook runs.
#[derive(Debug)]
enum What {
    Command(Vec<String>),
    Call(Box<Caller>),
}

/// A configured hook.
#[derive(Debug)]
struct Hook {
    spec: HookSpec,
    kinds: Vec<String>,
    what: What,
}

/// The hooks of an engine, in the configuration's order.
#[derive(Debug, Default)]
pub struct Hooks(Vec<Hook>);

impl Hooks {
    /// Checks every section, its program and its secrets.
    ///
    /// # Errors
    /// The first section that cannot be used: which, what is wrong, what to do.
    pub fn new(sections: &[HookConfig]) -> Result<Hooks, ConfigError> {
        let checked = config::checked(sections)?;
        let mut hooks = Vec::with_capacity(sections.len());
        for (section, checked) in sections.iter().zip(checked) {
            let fail = |what: String| ConfigError { name: section.name.clone(), what };
            section.check_program().map_err(fail)?;
            let what = match section.webhook() {
                Some(webhook) => {
                    let timeout = Duration::from_secs(checked.spec.timeout_s);
                    What::Call(Box::new(Caller::new(&webhook, timeout).map_err(|error| fail(error.what))?))
                }
                None => What::Command(section.command.clone()),
            };
            hooks.push(Hook { spec: checked.spec, kinds: checked.kinds, what });
        }
        Ok(Hooks(hooks))
    }

    /// What a recovery of this kind is opened with.
    pub fn for_kind(&self, kind: &str) -> Stored {
        let wanted = |hook: &&Hook| hook.kinds.iter().any(|known| known == kind);
        Stored::new(self.0.iter().filter(wanted).map(|hook| hook.spec.clone()).collect())
    }

    /// Runs one hook once. `stopped` ends when nobody waits for it any more or this engine may not act; the run is then ended too.
    pub async fn run(&self, call: &HookCall, stopped: impl Future<Output = String>) -> Done {
        let Some(hook) = self.0.iter().find(|hook| hook.spec.name == call.hook) else {
            return Done::Gone { text: "no longer configured, so not run".into() };
        };
        tokio::select! {
            report = hook.run(call) => Done::Hook { report },
            // What runs is ended by being dropped.
            why = stopped => Done::Unknown { text: why },
        }
    }
}

impl Hook {
    async fn run(&self, call: &HookCall) -> HookReport {
        let told = told(call);
        match &self.what {
            What::Command(words) => command::run(words, call, &told).await,
            What::Call(caller) => post(caller, call, &told).await,
        }
    }
}

async fn post(caller: &Caller, call: &HookCall, told: &Map<String, Value>) -> HookReport {
    let began = clock::mono();
    let body = Value::Object(told.clone()).to_string().into_bytes();
    let answer = caller.call(&call.run.to_string(), body, clock::stamp()).await;
    let took_ms = clock::mono().since(began).as_millis() as u64;
    let (ok, how) = match answer {
        Ok(()) => (true, "2xx".to_owned()),
        Err(text) => (false, text),
    };
    HookReport { ok, how, took_ms, stdout: String::new(), stderr: String::new() }
}

/// What a hook is told: a webhook's body, a command's standard input and, in capitals after `HALBERD_`, its environment.
fn told(call: &HookCall) -> Map<String, Value> {
    let about = &call.about;
    let all = json!({
        "hook": call.hook, "hook_run": call.run, "stage": call.at, "attempt": call.attempt,
        "recovery": about.recovery, "recovery_kind": about.kind, "host": about.host, "host_uuid": about.host_id,
        "instance_uuid": about.instance, "process": about.process, "segment_uuid": about.segment,
        "notification_uuid": about.notification, "outcome": about.outcome,
    });
    match all {
        Value::Object(all) => all.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Map::new(),
    }
}
