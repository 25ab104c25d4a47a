//! The publisher's task: keep a link, claim what is due, send it in waves, record what came of it.

use std::collections::BTreeSet;
use std::time::Duration;

use halberd_core::time::Mono;
use halberd_store::bus::{self, Waiting};
use halberd_store::{Db, write};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use super::PublisherOptions;
use super::config::BusConfig;
use super::link::{Broken, Dialler, Link, Sent};
use crate::clock;

/// Messages claimed at once: enough that two commits are shared by many, few enough to be sent well within the claim.
const BATCH: u32 = 64;
/// What a claim lasts. Who dies with one leaves its messages to others after this long.
const HOLD: Duration = Duration::from_secs(60);
/// No wave begins later than this after its claim, so that the last confirm comes within it.
const SENDING: Duration = Duration::from_secs(25);
/// What a wave under way gets at the end.
const LAST_MOMENT: Duration = Duration::from_secs(2);
/// First and longest pause after the broker refused a message by itself.
const REFUSED: Duration = Duration::from_secs(1);
const REFUSED_AT_MOST: Duration = Duration::from_secs(60);
/// Failed attempts to connect after which it is no hiccup any more: with the longest pause that is some two minutes.
const HICCUPS: u32 = 12;

#[derive(Debug)]
pub(super) struct Worker {
    db: Db,
    config: BusConfig,
    options: PublisherOptions,
}

/// What became of a batch.
#[derive(Debug, Default)]
struct Outcome {
    confirmed: Vec<Waiting>,
    refused: Vec<(Waiting, String)>,
    unsent: Vec<Waiting>,
    broken: Option<String>,
}

impl Worker {
    pub fn new(db: Db, config: BusConfig, options: PublisherOptions) -> Worker {
        Worker { db, config, options }
    }

    pub async fn run(self, cancel: CancellationToken) {
        self.inherit().await;
        let mut dialler = Dialler::new(self.options.name.clone());
        let mut link: Option<Link> = None;
        let mut failures = 0;
        while !cancel.is_cancelled() {
            let pause = match link.take().filter(Link::is_up) {
                None => {
                    let dialled = tokio::select! {
                        dialled = dialler.dial(&self.config) => dialled,
                        () = cancel.cancelled() => break,
                    };
                    match dialled {
                        Ok(up) => {
                            tracing::info!(broker = up.at, "the message bus is connected");
                            link = Some(up);
                            failures = 0;
                            Duration::ZERO
                        }
                        Err(Broken(why)) => {
                            failures += 1;
                            tell_failure(failures, &why);
                            self.pause(failures)
                        }
                    }
                }
                Some(up) => match self.round(&up, &cancel).await {
                    Ok((_, Some(why))) => {
                        tracing::warn!(
                            broker = up.at,
                            why,
                            "the link to the message bus broke; what was not confirmed is sent again"
                        );
                        failures = 1;
                        self.pause(failures)
                    }
                    Ok((worked, None)) => {
                        link = Some(up);
                        if worked { Duration::ZERO } else { self.options.poll }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the bus outbox cannot be read or written; tried again");
                        link = Some(up);
                        self.options.longest_pause
                    }
                },
            };
            metrics::gauge!("halberd_bus_connected").set(if link.is_some() { 1.0 } else { 0.0 });
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cancel.cancelled() => {}
            }
        }
        if let Some(link) = link {
            link.close().await;
        }
    }

    /// Where no other engine can live, the claims found are those of our own former run.
    async fn inherit(&self) {
        if self.db.holds_exclusive_lock()
            && let Err(error) = write(&self.db, async |tx| bus::release_all(tx).await).await
        {
            tracing::warn!(%error, "claims of a former run stand until they run out");
        }
    }

    /// One batch. Whether there was one, and why the link is broken if it is.
    async fn round(
        &self,
        link: &Link,
        cancel: &CancellationToken,
    ) -> halberd_store::Result<(bool, Option<String>)> {
        let now = (self.options.clock)();
        // A look first: an idle publisher must not queue for the one connection that writes.
        if !bus::is_due(&self.db, now).await? {
            return Ok((false, None));
        }
        let began = clock::mono();
        let batch = write(&self.db, async |tx| bus::claim(tx, BATCH, HOLD, now).await).await?;
        let worked = !batch.is_empty();
        let outcome = self.send(link, batch, began, cancel).await;
        let now = (self.options.clock)();
        let count = |word: &'static str, n: usize| {
            metrics::counter!("halberd_bus_messages_total", "outcome" => word).increment(n as u64);
        };
        count("confirmed", outcome.confirmed.len());
        count("refused", outcome.refused.len());
        write(&self.db, async |tx| {
            bus::confirmed(tx, &outcome.confirmed).await?;
            bus::give_back(tx, &outcome.unsent).await?;
            for (message, why) in &outcome.refused {
                bus::postpone(tx, message, why, refusal_pause(message.attempts), now).await?;
            }
            Ok(())
        })
        .await?;
        Ok((worked, outcome.broken))
    }

    /// Sends a batch in waves: in each the oldest message of every object that is left.
    async fn send(
        &self,
        link: &Link,
        mut rest: Vec<Waiting>,
        began: Mono,
        cancel: &CancellationToken,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        while !rest.is_empty() {
            if cancel.is_cancelled() || clock::mono().since(began) > SENDING {
                break;
            }
            let (wave, later) = next_wave(rest);
            rest = later;
            let (sent, broken) = tokio::select! {
                sent = link.send(&wave) => sent,
                () = last_moment(cancel) => (Vec::new(), Some(Broken("stopped".into()))),
            };
            let mut refused = BTreeSet::new();
            let mut fates = sent.into_iter();
            for message in wave {
                match fates.next() {
                    Some(Sent::Confirmed) => outcome.confirmed.push(message),
                    Some(Sent::Refused(why)) => {
                        tracing::warn!(message = %message.id, event_type = message.event_type, why, "the message bus refused a message; tried again");
                        refused.insert(message.object.clone());
                        outcome.refused.push((message, why));
                    }
                    None => outcome.unsent.push(message),
                }
            }
            if let Some(Broken(why)) = broken {
                outcome.broken = Some(why);
                break;
            }
            // What is younger than a refused message of its object waits with it.
            let (held, free) = rest.into_iter().partition(|message| refused.contains(&message.object));
            outcome.unsent.extend::<Vec<Waiting>>(held);
            rest = free;
        }
        outcome.unsent.extend(rest);
        outcome
    }

    /// Doubles from the first to the longest; half of it is chance, so that engines do not come back as a crowd.
    fn pause(&self, failures: u32) -> Duration {
        let full =
            self.options.first_pause.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1).min(16)));
        full.min(self.options.longest_pause).mul_f64(rand::rng().random_range(0.5..1.0))
    }
}

