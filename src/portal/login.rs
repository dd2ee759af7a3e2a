//! The first factor and signing out, as the API and as forms.
//!
//! A failed sign-in is told one thing, whatever the reason. A session that the browser already had
//! ends when somebody signs in, and the new one has an id that nobody has seen before (A72).

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::Body;
use hyper::http::request::Parts;
use tracing::field::display;

use crate::object::Object;
use crate::peer::Peer;
use crate::policy::Decision;
use crate::portal::body::Unread;
use crate::portal::form::{SignInForm, Way};
use crate::portal::json;
use crate::portal::pages::{self, SignOut};
use crate::portal::redirect::{SafeRedirect, Target};
use crate::portal::reply::{self, AUTHENTICATION_FAILED, BUSY, Reply, UNAVAILABLE};
use crate::portal::visit::Visit;
use crate::portal::{Portal, Refusal, state};
use crate::secret::Secret;
use crate::session::{Factors, SetCookie, StoreUnavailable};
use crate::signin::{self, Attempt, Refused};
use crate::subject::{AssuranceLevel, Identity, Subject};
use crate::telemetry::metrics::Credential;

/// Where somebody who has signed in goes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Onward {
    /// Nowhere: they asked for nothing, or for nothing of ours.
    Stay,
    /// Nowhere: what they asked for can't be read.
    Unreadable,
    /// Where people go who asked for nothing.
    Default(String),
    /// Where they came from.
    Back(SafeRedirect),
    /// Where they came from, once they have shown a second factor.
    SecondFactor(SafeRedirect),
}

/// A person who has just signed in.
struct Entered {
    identity: Identity,
    cookie: SetCookie,
}

/// Why nobody was signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    Credentials,
    Busy,
    Unavailable,
}

impl From<StoreUnavailable> for Denied {
    fn from(error: StoreUnavailable) -> Denied {
        state::log_unavailable(&error);
        Denied::Unavailable
    }
}

impl Denied {
    fn status(self) -> StatusCode {
        match self {
            Denied::Credentials => StatusCode::UNAUTHORIZED,
            Denied::Busy => StatusCode::TOO_MANY_REQUESTS,
            Denied::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Denied::Credentials => AUTHENTICATION_FAILED,
            Denied::Busy => BUSY,
            Denied::Unavailable => UNAVAILABLE,
        }
    }

    /// Adds what goes with the status.
    fn on(self, reply: Reply) -> Reply {
        match self {
            Denied::Credentials => reply,
            Denied::Busy | Denied::Unavailable => reply::retry_later(reply),
        }
    }
}

