//! The gate as Envoy meets it over gRPC: check requests in, check responses out, without a socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame};
use hyper::header::HeaderValue;
use hyper::{Request, Version};
use proptest::prelude::*;
use prost::Message;

use super::request::{
    Address, AttributeContext, AttributeRequest, CheckRequest, Fields, HttpRequest, MapEntry, Pipe, Place, RawHeader,
    RawHeaders, SocketAddress, Source,
};
use super::response::wire::{self, HttpResponse};
use super::{Code, Gate, Reply, frame};
use crate::authz::tests::{BAD, Fixture, GOOD, fixture};
use crate::peer::Peer;
use crate::session::Factors;

const PROXY: &str = "127.0.0.1";

/// A check as Envoy 1.40 makes one of a page view, before a test changes it.
struct Check(CheckRequest);

impl Check {
    /// Golden: the fields of a recorded request, with its pseudo-header fields among the others.
    fn page(host: &str, path: &str) -> Check {
        let http = HttpRequest {
            method: "GET".into(),
            path: Bytes::copy_from_slice(path.as_bytes()),
            host: Bytes::copy_from_slice(host.as_bytes()),
            scheme: "https".into(),
            ..HttpRequest::default()
        };
        let source = Source { address: Some(Address { place: Some(socket("203.0.113.9")) }) };
        let attributes =
            AttributeContext { source: Some(source), request: Some(AttributeRequest { http: Some(http) }) };
        Check(CheckRequest { attributes: Some(attributes) })
            .header(":authority", host)
            .header(":method", "GET")
            .header(":path", path)
            .header(":scheme", "https")
            .header("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
            .header("accept-encoding", "gzip")
            .header("x-forwarded-proto", "https")
            .header("x-request-id", "5f3c9d4e-0000-4000-8000-000000000000")
    }

    fn attributes(&mut self) -> &mut AttributeContext {
        self.0.attributes.as_mut().unwrap()
    }

    fn http(&mut self) -> &mut HttpRequest {
        self.attributes().request.as_mut().unwrap().http.as_mut().unwrap()
    }

    /// Adds an entry to the map, where two of one name can't come from Envoy.
    fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Check {
        let value = Bytes::copy_from_slice(value.as_ref());
        self.http().headers.push(MapEntry { key: Bytes::copy_from_slice(name.as_bytes()), value });
        self
    }

    /// As [`Check::header`], in front of the others.
    fn header_first(mut self, name: &str, value: &str) -> Check {
        let entry = MapEntry { key: name.to_owned().into(), value: value.to_owned().into() };
        self.http().headers.insert(0, entry);
        self
    }

    fn without(mut self, name: &str) -> Check {
        self.http().headers.retain(|field| field.key != name);
        self
    }

    fn with(mut self, change: impl FnOnce(&mut HttpRequest)) -> Check {
        change(self.http());
        self
    }

    fn from(mut self, source: Option<Place>) -> Check {
        self.attributes().source = Some(Source { address: Some(Address { place: source }) });
        self
    }

    /// The same with `encode_raw_headers`.
    fn raw(mut self) -> Check {
        let fields = std::mem::take(&mut self.http().headers);
        let headers =
            fields.into_iter().map(|field| RawHeader { key: field.key, raw_value: field.value, value: Bytes::new() });
        self.http().header_map = Some(RawHeaders { headers: headers.collect() });
        self
    }
}

fn socket(address: &str) -> Place {
    Place::Socket(SocketAddress { address: Bytes::copy_from_slice(address.as_bytes()) })
}

/// What Envoy makes of an answer.
#[derive(Debug, PartialEq)]
enum Said {
    Allow {
        set: Vec<(String, String)>,
        remove: Vec<String>,
    },
    Deny {
        status: i32,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// A status of gRPC's, and no message.
    Status(Code),
    /// No gRPC at all.
    Http(u16),
}

impl Said {
    #[track_caller]
    fn allowed(self) -> (Vec<(String, String)>, Vec<String>) {
        match self {
            Said::Allow { set, remove } => (set, remove),
            other => panic!("not allowed: {other:?}"),
        }
    }