/// The first message of each object, and the rest in its order.
fn next_wave(batch: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
    let mut seen = BTreeSet::new();
    batch.into_iter().partition(|message| seen.insert(message.object.clone()))
}

fn refusal_pause(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    REFUSED.saturating_mul(2u32.saturating_pow(doublings)).min(REFUSED_AT_MOST)
}

async fn last_moment(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(LAST_MOMENT).await;
}

fn tell_failure(failures: u32, why: &str) {
    match failures {
        1 => tracing::warn!(why, "the message bus is not reached; what is told waits in the database"),
        HICCUPS => tracing::error!(
            why,
            "the message bus is still not reached: mend the broker or [bus]; recoveries go on, their messages wait"
        ),
        _ => tracing::debug!(failures, why, "the message bus is not reached"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halberd_core::bus::Priority;
    use halberd_core::time::Stamp;
    use serde_json::Value;
    use uuid::Uuid;

    fn message(num: i64, object: &str) -> Waiting {
        Waiting {
            num,
            id: Uuid::new_v4(),
            object: object.into(),
            publisher: "masakari-api:x".into(),
            event_type: "host.update.start".into(),
            priority: Priority::Info,
            payload: Value::Null,
            at: Stamp(0),
            attempts: 0,
            version: 1,
        }
    }

    #[test]
    fn no_wave_has_two_messages_of_one_object() {
        let mut rest =
            vec![message(1, "a"), message(2, "a"), message(3, "b"), message(4, "a"), message(5, "c")];
        let mut waves = Vec::new();
        while !rest.is_empty() {
            let (wave, later) = next_wave(rest);
            waves.push(wave.iter().map(|message| message.num).collect::<Vec<_>>());
            rest = later;
        }
        assert_eq!(waves, [vec![1, 3, 5], vec![2], vec![4]]);
    }

    #[test]
    fn a_refused_message_is_tried_for_ever_and_not_in_a_frenzy() {
        assert_eq!(refusal_pause(0), REFUSED);
        assert_eq!(refusal_pause(3), REFUSED * 8);
        assert_eq!(refusal_pause(i64::MAX), REFUSED_AT_MOST);
    }
}
