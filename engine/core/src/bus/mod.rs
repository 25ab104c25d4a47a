//! What the message bus is told: the original's versioned event notifications, as its consumers know them (contract 3.9).
//!
//! A consumer pairs each `.start` with one `.end` or `.error`. Of a change that is one transaction here both tell the same, with
//! ids and the values committed (the original's `create.end` had no ids). The work on a report takes time: [`phases`] says what
//! a change of its status means, and each message carries the status it stands for (the original's said `running` for ever).

mod payload;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::host::Host;
use crate::notification::{Notification, NotificationStatus, NotificationType};
use crate::segment::Segment;
use crate::text_enum;
use crate::time::Stamp;

pub use payload::{LONGEST_FAULT, timestamp};

text_enum! {
    /// What was done to the object.
    pub enum Action {
        Create => "create",
        Update => "update",
        Delete => "delete",
        /// The engine's work on a report.
        Process => "process",
    }
}

text_enum! {
    pub enum Phase {
        Start => "start",
        End => "end",
        Error => "error",
    }
}

text_enum! {
    /// As oslo's notifiers spell it; in lower case it ends the name of the queue.
    pub enum Priority {
        Info => "INFO",
        Error => "ERROR",
    }
}

/// What the domain does not know of its row and the wire shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// v1's `id`.
    pub num: i64,
    pub created_at: Stamp,
    pub updated_at: Option<Stamp>,
    pub deleted_at: Option<Stamp>,
}

/// What a message is about. Without a row: its creation failed, so it never had ids.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    Segment(&'a Segment, Option<Row>),
    /// With its segment, which the payload embeds.
    Host(&'a Host, Option<Row>, (&'a Segment, Row)),
    Notification(&'a Notification, Option<Row>),
}

/// Why an operation failed, as the original's exceptions are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Class of the exception; consumers match on it.
    pub exception: &'static str,
    pub message: String,
}

impl Fault {
    /// The work on a report that did not end well.
    pub fn of_work(report: &Notification) -> Fault {
        let exception = match report.kind {
            NotificationType::ComputeHost => "HostRecoveryFailureException",
            NotificationType::Vm => "InstanceRecoveryFailureException",
            NotificationType::Process => "ProcessRecoveryFailureException",
        };
        let default = || format!("the recovery stands at {}", report.status);
        Fault { exception, message: report.message.clone().unwrap_or_else(default) }
    }
}

/// A message, up to its id and the name of the machine that publishes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Messages about one object keep their order.
    pub object: String,
    /// `masakari-api` or `masakari-engine`: the program of the original that would have spoken.
    pub publisher: &'static str,
    /// Such as `segment.create.end`.
    pub event_type: String,
    pub priority: Priority,
    /// A versioned object.
    pub payload: Value,
}

/// Makes a message. `fault` belongs to [`Phase::Error`] and to no other.
pub fn message(subject: Subject<'_>, action: Action, phase: Phase, fault: Option<&Fault>) -> Message {
    let (word, id) = match subject {
        Subject::Segment(segment, _) => ("segment", segment.id.to_string()),
        Subject::Host(host, ..) => ("host", host.id.to_string()),
        Subject::Notification(report, _) => ("notification", report.id.to_string()),
    };
    let operation = format!("{word}.{action}");
    Message {
        object: format!("{word}:{id}"),
        publisher: if action == Action::Process { "masakari-engine" } else { "masakari-api" },
        event_type: format!("{operation}.{phase}"),
        priority: if phase == Phase::Error { Priority::Error } else { Priority::Info },
        payload: payload::of(subject, fault.map(|fault| payload::fault(fault, &operation))),
    }
}

/// What a report's change of status says of the work on it: each phase with the status it is told with.
///
/// A report that waits for its operator has failed for now; when the work goes on it starts again, as the original's retries do.
pub fn phases(from: NotificationStatus, to: NotificationStatus) -> Vec<(Phase, NotificationStatus)> {
    use NotificationStatus::{Error, Failed, Finished, Ignored, New, Running};
    let ended = match to {
        _ if from == to => return Vec::new(),
        New | Running => None,
        Finished | Ignored => Some((Phase::End, to)),
        Failed | Error => Some((Phase::Error, to)),
    };
    let started = (from != Running && to != New).then_some((Phase::Start, from));
    started.into_iter().chain(ended).collect()
}
