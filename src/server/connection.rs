//! One accepted connection: what it speaks, and who serves it within limits: the reader of plain requests, or hyper.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error};

use super::deadline::{Deadline, Timed};
use super::express::{self, Outcome};
use super::listener::{ConnectionLimits, Handler, Slot};
use super::request_line::RequestLines;
use crate::peer::Peer;

/// The client's half of the HTTP/2 preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams reset by the peer before we looked at them (CVE-2023-44487), and streams reset by us for an
/// error of the peer's (CVE-2025-8671): beyond these the connection ends.
const RESET_BY_PEER: usize = 20;
const RESET_BY_US: usize = 64;

/// Bytes that are read at a time.
const CHUNK: usize = 4 * 1024;

/// How many streams' worth of bodies all of an HTTP/2 connection may send before we ask for more.
const WINDOWS: u32 = 4;

/// One accepted connection and what it needs.
pub(super) struct Connection<H> {
    pub handler: H,
    pub peer: Peer,
    pub limits: Arc<ConnectionLimits>,
    pub deadline: Arc<Deadline>,
    pub slot: Option<Slot>,
    pub watcher: Watcher,
    pub stop: watch::Receiver<bool>,
}

impl<H: Handler> Connection<H> {
    /// Serves it over TLS. A peer whose certificate our authorities vouch for is trusted wherever it calls from.
    pub async fn serve_tls<S>(mut self, tls: TlsAcceptor, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match tls.accept(stream).await {
            Ok(stream) => {
                if stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty()) {
                    self.peer = self.peer.certified();
                    if let Some(slot) = &mut self.slot {
                        slot.vouched();
                    }
                }
                self.serve(Box::new(stream), true).await;
            }
            Err(error) => debug!(peer = %self.peer, %error, "the TLS handshake failed"),
        }
    }

    /// Serves it until it is closed, its time is over (then this future is dropped), or the server stops.
    pub async fn serve<S>(mut self, mut stream: S, secure: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.limits.trusted.trusts(self.peer) {
            self.deadline.may_wait(); // a proxy may open connections before it needs them
        } else {
            self.deadline.begin_head();
        }
        let begun = tokio::select! {
            begun = begin(&mut stream, &self.deadline) => begun,
            _ = self.stop.wait_for(|&stop| stop) => return,
        };
        let (speaks, mut read) = match begun {
            Ok(Some(begun)) => begun,
            Ok(None) => return, // closed before anything was asked
            Err(error) => return debug!(peer = %self.peer, %error, "the connection broke"),
        };
        // Each stage is put elsewhere: a connection would carry the room for all of them, as idle as it may be.
        if H::TAKES_PLAIN && matches!(speaks, Speaks::Http1) {
            read = match Box::pin(express::serve(&mut self, &mut stream, read, secure)).await {
                Ok(Outcome::Hyper(read)) => read,
                Ok(Outcome::Over) => return,
                Err(error) => return debug!(peer = %self.peer, %error, "the connection broke"),
            };
        }
        let mut lines = match speaks {
            Speaks::Http1 if H::REFUSES_FRAGMENTS => Some(RequestLines::default()),
            Speaks::Http1 | Speaks::Http2 => None, // `:path` is compressed: nothing to see there
        };
        if let Some(lines) = &mut lines {
            lines.screen(&mut read);
        }
        let peer = self.peer;
        let io = TokioIo::new(Timed::new(read.freeze(), stream, lines, Arc::clone(&self.deadline)));
        let outcome = match speaks {
            Speaks::Http1 => self.http1(io, secure).await,
            Speaks::Http2 => self.http2(io, secure).await,
        };
        if let Err(error) = outcome {
            debug!(%peer, %error, "the connection ended early");
        }
    }

    /// Both are made at once and not when they are first polled: what an `async fn` is given it carries to its end.
    fn http1<S>(self, io: TokioIo<Timed<S>>, secure: bool) -> impl Future<Output = hyper::Result<()>> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (handler, peer, deadline) = (self.handler, self.peer, self.deadline);
        let (watcher, slot) = (self.watcher, self.slot);
        let service = service_fn(move |request| {
            let (handler, deadline) = (handler.clone(), Arc::clone(&deadline));
            // hyper keeps room for it, between requests too.
            Box::pin(async move {
                deadline.asked();
                let answer = answer(&handler, request, peer, secure).await;
                deadline.answered();
                Ok::<_, Infallible>(answer)
            })
        });
        let mut connection = Box::new(
            hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None) // see `deadline`: hyper's would begin when the connection is idle
                .max_header_size(self.limits.header_bytes)
                .max_buf_size(self.limits.header_bytes.max(8_192))
                .writev(false) // bodies are tiny: one flat buffer costs less than a vector
                .serve_connection(io, service),
        );
        async move {
            let _slot = slot;
            // It takes the bytes that were read already: told to stop before it has any, it would drop them.
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut *connection).poll(cx))).await {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => Box::pin(watcher.watch(*connection)).await,
            }
        }
    }

    fn http2<S>(self, io: TokioIo<Timed<S>>, secure: bool) -> impl Future<Output = hyper::Result<()>> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.deadline.begin_streams();
        let (handler, peer, deadline, slot) = (self.handler, self.peer, self.deadline, self.slot);
        let service = service_fn(move |request| {
            let (handler, stream) = (handler.clone(), deadline.open_stream());
            async move {
                let answer = answer(&handler, request, peer, secure).await;
                Ok::<_, Infallible>(answer.map(|body| stream.answered(body)))
            }
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.limits.patience.idle)
            .keep_alive_timeout(self.limits.patience.read)
            .max_concurrent_streams(H::STREAMS)
            .max_pending_accept_reset_streams(RESET_BY_PEER)
            .max_local_error_reset_streams(RESET_BY_US)
            .initial_stream_window_size(H::STREAM_WINDOW)
            .initial_connection_window_size(WINDOWS.saturating_mul(H::STREAM_WINDOW))
            .max_header_list_size(u32::try_from(self.limits.header_bytes).unwrap_or(u32::MAX))
            .max_send_buf_size(64 * 1024)
            .serve_connection(io, service);
        let watched = Box::pin(self.watcher.watch(connection));
        async move {
            let _slot = slot;
            watched.await
        }
    }
}

