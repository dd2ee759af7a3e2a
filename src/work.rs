//! How much work one question may cause: counted, never timed.
//!
//! Whoever asks chooses the path and the query, and an operator chooses the patterns; the product of the two must have a
//! bound, or a few requests a second keep a worker busy. So every step that takes longer for longer input spends from one
//! budget before it runs, and what the budget does not cover is refused. Pure: it knows neither requests nor rules.

use std::fmt;

/// How many readings of one path are judged. Paths that applications really use have 2 to 12.
pub const MAX_READINGS: usize = 16;
/// How many parameters of a query are looked at: as many as PHP and `qs` read (`max_input_vars`, `parameterLimit`).
pub const MAX_PARAMETERS: usize = 1_000;

/// What one question may still cost. A unit is about the time that a regular expression takes for one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    granted: u32,
    left: u32,
}

/// The limit that a request goes beyond. It is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exceeded {
    /// The path can be read in more ways than are judged.
    Readings,
    /// Reading and judging the request takes more than its [`Budget`].
    Work,
    /// The query holds more parameters than are looked at.
    Parameters,
}

impl Budget {
    /// What reading a request may cost, and judging it at a host whose rules have no expressions and no query conditions.
    pub const BASE: u32 = 56 * 1024;
    /// What each expression that may be asked adds: it may read 1.5 KiB, beside its share of the base.
    pub const PER_EXPRESSION: u32 = 1_536;
    /// What it costs to begin a search with an expression, beside a unit for each byte.
    pub const PER_SEARCH: usize = 128;
    /// What each condition on the query adds.
    pub const PER_CONDITION: u32 = 512;

    /// The budget of one question, untouched.
    pub const fn new() -> Budget {
        Budget { granted: Budget::BASE, left: Budget::BASE }
    }

    /// Grants `units` more, for what the host's rules ask for.
    pub fn grant(&mut self, units: u32) {
        self.granted = self.granted.saturating_add(units);
        self.left = self.left.saturating_add(units);
    }

    /// How many units were granted in all.
    pub const fn granted(&self) -> u32 {
        self.granted
    }

    /// Spends `units`, before the work is done.
    ///
    /// # Errors
    ///
    /// [`Exceeded::Work`] where fewer are left; nothing is left then.
    pub fn spend(&mut self, units: usize) -> Result<(), Exceeded> {
        match u32::try_from(units).ok().and_then(|units| self.left.checked_sub(units)) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Exceeded::Work)
            }
        }
    }

    /// How many units were spent.
    pub const fn spent(&self) -> u32 {
        self.granted - self.left
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new()
    }
}

impl Exceeded {
    /// A name for metrics, in snake case; the set is closed.
    pub const fn label(self) -> &'static str {
        match self {
            Exceeded::Readings => "ambiguous",
            Exceeded::Work => "too_much_work",
            Exceeded::Parameters => "too_many_parameters",
        }
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exceeded::Readings => {
                write!(f, "the path can be read in more than {MAX_READINGS} ways, or is encoded too many times over")
            }
            Exceeded::Work => {
                f.write_str("reading and judging the path and the query takes more work than one request may cause")
            }
            Exceeded::Parameters => {
                write!(f, "the query holds more than {MAX_PARAMETERS} parameters, and a rule asks about one")
            }
        }
    }
}

impl std::error::Error for Exceeded {}

#[cfg(test)]
mod tests {
    use super::{Budget, Exceeded};

    #[test]
    fn a_budget_is_spent_and_then_gone() {
        let mut budget = Budget::new();
        let limit = usize::try_from(Budget::BASE).unwrap();
        assert_eq!(budget.spend(limit - 1), Ok(()));
        assert_eq!(budget.spend(1), Ok(()));
        assert_eq!(budget.spend(0), Ok(()));
        assert_eq!(budget.spent(), Budget::BASE);
        let mut more = budget;
        more.grant(10);
        assert_eq!((more.spend(10), more.spend(1)), (Ok(()), Err(Exceeded::Work)), "what is granted besides");
        assert_eq!(budget.spend(1), Err(Exceeded::Work));
        assert_eq!(Budget::new().spend(usize::MAX), Err(Exceeded::Work));
        let mut refused = Budget::new();
        assert_eq!(refused.spend(limit + 1), Err(Exceeded::Work));
        assert_eq!(refused.spend(1), Err(Exceeded::Work), "what did not fit is not followed by what does");
    }
}
