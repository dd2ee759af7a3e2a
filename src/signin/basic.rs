//! Remembering that Basic credentials were right, and checking equal ones only once (A90).
//!
//! Nothing here keeps a password: what is kept is a [`CredentialTag`]. And nothing here reads the wall clock, which
//! somebody may set back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;
use tokio::sync::OnceCell;

use super::tag::{CredentialTag, NameTag};
use crate::address::AddressPrefix;
use crate::factor::password::PasswordProof;

/// How many users a cache remembers.
const CAPACITY: usize = 16_384;

/// Basic credentials that were right a short while ago (`scheme_basic_cache_lifespan`), one entry for each user.
pub struct BasicCache {
    lifespan: Duration,
    entries: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    tag: CredentialTag,
    made: Instant,
    proof: PasswordProof,
}

impl BasicCache {
    /// A cache that remembers for `lifespan`.
    pub fn new(lifespan: Duration) -> BasicCache {
        BasicCache { lifespan, entries: Mutex::new(HashMap::new()) }
    }

    /// The proof from when these very credentials were right.
    pub(super) fn find(&self, username: &str, tag: &CredentialTag, now: Instant) -> Option<PasswordProof> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(username).filter(|entry| self.is_fresh(entry, now))?;
        bool::from(entry.tag.0.ct_eq(&tag.0)).then(|| entry.proof.clone())
    }

    /// Remembers a success.
    pub(super) fn remember(&self, username: &str, tag: CredentialTag, proof: PasswordProof, now: Instant) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= CAPACITY && !entries.contains_key(username) {
            entries.retain(|_, entry| self.is_fresh(entry, now));
            if entries.len() >= CAPACITY {
                return;
            }
        }
        entries.insert(username.to_owned(), Entry { tag, made: now, proof });
    }

    fn is_fresh(&self, entry: &Entry, now: Instant) -> bool {
        now.saturating_duration_since(entry.made) < self.lifespan
    }
}

impl std::fmt::Debug for BasicCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BasicCache({:?})", self.lifespan)
    }
}

/// Which attempts are equal: the same login, however it is spelt, with the same password, from the same prefix.
///
/// The login counts as it was typed, not as the account that it leads to. A user has a name and an address, and somebody
/// who does not exist has neither: if those two shared a check, the share of refusals would tell them apart (A117).
pub(super) type InFlightKey = (NameTag, CredentialTag, AddressPrefix);

/// Checks under way, so that equal attempts share one, each with how many share it.
pub(super) struct InFlight<T>(Mutex<HashMap<InFlightKey, (Arc<OnceCell<T>>, usize)>>);

/// A share in a check under way. The last one to let go of it takes it off the list.
pub(super) struct SharedCheck<'a, T> {
    list: &'a InFlight<T>,
    key: InFlightKey,
    pub(super) cell: Arc<OnceCell<T>>,
}

impl<T> InFlight<T> {
    pub(super) fn new() -> InFlight<T> {
        InFlight(Mutex::new(HashMap::new()))
    }

    /// The check for `key` that is under way, or a new one. They are as few as the slots for attempts.
    pub(super) fn join(&self, key: InFlightKey) -> SharedCheck<'_, T> {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (cell, shares) = checks.entry(key).or_default();
        *shares += 1;
        SharedCheck { list: self, key, cell: Arc::clone(cell) }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<T> Drop for SharedCheck<'_, T> {
    fn drop(&mut self) {
        let mut checks = self.list.0.lock().unwrap_or_else(PoisonError::into_inner);
        match checks.get_mut(&self.key) {
            Some((_, shares)) if *shares > 1 => *shares -= 1,
            _ => {
                checks.remove(&self.key);
            }
        }
    }
}
