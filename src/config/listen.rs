//! The sections of the process itself: listeners, limits, log and metrics.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::diagnostic::{Diagnostic, Place};
use super::read::{Faults, Section};
use super::value::{Address, Span};
use crate::authz::settings::{self, Endpoint, EndpointName, Implementation, Schemes, Strategy, StrategyKind};
use crate::fault::Fault;
use crate::peer::{TrustedNetwork, TrustedProxies};
use crate::telemetry::log;

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: Address,
    /// With TLS, or in the clear.
    pub tls: Option<TlsSettings>,
}

/// The certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate and those that sign it, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// The authorities whose certificates clients must show, as PEM; empty: clients need none.
    pub client_authorities: Vec<PathBuf>,
}

/// What the listeners put up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request line and headers, in bytes (`server.buffers.read`, 16384).
    pub read_buffer: usize,
    /// How long a request's headers, and then its body, may take to arrive (`server.timeouts.read`, 6 s).
    pub read_timeout: Duration,
    /// How long an answer may take to be taken (`server.timeouts.write`, 6 s).
    pub write_timeout: Duration,
    /// How long a connection may be without a request (`server.timeouts.idle`, 75 s).
    pub idle_timeout: Duration,
    /// Connections of trusted peers to the gate, and to the portal, at any one time (`server.max_connections`); by default
    /// 16384, or as many as the process may open descriptors for.
    pub max_connections: Option<usize>,
    /// Threads of the gate (`server.workers`); `None` is one for each processor.
    pub workers: Option<usize>,
    /// How long requests may go on after SIGTERM (`server.drain_timeout`, 10 s).
    pub drain: Duration,
    /// The longest body that the portal takes, in bytes (`portal.body_limit`, 16 KiB).
    pub body: usize,
}

/// `log.level`.
struct LogLevel(tracing::Level);

impl FromStr for LogLevel {
    type Err = Fault;

    fn from_str(text: &str) -> Result<LogLevel, Fault> {
        Ok(LogLevel(match text {
            "error" => tracing::Level::ERROR,
            "warn" => tracing::Level::WARN,
            "info" => tracing::Level::INFO,
            "debug" => tracing::Level::DEBUG,
            "trace" => tracing::Level::TRACE,
            _ => {
                return Err(Fault::new(format!("unknown log level `{text}`"))
                    .help("The levels are error, warn, info, debug and trace."));
            }
        }))
    }
}

/// `log.format`.
struct LogFormat(log::Format);

impl FromStr for LogFormat {
    type Err = Fault;

    fn from_str(text: &str) -> Result<LogFormat, Fault> {
        match text {
            "text" => Ok(LogFormat(log::Format::Text)),
            "json" => Ok(LogFormat(log::Format::Json)),
            _ => Err(Fault::new(format!("unknown log format `{text}`")).help("The formats are text and json.")),
        }
    }
}

fn tcp(port: u16, base_path: &str) -> Address {
    Address::Tcp { host: "127.0.0.1".to_owned(), port, base_path: base_path.to_owned() }
}

/// `server.address`, `server.tls`.
pub(super) fn gate(root: &Section<'_>, faults: &mut Faults) -> Listener {
    let server = root.section("server", faults);
    let address = server.address("address", 9091, faults).unwrap_or_else(|| tcp(9091, ""));
    Listener { address, tls: tls(&server, faults) }
}

/// `server.grpc`: off unless it has an address.
pub(super) fn grpc(root: &Section<'_>, faults: &mut Faults) -> Option<Listener> {
    let grpc = root.section("server", faults).section("grpc", faults);
    let tls = tls(&grpc, faults);
    let Some(field) = grpc.field("address") else {
        if grpc.is_present() {
            faults.push(Diagnostic::error(
                &grpc.place,
                Fault::new("`server.grpc.address` is missing").help("Say where Envoy asks: `tcp://127.0.0.1:9093`."),
            ));
        }
        return None;
    };
    let address = grpc.address("address", 9093, faults)?;
    if !address.base_path().is_empty() {
        let fault = Fault::new("`server.grpc.address` has a path").help("gRPC knows none: leave it out.");
        faults.push(Diagnostic::error(&field.node.place, fault));
    }
    Some(Listener { address, tls })
}

/// `portal.address`, `portal.tls`.
pub(super) fn portal(root: &Section<'_>, faults: &mut Faults) -> Listener {
    let portal = root.section("portal", faults);
    let address = portal.address("address", 9092, faults).unwrap_or_else(|| tcp(9092, ""));
    Listener { address, tls: tls(&portal, faults) }
}

