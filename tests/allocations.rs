//! A warm decision allocates nothing: reading a plain request, and asking the policy about it. Nor does a warm
//! request at the gate, session and answer included. And an idle connection holds little.

#![cfg(test)]

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use portcullis::authz::inquiry::Line;
use portcullis::authz::settings::Endpoint;
use portcullis::authz::{Gate, Settings};
use portcullis::clock::UnixTime;
use portcullis::factor::password::NewDigest;
use portcullis::identity::Refresh;
use portcullis::identity::file::{self, FileBackend};
use portcullis::object::Object;
use portcullis::peer::{Peer, TrustedProxies};
use portcullis::policy::{Criteria, HostPattern, Policy, Requirement, Rule};
use portcullis::portal::{self, Portal};
use portcullis::regulation::Limits;
use portcullis::server::deadline::Patience;
use portcullis::server::listener::{self, ConnectionLimits, Handler};
use portcullis::session::{self, Factors, Sessions, Site, Sites, StoreSettings};
use portcullis::signin::SignIn;
use portcullis::signin::pool::{self, HashingPool};
use portcullis::subject::{AssuranceLevel, Identity};
use portcullis::telemetry::metrics::Metrics;
use portcullis::work::Budget;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[allow(dead_code, reason = "the fuzz target is its other caller")]
#[path = "../fuzz/src/work.rs"]
mod work;

fn policy() -> Policy {
    let rules = (0..1_000).map(|n| {
        let host = if n % 10 == 0 { format!("*.team{n}.example.com") } else { format!("app{n}.example.com") };
        let mut criteria = Criteria { hosts: vec![HostPattern::domain(&host).unwrap()], ..Criteria::default() };
        match n % 5 {
            0 => criteria.resources.push(r"^/some(/.*)?$".parse().unwrap()),
            1 => criteria.subjects.push(vec!["group:dev".parse().unwrap()]),
            2 => criteria.methods.push("GET".parse().unwrap()),
            3 => criteria.networks.push("10.0.0.0/8".parse().unwrap()),
            _ => criteria.resources.push(r"^/(items|users)/\d+$".parse().unwrap()),
        }
        Rule::new(criteria, Requirement::OneFactor).unwrap()
    });
    Policy::compile(rules.collect(), Requirement::Deny)
}

/// What is allocated is work that nobody estimated: it must stay within what was counted, whatever is asked.
#[test]
fn a111_a112_no_input_makes_more_work_than_is_counted() {
    let policy = Policy::compile(work::rules(), Requirement::Bypass);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/work");
    let mut targets: Vec<Vec<u8>> =
        std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(targets.len() >= 6, "the worst that were found are kept");
    for unit in [
        "/..;a%2f",
        "%252f;",
        "\\..//;",
        "/%3f;",
        "%25",
        "/.;/%2f..",
        "?a&",
        "/?page=x&",
        "/?page=%61&",
        "/?+k[x].y=%61&",
    ] {
        targets.extend([16, 64, 256, 1_024].map(|length| format!("/x{}", unit.repeat(length)).into_bytes()));
    }
    for target in targets {
        for size in work::SIZES {
            for host in [work::expressions(size), work::conditions(size)] {
                let _ = work::units(&policy, &host, &target); // so that plans and expressions are warm
                let mut units = None;
                let counted = allocation_counter::measure(|| units = work::units(&policy, &host, &target));
                let units = units.map_or(u64::from(Budget::BASE), u64::from);
                let (bytes, shown) = (counted.bytes_total, target[..target.len().min(80)].escape_ascii());
                // The table of a thousand parameters alone takes 128 KiB, and half as much again while it grows.
                assert!(bytes <= 256 * 1024 + 2 * units, "{host} {bytes} bytes, {units} units: {shown}");
                assert!(counted.count_total <= 500 + units / 16, "{host} {counted:?}, {units} units: {shown}");
            }
        }
    }
}

