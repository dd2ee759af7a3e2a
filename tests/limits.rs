//! What the listeners bear: slow, many, large, broken and hostile peers, and certificates that change.

#![cfg(test)]

mod harness;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::certificates::Certificates;
use harness::client::{Client, Request};
use harness::portcullis::{CONFIG, Portcullis, question, start};
use harness::process::Process;
use harness::stranger::{self, Chance};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a time-out");
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("set a time-out");
    stream
}

/// Connects from another address of the loopback network.
fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of loopback");
    socket.connect(&address.into()).expect("connect");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a time-out");
    stream
}

/// Reads one answer that has a `content-length`; returns its first line, empty if there is none.
fn answer(stream: &mut impl Read) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(String::new());
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let length = text.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Asks on an open connection.
fn ask(stream: &mut (impl Read + Write), host: &str) -> io::Result<String> {
    stream.write_all(&question(host, ""))?;
    stream.flush()?;
    answer(stream)
}

#[track_caller]
fn is_served(stream: &mut (impl Read + Write), because: &str) {
    let line = ask(stream, "public.example.com");
    assert!(line.as_ref().is_ok_and(|line| line == "HTTP/1.1 200 OK"), "{because}: {line:?}");
}

fn metric(server: &Portcullis, line: &str) -> u64 {
    let page = Client::http(server.metrics).send(&Request::script("GET", "metrics", "/metrics")).text();
    let value = page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{line} is missing from\n{page}"))
}

// ---- certificates ----

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects over TLS and asks once, so that a refusal of our certificate shows.
fn connect_tls(address: SocketAddr, client: &Arc<ClientConfig>) -> io::Result<(Tls, CertificateDer<'static>)> {
    let name = ServerName::try_from("auth.example.com").expect("a name");
    let connection = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut stream = StreamOwned::new(connection, connect(address));
    match ask(&mut stream, "public.example.com")?.as_str() {
        "HTTP/1.1 200 OK" => {}
        line => return Err(io::Error::other(format!("answered {line:?}"))),
    }
    let shown = stream.conn.peer_certificates().and_then(|chain| chain.first()).expect("a certificate").clone();
    Ok((stream, shown.into_owned()))
}

fn tls(folder: &Path, more: &str) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    format!(", tls: {{certificate: '{}', key: '{}'{more}}}", path("chain.pem"), path("key.pem"))
}

#[test]
fn a42_a_gate_with_client_certificates_hears_nobody_without_one() {
    let (ours, theirs) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let known = Certificates::new(ours.path());
    let stranger = Certificates::new(theirs.path());
    let more = format!(", client_certificates: ['{}']", known.authority.display());
    // Loopback is not trusted here: who is believed is believed for the certificate.
    let server = start(&format!("{}, trusted_proxies: ['192.0.2.1']", tls(ours.path(), &more)));
    connect_tls(server.gate, &known.proxy).expect("a proxy with our certificate is served and believed");
    assert!(connect_tls(server.gate, &known.client).is_err(), "no certificate");
    let forger = {
        // Trusts our server, and shows a certificate that somebody else signed.
        let mut config = (*known.client).clone();
        config.client_auth_cert_resolver = Arc::clone(&stranger.proxy.client_auth_cert_resolver);
        Arc::new(config)
    };
    assert!(connect_tls(server.gate, &forger).is_err(), "a certificate of another authority");
    connect_tls(server.gate, &known.proxy).expect("still");
}

#[test]
fn a123_where_clients_show_certificates_each_connection_shows_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = Certificates::new(folder.path());
    let more = format!(", client_certificates: ['{}']", known.authority.display());
    let strict = start(&format!("{}, trusted_proxies: ['192.0.2.1']", tls(folder.path(), &more)));
    let open = start(&tls(folder.path(), ""));
    let client = |version| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&known.authority).expect("the authority")).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).expect("a version");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.client_auth_cert_resolver = Arc::clone(&known.proxy.client_auth_cert_resolver);
        // What it is given of a session it keeps for the next connection.
        Arc::new(config)
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (server, expected) in [(&strict, HandshakeKind::Full), (&open, HandshakeKind::Resumed)] {
            let client = client(version);
            let connection = || connect_tls(server.gate, &client).expect("served").0.conn.handshake_kind();
            assert_eq!(connection(), Some(HandshakeKind::Full), "{version:?}: the first");
            assert_eq!(connection(), Some(expected), "{version:?}: the second");
        }
    }
}

