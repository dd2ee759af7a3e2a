//! Portcullis behind each of the five proxies, Envoy in both of its ways to ask: real ones, started from the files in
//! `deploy/`, with a browser's view in front and an application behind that tells what reached it.
//!
//! Every behaviour is one function over a [`Stand`]; the suite at the foot runs all of them through every proxy.

#![cfg(test)]

#[macro_use]
mod harness;

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener};

use base64::Engine;
use url::Url;

use harness::application::{Application, Seen, fingerprint};
use harness::certificates::Certificates;
use harness::client::{Client, Request, Response};
use harness::proxy::{CADDY, ENVOY, ENVOY_GRPC, ENVOY_GRPC_BARE, HAPROXY, NGINX, Proxy, TRAEFIK, Upstreams};
use harness::stand::{Stand, seen};

const PASSWORD: &str = "correct horse battery staple";

const CONFIG: &str = "
server: {address: 'tcp://{gate}/', grpc: {address: 'tcp://{grpc}'}}
portal: {address: 'tcp://{portal}/'}
telemetry: {metrics: {enabled: true, address: 'tcp://{metrics}/metrics'}}
authentication_backend: {file: {path: users.yaml}}
session:
  cookies:
    - {domain: example.com, authelia_url: 'https://auth.example.com/'}
    - {domain: example.net, authelia_url: 'https://auth.example.net/'}
access_control:
  default_policy: deny
  rules:
    - {domain: denied.example.com, policy: deny}
    - {domain: [public.example.com, forged.example.com], policy: bypass}
    - {domain: app.example.com, resources: ['^/open/'], policy: bypass}
    - {domain: app.example.com, policy: one_factor}
    - {domain: staff.example.com, subject: 'group:staff', policy: one_factor}
    - {domain: root.example.com, resources: ['^/$'], policy: bypass}
    - {domain: root.example.com, policy: one_factor}
";

/// The digests are cheap on purpose, and of [`PASSWORD`].
const USERS: &str = "
users:
  john:
    displayname: Jöhn Doe
    email: john@example.com
    groups: [admins, dev]
    password: '$argon2id$v=19$m=1024,t=1,p=1$m9GwxpvljSMwgeNPGxYxXA$lnNSLJ3KStff3dbzbONhghZfPklpwDeOyrxqq6lO4uo'
  jane:
    displayname: Jane
    email: jane@example.com
    groups: [dev]
    password: '$argon2id$v=19$m=1024,t=1,p=1$m9GwxpvljSMwgeNPGxYxXA$lnNSLJ3KStff3dbzbONhghZfPklpwDeOyrxqq6lO4uo'
";

impl Stand {
    #[track_caller]
    fn start(proxy: Proxy) -> Stand {
        Stand::build(proxy, CONFIG, USERS)
    }

    /// Goes to the sign-in page at `location`, fills it in and sends it: the session cookie, and where the portal sends
    /// the browser next.
    #[track_caller]
    fn sign_in_at(&self, location: &str) -> (String, String) {
        self.sign_in_as("john", location)
    }

    #[track_caller]
    fn sign_in_as(&self, user: &str, location: &str) -> (String, String) {
        let page_url = Url::parse(location).expect("the sign-in page's URL");
        let page = self.send(&Request::page("auth.example.com", target(&page_url)));
        assert_eq!(page.status, 200, "the sign-in page: {page:?}");
        let form = Form::on(&page.text());
        let action = page_url.join(&form.action).expect("where the form goes");
        let fields = form.filled(&[("username", user), ("password", PASSWORD)]);
        let answer = self.send(
            &Request::page("auth.example.com", target(&action))
                .posted()
                .header("Origin", "https://auth.example.com")
                .header("Sec-Fetch-Site", "same-origin")
                .body("application/x-www-form-urlencoded", fields.as_bytes()),
        );
        assert!(matches!(answer.status, 302 | 303), "after the password: {answer:?}\n{}", answer.text());
        let cookies: Vec<_> = answer.headers("set-cookie").iter().filter_map(|line| line.split(';').next()).collect();
        assert_eq!(cookies.len(), 1, "one session cookie: {answer:?}");
        (cookies[0].to_owned(), answer.header("location").expect("the way back").to_owned())
    }

