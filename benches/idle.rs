//! What an idle connection takes: resident memory of the real binary before and after so many connections are opened and
//! have said what they have to say, divided by their number.
//!
//! One server for each way to be idle: nothing asked yet; after a plain request at the gate, which is read in place; after one that hyper
//! reads; after a page of the portal. Printed are KiB for each connection. It fails where one takes more than it may.
//!
//! `cargo bench --bench idle`; the number of connections by `PORTCULLIS_IDLE_CONNECTIONS` (2000).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Server;

#[path = "workload/server.rs"]
mod server;

const CONFIG: &str = "
server: {address: 'tcp://127.0.0.1:0/'}
portal: {address: 'tcp://127.0.0.1:0/'}
telemetry: {metrics: {enabled: false}}
authentication_backend: {file: {path: users.yaml}}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control: {default_policy: deny, rules: [{domain: public.example.com, policy: bypass}]}
";

const PLAIN: &str = "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
                     X-Forwarded-Host: public.example.com\r\nX-Forwarded-Uri: /\r\n";

/// Opens a connection and reads the whole answer to `request`, if there is one.
fn open(address: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    if request.is_empty() {
        return stream;
    }
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let head = String::from_utf8(answer).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    stream.read_exact(&mut body).unwrap();
    stream
}

fn main() -> ExitCode {
    let count: usize =
        std::env::var("PORTCULLIS_IDLE_CONNECTIONS").map_or(2_000, |text| text.parse().expect("a number"));
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("as many descriptors as there may be");
    let plain = format!("{PLAIN}\r\n");
    let hyper = format!("{PLAIN}Connection: keep-alive\r\n\r\n");
    let page = "GET / HTTP/1.1\r\nHost: auth.example.com\r\n\r\n";
    let mut too_much = false;
    for (name, at_most, request) in
        [("silent", 12, ""), ("plain", 12, plain.as_str()), ("hyper", 20, hyper.as_str()), ("portal", 20, page)]
    {
        let server = Server::start(CONFIG, "users: {}\n", None);
        let address = if name == "portal" { &server.portal } else { &server.gate };
        // What comes into being once is there before.
        drop((0..50).map(|_| open(address, page_or(request, &plain))).collect::<Vec<_>>());
        let before = server.resident_kib();
        let open: Vec<TcpStream> = (0..count).map(|_| open(address, request)).collect();
        // Those that say nothing are accepted when one behind them has been answered.
        drop(self::open(&server.gate, &plain));
        let each = server.resident_kib().saturating_sub(before) as f64 / count as f64;
        println!("{name}: {each:.1} KiB for each of {count} connections (at most {at_most})");
        too_much |= each > f64::from(at_most);
        drop(open);
    }
    if too_much { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn page_or<'a>(request: &'a str, plain: &'a str) -> &'a str {
    if request.is_empty() { plain } else { request }
}
