//! The failed attempts of this process, by user and by address.
//!
//! In memory and bounded. It counts what this process saw since it started: replicas do not share it, and a
//! restart forgets it. Failures are counted on the canonical user name, so that other spellings share one
//! budget (A84), and on the /64 of an IPv6 address, which one person has all of (A88). Names that nobody
//! has are counted by address only; so a flood of them can't push out what is known of real users.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use crate::clock::UnixTime;
use crate::regulation::{Limits, Standing, standing};

/// How many users are kept, and how many addresses; the ones that failed longest ago are dropped beyond that.
const CAPACITY: usize = 65_536;

/// Who is counted in an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// The canonical user name, if there is such a user.
    pub username: Option<&'a str>,
    /// Where the attempt came from, if that is known.
    pub address: Option<IpAddr>,
}

/// The record of failed attempts.
#[derive(Debug)]
pub struct Attempts {
    limits: Limits,
    records: Mutex<Records>,
}

#[derive(Debug)]
struct Records {
    users: Record<String>,
    addresses: Record<IpAddr>,
}

impl Attempts {
    /// An empty record.
    pub fn new(limits: Limits) -> Attempts {
        Attempts::with_capacity(limits, CAPACITY)
    }

    fn with_capacity(limits: Limits, capacity: usize) -> Attempts {
        let records = Records { users: Record::new(capacity), addresses: Record::new(capacity) };
        Attempts { limits, records: Mutex::new(records) }
    }

    /// Whether this user, from this address, may try now.
    pub fn standing(&self, counted: Counted<'_>, now: UnixTime) -> Standing {
        if self.limits.are_off() {
            return Standing::Free;
        }
        self.records.lock().unwrap_or_else(PoisonError::into_inner).standing(&self.limits, counted, now)
    }

    /// Puts the outcome of an attempt on record, unless a ban was set while its password was being checked.
    ///
    /// That ban is the answer then, even to the right password: otherwise many attempts sent at once would
    /// all count as the first one. It is not extended.
    pub fn conclude(&self, counted: Counted<'_>, success: bool, now: UnixTime) -> Standing {
        if self.limits.are_off() {
            return Standing::Free;
        }
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = records.standing(&self.limits, counted, now);
        if let Standing::Banned { .. } = standing {
            return standing;
        }
        let keep = self.limits.max_retries as usize;
        if let Some(user) = counted.username.filter(|_| self.limits.by_user) {
            records.users.conclude(user.to_owned(), success, keep, now);
        }
        if let Some(address) = counted.address.filter(|_| self.limits.by_address) {
            records.addresses.conclude(household(address), success, keep, now);
        }
        standing
    }
}

impl Records {
    /// Addresses first, then users.
    fn standing(&self, limits: &Limits, counted: Counted<'_>, now: UnixTime) -> Standing {
        if let Some(address) = counted.address.filter(|_| limits.by_address) {
            let banned = standing(self.addresses.failures(&household(address)), limits, now);
            if let Standing::Banned { .. } = banned {
                return banned;
            }
        }
        match counted.username.filter(|_| limits.by_user) {
            Some(user) => standing(self.users.failures(user), limits, now),
            None => Standing::Free,
        }
    }
}

/// What one person can be expected to have: an IPv4 address, or an IPv6 /64.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Failures since the last success, for a bounded number of subjects.
#[derive(Debug)]
struct Record<K> {
    capacity: usize,
    failures: HashMap<K, Failures>,
    /// Whose newest failure came when, oldest first.
    order: BTreeMap<u64, K>,
    next: u64,
}

#[derive(Debug, Default)]
struct Failures {
    /// Newest first, no more than a ban needs.
    at: VecDeque<UnixTime>,
    turn: u64,
}