/// `telemetry.metrics`: on unless it is switched off.
pub(super) fn metrics(root: &Section<'_>, faults: &mut Faults) -> Option<Listener> {
    let metrics = root.section("telemetry", faults).section("metrics", faults);
    let address = metrics.address("address", 9959, faults).unwrap_or_else(|| tcp(9959, "/metrics"));
    let enabled = metrics.boolean("enabled", faults).unwrap_or(true);
    enabled.then(|| Listener { address: address.or_base_path("/metrics"), tls: None })
}

/// No two listeners may want the same socket.
pub(super) fn distinct(
    root: &Section<'_>,
    gate: &Listener,
    grpc: Option<&Listener>,
    portal: &Listener,
    metrics: Option<&Listener>,
    faults: &mut Faults,
) {
    let same = |one: &Listener, other: &Listener| match (&one.address, &other.address) {
        (Address::Tcp { host, port, .. }, Address::Tcp { host: other_host, port: other_port, .. }) => {
            host == other_host && port == other_port && *port != 0
        }
        (Address::Unix { path, .. }, Address::Unix { path: other_path, .. }) => path == other_path,
        (Address::Tcp { .. }, Address::Unix { .. }) | (Address::Unix { .. }, Address::Tcp { .. }) => false,
    };
    let silent = &mut Faults::new();
    let server = root.section("server", silent);
    let metrics_section = root.section("telemetry", silent).section("metrics", silent);
    let named = [
        ("server", Some(gate), server.clone()),
        ("portal", Some(portal), root.section("portal", silent)),
        ("telemetry.metrics", metrics, metrics_section),
        ("server.grpc", grpc, server.section("grpc", silent)),
    ];
    for (n, (name, listener, section)) in named.iter().enumerate() {
        let Some(listener) = listener else { continue };
        let earlier = named.iter().take(n);
        let Some((other, ..)) = earlier.clone().find(|(_, other, _)| other.is_some_and(|other| same(other, listener)))
        else {
            continue;
        };
        // One of them is written down, or they would differ.
        let mut fields = std::iter::once(section).chain(earlier.map(|(.., section)| section));
        let field = fields.find_map(|section| section.field("address"));
        let fault = Fault::new(format!("`{name}.address` and `{other}.address` are the same"))
            .help("Each listener takes an address of its own.");
        faults.push(Diagnostic::error(&field.map_or(Place::Nowhere, |field| field.node.place.clone()), fault));
    }
}

/// Whoever moves over has one listener for both and trusts every peer. With a gate that other machines
/// reach, a portal that they do not, or nobody to believe, is hardly what is meant.
pub(super) fn reachable(
    root: &Section<'_>,
    gate: &Listener,
    grpc: Option<&Listener>,
    portal: &Listener,
    faults: &mut Faults,
) {
    let silent = &mut Faults::new();
    let server = root.section("server", silent);
    let asked = server.field("address").filter(|_| !gate.address.is_of_this_machine());
    if let Some(address) = &asked
        && root.section("portal", silent).field("address").is_none()
    {
        let fault = Fault::new(format!("people sign in at {}, which only this machine reaches", portal.address)).help(
            "The portal has a listener of its own: write `portal.address`, as in `tcp://:9092/`, and have the proxy \
             send the host of `authelia_url` there.",
        );
        faults.push(Diagnostic::warning(&address.node.place, fault));
    }
    let asked_by_grpc = server
        .section("grpc", silent)
        .field("address")
        .filter(|_| grpc.is_some_and(|grpc| !grpc.address.is_of_this_machine()));
    let asked = asked.or(asked_by_grpc);
    if let Some(address) = asked
        && server.field("trusted_proxies").is_none()
    {
        let fault = Fault::new("proxies on other machines are not believed, and get 403")
            .help("List their addresses as `server.trusted_proxies`, as in `['172.16.0.0/12']`.");
        faults.push(Diagnostic::warning(&address.node.place, fault));
    }
}

