//! The gate as a proxy meets it: sub-requests in, answers out, without a socket.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Request, Version};

use super::settings::{Endpoint, Implementation, Schemes, Strategy, StrategyKind};
use super::{Gate, Settings};
use crate::clock::UnixTime;
use crate::factor::password::NewDigest;
use crate::identity::Refresh;
use crate::identity::file::FileBackend;
use crate::peer::{Peer, TrustedProxies};
use crate::policy::{Criteria, HostPattern, Policy, Requirement, Rule};
use crate::session::{Factors, Sessions, Site, Sites, StoreSettings, redis};
use crate::signin::SignIn;
use crate::signin::pool::HashingPool;
use crate::subject::Identity;
use crate::telemetry::metrics::Metrics;

/// `password`, as cheap as it gets.
const USERS: &str = "users:
  john:
    password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'
    displayname: John Doe
    email: john@example.com
    groups: [dev, admins]
";

/// `Basic john:password` and `Basic john:wrong`.
pub(super) const GOOD: &str = "Basic am9objpwYXNzd29yZA==";
pub(super) const BAD: &str = "Basic am9objp3cm9uZw==";

pub(super) struct Fixture {
    pub(super) gate: Gate,
    sessions: Arc<Sessions>,
    _folder: tempfile::TempDir,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    fn location(&self) -> &str {
        self.header("location").unwrap_or_default()
    }
}

fn rule(host: &str, requirement: Requirement, more: impl FnOnce(&mut Criteria)) -> Rule {
    let mut criteria = Criteria { hosts: vec![HostPattern::domain(host).unwrap()], ..Criteria::default() };
    more(&mut criteria);
    Rule::new(criteria, requirement).unwrap()
}

fn policy() -> Policy {
    Policy::compile(
        vec![
            rule("public.example.com", Requirement::Bypass, |_| ()),
            rule("denied.example.com", Requirement::Deny, |_| ()),
            rule("one.example.com", Requirement::OneFactor, |_| ()),
            rule("two.example.com", Requirement::TwoFactor, |_| ()),
            rule("staff.example.com", Requirement::Deny, |criteria| {
                criteria.subjects.push(vec!["group:banned".parse().unwrap()])
            }),
            rule("staff.example.com", Requirement::OneFactor, |criteria| {
                criteria.subjects.push(vec!["group:dev".parse().unwrap()])
            }),
            rule("lan.example.com", Requirement::Bypass, |criteria| {
                criteria.networks.push("192.0.2.0/24".parse().unwrap())
            }),
            rule("lan.example.com", Requirement::OneFactor, |_| ()),
            rule("query.example.com", Requirement::Bypass, |criteria| {
                criteria.resources.push(r"^/ok\?yes=1$".parse().unwrap())
            }),
            rule("query.example.com", Requirement::OneFactor, |_| ()),
            rule("auth.example.com", Requirement::Bypass, |_| ()),
            rule("post.example.com", Requirement::Bypass, |criteria| criteria.methods.push("POST".parse().unwrap())),
        ],
        Requirement::Deny,
    )
}

async fn fixture_with(endpoints: Vec<Endpoint>, store: StoreSettings) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.yaml");
    std::fs::write(&path, USERS).unwrap();
    let users =
        crate::identity::file::Settings { path, watch: false, search_email: true, search_case_insensitive: false };
    let accounts = Arc::new(FileBackend::load(users, NewDigest::default()).unwrap());
    let pool = HashingPool::start(crate::signin::pool::Settings::default()).unwrap();
    let signin = Arc::new(SignIn::new(accounts, crate::regulation::Limits::default(), pool).unwrap());
    let site = |domain: &str| Site {
        portal: Some(format!("https://auth.{domain}/").parse().unwrap()),
        ..Site::new(domain.parse().unwrap())
    };
    let sites = Sites::new(vec![site("example.com"), site("example.org")]).unwrap();
    let secret = Some(crate::secret::Secret::new("not a secret".to_owned()));
    let sessions = Arc::new(Sessions::open_store(&crate::session::Settings { sites, store, secret }).await.unwrap());
    let names = endpoints.iter().map(|endpoint| endpoint.name.as_str().to_owned());
    let metrics = Arc::new(Metrics::new(names.chain(["grpc".to_owned()]), policy().rule_count()).unwrap());
    let settings = Settings {
        endpoints,
        base_path: "/authelia".to_owned(),
        trusted_proxies: TrustedProxies::default(),
        portal_override: true,
        refresh: Refresh::Every(Duration::from_secs(300)),
        grpc: Some(super::grpc::Settings { message_bytes: 64 * 1024, message_time: Duration::from_secs(6) }),
    };
    Fixture {
        gate: Gate::new(settings, Arc::new(policy()), Arc::clone(&sessions), signin, metrics),
        sessions,
        _folder: folder,
    }
}

pub(super) async fn fixture() -> Fixture {
    fixture_with(Endpoint::defaults(), StoreSettings::Memory { capacity: 100 }).await
}

