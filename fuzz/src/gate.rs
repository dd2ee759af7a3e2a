//! The gate with rules that are known, and what must hold of every allow that it gives: no allow without a
//! named rule (A15), whichever dialect it was asked in.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::authz::settings::Endpoint;
use portcullis::authz::{Gate, Settings, grpc};
use portcullis::clock::UnixTime;
use portcullis::factor::password::NewDigest;
use portcullis::identity::Refresh;
use portcullis::identity::file::{self, FileBackend};
use portcullis::object::Object;
use portcullis::peer::TrustedProxies;
use portcullis::policy::reference::Reference;
use portcullis::policy::{Criteria, HostPattern, Policy, QueryTerm, Requirement, Rule};
use portcullis::regulation::Limits;
use portcullis::session::{self, Factors, Sessions, Site, Sites, StoreSettings};
use portcullis::signin::SignIn;
use portcullis::signin::pool::{self, HashingPool};
use portcullis::subject::{AssuranceLevel, Groups, Identity, Subject};
use portcullis::telemetry::log::Counts;
use portcullis::telemetry::metrics::{Metrics, SessionCounts};

/// `password`, as cheap as it gets.
const USERS: &str = "users:
  john:
    password: '$5$rounds=1000$0123456789abcdef$Om.m8JkEhXG/FobQKhKpDycrfZz8BC/1xrTDM6T4yn7'
    displayname: John Doe
    email: john@example.com
    groups: [dev, admins]
";

/// `john:password`, as Basic credentials carry it.
const BASIC: &[u8] = b"am9objpwYXNzd29yZA==";

/// What stands for the value of a session cookie: john has shown one factor, jane two.
const JOHN: &[u8] = b"{john}";
const JANE: &[u8] = b"{jane}";

/// The identity headers, which every allow carries.
pub const IDENTITY: [&str; 4] = ["remote-user", "remote-groups", "remote-name", "remote-email"];

/// The gate, and what is needed to judge it.
pub struct Fixture {
    pub runtime: tokio::runtime::Runtime,
    pub gate: Arc<Gate>,
    sessions: Arc<Sessions>,
    reference: Reference,
    metrics: Arc<Metrics>,
    /// The values of john's cookie and of jane's.
    cookies: RefCell<[String; 2]>,
    /// How often each rule has let somebody pass, by endpoint and rule as metrics name them.
    allowed: RefCell<BTreeMap<String, u64>>,
}

thread_local! {
    static FIXTURE: Fixture = fixture();
}

/// The rules, none of which is met by everything.
pub fn rules() -> Vec<Rule> {
    let rule = |host: &str, requirement, more: &dyn Fn(&mut Criteria)| {
        let mut criteria = Criteria { hosts: vec![HostPattern::domain(host).expect("a host")], ..Criteria::default() };
        more(&mut criteria);
        Rule::new(criteria, requirement).expect("a rule")
    };
    let resource = |pattern: &'static str| {
        move |criteria: &mut Criteria| criteria.resources.push(pattern.parse().expect("a pattern"))
    };
    vec![
        rule("app.example.com", Requirement::Deny, &resource("^/admin(/|$)")),
        rule("app.example.com", Requirement::Bypass, &resource("^/public(/|$)")),
        rule("app.example.com", Requirement::Bypass, &|criteria| {
            criteria.methods.push("OPTIONS".parse().expect("a method"));
        }),
        rule("app.example.com", Requirement::Bypass, &|criteria| {
            criteria.networks.push("192.0.2.0/24".parse().expect("a network"));
        }),
        rule("app.example.com", Requirement::OneFactor, &|criteria| {
            criteria.query.push(vec![QueryTerm::new(Some("one"), Some("equal"), Some("1")).expect("a term")]);
        }),
        rule("app.example.com", Requirement::OneFactor, &|criteria| {
            criteria.subjects.push(vec!["group:dev".parse().expect("a subject")]);
        }),
        rule("app.example.com", Requirement::TwoFactor, &|_| ()),
        rule("{user}.example.org", Requirement::OneFactor, &|_| ()),
        rule("*.example.com", Requirement::TwoFactor, &resource("^/two")),
    ]
}