impl<K: std::hash::Hash + Eq + Clone> Record<K> {
    fn new(capacity: usize) -> Record<K> {
        Record { capacity, failures: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    fn failures<Q: std::hash::Hash + Eq + ?Sized>(&self, subject: &Q) -> impl Iterator<Item = UnixTime>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.failures.get(subject).into_iter().flat_map(|failures| failures.at.iter().copied())
    }

    fn conclude(&mut self, subject: K, success: bool, keep: usize, now: UnixTime) {
        if success {
            if let Some(failures) = self.failures.remove(&subject) {
                self.order.remove(&failures.turn);
            }
            return;
        }
        self.next += 1;
        let failures = self.failures.entry(subject.clone()).or_default();
        failures.at.push_front(now);
        failures.at.truncate(keep);
        let earlier = std::mem::replace(&mut failures.turn, self.next);
        self.order.remove(&earlier);
        self.order.insert(self.next, subject);
        if self.failures.len() > self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.failures.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Attempts, Counted, household};
    use crate::clock::UnixTime;
    use crate::regulation::{Limits, Standing};

    fn at(secs: u64) -> UnixTime {
        UnixTime::from_secs(secs)
    }

    fn from<'a>(username: Option<&'a str>, address: &str) -> Counted<'a> {
        Counted { username, address: address.parse().ok() }
    }

    #[test]
    fn who_is_counted_depends_on_the_modes() {
        let (john, nobody) = (Some("john"), None);
        #[rustfmt::skip]
        let table = [
            // because                                          user   address  fails as                        then asks as                     banned
            ("a user from anywhere",                            true,  false,   from(john, "192.0.2.1"),        from(john, "192.0.2.2"),         true),
            ("another user is not",                             true,  false,   from(john, "192.0.2.1"),        from(Some("ann"), "192.0.2.1"),  false),
            ("unknown users are no users",                      true,  false,   from(nobody, "192.0.2.1"),      from(nobody, "192.0.2.1"),       false),
            ("unknown users count for the address",             true,  true,    from(nobody, "192.0.2.1"),      from(john, "192.0.2.1"),         true),
            ("the address alone",                               false, true,    from(john, "192.0.2.1"),        from(john, "192.0.2.2"),         false),
            ("a88: a /64 is one household",                     false, true,    from(john, "2001:db8::1"),      from(nobody, "2001:db8::ffff:1"), true),
            ("and the next is another",                         false, true,    from(john, "2001:db8::1"),      from(nobody, "2001:db8:0:1::1"), false),
            ("IPv4 written as IPv6",                            false, true,    from(john, "::ffff:192.0.2.1"), from(john, "192.0.2.1"),         true),
            ("an unknown address",                              false, true,    from(john, "-"),                from(john, "-"),                 false),
        ];
        for (because, by_user, by_address, fails, asks, banned) in table {
            let attempts = Attempts::new(Limits { by_user, by_address, ..Limits::default() });
            for _ in 0..3 {
                let _ = attempts.conclude(fails, false, at(1000));
            }
            let expected = if banned { Standing::Banned { until: at(1300) } } else { Standing::Free };
            assert_eq!(attempts.standing(asks, at(1000)), expected, "{because}");
        }
    }

    #[test]
    fn attempts_during_a_ban_do_not_extend_it() {
        let attempts = Attempts::new(Limits::default());
        let john = from(Some("john"), "192.0.2.1");
        for now in [1000, 1001, 1002, 1100, 1301] {
            let _ = attempts.conclude(john, false, at(now));
        }
        assert_eq!(attempts.standing(john, at(1301)), Standing::Banned { until: at(1302) });
        assert_eq!(attempts.conclude(john, true, at(1301)), Standing::Banned { until: at(1302) }, "even if right");
        assert_eq!(attempts.conclude(john, false, at(1302)), Standing::Free);
        assert_eq!(attempts.standing(john, at(1302)), Standing::Free, "a new row begins");
    }

    #[test]
    fn beyond_the_capacity_who_failed_longest_ago_is_dropped() {
        let attempts = Attempts::with_capacity(Limits { max_retries: 1, ..Limits::default() }, 2);
        for (name, now) in [("a", 1000), ("b", 1001), ("c", 1002)] {
            let _ = attempts.conclude(from(Some(name), "-"), false, at(now));
        }
        let banned = |name| attempts.standing(from(Some(name), "-"), at(1002)) != Standing::Free;
        assert_eq!(["a", "b", "c"].map(banned), [false, true, true]);
        let records = attempts.records.lock().unwrap();
        assert_eq!((records.users.failures.len(), records.users.order.len()), (2, 2));
    }

    #[test]
    fn a_success_is_not_kept() {
        let attempts = Attempts::new(Limits::default());
        let john = from(Some("john"), "192.0.2.1");
        let _ = attempts.conclude(john, false, at(1000));
        let _ = attempts.conclude(john, true, at(1000));
        let records = attempts.records.lock().unwrap();
        assert_eq!((records.users.failures.len(), records.users.order.len()), (0, 0));
    }

    #[test]
    fn households() {
        assert_eq!(household("2001:db8:1:2:3:4:5:6".parse().unwrap()), "2001:db8:1:2::".parse::<IpAddr>().unwrap());
    }

    /// The rule word for word, on a log of everything: the latest `max_retries` attempts that were not made
    /// during a ban, within `find_time` and since the last ban ended, are a ban if all of them failed.
    #[derive(Default)]
    struct Reference {
        log: Vec<(u64, bool)>,
        banned_until: u64,
    }

    impl Reference {
        fn attempt(&mut self, limits: &Limits, success: bool, now: u64) -> bool {
            if now < self.banned_until {
                return false;
            }
            self.log.push((now, success));
            let since = |at: u64| at + limits.find_time.as_secs() > now && at >= self.banned_until;
            let retries = limits.max_retries as usize;
            let latest: Vec<_> = self.log.iter().rev().take(retries).filter(|(at, _)| since(*at)).collect();
            if latest.len() == retries && latest.iter().all(|(_, success)| !success) {
                self.banned_until = now + limits.ban_time.as_secs();
            }
            true
        }
    }

    proptest::proptest! {
        #[test]
        fn the_record_agrees_with_the_rule_word_for_word(
            max_retries in 1u32..5,
            find in 1u64..20,
            longer in 0u64..10,
            steps in proptest::collection::vec((0u64..12, proptest::bool::weighted(0.2)), 0..40),
        ) {
            let seconds = std::time::Duration::from_secs;
            let limits = Limits { max_retries, find_time: seconds(find), ban_time: seconds(find + longer), ..Limits::default() };
            let (attempts, mut reference) = (Attempts::new(limits.clone()), Reference::default());
            let john = from(Some("john"), "192.0.2.1");
            let mut now = 1000;
            for (step, success) in steps {
                now += step;
                let free = reference.attempt(&limits, success, now);
                let standing = attempts.conclude(john, success, at(now));
                proptest::prop_assert_eq!(standing == Standing::Free, free, "at {}", now);
            }
        }
    }
}
