//! The log as the real process writes it: bounded whatever is sent, and to be relied upon (docs/logs.md).

#![cfg(test)]

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use harness::client::{Client, Request};
use harness::portcullis::{Portcullis, USERS, question};
use harness::process::{Package, program};

const CONFIG: &str = "
server: {address: 'tcp://{gate}/', grpc: {address: 'tcp://{grpc}/'}}
portal: {address: 'tcp://{portal}/', body_limit: 64 KiB}
log: {log}
telemetry: {metrics: {enabled: {metered}, address: 'tcp://{metrics}/metrics'}}
authentication_backend: {file: {path: users.yaml}}
regulation: {max_retries: 0}
session: {cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]}
access_control:
  default_policy: deny
  rules:
    - {domain: public.example.com, policy: bypass}
    - {domain: app.example.com, policy: one_factor}
    - {domain: two.example.com, policy: two_factor}
";

/// The longest that one request may make the log, in bytes.
const MOST: usize = 2_048;

/// What may wait to be written, and what a pipe holds.
const QUEUE: usize = 1 << 20;
const PIPE: usize = 64 * 1024;

fn config(log: &str, metered: bool) -> String {
    CONFIG.replace("{log}", log).replace("{metered}", &metered.to_string())
}

fn start(log: &str) -> Portcullis {
    Portcullis::start(&config(log, true), &[("users.yaml", USERS)])
}

/// A log-in at the portal, as from `client`; `body` is form data or JSON.
fn log_in(kind: &str, client: &str, body: &str) -> Request {
    let (target, media_type) = match kind {
        "json" => ("/api/firstfactor", "application/json"),
        _ => ("/", "application/x-www-form-urlencoded"),
    };
    Request::new("POST", "auth.example.com", target)
        .header("Origin", "https://auth.example.com")
        .header("X-Forwarded-For", client)
        .body(media_type, body.as_bytes())
}

