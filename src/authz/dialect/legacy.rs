//! `/api/verify`: either header set, for configurations written before there were dialects.
//!
//! `X-Original-URL` alone counts where it is given. As a proxy that sends one set hands a client's
//! copy of the other through, the two must then name the same target and method (A35); what a client adds
//! can so be refused, but never believed. A method that the proxy leaves out altogether is the client's to
//! name, as it is with Authelia: both sets have a header for it. The one of the sub-request stands in its place, and is not
//! relied upon where a rule asks for one.

use super::{SubRequest, query_value, text};
use crate::authz::inquiry::{Inquiry, Refusal, Seen};
use crate::object::Object;

pub(super) fn read(request: SubRequest<'_>) -> Result<Inquiry<'_>, Refusal> {
    let facts = request.facts;
    let forwarded = facts.forwarded_method.value("X-Forwarded-Method")?;
    let own = request.line.method.as_bytes();
    let portal = match query_value(request.line.query(), "rd") {
        Some(rd) => Some(rd),
        None => text(facts.portal.written("X-Authelia-URL")?),
    };
    let object = match facts.original_url {
        Seen::Absent => {
            let host = match facts.forwarded_host.value("X-Forwarded-Host")? {
                Some(host) => host,
                None => request.own_host()?,
            };
            let target = match facts.forwarded_uri.value("X-Forwarded-URI")? {
                Some(target) => target,
                None => request.line.target.as_bytes(),
            };
            let object = Object::from_parts(forwarded.unwrap_or(own), request.forwarded_scheme()?, host, target)?;
            if forwarded.is_some() { object } else { object.with_method_unnamed() }
        }
        Seen::Once(url) if !url.is_empty() => {
            let original = facts.original_method.value("X-Original-Method")?;
            let method = match (original, forwarded) {
                (Some(original), Some(forwarded)) if original != forwarded => return Err(Refusal::Disagreement),
                _ => original.or(forwarded),
            };
            let object = Object::from_url(method.unwrap_or(own), url)?;
            if disagrees(&request, method.unwrap_or(own), &object)? {
                return Err(Refusal::Disagreement);
            }
            if method.is_some() { object } else { object.with_method_unnamed() }
        }
        Seen::Once(_) => return Err(Refusal::Missing("X-Original-URL")),
        Seen::Repeated => return Err(Refusal::Repeated("X-Original-URL")),
    };
    Ok(Inquiry { object, portal })
}

/// Whether the `X-Forwarded-*` that were sent beside `X-Original-URL` name another target.
fn disagrees(request: &SubRequest<'_>, method: &[u8], object: &Object<'_>) -> Result<bool, Refusal> {
    let facts = request.facts;
    let scheme = facts.forwarded_proto.value("X-Forwarded-Proto")?;
    let host = facts.forwarded_host.value("X-Forwarded-Host")?;
    let target = facts.forwarded_uri.value("X-Forwarded-URI")?;
    if let Some(scheme) = scheme
        && !scheme.eq_ignore_ascii_case(object.scheme().as_str().as_bytes())
    {
        return Ok(true);
    }
    if host.is_none() && target.is_none() {
        return Ok(false);
    }
    let other = Object::from_parts(
        method,
        object.scheme().as_str().as_bytes(),
        host.unwrap_or(object.authority().as_bytes()),
        target.unwrap_or(object.target().as_bytes()),
    )?;
    Ok(other.host() != object.host() || other.target() != object.target())
}
