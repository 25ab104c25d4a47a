//! Reports: from a signal to an accepted request, whatever dies in between.
//!
//! A report is on disk before anything else happens to it, and leaves the disk when the API accepted it. Order is
//! kept: one that cannot be sent now holds those behind it, since STARTED must not overtake STOPPED. The API being away
//! costs nothing but time; so does our own death.

pub(crate) mod outbox;
pub(crate) mod send;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use halberd_types::report::{REPORTS_PATH, ReportKind};
use rand::Rng;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::context::Context;
use crate::signal::Signal;
use outbox::{Message, Outbox, OutboxError, Stored};
use send::{Api, Fate};

/// First pause after a failed send; doubles up to [`MAX_BACKOFF`]. Half of it is chance, so that a thousand
/// agents do not come back to a restarted API at once.
const MIN_BACKOFF: Duration = Duration::from_millis(500);
/// Longest pause: an API that returns hears from everybody within half a minute.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Messages kept in memory while the disk takes none.
const MAX_UNWRITTEN: usize = 1000;

/// Takes signals. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    context: Arc<Context>,
    shelf: Arc<Mutex<Shelf>>,
    wake: Arc<Notify>,
}

/// The outbox, and what could not be written to it.
#[derive(Debug)]
struct Shelf {
    outbox: Outbox,
    unwritten: VecDeque<Message>,
}

impl Reporter {
    /// Opens the outbox with what an earlier run left. Errors: [`OutboxError`].
    pub fn open(context: Arc<Context>, dir: &Path) -> Result<Self, OutboxError> {
        let shelf = Shelf { outbox: Outbox::open(dir)?, unwritten: VecDeque::new() };
        Ok(Self { context, shelf: Arc::new(Mutex::new(shelf)), wake: Arc::new(Notify::new()) })
    }

    /// Reports; returns when the report is on disk.
    pub async fn report(&self, kind: ReportKind) {
        let replaces =
            matches!(kind, ReportKind::Domains { .. } | ReportKind::Identity(_)).then(|| name_of(&kind));
        tracing::info!(kind = name_of(&kind), "report");
        let signal = Signal::now(&self.context.platform, kind);
        let report = signal.into_report(self.context.host, self.context.platform.boot);
        let body = serde_json::to_string(&report).expect("a report has only string keys");
        self.put(Message { path: REPORTS_PATH.to_owned(), replaces: replaces.map(str::to_owned), body })
            .await;
    }

    /// Stores a message to send; returns when it is on disk.
    pub async fn put(&self, message: Message) {
        self.on_disk(move |shelf| shelf.put(message)).await;
        self.wake.notify_one();
    }

    /// Sends until aborted.
    pub async fn run(self, api: Arc<Api>) {
        let mut backoff = MIN_BACKOFF;
        loop {
            let Some(stored) = self.on_disk(Shelf::first).await else {
                self.wake.notified().await;
                continue;
            };
            match api.post(&stored.message.path, stored.message.body.clone()).await {
                Fate::Accepted => {
                    self.context.status.send_modify(|s| s.reports_accepted += 1);
                    self.on_disk(move |shelf| shelf.remove(&stored, false)).await;
                    backoff = MIN_BACKOFF;
                }
                Fate::Refused(why) => {
                    // A person must look: the API will never take this one, and it must not hold the others.
                    tracing::error!(report = %stored.name, %why, "refused for good; kept under outbox/refused");
                    self.on_disk(move |shelf| shelf.remove(&stored, true)).await;
                }
                Fate::Later(why) => {
                    tracing::warn!(%why, ?backoff, "cannot send reports; trying on");
                    let chance: f64 = rand::rng().random_range(0.5..1.0);
                    sleep(backoff.mul_f64(chance)).await;
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                }
            }
        }
    }

    /// File work leaves the loop that sends beats: a disk that hangs must not silence the host.
    async fn on_disk<T: Send + 'static>(&self, work: impl FnOnce(&mut Shelf) -> T + Send + 'static) -> T {
        let shelf = self.shelf.clone();
        let done = tokio::task::spawn_blocking(move || {
            work(&mut shelf.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match done.await {
            Ok(value) => value,
            // Cancelled only when the runtime ends, and panics are bugs: nothing to go on with.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Shelf {
    fn put(&mut self, message: Message) {
        self.flush();
        if self.unwritten.is_empty() {
            match self.outbox.put(&message) {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "outbox takes no report; kept in memory"),
            }
        }
        if self.unwritten.len() >= MAX_UNWRITTEN {
            self.unwritten.pop_front();
            tracing::error!("outbox takes no report and memory is full: the oldest report is lost");
        }
        self.unwritten.push_back(message);
    }

    fn flush(&mut self) {
        while let Some(message) = self.unwritten.front() {
            if self.outbox.put(message).is_err() {
                return;
            }
            self.unwritten.pop_front();
        }
    }

    fn first(&mut self) -> Option<Stored> {
        self.flush();
        let unwritten = || Some(Stored { name: String::new(), message: self.unwritten.front()?.clone() });
        self.outbox.first().or_else(unwritten)
    }

    fn remove(&mut self, stored: &Stored, refused: bool) {
        if stored.name.is_empty() {
            // Meanwhile it may have been written; then it is sent once more, which is harmless.
            if self.unwritten.front() == Some(&stored.message) {
                self.unwritten.pop_front();
            }
            return;
        }
        if let Err(error) = self.outbox.remove(&stored.name, refused) {
            tracing::error!(%error, "cannot remove a sent report; it will be sent again");
        }
    }
}

fn name_of(kind: &ReportKind) -> &'static str {
    match kind {
        ReportKind::ProcessStopped(_) => "process_stopped",
        ReportKind::ProcessStarted(_) => "process_started",
        ReportKind::GuestStopped(_) => "guest_stopped",
        ReportKind::GuestEvent(_) => "guest_event",
        ReportKind::Domains { .. } => "domains",
        ReportKind::Identity(_) => "identity",
        ReportKind::Panic { .. } => "panic",
    }
}
