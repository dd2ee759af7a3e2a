//! The requests that are sent, and how the probes answer each.

use super::probe::Answer;

/// The identity headers, as the gate spells them.
pub const IDENTITY: [&str; 4] = ["Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email"];

/// The value that a client claims for each of them.
pub const FORGED_IDENTITY: &str = "forged";

/// The value that the probe gives for each of them.
pub const TRUE_IDENTITY: &str = "portcullis-doctor";

/// The facts that the gate's endpoints read, the first four of `forward-auth`, the others of `auth-request`, with what a
/// client claims. `X-Forwarded-Proto` is left out: its forged value is the other scheme.
pub const FORGED_FACTS: [(&str, &str); 5] = [
    ("X-Forwarded-Method", "FORGED"),
    ("X-Forwarded-Host", "forged.invalid"),
    ("X-Forwarded-Uri", "/forged"),
    ("X-Original-URL", "https://forged.invalid/forged"),
    ("X-Original-Method", "FORGED"),
];

/// Two more that applications believe.
const FORGED_WAY: [(&str, &str); 2] = [("X-Forwarded-Port", "666"), ("X-Forwarded-Prefix", "/forged")];

/// An address that belongs to nobody (RFC 5737).
pub const FORGED_ADDRESS: &str = "198.51.100.66";

/// A host that is nobody's (RFC 6761).
pub const DECOY_HOST: &str = "decoy.invalid";

/// Where the probe says that one signs in.
pub const SIGN_IN: &str = "https://sign-in.invalid/?rd=portcullis-doctor";

/// Every request has it, to be known again in the gate's own URL.
pub const QUERY: &str = "doctor_query=1&words=two%20words&amp=%26";

/// Where sites have a `location` or a router of its own, often without the question.
const ELSEWHERE: [&str; 6] = ["/static", "/assets", "/public", "/images", "/api", "/health"];

/// What stands after the mark in a plain path.
const PAGE: &str = "/page";

/// How the gate names its endpoints, which tells what it believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `X-Original-URL` and `X-Original-Method`.
    AuthRequest,
    /// `X-Forwarded-Method`, `-Proto`, `-Host` and `-Uri`.
    ForwardAuth,
    /// The request line, `Host` and `X-Forwarded-Proto`.
    ExtAuthz,
    /// Either of the first two.
    Legacy,
}

impl Dialect {
    /// The last part of the endpoint's path.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::AuthRequest => "auth-request",
            Dialect::ForwardAuth => "forward-auth",
            Dialect::ExtAuthz => "ext-authz",
            Dialect::Legacy => "verify",
        }
    }

    /// How the gate sends a page view to the sign-in page: nginx understands no other answer than 401.
    fn challenge_status(self) -> u16 {
        match self {
            Dialect::AuthRequest => 401,
            Dialect::ForwardAuth | Dialect::ExtAuthz | Dialect::Legacy => 302,
        }
    }
}

/// The site under examination.
#[derive(Clone, Debug)]
pub struct Site {
    /// `http` or `https`.
    pub scheme: String,
    /// The host, with its port where the URL has one.
    pub authority: String,
    /// The path that everything is sent below, without a slash at the end.
    pub base: String,
    /// Further paths below it to try.
    pub also: Vec<String>,
}

impl Site {
    /// The scheme that it is not.
    pub fn other_scheme(&self) -> &'static str {
        if self.scheme == "https" { "http" } else { "https" }
    }
}

/// What the gate says of the identity with its yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Nothing at all.
    Nothing,
    /// All four headers, empty, as Portcullis does for anybody who has not signed in.
    Empty,
    /// All four headers.
    Somebody,
}

/// What a request tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Nothing: an ordinary page view.
    Plain,
    /// Nothing: an ordinary form.
    Posted,
    /// The facts that the gate reads.
    ForgedFacts,
    /// The client's address.
    ForgedAddress,
    /// The identity headers, while the gate says this.
    ForgedIdentity(Naming),
    /// All of these, spelled with `_` and `.`.
    Aliases,
    /// A path that programs read in different ways.
    Path,
    /// Another part of the site, with the identity headers.
    Elsewhere,
    /// `Connection` names headers for the proxy to drop.
    HopByHop(&'static str),
    /// The request line names this host, and `Host` another.
    TwoHosts,
    /// A page view that must sign in.
    SignIn,
    /// The same by a script.
    Script,
    /// The gate says no.
    Denied(u16),
    /// The gate gives an answer that is none.
    Broken(&'static str),
    /// The gate is not there.
    Away,
    /// The gate says 204.
    NoContent,
}

/// One request and the gate's answer to it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it tries.
    pub attempt: Attempt,
    /// The request's method.
    pub method: &'static str,
    /// What stands before the mark in the path, below the site's own.
    below: String,
    /// What stands after the mark in the path.
    suffix: &'static str,
    headers: Vec<(String, String)>,
    body: &'static str,
    /// What the gate's probe says to it.
    pub answer: Answer,
}

