//! `/v1/segments` (contract 1.10).

mod create;
mod delete;
mod list;
mod show;
mod update;

pub(crate) use create::create;
pub(crate) use delete::delete;
pub(crate) use list::list;
pub(crate) use show::show;
pub(crate) use update::update;

use halberd_core::segment::{RecoveryMethod, Segment};
use halberd_store::Stored;
use halberd_types::v1::segment::{RecoveryMethod as Word, Segment as Shown};

use crate::answer;

/// A row as `/v1` shows it.
pub(crate) fn shown(stored: &Stored<Segment>) -> Shown {
    Shown {
        id: stored.num,
        uuid: stored.id.0,
        name: stored.name.clone(),
        description: stored.description.clone(),
        service_type: stored.service_type.clone(),
        recovery_method: match stored.recovery_method {
            RecoveryMethod::Auto => Word::Auto,
            RecoveryMethod::ReservedHost => Word::ReservedHost,
            RecoveryMethod::AutoPriority => Word::AutoPriority,
            RecoveryMethod::RhPriority => Word::RhPriority,
        },
        enabled: stored.enabled,
        times: answer::times(stored),
    }
}

/// A word of the wire as the domain has it.
fn method(word: Word) -> RecoveryMethod {
    match word {
        Word::Auto => RecoveryMethod::Auto,
        Word::ReservedHost => RecoveryMethod::ReservedHost,
        Word::AutoPriority => RecoveryMethod::AutoPriority,
        Word::RhPriority => RecoveryMethod::RhPriority,
    }
}