impl Fixture {
    /// A session of john's at example.com, as a `Cookie` value.
    pub(super) async fn cookie(&self, factors: Factors) -> String {
        self.cookie_at("example.com", factors).await
    }

    async fn cookie_at(&self, domain: &str, factors: Factors) -> String {
        let john = Identity::new("john", "John Doe", ["dev", "admins"], ["john@example.com"]).unwrap();
        let site = self.sessions.sites().of(domain).unwrap();
        let cookie = self.sessions.open(site, john, factors, false, UnixTime::now()).await.unwrap();
        cookie.as_str().split(';').next().unwrap().to_owned()
    }

    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Got {
        let mut request = Request::builder().method(method).uri(target).version(Version::HTTP_11);
        for (name, value) in headers {
            request = request.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), *value);
        }
        self.send(request.body(()).unwrap(), Peer::at([127, 0, 0, 1].into())).await
    }

    async fn send(&self, request: Request<()>, peer: Peer) -> Got {
        let answer = self.gate.call(request, peer, false).await;
        let (parts, body) = answer.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Got { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A page view as Traefik asks about it.
    async fn forward(&self, host: &str, more: &[(&str, &str)]) -> Got {
        let mut headers = vec![
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", host),
            ("x-forwarded-uri", "/a?b=c"),
            ("x-forwarded-for", "203.0.113.9"),
        ];
        for (name, value) in more {
            headers.retain(|(other, _)| other != name);
            headers.push((name, value));
        }
        if !more.iter().any(|(name, _)| *name == "accept") {
            headers.push(("accept", "text/html"));
        }
        self.ask("GET", "/api/authz/forward-auth", &headers).await
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
        ("one.example.com.",     302,       200,        200),
        ("example.net",          400,       400,        400),
        ("notexample.com",       400,       400,        400),
    ];
    for (host, anonymous, one, two) in table {
        assert_eq!(fixture.forward(host, &[]).await.status, anonymous, "anonymous at {host}");
        assert_eq!(fixture.forward(host, &[("cookie", &password)]).await.status, one, "one factor at {host}");
        assert_eq!(fixture.forward(host, &[("cookie", &both)]).await.status, two, "two factors at {host}");
    }
}

#[tokio::test]
async fn a45_every_allow_carries_every_identity_header() {
    let fixture = fixture().await;
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    let names = ["remote-user", "remote-groups", "remote-name", "remote-email"];
    for host in ["one.example.com", "public.example.com"] {
        let got = fixture.forward(host, &[("cookie", &cookie)]).await;
        let values = names.map(|name| got.header(name).unwrap());
        assert_eq!(values, ["john", "dev,admins", "John Doe", "john@example.com"], "{host}");
        assert_eq!(got.header("x-envoy-auth-headers-to-remove"), None);
    }
    let nobody = fixture.forward("public.example.com", &[]).await;
    assert_eq!(names.map(|name| nobody.header(name)), [Some(""); 4]);
    assert_eq!((nobody.status, nobody.body.as_str()), (200, "200 OK"));
    let envoy = fixture
        .ask("GET", "/api/authz/ext-authz//", &[("host", "public.example.com"), ("x-forwarded-proto", "https")])
        .await;
    assert_eq!(
        envoy.header("x-envoy-auth-headers-to-remove"),
        Some("Remote-User, Remote-Groups, Remote-Name, Remote-Email")
    );
    for refused in ["denied.example.com", "one.example.com", "example.net"] {
        let got = fixture.forward(refused, &[]).await;
        assert_eq!(names.map(|name| got.header(name)), [None; 4], "{refused}");
    }
}

#[tokio::test]
async fn w9_a52_a104_no_answer_may_be_stored_and_none_sets_a_cookie() {
    let fixture = fixture().await;
    for host in ["public.example.com", "denied.example.com", "one.example.com", "example.net"] {
        let got = fixture.forward(host, &[]).await;
        assert_eq!(got.header("cache-control"), Some("no-store"), "{host}");
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{host}");
        assert_eq!(got.header("x-frame-options"), Some("DENY"), "{host}");
        assert_eq!(got.header("set-cookie"), None, "{host}");
    }
}

#[tokio::test]
async fn a_person_is_sent_to_sign_in_with_the_way_back() {
    let fixture = fixture().await;
    #[rustfmt::skip]
    let table: [(&str, &[(&str, &str)], u16, &str); 9] = [
        ("a page",                 &[],                                                     302, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=GET"),
        ("a form",                 &[("x-forwarded-method", "POST")],                       303, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=POST"),
        ("OPTIONS",                &[("x-forwarded-method", "OPTIONS")],                    302, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=OPTIONS"),
        ("a script",               &[("accept", "application/json")],                       401, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=GET"),
        ("a script by its header", &[("x-requested-with", "XMLHttpRequest")],               401, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=GET"),
        ("the port is kept",       &[("x-forwarded-host", "one.example.com:8443")],         302, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%3A8443%2Fa%3Fb%3Dc&rm=GET"),
        ("no path",                &[("x-forwarded-uri", "")],                              302, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com&rm=GET"),
        ("a bare question mark",   &[("x-forwarded-uri", "/a?")],                           302, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3F&rm=GET"),
        ("a WebSocket",            &[("x-forwarded-proto", "wss"), ("accept", "")],         401, "https://auth.example.com/?rd=wss%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=GET"),
    ];
    for (because, more, status, location) in table {
        let got = fixture.forward("one.example.com", more).await;
        assert_eq!((got.status, got.location()), (status, location), "{because}");
        assert!(
            got.body.starts_with("<a href=\"https://auth.example.com/?rd=https%3A") || because == "a WebSocket",
            "{because}: {}",
            got.body
        );
    }
    let long = format!("/{}", "a".repeat(1_000));
    let got = fixture.forward("one.example.com", &[("x-forwarded-uri", &long)]).await;
    assert_eq!((got.status, got.body.as_str()), (302, "302 Found"), "what is long is not sent twice");
    assert!(got.location().len() > 1_000);
    let head = fixture.forward("one.example.com", &[("x-forwarded-method", "HEAD")]).await;
    assert_eq!((head.status, head.body.as_str()), (302, ""));
    let other = fixture.forward("app.example.org", &[]).await;
    assert_eq!(other.status, 403, "the default denies, so nobody is sent to sign in");
}

#[tokio::test]
async fn nginx_is_told_401_and_where_to_go() {
    let fixture = fixture().await;
    let nginx = async |url: &str, more: &[(&str, &str)]| {
        let mut headers = vec![("x-original-method", "GET"), ("x-original-url", url), ("accept", "text/html")];
        headers.extend_from_slice(more);
        fixture.ask("GET", "/api/authz/auth-request", &headers).await
    };
    let got = nginx("https://one.example.com/a?b=c", &[]).await;
    assert_eq!(
        (got.status, got.location()),
        (401, "https://auth.example.com/?rd=https%3A%2F%2Fone.example.com%2Fa%3Fb%3Dc&rm=GET")
    );
    assert_eq!(nginx("https://public.example.com/", &[]).await.status, 200);
    assert_eq!(nginx("https://denied.example.com/", &[]).await.status, 403);
    for bad in [
        "",
        "/a",
        "https://",
        "https:///a",
        "http://one.example.com/",
        "https://one.example.com/%zz",
        "https://one.example.com/\u{7f}",
        "https://u@one.example.com/",
        "https://one.example.com/a#b",
        "ftp://one.example.com/",
        "https://one.example.com@public.example.com/",
    ] {
        // A control byte can't even be put into a header.
        if !bad.contains('\u{7f}') {
            assert_eq!(nginx(bad, &[]).await.status, 400, "{bad}");
        }
    }
    // Another dialect's facts are a stranger's word.
    let got =
        nginx("https://one.example.com/", &[("x-forwarded-host", "public.example.com"), ("x-forwarded-uri", "/")])
            .await;
    assert_eq!(got.status, 401);
}

#[tokio::test]
async fn a40_a41_a_missing_fact_is_never_guessed() {
    let fixture = fixture().await;
    for missing in ["x-forwarded-method", "x-forwarded-host"] {
        assert_eq!(fixture.forward("public.example.com", &[(missing, "")]).await.status, 400, "{missing}");
    }
    // Not over TLS ourselves, so the target isn't either.
    assert_eq!(fixture.forward("public.example.com", &[("x-forwarded-proto", "")]).await.status, 400);
    for missing in ["x-original-method", "x-original-url"] {
        let mut headers = vec![("x-original-method", "GET"), ("x-original-url", "https://public.example.com/")];
        headers.retain(|(name, _)| *name != missing);
        assert_eq!(fixture.ask("GET", "/api/authz/auth-request", &headers).await.status, 400, "{missing}");
        assert_eq!(
            fixture.ask("GET", "/api/verify", &[("x-forwarded-proto", "https")]).await.status,
            401,
            "legacy says 401"
        );
    }
}

#[tokio::test]
async fn a24_w3_a_fact_given_twice_is_refused() {
    let fixture = fixture().await;
    for name in ["x-forwarded-method", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-uri"] {
        let mut headers = vec![
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example.com"),
            ("x-forwarded-uri", "/"),
        ];
        let twice = *headers.iter().find(|(other, _)| *other == name).unwrap();
        headers.push(twice);
        assert_eq!(fixture.ask("GET", "/api/authz/forward-auth", &headers).await.status, 400, "{name}");
    }
    assert_eq!(fixture.forward("public.example.com, denied.example.com", &[]).await.status, 400, "two in one line");
    let nginx = [
        ("x-original-method", "GET"),
        ("x-original-url", "https://public.example.com/"),
        ("x-original-url", "https://public.example.com/"),
    ];
    assert_eq!(fixture.ask("GET", "/api/authz/auth-request", &nginx).await.status, 400);
}

#[tokio::test]
async fn a111_a112_what_costs_too_much_is_refused_and_counted_by_its_limit() {
    let fixture = fixture().await;
    let parameters = format!("/ok?{}", "a&".repeat(1_001));
    for (target, status) in [
        ("/a%252f..;x//%255c..;y%3f/.%25252f", 400),
        (parameters.as_str(), 200), // no rule asks about one
        ("/a//b;c", 200),
    ] {
        assert_eq!(
            fixture.forward("public.example.com", &[("x-forwarded-uri", target)]).await.status,
            status,
            "{target}"
        );
    }
    let long = format!("/{}//x", "a".repeat(12_000));
    assert_eq!(fixture.forward("public.example.com", &[("x-forwarded-uri", &long)]).await.status, 400);
    let page = fixture.gate.metrics.render(Default::default(), Default::default()).unwrap();
    let page = String::from_utf8(page).unwrap();
    for series in ["reason=\"ambiguous\"} 1", "reason=\"too_much_work\"} 1"] {
        assert!(page.contains(&format!("portcullis_requests_refused_total{{{series}\n")), "{series}: {page}");
    }
}

#[tokio::test]
async fn a121_a_path_that_the_proxy_does_not_name_opens_nothing() {
    let fixture = fixture().await;
    let headers = |uri: Option<&'static str>| {
        let mut headers = vec![
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "query.example.com"),
        ];
        headers.extend(uri.map(|uri| ("x-forwarded-uri", uri)));
        headers
    };
    assert_eq!(fixture.ask("GET", "/api/authz/forward-auth", &headers(Some("/ok?yes=1"))).await.status, 200);
    assert_eq!(fixture.ask("GET", "/api/authz/forward-auth", &headers(None)).await.status, 401);
    let legacy = |method: Option<&'static str>| {
        let mut headers = vec![("x-original-url", "https://post.example.com/")];
        headers.extend(method.map(|method| ("x-original-method", method)));
        headers
    };
    assert_eq!(fixture.ask("POST", "/api/verify", &legacy(Some("POST"))).await.status, 200);
    let status = fixture.ask("POST", "/api/verify", &legacy(None)).await.status;
    assert_eq!(status, 403, "the sub-request's own method is not the application's");
}

#[tokio::test]
async fn a46_an_alias_of_an_identity_header_is_refused() {
    let fixture = fixture().await;
    assert_eq!(fixture.forward("public.example.com", &[("remote_user", "admin")]).await.status, 400);
    assert_eq!(fixture.forward("public.example.com", &[("x-forwarded_uri", "/")]).await.status, 400);
}

#[tokio::test]
async fn w1_a55_an_exact_endpoint_takes_get_and_head_only() {
    let fixture = fixture().await;
    for method in ["OPTIONS", "POST", "PUT", "get", "CONNECT"] {
        let got = fixture.ask(method, "/api/authz/forward-auth", &[("x-forwarded-method", "GET")]).await;
        assert_eq!((got.status, got.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let head =
        [("x-forwarded-method", "GET"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "public.example.com")];
    assert_eq!(fixture.ask("HEAD", "/api/authz/forward-auth", &head).await.status, 200);
}

#[tokio::test]
async fn paths_lead_to_endpoints_and_nowhere_else() {
    let fixture = fixture().await;
    let facts =
        [("x-forwarded-method", "GET"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "public.example.com")];
    #[rustfmt::skip]
    let table = [
        ("/api/authz/forward-auth",             200),
        ("/authelia/api/authz/forward-auth",    200),
        ("/autheliaapi/authz/forward-auth",     404),
        ("/api/authz/forward-auth//",           404),
        ("/api/authz/forward-auth/x",           404),
        ("/api/authz/forward-authx",            404),
        ("/api/authz/",                         404),
        ("/api/verify",                         200),
        ("/api/verify/anything",                200),
        ("/api/health",                         200),
        ("/authelia/api/health",                200),
        ("/api/health/",                        404),
        ("/",                                   404),
        ("/metrics",                            404),
    ];
    for (path, expected) in table {
        assert_eq!(fixture.ask("GET", path, &facts).await.status, expected, "{path}");
    }
    assert_eq!(fixture.ask("GET", "/api/health", &[]).await.body, r#"{"status":"OK"}"#);
}

#[tokio::test]
async fn a135_a_slash_at_the_end_of_an_endpoint_redirects_nobody() {
    let fixture = fixture().await;
    for host in ["public.example.com", "one.example.com", "denied.example.com"] {
        let url = format!("https://{host}/");
        let facts = [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", host),
            ("x-original-method", "GET"),
            ("x-original-url", &*url),
            ("accept", "text/html"),
        ];
        for endpoint in ["/api/authz/forward-auth", "/api/authz/auth-request", "/authelia/api/authz/forward-auth"] {
            for query in ["", "?authelia_url=https://login.example.com/"] {
                let plain = fixture.ask("GET", &format!("{endpoint}{query}"), &facts).await;
                let slash = fixture.ask("GET", &format!("{endpoint}/{query}"), &facts).await;
                let told = |answer: &Got| (answer.status, answer.header("location").map(str::to_owned));
                assert_eq!(told(&slash), told(&plain), "{endpoint}/{query} for {host}");
            }
            for method in ["POST", "OPTIONS"] {
                let answer = fixture.ask(method, &format!("{endpoint}/"), &facts).await;
                assert_eq!((answer.status, answer.header("location")), (405, None), "{method} {endpoint}/");
            }
        }
    }
    for path in
        ["/api/", "/api/authz/", "/api/health/", "/api/authz/forward-auth//", "/api/authz/nothing/", "//evil.example/"]
    {
        let answer = fixture.ask("GET", path, &[]).await;
        assert_eq!((answer.status, answer.header("location")), (404, None), "{path}");
    }
}

#[tokio::test]
async fn a10_a58_w2_w27_envoy_puts_the_target_behind_the_endpoints_path() {
    let fixture = fixture().await;
    let ask = async |method: &str, path: &str, host: &str| {
        let headers = [("host", host), ("x-forwarded-proto", "https"), ("accept", "text/html")];
        fixture.ask(method, &format!("/api/authz/ext-authz{path}"), &headers).await
    };
    #[rustfmt::skip]
    let table = [
        // because                                method     path                host                  status  way back
        ("the prefix ends in a slash",            "GET",     "//a?x=1",          "one.example.com",    302,    "https://one.example.com/a?x=1"),
        ("it does not",                           "GET",     "/a?x=1",           "one.example.com",    302,    "https://one.example.com/a?x=1"),
        ("the root",                              "GET",     "//",               "one.example.com",    302,    "https://one.example.com/"),
        ("the root, without a slash",             "GET",     "/",                "one.example.com",    302,    "https://one.example.com/"),
        ("nothing at all",                        "GET",     "",                 "one.example.com",    302,    "https://one.example.com"),
        ("W27: the path does not reach the host", "GET",     "/@public.example.com/x", "one.example.com", 302, "https://one.example.com/@public.example.com/x"),
        ("W27: nor does it extend it",            "GET",     "/.example.com/x",  "one.example.com",    302,    "https://one.example.com/.example.com/x"),
        ("the query decides",                     "GET",     "//ok?yes=1",       "query.example.com",  200,    ""),
        ("another query",                         "GET",     "//ok?yes=2",       "query.example.com",  302,    "https://query.example.com/ok?yes=2"),
        ("any method",                            "DELETE",  "//a",              "one.example.com",    303,    "https://one.example.com/a"),
        ("OPTIONS is judged as well",             "OPTIONS", "//a",              "denied.example.com", 403,    ""),
        ("climbing out is not possible",          "GET",     "//../../../api/health", "public.example.com", 400, ""),
    ];
    for (because, method, path, host, status, back) in table {
        let got = ask(method, path, host).await;
        assert_eq!(got.status, status, "{because}");
        if !back.is_empty() {
            let rd: String = form_urlencoded::byte_serialize(back.as_bytes()).collect();
            assert!(got.location().contains(&format!("rd={rd}&")), "{because}: {}", got.location());
        }
    }
}

#[tokio::test]
async fn a31_two_hosts_that_disagree_are_refused() {
    let fixture = fixture().await;
    let ask = async |uri: &str, version: Version, host: Option<&str>| {
        let mut request = Request::builder().uri(uri).version(version).header("x-forwarded-proto", "https");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        fixture.send(request.body(()).unwrap(), Peer::Unix).await.status
    };
    let public = "http://public.example.com/api/authz/ext-authz//a";
    assert_eq!(ask(public, Version::HTTP_2, None).await, 200, ":authority alone");
    assert_eq!(ask(public, Version::HTTP_2, Some("public.example.com")).await, 200, "the same twice");
    assert_eq!(ask(public, Version::HTTP_2, Some("denied.example.com")).await, 400, "HTTP/2 with another host");
    assert_eq!(
        ask(public, Version::HTTP_11, Some("denied.example.com")).await,
        400,
        "a17: absolute form with another Host"
    );
    assert_eq!(ask("/api/authz/ext-authz//a", Version::HTTP_11, None).await, 400, "no host at all");
}

#[tokio::test]
async fn a35_the_legacy_endpoint_takes_either_set_but_not_two_that_differ() {
    let fixture = fixture().await;
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    #[rustfmt::skip]
    let table: [(&str, &str, &[(&str, &str)], u16); 18] = [
        ("X-Original-Method counts",          "/api/verify", &[("x-original-url", "https://post.example.com/"), ("x-original-method", "POST")], 200),
        ("X-Forwarded-Method alone, too",     "/api/verify", &[("x-original-url", "https://post.example.com/"), ("x-forwarded-method", "POST")], 200),
        ("both, the same",                    "/api/verify", &[("x-original-url", "https://post.example.com/"), ("x-original-method", "POST"), ("x-forwarded-method", "POST")], 200),
        ("a client's own method",             "/api/verify", &[("x-original-url", "https://post.example.com/"), ("x-original-method", "GET"), ("x-forwarded-method", "POST")], 401),
        ("neither: the sub-request's own",    "/api/verify", &[("x-original-url", "https://post.example.com/")], 403),
        ("X-Original-URL",                    "/api/verify", &[("x-original-url", "https://public.example.com/")], 200),
        ("X-Forwarded-*",                     "/api/verify", &[("x-forwarded-proto", "https"), ("x-forwarded-host", "public.example.com"), ("x-forwarded-uri", "/")], 200),
        ("both, the same",                    "/api/verify", &[("x-original-url", "https://public.example.com/"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "public.example.com"), ("x-forwarded-uri", "/")], 200),
        ("a client's own X-Original-URL",     "/api/verify", &[("x-original-url", "https://public.example.com/"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "one.example.com"), ("x-forwarded-uri", "/")], 401),
        ("a client's own path",               "/api/verify", &[("x-original-url", "https://public.example.com/x"), ("x-forwarded-uri", "/y")], 401),
        ("another scheme",                    "/api/verify", &[("x-original-url", "https://public.example.com/"), ("x-forwarded-proto", "http")], 401),
        ("empty X-Original-URL: no fall-back", "/api/verify", &[("x-original-url", ""), ("x-forwarded-proto", "https"), ("x-forwarded-host", "public.example.com")], 401),
        ("a bad one",                         "/api/verify", &[("x-original-url", "public.example.com")], 401),
        ("anonymous, nowhere to go",          "/api/verify", &[("x-original-url", "https://one.example.com/")], 401),
        ("anonymous, told where to go",       "/api/verify?rd=https%3A%2F%2Fauth.example.com%2F", &[("x-original-url", "https://one.example.com/"), ("accept", "text/html")], 302),
        ("told to go elsewhere",              "/api/verify?rd=https%3A%2F%2Fevil.com%2F", &[("x-original-url", "https://public.example.com/")], 401),
        ("signed in",                         "/api/verify", &[("x-original-url", "https://one.example.com/"), ("cookie", &cookie)], 200),
        ("denied",                            "/api/verify", &[("x-original-url", "https://denied.example.com/")], 403),
    ];
    for (because, path, headers, status) in table {
        let got = fixture.ask("GET", path, headers).await;
        assert_eq!(got.status, status, "{because}");
        if because == "anonymous, nowhere to go" {
            assert_eq!(got.location(), "");
        }
    }
}

#[tokio::test]
async fn w7_a_request_may_name_only_our_own_sign_in_page() {
    let fixture = fixture().await;
    #[rustfmt::skip]
    let table = [
        ("another page of the domain",   "https://login.example.com/in?lang=de", 302, "https://login.example.com/in?lang=de&rd=https%3A%2F%2Fone.example.com&rm=GET"),
        ("with a port",                  "https://login.example.com:8080/",      302, "https://login.example.com:8080/?rd=https%3A%2F%2Fone.example.com&rm=GET"),
        ("its own rd is replaced",       "https://login.example.com/?rd=x&a=b",  302, "https://login.example.com/?a=b&rd=https%3A%2F%2Fone.example.com&rm=GET"),
        ("not over TLS",                 "http://login.example.com/",            400, ""),
        ("another domain",               "https://evil.com/",                    400, ""),
        ("another cookie domain",        "https://auth.example.org/",            400, ""),
        ("a path",                       "/login",                               400, ""),
        ("a script",                     "javascript:alert(1)",                  400, ""),
        ("nothing",                      "",                                     400, ""),
        ("a suffix without a dot",       "https://evilexample.com/",             400, ""),
        ("a user name that looks right", "https://example.com@evil.com/",        400, ""),
    ];
    for (because, portal, status, location) in table {
        let encoded: String = form_urlencoded::byte_serialize(portal.as_bytes()).collect();
        let headers = [
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "one.example.com"),
            ("accept", "text/html"),
        ];
        let got = fixture.ask("GET", &format!("/api/authz/forward-auth?authelia_url={encoded}"), &headers).await;
        assert_eq!((got.status, got.location()), (status, location), "{because}");
    }
}

#[tokio::test]
async fn w7_a_sign_in_page_that_is_named_as_nothing_is_refused_in_a_header_too() {
    let fixture = fixture().await;
    let facts = [("host", "one.example.com"), ("x-forwarded-proto", "https"), ("accept", "text/html")];
    for (target, bad) in [("/api/authz/ext-authz//a", 400), ("/api/verify", 401)] {
        let got = fixture.ask("GET", target, &[&facts[..], &[("x-authelia-url", "")]].concat()).await;
        assert_eq!((got.status, got.location()), (bad, ""), "{target}");
        let page = [("x-authelia-url", "https://login.example.com/")];
        let got = fixture.ask("GET", target, &[&facts[..], &page].concat()).await;
        assert!(got.location().starts_with("https://login.example.com/?rd="), "{target}: {}", got.location());
    }
}

#[tokio::test]
async fn a34_a42_forwarded_facts_are_believed_only_from_trusted_proxies() {
    let fixture = fixture().await;
    let facts = |request: hyper::http::request::Builder| {
        request
            .header("x-forwarded-method", "GET")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-host", "public.example.com")
            .body(())
            .unwrap()
    };
    let ask =
        async |peer: Peer| fixture.send(facts(Request::builder().uri("/api/authz/forward-auth")), peer).await.status;
    assert_eq!(ask(Peer::at([192, 0, 2, 1].into())).await, 403);
    assert_eq!(ask(Peer::at("::1".parse().unwrap())).await, 200);
    assert_eq!(ask(Peer::Unix).await, 200);
    let health = Request::builder().uri("/api/health").body(()).unwrap();
    assert_eq!(fixture.send(health, Peer::at([192, 0, 2, 1].into())).await.status, 200, "a probe comes from anywhere");
}

#[tokio::test]
async fn w5_a36_the_clients_address_is_the_rightmost_untrusted_hop() {
    let fixture = fixture().await;
    assert_eq!(fixture.forward("lan.example.com", &[("x-forwarded-for", "192.0.2.7")]).await.status, 200);
    assert_eq!(fixture.forward("lan.example.com", &[("x-forwarded-for", "192.0.2.7, 203.0.113.9")]).await.status, 302);
    assert_eq!(fixture.forward("lan.example.com", &[("x-forwarded-for", "192.0.2.7:80")]).await.status, 200, "a port");
    assert_eq!(
        fixture.forward("lan.example.com", &[("x-forwarded-for", "192.0.2.7:")]).await.status,
        302,
        "a37: garbage opens nothing"
    );
}

#[tokio::test]
async fn a_cookie_counts_only_at_its_own_domain_and_for_the_named_user() {
    let fixture = fixture().await;
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    let elsewhere = fixture.cookie_at("example.org", Factors::PASSWORD).await;
    assert_eq!(fixture.forward("one.example.com", &[("cookie", &elsewhere)]).await.status, 302, "made for example.org");
    assert_eq!(
        fixture
            .forward("one.example.com", &[("cookie", "authelia_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")])
            .await
            .status,
        302,
        "w12: nobody's"
    );
    assert_eq!(
        fixture.forward("one.example.com", &[("cookie", &cookie), ("session-username", "JOHN")]).await.status,
        200
    );
    assert_eq!(
        fixture.forward("one.example.com", &[("cookie", &cookie), ("session-username", "mary")]).await.status,
        302,
        "w29: this request is anonymous"
    );
    assert_eq!(fixture.forward("one.example.com", &[("cookie", &cookie)]).await.status, 200, "w29: the session lives");
}

#[tokio::test(start_paused = true)]
async fn basic_credentials_are_one_factor() {
    let fixture = fixture().await;
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    #[rustfmt::skip]
    let table: [(&str, &str, &[(&str, &str)], u16); 10] = [
        ("good",                              "one.example.com",    &[("authorization", GOOD)],                    200),
        ("by e-mail address",                 "one.example.com",    &[("authorization", "Basic am9obkBleGFtcGxlLmNvbTpwYXNzd29yZA==")], 200),
        ("one factor is not two (W23)",       "two.example.com",    &[("authorization", GOOD)],                    401),
        ("bad, although there is a session",  "one.example.com",    &[("authorization", BAD), ("cookie", &cookie)], 401),
        ("unreadable, and denied anyway",     "denied.example.com", &[("authorization", "Basic x")],               401),
        ("bad, where nobody need sign in",    "public.example.com", &[("authorization", BAD)],                     200),
        ("w11: an application's own scheme",  "one.example.com",    &[("authorization", "Digest x"), ("cookie", &cookie)], 200),
        ("w11: nobody with another scheme",   "one.example.com",    &[("authorization", "Bearer x")],              302),
        ("two headers",                       "one.example.com",    &[("authorization", GOOD), ("Authorization", GOOD)], 401),
        ("the proxy's header is not read",    "one.example.com",    &[("proxy-authorization", GOOD)],              302),
    ];
    for (because, host, more, status) in table {
        let got = fixture.forward(host, more).await;
        assert_eq!(got.status, status, "{because}");
        let challenge = got.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{because}");
        if let Some(challenge) = challenge {
            assert_eq!(challenge, "Basic realm=\"Authorization Required\"", "{because}");
        }
    }
    let allowed =
        fixture.forward("one.example.com", &[("authorization", "Basic am9obkBleGFtcGxlLmNvbTpwYXNzd29yZA==")]).await;
    assert_eq!(allowed.header("remote-user"), Some("john"), "the canonical name");
}

#[tokio::test(start_paused = true)]
async fn strategies_run_in_the_configured_order() {
    let basic = Schemes { basic: true, bearer: false };
    let header = |kind| Strategy { schemes: basic, ..Strategy::new(kind) };
    let endpoint =
        |name: &str, implementation, strategies| Endpoint { name: name.parse().unwrap(), implementation, strategies };
    let cookie_only = vec![Strategy::new(StrategyKind::CookieSession)];
    let cookie_first = vec![Strategy::new(StrategyKind::CookieSession), header(StrategyKind::HeaderAuthorization)];
    let endpoints = vec![
        endpoint("cookie", Implementation::ForwardAuth, cookie_only),
        endpoint("cookie-first", Implementation::ForwardAuth, cookie_first),
        endpoint("proxy", Implementation::ForwardAuth, vec![header(StrategyKind::HeaderProxyAuthorization)]),
        endpoint(
            "nginx/basic",
            Implementation::AuthRequest,
            vec![header(StrategyKind::HeaderAuthRequestProxyAuthorization)],
        ),
        endpoint("legacy", Implementation::Legacy, Implementation::Legacy.default_strategies()),
    ];
    let fixture = fixture_with(endpoints, StoreSettings::Memory { capacity: 100 }).await;
    let cookie = fixture.cookie(Factors::PASSWORD).await;
    let ask = async |path: &str, host: &str, more: &[(&str, &str)]| {
        let url = format!("https://{host}/");
        let mut headers = vec![
            ("x-forwarded-method", "GET"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", host),
            ("accept", "text/html"),
        ];
        if path.contains("nginx") {
            headers.extend([("x-original-method", "GET"), ("x-original-url", url.as_str())]);
        }
        headers.extend_from_slice(more);
        fixture.ask("GET", path, &headers).await
    };
    #[rustfmt::skip]
    let table: [(&str, &str, &str, &[(&str, &str)], u16); 15] = [
        ("the header is not read",                "/api/authz/cookie",       "one.example.com", &[("authorization", GOOD)],      302),
        ("cookie first: never a redirect",        "/api/authz/cookie-first", "one.example.com", &[],                             401),
        ("cookie first: it hides a bad header",   "/api/authz/cookie-first", "one.example.com", &[("cookie", &cookie), ("authorization", BAD)], 200),
        ("cookie first: step up by redirect",     "/api/authz/cookie-first", "two.example.com", &[("cookie", &cookie)],          302),
        ("407 asks for the proxy's own",          "/api/authz/proxy",        "one.example.com", &[],                             407),
        ("the proxy's own",                       "/api/authz/proxy",        "one.example.com", &[("proxy-authorization", GOOD)], 200),
        ("nginx knows no 407",                    "/api/authz/nginx/basic",  "one.example.com", &[],                             401),
        ("nginx with the proxy's own",            "/api/authz/nginx/basic",  "one.example.com", &[("proxy-authorization", GOOD)], 200),
        ("legacy: nothing shown",                 "/api/verify",             "one.example.com", &[],                             401),
        ("legacy: a session",                     "/api/verify",             "one.example.com", &[("cookie", &cookie)],          200),
        ("legacy: the proxy's own",               "/api/verify",             "one.example.com", &[("proxy-authorization", GOOD)], 200),
        ("legacy: Basic asked for by the query",  "/api/verify?auth=basic",  "one.example.com", &[("authorization", GOOD)],      200),
        ("legacy: asked for and not shown",       "/api/verify?auth=basic",  "one.example.com", &[("cookie", &cookie)],          401),
        ("legacy: the word is exact",             "/api/verify?auth=Basic",  "one.example.com", &[("cookie", &cookie)],          200),
        ("legacy: any other scheme has failed",   "/api/verify",             "one.example.com", &[("proxy-authorization", "Bearer x")], 401),
    ];
    for (because, path, host, more, status) in table {
        let got = ask(path, host, more).await;
        assert_eq!(got.status, status, "{because}");
        assert_eq!(got.header("proxy-authenticate").is_some(), status == 407, "{because}");
    }
}

#[tokio::test]
async fn w6_a101_a_store_that_cannot_be_asked_is_503_and_never_a_sign_in_loop() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut settings = redis::Settings::new(redis::Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: closed });
    settings.timeout = Duration::from_millis(500);
    let fixture = fixture_with(Endpoint::defaults(), StoreSettings::Redis(settings)).await;
    let cookie = "authelia_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let with_cookie = [("cookie", cookie)];
    assert_eq!(fixture.forward("one.example.com", &with_cookie).await.status, 503);
    assert_eq!(fixture.forward("denied.example.com", &with_cookie).await.status, 503);
    assert_eq!(fixture.forward("public.example.com", &with_cookie).await.status, 200, "bypass rules keep working");
    assert_eq!(fixture.forward("one.example.com", &[]).await.status, 302, "no cookie: nothing to ask the store about");
}

#[tokio::test]
async fn a92_no_header_of_a_probe_changes_a_decision() {
    let fixture = fixture().await;
    for agent in ["GoogleHC/1.0", "kube-probe/1.31", "ELB-HealthChecker/2.0"] {
        assert_eq!(fixture.forward("denied.example.com", &[("user-agent", agent)]).await.status, 403, "{agent}");
    }
}
