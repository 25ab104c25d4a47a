//! Whether this engine gets into OpenStack, for readiness: the word of its own reads of Nova, which need Keystone's token each time.
//! It is written into the engine's row when it changes, and once a minute for the time of the last success.

use std::sync::Arc;
use std::time::Duration;

use halberd_core::time::{Mono, Stamp};
use serde_json::{Value, json};

use crate::clock;
use crate::engines;
use crate::shared::Shared;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a success is written although nothing changed.
const AGAIN: Duration = Duration::from_secs(60);

/// Runs until the engine stops.
pub async fn run(shared: Arc<Shared>) {
    let began = clock::mono();
    let mut last_good: Option<Stamp> = None;
    let mut written: Option<(Mono, (bool, String))> = None;
    loop {
        let now = clock::mono();
        let word = word(&shared, began);
        if word.0 {
            last_good = Some(clock::stamp());
        }
        let due = written.as_ref().is_none_or(|(at, was)| *was != word || word.0 && now.since(*at) >= AGAIN);
        if due {
            let said = json!({"ok": word.0, "text": word.1, "last_good": last_good.map(|at| at.0)});
            match engines::note(&shared, "openstack", &said).await {
                Ok(()) => written = Some((now, word)),
                Err(error) => tracing::warn!(%error, "whether OpenStack lets us in could not be written"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Whether it works, and what is in the way in words. Errors of the OpenStack package name settings and never values.
fn word(shared: &Shared, began: Mono) -> (bool, String) {
    if shared.cloud.is_none() {
        return (false, "no [openstack] section is configured: no guest can be brought away".into());
    }
    match &shared.fleet().nova {
        Err(why) => (false, why.clone()),
        Ok(at) if *at < began => (false, "Nova has not answered yet".into()),
        Ok(_) => (true, "logged in at Keystone, and Nova answers".into()),
    }
}

/// The member of an engine's detail that says so; for the tests of whoever shows it.
pub fn of(detail: &Value) -> Option<(bool, &str)> {
    let said = detail.get("openstack")?;
    Some((said["ok"].as_bool()?, said["text"].as_str()?))
}
