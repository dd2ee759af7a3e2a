//! Lines that say the same again and again: the first few of a second are written, the rest are counted, and the
//! number is told when the second is over.
//!
//! Two lines say the same if level, message, reason and client are the same. So one client can't fill the log, and
//! those who count lines to ban somebody (fail2ban) still see enough of them. Pure: the time is an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Level;

use super::line::Fields;

/// For how long lines are counted together.
const SPAN: Duration = Duration::from_secs(1);

/// How many of them are written: more than anybody's `maxretry`.
const WRITTEN: u64 = 10;

/// How many kinds of lines are told apart, in about a megabyte at worst. Beyond that all clients and reasons of a
/// message share one count.
const CAPACITY: usize = 1_024;

/// What makes two lines say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    level: Level,
    message: String,
    reason: Option<String>,
    client: Option<String>,
}

impl Kind {
    pub fn of(level: Level, fields: &Fields) -> Kind {
        let text = |name| fields.text(name).map(str::to_owned);
        Kind { level, message: fields.message.clone(), reason: text("reason"), client: text("client") }
    }

    /// Whoever it is about and why.
    fn any(self) -> Kind {
        Kind { reason: None, client: None, ..self }
    }
}

/// What was counted instead of being written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    kind: Arc<Kind>,
    repeated: u64,
}

impl Summary {
    pub fn level(&self) -> Level {
        self.kind.level
    }

    pub fn fields(&self) -> Fields {
        let mut fields = Fields::new(&self.kind.message);
        for (name, value) in [("reason", &self.kind.reason), ("client", &self.kind.client)] {
            if let Some(value) = value {
                fields.push_text(name, value);
            }
        }
        fields.push_number("repeated", self.repeated);
        fields
    }
}

/// The lines of the second past, by kind.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    counts: HashMap<Arc<Kind>, u64>,
    /// When each kind's second is over, soonest first: all last equally long.
    order: VecDeque<(Instant, Arc<Kind>)>,
}

impl Repeats {
    /// Whether a line of this kind is to be written; otherwise it is counted.
    ///
    /// What [`over`](Repeats::over) would answer at `now` must have been taken before.
    pub fn admit(&mut self, kind: Kind, now: Instant) -> bool {
        let is_apart = self.counts.len() < CAPACITY || self.counts.contains_key(&kind);
        let kind = if is_apart { kind } else { kind.any() };
        if let Some(count) = self.counts.get_mut(&kind) {
            *count += 1;
            return *count <= WRITTEN;
        }
        let kind = Arc::new(kind);
        self.counts.insert(Arc::clone(&kind), 1);
        self.order.push_back((now + SPAN, kind));
        true
    }

    /// When there may be something to tell.
    pub fn next(&self) -> Option<Instant> {
        self.order.front().map(|(end, _)| *end)
    }

    /// What is to be told of the seconds that are over at `now`.
    pub fn over(&mut self, now: Instant) -> Vec<Summary> {
        let mut told = Vec::new();
        while self.order.front().is_some_and(|(end, _)| *end <= now) {
            told.extend(self.end_first());
        }
        told
    }

    /// What is to be told of all that was counted, as when the process ends.
    pub fn end(&mut self) -> Vec<Summary> {
        let mut told = Vec::new();
        while !self.order.is_empty() {
            told.extend(self.end_first());
        }
        told
    }

    fn end_first(&mut self) -> Option<Summary> {
        let (_, kind) = self.order.pop_front()?;
        let repeated = self.counts.remove(&kind)?.saturating_sub(WRITTEN);
        (repeated > 0).then_some(Summary { kind, repeated })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tracing::Level;

    use super::{CAPACITY, Kind, Repeats, WRITTEN};
    use crate::telemetry::log::Format;

    fn kind(message: &str, reason: &str, client: &str) -> Kind {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Kind { level: Level::WARN, message: message.to_owned(), reason: some(reason), client: some(client) }
    }

    fn told(repeats: &mut Repeats, now: Instant) -> Vec<String> {
        let told = repeats.over(now);
        told.iter().map(|summary| summary.fields().line(Format::Text, "T", summary.level())).collect()
    }

    #[test]
    fn a136_repeated_lines_are_counted_and_the_count_is_told() {
        let (start, mut repeats) = (Instant::now(), Repeats::default());
        let refused = || kind("sign-in refused", "wrong password", "192.0.2.1");
        let written = (0..1_000).filter(|_| repeats.admit(refused(), start)).count();
        assert_eq!(written as u64, WRITTEN);
        assert!(repeats.admit(kind("sign-in refused", "banned", "192.0.2.1"), start), "another reason");
        assert!(repeats.admit(kind("sign-in refused", "wrong password", "192.0.2.2"), start), "another client");
        assert!(repeats.admit(kind("refused", "wrong password", "192.0.2.1"), start), "another message");
        assert!(repeats.admit(Kind { level: Level::INFO, ..refused() }, start), "another level");

        let end = start + Duration::from_secs(1);
        assert_eq!(repeats.next(), Some(end));
        assert_eq!(told(&mut repeats, end - Duration::from_nanos(1)), [""; 0], "the second is not over");
        assert_eq!(
            told(&mut repeats, end),
            ["T  WARN sign-in refused reason=\"wrong password\" repeated=990 client=192.0.2.1\n"],
            "and of those that were all written nothing is told"
        );
        assert!(repeats.admit(refused(), end), "a new second");
        assert_eq!(repeats.next(), Some(end + Duration::from_secs(1)));
    }

    #[test]
    fn a136_a_full_table_goes_on_counting_and_does_not_grow() {
        let (start, mut repeats) = (Instant::now(), Repeats::default());
        let client = |n: usize| format!("2001:db8::{n:x}");
        let attempts = 10 * CAPACITY;
        let written = (0..attempts).filter(|n| repeats.admit(kind("refused", "x", &client(*n)), start)).count();
        assert_eq!((written, repeats.counts.len()), (CAPACITY + WRITTEN as usize, CAPACITY + 1));
        assert!(repeats.admit(kind("another", "x", &client(0)), start), "another message has a count of its own");
        assert_eq!(
            told(&mut repeats, start + Duration::from_secs(1)),
            [format!("T  WARN refused repeated={}\n", attempts - written)]
        );
        assert!(repeats.counts.is_empty() && repeats.order.is_empty(), "nothing is kept");
    }

    #[test]
    fn a136_what_was_counted_is_told_at_the_end() {
        let (start, mut repeats) = (Instant::now(), Repeats::default());
        for _ in 0..15 {
            let _ = repeats.admit(kind("refused", "", ""), start);
        }
        let told = repeats.end();
        assert_eq!(told.iter().map(|summary| summary.repeated).collect::<Vec<_>>(), [5]);
        assert_eq!((repeats.end().len(), repeats.next()), (0, None));
    }
}
