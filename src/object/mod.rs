//! What is asked for: method, scheme, host, path and query, parsed each by a grammar of its own and
//! normalised once, before anything is compared.
//!
//! The parts of a request are never glued together and handed to a general URL parser: that is how
//! `//admin/users` becomes a host and `@public.example.com` moves one.
//!
//! A path that applications may read in several ways has several *readings* (`readings.rs`), and the policy answers
//! the strictest of what it decides for each ([`Object::readings`]).
//!
//! What nobody can read (bad escapes, control bytes, broken UTF-8, a climb above the root) is
//! [`Malformed`], and a malformed request is never let through.

mod readings;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::work::{Budget, Exceeded};

pub(crate) use readings::percent_escape;
use readings::{UNITS_PER_BYTE, has_crowded_segments, path_readings};

/// The longest target that is read, in bytes.
const MAX_TARGET: usize = 16 * 1024;
/// The longest method, in bytes.
const MAX_METHOD: usize = 32;
/// The longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;
/// The longest label of a host name, in bytes.
const MAX_LABEL: usize = 63;

/// The scheme of the request as the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
    /// `ws`, a WebSocket handshake
    Ws,
    /// `wss`, a WebSocket handshake over TLS
    Wss,
}

impl Scheme {
    fn parse(scheme: &[u8]) -> Result<Scheme, Malformed> {
        [Scheme::Https, Scheme::Wss, Scheme::Http, Scheme::Ws]
            .into_iter()
            .find(|known| scheme.eq_ignore_ascii_case(known.as_str().as_bytes()))
            .ok_or(Malformed::Scheme)
    }

    /// Whether cookies and credentials travel encrypted: `https` and `wss`.
    pub const fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Wss)
    }

    /// The scheme in lower case, without `://`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Ws => "ws",
            Scheme::Wss => "wss",
        }
    }
}

/// Why a request can't be read. It is never let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// The method is not 1 to 32 letters `A`–`Z`.
    Method,
    /// The scheme is not one of http, https, ws and wss; or there is none.
    Scheme,
    /// The host is not a name of letters, digits, hyphens and underscores, nor an address, or its port is none.
    Host,
    /// The target does not start with `/`, and is not the `*` of an OPTIONS request.
    Target,
    /// More than 16 KiB.
    TooLong,
    /// A control byte, raw or percent-encoded.
    Control,
    /// A raw `#`: fragments are not sent to servers.
    Fragment,
    /// A `%` in the path without two hexadecimal digits behind it.
    Escape,
    /// Bytes that are not UTF-8, raw or percent-encoded.
    Utf8,
    /// `..` segments that lead above the root.
    AboveRoot,
    /// It goes beyond what one request may cost.
    Exceeds(Exceeded),
}

impl Malformed {
    /// A name for metrics, in snake case; the set is closed.
    pub const fn label(self) -> &'static str {
        match self {
            Malformed::Method => "method",
            Malformed::Scheme => "scheme",
            Malformed::Host => "host",
            Malformed::Target => "target",
            Malformed::TooLong => "too_long",
            Malformed::Control => "control_byte",
            Malformed::Fragment => "fragment",
            Malformed::Escape => "escape",
            Malformed::Utf8 => "utf8",
            Malformed::AboveRoot => "above_root",
            Malformed::Exceeds(exceeded) => exceeded.label(),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Method => "the method is not a word of 1 to 32 letters from A to Z",
            Malformed::Scheme => "the scheme is not http, https, ws or wss",
            Malformed::Host => "the host is neither a host name nor an address, with or without a port",
            Malformed::Target => "the path does not start with `/`",
            Malformed::TooLong => "the path and query are longer than 16 KiB",
            Malformed::Control => "a control character in the path or query",
            Malformed::Fragment => "a `#` in the path or query",
            Malformed::Escape => "a `%` in the path that is not followed by two hexadecimal digits",
            Malformed::Utf8 => "the path or query is not UTF-8",
            Malformed::AboveRoot => "the path leads above the root",
            Malformed::Exceeds(exceeded) => return exceeded.fmt(f),
        })
    }
}

impl std::error::Error for Malformed {}

