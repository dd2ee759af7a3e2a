//! The failed attempts of this process, by user and by address.
//!
//! In memory and bounded. It counts what this process saw since it started: replicas do not share it, and a
//! restart forgets it. Failures are counted on the canonical user name, so that other spellings share one
//! budget (A84), and on the address prefix, which one person has all of (A88).
//!
//! - A failure is remembered with its pair, the user and the prefix, and a success clears the failures of its own pair
//!   alone: neither the victim's own client nor an account of one's own clears what somebody else did (A119).
//! - The same wrong password, from one prefix for one user, counts once within the window: a device that still has an old
//!   one does not ban its owner.
//! - Names that nobody has are counted like users (A117), apart from them: a flood of made-up names can't push out what
//!   is known of a user.
//!
//! Moments are monotonic: no clock that somebody sets frees or bans anyone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::tag::{CredentialTag, NameTag};
use crate::address::AddressPrefix;
use crate::regulation::{Limits, Standing, standing};

/// How many failures are kept of users, of names that nobody has, and of prefixes: each at most 50 MiB. Beyond that
/// those are dropped who failed longest ago.
const CAPACITY: usize = 131_072;

/// What is counted of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// The user's canonical name, or the name that nobody has.
    pub name: NameTag,
    /// Whether somebody has that name.
    pub is_user: bool,
    /// Where the attempt came from.
    pub prefix: AddressPrefix,
    /// The password that was shown.
    pub credential: CredentialTag,
}

/// The record of failed attempts.
#[derive(Debug)]
pub struct Failures {
    limits: Limits,
    records: Mutex<Records>,
}

#[derive(Debug)]
struct Records {
    users: Record<NameTag>,
    unknown_names: Record<NameTag>,
    prefixes: Record<AddressPrefix>,
}

impl Failures {
    /// An empty record.
    pub fn new(limits: Limits) -> Failures {
        Failures::with_capacity(limits, CAPACITY)
    }

    fn with_capacity(limits: Limits, capacity: usize) -> Failures {
        let records = Records {
            users: Record::new(capacity),
            unknown_names: Record::new(capacity),
            prefixes: Record::new(capacity),
        };
        Failures { limits, records: Mutex::new(records) }
    }

    /// Whether this user, from this prefix, may try now.
    pub fn standing(&self, counted: &Counted, now: Instant) -> Standing {
        if self.limits.are_off() {
            return Standing::Free;
        }
        self.records.lock().unwrap_or_else(PoisonError::into_inner).standing(&self.limits, counted, now)
    }

    /// Puts the outcome of an attempt on record, unless a ban was set while its password was being checked.
    ///
    /// That ban is the answer then, even to the right password: otherwise many attempts sent at once would
    /// all count as the first one. It is not extended.
    pub fn conclude(&self, counted: &Counted, success: bool, now: Instant) -> Standing {
        if self.limits.are_off() {
            return Standing::Free;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = records.standing(&self.limits, counted, now);
        if standing == Standing::Free {
            if self.limits.by_user {
                records.names(counted).conclude(counted.name, counted, success, &self.limits, now);
            }
            if self.limits.by_address {
                records.prefixes.conclude(counted.prefix, counted, success, &self.limits, now);
            }
        }
        standing
    }
}

impl Records {
    /// Addresses first, then users.
    fn standing(&mut self, limits: &Limits, counted: &Counted, now: Instant) -> Standing {
        if limits.by_address {
            let banned = standing(self.prefixes.failures(&counted.prefix), limits, now);
            if let Standing::Banned { .. } = banned {
                return banned;
            }
        }
        if limits.by_user { standing(self.names(counted).failures(&counted.name), limits, now) } else { Standing::Free }
    }

