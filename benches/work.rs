//! What the most expensive questions cost, as multiples of a plain request's CPU time at the real binary.
//!
//! Inputs are those that were found to be the worst (`fuzz/regressions/work`), and what a search from there on finds: a hill
//! climb by the CPU time that reading and deciding takes in this process, one for each kind of host. Each is then asked of
//! the server over one connection, and the server's own CPU time is read from the system.
//!
//! `cargo bench --bench work`; seconds of search for each kind by `PORTCULLIS_WORK_SECONDS` (5), a folder of further inputs to
//! begin with, such as a fuzz corpus, by `PORTCULLIS_WORK_SEEDS`, and the folder to which the worst are written by
//! `PORTCULLIS_WORK_KEEP`.
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
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use portcullis::policy::{Policy, Requirement};

#[path = "workload/server.rs"]
mod server;
#[allow(dead_code, reason = "the fuzz target is its other caller")]
#[path = "../fuzz/src/work.rs"]
mod target;
#[allow(dead_code, reason = "another benchmark is the other caller")]
mod workload;

use server::Server;
use target::{SIZES, conditions, expressions, rules, units};
use workload::Seeded;

const PLAIN: &[u8] = b"/api/v1/items?page=2&sort=name";
/// What paths and queries are made of in the search.
const PIECES: [&str; 30] = [
    "/",
    "//",
    "/.",
    "/..",
    "/a",
    "abc/",
    ";",
    ";a",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "%3f",
    "?",
    "%23",
    "%25",
    "%252f",
    "%2e",
    "%252e",
    "%20",
    "&",
    "page=",
    "admin1",
    "&a",
    "+",
    "[]",
    "=",
    "%3b",
    "/abcdefgh/7x",
    "%25252f",
];

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::var("PORTCULLIS_WORK_SECONDS").map_or(5, |text| text.parse().expect("a number"));
    let keep = std::env::var_os("PORTCULLIS_WORK_KEEP");
    let policy = Policy::compile(rules(), Requirement::Bypass);
    let server = Server::start(&config(), USERS, None);
    for (kind, host_of) in [("path", expressions as fn(usize) -> String), ("query", conditions)] {
        for size in SIZES {
            let host = host_of(size);
            let worst = search(&policy, &host, Duration::from_secs(seconds), size as u64);
            if let Some(folder) = &keep {
                std::fs::write(Path::new(folder).join(format!("{kind}-{size}")), &worst).unwrap();
            }
            let plain = cpu(&server, &host, PLAIN);
            let cost = cpu(&server, &host, &worst);
            let alone = cpu(&server, "plain.example.com", PLAIN);
            println!(
                "{kind:<5} {size:>3} conditions: {:>5} bytes, {:>6} units, {:>6.1} us where read and decided; at the gate {:>6.1} us: \
                 {:>5.1} x a plain request there ({plain:.1} us), {:>5.1} x one on a host without conditions ({alone:.1} us)",
                worst.len(),
                units(&policy, &host, &worst).unwrap_or(portcullis::work::Budget::BASE),
                micros(&policy, &host, &worst),
                cost,
                cost / plain,
                cost / alone,
            );
        }
    }
    ExitCode::SUCCESS
}

/// The least of several runs, in microseconds of this thread's CPU time.
fn micros(policy: &Policy, host: &str, target: &[u8]) -> f64 {
    let run = || {
        let begun = thread_time();
        std::hint::black_box(units(policy, host, target));
        thread_time() - begun
    };
    (0..5).map(|_| run()).min().unwrap().as_secs_f64() * 1e6
}

fn thread_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// The most expensive target that is found from the known ones on.
fn search(policy: &Policy, host: &str, span: Duration, seed: u64) -> Vec<u8> {
    let mut seeded = Seeded::new(seed);
    let mut pool: Vec<(f64, Vec<u8>)> =
        known().into_iter().map(|target| (micros(policy, host, &target), target)).collect();
    let end = Instant::now() + span;
    while Instant::now() < end {
        let from = pool[seeded.below(pool.len())].1.clone();
        let next = mutated(&from, &mut seeded);
        let cost = micros(policy, host, &next);
        pool.push((cost, next));
        if pool.len() > 64 {
            pool.sort_by(|a, b| b.0.total_cmp(&a.0));
            pool.truncate(32);
        }
    }
    pool.into_iter().max_by(|a, b| micros(policy, host, &a.1).total_cmp(&micros(policy, host, &b.1))).unwrap().1
}

