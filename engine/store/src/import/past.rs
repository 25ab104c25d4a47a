//! What becomes of a report and its moves here: settled, whatever they were, and in words that say what they were.

use std::collections::BTreeMap;

use halberd_core::hook::Hooks;
use halberd_core::id::{HostId, InstanceId, NotificationId, RecoveryId, SegmentId, VmoveId};
use halberd_core::instance::Wanted;
use halberd_core::notification::{NotificationStatus, NotificationType};
use halberd_core::policy::Policy;
use halberd_core::recovery::host::{HostRecovery, HostState};
use halberd_core::recovery::{
    Body, LockMark, Recovery, Stage, Subject, Vmove, VmoveStatus, WORKFLOW_VERSION,
};
use halberd_core::segment::RecoveryMethod;
use uuid::Uuid;

use super::report::{Report, Table, Unfinished};
use super::rows::{NotificationRow, VmoveRow};
use super::topology::Topology;

/// A report with everything that is needed to write it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub row: NotificationRow,
    pub segment: Uuid,
    pub host_name: String,
    pub method: RecoveryMethod,
    pub moves: Vec<VmoveRow>,
}

/// Joins a report with its moves. A guest that was moved twice under one report (a retry) keeps its last move.
pub(super) fn item(
    row: NotificationRow,
    topology: &Topology,
    moves: &mut Vec<VmoveRow>,
    report: &mut Report,
) -> Result<Item, String> {
    let host = topology.host(row.host);
    let segment = row.segment.or(host.map(|(_, segment)| segment));
    let segment = segment.ok_or("its host is not in the source any more (purged) and it names no segment")?;
    let mut last: BTreeMap<Uuid, VmoveRow> = BTreeMap::new();
    for vmove in std::mem::take(moves) {
        if row.kind != NotificationType::ComputeHost {
            report.leave(Table::Vmoves, vmove.uuid.to_string(), "its notification is not about a host");
        } else if let Some(before) = last.insert(vmove.instance, vmove) {
            let why = "its guest was moved again under the same notification; the last move was taken";
            report.leave(Table::Vmoves, before.uuid.to_string(), why);
        }
    }
    let host_name = match (host, last.values().next()) {
        (Some((name, _)), _) => name.to_owned(),
        (None, Some(vmove)) => vmove.source_host.clone(),
        (None, None) => row.host.to_string(),
    };
    let method = topology.method(segment).unwrap_or(RecoveryMethod::Auto);
    Ok(Item { row, segment, host_name, method, moves: last.into_values().collect() })
}

pub(super) fn unfinished(item: &Item) -> Unfinished {
    Unfinished {
        notification: item.row.uuid.to_string(),
        host: item.host_name.clone(),
        kind: item.row.kind.to_string(),
        status: item.row.status.to_string(),
        generated_time: item.row.generated_text.clone(),
    }
}

impl Item {
    /// How the report ends here. What was open ends as Masakari itself ends what it gave up, with the reason.
    pub fn ends(&self) -> (NotificationStatus, Option<String>) {
        if self.row.is_finished() {
            return (self.row.status, self.row.message.clone());
        }
        let said = self.row.message.as_ref().map_or(String::new(), |text| format!(" Masakari said: {text}"));
        let message = format!(
            "Imported from Masakari, where it was '{}'. No recovery was started from it: look at {} and its guests.{said}",
            self.row.status, self.host_name
        );
        (NotificationStatus::Failed, Some(message))
    }

    pub fn recovery(&self) -> Recovery {
        let ended = match self.ends().0 {
            NotificationStatus::Finished | NotificationStatus::Ignored => HostState::Finished,
            _ => HostState::Failed,
        };
        let opened_at = self.row.common.created_at.unwrap_or(self.row.generated_at);
        let last = self.moves.iter().filter_map(|vmove| vmove.end_time).max();
        Recovery {
            id: RecoveryId(self.row.uuid),
            notification: NotificationId(self.row.uuid),
            segment: SegmentId(self.segment),
            subject: Subject::Host { host: HostId(self.row.host) },
            host_name: self.host_name.clone(),
            method: self.method,
            policy: Policy::default(),
            hooks: Hooks::default(),
            body: Body::Host(HostRecovery { state: ended, ..HostRecovery::new() }),
            reason: format!("Masakari's: its notification was '{}'", self.row.status),
            workflow_version: WORKFLOW_VERSION,
            owner: None,
            epoch: 0,
            version: 1,
            opened_at,
            closed_at: Some(self.row.common.updated_at.or(last).unwrap_or(opened_at)),
        }
    }

    /// A move whose end Masakari never wrote down counts as failed, so that somebody looks.
    pub fn vmove(&self, row: &VmoveRow) -> Vmove {
        let (status, message) = if row.status.is_terminal() {
            (row.status, row.message.clone())
        } else {
            let said = row.message.as_ref().map_or(String::new(), |text| format!(" Masakari said: {text}"));
            let message = format!(
                "Imported from Masakari, where it was '{}': how it ended is not known. Look where the guest is.{said}",
                row.status
            );
            (VmoveStatus::Failed, Some(message))
        };
        Vmove {
            id: VmoveId(row.uuid),
            recovery: RecoveryId(self.row.uuid),
            notification: NotificationId(self.row.uuid),
            instance: InstanceId(row.instance),
            instance_name: row.instance_name.clone(),
            source_host: row.source_host.clone(),
            dest_host: row.dest_host.clone(),
            status,
            message,
            start_time: row.start_time,
            end_time: row.end_time,
            stage: Stage::Done,
            ha_enabled: false,
            wanted: Wanted::Active,
            reset: false,
            vm_state: String::new(),
            task_state: None,
            lock: LockMark::Theirs,
            attempt: 0,
            failures: 0,
            placement: 0,
            target: None,
            tried: Vec::new(),
            intent: None,
            known_migrations: Vec::new(),
            migration: None,
            ends: None,
        }
    }
}