#[test]
fn a101_client_certificates_that_cannot_be_checked_keep_it_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let known = Certificates::new(folder.path());
    std::fs::write(folder.path().join("empty.pem"), "").expect("write");
    std::fs::write(folder.path().join("users.yaml"), "users: {}\n").expect("write");
    #[rustfmt::skip]
    let table = [
        ("a file that is not there",     "missing.pem".to_owned()),
        ("a file without certificates",  "empty.pem".to_owned()),
        ("a key instead of one",         known.key.display().to_string()),
    ];
    for (because, file) in table {
        let more = tls(folder.path(), &format!(", client_certificates: ['{}', '{file}']", known.authority.display()));
        let config = CONFIG.replace("{more}", &more);
        let config =
            ["{gate}", "{portal}", "{metrics}"].iter().fold(config, |text, name| text.replace(name, "127.0.0.1:0"));
        std::fs::write(folder.path().join("portcullis.yaml"), config).expect("write the configuration");
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["serve", "--config", "portcullis.yaml"])
            .current_dir(folder.path())
            .env_clear()
            .output()
            .expect("run portcullis");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{because}: {said}");
        assert!(said.contains(file.as_str()) && said.contains("PEM"), "{because}: {said}");
    }
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Certificates::new(folder.path());
    let mut server = start(&tls(folder.path(), ""));
    let (mut open, old) = connect_tls(server.gate, &first.client).expect("served");

    let second = Certificates::new(folder.path());
    let gate = server.gate;
    let new =
        server.wait_for("the new certificate", |_| connect_tls(gate, &second.client).ok().map(|(_, shown)| shown));
    assert_ne!(new, old);
    is_served(&mut open, "the connection from before");

    std::fs::write(folder.path().join("chain.pem"), "no certificate\n").expect("write");
    server.wait_for("a line about it", |process| process.output().contains("the old one stays").then_some(()));
    let (_, shown) = connect_tls(server.gate, &second.client).expect("served");
    assert_eq!(shown, new, "a file that can't be used changes nothing");
    is_served(&mut open, "the connection from before");
}

// ---- time ----

