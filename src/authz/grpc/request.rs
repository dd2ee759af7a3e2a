//! `CheckRequest`, as much of it as is read, and the client's header fields in it.
//!
//! After `envoy/service/auth/v3/attribute_context.proto`, `external_auth.proto` and
//! `envoy/config/core/v3/{address,base}.proto`. Text is taken as bytes: a header of a client's may be
//! anything, and a request that holds such a one must be answered all the same (A59). Fields that are
//! not named here are passed over.

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::authz::inquiry::Refusal;
use crate::peer::Peer;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AttributeContext {
    #[prost(message, optional, tag = "1")]
    pub source: Option<Source>,
    #[prost(message, optional, tag = "4")]
    pub request: Option<AttributeRequest>,
}

/// `AttributeContext.Peer`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Source {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Address {
    #[prost(oneof = "Place", tags = "1, 2")]
    pub place: Option<Place>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Place {
    #[prost(message, tag = "1")]
    Socket(SocketAddress),
    #[prost(message, tag = "2")]
    Pipe(Pipe),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SocketAddress {
    #[prost(bytes = "bytes", tag = "2")]
    pub address: Bytes,
}

/// A unix socket; which one is of no interest.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Pipe {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AttributeRequest {
    #[prost(message, optional, tag = "2")]
    pub http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpRequest {
    #[prost(bytes = "bytes", tag = "2")]
    pub method: Bytes,
    /// A map: repeated fields are joined. On the wire a map is a list of entries.
    #[prost(message, repeated, tag = "3")]
    pub headers: Vec<MapEntry>,
    #[prost(bytes = "bytes", tag = "4")]
    pub path: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    pub host: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    pub scheme: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    pub query: Bytes,
    #[prost(bytes = "bytes", tag = "8")]
    pub fragment: Bytes,
    /// Instead of `headers` where the filter says `encode_raw_headers`: each field as it came.
    #[prost(message, optional, tag = "13")]
    pub header_map: Option<RawHeaders>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MapEntry {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

/// `core.v3.HeaderMap`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawHeaders {
    #[prost(message, repeated, tag = "1")]
    pub headers: Vec<RawHeader>,
}

/// `core.v3.HeaderValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RawHeader {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub raw_value: Bytes,
}

impl RawHeader {
    fn value(&self) -> &Bytes {
        if self.raw_value.is_empty() { &self.value } else { &self.raw_value }
    }
}

impl AttributeContext {
    /// The HTTP request, if it is one.
    pub fn http(&self) -> Option<&HttpRequest> {
        self.request.as_ref()?.http.as_ref()
    }

    /// Who spoke to Envoy; `None` where nobody is named, or by something that is no address.
    pub fn source(&self) -> Option<Peer> {
        match self.source.as_ref()?.address.as_ref()?.place.as_ref()? {
            Place::Socket(socket) => {
                let address = std::str::from_utf8(&socket.address).ok()?;
                address.parse().ok().map(Peer::at)
            }
            Place::Pipe(_) => Some(Peer::Unix),
        }
    }
}

/// The client's header fields.
#[derive(Debug)]
pub(super) struct Fields {
    /// All of them but the pseudo-header fields and the aliases.
    pub headers: HeaderMap,
    /// Names that an application may take for an identity header, once each.
    pub aliases: Vec<String>,
}

impl Fields {
    /// Reads whichever form was sent.
    ///
    /// # Errors
    ///
    /// [`Refusal::Disagreement`] if both forms are there, or if a pseudo-header field says other than its
    /// attribute; [`Refusal::Unreadable`] for what can't be a header field.
    pub fn read(http: &HttpRequest) -> Result<Fields, Refusal> {
        let raw = http.header_map.as_ref().map_or(&[][..], |raw| &raw.headers);
        if !raw.is_empty() && !http.headers.is_empty() {
            return Err(Refusal::Disagreement);
        }
        let joined = http.headers.iter().map(|field| (&field.key, &field.value));
        let raw = raw.iter().map(|field| (&field.key, field.value()));
        let mut fields = Fields { headers: HeaderMap::with_capacity(http.headers.len()), aliases: Vec::new() };
        for (name, value) in joined.chain(raw) {
            if name.starts_with(b":") {
                if !http.agrees(name, value) {
                    return Err(Refusal::Disagreement);
                }
                continue;
            }
            let name = HeaderName::from_bytes(name).map_err(|_| Refusal::Unreadable)?;
            if is_identity_alias(name.as_str()) {
                if !fields.aliases.iter().any(|known| known == name.as_str()) {
                    fields.aliases.push(name.as_str().to_owned());
                }
                continue;
            }
            let value = HeaderValue::from_maybe_shared(value.clone()).map_err(|_| Refusal::Unreadable)?;
            fields.headers.try_append(name, value).map_err(|_| Refusal::Unreadable)?;
        }
        Ok(fields)
    }
}

impl HttpRequest {
    /// Whether the pseudo-header field `name` says what its attribute says; those without one don't matter.
    fn agrees(&self, name: &[u8], value: &[u8]) -> bool {
        match name {
            b":authority" => value.eq_ignore_ascii_case(&self.host),
            b":scheme" => value.eq_ignore_ascii_case(&self.scheme),
            b":method" => value == self.method,
            b":path" => value == self.path,
            _ => true,
        }
    }
}

/// Whether a name is no identity header but becomes one where everything but letters and digits is taken
/// for the same, as CGI, WSGI and PHP do: `remote_user`, `remote.user` (A46).
fn is_identity_alias(name: &str) -> bool {
    if name.starts_with("remote-") || !name.starts_with("remote") {
        return false;
    }
    let folded = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    crate::authz::answer::IDENTITY.iter().any(|identity| identity.as_str() == folded)
}