impl From<Exceeded> for Malformed {
    fn from(exceeded: Exceeded) -> Malformed {
        Malformed::Exceeds(exceeded)
    }
}

/// The object of a decision (NIST SP 800-162): what is asked for, and by which method.
///
/// It borrows the request; making one allocates nothing if the host is in lower case and the path
/// holds no escapes and nothing ambiguous.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    method: &'a str,
    scheme: Scheme,
    authority: &'a str,
    host: Cow<'a, str>,
    target: &'a str,
    query: Option<&'a str>,
    resource: Cow<'a, str>,
    others: Vec<String>,
    budget: Budget,
    unnamed: Unnamed,
}

/// Parts of a request that the proxy did not name. What stands in their place is read, but nothing is known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Unnamed {
    method: bool,
    target: bool,
}

impl<'a> Object<'a> {
    /// Reads a request from its parts: `authority` is `host[:port]`, `target` is `/path?query`, where
    /// nothing at all means `/`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] says which part can't be read.
    pub fn from_parts(
        method: &'a [u8],
        scheme: &[u8],
        authority: &'a [u8],
        target: &'a [u8],
    ) -> Result<Object<'a>, Malformed> {
        let method = parse_method(method)?;
        let scheme = Scheme::parse(scheme)?;
        let authority = std::str::from_utf8(authority).map_err(|_| Malformed::Host)?;
        let host = parse_host(authority)?;
        let mut budget = Budget::new();
        let Target { text, query, resource, others } = parse_target(method, target, &mut budget)?;
        Ok(Object {
            method,
            scheme,
            authority,
            host,
            target: text,
            query,
            resource,
            others,
            budget,
            unnamed: Unnamed::default(),
        })
    }

    /// Reads a request from its method and an absolute URL, such as nginx puts into `X-Original-URL`.
    ///
    /// # Errors
    ///
    /// As [`Object::from_parts`]; no `://` is [`Malformed::Scheme`], user information is [`Malformed::Host`].
    pub fn from_url(method: &'a [u8], url: &'a [u8]) -> Result<Object<'a>, Malformed> {
        let colon = url.windows(3).position(|bytes| bytes == b"://").ok_or(Malformed::Scheme)?;
        let (scheme, rest) = url.split_at_checked(colon).ok_or(Malformed::Scheme)?;
        let rest = rest.get(3..).ok_or(Malformed::Scheme)?;
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).ok_or(Malformed::Host)?;
        Object::from_parts(method, scheme, authority, target)
    }

    /// The same object, of which the proxy did not name the method: it may be any.
    #[must_use]
    pub fn with_method_unnamed(mut self) -> Object<'a> {
        self.unnamed.method = true;
        self
    }

    /// The same object, of which the proxy did not name path and query: they may be any.
    #[must_use]
    pub fn with_target_unnamed(mut self) -> Object<'a> {
        self.unnamed.target = true;
        self
    }

    /// Whether the proxy named the method.
    pub fn names_method(&self) -> bool {
        !self.unnamed.method
    }

    /// Whether the proxy named path and query.
    pub fn names_target(&self) -> bool {
        !self.unnamed.target
    }

    /// The method, in upper case as sent.
    pub fn method(&self) -> &str {
        self.method
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in lower case, without port and without a trailing dot; an IPv6 address without brackets,
    /// and an IPv4 address written as IPv6 as IPv4.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as received, with its port, if that was given.
    pub fn authority(&self) -> &str {
        self.authority
    }

    /// Path and query as received; empty where nothing was, which means `/`.
    pub fn target(&self) -> &str {
        self.target
    }

    /// The query as sent, without its `?`; `None` where there is no `?`.
    pub fn query(&self) -> Option<&str> {
        self.query
    }

    /// What `resources` patterns are matched against in the usual reading: the path, decoded and
    /// cleaned, then `?` and the query as sent, if there is one.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The resource in every reading that some application makes of it, the usual one first.
    pub fn readings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.resource).chain(self.others.iter().map(String::as_str))
    }

    /// What reading the object has left of the budget of its question.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// The URL as received, for coming back to after sign-in: bytes that may not stand in a URL are
    /// percent-encoded, everything else is kept.
    pub fn url(&self) -> String {
        let mut url = String::with_capacity(self.authority.len() + self.target.len() + 8);
        url.push_str(self.scheme.as_str());
        url.push_str("://");
        url.push_str(self.authority);
        for byte in self.target.bytes() {
            match byte {
                b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => {
                    url.push('%');
                    url.extend(hex_digits(byte));
                }
                _ => url.push(char::from(byte)),
            }
        }
        url
    }
}

