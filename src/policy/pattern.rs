//! Patterns for hosts and resources: parse one, match one.
//!
//! A pattern is sorted by its meaning when it is parsed, so that the cheapest test that can decide it
//! is the one that runs; a regular expression runs only where nothing simpler says the same.
//!
//! Hosts are compared in lower case, as [`Object::host`](crate::object::Object::host) gives them;
//! resources by letter case. An expression with a group named `User` or `Group` also compares what
//! that group matched with the subject, ignoring ASCII case; for an anonymous subject the expression
//! alone decides.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use regex::Regex;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use crate::fault::Fault;
use crate::object::is_label;
use crate::policy::syntax;
use crate::subject::Subject;
use crate::work::{Budget, Exceeded};

/// Which hosts a rule is about: one entry of `domain` or `domain_regex`.
#[derive(Clone, Debug)]
pub struct HostPattern {
    pub(super) text: Box<str>,
    pub(super) kind: HostKind,
}

/// What a host pattern means. Text is in lower case.
#[derive(Clone, Debug)]
pub(super) enum HostKind {
    /// This host.
    Exact(Box<str>),
    /// `*.example.com`: hosts that end in this text, which begins with a dot.
    Suffix(Box<str>),
    /// `{user}REST`: the user's name and this rest.
    User(Box<str>),
    /// `{group}REST`: the name of one of the subject's groups and this rest.
    Group(Box<str>),
    /// Hosts that the expression matches.
    Regex(Expression),
}

impl HostPattern {
    /// An entry of `domain`: a host, `*.` and a host, or `{user}` or `{group}` and a rest.
    ///
    /// Names outside ASCII are taken in their `xn--` form (RFC 5891), the form in which browsers send them.
    ///
    /// # Errors
    ///
    /// A [`Fault`] if nothing is written, or if there is no `xn--` form of it.
    pub fn domain(text: &str) -> Result<HostPattern, Fault> {
        if text.is_empty() {
            return Err(Fault::new("an empty domain").help("Write a host such as `app.example.com`, or leave it out."));
        }
        let kind = if let Some(rest) = text.strip_prefix("{user}") {
            HostKind::User(ascii(rest)?)
        } else if let Some(rest) = text.strip_prefix("{group}") {
            HostKind::Group(ascii(rest)?)
        } else if let Some(rest) = text.strip_prefix("*.") {
            HostKind::Suffix(format!(".{}", ascii(rest)?).into())
        } else {
            HostKind::Exact(ascii(text)?)
        };
        Ok(HostPattern { text: text.into(), kind })
    }

    /// An entry of `domain_regex`: a regular expression in RE2 syntax, searched for anywhere in the
    /// host in lower case.
    ///
    /// # Errors
    ///
    /// A [`Fault`] that points at what can't be read.
    pub fn regex(text: &str) -> Result<HostPattern, Fault> {
        let parsed = syntax::parse(text)?;
        Ok(HostPattern { text: text.into(), kind: HostKind::Regex(Expression::compile(text, &parsed)?) })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is an entry of `domain_regex`.
    pub fn is_regex(&self) -> bool {
        matches!(self.kind, HostKind::Regex(_))
    }

    /// Whether the answer depends on who asks.
    pub fn asks_for_subject(&self) -> bool {
        match &self.kind {
            HostKind::Exact(_) | HostKind::Suffix(_) => false,
            HostKind::User(_) | HostKind::Group(_) => true,
            HostKind::Regex(expression) => expression.asks_for_subject(),
        }
    }

    /// Whether `host` is one of these, for this subject.
    ///
    /// # Errors
    ///
    /// [`Exceeded::Work`] where `budget` does not cover it.
    pub(super) fn matches(&self, subject: &Subject<'_>, host: &str, budget: &mut Budget) -> Result<bool, Exceeded> {
        match &self.kind {
            HostKind::Exact(exact) => Ok(**exact == *host),
            HostKind::Suffix(suffix) => Ok(host.len() > suffix.len() && host.ends_with(&**suffix)),
            HostKind::Regex(expression) => expression.search(subject, host, budget),
            HostKind::User(rest) | HostKind::Group(rest) => {
                let Some(name) = host.strip_suffix(&**rest).filter(|name| !name.is_empty()) else { return Ok(false) };
                if subject.is_anonymous() {
                    return Ok(true);
                }
                // A name that is not one label never is one (A29), so `a.b` can't become two.
                let is_name = |known: &str| is_label(known) && known.eq_ignore_ascii_case(name);
                Ok(match &self.kind {
                    HostKind::User(_) => subject.username.is_some_and(is_name),
                    _ => subject.groups.iter().any(is_name),
                })
            }
        }
    }
}

/// A domain as hosts are compared: lower case, ASCII, no trailing dot, addresses in their one form.
fn ascii(text: &str) -> Result<Box<str>, Fault> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(address.to_canonical().to_string().into());
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_ascii() {
        return Ok(text.to_ascii_lowercase().into());
    }
    let bare = text.trim_start_matches(['.', '-']);
    let lead = text.strip_suffix(bare).unwrap_or_default();
    match url::Host::parse(bare) {
        Ok(url::Host::Domain(ascii)) => Ok(format!("{lead}{ascii}").into()),
        _ => Err(Fault::new(format!("`{text}` is not a domain name"))
            .help("Write it as browsers send it, beginning with `xn--`.")),
    }
}