    /// A session cookie of john's.
    #[track_caller]
    fn sign_in(&self) -> String {
        let location = redirect(&self.send(&Request::page("app.example.com", "/")));
        self.sign_in_at(&location).0
    }
}

/// The form of the sign-in page, read as a browser would.
struct Form {
    action: String,
    fields: Vec<(String, String)>,
}

impl Form {
    #[track_caller]
    fn on(page: &str) -> Form {
        let form = page.split_once("<form").and_then(|(_, rest)| rest.split_once("</form>"));
        let (form, _) = form.unwrap_or_else(|| panic!("no form on the page:\n{page}"));
        let (tag, content) = form.split_once('>').expect("the form's tag ends");
        assert!(attribute(tag, "method").is_some_and(|method| method.eq_ignore_ascii_case("post")), "<form{tag}>");
        let inputs = content.split("<input").skip(1).filter_map(|input| input.split_once('>'));
        let named = inputs.filter_map(|(tag, _)| {
            let boxed = attribute(tag, "type").is_some_and(|kind| kind == "checkbox");
            (!boxed).then(|| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())))?
        });
        Form { action: attribute(tag, "action").unwrap_or_default(), fields: named.collect() }
    }

    #[track_caller]
    fn filled(mut self, values: &[(&str, &str)]) -> String {
        for (name, value) in values {
            let field = self.fields.iter_mut().find(|(known, _)| known == name);
            *field.map_or_else(|| panic!("the form has no `{name}`"), |(_, old)| old) = (*value).to_owned();
        }
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.fields).finish()
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let unescaped = value
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&lt;", "<")
        .replace("&#60;", "<")
        .replace("&gt;", ">")
        .replace("&#62;", ">")
        .replace("&amp;", "&")
        .replace("&#38;", "&");
    Some(unescaped)
}

fn target(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

/// Where a redirect leads.
#[track_caller]
fn redirect(response: &Response) -> String {
    assert!(matches!(response.status, 302 | 303), "not a redirect: {response:?}");
    response.header("location").expect("a redirect says where").to_owned()
}

/// The parameter `name` of a URL's query, decoded once.
fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    url.query_pairs().find_map(|(known, value)| (known == name).then(|| value.into_owned()))
}

/// The identity that an application gets, also one that takes `Remote_User` and `Remote.User` for `Remote-User`.
fn identity(seen: &Seen) -> Vec<(String, String)> {
    let fold = |name: &str| name.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let mut found: Vec<_> = seen
        .headers
        .iter()
        .map(|(name, value)| (fold(name), value.clone()))
        .filter(|(name, value)| name.starts_with("remote-") && !value.is_empty())
        .collect();
    found.sort();
    found
}

