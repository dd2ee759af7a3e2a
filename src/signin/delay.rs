//! How long an answer takes, so that the time it took tells nothing.
//!
//! The work is made equal first (an unknown user costs a hash as a known one does); this covers what differs all the
//! same.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::rand::SecureRandom;

/// How long the answers of one door are held back.
#[derive(Debug)]
pub struct ResponseDelay {
    least: Duration,
    jitter: Duration,
    recent: Mutex<VecDeque<Duration>>,
    keep: usize,
}

/// What an answer took so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// All of it, the wait for a turn included.
    pub worked: Duration,
    /// The hash alone.
    pub hashed: Duration,
}

impl ResponseDelay {
    /// The portal's: the mean of the last ten successes, which begins at 1 s, but at least 250 ms; plus
    /// 0 to 84 ms. Successes wait too.
    pub fn portal() -> ResponseDelay {
        ResponseDelay::new(Duration::from_millis(250), Duration::from_millis(84), 10, Some(Duration::from_secs(1)))
    }

    /// That of Basic credentials: 2 s, or the mean of the last fifty successes if that is longer; plus 0 to
    /// 85 ms. For failures.
    pub fn basic() -> ResponseDelay {
        ResponseDelay::new(Duration::from_secs(2), Duration::from_millis(85), 50, None)
    }

    fn new(least: Duration, jitter: Duration, keep: usize, seed: Option<Duration>) -> ResponseDelay {
        let recent = seed.into_iter().cycle().take(keep).collect();
        ResponseDelay { least, jitter, recent: Mutex::new(recent), keep }
    }

    /// Notes how long the work for a success took.
    pub fn succeeded(&self, worked: Duration) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(worked);
        recent.truncate(self.keep);
    }

    /// How much longer an answer is held back after `effort`; at least a millisecond.
    ///
    /// `floor` is what the costliest hash takes that anybody could have been checked against, where hashes differ. It
    /// counts from when this hash began: after a long wait in the queue a cheap one and a costly one end alike (A126).
    pub fn delay(&self, effort: Effort, floor: Option<Duration>, random: &dyn SecureRandom) -> Duration {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u32::try_from(recent.len()).unwrap_or(u32::MAX).max(1);
        let mean = recent.iter().sum::<Duration>() / count;
        drop(recent);
        let mut bytes = [0; 4];
        // Without randomness the answer is held back for the longest time.
        let share = random.fill(&mut bytes).map_or(u32::MAX, |()| u32::from_be_bytes(bytes));
        let jitter = self.jitter.mul_f64(f64::from(share) / f64::from(u32::MAX));
        let usual = (mean.max(self.least) + jitter).saturating_sub(effort.worked);
        let costliest = floor.map_or(Duration::ZERO, |floor| (floor + jitter).saturating_sub(effort.hashed));
        usual.max(costliest).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ring::rand::SystemRandom;

    use super::{Effort, ResponseDelay};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn an_answer_is_held_back_to_the_mean_of_the_latest_successes() {
        let none: &[u64] = &[];
        let (portal, basic) = (ResponseDelay::portal, ResponseDelay::basic);
        #[rustfmt::skip]
        let table = [
            // because                               delay      successes         worked  least   most
            ("the portal begins at a second",        portal(),  none,             100,    900,    984),
            ("a success moves its mean by a tenth",  portal(),  &[2000][..],      100,    1000,   1084),
            ("the portal's least",                   portal(),  &[1; 10],         0,      250,    334),
            ("it forgets all but ten",               portal(),  &[9000, 9000, 400, 400, 400, 400, 400, 400, 400, 400, 400, 400], 0, 400, 484),
            ("work beyond it is not held back",      portal(),  none,             5000,   1,      1),
            ("Basic's least",                        basic(),   none,             0,      2000,   2085),
            ("Basic's mean, if longer",              basic(),   &[3000; 50],      500,    2500,   2585),
        ];
        for (because, delay, successes, worked, least, most) in table {
            successes.iter().for_each(|&success| delay.succeeded(ms(success)));
            let effort = Effort { worked: ms(worked), hashed: ms(worked) };
            for _ in 0..100 {
                let delay = delay.delay(effort, None, &SystemRandom::new());
                assert!(delay >= ms(least) && delay <= ms(most), "{because}: {delay:?}");
            }
        }
    }

    #[test]
    fn a126_an_answer_takes_at_least_the_costliest_hash() {
        #[rustfmt::skip]
        let table = [
            // because                                          worked  hashed   least   most
            ("a hash as costly as any has taken its time",      3000,   3000,    1,      84),
            ("a cheap one waits as long",                       50,     50,      2950,   3034),
            ("counted from its turn, not from its arrival",     5050,   50,      2950,   3034),
            ("the usual delay, where that is longer",           0,      2900,    1000,   1084),
        ];
        for (because, worked, hashed, least, most) in table {
            let effort = Effort { worked: ms(worked), hashed: ms(hashed) };
            for _ in 0..100 {
                let delay = ResponseDelay::portal().delay(effort, Some(ms(3000)), &SystemRandom::new());
                assert!(delay >= ms(least) && delay <= ms(most), "{because}: {delay:?}");
            }
        }
    }
}