#[test]
fn a_warm_decision_allocates_nothing() {
    let policy = policy();
    let john = Identity::new("john", "John Doe", ["ops", "dev"], ["john@example.com"]).unwrap();
    let subject = john.subject(Some([10, 1, 2, 3].into()), AssuranceLevel::OneFactor);
    let hosts: Vec<String> = (0..200)
        .map(|n| if n % 10 == 0 { format!("x.team{n}.example.com") } else { format!("app{n}.example.com") })
        .collect();
    let targets = ["/some/path?a=1&b=two%20words", "/items/42", "/", "/index.html"];
    let ask = || {
        let mut matched = 0;
        for host in &hosts {
            for target in targets {
                let object = Object::from_parts(b"GET", b"https", host.as_bytes(), target.as_bytes()).unwrap();
                matched += usize::from(policy.decide(&subject, &object).unwrap().rule.is_some());
            }
        }
        matched
    };
    let cold = ask();
    let mut warm = 0;
    let counted = allocation_counter::measure(|| warm = ask());
    assert_eq!(cold, warm);
    assert!(warm > 300, "the questions meet rules: {warm}");
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// A gate and a portal over the same sessions, in memory, and the cookie of somebody who is signed in.
struct Fixture {
    runtime: tokio::runtime::Runtime,
    gate: Arc<Gate>,
    portal: Arc<Portal>,
    cookie: String,
}

fn fixture() -> Fixture {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let site = Site {
        portal: Some("https://auth.example.com/".parse().unwrap()),
        ..Site::new("example.com".parse().unwrap())
    };
    let sites = Sites::new(vec![site.clone()]).unwrap();
    let settings = session::Settings { sites, store: StoreSettings::Memory { capacity: 100 }, secret: None };
    let sessions = Arc::new(runtime.block_on(Sessions::open_store(&settings)).unwrap());
    let john = Identity::new("john", "John Doe", ["ops", "dev"], ["john@example.com"]).unwrap();
    let cookie = sessions.open(&site, john, Factors::PASSWORD, true, UnixTime::now());
    let cookie = runtime.block_on(cookie).unwrap().as_str().split(';').next().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.yaml");
    std::fs::write(&path, "users: {}\n").unwrap();
    let users = file::Settings { path, watch: false, search_email: false, search_case_insensitive: false };
    let accounts = Arc::new(FileBackend::load(users, NewDigest::default()).unwrap());
    let pool = HashingPool::start(pool::Settings::default()).unwrap();
    let signin = Arc::new(SignIn::new(accounts, Limits::default(), pool).unwrap());
    let endpoints = Endpoint::defaults();
    let names = endpoints.iter().map(|endpoint| endpoint.name.as_str().to_owned());
    let metrics = Arc::new(Metrics::new(names, 1_000).unwrap());
    let settings = Settings {
        endpoints,
        base_path: String::new(),
        trusted_proxies: TrustedProxies::default(),
        portal_override: true,
        refresh: Refresh::Never,
        grpc: None,
    };
    let policy = Arc::new(policy());
    let portal = Portal::new(
        Arc::clone(&sessions),
        Arc::clone(&signin),
        Arc::clone(&policy),
        Arc::clone(&metrics),
        portal::Settings::default(),
    );
    let gate = Gate::new(settings, policy, sessions, signin, metrics);
    Fixture { runtime, gate: Arc::new(gate), portal: Arc::new(portal), cookie }
}

#[test]
fn a_warm_request_at_the_gate_allocates_nothing() {
    let Fixture { gate, cookie, .. } = fixture();

    let path = "/api/authz/forward-auth";
    let line = Line { method: "GET", path, target: path, authority: None, version: hyper::Version::HTTP_11 };
    let fields = [
        ("Host", "127.0.0.1:9091"),
        ("Cookie", &*cookie),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "app1.example.com"),
        ("X-Forwarded-Uri", "/some/path?a=1&b=two%20words"),
        ("X-Forwarded-For", "10.1.2.3"),
    ];
    let peer = Peer::at([127, 0, 0, 1].into());
    let mut out = Vec::with_capacity(1_024);
    let mut ask = || {
        out.clear();
        let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        let decided = pin!(gate.decide(line, fields, peer, false));
        let Poll::Ready(Some(answer)) = decided.poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing is waited for where the session is in memory")
        };
        answer.write(false, b"Sun, 22 Nov 2026 05:00:00 GMT", &mut out);
        assert!(out.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", out.escape_ascii());
        assert!(out.windows(17).any(|window| window == b"remote-user: john"));
    };
    ask();
    let counted = allocation_counter::measure(ask);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// Whether an answer has come to its end.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// What a connection over which `request` was asked and answered holds, in bytes, of memory that was allocated for it.
fn held_by_idle(runtime: &tokio::runtime::Runtime, handler: &impl Handler, request: &str) -> i64 {
    const CONNECTIONS: i64 = 16;
    let time = Duration::from_secs(60);
    let limits = ConnectionLimits {
        connections: 1,
        strangers: 1,
        trusted: TrustedProxies::default(),
        header_bytes: 16 * 1024,
        patience: Patience { read: time, write: time, idle: time },
    };
    let open = || {
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::net::UnixStream::pair().unwrap();
            let peer = Peer::at([127, 0, 0, 1].into());
            tokio::spawn(listener::serve(handler.clone(), peer, limits.clone(), theirs));
            ours.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 16 * 1024];
            let mut length = 0;
            while !request.is_empty() && !is_whole(&answer[..length]) {
                let read = ours.read(&mut answer[length..]).await.unwrap();
                assert_ne!(read, 0, "closed: {}", answer[..length].escape_ascii());
                length += read;
            }
            // Until it waits for the next: it hears of what has come by way of the runtime's turns.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            ours
        })
    };
    let warm = open();
    let mut connections = Vec::with_capacity(16);
    let counted = allocation_counter::measure(|| connections.extend((0..CONNECTIONS).map(|_| open())));
    drop((warm, connections));
    counted.bytes_current / CONNECTIONS
}

#[test]
fn a132_an_idle_connection_holds_little() {
    let Fixture { runtime, gate, portal, cookie } = fixture();
    let plain = format!(
        "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nCookie: {cookie}\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: app1.example.com\r\nX-Forwarded-Uri: /some/path\r\nX-Forwarded-For: 10.1.2.3\r\n"
    );
    // Two buffers of hyper's take 16 KiB. What a connection takes of the process is measured by `cargo bench --bench idle`.
    let table = [
        ("nothing asked yet", held_by_idle(&runtime, &gate, ""), 4),
        ("a plain request at the gate", held_by_idle(&runtime, &gate, &format!("{plain}\r\n")), 10),
        ("one that hyper reads", held_by_idle(&runtime, &gate, &format!("{plain}Connection: keep-alive\r\n\r\n")), 22),
        (
            "a page of the portal",
            held_by_idle(&runtime, &portal, "GET / HTTP/1.1\r\nHost: auth.example.com\r\n\r\n"),
            22,
        ),
    ];
    for (because, held, _) in table {
        println!("{because}: {held} bytes");
    }
    for (because, held, at_most) in table {
        assert!(held > 0 && held < at_most * 1024, "{because}: {held} bytes");
    }
}