impl Case {
    fn new(attempt: Attempt, answer: Answer) -> Case {
        Case { attempt, method: "GET", below: String::new(), suffix: PAGE, headers: Vec::new(), body: "", answer }
    }

    /// The ordinary page view.
    pub fn plain() -> Case {
        Case::new(Attempt::Plain, permit(Naming::Somebody))
    }

    fn header(mut self, name: &str, value: &str) -> Case {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn headers(mut self, pairs: &[(&str, &str)]) -> Case {
        self.headers.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    /// Each header line once more.
    fn doubled(mut self) -> Case {
        self.headers.extend_from_within(..);
        self
    }

    /// Path and query, as they are sent.
    pub fn target(&self, site: &Site, mark: &str) -> String {
        format!("{}{}/portcullis-doctor/{mark}{}?{QUERY}", site.base, self.below, self.suffix)
    }

    /// The request as it is sent.
    pub fn bytes(&self, site: &Site, mark: &str) -> Vec<u8> {
        let Site { scheme, authority, .. } = site;
        let target = self.target(site, mark);
        let (target, host) = match self.attempt {
            Attempt::TwoHosts => (format!("{scheme}://{authority}{target}"), DECOY_HOST),
            _ => (target, authority.as_str()),
        };
        let accept = match self.attempt {
            Attempt::Script => "Accept: application/json\r\nX-Requested-With: XMLHttpRequest",
            _ => "Accept: text/html,*/*;q=0.8",
        };
        let mut text = format!(
            "{} {target} HTTP/1.1\r\nHost: {host}\r\n{accept}\r\nUser-Agent: portcullis-doctor\r\n\
             Cookie: portcullis_doctor={mark}\r\nAuthorization: Bearer {mark}\r\n",
            self.method
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            text += "Connection: close\r\n";
        }
        if !self.body.is_empty() {
            text += &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", self.body.len());
        }
        (text + "\r\n" + self.body).into_bytes()
    }
}

/// The gate's yes.
fn permit(naming: Naming) -> Answer {
    let each = |value: &str| IDENTITY.map(|name| (name, value.to_owned())).to_vec();
    let headers = match naming {
        Naming::Nothing => Vec::new(),
        Naming::Somebody => each(TRUE_IDENTITY),
        Naming::Empty => {
            let mut headers = each("");
            // Envoy's own way to have headers removed; the gate sends it too.
            headers.push(("X-Envoy-Auth-Headers-To-Remove", IDENTITY.join(", ")));
            headers
        }
    };
    Answer::Status(200, headers)
}

/// Everything after the plain page view, in the order in which it is sent.
pub fn cases(site: &Site, dialect: Dialect) -> Vec<Case> {
    let yes = || permit(Naming::Somebody);
    let mut cases = vec![
        Case { method: "POST", body: "a=1", ..Case::new(Attempt::Posted, yes()) },
        forged_facts(site),
        forged_facts(site).doubled(),
        forged_address(),
        forged_address().doubled(),
        aliases(site),
    ];
    for naming in [Naming::Nothing, Naming::Empty, Naming::Somebody] {
        let claims = IDENTITY.map(|name| (name, FORGED_IDENTITY));
        let case = Case::new(Attempt::ForgedIdentity(naming), permit(naming)).headers(&claims);
        cases.extend([case.clone(), case.doubled()]);
    }
    // Each stands for a way in which gate and application may read a path differently (A01 to A08, A18, A19).
    let suffixes = [
        "/b//c",
        "/b/../c",
        "/b/%2e%2e/c",
        "/b%2fc",
        "/b/..%2fc",
        "/b/..;/c",
        "/%62",
        "/b%20c",
        "/b%5c..%5cc",
        "/b%252fc",
        "/style.css",
    ];
    cases.extend(suffixes.map(|suffix| Case { suffix, ..Case::new(Attempt::Path, yes()) }));
    let dropped = [
        "X-Forwarded-Method, X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-Uri",
        "x-forwarded-host, x-forwarded-uri, x-original-url, x-original-method",
        "X-Forwarded-For",
        "X-Original-URL, X-Original-Method",
        "Remote-User, Remote-Groups",
    ];
    cases.extend(dropped.map(|names| {
        Case::new(Attempt::HopByHop(names), yes())
            .header("Connection", &format!("close, {names}"))
            .header("Remote-User", FORGED_IDENTITY)
    }));
    cases.push(Case::new(Attempt::TwoHosts, yes()));
    let elsewhere = ELSEWHERE.into_iter().chain(site.also.iter().map(|path| path.trim_end_matches('/')));
    cases.extend(elsewhere.map(|below| {
        let case = Case { below: below.to_owned(), ..Case::new(Attempt::Elsewhere, yes()) };
        IDENTITY.into_iter().fold(case, |case, name| case.header(name, FORGED_IDENTITY))
    }));

    let challenge = Answer::Status(dialect.challenge_status(), vec![("Location", SIGN_IN.to_owned())]);
    cases.push(Case::new(Attempt::SignIn, challenge.clone()));
    let script = if dialect == Dialect::AuthRequest { challenge } else { Answer::status(401) };
    cases.push(Case::new(Attempt::Script, script));
    let located = |status| Answer::Status(status, vec![("Location", SIGN_IN.to_owned())]);
    cases.extend([
        Case::new(Attempt::Denied(401), Answer::status(401)),
        Case::new(Attempt::Denied(302), located(302)),
        Case::new(Attempt::Denied(403), Answer::status(403)),
        Case::new(Attempt::Denied(400), Answer::status(400)),
        Case::new(Attempt::Denied(404), Answer::status(404)),
        Case::new(Attempt::Denied(429), Answer::status(429)),
        Case { method: "OPTIONS", ..Case::new(Attempt::Denied(403), Answer::status(403)) },
        Case { method: "HEAD", ..Case::new(Attempt::Denied(403), Answer::status(403)) },
        Case { suffix: "/style.css", ..Case::new(Attempt::Denied(403), Answer::status(403)) },
        websocket(),
        Case::new(Attempt::NoContent, Answer::status(204)),
        Case::new(Attempt::Broken("500"), Answer::status(500)),
        Case::new(Attempt::Broken("503"), Answer::status(503)),
        Case::new(Attempt::Broken("something that is not HTTP"), Answer::Garbage),
        Case::new(Attempt::Broken("nothing, and closed the connection"), Answer::Silence),
    ]);
    cases
}

/// The last one: nobody listens in the gate's place.
pub fn away() -> Case {
    Case::new(Attempt::Away, Answer::Silence)
}

fn forged_facts(site: &Site) -> Case {
    Case::new(Attempt::ForgedFacts, permit(Naming::Somebody))
        .headers(&FORGED_FACTS)
        .headers(&FORGED_WAY)
        .header("X-Forwarded-Proto", site.other_scheme())
}

fn forged_address() -> Case {
    Case::new(Attempt::ForgedAddress, permit(Naming::Somebody))
        .header("X-Forwarded-For", FORGED_ADDRESS)
        .header("X-Real-IP", FORGED_ADDRESS)
        .header("Forwarded", &format!("for={FORGED_ADDRESS};host=forged.invalid"))
}

fn aliases(site: &Site) -> Case {
    let mut case = Case::new(Attempt::Aliases, permit(Naming::Somebody));
    let claims = FORGED_FACTS.into_iter().chain([
        ("X-Forwarded-Proto", site.other_scheme()),
        ("X-Forwarded-For", FORGED_ADDRESS),
        ("Remote-User", FORGED_IDENTITY),
        ("Remote-Groups", FORGED_IDENTITY),
    ]);
    for (name, value) in claims {
        case = case.header(&name.replace('-', "_"), value);
    }
    // One dash of two, and the other sign that CGI folds.
    case.header("X-Forwarded_Uri", "/forged").header("Remote.User", FORGED_IDENTITY)
}

fn websocket() -> Case {
    Case::new(Attempt::Denied(401), Answer::status(401))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "cG9ydGN1bGxpcy1kb2N0b3I=")
}
