//! The gate: answers a proxy's sub-request, thousands of times a second.
//!
//! A request is read, the session looked up, the policy asked, the answer written; no step calls back
//! into an earlier one. Nothing here blocks, sleeps, hashes a password, or touches a file: the one
//! await on the usual path is the session store's, and a cached or in-memory session has none.
//!
//! Whatever goes wrong is never a yes: a 2xx needs a [`Permit`], which only the policy makes, and only
//! [`answer::allow`] and its counterpart over gRPC write one. A session store that can't be asked is 503, except where the
//! rules let anybody pass (W6).

pub mod answer;
mod credentials;
mod dialect;
pub mod grpc;
pub mod inquiry;
pub mod settings;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Request, Response, StatusCode};
use tracing::field::display;
use tracing::{debug, info, warn};

use self::answer::{Answer, Body, Refused};
use self::credentials::Shown;
use self::dialect::SubRequest;
use self::inquiry::{Facts, Inquiry, Line, Refusal};
use self::settings::{Endpoint, Implementation, Strategy, StrategyKind};
use crate::clock::UnixTime;
use crate::identity::Refresh;
use crate::object::Object;
use crate::peer::{Peer, TrustedProxies};
use crate::policy::{Decision, Permit, Policy, Requirement, Verdict};
use crate::session::{Found, PortalUrl, Sessions, Site, StoreUnavailable};
use crate::signin::{self, Attempt, BasicCache, Refreshed, SignIn};
use crate::subject::{AssuranceLevel, Identity, Subject};
use crate::telemetry::log::excerpt;
use crate::telemetry::metrics::{Checked, Credential, DecidedBy, Metrics, Outcome};

/// What the gate is told at start.
#[derive(Debug)]
pub struct Settings {
    /// The endpoints, of which the first whose path matches answers.
    pub endpoints: Vec<Endpoint>,
    /// A prefix that paths may carry, as in `/authelia`; empty for none.
    pub base_path: String,
    /// Whose forwarded facts are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether a request may say where people sign in (`authelia_url`, `X-Authelia-URL`).
    pub portal_override: bool,
    /// How often a session's details are read again.
    pub refresh: Refresh,
    /// Envoy over gRPC, where it is served.
    pub grpc: Option<grpc::Settings>,
}

/// Decides and answers.
#[derive(Debug)]
pub struct Gate {
    endpoints: Box<[Route]>,
    base_path: String,
    trusted_proxies: TrustedProxies,
    portal_override: bool,
    refresh: Refresh,
    grpc: Option<grpc::Service>,
    policy: Arc<Policy>,
    sessions: Arc<Sessions>,
    signin: Arc<SignIn>,
    metrics: Arc<Metrics>,
}

/// An endpoint, ready to be asked.
#[derive(Debug)]
struct Route {
    path: String,
    implementation: Implementation,
    strategies: Box<[(Strategy, Option<BasicCache>)]>,
}

/// What a request shows beside what it asks for, whichever dialect it came in.
#[derive(Clone, Copy)]
struct Evidence<'a> {
    facts: &'a Facts<'a>,
    /// The query of the sub-request's own line, in which the older endpoint finds a setting.
    query: Option<&'a str>,
    /// Where the request really came from.
    address: Option<IpAddr>,
}

/// What an endpoint made of a request, and for which reason.
struct Judged {
    ruling: Ruling,
    /// Who asks.
    known: Known,
    by: DecidedBy,
    /// Where the request really came from, where that is known.
    client: Option<IpAddr>,
    /// The header strategy whose credentials were good, if one was.
    spent: Option<StrategyKind>,
}

enum Ruling {
    Allow(Permit),
    SignIn { status: StatusCode, location: String, empty: bool },
    Unauthorized,
    AskForBasic { proxy: bool },
    Forbid,
    Refuse(Refusal),
    Busy,
    Unavailable,
}

/// What the credentials of a request amount to.
#[derive(Debug)]
enum Known {
    Nobody,
    Session(Found),
    Basic(Identity),
}

