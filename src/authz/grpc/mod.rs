//! Envoy over gRPC (`envoy.service.auth.v3.Authorization/Check`): a further dialect over the same
//! inquiry and the same ruling.
//!
//! What is asked comes from the attributes alone: `source.address` and `request.http.method`,
//! `.scheme`, `.host` and `.path`. The header fields are the client's own; of them only credentials,
//! what a browser says about itself, and behind a trusted proxy its `X-Forwarded-For` are read. Where
//! two views of one fact are given, such as `host` and `:authority`, they must be the same (A31).
//!
//! Unlike the dialects over HTTP this one can also take header fields away, so it does: spellings of the
//! identity headers that a CGI application would take for ours (A46), our session cookie, and
//! credentials that were meant for us (A51).

mod frame;
mod request;
mod response;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Request;
use hyper::body::Body;
use hyper::header;
use prost::Message;

use self::frame::{Code, Status};
use self::request::{AttributeContext, CheckRequest, Fields, HttpRequest};
use self::response::CheckResponse;
use super::inquiry::{self, Facts, Inquiry, Refusal};
use super::settings::{Implementation, StrategyKind};
use super::{Evidence, Gate, Judged, Route, Ruling};
use crate::object::Object;
use crate::peer::Peer;
use crate::telemetry::metrics::{DecidedBy, Outcome};

pub use self::frame::{Reply, ReplyBody};

/// The one method that is served.
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What is told at start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest `CheckRequest`, in bytes.
    pub message_bytes: usize,
    /// How long one may take to arrive.
    pub message_time: Duration,
}

/// The service, ready to be asked.
#[derive(Debug)]
pub(super) struct Service {
    route: Route,
    /// Its place among the endpoints in the metrics: behind them all.
    index: usize,
    settings: Settings,
}

impl Service {
    pub(super) fn new(settings: Settings, index: usize) -> Service {
        // Envoy asks the same over HTTP: where credentials are looked for, and how it is answered, are the same too.
        let implementation = Implementation::ExtAuthz;
        let route = Route::new(CHECK.to_owned(), implementation, implementation.default_strategies());
        Service { route, index, settings }
    }
}

/// What came of a check that could be read.
struct Checked {
    judged: Judged,
    /// Fields that the application must not see, whoever asks.
    hidden: Vec<String>,
    /// The `Cookie` header without ours, where that was in it.
    cookies: Option<String>,
}

