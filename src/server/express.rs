//! Reads the plain requests of an HTTP/1.1 connection without hyper, for a handler that wants them.
//!
//! Nearly all that a proxy asks has one shape: a line, some fields, no body, and the connection stays as it is. What
//! hyper spends on such a request goes into the map of its fields, which a decision doesn't need. So a request that is
//! recognised byte for byte is parsed in place and answered from one buffer.
//!
//! Everything else is hyper's: on the first request of another shape the connection and all of its unread bytes are handed
//! over, for good. Nothing here reads a body, knows where a strange message ends, or negotiates. What is answered here is
//! answered as hyper would have it written; `fuzz/src/express.rs` holds the two against each other. One thing differs: a
//! request is decided to its end even if its peer leaves meanwhile, so that nobody tries passwords and is gone before the
//! attempt counts.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use httparse::{Header, Status};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::connection::{Connection, caught, receive};
use super::listener::Handler;
use crate::clock::UnixTime;

/// Fields of a request that is read here; hyper takes more.
const FIELDS: usize = 64;

/// Bytes of a target that is read here; what is longer is hyper's to refuse.
const TARGET: usize = 8 * 1024;

/// Bytes of an answer that there is room for at first, and the most room that a buffer keeps from one request to the next.
const ROOM: usize = 1024;
const KEPT: usize = 4 * 1024;

/// A request that was recognised.
#[derive(Debug)]
pub struct Plain<'a> {
    /// Upper-case letters; never `CONNECT`.
    pub method: &'a str,
    /// Starts with a slash, and holds nothing that a target may not hold.
    pub target: &'a str,
    fields: &'a [Header<'a>],
}

impl<'a> Plain<'a> {
    /// Names, as they were written, and values.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter().map(|field| (field.name, field.value))
    }
}

/// What became of a connection.
pub(super) enum Outcome {
    /// It was closed, or is to be.
    Over,
    /// It goes on with hyper, beginning with these bytes.
    Hyper(BytesMut),
}

/// Answers plain requests, the first of which begins with `read`.
///
/// # Errors
///
/// When the connection breaks.
pub(super) async fn serve<S, H>(
    connection: &mut Connection<H>,
    stream: &mut S,
    mut read: BytesMut,
    secure: bool,
) -> std::io::Result<Outcome>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let Connection { handler, peer, limits, deadline, stop, .. } = connection;
    let stopped = stop.clone();
    let mut stopping = pin!(stop.wait_for(|&stop| stop));
    let mut out = Vec::with_capacity(ROOM);
    let mut seen = 0_usize;
    loop {
        if read.len() >= limits.header_bytes {
            return Ok(Outcome::Hyper(read));
        }
        let mut slots = [const { MaybeUninit::uninit() }; FIELDS];
        // Bytes that drip in are looked at once each; the whole again only when a head may have ended.
        let request = if seen == 0 || ends_a_head(read.get(seen.saturating_sub(3)..).unwrap_or_default()) {
            recognise(&read, &mut slots)
        } else {
            Recognised::Begun
        };
        seen = read.len();
        match request {
            Recognised::Begun => {}
            Recognised::Other => return Ok(Outcome::Hyper(read)),
            Recognised::Plain(request) => {
                deadline.asked();
                let answered = {
                    let work = pin!(handler.plain(&request, *peer, secure, &mut out));
                    caught(*peer, work).await
                };
                match answered {
                    Some(true) => {}
                    Some(false) => {
                        deadline.begin_head(); // it begins anew
                        return Ok(Outcome::Hyper(read));
                    }
                    None => fault(request.method, &mut out),
                }
                let is_last = stopped.has_changed().unwrap_or(true);
                if is_last {
                    say_that_this_was_all(&mut out);
                }
                deadline.answered();
                stream.write_all(&out).await?;
                stream.flush().await?;
                deadline.flushed();
                if is_last {
                    stream.shutdown().await?;
                    return Ok(Outcome::Over);
                }
                out.clear();
                read.clear();
                seen = 0;
                if read.capacity() > KEPT {
                    read = BytesMut::new();
                }
                if out.capacity() > KEPT {
                    out = Vec::with_capacity(ROOM);
                }
            }
        }
        let count = tokio::select! {
            biased;
            count = receive(stream, &mut read) => count?,
            _ = &mut stopping => 0,
        };
        if count == 0 {
            if stopped.has_changed().unwrap_or(true) && !read.is_empty() {
                return Ok(Outcome::Hyper(read)); // what has begun is finished, and then told that this was all
            }
            stream.shutdown().await?;
            return Ok(Outcome::Over);
        }
        deadline.heard();
    }
}