fn john() -> Vec<(String, String)> {
    [
        ("remote-email", "john@example.com"),
        ("remote-groups", "admins,dev"),
        ("remote-name", "Jöhn Doe"),
        ("remote-user", "john"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Everything that a client could claim about itself and its request, under every spelling. Anyone may see
/// forged.example.com, and each value holds a mark by which it is known again.
const FORGED: [(&str, &str); 27] = [
    ("Remote-User", "forged"),
    ("Remote-Groups", "forged"),
    ("Remote-Name", "forged"),
    ("Remote-Email", "forged@example.com"),
    ("remote-user", "forged"),
    ("REMOTE-USER", "forged"),
    ("Remote_User", "forged"),
    ("Remote_Groups", "forged"),
    ("remote_user", "forged"),
    ("Remote.User", "forged"),
    ("X-Forwarded-For", "198.51.100.66"),
    ("X-Forwarded-Host", "forged.example.com"),
    ("X-Forwarded-Proto", "http"),
    ("X-Forwarded-Uri", "/open/forged"),
    ("x-forwarded-uri", "/open/forged"),
    ("X-Forwarded-URI", "/open/forged"),
    ("X-Forwarded-Method", "FORGED"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/forged"),
    ("X_Forwarded_Host", "forged.example.com"),
    ("X_Forwarded_Uri", "/open/forged"),
    ("X-Forwarded_Uri", "/open/forged"),
    ("X-Original-URL", "https://forged.example.com/forged"),
    ("X-Original-Method", "FORGED"),
    ("X_Original_URL", "https://forged.example.com/forged"),
    ("X-Real-IP", "198.51.100.66"),
    ("Forwarded", "for=198.51.100.66;host=forged.example.com;proto=http"),
];

/// Adds all of them, each twice.
fn with_forged_headers(mut request: Request) -> Request {
    for (name, value) in FORGED.iter().chain(&FORGED) {
        request = request.header(name, value);
    }
    request
}

fn basic(password: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("john:{password}")))
}

fn websocket(host: &str) -> Request {
    Request::new("GET", host, "/ws?room=1")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Origin", "https://app.example.com")
}

fn anonymous_page_view_is_sent_to_sign_in(stand: &Stand) {
    for method in ["GET", "HEAD"] {
        let page = "/some/path?a=1&b=two%20words&c=%26&d=%C3%A9";
        let request = Request::new(method, "app.example.com", page).header("Accept", "text/html,*/*;q=0.8");
        let location = redirect(&stand.send(&request));
        assert!(location.starts_with("https://auth.example.com/?"), "{location}");
        assert_eq!(parameter(&location, "rd").as_deref(), Some(&*format!("https://app.example.com{page}")));
        assert_eq!(parameter(&location, "rm").as_deref(), Some(method));
    }
    assert_eq!(stand.application.served(), 0);
}

fn form_posted_without_a_session_is_sent_to_sign_in(stand: &Stand) {
    let form = Request::page("app.example.com", "/comment?id=7").posted();
    let form = form.body("application/x-www-form-urlencoded", b"text=lost");
    let location = redirect(&stand.send(&form));
    assert_eq!(parameter(&location, "rd").as_deref(), Some("https://app.example.com/comment?id=7"));
    assert_eq!(parameter(&location, "rm").as_deref(), Some("POST"));
    assert_eq!(stand.application.served(), 0);
}

fn signing_in_leads_back_to_the_page_with_the_four_identity_headers(stand: &Stand) {
    let location = redirect(&stand.send(&Request::page("app.example.com", "/reports/2026?year=2026&q=a%26b")));
    let (cookie, back) = stand.sign_in_at(&location);
    assert_eq!(back, "https://app.example.com/reports/2026?year=2026&q=a%26b");
    assert_eq!(stand.application.served(), 0, "nothing before the session");
    let back = Url::parse(&back).expect("a URL");
    let page = stand.send(&Request::page("app.example.com", target(&back)).cookie(&cookie));
    let seen = seen(&page);
    assert_eq!(identity(&seen), john());
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/reports/2026?year=2026&q=a%26b"));
    assert_eq!(seen.values("host"), ["app.example.com"]);
}

fn script_without_a_session_gets_401(stand: &Stand) {
    let host = "app.example.com";
    #[rustfmt::skip]
    let table = [
        ("accepts JSON only",  Request::script("GET", host, "/api")),
        ("says it is a script", Request::page(host, "/api").header("X-Requested-With", "XMLHttpRequest")),
        ("accepts nothing",    Request::new("GET", host, "/api")),
        ("posts",              Request::script("POST", host, "/api").body("application/json", b"{\"a\":1}")),
        ("has a dead session", Request::script("GET", host, "/api").cookie("authelia_session=AAAAAAAAAAAAAAAA")),
    ];
    for (because, request) in table {
        assert_eq!(stand.send(&request).status, 401, "{because}");
    }
    assert_eq!(stand.application.served(), 0);
}

fn bypassed_host_is_served_to_everyone_and_still_knows_who_has_signed_in(stand: &Stand) {
    let stranger = seen(&stand.send(&Request::page("public.example.com", "/news?p=2")));
    assert_eq!(stranger.target, "/news?p=2");
    assert_eq!(identity(&stranger), []);
    let cookie = stand.sign_in();
    let member = seen(&stand.send(&Request::page("public.example.com", "/news").cookie(&cookie)));
    assert_eq!(identity(&member), john());
}

fn denied_host_is_403(stand: &Stand) {
    let cookie = stand.sign_in();
    for request in [
        Request::page("denied.example.com", "/"),
        Request::script("POST", "denied.example.com", "/"),
        Request::page("denied.example.com", "/").cookie(&cookie),
        Request::page("staff.example.com", "/").cookie(&cookie),
        Request::page("unheard-of.example.com", "/").cookie(&cookie),
    ] {
        assert_eq!(stand.send(&request).status, 403, "{request:?}");
    }
    assert_eq!(stand.application.served(), 0);
}

fn post_with_a_body_reaches_the_application_whole(stand: &Stand) {
    let cookie = stand.sign_in();
    let long = vec![b'x'; 300_000];
    let post = |target: &str| Request::script("POST", "app.example.com", target).cookie(&cookie);
    let whole = seen(&stand.send(&post("/upload?n=1").body("application/octet-stream", &long)));
    assert_eq!((whole.method.as_str(), whole.body), ("POST", fingerprint(&long)));
    assert_eq!(whole.values("content-type"), ["application/octet-stream"]);
    let chunks: [&[u8]; 2] = [b"{\"first\":1,", b"\"second\":2}"];
    let chunked = seen(&stand.send(&post("/upload").chunked("application/json", &chunks)));
    assert_eq!(chunked.body, fingerprint(b"{\"first\":1,\"second\":2}"));
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = Request::script(method, "app.example.com", "/thing").cookie(&cookie);
        assert_eq!(seen(&stand.send(&request)).method, method);
    }
    assert_eq!(stand.send(&Request::new("HEAD", "app.example.com", "/").cookie(&cookie)).status, 200);
}

fn websocket_passes_when_allowed_and_only_then(stand: &Stand) {
    let refused = stand.send(&websocket("app.example.com"));
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_eq!(stand.application.served(), 0);

    let cookie = stand.sign_in();
    let (answer, mut socket) =
        stand.proxy.https.open("app.example.com", &websocket("app.example.com").cookie(&cookie)).expect("an answer");
    assert_eq!(answer.status, 101, "{answer:?}");
    let mut line = String::new();
    socket.read_line(&mut line).expect("what the application saw");
    let seen: Seen = serde_json::from_str(&line).expect("JSON");
    assert_eq!(seen.target, "/ws?room=1");
    assert_eq!(identity(&seen), john());
    for message in [b"first message".as_slice(), &[0, 159, 146, 150]] {
        socket.get_mut().write_all(message).expect("send");
        socket.get_mut().flush().expect("send");
        let mut echo = vec![0; message.len()];
        socket.read_exact(&mut echo).expect("the echo");
        assert_eq!(echo, message);
    }
}

fn query_strings_survive_the_round_trip(stand: &Stand) {
    let cookie = stand.sign_in();
    for query in [
        "a=1&b=two%20words&c=%26&d=%C3%A9",
        "rd=https%3A%2F%2Fevil.test%2F&authelia_url=https%3A%2F%2Fevil.test%2F&auth=basic",
        "plus=a+b&percent=%25&twice=1&twice=2&empty=&bare",
        "path=/a/../b//c&next=/x?y=z",
        "quoted=%22%3Cb%3E%22&json=%7B%22k%22%3A%5B1%2C2%5D%7D",
    ] {
        let page = format!("/search?{query}");
        let location = redirect(&stand.send(&Request::page("app.example.com", &page)));
        assert!(location.starts_with("https://auth.example.com/?"), "{location}");
        let there = format!("https://app.example.com{page}");
        assert_eq!(parameter(&location, "rd").as_deref(), Some(&*there));
        // A sign-in takes about a second, whatever comes of it; the strangest query has to do.
        if query.contains("%22%3Cb%3E") {
            assert_eq!(stand.sign_in_at(&location).1, there);
        }
        let got = seen(&stand.send(&Request::page("app.example.com", &page).cookie(&cookie)));
        assert_eq!(got.target, page);
    }
}

fn signing_out_ends_access(stand: &Stand) {
    let cookie = stand.sign_in();
    let page = Request::page("app.example.com", "/").cookie(&cookie);
    assert_eq!(stand.send(&page).status, 200);
    let sign_out = Request::script("POST", "auth.example.com", "/api/logout")
        .cookie(&cookie)
        .header("Origin", "https://auth.example.com")
        .header("Sec-Fetch-Site", "same-origin")
        .body("application/json", b"{}");
    assert_eq!(stand.send(&sign_out).status, 200);
    redirect(&stand.send(&page));
    assert_eq!(stand.application.served(), 1);
}

fn a49_everybody_gets_their_own_identity(stand: &Stand) {
    let location = redirect(&stand.send(&Request::page("app.example.com", "/")));
    let cookies = ["john", "jane"].map(|user| (user, stand.sign_in_as(user, &location).0));
    std::thread::scope(|scope| {
        for (user, cookie) in cookies.iter().chain(&cookies) {
            scope.spawn(move || {
                for _ in 0..25 {
                    let page = seen(&stand.send(&Request::page("app.example.com", "/").cookie(cookie)));
                    assert_eq!(page.values("remote-user"), [*user]);
                }
            });
        }
    });
}

fn a45_a46_a_clients_own_identity_never_reaches_the_application(stand: &Stand) {
    let cookie = stand.sign_in();
    #[rustfmt::skip]
    let table = [
        ("anonymous under bypass",   Request::page("public.example.com", "/"),                 vec![]),
        ("signed in under bypass",   Request::page("public.example.com", "/").cookie(&cookie), john()),
        ("signed in where required", Request::page("app.example.com", "/").cookie(&cookie),    john()),
        ("dead session under bypass", Request::page("public.example.com", "/").cookie("authelia_session=A"), vec![]),
    ];
    for (because, request, expected) in table {
        assert_eq!(identity(&seen(&stand.send(&with_forged_headers(request)))), expected, "{because}");
    }
    let socket = with_forged_headers(websocket("public.example.com"));
    let (answer, mut socket) = stand.proxy.https.open("public.example.com", &socket).expect("an answer");
    assert_eq!(answer.status, 101, "{answer:?}");
    let mut line = String::new();
    socket.read_line(&mut line).expect("what the application saw");
    assert_eq!(identity(&serde_json::from_str(&line).expect("JSON")), [], "a WebSocket");
}

fn a34_a35_a39_forged_forwarded_headers_change_nothing(stand: &Stand) {
    let location = redirect(&stand.send(&with_forged_headers(Request::page("app.example.com", "/secret"))));
    assert_eq!(parameter(&location, "rd").as_deref(), Some("https://app.example.com/secret"));
    assert_eq!(parameter(&location, "rm").as_deref(), Some("GET"));
    let denied = stand.send(&with_forged_headers(Request::page("denied.example.com", "/")));
    assert_eq!(denied.status, 403);
    for (name, value) in FORGED {
        let alone = Request::script("GET", "app.example.com", "/secret").header(name, value);
        assert_eq!(stand.send(&alone).status, 401, "`{name}: {value}`");
    }
    assert_eq!(stand.application.served(), 0);

    let seen = seen(&stand.send(&with_forged_headers(Request::page("public.example.com", "/"))));
    for (name, value) in &seen.headers {
        let marked = ["forged", "198.51.100.66"].iter().any(|mark| value.to_ascii_lowercase().contains(mark));
        // By itself: three sixes stand in one of many random request ids.
        let forged = marked || value.split(',').any(|part| part.trim() == "666");
        assert!(!forged, "`{name}: {value}` reached the application");
    }
    assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.values("x-forwarded-host"), ["public.example.com"]);
}

