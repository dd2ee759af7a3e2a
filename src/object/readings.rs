//! What applications make of a path.
//!
//! They differ. A path that all of them read alike has one reading, its *resource*: percent-decoded once. A path that
//! holds something ambiguous (dot segments in any spelling, `//`, `\`, `;`, an encoded `/ \ ? #`, a second layer of
//! encoding) has several. The first reading is always the usual one: decoded once, slashes merged, dot segments
//! resolved. No reading is ever dropped: a path that has too many, or that takes too much work to read, is refused.

use super::Malformed;
use crate::work::{Budget, Exceeded, MAX_READINGS};

/// How many layers of percent-encoding are taken off.
const MAX_LAYERS: usize = 4;
/// What one byte of a reading costs: it is decoded or copied, checked, and searched for what is ambiguous.
pub const UNITS_PER_BYTE: usize = 2;

/// Whether a path holds dot segments or `//`.
pub fn has_crowded_segments(path: &str) -> bool {
    path.contains("//") || has_dot_segment(path)
}

fn has_dot_segment(path: &str) -> bool {
    segments(path).any(is_dot_segment)
}

/// What stands between the slashes of `path`, and before and behind them.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let ends = memchr::memchr_iter(b'/', path.as_bytes()).chain(std::iter::once(path.len()));
    ends.scan(0, |start, end| path.get(std::mem::replace(start, end + 1)..end))
}

fn is_dot_segment(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// All readings of a path that is not plain, the usual one first.
///
/// # Errors
///
/// What nobody can read; what can be read in more ways than are judged, or takes more work than `budget` covers.
pub fn path_readings(path: &str, budget: &mut Budget) -> Result<Vec<String>, Malformed> {
    let once = decode(path, Separators::Decode, Strictness::EveryEscape)?;
    let ambiguous = once.contains(['\\', ';', '?', '#'])
        || has_crowded_segments(&once)
        || holds_escape(&once)
        || once.matches('/').count() != path.matches('/').count();
    if !ambiguous {
        return Ok(vec![once]);
    }
    // For what was done up to here; a plain path costs no more than being received.
    budget.spend(UNITS_PER_BYTE * path.len())?;
    let usual = resolve(&merge(&once));
    if usual.climbs {
        return Err(Malformed::AboveRoot);
    }

    // What a proxy makes of the path before anybody decodes it, or a container that cuts parameters first.
    let mut sent = Readings { found: vec![path.to_owned()], budget };
    sent.make(path, |path| Ok(path.replace("%2e", ".").replace("%2E", ".")))?;
    sent.close(Readings::clean)?;
    let Readings { found: sent, budget } = sent;

    let mut readings = Readings { found: vec![usual.text], budget };
    for path in &sent {
        for separators in [Separators::Decode, Separators::Keep] {
            readings.peel(path, separators)?;
        }
    }
    readings.close(|readings, text| {
        readings.clean(text)?;
        readings.decode_again(text)
    })?;
    Ok(readings.found)
}

/// Distinct readings of one path, bounded in number and in the work that making them takes: whatever a step makes is paid
/// for, even if it was known.
struct Readings<'b> {
    found: Vec<String>,
    budget: &'b mut Budget,
}