#[test]
fn a102_a_head_that_drips_is_cut_and_idle_connections_are_not() {
    let server = start(", timeouts: {read: 400ms, idle: 1m}");
    let mut idle = connect(server.gate);
    is_served(&mut idle, "at first");
    let mut other = connect(server.gate);
    is_served(&mut other, "at first");
    for (because, stream) in [("a connection's first head", connect(server.gate)), ("a later one", other)] {
        let mut stream = stream;
        stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set a time-out");
        let begun = Instant::now();
        let cut =
            question("public.example.com", &format!("X-Filler: {}", "a".repeat(100_000))).into_iter().any(|byte| {
                // The server says nothing while it waits: the read is what passes the time between two bytes.
                let sent = stream.write_all(&[byte]);
                let heard = stream.read(&mut [0; 64]);
                sent.is_err() || heard.is_ok_and(|n| n == 0)
            });
        assert!(cut, "{because}");
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(400), "{because}: cut after {took:?}");
        assert!(took < Duration::from_secs(10), "{because}: cut after {took:?}");
    }
    is_served(&mut idle, "idle for longer than a head may take");
    assert!(metric(&server, r#"portcullis_connections_cut_total{listener="gate"}"#) >= 2);
}

#[test]
fn a_connection_without_a_question_is_closed_in_the_end() {
    let server = start(", timeouts: {idle: 300ms}");
    let mut stream = connect(server.gate);
    is_served(&mut stream, "at first");
    assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
}

#[test]
fn a102_answers_that_nobody_reads_have_an_end() {
    let server = start(", timeouts: {write: 300ms}");
    let mut stream = connect(server.gate);
    let questions = question("app.example.com", "").repeat(100);
    // The answers fill every buffer on the way, and then the questions do.
    let error = (0..10_000).find_map(|_| stream.write_all(&questions).err()).expect("it ends");
    assert!(
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
        "cut, and not our own time-out: {error}"
    );
    is_served(&mut connect(server.gate), "others");
}

#[test]
fn a102_a_body_that_does_not_come_is_answered_408() {
    let server = start(", timeouts: {read: 300ms}");
    let mut stream = connect(server.portal);
    stream
        .write_all(
            b"POST /api/firstfactor HTTP/1.1\r\nHost: auth.example.com\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n{",
        )
        .expect("ask");
    assert_eq!(answer(&mut stream).expect("an answer"), "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a127_a_body_is_read_as_it_was_sent_wherever_it_is_cut() {
    // The digest of `a b#c`: behind a chunk's length it looks like a request line with a fragment.
    const DIGEST: &str = "'$5$0123456789abcdef$UNL7S/q/0FNcT1iGH8aW0B3Cue1amG6nqsv47oKO9w/'";
    let users = format!("users: {{john: {{displayname: John, password: {DIGEST}}}}}\n");
    let server = Portcullis::start(&CONFIG.replace("{more}", ""), &[("users.yaml", &users)]);
    let body = br#"{"username":"john","password":"a b#c"}"#;
    let head = "POST /api/firstfactor HTTP/1.1\r\nHost: auth.example.com\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut stream = connect(server.portal);
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    for at in 28..body.len() {
        let (first, second) = body.split_at(at);
        let request = [head.as_bytes(), &chunk(first), &chunk(second), b"0\r\n\r\n"].concat();
        stream.write_all(&request).expect("sign in");
        assert_eq!(answer(&mut stream).expect("an answer"), "HTTP/1.1 200 OK", "cut at {at}");
    }
}

// ---- size and number ----

#[test]
fn a102_a_head_may_be_as_long_as_is_configured_and_no_longer() {
    for (more, limit) in [("", 16_384), (", buffers: {read: 2048}", 2_048), (", buffers: {read: 20000}", 20_000)] {
        let server = start(more);
        for (length, expected) in
            [(limit, "HTTP/1.1 200 OK"), (limit + 1, "HTTP/1.1 431 Request Header Fields Too Large")]
        {
            let missing = length - question("public.example.com", "X-Filler: \r\n").len();
            let head = question("public.example.com", &format!("X-Filler: {}\r\n", "a".repeat(missing)));
            assert_eq!(head.len(), length);
            // All at once, and in two parts.
            for at in [length, length / 2] {
                let mut stream = connect(server.gate);
                stream.write_all(&head[..at]).expect("send");
                let _ = stream.write_all(&head[at..]);
                assert_eq!(answer(&mut stream).expect("an answer"), expected, "{length} bytes of {limit}");
            }
        }
    }
}

#[test]
fn a89_strangers_do_not_keep_proxies_out() {
    let server = start(", max_connections: 3, trusted_proxies: ['127.0.0.2'], timeouts: {read: 1m}");
    // Without trust for it, 127.0.0.1 is a stranger.
    let strangers: Vec<_> = (0..60).map(|_| connect(server.gate)).collect();
    let mut proxies: Vec<_> = (0..3).map(|_| connect_from([127, 0, 0, 2], server.gate)).collect();
    for proxy in &mut proxies {
        is_served(proxy, "a proxy");
    }
    let turned_away = metric(&server, r#"portcullis_connections_turned_away_total{listener="gate"}"#);
    assert_eq!(turned_away, 60 - 16);
    assert_eq!(metric(&server, r#"portcullis_connections{listener="gate"}"#), 16 + 3);

    let mut further = connect_from([127, 0, 0, 2], server.gate);
    further.write_all(&question("public.example.com", "")).expect("ask");
    further.set_read_timeout(Some(Duration::from_millis(100))).expect("set a time-out");
    assert!(answer(&mut further).is_err(), "the fourth proxy waits for a place");
    drop(proxies);
    further.set_read_timeout(Some(Duration::from_secs(20))).expect("set a time-out");
    assert_eq!(answer(&mut further).expect("an answer"), "HTTP/1.1 200 OK", "and gets it when one is free");
    drop(strangers);
}

/// A server that is told by `ulimit` how many descriptors it may open, the address of its gate and that of its portal.
fn start_under(ulimit: &str, more: &str) -> (tempfile::TempDir, Process, SocketAddr, SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("users.yaml"), "users: {}\n").expect("write");
    let config = CONFIG.replace("{more}", more);
    let config =
        ["{gate}", "{portal}", "{metrics}"].iter().fold(config, |text, name| text.replace(name, "127.0.0.1:0"));
    std::fs::write(folder.path().join("portcullis.yaml"), config).expect("write the configuration");
    let mut command = Command::new("sh");
    let script = format!("{ulimit}; exec \"$0\" serve --config portcullis.yaml");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")]).current_dir(folder.path()).env_clear();
    let mut server = Process::start("portcullis", &mut command, folder.path().join("log"));
    let (gate, portal) = server.wait_for("its ready line", |process| {
        let output = process.output();
        let (line, _) = output.split_once("ready gate=")?.1.split_once('\n')?;
        let (gate, rest) = line.split_once(" portal=")?;
        Some((gate.parse().ok()?, rest.split_whitespace().next()?.parse().ok()?))
    });
    (folder, server, gate, portal)
}

#[test]
fn a120_slow_clients_of_the_portal_leave_the_gate_its_descriptors() {
    // A hard limit that is low, as containers and units may have it, and what that leaves the portal.
    let (_folder, mut server, gate, portal) = start_under("ulimit -n 128", ", timeouts: {read: 1m}");
    let half = b"POST /api/firstfactor HTTP/1.1\r\nHost: auth.example.com\r\nContent-Type: application/json\r\nContent-Length: 64\r\n\r\n{";
    let slow: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = connect(portal);
            stream.write_all(half).expect("send half of it");
            stream
        })
        .collect();
    let mut open = 0;
    server.wait_for("the portal to take all that it can", |process| {
        let before = open;
        open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("its descriptors").count();
        (open > 25 && open == before).then_some(())
    });
    let mut fresh: Vec<_> = (0..40).map(|_| connect(gate)).collect();
    for stream in &mut fresh {
        is_served(stream, "a proxy, while the portal is full");
    }
    drop(slow);
    let log = server.output();
    for words in ["limit=128", "LimitNOFILE=", "ulimit -n", "ulimits", "server.max_connections"] {
        assert!(log.contains(words), "`{words}` is not in\n{log}");
    }
}

#[test]
fn a120_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let (_folder, server, ..) = start_under("ulimit -S -n 64; ulimit -H -n 4096", ", max_connections: 100");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let numbers: Vec<&str> = line.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, ["4096", "4096"], "soft and hard: {line}");
    assert!(!server.output().contains("LimitNOFILE="), "all fits: {}", server.output());
}

