//! The obvious matcher: every rule in turn, every pattern as a regular expression, nothing prepared.
//!
//! It exists to be compared with the compiled one in tests and benchmarks. It is written from the words
//! of the manual and shares as little with the other as it can: expressions run even where the
//! matcher has found something cheaper, and hosts are compared as text.

use std::sync::Arc;

use regex::Regex;

use crate::object::Object;
use crate::policy::query::{Pair, QueryTerm, Test, pairs};
use crate::policy::{Requirement, Rule, SubjectTerm, Verdict, syntax};
use crate::subject::Subject;

/// Rules to be asked one after the other.
#[derive(Debug)]
pub struct Reference {
    rules: Vec<(Rule, Expressions)>,
    default: Requirement,
}

/// The expressions of a rule, in the order in which they are written.
#[derive(Debug)]
struct Expressions {
    hosts: Vec<Option<Arc<Regex>>>,
    resources: Vec<Arc<Regex>>,
}

impl Reference {
    /// Takes the same rules as [`Policy::compile`](crate::policy::Policy::compile).
    pub fn new(rules: &[Rule], default: Requirement) -> Reference {
        let regex = |text: &str| syntax::compile(text, &syntax::parse(text).ok()?.translated).ok();
        let expressions = |rule: &Rule| Expressions {
            hosts: rule
                .criteria()
                .hosts
                .iter()
                .map(|pattern| pattern.is_regex().then(|| regex(pattern.as_str())).flatten())
                .collect(),
            resources: rule.criteria().resources.iter().filter_map(|pattern| regex(pattern.as_str())).collect(),
        };
        Reference { rules: rules.iter().map(|rule| (rule.clone(), expressions(rule))).collect(), default }
    }

    /// Decides as [`Policy::decide`](crate::policy::Policy::decide) does.
    pub fn decide(&self, subject: &Subject<'_>, object: &Object<'_>) -> Verdict {
        let mut possible = Vec::new();
        for (resource, as_sent) in readings(object) {
            for (n, (rule, expressions)) in self.rules.iter().enumerate() {
                let fits = fits_host(rule, expressions, subject, object.host())
                    && (!object.names_target() || fits_resource(expressions, subject, &resource))
                    && fits_subject(rule, subject, object);
                let mut outcomes = if fits { query_outcomes(rule, object, as_sent) } else { vec![false] };
                if outcomes.contains(&true) && asks_for_the_unknown(rule, subject, object) {
                    outcomes = vec![true, false];
                }
                if outcomes.contains(&true) {
                    let subject_rule = asks_for_subject(rule, expressions);
                    possible.push(Verdict {
                        requirement: rule.requirement(),
                        rule: u32::try_from(n).ok(),
                        subject_rule,
                    });
                }
                if outcomes == [true] {
                    break;
                }
                if n + 1 == self.rules.len() {
                    possible.push(Verdict { requirement: self.default, rule: None, subject_rule: false });
                }
            }
        }
        // The first of the strictest, as the matcher names it.
        let strictness = |verdict: &Verdict| match (verdict.requirement, verdict.subject_rule) {
            (Requirement::Bypass, true) => 0,
            (Requirement::Bypass, false) => 1,
            (Requirement::OneFactor, true) => 2,
            (Requirement::OneFactor, false) => 3,
            (Requirement::TwoFactor, true) => 4,
            (Requirement::TwoFactor, false) => 5,
            (Requirement::Deny, true) => 6,
            (Requirement::Deny, false) => 7,
        };
        let strictest = possible.iter().map(strictness).max();
        possible.into_iter().find(|verdict| Some(strictness(verdict)) == strictest).unwrap_or(Verdict {
            requirement: self.default,
            rule: None,
            subject_rule: false,
        })
    }
}

/// Each reading of the object, and the same with its query decoded; beside both, the reading with the query as sent.
fn readings<'o>(object: &'o Object<'_>) -> Vec<(String, &'o str)> {
    let query = object.query().unwrap_or_default();
    let decoded: Vec<String> = query
        .split('&')
        .map(|pair| {
            let (name, value) = form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default();
            let text = if pair.contains('=') { format!("{name}={value}") } else { name.into_owned() };
            let text = text.replace(|c: char| c.is_ascii_control(), " ");
            text.trim_start_matches(' ').to_owned()
        })
        .collect();
    let mut readings = Vec::new();
    for as_sent in object.readings() {
        readings.push((as_sent.to_owned(), as_sent));
        if !query.is_empty() {
            let path = as_sent.len() - query.len();
            readings.push((format!("{}{}", as_sent.get(..path).unwrap_or_default(), decoded.join("&")), as_sent));
        }
    }
    readings
}

