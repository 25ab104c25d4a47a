//! A signal: what a monitor saw, dated when it saw it. Sending it is the business of [`crate::report`].

use chrono::{DateTime, Utc};
use halberd_types::report::{Report, ReportKind};
use uuid::Uuid;

use crate::clock::Platform;

/// What was seen, when.
#[derive(Clone, Debug)]
pub struct Signal {
    /// What.
    pub kind: ReportKind,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub observed_ns: u64,
    /// Wall clock, for people.
    pub observed_at: DateTime<Utc>,
}

impl Signal {
    /// Seen just now.
    #[expect(clippy::disallowed_methods, reason = "shown to people; the boot-time clock beside it decides")]
    pub fn now(platform: &Platform, kind: ReportKind) -> Signal {
        Signal { kind, observed_ns: platform.clock.now_ns(), observed_at: Utc::now() }
    }

    /// As a report with an id of its own: made once, however often it is sent.
    pub fn into_report(self, host: Uuid, boot: Uuid) -> Report {
        Report {
            report_id: Uuid::new_v4(),
            host,
            boot,
            observed_ns: self.observed_ns,
            observed_at: self.observed_at,
            kind: self.kind,
        }
    }
}