/// How far the strategies of an endpoint got.
struct Credentials {
    known: Known,
    failure: Option<Failure>,
    /// The last strategy that was tried; it owns the challenge.
    owner: Option<StrategyKind>,
}

enum Failure {
    /// What a header shows can't be read as credentials.
    Unreadable,
    /// The sign-in procedure refused them, and told the log.
    Refused(signin::Refused),
    /// The session store could not be asked.
    Unavailable(StoreUnavailable),
}

impl Gate {
    /// Puts a gate together.
    pub fn new(
        settings: Settings,
        policy: Arc<Policy>,
        sessions: Arc<Sessions>,
        signin: Arc<SignIn>,
        metrics: Arc<Metrics>,
    ) -> Gate {
        let endpoints: Box<[Route]> = settings
            .endpoints
            .into_iter()
            .map(|endpoint| Route::new(endpoint.path(), endpoint.implementation, endpoint.strategies))
            .collect();
        Gate {
            grpc: settings.grpc.map(|grpc| grpc::Service::new(grpc, endpoints.len())),
            endpoints,
            base_path: settings.base_path,
            trusted_proxies: settings.trusted_proxies,
            portal_override: settings.portal_override,
            refresh: settings.refresh,
            policy,
            sessions,
            signin,
            metrics,
        }
    }

    /// Answers one request that hyper read. Infallible: the proxy always gets an answer, never a yes by accident.
    ///
    /// The body is not looked at, whatever its length is said to be (A61, A63).
    pub async fn call<B>(&self, request: Request<B>, peer: Peer, secure: bool) -> Response<Body> {
        let (parts, _body) = request.into_parts();
        let line = Line::of(&parts);
        match self.decide(line, inquiry::fields(&parts.headers), peer, secure).await {
            Some(answer) => answer.into_response(),
            None => self.elsewhere(line),
        }
    }

