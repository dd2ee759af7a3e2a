//! One connection, served twice: by the listener that reads plain requests itself, and by hyper alone. Not a byte of
//! the answers may differ, nor whether the connection stays open.
//!
//! Two liberties are left, for a head that comes in several reads, of which hyper looks at the later ones only for an empty
//! line. When it notices a fault depends on how the bytes were cut, and handed over they are cut anew: so an empty line comes
//! last in every input. And of a head that is both too long and malformed it names whichever fault it meets first; refused
//! and closed it is either way.
//!
//! `{cut}` in an input ends what one read of the connection yields.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use portcullis::authz::Gate;
use portcullis::authz::answer::Body;
use portcullis::peer::{Peer, TrustedProxies};
use portcullis::server::deadline::Patience;
use portcullis::server::express::Plain;
use portcullis::server::listener::{self, ConnectionLimits, Handler};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::gate::{self, Fixture};

const CUT: &[u8] = b"{cut}";

/// `data` is what a proxy sends, with marks for the session cookies and for where a read ends.
pub fn run(data: &[u8]) {
    gate::with(|fixture| {
        let wire = fixture.with_cookies(data);
        if wire.starts_with(b"PRI ") {
            return; // HTTP/2 is hyper's from the start, and answers on tasks of its own
        }
        let hyper = served(fixture, &wire, |gate| Counted::<false> { gate, busy: Arc::default() });
        if !fixture.has_sessions() {
            return; // a cookie was shown at another domain and is worth nothing the second time
        }
        let express = served(fixture, &wire, |gate| Counted::<true> { gate, busy: Arc::default() });
        assert_eq!(express.output.escape_ascii().to_string(), hyper.output.escape_ascii().to_string());
        assert_eq!(express.is_closed, hyper.is_closed, "after {}", hyper.output.escape_ascii());
    });
}

/// What the peer sees of a connection.
struct Seen {
    output: Vec<u8>,
    is_closed: bool,
}

fn served<const PLAIN: bool>(
    fixture: &Fixture,
    wire: &[u8],
    handler: impl FnOnce(Arc<Gate>) -> Counted<PLAIN>,
) -> Seen {
    let handler = handler(Arc::clone(&fixture.gate));
    let stream = Stream { reads: pieces(wire), output: Arc::default(), is_starved: Arc::default() };
    let (busy, output, is_starved) = (handler.busy.clone(), stream.output.clone(), stream.is_starved.clone());
    let time = Duration::from_secs(1_000_000);
    let header_bytes = if wire.len().is_multiple_of(2) { 2_048 } else { 16 * 1_024 };
    let limits = ConnectionLimits {
        connections: 1,
        strangers: 1,
        trusted: TrustedProxies::default(),
        header_bytes,
        patience: Patience { read: time, write: time, idle: time },
    };
    let is_closed = fixture.runtime.block_on(async {
        let mut connection = pin!(listener::serve(handler, Peer::at(IpAddr::from([127, 0, 0, 1])), limits, stream));
        let (mut quiet, mut written) = (0, 0);
        // Nobody is being answered, and twice there was nothing to read and nothing more was written: it waits.
        poll_fn(|cx| {
            is_starved.store(false, SeqCst);
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let now = output.lock().expect("a lock").len();
            let is_quiet = is_starved.load(SeqCst) && busy.load(SeqCst) == 0 && now == written;
            (quiet, written) = (if is_quiet { quiet + 1 } else { 0 }, now);
            if quiet == 2 {
                return Poll::Ready(false);
            }
            if busy.load(SeqCst) == 0 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })
        .await
    });
    let output = undated(&output.lock().expect("a lock"));
    let output = if wire.len() < header_bytes { output } else { without_reason(output) };
    Seen { output, is_closed }
}

/// `wire` as it comes, read by read, and an empty line.
fn pieces(wire: &[u8]) -> VecDeque<Vec<u8>> {
    let (mut pieces, mut piece, mut rest) = (VecDeque::new(), Vec::new(), wire);
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(CUT) {
            Some(after) => {
                pieces.push_back(std::mem::take(&mut piece));
                rest = after;
            }
            None => {
                piece.push(*first);
                rest = after;
            }
        }
    }
    pieces.push_back(piece);
    pieces.push_back(b"\r\n\r\n".to_vec());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// `output` with nothing in its `Date` fields: a second may have passed.
fn undated(output: &[u8]) -> Vec<u8> {
    let blank = |line: &[u8]| if line.starts_with(b"date: ") { b"date\n".to_vec() } else { line.to_vec() };
    output.split_inclusive(|&byte| byte == b'\n').flat_map(blank).collect()
}

/// `output` with hyper's own refusal at its end, if there is one, named in the same way whatever the reason.
fn without_reason(output: Vec<u8>) -> Vec<u8> {
    let refusals = ["400 Bad Request", "414 URI Too Long", "431 Request Header Fields Too Large"];
    let refusals =
        refusals.map(|status| format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate\n\r\n"));
    match refusals.iter().find_map(|refusal| output.strip_suffix(refusal.as_bytes())) {
        Some(before) => [before, b"refused and closed"].concat(),
        None => output,
    }
}

/// The gate, and how many requests it is answering.
#[derive(Clone)]
struct Counted<const PLAIN: bool> {
    gate: Arc<Gate>,
    busy: Arc<AtomicUsize>,
}

/// Counts one request for as long as it lives.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Busy {
        count.fetch_add(1, SeqCst);
        Busy(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl<const PLAIN: bool> Handler for Counted<PLAIN> {
    type Body = Body;

    const TAKES_PLAIN: bool = PLAIN;

    fn call(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        secure: bool,
    ) -> impl Future<Output = Response<Body>> + Send {
        let busy = Busy::new(&self.busy);
        let answer = Handler::call(&self.gate, request, peer, secure);
        async move {
            let answer = answer.await;
            drop(busy);
            answer
        }
    }

    async fn plain(&self, request: &Plain<'_>, peer: Peer, secure: bool, out: &mut Vec<u8>) -> bool {
        let _busy = Busy::new(&self.busy);
        Handler::plain(&self.gate, request, peer, secure, out).await
    }
}

/// A connection that yields its reads one by one and then nothing more, but is not closed by the peer.
struct Stream {
    reads: VecDeque<Vec<u8>>,
    output: Arc<Mutex<Vec<u8>>>,
    is_starved: Arc<AtomicBool>,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut now) = self.reads.pop_front() else {
            self.is_starved.store(true, SeqCst);
            return Poll::Pending;
        };
        let later = now.split_off(now.len().min(buf.remaining()));
        buf.put_slice(&now);
        if !later.is_empty() {
            self.reads.push_front(later);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.output.lock().expect("a lock").extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