impl Portal {
    /// `POST /api/firstfactor`.
    pub(super) async fn first_factor<B>(&self, parts: &Parts, body: B, peer: Peer) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let visit = self.api_change(parts, peer, &body)?;
        let body = match self.bodies.read(body, visit.address).await {
            Ok(body) => body,
            Err(Unread::Broken) => Bytes::new(),
            Err(unread) => return Err(unread.into()),
        };
        let Ok(asked) = serde_json::from_slice::<json::FirstFactor>(&body) else {
            return Ok(reply::failed(StatusCode::UNAUTHORIZED, AUTHENTICATION_FAILED));
        };
        let way = Way { rd: asked.target, rm: asked.method };
        let entered = match self.sign_in(&visit, &asked.username, Some(asked.password), asked.remember, &way).await {
            Ok(entered) => entered,
            Err(denied) => return Ok(denied.on(reply::failed(denied.status(), denied.message()))),
        };
        let subject = entered.identity.subject(visit.address, AssuranceLevel::OneFactor);
        let reply = match self.onward(&visit, &subject, &way) {
            Onward::Stay | Onward::SecondFactor(_) => reply::ok(),
            Onward::Default(url) => reply::data(state::Redirect { redirect: &url }),
            Onward::Back(target) => reply::data(state::Redirect { redirect: target.as_str() }),
            // The person is signed in all the same, and the cookie says so; clients know this answer.
            Onward::Unreadable => reply::failed(StatusCode::OK, AUTHENTICATION_FAILED),
        };
        Ok(reply::with_cookie(reply, &entered.cookie))
    }

    /// `POST /`: the sign-in form.
    pub(super) async fn sign_in_form<B>(&self, parts: &Parts, body: B, peer: Peer) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let visit = self.form_change(parts, peer)?;
        let body = self.bodies.read(body, visit.address).await?;
        let SignInForm { username, password, remember, way } = SignInForm::read(&body);
        let entered = match self.sign_in(&visit, &username, password, remember, &way).await {
            Ok(entered) => entered,
            Err(denied) => {
                let again = state::Again {
                    error: denied.message(),
                    rejected: denied == Denied::Credentials,
                    username: &username,
                    remember,
                };
                return Ok(denied.on(self.sign_in_page(denied.status(), &visit, &way, Some(again))));
            }
        };
        let subject = entered.identity.subject(visit.address, AssuranceLevel::OneFactor);
        let next = match self.onward(&visit, &subject, &way) {
            Onward::Back(target) if target.is_page() => target.as_str().to_owned(),
            Onward::Default(url) => url,
            // The page at `/` says why they are not sent on.
            Onward::Stay | Onward::Unreadable | Onward::Back(_) | Onward::SecondFactor(_) => {
                format!("{}/{}", self.settings.base_path, way.as_query())
            }
        };
        Ok(reply::with_cookie(reply::see_other(&next, &self.content_policy), &entered.cookie))
    }

    /// `POST /api/logout`. A body that can't be read does not keep anybody signed in.
    pub(super) async fn log_out<B>(&self, parts: &Parts, body: B, peer: Peer) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let visit = self.api_change(parts, peer, &body)?;
        let body = self.bodies.read(body, visit.address).await.unwrap_or_default();
        let asked: json::Logout = serde_json::from_slice(&body).unwrap_or_default();
        let cookie = self.sign_out(&visit).await?;
        let is_safe = Target::read(&asked.target, self.sessions.sites()).safe().is_some();
        Ok(reply::with_cookie(reply::data(state::SafeTarget { is_safe }), &cookie))
    }

    /// `GET /logout`: asks first, so that an image on some page can't sign anybody out (A71).
    pub(super) async fn sign_out_page(&self, parts: &Parts, peer: Peer) -> Result<Reply, Refusal> {
        let visit = self.visit(parts, peer)?;
        let Some(found) = self.found(&visit).await? else { return Ok(self.signed_out_page()) };
        let way = Way::read(parts.uri.query().unwrap_or_default().as_bytes());
        let page = SignOut { base: &self.settings.base_path, name: state::name(&found.identity), way: &way };
        Ok(pages::render(StatusCode::OK, &page, &self.content_policy))
    }

    /// `POST /logout`.
    pub(super) async fn sign_out_form<B>(&self, parts: &Parts, body: B, peer: Peer) -> Result<Reply, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let visit = self.form_change(parts, peer)?;
        let body = self.bodies.read(body, visit.address).await.unwrap_or_default();
        let cookie = self.sign_out(&visit).await?;
        let way = Way::read(&body);
        let reply = match Target::read(&way.rd, self.sessions.sites()) {
            Target::Safe(target) if target.is_page() => reply::see_other(target.as_str(), &self.content_policy),
            Target::Absent | Target::Unreadable | Target::Unsafe | Target::Safe(_) => self.signed_out_page(),
        };
        Ok(reply::with_cookie(reply, &cookie))
    }

    /// Where `subject` goes next. The policy is asked as the gate would ask it, except that what it
    /// denies is left for the gate to say.
    pub(super) fn onward(&self, visit: &Visit<'_>, subject: &Subject<'_>, way: &Way) -> Onward {
        let target = match Target::read(&way.rd, self.sessions.sites()) {
            Target::Safe(target) => target,
            Target::Unreadable => return Onward::Unreadable,
            Target::Absent | Target::Unsafe => {
                let usual = visit.site.default_redirection.as_ref().filter(|_| !self.policy.demands_two_factors());
                return usual.map_or(Onward::Stay, |url| Onward::Default(url.as_str().to_owned()));
            }
        };
        // A method that is none is the one that the browser will come back with.
        let url = target.without_fragment().as_bytes();
        let object = Object::from_url(way.rm.as_bytes(), url).or_else(|_| Object::from_url(b"GET", url));
        let verdict = object.ok().and_then(|object| self.policy.decide(subject, &object).ok());
        // What can't be read or decided, the gate would refuse too.
        let Some(verdict) = verdict else { return Onward::Unreadable };
        let required = verdict.decision(subject.level);
        match required {
            Decision::Challenge { required: AssuranceLevel::TwoFactor } => Onward::SecondFactor(target),
            Decision::Allow(_) | Decision::Forbid | Decision::Challenge { .. } => Onward::Back(target),
        }
    }

    async fn sign_in(
        &self,
        visit: &Visit<'_>,
        username: &str,
        password: Option<Secret<String>>,
        remember: bool,
        way: &Way,
    ) -> Result<Entered, Denied> {
        let Some(password) = password.filter(|it| !it.expose().is_empty() && !username.is_empty()) else {
            return Err(Denied::Credentials);
        };
        // Before the password is looked at: where there can't be a session, no hash need be computed.
        self.found(visit).await?;
        let attempt = Attempt {
            login: username,
            password,
            address: visit.address,
            url: Some(way.rd.as_str()).filter(|rd| !rd.is_empty()),
            method: Some(way.rm.as_str()).filter(|rm| !rm.is_empty()),
        };
        let outcome = self.signin.first_factor(attempt).await;
        self.metrics.checked(Credential::Password, signin::checked(&outcome));
        let signed_in = match outcome {
            Ok(signed_in) => signed_in,
            Err(Refused::Credentials | Refused::Banned) => return Err(Denied::Credentials),
            Err(Refused::Busy) => return Err(Denied::Busy),
            Err(Refused::Unavailable) => return Err(Denied::Unavailable),
        };
        let remember = remember && visit.site.remember_me.is_some();
        let identity = signed_in.identity;
        // Whatever the browser showed ends: a session that somebody planted would shadow the new one (A72, A73).
        self.close(visit).await?;
        let cookie = self.sessions.open(visit.site, identity.clone(), Factors::PASSWORD, remember, visit.now).await?;
        let (client, user) = (visit.address.map(display), identity.username());
        tracing::info!(door = "portal", client, user, host = visit.host, "signed in");
        Ok(Entered { identity, cookie })
    }

    /// Ends what the browser shows because the person said so, and tells the log who that was.
    async fn sign_out(&self, visit: &Visit<'_>) -> Result<SetCookie, StoreUnavailable> {
        let found = self.found(visit).await?;
        let cookie = self.close(visit).await?;
        if let Some(found) = found {
            let (client, user) = (visit.address.map(display), found.identity.username());
            tracing::info!(client, user, host = visit.host, "signed out");
        }
        Ok(cookie)
    }

    async fn close(&self, visit: &Visit<'_>) -> Result<SetCookie, StoreUnavailable> {
        self.sessions.close(visit.site, visit.cookies()).await
    }
}
