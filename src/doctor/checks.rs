//! From what was seen to what is wrong: pure.

use super::cases::{
    Attempt, DECOY_HOST, Dialect, FORGED_ADDRESS, FORGED_FACTS, FORGED_IDENTITY, IDENTITY, Naming, QUERY, SIGN_IN,
    Site, TRUE_IDENTITY,
};
use super::catalogue::{self as found, Check, Proxy};
use super::wire::Head;

/// One request, what the probes saw of it, and what came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What it tried.
    pub attempt: Attempt,
    /// Its method.
    pub method: &'static str,
    /// Its path and query, as sent.
    pub target: String,
    /// What it is known by; it stands in the target.
    pub mark: String,
    /// The questions that reached the gate's probe.
    pub asked: Vec<Head>,
    /// What reached the application's probe.
    pub served: Vec<Head>,
    /// The head of the proxy's answer, or why there is none.
    pub reply: Result<Head, String>,
}

impl Exchange {
    /// Method and path, for people: without the mark.
    fn shown(&self) -> String {
        let path = path_of(&self.target);
        match (self.attempt, path.split_once("/portcullis-doctor/")) {
            (Attempt::Elsewhere, Some((below, _))) => format!("{} {below}/…", self.method),
            _ => format!("{} {}", self.method, tail(path)),
        }
    }
}

/// Something found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What.
    pub check: &'static Check,
    /// What got through, a line for each.
    pub evidence: Vec<String>,
}

/// What the endpoint believes about a request, as the question says it; a fact given twice is there twice.
#[derive(Debug, Default)]
struct Facts {
    method: Vec<String>,
    scheme: Vec<String>,
    host: Vec<String>,
    target: Vec<String>,
}

/// The site and the way in which the proxy asks, learnt from the plain request.
pub struct Bench<'a> {
    /// The site under examination.
    pub site: &'a Site,
    /// How the proxy asks.
    pub dialect: Dialect,
    /// What stands before the client's target in the target of the question, where the dialect has it there.
    pub prefix: String,
    /// The plain page view.
    pub plain: &'a Exchange,
}

impl<'a> Bench<'a> {
    /// Learns the dialect from a plain page view; `None` if the gate was not asked.
    pub fn new(site: &'a Site, plain: &'a Exchange) -> Option<Bench<'a>> {
        let question = plain.asked.first()?;
        let (dialect, prefix) = dialect_of(question, path_of(&plain.target));
        Some(Bench { site, dialect, prefix, plain })
    }

    fn facts(&self, question: &Head) -> Facts {
        let all = |name: &str| question.values(name).map(str::to_owned).collect::<Vec<_>>();
        let original = || {
            let mut facts = Facts { method: all("x-original-method"), ..Facts::default() };
            for url in question.values("x-original-url") {
                let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
                let (host, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                facts.scheme.push(scheme.to_owned());
                facts.host.push(host.to_owned());
                facts.target.push(target.to_owned());
            }
            facts
        };
        let forwarded = || Facts {
            method: all("x-forwarded-method"),
            scheme: all("x-forwarded-proto"),
            host: all("x-forwarded-host"),
            target: all("x-forwarded-uri"),
        };
        match self.dialect {
            Dialect::AuthRequest => original(),
            Dialect::ForwardAuth => forwarded(),
            Dialect::Legacy if question.value("x-original-url").is_some() => {
                let method = question.values("x-original-method").chain(question.values("x-forwarded-method"));
                Facts { method: method.map(str::to_owned).collect(), ..original() }
            }
            Dialect::Legacy => forwarded(),
            Dialect::ExtAuthz => {
                let target = question.second_word();
                Facts {
                    method: vec![question.first_word().to_owned()],
                    scheme: all("x-forwarded-proto"),
                    host: all("host"),
                    target: vec![target.strip_prefix(&*self.prefix).unwrap_or(target).to_owned()],
                }
            }
        }
    }

    /// Whether this endpoint takes `name` for a fact about the request.
    fn believes(&self, name: &str) -> bool {
        let forwarded = name.to_ascii_lowercase().starts_with("x-forwarded-");
        match self.dialect {
            Dialect::AuthRequest => !forwarded,
            Dialect::ForwardAuth => forwarded,
            Dialect::ExtAuthz => name.eq_ignore_ascii_case("x-forwarded-proto"),
            Dialect::Legacy => true,
        }
    }

    /// What a client claims under each name that some endpoint believes.
    fn claims(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        FORGED_FACTS.into_iter().chain([("X-Forwarded-Proto", self.site.other_scheme())])
    }
}