/// What the handler answers, or 500 if it panics.
async fn answer<H: Handler>(
    handler: &H,
    request: Request<Incoming>,
    peer: Peer,
    secure: bool,
) -> Response<Either<H::Body, Full<Bytes>>> {
    let work = pin!(handler.call(request, peer, secure));
    match caught(peer, work).await {
        Some(answer) => answer.map(Either::Left),
        None => {
            let body = Full::new(Bytes::from_static(b"500 Internal Server Error"));
            let mut answer = Response::new(Either::Right(body));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
    }
}

/// What a handler's `work` comes to, or `None` if it panics: a fault of ours in one request ends neither the
/// connection nor the process, and lets nobody through.
pub(super) async fn caught<T>(peer: Peer, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    // A handler that panicked is not asked again, so nothing half changed of its own is seen.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => {
            error!(%peer, "a request could not be answered because of a fault in this program");
            Poll::Ready(None)
        }
    })
    .await
}

enum Speaks {
    Http1,
    Http2,
}

/// Reads until the first bytes tell HTTP/2 from HTTP/1.1; `None` if the peer closed before.
async fn begin<S: AsyncRead + Unpin>(stream: &mut S, deadline: &Deadline) -> io::Result<Option<(Speaks, BytesMut)>> {
    let mut read = BytesMut::new();
    loop {
        let is_first = read.is_empty();
        if receive(stream, &mut read).await? == 0 {
            return Ok(None);
        }
        if is_first {
            deadline.begin_head();
        }
        if read.starts_with(PREFACE) {
            return Ok(Some((Speaks::Http2, read)));
        }
        if !PREFACE.starts_with(&read) {
            return Ok(Some((Speaks::Http1, read)));
        }
    }
}

/// Waits for bytes and puts them behind `read`; answers how many there were, 0 at the end.
///
/// They pass through the stack, so that `read` needs no room for what may never come.
pub(super) async fn receive<S: AsyncRead + Unpin>(stream: &mut S, read: &mut BytesMut) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk))?;
        read.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(chunk.filled().len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use crate::config::Address;
    use crate::peer::{Peer, TrustedProxies};
    use crate::server::deadline::Patience;
    use crate::server::express::Plain;
    use crate::server::listener::{Bound, ConnectionLimits, Counts, Handler};
    use crate::telemetry::metrics::{Listener, Metrics};

    /// Panics when it is asked for `/panic`, at once or after it has waited.
    #[derive(Clone)]
    struct Faulty<const PLAIN: bool>;

    impl<const PLAIN: bool> Faulty<PLAIN> {
        async fn body(&self, path: &str) -> &'static [u8] {
            match path {
                "/panic" => panic!("on purpose"),
                "/panic/later" => {
                    tokio::task::yield_now().await;
                    panic!("on purpose, later")
                }
                _ => b"fine",
            }
        }
    }

    impl<const PLAIN: bool> Handler for Faulty<PLAIN> {
        type Body = Full<Bytes>;

        const TAKES_PLAIN: bool = PLAIN;

        async fn call(&self, request: Request<Incoming>, _peer: Peer, _secure: bool) -> Response<Full<Bytes>> {
            Response::new(Full::new(Bytes::from_static(self.body(request.uri().path()).await)))
        }

        async fn plain(&self, request: &Plain<'_>, _peer: Peer, _secure: bool, out: &mut Vec<u8>) -> bool {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
            out.extend_from_slice(self.body(request.target).await);
            true
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a102_a_fault_of_ours_is_a_500_and_the_end_of_nothing() {
        a_fault_is_a_500(Faulty::<false>).await;
        a_fault_is_a_500(Faulty::<true>).await;
    }

    async fn a_fault_is_a_500(handler: impl Handler) {
        let metrics = Metrics::new([], 0).unwrap();
        let counts = Counts {
            open: metrics.connections(Listener::Gate),
            turned_away: metrics.turned_away(Listener::Gate),
            cut: metrics.cut(Listener::Gate),
        };
        let time = Duration::from_secs(60);
        let limits = ConnectionLimits {
            connections: 1,
            strangers: 1,
            trusted: TrustedProxies::default(),
            header_bytes: 8_192,
            patience: Patience { read: time, write: time, idle: time },
        };
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0, base_path: String::new() };
        let bound = Bound::bind(&address, None, limits, counts.clone()).await.unwrap();
        let address = bound.address().to_owned();
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        tokio::spawn(bound.run(handler, stopping));

        let mut stream = TcpStream::connect(&address).await.unwrap();
        for (path, expected) in [("/panic", "500"), ("/", "200"), ("/panic/later", "500"), ("/", "200")] {
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"fine") && !answer.ends_with(b"Error") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{path}: closed");
            }
            let answer = String::from_utf8(answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {answer}");
        }
        assert_eq!(counts.open.get(), 1);
        drop(stream);
        let mut next = TcpStream::connect(&address).await.unwrap();
        next.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("fine"), "the one place there is was given back: {answer}");
    }
}
