//! The socket loop: rounds of handshake until one succeeds, then requests with their answers.
//!
//! One connected UDP socket from a fresh port per session (some BMCs answer a second session from one port under the
//! old keys). Whatever is not the awaited answer is dropped and waiting goes on. A refused port (ICMP) is an early hint
//! of an unreachable service and nothing more: the next datagram may well be answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipmi_rs::connection::{CompletionErrorCode, Message};
use rand::Rng;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::auth::Suite;
use super::commands::{CloseSession, Repeat};
use super::frame;
use super::handshake::{Chance, Established, Failure, Login, Next, Round, Step};
use crate::error::FenceError;
use crate::limits::Limits;

/// Handshakes of one login. Each that breaks off leaves a half-open session on the BMC for a minute, and small ones have
/// room for few; twelve get through 20 % loss each way in 97 of 100 cases.
const ROUNDS: usize = 12;
/// Larger than any datagram a BMC sends.
const DATAGRAM: usize = 2048;

/// An open session. Dropping it sends a Close Session without waiting: session tables are small.
pub(super) struct Link {
    device: String,
    socket: UdpSocket,
    established: Established,
    /// Of the last datagram we sent; grows with every one, resends included.
    sent: u32,
    /// Six bits, of the last request; a resend keeps it.
    request: u8,
    window: Window,
    resend: Vec<Duration>,
    budget: Duration,
    closed: bool,
}

/// The completion code that an executed exchange ended with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Completion(pub CompletionErrorCode);

/// Which sequence numbers of the peer are still acceptable: within +15/-16 of the highest seen, never twice (6.12.13).
#[derive(Debug, Default)]
pub(super) struct Window {
    highest: Option<u32>,
    /// Bit n: `highest - n` was seen.
    seen: u32,
}

impl Window {
    pub(super) fn accept(&mut self, sequence: u32) -> bool {
        let Some(highest) = self.highest else {
            (self.highest, self.seen) = (Some(sequence), 1);
            return sequence != 0;
        };
        let ahead = sequence.wrapping_sub(highest);
        let behind = highest.wrapping_sub(sequence);
        if (1..=15).contains(&ahead) {
            (self.highest, self.seen) = (Some(sequence), self.seen << ahead | 1);
            return true;
        }
        if behind > 16 || self.seen >> behind & 1 == 1 {
            return false;
        }
        self.seen |= 1 << behind;
        true
    }
}

/// Logs in: rounds within `limits.handshake`, over the suites in their order.
pub(super) async fn establish(
    device: &str,
    address: SocketAddr,
    login: &Login,
    suites: &[Suite],
    limits: &Limits,
) -> Result<Link, FenceError> {
    let deadline = Instant::now() + limits.handshake;
    let mut progress = Progress::default();
    let mut suite = 0;
    for round in 0..ROUNDS {
        if Instant::now() >= deadline {
            break;
        }
        let patience = if round == 0 { limits.handshake_step } else { limits.handshake_step_later };
        let socket = connect(address).await.map_err(|e| unreachable(device, &e))?;
        let outcome = one_round(&socket, login, suites[suite], patience, deadline, &mut progress).await;
        let failure = match outcome {
            Ok(Some(established)) => {
                return Ok(Link {
                    device: device.to_owned(),
                    socket,
                    established,
                    sent: 0,
                    request: 0,
                    window: Window::default(),
                    resend: limits.resend.clone(),
                    budget: limits.request,
                    closed: false,
                });
            }
            Ok(None) => None,
            Err(failure) => Some(failure),
        };
        match failure {
            // Some BMCs say nothing at all to a suite that they do not know.
            None if progress.unheard() && round % 2 == 1 => suite = (suite + 1) % suites.len(),
            Some(Failure::Suite) if suite + 1 < suites.len() => suite += 1,
            Some(Failure::Suite) => {
                let asked: Vec<String> = suites.iter().map(|s| s.id().to_string()).collect();
                return Err(FenceError::SuiteRefused { device: device.into(), asked: asked.join(" and ") });
            }
            Some(Failure::NoResources) => {
                // Sessions of others expire within a minute; a little patience is all we have.
                tokio::time::sleep_until((Instant::now() + limits.backoff).min(deadline)).await;
                progress.failure = Some(Failure::NoResources);
            }
            // Handshake answers are not authenticated: one forged or damaged datagram shall not end the fence, two
            // in a row are taken for the BMC's word (it does not count a login it never saw a RAKP 3 of).
            Some(failure) if progress.failure.as_ref() == Some(&failure) => {
                return Err(failed(device, &failure));
            }
            Some(failure) => progress.failure = Some(failure),
            None => {}
        }
    }
    Err(progress.verdict(device, limits.handshake))
}

