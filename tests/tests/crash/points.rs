//! Who listens at the engine's places (`halberd_engine::failpoint`): counts what was passed, and stops one engine at one place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use halberd_engine::failpoint::Failpoints;
use halberd_store::{Db, Page, intents, recoveries};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A place and which passing of it: the first is 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub place: String,
    pub pass: usize,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.pass == 1 { write!(f, "{}", self.place) } else { write!(f, "{}#{}", self.place, self.pass) }
    }
}

#[derive(Debug, Default)]
struct Seen {
    passed: BTreeMap<String, usize>,
    dead: BTreeSet<usize>,
    wrong: Vec<String>,
    struck: Option<Instant>,
    resumed: Option<Instant>,
}

/// All engines of one run share one.
#[derive(Debug)]
pub struct Points {
    target: Option<Point>,
    seen: Mutex<Seen>,
    /// The engine that stands at the target.
    struck: watch::Sender<Option<usize>>,
    /// The tables, as anybody else reads them.
    tables: OnceLock<(Db, Handle)>,
}

impl Points {
    pub fn new(target: Option<Point>) -> Arc<Points> {
        Arc::new(Points {
            target,
            seen: Mutex::default(),
            struck: watch::Sender::new(None),
            tables: OnceLock::new(),
        })
    }

    /// From now on each send is held against the stored intents. They are read on the caller's runtime: an engine's own goes with it.
    pub fn watch_tables(&self, db: Db) {
        let _ = self.tables.set((db, Handle::current()));
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each place was passed.
    pub fn passed(&self) -> BTreeMap<String, usize> {
        self.seen().passed.clone()
    }

    /// Sends that went out before their intent was stored, in words.
    pub fn wrong(&self) -> Vec<String> {
        self.seen().wrong.clone()
    }

    /// Changes to the engine that was stopped.
    pub fn struck(&self) -> watch::Receiver<Option<usize>> {
        self.struck.subscribe()
    }

    /// What the engine of this number listens with.
    pub fn of(self: &Arc<Self>, engine: usize) -> Arc<dyn Failpoints> {
        Arc::new(Engine { points: self.clone(), engine })
    }

    /// From the crash until somebody came to the next place.
    pub fn resumed_after(&self) -> Option<Duration> {
        let seen = self.seen();
        Some(seen.resumed?.duration_since(seen.struck?))
    }

    /// I7: so many sends, so many stored intents at least.
    async fn look_at_intents(&self, effect: &str, sends: usize) {
        let Some((db, handle)) = self.tables.get().cloned() else { return };
        let word = effect.to_owned();
        let stored = handle.spawn(async move { stored_intents(&db, &word).await }).await;
        if let Ok(stored) = stored.map(Result::unwrap_or_default)
            && stored < sends
        {
            let text = format!("I7: {effect} goes out, {sends} in all, and {stored} intents are stored");
            self.seen().wrong.push(text);
        }
    }
}

async fn stored_intents(db: &Db, effect: &str) -> halberd_store::Result<usize> {
    let mut stored = 0;
    let all = recoveries::list(db, &recoveries::RecoveryFilter::default(), &Page::default()).await?;
    for (_, recovery) in all {
        let rows = intents::of_recovery(db, recovery.id).await?;
        stored += rows.iter().filter(|row| row.intent.effect == effect).count();
    }
    Ok(stored)
}

#[derive(Debug)]
struct Engine {
    points: Arc<Points>,
    engine: usize,
}

#[async_trait]
impl Failpoints for Engine {
    async fn reached(&self, place: &str) {
        let points = &self.points;
        let (dead, pass) = {
            let mut seen = points.seen();
            let mut dead = seen.dead.contains(&self.engine);
            let mut pass = 0;
            if !dead {
                let passed = seen.passed.entry(place.to_owned()).or_default();
                *passed += 1;
                pass = *passed;
                if points.target.as_ref().is_some_and(|it| it.place == place && it.pass == pass) {
                    dead = seen.dead.insert(self.engine);
                    seen.struck = Some(Instant::now());
                } else if seen.struck.is_some() && seen.resumed.is_none() {
                    seen.resumed = Some(Instant::now());
                }
            }
            (dead, pass)
        };
        if dead {
            points.struck.send_if_modified(|struck| struck.replace(self.engine).is_none());
            // Nothing goes on from here; soon the whole engine is taken away.
            std::future::pending::<()>().await;
        }
        if let Some(effect) = place.strip_prefix("send.").and_then(|rest| rest.strip_suffix(".before")) {
            points.look_at_intents(effect, pass).await;
        }
    }
}