/// Recognises how the question is put: by the endpoint's own name, else by its headers. With it goes what stands before
/// the client's target.
fn dialect_of(question: &Head, sent: &str) -> (Dialect, String) {
    let path = path_of(question.second_word());
    if path != sent
        && let Some(prefix) = path.strip_suffix(sent)
    {
        return (Dialect::ExtAuthz, prefix.to_owned());
    }
    let dialect = match path.rsplit('/').next().unwrap_or_default() {
        "auth-request" => Dialect::AuthRequest,
        "forward-auth" => Dialect::ForwardAuth,
        "verify" => Dialect::Legacy,
        _ if path.contains("/ext-authz") => Dialect::ExtAuthz,
        _ if question.value("x-original-url").is_some() => Dialect::AuthRequest,
        _ => Dialect::ForwardAuth,
    };
    let prefix = path.find("/ext-authz/").map_or("", |at| path.get(..at + "/ext-authz/".len()).unwrap_or_default());
    (dialect, prefix.to_owned())
}

/// The proxy, by what it says of itself.
pub fn recognise(plain: &Exchange) -> Option<Proxy> {
    let question = plain.asked.first()?;
    let reply = plain.reply.as_ref().ok()?;
    let says =
        |head: &Head, name: &str, word: &str| head.values(name).any(|value| value.to_ascii_lowercase().contains(word));
    if says(question, "via", "caddy") || says(reply, "via", "caddy") || says(reply, "server", "caddy") {
        return Some(Proxy::Caddy);
    }
    if question.headers.iter().any(|(name, _)| name.starts_with("x-envoy-")) || says(reply, "server", "envoy") {
        return Some(Proxy::Envoy);
    }
    if says(reply, "server", "nginx") || question.value("x-original-url").is_some() {
        return Some(Proxy::Nginx);
    }
    // HAProxy writes every name in lower case, Traefik as Go does.
    let spelled = |name: &str| question.headers.iter().any(|(known, _)| known == name);
    if spelled("x-forwarded-uri") {
        return Some(Proxy::Haproxy);
    }
    (spelled("X-Forwarded-Uri") && spelled("X-Forwarded-Port")).then_some(Proxy::Traefik)
}

/// Everything that is wrong, the gravest first.
pub fn examine(bench: &Bench<'_>, exchanges: &[Exchange]) -> Vec<Found> {
    let mut notes = Notes::default();
    for exchange in exchanges {
        passes(exchange, &mut notes);
        facts(bench, exchange, &mut notes);
        paths(bench, exchange, &mut notes);
        questions(bench, exchange, &mut notes);
        addresses(exchange, &mut notes);
        aliases(bench, exchange, &mut notes);
        identities(exchange, &mut notes);
        way(bench, exchange, &mut notes);
        sign_in(exchange, &mut notes);
    }
    // What gets through the second lock needs no word about the first.
    if notes.0.iter().any(|found| found.check.id == found::IDENTITY_FORGED.id) {
        notes.0.retain(|found| found.check.id != found::IDENTITY_UNGUARDED.id);
    }
    let place = |found: &Found| found::ALL.iter().position(|check| check.id == found.check.id);
    notes.0.sort_by_key(|found| (std::cmp::Reverse(found.check.severity), place(found)));
    notes.0
}

/// What was found so far, each check once.
#[derive(Default)]
struct Notes(Vec<Found>);

impl Notes {
    /// Adds a line. A header that was found already tells nothing new by being there twice, or with another value.
    fn add(&mut self, check: &'static Check, evidence: String) {
        let Some(found) = self.0.iter_mut().find(|found| found.check.id == check.id) else {
            self.0.push(Found { check, evidence: vec![evidence] });
            return;
        };
        if !found.evidence.iter().any(|known| kind(known) == kind(&evidence)) {
            found.evidence.push(evidence);
        }
    }
}

