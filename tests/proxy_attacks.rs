//! The attack catalogue through the five real proxies, Envoy in both of its ways to ask, as `deploy/` configures them: the
//! application behind must not see an attack succeed. `tests/proxies.rs` has the everyday behaviours, and the attacks that go with them.

#![cfg(test)]

#[macro_use]
mod harness;

use std::time::{Duration, Instant};

use url::Url;

use harness::client::Request;
use harness::portcullis::USERS;
use harness::proxy::{CADDY, ENVOY, ENVOY_GRPC, HAPROXY, NGINX, Proxy, TRAEFIK};
use harness::redis::{RedisServer, Transport};
use harness::stand::{Stand, seen};

const CONFIG: &str = "
server: {address: 'tcp://{gate}/', grpc: {address: 'tcp://{grpc}'}}
portal: {address: 'tcp://{portal}/'}
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
    - {domain: app.example.com, resources: ['^(/api)?/public/'], policy: bypass}
    - {domain: app.example.com, resources: ['^(/api)?/admin'], policy: deny}
    - {domain: app.example.com, policy: one_factor}
";

impl Stand {
    #[track_caller]
    fn start(proxy: Proxy) -> Stand {
        Stand::with_store(proxy, "name: authelia_session")
    }

    #[track_caller]
    fn with_store(proxy: Proxy, store: &str) -> Stand {
        Stand::build(proxy, &CONFIG.replace("{store}", store), USERS)
    }

    /// A session cookie of john's.
    #[track_caller]
    fn sign_in(&self) -> String {
        let answer = self.send(
            &Request::script("POST", "auth.example.com", "/api/firstfactor")
                .header("Origin", "https://auth.example.com")
                .body("application/json", br#"{"username":"john","password":"password"}"#),
        );
        assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
        answer.header("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned()
    }

    /// Sends what must not reach the application: neither is it answered 200, nor is anything served.
    #[track_caller]
    fn must_not_pass(&self, request: &Request, because: &str) {
        let before = self.application.served();
        if let Ok(response) = self.proxy.https.try_send(request) {
            assert!(response.status >= 300, "{because}: {response:?}");
        }
        assert_eq!(self.application.served(), before, "{because} reached the application");
    }

    /// Sends what may reach the application only below `/public/`, in whatever way the application reads its path.
    #[track_caller]
    fn only_to_the_public(&self, target: &str) {
        let Ok(response) = self.proxy.https.try_send(&Request::script("GET", "app.example.com", target)) else {
            return;
        };
        if response.status == 200 {
            let served = seen(&response).target;
            for reading in readings(&served) {
                assert!(reading.starts_with("/public/"), "{target} was served as {served}, which may be {reading}");
            }
        }
    }
}

/// What applications make of a target: dot segments resolved with and without decoding, slashes merged or not.
fn readings(target: &str) -> Vec<String> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let lower = path.to_ascii_lowercase();
    let dots = lower.replace("%2e", ".");
    let all = dots.replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    let mut found = Vec::new();
    for decoded in [path.to_owned(), dots, all] {
        let mut kept: Vec<&str> = Vec::new();
        for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
            match segment {
                "." => {}
                ".." => drop(kept.pop()),
                name => kept.push(name),
            }
        }
        found.push(format!("/{}{}", kept.join("/"), if decoded.ends_with('/') { "/" } else { "" }));
    }
    found
}

/// Ways from a public corner to somewhere else.
const DETOURS: [&str; 43] = [
    "/public/../admin",
    "/public/%2e%2e/admin",
    "/public/.%2E/admin",
    "/public%2f..%2fadmin",
    "/public/..%2fadmin",
    "/public/..%5cadmin",
    "/public\\..\\admin",
    "/public//../admin",
    "/public/..//admin",
    "/public//..//admin",
    "/public///../../admin",
    "//public/../admin",
    "//admin/users",
    "///admin",
    "//admin//public/",
    "/admin/public/",
    "/admin%2f..%2fpublic/x",
    "/admin/..%2fpublic/x",
    "/admin/../public/../admin",
    "/admin//../public/../admin",
    "/api/%2e%2e/admin",
    "/api/../admin",
    "/api/..%2fadmin",
    "/api%2f..%2fadmin",
    "/api//admin",
    "/api//../admin",
    "/api/public/../admin",
    "/api/public/%2e%2e/%2e%2e/admin",
    "/api/public/..%2f..%2fadmin",
    "/api/api/admin",
    "/apiadmin",
    "/api/public/#/../../admin",
    "/public/#/../../admin",
    "/public/..;/admin",
    "/..",
    "/../admin",
    "/a/b/../../../admin",
    "/public/../../admin",
    "/%252e%252e/admin",
    "/public/%25252e%25252e/admin",
    "/admin%23/public/",
    "/admin%3f/public/",
    "/admin;/public/",
];

