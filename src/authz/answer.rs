//! What a proxy is answered: status, header fields and a short body.
//!
//! The one function that writes a 2xx takes a [`Permit`], which only the policy makes (A15, rule 1 of
//! the attack catalogue). Every answer may not be stored by anyone on the way (W9, A104), and every
//! one that lets a request pass carries all four identity headers, so that a client's own can't
//! survive (A45, W10).

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::settings::Implementation;
use crate::policy::Permit;
use crate::subject::Identity;

/// The body type of the gate: short, and known beforehand.
pub type Answer = Response<Full<Bytes>>;

const REMOTE_USER: HeaderName = HeaderName::from_static("remote-user");
const REMOTE_GROUPS: HeaderName = HeaderName::from_static("remote-groups");
const REMOTE_NAME: HeaderName = HeaderName::from_static("remote-name");
const REMOTE_EMAIL: HeaderName = HeaderName::from_static("remote-email");
/// The identity headers, in the order of [`Identity::header_values`].
pub(super) static IDENTITY: [HeaderName; 4] = [REMOTE_USER, REMOTE_GROUPS, REMOTE_NAME, REMOTE_EMAIL];

/// Envoy drops these from the request that it hands on; the removal comes after everything else.
const ENVOY_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

const PERMISSIONS: HeaderValue = HeaderValue::from_static(
    "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), keyboard-map=(), \
     magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), screen-wake-lock=(), sync-xhr=(), \
     xr-spatial-tracking=(), interest-cohort=()",
);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// The fields of an answer that lets nobody in particular pass.
///
/// Cloning this and putting the four values in costs a quarter of the instructions of inserting eleven
/// fields one by one, which was the largest single part of the gate's own work.
static ALLOW: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = plain(StatusCode::OK, "").into_parts().0.headers;
    for name in &IDENTITY {
        headers.insert(name, HeaderValue::from_static(""));
    }
    headers
});

/// Lets the request pass, as `identity` or as nobody.
pub fn allow(_permit: Permit, implementation: Implementation, identity: Option<&Identity>) -> Answer {
    let mut headers = ALLOW.clone();
    let mut unset = 0b1111;
    if let Some(identity) = identity {
        unset = 0;
        for (name, value) in IDENTITY.iter().zip(identity.header_values()) {
            unset = (unset << 1) | usize::from(value.is_empty());
            // An identity holds nothing that a header can't carry; if it did, nothing would be said.
            if let (Some(field), Ok(value)) = (headers.get_mut(name), HeaderValue::from_maybe_shared(value)) {
                *field = value;
            }
        }
    }
    if implementation == Implementation::ExtAuthz && unset != 0 {
        headers.insert(ENVOY_REMOVE, HeaderValue::from_static(envoy_removal(unset)));
    }
    let mut answer = Response::new(Full::new(Bytes::from_static(b"200 OK")));
    *answer.headers_mut() = headers;
    answer
}

/// The names whose bits are set, `Remote-User` being the highest of four.
const fn envoy_removal(unset: usize) -> &'static str {
    match unset {
        0b0001 => "Remote-Email",
        0b0010 => "Remote-Name",
        0b0011 => "Remote-Name, Remote-Email",
        0b0100 => "Remote-Groups",
        0b0101 => "Remote-Groups, Remote-Email",
        0b0110 => "Remote-Groups, Remote-Name",
        0b0111 => "Remote-Groups, Remote-Name, Remote-Email",
        _ => "Remote-User, Remote-Groups, Remote-Name, Remote-Email",
    }
}

/// Sends the person to sign in at `location`.
///
/// `empty` leaves out the body, as for a HEAD request at the application.
pub fn redirect(status: StatusCode, location: &str, empty: bool) -> Answer {
    let Ok(value) = HeaderValue::from_str(location) else {
        // A URL that was percent-encoded on the way out always fits into a header.
        return plain(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let mut answer = if empty {
        text(status, Bytes::new(), TEXT)
    } else {
        let reason = status.canonical_reason().unwrap_or_default();
        let body = format!("<a href=\"{}\">{} {reason}</a>", escape(location), status.as_u16());
        text(status, Bytes::from(body), HTML)
    };
    answer.headers_mut().insert(header::LOCATION, value);
    answer
}

/// Asks for Basic credentials: 407 for the proxy's own header, else 401.
pub fn ask_for_basic(proxy: bool) -> Answer {
    const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"Authorization Required\"");
    if proxy {
        let mut answer = plain(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "407 Proxy Authentication Required");
        answer.headers_mut().insert(header::PROXY_AUTHENTICATE, CHALLENGE);
        answer
    } else {
        let mut answer = plain(StatusCode::UNAUTHORIZED, "401 Unauthorized");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
        answer
    }
}

/// An answer that lets nothing pass.
pub fn refuse(refused: Refused) -> Answer {
    match refused {
        Refused::BadRequest => plain(StatusCode::BAD_REQUEST, "400 Bad Request"),
        Refused::Unauthorized => plain(StatusCode::UNAUTHORIZED, "401 Unauthorized"),
        Refused::Forbidden => plain(StatusCode::FORBIDDEN, "403 Forbidden"),
        Refused::NotFound => plain(StatusCode::NOT_FOUND, "404 Not Found"),
        Refused::WrongMethod(allowed) => {
            with(plain(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed"), header::ALLOW, allowed)
        }
        Refused::Busy => with(plain(StatusCode::TOO_MANY_REQUESTS, "429 Too Many Requests"), header::RETRY_AFTER, "1"),
        Refused::Unavailable => {
            with(plain(StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable"), header::RETRY_AFTER, "1")
        }
    }
}

/// Why nothing passes; each is a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 400.
    BadRequest,
    /// 401 without a challenge.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404: no such endpoint.
    NotFound,
    /// 405, with the methods that there are.
    WrongMethod(&'static str),
    /// 429: too many passwords are being checked.
    Busy,
    /// 503: the session store can't be reached.
    Unavailable,
}

/// The answer of `/api/health`. It tells only that the gate answers, whatever its neighbours do.
pub fn health() -> Answer {
    text(
        StatusCode::OK,
        Bytes::from_static(br#"{"status":"OK"}"#),
        HeaderValue::from_static("application/json; charset=utf-8"),
    )
}

fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

fn plain(status: StatusCode, body: &'static str) -> Answer {
    text(status, Bytes::from_static(body.as_bytes()), TEXT)
}

fn text(status: StatusCode, body: Bytes, content_type: HeaderValue) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.reserve(12);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::X_DNS_PREFETCH_CONTROL, HeaderValue::from_static("off"));
    headers.insert(HeaderName::from_static("permissions-policy"), PERMISSIONS);
    answer
}

/// Escapes text for an HTML attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