fn a40_dropping_headers_by_connection_opens_nothing(stand: &Stand) {
    let cookie = stand.sign_in();
    let facts = [
        "X-Forwarded-Host",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-Proto",
        "X-Forwarded-For",
        "X-Original-URL",
        "X-Original-Method",
        "X-Real-IP",
        "Host",
        "Cookie",
    ];
    let alone = facts.iter().flat_map(|name| [(*name).to_owned(), name.to_lowercase()]);
    // Without its path, a question about root.example.com would be one about its root, which is open.
    for tokens in alone.chain([facts.join(", "), facts.join(",").to_lowercase()]) {
        for connection in [format!("close, {tokens}"), tokens] {
            for host in ["root.example.com", "app.example.com", "denied.example.com"] {
                let request = Request::script("GET", host, "/secret").header("Connection", &connection);
                if let Ok(response) = stand.proxy.https.try_send(&request) {
                    assert!(matches!(response.status, 400 | 401 | 403), "{connection}: {response:?}");
                }
            }
        }
    }
    assert_eq!(stand.application.served(), 0);
    assert_eq!(stand.send(&Request::page("root.example.com", "/")).status, 200, "the root is open");
    // With an identity to drop: nobody is worse than the right person, but never someone else.
    for token in ["Remote-User", "remote-user, remote-groups, remote-name, remote-email", "Remote_User"] {
        let connection = format!("close, {token}");
        for (page, allowed) in [
            (Request::page("app.example.com", "/").cookie(&cookie), john()),
            (Request::page("public.example.com", "/").cookie(&cookie), john()),
            (Request::page("public.example.com", "/"), vec![]),
        ] {
            let response = stand.send(&with_forged_headers(page.header("Connection", &connection)));
            if response.status == 200 {
                let got = identity(&seen(&response));
                assert!(got.iter().all(|header| allowed.contains(header)), "{connection}: {}", response.text());
            }
        }
    }
}

