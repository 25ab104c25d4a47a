//! One POST outside the outbox, for whoever waits for its answer (a recovery's hooks): the same client, signature and rules as a
//! webhook's, and the same silence about secrets.

use std::time::Duration;

use halberd_core::time::Stamp;

use super::config::{ConfigError, Hook, WebhookConfig};
use super::message::Message;
use super::send;

/// A receiver that is called and waited for.
#[derive(Debug)]
pub(crate) struct Caller {
    hook: Hook,
    client: reqwest::Client,
}

impl Caller {
    /// Checks the section as a webhook's; `timeout` is for the whole call, instead of the section's own.
    pub fn new(section: &WebhookConfig, timeout: Duration) -> Result<Caller, ConfigError> {
        let hook = Hook { timeout, ..section.check()? };
        let client = send::client(&hook).map_err(|what| ConfigError { name: section.name.clone(), what })?;
        Ok(Caller { hook, client })
    }

    /// Sends a JSON body once, signed where the section has a secret. `id` is what the receiver tells repeats by.
    ///
    /// # Errors
    /// What is wrong with the answer, or that there was none; free of secrets.
    pub async fn call(&self, id: &str, body: Vec<u8>, now: Stamp) -> Result<(), String> {
        let message = Message { content_type: "application/json", body };
        send::post(&self.client, &self.hook, id, message, now).await.map_err(|failure| failure.text)
    }
}
