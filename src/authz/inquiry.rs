//! What a proxy asks, whatever its dialect: the facts of a sub-request, read once, and the object
//! they describe.
//!
//! Facts are collected in one pass over the header fields. Each may be given once; a fact that is
//! given twice is refused by the dialect that needs it (A24, W3), and so is a header that an
//! application may mistake for one of ours because it spells `-` as `_` or `.` (A39, A46).

use hyper::Version;
use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use crate::object::{Malformed, Object};
use crate::work::Exceeded;

/// The request line of a sub-request, whoever read it off the wire.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// As written.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// Path and query, as they stand there.
    pub target: &'a str,
    /// `:authority`, or the host in an absolute target.
    pub authority: Option<&'a str>,
    /// Which HTTP it was sent in.
    pub version: Version,
}

impl<'a> Line<'a> {
    /// The line of a request that hyper read.
    pub fn of(parts: &'a Parts) -> Line<'a> {
        Line {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            target: parts.uri.path_and_query().map_or("", |target| target.as_str()),
            authority: parts.uri.authority().map(|authority| authority.as_str()),
            version: parts.version,
        }
    }

    /// What follows the first `?`.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// The header fields of a request that hyper read, as [`Facts::read`] takes them.
pub fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
}

/// A header field as it came: not at all, once, or more often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen<'a> {
    /// Not at all.
    #[default]
    Absent,
    /// Once, with this value.
    Once(&'a [u8]),
    /// More than once.
    Repeated,
}

impl<'a> Seen<'a> {
    fn note(&mut self, value: &'a [u8]) {
        *self = match self {
            Seen::Absent => Seen::Once(value),
            Seen::Once(_) | Seen::Repeated => Seen::Repeated,
        };
    }

    /// The value; an empty one counts as absent.
    ///
    /// # Errors
    ///
    /// [`Refusal::Repeated`] if there is more than one.
    pub fn value(self, name: &'static str) -> Result<Option<&'a [u8]>, Refusal> {
        Ok(self.written(name)?.filter(|value| !value.is_empty()))
    }

    /// The value, which may be empty: what is written down as nothing is not the same as what is not.
    ///
    /// # Errors
    ///
    /// [`Refusal::Repeated`] if there is more than one.
    pub fn written(self, name: &'static str) -> Result<Option<&'a [u8]>, Refusal> {
        match self {
            Seen::Absent => Ok(None),
            Seen::Once(value) => Ok(Some(value)),
            Seen::Repeated => Err(Refusal::Repeated(name)),
        }
    }

    /// The value of a field that must be there.
    ///
    /// # Errors
    ///
    /// [`Refusal::Missing`] if it is absent or empty, [`Refusal::Repeated`] if there is more than one.
    pub fn required(self, name: &'static str) -> Result<&'a [u8], Refusal> {
        self.value(name)?.ok_or(Refusal::Missing(name))
    }
}

/// The values of a field that may be given more than once, in order. One value takes no allocation.
#[derive(Clone, Debug, Default)]
pub struct Lines<'a> {
    first: Option<&'a [u8]>,
    more: Vec<&'a [u8]>,
}

impl<'a> Lines<'a> {
    fn note(&mut self, value: &'a [u8]) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.more.push(value),
        }
    }

    /// The first value.
    pub fn first(&self) -> Option<&'a [u8]> {
        self.first
    }

