//! How each kind of proxy asks. A dialect knows headers and request lines and nothing of rules.
//!
//! Each reads exactly one family of facts (A34, A35); what the other families say is a stranger's
//! word. Adding a proxy's protocol is adding a file here.

mod auth_request;
mod ext_authz;
mod forward_auth;
mod legacy;

use std::borrow::Cow;

use hyper::Version;

use super::inquiry::{Facts, Inquiry, Line, Refusal};
use super::settings::Implementation;

/// A sub-request as it reached an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct SubRequest<'a> {
    /// Its first line.
    pub line: Line<'a>,
    /// The header fields that matter, read once.
    pub facts: &'a Facts<'a>,
    /// What follows the endpoint's own path, with its leading slash; empty at the path itself.
    pub rest: &'a str,
    /// Whether it came over TLS.
    pub secure: bool,
}

impl<'a> SubRequest<'a> {
    /// The scheme the proxy names, or our own listener's where it names none.
    fn forwarded_scheme(&self) -> Result<&'a [u8], Refusal> {
        let own: &[u8] = if self.secure { b"https" } else { b"http" };
        Ok(self.facts.forwarded_proto.value("X-Forwarded-Proto")?.unwrap_or(own))
    }

    /// The host this request was sent to: `:authority` in HTTP/2, `Host` in HTTP/1.1. Where both
    /// are there, or the request line names a host of its own, they must be the same (A17, A31).
    fn own_host(&self) -> Result<&'a [u8], Refusal> {
        let named = self.line.authority.map(str::as_bytes);
        let host = self.facts.host.written("Host")?; // an empty one is another host than any
        match (named, host) {
            (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => Err(Refusal::Disagreement),
            (Some(_), None) if self.line.version < Version::HTTP_2 => Err(Refusal::Missing("Host")),
            (Some(host), _) => Ok(host),
            (None, Some(host)) if !host.is_empty() => Ok(host),
            (None, _) => Err(Refusal::Missing("Host")),
        }
    }
}

/// Reads a sub-request in the dialect of `implementation`.
///
/// # Errors
///
/// A [`Refusal`] that says which fact is missing, doubled or unreadable.
pub fn read<'a>(implementation: Implementation, request: SubRequest<'a>) -> Result<Inquiry<'a>, Refusal> {
    match implementation {
        Implementation::ForwardAuth => forward_auth::read(request),
        Implementation::AuthRequest => auth_request::read(request),
        Implementation::ExtAuthz => ext_authz::read(request),
        Implementation::Legacy => legacy::read(request),
    }
}

/// The one value of `key` in the query of our own request line, if there is one; the first if there are several.
pub(super) fn query_value<'a>(query: Option<&'a str>, key: &str) -> Option<Cow<'a, str>> {
    let query = query?;
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == key).map(|(_, value)| value)
}

/// A header's value as text.
fn text(value: Option<&[u8]>) -> Option<Cow<'_, str>> {
    value.map(String::from_utf8_lossy)
}
