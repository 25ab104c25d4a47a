//! The announcer: tells the webhooks what happened, at least once or visibly dead (I29), and never in the way of a recovery (L10).
//!
//! It believes that receivers are down, slow, wrong or hostile at the worst moment. So events wait in the database, written
//! with the transition they tell of; each hook has a task, a client and a few lanes of its own, and what it claims falls due
//! again should we die with it. A delivery is therefore repeated at times, with the same `webhook-id`; a receiver drops repeats
//! by it, and orders what overtook by `sequence`.
//!
//! Events of one recovery reach a hook in order, as long as the older one is in its quick retries; then the younger may pass
//! (SAFETY 3.4). For a hook that keeps tickets they never pass: a late "open" would open what was closed.

pub(crate) mod call;
mod config;
mod message;
mod network;
mod preset;
mod schedule;
mod send;
mod sign;
mod template;
#[cfg(test)]
mod tests;
mod ticket;
mod worker;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::event::EventKind;
use halberd_core::time::Stamp;
use halberd_store::Db;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::{ConfigError, Events, Interest, SecretValue, WebhookConfig};
pub use schedule::Schedule;
pub use ticket::{Ticket, TicketAction};

use crate::failpoint::Listener;
use config::Hook;
use worker::Worker;

/// What else the announcer needs to know.
#[derive(Clone)]
pub struct AnnouncerOptions {
    /// CloudEvents' `source`: the URI of this installation.
    pub source: String,
    pub schedule: Schedule,
    /// How often the outbox is looked at when nobody nudges; timers find what wake-ups miss.
    pub poll: Duration,
    /// The wall clock, for time stamps that receivers see.
    pub clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
}

impl Default for AnnouncerOptions {
    fn default() -> AnnouncerOptions {
        AnnouncerOptions {
            source: "/halberd".into(),
            schedule: Schedule::default(),
            poll: Duration::from_millis(500),
            clock: Arc::new(crate::clock::stamp),
        }
    }
}

impl fmt::Debug for AnnouncerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnouncerOptions")
            .field("source", &self.source)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

/// Wakes every hook's task. It carries no data, so a lost one costs one poll.
#[derive(Clone, Debug)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn wake(&self) {
        self.0.notify_waiters();
    }
}

/// Checks every section without a database: for a configuration that is not used yet.
///
/// # Errors
/// As [`Announcer::new`].
pub fn check(sections: &[WebhookConfig]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for section in sections {
        if !names.insert(&section.name) {
            return Err(ConfigError {
                name: section.name.clone(),
                what: "there are two of this name".into(),
            });
        }
        section.check()?;
    }
    Ok(())
}

/// Sends what stands in the outbox.
#[derive(Debug)]
pub struct Announcer {
    db: Db,
    hooks: Vec<(Arc<Hook>, reqwest::Client)>,
    options: AnnouncerOptions,
    nudge: Arc<Notify>,
    failpoints: Listener,
}

impl Announcer {
    /// Checks every section.
    ///
    /// # Errors
    /// The first section that cannot be used, and why.
    pub fn new(
        db: Db,
        sections: &[WebhookConfig],
        options: AnnouncerOptions,
    ) -> Result<Announcer, ConfigError> {
        let mut names = BTreeSet::new();
        let mut hooks = Vec::with_capacity(sections.len());
        for section in sections {
            let fail = |what: String| ConfigError { name: section.name.clone(), what };
            if !names.insert(&section.name) {
                return Err(fail("there are two of this name".into()));
            }
            let hook = section.check()?;
            if hook.secret.is_none() && hook.template.is_none() {
                tracing::warn!(
                    webhook = hook.name,
                    "no secret: the receiver cannot tell our messages from anybody's"
                );
            }
            let client = send::client(&hook).map_err(fail)?;
            hooks.push((Arc::new(hook), client));
        }
        Ok(Announcer { db, hooks, options, nudge: Arc::default(), failpoints: None })
    }

    /// Somebody listens at the place where messages go out ([`crate::failpoint`]).
    pub fn watched(self, failpoints: Listener) -> Announcer {
        Announcer { failpoints, ..self }
    }

    /// Names of all hooks: what [`halberd_store::events::publish`] wants.
    pub fn names(&self) -> Vec<String> {
        self.hooks.iter().map(|(hook, _)| hook.name.clone()).collect()
    }

    /// Names of the hooks that are told of such events.
    pub fn names_for(&self, kind: EventKind) -> Vec<String> {
        let wanting = self.hooks.iter().filter(|(hook, _)| hook.interest.wants(kind));
        wanting.map(|(hook, _)| hook.name.clone()).collect()
    }

    /// For whoever commits events.
    pub fn nudge(&self) -> Nudge {
        Nudge(self.nudge.clone())
    }

    /// Works until cancelled; attempts under way then get a moment to end.
    pub async fn run(self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        for (hook, client) in self.hooks {
            let worker = Worker {
                db: self.db.clone(),
                hook,
                client,
                options: self.options.clone(),
                nudge: self.nudge.clone(),
                failpoints: self.failpoints.clone(),
            };
            tasks.spawn(worker.run(cancel.clone()));
        }
        while tasks.join_next().await.is_some() {}
    }
}