fn known() -> Vec<Vec<u8>> {
    let mut known = vec![PLAIN.to_vec(), b"/a//b;c/%2f?page=1".to_vec()];
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions/work");
    let more = std::env::var_os("PORTCULLIS_WORK_SEEDS").map(PathBuf::from);
    for folder in [Some(kept), more].into_iter().flatten() {
        let files = std::fs::read_dir(folder).unwrap();
        known.extend(files.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()));
    }
    known
}

/// Some pieces put in, taken out or repeated.
fn mutated(from: &[u8], seeded: &mut Seeded) -> Vec<u8> {
    let mut text = from.to_vec();
    for _ in 0..=seeded.below(4) {
        let at = seeded.below(text.len() + 1);
        let end = (at + seeded.below(64)).min(text.len());
        match seeded.below(4) {
            0 => drop(text.drain(at..end)),
            1 => {
                let part = text[at..end].repeat(1 + seeded.below(40));
                text.splice(at..at, part);
            }
            _ => {
                let piece = PIECES[seeded.below(PIECES.len())].repeat(1 << seeded.below(9));
                text.splice(at..at, piece.bytes());
            }
        }
    }
    text.truncate(16 * 1024);
    if !text.starts_with(b"/") {
        text.insert(0, b'/');
    }
    text
}

const USERS: &str = "users: {john: {displayname: John, password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'}}\n";

/// The rules of the search, as a configuration has them.
fn config() -> String {
    let mut config = "
server: {address: 'tcp://127.0.0.1:0/', buffers: {read: 65536}}
portal: {address: 'tcp://127.0.0.1:0/'}
telemetry: {metrics: {enabled: false}}
log: {level: error}
authentication_backend: {file: {path: users.yaml}}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control:
  default_policy: one_factor
  rules:
    - {domain: other.example.com, policy: one_factor}
"
    .to_owned();
    for rule in rules() {
        let criteria = rule.criteria();
        let host = criteria.hosts[0].as_str();
        match criteria.resources.first() {
            Some(pattern) => {
                writeln!(config, "    - {{domain: {host}, policy: one_factor, resources: ['{}']}}", pattern.as_str())
            }
            None => {
                let text = criteria.query[0][0].to_string(); // `key` operator `value`
                let words: Vec<&str> = text.split('`').collect();
                let value = words.get(3).map_or(String::new(), |value| format!(", value: '{value}'"));
                let (key, operator) = (words[1], words[2].trim());
                writeln!(
                    config,
                    "    - {{domain: {host}, policy: one_factor, query: [[{{key: {key}, operator: {operator}{value}}}]]}}"
                )
            }
        }
        .unwrap();
    }
    config
}

/// The server's CPU time for one request, in microseconds: the mean over at least a second of it.
fn cpu(server: &Server, host: &str, target: &[u8]) -> f64 {
    let mut stream = TcpStream::connect(&server.gate).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request =
        format!("GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Uri: ")
            .into_bytes();
    request.extend_from_slice(target);
    request.extend_from_slice(b"\r\n\r\n");
    let mut ask = |times: u32| {
        for _ in 0..times {
            stream.write_all(&request).unwrap();
            read_answer(&mut reader);
        }
    };
    ask(200);
    let (begun, mut asked) = (server.cpu_time(), 0);
    loop {
        ask(500);
        asked += 500;
        let spent = server.cpu_time() - begun;
        if spent >= Duration::from_millis(500) {
            return spent.as_secs_f64() * 1e6 / f64::from(asked);
        }
    }
}

/// Reads one answer, whatever it is.
fn read_answer(reader: &mut impl BufRead) {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the connection was closed");
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
            return;
        }
    }
}
