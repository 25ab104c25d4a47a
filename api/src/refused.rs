//! What the message bus is told of operations that were refused with 409: their start and their error (contract 3.9).
//!
//! What succeeds is told by the store, in the transaction that did it. Here nothing was done, so the telling is a transaction of its
//! own, and if that fails the caller is answered all the same.

use halberd_core::bus::{Action, Fault, Row, Subject};
use halberd_core::host::Host;
use halberd_core::segment::Segment;
use halberd_store::{Error, Stored, bus, segments, write};

use crate::app::App;
use crate::error::ApiError;

/// A segment's change: `segment` as it was to be, `row` where it exists. The answer for the caller.
pub(crate) async fn segment(
    app: &App,
    action: Action,
    segment: &Segment,
    row: Option<Row>,
    error: Error,
) -> ApiError {
    if let Some(fault) = fault(&error) {
        tell(app, Subject::Segment(segment, row), action, &fault).await;
    }
    error.into()
}

/// A host's change; its segment is read, as the message embeds it.
pub(crate) async fn host(app: &App, action: Action, host: &Host, row: Option<Row>, error: Error) -> ApiError {
    if let Some(fault) = fault(&error)
        && let Ok(segment) = segments::get(&app.db, host.segment).await
    {
        let Stored { value, .. } = &segment;
        tell(app, Subject::Host(host, row, (value, segment.row())), action, &fault).await;
    }
    error.into()
}

async fn tell(app: &App, subject: Subject<'_>, action: Action, fault: &Fault) {
    if !app.db.speaks_on_bus() {
        return;
    }
    let now = app.now();
    let told = write(&app.db, async |tx| bus::refused(tx, subject, action, fault, now).await).await;
    if let Err(error) = told {
        tracing::warn!(%error, "a refusal was not told on the message bus");
    }
}

/// Named as the original's exceptions are; `None` for what is no refusal of the operation itself.
fn fault(error: &Error) -> Option<Fault> {
    let exception = match error {
        Error::Exists { what: "segment", .. } => "FailoverSegmentExists",
        Error::Exists { what: "host", .. } => "HostExists",
        Error::InUse { what: "segment", .. } => "FailoverSegmentInUse",
        Error::InUse { what: "host", .. } => "HostInUse",
        _ => return None,
    };
    Some(Fault { exception, message: error.to_string() })
}