    /// Answers a request at one of the endpoints, whoever read it; `None` for any other path.
    ///
    /// `fields` are names, in any case, and values.
    pub async fn decide<'a>(
        &self,
        line: Line<'a>,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        peer: Peer,
        secure: bool,
    ) -> Option<Answer> {
        let started = Instant::now();
        let (index, route, rest) = self.route(self.below_base(line.path))?;
        if !route.implementation.takes_sub_paths() && !matches!(line.method, "GET" | "HEAD") {
            return Some(Answer::Other(answer::refuse(Refused::WrongMethod("GET, HEAD"))));
        }
        let judged = self.ask(route, line, fields, rest, peer, secure).await;
        let by = judged.by;
        let (outcome, answer) = self.write(route, judged, peer);
        self.metrics.decided(index, outcome, by, started.elapsed());
        Some(answer)
    }

    fn below_base<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(self.base_path.as_str()) {
            Some(below) if below.starts_with('/') => below,
            Some(_) | None => path,
        }
    }

    /// The endpoint that answers at `path`, and what follows its own path.
    ///
    /// A slash at the end is no other path: a redirect to the one without it would be handed on by the proxy, and lead people
    /// to the gate (A135).
    fn route<'a>(&self, path: &'a str) -> Option<(usize, &Route, &'a str)> {
        self.endpoints.iter().enumerate().find_map(|(index, route)| {
            let rest = path.strip_prefix(route.path.as_str())?;
            let ours = matches!(rest, "" | "/") || (rest.starts_with('/') && route.implementation.takes_sub_paths());
            ours.then_some((index, route, rest))
        })
    }

    /// Answers what is no endpoint: health, and nothing else. Never with a `Location`.
    fn elsewhere(&self, line: Line<'_>) -> Response<Body> {
        match (self.below_base(line.path), line.method) {
            ("/api/health", "GET" | "HEAD") => answer::health(),
            ("/api/health", _) => answer::refuse(Refused::WrongMethod("GET, HEAD")),
            _ => answer::refuse(Refused::NotFound),
        }
    }

    /// Reads a sub-request over HTTP in its endpoint's dialect, and judges it.
    async fn ask<'a>(
        &self,
        route: &Route,
        line: Line<'a>,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
        rest: &'a str,
        peer: Peer,
        secure: bool,
    ) -> Judged {
        if !self.trusted_proxies.trusts(peer) {
            return Judged::refuse(Refusal::Untrusted, peer.address());
        }
        let facts = match Facts::read(fields) {
            Ok(facts) => facts,
            Err(refusal) => return Judged::refuse(refusal, None),
        };
        let address = self.client_address(peer, &facts);
        let evidence = Evidence { facts: &facts, query: line.query(), address };
        let judged = match dialect::read(route.implementation, SubRequest { line, facts: &facts, rest, secure }) {
            Ok(inquiry) => self.judge(route, &inquiry, evidence).await,
            Err(refusal) => Err(refusal),
        };
        judged.unwrap_or_else(|refusal| Judged::refuse(refusal, address))
    }

    fn client_address(&self, peer: Peer, facts: &Facts<'_>) -> Option<IpAddr> {
        self.trusted_proxies.client_address(peer, facts.forwarded_for.iter())
    }

    /// Looks up and decides, whatever the dialect.
    async fn judge(&self, route: &Route, inquiry: &Inquiry<'_>, evidence: Evidence<'_>) -> Result<Judged, Refusal> {
        let object = &inquiry.object;
        if !object.scheme().is_secure() {
            return Err(Refusal::Insecure);
        }
        let site = self.sessions.sites().of(object.host()).ok_or(Refusal::UnknownSite)?;
        // Before any rule: a wrong sign-in page is refused even where nobody need sign in.
        let portal = self.portal(route.implementation, inquiry, site)?;
        let (now, address) = (UnixTime::now(), evidence.address);
        let credentials = self.credentials(route, &evidence, object, site, now).await;
        let subject = match &credentials.known {
            Known::Nobody => Subject::anonymous(address),
            Known::Session(found) => found.subject(address),
            Known::Basic(identity) => identity.subject(address, AssuranceLevel::OneFactor),
        };
        let verdict = self.policy.decide(&subject, object)?;
        let ruling = rule(verdict, &subject, &credentials, || sign_in(object, portal.as_deref(), evidence.facts));
        log_ruling(&ruling, credentials.failure.as_ref(), verdict, &subject, object);
        let Credentials { known, owner, .. } = credentials;
        let spent = owner.filter(|_| matches!(known, Known::Basic(_)));
        let by = verdict.rule.map_or(DecidedBy::Default, DecidedBy::Rule);
        Ok(Judged { ruling, known, by, client: address, spent })
    }

    /// Where people sign in for this request; the legacy dialect knows only what it is told.
    fn portal<'a>(
        &self,
        implementation: Implementation,
        inquiry: &Inquiry<'_>,
        site: &'a Site,
    ) -> Result<Option<std::borrow::Cow<'a, PortalUrl>>, Refusal> {
        use std::borrow::Cow;
        if let Some(named) = inquiry.portal.as_deref()
            && self.portal_override
        {
            let portal: PortalUrl = named.parse().map_err(|_| Refusal::ForeignPortal)?;
            if !site.domain.covers(&portal.host()) {
                return Err(Refusal::ForeignPortal);
            }
            return Ok(Some(Cow::Owned(portal.as_written())));
        }
        match (&site.portal, implementation) {
            (_, Implementation::Legacy) => Ok(None),
            (Some(portal), _) => Ok(Some(Cow::Borrowed(portal))),
            (None, _) => Err(Refusal::NoPortal),
        }
    }

    /// Tries the endpoint's strategies in order, until one knows the person or fails.
    async fn credentials(
        &self,
        route: &Route,
        evidence: &Evidence<'_>,
        object: &Object<'_>,
        site: &Site,
        now: UnixTime,
    ) -> Credentials {
        let mut owner = None;
        for (strategy, cache) in &route.strategies {
            owner = Some(strategy.kind);
            let tried = match strategy.kind {
                StrategyKind::CookieSession => self.session(evidence, site, now).await,
                kind => match shown(kind, strategy, evidence) {
                    Shown::Nothing => Ok(Known::Nobody),
                    Shown::Unreadable => Err(Failure::Unreadable),
                    Shown::Basic { login, password } => {
                        let url = object.url();
                        let attempt = Attempt {
                            login: &login,
                            password,
                            address: evidence.address,
                            url: Some(&url),
                            method: Some(object.method()),
                        };
                        self.basic(attempt, cache.as_ref()).await
                    }
                },
            };
            match tried {
                Ok(Known::Nobody) => {}
                Ok(known) => return Credentials { known, failure: None, owner },
                Err(failure) => return Credentials { known: Known::Nobody, failure: Some(failure), owner },
            }
        }
        Credentials { known: Known::Nobody, failure: None, owner }
    }

    async fn session(&self, evidence: &Evidence<'_>, site: &Site, now: UnixTime) -> Result<Known, Failure> {
        let cookies = &evidence.facts.cookies;
        if cookies.first().is_none() {
            return Ok(Known::Nobody);
        }
        let found = match self.sessions.find(site, cookies.iter(), now).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Known::Nobody),
            Err(error) => {
                self.metrics.checked(Credential::Session, Checked::Unavailable);
                return Err(Failure::Unavailable(error));
            }
        };
        let Some(found) = self.refreshed(found, now).await? else { return Ok(Known::Nobody) };
        if !is_for(evidence.facts, &found) {
            // Somebody else is meant. The session lives: a header that anybody can send ends nobody's (W29).
            return Ok(Known::Nobody);
        }
        self.metrics.checked(Credential::Session, Checked::Accepted);
        Ok(Known::Session(found))
    }

    /// The session with the account's present details, or nothing if the account is gone.
    async fn refreshed(&self, found: Found, now: UnixTime) -> Result<Option<Found>, Failure> {
        let interval = match self.refresh {
            Refresh::Never => return Ok(Some(found)),
            Refresh::Always => Duration::ZERO,
            Refresh::Every(interval) => interval,
        };
        if interval > Duration::ZERO && !found.refresh_due(now) {
            return Ok(Some(found));
        }
        let next = now + interval;
        let changed = match self.signin.refresh(&found.identity) {
            Refreshed::Unchanged if interval == Duration::ZERO => return Ok(Some(found)),
            Refreshed::Unchanged => None,
            Refreshed::Changed(identity) => Some(identity),
            Refreshed::Gone => {
                info!(user = found.identity.username(), "the account is gone or disabled: its session ends");
                return self.sessions.end(&found).await.map(|()| None).map_err(Failure::Unavailable);
            }
        };
        self.sessions.refreshed(&found, changed, next).await.map_err(Failure::Unavailable)
    }

    async fn basic(&self, attempt: Attempt<'_>, cache: Option<&BasicCache>) -> Result<Known, Failure> {
        // Elsewhere: every connection would have room for it.
        let outcome = Box::pin(self.signin.basic(attempt, cache)).await;
        self.metrics.checked(Credential::Basic, signin::checked(&outcome));
        outcome.map(|signed_in| Known::Basic(signed_in.identity)).map_err(Failure::Refused)
    }

    /// Writes the answer that a ruling means in the endpoint's dialect.
    fn write(&self, route: &Route, judged: Judged, peer: Peer) -> (Outcome, Answer) {
        let (outcome, answer) = match judged.ruling {
            Ruling::Allow(permit) => {
                return (Outcome::Allow, Answer::Allow(answer::allow(permit, route.implementation, judged.known)));
            }
            Ruling::SignIn { status, location, empty } => {
                let status = match route.implementation {
                    Implementation::AuthRequest => StatusCode::UNAUTHORIZED,
                    Implementation::ForwardAuth | Implementation::ExtAuthz | Implementation::Legacy => status,
                };
                (Outcome::Challenge, answer::redirect(status, &location, empty))
            }
            Ruling::Unauthorized => (Outcome::Challenge, answer::refuse(Refused::Unauthorized)),
            Ruling::AskForBasic { proxy } => {
                let proxy = proxy && route.implementation != Implementation::Legacy;
                (Outcome::Challenge, answer::ask_for_basic(proxy))
            }
            Ruling::Forbid => (Outcome::Forbid, answer::refuse(Refused::Forbidden)),
            Ruling::Busy => (Outcome::Unavailable, answer::refuse(Refused::Busy)),
            Ruling::Unavailable => (Outcome::Unavailable, answer::refuse(Refused::Unavailable)),
            Ruling::Refuse(refusal) => {
                self.metrics.refused(refusal.label());
                log_refusal(route, &refusal.explain(), judged.client, peer);
                let status = match refusal {
                    Refusal::Untrusted => Refused::Forbidden,
                    _ if route.implementation == Implementation::Legacy => Refused::Unauthorized,
                    _ => Refused::BadRequest,
                };
                (Outcome::Refuse, answer::refuse(status))
            }
        };
        (outcome, Answer::Other(answer))
    }
}