fn a05_a08_no_detour_leads_out_of_a_public_corner(stand: &Stand) {
    assert_eq!(seen(&stand.send(&Request::script("GET", "app.example.com", "/public/page"))).target, "/public/page");
    DETOURS.iter().for_each(|target| stand.only_to_the_public(target));
}

fn a14_a15_a16_odd_bytes_open_nothing(stand: &Stand) {
    for odd in [
        "\u{0}",
        "\u{1}",
        "\t",
        "\u{b}",
        "\u{7f}",
        "\u{e9}",
        "%00",
        "%01",
        "%0a",
        "%0d%0aX:%20y",
        "%7f",
        "%80",
        "%ff",
        "%c0%ae",
        "%zz",
        "%",
        "%2500",
    ] {
        for target in [
            format!("/admin{odd}"),
            format!("/public/{odd}/../../admin"),
            format!("/{odd}admin"),
            format!("/admin?{odd}"),
        ] {
            stand.must_not_pass(&Request::script("GET", "app.example.com", &target), &format!("{target:?}"));
        }
    }
    // A59: the question is answered all the same, and with a no.
    for value in [b"\xff\xfe".as_slice(), b"\x80", b"\xc0\xae"] {
        for name in ["X-Odd", "Cookie", "Accept", "Authorization", "X-Forwarded-For"] {
            let request = Request::script("GET", "app.example.com", "/admin").header_bytes(name, value);
            stand.must_not_pass(&request, &format!("{name}: {value:?}"));
        }
    }
    for target in ["", "*", "admin", "@public.example.com/", "?x", "http:///", "//"] {
        stand.must_not_pass(&Request::script("GET", "app.example.com", target), &format!("`{target}`"));
    }
    for host in [
        "app.example.com\u{0}",
        "public.example.com,app.example.com",
        "app.example.com public.example.com",
        "public.example.com@app.example.com",
        "app.example.com..",
        "app%2eexample.com",
    ] {
        let request = Request::script("GET", host, "/");
        if let Ok(response) = stand.proxy.https.try_send_as("app.example.com", &request) {
            assert!(response.status >= 300, "{host}: {response:?}");
        }
        assert_eq!(stand.application.served(), 0, "{host} reached the application");
    }
}

fn a36_no_address_that_a_client_names_is_believed(stand: &Stand) {
    let names = [
        "X-Forwarded-For",
        "x-forwarded-for",
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X-Real-IP",
        "Forwarded",
        "True-Client-IP",
        "CF-Connecting-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "X-Envoy-External-Address",
        "X-Original-Forwarded-For",
    ];
    for name in names {
        for value in ["192.0.2.7", "192.0.2.7, 127.0.0.1", "for=192.0.2.7", "127.0.0.1, 192.0.2.7", "::ffff:192.0.2.7"]
        {
            let request = Request::script("GET", "lan.example.com", "/").header(name, value);
            stand.must_not_pass(&request, &format!("{name}: {value}"));
            stand.must_not_pass(&request.header(name, "192.0.2.8"), &format!("{name} twice"));
        }
    }
}

