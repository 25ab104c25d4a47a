//! Wishes about the whole service: the switch that stops all acting.

use halberd_core::time::Stamp;
use halberd_store::wishes::NewWish;
use halberd_store::{settings, write};

use crate::clock;
use crate::shared::Shared;

pub(super) async fn disarm(shared: &Shared, wish: &NewWish) -> Result<String, String> {
    let until = wish.body.get("until").and_then(|until| until.as_str());
    let until =
        until.map(chrono::DateTime::parse_from_rfc3339).transpose().map_err(|error| error.to_string())?;
    let disarm = settings::Disarm {
        actor: wish.actor.clone(),
        reason: wish.reason.clone(),
        since: clock::stamp(),
        until: until.map(|until| Stamp(until.timestamp_micros())),
    };
    let stored =
        write(&shared.db, async |tx| settings::set_disarm(tx, Some(&disarm), clock::stamp()).await).await;
    stored.map_err(|error| error.to_string())?;
    Ok("disarmed: nothing is fenced until then".into())
}

pub(super) async fn arm(shared: &Shared) -> Result<String, String> {
    let stored = write(&shared.db, async |tx| settings::set_disarm(tx, None, clock::stamp()).await).await;
    stored.map_err(|error| error.to_string())?;
    Ok("armed".into())
}
