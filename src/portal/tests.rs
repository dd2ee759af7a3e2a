//! The portal as its clients see it: requests in, answers out, no sockets.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, LOCATION, SET_COOKIE};
use hyper::{Request, StatusCode};
use ring::rand::SystemRandom;

use super::{Portal, Settings};
use crate::factor::password::{NewDigest, Sha2CryptVariant};
use crate::identity::file::{self, FileBackend};
use crate::peer::Peer;
use crate::policy::{Criteria, HostPattern, Policy, Requirement, Rule};
use crate::regulation::Limits;
use crate::session::redis::Endpoint;
use crate::session::{self, Sessions, Site, Sites, StoreSettings};
use crate::signin::SignIn;
use crate::signin::pool::{self, HashingPool};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const OWN_PAGE: (&str, &str) = ("sec-fetch-site", "same-origin");

/// What differs between the portals of these tests.
struct With {
    base_path: &'static str,
    two_factor_host: Option<&'static str>,
    store: StoreSettings,
    remember: bool,
    limits: Limits,
    /// How much work a password is.
    rounds: u32,
    pool: pool::Settings,
}

impl Default for With {
    fn default() -> With {
        With {
            base_path: "",
            two_factor_host: Some("admin.example.com"),
            store: StoreSettings::Memory { capacity: 1000 },
            remember: true,
            limits: Limits::default(),
            rounds: 1000,
            pool: pool::Settings::default(),
        }
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// `name=value` of the session cookie that was set.
    fn cookie(&self) -> String {
        let mut set = self.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap());
        let cookie = set.find(|cookie| cookie.starts_with("authelia_session=")).expect("a session cookie");
        cookie.split(';').next().unwrap().to_owned()
    }

    fn says(&self, status: u16, body: &str) -> &Answer {
        assert_eq!((self.status.as_u16(), self.body.as_str()), (status, body));
        self
    }
}

/// A portal on `https://auth.example.com`, with john, whose password is `password`, and jane, who has no other name.
async fn portal(with: With) -> Portal {
    let digest = NewDigest::Sha2Crypt { variant: Sha2CryptVariant::Sha256, iterations: with.rounds };
    let hash = digest.hash(b"password", &SystemRandom::new()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.yml");
    let users = format!(
        "users:\n  john:\n    displayname: 'John <Doe>'\n    password: '{hash}'\n    groups: [dev]\n  \
         jane:\n    displayname: 'jane'\n    password: '{hash}'\n"
    );
    std::fs::write(&path, users).unwrap();
    let accounts = file::Settings { path, watch: false, search_email: false, search_case_insensitive: false };
    let accounts = Arc::new(FileBackend::load(accounts, digest).unwrap());
    let pool = HashingPool::start(with.pool).unwrap();
    let signin = Arc::new(SignIn::new(accounts, with.limits, pool).unwrap());

    let mut site = Site::new("example.com".parse().unwrap());
    site.portal = Some("https://auth.example.com/".parse().unwrap());
    site.default_redirection = Some("https://home.example.com/".parse().unwrap());
    if !with.remember {
        site.remember_me = None;
    }
    let sites = Sites::new(vec![site, Site::new("example.org".parse().unwrap())]).unwrap();
    let settings = session::Settings { sites, store: with.store, secret: Some("a secret".to_owned().into()) };
    let sessions = Arc::new(Sessions::open_store(&settings).await.unwrap());

    let rules = with.two_factor_host.map(|host| {
        let criteria = Criteria { hosts: vec![HostPattern::domain(host).unwrap()], ..Criteria::default() };
        Rule::new(criteria, Requirement::TwoFactor).unwrap()
    });
    let policy = Arc::new(Policy::compile(rules.into_iter().collect(), Requirement::OneFactor));
    let settings = Settings { base_path: with.base_path.to_owned(), ..Settings::default() };
    let metrics = Arc::new(crate::telemetry::metrics::Metrics::new([], 0).unwrap());
    Portal::new(sessions, signin, policy, metrics, settings)
}

async fn send(portal: &Portal, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "auth.example.com");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let reply = portal.call(request, Peer::at("127.0.0.1".parse().unwrap())).await;
    let (parts, body) = reply.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get(portal: &Portal, target: &str, cookie: &str) -> Answer {
    send(portal, &format!("GET {target}"), &[("cookie", cookie)], "").await
}

async fn post_json(portal: &Portal, target: &str, cookie: &str, body: &str) -> Answer {
    send(portal, &format!("POST {target}"), &[JSON, OWN_PAGE, ("cookie", cookie)], body).await
}

async fn post_form(portal: &Portal, target: &str, cookie: &str, pairs: &[(&str, &str)]) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    send(portal, &format!("POST {target}"), &[FORM, OWN_PAGE, ("cookie", cookie)], &body).await
}