/// How far the rounds came.
#[derive(Debug, Default)]
struct Progress {
    /// For each round that fell silent, the last step whose answer came.
    stops: Vec<Option<Step>>,
    failure: Option<Failure>,
    refused: bool,
    /// The quickest answer to each step so far.
    quickest: [Option<Duration>; 3],
}

/// So many rounds must stop at the same step, and none at another, before silence is taken for a refusal. Fewer, or a
/// mixture, is a network that loses packets.
const TELLING: usize = 3;

impl Progress {
    /// How long to wait for this step's answer. A step that was once answered quickly is not waited for as long, but
    /// each by its own measure: a BMC may open at once and think about RAKP 1.
    fn patience(&self, step: Step, most: Duration) -> Duration {
        self.quickest[step as usize].map_or(most, |quickest| (quickest * 10).clamp(most / 4, most))
    }

    fn answered(&mut self, step: Step, after: Duration) {
        let quickest = &mut self.quickest[step as usize];
        *quickest = Some(quickest.map_or(after, |q| q.min(after)));
    }

    /// True if no round got any answer.
    fn unheard(&self) -> bool {
        self.stops.iter().all(Option::is_none)
    }

    fn verdict(self, device: &str, after: Duration) -> FenceError {
        let device = device.to_owned();
        if let Some(failure) = self.failure {
            return failed(&device, &failure);
        }
        let always = |step| self.stops.len() >= TELLING && self.stops.iter().all(|s| *s == Some(step));
        if always(Step::Open) {
            let detail = "the BMC opens a session and falls silent at the user name: user unknown".into();
            return FenceError::Credentials { device, detail };
        }
        if always(Step::Rakp2) {
            let detail = "the BMC falls silent at the password's proof: the account may not log in".into();
            return FenceError::Credentials { device, detail };
        }
        if self.refused && self.unheard() {
            let detail = "port refused: IPMI over LAN is off or the BMC is starting".into();
            return FenceError::Unreachable { device, detail };
        }
        let what = if self.unheard() { "Open Session" } else { "the login, of which parts were answered" };
        FenceError::Silent { device, what: what.into(), after }
    }
}

fn failed(device: &str, failure: &Failure) -> FenceError {
    let device = device.to_owned();
    match failure {
        Failure::Suite => FenceError::SuiteRefused { device, asked: "3 or 17".into() },
        Failure::NoResources => FenceError::Busy {
            device,
            detail: "no room for another session (status 0x01); sessions expire within a minute".into(),
            retry_after: None,
        },
        Failure::Restart => FenceError::Malformed {
            device,
            detail: "the BMC does not know the session it has just opened".into(),
        },
        Failure::Credentials(detail) => FenceError::Credentials { device, detail: (*detail).into() },
        Failure::Privilege => {
            FenceError::Privilege { device, detail: "the role asked for is not the account's".into() }
        }
        Failure::Status(status) => {
            FenceError::Refused { device, detail: format!("RMCP+ status {status:#04x}") }
        }
    }
}

fn unreachable(device: &str, error: &io::Error) -> FenceError {
    FenceError::Unreachable { device: device.to_owned(), detail: error.to_string() }
}