/// Which paths and queries a rule is about: one entry of `resources`, a regular expression in RE2
/// syntax searched for anywhere in the path and query.
#[derive(Clone, Debug)]
pub struct ResourcePattern {
    pub(super) text: Box<str>,
    pub(super) form: Form,
    /// Every resource that matches begins with one of these; with nothing, where there is an empty one.
    pub(super) prefixes: Vec<Box<str>>,
    /// Whether the answer may depend on what the query holds.
    pub(super) reaches_query: bool,
}

/// A resource pattern, sorted by what it takes to decide it. Resources hold no line breaks, so `.*`
/// reaches to their end.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// `^lit`, `^lit.*$`: begins so.
    Prefix(Box<str>),
    /// `^lit$`: is this.
    Equals(Box<str>),
    /// `^lit([/?].*)?$`, `^lit(/|$)`: begins so, and either ends there or goes on with one of these bytes.
    Boundary(Box<str>, Box<[u8]>),
    /// Anything else.
    Regex(Expression),
}

impl ResourcePattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it takes an expression to decide it.
    pub(super) fn is_regex(&self) -> bool {
        matches!(self.form, Form::Regex(_))
    }

    /// Whether the answer depends on who asks.
    pub fn asks_for_subject(&self) -> bool {
        matches!(&self.form, Form::Regex(expression) if expression.asks_for_subject())
    }

    /// Whether the resource is one of these, for this subject.
    ///
    /// # Errors
    ///
    /// [`Exceeded::Work`] where `budget` does not cover it.
    pub(super) fn matches(&self, subject: &Subject<'_>, resource: &str, budget: &mut Budget) -> Result<bool, Exceeded> {
        match &self.form {
            Form::Prefix(prefix) => Ok(resource.starts_with(&**prefix)),
            Form::Equals(whole) => Ok(**whole == *resource),
            Form::Boundary(prefix, next) => Ok(match resource.strip_prefix(&**prefix).map(str::as_bytes) {
                Some([]) => true,
                Some([byte, ..]) => next.contains(byte),
                None => false,
            }),
            Form::Regex(expression) => {
                budget.spend(self.prefixes.len())?;
                if !self.prefixes.iter().any(|prefix| resource.starts_with(&**prefix)) {
                    return Ok(false);
                }
                expression.search(subject, resource, budget)
            }
        }
    }
}

impl FromStr for ResourcePattern {
    type Err = Fault;

    fn from_str(text: &str) -> Result<ResourcePattern, Fault> {
        let parsed = syntax::parse(text)?;
        let simple = if parsed.user || parsed.group { None } else { simple_form(&parsed.hir) };
        let form = match simple {
            Some(form) => form,
            None => Form::Regex(Expression::compile(text, &parsed)?),
        };
        let prefixes = match &form {
            Form::Prefix(literal) | Form::Equals(literal) | Form::Boundary(literal, _) => vec![literal.clone()],
            Form::Regex(_) => prefixes(&parsed.hir),
        };
        let reaches_query = match &form {
            Form::Prefix(literal) | Form::Equals(literal) | Form::Boundary(literal, _) => literal.contains('?'),
            Form::Regex(_) => {
                !parsed.hir.properties().look_set_prefix().contains(Look::Start) || takes_question_mark(&parsed.hir)
            }
        };
        Ok(ResourcePattern { text: text.into(), form, prefixes, reaches_query })
    }
}

/// Whether some part of the expression takes a `?`, behind which the query begins.
fn takes_question_mark(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.contains(&b'?'),
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| range.start() <= '?' && '?' <= range.end())
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| range.start() <= b'?' && b'?' <= range.end())
        }
        HirKind::Capture(capture) => takes_question_mark(&capture.sub),
        HirKind::Repetition(repetition) => takes_question_mark(&repetition.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(takes_question_mark),
        HirKind::Empty | HirKind::Look(_) => false,
    }
}

/// The form that says the same as the expression without running one, if there is one.
fn simple_form(hir: &Hir) -> Option<Form> {
    let plain = without_captures(hir);
    let parts = match plain.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(&plain),
    };
    let rest = match parts {
        [] => return Some(Form::Prefix("".into())),
        [only] if matches!(only.kind(), HirKind::Empty) || is_anything(only) => return Some(Form::Prefix("".into())),
        [start, rest @ ..] if matches!(start.kind(), HirKind::Look(Look::Start)) => rest,
        _ => return None,
    };
    let (literal, rest) = match rest.split_first() {
        Some((first, after)) => match first.kind() {
            HirKind::Literal(literal) => (std::str::from_utf8(&literal.0).ok()?, after),
            _ => ("", rest),
        },
        None => ("", rest),
    };
    let is_end = |hir: &Hir| matches!(hir.kind(), HirKind::Look(Look::End));
    match rest {
        [] => Some(Form::Prefix(literal.into())),
        [any] if is_anything(any) => Some(Form::Prefix(literal.into())),
        [any, end] if is_anything(any) && is_end(end) => Some(Form::Prefix(literal.into())),
        [end] if is_end(end) => Some(Form::Equals(literal.into())),
        [tail, end] if is_end(end) => Some(Form::Boundary(literal.into(), boundary_then_anything(tail)?)),
        [boundary] => Some(Form::Boundary(literal.into(), boundary_or_end(boundary)?)),
        _ => None,
    }
}

