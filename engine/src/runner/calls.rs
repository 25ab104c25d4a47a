//! How many calls about guests one engine has under way at Nova.
//!
//! Each recovery keeps to its own policy, and a storm is a hundred recoveries: without a bound on them together, what one host's death may ask
//! of Nova at once would be asked a hundred times. So what is decided takes its room from one account before it is committed, and gives it
//! back when its answer is there. A recovery that finds no room sends nothing and looks again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use halberd_core::effect::{Calls, Effect};
use halberd_core::runner::{Op, Runner};

/// What is left, of calls that move guests and of those that finish moves. Below zero: what is never withheld (a single guest's restart)
/// came on top.
type Left = [isize; 2];

/// One engine's account.
#[derive(Clone, Debug)]
pub struct Account(Arc<Mutex<Left>>);

impl Account {
    /// At most `cap` of each kind.
    pub fn new(cap: u32) -> Account {
        let cap = isize::try_from(cap).unwrap_or(isize::MAX);
        Account(Arc::new(Mutex::new([cap; 2])))
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one recovery has taken from the account; what it holds goes back when it is dropped.
#[derive(Debug)]
pub struct Share {
    account: Account,
    held: Calls,
}

impl Share {
    pub fn of(account: &Account) -> Share {
        Share { account: account.clone(), held: Calls::default() }
    }

    /// Polls the runner within what is left: nobody else decides meanwhile, so that all together keep to the bound.
    pub fn poll(&mut self, runner: &mut Runner, poll: impl FnOnce(&mut Runner) -> Vec<Op>) -> Vec<Op> {
        let mut left = self.account.left();
        // What was decided and not handed out is decided again, or handed out.
        put(&mut left, self.held, 1);
        let room = |left: isize| usize::try_from(left).unwrap_or(0);
        runner.facts.room = Some(Calls { out: room(left[0]), back: room(left[1]) });
        let ops = poll(runner);
        let unsent = runner.unsent();
        let sent = Calls::of(ops.iter().filter_map(|op| match op {
            Op::Effect { effect, .. } => Some(effect),
            _ => None,
        }));
        put(&mut left, unsent, -1);
        put(&mut left, sent, -1);
        self.held = unsent;
        ops
    }

    /// The room of one call that was handed out; it goes back when this is dropped, however the call and its recovery end.
    pub fn call(&self, effect: &Effect) -> Call {
        Call { account: self.account.clone(), calls: Calls::of([effect]) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        put(&mut self.account.left(), self.held, 1);
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Call {
    account: Account,
    calls: Calls,
}

impl Drop for Call {
    fn drop(&mut self) {
        put(&mut self.account.left(), self.calls, 1);
    }
}

fn put(left: &mut Left, calls: Calls, sign: isize) {
    left[0] += sign * calls.out as isize;
    left[1] += sign * calls.back as isize;
}

#[cfg(test)]
mod tests {
    use halberd_core::id::InstanceId;
    use halberd_core::recovery::host::HostState;
    use halberd_core::time::Mono;
    use uuid::Uuid;

    use super::*;
    use crate::wishes::tests::recovery;

    #[test]
    fn what_one_hands_out_is_not_there_for_another_until_it_ended() {
        let account = Account::new(2);
        let effect = Effect::Evacuate { instance: InstanceId(Uuid::nil()), to: None };
        let op = || Op::Effect { intent: Uuid::nil(), epoch: 1, effect: effect.clone() };
        let runner = || Runner::new(recovery(1, HostState::Confirming), vec![], vec![], 1, Mono(0));
        let (mut one, mut other) = (Share::of(&account), Share::of(&account));
        let room = |share: &mut Share, ops: Vec<Op>| {
            let mut seen = None;
            share.poll(&mut runner(), |runner| {
                seen = runner.facts.room;
                ops
            });
            seen.expect("an engine counts")
        };
        assert_eq!(room(&mut one, vec![op()]), Calls { out: 2, back: 2 });
        let first = one.call(&effect);
        assert_eq!(room(&mut other, vec![op()]), Calls { out: 1, back: 2 });
        let second = other.call(&effect);
        assert_eq!(room(&mut one, vec![]), Calls { out: 0, back: 2 });
        drop((first, one));
        assert_eq!(room(&mut other, vec![]), Calls { out: 1, back: 2 }, "its recovery may be gone");
        drop(second);
        assert_eq!(room(&mut other, vec![]), Calls { out: 2, back: 2 });
    }

    #[test]
    fn what_was_held_or_sent_goes_back_however_it_ends() {
        let account = Account::new(2);
        let evacuate = Effect::Evacuate { instance: InstanceId(Uuid::nil()), to: None };
        let mut share = Share::of(&account);
        // One is decided, one is handed out, as `poll` books them.
        share.held = Calls { out: 1, back: 0 };
        put(&mut account.left(), Calls { out: 2, back: 0 }, -1);
        let call = share.call(&evacuate);
        assert_eq!(*account.left(), [0, 2]);
        drop(share);
        assert_eq!(
            *account.left(),
            [1, 2],
            "its recovery ended: what was decided is not sent, the call goes on"
        );
        drop(call);
        assert_eq!(*account.left(), [2, 2]);
    }

    #[test]
    fn what_is_no_call_about_a_guest_takes_no_room() {
        let account = Account::new(1);
        let share = Share::of(&account);
        drop(share.call(&Effect::ForceUp { host: "cmp-01".into() }));
        assert_eq!(*account.left(), [1, 1]);
    }
}
