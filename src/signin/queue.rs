//! Whose password is checked next: places for each address prefix, and turns that go round.
//!
//! Everybody who signs in wants the same few threads, and one stranger can want them a thousand times a second. So
//! nobody shares a waiting line with a stranger: each (door, prefix) has a line of its own with a few places, in order
//! of arrival. Within a door the prefixes take turns, one attempt each; and while both doors have somebody waiting,
//! they take turns too, so that neither has less than half. Who finds no place is refused, and that is only who has
//! filled their own line (A113).
//!
//! Pure: no thread, no clock, no lock. `pool` drives it. Every operation is logarithmic in what is waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::num::NonZeroUsize;

use crate::address::AddressPrefix;

/// Where somebody signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// The portal's first factor.
    Portal,
    /// Basic credentials at the gate.
    Basic,
}

impl Door {
    /// Its name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Door::Portal => "portal",
            Door::Basic => "basic",
        }
    }

    const fn other(self) -> Door {
        match self {
            Door::Portal => Door::Basic,
            Door::Basic => Door::Portal,
        }
    }
}

/// What is waiting, by door and prefix.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// How many may wait in one line.
    places: usize,
    /// How many may wait in all lines together.
    capacity: usize,
    portal: Lines<T>,
    basic: Lines<T>,
    last: Door,
    waiting: usize,
    /// Every line that is not empty, with its length.
    by_length: BTreeSet<(usize, Door, AddressPrefix)>,
    /// The number that the next ticket or turn gets.
    next: u64,
}

/// A place in a line, to give it up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    door: Door,
    prefix: AddressPrefix,
    number: u64,
}

/// What came of asking for a place.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub enum Admission<T> {
    /// There was one.
    Waiting(Ticket),
    /// There was one after the last in the longest line, which is handed back here, had lost theirs.
    Displacing(Ticket, T),
    /// There was none; what was to wait is handed back.
    Full(T),
}

/// The lines of one door.
#[derive(Debug)]
struct Lines<T> {
    lines: HashMap<AddressPrefix, Line<T>>,
    /// Which prefix is next, and next after that: every line that is not empty, by its turn.
    turns: BTreeMap<u64, AddressPrefix>,
}

#[derive(Debug)]
struct Line<T> {
    turn: u64,
    /// In order of arrival, each with the number of its ticket.
    waiting: VecDeque<(u64, T)>,
}

impl<T> FairQueue<T> {
    /// An empty queue with `places` for each prefix at each door, and `capacity` in all.
    pub fn new(places: NonZeroUsize, capacity: NonZeroUsize) -> FairQueue<T> {
        let empty = || Lines { lines: HashMap::new(), turns: BTreeMap::new() };
        FairQueue {
            places: places.get(),
            capacity: capacity.get(),
            portal: empty(),
            basic: empty(),
            last: Door::Basic,
            waiting: 0,
            by_length: BTreeSet::new(),
            next: 0,
        }
    }

    /// Lets `item` wait in its line, if there is a place.
    ///
    /// If all lines together are full, the last of the longest line makes room, unless that line would then be shorter
    /// than this one: so who floods is refused, and not who comes with a first attempt.
    pub fn push(&mut self, door: Door, prefix: AddressPrefix, item: T) -> Admission<T> {
        let own = self.lines(door).lines.get(&prefix).map_or(0, |line| line.waiting.len());
        if own >= self.places {
            return Admission::Full(item);
        }
        let mut displaced = None;
        if self.waiting >= self.capacity {
            match self.by_length.last() {
                Some(&(longest, door, prefix)) if longest > own + 1 => displaced = self.remove_last(door, prefix),
                _ => return Admission::Full(item),
            }
        }
        let number = self.number();
        let lines = self.lines(door);
        let line = lines.lines.entry(prefix).or_insert_with(|| {
            lines.turns.insert(number, prefix);
            Line { turn: number, waiting: VecDeque::new() }
        });
        line.waiting.push_back((number, item));
        self.resized(door, prefix, own, own + 1);
        let ticket = Ticket { door, prefix, number };
        displaced.map_or(Admission::Waiting(ticket), |displaced| Admission::Displacing(ticket, displaced))
    }

    /// What is next, if anything waits.
    pub fn pop(&mut self) -> Option<T> {
        let doors = [self.last.other(), self.last];
        let door = doors.into_iter().find(|&door| !self.lines(door).turns.is_empty())?;
        let turn = self.number();
        let lines = self.lines(door);
        let (_, prefix) = lines.turns.pop_first()?;
        let line = lines.lines.get_mut(&prefix)?;
        let (_, item) = line.waiting.pop_front()?;
        let left = line.waiting.len();
        if left == 0 {
            lines.lines.remove(&prefix);
        } else {
            line.turn = turn;
            lines.turns.insert(turn, prefix);
        }
        self.resized(door, prefix, left + 1, left);
        self.last = door;
        Some(item)
    }

