//! gRPC over HTTP/2, as much of it as one unary method needs: a message behind five bytes, a status in
//! the trailers (gRPC's `PROTOCOL-HTTP2.md`). It knows nothing of what the messages say.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};

/// An answer on the gRPC listener.
pub type Reply = Response<ReplyBody>;

/// One message or none, and a status behind it.
pub type ReplyBody = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The length of what stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The status codes that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
}

/// Why there is no message: never OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    code: Code,
    message: &'static str,
}

impl Status {
    /// `message` is ASCII without `%`, so that it need not be encoded.
    pub const fn new(code: Code, message: &'static str) -> Status {
        Status { code, message }
    }

    pub fn message(&self) -> &'static str {
        self.message
    }
}

/// The answer to a request that is no gRPC call, if it is none.
pub(super) fn is_no_call(parts: &Parts) -> Option<Reply> {
    let status = if parts.version != Version::HTTP_2 {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED
    } else if parts.method != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !is_protobuf(&parts.headers) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut reply = Response::new(Full::default().with_trailers(ready(None)));
    *reply.status_mut() = status;
    Some(reply)
}

/// `application/grpc` or `application/grpc+proto`, whatever parameters follow.
fn is_protobuf(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc") || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// The one message of a call, of at most `limit` bytes, which must be there within `time`.
///
/// # Errors
///
/// `DeadlineExceeded` if it is not there in time, `ResourceExhausted` if it is longer, `Unimplemented` if it is compressed, `Internal` if it is cut short,
/// missing, or followed by anything.
pub(super) async fn read<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    const TOO_LONG: Status = Status::new(Code::ResourceExhausted, "the message is too long");
    let collected = tokio::time::timeout(time, Limited::new(body, limit.saturating_add(PREFIX)).collect()).await;
    let mut received = match collected.map_err(|_| Status::new(Code::DeadlineExceeded, "the message took too long"))? {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(TOO_LONG),
        Err(_) => return Err(Status::new(Code::Internal, "the call broke off")),
    };
    if received.len() < PREFIX {
        return Err(Status::new(Code::Internal, "no message"));
    }
    let (compressed, length) = (received.get_u8(), received.get_u32() as usize);
    match compressed {
        0 => {}
        1 => return Err(Status::new(Code::Unimplemented, "compressed messages are not served")),
        _ => return Err(Status::new(Code::Internal, "no gRPC message")),
    }
    if length > limit {
        return Err(TOO_LONG);
    }
    if received.len() != length {
        return Err(Status::new(Code::Internal, "one whole message is expected"));
    }
    Ok(received)
}

/// Takes what a peer sends whose call is refused unread, up to `limit` bytes and for at most `time`; nothing is kept.
///
/// A stream that is answered before its end is reset, and clients that are sending still, as curl, then see the
/// reset and not the answer (RFC 9113 section 8.1).
pub(super) async fn discard<B: Body<Data = Bytes>>(body: B, limit: usize, time: Duration) {
    let to_the_end = async {
        let mut body = std::pin::pin!(body);
        let mut left = limit;
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    // Whatever is left then is theirs to lose.
    let _ = tokio::time::timeout(time, to_the_end).await;
}

/// Answers with a message, and OK.
pub(super) fn reply(message: &[u8]) -> Reply {
    let Ok(length) = u32::try_from(message.len()) else {
        return refuse(Status::new(Code::Internal, "the answer is too long"));
    };
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    respond(framed.freeze(), trailers)
}

/// Answers without a message.
pub(super) fn refuse(status: Status) -> Reply {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(GRPC_STATUS, HeaderValue::from(status.code as u16));
    trailers.insert(GRPC_MESSAGE, HeaderValue::from_static(status.message));
    respond(Bytes::new(), trailers)
}

fn respond(message: Bytes, trailers: HeaderMap) -> Reply {
    let mut reply = Response::new(Full::new(message).with_trailers(ready(Some(Ok(trailers)))));
    reply.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    reply
}