fn tls(listener: &Section<'_>, faults: &mut Faults) -> Option<TlsSettings> {
    let tls = listener.section("tls", faults);
    let client_authorities = client_authorities(&tls, faults);
    let mut path =
        |key: &str| tls.text(key, faults).filter(|text| !text.text.is_empty()).map(|text| PathBuf::from(text.text));
    let (certificate, key) = (path("certificate"), path("key"));
    match (certificate, key) {
        (Some(certificate), Some(key)) => Some(TlsSettings { certificate, key, client_authorities }),
        (None, None) => {
            if let Some(field) = tls.field("client_certificates").filter(|_| !client_authorities.is_empty()) {
                faults.push(Diagnostic::error(
                    &field.key,
                    Fault::new("client certificates are shown over TLS, and there is none here")
                        .help("Give a `certificate` and a `key` as well, or remove it."),
                ));
            }
            None
        }
        (Some(_), None) | (None, Some(_)) => {
            // Where one of them is of the wrong kind that has been said.
            if tls.field("certificate").is_none() || tls.field("key").is_none() {
                faults.push(Diagnostic::error(
                    &tls.place,
                    Fault::new("TLS takes a `certificate` and a `key`, and one of them is missing")
                        .help("Give both, each the path of a PEM file."),
                ));
            }
            None
        }
    }
}

/// `tls.client_certificates`. An empty list asks for none, as Authelia's template has it; an entry without a
/// name is a mistake that would let in whom it was meant to keep out (A101).
fn client_authorities(tls: &Section<'_>, faults: &mut Faults) -> Vec<PathBuf> {
    let Some(field) = tls.field("client_certificates") else { return Vec::new() };
    let files = field.texts(faults);
    for file in files.iter().filter(|file| file.text.is_empty()) {
        faults.push(Diagnostic::error(
            &file.place,
            Fault::new(format!("`{}` has an entry without a name", field.name))
                .help("List the PEM files of those who sign your proxies' certificates, or remove it."),
        ));
    }
    files.iter().map(|file| PathBuf::from(file.text)).collect()
}

/// `server.buffers`, `.timeouts` and our own limits.
pub(super) fn limits(root: &Section<'_>, faults: &mut Faults) -> Limits {
    let server = root.section("server", faults);
    let buffers = server.section("buffers", faults);
    let timeouts = server.section("timeouts", faults);
    let bytes = 1024..=16 * 1024 * 1024;
    let seconds = |section: &Section<'_>, key: &str, default: u64, faults: &mut Faults| {
        section.span(key, faults).and_then(Span::positive).unwrap_or(Duration::from_secs(default))
    };
    Limits {
        read_buffer: buffers.size("read", bytes.clone(), faults).unwrap_or(16 * 1024),
        read_timeout: seconds(&timeouts, "read", 6, faults),
        write_timeout: seconds(&timeouts, "write", 6, faults),
        // Longer than the 60 seconds for which nginx keeps a connection: were we the first to close, a
        // question already on its way would go unanswered.
        idle_timeout: seconds(&timeouts, "idle", 75, faults),
        max_connections: server.integer("max_connections", 1..=1_000_000, faults),
        workers: server.integer("workers", 1..=1024, faults),
        drain: server.span("drain_timeout", faults).and_then(Span::duration).unwrap_or(Duration::from_secs(10)),
        body: root.section("portal", faults).size("body_limit", bytes, faults).unwrap_or(16 * 1024),
    }
}

/// `server.trusted_proxies`.
pub(super) fn trusted_proxies(root: &Section<'_>, faults: &mut Faults) -> TrustedProxies {
    let server = root.section("server", faults);
    if server.field("trusted_proxies").is_none() {
        return TrustedProxies::default();
    }
    let networks = server.texts("trusted_proxies", faults);
    TrustedProxies::new(
        networks.iter().filter_map(|text| text.parse::<TrustedNetwork>(faults)).map(|network| network.0).collect(),
    )
}

/// `server.portal_override`: whether a request may say where people sign in.
pub(super) fn portal_override(root: &Section<'_>, faults: &mut Faults) -> bool {
    root.section("server", faults).boolean("portal_override", faults).unwrap_or(true)
}

/// `log`.
pub(super) fn log(root: &Section<'_>, faults: &mut Faults) -> log::Settings {
    let defaults = log::Settings::default();
    let log = root.section("log", faults);
    let file_path = log.text("file_path", faults).filter(|text| !text.text.is_empty());
    if let Some(text) = file_path.as_ref().filter(|text| text.text.contains("%d") || text.text.contains("{datetime")) {
        faults.push(Diagnostic::warning(
            &text.place,
            Fault::new("dates in the name of the log file are not served yet")
                .help("The file gets this name as it stands; rotate it with a tool that does that."),
        ));
    }
    log::Settings {
        level: log.parse("level", faults).map_or(defaults.level, |LogLevel(level)| level),
        format: log.parse("format", faults).map_or(defaults.format, |LogFormat(format)| format),
        file: file_path.map(|text| PathBuf::from(text.text)),
        keep_console: log.boolean("keep_stdout", faults).unwrap_or(defaults.keep_console),
    }
}