/// A line of evidence without the value of the header that it is about, as in `` `Remote-User: forged` where … ``.
fn kind(evidence: &str) -> (&str, &str) {
    match (evidence.split_once(": "), evidence.rsplit_once('`')) {
        (Some((name, _)), Some((_, rest))) if evidence.starts_with('`') => (name, rest),
        _ => (evidence, ""),
    }
}

/// Who gets to the application without a yes.
fn passes(exchange: &Exchange, notes: &mut Notes) {
    if exchange.served.is_empty() {
        return;
    }
    let shown = exchange.shown();
    match exchange.attempt {
        Attempt::Away => {
            notes.add(&found::FAILS_OPEN, format!("`{shown}` passed while nobody listened in the gate's place"))
        }
        _ if exchange.asked.is_empty() => notes.add(&found::UNASKED, format!("`{shown}`")),
        Attempt::Denied(status) => {
            notes.add(&found::DENIAL_PASSES, format!("`{shown}` passed, to which the gate had answered {status}"))
        }
        Attempt::SignIn | Attempt::Script => {
            notes.add(&found::DENIAL_PASSES, format!("`{shown}` passed, for which the gate had asked to sign in"));
        }
        Attempt::Broken(answer) => {
            notes.add(&found::FAILS_OPEN, format!("`{shown}` passed, to which the gate had answered {answer}"))
        }
        Attempt::Plain
        | Attempt::Posted
        | Attempt::ForgedFacts
        | Attempt::ForgedAddress
        | Attempt::ForgedIdentity(_)
        | Attempt::Aliases
        | Attempt::Path
        | Attempt::Elsewhere
        | Attempt::HopByHop(_)
        | Attempt::TwoHosts => {}
        Attempt::NoContent => notes.add(&found::ACCEPTS_OTHERS, "204".to_owned()),
    }
}

/// Whether the question is about the client's request, and nothing but.
fn facts(bench: &Bench<'_>, exchange: &Exchange, notes: &mut Notes) {
    for question in &exchange.asked {
        let facts = bench.facts(question);
        let named =
            [("method", &facts.method), ("scheme", &facts.scheme), ("host", &facts.host), ("path", &facts.target)];
        let missing: Vec<_> =
            named.iter().filter(|(_, values)| values.iter().all(String::is_empty)).map(|(name, _)| *name).collect();
        match exchange.attempt {
            Attempt::Plain | Attempt::Posted => {
                if !missing.is_empty() {
                    notes.add(&found::FACTS_MISSING, format!("no {}", missing.join(", no ")));
                }
                wrong_facts(bench, exchange, &facts, notes);
            }
            Attempt::ForgedFacts => {
                for (name, claimed) in bench.claims() {
                    let values: Vec<_> = question.values(name).collect();
                    // In a list, too, the claim has arrived.
                    if values.iter().any(|value| value.split(',').any(|part| part.trim() == claimed)) {
                        let check = if bench.believes(name) { &found::FACTS_FORGED } else { &found::FACTS_FOREIGN };
                        notes.add(check, format!("`{name}: {}`", values.join("`, `")));
                    }
                }
            }
            Attempt::HopByHop(names) => {
                let whole = bench.plain.asked.first().map(|plain| bench.facts(plain)).unwrap_or_default();
                let usual = [&whole.method, &whole.scheme, &whole.host, &whole.target];
                for ((name, values), usual) in named.iter().zip(usual) {
                    if values.is_empty() && !usual.is_empty() {
                        notes.add(&found::FACTS_DROPPED, format!("no {name} after `Connection: close, {names}`"));
                    }
                }
                let address = "x-forwarded-for";
                let usual = bench.plain.asked.iter().any(|plain| plain.value(address).is_some());
                if usual && question.value(address).is_none() {
                    notes.add(&found::FACTS_DROPPED, format!("no X-Forwarded-For after `Connection: close, {names}`"));
                }
            }
            Attempt::TwoHosts if facts.host.iter().any(|host| host == DECOY_HOST) => {
                let evidence = format!(
                    "`GET {}://{}/…` with `Host: {DECOY_HOST}` is asked about as `{DECOY_HOST}`",
                    bench.site.scheme, bench.site.authority
                );
                notes.add(&found::HOST_DIFFERS, evidence);
            }
            _ => {}
        }
    }
}

