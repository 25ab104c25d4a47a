//! This engine's own lease: registered under its name, renewed, and given back at a graceful stop.

use std::sync::Arc;
use std::time::Duration;

use halberd_core::lease::{Hold, Observed};
use halberd_core::policy::Policy;
use halberd_store::engines::{self, Registered};
use halberd_store::{sightings, write};
use serde_json::Value;

use crate::clock;
use crate::engines::{await_namesake, state};
use crate::shared::Shared;

/// Between two looks at a lease that must be waited for, and two tries to renew.
const AGAIN: Duration = Duration::from_millis(250);

/// Why an engine cannot start under its name.
#[derive(Debug, thiserror::Error)]
pub enum NameTaken {
    #[error("an engine named '{name}' is alive on this database; give this one another [engine] name")]
    Alive { name: String },
    #[error(transparent)]
    Store(#[from] halberd_store::Error),
}

/// Registers, waiting one lease for a namesake that may have died.
///
/// # Errors
/// [`NameTaken::Alive`] when the namesake's counter moves (F68).
pub async fn register(shared: &Shared) -> Result<(), NameTaken> {
    let detail = Value::Object(state::stable(shared));
    let lease = Policy::ms(shared.policy.lease_ms);
    let mut seen: Option<Observed> = None;
    loop {
        let sent = clock::mono();
        let lapsed = seen
            .as_ref()
            .filter(|seen| seen.lapsed(lease))
            .and_then(|seen| Some((seen.owner?, seen.counter)));
        let alone = shared.db.holds_exclusive_lock();
        let registered = write(&shared.db, async |tx| {
            engines::register(tx, &shared.name, shared.engine, lapsed, alone, &detail, clock::stamp()).await
        })
        .await?;
        match registered {
            Registered::Done { former } => {
                crate::rewind::registered(shared, former);
                if let Some(former) = former {
                    write(&shared.db, async |tx| sightings::forget(tx, former).await).await?;
                }
                shared.set_hold(|hold| *hold = Some(Hold::claimed(0, 0, &shared.policy, sent)));
                return Ok(());
            }
            Registered::Taken(row) => {
                let moved = seen
                    .as_ref()
                    .is_some_and(|seen| seen.owner == Some(row.id) && seen.counter != row.counter);
                if moved {
                    return Err(NameTaken::Alive { name: shared.name.clone() });
                }
                match &mut seen {
                    Some(seen) => drop(seen.observe(Some(row.id), 0, row.counter, clock::mono())),
                    None => {
                        tracing::info!(
                            name = shared.name,
                            "an engine of this name was here; waiting one lease to see whether it lives"
                        );
                        seen = Some(Observed::new(Some(row.id), 0, row.counter, clock::mono()));
                        await_namesake(shared, &row).await;
                    }
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Renews until the engine stops. What could not be renewed in time ends the right to act by itself.
pub async fn run(shared: Arc<Shared>) {
    let mut counter = 0;
    while !shared.stop.is_cancelled() {
        if shared.renew_due(clock::mono()) {
            let detail = state::detail(&shared);
            let sent = clock::mono();
            let renewed = write(&shared.db, async |tx| {
                engines::renew_saying(tx, shared.engine, &detail, clock::stamp()).await
            })
            .await;
            shared.engines.saying.renewed_in(clock::mono().since(sent));
            match renewed {
                Ok(Some(shown)) => {
                    crate::rewind::renewed(&shared, shown).await;
                    counter += 1;
                    shared.set_hold(|hold| match hold {
                        Some(hold) => hold.renewed(counter, sent),
                        None => *hold = Some(Hold::claimed(0, counter, &shared.policy, sent)),
                    });
                }
                Ok(None) if matches!(crate::rewind::row_gone(&shared).await, Ok(true)) => {}
                Ok(None) if shared.stop.is_cancelled() => return,
                Ok(None) => {
                    tracing::error!(
                        name = shared.name,
                        "another engine has taken this engine's name; it stops acting"
                    );
                    shared.set_hold(|hold| *hold = None);
                    shared.stop.cancel();
                }
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be renewed; without it nothing is done")
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

/// Gives the lease back, so that nobody need wait for it.
pub async fn give_back(shared: &Shared) {
    let stopped = write(&shared.db, async |tx| engines::stop(tx, shared.engine, clock::stamp()).await).await;
    if let Err(error) = stopped {
        tracing::warn!(%error, "the lease could not be given back; others wait until it lapses");
    }
}