fn fixture() -> Fixture {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.yaml");
    std::fs::write(&path, USERS).expect("the users file");
    let users = file::Settings { path, watch: false, search_email: true, search_case_insensitive: false };
    let accounts = Arc::new(FileBackend::load(users, NewDigest::default()).expect("accounts"));
    let pool = HashingPool::start(pool::Settings::default()).expect("hashing threads");
    let off = Limits { max_retries: 0, ..Limits::default() };
    let signin = Arc::new(SignIn::new(accounts, off, pool).expect("randomness"));
    let site = |domain: &str| Site {
        portal: Some(format!("https://auth.{domain}/").parse().expect("a portal")),
        cookie_name: String::from("sid"),
        inactivity: Duration::ZERO,
        expiration: Duration::from_secs(1 << 30),
        ..Site::new(domain.parse().expect("a cookie domain"))
    };
    let sites = Sites::new(vec![site("example.com"), site("example.org")]).expect("sites");
    let settings = session::Settings { sites, store: StoreSettings::Memory { capacity: 100 }, secret: None };
    let sessions = Arc::new(runtime.block_on(Sessions::open_store(&settings)).expect("a store"));
    let endpoints = Endpoint::defaults();
    let names = endpoints.iter().map(|endpoint| endpoint.name.as_str().to_owned()).chain(["grpc".to_owned()]);
    let metrics = Arc::new(Metrics::new(names, rules().len()).expect("metrics"));
    let settings = Settings {
        endpoints,
        base_path: "/authelia".to_owned(),
        trusted_proxies: TrustedProxies::default(),
        portal_override: true,
        refresh: Refresh::Never,
        grpc: Some(grpc::Settings { message_bytes: 64 * 1024, message_time: Duration::from_secs(6) }),
    };
    let policy = Arc::new(Policy::compile(rules(), Requirement::Deny));
    let gate = Arc::new(Gate::new(settings, policy, Arc::clone(&sessions), signin, Arc::clone(&metrics)));
    Fixture {
        runtime,
        gate,
        sessions,
        reference: Reference::new(&rules(), Requirement::Deny),
        metrics,
        cookies: RefCell::default(),
        allowed: RefCell::default(),
    }
}

/// An allow, as a proxy is told of it and as it was asked for.
pub struct Allowed<'a> {
    /// The endpoint, as metrics name it.
    pub endpoint: &'a str,
    /// The values of [`IDENTITY`], each of which was there once.
    pub identity: [String; 4],
    /// Method, scheme, authority and target, as the dialect's manual says where they stand; `None` where one
    /// is missing or stands twice.
    pub facts: Option<[Vec<u8>; 4]>,
    /// Whether a header names the method, and whether one names the target.
    pub named: [bool; 2],
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// The values of all header fields.
    pub shown: Vec<&'a [u8]>,
    /// For the message.
    pub request: &'a dyn Debug,
}

/// Asks `with` of the gate, in this thread, in which john and jane are signed in.
pub fn with(ask: impl FnOnce(&Fixture)) {
    FIXTURE.with(|fixture| {
        fixture.have_sessions();
        ask(fixture);
    });
}

impl Fixture {
    /// Signs john and jane in, unless they are: a cookie that was shown at another domain has ended.
    fn have_sessions(&self) {
        if self.has_sessions() {
            return;
        }
        let far = UnixTime::from_secs(u64::MAX);
        self.sessions.sweep(far);
        let open = |name: &str, groups: &[&str], factors| {
            let site = self.sessions.sites().of("example.com").expect("a site");
            let address = format!("{name}@example.com");
            let identity = Identity::new(name, "", groups.iter().copied(), [&*address]).expect("an identity");
            let cookie = self.sessions.open(site, identity, factors, false, UnixTime::now());
            let cookie = self.runtime.block_on(cookie).expect("a session");
            cookie.as_str().trim_start_matches("sid=").split(';').next().unwrap_or_default().to_owned()
        };
        *self.cookies.borrow_mut() = [
            open("john", &["dev", "admins"], Factors::PASSWORD),
            open("jane", &["staff"], Factors::PASSWORD.and(Factors::TOTP)),
        ];
        assert!(self.has_sessions());
    }

    /// `data` with the marks replaced by the values of the session cookies.
    pub fn with_cookies(&self, data: &[u8]) -> Vec<u8> {
        let cookies = self.cookies.borrow();
        replaced(&replaced(data, JOHN, cookies[0].as_bytes()), JANE, cookies[1].as_bytes())
    }

    /// Whether john and jane are still signed in.
    pub fn has_sessions(&self) -> bool {
        self.sessions.stats().active == Some(2)
    }

    /// Whether `text` holds the value of a session cookie.
    pub fn shows_a_cookie(&self, text: &[u8]) -> bool {
        self.cookies.borrow().iter().any(|cookie| holds(text, cookie.as_bytes()))
    }

    /// Every series of the metrics under which something was allowed in this thread.
    pub fn allowed(&self) -> Vec<String> {
        self.allowed.borrow().keys().cloned().collect()
    }

