//! Why a decision came out as it did, rule by rule, in words.
//!
//! It asks the compiled policy for the decision itself and works out the reasons beside it, so that what
//! it explains is what the gate answers. It is not fast.

use std::ops::ControlFlow;

use crate::object::Object;
use crate::policy::matcher::{Matcher, Question, Reading};
use crate::policy::rule::{Criterion, Evaluation, Fit, Rule};
use crate::policy::{Requirement, Verdict};
use crate::subject::Subject;
use crate::work::{Budget, Exceeded};

/// A decision and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What was decided.
    pub verdict: Verdict,
    /// The path and query that the deciding rule was asked about.
    pub resource: String,
    /// In how many ways the request can be read.
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

/// The first criterion that is not met, why, and whether it is missed or unclear.
type Miss = (Criterion, String, Fit);

pub(super) fn explain(matcher: &Matcher, subject: &Subject<'_>, object: &Object<'_>) -> Result<Explanation, Exceeded> {
    let question = Question::new(matcher, subject, object);
    let mut decided: Option<(Verdict, String, String)> = None;
    let mut budget = object.budget();
    budget.grant(question.grant());
    question.each_reading(&mut budget, |budget, reading| {
        let verdict = question.decide(reading, budget)?;
        if decided.as_ref().is_none_or(|(before, ..)| verdict.strictness() > before.strictness()) {
            decided = Some((verdict, reading.resource.to_owned(), reading.as_sent.to_owned()));
        }
        Ok(if verdict.is_strictest() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    let readings = object.readings().count();
    let Some((verdict, resource, as_sent)) = decided else { return Err(Exceeded::Readings) };
    let evaluation = question.evaluation(Reading { resource: &resource, as_sent: &as_sent });

    let mut passed_over = Vec::new();
    let (mut unclear_query, mut unclear_address) = (false, false);
    for (n, rule) in matcher.rules().iter().enumerate() {
        let decides = verdict.rule == u32::try_from(n).ok();
        match miss(rule, object, &evaluation)? {
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
            Some((criterion, why, fit)) => {
                unclear_query |= fit == Fit::Unclear && criterion == Criterion::Query;
                unclear_address |= fit == Fit::Unclear && criterion == Criterion::Networks;
                if !(decides && fit == Fit::Unclear) {
                    passed_over.push(PassedOver { rule: n, criterion, why });
                }
            }
        }
    }

    let provisional = verdict.subject_rule && subject.is_anonymous();
    let mut notes = Vec::new();
    if readings > 1 {
        notes.push(format!(
            "The path can be read in {readings} ways, and the strictest answer stands: it was decided as `{resource}`."
        ));
    } else if resource != as_sent {
        notes.push(format!(
            "Applications decode the query, and the strictest answer stands: it was decided as `{resource}`."
        ));
    }
    if unclear_query {
        notes.push(
            "A parameter is repeated, garbled or written in another way, or stands behind an encoded `?`, so applications may differ on a query condition: the strictest answer stands."
                .to_owned(),
        );
    }
    if unclear_address {
        notes.push(
            "The address of the client is not known, so a rule with `networks` may apply or not: the strictest answer stands."
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
    Ok(Explanation { verdict, resource, readings, passed_over, provisional, notes })
}

/// The first criterion that is not met, why, and whether it is missed or unclear; nothing for a rule that applies.
fn miss(rule: &Rule, object: &Object<'_>, evaluation: &Evaluation<'_, '_>) -> Result<Option<Miss>, Exceeded> {
    let criteria = rule.criteria();
    let Evaluation { subject, resource, .. } = *evaluation;
    // Each rule may cost what a question may: nobody waits for an explanation.
    let budget = &mut Budget::new();
    budget.grant(rule.grant());
    let missed = |criterion, why| Ok(Some((criterion, why, Fit::Miss)));
    if !rule.fits_host(subject, object.host(), budget)? {
        let criterion = if criteria.hosts.iter().all(|pattern| pattern.is_regex()) {
            Criterion::DomainRegex
        } else {
            Criterion::Domain
        };
        let patterns = list(criteria.hosts.iter().map(|pattern| pattern.as_str()));
        return missed(criterion, format!("the host `{}` is not {patterns}", object.host()));
    }
    let fit = rule.fit_resource(evaluation, budget)?;
    if fit != Fit::Match {
        let patterns = list(criteria.resources.iter().map(|pattern| pattern.as_str()));
        return Ok(Some((Criterion::Resources, format!("`{resource}` does not match {patterns}"), fit)));
    }
    let fit = rule.fit_method(evaluation.method);
    if fit != Fit::Match {
        let methods = list(criteria.methods.iter().map(|method| method.as_str()));
        return Ok(Some((Criterion::Methods, format!("the method `{}` is not {methods}", object.method()), fit)));
    }
    let network = rule.fit_network(subject);
    if network != Fit::Match {
        let networks: Vec<String> = criteria.networks.iter().map(ToString::to_string).collect();
        let networks = list(networks.iter().map(String::as_str));
        let why = match subject.address {
            Some(address) => format!("the address {address} is not in {networks}"),
            None => format!("the address of the client is not known, so it may be in {networks} or not"),
        };
        return Ok(Some((Criterion::Networks, why, network)));
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
    let fit = rule.fit_query(evaluation, budget)?;
    if fit == Fit::Match {
        return Ok(None);
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
    Ok(Some((Criterion::Query, why, fit)))
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