fn hex_digits(byte: u8) -> impl Iterator<Item = char> {
    [byte >> 4, byte & 15]
        .into_iter()
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .map(|c| c.to_ascii_uppercase())
}

fn parse_method(method: &[u8]) -> Result<&str, Malformed> {
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(Malformed::Method);
    }
    std::str::from_utf8(method).map_err(|_| Malformed::Method)
}

/// The host of `host[:port]`, normalised.
fn parse_host(authority: &str) -> Result<Cow<'_, str>, Malformed> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(Malformed::Host)?;
        check_port(port.strip_prefix(':').or(port.is_empty().then_some("")))?;
        // The parser of the standard library knows no zones, which have no meaning on another machine (A26).
        let address: Ipv6Addr = address.parse().map_err(|_| Malformed::Host)?;
        return Ok(Cow::Owned(IpAddr::V6(address).to_canonical().to_string()));
    }
    let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
    check_port(Some(port))?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_HOST {
        return Err(Malformed::Host);
    }
    let has_upper_case = check_labels(name)?;
    // A name whose last label is a number is an address to whatever resolves it (WHATWG URL, "ends in a number").
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.starts_with(|c: char| c.is_ascii_digit()) && is_number(last) && name.parse::<Ipv4Addr>().is_err() {
        return Err(Malformed::Host);
    }
    if has_upper_case {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

/// Checks that a name is labels and dots, in one pass; says whether any letter is in upper case.
fn check_labels(name: &str) -> Result<bool, Malformed> {
    let (mut has_upper_case, mut length, mut previous) = (false, 0, b'.');
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => {}
            b'A'..=b'Z' => has_upper_case = true,
            b'-' if previous != b'.' => {}
            b'.' if previous != b'.' && previous != b'-' => {}
            _ => return Err(Malformed::Host),
        }
        length = if byte == b'.' { 0 } else { length + 1 };
        if length > MAX_LABEL {
            return Err(Malformed::Host);
        }
        previous = byte;
    }
    if matches!(previous, b'.' | b'-') { Err(Malformed::Host) } else { Ok(has_upper_case) }
}

/// Whether a label is a number, decimal or hexadecimal.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// Whether some request may have this host, as [`Object::host`] gives it.
pub(crate) fn is_host(text: &str) -> bool {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string() == text,
        Err(_) => !text.contains(':') && parse_host(text).is_ok_and(|host| host == text),
    }
}

/// Whether `text` is one label of a host name: letters, digits, `_` and inner hyphens, at most 63 (RFC 1035 §2.3.1).
pub(crate) fn is_label(text: &str) -> bool {
    !text.contains('.') && check_labels(text).is_ok()
}

fn check_port(port: Option<&str>) -> Result<(), Malformed> {
    match port {
        Some("") => Ok(()),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.len() <= 5 => {
            digits.parse::<u16>().map(|_| ()).map_err(|_| Malformed::Host)
        }
        _ => Err(Malformed::Host),
    }
}

struct Target<'a> {
    text: &'a str,
    query: Option<&'a str>,
    resource: Cow<'a, str>,
    others: Vec<String>,
}