    fn names(&mut self, counted: &Counted) -> &mut Record<NameTag> {
        if counted.is_user { &mut self.users } else { &mut self.unknown_names }
    }
}

/// Failures of a bounded number of subjects.
#[derive(Debug)]
struct Record<K> {
    capacity: usize,
    /// How many failures there are, of all subjects.
    count: usize,
    subjects: HashMap<K, Subject>,
    /// Whose newest failure came when, oldest first.
    order: BTreeMap<u64, K>,
    next: u64,
}

#[derive(Debug)]
struct Subject {
    /// Newest first, no more than a ban needs.
    failures: VecDeque<Failure>,
    turn: u64,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    name: NameTag,
    prefix: AddressPrefix,
    credential: CredentialTag,
}

impl Failure {
    fn is_of_pair(&self, counted: &Counted) -> bool {
        self.name == counted.name && self.prefix == counted.prefix
    }
}

impl<K: std::hash::Hash + Eq + Copy> Record<K> {
    fn new(capacity: usize) -> Record<K> {
        Record { capacity, count: 0, subjects: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    fn failures(&self, key: &K) -> impl Iterator<Item = Instant> {
        self.subjects.get(key).into_iter().flat_map(|subject| subject.failures.iter().map(|failure| failure.at))
    }

    fn conclude(&mut self, key: K, counted: &Counted, success: bool, limits: &Limits, now: Instant) {
        if success { self.clear(key, counted) } else { self.fail(key, counted, limits, now) }
    }

    /// Forgets the failures of this pair.
    fn clear(&mut self, key: K, counted: &Counted) {
        let Some(subject) = self.subjects.get_mut(&key) else { return };
        let before = subject.failures.len();
        subject.failures.retain(|failure| !failure.is_of_pair(counted));
        self.count -= before - subject.failures.len();
        if subject.failures.is_empty() {
            self.order.remove(&subject.turn);
            self.subjects.remove(&key);
        }
    }

    fn fail(&mut self, key: K, counted: &Counted, limits: &Limits, now: Instant) {
        let one = || Subject { failures: VecDeque::with_capacity(1), turn: 0 };
        let subject = self.subjects.entry(key).or_insert_with(one);
        let counts_already = subject.failures.iter().any(|failure| {
            failure.is_of_pair(counted)
                && failure.credential == counted.credential
                && now.saturating_duration_since(failure.at) < limits.find_time
        });
        if counts_already {
            return;
        }
        let Counted { name, prefix, credential, .. } = *counted;
        let before = subject.failures.len();
        subject.failures.push_front(Failure { at: now, name, prefix, credential });
        subject.failures.truncate(limits.max_retries as usize);
        self.count += subject.failures.len() - before;
        self.next += 1;
        let earlier = std::mem::replace(&mut subject.turn, self.next);
        self.order.remove(&earlier);
        self.order.insert(self.next, key);
        while self.count > self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            let dropped = self.subjects.remove(&oldest);
            self.count -= dropped.map_or(0, |subject| subject.failures.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    use super::{Counted, Failures};
    use crate::address::AddressPrefix;
    use crate::regulation::{Limits, Standing};
    use crate::signin::tag::{CredentialTag, NameTag};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn at(secs: u64) -> Instant {
        *START + Duration::from_secs(secs)
    }

    fn banned(left: u64) -> Standing {
        Standing::Banned { left: Duration::from_secs(left) }
    }

    /// An attempt on the user `name` with the password `password`.
    fn user(name: u8, address: &str, password: u8) -> Counted {
        let prefix = AddressPrefix::of(address.parse().ok());
        Counted { name: NameTag([name; 32]), is_user: true, prefix, credential: CredentialTag([password; 32]) }
    }

    fn nobody(name: u8, address: &str, password: u8) -> Counted {
        Counted { is_user: false, ..user(name, address, password) }
    }

    const JOHN: u8 = 1;
    const ANN: u8 = 2;

    #[test]
    fn who_is_counted_depends_on_the_modes() {
        let fails = |counted: Counted| [1, 2, 3].map(|n| Counted { credential: CredentialTag([n; 32]), ..counted });
        #[rustfmt::skip]
        let table = [
            // because                                          user   address  fails as                           then asks as                     banned
            ("a user from anywhere",                            true,  false,   user(JOHN, "192.0.2.1", 0),        user(JOHN, "192.0.2.2", 9),       true),
            ("another user is not",                             true,  false,   user(JOHN, "192.0.2.1", 0),        user(ANN, "192.0.2.1", 9),        false),
            ("a117: unknown names are counted as users are",    true,  false,   nobody(JOHN, "192.0.2.1", 0),      nobody(JOHN, "192.0.2.2", 9),     true),
            ("and are no users",                                true,  false,   nobody(JOHN, "192.0.2.1", 0),      user(JOHN, "192.0.2.1", 9),       false),
            ("unknown names count for the address",             true,  true,    nobody(ANN, "192.0.2.1", 0),       user(JOHN, "192.0.2.1", 9),       true),
            ("the address alone",                               false, true,    user(JOHN, "192.0.2.1", 0),        user(JOHN, "192.0.2.2", 9),       false),
            ("a88: a /64 is one prefix",                        false, true,    user(JOHN, "2001:db8::1", 0),      nobody(ANN, "2001:db8::ffff:1", 9), true),
            ("and the next is another",                         false, true,    user(JOHN, "2001:db8::1", 0),      nobody(ANN, "2001:db8:0:1::1", 9), false),
            ("IPv4 written as IPv6",                            false, true,    user(JOHN, "::ffff:192.0.2.1", 0), user(JOHN, "192.0.2.1", 9),       true),
            ("addresses that can't be told are one prefix",     false, true,    user(JOHN, "-", 0),                user(ANN, "fe80::1%eth0", 9),     true),
        ];
        for (because, by_user, by_address, failing, asks, is_banned) in table {
            let failures = Failures::new(Limits { by_user, by_address, ..Limits::default() });
            for attempt in fails(failing) {
                let _ = failures.conclude(&attempt, false, at(1000));
            }
            let expected = if is_banned { banned(300) } else { Standing::Free };
            assert_eq!(failures.standing(&asks, at(1000)), expected, "{because}");
        }
    }

    #[test]
    fn attempts_during_a_ban_do_not_extend_it() {
        let failures = Failures::new(Limits::default());
        for (n, now) in [1000, 1001, 1002, 1100, 1301].into_iter().enumerate() {
            let _ = failures.conclude(&user(JOHN, "192.0.2.1", n as u8), false, at(now));
        }
        let john = user(JOHN, "192.0.2.1", 9);
        assert_eq!(failures.standing(&john, at(1301)), banned(1));
        assert_eq!(failures.conclude(&john, true, at(1301)), banned(1), "even if right");
        assert_eq!(failures.conclude(&john, false, at(1302)), Standing::Free);
        assert_eq!(failures.standing(&john, at(1302)), Standing::Free, "a new row begins");
    }

    #[test]
    fn a119_a_success_clears_its_own_pair_alone() {
        let victim = |password| user(JOHN, "192.0.2.1", password);
        let guess = |password| user(JOHN, "203.0.113.66", password);
        let own_account = |password| user(ANN, "203.0.113.66", password);
        #[rustfmt::skip]
        let table = [
            // because                                                   user   address  fails twice           succeeds          fails once more  then asks as   banned
            ("the same pair begins anew",                                true,  true,    victim as fn(u8) -> _, victim as fn(u8) -> _, victim as fn(u8) -> _, false),
            ("the victim's own client does not clear a stranger's",      true,  false,   guess,                victim,           guess,           true),
            ("a stranger who guessed does not clear the victim's",       true,  false,   victim,               guess,            victim,          true),
            ("an account of one's own does not clear the address",       false, true,    guess,                own_account,      guess,           true),
        ];
        for (because, by_user, by_address, fails, succeeds, again, is_banned) in table {
            let failures = Failures::new(Limits { by_user, by_address, ..Limits::default() });
            let _ = failures.conclude(&fails(1), false, at(1000));
            let _ = failures.conclude(&fails(2), false, at(1000));
            assert_eq!(failures.conclude(&succeeds(9), true, at(1001)), Standing::Free, "{because}");
            let _ = failures.conclude(&again(3), false, at(1002));
            assert_eq!(failures.standing(&again(4), at(1002)) != Standing::Free, is_banned, "{because}");
        }
    }

    #[test]
    fn the_same_wrong_password_from_one_place_counts_once() {
        let old = |address| user(JOHN, address, 7);
        for (by_user, by_address) in [(true, false), (false, true)] {
            let failures = Failures::new(Limits { by_user, by_address, ..Limits::default() });
            // A phone that polls each half minute with a password that was changed.
            for now in (1000..5000).step_by(30) {
                assert_eq!(failures.conclude(&old("192.0.2.1"), false, at(now)), Standing::Free, "at {now}");
            }
        }
        let failures = Failures::new(Limits::default());
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            let _ = failures.conclude(&old(address), false, at(1000));
        }
        assert_eq!(failures.standing(&old("192.0.2.1"), at(1000)), banned(300), "elsewhere it is somebody else's");
        let failures = Failures::new(Limits::default());
        for password in [1, 1, 2, 2, 3] {
            let _ = failures.conclude(&user(JOHN, "192.0.2.1", password), false, at(1000));
        }
        assert_eq!(failures.standing(&old("192.0.2.1"), at(1000)), banned(300), "other passwords count");
    }

    #[test]
    fn beyond_the_capacity_who_failed_longest_ago_is_dropped() {
        let failures = Failures::with_capacity(Limits { max_retries: 1, ..Limits::default() }, 2);
        for (name, now) in [(1, 1000), (2, 1001), (3, 1002)] {
            let _ = failures.conclude(&user(name, "-", 0), false, at(now));
        }
        let is_banned = |name| failures.standing(&user(name, "-", 0), at(1002)) != Standing::Free;
        assert_eq!([1, 2, 3].map(is_banned), [false, true, true]);
        // Names that nobody has push nobody out.
        for name in 10..20 {
            let _ = failures.conclude(&nobody(name, "-", 0), false, at(1002));
        }
        assert_eq!([1, 2, 3].map(is_banned), [false, true, true]);
        let records = failures.records.lock().unwrap();
        for record in [&records.users, &records.unknown_names] {
            assert_eq!((record.subjects.len(), record.order.len(), record.count), (2, 2, 2));
        }
    }

    #[test]
    fn many_failures_of_few_are_bounded_too() {
        let limits = Limits { max_retries: 10, ..Limits::default() };
        let failures = Failures::with_capacity(limits, 25);
        for n in 0..200u8 {
            let _ = failures.conclude(&user(n % 5, "192.0.2.1", n), false, at(u64::from(n) * 200));
        }
        let records = failures.records.lock().unwrap();
        assert!(records.users.count <= 25);
        assert_eq!(records.users.count, records.users.subjects.values().map(|it| it.failures.len()).sum::<usize>());
        assert_eq!(records.users.subjects.len(), records.users.order.len());
    }

    #[test]
    fn a_success_is_not_kept() {
        let failures = Failures::new(Limits { by_address: true, ..Limits::default() });
        let john = user(JOHN, "192.0.2.1", 1);
        let _ = failures.conclude(&john, false, at(1000));
        let _ = failures.conclude(&john, true, at(1000));
        let records = failures.records.lock().unwrap();
        assert_eq!((records.users.subjects.len(), records.users.order.len(), records.users.count), (0, 0, 0));
        assert_eq!((records.prefixes.subjects.len(), records.prefixes.order.len()), (0, 0));
    }

    /// The rule word for word, on a log of everything: failures that were not made during a ban, within `find_time` and
    /// since the last ban ended, are a ban if there are `max_retries`; a success takes those of its pair off the log, and
    /// a password of the pair that is on it within `find_time` is not put on it again.
    #[derive(Default)]
    struct Reference {
        log: Vec<(u64, u8, u8)>,
        banned_until: u64,
    }

    impl Reference {
        fn attempt(&mut self, limits: &Limits, pair: u8, password: Option<u8>, now: u64) -> bool {
            if now < self.banned_until {
                return false;
            }
            let find_time = limits.find_time.as_secs();
            let Some(password) = password else {
                self.log.retain(|(_, of, _)| *of != pair);
                return true;
            };
            let near = |at: u64| at + find_time > now;
            if self.log.iter().any(|&(at, of, shown)| near(at) && (of, shown) == (pair, password)) {
                return true;
            }
            self.log.push((now, pair, password));
            let counted = self.log.iter().filter(|(at, ..)| near(*at) && *at >= self.banned_until).count();
            if counted >= limits.max_retries as usize {
                self.banned_until = now + limits.ban_time.as_secs();
            }
            true
        }
    }

    proptest::proptest! {
        /// For the attempts on one user from several prefixes, and for those from one prefix on several users.
        #[test]
        fn a119_the_record_agrees_with_the_rule_word_for_word(
            by_user in proptest::prelude::any::<bool>(),
            max_retries in 1u32..5,
            find in 1u64..20,
            longer in 0u64..10,
            // Seconds since the one before, the other half of the pair, and the password; none is the right one.
            steps in proptest::collection::vec((0u64..12, 0u8..3, proptest::option::weighted(0.8, 0u8..4)), 0..60),
        ) {
            let seconds = Duration::from_secs;
            let limits = Limits {
                by_user,
                by_address: !by_user,
                max_retries,
                find_time: seconds(find),
                ban_time: seconds(find + longer),
            };
            let (failures, mut reference) = (Failures::new(limits.clone()), Reference::default());
            let mut now = 1000;
            for (step, pair, password) in steps {
                now += step;
                let shown = password.unwrap_or(9);
                let counted = if by_user {
                    user(JOHN, &format!("192.0.2.{pair}"), shown)
                } else {
                    user(pair, "192.0.2.1", shown)
                };
                let free = reference.attempt(&limits, pair, password, now);
                let standing = failures.conclude(&counted, password.is_none(), at(now));
                proptest::prop_assert_eq!(standing == Standing::Free, free, "at {}", now);
            }
        }
    }
}