impl Judged {
    fn refuse(refusal: Refusal, client: Option<IpAddr>) -> Judged {
        Judged { ruling: Ruling::Refuse(refusal), known: Known::Nobody, by: DecidedBy::Nothing, client, spent: None }
    }
}

impl Route {
    fn new(path: String, implementation: Implementation, strategies: Vec<Strategy>) -> Route {
        let strategies = strategies.into_iter().map(|strategy| {
            let cache = (strategy.basic_cache > Duration::ZERO).then(|| BasicCache::new(strategy.basic_cache));
            (strategy, cache)
        });
        Route { path, implementation, strategies: strategies.collect() }
    }
}

/// What a verdict means for these credentials. `sign_in` says how a person is sent to sign in.
fn rule(
    verdict: Verdict,
    subject: &Subject<'_>,
    credentials: &Credentials,
    sign_in: impl FnOnce() -> Ruling,
) -> Ruling {
    let owned_by_header = !matches!(credentials.owner, Some(StrategyKind::CookieSession) | None);
    let proxy = credentials.owner == Some(StrategyKind::HeaderProxyAuthorization);
    if verdict.requirement != Requirement::Bypass {
        use signin::Refused::{Banned, Busy, Credentials, Unavailable};
        match &credentials.failure {
            // Whatever the rule demands: who shows bad credentials is asked for good ones.
            Some(Failure::Unreadable | Failure::Refused(Credentials | Banned)) => {
                return Ruling::AskForBasic { proxy };
            }
            Some(Failure::Refused(Busy)) => return Ruling::Busy,
            Some(Failure::Refused(Unavailable) | Failure::Unavailable(_)) => return Ruling::Unavailable,
            None => {}
        }
    }
    match verdict.decision(subject.level) {
        Decision::Allow(permit) => Ruling::Allow(permit),
        Decision::Challenge { .. } if owned_by_header => Ruling::AskForBasic { proxy },
        Decision::Challenge { .. } => sign_in(),
        Decision::Forbid => Ruling::Forbid,
    }
}

