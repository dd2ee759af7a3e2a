//! What a proxy is answered: status, header fields and a short body.
//!
//! A yes is an [`Allow`], and the one function that makes it takes a [`Permit`], which only the policy makes (A15,
//! rule 1 of the attack catalogue). Every answer may not be stored by anyone on the way (W9, A104), and every
//! one that lets a request pass carries all four identity headers, so that a client's own can't
//! survive (A45, W10).

use std::sync::LazyLock;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::Known;
use super::settings::Implementation;
use crate::policy::Permit;
use crate::subject::Identity;

/// The body of an answer: short, and known beforehand.
pub type Body = Full<Bytes>;

/// What an endpoint answers.
#[derive(Debug)]
pub enum Answer {
    /// A yes.
    Allow(Allow),
    /// Anything else.
    Other(Response<Body>),
}

impl Answer {
    /// For hyper to write.
    pub fn into_response(self) -> Response<Body> {
        match self {
            Answer::Allow(allow) => allow.into_response(),
            Answer::Other(response) => response,
        }
    }

    /// Writes it to `out` as hyper writes it on an HTTP/1.1 connection that stays open: `date` is the value of that
    /// field, and `bodiless` leaves the body out, as for HEAD.
    pub fn write(self, bodiless: bool, date: &[u8], out: &mut Vec<u8>) {
        let body = match self {
            Answer::Allow(allow) => {
                allow.write(out);
                field(b"content-length", OK_LENGTH.as_bytes(), out);
                Bytes::from_static(OK.as_bytes())
            }
            Answer::Other(response) => {
                let (parts, body) = response.into_parts();
                let body = body.into_inner().unwrap_or_default();
                write_head(parts.status, &parts.headers, out);
                field(b"content-length", body.len().to_string().as_bytes(), out);
                body
            }
        };
        field(b"date", date, out);
        out.extend_from_slice(b"\r\n");
        if !bodiless {
            out.extend_from_slice(&body);
        }
    }
}

/// A yes, for somebody or for nobody. Only [`allow`] makes one.
#[derive(Debug)]
pub struct Allow {
    to: Known,
    /// The identity headers that Envoy is to take away, if any.
    removal: Option<&'static str>,
}

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

/// The body of a yes, which no proxy looks at.
const OK: &str = "200 OK";
const OK_LENGTH: &str = "6";

/// The fields of a yes for nobody.
///
/// Cloning this and putting the four values in costs a quarter of the instructions of inserting eleven
/// fields one by one.
static ALLOW: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = plain(StatusCode::OK, "").into_parts().0.headers;
    for name in &IDENTITY {
        headers.insert(name, HeaderValue::from_static(""));
    }
    headers
});

/// The same as bytes: status line and fields up to the identity headers.
static ALLOW_HEAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let (parts, _) = plain(StatusCode::OK, "").into_parts();
    let mut out = Vec::new();
    write_head(parts.status, &parts.headers, &mut out);
    out
});

/// Lets the request pass, as whoever is known.
pub(super) fn allow(_permit: Permit, implementation: Implementation, to: Known) -> Allow {
    let unset = match to.identity() {
        Some(identity) => {
            identity.header_texts().iter().fold(0, |unset, text| (unset << 1) | usize::from(text.is_empty()))
        }
        None => 0b1111,
    };
    let removal = (implementation == Implementation::ExtAuthz && unset != 0).then(|| envoy_removal(unset));
    Allow { to, removal }
}

impl Allow {
    fn into_response(self) -> Response<Body> {
        let mut headers = ALLOW.clone();
        if let Some(identity) = self.to.identity() {
            for (name, value) in IDENTITY.iter().zip(identity.header_values()) {
                // An identity holds nothing that a header can't carry; if it did, nothing would be said.
                if let (Some(field), Ok(value)) = (headers.get_mut(name), HeaderValue::from_maybe_shared(value)) {
                    *field = value;
                }
            }
        }
        if let Some(removal) = self.removal {
            headers.insert(ENVOY_REMOVE, HeaderValue::from_static(removal));
        }
        let mut answer = Response::new(Full::new(Bytes::from_static(OK.as_bytes())));
        *answer.headers_mut() = headers;
        answer
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&ALLOW_HEAD);
        let values = self.to.identity().map(Identity::header_texts).unwrap_or_default();
        for (name, value) in IDENTITY.iter().zip(values) {
            field(name.as_str().as_bytes(), value, out);
        }
        if let Some(removal) = self.removal {
            field(ENVOY_REMOVE.as_str().as_bytes(), removal.as_bytes(), out);
        }
    }
}

fn write_head(status: StatusCode, headers: &HeaderMap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        field(name.as_str().as_bytes(), value.as_bytes(), out);
    }
}

fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
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

/// From how many bytes on an address is not repeated in the body, which stays small (A102).
const LONG: usize = 900;

/// Sends the person to sign in at `location`.
///
/// `empty` leaves out the body, as for a HEAD request at the application.
pub fn redirect(status: StatusCode, location: &str, empty: bool) -> Response<Body> {
    let Ok(value) = HeaderValue::from_str(location) else {
        // A URL that was percent-encoded on the way out always fits into a header.
        return plain(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let mut answer = if empty {
        text(status, Bytes::new(), TEXT)
    } else {
        let words = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        match location.len() {
            ..LONG => text(status, Bytes::from(format!("<a href=\"{}\">{words}</a>", escape(location))), HTML),
            _ => text(status, Bytes::from(words), TEXT), // who asks for a long way back need not be sent it twice
        }
    };
    answer.headers_mut().insert(header::LOCATION, value);
    answer
}

/// Asks for Basic credentials: 407 for the proxy's own header, else 401.
pub fn ask_for_basic(proxy: bool) -> Response<Body> {
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
pub fn refuse(refused: Refused) -> Response<Body> {
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
pub fn health() -> Response<Body> {
    text(
        StatusCode::OK,
        Bytes::from_static(br#"{"status":"OK"}"#),
        HeaderValue::from_static("application/json; charset=utf-8"),
    )
}

fn with(mut answer: Response<Body>, name: HeaderName, value: &'static str) -> Response<Body> {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

fn plain(status: StatusCode, body: &'static str) -> Response<Body> {
    text(status, Bytes::from_static(body.as_bytes()), TEXT)
}

fn text(status: StatusCode, body: Bytes, content_type: HeaderValue) -> Response<Body> {
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