fn a01_to_a07_no_spelling_of_a_path_reaches_past_a_bypass(stand: &Stand) {
    assert_eq!(seen(&stand.send(&Request::page("app.example.com", "/open/page"))).target, "/open/page");
    for target in [
        "/open/../secret",
        "/open/./../secret",
        "/open/%2e%2e/secret",
        "/open/.%2E/secret",
        "/open%2f..%2fsecret",
        "/open/..%2fsecret",
        "/open/%2e%2e%2fsecret",
        "/open/..%5csecret",
        "/open\\..\\secret",
        "/open//../../secret",
        "/open/..;/secret",
        "/open/..;x=1/secret",
        "/open/%252e%252e/secret",
        "/open/..%252fsecret",
        "//open/../secret",
        "/secret?/open/",
        "/secret;/open/",
        "/secret%3f/open/",
        "/secret#/open/",
        "/Open/page",
    ] {
        let before = stand.application.served();
        let response = stand.proxy.https.try_send(&Request::script("GET", "app.example.com", target));
        let status = response.map(|response| response.status).ok();
        assert_ne!(status, Some(200), "{target}");
        assert_eq!(stand.application.served(), before, "{target} reached the application");
    }
}

fn a20_a31_the_host_that_is_judged_is_the_host_that_is_served(stand: &Stand) {
    let shouting = stand.proxy.https.try_send_as("app.example.com", &Request::script("GET", "APP.Example.COM", "/"));
    assert_eq!(shouting.expect("an answer").status, 401);

    let absolute = Request::script("GET", "app.example.com", "https://public.example.com/page");
    let response = stand.send(&absolute);
    if response.status == 200 {
        assert_eq!(seen(&response).values("host"), ["public.example.com"]);
    }
    let absolute = Request::script("GET", "public.example.com", "https://app.example.com/page");
    assert_ne!(stand.send(&absolute).status, 200);
    // Two hosts are none.
    let twice = Request::script("GET", "public.example.com", "/").header("Host", "app.example.com");
    if let Ok(response) = stand.proxy.https.try_send(&twice) {
        assert_ne!(response.status, 200, "{response:?}");
    }
}

