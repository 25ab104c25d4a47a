//! A recovery's story as `recovery_workflow_details`: the original's tasks, in its names and shape (contract 3.8).
//!
//! Ours has no such tasks. Its audit records are walked in order, each becomes a message of the task that was at work then, and the
//! recovery's present state says how the last of them stands. A task that never came to work is left out. Nothing is read into a record's
//! text but the state word that `state_changed` begins with.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use halberd_core::audit::Link;
use halberd_core::recovery::{Recovery, StateWord, Subject, Vmove, VmoveStatus};
use halberd_core::time::Stamp;
use halberd_types::v1::workflow::{ProgressDetail, TaskName, TaskState, WorkflowTask};

use crate::answer;

use TaskName::{
    ConfirmComputeNodeDisabledTask, ConfirmInstanceActiveTask, DisableComputeNodeTask,
    DisableComputeServiceTask, EvacuateInstancesTask, PrepareHAEnabledInstancesTask, StartInstanceTask,
    StopInstanceTask,
};

/// The one process whose recovery has tasks (contract 3.7).
const NOVA_COMPUTE: &str = "nova-compute";

/// The tasks of a recovery, in order of execution. A cancelled one has none, as the original's ignored notifications.
pub(super) fn tasks(recovery: &Recovery, moves: &[Vmove], story: &[Link]) -> Vec<WorkflowTask> {
    let word = recovery.word();
    let road: &[TaskName] = match &recovery.subject {
        Subject::Host { .. } => {
            &[DisableComputeServiceTask, PrepareHAEnabledInstancesTask, EvacuateInstancesTask]
        }
        Subject::Guest { .. } => &[StopInstanceTask, StartInstanceTask, ConfirmInstanceActiveTask],
        Subject::Process { name, .. } if name == NOVA_COMPUTE => {
            &[DisableComputeNodeTask, ConfirmComputeNodeDisabledTask]
        }
        // Any other process only sets the maintenance flag, and a host's way back was no task of the original's.
        Subject::Process { .. } | Subject::Return { .. } => &[],
    };
    if road.is_empty() || word == StateWord::Cancelled {
        return Vec::new();
    }
    let mut told = Told::new(road, recovery);
    for link in story {
        told.hear(link);
        // The original's work was done; what comes after, back into scheduling, was nobody's task.
        if begins(link, StateWord::Returning) {
            break;
        }
    }
    match recovery.subject {
        Subject::Host { .. } => told.add_moves(moves, word),
        Subject::Process { .. } if word == StateWord::Verifying => {
            told.at = 1;
            told.messages[1].push((told.now, recovery.reason.clone()));
        }
        _ => {}
    }
    told.finish(word)
}

/// Messages per task, and the task at work.
struct Told<'a> {
    road: &'a [TaskName],
    messages: Vec<Vec<(DateTime<Utc>, String)>>,
    at: usize,
    now: DateTime<Utc>,
}

impl<'a> Told<'a> {
    fn new(road: &'a [TaskName], recovery: &Recovery) -> Self {
        let opened = time(recovery.opened_at);
        let mut messages = vec![Vec::new(); road.len()];
        messages[0].push((opened, format!("Recovery of {} begins", recovery.host_name)));
        Self { road, messages, at: 0, now: opened }
    }

    fn hear(&mut self, link: &Link) {
        self.now = time(Stamp(link.at));
        if let Some(task) = task_begun_by(link, self.road[self.at])
            && let Some(at) = self.road.iter().position(|name| *name == task)
        {
            // Only onward: a host that is fenced afresh has done its first tasks once.
            self.at = self.at.max(at);
        }
        self.messages[self.at].push((self.now, link.entry.text.clone()));
    }

