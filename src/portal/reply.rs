//! The answers: the JSON envelope, bare statuses and pages, each with its security headers.
//!
//! Every answer is made here, so none goes out without the headers that belong to its kind.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    LOCATION, PRAGMA, REFERRER_POLICY, RETRY_AFTER, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_DNS_PREFETCH_CONTROL,
    X_FRAME_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::session::SetCookie;

/// What the portal answers with: a body that is there already.
pub type Reply = Response<Full<Bytes>>;

/// What a failed sign-in is told, whatever the reason (A85).
pub const AUTHENTICATION_FAILED: &str = "Authentication failed. Check your credentials.";
/// What is told where a keeper can't be reached.
pub const UNAVAILABLE: &str = "Sign-in is not available right now. Try again in a moment.";
/// What is told where too many sign in at once.
pub const BUSY: &str = "Many people are signing in at this moment. Try again in a few seconds.";

/// How long somebody who was turned away for want of room is to wait, in seconds.
const RETRY_AFTER_SECS: u16 = 3;

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

const NOTHING_PERMITTED: &str = "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), \
    gyroscope=(), keyboard-map=(), magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), \
    screen-wake-lock=(), sync-xhr=(), xr-spatial-tracking=(), interest-cohort=()";

#[derive(Serialize)]
struct Envelope<'a, T> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

/// `{"status":"OK"}`.
pub fn ok() -> Reply {
    envelope(StatusCode::OK, &Envelope::<()> { status: "OK", message: None, data: None })
}

/// `{"status":"OK","data":…}`.
pub fn data(data: impl Serialize) -> Reply {
    envelope(StatusCode::OK, &Envelope { status: "OK", message: None, data: Some(data) })
}

/// `{"status":"KO","message":…}`: something failed, and the person may be told this much.
pub fn failed(status: StatusCode, message: &str) -> Reply {
    envelope(status, &Envelope::<()> { status: "KO", message: Some(message), data: None })
}

/// The status and its name as text, as in `403 Forbidden`, with the headers of the API.
pub fn bare(status: StatusCode) -> Reply {
    let text = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or("Unknown"));
    api(status, "text/plain; charset=utf-8", Bytes::from(text))
}

/// 405, naming the methods that there are (RFC 9110 section 15.5.6).
pub fn wrong_method(allow: &'static str) -> Reply {
    let mut reply = bare(StatusCode::METHOD_NOT_ALLOWED);
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    reply
}

/// A page. `policy` is its content security policy.
pub fn page(status: StatusCode, html: String, policy: &HeaderValue) -> Reply {
    let mut reply = base(status, "text/html; charset=utf-8", Bytes::from(html));
    no_store(reply.headers_mut());
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    // The return address in our own address must not reach the application (A71). `no-referrer` would do so
    // too, but under it browsers send `Origin: null` with our own forms.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    // No `Cross-Origin-Opener-Policy` or `Cross-Origin-Resource-Policy`: an application's pop-up or
    // picture passes through here on its way back to the application, and either would cut it off.
    reply
}

/// 303: go there, with GET (RFC 9110 section 15.4.4). The caller has checked where.
pub fn see_other(location: &str, policy: &HeaderValue) -> Reply {
    let Ok(location) = HeaderValue::from_str(location) else { return bare(StatusCode::INTERNAL_SERVER_ERROR) };
    let mut reply = page(StatusCode::SEE_OTHER, String::new(), policy);
    reply.headers_mut().insert(LOCATION, location);
    reply
}

/// A file that comes with the program.
pub fn file(status: StatusCode, content_type: &'static str, body: &'static [u8]) -> Reply {
    let mut reply = base(status, content_type, Bytes::from_static(body));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0, must-revalidate"));
    reply
}

/// The same answer with a cookie.
pub fn with_cookie(mut reply: Reply, cookie: &SetCookie) -> Reply {
    match HeaderValue::from_str(cookie.as_str()) {
        Ok(value) => {
            reply.headers_mut().append(SET_COOKIE, value);
            reply
        }
        // An answer that says somebody is signed in, without what makes it so, would be a lie.
        Err(_) => bare(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// The same answer, saying when to try again.
pub fn retry_later(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
    reply
}

/// The same answer to HEAD: the headers, the length, and no body.
pub fn head_only(reply: Reply) -> Reply {
    let (mut parts, body) = reply.into_parts();
    let length = hyper::body::Body::size_hint(&body).exact();
    if let Some(length) = length.filter(|_| parts.status != StatusCode::NOT_MODIFIED) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Full::default())
}

fn envelope<T: Serialize>(status: StatusCode, envelope: &Envelope<'_, T>) -> Reply {
    match serde_json::to_vec(envelope) {
        Ok(body) => api(status, "application/json; charset=utf-8", Bytes::from(body)),
        Err(_) => bare(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn api(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = base(status, content_type, body);
    no_store(reply.headers_mut());
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    reply
}

fn base(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(X_DNS_PREFETCH_CONTROL, HeaderValue::from_static("off"));
    headers.insert(PERMISSIONS_POLICY, HeaderValue::from_static(NOTHING_PERMITTED));
    reply
}

fn no_store(headers: &mut HeaderMap) {
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}