pub(super) async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// One round: `Ok(None)` when an answer failed to come.
async fn one_round(
    socket: &UdpSocket,
    login: &Login,
    suite: Suite,
    patience: Duration,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<Option<Established>, Failure> {
    let mut round = Round::new(login, suite, chance());
    let mut asked = Instant::now();
    let mut step_ends = (asked + progress.patience(Step::Open, patience)).min(deadline);
    let mut out = round.open();
    let mut buffer = vec![0; DATAGRAM];
    let (mut answered, mut awaited) = (None, round.step());
    let _ = socket.send(&out).await;
    loop {
        let length = match timeout_at(step_ends, socket.recv(&mut buffer)).await {
            Err(_) => {
                progress.stops.push(answered);
                return Ok(None);
            }
            Ok(Ok(length)) => length,
            Ok(Err(_)) => {
                progress.refused = true;
                progress.stops.push(answered);
                // The error was this round's; without a pause a refused port would be asked in a tight loop.
                tokio::time::sleep_until(step_ends).await;
                return Ok(None);
            }
        };
        match round.receive(&buffer[..length]) {
            Next::Ignore => continue,
            Next::Failed(failure) => return Err(failure),
            Next::Done(established) => return Ok(Some(established)),
            Next::Send(next) => out = next,
        }
        progress.answered(awaited, asked.elapsed());
        answered = Some(awaited);
        (awaited, asked) = (round.step(), Instant::now());
        step_ends = (asked + progress.patience(awaited, patience)).min(deadline);
        let _ = socket.send(&out).await;
    }
}

fn chance() -> Chance {
    let mut rng = rand::rng();
    let mut console_id = [0; 4];
    while console_id == [0; 4] {
        console_id = rng.random();
    }
    Chance { console_id, console_random: rng.random(), tag: rng.random() }
}

impl Link {
    pub(super) fn guid(&self) -> [u8; 16] {
        self.established.guid
    }

    pub(super) fn suite(&self) -> Suite {
        self.established.suite
    }

    /// Sends a command and waits for its own answer. `Ok(Err(code))` is an answer too.
    pub(super) async fn run<C: Repeat>(
        &mut self,
        command: C,
    ) -> Result<Result<C::Output, Completion>, FenceError> {
        let message: Message = command.into();
        let what = format!("netFn {:#04x} command {:#04x}", message.netfn_raw(), message.cmd());
        self.request = (self.request + 1) & 0x3f;
        let bytes = frame::request(&message, self.request);
        let began = Instant::now();
        let deadline = began + self.budget;
        let mut pauses =
            self.resend.clone().into_iter().filter(|_| C::IDEMPOTENT).map(|pause| pause * C::PATIENCE);
        let mut refused = false;
        loop {
            // A fresh session sequence each time: a strict BMC discards a number that it has seen.
            let datagram = self.seal(&bytes);
            let _ = self.socket.send(&datagram).await;
            let wait = pauses.next().map_or(deadline, |pause| (Instant::now() + pause).min(deadline));
            match self.answer(&message, wait, &mut refused).await {
                Some(answer) => return self.parse::<C>(answer),
                None if Instant::now() < deadline => {}
                None if refused => {
                    let detail = "port refused in the middle of a session: the BMC is restarting".into();
                    return Err(FenceError::Unreachable { device: self.device.clone(), detail });
                }
                None => {
                    return Err(FenceError::Silent { device: self.device.clone(), what, after: self.budget });
                }
            }
        }
    }

    /// Asks something that nobody depends on, for so long: `None` for silence and for every refusal.
    pub(super) async fn ask<C: Repeat>(&mut self, command: C, patience: Duration) -> Option<C::Output> {
        let usual = (self.budget, std::mem::take(&mut self.resend));
        (self.budget, self.resend) = (patience, vec![patience / 2]);
        let answer = self.run(command).await;
        (self.budget, self.resend) = usual;
        answer.ok()?.ok()
    }

    fn parse<C: Repeat>(&self, answer: frame::Response) -> Result<Result<C::Output, Completion>, FenceError> {
        if let Ok(code) = CompletionErrorCode::try_from(answer.completion) {
            return Ok(Err(Completion(code)));
        }
        C::parse_success_response(answer.message.data()).map(Ok).map_err(|_| FenceError::Malformed {
            device: self.device.clone(),
            detail: format!("command {:#04x} answered with too few bytes", answer.message.cmd()),
        })
    }

    /// The answer to our present request, if it comes before `until`.
    async fn answer(
        &mut self,
        request: &Message,
        until: Instant,
        refused: &mut bool,
    ) -> Option<frame::Response> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = match timeout_at(until, self.socket.recv(&mut buffer)).await {
                Err(_) => return None,
                Ok(Ok(length)) => length,
                Ok(Err(_)) => {
                    *refused = true;
                    tokio::time::sleep_until(until).await;
                    return None;
                }
            };
            let opened = self.established.keys.open(self.established.console_id, &buffer[..length]);
            let Some((sequence, message)) = opened else { continue };
            if !self.window.accept(sequence) {
                continue;
            }
            let Some(answer) = frame::response(&message) else { continue };
            let ours = answer.sequence == self.request
                && answer.message.netfn_raw() == request.netfn_raw() + 1
                && answer.message.cmd() == request.cmd();
            if ours {
                return Some(answer);
            }
        }
    }

    fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        // Zero means "outside a session", so the counter skips it.
        self.sent = self.sent.checked_add(1).unwrap_or(1);
        self.established.keys.seal(self.established.bmc_id, self.sent, rand::rng().random(), message)
    }

    /// Close Session, waiting `patience` for its answer.
    pub(super) async fn close(mut self, patience: Duration) {
        self.closed = true;
        (self.budget, self.resend) = (patience, vec![patience / 2]);
        let _ = self.run(CloseSession(self.established.bmc_id)).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let request =
            frame::request(&CloseSession(self.established.bmc_id).into(), (self.request + 1) & 0x3f);
        let datagram = self.seal(&request);
        let _ = self.socket.try_send(&datagram);
    }
}
