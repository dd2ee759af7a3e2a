//! The pages: templates from `portal/ui/`, compiled in, and the few files they need.
//!
//! There is no script at all, so everything works where scripts are off, and the content policy can
//! forbid them (A68). Askama escapes whatever a template prints; nothing here opts out of it. A page
//! shows where somebody is going only after the address was checked, and then only its host, as text.

use askama::Template;
use hyper::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::{Response, StatusCode};
use sha1::{Digest, Sha1};
use url::Host;

use crate::portal::form::Way;
use crate::portal::redirect::SafeRedirect;
use crate::portal::reply::{self, Reply};
use crate::session::Sites;

/// The sign-in form.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub struct SignIn<'a> {
    /// What every link begins with: "" or `/auth`.
    pub base: &'a str,
    /// Where the person is going.
    pub host: Option<&'a str>,
    /// What went wrong the last time.
    pub error: Option<&'a str>,
    /// Whether it was the user name or the password.
    pub rejected: bool,
    /// The name that was typed the last time.
    pub username: &'a str,
    /// Whether a session may outlive the browser here.
    pub may_remember: bool,
    /// Whether that was ticked the last time.
    pub remember: bool,
    /// Carried along as it came; it is checked again when it is used (A66).
    pub way: &'a Way,
}

/// Who is signed in, and the way out.
#[derive(Template)]
#[template(path = "signed_in.html")]
pub struct SignedIn<'a> {
    /// What every link begins with.
    pub base: &'a str,
    /// What the person is called.
    pub name: &'a str,
    /// The user name.
    pub username: &'a str,
    /// What else there is to say.
    pub notice: SignedInNotice<'a>,
    /// Carried along, for somebody who wants to come back as somebody else.
    pub way: &'a Way,
}

/// Why somebody who is signed in is still here.
#[derive(Clone, Copy)]
pub enum SignedInNotice<'a> {
    /// They are not going anywhere.
    None,
    /// This host asks for more than a password.
    SecondFactor(&'a str),
    /// They came from somewhere that is not ours.
    NotOurs,
    /// They were sent on and came back, again and again (A67).
    Link(&'a SafeRedirect),
}

impl SignedInNotice<'_> {
    /// Whether somebody else might get further from here.
    fn leads_on(&self) -> bool {
        match self {
            SignedInNotice::SecondFactor(_) | SignedInNotice::Link(_) => true,
            SignedInNotice::None | SignedInNotice::NotOurs => false,
        }
    }
}

/// The question before signing out.
#[derive(Template)]
#[template(path = "sign_out.html")]
pub struct SignOut<'a> {
    /// What every link begins with.
    pub base: &'a str,
    /// What the person is called.
    pub name: &'a str,
    /// Where to go afterwards.
    pub way: &'a Way,
}

/// Anything else there is to say.
#[derive(Template)]
#[template(path = "notice.html")]
pub struct Notice<'a> {
    /// What every link begins with.
    pub base: &'a str,
    /// In a few words.
    pub title: &'a str,
    /// In a sentence or two.
    pub message: &'a str,
    /// What the link to the sign-in page says, if there is to be one.
    pub link: Option<&'a str>,
}

/// Renders a page.
pub fn render(status: StatusCode, page: &impl Template, policy: &HeaderValue) -> Reply {
    match page.render() {
        Ok(html) => reply::page(status, html, policy),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            reply::bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// The content security policy of every page.
///
/// Browsers apply `form-action` to the redirect that answers a form too, so the cookie domains are in
/// it, on any port.
pub fn content_policy(sites: &Sites) -> HeaderValue {
    let mut policy = String::from("default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'");
    for site in sites.iter() {
        let domain = site.domain.as_str();
        match Host::parse(domain) {
            Ok(Host::Domain(_)) => policy.push_str(&format!(" https://{domain}:* https://*.{domain}:*")),
            Ok(Host::Ipv4(_)) => policy.push_str(&format!(" https://{domain}:*")),
            // A source list has no way to write an IPv6 address; `'self'` has to do.
            Ok(Host::Ipv6(_)) | Err(_) => {}
        }
    }
    policy.push_str("; frame-ancestors 'none'; base-uri 'none'");
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

/// A file that comes with the program.
#[derive(Debug)]
pub struct Asset {
    content_type: &'static str,
    body: &'static [u8],
}

const STYLE: Asset =
    Asset { content_type: "text/css; charset=utf-8", body: include_bytes!("../../portal/ui/style.css") };
const MARK: Asset = Asset { content_type: "image/svg+xml", body: include_bytes!("../../portal/ui/mark.svg") };
const ROBOTS: Asset = Asset { content_type: "text/plain; charset=utf-8", body: b"User-agent: *\nDisallow: /\n" };

impl Asset {
    /// The file at `path`, if there is one.
    pub fn at(path: &str) -> Option<Asset> {
        match path {
            "/static/style.css" => Some(STYLE),
            "/static/mark.svg" | "/favicon.ico" => Some(MARK),
            "/robots.txt" => Some(ROBOTS),
            _ => None,
        }
    }

    /// The file, or 304 where the browser has it (RFC 9110 section 13.1.2).
    pub fn answer(&self, headers: &HeaderMap) -> Reply {
        let tag = self.tag();
        let is_known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
            value.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
        });
        let mut reply = if is_known {
            let (mut parts, _) = reply::file(StatusCode::NOT_MODIFIED, self.content_type, &[]).into_parts();
            parts.headers.remove(hyper::header::CONTENT_TYPE);
            Response::from_parts(parts, Default::default())
        } else {
            reply::file(StatusCode::OK, self.content_type, self.body)
        };
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            reply.headers_mut().insert(ETAG, tag);
        }
        reply
    }

    /// The entity tag: a digest of the content. Nothing rests on its strength.
    fn tag(&self) -> String {
        let digest = Sha1::digest(self.body);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\"{hex}\"")
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use hyper::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};

    use super::Asset;

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let style = Asset::at("/static/style.css").unwrap();
        let fresh = style.answer(&HeaderMap::new());
        assert_eq!(fresh.status(), StatusCode::OK);
        let tag = fresh.headers()[ETAG].to_str().unwrap().to_owned();
        assert_eq!(tag.len(), 42);
        for (value, expected) in [
            (tag.clone(), StatusCode::NOT_MODIFIED),
            (format!("W/{tag}"), StatusCode::NOT_MODIFIED),
            (format!("\"other\", {tag}"), StatusCode::NOT_MODIFIED),
            ("*".to_owned(), StatusCode::NOT_MODIFIED),
            ("\"other\"".to_owned(), StatusCode::OK),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_str(&value).unwrap())]);
            let reply = style.answer(&headers);
            assert_eq!(reply.status(), expected, "{value}");
            assert_eq!(reply.headers()[ETAG], tag);
        }
    }

    #[test]
    fn there_are_no_other_files() {
        for path in ["/static/", "/static/../Cargo.toml", "/static/sign_in.html", "/static/STYLE.css", "/favicon.svg"] {
            assert!(Asset::at(path).is_none(), "{path}");
        }
    }
}
