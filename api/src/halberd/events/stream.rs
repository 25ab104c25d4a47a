//! `GET /events`: server-sent events (WHATWG HTML, 9.2), resumable by `Last-Event-ID` or `since`; `format=json` is the list.
//!
//! An event is a row written in the transaction of what it tells of, and the reader goes by the row's number: none is
//! skipped and none comes twice, however often the connection breaks. It polls, as engines of other processes write here too.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query as RawQuery, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use halberd_store::events;
use halberd_store::events::EventRow;
use halberd_types::halberd::Page;
use halberd_types::halberd::event::Event;
use halberd_types::halberd::problem::Problem;

use super::{place_of, shown};
use crate::halberd::door;
use crate::halberd::input::Query;
use crate::halberd::problem::Failure;
use crate::{App, Caller};

/// As often as engines poll for wishes (DESIGN 10.8): an operator sees no event later than an engine saw the cause.
const POLL: Duration = Duration::from_millis(250);
/// Proxies drop a silent connection after 30 to 60 s.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Rows read at once.
const BATCH: u32 = 100;

/// Events as they happen, from the present, or from after the event named.
#[utoipa::path(
    get, path = "/events", operation_id = "stream_events", tag = "events",
    params(
        ("since" = Option<String>, Query, description = "Id of the last event known; 0 for all that are stored."),
        ("Last-Event-ID" = Option<String>, Header, description = "As `since`; browsers send it when they reconnect. It wins."),
        ("format" = Option<String>, Query, description = "`sse`, or `json` for a page of what is stored."),
        ("limit" = Option<u32>, Query, description = "Items on a page of JSON, 1 to 1000; 100 unless given."),
    ),
    responses(
        (status = 200, content(
            (Event = "text/event-stream"),
            (Page<Event> = "application/json"),
        )),
        (status = 400, body = Problem),
        (status = 403, body = Problem),
        (status = 410, description = "No event with that id is stored: some may have been missed.", body = Problem),
    ),
)]
pub(crate) async fn handler(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    door::require(&caller, "halberd:events:index")?;
    let mut query = Query::of(query)?;
    let format = query.word("format", &["sse", "json"])?;
    let (since, limit) = (query.text("since"), query.limit()?);
    query.finish()?;
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let since = header.filter(|id| !id.is_empty()).or(since);
    let db = door::db(&app);
    let place = match &since {
        Some(since) => Some(place_of(db, since).await?),
        None => None,
    };
    if format.as_deref() == Some("json") {
        return Ok(Json(page(&app, place.unwrap_or(0), limit).await?).into_response());
    }
    let after = match place {
        Some(place) => place,
        None => events::last(db).await?,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("alive");
    let mut response = Sse::new(follow(app, after)).keep_alive(keep_alive).into_response();
    // Nginx would hold the stream back otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn page(app: &App, after: i64, limit: u32) -> Result<Page<Event>, Failure> {
    let mut rows = events::since(door::db(app), after, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let items: Vec<Event> = rows.iter().map(shown).collect();
    let next = items.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Page { items, next })
}

/// A reader of the outbox.
struct Reader {
    app: App,
    after: i64,
    ready: VecDeque<EventRow>,
}

fn follow(app: App, after: i64) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
    stream::unfold(Reader { app, after, ready: VecDeque::new() }, |mut reader| async move {
        let row = reader.next().await?;
        let event = shown(&row);
        let data = serde_json::to_string(&event).ok()?;
        let sse = SseEvent::default().id(event.id.to_string()).event(&event.kind).data(data);
        Some((Ok(sse), reader))
    })
}

impl Reader {
    /// The next event. `None` ends the stream: the database failed; the client comes again with the
    /// id of the last event that it has.
    async fn next(&mut self) -> Option<EventRow> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                self.after = row.num;
                return Some(row);
            }
            match events::since(door::db(&self.app), self.after, BATCH).await {
                Ok(rows) => self.ready.extend(rows),
                Err(error) => {
                    tracing::warn!(%error, "an event stream ends: the outbox cannot be read");
                    return None;
                }
            }
            if self.ready.is_empty() {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}