/// Signs john in through the API and gives back his cookie.
async fn sign_in(portal: &Portal) -> String {
    let answer = post_json(portal, "/api/firstfactor", "", r#"{"username":"john","password":"password"}"#).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.cookie()
}

#[tokio::test(start_paused = true)]
async fn the_api_signs_in_and_out() {
    let portal = portal(With::default()).await;
    get(&portal, "/api/state", "").await.says(
        200,
        r#"{"status":"OK","data":{"username":"","authentication_level":0,"factor_knowledge":false,"default_redirection_url":"https://home.example.com/"}}"#,
    );
    let answer = post_json(&portal, "/api/firstfactor", "", r#"{"username":"john","password":"password"}"#).await;
    answer.says(200, r#"{"status":"OK"}"#);
    let set = answer.header("set-cookie");
    for part in ["; Path=/", "; Domain=example.com", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
        assert!(set.contains(part), "{part} in {set}");
    }
    let cookie = answer.cookie();
    let state = get(&portal, "/api/state", &cookie).await;
    assert!(state.body.contains(r#""username":"john","authentication_level":1,"factor_knowledge":true"#));
    get(&portal, "/api/configuration", &cookie).await.says(
        200,
        r#"{"status":"OK","data":{"available_methods":[],"password_change_disabled":true,"password_reset_disabled":true}}"#,
    );

    let answer = post_json(&portal, "/api/logout", &cookie, "{}").await;
    answer.says(200, r#"{"status":"OK","data":{"safeTargetURL":false}}"#);
    let taken = answer.header("set-cookie");
    assert!(taken.starts_with("authelia_session=; Path=/; Domain=example.com"), "{taken}");
    assert!(taken.contains("1970"), "{taken}");
    assert!(get(&portal, "/api/state", &cookie).await.body.contains(r#""authentication_level":0"#));
    get(&portal, "/api/configuration", &cookie).await.says(403, "403 Forbidden");
}

#[tokio::test(start_paused = true)]
async fn a85_whatever_is_wrong_the_answer_is_the_same() {
    let portal = portal(With::default()).await;
    let failed = r#"{"status":"KO","message":"Authentication failed. Check your credentials."}"#;
    for (because, body) in [
        ("a wrong password", r#"{"username":"john","password":"wrong"}"#),
        ("an unknown user", r#"{"username":"nobody","password":"password"}"#),
        ("no password", r#"{"username":"john","password":""}"#),
        ("no user name", r#"{"username":"","password":"password"}"#),
        ("a member is missing", r#"{"username":"john"}"#),
        ("no JSON", "username=john"),
        ("no body", ""),
    ] {
        let answer = post_json(&portal, "/api/firstfactor", "", body).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (401, failed), "{because}");
        assert!(!answer.headers.contains_key(SET_COOKIE), "{because}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_ban_is_not_told() {
    let portal = portal(With { limits: Limits { max_retries: 1, ..Limits::default() }, ..With::default() }).await;
    let right = r#"{"username":"john","password":"password"}"#;
    let wrong = post_json(&portal, "/api/firstfactor", "", r#"{"username":"john","password":"wrong"}"#).await;
    let banned = post_json(&portal, "/api/firstfactor", "", right).await;
    banned.says(401, &wrong.body);
    let page = post_form(&portal, "/", "", &[("username", "john"), ("password", "password")]).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.body.contains("Authentication failed. Check your credentials."));
}

#[tokio::test(start_paused = true)]
async fn the_api_says_where_to_go_next() {
    let some_two_factor = portal(With::default()).await;
    let only_one_factor = portal(With { two_factor_host: None, ..With::default() }).await;
    let ok = r#"{"status":"OK"}"#;
    let to = |url: &str| format!(r#"{{"status":"OK","data":{{"redirect":"{url}"}}}}"#);
    let unreadable = r#"{"status":"KO","message":"Authentication failed. Check your credentials."}"#;
    #[rustfmt::skip]
    let table = [
        // because                                      portal             target                              expected
        ("no target, and some rule wants two factors",  &some_two_factor,  "",                                 ok.to_owned()),
        ("no target",                                   &only_one_factor,  "",                                 to("https://home.example.com/")),
        ("a target that wants two factors",             &some_two_factor,  "https://admin.example.com/",       ok.to_owned()),
        ("a target that one factor is enough for",      &some_two_factor,  "https://app.example.com/a?b=c",    to("https://app.example.com/a?b=c")),
        ("a fragment stays with the browser",           &some_two_factor,  "https://app.example.com/a#/b",     to("https://app.example.com/a#/b")),
        ("a fragment hides no rule",                    &some_two_factor,  "https://admin.example.com/#/b",    ok.to_owned()),
        ("a socket",                                    &some_two_factor,  "wss://app.example.com/s",          to("wss://app.example.com/s")),
        ("a path that the gate would refuse",           &some_two_factor,  "https://app.example.com/%zz",      unreadable.to_owned()),
        ("another cookie domain of ours",               &some_two_factor,  "https://app.example.org/",         to("https://app.example.org/")),
        ("a64 not ours, and some rule wants two",       &some_two_factor,  "https://evil.com/",                ok.to_owned()),
        ("a64 not ours",                                &only_one_factor,  "https://evil.com/",                to("https://home.example.com/")),
        ("a64 no TLS",                                  &some_two_factor,  "http://app.example.com/",          ok.to_owned()),
        ("a64 a script",                                &some_two_factor,  "javascript:alert(1)",              ok.to_owned()),
        ("a64 scheme-relative",                         &some_two_factor,  "//evil.com",                       ok.to_owned()),
        ("a65 encoded twice",                           &some_two_factor,  "https%3A%2F%2Fapp.example.com",    ok.to_owned()),
        ("control characters",                          &some_two_factor,  "https://app.example.com/\\u0000",  unreadable.to_owned()),
        ("no address at all",                           &some_two_factor,  "https://app.example.com:port/",    unreadable.to_owned()),
    ];
    for (because, portal, target, expected) in table {
        let body =
            format!(r#"{{"username":"john","password":"password","targetURL":"{target}","requestMethod":"GET"}}"#);
        let answer = post_json(portal, "/api/firstfactor", "", &body).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &expected), "{because}");
        let state = get(portal, "/api/state", &answer.cookie()).await;
        assert!(state.body.contains(r#""username":"john""#), "{because}: signed in whatever the target");
    }
}

#[tokio::test(start_paused = true)]
async fn the_method_counts_as_the_gate_would_count_it() {
    let portal = portal(With::default()).await;
    for method in ["", "GET", "POST", "PROPFIND", "no method", "\u{7f}"] {
        let body = format!(
            r#"{{"username":"john","password":"password","targetURL":"https://app.example.com/","requestMethod":"{method}"}}"#
        );
        let answer = post_json(&portal, "/api/firstfactor", "", &body).await;
        assert!(answer.body.contains(r#""redirect":"https://app.example.com/""#), "{method:?}: {}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a72_the_old_session_ends_when_somebody_signs_in() {
    let portal = portal(With::default()).await;
    let planted = sign_in(&portal).await;
    let body = r#"{"username":"jane","password":"password"}"#;
    let fresh = post_json(&portal, "/api/firstfactor", &planted, body).await.cookie();
    assert_ne!(planted, fresh);
    assert!(get(&portal, "/api/state", &planted).await.body.contains(r#""username":"""#), "the old id is dead");
    assert!(get(&portal, "/api/state", &fresh).await.body.contains(r#""username":"jane""#));

    let form = [("username", "john"), ("password", "password")];
    let newest = post_form(&portal, "/", &fresh, &form).await.cookie();
    assert!(get(&portal, "/api/state", &fresh).await.body.contains(r#""username":"""#));
    assert!(get(&portal, "/api/state", &newest).await.body.contains(r#""username":"john""#));

    let chosen = "authelia_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let minted = post_json(&portal, "/api/firstfactor", chosen, body).await.cookie();
    assert_ne!(minted, chosen, "ids are ours to make");
    assert!(get(&portal, "/api/state", chosen).await.body.contains(r#""username":"""#));
}

#[tokio::test(start_paused = true)]
async fn a73_a_session_that_somebody_planted_ends_with_the_next_sign_in_or_out() {
    let portal = portal(With::default()).await;
    let body = r#"{"username":"jane","password":"password"}"#;
    for end in ["/api/firstfactor", "/api/logout"] {
        let (planted, own) = (sign_in(&portal).await, post_json(&portal, "/api/firstfactor", "", body).await.cookie());
        let both = format!("{planted}; {own}");
        assert!(get(&portal, "/api/state", &both).await.body.contains(r#""username":"""#), "nobody is believed");
        let fresh = post_json(&portal, end, &both, body).await.cookie();
        for old in [&planted, &own] {
            assert!(get(&portal, "/api/state", old).await.body.contains(r#""username":"""#), "{end}: {old} is dead");
        }
        if end == "/api/firstfactor" {
            let beside = format!("{planted}; {fresh}");
            assert!(get(&portal, "/api/state", &beside).await.body.contains(r#""username":"jane""#));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a70_twenty_tabs_all_finish() {
    let portal = portal(With::default()).await;
    let mut cookie = String::new();
    for tab in 0..20 {
        let rd = format!("https://app.example.com/{tab}");
        let form = [("username", "john"), ("password", "password"), ("rd", rd.as_str())];
        let answer = post_form(&portal, "/", &cookie, &form).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, rd.as_str()));
        cookie = answer.cookie();
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_session_is_for_sites_that_have_it() {
    let lasting = |answer: &Answer| {
        let set = answer.header("set-cookie").to_owned();
        let expires = set.split("Expires=").nth(1).unwrap().split(';').next().unwrap().to_owned();
        let now = std::time::Duration::from_secs(crate::clock::UnixTime::now().as_secs());
        let end = httpdate::parse_http_date(&expires).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
        end.saturating_sub(now) > Duration::from_secs(24 * 60 * 60)
    };
    let body = r#"{"username":"john","password":"password","keepMeLoggedIn":true}"#;
    let form = [("username", "john"), ("password", "password"), ("remember", "on")];
    let on = portal(With::default()).await;
    assert!(lasting(&post_json(&on, "/api/firstfactor", "", body).await));
    assert!(lasting(&post_form(&on, "/", "", &form).await));
    assert!(!lasting(&post_form(&on, "/", "", &form[..2]).await));
    assert!(get(&on, "/", "").await.body.contains("remember-checkbox"));
    let off = portal(With { remember: false, ..With::default() }).await;
    assert!(!lasting(&post_json(&off, "/api/firstfactor", "", body).await));
    assert!(!lasting(&post_form(&off, "/", "", &form).await));
    assert!(!get(&off, "/", "").await.body.contains("remember-checkbox"));
}

#[tokio::test(start_paused = true)]
async fn the_form_sends_people_where_they_came_from() {
    let portal = portal(With::default()).await;
    #[rustfmt::skip]
    let table = [
        // because                       rd                                  expected
        ("one factor is enough",         "https://app.example.com/a?b=c&d",  "https://app.example.com/a?b=c&d"),
        ("no target",                    "",                                 "/"),
        ("two factors are needed",       "https://admin.example.com/",       "/?rd=https%3A%2F%2Fadmin.example.com%2F&rm=GET"),
        ("a64 not ours",                 "https://evil.com/",                "/?rd=https%3A%2F%2Fevil.com%2F&rm=GET"),
        ("a64 scheme-relative",          "//evil.com",                       "/?rd=%2F%2Fevil.com&rm=GET"),
        ("a64 a backslash",              "/\\evil.com",                      "/?rd=%2F%5Cevil.com&rm=GET"),
        ("a64 a header",                 "https://app.example.com/\r\nx: y", "/?rd=https%3A%2F%2Fapp.example.com%2F%0D%0Ax%3A+y&rm=GET"),
        ("a socket is no page",          "wss://app.example.com/",           "/?rd=wss%3A%2F%2Fapp.example.com%2F&rm=GET"),
    ];
    for (because, rd, expected) in table {
        let form = [("username", "john"), ("password", "password"), ("rd", rd), ("rm", "GET")];
        let answer = post_form(&portal, "/", "", &form).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, expected), "{because}");
        let page = get(&portal, expected, &answer.cookie()).await;
        if expected.starts_with('/') {
            assert_eq!(page.status, StatusCode::OK, "{because}");
            assert!(page.body.contains("<h1>Signed in</h1>"), "{because}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn somebody_who_is_signed_in_is_sent_on() {
    let portal = portal(With::default()).await;
    let cookie = sign_in(&portal).await;
    let answer = get(&portal, "/?rd=https%3A%2F%2Fapp.example.com%2F&rm=GET", &cookie).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "https://app.example.com/"));

    let page = get(&portal, "/", &cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("John &#60;Doe&#62;") && page.body.contains("(john)"), "{}", page.body);
    assert!(page.body.contains(r#"id="logout-button""#));

    let page = get(&portal, "/?rd=https%3A%2F%2Fadmin.example.com%2F", &cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("<strong>admin.example.com</strong> asks for a second factor"), "{}", page.body);

    let page = get(&portal, "/?rd=https%3A%2F%2Fevil.com%2F", &cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(!page.headers.contains_key(LOCATION) && page.body.contains("no way back"));
}

#[tokio::test(start_paused = true)]
async fn a67_a_circle_between_gate_and_portal_ends_on_a_page() {
    let portal = portal(With::default()).await;
    let session = sign_in(&portal).await;
    let mut jar = session.clone();
    for turn in 1..=4 {
        let answer = get(&portal, "/?rd=https%3A%2F%2Fapp.example.com%2F", &jar).await;
        if turn == 4 {
            assert_eq!(answer.status, StatusCode::OK);
            assert!(answer.body.contains(r#"href="https://app.example.com/""#), "{}", answer.body);
            break;
        }
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "turn {turn}");
        jar = format!("{session}; {}", answer.header("set-cookie").split(';').next().unwrap());
    }
    // A browser that keeps no cookies stops at the form.
    let form = [("username", "john"), ("password", "password"), ("rd", "https://app.example.com/")];
    assert_eq!(post_form(&portal, "/", "", &form).await.status, StatusCode::SEE_OTHER);
    let back = get(&portal, "/?rd=https%3A%2F%2Fapp.example.com%2F", "").await;
    assert!(back.status == StatusCode::OK && back.body.contains("first-factor-stage"));
}

#[tokio::test(start_paused = true)]
async fn a_failed_form_keeps_what_was_typed_but_the_password() {
    let portal = portal(With::default()).await;
    let form = [
        ("username", "john"),
        ("password", "hunter2"),
        ("remember", "on"),
        ("rd", "https://app.example.com/"),
        ("rm", "POST"),
    ];
    let page = post_form(&portal, "/", "", &form).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    for part in [
        r#"role="alert">Authentication failed. Check your credentials.<"#,
        r#"value="john""#,
        r#"name="rd" value="https://app.example.com/""#,
        r#"name="rm" value="POST""#,
        " checked",
        "<title>Error: Sign in</title>",
        "<strong>app.example.com</strong>",
    ] {
        assert!(page.body.contains(part), "{part} in {}", page.body);
    }
    assert!(!page.body.contains("hunter2"));
    assert!(!page.headers.contains_key(SET_COOKIE));
}

#[tokio::test(start_paused = true)]
async fn a68_nothing_comes_back_unescaped() {
    let portal = portal(With::default()).await;
    let cookie = sign_in(&portal).await;
    let hostile = [
        r#""><script>alert(1)</script>"#,
        "<svg/onload=alert(1)>",
        "' onmouseover='alert(1)",
        "javascript:alert(1)",
        "https://app.example.com/\"><script>",
        "{{ 7*7 }}",
    ];
    for input in hostile {
        let query = |name: &str| form_urlencoded::Serializer::new(String::new()).append_pair(name, input).finish();
        let mut pages = Vec::new();
        for jar in ["", cookie.as_str()] {
            for parameter in ["rd", "rm", "error", "username", "message"] {
                for path in ["/", "/logout", "/settings/<svg>"] {
                    let path = path.replace('<', "%3C").replace('>', "%3E");
                    pages.push(get(&portal, &format!("{path}?{}", query(parameter)), jar).await);
                }
            }
        }
        for name in ["username", "password", "rd", "rm"] {
            let form = [("username", "john"), ("password", "wrong"), (name, input)];
            let form = if name == "username" || name == "password" { &form[1..] } else { &form[..] };
            pages.push(post_form(&portal, "/", "", form).await);
        }
        pages.push(post_form(&portal, "/logout", "", &[("rd", input)]).await);
        pages.push(send(&portal, "GET /", &[("host", "evil.example"), ("x-forwarded-host", "<script>")], "").await);
        for page in pages {
            if page.status == StatusCode::SEE_OTHER {
                assert!(page.header("location").starts_with("https://app.example.com/%22%3E%3Cscript%3E"));
                continue;
            }
            for tag in ["<script", "<svg", "onmouseover='", "href=\"javascript:", "action=\"javascript:"] {
                assert!(!page.body.contains(tag), "{input}: {tag} in {}", page.body);
            }
            let policy = page.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'"));
            assert!(!policy.contains("unsafe") && !policy.contains("script-src"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pages_use_no_script_and_no_inline_style() {
    let portal = portal(With::default()).await;
    let cookie = sign_in(&portal).await;
    for (target, jar) in [
        ("/", ""),
        ("/", cookie.as_str()),
        ("/logout", &cookie),
        ("/logout", ""),
        ("/?rd=https://admin.example.com/", &cookie),
    ] {
        let page = get(&portal, target, jar).await;
        assert_eq!(page.body.matches("<h1").count(), 1, "{target}");
        assert!(page.body.starts_with("<!doctype html>\n<html lang=\"en\">"), "{target}");
        for part in ["<script", "style=", "<style", " on", "javascript:"] {
            let part = if part == " on" { " onclick" } else { part };
            assert!(!page.body.contains(part), "{part} in {target}");
        }
    }
    let page = get(&portal, "/", "").await;
    for part in [
        r#"id="first-factor-stage""#,
        r#"<label for="username-textfield">"#,
        r#"id="username-textfield" name="username" type="text" value="" autocomplete="username""#,
        r#"<label for="password-textfield">"#,
        r#"id="password-textfield" name="password" type="password" autocomplete="current-password""#,
        r#"id="remember-checkbox""#,
        r#"id="sign-in-button""#,
    ] {
        assert!(page.body.contains(part), "{part} in {}", page.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a71_each_answer_has_the_headers_of_its_kind() {
    let portal = portal(With::default()).await;
    let page_policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' https://example.com:* \
                       https://*.example.com:* https://example.org:* https://*.example.org:*; frame-ancestors 'none'; base-uri 'none'";
    let (page, api, file) = (
        [page_policy, "same-origin", "no-store", "no-cache"],
        ["default-src 'none'", "strict-origin-when-cross-origin", "no-store", "no-cache"],
        ["default-src 'none'", "strict-origin-when-cross-origin", "public, max-age=0, must-revalidate", ""],
    );
    #[rustfmt::skip]
    let table = [
        // request                                  status  content type                        the rest
        ("GET /",                                   200,    "text/html; charset=utf-8",         page),
        ("HEAD /",                                  200,    "text/html; charset=utf-8",         page),
        ("GET /logout",                             200,    "text/html; charset=utf-8",         page),
        ("GET /settings",                           200,    "text/html; charset=utf-8",         page),
        ("POST /",                                  403,    "text/html; charset=utf-8",         page),
        ("GET /api/health",                         200,    "application/json; charset=utf-8",  api),
        ("GET /api/state",                          200,    "application/json; charset=utf-8",  api),
        ("GET /api/configuration",                  403,    "text/plain; charset=utf-8",        api),
        ("POST /api/firstfactor",                   401,    "application/json; charset=utf-8",  api),
        ("POST /api/checks/safe-redirection",       401,    "text/plain; charset=utf-8",        api),
        ("GET /api/nothing",                        404,    "text/plain; charset=utf-8",        api),
        ("GET /api/firstfactor",                    405,    "text/plain; charset=utf-8",        api),
        ("GET /static/style.css",                   200,    "text/css; charset=utf-8",          file),
        ("GET /static/mark.svg",                    200,    "image/svg+xml",                    file),
        ("GET /favicon.ico",                        200,    "image/svg+xml",                    file),
        ("GET /robots.txt",                         200,    "text/plain; charset=utf-8",        file),
    ];
    for (line, status, content_type, [policy, referrer, cache, pragma]) in table {
        let answer = send(&portal, line, &[], "").await;
        assert_eq!(answer.status.as_u16(), status, "{line}");
        for (name, expected) in [
            ("content-type", content_type),
            ("content-security-policy", policy),
            ("referrer-policy", referrer),
            ("cache-control", cache),
            ("pragma", pragma),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("x-dns-prefetch-control", "off"),
            (
                "permissions-policy",
                "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), keyboard-map=(), magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), screen-wake-lock=(), sync-xhr=(), xr-spatial-tracking=(), interest-cohort=()",
            ),
        ] {
            assert_eq!(answer.header(name), expected, "{name} of {line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn paths_and_methods_are_told_apart() {
    let portal = portal(With::default()).await;
    #[rustfmt::skip]
    let table = [
        // request                                  status  allow
        ("GET /api",                                200,    ""),
        ("GET /api/",                               404,    ""),
        ("GET /API/State",                          404,    ""),
        ("POST /api/secondfactor/totp",             404,    ""),
        ("GET /api/authz/forward-auth",             404,    ""),
        ("GET /metrics",                            200,    ""),
        ("GET /.well-known/openid-configuration",   404,    ""),
        ("GET /locales/en/portal.json",             404,    ""),
        ("GET /static/other.css",                   404,    ""),
        ("GET /2fa/one-time-password",              200,    ""),
        ("DELETE /settings",                        200,    ""),
        ("POST /api/health",                        405,    "GET, HEAD"),
        ("HEAD /api/state",                         405,    "GET"),
        ("PUT /api/configuration",                  405,    "GET"),
        ("OPTIONS /api/firstfactor",                405,    "POST"),
        ("GET /api/logout",                         405,    "POST"),
        ("GET /api/checks/safe-redirection",        405,    "POST"),
        ("PUT /",                                   405,    "GET, HEAD, POST"),
        ("DELETE /logout",                          405,    "GET, HEAD, POST"),
        ("POST /static/style.css",                  405,    "GET, HEAD"),
    ];
    for (line, status, allow) in table {
        let answer = send(&portal, line, &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (status, allow), "{line}");
        assert!(!answer.body.contains("portcullis_"), "a106: no metrics here");
    }
    send(&portal, "GET /api/health", &[("host", "10.0.0.1:9092")], "").await.says(200, r#"{"status":"OK"}"#);
    send(&portal, "GET /api/nothing", &[], "").await.says(404, "404 Not Found");
}

#[tokio::test(start_paused = true)]
async fn head_is_get_without_the_body() {
    let portal = portal(With::default()).await;
    for target in ["/", "/logout", "/api/health", "/static/style.css", "/settings"] {
        let with = send(&portal, &format!("GET {target}"), &[], "").await;
        let without = send(&portal, &format!("HEAD {target}"), &[], "").await;
        assert_eq!(without.status, with.status, "{target}");
        assert_eq!(without.body, "", "{target}");
        assert_eq!(without.header("content-length"), with.body.len().to_string(), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn a69_nothing_is_changed_for_another_site() {
    let portal = portal(With::default()).await;
    let own_origin = ("origin", "https://auth.example.com");
    let other_site = ("sec-fetch-site", "cross-site");
    let text = ("content-type", "text/plain");
    let multipart = ("content-type", "multipart/form-data; boundary=x");
    #[rustfmt::skip]
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let table: &[(&str, Headers<'_>, u16, u16)] = &[
        // because                                      headers                                         API   form
        ("our page, JSON", &[JSON, OWN_PAGE], 200, 415),
        ("our page, form", &[FORM, OWN_PAGE], 200, 303),
        ("our page, any type", &[text, OWN_PAGE], 200, 415),
        ("our page, multipart", &[multipart, OWN_PAGE], 200, 415),
        ("our origin, form", &[FORM, own_origin], 200, 303),
        ("our referrer, form", &[FORM, ("referer", "https://auth.example.com/?rd=x")], 200, 303),
        ("the person", &[FORM, ("sec-fetch-site", "none")], 415, 303),
        ("a script", &[JSON], 200, 403),
        ("a script that says form", &[FORM], 415, 403),
        ("a69 JSON as text", &[text], 415, 403),
        ("a69 no type", &[], 415, 403),
        ("a69 another site, JSON", &[JSON, other_site], 403, 403),
        ("a69 another site, form", &[FORM, other_site], 403, 403),
        ("a69 an application of the same domain", &[FORM, ("sec-fetch-site", "same-site")], 403, 403),
        ("a69 another origin", &[FORM, ("origin", "https://evil.com")], 403, 403),
        ("a69 an application's origin", &[FORM, ("origin", "https://app.example.com")], 403, 403),
        ("a69 null", &[JSON, ("origin", "null")], 403, 403),
        ("a69 null form", &[FORM, ("origin", "null")], 403, 403),
    ];
    for (because, headers, api, form) in table {
        let json = r#"{"username":"john","password":"password"}"#;
        let answer = send(&portal, "POST /api/firstfactor", headers, json).await;
        assert_eq!(answer.status.as_u16(), *api, "{because}, API: {}", answer.body);
        assert_eq!(answer.headers.contains_key(SET_COOKIE), *api == 200, "{because}, API");
        let answer = send(&portal, "POST /", headers, "username=john&password=password").await;
        assert_eq!(answer.status.as_u16(), *form, "{because}, form: {}", answer.body);
        assert_eq!(answer.headers.contains_key(SET_COOKIE), *form == 303, "{because}, form");
    }
    // Nor is anybody signed out.
    let cookie = sign_in(&portal).await;
    for line in ["POST /api/logout", "POST /logout", "GET /logout"] {
        let _ = send(&portal, line, &[FORM, other_site, ("cookie", &cookie)], "").await;
        assert!(get(&portal, "/api/state", &cookie).await.body.contains(r#""username":"john""#), "{line}");
    }
    let empty = send(&portal, "POST /api/logout", &[("cookie", &cookie)], "").await;
    assert_eq!(empty.status, StatusCode::OK, "a script that sends nothing can't mean anything else");
}

#[tokio::test(start_paused = true)]
async fn a62_early_data_changes_nothing() {
    let portal = portal(With::default()).await;
    let early = ("early-data", "1");
    let body = r#"{"username":"john","password":"password"}"#;
    send(&portal, "POST /api/firstfactor", &[JSON, OWN_PAGE, early], body).await.says(425, "425 Too Early");
    let form = send(&portal, "POST /", &[FORM, OWN_PAGE, early], "username=john&password=password").await;
    assert_eq!(form.status, StatusCode::TOO_EARLY);
    assert!(!form.headers.contains_key(SET_COOKIE));
    assert_eq!(send(&portal, "GET /", &[early], "").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a89_a_body_that_is_too_large_is_refused() {
    let portal = portal(With::default()).await;
    let long = "x".repeat(64 * 1024);
    let json = format!(r#"{{"username":"john","password":"{long}"}}"#);
    post_json(&portal, "/api/firstfactor", "", &json).await.says(413, "413 Payload Too Large");
    let form = post_form(&portal, "/", "", &[("username", "john"), ("password", &long)]).await;
    assert_eq!(form.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(form.header("content-type"), "text/html; charset=utf-8");
    let cookie = sign_in(&portal).await;
    assert_eq!(
        post_json(&portal, "/api/logout", &cookie, &json).await.status,
        StatusCode::OK,
        "signed out all the same"
    );
    assert!(get(&portal, "/api/state", &cookie).await.body.contains(r#""username":"""#));
}

#[tokio::test(start_paused = true)]
async fn safe_redirection_is_checked_for_those_who_are_signed_in() {
    let portal = portal(With::default()).await;
    let path = "/api/checks/safe-redirection";
    post_json(&portal, path, "", r#"{"uri":"https://app.example.com/"}"#).await.says(401, "401 Unauthorized");
    let cookie = sign_in(&portal).await;
    let (ok, no, failed) = (
        r#"{"status":"OK","data":{"ok":true}}"#,
        r#"{"status":"OK","data":{"ok":false}}"#,
        r#"{"status":"KO","message":"Operation failed."}"#,
    );
    for (body, expected) in [
        (r#"{"uri":"https://app.example.com/"}"#, ok),
        (r#"{"uri":"wss://app.example.org/"}"#, ok),
        (r#"{"uri":"https://evil.com/"}"#, no),
        (r#"{"uri":"https://app.example.com@evil.com/"}"#, no),
        (r#"{"uri":"http://app.example.com/"}"#, no),
        (r#"{"uri":"/a"}"#, no),
        (r#"{"uri":"//evil.com"}"#, no),
        (r#"{"uri":"https://app.example.com:port/"}"#, failed),
        (r#"{"uri":"\t"}"#, failed),
        (r#"{"uri":""}"#, failed),
        (r#"{"url":"https://app.example.com/"}"#, failed),
        ("", failed),
    ] {
        post_json(&portal, path, &cookie, body).await.says(200, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn signing_out_goes_only_where_it_is_safe() {
    let portal = portal(With::default()).await;
    for (rd, expected) in [
        ("https://app.example.com/", "https://app.example.com/"),
        ("https://evil.com/", ""),
        ("", ""),
        ("//evil.com", ""),
    ] {
        let cookie = sign_in(&portal).await;
        let asked = get(
            &portal,
            &format!("/logout?{}", form_urlencoded::Serializer::new(String::new()).append_pair("rd", rd).finish()),
            &cookie,
        )
        .await;
        assert!(asked.body.contains("John &#60;Doe&#62;") && asked.body.contains(r#"method="post""#));
        let answer = post_form(&portal, "/logout", &cookie, &[("rd", rd)]).await;
        assert_eq!(answer.header("location"), expected, "{rd}");
        assert!(answer.header("set-cookie").contains("Domain=example.com"), "{rd}");
        assert!(get(&portal, "/api/state", &cookie).await.body.contains(r#""username":"""#), "{rd}");

        let body = format!(r#"{{"targetURL":"{rd}"}}"#);
        let is_safe = !expected.is_empty();
        post_json(&portal, "/api/logout", "", &body)
            .await
            .says(200, &format!(r#"{{"status":"OK","data":{{"safeTargetURL":{is_safe}}}}}"#));
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_outside_every_domain_has_no_sign_in() {
    let portal = portal(With::default()).await;
    let elsewhere = ("host", "auth.evil.com");
    for line in ["GET /api/state", "GET /api/configuration", "POST /api/firstfactor", "POST /api/logout"] {
        send(&portal, line, &[elsewhere, JSON, OWN_PAGE], "{}").await.says(403, "403 Forbidden");
    }
    for line in ["GET /", "POST /", "GET /logout", "POST /logout", "GET /settings"] {
        let page = send(&portal, line, &[elsewhere, FORM, OWN_PAGE], "").await;
        assert_eq!(page.status, StatusCode::FORBIDDEN, "{line}");
        assert!(page.body.contains("auth.evil.com") && page.body.contains("session.cookies"), "{}", page.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_base_path_is_accepted_with_and_without() {
    let portal = portal(With { base_path: "/auth", ..With::default() }).await;
    for target in ["/", "/auth", "/auth/", "/auth/?rd=https://app.example.com/", "/auth/settings"] {
        let page = get(&portal, target, "").await;
        assert_eq!(page.status, StatusCode::OK, "{target}");
        for part in [r#"href="/auth/static/style.css""#, r#"action="/auth/""#] {
            assert!(page.body.contains(part), "{part} in {target}");
        }
    }
    for target in ["/api/health", "/auth/api/health", "/static/style.css", "/auth/static/style.css"] {
        assert_eq!(get(&portal, target, "").await.status, StatusCode::OK, "{target}");
    }
    assert_eq!(get(&portal, "/authx/api/nothing", "").await.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(get(&portal, "/auth/api/nothing", "").await.status, StatusCode::NOT_FOUND);
    let answer = post_form(&portal, "/auth/", "", &[("username", "john"), ("password", "password")]).await;
    assert_eq!(answer.header("location"), "/auth/");
    assert!(get(&portal, "/auth/logout", &answer.cookie()).await.body.contains(r#"action="/auth/logout""#));
}

#[tokio::test(start_paused = true)]
async fn where_the_store_is_away_the_portal_says_so() {
    let nowhere = Endpoint::Unix("/nonexistent/portcullis-test.sock".into());
    let store = StoreSettings::Redis(session::redis::Settings::new(nowhere));
    let portal = portal(With { store, ..With::default() }).await;
    let cookie = "authelia_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for line in ["GET /", "GET /logout", "POST /logout", "GET /api/state", "GET /api/configuration", "POST /api/logout"]
    {
        let answer = send(&portal, line, &[FORM, OWN_PAGE, ("cookie", cookie)], "").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{line}");
        assert!(answer.body.contains("not available right now"), "{line}: {}", answer.body);
        assert!(!answer.header("retry-after").is_empty(), "{line}");
    }
    // Nobody is signed in, and the form is not lost.
    let form = [("username", "john"), ("password", "password"), ("rd", "https://app.example.com/")];
    for jar in ["", cookie] {
        let page = post_form(&portal, "/", jar, &form).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(page.body.contains(r#"value="john""#) && page.body.contains("not available right now"));
        assert!(!page.headers.contains_key(SET_COOKIE));
        let api = post_json(&portal, "/api/firstfactor", jar, r#"{"username":"john","password":"password"}"#).await;
        assert_eq!(api.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!api.headers.contains_key(SET_COOKIE));
    }
    assert_eq!(get(&portal, "/", "").await.status, StatusCode::OK, "without a cookie there is nothing to look up");
    assert_eq!(get(&portal, "/api/health", "").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a92_no_header_makes_anybody_signed_in() {
    let portal = portal(With::default()).await;
    for agent in ["GoogleHC/1.0", "kube-probe/1.31", "ELB-HealthChecker/2.0"] {
        let headers = [("user-agent", agent), ("remote-user", "john"), ("authorization", "Basic am9objpwYXNzd29yZA==")];
        send(&portal, "GET /api/configuration", &headers, "").await.says(403, "403 Forbidden");
    }
}

#[tokio::test(start_paused = true)]
async fn a89_where_too_many_sign_in_at_once_some_are_asked_to_wait() {
    let pool = pool::Settings { threads: Some(NonZeroUsize::MIN), queue: NonZeroUsize::MIN };
    let portal = Arc::new(portal(With { rounds: 400_000, pool, ..With::default() }).await);
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..24 {
        let portal = portal.clone();
        attempts.spawn(async move {
            match n % 2 {
                0 => post_json(&portal, "/api/firstfactor", "", r#"{"username":"john","password":"password"}"#).await,
                _ => post_form(&portal, "/", "", &[("username", "john"), ("password", "password")]).await,
            }
        });
    }
    let answers = attempts.join_all().await;
    let (busy, served): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
    assert!(!busy.is_empty() && !served.is_empty(), "{} of {}", busy.len(), answers.len());
    for answer in busy {
        assert_eq!(answer.header("retry-after"), "3");
        assert!(answer.body.contains("Many people are signing in") && !answer.headers.contains_key(SET_COOKIE));
    }
    for answer in served {
        assert!(matches!(answer.status.as_u16(), 200 | 303) && answer.headers.contains_key(SET_COOKIE));
    }
}