    /// All values, in the order in which they came.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// The header fields that are read at all.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is the header of that name")]
pub struct Facts<'a> {
    pub forwarded_method: Seen<'a>,
    pub forwarded_proto: Seen<'a>,
    pub forwarded_host: Seen<'a>,
    pub forwarded_uri: Seen<'a>,
    pub original_method: Seen<'a>,
    pub original_url: Seen<'a>,
    pub host: Seen<'a>,
    pub portal: Seen<'a>,
    pub authorization: Seen<'a>,
    pub proxy_authorization: Seen<'a>,
    pub session_username: Seen<'a>,
    pub accept: Lines<'a>,
    pub requested_with: Lines<'a>,
    pub cookies: Lines<'a>,
    pub forwarded_for: Lines<'a>,
}

impl<'a> Facts<'a> {
    /// Reads the fields of a sub-request, names in any case.
    ///
    /// # Errors
    ///
    /// [`Refusal::Alias`] for a field that reads like one of ours once `_` or `.` is taken for `-`.
    pub fn read(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<Facts<'a>, Refusal> {
        let mut facts = Facts::default();
        for (name, value) in fields {
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            match name.len() {
                4 if is("host") => facts.host.note(value),
                6 if is("cookie") => facts.cookies.note(value),
                6 if is("accept") => facts.accept.note(value),
                13 if is("authorization") => facts.authorization.note(value),
                14 if is("x-original-url") => facts.original_url.note(value),
                14 if is("x-authelia-url") => facts.portal.note(value),
                15 if is("x-forwarded-for") => facts.forwarded_for.note(value),
                15 if is("x-forwarded-uri") => facts.forwarded_uri.note(value),
                16 if is("x-forwarded-host") => facts.forwarded_host.note(value),
                16 if is("x-requested-with") => facts.requested_with.note(value),
                16 if is("session-username") => facts.session_username.note(value),
                17 if is("x-forwarded-proto") => facts.forwarded_proto.note(value),
                17 if is("x-original-method") => facts.original_method.note(value),
                18 if is("x-forwarded-method") => facts.forwarded_method.note(value),
                19 if is("proxy-authorization") => facts.proxy_authorization.note(value),
                _ if name.bytes().any(is_odd) && is_alias(name) => return Err(Refusal::Alias),
                _ => {}
            }
        }
        Ok(facts)
    }
}

/// Whether a byte of a header's name is more than a letter, a digit or a hyphen.
fn is_odd(byte: u8) -> bool {
    !matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-')
}

/// Whether a name with odd bytes is one that an application may take for a forwarded fact or an
/// identity header: CGI and WSGI make one letter of `-` and `_`, some servers of any other byte too.
fn is_alias(name: &str) -> bool {
    let folded = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-").to_ascii_lowercase();
    matches!(
        folded.as_str(),
        "remote-user"
            | "remote-groups"
            | "remote-name"
            | "remote-email"
            | "x-authelia-url"
            | "session-username"
            | "x-real-ip"
    ) || folded.starts_with("x-forwarded-")
        || folded.starts_with("x-original-")
}

/// What one sub-request asks.
#[derive(Debug)]
pub struct Inquiry<'a> {
    /// What is to be reached, and how.
    pub object: Object<'a>,
    /// Where the proxy says people sign in, if it says so; not checked yet.
    pub portal: Option<std::borrow::Cow<'a, str>>,
}

/// Why a sub-request can't be judged. It is never answered with a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer is not a trusted proxy.
    Untrusted,
    /// A required header is absent or empty.
    Missing(&'static str),
    /// A header that must be given once is given more often.
    Repeated(&'static str),
    /// A header spells one of ours with underscores or dots.
    Alias,
    /// Two headers name different things.
    Disagreement,
    /// A header field that can't be one.
    Unreadable,
    /// The object can't be read, or reading it goes beyond what one request may cost.
    Malformed(Malformed),
    /// The object is not reached over TLS.
    Insecure,
    /// The host lies in no cookie domain.
    UnknownSite,
    /// No sign-in page is configured for the host.
    NoPortal,
    /// The sign-in page that the request names is not one of ours.
    ForeignPortal,
}

impl Refusal {
    /// What to do about it, for the log.
    pub fn explain(&self) -> std::borrow::Cow<'static, str> {
        match self {
            Refusal::Untrusted => "the peer is not listed in `server.trusted_proxies`".into(),
            Refusal::Missing(name) => format!("the proxy does not send `{name}`").into(),
            Refusal::Repeated(name) => format!("`{name}` is given more than once").into(),
            Refusal::Alias => "a header spells one of ours with `_` or `.` for `-`".into(),
            Refusal::Disagreement => "two headers name different targets".into(),
            Refusal::Unreadable => "a header has a name or a value that none can have".into(),
            Refusal::Malformed(fault) => fault.to_string().into(),
            Refusal::Insecure => "the target is not reached over https or wss".into(),
            Refusal::UnknownSite => "the host lies in no domain of `session.cookies`".into(),
            Refusal::NoPortal => "`authelia_url` is not set for the host's cookie domain".into(),
            Refusal::ForeignPortal => {
                "the sign-in page named by the request is not https inside the cookie domain".into()
            }
        }
    }
}

impl Refusal {
    /// A name for metrics, in snake case; the set is closed.
    pub const fn label(&self) -> &'static str {
        match self {
            Refusal::Untrusted => "untrusted",
            Refusal::Missing(_) => "missing",
            Refusal::Repeated(_) => "repeated",
            Refusal::Alias => "alias",
            Refusal::Disagreement => "disagreement",
            Refusal::Unreadable => "unreadable",
            Refusal::Malformed(fault) => fault.label(),
            Refusal::Insecure => "insecure",
            Refusal::UnknownSite => "unknown_site",
            Refusal::NoPortal => "no_portal",
            Refusal::ForeignPortal => "foreign_portal",
        }
    }
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Refusal {
        Refusal::Malformed(exceeded.into())
    }
}

impl From<Malformed> for Refusal {
    fn from(fault: Malformed) -> Refusal {
        Refusal::Malformed(fault)
    }
}

