//! `POST` and `DELETE /hosts/{uuid}/agent-key`: enrolment of an agent.
//!
//! The key is made here, sealed in the database, and shown once; whoever holds it speaks for this host and for no other.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use halberd_core::audit::Entry;
use halberd_core::id::HostId;
use halberd_store::{agent_keys, audit, hosts, write};
use halberd_types::beat::{AgentKey, KeyFile};
use halberd_types::halberd::host::AgentKeyIssued;
use halberd_types::halberd::problem::Problem;
use rand::TryRngCore;
use serde_json::json;

use crate::halberd::door;
use crate::halberd::input;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Makes a key for the host's agent in place of the former, which is void at once.
#[utoipa::path(
    post, path = "/hosts/{uuid}/agent-key", operation_id = "issue_agent_key", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    responses(
        (status = 201, description = "The text of the key file, given this once.", body = AgentKeyIssued),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn issue(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<Response, Failure> {
    door::require(&caller, "halberd:agent_keys:create")?;
    let id = input::id::<HostId>(&uuid)?;
    let sealer = door::sealer(&app);
    let mut bytes = [0u8; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|error| Failure::internal(&error))?;
    let (now, chain, actor) = (door::now(&app), door::chain(&app), door::actor(&caller));
    let host = write(door::db(&app), async |tx| {
        let host = hosts::get(&mut *tx, id).await?;
        agent_keys::set(tx, sealer, id, &bytes, now).await?;
        let text = format!("{actor} issued a key for the agent of {}", host.name);
        let entry = Entry::new("agent_key_issued", text, json!({ "host": id, "actor": actor }));
        audit::append(tx, &chain, 0, &[entry], now).await?;
        Ok(host.value)
    })
    .await?;
    let file = KeyFile { host: id.0, hostname: host.name.clone(), key: AgentKey::from_bytes(bytes) };
    let issued = AgentKeyIssued { host_id: id.0, host: host.name, key_file: file.render() };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((StatusCode::CREATED, no_store, Json(issued)).into_response())
}

/// Withdraws the key of the host's agent: its beats and reports count no more.
#[utoipa::path(
    delete, path = "/hosts/{uuid}/agent-key", operation_id = "withdraw_agent_key", tag = "hosts",
    params(("uuid" = Uuid, Path, description = "The host.")),
    responses(
        (status = 204, description = "It has no key any more."),
        (status = 403, body = Problem),
        (status = 404, description = "No such host, or it had no key.", body = Problem),
    ),
)]
pub(crate) async fn withdraw(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
) -> Result<StatusCode, Failure> {
    door::require(&caller, "halberd:agent_keys:delete")?;
    let id = input::id::<HostId>(&uuid)?;
    let (now, chain, actor) = (door::now(&app), door::chain(&app), door::actor(&caller));
    let had = write(door::db(&app), async |tx| {
        let host = hosts::get(&mut *tx, id).await?;
        if !agent_keys::remove(tx, id).await? {
            return Ok(false);
        }
        let text = format!("{actor} withdrew the key of the agent of {}", host.name);
        let entry = Entry::new("agent_key_withdrawn", text, json!({ "host": id, "actor": actor }));
        audit::append(tx, &chain, 0, &[entry], now).await?;
        Ok(true)
    })
    .await?;
    if had {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Failure::not_found(format!("Host {id} has no agent key.")))
    }
}
