//! The one clock that decides: CLOCK_BOOTTIME, which neither steps nor stops while the host sleeps. It is an argument,
//! so that several agents with boots of their own can run on one machine.

use std::fmt::Debug;
use std::sync::Arc;

use uuid::Uuid;

/// Nanoseconds since boot, growing, suspended time included.
pub trait BootClock: Debug + Send + Sync {
    /// Now.
    fn now_ns(&self) -> u64;
}

/// The kernel's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl BootClock for SystemClock {
    fn now_ns(&self) -> u64 {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
    }
}

/// The machine an agent believes it runs on.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Kernel's boot id.
    pub boot: Uuid,
    /// Its clock.
    pub clock: Arc<dyn BootClock>,
}

impl Platform {
    /// This machine. Errors: `/proc` not mounted.
    pub fn system() -> std::io::Result<Platform> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let boot = Uuid::parse_str(text.trim()).map_err(std::io::Error::other)?;
        Ok(Platform { boot, clock: Arc::new(SystemClock) })
    }

    /// This machine's clock under a boot id of one's own.
    pub fn simulated(boot: Uuid) -> Platform {
        Platform { boot, clock: Arc::new(SystemClock) }
    }
}
