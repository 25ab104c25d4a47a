//! The runner's protocol under the tiny world of [`crate::recovery::tests`]: who has lost says nothing more, and nothing is done
//! that is not stored.

use crate::recovery::tests::{Kind, holds};

#[test]
fn i5_nothing_after_the_recovery_is_lost() {
    holds("I5", Kind::Host, &[("lost", 20)]);
}

#[test]
fn i6_everything_carries_the_owner_s_epoch() {
    holds("I6", Kind::Host, &[("evacuate", 100)]);
}

#[test]
fn i7_no_deed_before_its_intent_is_stored() {
    holds("I7", Kind::Host, &[("evacuate", 100), ("not written", 50), ("ambiguous", 50)]);
    holds("I7", Kind::Return, &[("undone", 50)]);
}
