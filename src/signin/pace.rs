//! How long an answer takes, so that the time it took tells nothing.
//!
//! The work is made equal first (an unknown user costs the same hash as a known one); this covers what
//! differs all the same. Attempts that are waiting hold a place, and places are bounded.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::rand::SecureRandom;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many attempts may be under way or waiting at once.
const PLACES: usize = 4096;

/// The pace of one kind of sign-in.
#[derive(Debug)]
pub struct Pace {
    least: Duration,
    jitter: Duration,
    recent: Mutex<VecDeque<Duration>>,
    keep: usize,
    places: Semaphore,
}

impl Pace {
    /// The portal's: the mean of the last ten successes, which begins at 1 s, but at least 250 ms; plus
    /// 0 to 84 ms. Successes wait too.
    pub fn portal() -> Pace {
        Pace::new(Duration::from_millis(250), Duration::from_millis(84), 10, Some(Duration::from_secs(1)))
    }

    /// That of Basic credentials: 2 s, or the mean of the last fifty successes if that is longer; plus 0 to
    /// 85 ms. For failures.
    pub fn basic() -> Pace {
        Pace::new(Duration::from_secs(2), Duration::from_millis(85), 50, None)
    }

    fn new(least: Duration, jitter: Duration, keep: usize, seed: Option<Duration>) -> Pace {
        let recent = seed.into_iter().cycle().take(keep).collect();
        Pace { least, jitter, recent: Mutex::new(recent), keep, places: Semaphore::new(PLACES) }
    }

    /// A place for one attempt, if there is any left.
    pub fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// Notes how long the work for a success took.
    pub fn succeeded(&self, worked: Duration) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(worked);
        recent.truncate(self.keep);
    }

    /// How much longer an answer is held back when the work took `worked`; at least a millisecond.
    pub fn delay(&self, worked: Duration, random: &dyn SecureRandom) -> Duration {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(recent.len()).unwrap_or(u32::MAX).max(1);
        let mean = recent.iter().sum::<Duration>() / count;
        drop(recent);
        let mut bytes = [0; 4];
        // Without randomness the answer is held back for the longest time.
        let share = random.fill(&mut bytes).map_or(u32::MAX, |()| u32::from_be_bytes(bytes));
        let jitter = self.jitter.mul_f64(f64::from(share) / f64::from(u32::MAX));
        (mean.max(self.least) + jitter).saturating_sub(worked).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::rand::SystemRandom;

    use super::{PLACES, Pace};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_answer_is_held_back_to_the_mean_of_the_latest_successes() {
        let none: &[u64] = &[];
        #[rustfmt::skip]
        let table = [
            // because                               pace             successes         worked  least   most
            ("the portal begins at a second",        Pace::portal(),  none,             100,    900,    984),
            ("a success moves its mean by a tenth",  Pace::portal(),  &[2000][..],      100,    1000,   1084),
            ("the portal's least",                   Pace::portal(),  &[1; 10],         0,      250,    334),
            ("it forgets all but ten",               Pace::portal(),  &[9000, 9000, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400], 0, 400, 484),
            ("work beyond it is not held back",      Pace::portal(),  none,             5000,   1,      1),
            ("Basic's least",                        Pace::basic(),   none,             0,      2000,   2085),
            ("Basic's mean, if longer",              Pace::basic(),   &[3000; 50],      500,    2500,   2585),
        ];
        for (because, pace, successes, worked, least, most) in table {
            successes.iter().for_each(|&success| pace.succeeded(ms(success)));
            for _ in 0..100 {
                let delay = pace.delay(ms(worked), &SystemRandom::new());
                assert!(delay >= ms(least) && delay <= ms(most), "{because}: {delay:?}");
            }
        }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let pace = Pace::basic();
        let taken: Vec<_> = std::iter::from_fn(|| pace.enter()).collect();
        assert_eq!(taken.len(), PLACES);
        drop(taken);
        assert!(pace.enter().is_some());
    }
}