#[test]
fn a102_out_of_descriptors_those_who_are_connected_are_served() {
    let (_folder, mut server, gate, _) = start_under("ulimit -n 4096", ", max_connections: 1000");
    let mut open = connect(gate);
    is_served(&mut open, "at first");
    // Less than it counted on when it started.
    let pid = server.id().to_string();
    let lowered = Command::new("prlimit").args(["--pid", &pid, "--nofile=64:64"]).status().expect("run prlimit");
    assert!(lowered.success());
    let crowd: Vec<_> = (0..100).map(|_| connect(gate)).collect();
    server.wait_for("a word about it", |process| {
        process.output().contains("connections can't be accepted").then_some(())
    });
    for _ in 0..100 {
        is_served(&mut open, "meanwhile");
    }
    drop(crowd);
    is_served(&mut connect(gate), "afterwards");
    let log = server.output();
    assert!(log.matches("can't be accepted").count() < 20, "it says so now and then: {log}");
}

// ---- HTTP/2 ----

const HEADERS: u8 = 1;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `GET /api/health`, or a `POST` to the sign-in, as a header block without compression (RFC 7541 section 6.2.2).
fn block(method: &str, path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [(":method", method), (":scheme", "http"), (":authority", "auth.example.com"), (":path", path)]
    {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Resident memory of the server in KiB.
fn resident(server: &Portcullis) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn a102_http2_floods_end_their_own_connection_at_most() {
    let get = block("GET", "/api/health");
    let post = block("POST", "/api/firstfactor");
    let stream_of = |n: u32| 2 * n + 1;
    #[rustfmt::skip]
    let floods: [(&str, bool, Box<dyn Fn(u32) -> Vec<u8>>); 7] = [
        // what                               ends it  the frames
        ("rapid reset", true, Box::new(|n| {
            [frame(HEADERS, END_STREAM | END_HEADERS, stream_of(n), &get), frame(RST_STREAM, 0, stream_of(n), &[0, 0, 0, 8])].concat()
        })),
        ("resets provoked by window updates", true, Box::new(|n| {
            [frame(HEADERS, END_HEADERS, stream_of(n), &post), frame(WINDOW_UPDATE, 0, stream_of(n), &[0, 0, 0, 0])].concat()
        })),
        ("CONTINUATION without end", true, Box::new(|n| {
            let field = [&[0, 1, b'x', 100][..], &[b'a'; 100]].concat();
            frame(if n == 0 { HEADERS } else { CONTINUATION }, 0, 1, if n == 0 { &get } else { &field })
        })),
        ("empty CONTINUATION", true, Box::new(|n| {
            frame(if n == 0 { HEADERS } else { CONTINUATION }, 0, 1, if n == 0 { &get } else { &[] })
        })),
        ("empty DATA", true, Box::new(|n| {
            if n == 0 { frame(HEADERS, END_HEADERS, 1, &post) } else { frame(DATA, 0, 1, &[]) }
        })),
        ("SETTINGS", false, Box::new(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255]))),
        ("PING", false, Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
    ];
    let server = start(", timeouts: {read: 2s, write: 1s}, grpc: {address: 'tcp://{grpc}'}");
    let before = resident(&server);
    for (name, ends, flood) in &floods {
        for (listener, address) in [("gate", server.gate), ("portal", server.portal), ("gRPC", server.grpc)] {
            let mut stream = connect(address);
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("send");
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).expect("send");
            // Nothing is read meanwhile; a server that is done with us has us fail to write.
            let sent = (0..20_000).take_while(|&n| stream.write_all(&flood(n)).is_ok()).count();
            is_served(&mut connect(server.gate), name);
            if *ends {
                let end = stream.read_to_end(&mut Vec::new());
                let open = end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
                assert!(!open, "{name} at the {listener}: {sent} frames were taken, and the connection is open");
            }
        }
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 16 * 1_024, "{grown} KiB more than before");
}

