//! What the portal knows of a request before it looks at anything else: at which of our sites it
//! arrived, what the portal's own origin is there, and from where it came.
//!
//! `X-Forwarded-Host` and `X-Forwarded-For` are believed from trusted proxies alone. Pure.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{COOKIE, HOST, HeaderName};
use hyper::http::request::Parts;
use url::Url;

use crate::clock::UnixTime;
use crate::peer::{Peer, TrustedProxies};
use crate::session::{Site, Sites};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request that arrived at one of our sites.
#[derive(Debug)]
pub struct Visit<'a> {
    /// The site, by the host that the browser asked for.
    pub site: &'a Site,
    /// The host that the browser asked for, in lower case.
    pub host: String,
    /// The portal's own origins there, as a browser writes them in `Origin`.
    pub origins: Vec<String>,
    /// Where the request came from; `None` where that can't be told.
    pub address: Option<IpAddr>,
    /// When it arrived.
    pub now: UnixTime,
    headers: &'a HeaderMap,
}

/// The request did not arrive at any of our sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Astray {
    /// It names no host, several, or one that is none.
    Unreadable,
    /// The host lies in no cookie domain.
    Outside(String),
}

impl Astray {
    /// What to do about it, for the log.
    pub fn explain(&self) -> &'static str {
        match self {
            Astray::Unreadable => "the request does not say exactly one host",
            Astray::Outside(_) => "the host is in no domain of `session.cookies`",
        }
    }

    /// The host that was asked for, if one was.
    pub fn host(&self) -> Option<&str> {
        match self {
            Astray::Unreadable => None,
            Astray::Outside(host) => Some(host),
        }
    }
}

/// Where a request came from; `None` where that can't be told.
pub(super) fn client_address(headers: &HeaderMap, peer: Peer, trusted: &TrustedProxies) -> Option<IpAddr> {
    trusted.client_address(peer, headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.as_bytes()))
}

impl<'a> Visit<'a> {
    /// Reads the request.
    ///
    /// # Errors
    ///
    /// [`Astray`] if the host is not in a cookie domain: there can be no session then.
    pub fn read(
        parts: &'a Parts,
        peer: Peer,
        trusted: &TrustedProxies,
        sites: &'a Sites,
        now: UnixTime,
    ) -> Result<Visit<'a>, Astray> {
        let authority = asked_for(parts, trusted.trusts(peer)).ok_or(Astray::Unreadable)?;
        let own = at_root(authority).ok_or(Astray::Unreadable)?;
        let host = own.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let Some(site) = sites.of(&host) else { return Err(Astray::Outside(host)) };
        let portal = site.portal.as_ref().map(|portal| portal.url().origin().ascii_serialization());
        Ok(Visit {
            site,
            host,
            origins: std::iter::once(own.origin().ascii_serialization()).chain(portal).collect(),
            address: client_address(&parts.headers, peer, trusted),
            now,
            headers: &parts.headers,
        })
    }

    /// The values of the `Cookie` lines.
    pub fn cookies(&self) -> impl Iterator<Item = &'a [u8]> {
        self.headers.get_all(COOKIE).iter().map(|value| value.as_bytes())
    }
}

/// The authority (`host[:port]`) that the browser asked for.
fn asked_for(parts: &Parts, is_trusted: bool) -> Option<&str> {
    if is_trusted && parts.headers.contains_key(X_FORWARDED_HOST) {
        return only(&parts.headers, &X_FORWARDED_HOST);
    }
    // RFC 9112 section 3.2.2, RFC 9113 section 8.3.1: what the request line says goes first, and a
    // `Host` beside it must agree.
    let target = parts.uri.authority().map(|authority| authority.as_str());
    if !parts.headers.contains_key(HOST) {
        return target;
    }
    let host = only(&parts.headers, &HOST)?;
    match target {
        Some(target) if !target.eq_ignore_ascii_case(host) => None,
        Some(_) | None => Some(host),
    }
}