fn a39_a46_no_alias_of_an_identity_reaches_the_application(stand: &Stand) {
    let page = Request::script("GET", "public.example.com", "/");
    let odd_bytes = ["-", "_", ".", "~", "!", "+", "|", "*", "'", "^"];
    let names = ["Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"];
    let aliases: Vec<String> = names
        .iter()
        .flat_map(|name| odd_bytes.map(|odd| name.replace('-', odd)))
        .flat_map(|alias| [alias.to_lowercase(), alias])
        .collect();
    // One by one, for a refusal of one must not hide another, and all at once. A refusal is as good.
    let alone = aliases.iter().map(|alias| page.clone().header(alias, "forged"));
    let together = aliases.iter().fold(page.clone(), |request, alias| request.header(alias, "forged"));
    for request in alone.chain([together]) {
        let response = stand.send(&request);
        assert!(matches!(response.status, 200 | 400), "{request:?}: {response:?}");
        if response.status == 200 {
            for (name, value) in seen(&response).headers {
                let folded = name.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
                assert!(
                    !folded.starts_with("remote-") || value.is_empty(),
                    "`{name}: {value}` reached the application of {request:?}"
                );
            }
        }
    }
    let facts = [
        ("X-Forwarded-Uri", "/public/"),
        ("X-Forwarded-Host", "public.example.com"),
        ("X-Forwarded-Method", "OPTIONS"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Original-URL", "https://public.example.com/"),
        ("X-Original-Method", "OPTIONS"),
    ];
    for (name, value) in facts {
        let parts: Vec<&str> = name.split('-').collect();
        for joined in [["-", "-"], ["_", "-"], ["-", "_"], ["_", "_"], [".", "-"], ["-", "."]] {
            let alias = format!("{}{}{}{}{}", parts[0], joined[0], parts[1], joined[1], parts[2]);
            for host in ["app.example.com", "lan.example.com"] {
                stand.must_not_pass(&Request::script("GET", host, "/admin").header(&alias, value), &alias);
            }
        }
    }
}

fn a51_no_refusal_repeats_a_credential(stand: &Stand) {
    let cookie = stand.sign_in();
    let id = cookie.split_once('=').map_or("", |(_, id)| id).to_owned();
    assert!(id.len() > 20, "{cookie}");
    let basic = "Basic am9objp0ZWxsLXRhbGU=";
    for host in ["app.example.com", "lan.example.com", "unheard-of.example.com"] {
        for (target, wants) in
            [("/admin", "text/html"), ("/", "application/json"), ("/%00", "text/html"), ("/%zz", "text/html")]
        {
            let request = Request::new("GET", host, target)
                .header("Accept", wants)
                .cookie(&cookie)
                .header("Authorization", basic);
            let response = stand.send(&request);
            assert!(response.status >= 300, "{host}{target}: {response:?}");
            let whole = format!("{:?}{}", response.headers, response.text());
            assert!(!whole.contains(&id) && !whole.contains("am9objp0ZWxsLXRhbGU"), "{host}{target}: {whole}");
        }
    }
    // An application's own answer comes back as it is, and nothing of ours is put into it.
    let response = stand.send(&Request::script("GET", "public.example.com", "/").cookie(&cookie));
    assert_eq!(response.headers("set-cookie"), Vec::<&str>::new(), "a52");
}

fn a53_a54_the_method_that_is_served_is_the_one_that_is_judged(stand: &Stand) {
    for (name, value) in
        [("X-HTTP-Method-Override", "POST"), ("X-Forwarded-Method", "POST"), ("X-Original-Method", "POST")]
    {
        stand.must_not_pass(&Request::script("GET", "post.example.com", "/").header(name, value), name);
    }
    let long = "A".repeat(4_000);
    for method in ["get", "post", "GET,POST", "\"POST\"", "M-SEARCH", "TRACE", "CONNECT", "PRI", long.as_str()] {
        stand.must_not_pass(&Request::script(method, "post.example.com", "/"), &format!("{method:.20}"));
    }
    let posted = Request::script("POST", "post.example.com", "/").body("text/plain", b"x");
    assert_eq!(seen(&stand.send(&posted)).method, "POST");
}

fn a55_a_preflight_is_no_way_in(stand: &Stand) {
    let bare = Request::script("OPTIONS", "app.example.com", "/admin");
    let preflight = bare
        .clone()
        .header("Origin", "https://evil.com")
        .header("Access-Control-Request-Method", "DELETE")
        .header("Access-Control-Request-Headers", "authorization");
    for request in
        [bare.clone(), preflight.clone(), preflight.clone().body("text/plain", b"x"), bare.cookie("authelia_session=A")]
    {
        stand.must_not_pass(&request, "OPTIONS");
        assert_eq!(stand.send(&request).headers("access-control-allow-origin"), Vec::<&str>::new());
    }
}

fn a56_a_websocket_is_judged_like_a_page(stand: &Stand) {
    let socket = |host: &str, target: &str| {
        Request::new("GET", host, target)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", "https://evil.com")
    };
    stand.must_not_pass(&socket("app.example.com", "/ws"), "nobody");
    stand.must_not_pass(&socket("app.example.com", "/public/../admin"), "nobody, by a detour");
    stand.must_not_pass(&socket("lan.example.com", "/ws").header("X-Forwarded-For", "192.0.2.7"), "a forged address");
    let cookie = stand.sign_in();
    stand.must_not_pass(&socket("app.example.com", "/admin").cookie(&cookie), "where nobody may go");
    let (answer, _socket) = stand
        .proxy
        .https
        .open("app.example.com", &socket("app.example.com", "/ws").cookie(&cookie))
        .expect("an answer");
    assert_eq!(answer.status, 101, "{answer:?}");
    let sign_out = Request::script("POST", "auth.example.com", "/api/logout")
        .cookie(&cookie)
        .header("Origin", "https://auth.example.com")
        .body("application/json", b"{}");
    assert_eq!(stand.send(&sign_out).status, 200);
    stand.must_not_pass(&socket("app.example.com", "/ws").cookie(&cookie), "after signing out");
}

/// The host and the path that the gate judged are those that the application gets, however they are written.
fn a17_a24_what_is_served_is_what_was_judged(stand: &Stand) {
    for host in ["app.example.com,public.example.com", "app.example.com, public.example.com"] {
        let request = Request::script("GET", host, "/admin");
        let before = stand.application.served();
        let answer = stand.proxy.https.try_send_as("app.example.com", &request);
        assert!(answer.is_ok_and(|answer| answer.status >= 400), "{host}");
        assert_eq!(stand.application.served(), before, "{host} reached the application");
    }
    // `new URL()`, with which applications read these, makes `public` the host and `/admin` the path.
    for target in ["https:///public/admin", "HTTPS:///public/admin", "https://app.example.com@public/public/admin"] {
        let Ok(answer) = stand.proxy.https.try_send(&Request::script("GET", "app.example.com", target)) else {
            continue;
        };
        if answer.status == 200 {
            assert_eq!(seen(&answer).target, "/public/admin", "{target}");
        }
    }
    // It has no path that a rule could be about.
    let before = stand.application.served();
    let _ = stand.proxy.https.try_send(&Request::script("OPTIONS", "public.example.com", "*"));
    assert_eq!(stand.application.served(), before, "`OPTIONS *` reached the application");
}

/// A connection that speaks HTTP/2 from here on would carry questions that nobody asks the gate.
fn a56_no_connection_turns_into_http2_behind_the_gates_back(stand: &Stand) {
    for protocols in [&["h2c"][..], &["H2C"], &["h2c, websocket"], &["websocket, h2c"], &["websocket", "h2c"]] {
        let mut request = Request::new("GET", "public.example.com", "/")
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
        for protocol in protocols {
            request = request.header("Upgrade", protocol);
        }
        let before = stand.application.served();
        let Ok(answer) = stand.proxy.https.try_send(&request) else { continue };
        if answer.status == 101 {
            assert_eq!(answer.header("upgrade"), Some("websocket"), "{protocols:?}");
        } else if stand.application.served() > before {
            let upgrades = seen(&answer).values("upgrade").join(",").to_ascii_lowercase();
            assert!(!upgrades.contains("h2c"), "{protocols:?}: {upgrades}");
        }
    }
}

fn a60_a61_framing_smuggles_nothing_and_keeps_nobody_waiting(stand: &Stand) {
    let begun = Instant::now();
    for (name, value) in [("Content-Length", "10"), ("Content-Length", "104857600"), ("Transfer-Encoding", "chunked")] {
        // Servers written in Go would else wait for the rest of a short body before they write their answer.
        let post = Request::script("POST", "app.example.com", "/upload").header("Connection", "close");
        stand.must_not_pass(&post.header(name, value), value);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "a61: {:?}", begun.elapsed());

    let inner = "GET /admin HTTP/1.1\r\nHost: app.example.com\r\nRemote-User: admin\r\n\r\n";
    let length = inner.len().to_string();
    let post = |lines: &[(&str, &str)], body: &str| {
        let mut request = Request::script("POST", "public.example.com", "/");
        for (name, value) in lines {
            request = request.header(name, value);
        }
        request.raw_body(format!("{body}{inner}").as_bytes())
    };
    for (because, request) in [
        ("both framings", post(&[("Content-Length", &length), ("Transfer-Encoding", "chunked")], "0\r\n\r\n")),
        ("the other way round", post(&[("Transfer-Encoding", "chunked"), ("Content-Length", "4")], "0\r\n\r\n")),
        ("a space before the colon", post(&[("Transfer-Encoding ", "chunked"), ("Content-Length", "5")], "0\r\n\r\n")),
        ("an unknown coding", post(&[("Transfer-Encoding", "xchunked"), ("Content-Length", "5")], "0\r\n\r\n")),
        ("two codings", post(&[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "identity")], "0\r\n\r\n")),
        ("two lengths", post(&[("Content-Length", "0"), ("Content-Length", &length)], "")),
        ("a sign", post(&[("Content-Length", "+0")], "")),
        ("an underscore", post(&[("Transfer_Encoding", "chunked"), ("Content-Length", "0")], "")),
    ] {
        // The outer one may be served, once; the inner one is pipelined at best, and then judged by itself.
        let before = stand.application.served();
        if let Ok(response) = stand.proxy.https.try_send(&request)
            && response.status == 200
        {
            assert_ne!(seen(&response).target, "/admin", "{because}");
        }
        // Whatever is underway has come by once another request is through.
        assert_eq!(stand.send(&Request::script("GET", "public.example.com", "/")).status, 200);
        assert!(stand.application.served() <= before + 2, "{because}: the inner one was served");
    }
}