    /// The moves themselves, which the original listed by uuid.
    fn add_moves(&mut self, moves: &[Vmove], word: StateWord) {
        let evacuate = 2;
        if self.at == 0 && !moves.is_empty() {
            self.at = 1;
        }
        if self.at == 0 {
            return;
        }
        let marked = moves.iter().filter(|vmove| vmove.ha_enabled).count();
        let counts = format!(
            "{} instances to evacuate: {marked} HA-enabled, {} others: {}",
            moves.len(),
            moves.len() - marked,
            uuids(moves, |_| true)
        );
        let counted = moves.iter().filter_map(|vmove| vmove.start_time).min().map_or(self.now, time);
        self.messages[1].push((counted, counts));
        if moves.iter().any(|vmove| vmove.start_time.is_some()) {
            self.at = evacuate;
        }
        if self.at < evacuate {
            return;
        }
        let ended = moves.iter().filter_map(|vmove| vmove.end_time).max().map_or(self.now, time);
        let by_end = [
            (VmoveStatus::Succeeded, "Evacuated"),
            (VmoveStatus::Failed, "Failed to evacuate"),
            (VmoveStatus::Ignored, "Left as they were"),
        ];
        for (status, said) in by_end {
            let count = moves.iter().filter(|vmove| vmove.status == status).count();
            if count > 0 {
                let listed = uuids(moves, |vmove| vmove.status == status);
                self.messages[evacuate].push((ended, format!("{said}: {count} instances: {listed}")));
            }
        }
        if word == StateWord::Finished {
            self.messages[evacuate].push((ended.max(self.now), "Evacuation process completed".to_owned()));
        }
    }

    fn finish(self, word: StateWord) -> Vec<WorkflowTask> {
        let last = self.at;
        let state = |at: usize| match word {
            _ if at < last => TaskState::Success,
            StateWord::Finished | StateWord::Returning => TaskState::Success,
            StateWord::Failed | StateWord::NeedsOperator => TaskState::Failure,
            _ => TaskState::Running,
        };
        let told = self.road.iter().zip(self.messages).enumerate().take(last + 1);
        told.filter(|(_, (_, messages))| !messages.is_empty())
            .map(|(at, (name, messages))| task(*name, state(at), messages))
            .collect()
    }
}

/// Which task a record begins, if any, while `at` is at work.
fn task_begun_by(link: &Link, at: TaskName) -> Option<TaskName> {
    match link.entry.what.as_str() {
        "host_cleared_for_evacuation" => Some(PrepareHAEnabledInstancesTask),
        "evacuation_ordered" => Some(EvacuateInstancesTask),
        "state_changed" => {
            match (state_begun_by(link)?, at) {
                (StateWord::Starting, _) => Some(StartInstanceTask),
                // The look that found it active, or disabled, was the confirmation.
                (StateWord::Finished, StartInstanceTask) => Some(ConfirmInstanceActiveTask),
                (StateWord::Finished | StateWord::Returning, DisableComputeNodeTask) => {
                    Some(ConfirmComputeNodeDisabledTask)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn state_begun_by(link: &Link) -> Option<StateWord> {
    let changed = link.entry.what == "state_changed";
    let word = link.entry.text.split(':').next().unwrap_or_default();
    changed.then(|| StateWord::from_str(word).ok()).flatten()
}

fn begins(link: &Link, state: StateWord) -> bool {
    state_begun_by(link) == Some(state)
}

/// Messages with a share of progress each: the first at 0, the last of a finished task at 1.
fn task(name: TaskName, state: TaskState, messages: Vec<(DateTime<Utc>, String)>) -> WorkflowTask {
    let steps = match state {
        TaskState::Success => messages.len().saturating_sub(1).max(1),
        _ => messages.len(),
    };
    let share = |place: usize| (place as f64 / steps as f64 * 100.0).round() / 100.0;
    let only = messages.len() == 1;
    let progress_details: Vec<ProgressDetail> = messages
        .into_iter()
        .enumerate()
        .map(|(place, (at, message))| {
            let progress = if only && state == TaskState::Success { 1.0 } else { share(place) };
            ProgressDetail::new(at, progress, message)
        })
        .collect();
    let progress = match state {
        TaskState::Success => 1.0,
        _ => share(progress_details.len().saturating_sub(1)),
    };
    WorkflowTask { name, state, progress, progress_details }
}

fn uuids(moves: &[Vmove], which: impl Fn(&Vmove) -> bool) -> String {
    let ids: Vec<String> =
        moves.iter().filter(|vmove| which(vmove)).map(|vmove| vmove.instance.to_string()).collect();
    format!("[{}]", ids.join(", "))
}

fn time(at: Stamp) -> DateTime<Utc> {
    answer::time(at).utc()
}