impl Readings<'_> {
    /// Adds what `step` makes of `text`.
    fn make(&mut self, text: &str, step: impl FnOnce(&str) -> Result<String, Malformed>) -> Result<(), Malformed> {
        self.budget.spend(UNITS_PER_BYTE * text.len())?;
        let made = step(text)?;
        self.add(made)
    }

    fn add(&mut self, text: String) -> Result<(), Malformed> {
        for known in &self.found {
            if known.len() == text.len() {
                self.budget.spend(text.len() / 8)?;
                if *known == text {
                    return Ok(());
                }
            }
        }
        if self.found.len() >= MAX_READINGS {
            return Err(Exceeded::Readings.into());
        }
        self.found.push(text);
        Ok(())
    }

    /// Adds whatever `steps` lead to, in any order: a proxy that cleans a path and an application
    /// behind it that decodes and cleans it again come to what neither would alone.
    fn close(&mut self, steps: impl Fn(&mut Self, &str) -> Result<(), Malformed>) -> Result<(), Malformed> {
        let mut at = 0;
        while let Some(text) = self.found.get(at).cloned() {
            steps(self, &text)?;
            at += 1;
        }
        Ok(())
    }

    /// Takes off one layer of encoding after the other.
    fn peel(&mut self, path: &str, separators: Separators) -> Result<(), Malformed> {
        self.budget.spend(UNITS_PER_BYTE * path.len())?;
        let mut text = decode(path, separators, Strictness::EveryEscape)?;
        for layer in 1.. {
            self.budget.spend(UNITS_PER_BYTE * text.len())?;
            let next = decode(&text, separators, Strictness::WhatDecodes)?;
            let is_last = next == text;
            self.add(text)?;
            if is_last {
                break;
            }
            if layer == MAX_LAYERS {
                return Err(Exceeded::Readings.into());
            }
            text = next;
        }
        Ok(())
    }

    /// What cleaning a path comes to in one step, decoded or not.
    fn clean(&mut self, text: &str) -> Result<(), Malformed> {
        if text.contains(';') {
            self.make(text, |text| Ok(cut_parameters(text)))?;
        }
        if text.contains("//") {
            self.make(text, |text| Ok(merge(text)))?;
        }
        if has_dot_segment(text) {
            self.budget.spend(UNITS_PER_BYTE * text.len())?;
            // Above the root there is only the root, for those who get this far.
            let Resolved { text, dots_at_end, .. } = resolve(text);
            // `/a/b/..` is `/a/` as RFC 3986 §5.2.4 has it, and `/a` as most libraries that clean paths do.
            if dots_at_end && !text.ends_with('/') {
                self.add(format!("{text}/"))?;
            }
            self.add(text)?;
        }
        Ok(())
    }

    /// What an application makes of a path that was decoded before.
    fn decode_again(&mut self, text: &str) -> Result<(), Malformed> {
        if holds_escape(text) {
            self.make(text, |text| decode(text, Separators::Decode, Strictness::WhatDecodes))?;
            self.make(text, |text| decode(text, Separators::Keep, Strictness::WhatDecodes))?;
        }
        if text.contains('\\') {
            self.make(text, |text| Ok(text.replace('\\', "/")))?;
        }
        if let Some((cut, _)) = text.split_once(['?', '#']) {
            self.make(text, |_| Ok(cut.to_owned()))?;
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
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (before, from) = rest.split_at_checked(at).unwrap_or_default();
        decoded.extend_from_slice(before);
        let after = from.get(1..).unwrap_or_default();
        rest = after;
        match percent_escape(after) {
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
    decoded.extend_from_slice(rest);
    String::from_utf8(decoded).map_err(|_| Malformed::Utf8)
}

/// The byte that two hexadecimal digits at the start of `text` stand for: what follows a `%` (RFC 3986 §2.1).
pub(crate) fn percent_escape(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn holds_escape(text: &str) -> bool {
    text.split('%').skip(1).any(|after| percent_escape(after.as_bytes()).is_some())
}

fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    let mut previous = None;
    for c in path.chars() {
        if c != '/' || previous != Some('/') {
            merged.push(c);
        }
        previous = Some(c);
    }
    merged
}

/// Cuts `;…` off every segment, as Java containers do (A07).
fn cut_parameters(path: &str) -> String {
    let mut cut = String::with_capacity(path.len());
    for (n, segment) in segments(path).enumerate() {
        if n > 0 {
            cut.push('/');
        }
        cut.push_str(segment.split_once(';').map_or(segment, |(name, _)| name));
    }
    cut
}

/// A path without its dot segments.
struct Resolved {
    text: String,
    /// Whether they lead above the root.
    climbs: bool,
    /// Whether the path ended in one.
    dots_at_end: bool,
}

fn resolve(path: &str) -> Resolved {
    let (mut text, mut climbs, mut last) = (String::with_capacity(path.len() + 1), false, "");
    for segment in segments(path).skip(1) {
        last = segment;
        match segment {
            "." => {}
            ".." => match text.rfind('/') {
                Some(parent) => text.truncate(parent),
                None => climbs = true,
            },
            name => {
                text.push('/');
                text.push_str(name);
            }
        }
    }
    if text.is_empty() {
        text.push('/');
    }
    Resolved { text, climbs, dots_at_end: is_dot_segment(last) }
}