/// Reads `/path?query`. One scan finds out whether the path is plain; only what is not is looked at again.
fn parse_target<'a>(method: &str, target: &'a [u8], budget: &mut Budget) -> Result<Target<'a>, Malformed> {
    if target.len() > MAX_TARGET {
        return Err(Malformed::TooLong);
    }
    match target {
        [] => return Ok(Target { text: "", query: None, resource: Cow::Borrowed("/"), others: Vec::new() }),
        b"*" if method == "OPTIONS" => {
            return Ok(Target { text: "*", query: None, resource: Cow::Borrowed("*"), others: Vec::new() });
        }
        [b'/', ..] => {}
        _ => return Err(Malformed::Target),
    }
    let mut query_at = None;
    let (mut special, mut crowded, mut previous) = (false, false, 0);
    for (at, &byte) in target.iter().enumerate() {
        match byte {
            0..=0x1f | 0x7f => return Err(Malformed::Control),
            b'#' => return Err(Malformed::Fragment),
            b'?' if query_at.is_none() => query_at = Some(at),
            b'%' | b'\\' | b';' if query_at.is_none() => special = true,
            b'/' | b'.' if previous == b'/' && query_at.is_none() => crowded = true,
            _ => {}
        }
        previous = byte;
    }
    let text = std::str::from_utf8(target).map_err(|_| Malformed::Utf8)?;
    let (path, query) = match query_at.and_then(|at| text.split_at_checked(at)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (text, None),
    };
    // `?` and nothing behind it is no query to a pattern.
    let plain = if query == Some("") { path } else { text };
    crowded = crowded && has_crowded_segments(path);
    if !special && !crowded {
        return Ok(Target { text, query, resource: Cow::Borrowed(plain), others: Vec::new() });
    }
    let mut readings = path_readings(path, budget)?;
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        for reading in &mut readings {
            budget.spend(UNITS_PER_BYTE * query.len())?;
            reading.push('?');
            reading.push_str(query);
        }
    }
    let mut readings = readings.into_iter();
    let resource = readings.next().unwrap_or_default();
    let others = readings.collect();
    Ok(Target { text, query, resource: Cow::Owned(resource), others })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Malformed, Object, Scheme};
    use crate::work::{Budget, Exceeded, MAX_READINGS};

    fn host(authority: &str) -> Result<String, Malformed> {
        Object::from_parts(b"GET", b"https", authority.as_bytes(), b"/").map(|object| object.host().to_owned())
    }

    #[test]
    fn a20_to_a26_a_host_is_read_by_its_own_grammar() {
        #[rustfmt::skip]
        let table = [
            // because                               authority                          host
            ("a name",                               "app.example.com",                 Some("app.example.com")),
            ("a20: in lower case",                   "App.EXAMPLE.com",                 Some("app.example.com")),
            ("a21: one trailing dot",                "app.example.com.",                Some("app.example.com")),
            ("a21: before a port",                   "app.example.com.:443",            Some("app.example.com")),
            ("a21: two",                             "app.example.com..",               None),
            ("a21: an empty label",                  "app..example.com",                None),
            ("a21: an empty first label",            ".example.com",                    None),
            ("a22: a port",                          "app.example.com:8443",            Some("app.example.com")),
            ("a22: with a zero",                     "app.example.com:0443",            Some("app.example.com")),
            ("a22: an empty one",                    "app.example.com:",                Some("app.example.com")),
            ("a22: too large",                       "app.example.com:65536",           None),
            ("a22: signed",                          "app.example.com:+80",             None),
            ("a22: two",                             "app.example.com:80:80",           None),
            ("a22: and a user",                      "app.example.com:80@evil",         None),
            ("a23: a user",                          "admin.example.com@pub.example",   None),
            ("a23: a fragment",                      "pub.example.com#admin",           None),
            ("a23: a space",                         "a b",                             None),
            ("a23: an escape",                       "a%2eb",                           None),
            ("a23: a path",                          "a.example.com/x",                 None),
            ("a23: a backslash",                     "a.example.com\\x",                None),
            ("a24: two hosts",                       "pub.example.com, a.example.com",  None),
            ("a24: without a space",                 "pub.example.com,a.example.com",   None),
            ("a25: a name of another script",        "xn--mller-kva.example",           Some("xn--mller-kva.example")),
            ("a25: not as it is sent",               "müller.example",                  None),
            ("a25: a label that ends in a hyphen",   "xn--example-.com",                None),
            ("a25: a full-width dot",                "app。example.com",                None),
            ("a26: an address",                      "10.0.0.1",                        Some("10.0.0.1")),
            ("a26: hexadecimal",                     "0x7f.1",                          None),
            ("a26: hexadecimal at the end",          "127.0.0.0x1",                     None),
            ("a26: octal",                           "010.0.0.1",                       None),
            ("a26: one number",                      "2130706433",                      None),
            ("a26: IPv6",                            "[2001:DB8::1]:443",               Some("2001:db8::1")),
            ("a26: IPv6 in another spelling",        "[2001:db8:0:0::1]",               Some("2001:db8::1")),
            ("a26: IPv4 as IPv6",                    "[::ffff:10.0.0.1]",               Some("10.0.0.1")),
            ("a26: a zone",                          "[fe80::1%eth0]",                  None),
            ("a26: an open bracket",                 "[::1",                            None),
            ("a26: something behind it",             "[::1]x",                          None),
            ("a26: no brackets",                     "2001:db8::1",                     None),
            ("an underscore",                        "_dmarc.example.com",              Some("_dmarc.example.com")),
            ("one label",                            "localhost",                       Some("localhost")),
            ("nothing",                              "",                                None),
            ("only a port",                          ":443",                            None),
        ];
        for (because, authority, expected) in table {
            assert_eq!(host(authority).ok().as_deref(), expected, "{because}: {authority}");
        }
        assert!(host(&format!("{}.com", "a".repeat(64))).is_err());
        assert!(host(&"abcdefg.".repeat(32)).is_err(), "more than 253 bytes");
        assert!(host(&"abcdefg.".repeat(31)).is_ok());
        assert_eq!(Object::from_parts(b"GET", b"https", b"a\x80b", b"/").unwrap_err(), Malformed::Host);
    }

    #[test]
    fn a14_control_bytes_are_refused_in_every_part() {
        for byte in (0..=0x1f).chain([0x7f]) {
            let with = |text: &str| [text.as_bytes(), &[byte], b"x"].concat();
            assert!(Object::from_parts(&with("GET"), b"https", b"h", b"/").is_err(), "method {byte:#x}");
            assert!(Object::from_parts(b"GET", &with("https"), b"h", b"/").is_err(), "scheme {byte:#x}");
            assert!(Object::from_parts(b"GET", b"https", &with("h"), b"/").is_err(), "host {byte:#x}");
            for target in ["/", "/?a="] {
                let object = Object::from_parts(b"GET", b"https", b"h", &with(target)).err();
                assert_eq!(object, Some(Malformed::Control), "{target} {byte:#x}");
            }
            for encoded in [format!("/a%{byte:02x}b"), format!("/a%25{byte:02X}b")] {
                let object = Object::from_parts(b"GET", b"https", b"h", encoded.as_bytes()).err();
                assert_eq!(object, Some(Malformed::Control), "{encoded}");
            }
        }
    }

    #[test]
    fn a30_a54_schemes_and_methods_are_of_known_form() {
        for (scheme, expected) in
            [("https", Scheme::Https), ("HTTPS", Scheme::Https), ("wss", Scheme::Wss), ("http", Scheme::Http)]
        {
            let object = Object::from_parts(b"GET", scheme.as_bytes(), b"h", b"/").unwrap();
            assert_eq!((object.scheme(), object.scheme().is_secure()), (expected, expected != Scheme::Http));
        }
        for scheme in ["", "javascript", "https,http", "https:", " https", "file"] {
            let object = Object::from_parts(b"GET", scheme.as_bytes(), b"h", b"/").err();
            assert_eq!(object, Some(Malformed::Scheme), "{scheme}");
        }
        for method in ["", "get", "G ET", "M-SEARCH", "GET1", &"A".repeat(33)] {
            let object = Object::from_parts(method.as_bytes(), b"https", b"h", b"/").err();
            assert_eq!(object, Some(Malformed::Method), "{method}");
        }
        assert!(Object::from_parts(&[b'A'; 32], b"https", b"h", b"/").is_ok());
    }

    #[test]
    fn a_url_is_split_before_it_is_read() {
        #[rustfmt::skip]
        let table = [
            // url                                          host and resource, or what is wrong
            ("https://a.example.com/x?y=/z",                Ok(("a.example.com", "/x?y=/z"))),
            ("HTTPS://A.example.com",                       Ok(("a.example.com", "/"))),
            ("wss://[::1]:8443/x",                          Ok(("::1", "/x"))),
            ("https://a.example.com//b.example.com/",       Ok(("a.example.com", "/b.example.com/"))),
            ("https://u:p@a.example.com/",                  Err(Malformed::Host)),
            ("https://a.example.com?x=1",                   Err(Malformed::Target)),
            ("https://a.example.com#x",                     Err(Malformed::Target)),
            ("https:///x",                                  Err(Malformed::Host)),
            ("https:a.example.com/",                        Err(Malformed::Scheme)),
            ("//a.example.com/",                            Err(Malformed::Scheme)),
            ("/x?u=https://a.example.com/",                 Err(Malformed::Scheme)),
            ("",                                            Err(Malformed::Scheme)),
        ];
        for (url, expected) in table {
            let object = Object::from_url(b"GET", url.as_bytes());
            let read = object.as_ref().map(|object| (object.host(), object.resource())).map_err(|malformed| *malformed);
            assert_eq!(read, expected, "{url}");
        }
    }

    #[test]
    fn the_url_to_come_back_to_is_the_one_that_came() {
        #[rustfmt::skip]
        let table = [
            // received                                     written
            ("HTTPS://App.example.com:8443/a%2Fb?c=d&e",    "https://App.example.com:8443/a%2Fb?c=d&e"),
            ("https://a.example.com/a b\"<\\é?q=é ^",       "https://a.example.com/a%20b%22%3C%5C%C3%A9?q=%C3%A9%20%5E"),
            ("https://a.example.com/?",                     "https://a.example.com/?"),
            ("https://a.example.com",                       "https://a.example.com"),
            ("https://a.example.com/?x=%zz",                "https://a.example.com/?x=%zz"),
        ];
        for (received, written) in table {
            assert_eq!(Object::from_url(b"GET", received.as_bytes()).unwrap().url(), written);
        }
    }

    #[test]
    fn plain_requests_are_borrowed() {
        let object = Object::from_parts(b"GET", b"https", b"a.example.com", b"/.a/b..c/d?e=//../%zz;").unwrap();
        assert!(matches!(object.resource, std::borrow::Cow::Borrowed(_)));
        assert!(matches!(object.host, std::borrow::Cow::Borrowed(_)));
        assert_eq!(object.readings().count(), 1);
    }

    #[test]
    fn a07_a_path_is_judged_in_whatever_order_it_is_read() {
        #[rustfmt::skip]
        let table = [
            // because                                                  path                              reading
            ("parameters are cut before the slash in them is decoded",  "/public%2fx;%2f..%2fy",          "/public/x"),
            ("or after",                                                "/public%2fx;%2f..%2fy",          "/public/y"),
            ("a proxy cleans, then the application decodes and cleans", "/a/x%2f../y%2fz/../w",           "/a/w"),
            ("a proxy cleans, then the application decodes once",       "/a/%2561/%2f/../b",               "/a/%61/b"),
            ("two proxies decode and clean",                            "/a/b/%252e%252e/%252e%252e/../c", "/a/c"),
        ];
        for (because, path, reading) in table {
            let object = Object::from_parts(b"GET", b"https", b"h", path.as_bytes()).unwrap();
            assert!(
                object.readings().any(|other| other == reading),
                "{because}: {:?}",
                object.readings().collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a102_a111_no_path_keeps_a_worker_busy() {
        for unit in ["/..;a%2f", "%252f;", "\\..//;", "/%3f;", "%25", "/.;/%2f..", "/%252e;%2f/"] {
            for length in [1, 4, 64, 1_024, 4_000] {
                let target = format!("/x/{}", unit.repeat(length));
                let Ok(object) = Object::from_parts(b"GET", b"https", b"h", target.as_bytes()) else { continue };
                assert!(object.readings().count() <= MAX_READINGS, "{target}");
            }
        }
        let long = format!("/{}", "a".repeat(super::MAX_TARGET));
        assert_eq!(Object::from_parts(b"GET", b"https", b"h", long.as_bytes()).err(), Some(Malformed::TooLong));
    }

    #[test]
    fn a111_what_takes_too_much_work_to_read_is_refused() {
        let read = |target: String| Object::from_parts(b"GET", b"https", b"h", target.as_bytes()).map(|_| ()).err();
        let query = "a=%20&".repeat(2_000);
        #[rustfmt::skip]
        let table = [
            // because                                          target                                          refused
            ("a long path that all read alike",                 format!("/{}", "a%20b/".repeat(2_000)),         None),
            ("a long query behind it",                          format!("/a?{query}"),                          None),
            ("and behind two slashes",                          format!("/a//b?{query}"),                       None),
            ("what has too many readings",                      "/a%252f..;x//%255c..;y%3f/.%25252f".to_owned(), Some(Exceeded::Readings)),
            ("what is made anew in every step",                 format!("/{}//x", "a".repeat(12_000)),          Some(Exceeded::Work)),
            ("a long query behind a path with many readings",   format!("/a%2f..;x//b?{query}"),                Some(Exceeded::Work)),
        ];
        for (because, target, refused) in table {
            assert_eq!(read(target), refused.map(Malformed::Exceeds), "{because}");
        }
    }

    /// What applications really use, and how many readings it has.
    #[test]
    fn a111_honest_ambiguous_paths_are_read_with_ease() {
        let key = "backup%2F2026%2F11%2Fphoto%20of%20the%20caf%C3%A9%2B1.jpg/";
        #[rustfmt::skip]
        let table = [
            // because                          target
            ("GitLab's API",                    "/api/v4/projects/group%2Fsub%2Fproject/repository/files/src%2Flib%2Emd/raw?ref=main".to_owned()),
            ("npm's scopes",                    "/@scope%2fpackage/-/package-1.0.0.tgz".to_owned()),
            ("a session in a parameter",        "/shop/cart;jsessionid=0123456789ABCDEF0123456789ABCDEF?item=1".to_owned()),
            ("two slashes",                     "/static//css//main.css".to_owned()),
            ("the longest key of S3, encoded",  format!("/bucket/{}", key.repeat(1_024 / 40))),
            ("and with empty segments",         format!("/bucket//{}", key.repeat(1_024 / 40))),
            ("an address in an address",        "/proxy/https%3A%2F%2Fexample.com%2Fa%3Fb%3Dc%26d".to_owned()),
            ("and not encoded",                 "/proxy/https://example.com/a;v=1/b".to_owned()),
            ("RabbitMQ's default host",         "/api/queues/%2F/orders/get".to_owned()),
            ("a percent sign",                  "/files/100%25/report%20final.pdf".to_owned()),
            ("encoded twice",                   "/redirect/https%253A%252F%252Fexample.com%252F".to_owned()),
            ("matrix parameters",               "/map/point;lat=50;long=20/zoom;level=3".to_owned()),
            ("a dot segment",                   "/docs/guide/../api/./index.html".to_owned()),
        ];
        for (because, target) in table {
            let object = Object::from_parts(b"GET", b"https", b"h", target.as_bytes());
            let object = object.unwrap_or_else(|malformed| panic!("{because}: {malformed}"));
            let spent = object.budget().spent();
            assert!(spent < Budget::BASE * 9 / 10, "{because}: {} readings, {spent} units", object.readings().count());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// A15, A16: any bytes are read or refused; what is read can be read again.
        #[test]
        fn a15_a16_a23_what_is_accepted_reads_back_as_itself(
            method in prop::collection::vec(any::<u8>(), 0..4),
            authority in prop_oneof!["[a-zA-Z0-9.:_\\-\\[\\]%@]{0,20}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..8)],
            target in prop_oneof!["/[a-c./%;?0-9\\\\é]{0,24}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..12)],
        ) {
            let _ = Object::from_parts(&method, b"https", &authority, &target);
            let Ok(object) = Object::from_parts(b"GET", b"https", &authority, &target) else { return Ok(()) };
            prop_assert!(super::is_host(object.host()), "{}", object.host());
            prop_assert!(object.readings().all(|reading| reading.starts_with('/') && !reading.bytes().any(|byte| byte < 0x20)));
            // Encoding what may not stand in a URL turns a backslash into an escaped one, which has more readings, not fewer.
            let url = object.url();
            let again = Object::from_url(b"GET", url.as_bytes());
            if matches!(again, Err(Malformed::Exceeds(_))) && object.target().contains('\\') {
                return Ok(());
            }
            let again = again.map_err(|malformed| TestCaseError::fail(format!("{url}: {malformed}")))?;
            prop_assert_eq!(again.host(), object.host());
            prop_assert_eq!(again.url(), url);
        }
    }
}