/// Reads one frame: its kind, its stream and its payload.
fn read_frame(stream: &mut impl Read) -> io::Result<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload)?;
    Ok((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

#[test]
fn a122_the_portal_takes_few_streams_and_little_of_each() {
    let server = start(", timeouts: {read: 1m}");
    let mut stream = connect(server.portal);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("send");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).expect("send");
    let (kind, _, settings) = read_frame(&mut stream).expect("its settings");
    assert_eq!(kind, SETTINGS);
    let setting = |wanted: u16| {
        let mut settings = settings.chunks(6);
        settings
            .find_map(|at| at.strip_prefix(&wanted.to_be_bytes()))
            .map(|value| u32::from_be_bytes([value[0], value[1], value[2], value[3]]))
    };
    assert_eq!(setting(3), Some(32), "streams (SETTINGS_MAX_CONCURRENT_STREAMS)");
    assert_eq!(setting(4), Some(16_384), "bytes of each (SETTINGS_INITIAL_WINDOW_SIZE)");
    let kind = [&[0, 12][..], b"content-type", &[16], b"application/json"].concat();
    let post = [block("POST", "/api/firstfactor"), kind].concat(); // and the body is waited for
    for n in 0..40 {
        stream.write_all(&frame(HEADERS, END_HEADERS, 2 * n + 1, &post)).expect("send");
    }
    let refused = std::iter::from_fn(|| read_frame(&mut stream).ok())
        .filter(|(kind, ..)| *kind == RST_STREAM)
        .map(|(_, stream, reason)| (stream, reason))
        .take(8)
        .collect::<Vec<_>>();
    assert_eq!(refused, (32..40).map(|n| (2 * n + 1, vec![0, 0, 0, 7])).collect::<Vec<_>>(), "REFUSED_STREAM");
}

#[test]
fn a122_one_address_does_not_fill_the_room_for_bodies() {
    let server = start(", timeouts: {read: 1m}");
    let head = "POST /api/firstfactor HTTP/1.1\r\nHost: auth.example.com\r\nContent-Type: application/json\r\nContent-Length: ";
    let unfinished = [format!("{head}16384\r\n\r\n").as_bytes(), &[b' '; 16_383]].concat();
    // A quarter of 8 MiB is 128 bodies of 16 KiB; what is beyond is answered at once.
    let mut slow: Vec<_> = (0..150)
        .map(|_| {
            let mut stream = connect_from([127, 0, 0, 2], server.portal);
            stream.write_all(&unfinished).expect("send");
            stream
        })
        .collect();
    for stream in &slow {
        stream.set_nonblocking(true).expect("do not wait");
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut refused = 0;
    while refused < 150 - 128 {
        assert!(Instant::now() < deadline, "only {refused} were refused: more than a quarter was taken");
        slow.retain_mut(|stream| {
            let mut text = [0; 1024];
            let Ok(length) = stream.read(&mut text) else { return true };
            let text = String::from_utf8_lossy(&text[..length]);
            assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("\r\nretry-after: "), "{text}");
            refused += 1;
            false
        });
    }
    let body = r#"{"username":"john","password":"password"}"#;
    let mut other = connect(server.portal);
    other.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).expect("ask");
    assert_eq!(answer(&mut other).expect("an answer"), "HTTP/1.1 200 OK", "from another address");
    drop(slow);
}