fn wrong_facts(bench: &Bench<'_>, exchange: &Exchange, facts: &Facts, notes: &mut Notes) {
    let mut differ = |name: &str, said: Option<&String>, expected: &str| {
        if let Some(said) = said
            && !said.is_empty()
            && said != expected
        {
            notes.add(&found::FACTS_WRONG, format!("{name} `{said}` for `{expected}`"));
        }
    };
    differ("method", facts.method.first(), exchange.method);
    differ("scheme", facts.scheme.first(), &bench.site.scheme);
    let host = facts.host.first().map(|host| without_port(host).to_ascii_lowercase());
    differ("host", host.as_ref(), &without_port(&bench.site.authority).to_ascii_lowercase());
    if let Some(said) = facts.target.first().filter(|said| !said.is_empty()) {
        let (path, expected) = (path_of(said), path_of(&exchange.target));
        if path != expected {
            let evidence = format!("path `{path}` for `{expected}`").replace(&exchange.mark, "…");
            notes.add(&found::FACTS_WRONG, evidence);
        }
        let query = query_of(said);
        if query != Some(QUERY) {
            let said = query.map_or_else(|| "none".to_owned(), |query| format!("`{query}`"));
            notes.add(&found::QUERY_LOST, format!("{said} for `{QUERY}`"));
        }
    }
}

/// Whether gate and application read one path.
fn paths(bench: &Bench<'_>, exchange: &Exchange, notes: &mut Notes) {
    let target = |exchange: &Exchange| {
        let asked = bench.facts(exchange.asked.first()?).target.first()?.clone();
        Some((asked, exchange.served.first()?.second_word().to_owned()))
    };
    let Some((plain_asked, plain_served)) = target(bench.plain) else { return };
    let (plain_asked, plain_served) = (path_of(&plain_asked), path_of(&plain_served));
    if exchange.attempt == Attempt::Plain && plain_asked != plain_served {
        let evidence = format!("`{plain_asked}` arrives as `{plain_served}`").replace(&exchange.mark, "…");
        notes.add(&found::PATH_REWRITTEN, evidence);
    }
    if exchange.attempt != Attempt::Path {
        return;
    }
    let Some((asked, served)) = target(exchange) else { return };
    let (asked, served) = (path_of(&asked), path_of(&served));
    // A prefix that is taken off or put before every path is no second reading.
    let same = if let Some(off) = plain_asked.strip_suffix(plain_served) {
        asked.strip_prefix(off) == Some(served)
    } else if let Some(on) = plain_served.strip_suffix(plain_asked) {
        served.strip_prefix(on) == Some(asked)
    } else {
        return;
    };
    if !same {
        notes.add(&found::PATH_DIFFERS, format!("asked about `{}`, served `{}`", tail(asked), tail(served)));
    }
}

/// What else of the client's request is in the question, and what is not.
fn questions(bench: &Bench<'_>, exchange: &Exchange, notes: &mut Notes) {
    for question in &exchange.asked {
        let own_query = query_of(question.second_word()).unwrap_or_default();
        if bench.dialect != Dialect::ExtAuthz && own_query.contains("doctor_query") {
            notes.add(&found::QUERY_LEAKS, format!("`{}`", question.start_line));
        }
        match exchange.attempt {
            Attempt::Posted => {
                if let Some(announced) = question.announces_body() {
                    notes.add(&found::BODY_SENT, format!("`{announced}`"));
                }
            }
            Attempt::Plain => {
                for name in ["Cookie", "Accept", "Authorization"] {
                    if question.value(name).is_none_or(str::is_empty) {
                        notes.add(&found::QUESTION_STARVED, format!("`{name}`"));
                    }
                }
            }
            Attempt::Script if question.value("x-requested-with").is_none() => {
                notes.add(&found::QUESTION_STARVED, "`X-Requested-With`".to_owned());
            }
            _ => {}
        }
    }
}