fn fits_host(rule: &Rule, expressions: &Expressions, subject: &Subject<'_>, host: &str) -> bool {
    let mut hosts = rule.criteria().hosts.iter().zip(&expressions.hosts);
    hosts.any(|(pattern, regex)| {
        if let Some(regex) = regex {
            return fits_expression(regex, subject, host);
        }
        let text = pattern.as_str().to_lowercase();
        let label = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
                && !name.starts_with('-')
                && !name.ends_with('-')
                && name.len() < 64
        };
        let is_any_of = |rest: &str, names: Vec<&str>| {
            if subject.is_anonymous() {
                host.ends_with(rest) && host.len() > rest.len()
            } else {
                names.into_iter().any(|name| label(name) && host == format!("{}{rest}", name.to_ascii_lowercase()))
            }
        };
        if let Some(rest) = text.strip_prefix('*')
            && rest.starts_with('.')
        {
            host.ends_with(rest) && host != rest
        } else if let Some(rest) = text.strip_prefix("{user}") {
            is_any_of(rest, subject.username.into_iter().collect())
        } else if let Some(rest) = text.strip_prefix("{group}") {
            is_any_of(rest, subject.groups.iter().collect())
        } else {
            host == text
        }
    })
}

fn fits_resource(expressions: &Expressions, subject: &Subject<'_>, resource: &str) -> bool {
    expressions.resources.is_empty()
        || expressions.resources.iter().any(|regex| fits_expression(regex, subject, resource))
}

fn fits_expression(regex: &Regex, subject: &Subject<'_>, text: &str) -> bool {
    let Some(captures) = regex.captures(text) else { return false };
    regex.capture_names().flatten().all(|name| {
        let found = captures.name(name).map_or("", |found| found.as_str());
        match name {
            _ if subject.is_anonymous() => true,
            "User" => subject.username.is_some_and(|user| user.eq_ignore_ascii_case(found)),
            "Group" => subject.groups.iter().any(|group| group.eq_ignore_ascii_case(found)),
            _ => true,
        }
    })
}

/// Whether the rule asks for an address, a method, a path or a query that nobody named.
fn asks_for_the_unknown(rule: &Rule, subject: &Subject<'_>, object: &Object<'_>) -> bool {
    let criteria = rule.criteria();
    let asks_for_target = !criteria.resources.is_empty() || !criteria.query.is_empty();
    (subject.address.is_none() && !criteria.networks.is_empty())
        || (!object.names_method() && !criteria.methods.is_empty())
        || (!object.names_target() && asks_for_target)
}

/// Method, network and subject.
fn fits_subject(rule: &Rule, subject: &Subject<'_>, object: &Object<'_>) -> bool {
    let criteria = rule.criteria();
    let method = criteria.methods.is_empty()
        || !object.names_method()
        || criteria.methods.iter().any(|name| name.as_str() == object.method());
    // What is not known may be any: the caller makes both outcomes of it.
    let network = criteria.networks.is_empty()
        || criteria.networks.iter().any(|network| subject.address.is_none_or(|address| network.contains(address)));
    let known = |term: &SubjectTerm| match term {
        SubjectTerm::User(name) => subject.username == Some(name),
        SubjectTerm::Group(name) => subject.groups.iter().any(|group| group == &**name),
        SubjectTerm::Client(id) => subject.client_id == Some(id),
    };
    let who = criteria.subjects.is_empty()
        || subject.is_anonymous()
        || criteria.subjects.iter().any(|all| all.iter().all(known));
    method && network && who
}

/// What the query criterion may come to: one answer where it is clear, both where it is not.
fn query_outcomes(rule: &Rule, object: &Object<'_>, resource: &str) -> Vec<bool> {
    if !object.names_target() && !rule.criteria().query.is_empty() {
        return vec![true, false];
    }
    // The query as sent, and what an application finds behind the first `?` of this reading.
    let read = resource.split_once('?').map_or("", |(_, query)| query);
    let mut outcomes = outcomes_of(rule, object.query().unwrap_or_default());
    for outcome in outcomes_of(rule, read) {
        if !outcomes.contains(&outcome) {
            outcomes.push(outcome);
        }
    }
    outcomes
}

