//! nginx: `X-Original-Method` and an absolute `X-Original-URL`.

use super::{SubRequest, query_value};
use crate::authz::inquiry::{Inquiry, Refusal};
use crate::object::Object;

pub(super) fn read(request: SubRequest<'_>) -> Result<Inquiry<'_>, Refusal> {
    let method = request.facts.original_method.required("X-Original-Method")?;
    let url = request.facts.original_url.required("X-Original-URL")?;
    Ok(Inquiry { object: Object::from_url(method, url)?, portal: query_value(request.line.query(), "authelia_url") })
}
