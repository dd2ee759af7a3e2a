//! Whole requests, through hyper's parser and the gate: no allow without a named rule (A15).
//!
//! A 200 at an authorization endpoint must be counted under a rule that exists; read anew from the
//! headers, in the plainest way, the request must be one that the reference matcher lets pass by that very
//! rule, for the person whose cookie or password it shows; and it must carry all four identity headers.
//! Nothing else is a 2xx, and nobody is sent to a host that is not ours.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri, Version};
use portcullis::authz::answer::Body;
use portcullis::peer::Peer;
use url::Url;

use super::gate::{self, Allowed, Fixture, IDENTITY};

/// `data` is what a proxy sends: one HTTP/1.1 request after another, with marks for the session cookies.
pub fn run(data: &[u8]) {
    gate::with(|fixture| {
        let wire = fixture.with_cookies(data);
        fixture.runtime.block_on(serve(fixture, &wire));
    });
}

async fn serve(fixture: &Fixture, wire: &[u8]) {
    let service = service_fn(async |request: Request<hyper::body::Incoming>| {
        let (parts, body) = request.into_parts();
        ask_in_other_ways(fixture, &parts).await;
        let answer = ask(fixture, &parts, Peer::at(IpAddr::from([127, 0, 0, 1])), Version::HTTP_11).await;
        drop(body);
        Ok::<_, Infallible>(answer)
    });
    let io = Wire { input: wire, output: 0 };
    // What hyper can't read it answers itself, and closes. All that is asked is asked at once, so the end of the
    // input comes before the first answer.
    let mut http1 = hyper::server::conn::http1::Builder::new();
    let _ = http1.half_close(true).max_buf_size(16 * 1024).serve_connection(io, service).await;
}

/// The same request over HTTP/2, and from a peer that nobody trusts.
async fn ask_in_other_ways(fixture: &Fixture, parts: &Parts) {
    ask(fixture, parts, Peer::at(IpAddr::from([127, 0, 0, 1])), Version::HTTP_2).await;
    let stranger = call(fixture, parts, Peer::at(IpAddr::from([198, 51, 100, 7])), Version::HTTP_11).await;
    if endpoint(parts.uri.path()).is_some() {
        assert!(!stranger.status().is_success(), "a stranger is let through (A34)");
        assert!(stranger.headers().get("location").is_none(), "and is told nothing");
    }
}

async fn call(fixture: &Fixture, parts: &Parts, peer: Peer, version: Version) -> Response<Body> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = version;
    *request.headers_mut() = parts.headers.clone();
    fixture.gate.call(request, peer, true).await
}

/// Asks the gate and judges its answer.
async fn ask(fixture: &Fixture, parts: &Parts, peer: Peer, version: Version) -> Response<Body> {
    let answer = call(fixture, parts, peer, version).await;
    let (status, headers) = (answer.status(), answer.headers());
    assert_eq!(headers.get("cache-control").map(HeaderValue::as_bytes), Some(&b"no-store"[..]));
    assert_eq!(headers.get("set-cookie"), None, "the gate sets no cookies");
    let endpoint = endpoint(parts.uri.path());
    if status.is_success() {
        assert_eq!(status.as_u16(), 200, "Envoy takes no other 2xx");
        match endpoint {
            Some(endpoint) => judge(fixture, parts, endpoint, &answer),
            None => assert!(is_health(parts.uri.path()), "200 at {}", parts.uri.path()),
        }
    }
    if let Some(location) = headers.get("location") {
        assert!(endpoint.is_some(), "a redirect at {} (A135)", parts.uri.path());
        leads_home(location);
    }
    answer
}

/// What must hold of a 200 at an authorization endpoint.
fn judge(fixture: &Fixture, parts: &Parts, endpoint: &str, answer: &Response<Body>) {
    let identity = IDENTITY.map(|name| {
        let values: Vec<_> = answer.headers().get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "every allow carries every identity header, once: {name}");
        values[0].to_str().expect("ASCII").to_owned()
    });
    let lines: Vec<&[u8]> = parts.headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    fixture.judge(Allowed {
        endpoint,
        identity,
        facts: facts(parts, endpoint),
        named: named(parts, endpoint),
        address: gate::client(Some(IpAddr::from([127, 0, 0, 1])), &lines),
        shown: parts.headers.values().map(HeaderValue::as_bytes).collect(),
        request: parts,
    });
}

/// The endpoint that a path means, as metrics name it; with or without the base path.
fn endpoint(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("/authelia").filter(|below| below.starts_with('/')).unwrap_or(path);
    let below = |at: &str| path.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        "/api/authz/forward-auth" | "/api/authz/forward-auth/" => Some("forward-auth"),
        "/api/authz/auth-request" | "/api/authz/auth-request/" => Some("auth-request"),
        _ if below("/api/authz/ext-authz") => Some("ext-authz"),
        _ if below("/api/verify") => Some("legacy"),
        _ => None,
    }
}

