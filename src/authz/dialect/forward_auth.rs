//! Traefik, Caddy, HAProxy, Skipper: `X-Forwarded-Method`, `-Proto`, `-Host` and `-URI`.

use super::{SubRequest, query_value};
use crate::authz::inquiry::{Inquiry, Refusal};
use crate::object::Object;

pub(super) fn read(request: SubRequest<'_>) -> Result<Inquiry<'_>, Refusal> {
    let facts = request.facts;
    let target = facts.forwarded_uri.value("X-Forwarded-URI")?;
    let object = Object::from_parts(
        facts.forwarded_method.required("X-Forwarded-Method")?,
        request.forwarded_scheme()?,
        facts.forwarded_host.required("X-Forwarded-Host")?,
        target.unwrap_or_default(),
    )?;
    let object = if target.is_some() { object } else { object.with_target_unnamed() };
    Ok(Inquiry { object, portal: query_value(request.line.query(), "authelia_url") })
}