/// Whose address the gate takes the client's for.
fn addresses(exchange: &Exchange, notes: &mut Notes) {
    for question in &exchange.asked {
        let lines: Vec<_> = question.values("x-forwarded-for").collect();
        let hops: Vec<_> = lines.iter().flat_map(|line| line.split(',')).map(str::trim).collect();
        match exchange.attempt {
            Attempt::Plain if hops.is_empty() => {
                notes.add(&found::ADDRESS_MISSING, "no X-Forwarded-For".to_owned());
            }
            Attempt::ForgedAddress if hops.last() == Some(&FORGED_ADDRESS) => {
                notes.add(&found::ADDRESS_FORGED, format!("`X-Forwarded-For: {}`", lines.join("`, `")));
            }
            Attempt::ForgedAddress if hops.contains(&FORGED_ADDRESS) => {
                notes.add(&found::ADDRESS_APPENDED, format!("`X-Forwarded-For: {}`", lines.join("`, `")));
            }
            _ => {}
        }
    }
}

/// Names that are others once `_` and `.` are read as `-`.
fn aliases(bench: &Bench<'_>, exchange: &Exchange, notes: &mut Notes) {
    if exchange.attempt != Attempt::Aliases {
        return;
    }
    let folded = |name: &str| name.to_ascii_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    let alias = |name: &str| name.chars().any(|letter| !letter.is_ascii_alphanumeric() && letter != '-');
    let mut known: Vec<_> = bench.claims().map(|(name, _)| name.to_ascii_lowercase()).collect();
    known.push("x-forwarded-for".to_owned());
    let identity = IDENTITY.map(str::to_ascii_lowercase);
    for (name, value) in exchange.asked.iter().flat_map(|question| &question.headers).filter(|(name, _)| alias(name)) {
        if known.contains(&folded(name)) || identity.contains(&folded(name)) {
            notes.add(&found::ALIAS_TO_GATE, format!("`{name}: {value}`"));
        }
    }
    for (name, value) in exchange.served.iter().flat_map(|request| &request.headers).filter(|(name, _)| alias(name)) {
        if identity.contains(&folded(name)) {
            notes.add(&found::IDENTITY_ALIAS, format!("`{name}: {value}`"));
        } else if known.contains(&folded(name)) {
            notes.add(&found::WAY_FORGED, format!("`{name}: {value}`"));
        }
    }
}

/// Whom the application takes the client for.
fn identities(exchange: &Exchange, notes: &mut Notes) {
    for request in &exchange.served {
        for name in IDENTITY {
            let values: Vec<_> = request.values(name).collect();
            let forged = values.iter().any(|value| value.split(',').any(|part| part.trim() == FORGED_IDENTITY));
            let shown = || format!("`{name}: {}`", values.join("`, `"));
            match exchange.attempt {
                Attempt::Plain if !values.contains(&TRUE_IDENTITY) => {
                    notes.add(&found::IDENTITY_LOST, format!("`{name}`"));
                }
                Attempt::ForgedIdentity(Naming::Nothing) if forged => notes.add(&found::IDENTITY_UNGUARDED, shown()),
                Attempt::ForgedIdentity(Naming::Empty) if forged => {
                    notes.add(&found::IDENTITY_FORGED, format!("{} where the gate names nobody", shown()));
                }
                Attempt::ForgedIdentity(Naming::Somebody) if forged => {
                    notes.add(&found::IDENTITY_FORGED, format!("{} where the gate names `{TRUE_IDENTITY}`", shown()));
                }
                // Where nobody was asked, `unasked` says it.
                Attempt::Elsewhere if forged && !exchange.asked.is_empty() => {
                    notes.add(&found::IDENTITY_FORGED, format!("{} by `{}`", shown(), exchange.shown()));
                }
                Attempt::HopByHop(names) if forged => {
                    notes.add(&found::IDENTITY_FORGED, format!("{} after `Connection: close, {names}`", shown()));
                }
                _ => {}
            }
        }
    }
}