    /// Gives up the place of `ticket`, and hands back what waited there; nothing if it has had its turn.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let Ticket { door, prefix, number } = ticket;
        let line = self.lines(door).lines.get(&prefix)?;
        // Numbers rise from front to back.
        let at = line.waiting.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.take(door, prefix, at)
    }

    fn remove_last(&mut self, door: Door, prefix: AddressPrefix) -> Option<T> {
        let last = self.lines(door).lines.get(&prefix)?.waiting.len().checked_sub(1)?;
        self.take(door, prefix, last)
    }

    /// Takes what waits at `at` in a line out of turn.
    fn take(&mut self, door: Door, prefix: AddressPrefix, at: usize) -> Option<T> {
        let lines = self.lines(door);
        let line = lines.lines.get_mut(&prefix)?;
        let (_, item) = line.waiting.remove(at)?;
        let left = line.waiting.len();
        if left == 0 {
            lines.turns.remove(&line.turn);
            lines.lines.remove(&prefix);
        }
        self.resized(door, prefix, left + 1, left);
        Some(item)
    }

    /// Keeps count of a line that had `before` and has `after`.
    fn resized(&mut self, door: Door, prefix: AddressPrefix, before: usize, after: usize) {
        self.by_length.remove(&(before, door, prefix));
        if after > 0 {
            self.by_length.insert((after, door, prefix));
        }
        self.waiting = self.waiting.saturating_add(after).saturating_sub(before);
    }

    fn lines(&mut self, door: Door) -> &mut Lines<T> {
        match door {
            Door::Portal => &mut self.portal,
            Door::Basic => &mut self.basic,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::Ipv4Addr;
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::{Admission, Door, FairQueue, Ticket};
    use crate::address::AddressPrefix;

    fn prefix(n: u8) -> AddressPrefix {
        AddressPrefix::V4(Ipv4Addr::new(192, 0, 2, n))
    }

    fn queue<T>(places: usize, capacity: usize) -> FairQueue<T> {
        FairQueue::new(NonZeroUsize::new(places).unwrap(), NonZeroUsize::new(capacity).unwrap())
    }

    fn drained<T>(queue: &mut FairQueue<T>) -> Vec<T> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[track_caller]
    fn waits<T: std::fmt::Debug>(admission: Admission<T>) -> Ticket {
        let Admission::Waiting(ticket) = admission else { panic!("{admission:?}") };
        ticket
    }

    #[test]
    fn prefixes_take_turns_and_each_is_served_in_order_of_arrival() {
        let mut queue = queue(8, 100);
        for (from, item) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1"), (3, "c1"), (2, "b2")] {
            waits(queue.push(Door::Portal, prefix(from), item));
        }
        assert_eq!(drained(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn doors_take_turns_and_one_alone_has_all() {
        let mut queue = queue(8, 100);
        for item in ["p1", "p2", "p3", "p4"] {
            waits(queue.push(Door::Portal, prefix(1), item));
        }
        assert_eq!(queue.pop(), Some("p1"));
        assert_eq!(queue.pop(), Some("p2"));
        for item in ["b1", "b2"] {
            waits(queue.push(Door::Basic, prefix(1), item));
        }
        assert_eq!(drained(&mut queue), ["b1", "p3", "b2", "p4"]);
    }

    #[test]
    fn a113_only_who_has_filled_their_own_line_is_refused() {
        let mut queue = queue(2, 100);
        for item in [1, 2] {
            waits(queue.push(Door::Portal, prefix(1), item));
        }
        assert_eq!(queue.push(Door::Portal, prefix(1), 3), Admission::Full(3));
        waits(queue.push(Door::Basic, prefix(1), 4));
        waits(queue.push(Door::Portal, prefix(2), 5));
        waits(queue.push(Door::Portal, AddressPrefix::Unknown, 6));
    }

    #[test]
    fn a113_when_all_is_full_the_longest_line_makes_room() {
        let mut queue = queue(3, 4);
        let tickets = [1, 2, 3].map(|item| waits(queue.push(Door::Portal, prefix(1), item)));
        waits(queue.push(Door::Basic, prefix(2), 4));
        let admission = queue.push(Door::Basic, prefix(3), 5);
        assert!(matches!(admission, Admission::Displacing(_, 3)), "the newest of the longest: {admission:?}");
        assert_eq!(queue.remove(tickets[2]), None, "it lost its place");
        let admission = queue.push(Door::Basic, prefix(2), 6);
        assert_eq!(admission, Admission::Full(6), "a line does not grow at the cost of one that would be shorter");
        assert!(matches!(queue.push(Door::Basic, prefix(4), 7), Admission::Displacing(_, 2)));
        assert_eq!(queue.push(Door::Basic, prefix(5), 8), Admission::Full(8), "nobody has more than one");
        assert_eq!(drained(&mut queue), [1, 4, 5, 7]);
    }

    #[test]
    fn who_goes_away_leaves_their_place() {
        let mut queue = queue(2, 2);
        let gone = waits(queue.push(Door::Portal, prefix(1), 1));
        waits(queue.push(Door::Portal, prefix(1), 2));
        assert_eq!(queue.remove(gone), Some(1));
        assert_eq!(queue.remove(gone), None, "once");
        let last = waits(queue.push(Door::Portal, prefix(1), 3));
        assert_eq!(queue.pop(), Some(2));
        assert_eq!(queue.remove(last), Some(3));
        assert_eq!(queue.pop(), None);
        assert!(queue.portal.lines.is_empty() && queue.portal.turns.is_empty() && queue.by_length.is_empty());
        assert_eq!(queue.waiting, 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(Door, u8),
        Pop,
        Remove(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let door = prop_oneof![Just(Door::Portal), Just(Door::Basic)];
        let step = prop_oneof![
            5 => (door, 0..6u8).prop_map(|(door, from)| Step::Push(door, from)),
            3 => Just(Step::Pop),
            1 => any::<prop::sample::Index>().prop_map(Step::Remove),
        ];
        prop::collection::vec(step, 0..200)
    }

    type Line = (Door, u8);

    /// All that waits, in order of arrival.
    #[derive(Default)]
    struct Model(BTreeMap<usize, (Line, Ticket)>);

    impl Model {
        fn length(&self, line: Line) -> usize {
            self.0.values().filter(|(at, _)| *at == line).count()
        }

        fn longest(&self) -> usize {
            self.0.values().map(|(line, _)| self.length(*line)).max().unwrap_or(0)
        }

        fn lines(&self) -> BTreeSet<Line> {
            self.0.values().map(|(line, _)| *line).collect()
        }

        fn arrivals(&self, line: Line) -> Vec<usize> {
            self.0.iter().filter(|(_, (at, _))| *at == line).map(|(arrival, _)| *arrival).collect()
        }
    }

    proptest! {
        /// The promises of this module, against a list of all that waits.
        #[test]
        fn a113_nobody_is_refused_or_passed_over_for_somebody_elses_attempts(
            places in 1..4usize, capacity in 1..14usize, steps in steps(),
        ) {
            let mut queue = queue(places, capacity);
            let mut model = Model::default();
            // Which prefixes have had a turn since a waiting line had one, or began.
            let mut since: BTreeMap<Line, BTreeSet<u8>> = BTreeMap::new();
            let mut passed_over = None;
            for (arrival, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(door, from) => {
                        let line = (door, from);
                        let (own, longest, full) = (model.length(line), model.longest(), model.0.len() >= capacity);
                        match queue.push(door, prefix(from), (line, arrival)) {
                            Admission::Waiting(ticket) => {
                                prop_assert!(own < places && !full);
                                model.0.insert(arrival, (line, ticket));
                            }
                            Admission::Displacing(ticket, (loser, newest)) => {
                                prop_assert!(own < places && full && own + 1 < longest);
                                prop_assert_eq!(model.length(loser), longest);
                                prop_assert_eq!(model.arrivals(loser).pop(), Some(newest));
                                model.0.remove(&newest);
                                model.0.insert(arrival, (line, ticket));
                            }
                            Admission::Full(_) => prop_assert!(own >= places || (full && longest <= own + 1)),
                        }
                    }
                    Step::Pop => {
                        let waiting = model.lines();
                        let popped = queue.pop();
                        prop_assert_eq!(popped.is_some(), !waiting.is_empty(), "it never idles");
                        let Some((line @ (door, from), first)) = popped else { continue };
                        prop_assert_eq!(model.arrivals(line).into_iter().next(), Some(first), "in order of arrival");
                        model.0.remove(&first);
                        since.remove(&line);
                        for &other in waiting.iter().filter(|other| **other != line && other.0 == door) {
                            let once = since.entry(other).or_default().insert(from);
                            prop_assert!(once, "{} had two turns while {:?} waited", from, other);
                        }
                        let other = waiting.iter().map(|other| other.0).find(|other| *other != door);
                        prop_assert!(other.is_none() || other != passed_over, "a door with work has every second turn");
                        passed_over = other;
                    }
                    Step::Remove(which) => {
                        let arrivals = Vec::from_iter(model.0.keys().copied());
                        if !arrivals.is_empty() {
                            let gone = *which.get(&arrivals);
                            let (line, ticket) = model.0.remove(&gone).unwrap();
                            prop_assert_eq!(queue.remove(ticket), Some((line, gone)));
                        }
                    }
                }
                since.retain(|line, _| model.length(*line) > 0);
                prop_assert_eq!(queue.waiting, model.0.len());
            }
        }
    }
}
