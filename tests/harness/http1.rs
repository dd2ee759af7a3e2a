//! Just enough of HTTP/1.1 (RFC 9112) for both ends of a test; it tidies nothing.

use std::io::{self, BufRead, Read};

/// A start line and its header lines, in order, repetitions kept.
#[derive(Debug)]
pub struct Head {
    pub start_line: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads a head; `None` if the other side closed before it began one.
    pub fn read(from: &mut impl BufRead) -> io::Result<Option<Head>> {
        let Some(start_line) = line(from)? else { return Ok(None) };
        let mut headers = Vec::new();
        loop {
            let line = line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                return Ok(Some(Head { start_line, headers }));
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The values of every header line called `name`, whatever its case.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        values(&self.headers, name)
    }

    /// Reads the body that this head announces. `to_end`: without an announcement it lasts until the connection ends.
    pub fn read_body(&self, from: &mut impl BufRead, to_end: bool) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.values("transfer-encoding").any(|coding| coding.eq_ignore_ascii_case("chunked")) {
            loop {
                let size = line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(|_| io::ErrorKind::InvalidData)?;
                from.by_ref().take(size).read_to_end(&mut body)?;
                while line(from)?.is_some_and(|trailer| size == 0 && !trailer.is_empty()) {}
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match self.values("content-length").next() {
            Some(length) => {
                let length: u64 = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
                from.by_ref().take(length).read_to_end(&mut body)?;
                if body.len() as u64 != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            None if to_end => {
                // A peer that ends without a TLS close_notify has still ended.
                if let Err(error) = from.read_to_end(&mut body)
                    && error.kind() != io::ErrorKind::UnexpectedEof
                {
                    return Err(error);
                }
            }
            None => {}
        }
        Ok(body)
    }
}

pub fn values<'a, 'n>(headers: &'a [(String, String)], name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
    headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}
