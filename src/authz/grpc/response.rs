//! `CheckResponse`, after `envoy/service/auth/v3/external_auth.proto`.
//!
//! A message without a status is a yes to Envoy, so none is made but by [`CheckResponse::allow`], which
//! takes a [`Permit`], and by [`CheckResponse::deny`], whose status is never 0.

use hyper::{Response, StatusCode};
use prost::Message;

use crate::authz::answer::{Body, IDENTITY};
use crate::policy::Permit;
use crate::subject::Identity;

/// Codes of `google.rpc.Status`; any but 0 is a no to Envoy.
const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;

/// `HeaderValueOption.HeaderAppendAction`: replaces all that is there.
const OVERWRITE_IF_EXISTS_OR_ADD: i32 = 2;

/// What Envoy is told.
#[derive(Debug, PartialEq)]
pub(super) struct CheckResponse(wire::CheckResponse);

impl CheckResponse {
    /// Lets the request pass, as `identity` or as nobody, with the header fields called `remove` taken away and the
    /// `Cookie` header replaced by `cookies`, where given.
    ///
    /// Every identity header is set, and those without a value are taken away as well (A45): Envoy removes
    /// after it has set.
    pub fn allow(
        _permit: Permit,
        identity: Option<&Identity>,
        cookies: Option<String>,
        mut remove: Vec<String>,
    ) -> CheckResponse {
        let values = identity.map(Identity::header_values).unwrap_or_default();
        let mut headers = Vec::with_capacity(IDENTITY.len() + 1);
        for (name, value) in IDENTITY.iter().zip(values) {
            if value.is_empty() {
                remove.push(name.as_str().to_owned());
            }
            headers.push(overwrite(name.as_str(), String::from_utf8_lossy(&value).into_owned()));
        }
        match cookies {
            Some(cookies) if cookies.is_empty() => remove.push("cookie".to_owned()),
            Some(cookies) => headers.push(overwrite("cookie", cookies)),
            None => {}
        }
        CheckResponse(wire::CheckResponse {
            status: Some(wire::Status { code: OK }),
            http_response: Some(wire::HttpResponse::Ok(wire::OkHttpResponse { headers, headers_to_remove: remove })),
        })
    }

    /// Lets nothing pass, and has Envoy answer what an endpoint over HTTP would have answered.
    pub fn deny(answer: Response<Body>) -> CheckResponse {
        let (parts, body) = answer.into_parts();
        let code = match parts.status {
            StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::UNAUTHORIZED
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED => UNAUTHENTICATED,
            _ => PERMISSION_DENIED,
        };
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| overwrite(name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let body = body.into_inner().unwrap_or_default();
        let denied = wire::DeniedHttpResponse {
            status: Some(wire::HttpStatus { code: i32::from(parts.status.as_u16()) }),
            headers: headers.collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        };
        CheckResponse(wire::CheckResponse {
            status: Some(wire::Status { code }),
            http_response: Some(wire::HttpResponse::Denied(denied)),
        })
    }

    /// The message as it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

fn overwrite(name: &str, value: String) -> wire::HeaderValueOption {
    wire::HeaderValueOption {
        // In `value`: what is in `raw_value` reaches the other side empty (Envoy 1.40).
        header: Some(wire::HeaderValue { key: name.to_owned(), value }),
        append_action: OVERWRITE_IF_EXISTS_OR_ADD,
    }
}

pub(super) mod wire {
    //! The messages.

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CheckResponse {
        #[prost(message, optional, tag = "1")]
        pub status: Option<Status>,
        #[prost(oneof = "HttpResponse", tags = "2, 3")]
        pub http_response: Option<HttpResponse>,
    }

    /// `google.rpc.Status`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Status {
        #[prost(int32, tag = "1")]
        pub code: i32,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum HttpResponse {
        #[prost(message, tag = "2")]
        Denied(DeniedHttpResponse),
        #[prost(message, tag = "3")]
        Ok(OkHttpResponse),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct DeniedHttpResponse {
        #[prost(message, optional, tag = "1")]
        pub status: Option<HttpStatus>,
        #[prost(message, repeated, tag = "2")]
        pub headers: Vec<HeaderValueOption>,
        #[prost(string, tag = "3")]
        pub body: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OkHttpResponse {
        #[prost(message, repeated, tag = "2")]
        pub headers: Vec<HeaderValueOption>,
        #[prost(string, repeated, tag = "5")]
        pub headers_to_remove: Vec<String>,
    }

    /// `type.v3.HttpStatus`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HttpStatus {
        #[prost(int32, tag = "1")]
        pub code: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HeaderValueOption {
        #[prost(message, optional, tag = "1")]
        pub header: Option<HeaderValue>,
        #[prost(int32, tag = "3")]
        pub append_action: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct HeaderValue {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
}
