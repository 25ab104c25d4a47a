//! Orders: the little an engine may make this host do to itself, fetched, verified, done at most once, answered.
//!
//! A mark on disk stands before the deed. An order whose mark is there is never begun again: if its result got lost
//! with us, the answer is `interrupted`, and the engine looks before it orders anew.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use halberd_types::report::{ORDERS_PATH, Order, OrderKind, OrderOutcome, OrderResult};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::config::{InstanceConfig, OrdersConfig};
use crate::context::Context;
use crate::process::command;
use crate::report::Reporter;
use crate::report::outbox::Message;
use crate::report::send::{Api, chain};

/// A greeting comes in milliseconds on a network that works; a suspect's probe must not hold the verdict.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// systemd stops a unit in 90 s and starts it in 90 s at worst.
const RESTART_TIMEOUT: Duration = Duration::from_secs(180);
/// Targets of one probe: a host's addresses, not a scan.
const MAX_TARGETS: usize = 16;
/// Marks kept; far more than an engine can have open.
const MAX_MARKS: usize = 1000;

/// Fetches and carries out.
#[derive(Debug)]
pub(crate) struct OrderDesk {
    context: Arc<Context>,
    reporter: Reporter,
    api: Arc<Api>,
    config: OrdersConfig,
    units: BTreeMap<String, Vec<String>>,
    instance: InstanceConfig,
    marks: PathBuf,
    failing: bool,
}

impl OrderDesk {
    pub fn new(
        context: Arc<Context>,
        reporter: Reporter,
        api: Arc<Api>,
        config: &crate::config::Config,
    ) -> std::io::Result<Self> {
        let marks = config.agent.state_dir.join("orders");
        std::fs::create_dir_all(&marks)?;
        Ok(Self {
            context,
            reporter,
            api,
            config: config.orders.clone(),
            units: config.units.clone(),
            instance: config.instance.clone().unwrap_or_default(),
            marks,
            failing: false,
        })
    }

    /// Works until aborted.
    pub async fn run(mut self) {
        self.answer_interrupted().await;
        let pause = Duration::from_secs_f64(self.config.poll_interval);
        loop {
            self.fetch().await;
            // Either way the same fetch; the ack's flag only makes it sooner.
            let _ = timeout(pause, self.context.orders.notified()).await;
        }
    }

    async fn fetch(&mut self) {
        let asked_ns = self.context.now_ns();
        match self.api.orders().await {
            Ok(orders) => {
                self.failing = false;
                for order in orders.orders {
                    self.handle(&order, asked_ns).await;
                }
            }
            Err(error) if !self.failing => {
                tracing::warn!(error = chain(&error), "cannot fetch orders; trying on");
                self.failing = true;
            }
            Err(_) => {}
        }
    }

