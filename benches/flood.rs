//! What strangers leave behind: a million anonymous requests, no two alike, against the real binary.
//!
//! The server runs on core 0, everything else on core 1. Somebody who is signed in asks at a steady pace,
//! before and during the flood; latency counts from when a question was due. Printed are the resident memory
//! after the flood minus before it, and the honest p99 during the flood divided by that before.
//!
//! `cargo bench --bench flood`; requests, the flood's connections and the longest it may take in seconds by
//! `PORTCULLIS_FLOOD_REQUESTS` (1000000), `_CONNECTIONS` (16) and `_SECONDS` (240), and requests a second by
//! `_RATE` (0: as many as it takes). It fails if memory grew by 16 MiB.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

#[path = "workload/server.rs"]
mod server;
#[path = "../tests/harness/stranger.rs"]
mod stranger;

use server::Server;

const BOUND_KIB: u64 = 16 * 1_024;
/// Honest questions a second: few enough that one connection keeps up with a busy server.
const PACE: u32 = 100;
const BATCH: u64 = 4;

/// `password`, as cheap as it gets.
const USERS: &str = "users: {john: {displayname: John, password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'}}\n";

fn config(rules: usize) -> String {
    let mut text = "
server: {address: 'tcp://127.0.0.1:0/'}
portal: {address: 'tcp://127.0.0.1:0/'}
telemetry: {metrics: {enabled: true, address: 'tcp://127.0.0.1:0/metrics'}}
authentication_backend: {file: {path: users.yaml}}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/', inactivity: 1h, expiration: 1h}]}
access_control:
  default_policy: deny
  rules:
    - {domain: app.example.com, policy: one_factor}
    - {domain: '*.wild.example.com', policy: one_factor}
    - {domain_regex: '^[a-z]+\\.regex\\.example\\.com$', policy: one_factor}
"
    .to_owned();
    for n in 0..rules {
        writeln!(
            text,
            "    - {{domain: ['app{n}.example.com', '*.app{n}.example.com'], resources: '^/some(/.*)?$', policy: one_factor}}"
        )
        .unwrap();
    }
    text
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Series on the metrics page.
fn series_of(server: &Server) -> usize {
    let page = say(&server.metrics, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    page.lines().filter(|line| line.starts_with("portcullis_")).count()
}

/// Signs in and returns the cookie.
fn sign_in(server: &Server) -> String {
    let body = r#"{"username":"john","password":"password"}"#;
    let request = format!(
        "POST /api/firstfactor HTTP/1.1\r\nHost: auth.example.com\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = say(&server.portal, request.as_bytes());
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    cookie.unwrap_or_else(|| panic!("not signed in: {answer}")).split(';').next().unwrap().to_owned()
}

fn say(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Reads `count` answers; every one must have this status, or any but 200.
fn answers(reader: &mut impl BufRead, count: u64, status: Option<&str>) {
    let mut line = String::new();
    for _ in 0..count {
        let (mut first, mut length) = (true, 0);
        loop {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the connection was closed");
            if first {
                assert!(status.map_or(!line.contains(" 200 "), |status| line.contains(status)), "{line}");
                first = false;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
    }
}

/// Asks at a steady pace until `done`, and returns how long each answer took.
fn honest(address: &str, cookie: &str, done: &AtomicBool) -> Vec<Duration> {
    // Else it would measure how long it waits for the core that it shares with the flood.
    let own = thread_priority::unix::thread_native_id();
    let real_time = thread_priority::unix::ThreadSchedulePolicy::Realtime(
        thread_priority::unix::RealtimeThreadSchedulePolicy::Fifo,
    );
    let priority = thread_priority::ThreadPriority::Max;
    if thread_priority::unix::set_thread_priority_and_policy(own, priority, real_time).is_err() {
        eprintln!("without a privilege to run first, the honest client measures its own waiting too");
    }
    let request = format!(
        "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nAccept: text/html\r\nCookie: theme=dark; {cookie}\r\n\
         X-Forwarded-For: 10.20.30.40\r\nX-Forwarded-Host: app.example.com\r\nX-Forwarded-Method: GET\r\n\
         X-Forwarded-Proto: https\r\nX-Forwarded-Uri: /some/path?a=1\r\n\r\n"
    );
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut stream, mut took) = (stream, Vec::new());
    let mut due = Instant::now();
    while !done.load(Relaxed) {
        let now = Instant::now();
        let begun = if now < due {
            thread::sleep(due - now);
            Instant::now() // a sleep that ends late is not the server's doing
        } else {
            due
        };
        stream.write_all(request.as_bytes()).unwrap();
        answers(&mut reader, 1, Some(" 200 "));
        took.push(begun.elapsed());
        due += Duration::from_secs(1) / PACE;
    }
    took
}

fn percentile(took: &mut [Duration], part: f64) -> Duration {
    took.sort_unstable();
    took[((took.len() - 1) as f64 * part) as usize]
}

/// Sends `requests` from several connections, and returns how many were answered in time.
fn flood(address: &str, seed: u64, requests: u64, rate: u64) -> u64 {
    let connections = number("PORTCULLIS_FLOOD_CONNECTIONS", 16);
    let end = Instant::now() + Duration::from_secs(number("PORTCULLIS_FLOOD_SECONDS", 240));
    let sent = AtomicU64::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for n in 0..connections {
            let sent = &sent;
            scope.spawn(move || {
                let mut chance = stranger::Chance(seed << 32 | n << 24);
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while Instant::now() < end {
                    let number = sent.fetch_add(BATCH, Relaxed);
                    if number >= requests {
                        sent.fetch_sub(BATCH, Relaxed);
                        return;
                    }
                    if let Some(due) = (number * 1_000_000).checked_div(rate) {
                        thread::sleep((begun + Duration::from_micros(due)).saturating_duration_since(Instant::now()));
                    }
                    let questions: Vec<u8> = (0..BATCH).flat_map(|_| stranger::question(&mut chance)).collect();
                    stream.write_all(&questions).unwrap();
                    answers(&mut reader, BATCH, None);
                }
            });
        }
    });
    sent.load(Relaxed)
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let status =
        Command::new("taskset").args(["-pc", "1", &std::process::id().to_string()]).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "taskset (Debian: util-linux)");
    let server = Server::start(&config(1_000), USERS, Some("0"));
    let cookie = sign_in(&server);
    let quiet = |span: Duration| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let measured = scope.spawn(|| honest(&server.gate, &cookie, &done));
            thread::sleep(span);
            done.store(true, Relaxed);
            measured.join().unwrap()
        })
    };
    flood(&server.gate, 1, 50_000, 0);
    quiet(Duration::from_secs(1));
    let (memory, series) = (server.resident_kib(), series_of(&server));
    let mut before = quiet(Duration::from_secs(10));

    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let (answered, mut during) = thread::scope(|scope| {
        let measured = scope.spawn(|| honest(&server.gate, &cookie, &done));
        let requests = number("PORTCULLIS_FLOOD_REQUESTS", 1_000_000);
        let answered = flood(&server.gate, 2, requests, number("PORTCULLIS_FLOOD_RATE", 0));
        done.store(true, Relaxed);
        (answered, measured.join().unwrap())
    });
    let span = begun.elapsed();
    let grown = server.resident_kib().saturating_sub(memory);
    let (rest, flooded) = (percentile(&mut before, 0.99), percentile(&mut during, 0.99));
    println!(
        "flood: {answered} hostile requests in {:.1} s; resident {memory} KiB before, {grown} KiB more after; {series} \
         series before, {} after; honest p99 {:.2} x that before ({rest:?} before, {flooded:?} during; p50 {:.2} x)",
        span.as_secs_f64(),
        series_of(&server),
        flooded.as_secs_f64() / rest.as_secs_f64(),
        percentile(&mut during, 0.5).as_secs_f64() / percentile(&mut before, 0.5).as_secs_f64(),
    );
    if grown >= BOUND_KIB {
        eprintln!("memory grew by more than {BOUND_KIB} KiB");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