fn a32_a_host_that_is_none_of_ours_is_not_served(stand: &Stand) {
    for host in ["evil.test", "example.com.evil.test", "evilexample.com", "example.net"] {
        // With the name of a host of ours in the TLS handshake: the certificate does not stop this one.
        let request = Request::page(host, "/");
        if let Ok(response) = stand.proxy.https.try_send_as("app.example.com", &request) {
            assert!(response.status >= 400, "{host}: {response:?}");
            assert_eq!(response.header("location"), None, "{host}");
        }
    }
    assert_eq!(stand.application.served(), 0);
}

fn basic_credentials_pass_and_wrong_ones_are_challenged(stand: &Stand) {
    let with =
        |password: &str| Request::script("GET", "app.example.com", "/api").header("Authorization", &basic(password));
    assert_eq!(identity(&seen(&stand.send(&with(PASSWORD)))), john());
    let before = stand.application.served();
    let refused = stand.send(&with("guess"));
    assert_eq!(refused.status, 401);
    assert!(refused.headers("www-authenticate").iter().any(|value| value.starts_with("Basic ")), "{refused:?}");
    assert_eq!(stand.application.served(), before);
}

fn an_application_may_answer_401_by_itself(stand: &Stand) {
    let cookie = stand.sign_in();
    let response = stand.send(&Request::page("app.example.com", "/own-401").cookie(&cookie));
    assert_eq!(response.status, 401);
    assert_eq!(response.header("location"), None);
    assert!(response.text().contains("/own-401"), "its own page: {response:?}");
}

