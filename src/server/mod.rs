//! Builds the rooms from their settings and runs the listeners.
//!
//! The gate has a runtime of its own; the portal and the metrics page share another whose threads give
//! way to it, so that a storm of log-ins does not slow a decision. All listeners are bound before any
//! of them serves: a server that can't start whole does not start at all.

mod connection;
pub mod deadline;
mod descriptors;
pub mod express;
pub mod listener;
mod request_line;
pub(crate) mod tls;

use std::future::Future;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use self::deadline::Patience;
use self::descriptors::Places;
use self::express::Plain;
use self::listener::{Bound, ConnectionLimits, Counts, Handler};
use self::tls::Certificates;
use crate::authz::inquiry::Line;
use crate::authz::{self, Gate};
use crate::clock::{self, UnixTime};
use crate::config::{self, Address, Settings};
use crate::fault::Fault;
use crate::identity::file::FileBackend;
use crate::peer::Peer;
use crate::portal::{self, Portal};
use crate::session::{Sessions, StoreSettings};
use crate::signin::SignIn;
use crate::signin::pool::HashingPool;
use crate::telemetry::log;
use crate::telemetry::metrics::{Listener, Metrics, SessionCounts};

/// The longest `CheckRequest` at the least: as much as the header fields that Envoy takes from a client.
const CHECK_BYTES: usize = 64 * 1024;

/// Serves until SIGTERM or SIGINT, then lets open requests finish within the drain time.
///
/// Prints the ready line on `out` once every listener accepts.
///
/// # Errors
///
/// What kept it from starting, in the words of whoever noticed.
pub fn serve(settings: Settings, out: &mut dyn Write) -> Result<(), Fault> {
    let log = log::start(&settings.log, clock::stamp).map_err(|error| {
        Fault::new(format!("the log can't be written: {error}")).help("Check `log.file_path` and its folder.")
    })?;
    // `log` is held to the end of this function, whoever else wants to know of it or not.
    let counter = log.counter();
    let workers = settings
        .limits
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get));
    let gate_runtime = runtime("gate", workers, || ())?;
    let slow_runtime = runtime("portal", workers.min(2), give_way)?;
    let (stop, stopping) = watch::channel(false);
    let drain = settings.limits.drain;
    let tasks = slow_runtime.block_on(start(settings, counter, &gate_runtime, &slow_runtime, &stopping, out))?;
    slow_runtime.block_on(async {
        wait_for_signal().await?;
        info!(seconds = drain.as_secs(), "stopping: open requests may finish");
        stop.send_replace(true);
        let finish = async {
            for task in tasks.listeners {
                if let Err(error) = task.await {
                    warn!(%error, "a listener ended badly");
                }
            }
        };
        if tokio::time::timeout(drain, finish).await.is_err() {
            warn!("some requests did not finish within the drain time");
        }
        if tokio::time::timeout(Duration::from_secs(2), tasks.sessions.flush()).await.is_err() {
            warn!("some notes of activity were not written");
        }
        Ok::<(), Fault>(())
    })?;
    gate_runtime.shutdown_timeout(Duration::from_millis(100));
    slow_runtime.shutdown_timeout(Duration::from_millis(100));
    drop(log);
    Ok(())
}

struct Running {
    listeners: Vec<tokio::task::JoinHandle<()>>,
    sessions: Arc<Sessions>,
}

