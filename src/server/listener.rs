//! One listener: accepts connections and bears with them within limits.
//!
//! HTTP/1.1 and HTTP/2 share a port, with or without TLS: the first bytes tell them apart. It knows
//! nothing of what is asked; a [`Handler`] answers. It stops when told to, lets open requests finish,
//! and gives up on them only when its caller drops it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use hyper_util::server::graceful::GracefulShutdown;
use prometheus::{IntCounter, IntGauge};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::connection::Connection;
use super::deadline::{Clock, Deadline, Patience};
use super::express::Plain;
use super::tls::Certificates;
use crate::config::Address;
use crate::peer::{Peer, TrustedProxies};

/// Answers requests. It can't fail: every request gets an answer.
pub trait Handler: Clone + Send + Sync + 'static {
    /// What an answer's body is.
    type Body: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static;

    /// Whether [`plain`](Handler::plain) takes anything.
    const TAKES_PLAIN: bool = false;

    /// Whether a request line with a `#` in it is refused (A08). Only where bodies are left unread, which may hold what looks
    /// like a request line wherever their bytes are cut.
    const REFUSES_FRAGMENTS: bool = false;

    /// Streams open at once on one HTTP/2 connection; a peer that has more to ask opens another.
    const STREAMS: u32 = 256;

    /// Bytes that one HTTP/2 stream may send of its body before they are asked for.
    const STREAM_WINDOW: u32 = 65_535;

    /// Answers one request that came from `peer`; `secure` tells whether it came over TLS.
    fn call(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        secure: bool,
    ) -> impl Future<Output = Response<Self::Body>> + Send;

    /// Writes the answer to a plain request to `out`, whole, for a connection that stays open; false, and nothing is
    /// written, where [`call`](Handler::call) is to answer it. The two answer alike.
    fn plain(
        &self,
        _request: &Plain<'_>,
        _peer: Peer,
        _secure: bool,
        _out: &mut Vec<u8>,
    ) -> impl Future<Output = bool> + Send {
        std::future::ready(false)
    }
}

/// What one listener bears.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Open connections of trusted peers; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Open connections of everybody else, beside those; further ones are closed at once, so that
    /// strangers never keep a proxy out.
    pub strangers: usize,
    /// Who is trusted.
    pub trusted: TrustedProxies,
    /// Bytes of a request's line and header fields together; more is 431.
    pub header_bytes: usize,
    /// How long a connection may be as it is.
    pub patience: Patience,
}

/// What is counted of one listener.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Connections that are open.
    pub open: IntGauge,
    /// Connections that were closed unasked: a stranger's, beyond their share.
    pub turned_away: IntCounter,
    /// Connections that were cut because a handshake, a request or an answer took too long.
    pub cut: IntCounter,
}

/// A bound listener, not yet serving.
pub struct Bound {
    socket: Socket,
    address: String,
    tls: Option<Arc<Certificates>>,
    limits: Arc<ConnectionLimits>,
    counts: Counts,
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// A unix socket's file, removed when the listener goes.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            debug!(file = %self.0.display(), %error, "could not remove the socket");
        }
    }
}

impl Bound {
    /// Binds `address`. Must be called inside the runtime that will serve it.
    ///
    /// A socket file that nobody listens on any more is replaced; one that is in use is an error.
    ///
    /// # Errors
    ///
    /// What the system says: the port is taken, the name is unknown, the folder is missing.
    pub async fn bind(
        address: &Address,
        tls: Option<Arc<Certificates>>,
        limits: ConnectionLimits,
        counts: Counts,
    ) -> io::Result<Bound> {
        let (socket, address) = match address {
            Address::Tcp { host, port, .. } => {
                let listener = match host.as_str() {
                    "" => match bind_tcp("::", *port).await {
                        Ok(both) => both,
                        Err(_) => bind_tcp("0.0.0.0", *port).await?, // a system without IPv6
                    },
                    host => bind_tcp(host, *port).await?,
                };
                let address = listener.local_addr()?.to_string();
                (Socket::Tcp(listener), address)
            }
            Address::Unix { path, mode, .. } => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                if let Some(mode) = mode {
                    std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
                }
                (Socket::Unix { listener, _file: SocketFile(path.clone()) }, format!("unix://{}", path.display()))
            }
        };
        Ok(Bound { socket, address, tls, limits: Arc::new(limits), counts })
    }

    /// The address as bound, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Serves until `stop` turns true, then lets what is open finish.
    pub async fn run<H: Handler>(self, handler: H, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        let mut open = OpenConnections::new(self.limits.patience, self.counts.clone());
        let seats = Seats::new(&self.limits);
        let mut free = None;
        loop {
            let accepted = tokio::select! {
                seat = Seats::take(&seats.trusted), if free.is_none() => {
                    free = seat;
                    continue;
                }
                accepted = self.socket.accept(), if free.is_some() => accepted,
                () = open.tick() => {
                    open.cut_expired();
                    continue;
                }
                _ = stop.wait_for(|&stop| stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_the_peers_doing(&error) => {
                    debug!(listener = %self.address, %error, "a connection was gone before it was accepted");
                    continue;
                }
                Err(error) => {
                    // Out of descriptors, most likely. Those who are connected are served meanwhile, and the
                    // slow among them are cut; trying again at once would only spin.
                    open.complain(&self.address, &error);
                    open.cut_expired();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let seat = if self.limits.trusted.trusts(peer) { free.take() } else { Seats::spare(&seats.strangers) };
            let Some(seat) = seat else {
                self.counts.turned_away.inc();
                debug!(listener = %self.address, %peer, "turned away: strangers have their share of connections");
                continue;
            };
            let deadline = open.deadline();
            let connection = Connection {
                handler: handler.clone(),
                peer,
                limits: Arc::clone(&self.limits),
                deadline: Arc::clone(&deadline),
                slot: Some(Slot::new(seat, &seats, &self.counts)),
                watcher: graceful.watcher(),
                stop: stop.clone(),
            };
            let tls = self.tls.as_ref().map(|certificates| TlsAcceptor::from(certificates.current()));
            let task = tokio::spawn(async move {
                match (stream, tls) {
                    (Stream::Tcp(stream), None) => connection.serve(stream, false).await,
                    (Stream::Unix(stream), None) => connection.serve(stream, false).await,
                    (Stream::Tcp(stream), Some(tls)) => Box::pin(connection.serve_tls(tls, stream)).await,
                    (Stream::Unix(stream), Some(tls)) => Box::pin(connection.serve_tls(tls, stream)).await,
                }
            });
            open.push(deadline, task.abort_handle());
        }
        drop((self.socket, free));
        let mut finished = pin!(graceful.shutdown());
        loop {
            tokio::select! {
                () = &mut finished => return,
                () = open.tick() => open.cut_expired(),
            }
        }
    }
}

/// Serves a stream that no listener accepted, without TLS and without a place in any count, until it is closed.
///
/// For tests and fuzzing, which bring a stream of their own.
pub async fn serve<H, S>(handler: H, peer: Peer, limits: ConnectionLimits, stream: S)
where
    H: Handler,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let deadline = Deadline::new(Clock::start(), limits.patience);
    let (_goes_on, stop) = watch::channel(false);
    let graceful = GracefulShutdown::new();
    let (limits, watcher) = (Arc::new(limits), graceful.watcher());
    Connection { handler, peer, limits, deadline, slot: None, watcher, stop }.serve(stream, false).await;
}

/// Whether accepting failed because of this one connection (`accept(2)` on Linux passes on what happened
/// to it), so that the next may be taken at once.
fn is_the_peers_doing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable | NetworkUnreachable
    )
}

