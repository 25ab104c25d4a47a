//! Named places at which an engine can be watched, and stopped.
//!
//! Whoever claims to survive a crash at every step has to be crashed at every step. So each place where something becomes durable,
//! and each where something leaves this process, has a name, and a test that listens decides what happens there: it lets the engine
//! pass, or never answers and takes the whole engine away. An effect's names are made from its own word, so a new effect has its two
//! places from its first day.
//!
//! ```text
//! open.KIND          a recovery of that kind (host, instance, process) is opened
//! settle.STATUS      a report ends without a recovery
//! claim              a recovery is claimed
//! commit.STATE[.EFFECT+EFFECT]   a transition is stored: the state it enters, the effects whose intents it carries
//! send.EFFECT        an effect goes out
//! delivery           a message of the outbox goes out
//! ```
//!
//! Each with `.before` and `.after`. After a commit it is durable and nothing follows from it yet; before a send its intent is stored and
//! not one byte is out; after a send the answer is here and nobody has noted it.
//!
//! Nobody listens in a service: then a place costs one branch. There is no switch for it in the configuration or the environment.
//! What this is not: a process killed by the kernel, with its pages unwritten and its sockets cut anywhere between two of these places.
//! `tests/chaos` does that.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use halberd_core::effect::Effect;
use halberd_core::runner::Commit;

/// Who listens at the places.
#[async_trait]
pub trait Failpoints: Send + Sync + Debug {
    /// The engine has come to this place, and goes on when this returns.
    async fn reached(&self, place: &str);
}

/// A listener, or nobody.
pub type Listener = Option<Arc<dyn Failpoints>>;

/// Where an engine is.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// The kind of its subject.
    Open(&'a str),
    /// The status the report ends in.
    Settle(&'a str),
    Claim,
    Commit(&'a Commit),
    Send(&'a Effect),
    Delivery,
}

impl Place<'_> {
    /// Its name, without the moment.
    pub fn name(&self) -> String {
        match self {
            Self::Open(kind) => format!("open.{kind}"),
            Self::Settle(status) => format!("settle.{status}"),
            Self::Claim => "claim".to_owned(),
            Self::Commit(commit) => {
                let words: BTreeSet<&str> =
                    commit.intents.iter().map(|intent| intent.effect.as_str()).collect();
                let words = words.into_iter().collect::<Vec<_>>().join("+");
                let state = format!("commit.{}", commit.recovery.word());
                if words.is_empty() { state } else { format!("{state}.{words}") }
            }
            Self::Send(effect) => format!("send.{}", effect.word()),
            Self::Delivery => "delivery".to_owned(),
        }
    }
}

/// Just before what the place is named after.
pub async fn before(listener: &Listener, place: Place<'_>) {
    if let Some(listener) = listener {
        listener.reached(&format!("{}.before", place.name())).await;
    }
}

/// Just after it.
pub async fn after(listener: &Listener, place: Place<'_>) {
    if let Some(listener) = listener {
        listener.reached(&format!("{}.after", place.name())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use halberd_core::id::HostId;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<String>>);

    #[async_trait]
    impl Failpoints for Heard {
        async fn reached(&self, place: &str) {
            self.0.lock().unwrap().push(place.to_owned());
        }
    }

    #[tokio::test]
    async fn a_place_is_told_with_its_moment_and_an_effect_by_its_own_word() {
        let heard = Arc::new(Heard::default());
        let listener: Listener = Some(heard.clone());
        let effect = Effect::PowerOn { host: HostId(Uuid::nil()) };
        before(&listener, Place::Send(&effect)).await;
        after(&listener, Place::Claim).await;
        assert_eq!(
            *heard.0.lock().unwrap(),
            [format!("send.{}.before", effect.word()), "claim.after".into()]
        );
        before(&None, Place::Delivery).await;
    }
}
