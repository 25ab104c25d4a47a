//! Which guest executes where, whatever Nova believes.
//!
//! A guest executes on a host when its QEMU has memory there and the host is neither frozen nor without power. A frozen
//! host keeps its guests in memory: they execute nowhere until it thaws, and then they do again. Whenever a change makes
//! a guest execute on a second host, that instant is kept for ever.

use uuid::Uuid;

/// An instant from which a guest executed on several hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoubleRun {
    /// Milliseconds of virtual time.
    pub at: u64,
    /// The guest.
    pub guest: Uuid,
    /// All hosts on which it executed at that instant.
    pub hosts: Vec<String>,
}

/// The ledger, on positions; names are the world's.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Per guest: hosts that hold its memory.
    holders: Vec<Vec<usize>>,
    /// Per host: guests in its memory, in order of start.
    held: Vec<Vec<usize>>,
    /// Per host: nothing there gets CPU time.
    frozen: Vec<bool>,
}

impl Ledger {
    pub(crate) fn new(hosts: usize) -> Self {
        Self { holders: Vec::new(), held: vec![Vec::new(); hosts], frozen: vec![false; hosts] }
    }

    pub(crate) fn add_guest(&mut self) {
        self.holders.push(Vec::new());
    }

    /// The guest gets memory on the host; false if it had some there already.
    pub(crate) fn start(&mut self, guest: usize, host: usize) -> bool {
        if self.holders[guest].contains(&host) {
            return false;
        }
        self.holders[guest].push(host);
        self.held[host].push(guest);
        true
    }

    /// The guest loses its memory on the host; false if it had none there.
    pub(crate) fn stop(&mut self, guest: usize, host: usize) -> bool {
        let had = self.holders[guest].contains(&host);
        if had {
            self.holders[guest].retain(|at| *at != host);
            self.held[host].retain(|at| *at != guest);
        }
        had
    }

    pub(crate) fn set_frozen(&mut self, host: usize, frozen: bool) {
        self.frozen[host] = frozen;
    }

    /// Guests in the host's memory.
    pub(crate) fn held(&self, host: usize) -> &[usize] {
        &self.held[host]
    }

    /// Hosts that have the guest in memory, frozen ones included.
    pub(crate) fn holders(&self, guest: usize) -> &[usize] {
        &self.holders[guest]
    }

    /// Hosts on which the guest gets CPU time.
    pub(crate) fn executing(&self, guest: usize) -> Vec<usize> {
        self.holders[guest].iter().copied().filter(|host| !self.frozen[*host]).collect()
    }
}
