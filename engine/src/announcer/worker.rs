//! One hook's task: claim what is due, send it on a few lanes, record what came of it.

use std::sync::Arc;
use std::time::Duration;

use halberd_core::time::Stamp;
use halberd_store::deliveries::{self, Attempt, Claimed, DeliveryState};
use halberd_store::{Db, write};
use rand::Rng;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::AnnouncerOptions;
use super::config::Hook;
use super::message;
use super::send::{self, Failure};
use crate::failpoint::{self, Listener, Place};

/// Attempts at once. Recoveries are told of side by side, but a receiver that comes back is not met by a crowd.
const LANES: usize = 4;
/// What a claim lasts beyond the attempt's own deadline: reading files, two commits, a busy machine.
const CLAIM_MARGIN: Duration = Duration::from_secs(10);
/// What attempts under way get at the end.
const LAST_MOMENT: Duration = Duration::from_secs(2);
/// Looked through for an older move of the same ticket. More than these pending at once for one hook means that it has been
/// away for hours; then the order of its tickets is the least of its troubles.
const LOOKED_THROUGH: u32 = 2000;

#[derive(Clone)]
pub(super) struct Worker {
    pub db: Db,
    pub hook: Arc<Hook>,
    pub client: reqwest::Client,
    pub options: AnnouncerOptions,
    pub nudge: Arc<Notify>,
    pub failpoints: Listener,
}

impl Worker {
    pub async fn run(self, cancel: CancellationToken) {
        let mut lanes = JoinSet::new();
        let mut failing = false;
        loop {
            // Registered before the look, so that a nudge during it is not lost.
            let nudged = self.nudge.notified();
            match self.claim(LANES - lanes.len()).await {
                Ok(claimed) => {
                    failing = false;
                    for claimed in claimed {
                        let worker = self.clone();
                        lanes.spawn(async move { worker.deliver(claimed).await });
                    }
                }
                Err(error) => {
                    if !failing {
                        tracing::error!(webhook = self.hook.name, %error, "the outbox cannot be read; trying on");
                    }
                    failing = true;
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                // A free lane is filled at once; with none free, only an end frees one.
                Some(_) = lanes.join_next() => {}
                () = nudged, if lanes.len() < LANES => {}
                () = tokio::time::sleep(self.options.poll), if lanes.len() < LANES => {}
            }
        }
        let _ = tokio::time::timeout(LAST_MOMENT, async { while lanes.join_next().await.is_some() {} }).await;
    }

    fn now(&self) -> Stamp {
        (self.options.clock)()
    }

    async fn claim(&self, free: usize) -> halberd_store::Result<Vec<Claimed>> {
        let name = &self.hook.name;
        // A look first: an idle hook must not queue for the one connection that writes.
        if free == 0
            || deliveries::list(&self.db, Some(name), Some(DeliveryState::Pending), 1).await?.is_empty()
        {
            return Ok(Vec::new());
        }
        let (limit, hold, now) =
            (u32::try_from(free).unwrap_or(1), self.hook.timeout + CLAIM_MARGIN, self.now());
        write(&self.db, async |tx| deliveries::claim(tx, name, limit, hold, now).await).await
    }

    async fn deliver(self, claimed: Claimed) {
        let result = self.attempt(&claimed).await;
        if let Err(error) = result {
            // The claim runs out and the delivery falls due again: at least once.
            tracing::warn!(webhook = self.hook.name, event = %claimed.delivery.event, %error, "a delivery's outcome was not recorded");
        }
    }

    async fn attempt(&self, claimed: &Claimed) -> halberd_store::Result<()> {
        if !self.hook.interest.wants(claimed.event().kind) {
            return self.record(claimed, Ok("unwanted")).await;
        }
        if self.hook.keeps_tickets() && self.is_behind(claimed).await? {
            // Not ours to send yet; the claim runs out by itself, which is also how often we look again.
            return Ok(());
        }
        let message = message::build(&self.hook, &claimed.event, &self.options.source).map_err(Failure::new);
        let id = claimed.delivery.event.to_string();
        failpoint::before(&self.failpoints, Place::Delivery).await;
        let sent = match message {
            Ok(message) => send::post(&self.client, &self.hook, &id, message, self.now()).await,
            Err(failure) => Err(failure),
        };
        failpoint::after(&self.failpoints, Place::Delivery).await;
        self.record(claimed, sent.map(|()| "delivered")).await
    }

    /// Whether an older move of the same ticket waits still.
    async fn is_behind(&self, claimed: &Claimed) -> halberd_store::Result<bool> {
        let own = &claimed.delivery;
        let pending =
            deliveries::list(&self.db, Some(&self.hook.name), Some(DeliveryState::Pending), LOOKED_THROUGH)
                .await?;
        Ok(own.recovery.is_some()
            && pending.iter().any(|other| other.recovery == own.recovery && other.num < own.num))
    }

    async fn record(
        &self,
        claimed: &Claimed,
        sent: Result<&'static str, Failure>,
    ) -> halberd_store::Result<()> {
        let now = self.now();
        let chance = rand::rng().random_range(0.0..1.0);
        let pause = self.options.schedule.pause(claimed.delivery.attempts, chance);
        let outcome = match &sent {
            Ok(outcome) => *outcome,
            Err(failure) if failure.is_final || pause.is_none() => "dead",
            Err(_) => "failed",
        };
        self.tell(claimed, &sent, outcome);
        let pause = pause
            .unwrap_or_default()
            .max(sent.as_ref().err().and_then(|failure| failure.patience).unwrap_or_default());
        let next_at = Stamp(now.0.saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)));
        let (row, error) = (&claimed.delivery, sent.err().map(|failure| failure.text));
        write(&self.db, async |tx| {
            let attempt = match &error {
                None => Attempt::Delivered,
                Some(error) if outcome == "dead" => Attempt::Dead { error },
                Some(error) => Attempt::Failed { error, next_at },
            };
            deliveries::record(tx, row, attempt, now).await
        })
        .await?;
        Ok(())
    }

    fn tell(&self, claimed: &Claimed, sent: &Result<&'static str, Failure>, outcome: &'static str) {
        metrics::counter!("halberd_webhook_attempts_total", "webhook" => self.hook.name.clone(), "outcome" => outcome).increment(1);
        let (webhook, event, attempts) =
            (&self.hook.name, claimed.delivery.event, claimed.delivery.attempts + 1);
        match (outcome, sent) {
            ("dead", Err(failure)) => {
                tracing::error!(webhook, %event, attempts, error = failure.text, "dead letter: given up; mend the receiver, the event stays readable at /halberd/v1/events");
            }
            (_, Err(failure)) if attempts == 1 => {
                tracing::warn!(webhook, %event, error = failure.text, "webhook failed; trying on")
            }
            (_, Err(failure)) => {
                tracing::debug!(webhook, %event, attempts, error = failure.text, "webhook failed again")
            }
            (_, Ok(_)) => tracing::debug!(webhook, %event, attempts, outcome, "webhook"),
        }
    }
}
