//! How long a connection may go on as it is, by what it is doing.
//!
//! A request's head has so long from its first byte, an answer so long until it is taken, and between
//! the two a connection may be idle. Nothing here owns a timer: a connection notes until when its present
//! state may last, in a coarse time that the listener keeps, and the listener looks through these notes a
//! few times a second. A request costs a handful of plain stores, and no look at a clock.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::request_line::RequestLines;

/// How long each state may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A handshake, and a request's head from its first byte.
    pub read: Duration,
    /// An answer, from when it is known until the peer's side has taken it.
    pub write: Duration,
    /// A connection without a request.
    pub idle: Duration,
}

impl Patience {
    /// How often to look: often enough that nothing lasts much longer than it may.
    pub fn interval(&self) -> Duration {
        (self.read.min(self.write).min(self.idle) / 8).clamp(Duration::from_millis(5), Duration::from_millis(500))
    }
}

/// The time that one listener's connections share: milliseconds since it began, as of the last look.
#[derive(Debug)]
pub struct Clock {
    begun: Instant,
    now: AtomicU64,
}

impl Clock {
    /// Begins at zero.
    pub fn start() -> Arc<Clock> {
        Arc::new(Clock { begun: Instant::now(), now: AtomicU64::new(0) })
    }

    /// Looks at the real clock.
    pub fn advance(&self) {
        self.now.store(millis(self.begun.elapsed()), Relaxed);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

const NEVER: u64 = u64::MAX;

// What an HTTP/1.1 connection is doing, and the one state of an HTTP/2 connection.
const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;
const ANSWER: u8 = 3;
const STREAMS: u8 = 4;

/// What one connection is doing and until when it may.
#[derive(Debug)]
pub struct Deadline {
    clock: Arc<Clock>,
    patience: Patience,
    /// How stale the clock may be.
    slack: u64,
    state: AtomicU8,
    at: AtomicU64,
    streams: Mutex<Streams>,
}

/// The streams of an HTTP/2 connection.
#[derive(Debug, Default)]
struct Streams {
    open: usize,
    /// Those of them whose answer waits to be taken.
    answers: usize,
}

impl Deadline {
    /// For a connection that was just accepted: it has as long as a head has.
    pub fn new(clock: Arc<Clock>, patience: Patience) -> Arc<Deadline> {
        let slack = millis(patience.interval());
        let deadline = Deadline {
            clock,
            patience,
            slack,
            state: AtomicU8::new(HEAD),
            at: AtomicU64::new(NEVER),
            streams: Mutex::default(),
        };
        deadline.set(HEAD, patience.read);
        Arc::new(deadline)
    }

    /// Whether it is over.
    pub fn has_passed(&self) -> bool {
        self.at.load(Relaxed) <= self.clock.now.load(Relaxed)
    }

    /// Nothing has been asked yet: the connection may wait as an idle one does.
    pub fn may_wait(&self) {
        self.set(IDLE, self.patience.idle);
    }

    /// A handshake is over, or bytes came that begin a request.
    pub fn begin_head(&self) {
        self.set(HEAD, self.patience.read);
    }

    /// The connection speaks HTTP/2: from now on its streams say how it is.
    pub fn begin_streams(&self) {
        self.set(STREAMS, self.patience.idle);
    }

    /// An HTTP/1.1 request was read and is being answered, for as long as that takes.
    pub fn asked(&self) {
        self.state.store(BUSY, Relaxed);
        self.at.store(NEVER, Relaxed);
    }

    /// Its answer is known.
    pub fn answered(&self) {
        self.set(ANSWER, self.patience.write);
    }

    /// A stream of an HTTP/2 connection opened; it is open until what is returned is dropped.
    pub fn open_stream(self: &Arc<Deadline>) -> OpenStream {
        self.streams(|streams| {
            streams.open += 1;
            (streams.answers == 0).then_some(NEVER)
        });
        OpenStream { connection: Arc::clone(self), is_answered: false }
    }

    /// Bytes came.
    pub fn heard(&self) {
        if self.state.load(Relaxed) == IDLE {
            self.begin_head();
        }
    }

    /// The peer's side has taken all that there was to send.
    pub fn flushed(&self) {
        if self.state.load(Relaxed) == ANSWER {
            self.set(IDLE, self.patience.idle);
        }
    }

    fn set(&self, state: u8, span: Duration) {
        self.state.store(state, Relaxed);
        self.at.store(self.after(span), Relaxed);
    }

    fn after(&self, span: Duration) -> u64 {
        self.clock.now.load(Relaxed).saturating_add(millis(span)).saturating_add(self.slack)
    }

    /// Streams of one connection are answered on several threads: their count and what follows from it
    /// change together.
    fn streams(&self, change: impl FnOnce(&mut Streams) -> Option<u64>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = change(&mut streams) {
            self.at.store(at, Relaxed);
        }
    }
}

/// A stream of an HTTP/2 connection, from the request to the last byte of its answer.
#[derive(Debug)]
pub struct OpenStream {
    connection: Arc<Deadline>,
    is_answered: bool,
}

impl OpenStream {
    /// The answer is known; it waits until the peer has room for it.
    pub fn answered<B>(mut self, body: B) -> Taken<B> {
        self.is_answered = true;
        let at = self.connection.after(self.connection.patience.write);
        self.connection.streams(|streams| {
            streams.answers += 1;
            (streams.answers == 1).then_some(at)
        });
        Taken { body, _stream: self }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams(|streams| {
            streams.open = streams.open.saturating_sub(1);
            streams.answers = streams.answers.saturating_sub(usize::from(self.is_answered));
            Some(match (streams.answers, streams.open) {
                (0, 0) => connection.after(connection.patience.idle),
                (0, _) => NEVER,
                _ => connection.after(connection.patience.write), // one was taken: the peer does read
            })
        });
    }
}

/// A body that is dropped when the peer has taken it.
#[derive(Debug)]
pub struct Taken<B> {
    body: B,
    _stream: OpenStream,
}

impl<B: Body + Unpin> Body for Taken<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        pin!(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose first bytes were read already, whose request lines are looked at, and whose reading and
/// writing is noted.
#[derive(Debug)]
pub struct Timed<S> {
    read: Bytes,
    stream: S,
    lines: Option<RequestLines>,
    deadline: Arc<Deadline>,
}

impl<S> Timed<S> {
    /// Gives `read` before what `stream` has. `lines` stands behind `read`, where HTTP/1.1 is spoken.
    pub(super) fn new(read: Bytes, stream: S, lines: Option<RequestLines>, deadline: Arc<Deadline>) -> Timed<S> {
        Timed { read, stream, lines, deadline }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            let Timed { stream, lines, deadline, .. } = &mut *self;
            let before = buf.filled().len();
            let outcome = pin!(stream).poll_read(cx, buf);
            if let Some(fresh) = buf.filled_mut().get_mut(before..).filter(|fresh| !fresh.is_empty()) {
                deadline.heard();
                if let Some(lines) = lines {
                    lines.screen(fresh);
                }
            }
            return outcome;
        }
        let n = self.read.len().min(buf.remaining());
        buf.put_slice(self.read.get(..n).unwrap_or_default());
        self.read.advance(n);
        if self.read.is_empty() {
            self.read = Bytes::new(); // gives the buffer back
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = pin!(&mut self.stream).poll_flush(cx);
        if outcome.is_ready() {
            self.deadline.flushed();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, Deadline, Patience};

    const PATIENCE: Patience =
        Patience { read: Duration::from_secs(6), write: Duration::from_secs(8), idle: Duration::from_secs(75) };

    /// Lets `seconds` go by and says whether the connection is to be cut.
    async fn after(clock: &Clock, deadline: &Deadline, seconds: u64) -> bool {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        clock.advance();
        deadline.has_passed()
    }

    #[tokio::test(start_paused = true)]
    async fn a102_each_state_has_its_own_time() {
        let clock = Clock::start();
        let deadline = Deadline::new(clock.clone(), PATIENCE);
        assert!(!after(&clock, &deadline, 5).await, "a handshake has six seconds");
        deadline.begin_head();
        assert!(!after(&clock, &deadline, 5).await, "and so has the head that follows");
        deadline.asked();
        assert!(!after(&clock, &deadline, 3_600).await, "an answer takes as long as it takes");
        deadline.flushed();
        assert!(!after(&clock, &deadline, 3_600).await, "nothing was answered yet");
        deadline.answered();
        assert!(!after(&clock, &deadline, 7).await);
        deadline.flushed();
        assert!(!after(&clock, &deadline, 74).await, "idle");
        deadline.heard();
        assert!(!after(&clock, &deadline, 5).await);
        deadline.heard();
        assert!(after(&clock, &deadline, 2).await, "a further byte gives a head no further time");
    }

    #[tokio::test(start_paused = true)]
    async fn a102_an_answer_that_is_not_taken_has_an_end() {
        let clock = Clock::start();
        let deadline = Deadline::new(clock.clone(), PATIENCE);
        deadline.asked();
        deadline.answered();
        assert!(after(&clock, &deadline, 9).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a102_an_http2_connection_lives_while_it_is_asked_and_its_answers_are_taken() {
        let clock = Clock::start();
        let deadline = Deadline::new(clock.clone(), PATIENCE);
        deadline.begin_streams();
        deadline.heard();
        assert!(!after(&clock, &deadline, 70).await, "no stream yet: idle, whatever bytes come");
        let (slow, quick) = (deadline.open_stream(), deadline.open_stream());
        assert!(!after(&clock, &deadline, 3_600).await, "both are being answered");
        let quick = quick.answered(());
        assert!(!after(&clock, &deadline, 7).await);
        drop(quick);
        assert!(!after(&clock, &deadline, 3_600).await, "it was taken; the other is being answered");
        let first = slow.answered(());
        let second = deadline.open_stream();
        assert!(!after(&clock, &deadline, 5).await);
        let second = second.answered(());
        assert!(after(&clock, &deadline, 4).await, "a second answer gives the first no further time");
        drop(second);
        assert!(!deadline.has_passed(), "but one that is taken does");
        drop(first);
        assert!(!after(&clock, &deadline, 70).await && after(&clock, &deadline, 7).await, "idle again");
    }
}