async fn start(
    settings: Settings,
    log: log::Counter,
    gate_runtime: &Runtime,
    slow_runtime: &Runtime,
    stopping: &watch::Receiver<bool>,
    out: &mut dyn Write,
) -> Result<Running, Fault> {
    let accounts = Arc::new(FileBackend::load(settings.users, settings.hashing).map_err(listed)?);
    accounts.watch().map_err(no_thread)?;
    // On the gate's runtime: connections to the store belong to whoever waits for them most.
    let store = settings.session;
    let store_connections = match &store.store {
        StoreSettings::Memory { .. } => 0,
        StoreSettings::Redis(redis) => redis.max_connections as usize,
    };
    let opened = gate_runtime.spawn(async move { Sessions::open_store(&store).await });
    let sessions = Arc::new(opened.await.map_err(|error| Fault::new(error.to_string()))??);
    let pool = HashingPool::start(settings.hashing_pool).map_err(no_thread)?;
    let signin = SignIn::new(Arc::clone(&accounts), settings.regulation, pool)
        .map_err(|_| Fault::new("the system has no randomness to give"))?;
    let signin = Arc::new(signin);
    let policy = Arc::new(settings.policy);
    let names = settings.endpoints.iter().map(|endpoint| endpoint.name.as_str().to_owned());
    let grpc_name = settings.grpc.is_some().then(|| "grpc".to_owned());
    let metrics = Arc::new(
        Metrics::new(names.chain(grpc_name), policy.rule_count())
            .map_err(|error| Fault::new(format!("metrics can't be set up: {error}")))?,
    );

    let gate = Arc::new(Gate::new(
        authz::Settings {
            endpoints: settings.endpoints,
            base_path: settings.gate.address.base_path().to_owned(),
            trusted_proxies: settings.trusted_proxies.clone(),
            portal_override: settings.portal_override,
            refresh: settings.refresh,
            grpc: settings.grpc.is_some().then(|| authz::grpc::Settings {
                message_bytes: settings.limits.read_buffer.saturating_mul(2).max(CHECK_BYTES),
                message_time: settings.limits.read_timeout,
            }),
        },
        Arc::clone(&policy),
        Arc::clone(&sessions),
        Arc::clone(&signin),
        Arc::clone(&metrics),
    ));
    let portal = Arc::new(Portal::new(
        Arc::clone(&sessions),
        signin,
        policy,
        Arc::clone(&metrics),
        portal::Settings {
            base_path: settings.portal.address.base_path().to_owned(),
            trusted_proxies: settings.trusted_proxies.clone(),
            body_limit: settings.limits.body,
            body_time: settings.limits.read_timeout,
        },
    ));
    let page = Arc::new(MetricsPage {
        path: settings.metrics.as_ref().map_or_else(String::new, |listener| listener.address.base_path().to_owned()),
        metrics: Arc::clone(&metrics),
        sessions: Arc::clone(&sessions),
        accounts,
        log,
    });

    let gates = 1 + usize::from(settings.grpc.is_some());
    let shares = descriptors::share_out(settings.limits.max_connections, gates, store_connections);
    let limits = |places: Places| ConnectionLimits {
        connections: places.trusted,
        strangers: places.untrusted,
        trusted: settings.trusted_proxies.clone(),
        header_bytes: settings.limits.read_buffer,
        patience: Patience {
            read: settings.limits.read_timeout,
            write: settings.limits.write_timeout,
            idle: settings.limits.idle_timeout,
        },
    };
    let counts = |listener| Counts {
        open: metrics.connections(listener),
        turned_away: metrics.turned_away(listener),
        cut: metrics.cut(listener),
    };
    let (gate_tls, portal_tls) = (certificates(&settings.gate)?, certificates(&settings.portal)?);
    let grpc_tls = settings.grpc.as_ref().map(certificates).transpose()?.flatten();
    let watched: Vec<_> = [&gate_tls, &grpc_tls, &portal_tls].into_iter().flatten().cloned().collect();
    Certificates::watch(&watched).map_err(no_thread)?;
    // Inside the runtime that will serve it.
    let bind_gate = async |key: &str, listener: &config::Listener, tls, kind: Listener| {
        let (address, limits, counts) = (listener.address.clone(), limits(shares.gate), counts(kind));
        let task = gate_runtime.spawn(async move { Bound::bind(&address, tls, limits, counts).await });
        task.await
            .map_err(|error| Fault::new(error.to_string()))?
            .map_err(|error| unbound(key, &listener.address, &error))
    };
    let bound_gate = bind_gate("server.address", &settings.gate, gate_tls, Listener::Gate).await?;
    let bound_grpc = match &settings.grpc {
        Some(listener) => Some(bind_gate("server.grpc.address", listener, grpc_tls, Listener::Grpc).await?),
        None => None,
    };
    let bound_portal =
        Bound::bind(&settings.portal.address, portal_tls, limits(shares.portal), counts(Listener::Portal))
            .await
            .map_err(|error| unbound("portal.address", &settings.portal.address, &error))?;
    let bound_metrics = match &settings.metrics {
        Some(listener) => Some(
            Bound::bind(&listener.address, certificates(listener)?, limits(shares.metrics), counts(Listener::Metrics))
                .await
                .map_err(|error| unbound("telemetry.metrics.address", &listener.address, &error))?,
        ),
        None => None,
    };

    let (gate_address, portal_address) = (bound_gate.address().to_owned(), bound_portal.address().to_owned());
    let metrics_address = bound_metrics.as_ref().map_or("off", Bound::address).to_owned();
    let grpc_address = bound_grpc.as_ref().map(|bound| bound.address().to_owned());
    let mut ready = format!("ready gate={gate_address} portal={portal_address} metrics={metrics_address}");
    if let Some(address) = &grpc_address {
        ready += &format!(" grpc={address}");
    }
    let mut listeners = vec![
        gate_runtime.spawn(bound_gate.run(Arc::clone(&gate), stopping.clone())),
        slow_runtime.spawn(bound_portal.run(portal, stopping.clone())),
    ];
    if let Some(bound) = bound_grpc {
        listeners.push(gate_runtime.spawn(bound.run(Grpc(gate), stopping.clone())));
    }
    if let Some(bound) = bound_metrics {
        listeners.push(slow_runtime.spawn(bound.run(page, stopping.clone())));
    }
    slow_runtime.spawn(sweep(Arc::clone(&sessions)));
    writeln!(out, "{ready}")
        .and_then(|()| out.flush())
        .map_err(|error| Fault::new(format!("standard output: {error}")))?;
    info!(
        gate = gate_address,
        portal = portal_address,
        metrics = metrics_address,
        grpc = grpc_address,
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    Ok(Running { listeners, sessions })
}

/// Forgets sessions that have ended, once a minute.
async fn sweep(sessions: Arc<Sessions>) {
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    loop {
        minute.tick().await;
        sessions.sweep(UnixTime::now());
    }
}

fn runtime(name: &'static str, workers: usize, on_start: impl Fn() + Send + Sync + 'static) -> Result<Runtime, Fault> {
    Builder::new_multi_thread()
        .worker_threads(workers.max(1))
        .thread_name(name)
        .on_thread_start(on_start)
        .enable_all()
        .build()
        .map_err(|error| Fault::new(format!("threads can't be started: {error}")))
}

/// Lowers the present thread's priority. Raising it again would need a privilege; lowering never does.
fn give_way() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Batch);
    let native = thread_priority::unix::thread_native_id();
    if let Err(error) = thread_priority::unix::set_thread_priority_and_policy(native, ThreadPriority::Min, policy) {
        warn!(%error, "the portal runs at the gate's priority");
    }
}