/// `.*`, greedy or not.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else { return false };
    repetition.min == 0
        && repetition.max.is_none()
        && *repetition.sub == Hir::dot(regex_syntax::hir::Dot::AnyCharExceptLF)
}

/// The bytes of `([/?].*)?`.
fn boundary_then_anything(hir: &Hir) -> Option<Box<[u8]>> {
    let HirKind::Repetition(repetition) = hir.kind() else { return None };
    let HirKind::Concat(parts) = repetition.sub.kind() else { return None };
    match parts.as_slice() {
        [first, any] if repetition.min == 0 && repetition.max == Some(1) && is_anything(any) => one_byte(first),
        _ => None,
    }
}

/// The bytes of `([/?]|$)`.
fn boundary_or_end(hir: &Hir) -> Option<Box<[u8]>> {
    let HirKind::Alternation(parts) = hir.kind() else { return None };
    match parts.as_slice() {
        [one, other] if matches!(other.kind(), HirKind::Look(Look::End)) => one_byte(one),
        [one, other] if matches!(one.kind(), HirKind::Look(Look::End)) => one_byte(other),
        _ => None,
    }
}

/// The bytes of one ASCII character, or of a class of few.
fn one_byte(hir: &Hir) -> Option<Box<[u8]>> {
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.len() == 1 => Some(literal.0.clone()),
        HirKind::Class(Class::Unicode(class)) => {
            let mut bytes = Vec::new();
            for range in class.ranges() {
                bytes.extend(u8::try_from(range.start()).ok()?..=u8::try_from(range.end()).ok()?);
            }
            (bytes.len() <= 8 && bytes.is_ascii()).then_some(bytes.into())
        }
        _ => None,
    }
}

/// The same expression without its groups, so that `^(/api)$` is seen to be `^/api$`.
fn without_captures(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Capture(capture) => without_captures(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_captures).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(without_captures).collect()),
        HirKind::Repetition(repetition) => Hir::repetition(regex_syntax::hir::Repetition {
            sub: Box::new(without_captures(&repetition.sub)),
            ..repetition.clone()
        }),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
    }
}

/// What every match begins with; an empty text where that can't be told.
fn prefixes(hir: &Hir) -> Vec<Box<str>> {
    let anything = || vec![Box::from("")];
    if !hir.properties().look_set_prefix().contains(Look::Start) {
        return anything();
    }
    let mut literals = Extractor::new().kind(ExtractKind::Prefix).limit_total(64).extract(hir);
    literals.minimize_by_preference();
    let Some(literals) = literals.literals() else { return anything() };
    let mut prefixes: Vec<Box<str>> = Vec::with_capacity(literals.len());
    for literal in literals {
        // Half a character may end it: what comes before that is still a prefix.
        let text = match std::str::from_utf8(literal.as_bytes()) {
            Ok(text) => text,
            Err(error) => literal
                .as_bytes()
                .get(..error.valid_up_to())
                .and_then(|valid| std::str::from_utf8(valid).ok())
                .unwrap_or_default(),
        };
        prefixes.push(text.into());
    }
    // Drop what a shorter one covers.
    prefixes.sort();
    prefixes.dedup_by(|longer, shorter| longer.starts_with(&**shorter));
    prefixes
}

/// A compiled regular expression, and whether its groups name the subject.
#[derive(Clone, Debug)]
pub(super) struct Expression {
    pub regex: Arc<Regex>,
    pub user: bool,
    pub group: bool,
}

impl Expression {
    pub(super) fn compile(text: &str, parsed: &syntax::Parsed) -> Result<Expression, Fault> {
        Ok(Expression { regex: syntax::compile(text, &parsed.translated)?, user: parsed.user, group: parsed.group })
    }

    pub(super) fn asks_for_subject(&self) -> bool {
        self.user || self.group
    }

    /// Searches `text` as [`matches`](Expression::matches) does, and pays for it.
    pub(super) fn search(&self, subject: &Subject<'_>, text: &str, budget: &mut Budget) -> Result<bool, Exceeded> {
        budget.spend(Budget::PER_SEARCH + text.len())?;
        Ok(self.matches(subject, text))
    }

    pub(super) fn matches(&self, subject: &Subject<'_>, text: &str) -> bool {
        if !self.asks_for_subject() || subject.is_anonymous() {
            return self.regex.is_match(text);
        }
        let Some(captures) = self.regex.captures(text) else { return false };
        let named = |name: &str| captures.name(name).map_or("", |found| found.as_str());
        (!self.user || subject.username.is_some_and(|user| user.eq_ignore_ascii_case(named("User"))))
            && (!self.group || subject.groups.contains_ignore_ascii_case(named("Group")))
    }
}
