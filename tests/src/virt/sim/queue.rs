//! What is due next: answers on their way, ticks, fence acts. Ordered by time, then by when it was put there.

use super::*;

/// Something due.
#[derive(Debug)]
pub(super) enum Ev {
    Tick(usize),
    Beats,
    Watchdogs,
    Reply {
        engine: usize,
        incarnation: u32,
        recovery: RecoveryId,
        reply: Reply,
    },
    Power {
        engine: usize,
        incarnation: u32,
        host: HostId,
        sight: Result<halberd_core::evidence::PowerReading, String>,
    },
    UserLand {
        engine: usize,
        incarnation: u32,
        host: HostId,
        at: u64,
        answered: bool,
    },
    Rows {
        engine: usize,
        incarnation: u32,
        at: u64,
        rows: Result<Vec<halberd_core::effect::ServiceRow>, String>,
    },
    Act(u64),
}

/// A fence act under way, and whose.
#[derive(Debug)]
pub(super) struct ActOf {
    pub(super) act: Act,
    pub(super) engine: usize,
    pub(super) incarnation: u32,
    pub(super) recovery: RecoveryId,
    pub(super) epoch: i64,
    pub(super) intent: Uuid,
    /// Its owner was stopped after its last check, which said this.
    pub(super) passed: Option<bool>,
}

impl Sim {
    pub(super) fn handle(&mut self, event: Ev) {
        match event {
            Ev::Tick(number) => self.tick(number),
            Ev::Beats => self.beats(),
            Ev::Watchdogs => self.watchdogs(),
            Ev::Reply { engine, incarnation, recovery, reply } => {
                if self.is_current(engine, incarnation) {
                    let at = mono(self.now);
                    if let Some(runner) = self.engines[engine].runners.get_mut(&recovery) {
                        runner.reply(reply, at);
                    }
                    if !self.engines[engine].frozen {
                        self.poll(engine, recovery);
                    }
                }
            }
            Ev::Power { engine, incarnation, host, sight } => {
                if self.is_current(engine, incarnation)
                    && let Some(known) = self.engines[engine].fleet.hosts.get_mut(&host)
                {
                    known.probing.power_busy = false;
                    if let Ok(reading) = sight {
                        known.sight.power = Some(reading);
                    }
                }
            }
            Ev::UserLand { engine, incarnation, host, at, answered } => {
                if self.is_current(engine, incarnation)
                    && let Some(known) = self.engines[engine].fleet.hosts.get_mut(&host)
                {
                    known.probing.user_land_busy = false;
                    known.sight.user_land = Some(UserLand { at: mono(at), answered });
                }
            }
            Ev::Rows { engine, incarnation, at, rows } => {
                if self.is_current(engine, incarnation) {
                    match rows {
                        Ok(rows) => self.engines[engine].fleet.observe_rows(&rows, mono(at)),
                        Err(why) => self.engines[engine].fleet.nova = Err(why),
                    }
                }
            }
            Ev::Act(number) => self.step_act(number),
        }
    }
}