    /// What must hold of every allow.
    pub fn judge(&self, allowed: Allowed<'_>) {
        let Allowed { endpoint, identity: [user, groups, ..], facts, named, address, shown, request } = allowed;
        let rule = self.named_rule(endpoint);
        let (level, username, wanted) = match &*user {
            "" => (AssuranceLevel::Anonymous, None, ""),
            "john" => (AssuranceLevel::OneFactor, Some("john"), "dev,admins"),
            "jane" => (AssuranceLevel::TwoFactor, Some("jane"), "staff"),
            other => panic!("{other} is nobody we know"),
        };
        assert_eq!(groups, wanted);
        let cookies = self.cookies.borrow();
        let shows = |needle: &[u8]| shown.iter().any(|value| holds(value, needle));
        let has_shown = match username {
            None => true,
            Some("john") => shows(cookies[0].as_bytes()) || shows(BASIC),
            Some(_) => shows(cookies[1].as_bytes()),
        };
        assert!(has_shown, "{user} has shown nothing");

        let Some([method, scheme, authority, target]) = facts else {
            panic!("{endpoint}: an allow for a request that lacks a fact, or has one twice: {request:?}")
        };
        let object = Object::from_parts(&method, &scheme, &authority, &target).expect("an object that can be read");
        let object = if named[0] { object } else { object.with_method_unnamed() };
        let object = if named[1] { object } else { object.with_target_unnamed() };
        assert!(object.scheme().is_secure(), "cookies travel encrypted");
        assert!(super::is_ours(object.host()), "{} lies in a cookie domain", object.host());
        let subject = Subject { username, groups: Groups::new(wanted), client_id: None, address, level };
        let verdict = self.reference.decide(&subject, &object);
        assert_eq!(verdict.rule, Some(rule), "the rule that was named is the one that decides: {request:?}");
        let met = match verdict.requirement {
            Requirement::Bypass => true,
            Requirement::OneFactor => level >= AssuranceLevel::OneFactor,
            Requirement::TwoFactor => level >= AssuranceLevel::TwoFactor,
            Requirement::Deny => false,
        };
        assert!(met, "{} for {user:?} at level {level:?}: {request:?}", verdict.requirement);
    }

    /// The rule under which the allow just given was counted, from 0; there must be exactly one.
    fn named_rule(&self, endpoint: &str) -> u32 {
        let page = self.metrics.render(SessionCounts::default(), Counts::default()).expect("metrics");
        let page = String::from_utf8(page).expect("text");
        let mut now = BTreeMap::new();
        for line in page.lines().filter(|line| line.starts_with("portcullis_decisions_total{")) {
            let (series, count) = line.rsplit_once(' ').expect("a count");
            if series.contains("outcome=\"allow\"") {
                now.insert(series.to_owned(), count.parse::<f64>().expect("a number") as u64);
            }
        }
        let before = self.allowed.replace(now.clone());
        let risen: Vec<_> = now.iter().filter(|(series, count)| before.get(*series).unwrap_or(&0) < count).collect();
        let [(series, count)] = risen[..] else { panic!("an allow is counted once: {risen:?}") };
        assert_eq!(*count, before.get(series).unwrap_or(&0) + 1);
        assert!(series.contains(&format!("endpoint=\"{endpoint}\"")), "{series}");
        let rule = series.split("rule=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a rule");
        // `none` and `default` are no rules: what no rule names is denied here.
        let number: u32 = rule.parse().unwrap_or_else(|_| panic!("an allow without a named rule: {series}"));
        number - 1
    }
}

/// The client behind `proxy`: the rightmost hop that is not loopback; nobody if one up to there can't be
/// read. A proxy that is not loopback, and no unix socket (`None`), is the client itself.
pub fn client(proxy: Option<IpAddr>, lines: &[&[u8]]) -> Option<IpAddr> {
    let mut client = proxy;
    if lines.is_empty() || proxy.is_some_and(|proxy| !proxy.is_loopback()) {
        return client;
    }
    for (n, hop) in lines.join(&b","[..]).split(|&byte| byte == b',').rev().enumerate() {
        let address = super::forwarded::hop(hop).filter(|_| n < 64)?;
        client = Some(address);
        if !address.is_loopback() {
            break;
        }
    }
    client
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// `data` with each `mark` replaced by `value`.
pub fn replaced(data: &[u8], mark: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(data.len()), 0);
    while at < data.len() {
        if data[at..].starts_with(mark) {
            out.extend(value);
            at += mark.len();
        } else {
            out.push(data[at]);
            at += 1;
        }
    }
    out
}
