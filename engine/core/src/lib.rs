//! What Halberd believes and decides. No I/O, no clock, no async, no randomness: time and chance are arguments.
//!
//! Read in this order: [`recovery`] (the units of work and their states), [`recovery::host`] (a hypervisor's death),
//! [`verdict`] (is it dead?), [`brake`] (may we act?), [`fence`] (is it off?), [`evacuation`] (one guest's move),
//! [`admission`] (may the host come back?), [`runner`] (how a decision becomes durable before it becomes a deed).

pub mod admission;
pub mod audit;
pub mod brake;
pub mod bus;
pub mod chance;
pub mod effect;
pub mod evacuation;
pub mod event;
pub mod evidence;
pub mod facts;
pub mod fence;
pub mod guard;
pub mod hook;
pub mod host;
pub mod id;
pub mod instance;
pub mod kdump;
pub mod lease;
pub mod notification;
pub mod policy;
pub mod recovery;
pub mod rewind;
pub mod runner;
pub mod segment;
pub mod sight;
pub mod step;
pub mod time;
pub mod verdict;
pub mod watchdog;

/// An enum whose variants have one word each, the same on every wire and in every database.
///
/// An unknown word is an error that names it; it is never mapped to a default.
#[macro_export]
macro_rules! text_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Every variant, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The word on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;
            fn from_str(word: &str) -> ::std::result::Result<Self, Self::Err> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => Err($crate::UnknownWord { kind: stringify!($name), word: word.to_owned() }),
                }
            }
        }
    };
}

/// A word that this version does not know, for instance one written by a newer one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{word}' is not a {kind} that this version knows")]
pub struct UnknownWord {
    pub kind: &'static str,
    pub word: String,
}
