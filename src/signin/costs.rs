//! What the digests of the users file cost, where they don't all cost the same.
//!
//! Somebody who does not exist costs what most users cost. A user whose digest costs more would show, so every answer
//! takes at least what the costliest digest takes (A126). That is measured, in a thread of its own, once for each kind
//! and cost that the file holds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pool::stand_back;
use crate::factor::password::{PasswordHash, Scratch};
use crate::identity::Accounts;

/// What a digest is taken to cost until it has been measured: the ceilings on stored digests are some seconds of work.
pub(super) const UNMEASURED: Duration = Duration::from_secs(5);
/// A digest is measured up to three times, as anything may come between; but no more once it took this long.
const ENOUGH: Duration = Duration::from_secs(2);

/// The costs measured so far, by kind and parameters.
#[derive(Debug, Default)]
pub struct DigestCosts {
    measured: Arc<Mutex<HashMap<String, Duration>>>,
    is_measuring: Arc<AtomicBool>,
}

impl DigestCosts {
    /// What the costliest digest of `accounts` costs; nothing where all cost the same.
    ///
    /// Starts measuring what has not been measured.
    pub fn floor(&self, accounts: &Accounts) -> Option<Duration> {
        let mut floor = None;
        let mut unmeasured = Vec::new();
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        for (work, digest) in accounts.kinds() {
            let cost = measured.get(work).copied().unwrap_or_else(|| {
                unmeasured.push((work.clone(), digest.clone()));
                UNMEASURED
            });
            floor = floor.max(Some(cost));
        }
        drop(measured);
        if !unmeasured.is_empty() && !self.is_measuring.swap(true, Ordering::AcqRel) {
            self.start(unmeasured);
        }
        floor
    }

    fn start(&self, unmeasured: Vec<(String, PasswordHash)>) {
        let (measured, is_measuring) = (Arc::clone(&self.measured), Arc::clone(&self.is_measuring));
        let started = std::thread::Builder::new().name("measure".to_owned()).spawn(move || {
            // As those that hash do: what is measured is what it takes there.
            stand_back(&AtomicBool::new(true));
            for (work, digest) in unmeasured {
                let cost = measure(&digest);
                tracing::info!(digest = work, milliseconds = cost.as_millis(), "cost of a digest measured");
                measured.lock().unwrap_or_else(PoisonError::into_inner).insert(work, cost);
            }
            is_measuring.store(false, Ordering::Release);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "digests can't be measured: answers to sign-ins take longer than they need");
            self.is_measuring.store(false, Ordering::Release);
        }
    }

    #[cfg(test)]
    pub(super) fn is_measured(&self, accounts: &Accounts) -> bool {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.kinds().iter().all(|(work, _)| measured.contains_key(work))
    }

    #[cfg(test)]
    pub(super) fn set(&self, accounts: &Accounts, cost: impl Fn(&str) -> Duration) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.extend(accounts.kinds().iter().map(|(work, _)| (work.clone(), cost(work))));
    }
}

/// The shortest of a few tries.
fn measure(digest: &PasswordHash) -> Duration {
    let mut scratch = Scratch::default();
    let (mut shortest, mut sum) = (Duration::MAX, Duration::ZERO);
    for _ in 0..3 {
        let started = Instant::now();
        // No password fits these digests.
        let _ = digest.verify_with(b"measured", &mut scratch);
        let took = started.elapsed();
        shortest = shortest.min(took);
        sum += took;
        if sum >= ENOUGH {
            break;
        }
    }
    shortest
}
