//! What the tests of the whole share: the production core in virtual time ([`virt`]).

pub mod virt;