async fn wait_for_signal() -> Result<(), Fault> {
    let cannot = |error: std::io::Error| Fault::new(format!("signals can't be waited for: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn certificates(listener: &config::Listener) -> Result<Option<Arc<Certificates>>, Fault> {
    listener.tls.clone().map(Certificates::load).transpose()
}

fn unbound(key: &str, address: &Address, error: &std::io::Error) -> Fault {
    Fault::new(format!("`{key}` {address} can't be listened on: {error}"))
        .help("Choose an address of this machine and a port that is free.")
}

fn no_thread(error: std::io::Error) -> Fault {
    Fault::new(format!("a thread can't be started: {error}"))
}

fn listed(faults: Vec<impl std::fmt::Display>) -> Fault {
    Fault::new(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

impl Handler for Arc<Gate> {
    type Body = Full<Bytes>;

    fn call(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        secure: bool,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        let gate = Arc::clone(self);
        // The gate leaves bodies unread, and where one ends the next request would be a matter of opinion (A60, A61).
        let last = request.version() < Version::HTTP_2 && !request.body().is_end_stream();
        async move {
            let mut answer = Gate::call(&gate, request, peer, secure).await;
            if last {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    }

    const TAKES_PLAIN: bool = true;
    const REFUSES_FRAGMENTS: bool = true;

    async fn plain(&self, request: &Plain<'_>, peer: Peer, secure: bool, out: &mut Vec<u8>) -> bool {
        let (path, _) = request.target.split_once('?').unwrap_or((request.target, ""));
        let line =
            Line { method: request.method, path, target: request.target, authority: None, version: Version::HTTP_11 };
        let Some(answer) = self.decide(line, request.fields(), peer, secure).await else { return false };
        express::with_date(|date| answer.write(request.method == "HEAD", date, out));
        true
    }
}

/// The gate as Envoy asks it over gRPC.
#[derive(Clone)]
struct Grpc(Arc<Gate>);

impl Handler for Grpc {
    type Body = authz::grpc::ReplyBody;

    fn call(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        _secure: bool,
    ) -> impl Future<Output = authz::grpc::Reply> + Send {
        let gate = Arc::clone(&self.0);
        async move { gate.check(request, peer).await }
    }
}

impl Handler for Arc<Portal> {
    type Body = Full<Bytes>;

    // Each stream of a stranger's may hold a body (A122).
    const STREAMS: u32 = 32;
    const STREAM_WINDOW: u32 = 16 * 1024;

    fn call(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        _secure: bool,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        let portal = Arc::clone(self);
        async move { Portal::call(&portal, request, peer).await }
    }
}

/// What Prometheus reads.
struct MetricsPage {
    path: String,
    metrics: Arc<Metrics>,
    sessions: Arc<Sessions>,
    accounts: Arc<FileBackend>,
    log: log::Counter,
}

impl Handler for Arc<MetricsPage> {
    type Body = Full<Bytes>;

    fn call(
        &self,
        request: Request<Incoming>,
        _peer: Peer,
        _secure: bool,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        let answer = self.answer(request.method(), request.uri().path());
        async move { answer }
    }
}

impl MetricsPage {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, body) = match (method, path) {
            (_, path) if path != self.path => (StatusCode::NOT_FOUND, b"404 Not Found".to_vec()),
            (&Method::GET | &Method::HEAD, _) => {
                let stats = self.sessions.stats();
                let counts = SessionCounts {
                    held: stats.active.unwrap_or_default(),
                    store_errors: stats.store_errors,
                    touches_dropped: stats.touches_dropped,
                };
                self.metrics.users_file_is_stale(self.accounts.is_stale());
                match self.metrics.render(counts, self.log.counts()) {
                    Ok(page) => (StatusCode::OK, page),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
                }
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, b"405 Method Not Allowed".to_vec()),
        };
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}