fn plain_http_is_sent_to_https(stand: &Stand) {
    let cookie = "authelia_session=AAAA";
    for host in ["app.example.com", "public.example.com"] {
        let response = stand.proxy.http.send(&Request::page(host, "/page?x=1").cookie(cookie));
        assert!(matches!(response.status, 301 | 302 | 307 | 308), "{response:?}");
        let location = Url::parse(response.header("location").expect("where to")).expect("a URL");
        assert_eq!((location.scheme(), location.host_str(), target(&location)), ("https", Some(host), "/page?x=1"));
    }
    assert_eq!(stand.application.served(), 0);
}

fn a59_a101_nothing_passes_while_portcullis_is_down_and_all_is_well_after(stand: &mut Stand) {
    let cookie = stand.sign_in();
    assert_eq!(stand.send(&Request::page("app.example.com", "/").cookie(&cookie)).status, 200);
    let before = stand.application.served();
    let status = stand.portcullis.stop();
    assert!(status.success(), "SIGTERM: {status}");
    for request in [
        Request::page("app.example.com", "/").cookie(&cookie),
        Request::page("public.example.com", "/"),
        Request::page("denied.example.com", "/"),
        Request::script("POST", "app.example.com", "/").cookie(&cookie).body("text/plain", b"x"),
        websocket("public.example.com"),
        Request::page("auth.example.com", "/"),
    ] {
        let response = stand.send(&request);
        assert!(response.status >= 500 || response.status == 403, "{request:?}: {response:?}");
    }
    assert_eq!(stand.application.served(), before, "something got through");

    stand.portcullis.start_again();
    assert_eq!(stand.send(&Request::page("public.example.com", "/")).status, 200, "the first request");
    let cookie = stand.sign_in();
    let page = stand.send(&Request::page("app.example.com", "/").cookie(&cookie));
    assert_eq!(identity(&seen(&page)), john());
}

/// With a gate that takes the question and says nothing.
fn a101_nothing_passes_while_the_gate_is_silent(proxy: Proxy) {
    let folder = tempfile::tempdir().expect("temporary directory");
    let certificates = Certificates::new(folder.path());
    let (portal, application) = (Application::start(), Application::start());
    let silent = TcpListener::bind("127.0.0.1:0").expect("listen");
    let gate = silent.local_addr().expect("an address");
    let upstreams = Upstreams { gate, grpc: gate, portal: portal.address, application: application.address };
    let proxy = proxy.start(folder.path(), &certificates, upstreams);
    // Traefik waits for longer than this client.
    if let Ok(response) = proxy.https.try_send(&Request::page("public.example.com", "/")) {
        assert!(response.status >= 500 || response.status == 403, "{response:?}");
    }
    assert_eq!(application.served(), 0);
}

/// With the application in the portal's place, to see what the portal gets.
fn portal_gets_the_true_address_scheme_and_host(proxy: Proxy) {
    let folder = tempfile::tempdir().expect("temporary directory");
    let certificates = Certificates::new(folder.path());
    let portal = Application::start();
    let nobody = SocketAddr::from(([127, 0, 0, 1], harness::process::free_port()));
    let upstreams = Upstreams { gate: nobody, grpc: nobody, portal: portal.address, application: nobody };
    let proxy = proxy.start(folder.path(), &certificates, upstreams);
    let post = Request::new("POST", "auth.example.com", "/api/firstfactor?x=1").body("application/json", b"{}");
    for request in [post.clone(), with_forged_headers(post)] {
        let seen = seen(&proxy.https.send(&request));
        assert_eq!((seen.target.as_str(), seen.body.0), ("/api/firstfactor?x=1", 2));
        assert_eq!(seen.values("host"), ["auth.example.com"]);
        assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.values("x-forwarded-host"), ["auth.example.com"]);
        assert_eq!(identity(&seen), []);
    }
}

#[test]
fn a51_over_grpc_the_application_gets_neither_our_cookie_nor_a_password_meant_for_us() {
    let stand = Stand::start(ENVOY_GRPC);
    let session = stand.sign_in();
    let page = |cookie: &str| Request::page("app.example.com", "/").cookie(cookie);
    assert_eq!(seen(&stand.send(&page(&session))).values("cookie"), [""; 0]);
    let among_others = seen(&stand.send(&page(&format!("theme=dark; {session};lang=en"))));
    assert_eq!(among_others.values("cookie"), ["theme=dark; lang=en"]);
    let others = Request::page("public.example.com", "/").cookie("theme=dark");
    assert_eq!(seen(&stand.send(&others)).values("cookie"), ["theme=dark"]);

    let with = |host: &str, value: &str| Request::script("GET", host, "/api").header("Authorization", value);
    assert_eq!(seen(&stand.send(&with("app.example.com", &basic(PASSWORD)))).values("authorization"), [""; 0]);
    let own = with("public.example.com", "Token of-the-application");
    assert_eq!(seen(&stand.send(&own)).values("authorization"), ["Token of-the-application"]);

    let page = Client::http(stand.portcullis.metrics).send(&Request::new("GET", "metrics", "/metrics")).text();
    let counted = "portcullis_decisions_total{endpoint=\"grpc\",outcome=\"allow\",rule=\"2\"} 2\n";
    assert!(page.contains(counted), "{page}");
}

