//! Just enough of HTTP/1.1 (RFC 9112) to send a request as it stands and to see one as it arrives. It tidies nothing:
//! order, case and repetitions stay.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Longer heads are refused; every proxy's own limit is below.
const MAX_HEAD_BYTES: u64 = 256 * 1024;

/// How long a body that was announced is waited for. A proxy that keeps the body back sends none, ever.
const BODY_PATIENCE: Duration = Duration::from_millis(300);

/// A start line and its header lines.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The request line or the status line, without its line end.
    pub start_line: String,
    /// Names as spelled, values trimmed.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` if the other side closed before it began one.
    ///
    /// # Errors
    ///
    /// What the connection says, and `InvalidData` for what is no head.
    pub async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
        let mut limited = from.take(MAX_HEAD_BYTES);
        let Some(start_line) = line(&mut limited).await? else { return Ok(None) };
        let mut head = Head { start_line, headers: Vec::new() };
        loop {
            let line = line(&mut limited).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(head));
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            head.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The second word of the start line: a request's target, an answer's status.
    pub fn second_word(&self) -> &str {
        self.start_line.split(' ').nth(1).unwrap_or_default()
    }

    /// The first word of the start line: a request's method.
    pub fn first_word(&self) -> &str {
        self.start_line.split(' ').next().unwrap_or_default()
    }

    /// The values of every line called `name`, whatever its case.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The first of them.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether `mark` stands anywhere in it.
    pub fn holds(&self, mark: &str) -> bool {
        self.start_line.contains(mark)
            || self.headers.iter().any(|(name, value)| name.contains(mark) || value.contains(mark))
    }

    /// The announcement of a body, if there is one.
    pub fn announces_body(&self) -> Option<String> {
        if let Some(coding) = self.value("transfer-encoding") {
            return Some(format!("Transfer-Encoding: {coding}"));
        }
        let length = self.value("content-length").filter(|length| *length != "0")?;
        Some(format!("Content-Length: {length}"))
    }
}

/// Takes what comes of a body and throws it away: closing a connection with unread bytes would tear the answer down.
pub async fn drain_body(head: &Head, from: &mut (impl AsyncBufRead + Unpin)) {
    if head.announces_body().is_none() {
        return;
    }
    let length = head.value("content-length").and_then(|length| length.parse().ok()).unwrap_or(u64::MAX);
    let mut body = from.take(length);
    let mut nowhere = tokio::io::sink();
    let drain = tokio::io::copy(&mut body, &mut nowhere);
    // Nothing depends on whether the body came whole, or at all.
    let _ = tokio::time::timeout(BODY_PATIENCE, drain).await;
}

async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes).await? == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::Head;

    async fn read(text: &str) -> std::io::Result<Option<Head>> {
        Head::read(&mut text.as_bytes()).await
    }

    #[tokio::test]
    async fn order_case_and_repetitions_stay() {
        let head = read("GET //a/../b?x HTTP/1.1\r\nB: 1\r\na: 2\r\nb:  3 \r\n\r\nbody").await.unwrap().unwrap();
        assert_eq!((head.first_word(), head.second_word()), ("GET", "//a/../b?x"));
        assert_eq!(head.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["B", "a", "b"]);
        assert_eq!(head.values("B").collect::<Vec<_>>(), ["1", "3"]);
        assert!(head.holds("../b") && head.holds("3") && !head.holds("body"));
    }

    #[tokio::test]
    async fn what_is_no_head_is_an_error_and_nothing_is_none() {
        assert!(read("").await.unwrap().is_none());
        for broken in ["GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n", "GET / HT"] {
            assert!(read(broken).await.is_err(), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_announced_by_either_header() {
        for (lines, expected) in [
            ("", None),
            ("Content-Length: 0\r\n", None),
            ("Content-Length: 7\r\n", Some("Content-Length: 7")),
            ("transfer-encoding: chunked\r\n", Some("Transfer-Encoding: chunked")),
        ] {
            let head = read(&format!("POST / HTTP/1.1\r\n{lines}\r\n")).await.unwrap().unwrap();
            assert_eq!(head.announces_body().as_deref(), expected, "{lines}");
        }
    }
}
