//! What Keystone said lately, and what is being asked right now. Time is an argument.
//!
//! Both lie behind one lock: whoever finds neither an answer nor a question under way asks, and nobody else does. Of a
//! hundred requests that show one new token, one goes to Keystone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::{Found, ValidToken};
use crate::Error;

/// How long a valid token is believed without asking again: what a revocation takes to reach us. A busy client costs
/// Keystone one request a minute; keystonemiddleware's default is five minutes.
pub(super) const VALID: Duration = Duration::from_secs(60);

/// How long a refused one is refused without asking again; short, as a token may be shown before all of Keystone's
/// nodes know it.
pub(super) const INVALID: Duration = Duration::from_secs(5);

/// Tokens remembered: 4,096 take about 4 MB. A flood of made-up ones pushes out made-up ones first.
const REMEMBERED: usize = 4096;

/// A token, never as itself: its SHA-256, and whether its end was overlooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub digest: [u8; 32],
    pub allow_expired: bool,
}

/// An answer that all who wait for it share, a failure included: a hundred waiters must not become a hundred retries.
pub(super) type Question = Arc<OnceCell<Result<Found, Error>>>;

#[derive(Debug)]
struct Known {
    until: Instant,
    token: Option<Arc<ValidToken>>,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    known: HashMap<Key, Known>,
    asked: HashMap<Key, Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    question: Question,
    waiting: usize,
}

/// What to do about a token.
pub(super) enum Next {
    Answer(Found),
    /// Ask, or wait for whoever asks.
    Ask(Question),
}

impl Memory {
    pub(super) fn next(&mut self, key: Key, now: Instant) -> Next {
        match self.known.get(&key).filter(|known| now < known.until) {
            Some(known) => Next::Answer(known.token.clone()),
            None => {
                let asked = self.asked.entry(key).or_default();
                asked.waiting += 1;
                Next::Ask(asked.question.clone())
            }
        }
    }

    /// `left`: how long the token is still valid by what Keystone says of it.
    pub(super) fn remember(&mut self, key: Key, token: Found, left: Duration, now: Instant) {
        let lifetime = match &token {
            Some(_) => VALID.min(left),
            None => INVALID,
        };
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, known| now < known.until);
        }
        if self.known.len() >= REMEMBERED {
            self.known.retain(|_, known| known.token.is_some());
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(key, Known { until: now + lifetime, token });
    }

    /// One who waited leaves; an answered question, or one that nobody waits for any more, goes off the list.
    pub(super) fn done(&mut self, key: Key, question: &Question) {
        let Some(asked) = self.asked.get_mut(&key).filter(|asked| Arc::ptr_eq(&asked.question, question))
        else {
            return;
        };
        asked.waiting -= 1;
        if asked.waiting == 0 || question.initialized() {
            self.asked.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&n.to_be_bytes());
        Key { digest, allow_expired: false }
    }

    fn token() -> Found {
        Some(Arc::new(ValidToken {
            user: super::super::TokenUser::default(),
            project: None,
            roles: vec!["admin".into()],
            system_scope: false,
            domain: None,
            expires: chrono::DateTime::UNIX_EPOCH,
        }))
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn knows(memory: &mut Memory, key: Key, now: Instant) -> bool {
        matches!(memory.next(key, now), Next::Answer(_))
    }

    #[test]
    fn an_answer_keeps_for_its_time_and_no_longer() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        // (what Keystone said, how long the token has, how long it is believed)
        let table = [
            (token(), HOUR, VALID),
            (token(), 10 * second, 10 * second),
            (token(), Duration::ZERO, Duration::ZERO),
            (None, Duration::ZERO, INVALID),
        ];
        for (said, left, believed) in table {
            let mut memory = Memory::default();
            assert!(!knows(&mut memory, key(1), start));
            memory.remember(key(1), said.clone(), left, start);
            if let Some(before) = believed.checked_sub(Duration::from_nanos(1)) {
                assert!(knows(&mut memory, key(1), start + before), "{said:?} {left:?}");
            }
            assert!(!knows(&mut memory, key(1), start + believed), "{said:?} {left:?}");
        }
    }

    #[test]
    fn an_overlooked_end_is_no_answer_to_a_plain_question() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.remember(Key { allow_expired: true, ..key(1) }, token(), HOUR, now);
        assert!(!knows(&mut memory, key(1), now));
        memory.remember(key(2), None, HOUR, now);
        assert!(!knows(&mut memory, Key { allow_expired: true, ..key(2) }, now));
    }

    #[test]
    fn a_flood_of_made_up_tokens_stays_bounded_and_spares_the_good() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        memory.remember(key(0), token(), HOUR, now);
        for n in 1..3 * REMEMBERED {
            memory.remember(key(n), None, Duration::ZERO, now);
            assert!(memory.known.len() <= REMEMBERED);
        }
        assert!(knows(&mut memory, key(0), now));
        for n in 0..2 * REMEMBERED {
            memory.remember(key(n), token(), HOUR, now);
            assert!(memory.known.len() <= REMEMBERED, "valid ones are bounded too");
        }
    }

    #[test]
    fn a_question_is_shared_until_it_is_answered_or_nobody_waits() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        let ask = |memory: &mut Memory| match memory.next(key(1), now) {
            Next::Ask(question) => question,
            Next::Answer(_) => panic!("nothing is known"),
        };
        let (first, second) = (ask(&mut memory), ask(&mut memory));
        assert!(Arc::ptr_eq(&first, &second));
        memory.done(key(1), &first);
        assert_eq!(memory.asked.len(), 1, "somebody still waits");
        memory.done(key(1), &second);
        assert_eq!(memory.asked.len(), 0, "the last one has gone");
        let answered = ask(&mut memory);
        let waiting = ask(&mut memory);
        answered.set(Ok(None)).unwrap();
        memory.done(key(1), &answered);
        assert_eq!(memory.asked.len(), 0);
        memory.done(key(1), &waiting);
    }
}