/// `server.endpoints.authz`: what is listed, or the four that everyone has.
pub(super) fn endpoints(root: &Section<'_>, faults: &mut Faults) -> Vec<Endpoint> {
    let authz = root.section("server", faults).section("endpoints", faults).section("authz", faults);
    let mut endpoints = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    for field in authz.fields() {
        let known = faults.len();
        let section = field.section(faults);
        let name = field.name.strip_prefix("server.endpoints.authz.").unwrap_or(&field.name);
        let name: Option<EndpointName> =
            name.parse().map_err(|fault| faults.push(Diagnostic::error(&field.key, fault))).ok();
        let implementation = match section.field("implementation") {
            Some(_) => section.parse("implementation", faults),
            None if name.as_ref().is_some_and(|name| name.as_str() == "legacy") => Some(Implementation::Legacy),
            None => {
                if section.is_present() {
                    faults.push(Diagnostic::error(
                        &field.key,
                        Fault::new(format!("`{}.implementation` is missing", field.name))
                            .help("The implementations are ForwardAuth, AuthRequest, ExtAuthz and Legacy."),
                    ));
                }
                None
            }
        };
        // Without it the defaults of a strategy are not known; its own faults still are.
        let assumed = implementation.unwrap_or(Implementation::ForwardAuth);
        let mut strategies: Vec<Strategy> = section
            .sections("authn_strategies", faults)
            .iter()
            .filter_map(|entry| strategy(entry, assumed, faults))
            .collect();
        if let (Some(name), Some(implementation), true) = (name, implementation, known == faults.len()) {
            if strategies.is_empty() {
                strategies = implementation.default_strategies();
            }
            endpoints.push(Endpoint { name, implementation, strategies });
            places.push(field.key.clone());
        }
    }
    for (index, fault) in settings::check(&endpoints) {
        if let Some(place) = places.get(index) {
            faults.push(Diagnostic::error(place, fault));
        }
    }
    if authz.fields().is_empty() { Endpoint::defaults() } else { endpoints }
}

fn strategy(entry: &Section<'_>, implementation: Implementation, faults: &mut Faults) -> Option<Strategy> {
    if !entry.is_present() {
        return None;
    }
    let name = entry.field("name");
    if name.is_none() {
        let help = StrategyKind::from_str("").err().and_then(|fault| fault.help);
        faults.push(Diagnostic::error(&entry.place, Fault { help, ..Fault::new("this strategy has no `name`") }));
    }
    let kind: Option<StrategyKind> =
        name.as_ref().and_then(|name| name.text(faults)).and_then(|text| text.parse(faults));
    let mut written = Schemes::default();
    for scheme in entry.texts("schemes", faults) {
        match scheme.text.to_ascii_lowercase().as_str() {
            "basic" => written.basic = true,
            "bearer" => written.bearer = true,
            _ => scheme.refuse(
                Fault::new(format!("unknown scheme `{}`", scheme.text)).help("The schemes are basic and bearer."),
                faults,
            ),
        }
    }
    let lifespan = entry.span("scheme_basic_cache_lifespan", faults);
    let (kind, name) = (kind?, name?);
    let schemes = match entry.field("schemes") {
        Some(field) if !kind.has_schemes() => {
            let fault = Fault::new(format!("the strategy `{}` has no schemes to choose from", kind.name()))
                .help("Remove `schemes`.");
            faults.push(Diagnostic::error(&field.key, fault));
            Schemes::default()
        }
        Some(_) => written,
        None if kind.has_schemes() => {
            // What the implementation itself would read first; none for the older one.
            let schemes = implementation.default_strategies().first().map(|first| first.schemes).unwrap_or_default();
            if schemes == Schemes::default() {
                let fault =
                    Fault::new(format!("the strategy `{}` has no schemes, so it never finds anything", kind.name()))
                        .help("Write `schemes: [basic]`.");
                faults.push(Diagnostic::warning(&name.node.place, fault));
            }
            schemes
        }
        None => Schemes::default(),
    };
    let basic_cache = lifespan.and_then(Span::positive).unwrap_or(Duration::ZERO);
    if !schemes.basic && !basic_cache.is_zero() {
        let place = entry.field("scheme_basic_cache_lifespan").map_or(entry.place.clone(), |field| field.key);
        faults.push(Diagnostic::error(
            &place,
            Fault::new("`scheme_basic_cache_lifespan` has no passwords to remember: `schemes` has no `basic`")
                .help(if kind.has_schemes() { "Write `schemes: [basic]`, or remove it." } else { "Remove it." }),
        ));
    }
    Some(Strategy { kind, schemes, basic_cache })
}