/// A question of nginx', as from `client`.
fn asked(client: &str, method: &str, url: &str) -> Request {
    Request::new("GET", "gate", "/api/authz/auth-request")
        .header("X-Original-Method", method)
        .header("X-Original-URL", url)
        .header("X-Forwarded-For", client)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

fn metric(server: &Portcullis, line: &str) -> u64 {
    let page = Client::http(server.metrics).send(&Request::script("GET", "metrics", "/metrics")).text();
    let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{line} is missing from\n{page}"))
}

/// Tells what each request adds to the log: after each, a line that is known is asked for, and waited for.
struct Meter {
    server: Portcullis,
    marks: u8,
    seen: usize,
}

impl Meter {
    fn new(log: &str) -> Meter {
        let mut meter = Meter { server: start(log), marks: 0, seen: 0 };
        meter.mark();
        meter
    }

    /// What was logged since the mark before, and the length of it.
    fn mark(&mut self) -> String {
        self.marks += 1;
        let client = format!("203.0.113.{}", self.marks);
        let _ = Client::http(self.server.gate).send(&asked(&client, "GET", "https://mark.example.com/"));
        let seen = self.seen;
        let (line, end) = self.server.wait_for("the mark", |process| {
            let output = process.output();
            let at = output.get(seen..)?.find(&client)? + seen;
            let start = output[..at].rfind('\n')? + 1;
            let end = at + output[at..].find('\n')? + 1;
            Some((output[seen..start].to_owned(), end))
        });
        self.seen = end;
        line
    }

    /// What the log says to a request; the client must be another each time.
    fn log_of(&mut self, gate: bool, request: &Request) -> String {
        let to = if gate { self.server.gate } else { self.server.portal };
        // A server that refuses early may have closed before all is sent.
        let _ = Client::http(to).try_send(request);
        self.mark()
    }
}

#[test]
fn a114_the_largest_log_in_makes_no_more_than_two_kibibytes_of_log() {
    for format in ["text", "json"] {
        let mut meter = Meter::new(&format!("{{level: debug, format: {format}}}"));
        // DEL takes six bytes or seven once it is escaped.
        let (long, escaped) = ("\u{7f}".repeat(30_000), "%7F".repeat(10_000));
        let url = format!("https://app.example.com/{long}");
        #[rustfmt::skip]
        let table = [
            ("json", format!(r#"{{"username":"john","password":"x","requestMethod":"{long}","targetURL":"{long}"}}"#)),
            ("json", format!(r#"{{"username":"nobody","password":"x","requestMethod":"{long}","targetURL":"{url}"}}"#)),
            ("json", format!(r#"{{"username":"{long}","password":"{long}"}}"#)),
            ("json", format!(r#"{{"username":"john","password":"x","targetURL":"https://app.example.com/{}"}}"#, "%7f".repeat(5_000))),
            ("json", r#"{"username":"john","password":"x","targetURL":"https://app.example.com/?s3cret#s3cret"}"#.to_owned()),
            ("form", format!("username=john&password=x&rm={escaped}&rd={escaped}")),
            ("form", format!("username={escaped}&password=x&rm=GET&rd={escaped}")),
            ("form", format!("username=john&password=x&rd=https%3A%2F%2Fapp.example.com%2F{}", "%20".repeat(15_000))),
        ];
        for (n, (kind, body)) in table.into_iter().enumerate() {
            assert!(body.len() < 65_536, "it is read: {}", body.len());
            let said = meter.log_of(false, &log_in(kind, &format!("192.0.2.{n}"), &body));
            assert!(said.contains("sign-in refused"), "{format} {n}: {said}");
            assert!(said.len() <= MOST, "{format} {n}: {} bytes: {said:.300}", said.len());
            assert_eq!(said.lines().count(), 1, "{format} {n}: {said}");
            assert!(!said.contains("s3cret"), "{format} {n}: {said}");
        }
    }
}

/// Requests to the gate and the portal that have something to be logged, each with its own client.
fn requests() -> Vec<(&'static str, bool, Request)> {
    let long = "x".repeat(12_000);
    let url = |rest: &str| format!("https://app.example.com/{rest}");
    let forwarded = |client: &str, name: &str, value: &str| {
        let facts = [
            ("X-Forwarded-Method", "GET"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "app.example.com"),
            ("X-Forwarded-Uri", "/"),
            ("X-Forwarded-For", client),
        ];
        let start = Request::new("GET", "gate", "/api/authz/forward-auth");
        let rest = facts.iter().filter(|(known, _)| *known != name);
        rest.fold(start, |request, (name, value)| request.header(name, value)).header(name, value)
    };
    let portal = |client: &str, method: &str, host: &str, target: &str| {
        Request::new(method, host, target).header("X-Forwarded-For", client)
    };
    #[rustfmt::skip]
    let table = vec![
        ("denied",                    true,  asked("198.51.100.1", "GET", "https://deny.example.com/a?token=s3cret")),
        ("denied, a long path",       true,  asked("198.51.100.2", "GET", &format!("https://deny.example.com/{long}"))),
        ("denied, escapes",           true,  asked("198.51.100.3", "GET", &format!("https://deny.example.com/{}", "%7f".repeat(5_000)))),
        ("denied, quotes",            true,  asked("198.51.100.4", "GET", &format!("https://deny.example.com/{}", "\"".repeat(12_000)))),
        ("denied, not ASCII",         true,  asked("198.51.100.5", "GET", &format!("https://deny.example.com/{}", "é".repeat(5_000)))),
        ("a method that is none",     true,  asked("198.51.100.6", &long, &url(""))),
        ("a long host",               true,  asked("198.51.100.7", "GET", &format!("https://{}example.com/", "a.".repeat(6_000)))),
        ("the longest host",          true,  asked("198.51.100.8", "GET", &format!("https://{}example.com/{long}", "aaaaaaaaa.".repeat(24)))),
        ("a host that is none",       true,  asked("198.51.100.9", "GET", "https://a b/")),
        ("a foreign host",            true,  asked("198.51.100.10", "GET", "https://example.net/")),
        ("no scheme",                 true,  asked("198.51.100.11", "GET", &long)),
        ("plain http",                true,  asked("198.51.100.12", "GET", "http://app.example.com/")),
        ("an address that is none",   true,  asked(&"é,".repeat(2_000), "GET", "https://deny.example.com/")),
        ("a wrong password",          true,  asked("198.51.100.14", "GET", &url(&long)).header("Authorization", &basic("john", "wrong"))),
        ("an unknown user",           true,  asked("198.51.100.15", "GET", &url("")).header("Authorization", &basic(&long[..6_000], "wrong"))),
        ("credentials that are none", true,  asked("198.51.100.16", "GET", &url(&long)).header("Authorization", "Basic %%%")),
        ("a bearer token",            true,  asked("198.51.100.17", "GET", &url("")).header("Authorization", &format!("Bearer {}", &long[..6_000]))),
        ("one factor is not two",     true,  asked("198.51.100.18", "GET", "https://two.example.com/").header("Authorization", &basic("john", "password"))),
        ("a wrong password, bypass",  true,  asked("198.51.100.19", "GET", "https://public.example.com/").header("Authorization", &basic("john", "wrong"))),
        ("asked to sign in",          true,  asked("198.51.100.20", "GET", &url(&long)).header("Accept", "text/html")),
        ("a header missing",          true,  Request::new("GET", "gate", "/api/authz/forward-auth").header("X-Forwarded-For", "198.51.100.21")),
        ("a header twice",            true,  forwarded("198.51.100.22", "X-Forwarded-Uri", "/").header("X-Forwarded-Uri", &long)),
        ("an alias",                  true,  forwarded("198.51.100.23", "X_Forwarded_Host", &long)),
        ("no path",                   true,  forwarded("198.51.100.24", "X-Forwarded-Uri", "x")),
        ("bytes that are no text",    true,  forwarded("198.51.100.25", "X-Forwarded-Uri", "/%ff%00")),
        ("another proto",             true,  forwarded("198.51.100.26", "X-Forwarded-Proto", &long)),
        ("a session that is none",    true,  asked("198.51.100.27", "GET", &url("")).cookie(&format!("authelia_session={long}"))),
        ("no such endpoint",          true,  Request::new("GET", "gate", &format!("/{}", &long[..6_000])).header("X-Forwarded-For", "198.51.100.28")),
        ("a foreign portal",          true,  asked("198.51.100.29", "GET", &url("")).header("X-Authelia-URL", &format!("https://evil.example.net/{long}"))),
        ("HTTP/1.1, broken",          true,  Request::new("GET /\u{1}", "gate", "/")),
        ("more than is read",         true,  Request::new("GET", "gate", "/").header("X", &long.repeat(10))),
        ("at another site",           false, portal("198.51.101.1", "GET", "example.net", "/")),
        ("at no site",                false, portal("198.51.101.2", "GET", &long[..2_000], "/")),
        ("at the longest site",       false, portal("198.51.101.3", "GET", &format!("{}example.net", "aaaaaaaaa.".repeat(24)), "/")),
        ("forwarded elsewhere",       false, portal("198.51.101.4", "GET", "auth.example.com", "/").header("X-Forwarded-Host", &long)),
        ("from another site",         false, portal("198.51.101.5", "POST", "auth.example.com", "/logout").header("Sec-Fetch-Site", "cross-site").body("text/plain", b"x")),
        ("the same, a long path",     false, portal("198.51.101.6", "POST", "auth.example.com", &format!("/logout?{}", &long[..6_000])).header("Origin", "https://evil.example.net")),
        ("another media type",        false, portal("198.51.101.7", "POST", "auth.example.com", "/api/firstfactor").body("text/plain", b"{}")),
        ("too large a body",          false, log_in("json", "198.51.101.8", &"x".repeat(70_000))),
        ("no JSON",                   false, log_in("json", "198.51.101.9", &long)),
        ("no password",               false, log_in("json", "198.51.101.10", r#"{"username":"john"}"#)),
        ("signed in",                 false, log_in("json", "198.51.101.11", &format!(r#"{{"username":"john","password":"password","targetURL":"https://app.example.com/{long}"}}"#))),
        ("a page",                    false, portal("198.51.101.12", "GET", "auth.example.com", &format!("/?rd={}", &long[..6_000]))),
        ("a method nobody knows",     false, portal("198.51.101.13", &long[..60], "auth.example.com", "/logout")),
        ("HTTP/1.1, broken",          false, Request::new("GET /\u{1}", "gate", "/")),
    ];
    table
}

#[test]
fn a114_no_request_makes_more_than_two_kibibytes_of_log() {
    for format in ["text", "json"] {
        let mut meter = Meter::new(&format!("{{level: debug, format: {format}}}"));
        let (mut lines, mut most) = (0, 0);
        for (because, gate, request) in requests() {
            let said = meter.log_of(gate, &request);
            assert!(said.len() <= MOST, "{format}, {because}: {} bytes: {said}", said.len());
            assert!(!said.contains("Some(") && !said.contains("None"), "{format}, {because}: {said}");
            assert!(!said.contains("s3cret") && !said.contains("198.51.100.1:"), "{format}, {because}: {said}");
            if format == "json" {
                for line in said.lines() {
                    let read: serde_json::Value =
                        serde_json::from_str(line).unwrap_or_else(|error| panic!("{because}: {error}: {line}"));
                    assert!(read.as_object().is_some_and(|line| line.values().all(|value| !value.is_object())));
                }
            }
            lines += said.lines().count();
            most = most.max(said.len());
        }
        println!("{format}: {lines} lines for {} requests, at most {most} bytes a request", requests().len());
        assert!(lines > 25, "{format}: they are logged: {lines}");
    }
}

/// A field of a message, as Protocol Buffers have it: its number and length, then what it is.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let (mut bytes, mut length) = (vec![number << 3 | 2], value.len());
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    [bytes, value.to_vec()].concat()
}

/// A `CheckRequest` of Envoy's.
fn check(client: &str, method: &str, scheme: &str, host: &str, path: &str) -> Vec<u8> {
    let http = [
        field(2, method.as_bytes()),
        field(4, path.as_bytes()),
        field(5, host.as_bytes()),
        field(6, scheme.as_bytes()),
    ];
    let source = field(1, &field(1, &field(2, client.as_bytes())));
    field(1, &[field(1, &source), field(4, &field(2, &http.concat()))].concat())
}

#[test]
fn a114_no_check_over_grpc_makes_more_than_two_kibibytes_of_log() {
    let long = "x".repeat(12_000);
    let checks = |client: &dyn Fn(u8) -> String| {
        [
            check(&client(1), "GET", "https", "deny.example.com", "/a"),
            check(&client(2), "GET", "https", "deny.example.com", &format!("/{long}")),
            check(&client(3), "GET", "https", &long, &format!("/{}", "\u{7f}".repeat(12_000))),
            check(&client(4), &long, "https", "deny.example.com", "/"),
            check(&client(5), "GET", &long, "deny.example.com", "/"),
            check(
                &long,
                "GET",
                "https",
                &format!("{}example.com", "aaaaaaaaa.".repeat(24)),
                &format!("/{}", "\"".repeat(12_000)),
            ),
            field(1, &[]),
            vec![0xff; 60_000],
            vec![0xff; 200_000],
        ]
    };
    for format in ["text", "json"] {
        let mut meter = Meter::new(&format!("{{level: debug, format: {format}}}"));
        let url = format!("http://{}/envoy.service.auth.v3.Authorization/Check", meter.server.grpc);
        for (n, message) in checks(&|n| format!("192.0.2.{n}")).iter().enumerate() {
            let length = u32::try_from(message.len()).expect("not that long").to_be_bytes();
            let file = meter.server.folder().join("message");
            std::fs::write(&file, [&[0], length.as_slice(), message].concat()).expect("write");
            let output = Command::new(program("curl", Package::Debian("curl")))
                .args(["-sS", "--http2-prior-knowledge", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"])
                .args(["-H", "Content-Type: application/grpc", "--data-binary"])
                .arg(format!("@{}", file.display()))
                .arg(&url)
                .output()
                .expect("run curl");
            // The last is answered before all of it was sent, which curl takes for an error.
            assert!(output.stdout == b"200" || n == 8, "{n}: {}", String::from_utf8_lossy(&output.stderr));
            let said = meter.mark();
            assert!(said.len() <= MOST, "{format} {n}: {} bytes: {said}", said.len());
            let logged = said.lines().filter(|line| line.contains("forbidden by") || line.contains("refused")).count();
            assert_eq!(logged, 1, "{format} {n}: {said}");
            if n < 5 {
                assert!(said.contains(&format!("192.0.2.{}", n + 1)), "{format} {n} names who asks: {said}");
            }
        }
    }
}

#[test]
fn one_refusal_is_one_line_and_names_who_asked() {
    let mut meter = Meter::new("{level: info}");
    let url = "https://app.example.com/a?token=s3cret";
    #[rustfmt::skip]
    let table = [
        (true,  asked("192.0.2.1", "GET", "https://deny.example.com/a?b"), " INFO forbidden by the rules client=192.0.2.1 rule=default method=GET host=deny.example.com path=/a\n"),
        (true,  asked("192.0.2.2", "GET", "https://app.example.com/a").header("Authorization", &basic("john", "wrong")),
            " WARN sign-in refused reason=\"wrong password\" door=basic client=192.0.2.2 user=john method=GET host=app.example.com path=/a\n"),
        (true,  asked("192.0.2.3", "GET", "https://app.example.com/a").header("Authorization", "Basic %"),
            " INFO asked for credentials reason=\"the credentials in the header can't be read\" client=192.0.2.3 rule=#2 method=GET host=app.example.com path=/a\n"),
        (true,  asked("192.0.2.4", "GET", "https://two.example.com/").header("Authorization", &basic("john", "password")),
            " INFO asked for credentials reason=\"two factors are demanded, and a header of credentials is one\" client=192.0.2.4 user=john rule=#3 method=GET host=two.example.com path=/\n"),
        (true,  asked("192.0.2.5", "GET", "https://example.net/"),
            " INFO refused reason=\"the host lies in no domain of `session.cookies`\" client=192.0.2.5 peer=127.0.0.1 endpoint=/api/authz/auth-request\n"),
        (false, log_in("json", "192.0.2.6", &format!(r#"{{"username":"nobody","password":"x","requestMethod":"GET","targetURL":"{url}"}}"#)),
            " WARN sign-in refused reason=\"unknown user\" door=portal client=192.0.2.6 method=GET host=app.example.com path=/a\n"),
        (false, Request::new("GET", "example.net", "/").header("X-Forwarded-For", "192.0.2.7"),
            " INFO a request for the portal did not arrive at any of its sites reason=\"the host is in no domain of `session.cookies`\" client=192.0.2.7 peer=127.0.0.1 host=example.net\n"),
        (true,  asked("192.0.2.8", "GET", "https://public.example.com/"), ""),
        (true,  asked("192.0.2.9", "GET", "https://app.example.com/").header("Authorization", &basic("john", "password")), ""),
    ];
    for (gate, request, expected) in table {
        let said = meter.log_of(gate, &request);
        let rest = said.split_once('Z').map_or("", |(_, rest)| rest);
        assert_eq!(rest.trim_start(), expected.trim_start(), "{said}");
    }
}

#[test]
fn who_signs_in_and_out_is_logged_and_no_secret() {
    for (format, within, without) in [
        (
            "text",
            "signed in door=portal client=192.0.2.1 user=john host=auth.example.com\n",
            "signed out client=192.0.2.2 user=john host=auth.example.com\n",
        ),
        (
            "json",
            r#""message":"signed in","door":"portal","client":"192.0.2.1","user":"john","host":"auth.example.com"}"#,
            r#""message":"signed out","client":"192.0.2.2","user":"john","host":"auth.example.com"}"#,
        ),
    ] {
        for kind in ["json", "form"] {
            let mut server = start(&format!("{{format: {format}}}"));
            let body = match kind {
                "json" => r#"{"username":"john","password":"password"}"#,
                _ => "username=john&password=password",
            };
            let answer = Client::http(server.portal).send(&log_in(kind, "192.0.2.1", body));
            let cookie = answer.header("set-cookie").expect("signed in").split(';').next().expect("a pair").to_owned();
            let id = cookie.split_once('=').expect("a value").1.to_owned();
            let target = if kind == "json" { "/api/logout" } else { "/logout" };
            let media_type = if kind == "json" { "application/json" } else { "application/x-www-form-urlencoded" };
            let out = Request::new("POST", "auth.example.com", target)
                .header("Origin", "https://auth.example.com")
                .header("X-Forwarded-For", "192.0.2.2")
                .body(media_type, b"");
            assert!(Client::http(server.portal).send(&out.clone().cookie(&cookie)).status < 400);
            assert!(Client::http(server.portal).send(&out).status < 400, "by nobody");
            let log = server.stop_and_read();
            assert!(log.contains(within) && log.contains(without), "{format} {kind}: {log}");
            assert_eq!(log.matches("signed ").count(), 2, "{format} {kind}: nobody is not signed out: {log}");
            assert!(!log.contains(&id), "{format} {kind}: {log}");
        }
    }
}

#[test]
fn the_log_goes_on_when_metrics_are_off() {
    let mut server = Portcullis::start(&config("{level: info}", false), &[("users.yaml", USERS)]);
    let _ = Client::http(server.gate).send(&asked("192.0.2.1", "GET", "https://deny.example.com/"));
    let log = server.stop_and_read();
    assert!(log.contains("forbidden by the rules client=192.0.2.1"), "{log}");
    assert!(log.contains("stopping"), "to the end: {log}");
}

/// Asks over one connection, each question from one of a few hundred clients, so that no two lines of a second are
/// the same more often than ten times; returns how many lines that makes.
fn ask_much(gate: SocketAddr, questions: usize) -> usize {
    let mut stream = TcpStream::connect(gate).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a deadline");
    let more = format!("X-Forwarded-Uri: /{}\r\n", "x".repeat(300));
    let mut answers = 0;
    for n in 0..questions {
        let host = format!("h{n}.{}example.com", "aaaaaaaaa.".repeat(20));
        let asked =
            String::from_utf8(question(&host, &format!("X-Forwarded-For: 192.0.{}.{}\r\n", n / 250 % 3, n % 250)));
        let asked = asked.expect("text").replace("X-Forwarded-Uri: /\r\n", &more);
        stream.write_all(asked.as_bytes()).expect("ask");
        let mut answer = vec![0; 4_096];
        let length = stream.read(&mut answer).expect("an answer, whatever becomes of the log");
        answers += usize::from(answer[..length].starts_with(b"HTTP/1.1 403"));
    }
    assert_eq!(answers, questions);
    questions
}

/// The process with its standard error in a pipe that nobody reads until it is told to.
struct Piped {
    child: Child,
    gate: SocketAddr,
    metrics: SocketAddr,
    _folder: tempfile::TempDir,
    folder: PathBuf,
}

impl Piped {
    fn start(log: &str) -> Piped {
        let folder = tempfile::tempdir().expect("temporary directory");
        let config = ["gate", "portal", "metrics", "grpc"]
            .iter()
            .fold(config(log, true), |config, name| config.replace(&format!("{{{name}}}"), "127.0.0.1:0"));
        std::fs::write(folder.path().join("portcullis.yaml"), config).expect("write");
        std::fs::write(folder.path().join("users.yaml"), USERS).expect("write");
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["serve", "--config", "portcullis.yaml"])
            .current_dir(folder.path())
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let (mut ready, mut byte) = (String::new(), [0]);
        let stdout = child.stdout.as_mut().expect("its output");
        while !ready.ends_with('\n') && stdout.read(&mut byte).expect("read") == 1 {
            ready.push(char::from(byte[0]));
        }
        let address = |name: &str| {
            let value = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {ready:?}"))
        };
        let (gate, metrics) = (address("gate="), address("metrics="));
        Piped { child, gate, metrics, folder: folder.path().to_owned(), _folder: folder }
    }

    fn metric(&self, line: &str) -> usize {
        let page = Client::http(self.metrics).send(&Request::script("GET", "metrics", "/metrics")).text();
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{line} is missing from\n{page}"))
    }

    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        kib.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") * 1024
    }

    /// Ends it, and reads what it has said on standard error meanwhile.
    fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        let mut stderr = self.child.stderr.take().expect("its log");
        let reader = std::thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).expect("read the log");
            log
        });
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid]).status();
        assert!(asked.is_ok_and(|status| status.success()));
        assert!(self.child.wait().expect("its end").success());
        reader.join().expect("the reader")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a114_a136_a_reader_who_stands_still_costs_a_bounded_queue_and_what_is_lost_is_counted() {
    let server = Piped::start("{level: info}");
    ask_much(server.gate, 10);
    let before = server.resident();
    // Several times what the queue holds.
    let asked = 10 + ask_much(server.gate, 5_000);
    let grown = server.resident().saturating_sub(before);
    let dropped = server.metric("portcullis_log_lines_dropped_total{reason=\"queue_full\"}");
    let repeated = server.metric("portcullis_log_lines_repeated_total");
    assert!(dropped > 2_000, "{dropped}");
    assert!(grown < 8 << 20, "{grown} bytes more");
    let log = server.stop();
    assert!(log.len() < QUEUE + PIPE + 16 * 1024, "{} bytes waited", log.len());
    assert!(log.len() > QUEUE / 2, "the queue is used: {}", log.len());
    // The counts are told in lines of their own, which may be lost as well.
    let written = log.lines().filter(|line| line.contains("forbidden by") && !line.contains("repeated=")).count();
    let left = asked - written - repeated;
    assert!(
        (left..left + 2_000).contains(&dropped),
        "{asked} asked, {written} written, {repeated} repeated, {dropped} lost"
    );
}

#[test]
fn a114_a_reader_who_stands_still_does_not_keep_it_from_ending() {
    let mut server = Piped::start("{level: info}");
    ask_much(server.gate, 2_500);
    let asked = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &server.child.id().to_string()]).status();
    assert!(asked.is_ok_and(|status| status.success()));
    let begun = Instant::now();
    let status = loop {
        match server.child.try_wait().expect("look after it") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "it waits for its reader");
    };
    assert!(status.success(), "{status}");
}

#[test]
fn a136_a_console_that_stands_still_does_not_stop_the_file() {
    let server = Piped::start("{level: info, file_path: log.txt, keep_stdout: true}");
    let asked = ask_much(server.gate, 2_500);
    let file = server.folder.join("log.txt");
    let begun = Instant::now();
    let written = |text: &str| {
        let forbidden = text.lines().filter(|line| line.contains("forbidden by"));
        forbidden.map(repeated_in).sum::<usize>()
    };
    while written(&std::fs::read_to_string(&file).expect("the file")) < asked {
        assert!(begun.elapsed() < Duration::from_secs(30), "all are in the file");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(server.metric("portcullis_log_lines_dropped_total{reason=\"queue_full\"}") > 0, "not on the console");
    let log = server.stop();
    assert!(log.contains("forbidden by") && log.len() < QUEUE + PIPE + 16 * 1024, "{}", log.len());
}

/// How many lines a line stands for.
fn repeated_in(line: &str) -> usize {
    let count = line.split_once("repeated=").map(|(_, rest)| rest.split(' ').next().unwrap_or_default());
    count.map_or(1, |count| count.trim().parse().expect("a number"))
}

#[test]
fn a136_a_full_disk_is_counted_and_stops_nothing() {
    let server = start("{level: info, file_path: /dev/full}");
    let line = "portcullis_log_lines_dropped_total{reason=\"write_failed\"}";
    for round in 1..=3 {
        let before = metric(&server, line);
        ask_much(server.gate, 20);
        let begun = Instant::now();
        while metric(&server, line) < before + 20 {
            assert!(begun.elapsed() < Duration::from_secs(30), "round {round}: {}", metric(&server, line));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(metric(&server, "portcullis_log_lines_dropped_total{reason=\"queue_full\"}"), 0);
}

#[test]
fn a136_what_one_client_repeats_is_counted_and_none_is_forgotten() {
    let mut server = start("{level: info}");
    let mut stream = TcpStream::connect(server.gate).expect("connect");
    let asked = question("deny.example.com", "X-Forwarded-For: 192.0.2.1\r\n");
    let mut answer = vec![0; 4_096];
    for _ in 0..500 {
        stream.write_all(&asked).expect("ask");
        assert!(stream.read(&mut answer).expect("an answer") > 0);
    }
    let told = |output: &str| {
        output.lines().filter(|line| line.contains("forbidden by the rules")).map(repeated_in).sum::<usize>()
    };
    // Those of the last second are told when it is over, though nothing else happens.
    let log = server.wait_for("all of them", |process| Some(process.output()).filter(|log| told(log) >= 500));
    assert_eq!(told(&log), 500, "{log}");
    let lines = log.lines().filter(|line| line.contains("forbidden by the rules")).count();
    assert!(lines < 250, "{lines} lines: {log}");
    assert!(log.contains(" repeated=") && log.contains("client=192.0.2.1"), "{log}");
    let repeated = metric(&server, "portcullis_log_lines_repeated_total");
    assert!((1..500).contains(&repeated), "{repeated}");
}

// ---- the words ----

/// Every call of a `tracing` macro in `src/`: the file, the level, and what stands between the parentheses.
fn calls() -> Vec<(PathBuf, &'static str, String)> {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("read the folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    let (mut found, mut calls) = (Vec::new(), Vec::new());
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    for file in found {
        let text = std::fs::read_to_string(&file).expect("read");
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for level in ["error", "warn", "info", "debug", "trace"] {
            for (at, opening) in text.match_indices(&format!("{level}!(")) {
                let before = text[..at].chars().next_back().unwrap_or(' ');
                if before.is_alphanumeric() || before == '_' {
                    continue;
                }
                let inside = to_the_end(&text[at + opening.len()..]).trim_end().trim_end_matches(',');
                calls.push((file.clone(), level, inside.to_owned()));
            }
        }
    }
    calls
}

/// What stands before the parenthesis that closes.
fn to_the_end(text: &str) -> &str {
    let (mut depth, mut in_text, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text && depth == 0 => return &text[..at],
            ')' if !in_text => depth -= 1,
            _ => {}
        }
    }
    text
}

/// The names that fields have: what each means stands in docs/logs.md.
const FIELDS: [&str; 33] = [
    "accounts",
    "client",
    "diagnosis",
    "digest",
    "door",
    "endpoint",
    "error",
    "file",
    "gate",
    "gate_connections",
    "grpc",
    "help",
    "host",
    "limit",
    "listener",
    "made_for",
    "method",
    "metrics",
    "milliseconds",
    "needed",
    "path",
    "peer",
    "portal",
    "portal_connections",
    "queue",
    "reason",
    "repeated",
    "rule",
    "seconds",
    "so_far",
    "threads",
    "user",
    "version",
];

#[test]
fn every_line_uses_the_words_that_the_documentation_has() {
    let page = include_str!("../docs/logs.md");
    let calls = calls();
    assert!(calls.len() > 30, "only {} calls were found", calls.len());
    let mut wrong = Vec::new();
    for (file, level, call) in &calls {
        let mut say = |what: String| wrong.push(format!("{}: {level}: {what}: {call}", file.display()));
        let (fields, message) = call.trim_end_matches('"').rsplit_once('"').unwrap_or(("", call));
        for sign in ["{", "(W", "(A"] {
            if message.contains(sign) {
                say(format!("`{sign}` in the message"));
            }
        }
        for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').unwrap_or((field, field));
            if value.trim().starts_with('?') {
                say(format!("`{field}` is written as Rust's debug text"));
            }
            let name = name.trim().trim_start_matches('%');
            if name.chars().all(|c| c.is_alphanumeric() || c == '_') && !FIELDS.contains(&name) {
                say(format!("`{name}` is no field of ours"));
            }
        }
        if *level != "debug" && !page.contains(&format!("| {message} |")) {
            say(format!("docs/logs.md has no row for `{message}`"));
        }
    }
    for field in FIELDS {
        if !page.contains(&format!("| `{field}` |")) {
            wrong.push(format!("docs/logs.md does not say what `{field}` is"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
