//! What applications make of a path.
//!
//! They differ. A path that all of them read alike has one reading, its *resource*: percent-decoded once. A path that
//! holds something ambiguous (dot segments in any spelling, `//`, `\`, `;`, an encoded `/ \ ? #`, a second layer of
//! encoding) has several. The first reading is always the usual one: decoded once, slashes merged, dot segments
//! resolved. No reading is ever dropped: what has too many is [`Malformed`].

use super::Malformed;

/// How many layers of percent-encoding are taken off.
const MAX_LAYERS: usize = 4;
/// How many readings of one path are looked at, so that one long path can't keep a worker busy.
pub const MAX_READINGS: usize = 256;
/// How many bytes all of them may take together.
pub const MAX_READINGS_BYTES: usize = 256 * 1024;

/// Whether a path holds dot segments or `//`.
pub fn has_crowded_segments(path: &str) -> bool {
    path.contains("//") || path.split('/').any(is_dot_segment)
}

fn is_dot_segment(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// All readings of a path that is not plain, the usual one first.
///
/// # Errors
///
/// What nobody can read, or what can be read in more ways than are looked at.
pub fn path_readings(path: &str) -> Result<Vec<String>, Malformed> {
    let once = decode(path, Separators::Decode, Strictness::EveryEscape)?;
    let ambiguous = once.contains(['\\', ';', '?', '#'])
        || has_crowded_segments(&once)
        || holds_escape(&once)
        || once.matches('/').count() != path.matches('/').count();
    if !ambiguous {
        return Ok(vec![once]);
    }
    let (usual, climbs) = resolve(&merge(&once), DotsAtEnd::Drop);
    if climbs {
        return Err(Malformed::AboveRoot);
    }

    // What a proxy makes of the path before anybody decodes it, or a container that cuts parameters first.
    let mut sent = Readings { found: vec![path.to_owned()], bytes: 0 };
    sent.add(path.replace("%2e", ".").replace("%2E", "."))?;
    sent.close(|text| Ok(clean(text)))?;

    let mut readings = Readings { found: vec![usual], bytes: 0 };
    for path in &sent.found {
        for separators in [Separators::Decode, Separators::Keep] {
            let mut text = decode(path, separators, Strictness::EveryEscape)?;
            for layer in 1.. {
                readings.add(text.clone())?;
                let next = decode(&text, separators, Strictness::WhatDecodes)?;
                if next == text {
                    break;
                }
                if layer == MAX_LAYERS {
                    return Err(Malformed::Ambiguous);
                }
                text = next;
            }
        }
    }
    readings.close(steps)?;
    Ok(readings.found)
}

/// What applications make of a reading in one step.
fn steps(text: &str) -> Result<Vec<String>, Malformed> {
    let mut made = clean(text);
    if holds_escape(text) {
        made.push(decode(text, Separators::Decode, Strictness::WhatDecodes)?);
        made.push(decode(text, Separators::Keep, Strictness::WhatDecodes)?);
    }
    if text.contains('\\') {
        made.push(text.replace('\\', "/"));
    }
    if let Some((cut, _)) = text.split_once(['?', '#']) {
        made.push(cut.to_owned());
    }
    Ok(made)
}

/// What cleaning a path comes to in one step, decoded or not.
fn clean(text: &str) -> Vec<String> {
    let mut made = Vec::new();
    if text.contains(';') {
        made.push(cut_parameters(text));
    }
    if text.contains("//") {
        made.push(merge(text));
    }
    if text.split('/').any(is_dot_segment) {
        // Above the root there is only the root, for those who get this far.
        made.push(resolve(text, DotsAtEnd::Drop).0);
        made.push(resolve(text, DotsAtEnd::Directory).0);
    }
    made
}

/// Distinct readings, bounded in number and size.
struct Readings {
    found: Vec<String>,
    bytes: usize,
}

impl Readings {
    fn add(&mut self, text: String) -> Result<(), Malformed> {
        if self.found.contains(&text) {
            return Ok(());
        }
        self.bytes += text.len();
        if self.found.len() >= MAX_READINGS || self.bytes > MAX_READINGS_BYTES {
            return Err(Malformed::Ambiguous);
        }
        self.found.push(text);
        Ok(())
    }

    /// Adds whatever the steps lead to, in any order: a proxy that cleans a path and an application
    /// behind it that decodes and cleans it again come to what neither would alone.
    fn close(&mut self, step: impl Fn(&str) -> Result<Vec<String>, Malformed>) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some(text) = self.found.get(at) {
            for reading in step(text)? {
                self.add(reading)?;
            }
            at += 1;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Separators {
    /// `%2f` becomes `/`, and so on.
    Decode,
    /// `%2f`, `%5c`, `%3f` and `%23` are data, and stay as they are.
    Keep,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// A `%` that is no escape is malformed: the client sent it.
    EveryEscape,
    /// A `%` that is no escape stays: it came out of another escape.
    WhatDecodes,
}

/// Takes off one layer of percent-encoding.
fn decode(text: &str, separators: Separators, strictness: Strictness) -> Result<String, Malformed> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            decoded.push(*byte);
            continue;
        }
        match escape(after) {
            Some(0..=0x1f | 0x7f) => return Err(Malformed::Control),
            Some(b'/' | b'\\' | b'?' | b'#') if separators == Separators::Keep => decoded.push(b'%'),
            Some(value) => {
                decoded.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            None if strictness == Strictness::EveryEscape => return Err(Malformed::Escape),
            None => decoded.push(b'%'),
        }
    }
    String::from_utf8(decoded).map_err(|_| Malformed::Utf8)
}

/// The byte that two hexadecimal digits at the start of `text` stand for.
fn escape(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn holds_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|after| escape(after.as_bytes()).is_some())
}

fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// Cuts `;…` off every segment, as Java containers do (A07).
fn cut_parameters(path: &str) -> String {
    let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.split('/').map(cut).collect::<Vec<_>>().join("/")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DotsAtEnd {
    /// `/a/b/..` is `/a`, as most libraries that clean paths have it.
    Drop,
    /// `/a/b/..` is `/a/`, as RFC 3986 §5.2.4 has it.
    Directory,
}

/// Resolves dot segments; also says whether they lead above the root.
fn resolve(path: &str, at_end: DotsAtEnd) -> (String, bool) {
    let (mut kept, mut climbs, mut last) = (Vec::new(), false, "");
    for segment in path.split('/').skip(1) {
        last = segment;
        match segment {
            "." => {}
            ".." => climbs |= kept.pop().is_none(),
            name => kept.push(name),
        }
    }
    let mut resolved = format!("/{}", kept.join("/"));
    if at_end == DotsAtEnd::Directory && is_dot_segment(last) && !resolved.ends_with('/') {
        resolved.push('/');
    }
    (resolved, climbs)
}