fn outcomes_of(rule: &Rule, query: &str) -> Vec<bool> {
    let groups = &rule.criteria().query;
    if groups.is_empty() {
        return vec![true];
    }
    let all = |terms: &Vec<QueryTerm>, wanted: bool| {
        terms.iter().all(|term| {
            if wanted { term_outcomes(term, query).contains(&true) } else { term_outcomes(term, query) == [true] }
        })
    };
    let possibly = groups.iter().any(|terms| all(terms, true));
    let surely = groups.iter().any(|terms| all(terms, false));
    if surely {
        vec![true]
    } else if possibly {
        vec![true, false]
    } else {
        vec![false]
    }
}

fn term_outcomes(term: &QueryTerm, query: &str) -> Vec<bool> {
    let mut values = Vec::new();
    let mut possible = false;
    for pair in pairs(query) {
        match pair {
            Pair::Garbled => return vec![true, false],
            Pair::Plain(key, value) if *key == *term.key => values.push(Some(value.into_owned())),
            Pair::GarbledValue(key) if *key == *term.key => values.push(None),
            Pair::Plain(key, _) | Pair::GarbledValue(key) => possible |= may_be_read_as(&key, &term.key),
        }
    }
    let compare = |value: &Option<String>, test: &dyn Fn(&str) -> bool| match value {
        Some(value) => vec![test(value)],
        None => vec![true, false],
    };
    let each = |test: &dyn Fn(&str) -> bool| {
        let mut outcomes: Vec<bool> = if values.is_empty() {
            vec![test("")]
        } else {
            values.iter().flat_map(|value| compare(value, test)).collect()
        };
        if possible {
            outcomes.extend([true, false]);
        }
        outcomes
    };
    let mut outcomes = match &term.test {
        Test::Present if values.is_empty() && possible => vec![true, false],
        Test::Absent if values.is_empty() && possible => vec![true, false],
        Test::Present => vec![!values.is_empty()],
        Test::Absent => vec![values.is_empty()],
        Test::Equal(wanted) => each(&|value| value == &**wanted),
        Test::NotEqual(unwanted) => each(&|value| value != &**unwanted),
        Test::Pattern(_, expression) => each(&|value| expression.regex.is_match(value)),
        Test::NotPattern(_, expression) => each(&|value| !expression.regex.is_match(value)),
    };
    outcomes.sort_unstable_by(|a, b| b.cmp(a));
    outcomes.dedup();
    outcomes
}

/// Whether PHP, Rack, `qs`, ASP.NET or a binder of objects may read the key `sent` as `wanted`, or as a part of it.
fn may_be_read_as(sent: &str, wanted: &str) -> bool {
    let lower = |text: &str| text.to_lowercase().replace('ı', "i").replace('ſ', "s");
    let parts = |text: &str, dots: bool| -> Vec<String> {
        let text = lower(text.trim_start_matches(' '));
        let separated: String = text.chars().map(|c| if c == ']' || (dots && c == '.') { '[' } else { c }).collect();
        let mut parts: Vec<String> = separated
            .split('[')
            .map(|part| part.trim_matches(' ').to_owned())
            .filter(|part| !part.is_empty())
            .collect();
        if let (false, Some(first)) = (dots, parts.first_mut()) {
            *first = first.replace(['.', ' '], "_");
        }
        parts
    };
    let word = |text: &str| lower(text.trim_start_matches(' ')).replace(['.', ' ', '['], "_");
    let begins = |dots| {
        let (sent, wanted) = (parts(sent, dots), parts(wanted, dots));
        !wanted.is_empty() && sent.starts_with(&wanted)
    };
    word(sent) == word(wanted) || begins(false) || begins(true)
}

fn asks_for_subject(rule: &Rule, expressions: &Expressions) -> bool {
    let named = |regex: &Regex| regex.capture_names().flatten().any(|name| matches!(name, "User" | "Group"));
    let template = |text: &str| text.starts_with("{user}") || text.starts_with("{group}");
    !rule.criteria().subjects.is_empty()
        || rule.criteria().hosts.iter().any(|pattern| !pattern.is_regex() && template(pattern.as_str()))
        || expressions.hosts.iter().flatten().any(|regex| named(regex))
        || expressions.resources.iter().any(|regex| named(regex))
}