/// What a file without any of our advice leaves to the gate.
#[test]
fn a45_a46_over_grpc_the_gate_itself_takes_a_clients_identity_away() {
    let stand = Stand::start(ENVOY_GRPC_BARE);
    let session = stand.sign_in();
    let names =
        ["Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", "remote_user", "Remote_Email", "Remote.User"];
    let forged =
        |request: Request| names.iter().chain(&names).fold(request, |request, name| request.header(name, "forged"));
    let stranger = Request::page("public.example.com", "/");
    assert_eq!(identity(&seen(&stand.send(&forged(stranger)))), []);
    for host in ["public.example.com", "app.example.com"] {
        let member = Request::page(host, "/").cookie(&session);
        assert_eq!(identity(&seen(&stand.send(&forged(member)))), john(), "{host}");
    }
    let attack = Request::page("public.example.com", "/").header("X_Forwarded_Host", "app.example.com");
    assert_eq!(stand.send(&attack).status, 400, "A39");
}

/// By default Envoy does what a client on a private address says in these.
#[test]
fn envoy_takes_no_orders_from_a_client() {
    for proxy in [ENVOY, ENVOY_GRPC] {
        let stand = Stand::start(proxy);
        let orders = Request::page("public.example.com", "/")
            .header("X-Envoy-Internal", "true")
            .header("X-Envoy-Original-Path", "/forged")
            .header("X-Envoy-Retry-On", "5xx");
        let seen = seen(&stand.send(&orders));
        let obeyed =
            ["x-envoy-internal", "x-envoy-original-path", "x-envoy-retry-on"].map(|name| seen.values(name).len());
        assert_eq!(obeyed, [0; 3], "{seen:?}");
    }
}

/// Runs every behaviour through one proxy, each on a stand of its own.
macro_rules! suite {
    ($($module:ident: $proxy:expr),+ $(,)?) => {$(
        mod $module {
            use super::*;

            behaviours!($proxy;
                anonymous_page_view_is_sent_to_sign_in
                form_posted_without_a_session_is_sent_to_sign_in
                signing_in_leads_back_to_the_page_with_the_four_identity_headers
                script_without_a_session_gets_401
                bypassed_host_is_served_to_everyone_and_still_knows_who_has_signed_in
                denied_host_is_403
                post_with_a_body_reaches_the_application_whole
                websocket_passes_when_allowed_and_only_then
                query_strings_survive_the_round_trip
                signing_out_ends_access
                a49_everybody_gets_their_own_identity
                a45_a46_a_clients_own_identity_never_reaches_the_application
                a34_a35_a39_forged_forwarded_headers_change_nothing
                a40_dropping_headers_by_connection_opens_nothing
                a01_to_a07_no_spelling_of_a_path_reaches_past_a_bypass
                a20_a31_the_host_that_is_judged_is_the_host_that_is_served
                a32_a_host_that_is_none_of_ours_is_not_served
                basic_credentials_pass_and_wrong_ones_are_challenged
                an_application_may_answer_401_by_itself
                plain_http_is_sent_to_https
            );

            #[test]
            fn a59_a101_nothing_passes_while_portcullis_is_down_and_all_is_well_after() {
                super::a59_a101_nothing_passes_while_portcullis_is_down_and_all_is_well_after(
                    &mut Stand::start($proxy),
                );
            }

            #[test]
            fn a101_nothing_passes_while_the_gate_is_silent() {
                super::a101_nothing_passes_while_the_gate_is_silent($proxy);
            }

            #[test]
            fn portal_gets_the_true_address_scheme_and_host() {
                super::portal_gets_the_true_address_scheme_and_host($proxy);
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
