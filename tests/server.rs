//! The process from outside: listeners, limits, signals, metrics, and what it says when it can't start.

#![cfg(test)]

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};

use harness::certificates::Certificates;
use harness::client::{Client, Request};
use harness::portcullis::{CONFIG, USERS, question, start};
use harness::process::{Package, Process, free_port, program};

/// Sends `bytes` and says no more; returns what comes until the other side closes.
fn tell(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    // A server that refuses early may have closed before all is sent.
    let _ = stream.write_all(bytes);
    // Where the answer ends the connection there is no need, and a question whose sender has gone may be dropped.
    if !bytes.windows(17).any(|window| window == b"Connection: close") {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer's head and leaves the connection open.
fn head(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("read") == 1 {
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn curl(args: &[&str]) -> String {
    let output = Command::new(program("curl", Package::Debian("curl")))
        .args(["--silent", "--show-error", "--include", "--max-time", "20"])
        .args(args)
        .output()
        .expect("run curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What follows the gate's address where it speaks TLS.
fn tls(certificates: &Certificates) -> String {
    format!(", tls: {{certificate: '{}', key: '{}'}}", certificates.chain.display(), certificates.key.display())
}

fn portcullis(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .output()
        .expect("run portcullis")
}

#[test]
fn a106_each_listener_serves_its_own_and_nothing_else() {
    let server = start(", grpc: {address: 'tcp://{grpc}'}");
    // gRPC is HTTP/2 alone: 505 for everything below.
    #[rustfmt::skip]
    let table = [
        // path                        gate  portal  metrics
        ("/api/health",                200,  200,    404),
        ("/metrics",                   404,  200,    200), // the portal's index page: it has no such thing
        ("/api/authz/forward-auth",    400,  404,    404),
        ("/api/authz/ext-authz/",      400,  404,    404),
        ("/api/verify",                401,  404,    404),
        ("/api/state",                 404,  200,    404),
        ("/debug/pprof",               404,  200,    404),
        ("/api/health?verbose",        200,  200,    404),
    ];
    for (path, gate, portal, metrics) in table {
        for (name, address, expected) in [
            ("gate", server.gate, gate),
            ("portal", server.portal, portal),
            ("metrics", server.metrics, metrics),
            ("gRPC", server.grpc, 505),
        ] {
            let got = Client::http(address).send(&Request::page("auth.example.com", path));
            assert_eq!(got.status, expected, "{path} at the {name}");
            assert!(name == "metrics" || !got.text().contains("portcullis_"), "{path} at the {name}");
        }
    }
    for path in ["/api/health", "/metrics", "/api/authz/ext-authz//x", "/api/state"] {
        let url = format!("http://{}{path}", server.grpc);
        let got = curl(&["--http2-prior-knowledge", "-H", "X-Forwarded-Proto: https", &url]);
        assert!(got.starts_with("HTTP/2 405"), "{path} at the gRPC listener: {got}");
    }
}

#[test]
fn a_prometheus_scrapes_it() {
    let server = start("");
    for host in ["public.example.com", "app.example.com", "other.example.com"] {
        tell(server.gate, &question(host, "Connection: close\r\n"));
    }
    let page = Client::http(server.metrics).send(&Request::script("GET", "metrics", "/metrics")).text();
    for line in [
        r#"portcullis_decisions_total{endpoint="forward-auth",outcome="allow",rule="1"} 1"#,
        r#"portcullis_decisions_total{endpoint="forward-auth",outcome="challenge",rule="2"} 1"#,
        r#"portcullis_decisions_total{endpoint="forward-auth",outcome="forbid",rule="default"} 1"#,
        r#"portcullis_decision_duration_seconds_count{endpoint="forward-auth"} 3"#,
    ] {
        assert!(page.contains(line), "{line} is missing from\n{page}");
    }
    let mut check = Command::new(program("promtool", Package::Debian("prometheus")))
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("run promtool");
    check.stdin.take().expect("its input").write_all(page.as_bytes()).expect("hand it the page");
    let verdict = check.wait_with_output().expect("promtool's verdict");
    assert!(verdict.status.success() && verdict.stderr.is_empty(), "{}", String::from_utf8_lossy(&verdict.stderr));

    let folder = tempfile::tempdir().expect("temporary directory");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: portcullis, static_configs: [{{targets: ['{}']}}]}}]\n",
        server.metrics
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).expect("write its configuration");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new(program("prometheus", Package::Debian("prometheus")));
    command.current_dir(folder.path()).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
    command.arg(format!("--web.listen-address={address}"));
    let mut prometheus = Process::start("prometheus", &mut command, folder.path().join("prometheus.log"));
    let query = "/api/v1/query?query=portcullis_decisions_total%7Boutcome%3D%22allow%22%7D";
    let answer = prometheus.wait_for("a scrape", |_| {
        let got = Client::http(address).try_send(&Request::script("GET", "prometheus", query)).ok()?;
        let text = got.text();
        (got.status == 200 && text.contains("forward-auth")).then_some(text)
    });
    assert!(answer.contains(r#""rule":"1""#), "{answer}");
}

#[test]
fn http2_is_spoken_without_tls_and_with() {
    let server = start("");
    let facts = [
        "-H",
        "X-Forwarded-Method: GET",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "X-Forwarded-Host: public.example.com",
    ];
    let url = format!("http://{}/api/authz/forward-auth", server.gate);
    let mut args = vec!["--http2-prior-knowledge", &url];
    args.extend(facts);
    assert!(curl(&args).starts_with("HTTP/2 200"), "prior knowledge, as Envoy speaks it");
    args[0] = "--http1.1";
    assert!(curl(&args).starts_with("HTTP/1.1 200"));
    // `Host` in X-Forwarded-Proto's place: Envoy's dialect over HTTP/2 judges `:authority`.
    let url = format!("http://{}/api/authz/ext-authz//x", server.gate);
    let denied =
        curl(&["--http2-prior-knowledge", "-H", "Host: other.example.com", "-H", "X-Forwarded-Proto: https", &url]);
    assert!(denied.starts_with("HTTP/2 403"), "{denied}");

    let folder = tempfile::tempdir().expect("temporary directory");
    let server = start(&tls(&Certificates::new(folder.path())));
    let url = format!("https://{}/api/authz/forward-auth", server.gate);
    for (version, expected) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")] {
        let mut args = vec!["--insecure", version, &url];
        args.extend(facts);
        assert!(curl(&args).starts_with(expected), "{version} over TLS");
    }
    assert!(!tell(server.gate, &question("public.example.com", "")).contains("200 OK"), "no plain text on a TLS port");
    let probe = portcullis(server.folder(), &["healthcheck", "--config", "portcullis.yaml"]);
    assert_eq!(probe.status.code(), Some(1), "the file asks for port 0, where nobody listens: {probe:?}");
}

#[test]
fn a_probe_believes_the_configured_certificate_and_no_other() {
    let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (own, other) = (Certificates::new(ours.path()), Certificates::new(theirs.path()));
    let mut server = start(&tls(&own));
    // Its file names the ports only once it has had them.
    server.stop();
    server.start_again();
    let probe = portcullis(server.folder(), &["healthcheck", "--config", "portcullis.yaml"]);
    assert_eq!((probe.status.code(), probe.stdout.as_slice()), (Some(0), b"healthy\n".as_slice()), "{probe:?}");

    let file = std::fs::read_to_string(server.folder().join("portcullis.yaml")).expect("its configuration");
    let file = file.replace(&own.chain.display().to_string(), &other.chain.display().to_string());
    std::fs::write(server.folder().join("other.yaml"), file).expect("write the configuration");
    let probe = portcullis(server.folder(), &["healthcheck", "--config", "other.yaml"]);
    let said = String::from_utf8_lossy(&probe.stderr);
    assert_eq!(probe.status.code(), Some(1), "{probe:?}");
    assert!(said.contains("the server shows another certificate than the configured one"), "{said}");
}

#[test]
fn a43_a_unix_socket_is_a_listener_too() {
    let folder = tempfile::tempdir().expect("temporary directory");
    let socket = folder.path().join("gate.sock");
    std::fs::write(folder.path().join("users.yaml"), USERS).expect("write the users");
    let address = format!("unix://{}?umask=0117", socket.display());
    let config = CONFIG
        .replace("{more}", "")
        .replace("tcp://{gate}/", &address)
        .replace("{portal}", "127.0.0.1:0")
        .replace("{metrics}", "127.0.0.1:0");
    std::fs::write(folder.path().join("portcullis.yaml"), config).expect("write the configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["serve", "--config", "portcullis.yaml"]).current_dir(folder.path()).env_clear();
    let mut server = Process::start("portcullis", &mut command, folder.path().join("log"));
    server.wait_for("its ready line", |process| process.output().contains("ready gate=unix://").then_some(()));

    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("the socket").permissions());
    assert_eq!(mode & 0o777, 0o660, "as the umask says");
    let mut stream = UnixStream::connect(&socket).expect("connect");
    stream.write_all(&question("public.example.com", "")).expect("ask");
    assert!(head(&mut stream).starts_with("HTTP/1.1 200"), "a43: a socket is trusted and has no address");
    let probe = portcullis(folder.path(), &["healthcheck", "--config", "portcullis.yaml"]);
    assert_eq!((probe.status.code(), probe.stdout.as_slice()), (Some(0), b"healthy\n".as_slice()), "{probe:?}");
    drop(stream);
    assert!(server.terminate().success());
    assert!(!socket.exists(), "the socket goes with the server");
}

#[test]
fn a34_only_listed_proxies_are_believed() {
    let mut server = start(", trusted_proxies: ['192.0.2.1'], grpc: {address: 'tcp://{grpc}'}");
    let url = format!("http://{}/envoy.service.auth.v3.Authorization/Check", server.grpc);
    let checked =
        curl(&["--http2-prior-knowledge", "-H", "Content-Type: application/grpc", "--data-binary", "a message", &url]);
    assert!(checked.contains("grpc-status: 7"), "over gRPC it is PERMISSION_DENIED: {checked}");
    assert!(tell(server.gate, &question("public.example.com", "Connection: close\r\n")).starts_with("HTTP/1.1 403"));
    let log = server.stop_and_read();
    assert!(
        log.contains("127.0.0.1") && log.contains("server.trusted_proxies"),
        "the log names the address and the setting: {log}"
    );
}

#[test]
fn a60_a102_what_is_too_large_or_ill_framed_is_refused() {
    let server = start("");
    let large = format!("X-Filler: {}\r\n", "a".repeat(100_000));
    let many: String = (0..2_000).map(|n| format!("X-{n}: x\r\n")).collect();
    for (because, more) in [("a header of 100 kB", large), ("2,000 headers", many)] {
        let answer = tell(server.gate, &question("public.example.com", &more));
        assert!(answer.starts_with("HTTP/1.1 431"), "{because}: {answer}");
    }
    #[rustfmt::skip]
    let table = [
        ("two lengths",                 "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("a space before the colon",    "Transfer-Encoding : chunked\r\n"),
        ("an unknown coding",           "Transfer-Encoding: xchunked\r\n"),
        ("a length that is none",       "Content-Length: +3\r\n"),
        ("a folded line",               "X-A: b\r\n c\r\n"),
        ("a bare CR in a value",        "X-A: b\rc\r\n"),
        ("a NUL in a value",            "X-A: b\0c\r\n"),
    ];
    for (because, more) in table {
        let answer = tell(server.gate, &question("public.example.com", more));
        assert!(!answer.contains(" 200 OK"), "{because}: {answer}");
    }
    for line in [
        "GET  /api/health HTTP/1.1",
        "GET /api/health",
        "GET /api/health HTTP/9.9",
        "\u{1}\u{2}\u{3}",
        "GET /api/health\u{0} HTTP/1.1",
    ] {
        let answer = tell(server.gate, format!("{line}\r\nHost: x\r\n\r\n").as_bytes());
        assert!(!answer.contains(" 200 OK"), "{line:?}: {answer}");
    }
    let body = format!("{{\"username\":\"{}\"}}", "a".repeat(1_000_000));
    let login = Request::new("POST", "auth.example.com", "/api/firstfactor").body("application/json", body.as_bytes());
    assert_eq!(Client::http(server.portal).send(&login).status, 413);
}

#[test]
fn what_is_open_may_finish_when_it_is_told_to_stop() {
    let mut server = start("");
    // Basic with a wrong password: the answer takes two seconds.
    let mut busy = TcpStream::connect(server.gate).expect("connect");
    busy.write_all(&question("app.example.com", "Authorization: Basic am9objp3cm9uZw==\r\n")).expect("ask");
    let (asked, plain) = (question("public.example.com", ""), question("public.example.com", ""));
    let (begun, rest) = asked.split_at(asked.len() / 2);
    let rest = rest.to_vec();
    let mut half = TcpStream::connect(server.gate).expect("connect");
    half.write_all(begun).expect("ask");
    let mut idle = TcpStream::connect(server.gate).expect("connect");
    idle.write_all(&plain).expect("ask");
    let kept = head(&mut idle);
    assert!(
        kept.starts_with("HTTP/1.1 200") && !kept.contains("connection: close"),
        "kept alive, and now idle: {kept}"
    );
    let address = server.gate;
    let answer = std::thread::spawn(move || head(&mut busy));
    let finished = std::thread::spawn(move || {
        while TcpStream::connect(address).is_ok() {
            std::thread::yield_now(); // it has not heard yet
        }
        half.write_all(&rest).expect("finish the question");
        head(&mut half)
    });
    let status = server.stop();
    let answers = [answer.join().expect("the answer"), finished.join().expect("the other")];
    assert!(answers[0].starts_with("HTTP/1.1 401"), "the open request was answered: {}", answers[0]);
    assert!(answers[1].starts_with("HTTP/1.1 200"), "so was what had begun: {}", answers[1]);
    for answer in answers {
        assert!(answer.contains("\r\nconnection: close\r\n"), "and told that this was all: {answer}");
    }
    assert_eq!(status.code(), Some(0));
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn what_keeps_it_from_starting_is_said_and_no_port_is_opened() {
    let running = start("");
    let taken = running.gate;
    let folder = tempfile::tempdir().expect("temporary directory");
    std::fs::write(folder.path().join("users.yaml"), USERS).expect("write the users");
    let good = CONFIG.replace("{more}", "").replace("{portal}", "127.0.0.1:0").replace("{metrics}", "127.0.0.1:0");
    let free = good.replace("{gate}", "127.0.0.1:0");
    #[rustfmt::skip]
    let table = [
        ("the port is taken",          good.replace("{gate}", &taken.to_string()),           vec!["server.address", &*taken.to_string().leak()]),
        ("no users file",              free.replace("users.yaml", "nobody.yaml"),             vec!["nobody.yaml", "users add"]),
        ("two faults, both told",      free.replace("default_policy: deny", "default_policy: dney").replace("policy: bypass", "polcy: bypass"), vec!["dney", "deny", "polcy"]),
        ("a certificate that is none", free.replace("tcp://127.0.0.1:0/'}", "tcp://127.0.0.1:0/', tls: {certificate: users.yaml, key: users.yaml}}"), vec!["users.yaml", "PEM"]),
        ("not YAML",                   "server: {".to_owned(),                                vec!["portcullis.yaml:1"]),
    ];
    for (because, config, words) in table {
        std::fs::write(folder.path().join("portcullis.yaml"), config).expect("write the configuration");
        let output = portcullis(folder.path(), &["serve", "--config", "portcullis.yaml"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{because}: {said}");
        assert!(output.stdout.is_empty(), "{because}: it was never ready");
        for word in words {
            assert!(said.contains(word), "{because}: `{word}` is not in\n{said}");
        }
    }
    let output = portcullis(folder.path(), &["serve", "--config", "missing.yaml"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing.yaml"), "{output:?}");
}

#[test]
fn a105_no_secret_reaches_the_log() {
    let mut server = start("");
    let login = Request::new("POST", "auth.example.com", "/api/firstfactor")
        .body("application/json", br#"{"username":"\u001b[2J\nlevel=info","password":"hunter2-secret"}"#);
    assert_eq!(Client::http(server.portal).send(&login).status, 401);
    let cookie = "A".repeat(43);
    tell(
        server.gate,
        &question(
            "app.example.com",
            &format!(
                "Cookie: authelia_session={cookie}\r\nAuthorization: Basic am9objpodW50ZXIyLXNlY3JldA==\r\nConnection: close\r\n"
            ),
        ),
    );
    let log = server.stop_and_read();
    for secret in ["hunter2", "am9obj", cookie.as_str(), "\u{1b}"] {
        assert!(!log.contains(secret), "`{}` is in the log:\n{log}", secret.escape_debug());
    }
    assert!(log.contains("sign-in refused"), "{log}");
}
