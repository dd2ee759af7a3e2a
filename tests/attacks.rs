//! The attack catalogue against the real process, over raw sockets: an HTTP library would tidy what is sent here.
//!
//! What each entry is answered stands in `docs/attacks.md`. The numbers are that page's.

#![cfg(test)]

mod harness;

use std::fmt::Write as _;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use harness::client::{Client, Request};
use harness::portcullis::Portcullis;
use harness::redis::{RedisServer, Transport};

/// Nearly everything is open, so that only the refusal of a malformed question keeps it from a 200.
const CONFIG: &str = "
server: {address: 'tcp://{gate}/'{more}}
portal: {address: 'tcp://{portal}/'}
log: {level: debug, format: {format}}
telemetry: {metrics: {enabled: true, address: 'tcp://{metrics}/metrics'}}
authentication_backend: {file: {path: users.yaml}}
session:
  {store}
  cookies: [{domain: example.com, authelia_url: 'https://auth.example.com/'}]
access_control:
  default_policy: deny
  rules:
    - {domain: public.example.com, policy: bypass}
    - {domain: lan.example.com, networks: ['192.0.2.0/24'], policy: bypass}
    - {domain: post.example.com, methods: [POST], policy: bypass}
    - {domain: preflight.example.com, methods: [OPTIONS], policy: bypass}
    - {domain: evil.example.com, resources: ['^/(a+)+$', '^/(a|aa)+$', '^/(.*a){20}$'], policy: bypass}
    - {domain: app.example.com, policy: one_factor}
";