/// A101 with the session store gone: what needs no session is served, everything else refused.
fn a101_nothing_passes_while_redis_is_away(proxy: Proxy) {
    let mut redis = RedisServer::start(Transport::Tcp, &[]);
    let store = format!("secret: not a secret\n  redis: {{host: 127.0.0.1, port: {}, timeout: 300 ms}}", redis.port());
    let stand = Stand::with_store(proxy, &store);
    let cookie = stand.sign_in();
    let page = Request::page("app.example.com", "/").cookie(&cookie);
    assert_eq!(stand.send(&page).status, 200, "before");
    let away = |how: &str| {
        let before = stand.application.served();
        for request in [
            page.clone(),
            page.clone().posted().body("text/plain", b"x"),
            Request::script("GET", "app.example.com", "/admin").cookie(&cookie),
        ] {
            let response = stand.send(&request);
            assert!(response.status >= 500, "{how}: {response:?}");
        }
        assert_eq!(stand.application.served(), before, "{how}: something got through");
        assert_eq!(stand.send(&Request::page("public.example.com", "/").cookie(&cookie)).status, 200, "{how}: bypass");
    };
    redis.freeze();
    away("frozen");
    redis.thaw();
    redis.kill();
    away("killed");
    redis.restart();
    let deadline = Instant::now() + Duration::from_secs(20);
    while stand.send(&page).status >= 500 {
        assert!(Instant::now() < deadline, "it does not recover");
    }
    assert_eq!(stand.send(&page).status, 302, "an empty store knows nobody");
}

