//! The API's listener: from a socket to the router, bounded against clients that are slow, many or hostile.
//!
//! Whoever reaches the port may connect; so nothing a client has not shown a right to may cost much or long. [`seats`] says who may stay,
//! [`wire`] watches what passes, this file accepts, shakes hands, and hands requests to the router. hyper refuses what is no HTTP.
//!
//! HTTP/1.1 alone: HTTP/2 would let one connection hold hundreds of requests, and no client of this API needs it.

mod seats;
#[cfg(test)]
mod tests;
mod wire;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use halberd_api::{ApiConfig, ApiError};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::tls::Tls;
use seats::{Admission, Phase, Seat, Seats};

pub use seats::Limits;
use wire::{Answering, Receiving, Watched};

/// Largest head of a request: four times what the original's server took in one line.
const HEAD_BYTES: usize = 32 * 1_024;
/// All bodies that were received and are not answered: 256 of the largest that an agent may send before its signature is looked at.
const BODY_BYTES: usize = 64 * 1_024 * 1_024;
/// File descriptors for all that is no client: database, Nova, BMCs, webhooks.
const OTHER_FILES: u64 = 512;
/// Connections that may wait in the kernel until they are accepted; a restart of all agents is a burst.
const BACKLOG: i32 = 4_096;
/// After an answer that ends a connection, what the client still sends is read and dropped for so long: else the kernel resets the connection and
/// the client may never see the answer.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after a failed accept: it fails again until something is closed.
const BREATH: Duration = Duration::from_millis(100);

impl Limits {
    /// What the configuration says, within what this process may open.
    pub fn of(config: &ApiConfig) -> Limits {
        let wanted = u64::from(config.max_connections);
        let most = open_files().map_or(u64::MAX, |files| files.saturating_sub(OTHER_FILES).max(files / 2));
        if wanted > most {
            tracing::warn!(
                max_connections = wanted,
                connections = most,
                "this process may not open so many files: raise its limit (LimitNOFILE= of the unit), or lower [api] max_connections"
            );
        }
        Limits {
            connections: usize::try_from(wanted.min(most)).unwrap_or(usize::MAX),
            head: Duration::from_secs(config.head_timeout_s),
            body: Duration::from_secs(config.body_timeout_s),
            idle: Duration::from_secs(config.idle_timeout_s),
            bytes: BODY_BYTES,
        }
    }
}

/// Raises the soft limit of open files to the hard one; what it is then, `None` for no limit.
fn open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

/// A listener at work.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    end: CancellationToken,
    connections: TaskTracker,
    accepting: JoinHandle<()>,
}

struct Shared {
    router: Router,
    tls: Option<Arc<Tls>>,
    seats: Arc<Seats>,
    /// No new connections and requests.
    stop: CancellationToken,
    /// No connections at all.
    end: CancellationToken,
    connections: TaskTracker,
    /// The log has been told that there are too many.
    told: AtomicBool,
}