fn is_health(path: &str) -> bool {
    matches!(path, "/api/health" | "/authelia/api/health")
}

/// Method, scheme, authority and target as the endpoint's manual says where they stand; `None` where one is
/// missing or stands twice.
fn facts(parts: &Parts, endpoint: &str) -> Option<[Vec<u8>; 4]> {
    let all =
        |name: &str| parts.headers.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>();
    // Once, or not at all; twice is no answer.
    let one = |name: &str| match &all(name)[..] {
        [] => Some(None),
        [value] => Some(Some(value.clone()).filter(|value| !value.is_empty())),
        _ => None,
    };
    let scheme = || Some(one("x-forwarded-proto")?.unwrap_or_else(|| b"https".to_vec()));
    let own = |uri: &Uri| {
        let named = uri.authority().map(|authority| authority.as_str().as_bytes().to_vec());
        let host = one("host")?;
        if let (Some(named), Some(host)) = (&named, &host) {
            assert!(named.eq_ignore_ascii_case(host), "a request that names two hosts is let through (A31)");
        }
        named.or(host)
    };
    match endpoint {
        "forward-auth" => Some([
            one("x-forwarded-method")??,
            scheme()?,
            one("x-forwarded-host")??,
            one("x-forwarded-uri")?.unwrap_or_default(),
        ]),
        "auth-request" => url_facts(one("x-original-method")??, one("x-original-url")??),
        "ext-authz" => {
            let whole = parts.uri.path_and_query()?.as_str();
            let rest = whole.split_once("/api/authz/ext-authz")?.1;
            // The prefix may end in a slash of its own.
            let rest = if rest.starts_with("//") { &rest[1..] } else { rest };
            Some([parts.method.as_str().into(), scheme()?, own(&parts.uri)?, rest.into()])
        }
        _ => {
            let forwarded = one("x-forwarded-method")?;
            if let Some(url) = one("x-original-url")? {
                let original = one("x-original-method")?;
                if let (Some(original), Some(forwarded)) = (&original, &forwarded) {
                    assert_eq!(original, forwarded, "a request that names two methods is let through (A35)");
                }
                return url_facts(original.or(forwarded).unwrap_or_else(|| parts.method.as_str().into()), url);
            }
            let method = forwarded.unwrap_or_else(|| parts.method.as_str().into());
            let host = match one("x-forwarded-host")? {
                Some(host) => host,
                None => own(&parts.uri)?,
            };
            let target = match one("x-forwarded-uri")? {
                Some(target) => target,
                None => parts.uri.path_and_query()?.as_str().into(),
            };
            Some([method, scheme()?, host, target])
        }
    }
}

/// Whether a header names the method, and whether one names the target, where the manual lets them be absent.
fn named(parts: &Parts, endpoint: &str) -> [bool; 2] {
    let has = |name: &str| parts.headers.get(name).is_some_and(|value| !value.is_empty());
    match endpoint {
        "forward-auth" => [true, has("x-forwarded-uri")],
        "legacy" if has("x-original-url") => [has("x-original-method") || has("x-forwarded-method"), true],
        "legacy" => [has("x-forwarded-method"), true],
        _ => [true, true],
    }
}

fn url_facts(method: Vec<u8>, url: Vec<u8>) -> Option<[Vec<u8>; 4]> {
    let at = url.windows(3).position(|three| three == b"://")?;
    let rest = &url[at + 3..];
    let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
    Some([method, url[..at].to_vec(), rest[..end].to_vec(), rest[end..].to_vec()])
}

/// Whoever is sent to sign in is sent to a host of ours over TLS, and told to come back to one.
fn leads_home(location: &HeaderValue) {
    let location = location.to_str().expect("ASCII");
    let Ok(url) = Url::parse(location) else {
        assert!(location.starts_with("/api/") || location.starts_with("/authelia/api/"), "{location}");
        return;
    };
    assert!(matches!(url.scheme(), "https" | "wss"), "{location}");
    assert!(url.username().is_empty() && url.password().is_none(), "{location}");
    assert!(super::is_ours(url.host_str().unwrap_or_default().trim_end_matches('.')), "{location}");
    let back = url.query_pairs().find(|(name, _)| name == "rd").expect("a way back").1;
    let rest = back.strip_prefix("https://").or_else(|| back.strip_prefix("wss://")).expect("over TLS");
    let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    assert!(super::is_ours(host.strip_suffix('.').unwrap_or(&host)), "{back}");
}

/// A connection that holds all its input and forgets its output.
struct Wire<'a> {
    input: &'a [u8],
    output: usize,
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let (now, later) = self.input.split_at(self.input.len().min(buf.remaining()));
        buf.put_slice(now);
        self.input = later;
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.output += buf.len();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
