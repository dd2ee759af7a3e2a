//! Why a decision came out as it did, rule by rule, in words.
//!
//! It asks the compiled policy for the decision itself and works out the reasons beside it, so that what
//! it explains is what the gate answers. It is not fast.

use crate::object::Object;
use crate::policy::matcher::Matcher;
use crate::policy::rule::{Criterion, Fit, Rule, method_bit};
use crate::policy::{Requirement, Verdict};
use crate::subject::Subject;

/// A decision and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was decided.
    pub verdict: Verdict,
    /// The path and query that the deciding rule was asked about.
    pub resource: String,
    /// In how many ways the path can be read.
    pub readings: usize,
    /// The rules before the one that decided, or all of them if none did, and why each did not.
    pub passed_over: Vec<PassedOver>,
    /// Whether the deciding rule asks for a subject that is not known yet.
    pub provisional: bool,
    /// What else is worth knowing, a sentence each.
    pub notes: Vec<String>,
}

/// A rule that did not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its position, counted from 0.
    pub rule: usize,
    /// The first criterion that was not met for certain.
    pub criterion: Criterion,
    /// What was asked and what was found.
    pub why: String,
}

pub(super) fn explain(matcher: &Matcher, subject: &Subject<'_>, object: &Object<'_>) -> Explanation {
    let readings: Vec<&str> = object.readings().collect();
    let mut resource = object.resource();
    let mut verdict = matcher.decide(subject, object, resource);
    for reading in readings.iter().skip(1) {
        let other = matcher.decide(subject, object, reading);
        if other.strictness() > verdict.strictness() {
            (resource, verdict) = (reading, other);
        }
    }

    let mut passed_over = Vec::new();
    let mut unclear = false;
    for (n, rule) in matcher.rules().iter().enumerate() {
        let decides = verdict.rule == u32::try_from(n).ok();
        match miss(rule, subject, object, resource) {
            None if decides => break,
            None => {
                // The query may or may not meet the rule that decided, further up; otherwise this one does.
                let why = format!(
                    "the rule applies, but what an earlier one may require is stricter: {}",
                    rule.requirement()
                );
                passed_over.push(PassedOver { rule: n, criterion: Criterion::Policy, why });
                break;
            }
            Some((_, _, Fit::Unclear)) if decides => unclear = true,
            Some((criterion, why, fit)) => {
                unclear |= fit == Fit::Unclear;
                passed_over.push(PassedOver { rule: n, criterion, why });
            }
        }
    }

    let provisional = verdict.subject_rule && subject.is_anonymous();
    let mut notes = Vec::new();
    if readings.len() > 1 {
        notes.push(format!(
            "The path can be read in {} ways, and the strictest answer stands: it was decided as `{resource}`.",
            readings.len()
        ));
    }
    if unclear {
        notes.push(
            "A parameter is repeated or garbled, or stands behind an encoded `?`, so applications may differ on a query condition: the strictest answer stands."
                .to_owned(),
        );
    }
    if provisional {
        notes.push("Nobody has signed in, so the rule is chosen provisionally: a sign-in would decide.".to_owned());
    }
    if verdict.requirement == Requirement::Deny && subject.is_anonymous() {
        notes.push(if provisional {
            "The answer is an invitation to sign in, because the rule may not apply to whoever does.".to_owned()
        } else {
            "The answer is 403 at once: signing in would not change a denial that asks for no subject.".to_owned()
        });
    }
    Explanation { verdict, resource: resource.to_owned(), readings: readings.len(), passed_over, provisional, notes }
}

/// The first criterion that is not met, why, and whether it is missed or unclear; nothing for a rule that applies.
fn miss(rule: &Rule, subject: &Subject<'_>, object: &Object<'_>, resource: &str) -> Option<(Criterion, String, Fit)> {
    let criteria = rule.criteria();
    let missed = |criterion, why| Some((criterion, why, Fit::Miss));
    if !rule.fits_host(subject, object.host()) {
        let criterion = if criteria.hosts.iter().all(|pattern| pattern.is_regex()) {
            Criterion::DomainRegex
        } else {
            Criterion::Domain
        };
        let patterns = list(criteria.hosts.iter().map(|pattern| pattern.as_str()));
        return missed(criterion, format!("the host `{}` is not {patterns}", object.host()));
    }
    if !rule.fits_resource(subject, resource) {
        let patterns = list(criteria.resources.iter().map(|pattern| pattern.as_str()));
        return missed(Criterion::Resources, format!("`{resource}` does not match {patterns}"));
    }
    if !rule.fits_method(method_bit(object.method())) {
        let methods = list(criteria.methods.iter().map(|method| method.as_str()));
        return missed(Criterion::Methods, format!("the method `{}` is not {methods}", object.method()));
    }
    if !rule.fits_network(subject) {
        let networks: Vec<String> = criteria.networks.iter().map(ToString::to_string).collect();
        let networks = list(networks.iter().map(String::as_str));
        let why = match subject.address {
            Some(address) => format!("the address {address} is not in {networks}"),
            None => format!("the address of the client is not known, so it is not in {networks}"),
        };
        return missed(Criterion::Networks, why);
    }
    if !rule.fits_subject(subject) {
        let groups: Vec<String> = criteria
            .subjects
            .iter()
            .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "))
            .collect();
        return missed(
            Criterion::Subject,
            format!("{} is not {}", describe(subject), list(groups.iter().map(String::as_str))),
        );
    }
    let fit = rule.fit_query(object, resource);
    if fit == Fit::Match {
        return None;
    }
    let groups: Vec<String> = criteria
        .query
        .iter()
        .map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "))
        .collect();
    let wanted = groups.join(", or ");
    let query = object.query().unwrap_or_default();
    let why = match fit {
        Fit::Unclear => format!("applications may differ on whether the query `{query}` has {wanted}"),
        _ => format!("the query `{query}` does not have {wanted}"),
    };
    Some((Criterion::Query, why, fit))
}

/// Who asks, in words.
fn describe(subject: &Subject<'_>) -> String {
    let name = match (subject.username, subject.client_id) {
        (Some(user), _) => format!("the user `{user}`"),
        (None, Some(client)) => format!("the client `{client}`"),
        (None, None) => "the subject".to_owned(),
    };
    let groups: Vec<&str> = subject.groups.iter().collect();
    if groups.is_empty() { name } else { format!("{name} in {}", list(groups.into_iter())) }
}

/// `a`, `b` or `c`
fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = items.map(|item| format!("`{item}`")).collect();
    match quoted.as_slice() {
        [] => "anything".to_owned(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}