macro_rules! suite {
    ($($module:ident: $proxy:expr),+ $(,)?) => {$(
        mod $module {
            use super::*;

            behaviours!($proxy;
                a05_a08_no_detour_leads_out_of_a_public_corner
                a14_a15_a16_odd_bytes_open_nothing
                a17_a24_what_is_served_is_what_was_judged
                a36_no_address_that_a_client_names_is_believed
                a39_a46_no_alias_of_an_identity_reaches_the_application
                a51_no_refusal_repeats_a_credential
                a53_a54_the_method_that_is_served_is_the_one_that_is_judged
                a55_a_preflight_is_no_way_in
                a56_a_websocket_is_judged_like_a_page
                a56_no_connection_turns_into_http2_behind_the_gates_back
                a60_a61_framing_smuggles_nothing_and_keeps_nobody_waiting
            );

            #[test]
            fn a101_nothing_passes_while_redis_is_away() {
                super::a101_nothing_passes_while_redis_is_away($proxy);
            }
        }
    )+};
}

suite! {
    nginx: NGINX,
    traefik: TRAEFIK,
    caddy: CADDY,
    envoy: ENVOY,
    envoy_grpc: ENVOY_GRPC,
    haproxy: HAPROXY,
}

#[test]
fn a05_nginx_may_merge_slashes_or_not() {
    const ON: &[(&str, &str)] = &[("ignore_invalid_headers on;", "ignore_invalid_headers on;\nmerge_slashes on;")];
    const OFF: &[(&str, &str)] = &[("ignore_invalid_headers on;", "ignore_invalid_headers on;\nmerge_slashes off;")];
    for edits in [ON, OFF] {
        a05_a08_no_detour_leads_out_of_a_public_corner(&Stand::start(NGINX.edited(edits)));
    }
}