/// What the application is told about the way to it.
fn way(bench: &Bench<'_>, exchange: &Exchange, notes: &mut Notes) {
    for request in &exchange.served {
        match exchange.attempt {
            Attempt::Plain => {
                let passed: Vec<_> =
                    ["Cookie", "Authorization"].into_iter().filter(|name| request.value(name).is_some()).collect();
                if !passed.is_empty() {
                    notes.add(&found::CREDENTIALS_DOWNSTREAM, format!("`{}`", passed.join("`, `")));
                }
            }
            Attempt::ForgedFacts | Attempt::ForgedAddress => {
                let claims = bench.claims().chain([
                    ("X-Forwarded-Port", "666"),
                    ("X-Forwarded-Prefix", "/forged"),
                    ("X-Forwarded-For", FORGED_ADDRESS),
                    ("X-Real-IP", FORGED_ADDRESS),
                    ("Forwarded", FORGED_ADDRESS),
                ]);
                for (name, claimed) in claims {
                    let values: Vec<_> = request.values(name).collect();
                    let arrived = |value: &&str| match name {
                        // `http` is the beginning of `https`.
                        "X-Forwarded-Proto" => *value == claimed,
                        _ => value.contains(claimed),
                    };
                    if values.iter().any(arrived) {
                        notes.add(&found::WAY_FORGED, format!("`{name}: {}`", values.join("`, `")));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether people find the sign-in page, and scripts their 401.
fn sign_in(exchange: &Exchange, notes: &mut Notes) {
    let Ok(reply) = &exchange.reply else { return };
    let status = reply.second_word();
    if !exchange.served.is_empty() || exchange.asked.is_empty() {
        return;
    }
    match exchange.attempt {
        Attempt::SignIn if !status.starts_with('3') => {
            notes.add(&found::SIGN_IN_LOST, format!("a page view is answered {status}, not 302"));
        }
        Attempt::SignIn if reply.value("location") != Some(SIGN_IN) => {
            let location = reply.value("location").unwrap_or_default();
            notes.add(&found::SIGN_IN_LOST, format!("`Location: {location}` for `Location: {SIGN_IN}`"));
        }
        Attempt::Script if status != "401" => {
            notes.add(&found::SIGN_IN_LOST, format!("a script is answered {status}, not 401"));
        }
        _ => {}
    }
}

fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

fn query_of(target: &str) -> Option<&str> {
    target.split_once('?').map(|(_, query)| query)
}

/// A path without the run's mark, for people.
fn tail(path: &str) -> &str {
    let tail = path.split_once("portcullis-doctor/").and_then(|(_, rest)| rest.find('/').and_then(|at| rest.get(at..)));
    tail.unwrap_or(path)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head from its lines.
    fn head(start_line: &str, headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { start_line: start_line.to_owned(), headers }
    }

    fn site() -> Site {
        Site {
            scheme: "https".to_owned(),
            authority: "app.example.com".to_owned(),
            base: String::new(),
            also: Vec::new(),
        }
    }

    const TARGET: &str = "/portcullis-doctor/mark/page?doctor_query=1&words=two%20words&amp=%26";

    /// The question that a sound Traefik puts.
    fn question() -> Head {
        let mut question = head(
            "GET /api/authz/forward-auth HTTP/1.1",
            &[
                ("X-Forwarded-Method", "GET"),
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "app.example.com"),
                ("X-Forwarded-For", "203.0.113.7"),
                ("X-Forwarded-Port", "443"),
                ("Cookie", "portcullis_doctor=mark"),
                ("Accept", "text/html"),
                ("Authorization", "Bearer mark"),
            ],
        );
        question.headers.push(("X-Forwarded-Uri".to_owned(), TARGET.to_owned()));
        question
    }

    /// What a sound proxy makes of a page view.
    fn exchange(attempt: Attempt) -> Exchange {
        let named = IDENTITY.map(|name| (name, TRUE_IDENTITY));
        Exchange {
            attempt,
            method: "GET",
            target: TARGET.to_owned(),
            mark: "mark".to_owned(),
            asked: vec![question()],
            served: vec![head(&format!("GET {TARGET} HTTP/1.1"), &named)],
            reply: Ok(head("HTTP/1.1 200 OK", &[])),
        }
    }

    fn without(mut head: Head, name: &str) -> Head {
        head.headers.retain(|(known, _)| known != name);
        head
    }

    fn with(mut head: Head, name: &str, value: &str) -> Head {
        head.headers.retain(|(known, _)| known != name);
        head.headers.push((name.to_owned(), value.to_owned()));
        head
    }

    /// What is found when the plain page view goes well and then `exchange` happens.
    fn found_in(exchange: Exchange) -> Vec<&'static str> {
        let (site, plain) = (site(), self::exchange(Attempt::Plain));
        let bench = Bench::new(&site, &plain).expect("the gate was asked");
        examine(&bench, &[plain.clone(), exchange]).iter().map(|found| found.check.id).collect()
    }

    #[test]
    fn a_sound_proxy_gives_nothing_to_find() {
        for attempt in [
            Attempt::Plain,
            Attempt::ForgedFacts,
            Attempt::ForgedAddress,
            Attempt::ForgedIdentity(Naming::Somebody),
            Attempt::Aliases,
            Attempt::Path,
            Attempt::Elsewhere,
            Attempt::HopByHop("X-Forwarded-For"),
            Attempt::TwoHosts,
        ] {
            assert_eq!(found_in(exchange(attempt)), Vec::<&str>::new(), "{attempt:?}");
        }
    }

    #[test]
    fn each_change_of_the_question_is_found_by_name() {
        let dropped = Attempt::HopByHop("X-Forwarded-For");
        #[rustfmt::skip]
        let table = [
            // because                           attempt                  the question                                                  found
            ("no address",                       Attempt::Plain,          without(question(), "X-Forwarded-For"),                       "address-missing"),
            ("A36: the client's alone",          Attempt::ForgedAddress,  with(question(), "X-Forwarded-For", FORGED_ADDRESS),          "address-forged"),
            ("A36: the client's last",           Attempt::ForgedAddress,  with(question(), "X-Forwarded-For", "10.0.0.1, 198.51.100.66"), "address-forged"),
            ("A36: the client's first",          Attempt::ForgedAddress,  with(question(), "X-Forwarded-For", "198.51.100.66,10.0.0.1"), "address-appended"),
            ("A40: the address is gone",         dropped,                 without(question(), "X-Forwarded-For"),                       "facts-dropped"),
            ("A40: the host is gone",            dropped,                 without(question(), "X-Forwarded-Host"),                      "facts-dropped"),
            ("A34: the client's path",           Attempt::ForgedFacts,    with(question(), "X-Forwarded-Uri", "/forged"),               "facts-forged"),
            ("A34: joined to the true one",      Attempt::ForgedFacts,    with(question(), "X-Forwarded-Proto", "https, http"),         "facts-forged"),
            ("A35: the other family",            Attempt::ForgedFacts,    with(question(), "X-Original-Method", "FORGED"),              "facts-foreign"),
            ("A30: another scheme",              Attempt::Plain,          with(question(), "X-Forwarded-Proto", "http"),                "facts-wrong"),
            ("another host",                     Attempt::Plain,          with(question(), "X-Forwarded-Host", "gate"),                 "facts-wrong"),
            ("always GET",                       Attempt::Posted,         question(),                                                   "facts-wrong"),
            ("no path",                          Attempt::Plain,          without(question(), "X-Forwarded-Uri"),                       "facts-missing"),
            ("no query",                         Attempt::Plain,          with(question(), "X-Forwarded-Uri", "/portcullis-doctor/mark/page"), "query-lost"),
            ("A39: an alias",                    Attempt::Aliases,        with(question(), "X_Forwarded_Uri", "/forged"),               "alias-to-gate"),
            ("A31: another host than served",    Attempt::TwoHosts,       with(question(), "X-Forwarded-Host", DECOY_HOST),             "host-differs"),
            ("A19: another path than served",    Attempt::Path,           with(question(), "X-Forwarded-Uri", "/portcullis-doctor/mark"), "path-differs"),
            ("no cookie",                        Attempt::Plain,          without(question(), "Cookie"),                                "question-starved"),
        ];
        for (because, attempt, question, expected) in table {
            let method = if attempt == Attempt::Posted { "POST" } else { "GET" };
            let exchange = Exchange { method, asked: vec![question], ..exchange(attempt) };
            assert_eq!(found_in(exchange), [expected], "{because}");
        }
    }

    #[test]
    fn each_way_past_the_gate_is_found_by_name() {
        let nobody = Vec::new;
        #[rustfmt::skip]
        let table = [
            // because                       attempt                   asked             found
            ("a style sheet goes unasked",   Attempt::Path,            nobody(),         "unasked"),
            ("a part of the site goes unasked", Attempt::Elsewhere,    nobody(),         "unasked"),
            ("a denied request goes unasked", Attempt::Denied(403),    nobody(),         "unasked"),
            ("A59: no gate",                 Attempt::Away,            nobody(),         "fails-open"),
            ("A101: a broken gate",          Attempt::Broken("500"),   vec![question()], "fails-open"),
            ("a no",                         Attempt::Denied(401),     vec![question()], "denial-passes"),
            ("a way to the sign-in page",    Attempt::SignIn,          vec![question()], "denial-passes"),
        ];
        for (because, attempt, asked, expected) in table {
            assert_eq!(found_in(Exchange { asked, ..exchange(attempt) }), [expected], "{because}");
        }
    }

    #[test]
    fn a45_a46_each_claim_that_reaches_the_application_is_found_by_name() {
        #[rustfmt::skip]
        let table = [
            // because                           attempt                                     header           found
            ("the gate says nothing",            Attempt::ForgedIdentity(Naming::Nothing),  "Remote-User",   "identity-unguarded"),
            ("the gate names nobody",            Attempt::ForgedIdentity(Naming::Empty),    "Remote-Groups", "identity-forged"),
            ("the gate names somebody else",     Attempt::ForgedIdentity(Naming::Somebody), "Remote-Email",  "identity-forged"),
            ("A40: dropped after the answer",    Attempt::HopByHop("Remote-User"),          "Remote-User",   "identity-forged"),
            ("an underscore",                    Attempt::Aliases,                          "Remote_User",   "identity-alias"),
            ("a part of the site without it",    Attempt::Elsewhere,                        "Remote-User",   "identity-forged"),
            ("a dot",                            Attempt::Aliases,                          "remote.user",   "identity-alias"),
        ];
        for (because, attempt, name, expected) in table {
            let mut exchange = exchange(attempt);
            exchange.served = vec![with(exchange.served[0].clone(), name, FORGED_IDENTITY)];
            assert_eq!(found_in(exchange), [expected], "{because}");
        }
    }

    #[test]
    fn a_prefix_taken_off_is_no_second_reading() {
        let (site, mut plain) = (site(), exchange(Attempt::Plain));
        let served = |path: &str| {
            vec![head(&format!("GET {path}?{QUERY} HTTP/1.1"), &IDENTITY.map(|name| (name, TRUE_IDENTITY)))]
        };
        plain.served = served("/mark/page");
        let bench = Bench::new(&site, &plain).expect("the gate was asked");
        for (path, expected) in [("/mark/page", vec![]), ("/page", vec!["path-differs"])] {
            let odd = Exchange { served: served(path), ..exchange(Attempt::Path) };
            let ids: Vec<_> = examine(&bench, &[odd]).iter().map(|found| found.check.id).collect();
            assert_eq!(ids, expected, "{path}");
        }
    }

    #[test]
    fn the_dialect_is_known_by_the_endpoint_and_else_by_the_headers() {
        let forwarded = [("X-Forwarded-Uri", "/")];
        let original = [("X-Original-URL", "https://a/")];
        #[rustfmt::skip]
        let table = [
            ("/api/authz/auth-request",             &forwarded, Dialect::AuthRequest, ""),
            ("/api/authz/forward-auth",             &original,  Dialect::ForwardAuth, ""),
            ("/api/authz/forward-auth?/sent",       &original,  Dialect::ForwardAuth, ""),
            ("/api/verify?rd=x",                    &original,  Dialect::Legacy,      ""),
            ("/my/own",                             &original,  Dialect::AuthRequest, ""),
            ("/my/own",                             &forwarded, Dialect::ForwardAuth, ""),
            ("/api/authz/ext-authz//sent?a",        &forwarded, Dialect::ExtAuthz,    "/api/authz/ext-authz/"),
            ("/api/authz/ext-authz/sent",           &forwarded, Dialect::ExtAuthz,    "/api/authz/ext-authz"),
            ("/my/own//sent",                       &forwarded, Dialect::ExtAuthz,    "/my/own/"),
            ("/api/authz/ext-authz//rewritten",     &forwarded, Dialect::ExtAuthz,    "/api/authz/ext-authz/"),
        ];
        for (target, headers, dialect, prefix) in table {
            let question = head(&format!("GET {target} HTTP/1.1"), headers);
            assert_eq!(dialect_of(&question, "/sent"), (dialect, prefix.to_owned()), "{target}");
        }
    }
}
