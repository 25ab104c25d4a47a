//! `PUT /v1/segments/{uuid}/hosts/{uuid}`: 200; 400 schema, 403, 404 pair, 409 under recovery, 400 a new name unknown to Nova, 409 a new name
//! in use.
//!
//! `on_maintenance` is the operator's own flag; clearing it clears all three. On a host that is *out* clearing it is also the operator's wish to
//! have the host back (DESIGN 10.9): it is recorded for an engine, which knows whether that is safe.

use axum::extract::State;
use axum::response::Response;
use halberd_core::audit::Entry;
use halberd_core::bus::Action;
use halberd_core::host::{Admission, Host};
use halberd_core::id::{HostId, WishId};
use halberd_store::hosts::{self, HostEdit};
use halberd_store::wishes::{self, NewWish};
use halberd_store::{Error, Read, segments, write};
use halberd_types::v1::host::{ITEM, Update};
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::answer;
use crate::app::App;
use crate::auth::Caller;
use crate::error::ApiResult;
use crate::input::{Body, Place};
use crate::refused;

pub(crate) async fn update(
    State(app): State<App>,
    caller: Caller,
    place: Place,
    Body(body): Body,
) -> ApiResult<Response> {
    let wanted = Update::parse(&body)?;
    caller.may("os_masakari_api:os-hosts:update")?;
    let segment = segments::get(&app.db, place.uuid("segment")?.into()).await?;
    let id: HostId = place.uuid("host")?.into();
    let old = super::of_segment(&app.db, id, segment.id).await?;
    let edit = edit_of(&old, wanted);
    if let Err(error) = check_free(&app.db, &old, &edit).await {
        return Err(refused::host(&app, Action::Update, &edit.applied_to(&old), Some(old.row()), error).await);
    }
    if let Some(name) = &edit.name {
        super::check_in_nova(&app, &caller, name).await?;
    }
    let now = app.now();
    let done = write(&app.db, async |tx| {
        // Read again: whatever happened while Nova was asked decides here.
        let old = super::of_segment(&mut *tx, id, segment.id).await?.value;
        check_free(&mut *tx, &old, &edit).await?;
        if readmits(&old, &edit) {
            wishes::insert(tx, &wish(id, &caller), now).await?;
        }
        let stored = hosts::edit(tx, id, &edit, now).await?;
        let text = format!("{} changed host {}", caller.actor(), old.name);
        let detail = json!({ "before": old, "after": stored.value, "request": caller.request_id.as_str() });
        app.audit(tx, Entry::new("host_changed", text, detail), now).await?;
        Ok(stored)
    })
    .await;
    let stored = match done {
        Ok(stored) => stored,
        Err(error) => {
            let wanted = edit.applied_to(&old);
            return Err(refused::host(&app, Action::Update, &wanted, Some(old.row()), error).await);
        }
    };
    app.nudge();
    Ok(answer::one(StatusCode::OK, ITEM, &super::shown(&stored, &segment)))
}

/// What a body changes: clients such as the dashboard send every field, changed or not.
fn edit_of(old: &Host, wanted: Update) -> HostEdit {
    HostEdit {
        name: wanted.name.filter(|name| *name != old.name),
        kind: wanted.host_type,
        control_attributes: wanted.control_attributes,
        // Set to what it is, it would end a recovery's hold on it.
        reserved: wanted.reserved.filter(|reserved| *reserved != old.reserved),
        on_maintenance: wanted.on_maintenance,
        ..HostEdit::default()
    }
}

fn readmits(host: &Host, edit: &HostEdit) -> bool {
    edit.on_maintenance == Some(false) && host.admission == Admission::Out
}

/// 409 under recovery; and a host that is not in keeps its name, by which what was set in Nova will be undone.
async fn check_free(on: impl Read, old: &Host, edit: &HostEdit) -> halberd_store::Result<()> {
    hosts::check_free(on, old.id).await?;
    if edit.name.is_none() || old.admission == Admission::In {
        return Ok(());
    }
    let why = format!("it is {}, and keeps its name until it is in again", old.admission);
    Err(Error::InUse { what: "host", id: old.id.to_string(), why })
}

fn wish(host: HostId, caller: &Caller) -> NewWish {
    NewWish {
        id: WishId(Uuid::new_v4()),
        kind: "readmit".to_owned(),
        subject: host.to_string(),
        actor: caller.actor().to_owned(),
        reason: "on_maintenance was cleared through /v1 while the host was out".to_owned(),
        body: json!({ "request": caller.request_id.as_str() }),
    }
}