#[test]
fn a18_traefik_may_strip_a_prefix_before_or_after_the_question() {
    const MIDDLEWARE: (&str, &str) = (
        "    # An empty value removes the header.",
        "    strip-api: {stripPrefix: {prefixes: [/api]}}\n\n    # An empty value removes the header.",
    );
    const PLAIN: &str = "middlewares: [strip-forged-headers, portcullis]";
    const AFTER: &[(&str, &str)] = &[MIDDLEWARE, (PLAIN, "middlewares: [strip-forged-headers, portcullis, strip-api]")];
    const BEFORE: &[(&str, &str)] =
        &[MIDDLEWARE, (PLAIN, "middlewares: [strip-forged-headers, strip-api, portcullis]")];
    for edits in [AFTER, BEFORE] {
        let stand = Stand::start(TRAEFIK.edited(edits));
        let page = seen(&stand.send(&Request::script("GET", "app.example.com", "/api/public/page")));
        assert_eq!(page.target, "/public/page", "it is stripped");
        DETOURS.iter().for_each(|target| stand.only_to_the_public(target));
    }
}

/// The file that is shipped asks about `$request_uri`. The variable that many guides have, `$uri`, is decoded and cleaned:
/// with it, this very test would let a path below /admin pass, to an application that takes `%2f` for a letter.
#[test]
fn a19_nginx_must_ask_about_the_target_as_received() {
    const WRONG: &[(&str, &str)] = &[
        ("X-Original-URL $scheme://$host$request_uri;", "X-Original-URL $scheme://$host$asked;"),
        (
            "        auth_request /.portcullis/authz;",
            "        set $asked $uri;\n        auth_request /.portcullis/authz;",
        ),
    ];
    let asked_about = |stand: &Stand, target: &str| {
        let response = stand.send(&Request::page("app.example.com", target));
        let location = Url::parse(response.header("location").expect("the way to sign in")).expect("a URL");
        location.query_pairs().find(|(name, _)| name == "rd").map(|(_, url)| url.into_owned()).expect("the way back")
    };
    let probe = "/a%2fb//c/../d?x=%2f";
    let (right, wrong) = (Stand::start(NGINX), Stand::start(NGINX.edited(WRONG)));
    assert_eq!(asked_about(&right, probe), format!("https://app.example.com{probe}"));
    assert_eq!(asked_about(&wrong, probe), "https://app.example.com/a/b/d", "decoded, merged, resolved, and no query");
    for target in [
        "/admin%2f..%2fpublic/x",
        "/admin/..%2fpublic/x",
        "/public%2f..%2fadmin",
        "/public//..//admin",
        "/static../secret",
    ] {
        right.must_not_pass(&Request::script("GET", "app.example.com", target), target);
    }
    let slipped = wrong.send(&Request::script("GET", "app.example.com", "/admin%2f..%2fpublic/x"));
    assert_eq!(seen(&slipped).target, "/admin%2f..%2fpublic/x", "this is what the shipped line keeps out");
}
