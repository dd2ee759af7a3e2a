//! Whether a request that changes something was made by our own pages (A69).
//!
//! The browser says where a request comes from, in headers that no page can set: `Sec-Fetch-Site`
//! (W3C Fetch Metadata), else `Origin` (RFC 6454), else `Referer`. There is no token to be leaked or
//! to run out. Whoever sends none of the three is no browser of this decade; such a client must say
//! `application/json`, which no HTML form can. Pure.

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName, ORIGIN, REFERER};
use url::Url;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Where a request says it was made, as far as that is fine with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// By a page of this very origin.
    OwnPage,
    /// By the person (a reload, an address typed), or by no browser at all.
    NoPage,
    /// Nothing is said: a script, a command line, or a very old browser.
    Unstated,
}

/// The request was made by a page that is not ours, or hides which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossSite;

/// Says where a request was made.
///
/// `origins` are the portal's own, each as a browser writes it (`https://auth.example.com`).
///
/// # Errors
///
/// [`CrossSite`] for another origin (one of the same site too: applications are not the portal), for
/// `Origin: null`, and where a header is given twice.
pub fn provenance(headers: &HeaderMap, origins: &[String]) -> Result<Provenance, CrossSite> {
    match one(headers, &SEC_FETCH_SITE)? {
        Some("same-origin") => return Ok(Provenance::OwnPage),
        Some("none") => return Ok(Provenance::NoPage),
        Some(_) => return Err(CrossSite),
        None => {}
    }
    if let Some(origin) = one(headers, &ORIGIN)? {
        let is_own = origins.iter().any(|own| own == origin);
        return if is_own { Ok(Provenance::OwnPage) } else { Err(CrossSite) };
    }
    let Some(referrer) = one(headers, &REFERER)? else { return Ok(Provenance::Unstated) };
    let referrer = Url::parse(referrer).map_err(|_| CrossSite)?.origin().ascii_serialization();
    if origins.contains(&referrer) { Ok(Provenance::OwnPage) } else { Err(CrossSite) }
}

/// Whether the body is said to be JSON: `application/json`, parameters aside.
pub fn is_json(headers: &HeaderMap) -> bool {
    is_media_type(headers, "application/json")
}

/// Whether the body is said to be a form: `application/x-www-form-urlencoded`, parameters aside.
pub fn is_form(headers: &HeaderMap) -> bool {
    is_media_type(headers, "application/x-www-form-urlencoded")
}

fn is_media_type(headers: &HeaderMap, expected: &str) -> bool {
    let Ok(Some(value)) = one(headers, &CONTENT_TYPE) else { return false };
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(expected)
}

/// The one value of a header, if it is there.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, CrossSite> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(CrossSite);
    }
    first.to_str().map(Some).map_err(|_| CrossSite)
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;
    use hyper::header::{HeaderName, HeaderValue};

    use super::{CrossSite, Provenance, is_form, is_json, provenance};

    type Lines = &'static [(&'static str, &'static str)];

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn a69_only_our_own_pages_may_change_something() {
        use Provenance::{NoPage, OwnPage, Unstated};
        let origins = ["https://auth.example.com".to_owned(), "https://auth.example.com:8443".to_owned()];
        #[rustfmt::skip]
        let table: [(&str, Lines, Result<Provenance, CrossSite>); 22] = [
            // because                                  headers                                                                              expected
            ("our page, in a browser of today",         &[("sec-fetch-site", "same-origin"), ("origin", "https://auth.example.com")],         Ok(OwnPage)),
            ("typed, or reloaded",                      &[("sec-fetch-site", "none")],                                                        Ok(NoPage)),
            ("an application of the same domain",       &[("sec-fetch-site", "same-site"), ("origin", "https://app.example.com")],            Err(CrossSite)),
            ("somebody else's page",                    &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.com")],                  Err(CrossSite)),
            ("the browser's word counts over Origin",   &[("sec-fetch-site", "cross-site"), ("origin", "https://auth.example.com")],          Err(CrossSite)),
            ("a value nobody has heard of",             &[("sec-fetch-site", "same-planet")],                                                 Err(CrossSite)),
            ("said twice",                              &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")],              Err(CrossSite)),
            ("an empty value",                          &[("sec-fetch-site", "")],                                                            Err(CrossSite)),
            ("our page, in an older browser",           &[("origin", "https://auth.example.com")],                                            Ok(OwnPage)),
            ("our other origin",                        &[("origin", "https://auth.example.com:8443")],                                       Ok(OwnPage)),
            ("another port is another origin",          &[("origin", "https://auth.example.com:9000")],                                       Err(CrossSite)),
            ("without TLS it is another origin",        &[("origin", "http://auth.example.com")],                                             Err(CrossSite)),
            ("a longer name",                           &[("origin", "https://auth.example.com.evil.com")],                                   Err(CrossSite)),
            ("a sandbox, a redirect, a data page",      &[("origin", "null")],                                                                Err(CrossSite)),
            ("Origin twice",                            &[("origin", "https://auth.example.com"), ("origin", "https://evil.com")],            Err(CrossSite)),
            ("null, and a fine referrer",               &[("origin", "null"), ("referer", "https://auth.example.com/")],                      Err(CrossSite)),
            ("our page, by its referrer",               &[("referer", "https://auth.example.com/?rd=x")],                                     Ok(OwnPage)),
            ("our origin alone as referrer",            &[("referer", "https://auth.example.com")],                                           Ok(OwnPage)),
            ("somebody else's referrer",                &[("referer", "https://evil.com/https://auth.example.com/")],                         Err(CrossSite)),
            ("a referrer with our name before an @",    &[("referer", "https://auth.example.com@evil.com/")],                                 Err(CrossSite)),
            ("a referrer that is none",                 &[("referer", "auth.example.com")],                                                   Err(CrossSite)),
            ("a command line",                          &[],                                                                                  Ok(Unstated)),
        ];
        for (because, lines, expected) in table {
            assert_eq!(provenance(&headers(lines), &origins), expected, "{because}");
        }
    }

    #[test]
    fn a69_media_types_are_read_exactly() {
        for json in ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;x"] {
            assert!(is_json(&headers(&[("content-type", json)])), "{json}");
        }
        for other in ["text/plain", "text/plain; application/json", "application/jsonp", "application/x-json", ""] {
            assert!(!is_json(&headers(&[("content-type", other)])), "{other}");
        }
        assert!(!is_json(&headers(&[])));
        assert!(!is_json(&headers(&[("content-type", "application/json"), ("content-type", "text/plain")])));
        assert!(is_form(&headers(&[("content-type", "application/x-www-form-urlencoded;charset=UTF-8")])));
        assert!(!is_form(&headers(&[("content-type", "multipart/form-data; boundary=x")])));
    }
}