    fn status(&self) -> i32 {
        match self {
            Said::Allow { .. } => 200,
            Said::Deny { status, .. } => *status,
            Said::Status(_) | Said::Http(_) => 0,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let (Said::Allow { set: headers, .. } | Said::Deny { headers, .. }) = self else { return None };
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn framed(message: &[u8]) -> BytesMut {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed
}

fn call(body: Bytes) -> Request<Full<Bytes>> {
    Request::post("http://portcullis/envoy.service.auth.v3.Authorization/Check")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Full::new(body))
        .unwrap()
}

async fn said(reply: Reply) -> Said {
    let (parts, body) = reply.into_parts();
    if parts.status != 200 {
        return Said::Http(parts.status.as_u16());
    }
    assert_eq!(parts.headers.get("content-type"), Some(&HeaderValue::from_static("application/grpc")));
    let collected = body.collect().await.unwrap();
    let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).expect("a status").clone();
    let message = collected.to_bytes();
    if status != "0" {
        assert!(message.is_empty(), "a status other than OK, and a message");
        let codes = [
            Code::InvalidArgument,
            Code::DeadlineExceeded,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::Unimplemented,
            Code::Internal,
        ];
        return Said::Status(*codes.iter().find(|code| HeaderValue::from(**code as u16) == status).unwrap());
    }
    assert_eq!(message.len(), 5 + u32::from_be_bytes(message[1..5].try_into().unwrap()) as usize);
    let response = wire::CheckResponse::decode(message.slice(5..)).unwrap();
    let code = response.status.expect("a status, whose absence is a yes").code;
    let plain = |headers: Vec<wire::HeaderValueOption>| {
        headers
            .into_iter()
            .map(|option| {
                assert_eq!(option.append_action, 2, "replaces");
                let header = option.header.unwrap();
                (header.key, header.value)
            })
            .collect()
    };
    match response.http_response.expect("an answer") {
        HttpResponse::Ok(ok) => {
            assert_eq!(code, 0);
            Said::Allow { set: plain(ok.headers), remove: ok.headers_to_remove }
        }
        HttpResponse::Denied(denied) => {
            assert!(matches!(code, 7 | 16), "{code}");
            Said::Deny { status: denied.status.unwrap().code, headers: plain(denied.headers), body: denied.body }
        }
    }
}

async fn send(gate: &Gate, request: Request<Full<Bytes>>) -> Said {
    said(gate.check(request, Peer::at(PROXY.parse().unwrap())).await).await
}

impl Fixture {
    async fn check(&self, check: Check) -> Said {
        send(&self.gate, call(framed(&check.0.encode_to_vec()).freeze())).await
    }
}

#[tokio::test]
async fn each_requirement_is_answered_by_what_was_proven() {
    let fixture = fixture().await;
    let password = fixture.cookie(Factors::PASSWORD).await;
    let both = fixture.cookie(Factors::PASSWORD.and(Factors::TOTP)).await;
    #[rustfmt::skip]
    let table = [
        // host                  anonymous  one factor  two factors
        ("public.example.com",   200,       200,        200),
        ("one.example.com",      302,       200,        200),
        ("two.example.com",      302,       302,        200),
        ("denied.example.com",   403,       403,        403),
        ("other.example.com",    403,       403,        403),
        ("staff.example.com",    302,       200,        200),
        ("ONE.example.com",      302,       200,        200),
        ("one.example.com:8443", 302,       200,        200),
        ("example.net",          400,       400,        400),
        ("notexample.com",       400,       400,        400),
    ];
    for (host, anonymous, one, two) in table {
        let page = || Check::page(host, "/a?b=c");
        assert_eq!(fixture.check(page()).await.status(), anonymous, "anonymous at {host}");
        assert_eq!(fixture.check(page().raw()).await.status(), anonymous, "anonymous at {host}, raw");
        assert_eq!(fixture.check(page().header("cookie", &password)).await.status(), one, "one factor at {host}");
        assert_eq!(fixture.check(page().header("cookie", &both)).await.status(), two, "two factors at {host}");
        assert_eq!(fixture.check(page().header("cookie", &both).raw()).await.status(), two, "the same, raw, at {host}");
    }
}

#[tokio::test]
async fn a_no_carries_what_an_endpoint_over_http_would_have_said() {
    let fixture = fixture().await;
    let page = || Check::page("one.example.com", "/a?b=c");
    let location =
        |method: &str| format!("https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm={method}");
    let post = |http: &mut HttpRequest| http.method = "POST".into();
    let sent = fixture.check(page()).await;
    assert_eq!((sent.status(), sent.header("location")), (302, Some(&*location("GET"))));
    assert_eq!(sent.header("cache-control"), Some("no-store"));
    assert_eq!(sent.header("content-type"), Some("text/html; charset=utf-8"));
    let Said::Deny { body, .. } = sent else { panic!() };
    assert!(body.starts_with("<a href=\"https://auth.example.com/?rd="), "{body}");
    let form = fixture.check(page().without(":method").with(post)).await;
    assert_eq!((form.status(), form.header("location")), (303, Some(&*location("POST"))));
    let script = fixture.check(page().header("x-requested-with", "XMLHttpRequest")).await;
    assert_eq!((script.status(), script.header("location")), (401, Some(&*location("GET"))));
    let websocket = fixture.check(page().without("accept").header("upgrade", "websocket")).await;
    assert_eq!(websocket.status(), 401, "A56: judged as the GET that it is");
    let guessed = fixture.check(page().header("authorization", BAD)).await;
    assert_eq!(
        (guessed.status(), guessed.header("www-authenticate")),
        (401, Some("Basic realm=\"Authorization Required\""))
    );
    let denied = fixture.check(Check::page("denied.example.com", "/")).await;
    assert_eq!((denied.status(), denied.header("location"), denied.header("remote-user")), (403, None, None));
}

#[tokio::test]
async fn a45_every_allow_sets_every_identity_header_and_removes_the_empty_ones() {
    let fixture = fixture().await;
    let names = ["remote-user", "remote-groups", "remote-name", "remote-email"];
    let forged = |check: Check| names.iter().fold(check, |check, name| check.header(name, "admin"));
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    for host in ["one.example.com", "public.example.com"] {
        let (set, remove) = fixture.check(forged(Check::page(host, "/").header("cookie", &cookie))).await.allowed();
        let values = ["john", "dev,admins", "John Doe", "john@example.com"];
        let expected: Vec<_> =
            names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect();
        assert_eq!((set, remove), (expected, vec!["cookie".to_owned()]), "{host}");
    }
    let (set, remove) = fixture.check(forged(Check::page("public.example.com", "/"))).await.allowed();
    assert!(set.iter().all(|(_, value)| value.is_empty()), "{set:?}");
    assert_eq!(set.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(remove, names);
}

#[tokio::test]
async fn a46_aliases_of_the_identity_headers_are_removed_and_a39_those_of_facts_refused() {
    let fixture = fixture().await;
    for raw in [false, true] {
        let page = || Check::page("public.example.com", "/");
        let form = |check: Check| if raw { check.raw() } else { check };
        let aliases = ["remote_user", "remote_groups", "remote.name", "remote_email", "remote!user", "remote_office"];
        let many = aliases.iter().fold(page(), |check, name| check.header(name, "admin"));
        let (_, remove) = fixture.check(form(many)).await.allowed();
        let (seen, own) = remove.split_at(5);
        assert_eq!(seen, &aliases[..5]);
        assert_eq!(own, ["remote-user", "remote-groups", "remote-name", "remote-email"]);
        for fact in ["x_forwarded_for", "x-forwarded_host", "x_original_url", "session_username", "x_real_ip"] {
            assert_eq!(fixture.check(form(page().header(fact, "x"))).await.status(), 400, "{fact}");
        }
    }
}

#[tokio::test]
async fn a34_a35_only_the_attributes_say_what_is_asked() {
    let fixture = fixture().await;
    let forged = [
        ("x-forwarded-host", "public.example.com"),
        ("x-forwarded-uri", "/"),
        ("x-forwarded-method", "GET"),
        ("x-forwarded-proto", "http"),
        ("x-original-url", "https://public.example.com/"),
        ("x-original-method", "GET"),
        ("x-authelia-url", "https://evil.example.com/"),
        ("x-envoy-original-path", "/"),
    ];
    let page = Check::page("one.example.com", "/a").without("x-forwarded-proto");
    let sent = fixture.check(forged.iter().fold(page, |check, (name, value)| check.header(name, value))).await;
    assert_eq!(sent.header("location"), Some("https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa&rm=GET"));
}

#[tokio::test]
async fn a10_a17_a57_a58_what_is_no_target_is_refused() {
    let fixture = fixture().await;
    for path in [
        "",
        "admin.Service/Delete",
        "public",
        "*",
        "?a=b",
        "http://public.example.com/",
        "@public.example.com/",
        "/a#b",
        "/a\0b",
        "/%zz",
        "/%00",
        "/../../b",
    ] {
        let check = || Check::page("public.example.com", path);
        assert_eq!(fixture.check(check()).await.status(), 400, "{path:?}");
        assert_eq!(fixture.check(check().without(":path")).await.status(), 400, "{path:?}, named once");
    }
    let query = |path: &str| Check::page("query.example.com", path);
    assert_eq!(fixture.check(query("/ok?yes=1")).await.status(), 200, "the query is in the path");
    assert_eq!(fixture.check(query("/ok%3fyes=1")).await.status(), 302, "A10: an encoded question mark is none");
    let attribute = |http: &mut HttpRequest| http.query = "yes=1".into();
    assert_eq!(fixture.check(query("/ok").with(attribute)).await.status(), 400, "always empty, says the definition");
    let fragment = |http: &mut HttpRequest| http.fragment = "x".into();
    assert_eq!(fixture.check(query("/ok?yes=1").with(fragment)).await.status(), 400);
}

#[tokio::test]
async fn a40_a58_a_missing_attribute_is_never_guessed() {
    let fixture = fixture().await;
    let page = || Check::page("public.example.com", "/");
    let changes: [(&str, fn(&mut HttpRequest)); 6] = [
        ("method", |http| http.method = Bytes::new()),
        ("scheme", |http| http.scheme = Bytes::new()),
        ("host", |http| http.host = Bytes::new()),
        ("path", |http| http.path = Bytes::new()),
        ("plain http", |http| http.scheme = "http".into()),
        ("another method", |http| http.method = "get".into()),
    ];
    for (because, change) in changes {
        let alone = page().with(|http| http.headers.clear());
        assert_eq!(fixture.check(alone.with(change)).await.status(), 400, "{because}");
    }
    let empty = [
        CheckRequest { attributes: None },
        CheckRequest { attributes: Some(AttributeContext::default()) },
        CheckRequest {
            attributes: Some(AttributeContext { source: None, request: Some(AttributeRequest { http: None }) }),
        },
    ];
    for request in empty {
        assert_eq!(fixture.check(Check(request)).await.status(), 400, "as a TCP filter would ask");
    }
    assert_eq!(fixture.check(page().with(|http| http.headers.clear())).await.status(), 200, "no header at all");
}

#[tokio::test]
async fn a31_two_views_of_one_fact_must_be_the_same() {
    let fixture = fixture().await;
    let page = || Check::page("public.example.com", "/a");
    for (name, value) in [
        (":authority", "one.example.com"),
        ("host", "one.example.com"),
        (":path", "/b"),
        (":path", "/A"),
        (":method", "POST"),
        (":scheme", "http"),
    ] {
        for raw in [false, true] {
            let check = page().without(name).header(name, value);
            let check = if raw { check.raw() } else { check };
            assert_eq!(fixture.check(check).await.status(), 400, "{name}: {value}");
        }
        // Beside the true one, in either order.
        for both in [page().header(name, value), page().header_first(name, value)] {
            assert_eq!(fixture.check(Check(both.0.clone())).await.status(), 400, "{name}: {value} as well");
            assert_eq!(fixture.check(both.raw()).await.status(), 400, "{name}: {value} as well, raw");
        }
    }
    assert_eq!(fixture.check(page().header("host", "")).await.status(), 400, "a host that is nothing is another one");
    assert_eq!(fixture.check(page().header("host", "PUBLIC.example.com")).await.status(), 200, "compared as hosts are");
    let both = page().with(|http| {
        let header = RawHeader { key: "accept".into(), value: Bytes::new(), raw_value: "*/*".into() };
        http.header_map = Some(RawHeaders { headers: vec![header] });
    });
    assert_eq!(fixture.check(both).await.status(), 400, "two forms of the header fields");
}

#[tokio::test]
async fn a24_a_credential_given_twice_is_none() {
    let fixture = fixture().await;
    let page = || Check::page("one.example.com", "/");
    assert_eq!(fixture.check(page().header("authorization", GOOD)).await.status(), 200);
    let twice = page().header("authorization", GOOD).header("authorization", GOOD).raw();
    assert_eq!(fixture.check(twice).await.status(), 401, "two lines");
    let joined = page().header("authorization", format!("{GOOD},{GOOD}"));
    assert_eq!(fixture.check(joined).await.status(), 401, "as Envoy joins them");
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    let somebody =
        |name: &str| Check::page("one.example.com", "/").header("cookie", &cookie).header("session-username", name);
    assert_eq!(fixture.check(somebody("john")).await.status(), 200);
    assert_eq!(fixture.check(somebody("john").header("session-username", "john").raw()).await.status(), 302);
    assert_eq!(
        fixture.check(Check::page("one.example.com", "/").header("host", "x").header("host", "x").raw()).await.status(),
        400
    );
}

/// As the endpoints over HTTP: every control byte in every attribute, and schemes that are not TLS.
#[tokio::test]
async fn a14_a30_every_attribute_is_of_known_form() {
    let fixture = fixture().await;
    let page = || Check::page("public.example.com", "/a").with(|http| http.headers.clear());
    assert_eq!(fixture.check(page()).await.status(), 200, "without it");
    let fields: [(&str, fn(&mut HttpRequest) -> &mut Bytes); 4] = [
        ("method", |http| &mut http.method),
        ("scheme", |http| &mut http.scheme),
        ("host", |http| &mut http.host),
        ("path", |http| &mut http.path),
    ];
    for byte in (0..=0x1f).chain([0x7f]) {
        for (name, field) in fields {
            for at in [0, 1] {
                let spoil = |http: &mut HttpRequest| {
                    let value = field(http);
                    *value = [&value[..at], &[byte], &value[at..]].concat().into();
                };
                assert_eq!(fixture.check(page().with(spoil)).await.status(), 400, "{byte:#x} in {name} at {at}");
            }
        }
        let escaped = |http: &mut HttpRequest| http.path = format!("/a%{byte:02x}b").into();
        assert_eq!(fixture.check(page().with(escaped)).await.status(), 400, "%{byte:02x}");
    }
    for (scheme, expected) in
        [("HTTPS", 200), ("wss", 200), ("http", 400), ("ws", 400), ("javascript", 400), ("https,http", 400)]
    {
        let named = |http: &mut HttpRequest| http.scheme = scheme.into();
        assert_eq!(fixture.check(page().with(named)).await.status(), expected, "{scheme}");
    }
}

/// Requests that Envoy 1.40 made, as it sent them: `raw` from `deploy/envoy/envoy-grpc.yaml`, `joined` without
/// `encode_raw_headers` and without anything that drops what clients forge. A later release adds its own files.
#[tokio::test]
async fn a58_recorded_checks_are_read_as_what_was_asked() {
    let fixture = fixture().await;
    let way = |page: &str, method: &str| {
        let rd: String = form_urlencoded::byte_serialize(format!("https://one.example.com{page}").as_bytes()).collect();
        Some(format!("https://auth.example.com/?rd={rd}&rm={method}"))
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/check_requests");
    let mut read = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let recorded = std::fs::read(&file).unwrap();
        let (status, location) = match name.rsplit_once('-').unwrap().1 {
            "page" => (302, way("/a?b=c", "GET")),
            "post" => (401, way("/upload?n=1", "POST")),
            "forged" => (302, way("/a", "GET")), // X-Forwarded-*, Remote-User, Remote_User: nothing comes of them
            "repeated" => (401, None),           // two `Authorization` are no good one
            "websocket" => (200, None),
            other => panic!("nobody said what `{other}` is answered"),
        };
        let said = send(&fixture.gate, call(framed(&recorded).freeze())).await;
        assert_eq!((said.status(), said.header("location")), (status, location.as_deref()), "{name}");
        let request = CheckRequest::decode(recorded.as_slice()).unwrap();
        let attributes = request.attributes.unwrap();
        assert_eq!(attributes.source(), Some(Peer::at(PROXY.parse().unwrap())), "{name}");
        let fields = Fields::read(attributes.http().unwrap()).unwrap();
        if name.ends_with("repeated") {
            let odd = fields.headers.get("x-odd").unwrap();
            assert!(odd.as_bytes() == b"\xff\xfe" || name.contains("joined"), "{name}: {odd:?}");
        }
        let aliases: &[&str] = if name.ends_with("joined-forged") { &["remote_user"] } else { &[] };
        assert_eq!(fields.aliases, aliases, "{name}");
        read += 1;
    }
    assert_eq!(read, 10);
}

#[tokio::test]
async fn a36_the_source_is_the_client_unless_it_is_a_trusted_proxy() {
    let fixture = fixture().await;
    // lan.example.com is open to 192.0.2.0/24, and otherwise asks for a factor.
    #[rustfmt::skip]
    let table: [(&str, Option<Place>, Option<&str>, i32); 11] = [
        ("the peer itself",                              Some(socket("192.0.2.7")),         None,                       200),
        ("what it says of others is not believed",       Some(socket("203.0.113.9")),       Some("192.0.2.7"),          302),
        ("nor can it say that it is elsewhere",          Some(socket("192.0.2.7")),         Some("203.0.113.9"),        200),
        ("a proxy in front of Envoy names its client",   Some(socket("127.0.0.1")),         Some("192.0.2.7"),          200),
        ("the rightmost that is no proxy",               Some(socket("127.0.0.1")),         Some("192.0.2.7, 203.0.113.9"), 302),
        ("proxies behind proxies",                       Some(socket("127.0.0.1")),         Some("192.0.2.7, 127.0.0.5"), 200),
        ("IPv4 written as IPv6",                         Some(socket("::ffff:192.0.2.7")),  None,                       200),
        ("A58: a unix socket in front of Envoy",         Some(Place::Pipe(Pipe {})),        Some("192.0.2.7"),          200),
        ("A58: and no list",                             Some(Place::Pipe(Pipe {})),        None,                       302),
        ("nobody is named",                              None,                              Some("192.0.2.7"),          302),
        ("by no address",                                Some(socket("localhost")),         Some("192.0.2.7"),          302),
    ];
    for (because, source, chain, expected) in table {
        for raw in [false, true] {
            let check = Check::page("lan.example.com", "/").from(source.clone());
            let check = chain.into_iter().fold(check, |check, chain| check.header("x-forwarded-for", chain));
            let check = if raw { check.raw() } else { check };
            assert_eq!(fixture.check(check).await.status(), expected, "{because}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a130_a_message_that_does_not_come_has_a_deadline() {
    let fixture = fixture().await;
    let begun = tokio::time::Instant::now();
    let request = call(Bytes::new()).map(|_| Endless);
    let proxy = Peer::at(PROXY.parse().unwrap());
    assert_eq!(said(fixture.gate.check(request, proxy).await).await, Said::Status(Code::DeadlineExceeded));
    assert_eq!(begun.elapsed(), TIME);
}

#[tokio::test(start_paused = true)]
async fn a130_what_a_stranger_sends_is_taken_and_dropped_up_to_a_limit() {
    let begun = tokio::time::Instant::now();
    let mut sent = framed(&[7; 1_000]);
    frame::discard(Full::new(sent.split().freeze()), 2_000, TIME).await;
    frame::discard(Full::new(Bytes::from(vec![7; 2_001])), 2_000, TIME).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "as much as there is, or as is allowed");
    frame::discard(Endless, 2_000, TIME).await;
    assert_eq!(begun.elapsed(), TIME, "what does not come is waited for no longer than a message");
}

#[tokio::test(start_paused = true)]
async fn a41_a44_who_is_no_trusted_proxy_is_not_even_read() {
    let fixture = fixture().await;
    let message = framed(&Check::page("public.example.com", "/").0.encode_to_vec()).freeze();
    let stranger = Peer::at([192, 0, 2, 66].into());
    assert_eq!(
        said(fixture.gate.check(call(message.clone()), stranger).await).await,
        Said::Status(Code::PermissionDenied)
    );
    let request = call(Bytes::new()).map(|_| Endless);
    assert_eq!(said(fixture.gate.check(request, stranger).await).await, Said::Status(Code::PermissionDenied));
    assert_eq!(said(fixture.gate.check(call(message), Peer::Unix).await).await.status(), 200);
}

#[tokio::test]
async fn a51_the_application_gets_neither_our_cookie_nor_a_password_meant_for_us() {
    let fixture = fixture().await;
    let session = fixture.cookie(Factors::PASSWORD).await;
    let at = |host: &str, cookie: String| Check::page(host, "/").header("cookie", cookie);
    #[rustfmt::skip]
    let table = [
        // because                              cookie                                          set                          removed
        ("alone",                               session.clone(),                                None,                        true),
        ("among others",                        format!("a=1; {session}; b=\"2\""),             Some("a=1; b=\"2\""),        false),
        ("one that is no session",              "a=1;authelia_session=dead".to_owned(),         Some("a=1"),                 false),
        ("in letters of another case",          "AUTHELIA_SESSION=x".to_owned(),                None,                        false),
        ("not there",                           "a=1; b=2".to_owned(),                          None,                        false),
        ("as part of another's name or value",  "xauthelia_session=1; a=authelia_session".to_owned(), None,                  false),
    ];
    for (because, cookie, set, removed) in table {
        let said = fixture.check(at("public.example.com", cookie)).await;
        assert_eq!(said.header("cookie"), set, "{because}");
        assert_eq!(said.allowed().1.iter().any(|name| name == "cookie"), removed, "{because}");
    }
    let two_lines = at("public.example.com", format!("a=1; {session}")).header("cookie", "b=2").raw();
    assert_eq!(fixture.check(two_lines).await.header("cookie"), Some("a=1; b=2"));

    let basic = fixture.check(Check::page("one.example.com", "/").header("authorization", GOOD)).await;
    assert!(basic.allowed().1.iter().any(|name| name == "authorization"));
    let foreign = fixture.check(at("one.example.com", session).header("authorization", "Bearer abc")).await;
    assert!(!foreign.allowed().1.iter().any(|name| name == "authorization"), "somebody else's token");
}

#[tokio::test]
async fn a51_the_portal_keeps_our_cookie() {
    let fixture = fixture().await;
    let session = fixture.cookie(Factors::PASSWORD).await;
    let said = fixture.check(Check::page("auth.example.com", "/").header("cookie", session)).await;
    assert_eq!(said.header("cookie"), None);
    assert!(!said.allowed().1.iter().any(|name| name == "cookie"));
}

#[tokio::test]
async fn a59_bytes_that_are_not_utf8_are_answered() {
    let fixture = fixture().await;
    let page = || Check::page("public.example.com", "/");
    for raw in [false, true] {
        let odd = page().header("x", b"\xff\xfe").header("cookie", b"a=\xff; b=2; authelia_session=\xfe");
        let odd = if raw { odd.raw() } else { odd };
        let said = fixture.check(odd).await;
        assert_eq!(said.header("cookie"), Some("b=2"));
        assert_eq!(said.status(), 200);
    }
    assert_eq!(fixture.check(page().header("x", b"a\nb")).await.status(), 400, "no header can have this value");
    assert_eq!(fixture.check(page().header("a b", b"x")).await.status(), 400, "nor this name");
    assert_eq!(fixture.check(page().with(|http| http.path = b"/\xff"[..].into()).without(":path")).await.status(), 400);
    assert_eq!(
        fixture.check(page().with(|http| http.host = b"\xff"[..].into()).without(":authority")).await.status(),
        400
    );
}

#[tokio::test]
async fn what_is_no_check_gets_a_status_that_is_not_ok() {
    let fixture = fixture().await;
    let good = Check::page("public.example.com", "/").0.encode_to_vec();
    let whole = framed(&good);
    let with = |change: fn(&mut BytesMut)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        bytes.freeze()
    };
    #[rustfmt::skip]
    let table = [
        ("as it should be",            with(|_| ()),                                   None),
        ("nothing",                    Bytes::new(),                                   Some(Code::Internal)),
        ("half a prefix",              whole.clone().freeze().slice(..3),              Some(Code::Internal)),
        ("compressed",                 with(|bytes| bytes[0] = 1),                     Some(Code::Unimplemented)),
        ("flags that there are not",   with(|bytes| bytes[0] = 2),                     Some(Code::Internal)),
        ("cut short",                  with(|bytes| bytes.truncate(bytes.len() - 1)),  Some(Code::Internal)),
        ("something behind it",        with(|bytes| bytes.put_u8(0)),                  Some(Code::Internal)),
        ("a second message",           with(|bytes| bytes.put_slice(&framed(b""))),    Some(Code::Internal)),
        ("a length beyond everything", with(|bytes| bytes[1] = 255),                   Some(Code::ResourceExhausted)),
        ("longer than allowed",        framed(&vec![0; 64 * 1024 + 1]).freeze(),       Some(Code::ResourceExhausted)),
        ("no message of ours",         framed(b"\xff\xff\xff\xff").freeze(),           Some(Code::InvalidArgument)),
        ("attributes that are text",   framed(b"\x0a\x04text").freeze(),               Some(Code::InvalidArgument)),
    ];
    for (because, body, expected) in table {
        let said = send(&fixture.gate, call(body)).await;
        match expected {
            Some(code) => assert_eq!(said, Said::Status(code), "{because}"),
            None => assert_eq!(said.status(), 200, "{because}"),
        }
    }
    let whole = whole.freeze();
    let mut other = call(whole.clone());
    *other.uri_mut() = "http://portcullis/envoy.service.auth.v2.Authorization/Check".parse().unwrap();
    assert_eq!(send(&fixture.gate, other).await, Said::Status(Code::Unimplemented));
    let mut get = call(whole.clone());
    *get.method_mut() = hyper::Method::GET;
    assert_eq!(send(&fixture.gate, get).await, Said::Http(405));
    let mut http1 = call(whole.clone());
    *http1.version_mut() = Version::HTTP_11;
    assert_eq!(send(&fixture.gate, http1).await, Said::Http(505));
    let mut json = call(whole);
    json.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc+json"));
    assert_eq!(send(&fixture.gate, json).await, Said::Http(415));
}

#[tokio::test]
async fn fields_that_are_not_known_are_passed_over() {
    let fixture = fixture().await;
    let mut message = Check::page("public.example.com", "/").0.encode_to_vec();
    // Field 15 as a number and 13 as bytes, at the end of `CheckRequest`.
    message.extend_from_slice(&[15 << 3, 7, 13 << 3 | 2, 3, b'a', b'b', b'c']);
    assert_eq!(send(&fixture.gate, call(framed(&message).freeze())).await.status(), 200);
}

/// How long a message may take in these tests.
const TIME: Duration = Duration::from_secs(6);

/// A body that is never sent.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

proptest! {
    #[test]
    fn a_message_is_read_as_it_was_framed(message in proptest::collection::vec(any::<u8>(), 0..200), limit in 0_usize..200) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let read = runtime.block_on(frame::read(Full::new(framed(&message).freeze()), limit, TIME));
        if message.len() <= limit {
            prop_assert_eq!(read.unwrap(), message);
        } else {
            prop_assert!(read.is_err());
        }
    }

    #[test]
    fn no_bytes_are_a_message_unless_they_are_framed_as_one(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        if let Ok(message) = runtime.block_on(frame::read(Full::new(Bytes::from(bytes.clone())), 1_024, TIME)) {
            prop_assert_eq!(framed(&message).freeze(), bytes);
        }
    }

    #[test]
    fn whatever_the_header_fields_are_reading_them_ends(fields in proptest::collection::vec(
        (proptest::collection::vec(any::<u8>(), 0..20), proptest::collection::vec(any::<u8>(), 0..20)), 0..8,
    )) {
        let entry = |(key, value): (Vec<u8>, Vec<u8>)| MapEntry { key: key.into(), value: value.into() };
        let http = HttpRequest { headers: fields.into_iter().map(entry).collect(), ..HttpRequest::default() };
        if let Ok(fields) = Fields::read(&http) {
            prop_assert!(!fields.headers.contains_key("remote_user"));
        }
    }
}
