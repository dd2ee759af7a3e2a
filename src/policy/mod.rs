//! The access policy: which subjects may reach which objects, and how strongly they must first have
//! proven who they are.
//!
//! A [`Policy`] is compiled when the rules are loaded and only read after that. Deciding takes no lock
//! and does no IO; it fails only where it would take too much work. The first rule that matches wins, in the order of the file; where none
//! does, the default applies. Where a request can be read in several ways, it is decided in each and
//! the strictest answer stands: this goes for ambiguous paths (see [`object`](crate::object)), for
//! ambiguous queries (see [`query`]), and for an address that is not known. The work that one question may
//! cause is bounded (see [`work`](crate::work)).
//!
//! An anonymous subject meets every criterion about the subject *provisionally*: the rule is chosen, and
//! its requirement leads to signing in, after which the rules are asked again.
//!
//! Subject and object are meant as in NIST SP 800-162, assurance levels as in SP 800-63B. Nothing here
//! knows HTTP, sessions, files or time.

mod decision;
mod explain;
mod lint;
mod matcher;
mod network;
mod pattern;
pub mod query;
pub mod reference;
mod rule;
mod syntax;

pub use decision::{Decision, Permit, Requirement, Verdict};
pub use explain::{Explanation, PassedOver};
pub use lint::{Lint, Severity};
pub use network::Network;
pub use pattern::{HostPattern, ResourcePattern};
pub use query::QueryTerm;
pub use rule::{Criteria, Criterion, MethodName, Rule, SubjectTerm};

use crate::object::Object;
use crate::subject::Subject;
use crate::work::{Budget, Exceeded};
use matcher::Matcher;

/// The rules and the default policy, compiled.
#[derive(Debug)]
pub struct Policy {
    matcher: Matcher,
}

impl Policy {
    /// Compiles rules, in the order in which they are to be asked; `default` decides where none matches.
    pub fn compile(rules: Vec<Rule>, default: Requirement) -> Policy {
        Policy { matcher: Matcher::new(rules, default) }
    }

    /// Decides what `object` requires of `subject`.
    ///
    /// Allocates nothing for an object with one reading, unless a rule asks about the query, or what a `User` or
    /// `Group` group matched, or the host is asked for the first time.
    ///
    /// # Errors
    ///
    /// [`Exceeded`] where deciding would cost more than one request may: it is to be refused.
    pub fn decide(&self, subject: &Subject<'_>, object: &Object<'_>) -> Result<Verdict, Exceeded> {
        self.matcher.decide(subject, object, &mut object.budget())
    }

    /// Decides as [`decide`](Policy::decide) does, and spends from a budget that the caller has: what is missing from it
    /// afterwards is the work that deciding took.
    ///
    /// # Errors
    ///
    /// As [`decide`](Policy::decide).
    pub fn decide_within(
        &self,
        subject: &Subject<'_>,
        object: &Object<'_>,
        budget: &mut Budget,
    ) -> Result<Verdict, Exceeded> {
        self.matcher.decide(subject, object, budget)
    }

    /// Decides, and says why, rule by rule.
    ///
    /// # Errors
    ///
    /// As [`decide`](Policy::decide).
    pub fn explain(&self, subject: &Subject<'_>, object: &Object<'_>) -> Result<Explanation, Exceeded> {
        explain::explain(&self.matcher, subject, object)
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        self.matcher.rules()
    }

    /// What is required where no rule matches.
    pub fn default_requirement(&self) -> Requirement {
        self.matcher.default()
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.rules().len()
    }

    /// Whether any rule, or the default policy, asks for two factors.
    pub fn demands_two_factors(&self) -> bool {
        self.default_requirement() == Requirement::TwoFactor
            || self.rules().iter().any(|rule| rule.requirement() == Requirement::TwoFactor)
    }

    /// What is likely not meant in these rules.
    pub fn lints(&self) -> Vec<Lint> {
        lint::lints(self.rules())
    }
}

#[cfg(test)]
mod tests;
