//! Refuses a request line that holds a `#` (A08).
//!
//! A request target has no fragment (RFC 9112 §3.2), and hyper cuts one off without a word: Envoy's question about
//! `/open/#/../../secret` would be judged as one about `/open/`, whatever the application makes of the rest. So the bytes are
//! looked at before hyper reads them, and a `#` in a request line becomes a byte that hyper answers with 400.
//!
//! No framing is followed. A line is taken for a request line if it begins with a method, which is a token (RFC 9110 §5.6.2)
//! and a space. No header begins so, for its name ends in a colon. A body may, as where a chunk begins in the middle of a
//! password: so this is for connections whose bodies are left unread, those of the gate. They are closed after the answer to
//! a request with a body, so a request line always starts a line.

/// What replaces a `#`: no request line may hold it.
const REFUSED: u8 = 0x01;

/// Where in a line of HTTP/1.1 the bytes stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RequestLines {
    /// At its start.
    #[default]
    Start,
    /// In its first word, which is a token so far.
    Method,
    /// Behind the method.
    Target,
    /// In a line that is no request line.
    Other,
}

impl RequestLines {
    /// Spoils every `#` of a request line in `bytes`, which follow those of the call before.
    pub(super) fn screen(&mut self, bytes: &mut [u8]) {
        // Without a `#` only the last line matters; of a whole request that is an empty one.
        let from = match memchr::memchr(b'#', bytes) {
            Some(_) => 0,
            None => memchr::memrchr(b'\n', bytes).unwrap_or(0),
        };
        for byte in bytes.iter_mut().skip(from) {
            *self = match (*self, *byte) {
                (_, b'\n') => RequestLines::Start,
                (RequestLines::Start | RequestLines::Method, byte) if is_token(byte) => RequestLines::Method,
                (RequestLines::Method, b' ') => RequestLines::Target,
                (RequestLines::Start | RequestLines::Method, _) => RequestLines::Other,
                (RequestLines::Target, b'#') => {
                    *byte = REFUSED;
                    RequestLines::Target
                }
                (place, _) => place,
            };
        }
    }
}

/// Whether a method may hold `byte`: hyper refuses a request line that begins with anything else.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::RequestLines;

    #[test]
    fn a08_a_fragment_in_a_request_line_is_spoilt_wherever_the_bytes_are_cut() {
        #[rustfmt::skip]
        let table = [
            ("a fragment",                   "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",                      "GET /a\u{1}b HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("two",                          "GET /#a# HTTP/1.1\r\n",                                     "GET /\u{1}a\u{1} HTTP/1.1\r\n"),
            ("the second request",           "GET / HTTP/1.1\r\nA: b\r\n\r\nGET /#x HTTP/1.1\r\n",        "GET / HTTP/1.1\r\nA: b\r\n\r\nGET /\u{1}x HTTP/1.1\r\n"),
            ("lines that end in LF alone",   "GET / HTTP/1.1\nA: b\n\nGET /#x HTTP/1.1\n",                "GET / HTTP/1.1\nA: b\n\nGET /\u{1}x HTTP/1.1\n"),
            ("after an empty line",          "\r\nGET /#x HTTP/1.1\r\n",                                  "\r\nGET /\u{1}x HTTP/1.1\r\n"),
            ("a header may hold one",        "GET / HTTP/1.1\r\nCookie: a=#b\r\nReferer:http://a/#b c\r\n", "GET / HTTP/1.1\r\nCookie: a=#b\r\nReferer:http://a/#b c\r\n"),
            ("an encoded one is data",       "GET /a%23b HTTP/1.1\r\n",                                   "GET /a%23b HTTP/1.1\r\n"),
            ("an odd method",                "M-S*1! /#x HTTP/1.1\r\n",                                 "M-S*1! /\u{1}x HTTP/1.1\r\n"),
            ("a body of JSON",               "POST / HTTP/1.1\r\n\r\n{ \"a\": \"b #c\",\n  \"d\": \"#\" }", "POST / HTTP/1.1\r\n\r\n{ \"a\": \"b #c\",\n  \"d\": \"#\" }"),
            ("a form",                       "POST / HTTP/1.1\r\n\r\na=b c#d",                          "POST / HTTP/1.1\r\n\r\na=b c#d"),
            ("a method is hyper's business", "G#T / HTTP/1.1\r\n",                                        "G#T / HTTP/1.1\r\n"),
        ];
        for (because, sent, read) in table {
            for size in [1, 2, 3, 7, 1_000] {
                let mut lines = RequestLines::default();
                let mut bytes = sent.as_bytes().to_vec();
                bytes.chunks_mut(size).for_each(|chunk| lines.screen(chunk));
                assert_eq!(String::from_utf8(bytes).unwrap(), read, "{because}, {size} bytes at a time");
            }
        }
    }
}