/// The places for connections.
#[derive(Clone)]
struct Seats {
    trusted: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Seats {
    fn new(limits: &ConnectionLimits) -> Seats {
        let seats = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Seats { trusted: seats(limits.connections), strangers: seats(limits.strangers) }
    }

    /// A seat, when there is one.
    async fn take(seats: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        Arc::clone(seats).acquire_owned().await.ok()
    }

    /// A seat, if there is one.
    fn spare(seats: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        Arc::clone(seats).try_acquire_owned().ok()
    }
}

/// A connection's seat, and its place in the count; given back when it is dropped, however that comes about.
pub(super) struct Slot {
    seat: OwnedSemaphorePermit,
    trusted: Arc<Semaphore>,
    open: IntGauge,
}

impl Slot {
    fn new(seat: OwnedSemaphorePermit, seats: &Seats, counts: &Counts) -> Slot {
        counts.open.inc();
        Slot { seat, trusted: Arc::clone(&seats.trusted), open: counts.open.clone() }
    }

    /// The peer has proven to be trusted: it gives up a stranger's seat, if there is a better one.
    pub(super) fn vouched(&mut self) {
        if let Some(seat) = Seats::spare(&self.trusted) {
            self.seat = seat;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The open connections of a listener and until when each may go on as it is.
struct OpenConnections {
    clock: Arc<Clock>,
    patience: Patience,
    ticks: tokio::time::Interval,
    connections: Vec<(Arc<Deadline>, AbortHandle)>,
    /// How many there may be before the finished ones are forgotten.
    full: usize,
    counts: Counts,
    complained: Option<Instant>,
}

impl OpenConnections {
    const SMALL: usize = 64;

    fn new(patience: Patience, counts: Counts) -> OpenConnections {
        let mut ticks = tokio::time::interval(patience.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (clock, connections) = (Clock::start(), Vec::new());
        OpenConnections { clock, patience, ticks, connections, full: OpenConnections::SMALL, counts, complained: None }
    }

    /// For a connection that is accepted now.
    fn deadline(&self) -> Arc<Deadline> {
        self.clock.advance();
        Deadline::new(Arc::clone(&self.clock), self.patience)
    }

    fn push(&mut self, deadline: Arc<Deadline>, task: AbortHandle) {
        self.connections.push((deadline, task));
        if self.connections.len() >= self.full {
            // Each look is paid for by as many new connections as it looks at.
            self.connections.retain(|(_, task)| !task.is_finished());
            self.full = (2 * self.connections.len()).max(OpenConnections::SMALL);
        }
    }

    /// Waits until it is time to look; for ever while there is nothing to look at.
    async fn tick(&mut self) {
        if self.connections.is_empty() {
            return std::future::pending().await;
        }
        self.ticks.tick().await;
    }

    /// Cuts those whose time is over: the task is dropped, and the connection with it.
    fn cut_expired(&mut self) {
        self.clock.advance();
        self.connections.retain(|(deadline, task)| {
            if task.is_finished() {
                return false;
            }
            if deadline.has_passed() {
                self.counts.cut.inc();
                task.abort();
                return false;
            }
            true
        });
        self.full = (2 * self.connections.len()).max(OpenConnections::SMALL);
    }

    /// Logs, at most once a second, that no connection can be accepted.
    fn complain(&mut self, listener: &str, error: &io::Error) {
        let now = Instant::now();
        if self.complained.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            self.complained = Some(now);
            warn!(%listener, %error, "connections can't be accepted; those that are open are served");
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Socket::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // Answers are small and go out whole: waiting to fill a packet would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "could not switch off Nagle's algorithm");
                }
                Ok((Stream::Tcp(stream), Peer::at(from.ip())))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

async fn bind_tcp(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await? {
        let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(4_096)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens on this socket already")),
        Err(_) => std::fs::remove_file(path),
    }
}
