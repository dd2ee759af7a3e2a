//! The rules against guessing: where a user or an address stands after its failed attempts.
//!
//! Pure: failures in, a standing out. Who keeps the failures, and for how long, is the caller's matter. Moments are
//! monotonic, so that no clock which somebody sets frees or bans anyone (A131).

use std::time::{Duration, Instant};

use crate::fault::Fault;

/// How much guessing is put up with (`regulation`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether failures count against the user.
    pub by_user: bool,
    /// Whether failures count against the address.
    pub by_address: bool,
    /// How many failures in a row are a ban; 0 switches bans off.
    pub max_retries: u32,
    /// How close together those failures must be.
    pub find_time: Duration,
    /// How long a ban lasts, counted from the failure that caused it.
    pub ban_time: Duration,
}

impl Default for Limits {
    /// Three failures within two minutes ban a user for five.
    fn default() -> Limits {
        Limits {
            by_user: true,
            by_address: false,
            max_retries: 3,
            find_time: Duration::from_secs(120),
            ban_time: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// The most failures that may be asked for.
    pub const MOST_RETRIES: u32 = 1000;

    /// The same limits, if they make sense together.
    ///
    /// # Errors
    ///
    /// `find_time` longer than `ban_time`, in which the failures behind a ban that has just ended would
    /// count again; or more than [`MOST_RETRIES`](Limits::MOST_RETRIES), as each failure is kept.
    pub fn checked(self) -> Result<Limits, Fault> {
        if self.find_time > self.ban_time {
            return Err(Fault::new("`find_time` is longer than `ban_time`").help(
                "Failures would count again when the ban they caused is over: make `ban_time` at least as long.",
            ));
        }
        if self.max_retries > Limits::MOST_RETRIES {
            return Err(Fault::new(format!("`max_retries` is above {}", Limits::MOST_RETRIES))
                .help("To switch bans off, set it to 0."));
        }
        Ok(self)
    }

    /// Whether anything is counted at all.
    pub fn are_off(&self) -> bool {
        self.max_retries == 0 || !(self.by_user || self.by_address)
    }
}

/// Where a user or an address stands.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// May try.
    Free,
    /// May not try for a while, whatever is shown.
    Banned {
        /// How long; never nothing.
        left: Duration,
    },
}

/// Where someone with these failures stands at `now`.
///
/// `failures` are newest first, leave out those that were cleared by a success, and those that were
/// made during a ban, which does not extend it. The window hangs on the newest failure: measured from
/// `now`, a ban longer than the window would end early. A failure exactly `find_time` older is outside it,
/// so that one made the moment a ban ends is the first of a new row.
pub fn standing(failures: impl IntoIterator<Item = Instant>, limits: &Limits, now: Instant) -> Standing {
    let mut failures = failures.into_iter();
    let Some(newest) = failures.next() else { return Standing::Free };
    if limits.max_retries == 0 {
        return Standing::Free;
    }
    let near = failures.take_while(|at| newest.saturating_duration_since(*at) < limits.find_time).count();
    let left = limits.ban_time.saturating_sub(now.saturating_duration_since(newest));
    if near + 1 >= limits.max_retries as usize && !left.is_zero() { Standing::Banned { left } } else { Standing::Free }
}

#[cfg(test)]
mod tests {
    use super::{Limits, Standing, standing};
    use std::sync::LazyLock;
    use std::time::{Duration, Instant};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn at(secs: u64) -> Instant {
        *START + Duration::from_secs(secs)
    }

    #[test]
    fn failures_close_together_are_a_ban() {
        let limits = Limits::default();
        let free = None;
        #[rustfmt::skip]
        let table: [(&str, &[u64], u64, Option<u64>); 12] = [
            // because                                           failures, newest first   now    banned until
            ("nothing happened",                                 &[],                     1000,  free),
            ("two are not three",                                &[1000, 999],            1000,  free),
            ("three are",                                        &[1000, 999, 998],       1000,  Some(1300)),
            ("in the same second too",                           &[1000, 1000, 1000],     1000,  Some(1300)),
            ("until the last second",                            &[1000, 999, 998],       1299,  Some(1300)),
            ("and no longer",                                    &[1000, 999, 998],       1300,  free),
            ("the window hangs on the newest, not on now",       &[1000, 950, 900],       1200,  Some(1300)),
            ("too far apart",                                    &[1000, 950, 880],       1000,  free),
            ("just near enough",                                 &[1000, 950, 881],       1000,  Some(1300)),
            ("the first after a ban starts a new row",           &[1300, 1000, 999],      1300,  free),
            ("and the second",                                   &[1301, 1300, 1000],     1301,  free),
            ("a moment before the failure does not free anyone", &[1000, 999, 998],       500,   Some(800)),
        ];
        for (because, failures, now, until) in table {
            let failures = failures.iter().map(|&failed| at(failed));
            let expected = until.map_or(Standing::Free, |until: u64| Standing::Banned { left: at(until) - at(now) });
            assert_eq!(standing(failures, &limits, at(now)), expected, "{because}");
        }
    }

    #[test]
    fn no_retries_means_no_bans() {
        let limits = Limits { max_retries: 0, ..Limits::default() };
        let failures = [at(5); 100];
        assert_eq!(standing(failures, &limits, at(5)), Standing::Free);
        assert!(limits.are_off());
        assert!(Limits { by_user: false, by_address: false, ..Limits::default() }.are_off());
    }

    #[test]
    fn one_retry_bans_at_once() {
        let limits = Limits { max_retries: 1, ..Limits::default() };
        assert_eq!(standing([at(5)], &limits, at(5)), Standing::Banned { left: Duration::from_secs(300) });
    }

    #[test]
    fn a_window_longer_than_the_ban_is_refused() {
        let limits = Limits { find_time: Duration::from_secs(301), ..Limits::default() };
        assert!(limits.checked().is_err());
        assert!(Limits { max_retries: 1001, ..Limits::default() }.checked().is_err());
        assert!(Limits::default().checked().is_ok());
    }
}
