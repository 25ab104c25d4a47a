//! `PUT /hosts/{uuid}/attributes`: where a host stands and which machine it is.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use halberd_core::audit::Entry;
use halberd_core::host::FailureDomain;
use halberd_core::id::HostId;
use halberd_store::hosts::{self, HostEdit};
use halberd_store::{audit, write};
use halberd_types::halberd::host::HostAttributes;
use halberd_types::halberd::problem::Problem;
use serde_json::json;

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Replaces rack, power, switch, serial and machine of a host; what is absent is cleared.
#[utoipa::path(
    put, path = "/hosts/{uuid}/attributes", operation_id = "set_host_attributes", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    request_body = HostAttributes,
    responses(
        (status = 200, body = HostAttributes),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    body: Bytes,
) -> Result<Json<HostAttributes>, Failure> {
    door::require(&caller, "halberd:hosts:attributes")?;
    let id = input::id::<HostId>(&uuid)?;
    let wanted = HostAttributes::parse(&input::json(&body)?)?;
    let edit = HostEdit {
        domain: Some(FailureDomain {
            rack: wanted.rack.clone(),
            power: wanted.power.clone(),
            switch: wanted.switch.clone(),
        }),
        serial: Some(wanted.serial.clone()),
        machine: Some(wanted.machine),
        ..HostEdit::default()
    };
    let (now, chain, actor) = (door::now(&app), door::chain(&app), door::actor(&caller));
    write(door::db(&app), async |tx| {
        let host = hosts::edit(tx, id, &edit, now).await?;
        let text = format!("{actor} set where {} stands and which machine it is", host.name);
        let entry = Entry::new(
            "host_attributes_set",
            text,
            json!({ "host": id, "actor": actor, "attributes": wanted }),
        );
        audit::append(tx, &chain, 0, &[entry], now).await
    })
    .await?;
    Ok(Json(wanted))
}