impl Known {
    fn identity(&self) -> Option<&Identity> {
        match self {
            Known::Nobody => None,
            Known::Session(found) => Some(&found.identity),
            Known::Basic(identity) => Some(identity),
        }
    }
}

/// What the header that a strategy reads shows.
fn shown(kind: StrategyKind, strategy: &Strategy, evidence: &Evidence<'_>) -> Shown {
    let facts = evidence.facts;
    let legacy_authorization = || dialect::query_value(evidence.query, "auth").as_deref() == Some("basic");
    let value = match kind {
        StrategyKind::HeaderAuthorization => facts.authorization.value("Authorization"),
        StrategyKind::HeaderLegacy if legacy_authorization() => {
            // Asked for by the query, so a header that is not there has failed.
            return match facts.authorization.value("Authorization") {
                Ok(Some(value)) => credentials::read_basic_only(Some(value)),
                Ok(None) | Err(_) => Shown::Unreadable,
            };
        }
        StrategyKind::HeaderProxyAuthorization
        | StrategyKind::HeaderAuthRequestProxyAuthorization
        | StrategyKind::HeaderLegacy => facts.proxy_authorization.value("Proxy-Authorization"),
        StrategyKind::CookieSession => Ok(None),
    };
    match value {
        Ok(value) if kind == StrategyKind::HeaderLegacy => credentials::read_basic_only(value),
        Ok(value) => credentials::read(value, strategy.schemes),
        Err(_) => Shown::Unreadable, // two of them: whichever was meant, it is not clear
    }
}