/// Whether the one who asks is a browser that shows a page: no script's call, and HTML is accepted.
///
/// HTML is accepted if any item of the first `Accept` is `text/html`, or the first item is `*/*`.
pub fn wants_page(facts: &Facts<'_>) -> bool {
    if facts.requested_with.first().is_some_and(|value| value.eq_ignore_ascii_case(b"XMLHttpRequest")) {
        return false;
    }
    let Some(accept) = facts.accept.first() else { return false };
    let media_type = |item: &[u8]| {
        item.split(|&byte| byte == b';').next().map(<[u8]>::trim_ascii).unwrap_or_default().to_ascii_lowercase()
    };
    accept
        .split(|&byte| byte == b',')
        .enumerate()
        .any(|(n, item)| matches!((n, media_type(item).as_slice()), (_, b"text/html") | (0, b"*/*")))
}

#[cfg(test)]
mod tests {
    use super::{Facts, Refusal, Seen, wants_page};

    fn read<'a>(fields: &'a [(&str, &str)]) -> Result<Facts<'a>, Refusal> {
        Facts::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn a24_a_fact_given_twice_is_seen_as_such() {
        let facts = read(&[("X-Forwarded-Host", "a.example.com"), ("x-forwarded-host", "b.example.com"), ("Host", "")]);
        let facts = facts.unwrap();
        assert_eq!(facts.forwarded_host.value("x"), Err(Refusal::Repeated("x")));
        assert_eq!(facts.host, Seen::Once(b""));
        assert_eq!(facts.host.required("Host"), Err(Refusal::Missing("Host")));
        assert_eq!(facts.forwarded_uri.value("x"), Ok(None));
    }

    #[test]
    fn each_field_is_known_by_its_name_and_by_no_other() {
        let values = |facts: &Facts<'_>| {
            let seen = [
                facts.host,
                facts.authorization,
                facts.original_url,
                facts.portal,
                facts.forwarded_uri,
                facts.forwarded_host,
                facts.session_username,
                facts.forwarded_proto,
                facts.original_method,
                facts.forwarded_method,
                facts.proxy_authorization,
            ];
            let lines = [&facts.cookies, &facts.accept, &facts.forwarded_for, &facts.requested_with];
            let seen = seen.map(|seen| match seen {
                Seen::Once(value) => value.to_vec(),
                Seen::Absent | Seen::Repeated => Vec::new(),
            });
            seen.into_iter().chain(lines.map(|lines| lines.iter().collect::<Vec<_>>().concat())).collect::<Vec<_>>()
        };
        let names = [
            "Host",
            "Authorization",
            "X-Original-URL",
            "X-Authelia-URL",
            "X-Forwarded-URI",
            "X-Forwarded-Host",
            "Session-Username",
            "X-Forwarded-Proto",
            "X-Original-Method",
            "X-Forwarded-Method",
            "Proxy-Authorization",
            "Cookie",
            "Accept",
            "X-Forwarded-For",
            "X-Requested-With",
        ];
        for (n, name) in names.iter().enumerate() {
            for name in [name.to_string(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                let found = values(&read(&[(&name, "x")]).unwrap());
                let expected: Vec<_> =
                    (0..names.len()).map(|at| if at == n { b"x".to_vec() } else { vec![] }).collect();
                assert_eq!(found, expected, "{name}");
            }
        }
    }

    #[test]
    fn a39_a46_underscores_do_not_make_another_header_of_ours() {
        for name in [
            "remote_user",
            "Remote_Groups",
            "x_forwarded-host",
            "x-forwarded_uri",
            "X_Original_URL",
            "X_Forwarded_For",
            "session_username",
            "Remote.User",
            "x-forwarded.host",
            "x~original!url",
        ] {
            assert_eq!(read(&[(name, "x")]).err(), Some(Refusal::Alias), "{name}");
        }
        for name in ["x_request_id", "remote_office", "my_remote_user"] {
            assert!(read(&[(name, "x")]).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_page_view_is_told_from_a_script() {
        #[rustfmt::skip]
        let table: [(&str, &[(&str, &str)], bool); 11] = [
            ("a browser",                       &[("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")], true),
            ("html further back",               &[("accept", "application/json, text/html;q=0.1")],               true),
            ("curl",                            &[("accept", "*/*")],                                              true),
            ("anything, but not first",         &[("accept", "application/json,*/*")],                             false),
            ("any text",                        &[("accept", "text/*")],                                           false),
            ("case of the type",                &[("accept", "TEXT/HTML")],                                        true),
            ("nothing said",                    &[],                                                               false),
            ("a script that takes html",        &[("accept", "text/html"), ("x-requested-with", "xmlhttprequest")], false),
            ("another requester",               &[("accept", "text/html"), ("x-requested-with", "app")],           true),
            ("parameters before the comma",     &[("accept", "*/*;q=0.5, text/plain")],                            true),
            ("only the first line counts",      &[("accept", "application/json"), ("accept", "text/html")],        false),
        ];
        for (because, fields, expected) in table {
            assert_eq!(wants_page(&read(fields).unwrap()), expected, "{because}");
        }
    }
}
