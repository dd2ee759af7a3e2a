//! Who is signed in, and how far: the state endpoints and the page at `/`.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{HeaderValue, SET_COOKIE};
use hyper::http::request::Parts;
use serde::Serialize;

use crate::peer::Peer;
use crate::portal::form::Way;
use crate::portal::json;
use crate::portal::login::Onward;
use crate::portal::pages::{self, Notice, SignIn, SignedIn, SignedInNotice};
use crate::portal::redirect::Target;
use crate::portal::reply::{self, Reply};
use crate::portal::visit::Visit;
use crate::portal::{Portal, Refusal, returns};
use crate::session::{Found, StoreUnavailable};
use crate::subject::{AssuranceLevel, Identity};

#[derive(Serialize)]
struct State<'a> {
    username: &'a str,
    authentication_level: u8,
    factor_knowledge: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_redirection_url: Option<&'a str>,
}

#[derive(Serialize)]
struct Configuration {
    available_methods: [&'static str; 0],
    password_change_disabled: bool,
    password_reset_disabled: bool,
}

#[derive(Serialize)]
struct Safety {
    ok: bool,
}

/// Where the client is to go.
#[derive(Serialize)]
pub(super) struct Redirect<'a> {
    pub redirect: &'a str,
}

/// Whether the client may go where it wants to.
#[derive(Serialize)]
pub(super) struct SafeTarget {
    #[serde(rename = "safeTargetURL")]
    pub is_safe: bool,
}

/// What the sign-in form shows after an attempt that failed.
pub(super) struct Again<'a> {
    pub error: &'a str,
    pub rejected: bool,
    pub username: &'a str,
    pub remember: bool,
}

impl Portal {
    /// `GET /api/state`.
    pub(super) async fn state(&self, parts: &Parts, peer: Peer) -> Result<Reply, Refusal> {
        let visit = self.visit(parts, peer)?;
        let found = self.found(&visit).await?;
        Ok(reply::data(State {
            username: found.as_ref().map_or("", |found| found.identity.username()),
            authentication_level: found.as_ref().map_or(AssuranceLevel::Anonymous, |found| found.level()).as_number(),
            factor_knowledge: found.as_ref().is_some_and(|found| found.factors.knowledge()),
            default_redirection_url: visit.site.default_redirection.as_ref().map(|url| url.as_str()),
        }))
    }

    /// `GET /api/configuration`. No second factor is served, so clients are told to stop after the first.
    pub(super) async fn configuration(&self, parts: &Parts, peer: Peer) -> Result<Reply, Refusal> {
        let visit = self.visit(parts, peer)?;
        if self.found(&visit).await?.is_none() {
            return Ok(reply::bare(StatusCode::FORBIDDEN));
        }
        Ok(reply::data(Configuration {
            available_methods: [],
            password_change_disabled: true,
            password_reset_disabled: true,
        }))
    }

    /// `POST /api/checks/safe-redirection`.
    pub(super) async fn safe_redirection<B>(&self, parts: &Parts, body: B, peer: Peer) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let visit = self.api_change(parts, peer, &body)?;
        if self.found(&visit).await?.is_none() {
            return Ok(reply::bare(StatusCode::UNAUTHORIZED));
        }
        let body = self.bodies.read(body, visit.address).await?;
        let failed = || reply::failed(StatusCode::OK, "Operation failed.");
        let Ok(asked) = serde_json::from_slice::<json::SafeRedirection>(&body) else { return Ok(failed()) };
        Ok(match Target::read(&asked.uri, self.sessions.sites()) {
            Target::Absent | Target::Unreadable => failed(),
            Target::Unsafe => reply::data(Safety { ok: false }),
            Target::Safe(_) => reply::data(Safety { ok: true }),
        })
    }

    /// `GET /`: the sign-in form, or where somebody who is signed in goes from here.
    pub(super) async fn index(&self, parts: &Parts, peer: Peer) -> Result<Reply, Refusal> {
        let visit = self.visit(parts, peer)?;
        let way = Way::read(parts.uri.query().unwrap_or_default().as_bytes());
        let Some(found) = self.found(&visit).await? else {
            return Ok(self.sign_in_page(StatusCode::OK, &visit, &way, None));
        };
        let onward = self.onward(&visit, &found.subject(visit.address), &way);
        let notice = match &onward {
            Onward::Back(target) if target.is_page() => match returns::next(visit.cookies(), target.as_str()) {
                Some(count) => {
                    let mut reply = reply::see_other(target.as_str(), &self.content_policy);
                    if let Ok(cookie) = HeaderValue::from_str(&count.set_cookie()) {
                        reply.headers_mut().append(SET_COOKIE, cookie);
                    }
                    return Ok(reply);
                }
                None => SignedInNotice::Link(target),
            },
            Onward::SecondFactor(target) => SignedInNotice::SecondFactor(target.host()),
            Onward::Stay | Onward::Default(_) if way.rd.is_empty() => SignedInNotice::None,
            Onward::Stay | Onward::Default(_) | Onward::Unreadable => SignedInNotice::NotOurs,
            // A socket is nothing to look at: the application opens it anew.
            Onward::Back(_) => SignedInNotice::None,
        };
        let page = SignedIn {
            base: &self.settings.base_path,
            name: name(&found.identity),
            username: found.identity.username(),
            notice,
            way: &way,
        };
        Ok(pages::render(StatusCode::OK, &page, &self.content_policy))
    }

    /// The sign-in form, at first or `again`.
    pub(super) fn sign_in_page(
        &self,
        status: StatusCode,
        visit: &Visit<'_>,
        way: &Way,
        again: Option<Again<'_>>,
    ) -> Reply {
        let target = Target::read(&way.rd, self.sessions.sites());
        let page = SignIn {
            base: &self.settings.base_path,
            host: target.safe().map(|target| target.host()),
            error: again.as_ref().map(|again| again.error),
            rejected: again.as_ref().is_some_and(|again| again.rejected),
            username: again.as_ref().map_or("", |again| again.username),
            may_remember: visit.site.remember_me.is_some(),
            remember: again.as_ref().is_some_and(|again| again.remember),
            way,
        };
        pages::render(status, &page, &self.content_policy)
    }

    pub(super) fn signed_out_page(&self) -> Reply {
        let page = Notice {
            base: &self.settings.base_path,
            title: "Signed out",
            message: "You are not signed in here.",
            link: Some("Sign in"),
        };
        pages::render(StatusCode::OK, &page, &self.content_policy)
    }

    /// The session that the browser shows.
    pub(super) async fn found(&self, visit: &Visit<'_>) -> Result<Option<Found>, StoreUnavailable> {
        self.sessions.find(visit.site, visit.cookies(), visit.now).await
    }
}

/// What a person is called: the display name, or the user name where there is none.
pub(super) fn name(identity: &Identity) -> &str {
    Some(identity.display_name()).filter(|name| !name.is_empty()).unwrap_or(identity.username())
}

pub(super) fn log_unavailable(error: &StoreUnavailable) {
    tracing::error!(%error, "the session store could not be asked");
}