/// Whether the session is the one of the user whom `Session-Username` names, if it names one.
fn is_for(facts: &Facts<'_>, found: &Found) -> bool {
    match facts.session_username.value("Session-Username") {
        Ok(None) => true,
        Ok(Some(name)) => name.eq_ignore_ascii_case(found.identity.username().as_bytes()),
        Err(_) => false,
    }
}

/// How a person is sent to sign in, with the way back; 401 for whoever can't be shown a page.
fn sign_in(object: &Object<'_>, portal: Option<&PortalUrl>, facts: &Facts<'_>) -> Ruling {
    let Some(portal) = portal else { return Ruling::Unauthorized };
    let status = match (inquiry::wants_page(facts), object.method()) {
        (false, _) => StatusCode::UNAUTHORIZED,
        (true, "GET" | "HEAD" | "OPTIONS") => StatusCode::FOUND,
        (true, _) => StatusCode::SEE_OTHER,
    };
    Ruling::SignIn { status, location: with_way_back(portal, object), empty: object.method() == "HEAD" }
}

/// The sign-in page with `rd` and `rm` set, its own query kept, parameters sorted by name.
fn with_way_back(portal: &PortalUrl, object: &Object<'_>) -> String {
    let mut url = portal.url().clone();
    let back = object.url();
    let mut pairs: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "rd" && name != "rm")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    pairs.push(("rd".to_owned(), back));
    pairs.push(("rm".to_owned(), object.method().to_owned()));
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    url.set_fragment(None);
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.into()
}

/// One line for each refusal, saying why, and for a store that can't be asked; queries are left out, for they may hold
/// secrets.
fn log_ruling(
    ruling: &Ruling,
    failure: Option<&Failure>,
    verdict: Verdict,
    subject: &Subject<'_>,
    object: &Object<'_>,
) {
    let rule = || verdict.rule.map_or_else(|| "default".to_owned(), |rule| format!("#{}", rule + 1));
    let path = || excerpt(object.target().split('?').next().unwrap_or_default());
    let client = || subject.address.map(display);
    let (user, method, host) = (subject.username, object.method(), object.host());
    match (ruling, failure) {
        // The sign-in procedure has said so already.
        (_, Some(Failure::Refused(_))) => {}
        (_, Some(Failure::Unavailable(error))) => {
            warn!(client = client(), method, host, path = path(), rule = %rule(), %error, "the session store could not be asked");
        }
        (Ruling::Allow(_) | Ruling::Refuse(_), _) => {}
        (Ruling::Forbid, _) => {
            info!(client = client(), user, method, host, path = path(), rule = %rule(), "forbidden by the rules");
        }
        (Ruling::AskForBasic { .. }, failure) => {
            let reason = match failure {
                Some(_) => "the credentials in the header can't be read",
                None if subject.level == AssuranceLevel::OneFactor => {
                    "two factors are demanded, and a header of credentials is one"
                }
                None => "no credentials in the header",
            };
            info!(reason, client = client(), user, method, host, path = path(), rule = %rule(), "asked for credentials");
        }
        (Ruling::SignIn { .. } | Ruling::Unauthorized, _) => {
            debug!(client = client(), user, method, host, path = path(), rule = %rule(), "asked to sign in");
        }
        // Only what has failed leads here.
        (Ruling::Busy | Ruling::Unavailable, _) => {
            warn!(client = client(), method, host, path = path(), rule = %rule(), "could not be decided");
        }
    }
}

/// One line for a question that can't be judged. The peer is named where it asked for somebody else.
fn log_refusal(route: &Route, reason: &str, client: Option<IpAddr>, peer: Peer) {
    let other = (peer.address() != client).then(|| display(peer));
    info!(reason, client = client.map(display), peer = other, endpoint = route.path, "refused");
}
