//! The portal: signing in and out, for people (pages without scripts) and for clients (JSON).
//!
//! Its API is Authelia's. Everything that changes something must come from the portal's own pages or
//! from no page at all (`csrf.rs`); people are sent only to addresses that were checked in the same
//! request ([`redirect`]); nothing that came in goes out again unescaped (`pages.rs`).
//!
//! The portal never talks to the gate. They meet in the session store.

mod body;
mod csrf;
mod form;
mod json;
mod login;
mod pages;
pub mod redirect;
mod reply;
mod returns;
mod state;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tracing::field::display;

use crate::clock::UnixTime;
use crate::peer::{Peer, TrustedProxies};
use crate::policy::Policy;
use crate::session::{Sessions, StoreUnavailable};
use crate::signin::SignIn;
use crate::telemetry::log::excerpt;
use crate::telemetry::metrics::Metrics;

use body::{Bodies, Unread};
use csrf::{CrossSite, Provenance};
use pages::{Asset, Notice};
use reply::{BUSY, Reply, UNAVAILABLE};
use visit::{Astray, Visit};

const EARLY_DATA: HeaderName = HeaderName::from_static("early-data");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What may be configured of the portal.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The path below which the portal lives: "" or, as in `tcp://:9092/auth`, `/auth`.
    pub base_path: String,
    /// Whose forwarded facts are believed (`server.trusted_proxies`).
    pub trusted_proxies: TrustedProxies,
    /// The longest body that is read, in bytes; 16 KiB by default.
    pub body_limit: usize,
    /// How long a body may take to arrive; 6 seconds by default.
    pub body_time: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            base_path: String::new(),
            trusted_proxies: TrustedProxies::default(),
            body_limit: 16 * 1024,
            body_time: Duration::from_secs(6),
        }
    }
}

/// The portal, whole.
pub struct Portal {
    sessions: Arc<Sessions>,
    signin: Arc<SignIn>,
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    settings: Settings,
    bodies: Bodies,
    content_policy: HeaderValue,
}

/// Why a request is not served. The same reasons for the API and for pages; each tells it its way.
#[derive(Debug)]
enum Refusal {
    Astray(Astray),
    CrossSite,
    MediaType,
    EarlyData,
    TooLarge,
    TooSlow,
    Broken,
    NoRoom,
    Unavailable(StoreUnavailable),
}

impl From<Astray> for Refusal {
    fn from(astray: Astray) -> Refusal {
        Refusal::Astray(astray)
    }
}

impl From<CrossSite> for Refusal {
    fn from(_: CrossSite) -> Refusal {
        Refusal::CrossSite
    }
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Refusal {
        match unread {
            Unread::TooLarge => Refusal::TooLarge,
            Unread::TooSlow => Refusal::TooSlow,
            Unread::Broken => Refusal::Broken,
            Unread::NoRoom => Refusal::NoRoom,
        }
    }
}

impl From<StoreUnavailable> for Refusal {
    fn from(error: StoreUnavailable) -> Refusal {
        Refusal::Unavailable(error)
    }
}