// ---- strangers ----

#[test]
fn a103_strangers_leave_nothing_behind() {
    let server = start("");
    let flood = |seed: u64, count: usize| {
        let mut chance = Chance(seed);
        let mut stream = connect(server.gate);
        let mut told = BTreeSet::new();
        for _ in 0..count / 20 {
            let questions: Vec<u8> = (0..20).flat_map(|_| stranger::question(&mut chance)).collect();
            stream.write_all(&questions).expect("ask");
            for _ in 0..20 {
                let line = answer(&mut stream).expect("an answer");
                assert!(!line.is_empty() && !line.contains(" 200 "), "{line}");
                told.insert(line.split(' ').nth(1).map(str::to_owned).unwrap_or_default());
            }
        }
        told
    };
    let series = || {
        let page = Client::http(server.metrics).send(&Request::script("GET", "metrics", "/metrics")).text();
        page.lines().filter(|line| !line.starts_with('#')).count()
    };
    // Some are asked to sign in, some may not pass, some ask about no host of ours, some find no endpoint.
    assert_eq!(flood(1, 2_000).iter().map(String::as_str).collect::<Vec<_>>(), ["400", "401", "403", "404"]);
    let (memory, known) = (resident(&server), series());
    flood(2, 20_000);
    let grown = resident(&server).saturating_sub(memory);
    assert!(grown < 4 * 1_024, "{grown} KiB more than before");
    assert!(series() <= known + 2, "{} series, {known} before", series());
    assert!(metric(&server, "portcullis_sessions") == 0, "nobody signed in");
}

#[test]
fn a_connection_that_is_closed_halfway_is_forgotten() {
    let server = start("");
    for n in 0..300 {
        let mut stream = connect(server.gate);
        stream.write_all(&question("public.example.com", "")[..n % 100]).expect("send");
        let _ = stream.shutdown(Shutdown::Both);
    }
    let mut stream = connect(server.gate);
    is_served(&mut stream, "afterwards");
    let deadline = Instant::now() + Duration::from_secs(20);
    while metric(&server, r#"portcullis_connections{listener="gate"}"#) != 1 {
        assert!(Instant::now() < deadline, "the connections are still counted");
    }
}
