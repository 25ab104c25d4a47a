//! What passes between a client and the router, watched: bytes, request bodies, answers. Each tells the seat what it sees and changes nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::Body as AxumBody;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::seats::{Phase, Seat};

/// A connection, plain or TLS.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    seat: Arc<Seat>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, seat: Arc<Seat>) -> Self {
        Watched { stream, seat }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.seat.sent(Instant::now());
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.seat.heard(Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come in time")]
pub struct Late;

/// A request's body on its way in.
#[derive(Debug)]
pub struct Receiving {
    body: Incoming,
    seat: Arc<Seat>,
    until: Instant,
    /// Made only when the body is not here at once, which is rare.
    alarm: Option<Pin<Box<Sleep>>>,
    whole: bool,
}

impl Receiving {
    pub fn new(body: Incoming, seat: Arc<Seat>, now: Instant) -> Self {
        let whole = body.is_end_stream();
        seat.enter(if whole { Phase::Work } else { Phase::Body }, now);
        let until = now + seat.limits().body;
        Receiving { body, seat, until, alarm: None, whole }
    }

    fn ends(&mut self) {
        if !self.whole {
            self.whole = true;
            self.seat.enter(Phase::Work, Instant::now());
        }
    }
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                this.seat.holds(frame.data_ref().map_or(0, Bytes::len));
            }
            if frame.is_none() || this.body.is_end_stream() {
                this.ends();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep_until(this.until)));
        ready!(alarm.as_mut().poll(cx));
        this.whole = true;
        this.seat.gives_up(Instant::now());
        Poll::Ready(Some(Err(Box::new(Late))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Receiving {
    /// Nobody reads it any more: the handler is at work, or has refused.
    fn drop(&mut self) {
        self.ends();
    }
}

/// An answer on its way out.
#[derive(Debug)]
pub struct Answering {
    body: AxumBody,
    seat: Arc<Seat>,
}

impl Answering {
    pub fn new(body: AxumBody, seat: Arc<Seat>) -> Self {
        Answering { body, seat }
    }
}

impl Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    /// All of it was handed on.
    fn drop(&mut self) {
        self.seat.enter(Phase::Idle, Instant::now());
    }
}