impl Refusal {
    /// Why, for the log.
    fn explain(&self) -> &'static str {
        match self {
            Refusal::Astray(astray) => astray.explain(),
            Refusal::CrossSite => "another site may have made it",
            Refusal::MediaType => "the body is of another media type",
            Refusal::EarlyData => "it came as TLS early data",
            Refusal::TooLarge => "the body is too large",
            Refusal::TooSlow => "the body took too long",
            Refusal::Broken => "the body did not arrive as a whole",
            Refusal::NoRoom => "too many bodies are being read",
            Refusal::Unavailable(_) => "the session store could not be asked",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Refusal::Astray(_) | Refusal::CrossSite => StatusCode::FORBIDDEN,
            Refusal::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::EarlyData => StatusCode::TOO_EARLY,
            Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refusal::Broken => StatusCode::BAD_REQUEST,
            Refusal::NoRoom | Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Portal {
    /// Puts the rooms together. `settings.base_path` begins with `/` or is empty; a `/` at its end is dropped.
    pub fn new(
        sessions: Arc<Sessions>,
        signin: Arc<SignIn>,
        policy: Arc<Policy>,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Portal {
        let base_path = settings.base_path.trim_end_matches('/').to_owned();
        let content_policy = pages::content_policy(sessions.sites());
        let bodies = Bodies::new(settings.body_limit, settings.body_time);
        let settings = Settings { base_path, ..settings };
        Portal { sessions, signin, policy, metrics, settings, bodies, content_policy }
    }

    /// Answers one request. Infallible: whatever went wrong, the answer says so.
    pub async fn call<B>(&self, request: Request<B>, peer: Peer) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let reply = self.route(&parts, body, peer).await;
        self.metrics.answered(reply.status().as_u16());
        if parts.method == Method::HEAD { reply::head_only(reply) } else { reply }
    }

    async fn route<B>(&self, parts: &Parts, body: B, peer: Peer) -> Reply
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let path = self.without_base_path(parts.uri.path());
        let api = |answer: Result<Reply, Refusal>| answer.unwrap_or_else(|refusal| self.refuse(&refusal, parts, peer));
        let page =
            |answer: Result<Reply, Refusal>| answer.unwrap_or_else(|refusal| self.refuse_page(&refusal, parts, peer));
        if let Some(asset) = Asset::at(path) {
            return match parts.method {
                Method::GET | Method::HEAD => asset.answer(&parts.headers),
                _ => reply::wrong_method("GET, HEAD"),
            };
        }
        match (parts.method.as_str(), path) {
            ("GET" | "HEAD", "/api/health") => reply::ok(),
            (_, "/api/health") => reply::wrong_method("GET, HEAD"),
            ("GET", "/api/state") => api(self.state(parts, peer).await),
            ("GET", "/api/configuration") => api(self.configuration(parts, peer).await),
            (_, "/api/state" | "/api/configuration") => reply::wrong_method("GET"),
            ("POST", "/api/firstfactor") => api(self.first_factor(parts, body, peer).await),
            ("POST", "/api/logout") => api(self.log_out(parts, body, peer).await),
            ("POST", "/api/checks/safe-redirection") => api(self.safe_redirection(parts, body, peer).await),
            (_, "/api/firstfactor" | "/api/logout" | "/api/checks/safe-redirection") => reply::wrong_method("POST"),
            ("POST", "/") => page(self.sign_in_form(parts, body, peer).await),
            ("GET" | "HEAD", "/logout") => page(self.sign_out_page(parts, peer).await),
            ("POST", "/logout") => page(self.sign_out_form(parts, body, peer).await),
            (method, "/" | "/logout") if !matches!(method, "GET" | "HEAD") => reply::wrong_method("GET, HEAD, POST"),
            (_, path) if is_for_programs(path) => reply::bare(StatusCode::NOT_FOUND),
            // Pages of clients that move over are bookmarked: whatever is not known is the first page.
            _ => page(self.index(parts, peer).await),
        }
    }

    /// The path below the base path, which may have been stripped by the proxy already.
    fn without_base_path<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(self.settings.base_path.as_str()) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => path,
        }
    }

    fn visit<'a>(&'a self, parts: &'a Parts, peer: Peer) -> Result<Visit<'a>, Refusal> {
        Ok(Visit::read(parts, peer, &self.settings.trusted_proxies, self.sessions.sites(), UnixTime::now())?)
    }

    /// Lets a request that changes something in, if it comes from the API's clients.
    ///
    /// Authelia takes JSON under any content type. So do we from our own pages; a client that does not
    /// say where it comes from has to say `application/json`, or send nothing at all.
    fn api_change<'a>(&'a self, parts: &'a Parts, peer: Peer, body: &impl Body) -> Result<Visit<'a>, Refusal> {
        let (visit, provenance) = self.change(parts, peer)?;
        let is_empty = body.is_end_stream() && !parts.headers.contains_key(CONTENT_TYPE);
        match provenance {
            Provenance::OwnPage => Ok(visit),
            Provenance::NoPage | Provenance::Unstated if is_empty || csrf::is_json(&parts.headers) => Ok(visit),
            Provenance::NoPage | Provenance::Unstated => Err(Refusal::MediaType),
        }
    }

    /// Lets a request that changes something in, if it comes from one of our forms.
    fn form_change<'a>(&'a self, parts: &'a Parts, peer: Peer) -> Result<Visit<'a>, Refusal> {
        let (visit, provenance) = self.change(parts, peer)?;
        match provenance {
            Provenance::OwnPage | Provenance::NoPage if csrf::is_form(&parts.headers) => Ok(visit),
            Provenance::OwnPage | Provenance::NoPage => Err(Refusal::MediaType),
            Provenance::Unstated => Err(Refusal::CrossSite),
        }
    }

    fn change<'a>(&'a self, parts: &'a Parts, peer: Peer) -> Result<(Visit<'a>, Provenance), Refusal> {
        // RFC 8470 section 5.2: what came in TLS early data may be a replay (A62).
        if parts.headers.contains_key(EARLY_DATA) {
            return Err(Refusal::EarlyData);
        }
        let visit = self.visit(parts, peer)?;
        let provenance = csrf::provenance(&parts.headers, &visit.origins)?;
        Ok((visit, provenance))
    }

    fn refuse(&self, refusal: &Refusal, parts: &Parts, peer: Peer) -> Reply {
        self.log(refusal, parts, peer);
        let status = refusal.status();
        match refusal {
            Refusal::Astray(_) | Refusal::EarlyData | Refusal::TooLarge | Refusal::TooSlow | Refusal::Broken => {
                reply::bare(status)
            }
            Refusal::CrossSite => reply::failed(status, "The request was not made by the portal's own pages."),
            Refusal::MediaType => reply::failed(status, "Send JSON, with `Content-Type: application/json`."),
            Refusal::NoRoom => reply::retry_later(reply::failed(status, BUSY)),
            Refusal::Unavailable(_) => reply::retry_later(reply::failed(status, UNAVAILABLE)),
        }
    }

    fn refuse_page(&self, refusal: &Refusal, parts: &Parts, peer: Peer) -> Reply {
        self.log(refusal, parts, peer);
        let (title, message, link) = match refusal {
            Refusal::Astray(astray) => (
                "No sign-in here",
                match astray {
                    Astray::Outside(host) => format!(
                        "Nobody can sign in at {host}. If you run this server, add the domain under session.cookies, \
                         or open the portal at one of its own addresses."
                    ),
                    Astray::Unreadable => "The request does not say which site it is for.".to_owned(),
                },
                None,
            ),
            Refusal::CrossSite => (
                "Not from this page",
                "The request was not made by this server’s own page, or the browser does not say so, and nothing was changed. Open the page over https and try again."
                    .to_owned(),
                Some("Open the sign-in page"),
            ),
            Refusal::MediaType => ("That was no form", "The request does not hold a form, and nothing was changed.".to_owned(), Some("Open the sign-in page")),
            Refusal::EarlyData => ("Too early", "Please try again.".to_owned(), Some("Open the sign-in page")),
            Refusal::TooLarge => ("Too much", "The form is larger than this server takes.".to_owned(), Some("Open the sign-in page")),
            Refusal::TooSlow => ("Too slow", "The form took too long to arrive.".to_owned(), Some("Open the sign-in page")),
            Refusal::Broken => ("Something is missing", "The form did not arrive as a whole.".to_owned(), Some("Open the sign-in page")),
            Refusal::NoRoom => ("Busy", BUSY.to_owned(), Some("Try again")),
            Refusal::Unavailable(_) => ("Not available", UNAVAILABLE.to_owned(), Some("Try again")),
        };
        let page = Notice { base: &self.settings.base_path, title, message: &message, link };
        let reply = pages::render(refusal.status(), &page, &self.content_policy);
        match refusal {
            Refusal::NoRoom | Refusal::Unavailable(_) => reply::retry_later(reply),
            _ => reply,
        }
    }

    /// Tells the log what the client is not told.
    fn log(&self, refusal: &Refusal, parts: &Parts, peer: Peer) {
        let trusted = &self.settings.trusted_proxies;
        let address = visit::client_address(&parts.headers, peer, trusted);
        let client = address.map(display);
        let other = (peer.address() != address).then(|| display(peer));
        let (method, path) = (excerpt(parts.method.as_str()), excerpt(parts.uri.path()));
        let reason = refusal.explain();
        match refusal {
            Refusal::Astray(astray) if parts.headers.contains_key(X_FORWARDED_HOST) && !trusted.trusts(peer) => {
                tracing::warn!(
                    reason,
                    client,
                    host = astray.host(),
                    "`X-Forwarded-Host` is not believed from a peer outside `server.trusted_proxies`"
                );
            }
            Refusal::Astray(astray) => {
                tracing::info!(
                    reason,
                    client,
                    peer = other,
                    host = astray.host(),
                    "a request for the portal did not arrive at any of its sites"
                );
            }
            Refusal::CrossSite => {
                tracing::warn!(client, method, path, "refused a request that another site may have made");
            }
            Refusal::Unavailable(error) => state::log_unavailable(error),
            Refusal::MediaType
            | Refusal::EarlyData
            | Refusal::TooLarge
            | Refusal::TooSlow
            | Refusal::Broken
            | Refusal::NoRoom => {
                tracing::debug!(reason, client, method, path, "refused a request");
            }
        }
    }
}

/// Whether a path belongs to programs, which are not served a page for it.
fn is_for_programs(path: &str) -> bool {
    ["/api/", "/.well-known/", "/static/", "/locales/"]
        .iter()
        .any(|prefix| path.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

#[cfg(test)]
mod tests;