/// What the bytes read so far are.
enum Recognised<'a> {
    /// A plain request, from the first byte to the last.
    Plain(Plain<'a>),
    /// The beginning of a request, of which kind nobody can say yet.
    Begun,
    /// Something else.
    Other,
}

fn recognise<'a>(read: &'a [u8], slots: &'a mut [MaybeUninit<Header<'a>>]) -> Recognised<'a> {
    if read.is_empty() {
        return Recognised::Begun;
    }
    let mut request = httparse::Request::new(&mut []);
    let outcome = request.parse_with_uninit_headers(read, slots);
    let httparse::Request { method, path: target, version, headers: fields } = request;
    // What is known of the line may show already that it isn't ours. Of a target that has not ended yet, the length is
    // at most that of all bytes.
    let is_plain = method
        .is_none_or(|method| method != "CONNECT" && method.bytes().all(|byte| byte.is_ascii_uppercase()))
        && target.is_none_or(|target| target.starts_with('/') && target.bytes().all(may_stand_in_a_target))
        && target.map_or(read.len(), str::len) <= TARGET
        && version.is_none_or(|version| version == 1);
    match (outcome, method, target) {
        // The line has not ended; hyper refuses such a one at once.
        (Ok(Status::Partial), _, None) if read.contains(&b'#') => Recognised::Other,
        (Ok(Status::Partial), ..) if is_plain => Recognised::Begun,
        (Ok(Status::Complete(length)), Some(method), Some(target))
            if is_plain && length == read.len() && !fields.iter().any(frames) =>
        {
            Recognised::Plain(Plain { method, target, fields })
        }
        _ => Recognised::Other,
    }
}

/// Whether an empty line is among `bytes`.
fn ends_a_head(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"\n\r\n").is_some() || memchr::memmem::find(bytes, b"\n\n").is_some()
}

/// Puts `Connection: close` behind the status line of an answer (RFC 9112 §9.6).
fn say_that_this_was_all(out: &mut Vec<u8>) {
    if let Some(end) = memchr::memchr(b'\n', out) {
        out.splice(end + 1..end + 1, b"connection: close\r\n".iter().copied());
    }
}

/// What is answered where a fault of ours left a request without an answer.
fn fault(method: &str, out: &mut Vec<u8>) {
    const BODY: &[u8] = b"500 Internal Server Error";
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 25\r\ndate: ");
    with_date(|date| out.extend_from_slice(date));
    out.extend_from_slice(b"\r\n\r\n");
    if method != "HEAD" {
        out.extend_from_slice(BODY);
    }
}

/// A byte about which no two readers differ; not `#`, which begins what is no part of a target (A08).
fn may_stand_in_a_target(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte)
}

/// Whether a field says where the message ends or what becomes of the connection (RFC 9112 §6, §9).
fn frames(field: &Header<'_>) -> bool {
    match field.name.len() {
        14 if field.name.eq_ignore_ascii_case("content-length") => field.value != b"0",
        17 => field.name.eq_ignore_ascii_case("transfer-encoding"),
        10 => field.name.eq_ignore_ascii_case("connection"),
        7 => field.name.eq_ignore_ascii_case("upgrade"),
        6 => field.name.eq_ignore_ascii_case("expect"),
        _ => false,
    }
}

/// The present second as a `Date` field has it (RFC 9110 §5.6.7), written anew once a second.
pub fn with_date<T>(write: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let second = UnixTime::now().as_secs();
    DATE.with_borrow_mut(|(written, text)| {
        if *written != second {
            *written = second;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        write(text.as_bytes())
    })
}