impl Server {
    /// Serves `router` on a listening socket, over TLS where there is one.
    ///
    /// # Errors
    /// The socket cannot be used by the runtime.
    pub fn start(
        listener: std::net::TcpListener,
        router: Router,
        tls: Option<Arc<Tls>>,
        limits: Limits,
    ) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let listener = TcpListener::from_std(listener)?;
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let connections = TaskTracker::new();
        let shared = Arc::new(Shared {
            router,
            tls,
            seats: Seats::new(limits),
            stop: stop.clone(),
            end: end.clone(),
            connections: connections.clone(),
            told: AtomicBool::new(false),
        });
        let accepting = tokio::spawn(shared.accept(listener));
        Ok(Server { stop, end, connections, accepting })
    }

    /// Waits until it accepts no more, which happens only by [`Server::stop`] or a fault.
    ///
    /// # Errors
    /// The fault.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.accepting).await.map_err(io::Error::other)
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Refuses new connections and ends those that have no request; requests under way get `drain`.
    pub async fn stop(self, drain: Duration) {
        self.stop.cancel();
        self.connections.close();
        if timeout(drain, self.connections.wait()).await.is_err() {
            self.end.cancel();
            self.connections.wait().await;
        }
        self.accepting.abort();
    }

    /// Ends everything at once.
    pub fn kill(self) {
        self.accepting.abort();
        self.stop.cancel();
        self.end.cancel();
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    self.clone().seat(stream, peer);
                }
                Err(error) if of_the_client(&error) => {}
                Err(error) => {
                    if !failing {
                        failing = true;
                        tracing::error!(%error, "new connections cannot be accepted; the idlest are closed until they can");
                    }
                    self.seats.make_room();
                    sleep(BREATH).await;
                }
            }
        }
    }

    /// Gives a new connection its seat and its task.
    fn seat(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let admission = self.seats.admit(&self.end, Instant::now());
        let (seat, crowded) = match admission {
            Admission::Seated(seat) => (Some(seat), false),
            Admission::Instead(seat) => (Some(seat), true),
            Admission::Full => (None, true),
        };
        self.tell(crowded);
        let Some(seat) = seat else {
            ended("refused");
            return;
        };
        prepare(&stream, self.seats.limits());
        let connections = self.connections.clone();
        connections.spawn(async move {
            metrics::gauge!("halberd_api_connections").increment(1.0);
            tokio::select! {
                biased;
                () = seat.cut().cancelled() => ended("crowded"),
                () = self.talk(stream, peer, &seat) => {}
            }
            metrics::gauge!("halberd_api_connections").decrement(1.0);
        });
    }

    /// Once when it begins, and again only after it was over.
    fn tell(&self, crowded: bool) {
        let most = self.seats.limits().connections;
        if crowded && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                connections = most,
                "as many connections as may be: for each new one the idlest is closed; [api] max_connections sets how many"
            );
        }
        if !crowded && self.told.load(Ordering::Relaxed) && self.seats.taken() < most - most / 10 {
            self.told.store(false, Ordering::Relaxed);
            tracing::info!("there is room for connections again");
        }
    }

    async fn talk(&self, stream: TcpStream, peer: SocketAddr, seat: &Arc<Seat>) {
        // Until the first byte a connection costs no buffer.
        let head = Instant::now() + self.seats.limits().head;
        let mut first = [0];
        let heard = tokio::select! {
            heard = timeout_at(head, stream.peek(&mut first)) => heard,
            () = self.stop.cancelled() => return,
        };
        match heard {
            Ok(Ok(1..)) => {}
            Ok(_) => return,
            Err(_) => return ended("silent"),
        }
        // Boxed, so that silent connections do not pay for them.
        let Some(tls) = &self.tls else { return Box::pin(self.speak(stream, seat)).await };
        let handshake = Box::pin(timeout_at(head, TlsAcceptor::from(tls.current()).accept(stream)));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            () = self.stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => {
                seat.enter(Phase::Head, Instant::now());
                Box::pin(self.speak(stream, seat)).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "no TLS handshake");
                ended("handshake");
            }
            Err(_) => ended("silent"),
        }
    }

    /// HTTP, request after request.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, seat: &Arc<Seat>) {
        let service = service_fn(|request: Request<Incoming>| {
            Box::pin(answer(self.router.clone(), request, seat.clone()))
        });
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(Watched::new(stream, seat.clone())), service);
        let mut stopped = pin!(self.stop.cancelled());
        let mut stopping = false;
        let mut alarm = pin!(sleep_until(Instant::now() + seat.limits().head));
        let in_time = poll_fn(|cx| {
            if !stopping && stopped.as_mut().poll(cx).is_ready() {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            // Its errors are the client's: it went away, or spoke no HTTP and was told so.
            if connection.poll_without_shutdown(cx).is_ready() {
                return Poll::Ready(true);
            }
            // Every change of the deadline happens inside of the poll above. An alarm that is too early is set again when it rings.
            while let Some(deadline) = seat.deadline() {
                if deadline <= Instant::now() {
                    return Poll::Ready(false);
                }
                if deadline < alarm.deadline() || alarm.is_elapsed() {
                    alarm.as_mut().reset(deadline);
                }
                if alarm.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            Poll::Pending
        });
        if !in_time.await {
            return ended(if seat.phase() == Phase::Idle { "idle" } else { "slow" });
        }
        seat.enter(Phase::Idle, Instant::now());
        let goodbye = timeout(LINGER, linger(connection.into_parts().io.into_inner()));
        tokio::select! {
            _ = goodbye => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// The router's answer; 408 where the client kept it waiting for the body.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    seat: Arc<Seat>,
) -> Result<Response<Answering>, Infallible> {
    let receiving = seat.clone();
    let request = request.map(|body| Body::new(Receiving::new(body, receiving, Instant::now())));
    let response = router.oneshot(request).await?;
    seat.releases();
    let response = if seat.is_late() { late(seat.limits()) } else { response };
    Ok(response.map(|body| Answering::new(body, seat)))
}

/// Whatever the handler made of half a body.
fn late(limits: &Limits) -> Response {
    let why = format!("The body did not come within {} s.", limits.body.as_secs());
    let mut response = ApiError::new(StatusCode::REQUEST_TIMEOUT.as_u16(), why).into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    ended("slow");
    response
}

/// Says goodbye and hears the client out.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut rest = vec![0; 4_096];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

/// Small answers leave at once. A peer that vanished, or that takes nothing of an answer, is cut off by the kernel: `TCP_USER_TIMEOUT` is the time
/// that data may stay unacknowledged or untransmitted (tcp(7)); event streams write often enough to notice.
fn prepare(stream: &TcpStream, limits: &Limits) {
    let unheard = u32::try_from(limits.body.as_millis()).unwrap_or(u32::MAX);
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, unheard);
}

/// It was gone before it was accepted.
fn of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Counts what ended before its client wanted.
fn ended(why: &'static str) {
    metrics::counter!("halberd_api_connections_ended_total", "why" => why).increment(1);
}
