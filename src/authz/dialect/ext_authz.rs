//! Envoy over HTTP: the client's own method, host, path and query, the path behind a prefix.
//!
//! The prefix may or may not end in a slash, so `/a` arrives as `//a` or as `/a` (W27). Path and host
//! are never glued together, and the query is part of what is asked (W2).

use super::{SubRequest, text};
use crate::authz::inquiry::{Inquiry, Refusal};
use crate::object::Object;

pub(super) fn read(request: SubRequest<'_>) -> Result<Inquiry<'_>, Refusal> {
    let line = request.line;
    // `rest` is a part of the path, so what follows it in the target is the query.
    let after_prefix = match request.rest.strip_prefix('/') {
        Some(path) if path.starts_with('/') => path,
        Some(_) | None => request.rest,
    };
    let target = line.target.get(line.path.len() - after_prefix.len()..).unwrap_or_default();
    // Only a query, or nothing: the path is `/`, and there is no text to borrow it from.
    if !target.is_empty() && !target.starts_with('/') {
        return Err(Refusal::Malformed(crate::object::Malformed::Target));
    }
    let object = Object::from_parts(
        line.method.as_bytes(),
        request.forwarded_scheme()?,
        request.own_host()?,
        target.as_bytes(),
    )?;
    Ok(Inquiry { object, portal: text(request.facts.portal.written("X-Authelia-URL")?) })
}
