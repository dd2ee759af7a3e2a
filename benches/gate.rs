//! What a decision costs over the wire: the whole gate beside a bare hyper server that answers a fixed
//! 200, fed with the same bytes.
//!
//! Each server is a process of its own on core 0, the load one thread on core 1: 64 keep-alive
//! connections in a closed loop. The cost is the CPU time of all the server's threads for each request
//! (`/proc/PID/task/*/schedstat`). Candidates take turns; each round is divided by the bare server's
//! figure of that round, and the median of the quotients is reported. Every answer is checked.
//!
//! `cargo bench --bench gate`; rounds and seconds a round by `PORTCULLIS_BENCH_ROUNDS` (11) and
//! `PORTCULLIS_BENCH_MILLIS` (1000). Both servers use the allocator that the product uses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use portcullis::authz::settings::Endpoint;
use portcullis::authz::{Gate, Settings};
use portcullis::clock::UnixTime;
use portcullis::config::Address;
use portcullis::factor::password::NewDigest;
use portcullis::identity::Refresh;
use portcullis::identity::file::{self, FileBackend};
use portcullis::peer::TrustedProxies;
use portcullis::policy::{Criteria, HostPattern, Policy, Requirement, Rule};
use portcullis::regulation::Limits;
use portcullis::server::deadline::Patience;
use portcullis::server::listener::{Bound, ConnectionLimits, Counts, Handler};
use portcullis::session::{Factors, Sessions, Site, Sites, StoreSettings};
use portcullis::signin::SignIn;
use portcullis::signin::pool::{self, HashingPool};
use portcullis::subject::Identity;
use portcullis::telemetry::metrics::{Listener, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 64;

fn main() {
    match std::env::var("PORTCULLIS_BENCH_ROLE").as_deref() {
        Ok("bare") => bare(),
        Ok(role @ ("gate" | "gate on hyper")) => {
            let (sessions, rules) = (number("PORTCULLIS_BENCH_SESSIONS", 256), number("PORTCULLIS_BENCH_RULES", 1_000));
            gate(sessions, rules, role == "gate on hyper");
        }
        _ if std::env::args().any(|argument| argument == "--test") => {}
        _ => drive(),
    }
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

// ---- the servers ----

fn bare() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("ready {}", listener.local_addr().unwrap());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|_request| async {
                    let mut response = Response::new(Full::new(Bytes::from_static(b"200 OK")));
                    for (name, value) in [
                        ("remote-user", "john"),
                        ("remote-groups", "dev,ops"),
                        ("remote-name", "John Doe"),
                        ("remote-email", "john@example.com"),
                    ] {
                        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
                    }
                    Ok::<_, Infallible>(response)
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
}

/// The gate without the reader of plain requests: hyper reads all.
#[derive(Clone)]
struct OnHyper(Arc<Gate>);

impl Handler for OnHyper {
    type Body = Full<Bytes>;

    fn call(
        &self,
        request: hyper::Request<hyper::body::Incoming>,
        peer: portcullis::peer::Peer,
        secure: bool,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send {
        Handler::call(&self.0, request, peer, secure)
    }
}

fn policy(rules: usize) -> Policy {
    let rules = (0..rules)
        .map(|n| {
            let host = format!("app{n}.example.com");
            let mut criteria = Criteria { hosts: vec![HostPattern::domain(&host).unwrap()], ..Criteria::default() };
            match n % 4 {
                0 => criteria.resources.push(r"^/some(/.*)?$".parse().unwrap()),
                1 => criteria.subjects.push(vec!["group:dev".parse().unwrap()]),
                2 => criteria.methods.push("GET".parse().unwrap()),
                _ => criteria.networks.push("10.0.0.0/8".parse().unwrap()),
            }
            Rule::new(criteria, Requirement::OneFactor).unwrap()
        })
        .collect();
    Policy::compile(rules, Requirement::OneFactor)
}

fn gate(sessions: usize, rules: usize, on_hyper: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let site = Site::new("example.com".parse().unwrap());
        let site = Site { portal: Some("https://auth.example.com/".parse().unwrap()), ..site };
        let settings = portcullis::session::Settings {
            sites: Sites::new(vec![site]).unwrap(),
            store: StoreSettings::Memory { capacity: sessions * 2 },
            secret: None,
        };
        let store = Arc::new(Sessions::open_store(&settings).await.unwrap());
        let site = store.sites().of("example.com").unwrap().clone();
        let out = std::io::stdout();
        for n in 0..sessions {
            let identity = Identity::new(
                &format!("user{n}"),
                "A Person",
                ["dev", "ops"],
                [format!("user{n}@example.com").as_str()],
            )
            .unwrap();
            let cookie = store.open(&site, identity, Factors::PASSWORD, true, UnixTime::now()).await.unwrap();
            let pair = cookie.as_str().split(';').next().unwrap().to_owned();
            writeln!(out.lock(), "{pair}").unwrap();
        }
        let users = tempfile::tempdir().unwrap();
        let path = users.path().join("users.yaml");
        std::fs::write(&path, "users: {}\n").unwrap();
        let users = file::Settings { path, watch: false, search_email: false, search_case_insensitive: false };
        let accounts = Arc::new(FileBackend::load(users, NewDigest::default()).unwrap());
        let pool = HashingPool::start(pool::Settings::default()).unwrap();
        let signin = Arc::new(SignIn::new(accounts, Limits::default(), pool).unwrap());
        let endpoints = Endpoint::defaults();
        let policy = Arc::new(policy(rules));
        let metrics =
            Arc::new(Metrics::new(endpoints.iter().map(|e| e.name.as_str().to_owned()), policy.rule_count()).unwrap());
        let settings = Settings {
            endpoints,
            base_path: String::new(),
            trusted_proxies: TrustedProxies::default(),
            portal_override: true,
            refresh: Refresh::Never, // the people of this bench are in no users file
            grpc: None,
        };
        let counts = Counts {
            open: metrics.connections(Listener::Gate),
            turned_away: metrics.turned_away(Listener::Gate),
            cut: metrics.cut(Listener::Gate),
        };
        let gate = Arc::new(Gate::new(settings, policy, store, signin, metrics));
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0, base_path: String::new() };
        let limits = ConnectionLimits {
            connections: 1_024,
            strangers: 16,
            trusted: TrustedProxies::default(),
            header_bytes: 16 * 1_024,
            patience: Patience {
                read: Duration::from_secs(6),
                write: Duration::from_secs(6),
                idle: Duration::from_secs(75),
            },
        };
        let bound = Bound::bind(&address, None, limits, counts).await.unwrap();
        println!("ready {}", bound.address());
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let task = match on_hyper {
            true => tokio::spawn(bound.run(OnHyper(gate), stopping)),
            false => tokio::spawn(bound.run(gate, stopping)),
        };
        task.await.unwrap();
    });
}