    async fn handle(&self, order: &Order, asked_ns: u64) {
        match self.mark(order.id) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, order = %order.id, "cannot mark an order as begun, so it is not begun");
                return;
            }
        }
        let age_ms = self.context.now_ns().saturating_sub(asked_ns) / 1_000_000;
        tracing::info!(order = %order.id, kind = ?order.kind, "order");
        let result = if age_ms >= order.expires_after_ms {
            result(order.id, OrderOutcome::Expired, format!("{age_ms} ms after it was fetched"))
        } else {
            self.perform(order).await
        };
        tracing::info!(order = %order.id, outcome = ?result.outcome, detail = result.detail, "order ended");
        self.answer(result).await;
    }

    async fn perform(&self, order: &Order) -> OrderResult {
        let (outcome, detail) = match &order.kind {
            OrderKind::RestartUnit { unit } => self.restart(unit).await,
            OrderKind::DestroyDomain { uuid } => self.destroy(*uuid).await,
            OrderKind::Probe { targets } => {
                let answered = probe(targets).await;
                let detail = format!("{} of {} answered", answered.len(), targets.len());
                return OrderResult { answered, ..result(order.id, OrderOutcome::Done, detail) };
            }
        };
        result(order.id, outcome, detail)
    }

    async fn restart(&self, unit: &str) -> (OrderOutcome, String) {
        let argv = match self.units.get(unit) {
            Some(argv) => argv.clone(),
            None if self.config.listed_units_only => {
                return (
                    OrderOutcome::Refused,
                    format!("`{unit}` is not in [units], and orders.listed_units_only is set"),
                );
            }
            None if !is_unit_name(unit) => return (OrderOutcome::Refused, "not a unit's name".into()),
            None => ["systemctl", "restart", "--", unit].map(str::to_owned).to_vec(),
        };
        match command::run(&argv, RESTART_TIMEOUT).await {
            Ok(()) => (OrderOutcome::Done, format!("`{}` succeeded", argv.join(" "))),
            Err(error) => (OrderOutcome::Failed, chain(&error)),
        }
    }

    async fn destroy(&self, uuid: Uuid) -> (OrderOutcome, String) {
        if !self.config.allow_destroy {
            return (OrderOutcome::Refused, "orders.allow_destroy is not set on this host".into());
        }
        match crate::instance::destroy(&self.instance, uuid).await {
            Ok(true) => (OrderOutcome::Done, "destroyed".into()),
            Ok(false) => (OrderOutcome::Done, "did not run".into()),
            Err(error) => (OrderOutcome::Failed, chain(&error)),
        }
    }

    /// The result is in the outbox before the mark says so.
    async fn answer(&self, result: OrderResult) {
        let path = format!("{ORDERS_PATH}/{}", result.order_id);
        let body = serde_json::to_string(&result).expect("a result has only string keys");
        self.reporter.put(Message { path, replaces: None, body }).await;
        if let Err(error) = crate::write_whole(&self.marks.join(result.order_id.to_string()), b"answered") {
            tracing::warn!(%error, "cannot mark an order as answered; it will be answered again");
        }
    }

    /// True if this order was never begun here; begun from now on.
    fn mark(&self, id: Uuid) -> std::io::Result<bool> {
        let path = self.marks.join(id.to_string());
        if path.exists() {
            return Ok(false);
        }
        crate::write_whole(&path, b"begun").map(|()| true)
    }

    /// At start: what was begun and never answered. Sweeps old marks.
    async fn answer_interrupted(&self) {
        let mut marks: Vec<(std::time::SystemTime, Uuid)> = Vec::new();
        for entry in std::fs::read_dir(&self.marks).into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|n| Uuid::parse_str(n).ok()) else { continue };
            match std::fs::read(entry.path()) {
                Ok(text) if text == b"begun" => {
                    self.answer(result(id, OrderOutcome::Interrupted, "the agent ended meanwhile".into()))
                        .await;
                }
                _ => marks.extend(entry.metadata().and_then(|m| m.modified()).ok().map(|at| (at, id))),
            }
        }
        marks.sort_unstable();
        for (_, id) in marks.iter().take(marks.len().saturating_sub(MAX_MARKS)) {
            let _ = std::fs::remove_file(self.marks.join(id.to_string()));
        }
    }
}

fn result(order_id: Uuid, outcome: OrderOutcome, detail: String) -> OrderResult {
    OrderResult { order_id, outcome, detail: detail.chars().take(500).collect(), answered: vec![] }
}

/// systemd's characters for unit names, and nothing that could be an option or a path.
fn is_unit_name(unit: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    (1..=255).contains(&unit.len()) && !unit.starts_with(['-', '.']) && unit.chars().all(good)
}

/// Who of these greets us? A connect alone proves a kernel; a byte read proves a process that runs.
async fn probe(targets: &[SocketAddr]) -> Vec<SocketAddr> {
    let mut asked = JoinSet::new();
    for target in targets.iter().take(MAX_TARGETS).copied() {
        asked.spawn(async move {
            let greeting = async {
                let mut byte = [0u8; 1];
                TcpStream::connect(target).await?.read_exact(&mut byte).await
            };
            let answer = timeout(PROBE_TIMEOUT, greeting).await;
            answer.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).is_ok().then_some(target)
        });
    }
    let mut answered: Vec<SocketAddr> = asked.join_all().await.into_iter().flatten().collect();
    answered.sort_unstable();
    answered
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[test]
    fn unit_names() {
        assert!(is_unit_name("nova-compute.service") && is_unit_name("getty@tty1.service"));
        for bad in ["", "-H", "--now", "a b", "../x", "a;b", ".hidden", "a/b"] {
            assert!(!is_unit_name(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_a_greeting_is_an_answer() {
        let greets = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hangs_up = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let targets =
            [greets.local_addr().unwrap(), hangs_up.local_addr().unwrap(), "127.0.0.1:1".parse().unwrap()];
        let serve = async {
            greets.accept().await.unwrap().0.write_all(b"SSH-2.0-x\r\n").await.unwrap();
            drop(hangs_up.accept().await.unwrap());
        };
        let (answered, ()) = tokio::join!(probe(&targets), serve);
        assert_eq!(answered, targets[..1]);
    }
}