/// The header's value, if there is exactly one.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// The portal's address at this authority; it is always reached over TLS.
fn at_root(authority: &str) -> Option<Url> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if authority.is_empty() || authority.len() > 300 || !authority.bytes().all(plain) {
        return None;
    }
    Url::parse(&format!("https://{authority}/")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Request;

    use super::{Astray, Visit};
    use crate::clock::UnixTime;
    use crate::peer::{Peer, TrustedProxies};
    use crate::session::{Site, Sites};

    type Arrived = Result<String, Astray>;
    type Lines = &'static [(&'static str, &'static str)];

    fn sites() -> Sites {
        let site = |domain: &str, portal: &str| {
            let mut site = Site::new(domain.parse().unwrap());
            site.portal = Some(portal.parse().unwrap());
            site.expiration = Duration::from_secs(3600);
            site
        };
        Sites::new(vec![
            site("example.com", "https://auth.example.com:8443/auth/"),
            site("example.org", "https://auth.example.org/"),
        ])
        .unwrap()
    }

    /// Domain and first origin, for a request with these headers from `peer`.
    fn visit(
        peer: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<(String, Vec<String>, Option<String>), Astray> {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (sites, peer) = (sites(), Peer::at(peer.parse().unwrap()));
        let visit = Visit::read(&parts, peer, &TrustedProxies::default(), &sites, UnixTime::from_secs(1))?;
        Ok((visit.site.domain.as_str().to_owned(), visit.origins, visit.address.map(|it| it.to_string())))
    }

    #[test]
    fn the_site_is_the_one_that_the_browser_asked_for() {
        let unreadable = || Err(Astray::Unreadable);
        let outside = |host: &str| Err(Astray::Outside(host.to_owned()));
        let at = |domain: &str| Ok(domain.to_owned());
        #[rustfmt::skip]
        let table: [(&str, &str, &str, Lines, Arrived); 20] = [
            // because                              peer          target                          headers                                                                          expected
            ("no proxy, or one that keeps Host",    "127.0.0.1",  "/",                            &[("host", "auth.example.com")],                                                 at("example.com")),
            ("a port is no part of the host",       "127.0.0.1",  "/",                            &[("host", "auth.example.com:8443")],                                            at("example.com")),
            ("hosts have no case",                  "127.0.0.1",  "/",                            &[("host", "AUTH.Example.ORG")],                                                 at("example.org")),
            ("a trusted proxy's word",              "127.0.0.1",  "/",                            &[("host", "portal:9092"), ("x-forwarded-host", "auth.example.com")],            at("example.com")),
            ("a stranger's word is not heard",      "192.0.2.1",  "/",                            &[("host", "auth.example.org"), ("x-forwarded-host", "auth.example.com")],       at("example.org")),
            ("a30 two words are none",              "127.0.0.1",  "/",                            &[("host", "auth.example.com"), ("x-forwarded-host", "auth.example.com"), ("x-forwarded-host", "auth.example.org")], unreadable()),
            ("a30 two words in one line",           "127.0.0.1",  "/",                            &[("x-forwarded-host", "auth.example.com, evil.com")],                           unreadable()),
            ("an empty word",                       "127.0.0.1",  "/",                            &[("host", "auth.example.com"), ("x-forwarded-host", "")],                       unreadable()),
            ("no host",                             "127.0.0.1",  "/",                            &[],                                                                             unreadable()),
            ("two hosts",                           "127.0.0.1",  "/",                            &[("host", "auth.example.com"), ("host", "auth.example.com")],                   unreadable()),
            ("HTTP/2",                              "127.0.0.1",  "https://auth.example.com/",    &[],                                                                             at("example.com")),
            ("HTTP/2 with a Host that agrees",      "127.0.0.1",  "https://auth.example.com/",    &[("host", "auth.example.com")],                                                 at("example.com")),
            ("HTTP/2 with one that does not",       "127.0.0.1",  "https://auth.example.com/",    &[("host", "auth.example.org")],                                                 unreadable()),
            ("a66 somebody else's host",            "127.0.0.1",  "/",                            &[("x-forwarded-host", "evil.com")],                                             outside("evil.com")),
            ("no label boundary",                   "127.0.0.1",  "/",                            &[("host", "evilexample.com")],                                                  outside("evilexample.com")),
            ("an address",                          "127.0.0.1",  "/",                            &[("host", "127.0.0.1:9092")],                                                   outside("127.0.0.1")),
            ("IPv6",                                "127.0.0.1",  "/",                            &[("host", "[::1]:9092")],                                                       outside("::1")),
            ("user information",                    "127.0.0.1",  "/",                            &[("host", "evil.com@auth.example.com")],                                        unreadable()),
            ("a path",                              "127.0.0.1",  "/",                            &[("host", "auth.example.com/x")],                                               unreadable()),
            ("a port that is none",                 "127.0.0.1",  "/",                            &[("host", "auth.example.com:99999")],                                           unreadable()),
        ];
        for (because, peer, target, headers, expected) in table {
            assert_eq!(visit(peer, target, headers).map(|(domain, ..)| domain), expected, "{because}");
        }
    }

    #[test]
    fn the_portal_knows_its_origins() {
        let (_, origins, _) = visit("127.0.0.1", "/", &[("host", "auth.example.com:443")]).unwrap();
        assert_eq!(origins, ["https://auth.example.com", "https://auth.example.com:8443"]);
    }

    #[test]
    fn a36_the_client_is_the_rightmost_untrusted_hop() {
        let from = |peer: &str| {
            let headers = [("host", "auth.example.com"), ("x-forwarded-for", "10.0.0.1, 192.0.2.7")];
            visit(peer, "/", &headers).unwrap().2
        };
        assert_eq!(from("127.0.0.1").as_deref(), Some("192.0.2.7"));
        assert_eq!(from("192.0.2.99").as_deref(), Some("192.0.2.99"));
    }
}