/// The password is `password`, and of the third `pass #word`; the hashes are as cheap as it gets.
const USERS: &str = "
users:
  john: {displayname: John, groups: [dev], password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'}
  mary: {displayname: Mary, groups: [ops], password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'}
  hash: {displayname: Hash, password: '$5$rounds=1000$0123456789abcdef$/bV10CIbqDVCN8/ccWb.LhTGLGQyPnm0xOnGtCs9niC'}
";

fn start() -> Portcullis {
    start_with("", "name: authelia_session", "text")
}

fn start_with(more: &str, store: &str, format: &str) -> Portcullis {
    let config = CONFIG.replace("{more}", more).replace("{store}", store).replace("{format}", format);
    Portcullis::start(&config, &[("users.yaml", USERS)])
}

/// Sends `bytes`, which should lead to the end of the connection; returns what comes until then.
fn tell(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    // A server that refuses early may have closed before all is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    // A reset is an end as well; running into our own deadline is none.
    let left_open = stream.read_to_end(&mut answer).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(!left_open, "the connection is left open behind {answer:?}");
    answer
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("send at once");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set a deadline");
    stream
}

/// Reads one answer with its body and leaves the connection open.
fn answer(stream: &mut impl Read) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("read") == 1 {
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    let length = value(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("read the body");
    head + &String::from_utf8_lossy(&body)
}

/// The status of the first answer; 0 if the connection was closed without one.
fn status(answer: &str) -> u16 {
    answer.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or(0)
}

fn value<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    answer.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[track_caller]
fn refused(answer: &str, because: &str) {
    assert!(!(200..300).contains(&status(answer)), "{because}: {answer}");
}

/// A question, in bytes: the request line and the header lines, `Connection: close` among them.
fn question(line: &[u8], fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = [line, b" HTTP/1.1\r\n"].concat();
    for (name, value) in fields {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"Connection: close\r\n\r\n");
    bytes
}

const FORWARD: &[u8] = b"GET /api/authz/forward-auth";
const NGINX: &[u8] = b"GET /api/authz/auth-request";

fn forward<'a>(host: &'a str, target: &'a str) -> Vec<(&'static str, &'a [u8])> {
    vec![
        ("Host", b"gate"),
        ("X-Forwarded-Method", b"GET"),
        ("X-Forwarded-Proto", b"https"),
        ("X-Forwarded-Host", host.as_bytes()),
        ("X-Forwarded-Uri", target.as_bytes()),
    ]
}

fn ask(server: &Portcullis, host: &str, target: &str, more: &[(&str, &[u8])]) -> String {
    tell(server.gate, &question(FORWARD, &[&forward(host, target), more].concat()))
}

/// A question of each dialect about public.example.com, every field of which can be replaced.
fn dialects() -> [(Vec<u8>, Vec<(&'static str, Vec<u8>)>); 3] {
    let owned = |fields: &[(&'static str, &[u8])]| fields.iter().map(|(name, value)| (*name, value.to_vec())).collect();
    [
        (FORWARD.to_vec(), owned(&forward("public.example.com", "/a/b"))),
        (
            NGINX.to_vec(),
            owned(&[
                ("Host", b"gate"),
                ("X-Original-Method", b"GET"),
                ("X-Original-URL", b"https://public.example.com/a/b"),
            ]),
        ),
        (
            b"GET /api/authz/ext-authz//a/b".to_vec(),
            owned(&[("Host", b"public.example.com"), ("X-Forwarded-Proto", b"https")]),
        ),
    ]
}

fn put(line: &[u8], fields: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    let fields: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
    question(line, &fields)
}

/// Signs somebody in over the API: the session cookie.
fn sign_in(server: &Portcullis, user: &str) -> String {
    let body = format!(r#"{{"username":"{user}","password":"password","keepMeLoggedIn":false}}"#);
    let request = Request::script("POST", "auth.example.com", "/api/firstfactor")
        .header("Origin", "https://auth.example.com")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "auth.example.com")
        .body("application/json", body.as_bytes());
    let answer = Client::http(server.portal).send(&request);
    assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
    let cookie = answer.header("set-cookie").expect("a cookie").split(';').next().unwrap_or_default();
    cookie.to_owned()
}

/// Random enough, and the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(sides).unwrap_or(1)).unwrap_or(0)
    }
}

// One HTTP/2 exchange by hand: a library would refuse to send most of it.

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK (RFC 7541, section 6.2.2): literals without indexing, in plain text.
fn fields(of: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in of {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Whether a request with these fields is answered 200 over HTTP/2 without TLS.
fn passes_over_http2(address: SocketAddr, of: &[(&str, &str)]) -> bool {
    passes_with_flags(address, of, 0x5) // END_STREAM and END_HEADERS
}

fn passes_with_flags(address: SocketAddr, of: &[(&str, &str)], flags: u8) -> bool {
    let mut stream = connect(address);
    let sent = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, flags, 1, &fields(of))].concat();
    stream.write_all(&sent).expect("ask");
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return false;
        }
        let mut payload = vec![0; usize::from(head[1]) * 256 + usize::from(head[2])];
        if stream.read_exact(&mut payload).is_err() {
            return false;
        }
        match head[3] {
            // HEADERS: 0x88 is `:status: 200`, possibly after a change of the table's size.
            1 => return payload.iter().find(|&&byte| byte & 0xe0 != 0x20) == Some(&0x88),
            // RST_STREAM, GOAWAY.
            3 | 7 => return false,
            _ => {}
        }
    }
}

/// A question of one of the [`dialects`], over HTTP/2.
fn over_http2(path: &str, fields: &[(&'static str, Vec<u8>)]) -> Vec<(String, String)> {
    let mut of: Vec<_> =
        http2(path, &[]).iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in fields {
        let name = if *name == "Host" { ":authority".to_owned() } else { name.to_ascii_lowercase() };
        of.push((name, String::from_utf8_lossy(value).into_owned()));
    }
    // Pseudo-header fields come first.
    of.sort_by_key(|(name, _)| !name.starts_with(':'));
    of
}

fn passes(address: SocketAddr, of: &[(String, String)]) -> bool {
    let of: Vec<_> = of.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    passes_over_http2(address, &of)
}

fn http2<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[(":method", "GET"), (":scheme", "http"), (":path", path)], more].concat()
}

#[test]
fn a14_every_control_byte_in_every_field_is_refused() {
    let server = start();
    for (line, fields) in dialects() {
        assert_eq!(status(&tell(server.gate, &put(&line, &fields))), 200, "without it");
        for byte in (0..=0x1f).chain([0x7f]) {
            let spoilt = |text: &[u8], at: usize| [&text[..at], &[byte], &text[at..]].concat();
            // Behind the first letter of the method, and in the middle of the path.
            for at in [1, line.len() - 1] {
                refused(
                    &tell(server.gate, &put(&spoilt(&line, at), &fields)),
                    &format!("{byte:#x} in the request line"),
                );
            }
            for n in 1..fields.len() {
                let mut fields = fields.clone();
                fields[n].1 = spoilt(&fields[n].1, 2);
                refused(&tell(server.gate, &put(&line, &fields)), &format!("{byte:#x} in {}", fields[n].0));
            }
            let escape = format!("%{byte:02x}");
            let escaped = |text: &[u8]| [text, escape.as_bytes()].concat();
            refused(&ask(&server, "public.example.com", &format!("/a{escape}b"), &[]), &escape);
            refused(&ask(&server, &format!("public{escape}.example.com"), "/", &[]), &escape);
            if let Some(last) = fields.last()
                && last.0 == "X-Original-URL"
            {
                let mut fields = fields.clone();
                let url = escaped(&last.1);
                fields.last_mut().expect("a field").1 = url;
                refused(&tell(server.gate, &put(&line, &fields)), &escape);
            } else if fields.len() == 2 {
                refused(&tell(server.gate, &put(&escaped(&line), &fields)), &escape);
            }
            // Over HTTP/2, where no line ends: NUL, CR and LF are bytes like any other to its framing.
            let path = String::from_utf8_lossy(&line[4..]).into_owned();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            for n in 1..fields.len() {
                let (name, value) = (fields[n].0.to_ascii_lowercase(), text(&spoilt(&fields[n].1, 2)));
                let mut of = over_http2(&path, &fields);
                of.retain(|(known, _)| *known != name);
                of.push((name, value));
                assert!(!passes(server.gate, &of), "{byte:#x} in {} over HTTP/2", fields[n].0);
            }
        }
    }
}

#[test]
fn a15_what_is_malformed_is_never_answered_with_a_yes() {
    let server = start();
    let percents = "%".repeat(20_000);
    for url in [
        "",
        " ",
        "/",
        "https:",
        "https:/",
        "https://",
        "https:///",
        "http:///",
        "https://public.example.com/%zz",
        "https://public.example.com/%",
        &format!("https://public.example.com/{percents}"),
        &format!("https://public.example.com/{}", "%".repeat(10_000)),
        "https://public.example.com:99999/",
        "https://[::1/",
        "https://public.example.com https://public.example.com",
        "\"https://public.example.com/\"",
        "<https://public.example.com/>",
        "https:\\\\public.example.com\\",
    ] {
        let asked =
            question(NGINX, &[("Host", b"gate"), ("X-Original-Method", b"GET"), ("X-Original-URL", url.as_bytes())]);
        assert!(matches!(status(&tell(server.gate, &asked)), 400 | 431), "{}", url.get(..60).unwrap_or(url));
    }
}

/// A15, A16: nobody has signed in and only public.example.com is open, so a yes must be about that host.
#[test]
fn a15_a16_no_random_bytes_are_answered_with_a_yes() {
    let server = start();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let words: [&[u8]; 20] = [
        b"public.example.com",
        b"app.example.com",
        b"https://",
        b"/",
        b"//",
        b"\\",
        b"@",
        b"#",
        b"?",
        b"%",
        b"%2f",
        b"%00",
        b",",
        b" ",
        b".",
        b"..",
        b"\xc0\xae",
        b"\x80",
        b"\xff",
        b"\xe2\x84\xaa",
    ];
    for round in 0..1_500 {
        let (line, mut fields) = dialects()[dice.throw(3)].clone();
        let at = 1 + dice.throw(fields.len() - 1);
        let mut value = Vec::new();
        for _ in 0..1 + dice.throw(5) {
            value.extend_from_slice(words[dice.throw(words.len())]);
        }
        // Not the words alone, which would name the open host.
        value.extend_from_slice(
            [b"x\x80y", b"@".as_slice(), b"\xc0\xaf", b" x", b"\\", b"%c0%ae", b"%80"][dice.throw(7)],
        );
        fields[at].1 = value.clone();
        if fields[at].0 == "X-Forwarded-Uri" {
            fields[3].1 = b"app.example.com".to_vec();
        }
        if value.starts_with(b"https://public.example.com/") {
            continue;
        }
        let got = tell(server.gate, &put(&line, &fields));
        let shown = String::from_utf8_lossy(&value).into_owned();
        assert_ne!(status(&got), 500, "round {round}: {} is {shown:?}", fields[at].0);
        refused(&got, &format!("round {round}: {} is {shown:?}", fields[at].0));
    }
    assert_eq!(status(&ask(&server, "public.example.com", "/", &[])), 200, "still there");
}

#[test]
fn a08_a17_a_target_is_a_path_and_nothing_else() {
    let server = start();
    for target in [
        "http://public.example.com/",
        "https://public.example.com/",
        "@public.example.com/",
        ".public.example.com/",
        "admin",
        "*",
        "/a#b",
        "#",
        "?a=b",
    ] {
        assert_eq!(status(&ask(&server, "public.example.com", target, &[])), 400, "{target}");
    }
    let mut whole_server = forward("public.example.com", "*");
    whole_server[1].1 = b"OPTIONS";
    assert_eq!(status(&tell(server.gate, &question(FORWARD, &whole_server))), 200, "`*` is for OPTIONS");
    #[rustfmt::skip]
    let table = [
        ("a17: absolute, another Host",   "GET http://public.example.com/api/authz/ext-authz//a", "app.example.com"),
        ("a17: the other way round",      "GET http://app.example.com/api/authz/ext-authz//a",    "public.example.com"),
        ("a17: authority form",           "CONNECT public.example.com:443",                       "public.example.com"),
        ("a17: no slash",                 "GET api/authz/ext-authz//a",                           "public.example.com"),
        ("a08: a fragment",               "GET /api/authz/ext-authz//a#/b",                       "public.example.com"),
        ("a08: that climbs",              "GET /api/authz/ext-authz//a/#/../../b",                "public.example.com"),
        ("a08: behind the query",         "GET /api/authz/ext-authz//a?b#c",                      "public.example.com"),
    ];
    for (because, line, host) in table {
        let asked = question(line.as_bytes(), &[("Host", host.as_bytes()), ("X-Forwarded-Proto", b"https")]);
        let got = status(&tell(server.gate, &asked));
        assert!(matches!(got, 400 | 404), "{because}: {got}");
    }
    // The second request of a connection is looked at like the first.
    let mut stream = connect(server.gate);
    for (line, expected) in [("GET /api/authz/ext-authz//a", 200), ("GET /api/authz/ext-authz//a#b", 400)] {
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: public.example.com\r\nCookie: a=#b\r\nX-Forwarded-Proto: https\r\n\r\n"
        )
        .expect("ask");
        assert_eq!(status(&answer(&mut stream)), expected, "{line}");
    }
}

#[test]
fn a17_a31_a57_http2_names_one_host_and_a_path() {
    let server = start();
    let path = "/api/authz/ext-authz//a";
    let proto = ("x-forwarded-proto", "https");
    #[rustfmt::skip]
    let table = [
        ("as it should be",         http2(path, &[(":authority", "public.example.com"), proto]),                              true),
        ("a31: the same host",      http2(path, &[(":authority", "public.example.com"), proto, ("host", "public.example.com")]), true),
        ("a31: another one",        http2(path, &[(":authority", "public.example.com"), proto, ("host", "app.example.com")]), false),
        ("a31: the other way",      http2(path, &[(":authority", "app.example.com"), proto, ("host", "public.example.com")]), false),
        ("a31: two hosts",          http2(path, &[(":authority", "public.example.com"), proto, ("host", "public.example.com"), ("host", "app.example.com")]), false),
        ("a31: two authorities",    http2(path, &[(":authority", "public.example.com"), (":authority", "app.example.com"), proto]), false),
        ("a31: an empty one",       http2(path, &[(":authority", "public.example.com"), proto, ("host", "")]),                false),
        ("a31: none",               http2(path, &[proto]),                                                                    false),
        ("a57: no slash",           http2("api/authz/ext-authz//a", &[(":authority", "public.example.com"), proto]),          false),
        ("a57: a service's name",   http2("admin.Service/Delete", &[(":authority", "public.example.com"), proto]),            false),
        ("a57: nothing",            http2("", &[(":authority", "public.example.com"), proto]),                                false),
        ("a17: a whole URL",        http2("http://public.example.com/api/authz/ext-authz//a", &[(":authority", "public.example.com"), proto]), false),
        ("a fact after the fields", http2(path, &[(":authority", "public.example.com"), proto, (":path", "/x")]),             false),
        ("letters in a name",       http2(path, &[(":authority", "public.example.com"), ("X-Forwarded-Proto", "https")]),     false),
        ("a line break",            http2(path, &[(":authority", "public.example.com"), proto, ("x-a", "b\r\nc: d")]),        false),
        ("connection fields",       http2(path, &[(":authority", "public.example.com"), proto, ("transfer-encoding", "chunked")]), false),
    ];
    for (because, of, passes) in table {
        assert_eq!(passes_over_http2(server.gate, &of), passes, "{because}");
    }
}

#[test]
fn a24_a_fact_given_twice_is_refused_in_both_orders() {
    let server = start();
    for (line, fields) in dialects() {
        let path = String::from_utf8_lossy(&line[4..]).into_owned();
        assert!(passes(server.gate, &over_http2(&path, &fields)), "{path} over HTTP/2, each given once");
        for n in 0..fields.len() {
            let (name, good) = fields[n].clone();
            // The proxy's own host is no fact to forward-auth and auth-request.
            if name == "Host" && fields.len() > 2 {
                continue;
            }
            let other: &[u8] = if name.ends_with("URL") { b"https://app.example.com/" } else { b"app.example.com" };
            let values =
                [vec![&*good, other], vec![other, &*good], vec![&*good, &*good], vec![&*good, b""], vec![b"", &*good]];
            for twice in values {
                let mut fields = fields.clone();
                fields.remove(n);
                fields.extend(twice.iter().map(|value| (name, value.to_vec())));
                refused(&tell(server.gate, &put(&line, &fields)), &format!("two of {name}: {twice:?}"));

                let of = over_http2(&path, &fields);
                assert!(!passes(server.gate, &of), "over HTTP/2, two of {name}: {twice:?}");
            }
            if name.ends_with("Uri") || name.ends_with("URL") {
                continue; // a path may hold a comma
            }
            let joined = [&good, b", ".as_slice(), other].concat();
            let mut fields = fields.clone();
            fields[n].1 = joined;
            refused(&tell(server.gate, &put(&line, &fields)), &format!("two joined in {name}"));
        }
    }
}

/// A scheme that is not TLS is refused with a session too, and so is whatever is none.
#[test]
fn a30_only_a_scheme_with_tls_is_answered_with_a_yes() {
    let server = start();
    let cookie = sign_in(&server, "john").into_bytes();
    for (line, fields) in dialects() {
        for (scheme, expected) in [
            ("https", 200),
            ("HTTPS", 200),
            ("wss", 200),
            ("http", 400),
            ("ws", 400),
            ("HTTP", 400),
            ("javascript", 400),
            ("https,http", 400),
            ("https, https", 400),
            ("https:", 400),
            ("on", 400),
        ] {
            for host in ["app.example.com", "public.example.com"] {
                let mut fields = fields.clone();
                for (_, value) in &mut fields {
                    let text = String::from_utf8_lossy(value).replace("public.example.com", host);
                    *value = match text.strip_prefix("https://") {
                        Some(rest) => format!("{scheme}://{rest}").into_bytes(),
                        None if text == "https" => scheme.as_bytes().to_vec(),
                        None => text.into_bytes(),
                    };
                }
                fields.push(("Cookie", cookie.clone()));
                let got = tell(server.gate, &put(&line, &fields));
                assert_eq!(status(&got), expected, "{scheme} at {host}: {got}");
                if expected != 200 {
                    assert_eq!((value(&got, "remote-user"), value(&got, "location")), (None, None), "{scheme}: {got}");
                }
            }
        }
    }
}

/// Every dialect with every header of the others, which a client may have sent through a proxy that knows only its own.
#[test]
fn a35_headers_of_another_dialect_are_not_read() {
    let server = start();
    let foreign: [(&str, &[u8]); 6] = [
        ("X-Forwarded-Method", b"POST"),
        ("X-Forwarded-Host", b"public.example.com"),
        ("X-Forwarded-Uri", b"/public"),
        ("X-Original-Method", b"POST"),
        ("X-Original-URL", b"https://public.example.com/"),
        ("X-Rewrite-URL", b"/public"),
    ];
    for (line, fields) in dialects() {
        // X-Forwarded-Proto is asked for by two of them, and is Traefik's only in the third.
        let own: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        for host in ["app.example.com", "post.example.com", "lan.example.com"] {
            let mut fields = fields.clone();
            for (_, value) in &mut fields {
                *value = String::from_utf8_lossy(value).replace("public.example.com", host).into_bytes();
            }
            let plain = status(&tell(server.gate, &put(&line, &fields)));
            assert!(matches!(plain, 401 | 403), "{host}: {plain}");
            let mut all = fields.clone();
            for (name, value) in foreign.iter().filter(|(name, _)| !own.contains(name)) {
                let mut one = fields.clone();
                one.push((*name, value.to_vec()));
                all.push((*name, value.to_vec()));
                assert_eq!(status(&tell(server.gate, &put(&line, &one))), plain, "{own:?} and {name} at {host}");
                one.rotate_right(1);
                assert_eq!(status(&tell(server.gate, &put(&line, &one))), plain, "{name} before {own:?} at {host}");
            }
            assert_eq!(status(&tell(server.gate, &put(&line, &all))), plain, "{own:?} and all others at {host}");
        }
    }
}

#[test]
fn a32_a66_a_host_that_is_none_of_ours_leads_nowhere() {
    let server = start();
    for host in
        ["evil.com", "example.com.evil.com", "evilexample.com", "example.com@evil.com", "", "127.0.0.1", "[::1]"]
    {
        let got = ask(&server, host, "/", &[("Accept", b"text/html")]);
        assert!(matches!(status(&got), 400 | 403), "{host}: {got}");
        assert_eq!(value(&got, "location"), None, "{host}");
        assert!(!got.contains("auth.example.com"), "{host}: no word about the sign-in page");
    }
}

#[test]
fn a38_prefix_and_port_change_nothing() {
    let server = start();
    let without_date =
        |got: String| got.lines().filter(|line| !line.starts_with("date")).collect::<Vec<_>>().join("\n");
    for host in ["public.example.com", "app.example.com", "evil.com"] {
        let plain = without_date(ask(&server, host, "/x?y=z", &[("Accept", b"text/html")]));
        for (name, forged) in [
            ("X-Forwarded-Prefix", "//evil.com"),
            ("X-Forwarded-Prefix", "/public"),
            ("X-Forwarded-Port", "443"),
            ("X-Forwarded-Port", "666"),
            ("X-Forwarded-Server", "evil.com"),
            ("X-Forwarded-Ssl", "on"),
            ("X-Forwarded-Scheme", "http"),
            ("X-Original-Host", "evil.com"),
            ("X-Rewrite-Url", "/evil"),
            ("X-Host", "evil.com"),
            ("Forwarded", "for=192.0.2.1;host=evil.com;proto=http"),
            ("X-Real-IP", "192.0.2.1"),
            ("True-Client-IP", "192.0.2.1"),
            ("X-Forwarded-Client-Cert", "Subject=\"CN=admin\""),
            ("X-Forwarded-Tls-Client-Cert-Info", "CN=admin"),
            ("X-Envoy-Original-Path", "/public"),
        ] {
            let got = ask(&server, host, "/x?y=z", &[("Accept", b"text/html"), (name, forged.as_bytes())]);
            assert_eq!(without_date(got), plain, "{host} with {name}: {forged}");
        }
    }
    let sign_in = |more: &str| {
        let head =
            "GET /?rd=https%3A%2F%2Fapp.example.com%2F HTTP/1.1\r\nHost: auth.example.com\r\nX-Forwarded-Proto: https";
        without_date(tell(server.portal, format!("{head}\r\nConnection: close\r\n{more}\r\n").as_bytes()))
    };
    let plain = sign_in("");
    assert_eq!(status(&plain), 200);
    for forged in ["X-Forwarded-Prefix: //evil.com\r\n", "X-Forwarded-Port: 666\r\n"] {
        assert_eq!(sign_in(forged), plain, "{forged}");
    }
}

#[test]
fn a39_a46_every_alias_of_every_name_is_refused() {
    let server = start();
    let mut tried = 0;
    for name in [
        "Remote-User",
        "Remote-Groups",
        "Remote-Name",
        "Remote-Email",
        "X-Forwarded-Method",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Uri",
        "X-Forwarded-For",
        "X-Forwarded-Prefix",
        "X-Forwarded-Port",
        "X-Original-Method",
        "X-Original-URL",
        "X-Authelia-URL",
        "X-Real-IP",
        "Session-Username",
    ] {
        let parts: Vec<&str> = name.split('-').collect();
        let places = parts.len() - 1;
        for odd in ['_', '.'] {
            for choice in 1..(1_u32 << places) {
                let mut alias = parts[0].to_owned();
                for (n, part) in parts.iter().skip(1).enumerate() {
                    alias.push(if choice & (1 << n) == 0 { '-' } else { odd });
                    alias += part;
                }
                for alias in [alias.to_ascii_uppercase(), alias] {
                    let got = ask(&server, "public.example.com", "/", &[(&alias, b"admin")]);
                    assert_eq!(status(&got), 400, "{alias}");
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, 2 * 2 * (5 + 11 * 3), "every name at every place");
    for harmless in ["X_Request_Id", "Remote_Office", "My_Remote_User", "X.Request.Id"] {
        assert_eq!(status(&ask(&server, "public.example.com", "/", &[(harmless, b"1")])), 200, "{harmless}");
    }
}

#[test]
fn a40_a41_each_fact_left_out_in_turn_is_a_refusal() {
    let server = start();
    for (line, fields) in dialects() {
        for n in 0..fields.len() {
            let (name, _) = fields[n];
            // A missing path is the root, by the protocol. The gate's own scheme stands in, and is no TLS.
            if name == "X-Forwarded-Uri" || (name == "Host" && fields.len() > 2) {
                continue;
            }
            let mut fields = fields.clone();
            fields.remove(n);
            assert_eq!(status(&tell(server.gate, &put(&line, &fields))), 400, "without {name}");
        }
    }
    // A rule for POST is not met by a method that nobody named, nor by the sub-request's own.
    let mut facts = forward("post.example.com", "/");
    facts.retain(|(name, _)| *name != "X-Forwarded-Method");
    assert_eq!(status(&tell(server.gate, &question(FORWARD, &facts))), 400);
    assert_eq!(status(&tell(server.gate, &question(b"POST /api/authz/forward-auth", &facts))), 405);
    facts.push(("X-Forwarded-Method", b"POST"));
    assert_eq!(status(&tell(server.gate, &question(FORWARD, &facts))), 200);
}

#[test]
fn a43_a_proxy_protocol_header_is_no_request() {
    let server = start();
    let asked = question(FORWARD, &forward("lan.example.com", "/"));
    for header in [
        b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n".as_slice(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x7f\0\0\x01\0\x01\0\x02",
    ] {
        refused(&tell(server.gate, &[header, &asked].concat()), "an address nobody asked for");
    }
}

/// Sessions, passwords and nobody, mixed and pipelined, with each of the stores.
#[test]
fn a49_everybody_gets_their_own_identity_and_nobody_elses() {
    const PEOPLE: usize = 12;
    let digest = "$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7";
    let users: String = (0..PEOPLE)
        .map(|n| {
            format!(
                "  user{n}: {{displayname: User {n}, groups: [g{n}], email: u{n}@example.com, password: '{digest}'}}\n"
            )
        })
        .collect();
    let redis = RedisServer::start(Transport::Tcp, &[]);
    let shared = format!("secret: not a secret\n  redis: {{host: 127.0.0.1, port: {}}}", redis.port());
    for store in ["name: authelia_session", &shared] {
        let config = CONFIG.replace("{more}", "").replace("{store}", store).replace("{format}", "text");
        let server = &Portcullis::start(&config, &[("users.yaml", &format!("users:\n{users}"))]);
        let signing_in: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..PEOPLE).map(|n| scope.spawn(move || sign_in(server, &format!("user{n}")))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a cookie")).collect()
        });
        // What is sent, and who that is.
        let mut people: Vec<(String, String)> = vec![(String::new(), String::new())];
        for (n, cookie) in signing_in.iter().enumerate() {
            people.push((format!("Cookie: {cookie}\r\n"), format!("user{n}")));
            let basic = base64::engine::general_purpose::STANDARD.encode(format!("user{n}:password"));
            people.push((format!("Authorization: Basic {basic}\r\n"), format!("user{n}")));
        }
        let people = &people;
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    let mut dice = Dice(thread + 1);
                    let mut stream = BufReader::new(connect(server.gate));
                    for _ in 0..50 {
                        let (mut batch, mut expected) = (String::new(), Vec::new());
                        for _ in 0..25 {
                            let (credential, user) = &people[dice.throw(people.len())];
                            write!(
                                batch,
                                "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\n\
                                 X-Forwarded-Host: public.example.com\r\nX-Forwarded-Uri: /\r\n{credential}\r\n"
                            )
                            .expect("write");
                            expected.push(user.as_str());
                        }
                        stream.get_mut().write_all(batch.as_bytes()).expect("ask");
                        for user in expected {
                            let got = answer(&mut stream);
                            assert_eq!((status(&got), value(&got, "remote-user")), (200, Some(user)), "{got}");
                            let group = user.replace("user", "g");
                            assert_eq!(value(&got, "remote-groups"), Some(group.as_str()), "{got}");
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn a51_a52_no_answer_repeats_a_credential_or_sets_a_cookie() {
    let server = start();
    let cookie = sign_in(&server, "john");
    let secret = cookie.split_once('=').expect("a pair").1;
    let basic: &[u8] = b"Basic am9objpwYXNzd29yZA==";
    let all: &[(&str, &[u8])] = &[("Cookie", cookie.as_bytes()), ("Accept", b"text/html")];
    let both: &[(&str, &[u8])] = &[("Cookie", cookie.as_bytes()), ("Authorization", basic), ("Accept", b"text/html")];
    for host in ["public.example.com", "app.example.com", "other.example.com", "evil.com"] {
        for more in [all, both] {
            let got = ask(&server, host, "/", more);
            assert!(!got.contains(secret) && !got.contains("am9objpwYXNzd29yZA"), "{host}: {got}");
            assert_eq!(value(&got, "set-cookie"), None, "{host}");
            assert_eq!(value(&got, "cache-control"), Some("no-store"), "a104: {host}");
        }
    }
}

#[test]
fn a53_an_override_does_not_change_the_method_that_is_judged() {
    let server = start();
    for (name, value) in
        [("X-HTTP-Method-Override", b"POST".as_slice()), ("X-HTTP-Method", b"POST"), ("X-Method-Override", b"POST")]
    {
        refused(&ask(&server, "post.example.com", "/", &[(name, value)]), "GET that says it is POST");
    }
    refused(&ask(&server, "post.example.com", "/?_method=POST", &[]), "GET that says it is POST in its query");
}

#[test]
fn a54_strange_methods_are_no_methods() {
    let server = start();
    let long = "A".repeat(4_096);
    for method in
        ["get", "Get", "G ET", "GET\t", "G\u{e9}T", "GET,POST", "GET;", "\"GET\"", "*", "GET1", "M-SEARCH", &long]
    {
        let mut facts = forward("public.example.com", "/");
        facts[1].1 = method.as_bytes();
        // White space around a value is no part of it.
        let expected = if method == "GET\t" { 200 } else { 400 };
        assert_eq!(status(&tell(server.gate, &question(FORWARD, &facts))), expected, "{method:.20}");
        let line = format!("{method} /api/authz/ext-authz//a");
        let asked = question(line.as_bytes(), &[("Host", b"public.example.com"), ("X-Forwarded-Proto", b"https")]);
        refused(&tell(server.gate, &asked), &format!("{method:.20} in the request line"));
    }
    // Unknown but well formed: matched by rules that name no method, and by no other.
    for (host, expected) in [("public.example.com", 200), ("post.example.com", 403)] {
        let mut facts = forward(host, "/");
        facts[1].1 = b"PURGE";
        assert_eq!(status(&tell(server.gate, &question(FORWARD, &facts))), expected, "{host}");
    }
    let page = Client::http(server.metrics).send(&Request::script("GET", "metrics", "/metrics")).text();
    assert!(!page.contains("PURGE") && !page.contains("AAAA"), "no series carries a method");
}

#[test]
fn a55_a_preflight_is_judged_like_any_request() {
    let server = start();
    let preflight: &[(&str, &[u8])] =
        &[("Origin", b"https://evil.com"), ("Access-Control-Request-Method", b"DELETE"), ("Accept", b"*/*")];
    for more in [&[][..], preflight] {
        for (host, expected) in [("app.example.com", [401, 302]), ("other.example.com", [403, 403])] {
            let mut facts = forward(host, "/admin");
            facts[1].1 = b"OPTIONS";
            let got = status(&tell(server.gate, &question(FORWARD, &[&facts, more].concat())));
            assert!(expected.contains(&got), "{host}: {got}");
        }
        // W1: a proxy that copies the client's method into its question.
        let facts = [&forward("public.example.com", "/"), more].concat();
        assert_eq!(status(&tell(server.gate, &question(b"OPTIONS /api/authz/forward-auth", &facts))), 405);
        let line = b"OPTIONS /api/authz/ext-authz//admin";
        let asked = question(
            line,
            &[&[("Host", b"app.example.com".as_slice()), ("X-Forwarded-Proto", b"https")], more].concat(),
        );
        refused(&tell(server.gate, &asked), "Envoy's");
    }
    // Where a rule lets OPTIONS pass, it passes as nobody.
    let mut facts = forward("preflight.example.com", "/");
    facts[1].1 = b"OPTIONS";
    let got = tell(server.gate, &question(FORWARD, &[&facts, preflight].concat()));
    assert_eq!((status(&got), value(&got, "remote-user")), (200, Some("")));
}

#[test]
fn a60_no_framing_trick_smuggles_a_second_question() {
    let server = start();
    let inner = String::from_utf8(question(FORWARD, &forward("public.example.com", "/smuggled"))).expect("text");
    let outer = "Host: app.example.com\r\nX-Forwarded-Proto: https\r\n";
    let length = inner.len();
    #[rustfmt::skip]
    let table = [
        ("both framings",              format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("the other way round",        format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{inner}")),
        ("two lengths",                format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}")),
        ("a list of lengths",          format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Content-Length: 0, {length}\r\n\r\n{inner}")),
        ("a space before the colon",   format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("a tab before the colon",     format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("an unknown coding",          format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}")),
        ("chunked, and not last",      format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}")),
        ("HTTP/1.0 in chunks",         format!("POST /api/authz/ext-authz//a HTTP/1.0\r\n{outer}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("a chunk size with a sign",   format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{inner}")),
        ("a chunk size too large",     format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{inner}")),
        ("a whole chunked body",       format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n{inner}")),
        ("a whole body",               format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Content-Length: 3\r\n\r\nabc{inner}")),
        ("a length with a sign",       format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Content-Length: +3\r\n\r\nabc{inner}")),
        ("a bare CR ends a line",      format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}X: y\rContent-Length: 0\r\n\r\n{inner}")),
        ("a folded line",              format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}X: y\r\n Content-Length: 3\r\n\r\n{inner}")),
        ("a bare LF inside chunks",    format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Transfer-Encoding: chunked\r\n\r\n0\n\n{inner}")),
        ("lines that end in LF alone", format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Content-Length: 3\r\n\r\nabc{inner}").replace("\r\n", "\n")),
        ("a bare LF hides a length",   format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}X: y\nContent-Length: 3\r\n\r\nabc{inner}")),
        ("a colon at the start",       format!("POST /api/authz/ext-authz//a HTTP/1.1\r\n{outer}: x\r\n\r\n{inner}")),
        ("an upgrade",                 format!("GET /api/authz/ext-authz//a HTTP/1.1\r\n{outer}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 3\r\n\r\nabc{inner}")),
    ];
    for (because, sent) in table {
        let got = tell(server.gate, sent.as_bytes());
        assert!(!got.contains(" 200 OK"), "{because}: {got}");
        assert!(got.matches("HTTP/1.").count() <= 1, "{because}: two answers\n{got}");
    }
}

/// The portal does read bodies. Where two readers may see their end in different places it answers once, and hangs up.
#[test]
fn a60_no_framing_trick_smuggles_a_second_request_into_the_portal() {
    let server = start();
    let inner = "GET /api/state HTTP/1.1\r\nHost: auth.example.com\r\nConnection: close\r\n\r\n";
    let head = "POST /api/logout HTTP/1.1\r\nHost: auth.example.com\r\n";
    let length = inner.len();
    #[rustfmt::skip]
    let table = [
        ("both framings",              format!("{head}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("the other way round",        format!("{head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{inner}")),
        ("two lengths",                format!("{head}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}")),
        ("two lengths, turned round",  format!("{head}Content-Length: {length}\r\nContent-Length: 0\r\n\r\n{inner}")),
        ("a list of lengths",          format!("{head}Content-Length: 0, {length}\r\n\r\n{inner}")),
        ("a space before the colon",   format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{inner}")),
        ("an unknown coding",          format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}")),
        ("chunked, and not last",      format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}")),
        ("a length with a sign",       format!("{head}Content-Length: +0\r\n\r\n{inner}")),
        ("a chunk size with a sign",   format!("{head}Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n{inner}")),
        ("a folded line",              format!("{head}X: y\r\n Content-Length: 3\r\n\r\n{inner}")),
        ("a bare CR ends a line",      format!("{head}X: y\rContent-Length: 0\r\n\r\n{inner}")),
        ("HTTP/1.0 in chunks",         format!("{}Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", head.replace("1.1", "1.0"))),
    ];
    for (because, sent) in table {
        let got = tell(server.portal, sent.as_bytes());
        assert!(got.matches("HTTP/1.").count() <= 1, "{because}: two answers\n{got}");
    }
    let got = tell(server.portal, format!("{head}Content-Length: 0\r\n\r\n{inner}").as_bytes());
    assert_eq!(got.matches("HTTP/1.1 200").count(), 2, "two requests, well framed\n{got}");
}

#[test]
fn a61_a63_a_body_is_neither_read_nor_waited_for_and_ends_the_connection() {
    let server = start();
    for announced in [
        "Content-Length: 10\r\n",
        "Content-Length: 104857600\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 10\r\nExpect: 100-continue\r\n",
    ] {
        for (host, expected) in [("public.example.com", 200), ("app.example.com", 401)] {
            let mut stream = connect(server.gate);
            let head = format!(
                "POST /api/authz/ext-authz//upload HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Proto: https\r\n{announced}\r\n"
            );
            stream.write_all(head.as_bytes()).expect("ask");
            let got = answer(&mut stream);
            assert_eq!(status(&got), expected, "{announced}");
            assert_eq!(value(&got, "connection"), Some("close"), "{announced}");
        }
    }
    // Over HTTP/2: a head that announces more (END_HEADERS without END_STREAM), and nothing after it.
    for announced in ["10", "104857600"] {
        let of = http2(
            "/api/authz/ext-authz//upload",
            &[(":authority", "public.example.com"), ("x-forwarded-proto", "https"), ("content-length", announced)],
        );
        assert!(passes_with_flags(server.gate, &of, 0x4), "{announced} bytes over HTTP/2");
    }
    // Forms say nothing to the gate, whatever they hold.
    let mut stream = connect(server.gate);
    let form = "_method=POST&authelia_url=https://evil.com/&user=admin";
    write!(stream, "GET /api/authz/forward-auth HTTP/1.1\r\nHost: gate\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: post.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}", form.len()).expect("ask");
    assert_eq!(status(&answer(&mut stream)), 403);
}

#[test]
fn a62_early_data_signs_nobody_in() {
    let server = start();
    let body = br#"{"username":"john","password":"password"}"#;
    let request = Request::script("POST", "auth.example.com", "/api/firstfactor")
        .header("Origin", "https://auth.example.com")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "auth.example.com")
        .header("Early-Data", "1")
        .body("application/json", body);
    let got = Client::http(server.portal).send(&request);
    assert_eq!((got.status, got.header("set-cookie")), (425, None));
    // The gate changes nothing, so it may answer, and answers the same.
    for host in ["public.example.com", "app.example.com", "lan.example.com", "other.example.com"] {
        let early = status(&ask(&server, host, "/", &[("Early-Data", b"1")]));
        assert_eq!(early, status(&ask(&server, host, "/", &[])), "{host}");
    }
}

#[test]
fn a75_a76_no_cookie_is_an_error_or_a_yes() {
    let server = start();
    let good = sign_in(&server, "john");
    let id = good.split_once('=').expect("a pair").1;
    let (long, many) = ("A".repeat(8_192), "a=b; ".repeat(1_000));
    let junk: Vec<_> = ('A'..='P').map(|c| format!("authelia_session={}A; ", c.to_string().repeat(42))).collect();
    #[rustfmt::skip]
    let table = [
        ("a75: an escaped NUL",         "authelia_session=%00".to_owned()),
        ("a75: 8 kB",                   format!("authelia_session={long}")),
        ("a75: not base64",             "authelia_session=!!!!".to_owned()),
        ("a75: in quotes of its own",   format!("authelia_session=\"{id}")),
        ("a75: one letter more",        format!("authelia_session={id}A")),
        ("a75: one letter less",        format!("authelia_session={}", &id[1..])),
        ("a75: somebody made it up",    junk[0].clone()),
        ("a75: nothing",                "authelia_session=".to_owned()),
        ("a75: letters of others",      "authelia_session=\u{ff}\u{fe}".to_owned()),
        ("a76: in quotes",              format!("authelia_session=\"{id}\"")),
        ("a76: without a name",         format!("={good}")),
        ("a76: another name's value",   format!("a=\"x; b\"; x{good}")),
        ("a76: the name in a value",    format!("a={good}")),
        ("a76: another case",           good.replace("authelia", "Authelia")),
        ("a76: commas",                 format!("a=b,{good}")),
        ("a76: only semicolons",        ";;;;; ; ;".to_owned()),
        ("a76: too many of the name",   format!("{}{good}", junk.concat())),
    ];
    for (because, cookie) in table {
        assert_eq!(status(&ask(&server, "app.example.com", "/", &[("Cookie", cookie.as_bytes())])), 401, "{because}");
        let got = ask(&server, "public.example.com", "/", &[("Cookie", cookie.as_bytes())]);
        assert_eq!((status(&got), value(&got, "remote-user")), (200, Some("")), "{because}");
    }
    for odd in [b"\xff\xfe".as_slice(), b"\x80", b"\xc0\xae"] {
        let cookie = [b"authelia_session=", odd].concat();
        assert_eq!(status(&ask(&server, "app.example.com", "/", &[("Cookie", &cookie)])), 401, "a75: {odd:?}");
    }
    let among = |before: &str| format!("{before}{good}").into_bytes();
    let planted = junk[1..].concat();
    let table = [
        ("1,000 others", many.as_str()),
        ("a junk one before", "authelia_session=junk; "),
        ("a128: fifteen that somebody made up", planted.as_str()),
    ];
    for (because, before) in table {
        let got = ask(&server, "app.example.com", "/", &[("Cookie", &among(before))]);
        assert_eq!((status(&got), value(&got, "remote-user")), (200, Some("john")), "{because}");
    }
    let three_thousand = "authelia_session=x; ".repeat(3_000);
    let got = status(&ask(&server, "app.example.com", "/", &[("Cookie", three_thousand.as_bytes())]));
    assert!(matches!(got, 401 | 431), "a76: 60 kB of them: {got}");
}

#[test]
fn a73_of_two_peoples_sessions_neither_counts() {
    let server = start();
    let (john, mary, more) = (sign_in(&server, "john"), sign_in(&server, "mary"), sign_in(&server, "john"));
    let who = |lines: &[&str]| {
        let lines: Vec<(&str, &[u8])> = lines.iter().map(|line| ("Cookie", line.as_bytes())).collect();
        let public = ask(&server, "public.example.com", "/", &lines);
        let user = value(&public, "remote-user").expect("the header").to_owned();
        let expected = if user.is_empty() { 401 } else { 200 };
        assert_eq!((status(&public), status(&ask(&server, "app.example.com", "/", &lines))), (200, expected));
        user
    };
    assert_eq!(who(&[&john]), "john");
    for [first, second] in [[&john, &mary], [&mary, &john]] {
        assert_eq!(who(&[&format!("{first}; {second}")]), "", "in one line");
        assert_eq!(who(&[first, second]), "", "in two lines");
        assert_eq!(who(&[&format!("a=1; {first}; authelia_session=junk"), second]), "", "among others");
    }
    for [first, second] in [[&john, &more], [&more, &john]] {
        assert_eq!(who(&[&format!("{first}; {second}")]), "john", "two of one person");
    }
    assert_eq!(who(&[&mary]), "mary", "nobody was signed out");
}

/// What keeps fragments out of request lines leaves bodies alone, whose lines may begin with a space or a brace.
#[test]
fn a08_a_fragment_mark_in_a_body_stays_where_it_is() {
    let server = start();
    let sent = |password: &str| {
        [
            "{ \"username\": \"USER\", \"password\": \"PASSWORD\" }",
            "{\n  \"username\": \"USER\",\n  \"password\": \"PASSWORD\"\n}",
        ]
        .map(|body| body.replace("USER", "hash").replace("PASSWORD", password))
    };
    for (password, expected) in [("pass #word", 200), ("pass word", 401)] {
        for body in sent(password) {
            let request = Request::script("POST", "auth.example.com", "/api/firstfactor")
                .header("Origin", "https://auth.example.com")
                .body("application/json", body.as_bytes());
            assert_eq!(Client::http(server.portal).send(&request).status, expected, "{body}");
        }
    }
}

#[test]
fn a92_a106_no_probe_and_no_page_of_operators_opens_anything() {
    let server = start();
    for agent in
        ["GoogleHC/1.0", "kube-probe/1.31", "ELB-HealthChecker/2.0", "Envoy/HC", "Prometheus/3.0", "Portcullis"]
    {
        let got = ask(&server, "app.example.com", "/admin", &[("User-Agent", agent.as_bytes())]);
        assert_eq!(status(&got), 401, "{agent}");
    }
    for target in
        ["/ping", "/health", "/healthz", "/api/health", "/metrics", "/.well-known/x", "/robots.txt", "/favicon.ico"]
    {
        assert_eq!(status(&ask(&server, "app.example.com", target, &[])), 401, "{target}");
    }
    let page = |method: &str, path: &str, origin: &str| {
        tell(server.metrics, format!("{method} {path} HTTP/1.1\r\nHost: {origin}\r\nOrigin: https://{origin}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes())
    };
    for (method, path) in [
        ("POST", "/metrics"),
        ("PUT", "/metrics"),
        ("DELETE", "/metrics"),
        ("POST", "/load"),
        ("GET", "/debug/pprof"),
        ("POST", "/-/reload"),
    ] {
        let got = page(method, path, "evil.com");
        assert!(matches!(status(&got), 404 | 405), "{method} {path}: {got}");
    }
    assert_eq!(value(&page("GET", "/metrics", "evil.com"), "access-control-allow-origin"), None, "no page may read it");
}

#[test]
fn a101_redis_killed_or_frozen_during_traffic_opens_nothing() {
    let mut redis = RedisServer::start(Transport::Tcp, &[]);
    let store = format!("secret: not a secret\n  redis: {{host: 127.0.0.1, port: {}, timeout: 300 ms}}", redis.port());
    let server = start_with("", &store, "text");
    let cookie = sign_in(&server, "john");
    let known = |host: &str| status(&ask(&server, host, "/", &[("Cookie", cookie.as_bytes())]));
    assert_eq!(known("app.example.com"), 200, "before");

    // All the while, somebody who was never let in knocks.
    let (over, gate) = (AtomicBool::new(false), server.gate);
    std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let stranger = format!("authelia_session={}", "A".repeat(43));
            let mut answers = 0;
            while !over.load(Ordering::Relaxed) {
                for cookie in ["", stranger.as_str()] {
                    let fields =
                        [forward("app.example.com", "/").as_slice(), &[("Cookie", cookie.as_bytes())]].concat();
                    let got = status(&tell(gate, &question(FORWARD, &fields)));
                    assert!(matches!(got, 401 | 503), "a stranger was answered {got}");
                    answers += 1;
                }
            }
            answers
        });
        redis.freeze();
        for _ in 0..5 {
            assert_eq!(known("app.example.com"), 503, "frozen");
            assert_eq!(known("public.example.com"), 200, "a bypass rule needs no store");
            assert_eq!(known("other.example.com"), 503, "nor is it a sign-in loop where nobody may pass");
            assert_eq!(status(&ask(&server, "app.example.com", "/", &[])), 401, "no cookie: nothing to look up");
        }
        redis.thaw();
        let deadline = Instant::now() + Duration::from_secs(20);
        while known("app.example.com") != 200 {
            assert!(Instant::now() < deadline, "it does not recover");
        }
        redis.kill();
        for _ in 0..20 {
            assert_eq!(known("app.example.com"), 503, "killed");
            assert_eq!(known("public.example.com"), 200, "killed, bypass");
        }
        redis.restart();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match known("app.example.com") {
                401 => break,
                503 => assert!(Instant::now() < deadline, "it does not recover"),
                other => panic!("an empty store knows nobody, and yet {other}"),
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(knocking.join().expect("the stranger") > 20);
    });
}

#[test]
fn a102_no_expression_and_no_half_of_a_head_keeps_others_waiting() {
    let server =
        start_with(", timeouts: {read: 1s, idle: 1s}, buffers: {read: 131072}", "name: authelia_session", "text");
    let begun = Instant::now();
    for length in [30, 5_000, 16_000, 65_000] {
        for end in ["", "!"] {
            let target = format!("/{}{end}", "a".repeat(length));
            let got = status(&ask(&server, "evil.example.com", &target, &[]));
            assert!(
                matches!((got, end), (200, "") | (403, "!") | (400 | 414 | 431, _)),
                "{length} letters {end}: {got}"
            );
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    // Somebody who never finishes a head is hung up on, and others are served meanwhile.
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(server.gate)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /api/authz/forward-auth HTTP/1.1\r\nHost: g").expect("begin");
    }
    assert_eq!(status(&ask(&server, "public.example.com", "/", &[])), 200);
    for mut stream in slow {
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        refused(&String::from_utf8_lossy(&got), "half a head");
    }
}

#[test]
fn a105_nothing_that_is_sent_forges_a_line_of_the_log() {
    for format in ["text", "json"] {
        let mut server = start_with("", "name: authelia_session", format);
        let forged = "\\u001b[2J\\nlevel=info msg=\\\"login ok\\\"\\r\\n{\\\"level\\\":\\\"INFO\\\",\\\"forged\\\":1}";
        let body = format!(r#"{{"username":"{forged}","password":"tell-tale-1"}}"#);
        let login = Request::script("POST", "auth.example.com", "/api/firstfactor")
            .header("Origin", "https://auth.example.com")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "auth.example.com")
            .body("application/json", body.as_bytes());
        assert_eq!(Client::http(server.portal).send(&login).status, 401);
        for target in
            ["/a%0alevel=info%20forged", "/%1b[2J", "/?token=tell-tale-2&x=%0aforged", "/\u{e9}\u{85}\u{2028}forged"]
        {
            ask(
                &server,
                "app.example.com",
                target,
                &[("Authorization", b"Bearer tell-tale-3"), ("Accept", b"text/html")],
            );
            ask(&server, "app.example.com\u{85}forged", target, &[("X-Forwarded-For", b"\x80forged")]);
        }
        let rd = "/?rd=https%3A%2F%2Fapp.example.com%2F%3Ftoken%3Dtell-tale-4";
        Client::http(server.portal).send(&Request::page("auth.example.com", rd).cookie("authelia_session=tell-tale-5"));
        let log = server.stop_and_read();
        for mark in 1..=5 {
            assert!(!log.contains(&format!("tell-tale-{mark}")), "{format}: secret {mark} in\n{log}");
        }
        assert!(
            !log.bytes().any(|byte| byte < 0x20 && byte != b'\n' || byte == 0x7f),
            "{format}: a control byte in\n{log}"
        );
        for line in log.lines() {
            assert!(!line.starts_with("level=") && !line.starts_with("forged"), "{format}: {line}");
            if format == "json" && line.starts_with('{') {
                let line: serde_json::Value =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert_eq!(line.get("forged"), None);
            }
        }
    }
}
