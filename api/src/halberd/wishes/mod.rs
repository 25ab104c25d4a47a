//! Wishes: what an operator asks, recorded for an engine (DESIGN 10.8). This interface moves no recovery itself.

pub(crate) mod show;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use halberd_core::audit::Entry;
use halberd_core::host::Host;
use halberd_core::id::WishId;
use halberd_core::recovery::Recovery;
use halberd_core::time::Stamp;
use halberd_store::wishes::{self, NewWish, WishRow};
use halberd_store::{Tx, audit, write};
use halberd_types::halberd::wish::{Wish, WishKind, WishRequest, WishState};
use halberd_types::halberd::{Subject, SubjectKind};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::halberd::door;
use crate::halberd::input::time;
use crate::halberd::problem::{Failure, PREFIX};
use crate::halberd::recoveries::view;
use crate::{App, Caller};

/// What a wish is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    Host(&'a Host),
    Recovery(&'a Recovery),
    Site,
}

impl About<'_> {
    fn subject(&self) -> Subject {
        match self {
            About::Host(host) => {
                Subject { kind: SubjectKind::Host, id: host.id.to_string(), name: host.name.clone() }
            }
            About::Recovery(recovery) => Subject {
                kind: SubjectKind::Recovery,
                id: recovery.id.to_string(),
                name: format!("{} of {}", recovery.subject.kind(), view::subject(recovery).name),
            },
            About::Site => {
                Subject { kind: SubjectKind::Site, id: "site".to_owned(), name: "site".to_owned() }
            }
        }
    }
}

/// 202 with the wish, and where it can be asked for.
#[derive(Debug)]
pub(crate) struct Accepted(Wish);

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let place = format!("{PREFIX}/wishes/{}", self.0.id);
        (StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(self.0)).into_response()
    }
}

/// Reads the body, records the wish with its audit record, and wakes the engines.
///
/// The stored `subject` is the bare id (`site` for the whole); `body` holds `subject` in full, and `serial` or `until`.
pub(crate) async fn record(
    app: &App,
    caller: &Caller,
    kind: WishKind,
    about: About<'_>,
    body: &Value,
) -> Result<Accepted, Failure> {
    let request = WishRequest::parse(kind, body)?;
    let mut more = Map::new();
    more.extend(request.serial.map(|serial| ("serial".to_owned(), json!(serial))));
    more.extend(request.until.map(|until| ("until".to_owned(), json!(until))));
    record_read(app, caller, kind, about, request.reason, more).await
}

/// As [`record`], where the body was read already; `more` is what the kind needs besides the subject.
pub(crate) async fn record_read(
    app: &App,
    caller: &Caller,
    kind: WishKind,
    about: About<'_>,
    reason: String,
    more: Map<String, Value>,
) -> Result<Accepted, Failure> {
    let wish = NewWish { body: body(about, more), ..new(kind, about, door::actor(caller), reason) };
    let (now, chain) = (door::now(app), door::chain(app));
    write(door::db(app), async |tx| insert(tx, &chain, &wish, about, now).await).await?;
    door::nudge(app);
    let row = wishes::get(door::db(app), wish.id).await?;
    Ok(Accepted(shown(&row)?))
}

/// A wish that is not recorded yet.
pub(crate) fn new(kind: WishKind, about: About<'_>, actor: String, reason: String) -> NewWish {
    NewWish {
        id: WishId(Uuid::new_v4()),
        kind: word(kind),
        subject: about.subject().id,
        actor,
        reason,
        body: body(about, Map::new()),
    }
}

fn body(about: About<'_>, more: Map<String, Value>) -> Value {
    let mut kept = Map::from_iter([("subject".to_owned(), json!(about.subject()))]);
    kept.extend(more);
    Value::Object(kept)
}

/// Records a wish and its audit record with whatever else the transaction changes.
pub(crate) async fn insert(
    tx: &mut Tx,
    chain: &str,
    wish: &NewWish,
    about: About<'_>,
    now: Stamp,
) -> halberd_store::Result<()> {
    wishes::insert(tx, wish, now).await?;
    let subject = about.subject();
    let text = format!("{} asked for {} of {}: {}", wish.actor, wish.kind, subject.name, wish.reason);
    let detail = json!({ "wish": wish.id, "kind": wish.kind, "subject": subject, "actor": wish.actor });
    audit::append(tx, chain, 0, &[Entry::new("wish_recorded", text, detail)], now).await
}

/// The kind's word, on the wire and in the database.
fn word(kind: WishKind) -> String {
    match serde_json::to_value(kind) {
        Ok(Value::String(word)) => word,
        _ => unreachable!("a kind is written as one word"),
    }
}

/// A wish as stored, shown.
pub(crate) fn shown(row: &WishRow) -> Result<Wish, Failure> {
    let wish = &row.wish;
    let read = |value: Value| serde_json::from_value(value).map_err(|error| Failure::internal(&error));
    let subject = match wish.body.get("subject") {
        Some(subject) => {
            serde_json::from_value(subject.clone()).map_err(|error| Failure::internal(&error))?
        }
        None => Subject { kind: SubjectKind::Host, id: wish.subject.clone(), name: wish.subject.clone() },
    };
    Ok(Wish {
        id: wish.id.0,
        kind: read(Value::String(wish.kind.clone()))?,
        subject,
        actor: wish.actor.clone(),
        reason: wish.reason.clone(),
        state: match row.succeeded {
            Some(true) => WishState::Done,
            Some(false) => WishState::Refused,
            None => WishState::Open,
        },
        answer: row.result.as_ref().map(answer),
        made_at: time(row.created_at),
        answered_at: row.done_at.map(time),
    })
}

/// An engine answers in a sentence, or with a document that has one under `text`; anything else is shown as it is, masked.
fn answer(result: &Value) -> String {
    match result {
        Value::String(text) => text.clone(),
        other => match other["text"].as_str() {
            Some(text) => text.to_owned(),
            None => halberd_types::halberd::fence_device::masked(other).to_string(),
        },
    }
}
