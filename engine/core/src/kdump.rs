//! A crashed kernel that writes its dump: what it says, how far it is believed, and how long the off order is held back for it.
//!
//! The crash kernel has replaced the one that ran the guests: they are dead, and power off now would only destroy the dump. What says so is
//! either the host's own signed panic, or `fence_kdump_send` from the crash kernel, which signs nothing. So a message counts only from
//! an address that the host's agent beat from, only while the host is silent on every path, and at most as a strong statement of death (E1):
//! it ends the waiting, the fence decides. It proves nothing.
//!
//! The wait for a dump is bounded by a window that opens once per boot and never again: whoever forges messages for ever delays one
//! recovery by that window, which is zero unless policy says otherwise.

use std::time::Duration;

use crate::id::BootId;
use crate::policy::Policy;
use crate::time::Mono;

/// Where `fence_kdump` listens by default (FENCING 2.5).
pub const PORT: u16 = 7410;
/// First word of a message, in its sender's byte order.
const MAGIC: u32 = 0x1B30_2A40;
/// The only version there is.
const VERSION: u32 = 1;

/// The sender repeats itself every 10 s; two lost ones and some make the dump over.
pub const OVER_AFTER: Duration = Duration::from_secs(25);
/// No policy waits longer: guests are down meanwhile.
pub const WINDOW_AT_MOST_MS: u64 = 120_000;

/// Whether these bytes are a message of `fence_kdump`: two words in the sender's byte order, and nothing else.
pub fn is_message(bytes: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 8]>::try_from(bytes) else { return false };
    let [a, b, c, d, e, f, g, h] = bytes;
    let words = |read: fn([u8; 4]) -> u32| (read([a, b, c, d]), read([e, f, g, h]));
    [words(u32::from_le_bytes), words(u32::from_be_bytes)].contains(&(MAGIC, VERSION))
}

/// What was said of a crash of one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump {
    pub boot: Option<BootId>,
    /// When the window opened: the first word of this boot's crash that counted.
    pub since: Mono,
    pub last: Mono,
    /// The first and the last unsigned message that counted.
    pub message: Option<(Mono, Mono)>,
}

impl Dump {
    /// Takes a word of a crash. `signed`: the host's own panic. A boot has one window: after a pause that ended the dump, later words of it
    /// count for nothing.
    pub fn fold(known: &mut Option<Dump>, boot: Option<BootId>, signed: bool, now: Mono) {
        match known {
            Some(dump) if dump.boot == boot => {
                if dump.is_over(now) {
                    return;
                }
                dump.last = now;
                if !signed {
                    dump.message = Some(dump.message.map_or((now, now), |(first, _)| (first, now)));
                }
            }
            _ => {
                *known = Some(Dump { boot, since: now, last: now, message: (!signed).then_some((now, now)) })
            }
        }
    }

    /// Nothing was said for so long that it has ended.
    pub fn is_over(&self, now: Mono) -> bool {
        now.since(self.last) >= OVER_AFTER
    }

    /// Until when the off order is held back, if it is: the window's end, or earlier when nothing more is heard.
    pub fn holds_until(&self, policy: &Policy, now: Mono) -> Option<Mono> {
        let window = policy.kdump_window_ms.min(WINDOW_AT_MOST_MS);
        let end = self.since + Policy::ms(window);
        (now < end && !self.is_over(now)).then(|| end.min(self.last + OVER_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn windowed(ms: u64) -> Policy {
        Policy { kdump_window_ms: ms, ..Policy::default() }
    }

    #[test]
    fn both_byte_orders_are_read_and_nothing_else() {
        assert!(is_message(&[0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0]));
        assert!(is_message(&[0x1B, 0x30, 0x2A, 0x40, 0, 0, 0, 1]));
        assert!(!is_message(&[0x40, 0x2A, 0x30, 0x1B, 0, 0, 0, 1]), "two byte orders in one message");
        assert!(!is_message(&[0x40, 0x2A, 0x30, 0x1B, 2, 0, 0, 0]), "another version");
        assert!(!is_message(&[0x40, 0x2A, 0x30, 0x1B, 1, 0, 0]), "too short");
        assert!(!is_message(&[0x40, 0x2A, 0x30, 0x1B, 1, 0, 0, 0, 0]), "too long");
    }

    #[test]
    fn a_window_opens_once_for_a_boot() {
        let mut dump = None;
        Dump::fold(&mut dump, None, false, Mono(1_000));
        let policy = windowed(60_000);
        assert_eq!(dump.and_then(|dump| dump.holds_until(&policy, Mono(2_000))), Some(Mono(26_000)));
        Dump::fold(&mut dump, None, false, Mono(40_000));
        assert_eq!(dump.and_then(|dump| dump.holds_until(&policy, Mono(40_000))), None, "the dump was over");
        let boot = Some(BootId(uuid::Uuid::from_u128(7)));
        Dump::fold(&mut dump, boot, true, Mono(50_000));
        assert_eq!(dump.and_then(|dump| dump.holds_until(&policy, Mono(50_000))), Some(Mono(75_000)));
        assert_eq!(dump.and_then(|dump| dump.message), None, "a signed panic is no unsigned message");
        assert_eq!(
            dump.and_then(|dump| dump.holds_until(&windowed(0), Mono(50_000))),
            None,
            "no window by default"
        );
    }

    proptest! {
        /// Whatever is sent, and when: nothing is held beyond the window after the first word, nor beyond two minutes.
        #[test]
        fn no_stream_holds_beyond_the_window(
            gaps in prop::collection::vec(0u64..40_000, 1..60),
            window in prop_oneof![Just(0u64), 1u64..400_000],
        ) {
            let (policy, mut dump, mut now) = (windowed(window), None, 1_000_000);
            let first = now + gaps[0];
            for gap in gaps {
                now += gap;
                Dump::fold(&mut dump, None, false, Mono(now));
                let until = dump.and_then(|dump| dump.holds_until(&policy, Mono(now)));
                prop_assert!(until.is_none_or(|until| until.0 <= first + window.min(WINDOW_AT_MOST_MS)));
                prop_assert!(until.is_none_or(|until| until > Mono(now)));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..16)) {
            prop_assert!(!is_message(&bytes) || bytes.len() == 8);
        }
    }
}