impl Gate {
    /// Answers one call on the gRPC listener. Infallible as [`Gate::call`] is: a call that can't be read
    /// gets a status other than OK, which Envoy takes for a no.
    pub async fn check<B>(&self, request: Request<B>, peer: Peer) -> Reply
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let started = Instant::now();
        let Some(service) = &self.grpc else { return frame::refuse(Status::new(Code::Unimplemented, "not served")) };
        let (parts, body) = request.into_parts();
        if let Some(answer) = frame::is_no_call(&parts) {
            return answer;
        }
        if parts.uri.path() != CHECK {
            return frame::refuse(Status::new(Code::Unimplemented, "only Authorization/Check of v3 is served"));
        }
        let Settings { message_bytes, message_time } = service.settings;
        // Before anything of it is kept: a stranger may not fill our memory.
        let is_trusted = self.trusted_proxies.trusts(peer);
        let received = if is_trusted {
            frame::read(body, message_bytes, message_time).await
        } else {
            frame::discard(body, message_bytes, message_time).await;
            Err(Status::new(Code::PermissionDenied, "the peer is not listed in `server.trusted_proxies`"))
        };
        let decoded = received.and_then(|message| {
            CheckRequest::decode(message).map_err(|_| Status::new(Code::InvalidArgument, "no CheckRequest"))
        });
        let (outcome, by, reply) = match decoded {
            Ok(request) => {
                let (outcome, by, response) = self.respond(service, &request, peer).await;
                (outcome, by, frame::reply(&response.encode()))
            }
            Err(status) => {
                // A proxy that we believe asks for somebody else, who is not known here.
                let client = if is_trusted { None } else { peer.address() };
                super::log_refusal(&service.route, status.message(), client, peer);
                (Outcome::Refuse, DecidedBy::Nothing, frame::refuse(status))
            }
        };
        self.metrics.decided(service.index, outcome, by, started.elapsed());
        reply
    }

    async fn respond(
        &self,
        service: &Service,
        request: &CheckRequest,
        peer: Peer,
    ) -> (Outcome, DecidedBy, CheckResponse) {
        let Checked { judged, hidden, cookies } =
            self.judge_check(&service.route, request).await.unwrap_or_else(|(refusal, client)| Checked {
                judged: Judged::refuse(refusal, client),
                hidden: Vec::new(),
                cookies: None,
            });
        let by = judged.by;
        let (outcome, response) = match judged.ruling {
            Ruling::Allow(permit) => {
                (Outcome::Allow, CheckResponse::allow(permit, judged.known.identity(), cookies, hidden))
            }
            ruling => {
                let (outcome, answer) = self.write(&service.route, Judged { ruling, ..judged }, peer);
                (outcome, CheckResponse::deny(answer.into_response()))
            }
        };
        (outcome, by, response)
    }

    /// What is asked and how it is judged; or why it can't be, and for whom, where that is known by then.
    async fn judge_check(&self, route: &Route, request: &CheckRequest) -> Result<Checked, (Refusal, Option<IpAddr>)> {
        let of_nobody = |refusal| (refusal, None);
        let attributes = request.attributes.as_ref().ok_or(of_nobody(Refusal::Missing("attributes")))?;
        // A check for a TCP connection has none.
        let http = attributes.http().ok_or(of_nobody(Refusal::Missing("attributes.request.http")))?;
        let Fields { headers, aliases: mut hidden } = Fields::read(http).map_err(of_nobody)?;
        let facts = Facts::read(inquiry::fields(&headers)).map_err(of_nobody)?;
        let address = self.source_address(attributes, &facts);
        let inquiry = asked(http, &facts).map_err(|refusal| (refusal, address))?;
        let evidence = Evidence { facts: &facts, query: None, address };
        let judged = self.judge(route, &inquiry, evidence).await.map_err(|refusal| (refusal, address))?;
        match judged.spent {
            Some(StrategyKind::HeaderAuthorization) => hidden.push(header::AUTHORIZATION.as_str().to_owned()),
            Some(StrategyKind::CookieSession) | None => {}
            Some(_) => hidden.push(header::PROXY_AUTHORIZATION.as_str().to_owned()),
        }
        let cookies = self.cookies_of_the_application(inquiry.object.host(), &facts);
        Ok(Checked { judged, hidden, cookies })
    }

    /// Where the request came from (A36): the peer that Envoy saw or, if that is a trusted proxy itself, the
    /// rightmost hop of `X-Forwarded-For` that is not.
    ///
    /// A unix socket in front of Envoy is believed as one in front of us is. Without a source nobody is
    /// named, and whether a rule by network applies is unclear.
    fn source_address(&self, attributes: &AttributeContext, facts: &Facts<'_>) -> Option<IpAddr> {
        self.client_address(attributes.source()?, facts)
    }

    /// The `Cookie` header as the application is to see it, where ours was in it (A51). The portal needs ours.
    fn cookies_of_the_application(&self, host: &str, facts: &Facts<'_>) -> Option<String> {
        let site = self.sessions.sites().of(host)?;
        if site.portal.as_ref().is_some_and(|portal| portal.host() == host) {
            return None;
        }
        site.without_session_cookie(facts.cookies.iter())
    }
}

/// What is asked, from the attributes.
fn asked<'a>(http: &'a HttpRequest, facts: &Facts<'_>) -> Result<Inquiry<'a>, Refusal> {
    let required = |value: &'a Bytes, name| if value.is_empty() { Err(Refusal::Missing(name)) } else { Ok(&**value) };
    // "Always empty", says the definition: path and query are both in `path` (A58).
    if !http.query.is_empty() || !http.fragment.is_empty() {
        return Err(Refusal::Disagreement);
    }
    let host = required(&http.host, "host")?;
    if facts.host.written("Host")?.is_some_and(|other| !other.eq_ignore_ascii_case(host)) {
        return Err(Refusal::Disagreement);
    }
    let object = Object::from_parts(
        required(&http.method, "method")?,
        required(&http.scheme, "scheme")?,
        host,
        required(&http.path, "path")?, // with its slash (A57): `Object` sees to that
    )?;
    Ok(Inquiry { object, portal: None })
}
