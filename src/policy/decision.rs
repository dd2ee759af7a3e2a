//! What comes out of a policy: what a rule requires, which rule decided, and what that means for a
//! subject who has proven so much.

use std::fmt;
use std::str::FromStr;

use crate::fault::Fault;
use crate::subject::AssuranceLevel;

/// What a rule requires of whoever asks, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requirement {
    /// Nothing: anyone may pass.
    Bypass,
    /// One factor.
    OneFactor,
    /// Two factors of different kinds.
    TwoFactor,
    /// More than anyone can prove: nobody may pass.
    Deny,
}

impl Requirement {
    const ALL: [Requirement; 4] =
        [Requirement::Bypass, Requirement::OneFactor, Requirement::TwoFactor, Requirement::Deny];

    /// The word used in configuration: `bypass`, `one_factor`, `two_factor` or `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Requirement::Bypass => "bypass",
            Requirement::OneFactor => "one_factor",
            Requirement::TwoFactor => "two_factor",
            Requirement::Deny => "deny",
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Requirement {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Requirement, Fault> {
        Requirement::ALL.into_iter().find(|requirement| requirement.as_str() == text).ok_or_else(|| {
            let meant = Requirement::ALL
                .into_iter()
                .find(|requirement| strsim::damerau_levenshtein(requirement.as_str(), &text.to_ascii_lowercase()) <= 2);
            let known = "The policies are bypass, one_factor, two_factor and deny.";
            Fault::new(format!("unknown policy `{text}`")).help(match meant {
                Some(meant) => format!("Did you mean `{meant}`? {known}"),
                None => known.to_owned(),
            })
        })
    }
}

/// What a policy says of one request: the requirement, and the rule it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is required.
    pub requirement: Requirement,
    /// The position of the rule that decided, counted from 0; `None` where the default policy did.
    pub rule: Option<u32>,
    /// Whether that rule asks who the subject is (`subject`, a `{user}` or `{group}` host, a `User` or
    /// `Group` in a regular expression), so that signing in may change the answer.
    pub subject_rule: bool,
}

impl Verdict {
    /// What the gate answers a subject who has reached `level`.
    pub fn decision(self, level: AssuranceLevel) -> Decision {
        let required = match self.requirement {
            Requirement::Bypass => return Decision::Allow(Permit(())),
            Requirement::OneFactor => AssuranceLevel::OneFactor,
            Requirement::TwoFactor => AssuranceLevel::TwoFactor,
            Requirement::Deny if self.subject_rule && level == AssuranceLevel::Anonymous => {
                return Decision::Challenge { required: AssuranceLevel::OneFactor };
            }
            Requirement::Deny => return Decision::Forbid,
        };
        if level >= required { Decision::Allow(Permit(())) } else { Decision::Challenge { required } }
    }

    /// How strict this verdict is compared with others about the same request: a denial that no
    /// sign-in can change is the strictest.
    pub(crate) fn strictness(self) -> (Requirement, bool) {
        (self.requirement, !self.subject_rule)
    }

    /// Whether no verdict is stricter.
    pub(crate) fn is_strictest(self) -> bool {
        self.strictness() == (Requirement::Deny, true)
    }

    /// The stricter of two verdicts; the first where they are alike.
    pub(crate) fn stricter(self, other: Verdict) -> Verdict {
        if other.strictness() > self.strictness() { other } else { self }
    }
}

/// What the gate answers. There is no fourth answer; whatever can't be decided is not an `Allow`.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request may pass.
    Allow(Permit),
    /// Whoever asks must first prove more: at least `required`.
    Challenge {
        /// The level to reach.
        required: AssuranceLevel,
    },
    /// The request may not pass, whatever is proven.
    Forbid,
}

/// Evidence that a policy allowed this request.
///
/// Only [`Verdict::decision`] makes one, so an answer that asks for it can't be given without a decision.
///
/// ```compile_fail,E0423
/// let forged = portcullis::policy::Permit(());
/// ```
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Permit(());

#[cfg(test)]
mod tests {
    use super::{Decision, Permit, Requirement, Verdict};
    use crate::subject::AssuranceLevel::{self, Anonymous, OneFactor, TwoFactor};

    type Row = [(AssuranceLevel, Decision); 3];

    #[test]
    fn a_level_meets_a_requirement_or_is_challenged() {
        let allow = || Decision::Allow(Permit(()));
        let challenge = |required| Decision::Challenge { required };
        #[rustfmt::skip]
        let table: [(Requirement, bool, Row); 5] = [
            (Requirement::Bypass,    false, [(Anonymous, allow()),               (OneFactor, allow()),              (TwoFactor, allow())]),
            (Requirement::OneFactor, false, [(Anonymous, challenge(OneFactor)),  (OneFactor, allow()),              (TwoFactor, allow())]),
            (Requirement::TwoFactor, true,  [(Anonymous, challenge(TwoFactor)),  (OneFactor, challenge(TwoFactor)), (TwoFactor, allow())]),
            (Requirement::Deny,      false, [(Anonymous, Decision::Forbid),      (OneFactor, Decision::Forbid),     (TwoFactor, Decision::Forbid)]),
            (Requirement::Deny,      true,  [(Anonymous, challenge(OneFactor)),  (OneFactor, Decision::Forbid),     (TwoFactor, Decision::Forbid)]),
        ];
        for (requirement, subject_rule, row) in table {
            let verdict = Verdict { requirement, rule: Some(0), subject_rule };
            for (level, expected) in row {
                assert_eq!(verdict.decision(level), expected, "{requirement} {subject_rule} {level:?}");
            }
        }
    }

    #[test]
    fn requirements_read_as_they_are_written() {
        for requirement in Requirement::ALL {
            assert_eq!(requirement.to_string().parse(), Ok(requirement));
        }
        assert!(Requirement::Bypass < Requirement::OneFactor && Requirement::TwoFactor < Requirement::Deny);
        let fault = "two-factor".parse::<Requirement>().unwrap_err();
        assert_eq!(fault.message, "unknown policy `two-factor`");
        assert_eq!(
            fault.help.unwrap(),
            "Did you mean `two_factor`? The policies are bypass, one_factor, two_factor and deny."
        );
        assert_eq!(
            "".parse::<Requirement>().unwrap_err().help.unwrap(),
            "The policies are bypass, one_factor, two_factor and deny."
        );
    }

    #[test]
    fn of_two_denials_the_one_without_a_way_out_is_stricter() {
        let firm = Verdict { requirement: Requirement::Deny, rule: None, subject_rule: false };
        let soft = Verdict { requirement: Requirement::Deny, rule: Some(1), subject_rule: true };
        let two = Verdict { requirement: Requirement::TwoFactor, rule: Some(2), subject_rule: false };
        assert_eq!(soft.stricter(firm), firm);
        assert_eq!(firm.stricter(soft), firm);
        assert_eq!(two.stricter(soft), soft);
    }
}
