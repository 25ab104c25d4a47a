//! The publisher: tells RabbitMQ what stands in the bus outbox, in the form of oslo.messaging's notifications, so that consumers of the
//! original's events read ours (contract 3.9). At least once, never in the way of a recovery (I29, L10).
//!
//! It believes that the broker is away just when there is most to tell. So messages wait in the database, where the change they
//! tell of wrote them; a message goes from there only when the broker has confirmed it. What was sent and not confirmed is sent
//! again with the same `message_id`, on whichever engine's link. Messages about one object leave in order: within one engine a
//! younger one is sent when the older is confirmed, and among engines the claim sees to it (`halberd_store::bus::claim`).

mod config;
mod link;
mod url;
mod wire;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use halberd_core::time::Stamp;
use halberd_store::Db;
use tokio_util::sync::CancellationToken;

pub use config::{BusConfig, ConfigError};

use worker::Worker;

/// What else the publisher needs to know.
#[derive(Clone)]
pub struct PublisherOptions {
    /// Shown in the broker's list of connections.
    pub name: String,
    /// How often the outbox is looked at while nothing waits.
    pub poll: Duration,
    /// Pause after the first failed attempt to connect; doubles.
    pub first_pause: Duration,
    /// Longest such pause: how long after its return a broker may wait for us.
    pub longest_pause: Duration,
    /// The wall clock, which claims are dated by.
    pub clock: Arc<dyn Fn() -> Stamp + Send + Sync>,
}

impl PublisherOptions {
    pub fn new(engine: &str) -> PublisherOptions {
        PublisherOptions {
            name: format!("halberd {engine}"),
            poll: Duration::from_millis(500),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(15),
            clock: Arc::new(crate::clock::stamp),
        }
    }
}

impl fmt::Debug for PublisherOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherOptions")
            .field("name", &self.name)
            .field("poll", &self.poll)
            .finish_non_exhaustive()
    }
}

/// Publishes what stands in the bus outbox.
#[derive(Debug)]
pub struct Publisher(Worker);

impl Publisher {
    /// Checks the section and reads the files it names.
    ///
    /// # Errors
    /// The first key that cannot be used, and why.
    pub fn new(db: Db, config: &BusConfig, options: PublisherOptions) -> Result<Publisher, ConfigError> {
        config.check()?;
        config.target()?;
        config.ca()?;
        Ok(Publisher(Worker::new(db, config.clone(), options)))
    }

    /// Works until cancelled; what is under way then gets a moment to be confirmed.
    pub async fn run(self, cancel: CancellationToken) {
        self.0.run(cancel).await;
    }
}