// ---- the load ----

struct Server {
    child: Child,
    address: String,
    cookies: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(role: &str, sessions: usize) -> Server {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(program)
            .env("PORTCULLIS_BENCH_ROLE", role)
            .env("PORTCULLIS_BENCH_SESSIONS", sessions.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset (Debian: util-linux)");
        let mut cookies = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match line.strip_prefix("ready ") {
                Some(address) => return Server { child, address: address.to_owned(), cookies },
                None => cookies.push(line),
            }
        }
        panic!("the {role} server did not start");
    }

    /// CPU nanoseconds of all threads so far.
    fn cpu(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
            .map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// What Traefik sends for a page view: 14 fields.
fn request(cookie: &str, host: usize) -> Vec<u8> {
    format!(
        "GET /api/authz/forward-auth HTTP/1.1\r\nHost: 127.0.0.1:9091\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
         Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\nCookie: theme=dark; {cookie}\r\n\
         Referer: https://app{host}.example.com/some/\r\nX-Forwarded-For: 10.20.30.40\r\n\
         X-Forwarded-Host: app{host}.example.com\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Port: 443\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Uri: /some/path?a=1&b=two%20words\r\nX-Real-Ip: 10.20.30.40\r\n\r\n"
    )
    .into_bytes()
}

/// Requests answered within `span`.
async fn load(address: &str, requests: Arc<Vec<Vec<u8>>>, span: Duration) -> u64 {
    let end = Instant::now() + span;
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|n| {
            let (address, requests) = (address.to_owned(), Arc::clone(&requests));
            tokio::spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let mut buffer = vec![0; 8_192];
                let mut answered = 0;
                let mut next = n * 7_919;
                while Instant::now() < end {
                    next = (next + 104_729) % requests.len();
                    stream.write_all(&requests[next]).await.unwrap();
                    let mut read = 0;
                    loop {
                        read += stream.read(&mut buffer[read..]).await.unwrap();
                        if buffer[..read].ends_with(b"\r\n\r\n200 OK") {
                            break;
                        }
                        assert!(read < 4_096, "{}", String::from_utf8_lossy(&buffer[..read]));
                    }
                    assert!(buffer.starts_with(b"HTTP/1.1 200 OK"));
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    total
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn drive() {
    let status =
        Command::new("taskset").args(["-pc", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "taskset (Debian: util-linux)");
    let rounds = number("PORTCULLIS_BENCH_ROUNDS", 11);
    let span = Duration::from_millis(number("PORTCULLIS_BENCH_MILLIS", 1_000) as u64);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (sessions, hosts) in [(256, 32), (100_000, 1_000)] {
        let bare = Server::start("bare", sessions);
        let gates = ["gate", "gate on hyper"].map(|role| (role, Server::start(role, sessions)));
        let requests = gates.each_ref().map(|(_, gate)| {
            let request = |(n, cookie): (usize, &String)| request(cookie, n * 31 % hosts);
            Arc::new(gate.cookies.iter().enumerate().map(request).collect::<Vec<_>>())
        });
        let (mut costs, mut rates) = ([vec![], vec![]], [vec![], vec![]]);
        for round in 0..=rounds {
            let measure = |server: &Server, requests: &Arc<Vec<Vec<u8>>>| {
                let before = server.cpu();
                let answered = runtime.block_on(load(&server.address, Arc::clone(requests), span));
                ((server.cpu() - before) as f64 / answered as f64, answered as f64)
            };
            let [first, _] = &requests;
            let (bare_cost, bare_rate) = measure(&bare, first);
            for (n, (_, gate)) in gates.iter().enumerate() {
                let (cost, rate) = measure(gate, &requests[n]);
                if round > 0 {
                    costs[n].push(cost / bare_cost);
                    rates[n].push(rate / bare_rate);
                }
            }
        }
        for (n, (role, gate)) in gates.iter().enumerate() {
            println!(
                "{role}/forward-auth/{sessions} sessions, {hosts} hosts, 1000 rules: cost {:.2} x bare hyper (min {:.2}, max {:.2}), throughput {:.2} x; resident {} KiB",
                median(&mut costs[n].clone()),
                costs[n].iter().copied().fold(f64::INFINITY, f64::min),
                costs[n].iter().copied().fold(0.0, f64::max),
                median(&mut rates[n]),
                gate.resident_kib(),
            );
        }
    }
}
