//! `GET /hosts/{uuid}/fence-history`: what was ever done to a host's power, newest first.
//!
//! Read out of what is stored anyway: intents with their answers, and the audit's records of statements and drills.

use axum::Json;
use axum::extract::{Path, Query as RawQuery, State};
use chrono::SecondsFormat;
use halberd_core::evidence::Power;
use halberd_core::fence::{DeviceAttempt, OrderAnswer};
use halberd_core::id::HostId;
use halberd_core::time::Stamp;
use halberd_store::fence_history::{self, FenceActKind as StoredKind};
use halberd_store::hosts;
use halberd_types::halberd::Page;
use halberd_types::halberd::fence_act::{FenceAct, FenceActKind, FenceAttempt, PowerReadingView};
use halberd_types::halberd::problem::Problem;
use halberd_types::v1::value::parse_time;

use crate::halberd::door;
use crate::halberd::input::{self, Query, time};
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// Every off and on order with its answers and readings, what persons stated, and how drills ended.
#[utoipa::path(
    get, path = "/hosts/{uuid}/fence-history", operation_id = "show_fence_history", tag = "hosts",
    params(
        ("uuid" = Uuid, Path, description = "The host."),
        ("limit" = Option<u32>, Query, description = "Acts on a page, 1 to 1000; 100 unless given. Acts of the same moment stay together."),
        ("before" = Option<String>, Query, description = "`next` of the page before: a time."),
    ),
    responses(
        (status = 200, body = Page<FenceAct>),
        (status = 403, body = Problem),
        (status = 404, body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    Path(uuid): Path<String>,
    RawQuery(query): RawQuery<Vec<(String, String)>>,
) -> Result<Json<Page<FenceAct>>, Failure> {
    door::require(&caller, "halberd:hosts:fence_history")?;
    let (db, id) = (door::db(&app), input::id::<HostId>(&uuid)?);
    let mut query = Query::of(query)?;
    let (limit, before) = (query.limit()?, query.text("before"));
    query.finish()?;
    let before = before.map(|text| {
        parse_time(&text)
            .map(|at| Stamp(at.timestamp_micros()))
            .ok_or_else(|| Failure::bad_request("'before' is no time such as 2026-11-21T10:00:00.000000Z."))
    });
    let before = before.transpose()?;
    hosts::get(db, id).await?;
    let acts = fence_history::fence_history(db, id, limit, before).await?;
    let last = acts.last().filter(|_| acts.len() >= limit as usize).map(|act| time(act.at));
    let next = last.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
    Ok(Json(Page { items: acts.iter().map(shown).collect(), next }))
}

fn shown(act: &fence_history::FenceAct) -> FenceAct {
    let actor =
        [&act.detail["by"]["actor"], &act.detail["actor"]].into_iter().find_map(|actor| actor.as_str());
    let took =
        act.ended_at.filter(|_| is_order(act.kind)).map(|ended| ended.0.saturating_sub(act.at.0) / 1_000);
    FenceAct {
        at: time(act.at),
        kind: match act.kind {
            StoredKind::Off => FenceActKind::Off,
            StoredKind::On => FenceActKind::On,
            StoredKind::Stated => FenceActKind::Stated,
            StoredKind::Waived => FenceActKind::Waived,
            StoredKind::Drill => FenceActKind::Drill,
        },
        text: act.text.clone(),
        actor: actor.map(str::to_owned),
        recovery: act.recovery.map(|recovery| recovery.0),
        epoch: act.epoch,
        attempt: act.attempt,
        result: act.result.clone(),
        answer: act.answer.clone(),
        attempts: act.attempts.iter().map(attempt).collect(),
        ended_at: act.ended_at.map(time),
        took_ms: took.and_then(|ms| u64::try_from(ms).ok()),
    }
}

fn is_order(kind: StoredKind) -> bool {
    matches!(kind, StoredKind::Off | StoredKind::On)
}

fn attempt(attempt: &DeviceAttempt) -> FenceAttempt {
    FenceAttempt {
        level: attempt.level as u64,
        device: attempt.device.clone(),
        order: match &attempt.order {
            OrderAnswer::Accepted => "accepted".to_owned(),
            OrderAnswer::AlreadyOff => "already off".to_owned(),
            OrderAnswer::NotSent => "not sent".to_owned(),
            OrderAnswer::Refused(why) => format!("refused: {why}"),
            OrderAnswer::Unknown(why) => format!("unknown: {why}"),
        },
        readings: attempt
            .readings
            .iter()
            .map(|reading| PowerReadingView {
                power: match &reading.power {
                    Power::On => "on".to_owned(),
                    Power::Off => "off".to_owned(),
                    Power::Other(word) => word.clone(),
                },
                at_ms: reading.at_ms,
                after_order: reading.after_order,
            })
            .collect(),
        error: attempt.error.clone(),
        took_ms: attempt.took_ms,
    }
}
